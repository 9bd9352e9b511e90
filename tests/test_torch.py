"""optcore.torch beside torch's own optimizers and optcore's: numbers, memory and state.

torch's vector code contracts multiplications and additions, and its square roots are off in the last bit here and there
(see golden/torch_vectors.py), so most comparisons with it have a tolerance. With optcore's own classes there is none.
"""

import copy
import gc
import inspect
import io
import pickle
import weakref

import numpy as np
import pytest

import optcore as oc

torch = pytest.importorskip("torch")

from torch_support import (  # noqa: E402
    DECOUPLED,
    DTYPES,
    FORMS,
    IDS,
    bits,
    both,
    close,
    flat_state,
    gradients,
    parameters,
    run,
    same_run,
    snapshot,
)

import optcore.torch as ot  # noqa: E402
from optcore import torch_optimizer  # noqa: E402

forms = pytest.mark.parametrize(("name", "form"), FORMS, ids=IDS)
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=str)


# ---------------------------------------------------------------------- the numbers


@dtypes
@forms
def test_as_torch(name, form, dtype):
    a, params, b, others = both(name, dtype, **form)
    run(a, params, range(200))
    run(b, others, range(200))
    same_run(a, params, b, others)


@pytest.mark.parametrize("momentum", [{}, {"dampening": 0.5}, {"nesterov": True}], ids=str)
@dtypes
def test_sgd_has_the_bits_of_torch(momentum, dtype):
    # Products with powers of two are exact, so that it does not matter that torch contracts them with the sum.
    for form in ({}, {"momentum": 0.5, **momentum}):
        a, params, b, others = both("SGD", dtype, lr=0.125, weight_decay=0.0625, **form)
        run(a, params, range(200))
        run(b, others, range(200))
        for p, q in zip(params, others, strict=True):
            assert torch.equal(p, q)


@dtypes
def test_rprop_has_the_bits_of_torch(dtype):
    a, params, b, others = both("Rprop", dtype)
    run(a, params, range(200))
    run(b, others, range(200))
    for p, q in zip(params, others, strict=True):
        assert torch.equal(p, q)


def test_rprop_makes_nan_of_nan():
    p, q = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))
    for optimizer, one in ((ot.Rprop([p]), p), (torch.optim.Rprop([q]), q)):
        one.grad = torch.tensor([float("nan"), 1.0])
        optimizer.step()
    assert p[0].isnan()
    assert q[0] == 1.0
    assert p[1] == q[1]


@dtypes
@forms
def test_bits_of_optcore(name, form, dtype):
    params, keywords = parameters(dtype), dict(form)
    a = getattr(ot, name)(params, **form)
    arrays = [p.detach().numpy().copy() for p in params]
    if "initial_accumulator_value" in keywords:
        keywords["initial_accumulator"] = keywords.pop("initial_accumulator_value")
    b = getattr(oc, name)(arrays, **{"lr": a.defaults["lr"], **keywords})
    for step in range(100):
        for p, g in zip(params, gradients(step, params), strict=True):
            p.grad = g
        a.step()
        b.step([g.numpy() for g in gradients(step, params)])
    assert bits(params) == [array.tobytes() for array in arrays]
    for i, p in enumerate(params):
        for key, array in b.state[str(i)].items():
            assert a.state[p][a._state_names[key]].numpy().tobytes() == array.tobytes()
    assert all(entry["step"] == 100 for entry in a.state.values() if name != "SGD")


@forms
def test_some_without_a_gradient(name, form):
    # torch leaves them out of that step and counts the updates of each parameter.
    patterns = [
        lambda step, i: i == 1,  # never
        lambda step, i: step < 7 and i == 2,  # thawed later
        lambda step, i: step % 3 == i,  # in turn
        lambda step, i: True,
        lambda step, i: (step * 7 + i * 5) % 11 < 4,
    ]
    for missing in patterns:
        a, params, b, others = both(name, **form)
        run(a, params, range(60), missing)
        run(b, others, range(60), missing)
        same_run(a, params, b, others)
        assert [entry.get("step") for entry in a.state.values()] == [entry.get("step") for entry in b.state.values()]


def test_catalogue():
    assert set(ot.__all__) == {name for name, _ in FORMS}
    assert all(issubclass(getattr(ot, name), torch.optim.Optimizer) for name in ot.__all__)


@pytest.mark.skipif(not torch.__version__.startswith("2.13"), reason="other versions have other arguments")
@pytest.mark.parametrize("name", ot.__all__)
def test_signatures(name):
    def described(cls):
        parameters = inspect.signature(cls).parameters.values()
        return [(p.name, p.kind, p.default) for p in parameters]

    assert described(getattr(ot, name)) == described(getattr(torch.optim, name))
    a, _, b, _ = both(name)
    assert a.defaults == b.defaults


def test_threads_do_not_change_bits(monkeypatch):
    used = []

    class Recorded(torch_optimizer.Plan):
        def _bind(self, *values):
            used.append(values[-1])
            super()._bind(*values)

    monkeypatch.setattr(torch_optimizer, "Plan", Recorded)
    before, results, size = torch.get_num_threads(), [], 3 * torch_optimizer.SHARE + 1
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            p = parameters(torch.float32, [(size,)])
            optimizer = ot.Adam(p)
            run(optimizer, p, range(3))
            torch.set_num_threads(1)
            run(optimizer, p, range(3, 5))
            results.append(bits(p))
    finally:
        torch.set_num_threads(before)
    assert used == [1, 2, 1, 3, 1]  # the first run needs no other plan for its second part
    assert results[0] == results[1] == results[2]


# ---------------------------------------------------------------------- memory


@forms
def test_nothing_is_copied(name, form):
    params = parameters()
    optimizer = getattr(ot, name)(params, **form)
    run(optimizer, params, range(1))
    tensors = [*params, *flat_state(optimizer, params).values()]
    before = [(id(t), t.data_ptr()) for t in tensors]
    values = bits(params)
    run(optimizer, params, range(1, 3))
    assert [(id(t), t.data_ptr()) for t in [*params, *flat_state(optimizer, params).values()]] == before
    assert bits(params) != values
    grads = [p.grad for p in params]
    addresses = [g.data_ptr() for g in grads]
    written = bits(grads)
    optimizer.step()
    assert [p.grad for p in params] == grads
    assert [g.data_ptr() for g in grads] == addresses
    assert bits(grads) == written


def test_gradients_are_let_go():
    p = torch.nn.Parameter(torch.zeros(3))
    optimizer = ot.Adam([p])
    for _ in range(2):
        memory = np.ones(3, np.float32)
        p.grad = torch.from_numpy(memory)
        optimizer.step()
        gone = weakref.ref(memory)
        del memory
        optimizer.zero_grad()
        gc.collect()
        assert gone() is None


def test_gradients_of_a_failed_step_are_let_go():
    p, q = parameters(torch.float32, [(3,), (2, 3)])
    optimizer = ot.Adam([{"params": p}, {"params": q}])
    for _ in range(2):
        memory = np.ones(3, np.float32)
        p.grad, q.grad = torch.from_numpy(memory), torch.ones(3, 2).t()
        with pytest.raises(ValueError, match="not contiguous"):
            optimizer.step()
        gone = weakref.ref(memory)
        del memory
        optimizer.zero_grad()
        gc.collect()
        assert gone() is None
        p.grad, q.grad = torch.ones(3), torch.ones(2, 3)
        optimizer.step()


def test_storage_is_not_resized():
    p = torch.nn.Parameter(torch.zeros(3))
    optimizer = ot.SGD([p])
    run(optimizer, [p], range(1))
    with pytest.raises(RuntimeError, match="not resizable"):
        p.data.resize_(100)


def test_zero_grad():
    p = torch.nn.Parameter(torch.ones(3))
    optimizer = ot.SGD([p], lr=1.0)
    p.grad = torch.ones(3)
    optimizer.zero_grad(set_to_none=False)
    assert torch.equal(p.grad, torch.zeros(3))
    optimizer.step()
    assert torch.equal(p.detach(), torch.ones(3))
    optimizer.zero_grad()
    assert p.grad is None


def test_autograd_notices():
    x, w = torch.ones(3, requires_grad=True), torch.nn.Parameter(torch.ones(3))
    loss = (x * w).sum()
    loss.backward(retain_graph=True)
    ot.SGD([w], lr=0.5).step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_gradients_with_a_graph():
    p = torch.nn.Parameter(torch.tensor([3.0]))
    (p.grad,) = torch.autograd.grad((p**2).sum(), p, create_graph=True)
    assert p.grad.requires_grad
    ot.SGD([p], lr=0.5).step()
    assert p.item() == 0.0


def replace_moments(optimizer, params):
    for p in params:
        optimizer.state[p]["exp_avg"] = torch.full_like(p, 0.5)


def write_moments(optimizer, params):
    for p in params:
        optimizer.state[p]["exp_avg"].fill_(0.5)
        optimizer.state[p]["exp_avg_sq"].mul_(2)


def forget(optimizer, params):
    optimizer.state.clear()


def forget_one(optimizer, params):
    del optimizer.state[params[1]]


def new_state(optimizer, params):
    optimizer.state = type(optimizer.state)(dict)


def reset_counts(optimizer, params):
    for entry in optimizer.state.values():
        entry["step"].zero_()


def replace_one_count(optimizer, params):
    optimizer.state[params[0]]["step"] = torch.tensor(3.0)


def move_parameters(optimizer, params):
    for p in params:
        p.data = p.data * 2


def share(optimizer, params):
    for p in params:
        p.share_memory_()
        optimizer.state[p]["exp_avg"].share_memory_()


def replace_parameter(optimizer, params):
    group, old = optimizer.param_groups[0], params[0]
    kept = optimizer.state.pop(old)
    kept["exp_avg"] = torch.zeros_like(old)
    params[0] = group["params"][0] = torch.nn.Parameter(old.detach().clone())
    optimizer.state[params[0]] = kept


def remove_parameter(optimizer, params):
    del optimizer.state[optimizer.param_groups[0]["params"].pop(1)]
    del params[1]


def switch_form(optimizer, params):
    optimizer.param_groups[0].update(maximize=True, weight_decay=0.1, **DECOUPLED)


def write_into_betas(optimizer, params):
    optimizer.param_groups[0]["betas"] = [0.9, 0.999]
    run(optimizer, params, range(5, 7))
    optimizer.param_groups[0]["betas"][0] = 0.25
    optimizer.param_groups[0]["betas"][1] = 0.5


@pytest.mark.parametrize(
    "change",
    [
        replace_moments,
        write_moments,
        forget,
        forget_one,
        new_state,
        reset_counts,
        replace_one_count,
        move_parameters,
        share,
        replace_parameter,
        remove_parameter,
        switch_form,
        write_into_betas,
    ],
)
def test_what_the_caller_changes_counts(change):
    a, params, b, others = both("Adam", lr=0.1)
    for optimizer, some in ((a, params), (b, others)):
        run(optimizer, some, range(5))
        change(optimizer, some)
        run(optimizer, some, range(5, 20))
    same_run(a, params, b, others)


@pytest.mark.parametrize(("name", "key"), [("Adamax", "betas"), ("Rprop", "etas"), ("Rprop", "step_sizes")])
def test_lists_that_the_caller_writes_into(name, key):
    a, params, b, others = both(name)
    for optimizer, some in ((a, params), (b, others)):
        optimizer.param_groups[0][key] = list(optimizer.param_groups[0][key])
        run(optimizer, some, range(5))
        optimizer.param_groups[0][key][:] = {"betas": [0.5, 0.6], "etas": [0.25, 2.0], "step_sizes": [0.5, 0.75]}[key]
        run(optimizer, some, range(5, 15))
    same_run(a, params, b, others)


def test_a_list_of_betas_becomes_a_tuple():
    pair = [0.5, 0.6]
    for name in ("Adam", "AdamW"):
        optimizer = getattr(ot, name)(parameters(), betas=pair)
        assert optimizer.defaults["betas"] == optimizer.param_groups[0]["betas"] == (0.5, 0.6)


def other_strides(p):
    p.data = p.data.t()


def as_strided(p):
    p.data = p.data.as_strided((3, 3), (1, 3))


def transposed_in_place(p):
    with torch.no_grad():
        p.t_()


@pytest.mark.parametrize("change", [other_strides, as_strided, transposed_in_place])
def test_strides_that_change_where_the_memory_stays(change):
    p = parameters(shapes=[(3, 3)])[0]
    optimizer = ot.Adam([p])
    run(optimizer, [p], range(2))
    address = p.data_ptr()
    change(p)
    assert p.data_ptr() == address
    before = snapshot(optimizer, [p])
    with pytest.raises(ValueError, match=r"parameter '0 of group 0' of shape .* is not contiguous"):
        run(optimizer, [p], range(2, 3))
    assert snapshot(optimizer, [p]) == before
    p.data = p.data.contiguous()
    run(optimizer, [p], range(2, 3))


def test_a_state_whose_strides_change():
    p = parameters(shapes=[(3, 3)])[0]
    optimizer = ot.Adam([p])
    run(optimizer, [p], range(2))
    optimizer.state[p]["exp_avg"].t_()
    before = snapshot(optimizer, [p])
    with pytest.raises(ValueError, match=r"the state 'exp_avg' of parameter '0 of group 0' .* is not contiguous"):
        run(optimizer, [p], range(2, 3))
    assert snapshot(optimizer, [p]) == before


@pytest.mark.parametrize("shape", [(2, 3), (6, 1)])
def test_shapes_that_change_where_the_memory_stays(shape):
    (p,), (q,) = parameters(shapes=[(6,)]), parameters(shapes=[(6,)])
    a, b = ot.SGD([p], lr=0.1), torch.optim.SGD([q], lr=0.1)
    for optimizer, one in ((a, p), (b, q)):
        run(optimizer, [one], range(2))
        one.data = one.data.view(shape)
        one.grad = None
        run(optimizer, [one], range(2, 4))
        one.data = one.data.view(6)[:3]
        one.grad = None
        run(optimizer, [one], range(4, 6))
    close(p.detach(), q.detach())


@pytest.mark.parametrize("name", ot.__all__)
def test_under_another_default_device(name):
    params, others = parameters(), parameters()
    grads = [gradients(step, params) for step in range(3)]
    with torch.device("meta"):
        optimizer = getattr(ot, name)(params)
        for some in grads:
            for p, g in zip(params, some, strict=True):
                p.grad = g
            optimizer.step()
    other = getattr(ot, name)(others)
    run(other, others, range(3))
    assert snapshot(optimizer, params) == snapshot(other, others)


def test_other_entries_of_the_state_stay():
    params = parameters()
    optimizer = ot.Adam(params)
    run(optimizer, params, range(2))
    optimizer.state[params[0]]["mine"] = "something"
    optimizer.state["mine"] = 1
    run(optimizer, params, range(2, 4))
    assert optimizer.state[params[0]]["mine"] == "something"
    assert optimizer.state[params[0]]["step"] == 4


# ---------------------------------------------------------------------- state


def through_file(state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@dtypes
@forms
def test_begun_in_torch_goes_on_in_optcore_and_back(name, form, dtype):
    a, params, b, others = both(name, dtype, **form)
    run(b, others, range(40))
    with torch.no_grad():
        for p, q in zip(params, others, strict=True):
            p.copy_(q)
    a.load_state_dict(through_file(b.state_dict()))
    run(a, params, range(40, 80))
    c_params = copy.deepcopy(params)
    c = getattr(torch.optim, name)(c_params, **form)
    c.load_state_dict(through_file(a.state_dict()))
    run(c, c_params, range(80, 120))
    run(b, others, range(40, 120))
    same_run(c, c_params, b, others)


@forms
def test_state_crosses_over_in_every_bit(name, form):
    for first, second in ((ot, torch.optim), (torch.optim, ot)):
        params = parameters()
        uninterrupted = getattr(first, name)(params, **form)
        run(uninterrupted, params, range(20), lambda step, i: step < 5 and i == 1)
        others = copy.deepcopy(params)
        visited = getattr(second, name)(others, **form)
        visited.load_state_dict(through_file(uninterrupted.state_dict()))
        back = getattr(first, name)(others, **form)
        back.load_state_dict(through_file(visited.state_dict()))
        run(uninterrupted, params, range(20, 40))
        run(back, others, range(20, 40))
        assert bits(params) == bits(others)
        mine, theirs = flat_state(uninterrupted, params), flat_state(back, others)
        assert mine.keys() == theirs.keys()
        assert bits(mine.values()) == bits(theirs.values())


@forms
def test_layout_is_that_of_torch(name, form):
    for steps in (0, 3):
        a, params, b, others = both(name, torch.float32, **form)
        run(a, params, range(steps))
        run(b, others, range(steps))
        mine, theirs = a.state_dict(), b.state_dict()
        assert mine.keys() == theirs.keys()
        assert mine["state"].keys() == theirs["state"].keys()
        for key, entry in theirs["state"].items():
            assert {k: (v.shape, v.dtype) for k, v in mine["state"][key].items()} == {
                k: (v.shape, v.dtype) for k, v in entry.items()
            }
        for group, their_group in zip(mine["param_groups"], theirs["param_groups"], strict=True):
            assert {key: group[key] for key in their_group} == their_group
    # Each count has memory of its own: torch adds 1 to each of them.
    counts = [entry["step"] for entry in a.state.values() if "step" in entry]
    assert len({count.data_ptr() for count in counts}) == len(counts)


def test_counts_follow_the_default_dtype():
    torch.set_default_dtype(torch.float64)
    try:
        a, params, b, others = both("Adam")
        for optimizer, some in ((a, params), (b, others)):
            run(optimizer, some, range(1))
        assert a.state[params[0]]["step"].dtype == b.state[others[0]]["step"].dtype == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


def test_counts_of_older_versions_are_numbers():
    a, params, b, others = both("Adam")
    run(b, others, range(5))
    run(a, params, range(5))
    state = copy.deepcopy(b.state_dict())
    for entry in state["state"].values():
        entry["step"] = int(entry["step"])
    for key in ("maximize", "foreach", "capturable", "differentiable", "fused", "decoupled_weight_decay"):
        state["param_groups"][0].pop(key, None)
    a.load_state_dict(state)
    run(a, params, range(5, 10))
    run(b, others, range(5, 10))
    same_run(a, params, b, others)


@pytest.mark.parametrize("way", [copy.deepcopy, lambda both: pickle.loads(pickle.dumps(both))], ids=["copy", "pickle"])
@forms
def test_copies_go_on(name, form, way):
    params = parameters()
    optimizer = getattr(ot, name)(params, **form)
    run(optimizer, params, range(10))
    others, other = way((params, optimizer))
    run(optimizer, params, range(10, 20))
    assert bits(others) != bits(params)
    run(other, others, range(10, 20))
    assert bits(others) == bits(params)
    assert other.param_groups[0]["params"][0] is others[0]


def test_adamw_stays_decoupled():
    params = parameters()
    optimizer = ot.AdamW(params)
    optimizer.load_state_dict(ot.Adam(parameters(), weight_decay=0.1).state_dict())
    assert optimizer.param_groups[0]["decoupled_weight_decay"] is True
    assert optimizer.param_groups[0]["weight_decay"] == 0.1
