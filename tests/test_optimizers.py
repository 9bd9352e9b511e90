"""What an optimizer does around its rule, against closed forms and plain NumPy."""

import copy
import multiprocessing
import pickle
import signal
import subprocess
import sys
import threading
import weakref

import numpy as np
import pytest
from support import FORM_IDS, FORMS, accepted, bits, gradients, make, start

import optcore as oc
from optcore import _engine
from optcore.files import read_state

ONES = np.ones(3)


# ---------------------------------------------------------------------- parameters and gradients


def test_structures():
    """An array, a sequence, a mapping and groups of the same arrays take the same steps."""

    def arrays():
        return start(4, np.float64), start(3, np.float32).reshape(3, 1), np.array(2.0)

    grads = [np.full(4, 0.5), np.full((3, 1), -2.0, np.float32), np.array(1.0)]
    names = ["W", "b", "c"]
    kinds = {
        "list": lambda p: (list(p), grads),
        "tuple": lambda p: (p, tuple(grads)),
        "mapping": lambda p: (dict(zip(names, p, strict=True)), dict(zip(names[::-1], grads[::-1], strict=True))),
        "groups": lambda p: ([{"params": p[:2]}, {"params": p[2]}], grads),
        "named groups": lambda p: (
            [{"params": {"W": p[0]}}, {"params": {"b": p[1], "c": p[2]}}],
            dict(zip(names, grads, strict=True)),
        ),
    }
    results = {}
    for kind, build in kinds.items():
        for bound in (False, True):
            p = arrays()
            params, given = build(p)
            opt = oc.Adam(params, given if bound else None, lr=0.1)
            for _ in range(3):
                opt.step() if bound else opt.step(given)
            results[kind, bound] = [bits(a) for a in p]
            assert list(opt.state) == (names if "mapping" in kind or "named" in kind else ["0", "1", "2"])
    assert len({tuple(result) for result in results.values()}) == 1
    assert [opt.params[name].shape for name in names] == [(4,), (3, 1), ()]


def test_one_array():
    p = np.array([[1.0, 2.0], [3.0, 4.0]])
    opt = oc.SGD(p, lr=1.0)
    opt.step(np.ones((2, 2)))
    opt.step([np.ones((2, 2))])
    assert p.tolist() == [[-1.0, 0.0], [1.0, 2.0]]
    assert opt.params is p


def test_empty_arrays_and_0d_arrays():
    params = [np.zeros(0), np.zeros((3, 0)), np.array(1.0)]
    oc.Adam(params, lr=0.5, eps=1e-300).step([np.zeros(0), np.zeros((3, 0)), np.array(7.0)])
    assert params[2] == 0.5


def test_memory_mapped_parameters(tmp_path):
    p = np.memmap(tmp_path / "p", np.float64, "w+", shape=5)
    oc.SGD(p, lr=1.0).step(np.arange(5.0))
    p.flush()
    assert np.fromfile(tmp_path / "p").tolist() == [0.0, -1.0, -2.0, -3.0, -4.0]


def test_bound_gradients_are_read_where_they_lie():
    p, g = np.zeros(3), np.ones(3)
    opt = oc.SGD(p, g, lr=1.0)
    opt.step()
    g[:] = [10.0, 20.0, 30.0]
    opt.step()
    assert p.tolist() == [-11.0, -21.0, -31.0]
    opt.step(ONES)  # others, once
    opt.step()
    assert p.tolist() == [-22.0, -42.0, -62.0]


def test_gradients_may_be_read_only():
    g = np.ones(3)
    g.flags.writeable = False
    p = np.zeros(3)
    oc.SGD(p, lr=1.0, weight_decay=0.5, clip_value=2.0).step(g)
    assert p.tolist() == [-1.0] * 3


# ---------------------------------------------------------------------- rules in closed form


def test_sgd_on_a_parabola_shrinks_geometrically():
    p = np.array([1.0, -4.0])
    opt = oc.SGD(p, lr=0.25)
    for _ in range(10):
        opt.step(2 * p)
    assert p.tolist() == [2.0**-10, -(2.0**-8)]


def test_first_adam_step_is_the_learning_rate():
    """m / (1 - beta1) = g and v / (1 - beta2) = g * g, so the step is lr * g / (|g| + eps)."""
    for form in ("outside", "inside"):
        p = np.zeros(3)
        oc.Adam(p, lr=0.1, eps=1e-12, eps_form=form).step(np.array([5.0, -1.0, 3e5]))
        np.testing.assert_allclose(p, [-0.1, 0.1, -0.1], rtol=1e-9)  # eps shifts by 1e-12
    g, lr, eps, beta2 = 2.0, 0.1, 0.5, 0.75
    p = np.zeros(1)
    oc.Adam(p, lr=lr, eps=eps, betas=(0.5, beta2), eps_form="inside").step(np.array([g]))
    np.testing.assert_allclose(p, -lr * g / np.sqrt(g * g + eps), rtol=1e-15)
    p = np.zeros(1)
    oc.Adam(p, lr=lr, eps=eps, betas=(0.5, beta2), eps_form="hat").step(np.array([g]))
    root = np.sqrt(1 - beta2)
    np.testing.assert_allclose(p, -lr * root / 0.5 * (0.5 * g) / (root * g + eps), rtol=1e-15)


def test_ema_momentum_converges_to_the_gradient():
    p, opt_lr = np.zeros(1), 1.0
    opt = oc.Momentum(p, lr=opt_lr, momentum=0.5, velocity="ema")
    for _ in range(3):
        opt.step(np.ones(1))
    assert opt.state["0"]["b"] == 1 - 0.5**3
    assert p == -(0.5 + 0.75 + 0.875)


def test_velocity_is_momentum_while_the_learning_rate_stands():
    a, b = np.array([1.0]), np.array([1.0])
    one, other = oc.Velocity(a, lr=0.125, momentum=0.5), oc.Momentum(b, lr=0.125, momentum=0.5)
    for t in range(8):
        g = np.array([float(t % 3)])
        one.step(g)
        other.step(g)
    assert a == b


def test_look_ahead_is_the_one_gradient_form_at_another_point():
    """With x = p + mu * v, Sutskever's rewriting: the gradients and the iterates are those of Nesterov at x."""
    lr, mu = 0.125, 0.5
    p, x = np.array([1.0, -3.0]), np.array([1.0, -3.0])
    one, other = oc.Velocity(p, lr=lr, momentum=mu), oc.Nesterov(x, lr=lr, momentum=mu)
    for _ in range(10):
        with one.lookahead():
            interim = p.copy()
            g = 2 * p
        np.testing.assert_allclose(interim, x, rtol=1e-13)  # two orders of the same sums
        one.step(g)
        other.step(2 * x)


def test_centered_rmsprop_with_a_constant_gradient_stays_finite():
    p = np.zeros(2, np.float32)
    opt = oc.RMSprop(p, lr=1e-3, centered=True)
    for _ in range(3000):
        opt.step(np.array([0.1, 3e3], np.float32))
    assert np.isfinite(p).all()


def test_sgd_takes_torch_switches():
    for keywords, other in [
        ({"momentum": 0.9}, oc.Momentum),
        ({"momentum": 0.9, "dampening": 0.5}, oc.Momentum),
        ({"momentum": 0.9, "nesterov": True}, oc.Nesterov),
        ({"momentum": lambda t: 0.5}, oc.Momentum),
    ]:
        p, q = np.zeros(5), np.zeros(5)
        one = oc.SGD(p, lr=0.1, **keywords)
        keywords = {key: value for key, value in keywords.items() if key != "nesterov"}
        two = other(q, lr=0.1, **keywords)
        for g in gradients(5, 5, np.float64, awkward=False):
            one.step(g)
            two.step(g)
        assert bits(p) == bits(q)


# ---------------------------------------------------------------------- transforms


def test_options_against_numpy():
    """Everything at once with SGD, in the order of the specification."""
    p, lower, upper = np.array([1.0, -2.0, 3.0]), np.full(3, -2.5), np.array([9.0, 9.0, 2.75])
    g = np.array([3.0, 4.0, 12.0])
    expected, average = p.copy(), p.copy()
    opt = oc.SGD(
        p,
        lr=0.25,
        maximize=True,
        clip_norm=6.5,
        clip_value=4.0,
        weight_decay=0.5,
        bounds=(lower, upper),
        averaging=oc.EMA(0.75),
    )
    for _ in range(4):
        opt.step(g)
        h = np.clip(-g * (6.5 / 13.0), -4.0, 4.0) + 0.5 * expected
        expected = np.minimum(np.maximum(expected - 0.25 * h, lower), upper)
        average = 0.75 * average + 0.25 * expected
    assert p.tolist() == expected.tolist()
    assert opt.averaged().tolist() == average.tolist()
    assert g.tolist() == [3.0, 4.0, 12.0]


def test_clip_norm_is_global():
    params = [np.zeros(2), np.zeros(1, np.float32)]
    oc.SGD(params, lr=1.0, clip_norm=6.5).step([np.array([3.0, 4.0]), np.array([12.0], np.float32)])
    assert [p.tolist() for p in params] == [[-1.5, -2.0], [-6.0]]


def test_clip_norm_of_an_infinite_gradient_is_no_step_but_where_it_is_infinite():
    p = np.zeros(3)
    oc.SGD(p, lr=1.0, clip_norm=1.0).step(np.array([1.0, np.inf, -2.0]))
    assert np.isnan(p).tolist() == [False, True, False]
    assert p[0] == p[2] == 0.0


def test_decoupled_decay():
    p = np.array([2.0])
    opt = oc.AdamW(p, lr=0.5, weight_decay=0.5)
    opt.step(np.zeros(1))
    assert p == 1.5
    p = np.array([2.0])
    oc.SGD(p, lr=0.5, weight_decay=0.5, decoupled_weight_decay=True).step(np.array([1.0]))
    assert p == 1.0


def test_polyak_is_the_mean():
    p = np.zeros(2)
    opt = oc.SGD({"p": p}, lr=1.0, averaging=oc.Polyak())
    seen = []
    for t in range(7):
        opt.step({"p": np.array([1.0, t])})
        seen.append(p.copy())
    np.testing.assert_allclose(opt.averaged()["p"], np.mean(seen, axis=0), rtol=1e-15)


def test_bounds_in_structures():
    params = {"a": np.zeros(2), "b": np.zeros(1)}
    opt = oc.SGD(params, lr=1.0, bounds=({"a": np.array([-1.0, -9.0]), "b": np.array([-2.0])}, None))
    opt.step({"a": np.array([5.0, 5.0]), "b": np.array([5.0])})
    assert params["a"].tolist() == [-1.0, -5.0]
    assert params["b"] == -2.0
    opt.state["a"]["lower"][:] = 0.0  # live
    opt.step({"a": np.array([5.0, 5.0]), "b": np.array([5.0])})
    assert params["a"].tolist() == [0.0, 0.0]
    single = np.zeros(2, np.float32)
    oc.SGD(single, lr=1.0, bounds=(-1, None)).step(np.array([3.0, -3.0], np.float32))
    assert single.tolist() == [-1.0, 3.0]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("where", [0, 5, 4500, 4999])
def test_on_nonfinite(bad, dtype, where):
    p, g = np.zeros((2, 2500), dtype), np.ones((2, 2500), dtype)
    opt = oc.Adam(p, g, on_nonfinite="raise", clip_norm=1.0)
    opt.step()
    before = bits(p), bits(opt.state["0"]["v"])
    g.flat[where] = bad
    with pytest.raises(FloatingPointError) as caught:
        opt.step()
    assert f"the gradient of '0' has {bad} at index {divmod(where, 2500)}" in str(caught.value)
    assert before == (bits(p), bits(opt.state["0"]["v"]))
    assert opt.t == 1

    opt = oc.Adam(p, g, on_nonfinite="skip")
    opt.step()
    assert (bits(p), opt.t, opt.skipped) == (before[0], 0, 1)
    g.flat[where] = 1.0
    opt.step()
    assert (opt.t, opt.skipped) == (1, 1)


def test_huge_but_finite_gradients_are_finite():
    p = np.zeros(20)
    oc.SGD(p, lr=0.5, on_nonfinite="raise").step(np.full(20, -np.finfo(float).max))
    assert (p == np.finfo(float).max / 2).all()


# ---------------------------------------------------------------------- groups and live values


def test_groups():
    a, b = np.zeros(2), np.zeros(2)
    opt = oc.SGD([{"params": a}, {"params": b, "lr": 0.5, "weight_decay": 1.0}], lr=1.0)
    opt.step([np.ones(2), np.ones(2)])
    assert (a.tolist(), b.tolist()) == ([-1.0, -1.0], [-0.5, -0.5])
    assert [group["lr"] for group in opt.groups] == [1.0, 0.5]
    assert opt.groups[1]["params"][0] is b
    opt.groups[1]["lr"] = 0.25
    opt.step([np.zeros(2), np.zeros(2)])
    assert b.tolist() == [-0.375, -0.375]
    opt.lr = 2.0
    assert [group["lr"] for group in opt.groups] == [2.0, 2.0]
    assert dict(opt.groups[0]).keys() == {"params", "lr", "weight_decay", "clip_value"}


def test_schedules_see_completed_updates():
    seen = []
    p = np.zeros(1)

    def lr(t):
        seen.append(t)
        return 2.0**-t

    opt = oc.SGD(p, lr=lr)
    for _ in range(4):
        opt.step(np.ones(1))
    assert seen == [0, 1, 2, 3]
    assert p == -(1 + 0.5 + 0.25 + 0.125)
    opt.lr = 1
    opt.step(np.ones(1))
    assert p == -2.875


@pytest.mark.parametrize(
    "following",
    [lambda value: lambda t: np.float32(value), oc.Constant, lambda value: oc.Warmup(3, oc.Constant(value), value)],
    ids=["function", "constant", "warmup"],
)
def test_any_hyper_parameter_can_follow_time(following):
    """In one group; the other has numbers."""
    values = {"lr": 0.25, "eps": 0.5, "weight_decay": 0.125, "clip_value": 2.0, "betas": (0.5, 0.75)}
    shared = {"clip_norm": 3.0}

    def group(p, make):
        return {
            "params": p,
            **{k: tuple(map(make, v)) if k == "betas" else make(v) for k, v in values.items()},
        }

    p, q = [start(9, np.float64), start(5, np.float32)], [start(9, np.float64), start(5, np.float32)]
    one = oc.Adam([group(a, float) for a in p], averaging=oc.EMA(0.5), **shared)
    other = oc.Adam(
        [group(q[0], following), group(q[1], float)],
        averaging=oc.EMA(following(0.5)),
        clip_norm=following(3.0),
    )
    for t in range(20):
        grads = [gradients(a.size, 20, a.dtype.type, awkward=False)[t] for a in p]
        one.step(grads)
        other.step(grads)
    for name in ("0", "1"):
        assert bits(one._named()[name]) == bits(other._named()[name])
        assert bits(one.state[name]["average"]) == bits(other.state[name]["average"])


def test_momentum_in_one_cycle():
    lr = oc.OneCycle(0.1, steps=30)
    mu = oc.OneCycle(0.85, steps=30, start=0.95, end=0.95)
    p, q = np.ones(4), np.ones(4)
    opt = oc.Velocity(p, lr=lr, momentum=mu)
    v = np.zeros(4)
    for t in range(30):
        opt.step(p.copy())
        v = mu(t) * v - lr(t) * q
        q = q + v
    assert p.tolist() == q.tolist()


def test_betas_that_change_use_powers_of_the_new_ones():
    p, q = np.zeros(1), np.zeros(1)
    opt = oc.Adam(p, lr=1.0, betas=(lambda t: 0.5 if t < 5 else 0.25, 0.75))
    for t in range(10):
        opt.step(np.ones(1))
        if t == 8:
            late = opt.state["0"]["m"][0], opt.state["0"]["v"][0], p[0]
    again = oc.Adam(q, lr=1.0, betas=(0.25, 0.75))
    again.t, again.state["0"]["m"][:], again.state["0"]["v"][:], q[:] = 9, *late
    again.step(np.ones(1))
    assert p == q


def test_repr():
    opt = oc.AdamW({"W": np.zeros((2, 3))}, lr=0.25, clip_norm=1.0)
    assert repr(opt) == (
        "AdamW(lr=0.25, betas=(0.9, 0.999), eps=1e-08, weight_decay=0.01, eps_form='outside', amsgrad=False, "
        "clip_norm=1.0, t=0)\n  W: float64 (2, 3)"
    )
    opt = oc.SGD([{"params": np.zeros(1)}, {"params": [np.zeros(1, np.float32)] * 0 + [np.zeros(2)], "lr": 1}], lr=0.5)
    assert repr(opt).splitlines() == [
        "SGD(lr=0.5, t=0)",
        "  group 0",
        "  0: float64 (1,)",
        "  group 1, lr=1.0",
        "  1: float64 (2,)",
    ]
    assert "and 2 more" in repr(oc.SGD([np.zeros(1) for _ in range(10)], lr=0.5))


# ---------------------------------------------------------------------- copies and files


def lr_of(t):
    return 0.5 / (t + 1)


@pytest.mark.parametrize(("name", "form"), FORMS, ids=FORM_IDS)
def test_copies(name, form):
    def run(opt, steps):
        for g in gradients(6, steps, np.float64, seed=opt.t):
            opt.step({"p": g})

    p = start(6, np.float64)
    options = {"clip_value": 1.0, "averaging": oc.EMA(0.5), "bounds": (-1, np.inf)}
    opt = make(name, form, {"p": p}, **accepted(name, options))
    run(opt, 5)
    deep, pickled = copy.deepcopy(opt), pickle.loads(pickle.dumps(opt))
    run(opt, 5)
    for other in (deep, pickled):
        assert type(other) is type(opt)
        assert other.t == 5
        run(other, 5)
        assert bits(other.params["p"]) == bits(p)
        assert bits(other.averaged()["p"]) == bits(opt.averaged()["p"])
        assert other.params["p"] is not p
        assert repr(other) == repr(opt)


def test_shallow_copy_steps_the_same_parameters():
    p = np.zeros(2)
    opt = oc.Momentum(p, lr=1.0, momentum=0.5)
    opt.step(np.ones(2))
    other = copy.copy(opt)
    assert other.params is p
    assert not np.shares_memory(other.state["0"]["b"], opt.state["0"]["b"])
    other.step(np.ones(2))
    assert p.tolist() == [-2.5, -2.5]
    assert (opt.t, other.t) == (1, 2)


def test_copies_with_groups_functions_and_bound_gradients():
    params, g = [np.zeros(2), np.zeros(3, np.float32)], [np.ones(2), np.ones(3, np.float32)]
    groups = [{"params": params[0], "lr": lr_of}, {"params": params[1], "betas": (0.5, lr_of)}]
    opt = oc.Adam(groups, g, lr=0.1, clip_norm=1.0)
    opt.step()
    model, other = copy.deepcopy((params, opt))
    other.step()
    opt.step()
    assert all(bits(a) == bits(b) for a, b in zip(model, params, strict=True)), "deepcopy keeps what belongs together"
    pickle.loads(pickle.dumps(opt)).step()


def test_state_dict_is_a_copy_and_goes_back():
    p = np.zeros(3)
    opt = oc.Adam({"p": p}, lr=0.5)
    opt.step({"p": ONES})
    state = opt.state_dict()
    opt.lr = 0.25
    opt.step({"p": ONES})
    assert state["t"] == 1
    opt.load_state_dict(state)
    assert (opt.t, opt.lr) == (1, 0.5)
    assert bits(opt.state["p"]["m"]) == bits(state["state"]["p"]["m"])


def test_loading_what_fits():
    opt = oc.Adam({"old": np.zeros(3), "gone": np.zeros(2)}, lr=0.5)
    opt.step({"old": ONES, "gone": np.ones(2)})
    other = oc.Adam({"new": np.zeros(4), "old": np.zeros(3)}, lr=0.25)
    other.load_state_dict(opt.state_dict(), strict=False)
    assert bits(other.state["old"]["m"]) == bits(opt.state["old"]["m"])
    assert not other.state["new"]["m"].any()
    assert (other.t, other.lr) == (1, 0.25)


def test_files_keep_everything(tmp_path):
    params = {"a/b": np.zeros(2), "ä .. %2F": np.zeros((2, 2), np.float32), "a": np.zeros(0)}
    groups = [
        {"params": {"a/b": params["a/b"]}},
        {"params": dict(list(params.items())[1:]), "lr": 0.125, "betas": (0, 0.5)},
    ]
    lower = {name: np.full(p.shape, -0.5, p.dtype) for name, p in params.items()}
    opt = oc.AdamW(
        groups, lr=np.float32(0.5), clip_norm=2.0, clip_value=0.5, bounds=(lower, None), averaging=oc.EMA(0.5),
        on_nonfinite="skip", amsgrad=True,
    )  # fmt: skip
    grads = {name: np.ones_like(p) for name, p in params.items()}
    opt.step(grads)
    opt.step({**grads, "a/b": np.array([1.0, np.nan])})
    opt.save(tmp_path / "run.npz")
    mine = {name: p.copy() for name, p in params.items()}
    other = oc.load(tmp_path / "run.npz", mine)
    assert other.skipped == 1
    opt.step(grads)
    other.step(grads)
    assert all(bits(mine[name]) == bits(params[name]) for name in params)
    assert [dict(g, params=None) for g in other.groups] == [dict(g, params=None) for g in opt.groups]
    with np.load(tmp_path / "run.npz") as file:
        assert file["state/a%2Fb/m"].shape == (2,)
    faster = oc.load(tmp_path / "run.npz", mine, lr=1.0, threads=2)
    assert [group["lr"] for group in faster.groups] == [1.0, 1.0]


@pytest.mark.parametrize("cls", [oc.SGD, oc.RMSprop])
def test_momentum_that_has_become_zero(cls, tmp_path):
    """The rule stays what it was made with, in copies and files too."""
    p = np.zeros(2)
    opt = cls([{"params": {"a": p}, "momentum": 0.0}], lr=0.1, momentum=0.9)
    opt.step({"a": np.ones(2)})
    opt.save(tmp_path / "run.npz")
    for other in (copy.deepcopy(opt), pickle.loads(pickle.dumps(opt)), oc.load(tmp_path / "run.npz", {"a": p.copy()})):
        assert other.momentum == 0.0
        assert bits(other.state["a"]["b"]) == bits(opt.state["a"]["b"])
    with pytest.raises(ValueError, match=r"rule is '\w*momentum' there, '\w+' here"):
        cls({"a": p}, lr=0.1).load_state_dict(opt.state_dict())


def test_bounds_of_parameters_as_long_as_a_block(tmp_path):
    params = [np.zeros(1024), np.zeros(3)]
    opt = oc.SGD(params, lr=1.0, bounds=(-1, 1))
    assert "lower" not in opt.state["0"]
    opt.save(tmp_path / "run.npz")
    oc.load(tmp_path / "run.npz", params)
    with pytest.raises(ValueError, match=r"bounds is \[-1.0, 1.0\] there, \[-5.0, 1.0\] here"):
        oc.SGD(params, lr=1.0, bounds=(-5, 1)).load_state_dict(opt.state_dict())
    wide = np.full(1024, -0.5)
    opt = oc.SGD(params[0], lr=1.0, bounds=(wide, None))
    wide[:] = 9.0  # ours since
    copy.deepcopy(opt).step(np.ones(1024))
    opt.step(np.ones(1024))
    assert (params[0] == -0.5).all()


def test_loading_groups_and_other_orders(tmp_path):
    a, b = np.zeros(2), np.zeros(3)
    opt = oc.SGD([{"params": {"a": a}}, {"params": {"b": b}, "lr": 0.5}], lr=1.0)
    opt.save(tmp_path / "run.npz")
    for params in (
        [{"params": {"a": a}}, {"params": {"b": b}}],
        {"b": b, "a": a},
    ):
        assert [group["lr"] for group in oc.load(tmp_path / "run.npz", params).groups] == [1.0, 0.5]
    oc.Momentum({"a": a, "b": b}, lr=1.0).save(tmp_path / "one.npz")
    assert list(oc.load(tmp_path / "one.npz", {"b": b, "a": a}).state) == ["a", "b"]


def test_schedules_are_kept_in_files(tmp_path):
    p = np.zeros(2)
    schedule = oc.Warmup(3, oc.Cosine(0.5, steps=10))
    opt = oc.Adam(p, lr=schedule, betas=(oc.Linear(0.5, 0.9, steps=10), 0.99), averaging=oc.EMA(schedule))
    for _ in range(5):
        opt.step(np.ones(2))
    opt.save(tmp_path / "run.npz")
    q = p.copy()
    other = oc.load(tmp_path / "run.npz", q)
    assert (other.lr, other.betas) == (opt.lr, opt.betas)
    opt.step(np.ones(2))
    other.step(np.ones(2))
    assert bits(p) == bits(q)
    assert "EMA(decay=Warmup(" in repr(other)


def test_a_long_schedule_is_kept(tmp_path):
    schedule = oc.MultiStep(1.0, list(range(1, 5001)), gamma=0.999)
    opt = oc.SGD(np.zeros(2), lr=schedule)
    opt.save(tmp_path / "run.npz")
    assert oc.load(tmp_path / "run.npz", np.zeros(2)).lr == schedule


@pytest.mark.parametrize("way", ["file", "pickle", "deepcopy", "state_dict"])
def test_feedback_that_groups_share_stays_shared(way, tmp_path):
    def run(opt, steps):
        for _ in range(steps):
            opt.step({"a": np.ones(1), "b": np.ones(1)})
            opt.lr.update(1.0)

    def make_one(plateau):
        return oc.SGD([{"params": {"a": np.ones(1)}}, {"params": {"b": np.ones(1)}}], lr=plateau)

    whole, opt = (make_one(oc.Plateau(0.5, factor=0.5, patience=0)) for _ in range(2))
    run(whole, 6)
    run(opt, 3)
    if way == "file":
        opt.save(tmp_path / "run.npz")
        other = oc.load(tmp_path / "run.npz", opt.params)
    elif way == "state_dict":
        plateau = oc.Plateau(0.5, factor=0.5, patience=0)
        other = oc.SGD([{"params": {"a": opt.params["a"]}}, {"params": {"b": opt.params["b"]}}], lr=plateau)
        other.load_state_dict(opt.state_dict())
        assert other.lr is plateau, "the caller's program updates this one"
    else:
        other = copy.deepcopy(opt) if way == "deepcopy" else pickle.loads(pickle.dumps(opt))
    run(other, 3)
    assert bits(other.params["a"]) == bits(other.params["b"]) == bits(whole.params["a"])


def test_schedules_of_others_are_like_functions(tmp_path):
    class Mine(oc.Linear):
        pass

    p = np.ones(2)
    oc.SGD(p, lr=Mine(1.0, steps=5)).save(tmp_path / "run.npz")
    with pytest.raises(ValueError, match="lr was a function that no file can keep"):
        oc.load(tmp_path / "run.npz", p)
    assert oc.load(tmp_path / "run.npz", p, lr=0.5).lr == 0.5

    class Twice(oc.Linear):
        def __call__(self, t, out=None):
            return 2 * super().__call__(t, out)

    q = np.ones(1)
    oc.SGD(q, lr=Twice(0.25, steps=5)).step(np.ones(1))
    assert q == 0.5
    with pytest.raises(TypeError, match="Twice has values of its own, which a combinator would not see"):
        Twice(0.25, steps=5) * 2
    with pytest.raises(TypeError, match="has not been given its values"):
        oc.SGD(p, lr=oc.Constant.__new__(oc.Constant))


@pytest.mark.parametrize("way", ["file", "pickle", "deepcopy", "state_dict"])
def test_feedback_is_kept(way, tmp_path):
    p = np.zeros(2)
    opt = oc.SGD(p, lr=oc.Plateau(1.0, factor=0.5, patience=0))
    opt.lr.update(1.0)
    opt.lr.update(1.0)
    assert opt.lr(0) == 0.5
    if way == "file":
        opt.save(tmp_path / "run.npz")
        other = oc.load(tmp_path / "run.npz", np.zeros(2))
    elif way == "state_dict":
        other = oc.SGD(np.zeros(2), lr=oc.Plateau(1.0, factor=0.5, patience=0))
        other.load_state_dict(opt.state_dict())
    else:
        other = copy.deepcopy(opt) if way == "deepcopy" else pickle.loads(pickle.dumps(opt))
    assert other.lr is not opt.lr
    assert (other.lr(0), other.lr.best) == (0.5, 1.0)
    assert other.lr.update(1.0) == 0.25
    assert opt.lr(0) == 0.5


def test_half_a_pair_can_be_a_function(tmp_path):
    p = np.zeros(2)
    opt = oc.Adam(p, betas=(0.75, lr_of))
    opt.save(tmp_path / "run.npz")
    other = oc.Adam(p, betas=(0.5, lr_of))
    other.load_state_dict(read_state(tmp_path / "run.npz"))
    assert other.betas == (0.75, lr_of)


@pytest.mark.skipif(sys.platform == "win32", reason="links and modes of POSIX")
def test_saving_keeps_links_and_modes(tmp_path):
    opt = oc.SGD(np.zeros(2), lr=1.0)
    real, link = tmp_path / "real.npz", tmp_path / "link.npz"
    opt.save(str(real).encode())
    real.chmod(0o640)
    link.symlink_to(real)
    opt.save(link)
    assert link.is_symlink()
    assert real.stat().st_mode & 0o777 == 0o640
    assert sorted(file.name for file in tmp_path.iterdir()) == ["link.npz", "real.npz"]


def test_hyper_parameters_are_attributes():
    opt = oc.Adam([{"params": np.zeros(2)}, {"params": np.zeros(2), "betas": (0.5, 0.5)}], clip_norm=2.0)
    assert (opt.lr, opt.betas, opt.clip_norm) == (1e-3, (0.9, 0.999), 2.0)
    opt.betas = (0.25, 0.5)
    opt.clip_norm = None
    assert [group["betas"] for group in opt.groups] == [(0.25, 0.5), (0.25, 0.5)]
    assert opt.clip_norm is None


def test_nothing_keeps_an_optimizer_alive():
    opt = oc.Adam(np.zeros(2))
    opt.groups, opt.state  # noqa: B018
    watch = weakref.ref(opt)
    del opt
    assert watch() is None, "a cycle would keep parameters and state until the next collection"


# ---------------------------------------------------------------------- threads and processes


def test_threads_are_no_more_than_blocks_and_used_again():
    before = threading.active_count()
    for threads in (1000, 9, 5, 9):
        oc.SGD(np.zeros(8192), lr=1.0, threads=threads).step(np.ones(8192))
    assert threading.active_count() <= before + 7


def test_a_thread_that_cannot_start(monkeypatch):
    monkeypatch.setattr(_engine, "idle_workers", [])
    started = []

    def start_one(thread, original=threading.Thread.start):
        if started:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        original(thread)

    p = np.zeros(50_000)
    opt = oc.SGD(p, lr=1.0, threads=5)
    monkeypatch.setattr(threading.Thread, "start", start_one)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        opt.step(np.ones(50_000))
    assert not p.any()
    assert opt.t == 0
    monkeypatch.undo()
    opt.step(np.ones(50_000))
    assert (p == -1.0).all()


@pytest.mark.skipif(sys.platform == "win32", reason="needs setitimer")
def test_interrupts_leave_whole_steps():
    """A timer interrupts again and again; every step either was made and counted, or was not begun."""

    class Interrupted(Exception):
        pass

    def interrupt(*_):
        raise Interrupted

    def step_until_interrupted(delay):
        signal.setitimer(signal.ITIMER_REAL, delay)  # once, so that it can only strike in here
        while True:
            opt.step(g)

    size = 300_000
    p, g = np.zeros(size), np.ones(size)
    opt = oc.SGD(p, lr=1.0, threads=2)
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for delay in np.random.default_rng(0).uniform(2e-4, 3e-3, 200):
            with pytest.raises(Interrupted):
                step_until_interrupted(delay)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert p[0] == -opt.t
    assert (p == p[0]).all()
    opt.step(g)
    assert (p == -opt.t).all()


def test_threads_may_step_different_optimizers():
    from concurrent.futures import ThreadPoolExecutor

    def run(seed):
        p = start(50_000, np.float64, seed)
        opt = oc.Adam(p, threads=2)
        for g in gradients(50_000, 4, np.float64, seed, awkward=False):
            opt.step(g)
        return bits(p)

    with ThreadPoolExecutor(4) as executor:
        assert list(executor.map(run, range(4))) == [run(seed) for seed in range(4)]


def stepped_in_child(connection, opt, g):
    opt.step(g)
    connection.send(bits(opt.params))


@pytest.mark.skipif(sys.platform == "win32", reason="no fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
def test_a_forked_child_has_threads_of_its_own():
    p, g = start(50_000, np.float64), gradients(50_000, 1, np.float64, awkward=False)[0]
    opt = oc.Adam(p, threads=3)
    opt.step(g)
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    child = context.Process(target=stepped_in_child, args=(there, opt, g))
    child.start()
    assert here.poll(60), "the child hangs"
    result = here.recv()
    child.join()
    opt.step(g)
    assert bits(p) == result


def test_import_needs_numpy_alone():
    code = """if True:
        import sys, numpy
        before = set(sys.modules)
        import optcore
        heavy = {"scipy", "sklearn", "matplotlib", "torch", "pandas", "rich", "typer", "tqdm", "concurrent.futures"}
        print(heavy & (set(sys.modules) - before))
    """
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
