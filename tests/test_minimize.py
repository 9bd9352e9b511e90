"""`oc.minimize` beside SciPy's own minimizers, and through SciPy's door."""

import copy
import dataclasses
import inspect
import pickle
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import scipy.optimize
from scipy.optimize import Bounds, OptimizeResult, OptimizeWarning, rosen, rosen_der

import optcore as oc
from optcore.finite_differences import SCHEMES
from optcore.results import Result
from optcore.stopping import MESSAGES, SUCCESSES, Settings, Status

START = [1.3, 0.7, 0.8, 1.9, 1.2]
FIELDS = {"x", "fun", "jac", "success", "status", "message", "nit", "nfev", "njev"}
STEPS = 4000


def square(x, center=0.0):
    with np.errstate(over="ignore"):  # a run may diverge
        return float(np.sum((x - center) ** 2))


def square_der(x, center=0.0):
    return 2 * (x - center)


def both(x, *args):
    return rosen(x), rosen_der(x)


def run(fun=square, x0=(3.0, -1.0), method="sgd", jac=square_der, **keywords):
    """A short run with options as keywords."""
    named = {key: keywords.pop(key) for key in ("args", "bounds", "tol", "callback") if key in keywords}
    if method == "sgd":
        keywords.setdefault("lr", 0.1)
    return oc.minimize(fun, x0, method=method, jac=jac, options=keywords, **named)


def same(a, b, but=()):
    """Whether two results are the same in every bit."""
    assert list(a) == list(b)
    for key in a:
        if isinstance(a[key], dict):
            same(a[key], b[key])
        elif key not in but:
            assert type(a[key]) is type(b[key]), key
            assert np.asarray(a[key]).tobytes() == np.asarray(b[key]).tobytes(), key


# ---------------------------------------------------------------------------- SciPy's conventions


@pytest.mark.parametrize("peer", ["BFGS", "L-BFGS-B"])
@pytest.mark.parametrize("jac", [True, rosen_der, None, "3-point"])
def test_the_result_has_the_fields_and_types_of_scipys(peer, jac):
    fun = both if jac is True else rosen
    theirs = scipy.optimize.minimize(fun, START, jac=jac, method=peer)
    ours = oc.minimize(fun, START, jac=jac, options={"lr": 0.01, "maxiter": 50})
    assert type(ours) is type(theirs) is OptimizeResult
    assert set(theirs) >= FIELDS
    assert set(ours) == FIELDS | {"restarts", "history"}
    for key in FIELDS - {"fun"}:
        assert type(ours[key]) is type(theirs[key]), key
    assert isinstance(ours.fun, float)
    assert (ours.x.shape, ours.x.dtype, ours.jac.shape) == (theirs.x.shape, theirs.x.dtype, theirs.jac.shape)
    assert ours.fun == rosen(ours.x)
    if jac in (True, rosen_der):
        assert np.array_equal(ours.jac, rosen_der(ours.x))


def seen_by(minimizer, x0, **keywords):
    """What a minimizer hands to fun, and the shape and dtype of its x."""
    seen = []

    def fun(x):
        seen.append((type(x), x.shape, x.dtype, x.tolist()))
        return float(np.sum(x**2))

    res = minimizer(fun, x0, jac=lambda x: 2 * x, **keywords)
    return seen[0], res.x.shape, res.x.dtype


@pytest.mark.parametrize(
    "x0",
    [3.0, 3, [3], (3, 4.5), [True, False], np.array(3.0), np.array([1, 2])],
    ids=repr,
)
def test_x0_is_read_as_l_bfgs_b_reads_it(x0):
    before = copy.deepcopy(x0)
    theirs = seen_by(scipy.optimize.minimize, x0, method="L-BFGS-B")
    assert seen_by(oc.minimize, x0) == theirs
    assert np.array_equal(x0, before)


@pytest.mark.parametrize("dtype", ["f4", "f2", ">f8"])
def test_other_floats_are_minimized_in_float64(dtype):
    x0 = np.array([0.1, 0.7], dtype)
    ours, theirs = seen_by(oc.minimize, x0), seen_by(scipy.optimize.minimize, x0, method="L-BFGS-B")
    assert ours[0][3] == theirs[0][3]
    assert ours[0][2] == ours[2] == np.float64
    assert ours[2].isnative
    assert x0.dtype == dtype


def test_nobody_sees_the_x_that_is_stepped():
    def fun(x):
        kept.append(x)
        value = square(x)
        x[:] = np.nan  # the caller's copy
        return value

    def jac(x):
        g = square_der(x)
        x[:] = np.nan
        return g

    kept, x0 = [], np.array([3.0, -1.0])
    same(run(fun, x0, jac=jac), run(square, x0))
    assert np.array_equal(x0, [3.0, -1.0])
    assert len({id(x) for x in kept}) == len(kept)


@pytest.mark.parametrize("args", [(2.0,), 2.0])
def test_args(args):
    theirs = scipy.optimize.minimize(square, [5.0], args, method="BFGS", jac=square_der)
    # gtol is 1e-5, and the gradient 2 * (x - 2), so that x can be off by half of that.
    assert run(x0=[5.0], args=args).x == pytest.approx(theirs.x, abs=1e-5)
    assert oc.minimize(lambda x, a: (square(x, a), square_der(x, a)), 5.0, args, jac=True, options={"lr": 0.1}).success


def callbacks(log):
    def old(x):
        log.append(("old", type(x), x.dtype, x.shape))
        x[:] = np.nan

    def new(intermediate_result):
        log.append(("new", type(intermediate_result), intermediate_result.keys(), intermediate_result.x.shape))
        assert intermediate_result.fun == rosen(intermediate_result.x)

    def named(*, intermediate_result):
        new(intermediate_result)

    def more(intermediate_result, other=None):  # not the only parameter, so it gets x
        log.append(("old", type(intermediate_result), intermediate_result.dtype, other))

    return old, new, named, more, log.append


@pytest.mark.parametrize("which", range(5))
def test_callbacks_get_what_scipys_get(which):
    ours, theirs = [], []
    res = oc.minimize(rosen, START, jac=rosen_der, callback=callbacks(ours)[which], options={"maxiter": 3})
    peer = scipy.optimize.minimize(rosen, START, jac=rosen_der, method="BFGS", callback=callbacks(theirs)[which])
    assert (len(ours), len(theirs)) == (res.nit, peer.nit)
    if which < 4:
        assert ours[0] == theirs[0]
    else:  # a built-in function
        assert [x.shape for x in ours] == [x.shape for x in theirs[:3]]
        assert len({id(x) for x in ours}) == 3


def test_stop_iteration_stops_as_in_scipy():
    def stop(x):
        calls.append(x)
        if len(calls) == 3:
            raise StopIteration

    calls = []
    theirs = scipy.optimize.minimize(rosen, START, jac=rosen_der, method="BFGS", callback=stop)
    last = calls[-1]
    calls = []
    ours = oc.minimize(rosen, START, jac=rosen_der, callback=stop, options={"returns": "last"})
    assert np.array_equal(theirs.x, last)
    assert np.array_equal(ours.x, calls[-1])
    for key in ("success", "status", "message", "nit"):
        assert ours[key] == theirs[key]


def test_errors_of_the_callback_and_the_function_come_through():
    def broken(x):
        raise ZeroDivisionError

    for keywords in ({"fun": broken}, {"jac": broken}, {"callback": broken}):
        with pytest.raises(ZeroDivisionError):
            run(**keywords)


@pytest.mark.parametrize("value", [np.array([[3.5]]), np.float32(3.5), [3.5], 3, np.int64(3), True])
def test_what_counts_as_a_scalar(value):
    theirs = scipy.optimize.minimize(lambda x: value, [1.0], jac=lambda x: [0.0], method="BFGS")
    ours = oc.minimize(lambda x: value, [1.0], jac=lambda x: [0.0])
    assert ours.fun == theirs.fun
    assert type(ours.fun) is float


@pytest.mark.parametrize("gradient", [[2, 4], (2.0, 4.0), np.array([2, 4]), np.array([2, 4], np.float32)])
def test_gradients_are_converted(gradient):
    for result in (run(jac=lambda x: gradient, maxiter=1), run(lambda x: (1, gradient), jac=True, maxiter=1)):
        assert result.jac.dtype == np.float64
        assert result.jac.tolist() == [2.0, 4.0]
    assert run(x0=[1.0], jac=lambda x: 2.0, maxiter=1).jac.tolist() == [2.0]


def test_a_gradient_may_be_one_buffer_or_x_itself():
    buffer = np.empty(2)
    usual = run()
    same(usual, run(jac=lambda x: np.multiply(x, 2, out=buffer)))
    assert np.shares_memory(buffer, usual.jac) is False
    same(run(lambda x: 0.5 * square(x), jac=lambda x: x), run(lambda x: 0.5 * square(x), jac=lambda x: x.copy()))


# ---------------------------------------------------------------------------- bounds


@pytest.mark.parametrize(
    "bounds",
    [
        [(1.0, 2.0), (None, -2.0)],
        [(1, 2), (-np.inf, -2)],
        np.array([[1.0, 2.0], [-np.inf, -2.0]]),
        Bounds([1.0, -np.inf], [2.0, -2.0]),
        zip([1.0, None], [2.0, -2.0], strict=True),
    ],
    ids=str,
)
def test_bounds_are_scipys(bounds):
    pairs = [(1.0, 2.0), (None, -2.0)]
    theirs = scipy.optimize.minimize(square, [3.0, 3.0], jac=square_der, bounds=pairs, method="L-BFGS-B")
    ours = run(x0=[3.0, 3.0], bounds=bounds)
    assert ours.success
    assert np.array_equal(ours.x, theirs.x)
    assert np.array_equal(ours.jac, theirs.jac)  # as fun has it, though it leads out of the bounds


def test_bounds_for_all_elements():
    for bounds in (Bounds(0.5, np.inf), [(0.5, None)]):
        assert run(x0=[3.0, 4.0, 5.0], bounds=bounds).x.tolist() == [0.5] * 3


def test_a_start_outside_of_the_bounds_is_moved_as_l_bfgs_b_moves_it():
    seen, _, _ = seen_by(oc.minimize, [3.0, 3.0], bounds=[(0, 1), (4, 5)])
    theirs, _, _ = seen_by(scipy.optimize.minimize, [3.0, 3.0], bounds=[(0, 1), (4, 5)], method="L-BFGS-B")
    assert seen == theirs
    assert seen[3] == [1.0, 4.0]


# ---------------------------------------------------------------------------- every method

CURVATURES, MINIMUM = np.array([1.0, 3.0, 10.0]), np.array([1.0, -2.0, 0.5])
SUITED = {
    "gradient_scaled": {"lr": oc.Growing(5e-3, rate=1.0, cap=1e3)},
    "adagrad": {"lr": 1.0},
    "rprop": {},
    "adadelta": {"lr": oc.Cosine(1.0, steps=STEPS), "eps": 1e-3},
    "ftrl": {"lr": 1.0},
    "lars": {"lr": oc.Cosine(1.0, steps=STEPS)},
}
"""Where a rate of 0.1 that falls to 0 suits a rule badly: its own step lengths, or much too small or large a scale."""


def bowl(x):
    return 0.5 * float(np.sum(CURVATURES * (x - MINIMUM) ** 2)), CURVATURES * (x - MINIMUM)


@pytest.mark.parametrize("name", oc.CATALOGUE)
def test_every_method_reaches_the_minimum(name):
    cls = oc.CATALOGUE[name]
    options = SUITED.get(name, {"lr": oc.Cosine(0.05, steps=STEPS)})
    options = {**options, "weight_decay": 0.0, "maxiter": STEPS, "gtol": 1e-6}
    results = [oc.minimize(bowl, [2.0, 1.0, -1.0], jac=True, method=m, options=options) for m in (name, cls)]
    same(*results)
    # A falling rate ends before gtol is met by some rules; the largest element then is what the last rates move.
    assert np.abs(results[0].x - MINIMUM).max() < 1e-3
    assert results[0].fun == bowl(results[0].x)[0]


@pytest.mark.parametrize("name", ["Adam", "ADAM", "adam", oc.Adam])
def test_names_are_found_in_any_case(name):
    same(run(method=name, maxiter=5), run(method="adam", maxiter=5))


# ---------------------------------------------------------------------------- SciPy's door


@pytest.mark.parametrize("name", ["adam", "rprop", "nesterov"])
@pytest.mark.parametrize("jac", [True, rosen_der, None])
@pytest.mark.parametrize("bounds", [None, [(0, 1)] * 5, Bounds(0, 1)])
def test_scipys_door_leads_to_the_same_bits(name, jac, bounds):
    fun = both if jac is True else rosen
    options = {"lr": 1e-4, "maxiter": 30, "history": "x", "averaging": oc.EMA(0.9) if name == "adam" else None}
    ours = oc.minimize(fun, START, (), name, jac, bounds, 1e-3, options=options)
    lr = options.pop("lr")
    method = oc.scipy_method(name, lr=lr, maxiter=7)
    same(ours, scipy.optimize.minimize(fun, START, (), method, jac, bounds=bounds, tol=1e-3, options=options))
    unpickled = pickle.loads(pickle.dumps(method))
    same(ours, scipy.optimize.minimize(fun, START, (), unpickled, jac, bounds=bounds, tol=1e-3, options=options))


def test_schemes_through_scipys_door():
    def wavy(x):
        return np.sum(np.sin(x)) + np.prod(x)

    def minimized(jac):
        return scipy.optimize.minimize(wavy, [0.1, 0.2], method=oc.scipy_method("adam", maxiter=3, jac=jac))

    for jac in SCHEMES:
        same(minimized(jac), oc.minimize(wavy, [0.1, 0.2], jac=jac, options={"maxiter": 3}))
    assert len({minimized(jac).nfev for jac in ("2-point", "3-point")}) == 2


def test_global_methods_can_use_it():
    def fun(x):
        return float(np.cos(14.5 * x[0] - 0.3) + (x[0] + 0.2) * x[0])

    def hops(rng):
        return lambda x: x + rng.uniform(-0.5, 0.5, 1)

    method = oc.scipy_method("nesterov", lr=1e-3, history=False)
    ours, theirs = (
        scipy.optimize.basinhopping(
            fun, [1.0], T=0.0, minimizer_kwargs=kwargs, take_step=hops(np.random.default_rng(0)), niter=50
        )
        for kwargs in ({"method": method}, {"method": "L-BFGS-B"})
    )
    assert ours.x == pytest.approx(theirs.x, abs=1e-5)  # both have gtol = 1e-5, where the curvature is 200


def test_the_door_warns_as_scipys_methods_do():
    method = oc.scipy_method("adam", maxiter=1)
    usual = scipy.optimize.minimize(square, [1.0], method=method)

    def warned(method, **keywords):
        with pytest.warns() as record:
            res = scipy.optimize.minimize(square, [1.0], jac=square_der, method=method, **keywords)
        (warning,) = record
        assert method == "CG" or warning.filename == __file__
        return res, warning.category, str(warning.message)

    for keywords in (
        {"options": {"no_option": 3}},
        {"hess": lambda x: [[2.0]]},
        {"constraints": [{"type": "eq", "fun": square}]},
    ):
        res, category, message = warned(method, **keywords)
        _, *theirs = warned("CG", **keywords)
        assert [category, message.replace("Adam", "CG")] == theirs
        assert np.array_equal(res.x, usual.x)
    with pytest.warns(OptimizeWarning, match="Unknown solver options: no_option"):
        scipy.optimize.minimize(square, [1.0], method=method, options={"no_option": 1, "lr": 0.5})
    with pytest.raises(TypeError, match="maximize is no option of minimize: minimize the negative of fun"):
        scipy.optimize.minimize(square, [1.0], method=method, options={"maximize": True})


# ---------------------------------------------------------------------------- without SciPy

PROGRAM = """
import hashlib, pickle, sys
if {blocked}:
    sys.modules["scipy"] = None
import numpy as np, optcore as oc
def fun(x):
    return np.sum(100.0 * (x[1:] - x[:-1] ** 2.0) ** 2.0 + (1 - x[:-1]) ** 2.0)
total = hashlib.sha256()
for jac in (None, "3-point", "cs"):
    for bounds in (None, [(0, 1)] * 3):
        res = oc.minimize(fun, [1.3, 0.7, 0.8], jac=jac, bounds=bounds, options={{"maxiter": 50, "history": "x"}})
        fields = {{**res, **res.history}}
        fields.pop("history")
        for key in sorted(fields):
            total.update(key.encode() + np.asarray(fields[key]).tobytes())
        again = pickle.loads(pickle.dumps(res))
        assert again.x.tobytes() == res.x.tobytes() and again.history.loss.tobytes() == res.history.loss.tobytes()
print(type(res).__module__, type(res).__name__, "scipy.optimize" in sys.modules, total.hexdigest())
"""


def test_the_same_bits_without_scipy():
    answers = [
        subprocess.check_output(
            [sys.executable, "-W", "error", "-c", PROGRAM.format(blocked=blocked)], text=True
        ).split()
        for blocked in (True, False)
    ]
    assert answers[0][:3] == ["optcore.results", "Result", "False"]
    assert answers[1][1:3] == ["OptimizeResult", "True"]
    assert answers[0][3] == answers[1][3]


def test_the_mapping_that_stands_in_for_scipys():
    fields = {"message": "Two\nlines", "x": np.arange(50.0), "nit": 3}
    ours, theirs = Result(fields), OptimizeResult(fields)
    assert ours == dict(theirs) == fields
    for result in (ours, theirs):
        assert result.nit == result["nit"] == 3
        assert dir(result) == sorted(fields)
        result.nit = 4
        del result.message
        assert result["nit"] == 4
        assert "message" not in result
        with pytest.raises(AttributeError, match="message"):
            _ = result.message
    assert repr(Result()) == "Result()"
    lines = repr(Result(fields)).splitlines()
    assert [line.split(":")[0].strip() for line in lines] == ["message", "lines", "x", "nit"]
    assert len({line.index(":") for line in lines if ":" in line}) == 1
    assert repr(pickle.loads(pickle.dumps(ours))) == repr(ours)


# ---------------------------------------------------------------------------- what is shown


def test_nothing_is_shown_but_on_request(capsys):
    run(maxiter=3)
    assert capsys.readouterr() == ("", "")
    res = run(maxiter=3, disp=True)
    out, err = capsys.readouterr()
    assert out == f"{res.message}\nloss {res.fun:g}, 3 steps, 4 and 4 evaluations\n"
    assert err == ""  # nobody watches


def test_progress_where_somebody_watches(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    run(maxiter=300, disp=1, gtol=None, callback=lambda x: time.sleep(0.002))
    err = capsys.readouterr().err
    assert "/300" in err
    assert "loss " in err
    monkeypatch.setitem(sys.modules, "tqdm", None)
    run(maxiter=300, disp=True, gtol=None)
    out, err = capsys.readouterr()
    assert out.startswith("Maximum number of iterations")
    assert err == ""


# ---------------------------------------------------------------------------- bad input


def test_statuses_have_messages_and_are_documented():
    assert set(MESSAGES) == set(Status)
    rows = [line.split() for line in inspect.getdoc(oc.minimize).splitlines() if "True " in line or "False " in line]
    documented = {int(row[0]): row[1] == "True" for row in rows if row[0].isdigit()}
    assert documented == {int(status): status in SUCCESSES for status in Status}


def test_settings_are_documented_and_no_keywords_of_optimizers():
    names = [field.name for field in dataclasses.fields(Settings)]
    text = inspect.getdoc(oc.minimize)
    for name in names:
        assert f"\n    {name} : " in text
        default = next(field.default for field in dataclasses.fields(Settings) if field.name == name)
        if isinstance(default, (int, float)):
            line = next(line for line in text.splitlines() if line.startswith(f"    {name} : "))
            assert type(default)(eval(line.rpartition("default ")[2])) == default
        for cls in oc.CATALOGUE.values():
            assert name not in cls._keywords()
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().maxiter = 3


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"fun": 3}, TypeError, "fun must be callable, got 3"),
        ({"fun": lambda x: None}, TypeError, "must return a real number, got None"),
        (
            {"fun": both},
            TypeError,
            "the objective function returned a tuple; where it returns the gradient too, jac is",
        ),
        ({"fun": lambda x: "3"}, TypeError, "must return a real number, got '3'"),
        ({"fun": lambda x: np.complex128(1)}, TypeError, "must return a real number, got "),
        ({"fun": lambda x: x}, ValueError, "must return a scalar value, got an array of shape (2,)"),
        ({"jac": True}, TypeError, "with jac=True, fun must return a pair (loss, gradient), got float"),
        ({"jac": "4-point"}, ValueError, "jac must be a function, True, None or one of '2-point', '3-point', 'cs'"),
        ({"jac": 1}, ValueError, "jac must be a function, True"),
        ({"jac": lambda x: x[:1]}, ValueError, "the gradient has shape (1,), but x has shape (2,)"),
        ({"jac": lambda x: [x]}, ValueError, "the gradient has shape (1, 2), but x has shape (2,)"),
        ({"jac": lambda x: 1.0}, ValueError, "the gradient has shape (1,), but x has shape (2,)"),
        ({"jac": lambda x: None}, ValueError, "the gradient has shape (1,)"),
        ({"jac": lambda x: [{}, 3]}, TypeError, "the gradient must be an array of real numbers, got [{}, 3]"),
        ({"jac": lambda x: x + 1j}, TypeError, "the gradient must be an array of real numbers, got dtype complex128"),
        ({"jac": lambda x: ["a", "b"]}, TypeError, "the gradient must be an array of real numbers, got dtype <U1"),
        ({"x0": np.zeros((2, 2))}, ValueError, "x0 must have one dimension, got shape (2, 2); pass x0.ravel()"),
        ({"x0": []}, ValueError, "x0 is empty"),
        ({"x0": [1j]}, TypeError, "x0 must be an array of real numbers, got dtype complex128"),
        ({"x0": "3"}, TypeError, "x0 must be an array of real numbers, got dtype <U1"),
        ({"x0": [0, 1, np.nan]}, ValueError, "x0 must be finite, but element 2 is nan"),
        ({"x0": [-np.inf]}, ValueError, "x0 must be finite, but element 0 is -inf"),
        ({"method": "adm"}, ValueError, "there is no method 'adm'; did you mean 'adam'?"),
        ({"method": "BFGS"}, ValueError, "there is no method 'BFGS'"),
        ({"method": 3}, TypeError, "method must be the name or the class of an optimizer, got 3"),
        ({"method": oc.Optimizer}, TypeError, "method must be the name or the class of an optimizer"),
        ({"method": "momentum"}, TypeError, 'Momentum needs a learning rate: options={"lr": ...}'),
        ({"callback": 3}, TypeError, "callback must be callable, got 3"),
        ({"tol": -1}, ValueError, "tol must be a finite number >= 0, got -1"),
        ({"bounds": 3}, ValueError, "bounds must be a sequence of pairs"),
        ({"bounds": [(0, 1, 2)]}, ValueError, "bounds must be a sequence of pairs"),
        ({"bounds": [("a", 1), (0, 1)]}, ValueError, "bounds must be a sequence of pairs"),
        ({"bounds": [(0, 1)] * 3}, ValueError, "bounds has 3 pairs, but x0 has 2 elements"),
        ({"bounds": [(0, 1), (2, 1)]}, ValueError, "bounds[1] must be (low, high) with low <= high, got (2.0, 1.0)"),
        ({"bounds": [(np.nan, 1), (2, 1)]}, ValueError, "bounds[0] must be (low, high)"),
        ({"lr": -1}, ValueError, "lr must be a finite number >= 0, got -1"),
        ({"learning_rate": 1}, TypeError, "got an unknown option 'learning_rate'; did you mean 'lr'?"),
        ({"max_iter": 1}, TypeError, "minimize with SGD got an unknown option 'max_iter'; did you mean 'maxiter'?"),
        ({"on_nonfinite": "skip"}, TypeError, "on_nonfinite is no option of minimize: a gradient that is not finite"),
        ({"maxiter": 1.5}, TypeError, "maxiter must be an integer, got 1.5"),
        ({"maxiter": -1}, ValueError, "maxiter must be from 0"),
        ({"window": 0}, ValueError, "window must be from 1"),
        ({"gtol": np.nan}, ValueError, "gtol must be a finite number >= 0, got"),
        ({"target": "low"}, TypeError, "target must be a number, got 'low'"),
        ({"max_seconds": -1}, ValueError, "max_seconds must be a finite number >= 0"),
        ({"restart_factor": 1.0}, ValueError, "restart_factor must be above 0 and below 1, got 1.0"),
        ({"returns": "first"}, ValueError, "returns must be one of 'best', 'last', 'averaged', got 'first'"),
        ({"returns": "averaged"}, ValueError, 'returns="averaged" needs averaging='),
        ({"on_interrupt": "go on"}, ValueError, "on_interrupt must be one of 'return', 'raise'"),
        ({"history": "y"}, ValueError, "history must be True, False or \"x\", got 'y'"),
        ({"disp": "yes"}, ValueError, "disp must be True or False, got 'yes'"),
        ({"finite_diff_rel_step": 0}, ValueError, "finite_diff_rel_step must be a finite number > 0, or 2 of them"),
        ({"finite_diff_rel_step": [1e-6] * 3}, ValueError, "finite_diff_rel_step must be"),
    ],
)
def test_bad_input_is_named(arguments, error, message):
    with pytest.raises(error) as caught:
        run(**arguments)
    assert message in str(caught.value)


def test_options_must_be_a_mapping():
    with pytest.raises(TypeError, match="options must be a mapping"):
        oc.minimize(square, [1.0], options=["lr"])


def test_an_option_in_the_wrong_place_is_told_the_right_one():
    with pytest.raises(
        TypeError, match=r'minimize takes lr, maxiter among its options: options=\{"lr": 0.1, "maxiter": 3\}'
    ):
        oc.minimize(square, [1.0], lr=0.1, maxiter=3)


@pytest.mark.parametrize(
    ("fun", "x0"), [(lambda x: x, [1.0, 2.0]), (square, np.zeros((2, 2))), (lambda x: None, [1.0])]
)
def test_errors_have_the_types_of_scipys(fun, x0):
    with pytest.raises((ValueError, TypeError)) as theirs:
        scipy.optimize.minimize(fun, x0, jac=square_der, method="L-BFGS-B")
    with pytest.raises(theirs.type):
        oc.minimize(fun, x0, jac=square_der)


def test_scipy_method_checks_at_once():
    for arguments, message in (({"ltr": 1}, "unknown option 'ltr'"), ({"bounds": 1}, "give bounds to minimize itself")):
        with pytest.raises(TypeError, match=message):
            oc.scipy_method("adam", **arguments)
    with pytest.raises(ValueError, match="there is no method 'adm'"):
        oc.scipy_method("adm")


def test_an_interruption_ends_the_loop_around_it_as_well():
    def fun(x):
        signal.raise_signal(signal.SIGINT)
        return square(x)

    with pytest.raises(KeyboardInterrupt):
        scipy.optimize.basinhopping(fun, [1.0, 2.0], minimizer_kwargs={"method": oc.scipy_method("adam")}, niter=3)


def test_float32_losses_of_any_kind_have_steps_of_their_own():
    """Or every difference would be lost in their roundings."""
    for kind in (
        lambda loss: np.float32(loss),
        lambda loss: [np.float32(loss)],
        lambda loss: np.array([loss], np.float32),
    ):
        res = oc.minimize(lambda x, kind=kind: kind(square(x)), [3.0, -1.0], options={"maxiter": 3, "lr": 0.1})
        assert res.nit == 3
        assert np.abs(res.jac).min() > 0


@pytest.mark.parametrize("bad", [(np.inf, np.inf), (-np.inf, -np.inf)])
def test_bounds_leave_something(bad):
    with pytest.raises(ValueError, match=r"bounds\[0\] must be"):
        oc.minimize(square, [3.0], bounds=[bad])
