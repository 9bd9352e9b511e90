"""Promises 2 and 3: what cannot be used as it is, is an error that says what to do, and nothing has changed."""

import copy
import io
import json
import shutil
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from support import bits

import optcore as oc

NAN, INF = float("nan"), float("inf")


def misaligned(n=4):
    return np.zeros(8 * n + 1, np.uint8)[1:].view(np.float64)


def read_only(n=4):
    array = np.zeros(n)
    array.flags.writeable = False
    return array


def overlapping():
    whole = np.zeros(10)
    return [whole[:6], whole[4:]]


def nested():
    whole = np.zeros(10)
    return {"whole": whole, "part": whole[3:5]}


P = np.zeros(4)

# What: (params, error, words of the message)
PARAMETERS = {
    "list": ([1.0, 2.0], TypeError, "parameter '0' must be a NumPy array, got float"),
    "number": (1.0, TypeError, "params must be an array"),
    "None": (None, TypeError, "params must be an array"),
    "scalar": (np.float64(1.0), TypeError, "params must be an array"),
    "generator": ((p for p in [P]), TypeError, "got generator"),
    "nothing": ([], ValueError, "params holds no arrays"),
    "empty mapping": ({}, ValueError, "params holds no arrays"),
    "int64": (np.zeros(4, np.int64), TypeError, "has dtype int64, but must be float32 or float64"),
    "float16": (np.zeros(4, np.float16), TypeError, "float16"),
    "longdouble": (np.zeros(4, np.longdouble), TypeError, "must be float32 or float64"),
    "complex": (np.zeros(4, complex), TypeError, "complex128"),
    "bool": (np.zeros(4, bool), TypeError, "bool"),
    "object": (np.zeros(4, object), TypeError, "object"),
    "text": (np.array(["a"]), TypeError, "<U1"),
    "structured": (np.zeros(4, [("a", float)]), TypeError, "must be float32 or float64"),
    "foreign bytes": (np.zeros(4, np.dtype(float).newbyteorder()), TypeError, "foreign byte order"),
    "Fortran order": (
        np.zeros((3, 4), order="F"),
        ValueError,
        "is not C-contiguous; its memory cannot be updated in place: make numpy.ascontiguousarray(...) the parameter",
    ),
    "strided": (np.zeros(8)[::2], ValueError, "strides (16,) is not C-contiguous"),
    "reversed": (np.zeros(8)[::-1], ValueError, "not C-contiguous"),
    "broadcast": (np.broadcast_to(1.0, 4), ValueError, "not C-contiguous"),
    "misaligned": (misaligned(), ValueError, "not aligned in memory; use .copy()"),
    "read-only": (read_only(), ValueError, "read-only, but is updated in place"),
    "masked": (np.ma.zeros(4), TypeError, "is a MaskedArray"),
    "subclass": (np.zeros(4).view(type("Special", (np.ndarray,), {})), TypeError, "is a Special"),
    "overlap": (overlapping(), ValueError, "parameter '1' and parameter '0' share memory"),
    "nested": (nested(), ValueError, "share memory"),
    "twice": ([P, P], ValueError, "share memory"),
    "group without a list": ({"params": [P], "lr": 0.1}, TypeError, "this looks like a group; groups come in a list"),
    "number as name": ({1: P}, TypeError, "parameter names must be non-empty strings, got 1"),
    "empty name": ({"": P}, TypeError, "non-empty strings"),
    "group without params": ([{"lr": 1.0}], ValueError, 'group 0 has no "params"'),
    "unknown key of a group": ([{"params": P, "betaz": (0.9, 0.9)}], TypeError, "did you mean 'betas'?"),
    "shared key in a group": (
        [{"params": P, "clip_norm": 1.0}],
        TypeError,
        "group 0: clip_norm is the same for all groups; give it to Adam",
    ),
    "same name in two groups": ([{"params": {"a": P}}, {"params": {"a": P.copy()}}], ValueError, "two parameters"),
    "names in one group": ([{"params": {"a": P}}, {"params": [P.copy()]}], TypeError, "or none"),
    "bad value in a group": ([{"params": P, "lr": -1.0}], ValueError, "lr must be a finite number >= 0, got -1.0"),
}


@pytest.mark.filterwarnings("ignore:the matrix subclass")
@pytest.mark.parametrize("what", [*PARAMETERS, "matrix"])
def test_parameters(what):
    params, error, words = PARAMETERS.get(what, (np.matrix([[1.0]]), TypeError, "is a matrix"))
    with pytest.raises(error) as caught:
        oc.Adam(params)
    assert words in str(caught.value)


# What: (a gradient of np.zeros((2, 3)), error, words of the message)
GRADIENTS = {
    "list": ([[0.0] * 3] * 2, ValueError, "got 2 gradients for 1 parameters"),
    "list in a list": ([[[0.0] * 3] * 2], TypeError, "the gradient of '0' must be a NumPy array, got list"),
    "number": (1.0, TypeError, "one array or a list or tuple of 1 arrays"),
    "mapping": ({"0": np.zeros((2, 3))}, TypeError, "got dict"),
    "float32": (np.zeros((2, 3), np.float32), TypeError, "has dtype float32, but must be float64; use .astype"),
    "int": (np.zeros((2, 3), int), TypeError, "int64"),
    "foreign bytes": (np.zeros((2, 3), np.dtype(float).newbyteorder()), TypeError, "foreign byte order"),
    "object": (np.zeros((2, 3), object), TypeError, "object"),
    "shape": (np.zeros((3, 2)), ValueError, "has shape (3, 2), but its parameter has shape (2, 3)"),
    "flat": (np.zeros(6), ValueError, "has shape (6,)"),
    "0-d": (np.array(0.0), ValueError, "has shape ()"),
    "empty": (np.zeros((0, 3)), ValueError, "has shape (0, 3)"),
    "Fortran order": (np.zeros((2, 3), order="F"), ValueError, "not C-contiguous"),
    "strided": (np.zeros((2, 6))[:, ::2], ValueError, "not C-contiguous"),
    "misaligned": (misaligned(6).reshape(2, 3), ValueError, "not aligned"),
    "masked": (np.ma.zeros((2, 3)), TypeError, "MaskedArray"),
    "numbers": ([0.0], TypeError, "gradients must be arrays, got a list of numbers"),
    "too many": ([np.zeros((2, 3))] * 2, ValueError, "got 2 gradients for 1 parameters"),
    "none": ([], ValueError, "got 0 gradients for 1 parameters"),
    "nothing": (None, TypeError, "none were bound"),
}


@pytest.mark.parametrize("what", GRADIENTS)
def test_gradients(what):
    gradient, error, words = GRADIENTS[what]
    p = np.arange(6.0).reshape(2, 3)
    opt = oc.Adam(p)
    opt.step(np.ones((2, 3)))
    before = bits(p), bits(opt.state["0"]["m"]), bits(opt.state["0"]["v"]), opt.t
    with pytest.raises(error) as caught:
        opt.step(gradient)
    assert words in str(caught.value)
    assert before == (bits(p), bits(opt.state["0"]["m"]), bits(opt.state["0"]["v"]), opt.t)
    if gradient is not None:
        with pytest.raises(error) as caught:
            oc.Adam(p, gradient)
        assert words in str(caught.value)
    opt.step(np.ones((2, 3)))
    assert opt.t == 2, "the optimizer still works"


@pytest.mark.parametrize(
    ("gradients", "words"),
    [
        ({"W": np.zeros(2)}, "missing: ['b'], unknown: []"),
        ({"W": np.zeros(2), "b": np.zeros(1), "c": np.zeros(1)}, "missing: [], unknown: ['c']"),
        ({"w": np.zeros(2), "b": np.zeros(1)}, "missing: ['W'], unknown: ['w']"),
        ([np.zeros(2), np.zeros(1)], "must be a mapping of names"),
        (np.zeros(2), "must be a mapping of names"),
    ],
)
def test_names_of_gradients(gradients, words):
    opt = oc.SGD({"W": np.zeros(2), "b": np.zeros(1)}, lr=1.0)
    with pytest.raises((TypeError, ValueError)) as caught:
        opt.step(gradients)
    assert words in str(caught.value)
    assert opt.t == 0


def test_the_last_gradient_is_checked_before_the_first_is_used():
    params = [np.zeros(3), np.zeros(3)]
    opt = oc.SGD(params, lr=1.0)
    with pytest.raises(ValueError, match=r"gradient of '1' has shape \(4,\)"):
        opt.step([np.ones(3), np.ones(4)])
    assert not params[0].any()


def test_gradients_that_alias():
    whole = np.ones(12)
    p = whole[:6]
    opt = oc.Adam(p, averaging=oc.EMA())
    for gradient, words in [
        (p, "the gradient of '0' shares memory with parameter '0'"),
        (whole[5:11], "shares memory with parameter '0'"),
        (opt.state["0"]["m"], "shares memory with the state 'm' of '0'"),
        (opt.averaged(), "shares memory with the average of '0'"),
    ]:
        with pytest.raises(ValueError, match="shares memory") as caught:
            opt.step(gradient)
        assert words in str(caught.value)
        with pytest.raises(ValueError, match="shares memory"):
            oc.Adam(p, p)
    assert opt.t == 0
    opt.step(whole[6:])  # a neighbour is no overlap
    many = [np.zeros(3) for _ in range(20)]
    opt = oc.SGD(many, lr=1.0)
    for k in range(20):
        gradients = [np.ones(3) for _ in range(20)]
        gradients[(k + 7) % 20] = many[k]
        with pytest.raises(ValueError, match=f"shares memory with parameter '{k}'"):
            opt.step(gradients)
    assert not np.any(many)
    one = np.ones(3)
    opt.step([one] * 20)  # gradients are read only: they may be one array


# Keywords of a class: error, words of the message
KEYWORDS = [
    (oc.Adam, {"lr": NAN}, ValueError, "lr must be a finite number >= 0, got nan"),
    (oc.Adam, {"lr": -1e-3}, ValueError, "lr must be a finite number >= 0, got -0.001"),
    (oc.Adam, {"lr": INF}, ValueError, "got inf"),
    (oc.Adam, {"lr": "0.1"}, TypeError, "lr must be a finite number >= 0, or a function of t, got '0.1'"),
    (oc.Adam, {"lr": None}, TypeError, "got None"),
    (oc.Adam, {"lr": True}, TypeError, "got True"),
    (oc.Adam, {"lr": np.array([0.1])}, TypeError, "lr must be"),
    (oc.Adam, {"betas": (1.0, 0.999)}, ValueError, "betas[0] must be at least 0 and below 1, got 1.0"),
    (oc.Adam, {"betas": (0.9, -0.1)}, ValueError, "betas[1] must be"),
    (oc.Adam, {"betas": (0.9, NAN)}, ValueError, "betas[1] must be"),
    (oc.Adam, {"betas": 0.9}, TypeError, "betas must be a pair of numbers, got 0.9"),
    (oc.Adam, {"betas": (0.9,)}, TypeError, "betas must be a pair"),
    (oc.Adam, {"eps": 0.0}, ValueError, "eps must be a finite number > 0, got 0.0"),
    (oc.Adam, {"eps": -1e-8}, ValueError, "eps must be"),
    (oc.Adam, {"eps_form": "outsde"}, ValueError, "eps_form must be one of 'outside', 'inside', 'hat'"),
    (oc.Adam, {"amsgrad": 1}, TypeError, "amsgrad must be True or False, got 1"),
    (oc.Adam, {"learning_rate": 0.1}, TypeError, "unknown keyword 'learning_rate'; did you mean 'lr'?"),
    (oc.NAdam, {"betas": (lambda t: 0.9, 0.999)}, TypeError, "betas[0] of NAdam must be a number: all its values"),
    (oc.FTRL, {"lr": 0.0}, ValueError, "lr must be a finite number > 0, got 0.0"),
    (oc.FTRL, {"lr": 1.0, "l1": -1.0}, ValueError, "l1 must be a finite number >= 0"),
    (oc.Adam, {"beta": (0.9, 0.9)}, TypeError, "unknown keyword 'beta'; did you mean 'betas'?"),
    (oc.Adam, {"weight_deacy": 0.1}, TypeError, "did you mean 'weight_decay'?"),
    (oc.AMSGrad, {"amsgrad": True}, TypeError, "unknown keyword 'amsgrad'"),
    (oc.Nesterov, {"lr": 1.0, "nesterov": True}, TypeError, "unknown keyword 'nesterov'"),
    (oc.Adam, {"lr": 10**400}, ValueError, "lr must be a finite number >= 0, got 1000000000"),
    (oc.Adam, {"threads": 2**70}, ValueError, "threads must be from 1 to 1024"),
    (oc.Adam, {"bounds": [(0, 1), (0, 1)]}, TypeError, "from pairs for each element make two arrays"),
    (oc.Rprop, {"lr": lambda t: 0.1}, TypeError, "lr must be a finite number > 0, got <function"),
    (oc.Adam, {"grads": 1e-3}, TypeError, "did you mean lr=0.001?"),
    (oc.Optimizer, {}, TypeError, "Optimizer is the base of optimizers; make one of them"),
    (oc.AdamW, {"decoupled_weight_decay": False}, TypeError, "takes no decoupled_weight_decay"),
    (oc.Adam, {"weight_decay": -1.0}, ValueError, "weight_decay must be"),
    (oc.Adam, {"clip_norm": 0.0}, ValueError, "clip_norm must be a number > 0, or None, got 0.0"),
    (oc.Adam, {"clip_value": NAN}, ValueError, "clip_value must be a number > 0, or None, got nan"),
    (oc.Adam, {"maximize": "yes"}, TypeError, "maximize must be True or False"),
    (oc.Adam, {"on_nonfinite": "ignore"}, ValueError, "on_nonfinite must be one of 'allow', 'raise', 'skip'"),
    (oc.Adam, {"averaging": 0.99}, TypeError, "averaging must be optcore.EMA"),
    (oc.Adam, {"averaging": oc.EMA(1.0)}, ValueError, "averaging must be at least 0 and below 1"),
    (oc.Adam, {"threads": 0}, ValueError, "threads must be from 1 to 1024, got 0"),
    (oc.Adam, {"threads": 1.5}, TypeError, "threads must be an integer"),
    (oc.Adam, {"bounds": 1.0}, TypeError, "bounds must be a pair (lower, upper), got 1.0"),
    (oc.Adam, {"bounds": (1.0, 0.0)}, ValueError, "the lower bound of '0' must be at most the upper"),
    (oc.Adam, {"bounds": (NAN, 0.0)}, ValueError, "the lower bound must be a number"),
    (oc.Adam, {"bounds": ("a", 0.0)}, TypeError, "the lower bound must be a number"),
    (oc.Adam, {"bounds": (np.zeros(3), 1.0)}, ValueError, "the lower bound of '0' has shape (3,)"),
    (oc.Adam, {"bounds": (np.zeros(4), np.full(4, NAN))}, ValueError, "neither may be NaN"),
    (oc.SGD, {"lr": 1.0, "nesterov": True}, ValueError, "nesterov=True needs momentum > 0"),
    (oc.SGD, {"lr": 1.0, "momentum": 1.5}, ValueError, "momentum must be between 0 and 1, got 1.5"),
    (oc.Momentum, {"lr": 1.0, "velocity": "EMA"}, ValueError, "velocity must be one of"),
    (oc.Momentum, {"lr": 1.0, "dampening": 2.0}, ValueError, "dampening must be"),
    (oc.Adagrad, {"lr_decay": -0.1}, ValueError, "lr_decay must be"),
    (oc.Adagrad, {"initial_accumulator": -1.0}, ValueError, "initial_accumulator must be"),
    (oc.Adagrad, {"eps_form": "hat"}, ValueError, "eps_form must be one of 'outside', 'inside'"),
    (oc.RMSprop, {"alpha": 1.0}, ValueError, "alpha must be"),
    (oc.RMSprop, {"centered": None}, TypeError, "centered must be True or False"),
    (oc.Adadelta, {"rho": 1.0}, ValueError, "rho must be"),
    (oc.Rprop, {"lr": 0.0}, ValueError, "lr must be a finite number > 0"),
    (oc.Rprop, {"etas": (1.2, 0.5)}, ValueError, "etas[0] must be above 0 and below 1, got 1.2"),
    (oc.Rprop, {"etas": (0.5, 1.0)}, ValueError, "etas[1] must be a finite number > 1"),
    (oc.Rprop, {"step_sizes": (50.0, 1.0)}, ValueError, "step_sizes must be (smallest, largest)"),
    (oc.Rprop, {"variant": "rprop+"}, ValueError, "variant must be one of"),
    (oc.Rprop, {"decoupled_weight_decay": True, "weight_decay": 0.1}, ValueError, "which Rprop does not use"),
]


@pytest.mark.parametrize(
    ("cls", "keywords", "error", "words"), KEYWORDS, ids=[f"{cls.__name__}-{kw}" for cls, kw, *_ in KEYWORDS]
)
def test_keywords(cls, keywords, error, words):
    with pytest.raises(error) as caught:
        cls(np.zeros(4), **keywords)
    assert words in str(caught.value)


def test_learning_rate_is_required_where_the_rule_has_no_natural_one():
    with pytest.raises(TypeError, match="lr"):
        oc.SGD(np.zeros(4))


def test_what_float32_cannot_hold():
    """In float32 an eps of 1e-50 would be 0 and 0/0 possible, a rate of 1e39 infinite."""
    oc.Adam(np.zeros(4), eps=1e-50, lr=1e39)
    with pytest.raises(ValueError, match="eps must be a finite number > 0 that float32 can hold, got 1e-50"):
        oc.Adam(np.zeros(4, np.float32), eps=1e-50)
    with pytest.raises(ValueError, match="lr must be a finite number >= 0 that float32 can hold"):
        oc.Adam([np.zeros(4), np.zeros(4, np.float32)], lr=1e39)
    with pytest.raises(ValueError, match=r"'0' is float32, which cannot hold 1e\+39, the first s"):
        oc.Adagrad(np.zeros(4, np.float32), initial_accumulator=1e39)
    with pytest.raises(ValueError, match=r"'0' is float32, which cannot hold the lower bound -1e\+300"):
        oc.Adam(np.zeros(4, np.float32), bounds=(-1e300, None))


def test_changed_arrays():
    p, g = np.zeros(6), np.ones(6)
    opt = oc.SGD(p, g, lr=1.0)
    opt.step()
    p.flags.writeable = False
    with pytest.raises(ValueError, match="parameter '0' is read-only"):
        opt.step()
    p.flags.writeable = True
    opt.step()

    g.resize(7, refcheck=False)
    with pytest.raises(ValueError, match=r"gradient of '0' has shape \(7,\)"):
        opt.step()
    g.resize(6, refcheck=False)
    opt.step()

    p.resize(10_000, refcheck=False)
    with pytest.raises(ValueError, match=r"parameter '0' was resized, reshaped or moved .* make a new optimizer"):
        opt.step(g)
    assert opt.t == 3
    assert not p[6:].any()

    p = np.zeros((2, 3))
    opt = oc.SGD(p, lr=1.0)
    reshaped(p, (3, 2))
    with pytest.raises(ValueError, match=r"\(its shape was \(2, 3\), now \(3, 2\)\)"):
        opt.step(np.ones((3, 2)))
    assert not p.any()


@pytest.mark.filterwarnings("ignore:Setting the shape")
def reshaped(array, shape):
    """In place; NumPy 2.5 keeps this in another method."""
    getattr(array, "_set_shape", lambda shape: setattr(array, "shape", shape))(shape)


def test_state_cannot_be_resized_or_replaced():
    opt = oc.Adam(np.zeros(4))
    with pytest.raises(ValueError, match="does not own its data"):
        opt.state["0"]["m"].resize(100, refcheck=False)
    with pytest.raises(TypeError):
        opt.state["0"]["m"] = np.zeros(4)
    with pytest.raises(TypeError):
        opt.state["0"] = {}
    with pytest.raises(KeyError):
        opt.state["1"]


# ---------------------------------------------------------------------- schedules


@pytest.mark.parametrize(
    ("schedule", "error", "words"),
    [
        (lambda t: NAN, ValueError, "lr must be a finite number >= 0, but its schedule gave nan at t = 1"),
        (lambda t: -1.0, ValueError, "but its schedule gave -1.0 at t = 1"),
        (lambda t: "fast", TypeError, "lr must be a finite number >= 0, but its schedule gave 'fast' at t = 1"),
        (lambda t: None, TypeError, "but its schedule gave None at t = 1"),
        (lambda t: 1 / (t - 1), ZeroDivisionError, "division by zero"),
        (lambda: 0.1, TypeError, "positional argument"),
    ],
)
def test_schedules(schedule, error, words):
    """A step that fails in the middle of its second group has not touched the first."""
    params = [np.zeros(3), np.zeros(3)]
    opt = oc.Adam([{"params": [params[0]]}, {"params": [params[1]], "lr": 0.1}], averaging=oc.EMA(0.5))
    opt.step([np.ones(3)] * 2)
    opt.groups[1]["lr"] = schedule
    before = [bits(a) for kept in opt.state.values() for a in kept.values()] + [bits(p) for p in params]
    with pytest.raises(error) as caught:
        opt.step([np.ones(3)] * 2)
    assert words in str(caught.value)
    assert before == [bits(a) for kept in opt.state.values() for a in kept.values()] + [bits(p) for p in params]
    assert opt.t == 1
    opt.groups[1]["lr"] = 0.1
    opt.step([np.ones(3)] * 2)


@pytest.mark.parametrize("bound", [False, True])
def test_a_schedule_that_changes_the_arrays(bound):
    """What its function does is noticed, because arrays are looked at behind it."""
    for meddle, words in [
        (lambda p, g: p.resize(10, refcheck=False), "was resized"),
        (lambda p, g: g.resize(10, refcheck=False), "has shape"),
        (lambda p, g: p.setflags(write=False), "read-only"),
    ]:
        p, g = np.zeros(100_000), np.ones(100_000)
        opt = oc.SGD(p, g if bound else None, lr=lambda t, p=p, g=g, meddle=meddle: meddle(p, g) or 0.1)
        with pytest.raises(ValueError, match=words):
            opt.step() if bound else opt.step(g)
        assert not p.any()
        assert opt.t == 0
    p = np.zeros(100_000)
    opt = oc.Velocity(p, lr=0.1, momentum=lambda t: p.resize(10, refcheck=False) or 0.5)
    with pytest.raises(ValueError, match="was resized"), opt.lookahead():
        pass


def test_a_schedule_that_changes_the_optimizer():
    p, made = np.zeros(3), []
    for meddle in (
        lambda opt: setattr(opt, "lr", 0.5),
        lambda opt: setattr(opt, "t", 7),
        lambda opt: opt.load_state_dict(oc.SGD(p, lr=1.0).state_dict()),
        lambda opt: opt.state_dict(),
    ):
        opt = oc.SGD(p, np.ones(3), lr=lambda t, meddle=meddle: meddle(made[-1]) or 0.1)
        made.append(opt)
        with pytest.raises(RuntimeError, match="while one of its steps is running"):
            opt.step()
        assert opt.t == 0
    opt = oc.Velocity(p, lr=0.1, momentum=lambda t: made[-1].lookahead().__enter__() or 0.5)
    made.append(opt)
    with pytest.raises(RuntimeError, match="while a step of the same optimizer was running"):
        opt.step(np.ones(3))
    assert not p.any()


def test_a_list_that_lies_about_its_length():
    class Liar(list):
        def __iter__(self):
            return iter([])

    with pytest.raises(ValueError, match="got 0 gradients for 400 parameters"):
        oc.SGD([np.zeros(3) for _ in range(400)], lr=0.1).step(Liar([np.zeros(3)] * 400))


def test_step_inside_a_step():
    p = np.zeros(3)
    opt = oc.SGD(p, np.ones(3), lr=lambda t: opt.step() or 0.1)
    with pytest.raises(RuntimeError, match="while a step of the same optimizer was running"):
        opt.step()
    assert opt.t == 0
    assert not p.any()


# ---------------------------------------------------------------------- live values


def test_live_values():
    opt = oc.Adam([{"params": np.zeros(3)}, {"params": np.zeros(3, np.float32), "lr": 0.5}])
    for value, error in [(-1.0, ValueError), (NAN, ValueError), ("x", TypeError), (1e39, ValueError)]:
        with pytest.raises(error):
            opt.lr = value
        assert [group["lr"] for group in opt.groups] == [1e-3, 0.5]
    with pytest.raises(KeyError, match="did you mean 'betas'"):
        opt.groups[0]["beta"] = (0.9, 0.9)
    with pytest.raises(ValueError, match=r"betas\[1\] must be"):
        opt.groups[0]["betas"] = (0.5, 1.0)
    assert opt.groups[0]["betas"] == (0.9, 0.999)
    with pytest.raises(ValueError, match="fixed"):
        opt.groups[0]["params"] = []
    with pytest.raises(TypeError, match="cannot be deleted"):
        del opt.groups[0]["lr"]
    with pytest.raises(ValueError, match="clip_norm must be"):
        opt.clip_norm = -1.0
    with pytest.raises(AttributeError, match="lr is fixed"):
        oc.Rprop(np.zeros(3)).lr = 0.1
    for name, words in [
        ("threads", "threads is fixed when the optimizer is made"),
        ("eps_form", "eps_form is fixed"),
        ("lrr", "has no attribute 'lrr'; did you mean 'lr'?"),
        ("params", "has no setter|can't set"),
    ]:
        with pytest.raises(AttributeError, match=words):
            setattr(opt, name, 1)
    with pytest.raises(AttributeError, match="this SGD was made without momentum"):
        oc.SGD(np.zeros(3), lr=1.0).momentum  # noqa: B018
    assert oc.Rprop(np.zeros(3)).lr == 1e-2
    with pytest.raises(ValueError, match="eps must be"):
        opt.eps = -1.0
    assert opt.eps == 1e-8
    for t, error in [(-1, ValueError), (2**62 + 1, ValueError), (1.0, TypeError), (True, TypeError)]:
        with pytest.raises(error, match="t must be"):
            opt.t = t
    assert opt.t == 0


def test_an_optimizer_is_made_once():
    opt = oc.SGD(np.zeros(3), lr=1.0)
    with pytest.raises(RuntimeError, match="make a new one"):
        opt.__init__(np.zeros(3), lr=1.0)
    opt.step(np.ones(3))
    with pytest.raises(RuntimeError, match=r"never initialized; call SGD\(params\)"):
        oc.SGD.__new__(oc.SGD).step([])


def test_look_ahead():
    with pytest.raises(TypeError, match=r"Adam has no look-ahead point; optcore.Velocity has one"):
        oc.Adam(np.zeros(3)).lookahead()
    p = np.ones(3)
    opt = oc.Velocity(p, lr=0.1)
    opt.step(np.ones(3))
    before = bits(p)
    with opt.lookahead():
        assert bits(p) != before
        with pytest.raises(RuntimeError, match="at the look-ahead point"):
            opt.step(np.ones(3))
        with pytest.raises(RuntimeError, match="at the look-ahead point"), opt.lookahead():
            pass
        with pytest.raises(RuntimeError, match="copy the optimizer after the with block"):
            copy.copy(opt)
    with pytest.raises(ZeroDivisionError), opt.lookahead():
        raise ZeroDivisionError
    assert bits(p) == before
    assert opt.t == 1


def test_nothing_is_averaged():
    with pytest.raises(ValueError, match="make the optimizer with averaging="):
        oc.Adam(np.zeros(3)).averaged()


# ---------------------------------------------------------------------- states and files


def stepped(cls=oc.Adam, **keywords):
    opt = cls({"W": np.ones((2, 3)), "b": np.ones(3)}, **keywords)
    opt.step({"W": np.ones((2, 3)), "b": np.ones(3)})
    return opt


def altered(**changes):
    return {**stepped().state_dict(), **changes}


STATES = [
    (lambda: None, "not the state of an optcore optimizer"),
    (dict, "not the state of an optcore optimizer"),
    (lambda: {"param_groups": [], "state": {}}, "not the state of an optcore optimizer"),
    (lambda: altered(format=99), "format 99; this version of optcore reads format 1"),
    (lambda: {k: v for k, v in altered().items() if k != "t"}, "the state lacks t"),
    (lambda: stepped(oc.RMSprop).state_dict(), "class is 'RMSprop' there, 'Adam' here"),
    (lambda: stepped(eps_form="hat").state_dict(), "eps_form is 'hat' there, 'outside' here"),
    (lambda: stepped(amsgrad=True).state_dict(), "amsgrad is True there, False here"),
    (lambda: stepped(maximize=True).state_dict(), "maximize is True there, False here"),
    (lambda: stepped(averaging=oc.Polyak()).state_dict(), "averaging is 'Polyak' there, None here"),
    (lambda: stepped(bounds=(0, None)).state_dict(), "bounds is [0.0, None] there, None here"),
    (lambda: altered(t=-1), "t must be"),
    (lambda: altered(skipped="x"), "skipped of the state cannot be 'x'"),
    (lambda: altered(skipped=10**30, t=77), "skipped of the state cannot be 1000"),
    (lambda: altered(skipped=-1), "skipped of the state cannot be -1"),
    (lambda: altered(switches=None), "switches of the state cannot be None"),
    (lambda: altered(state=None), "state of the state cannot be None"),
    (lambda: altered(shared={}), "the state lacks clip_norm"),
    (lambda: altered(groups=[{"names": "Wb"}]), "a group of the state has no list of names"),
    (lambda: altered(groups=[{"names": ["W", "b"]}]), "the state has the values ['names'], this optimizer has"),
    (lambda: altered(state={**altered()["state"], "W": 3}), "the state of 'W' cannot be 3"),
    (
        lambda: altered(state={**altered()["state"], "W": {**altered()["state"]["W"], "b": np.ones(3)}}),
        "the state 'b' of 'W' is float64 (3,), but is unknown",
    ),
    (lambda: altered(t=1.5), "t must be"),
    (lambda: oc.Adam({"W": np.ones((2, 3))}).state_dict(), "the state is of the parameters [['W']]"),
    (lambda: oc.Adam({"W": np.ones((3, 2)), "b": np.ones(3)}).state_dict(), "the state 'm' of 'W' is float64 (3, 2)"),
    (
        lambda: oc.Adam({"W": np.ones((2, 3), np.float32), "b": np.ones(3)}).state_dict(),
        "is float32 (2, 3), but must be float64 (2, 3)",
    ),
    (lambda: altered(groups=[{**altered()["groups"][0], "lr": -1.0}]), "lr must be"),
    (lambda: altered(groups=[{**altered()["groups"][0], "betas": [0.9, 2.0]}]), "betas[1] must be"),
    (lambda: altered(shared={"clip_norm": -1.0, "averaging": 0.0}), "clip_norm must be"),
    (lambda: altered(state={"W": {}, "b": {}}), "the state 'm' of 'W' is None"),
]


@pytest.mark.parametrize(("make_state", "words"), STATES, ids=[words for _, words in STATES])
def test_states(make_state, words):
    opt = stepped(lr=0.25)
    opt.step({"W": np.full((2, 3), -2.0), "b": np.ones(3)})
    before = [bits(a) for kept in opt.state.values() for a in kept.values()], opt.t, dict(opt.groups[0])["lr"]
    state = make_state()
    with pytest.raises((ValueError, TypeError)) as caught:
        opt.load_state_dict(state)
    assert words in str(caught.value)
    assert before == ([bits(a) for kept in opt.state.values() for a in kept.values()], opt.t, opt.lr)


def file_with(**entries):
    buffer = io.BytesIO()
    np.savez(buffer, **entries)
    return buffer.getvalue()


def whole_file(tmp_path):
    stepped().save(tmp_path / "whole.npz")
    return (tmp_path / "whole.npz").read_bytes()


def without(content, entry):
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(buffer, "w") as new:
        for name in old.namelist():
            if name != entry:
                new.writestr(name, old.read(name))
    return buffer.getvalue()


def test_files(tmp_path):
    whole = whole_file(tmp_path)
    header = json.loads(str(np.load(tmp_path / "whole.npz")["header"]))
    files = {
        "empty": (b"", "bad.npz is not a whole state file of optcore"),
        "text": (b"hello", "bad.npz is not a whole state file of optcore"),
        "truncated": (whole[: len(whole) // 2], "bad.npz is not a whole state file of optcore"),
        "last byte": (whole[:-30], "bad.npz is not a whole state file of optcore"),
        "flipped": (
            whole[:150] + bytes([whole[150] ^ 255]) + whole[151:],
            "bad.npz is not a whole state file of optcore",
        ),
        "an array": (np.lib.format.magic(1, 0) + b"junk", "bad.npz is not a whole state file of optcore"),
        "another npz": (file_with(weights=np.ones(3)), "bad.npz is not a whole state file of optcore"),
        "no json": (file_with(header=np.array("{")), "bad.npz is not a whole state file of optcore"),
        "a list": (file_with(header=np.array("[1]")), "bad.npz is not a whole state file of optcore"),
        "pickle": (file_with(header=np.array([{"a": 1}], object)), "bad.npz is not a whole state file of optcore"),
        "no state": (file_with(header=np.array(json.dumps(header))), "is None"),
        "array gone": (without(whole, "state/W/v.npy"), "the state 'v' of 'W' is None"),
        "future": (file_with(header=np.array(json.dumps({**header, "format": 2}))), "format 2"),
        "unknown class": (
            file_with(header=np.array(json.dumps({**header, "class": "Sophia"}))),
            "'Sophia', which this version does not have",
        ),
    }
    path = tmp_path / "bad.npz"
    for what, (content, words) in files.items():
        path.write_bytes(content)
        params = {"W": np.ones((2, 3)), "b": np.ones(3)}
        with pytest.raises(ValueError) as caught:
            oc.load(path, params)
        assert words in str(caught.value), what
        assert (params["W"] == 1).all()
    with pytest.raises(OSError, match="nowhere"):
        oc.load(tmp_path / "nowhere.npz", np.ones(3))
    path.write_bytes(whole)
    for params, words in [
        ({"W": np.ones((2, 3))}, "is the state of the parameters ['W', 'b'], not of ['W']"),
        ({"W": np.ones((2, 3)), "c": np.ones(3)}, "not of ['W', 'c']"),
        ({"W": np.ones((2, 4)), "b": np.ones(3)}, "the state 'm' of 'W' is float64 (2, 3)"),
    ]:
        with pytest.raises(ValueError, match="state") as caught:
            oc.load(path, params)
        assert words in str(caught.value)


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    opt = stepped()
    opt.save(tmp_path / "run.npz")
    before = (tmp_path / "run.npz").read_bytes()
    opt.step({"W": np.ones((2, 3)), "b": np.ones(3)})

    def full(*arguments, **keywords):
        raise OSError("no space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="no space"):
        opt.save(tmp_path / "run.npz")
    assert (tmp_path / "run.npz").read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["run.npz"], "no temporary file stays"
    with pytest.raises(OSError, match="absent"):
        opt.save(tmp_path / "absent" / "run.npz")


def test_functions_are_not_kept_in_files(tmp_path):
    p = np.ones(3)
    opt = oc.Adam(p, lr=lambda t: 0.1 / (t + 1), betas=(0.9, lambda t: 0.99))
    opt.step(np.ones(3))
    opt.save(tmp_path / "run.npz")
    with pytest.raises(ValueError, match=r"betas, lr was a function that no file can keep; pass it again: load\("):
        oc.load(tmp_path / "run.npz", p)
    with pytest.raises(ValueError, match="lr was a function"):
        oc.load(tmp_path / "run.npz", p, betas=(0.9, 0.99))
    again = oc.load(tmp_path / "run.npz", p, lr=lambda t: 0.1 / (t + 1), betas=(0.9, lambda t: 0.99))
    assert (again.t, again.lr(1)) == (1, 0.05)


def test_files_that_make_new_arrays_at_each_look(tmp_path):
    np.savez(tmp_path / "params.npz", w=np.ones(3))
    with np.load(tmp_path / "params.npz") as file, pytest.raises(TypeError, match=r"pass dict\(\.\.\.\) of it"):
        oc.SGD(file, lr=1.0)


def test_the_source_folder_says_what_to_do(tmp_path):
    """Where the package is not compiled, and hides the one that is installed."""
    (tmp_path / "optcore").mkdir()
    shutil.copy(oc.__file__, tmp_path / "optcore" / "__init__.py")
    command = [sys.executable, "-S", "-c", "import optcore"]  # without site, another installation is not found
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert "optcore was found in its source folder, where it is not compiled" in done.stderr
