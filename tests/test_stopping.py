"""The loop of `oc.minimize` beside loops written by hand: what it writes down, and when and where it ends."""

import inspect
import itertools
import math
import signal
import sys
import time

import numpy as np
import pytest
import scipy.optimize
from scipy.optimize import Bounds, rosen, rosen_der
from test_minimize import START, both, run, same, square, square_der

import optcore as oc
from optcore._descent import Descent
from optcore._minimize import Run
from optcore.finite_differences import Objective
from optcore.stopping import MESSAGES, Settings, Status

# ---------------------------------------------------------------------------- the loop


def by_hand(name, fun, x0, steps, bounds=None, **options):
    """Losses, points and gradients of the loop that anybody would write; and its optimizer."""
    x, rows = np.array(x0), []
    opt = oc.CATALOGUE[name](x, **options, **({} if bounds is None else {"bounds": bounds}))
    for step in range(steps + 1):
        loss, g = fun(x)
        rows.append((loss, x.copy(), g))
        if step < steps:
            opt.step(g)
    return rows, opt


CASES = [
    *((name, {"lr": 1e-4}) for name in oc.CATALOGUE),
    ("adam", {"lr": oc.Warmup(5, oc.Cosine(0.02, steps=50)), "clip_norm": 1.0, "averaging": oc.EMA(0.9)}),
    ("adamw", {"lr": lambda t: 0.01 / (t + 1), "betas": (oc.Linear(0.5, 0.9, steps=9), 0.99)}),
    ("velocity", {"lr": 1e-3, "weight_decay": 0.1, "clip_value": 0.5, "averaging": oc.Polyak()}),
]


@pytest.mark.parametrize(("name", "options"), CASES, ids=lambda case: case if isinstance(case, str) else "")
def test_the_loop_is_the_one_written_by_hand(name, options):
    steps = 300  # more than the history has room for at first
    bounds, pairs, projected = None, None, lambda points, gradients: gradients
    if "bounds" in oc.CATALOGUE[name]._keywords():
        bounds = (np.array([-2.0, -2.0, 0.9]), np.array([2.0, 2.0, 2.0]))
        pairs, projected = Bounds(*bounds), lambda x, g: np.clip(g, x - bounds[1], x - bounds[0])
    settings = {**options, "maxiter": steps, "gtol": None, "history": "x"}
    res = oc.minimize(both, [1.3, 0.7, 0.9], jac=True, method=name, bounds=pairs, options=settings)
    rows, opt = by_hand(name, both, [1.3, 0.7, 0.9], steps, bounds, **options)
    losses, points, gradients = (np.array(column) for column in zip(*rows, strict=True))
    history = res.history
    assert list(history) == ["step", "loss", "gradient_norm", "lr", "x"]
    assert history.step.tolist() == list(range(steps + 1))
    assert history.loss.tobytes() == losses.tobytes()
    assert history.x.tobytes() == points.tobytes()
    assert history.gradient_norm.tobytes() == np.abs(projected(points, gradients)).max(axis=1).tobytes()
    lr = options["lr"]
    assert history.lr[1:].tolist() == [lr(t) if callable(lr) else lr for t in range(steps)]
    assert math.isnan(history.lr[0])
    best = int(np.argmin(losses))
    try:
        average = opt.averaged()
    except ValueError:
        assert res.x.tobytes() == points[best].tobytes()
        assert res.jac.tobytes() == gradients[best].tobytes()
        assert res.nfev == res.njev == steps + 1
    else:
        assert res.x.tobytes() == average.tobytes()
        assert res.nfev == res.njev == steps + 2
    assert (res.fun, res.jac.tobytes()) == (both(res.x)[0], both(res.x)[1].tobytes())
    assert (res.nit, res.status) == (steps, Status.MAXITER)


@pytest.mark.parametrize(
    "make", [lambda: oc.Plateau(0.5, factor=0.5, patience=2, threshold=0.2), lambda: oc.BackOff(0.5)]
)
def test_a_rate_that_follows_the_loss_is_updated(make):
    given, rate, x = make(), make(), np.array(START)
    res = oc.minimize(both, START, jac=True, method="adam", options={"lr": given, "maxiter": 100, "history": "x"})
    opt, rates = oc.Adam(x, lr=rate), [np.nan]
    for row in res.history.x:
        assert np.array_equal(row, x)
        rates.append(rate.update(both(x)[0]))
        opt.step(both(x)[1])
    assert np.array_equal(res.history.lr, rates[:-1], equal_nan=True)
    assert len(set(rates)) > 4  # it did fall
    assert given.state_dict() == make().state_dict()


def test_a_function_of_time_is_called_once_a_step():
    times = []
    run(lr=lambda t: times.append(t) or 0.1, maxiter=20, gtol=None)
    assert times == list(range(20))


def test_the_history_can_be_left_out():
    usual, short = run(maxiter=5), run(maxiter=5, history=False)
    assert "history" not in short
    assert "x" not in usual.history
    usual.pop("history")
    same(usual, short)


def test_the_arrays_of_the_history_double():
    x, g, lengths = np.zeros(2), np.zeros(2), set()
    points = Descent(x, g, None, Settings(history="x"), False)
    for k in range(2000):
        x[:], g[:] = (k, -k), k + 1
        points.observe(k, k + 2)
        lengths.add(len(points.columns["loss"]))
    assert lengths == {256, 512, 1024, 2048}
    columns = points.history()
    for column, first in (("step", 0), ("loss", 0), ("gradient_norm", 1), ("lr", 2)):
        assert np.array_equal(columns[column], np.arange(first, first + 2000))
    assert np.array_equal(columns["x"], np.outer(np.arange(2000), [1, -1]))
    assert all(column.base is None for column in columns.values())  # the empty rows are given back


# ---------------------------------------------------------------------------- stopping


def test_gtol_is_the_largest_element_of_the_gradient():
    # x is multiplied by 1 - 2 * 0.25 = 0.5 in each step, without rounding: the gradient is 2 * 0.5 ** k.
    for k in range(20):
        for options in ({"gtol": 2 * 0.5**k}, {"tol": 2 * 0.5**k}, {"tol": 1.0, "gtol": 2 * 0.5**k}):
            res = run(x0=[1.0, -0.25], lr=0.25, **options)
            assert (res.nit, res.status, res.success) == (k, Status.GRADIENT, True)
            assert np.abs(res.jac).max() == 2 * 0.5**k
    assert run(x0=[1.0], lr=0.5, gtol=0.0).nit == 1
    assert run(x0=[0.0], gtol=None, maxiter=7).nit == 7


def test_target():
    for k in range(20):
        res = run(x0=[1.0], lr=0.25, target=0.25**k, gtol=None)
        assert (res.nit, res.fun, res.status, res.success) == (k, 0.25**k, Status.TARGET, True)


def test_xtol_waits_for_a_window_of_small_steps():
    # Step k moves x by 0.5 ** k; the first that is within xtol is the fifth.
    for window in (1, 3):
        res = run(x0=[1.0], lr=0.25, xtol=0.5**5, window=window)
        assert (res.nit, res.status, res.success) == (4 + window, Status.STEP, True)
    far = run(x0=[1023.0], args=1024.0, lr=0.25, xtol=1.01 * 2.0**-15, window=1)
    assert far.nit == 5  # x is about 2 ** 10
    # Where iRprop- turns round, one step of length 0 comes between long ones.
    turning = run(x0=[1.0], method="rprop", lr=0.75, xtol=0.0, gtol=None, maxiter=30, history="x")
    assert np.any(np.diff(turning.history.x[:, 0]) == 0)
    assert turning.status == Status.MAXITER


def losses_in_turn(losses):
    losses = iter(losses)
    return lambda x: (next(losses), np.ones(1))


def test_ftol_counts_steps_without_improvement():
    falling, flat = [8.0, 4.0, 2.0], [2.0, 3.0, 2.0, 2.0]
    for window in (1, 2, 3, 4):
        res = oc.minimize(losses_in_turn([*falling, *flat]), 0.0, jac=True, options={"ftol": 0.0, "window": window})
        assert (res.nit, res.status, res.success, res.fun) == (2 + window, Status.LOSS, True, 2.0)
    # A fall of a third of the limit in each step counts when it has added up.
    slow = [1 - 0.125 * k / 3 for k in range(24)]
    res = oc.minimize(losses_in_turn(slow), 0.0, jac=True, options={"ftol": 0.125, "window": 4, "maxiter": 23})
    assert res.status == Status.MAXITER
    res = oc.minimize(losses_in_turn(slow), 0.0, jac=True, options={"ftol": 0.125, "window": 3, "maxiter": 23})
    assert (res.status, res.nit) == (Status.LOSS, 3)
    large = [1000.0 - k for k in range(50)]  # relative to the loss
    res = oc.minimize(losses_in_turn(large), 0.0, jac=True, options={"ftol": 0.01, "window": 2})
    assert (res.status, res.nit) == (Status.LOSS, 2)


@pytest.mark.parametrize("maxiter", [0, 1, 7])
def test_maxiter_is_no_success(maxiter):
    res = run(maxiter=maxiter, gtol=None)
    peer = scipy.optimize.minimize(rosen, START, jac=rosen_der, method="BFGS", options={"maxiter": maxiter})
    assert (res.status, res.success, res.nit) == (peer.status, peer.success, peer.nit) == (1, False, maxiter)


def test_max_seconds(monkeypatch):
    clock = itertools.count()
    monkeypatch.setattr(time, "perf_counter", lambda: float(next(clock)))
    res = run(max_seconds=5.0, gtol=None)
    # One look at the clock at the beginning, and one at every point.
    assert (res.status, res.success, res.nit) == (Status.TIME, False, 4)


def test_the_order_of_the_tests():
    reasons = {
        Status.TARGET: {"target": 1.0},
        Status.GRADIENT: {"gtol": 1.0},
        Status.STEP: {"xtol": 1.0},
        Status.LOSS: {"ftol": 1.0},
        Status.MAXITER: {"maxiter": 1},
    }
    order = list(reasons)
    for first in range(len(order)):
        limits = {"gtol": None, "window": 1}
        for status in order[first:]:
            limits.update(reasons[status])
        points = Descent(np.ones(1), np.ones(1), None, Settings(**limits), False)
        for _ in range(2):
            points.observe(1.0, 0.1)
            status = points.decide()
        assert status == order[first]
    assert run(maxiter=1, max_seconds=0.0, x0=[1e9]).status == Status.TIME  # it is over before the first step
    assert run(maxiter=0, max_seconds=0.0, x0=[1e9]).status == Status.MAXITER


def test_the_point_that_met_the_test_is_returned():
    # The gradient is within gtol at 0, the loss is lowest at the start.
    res = run(lambda x: -square(x), [0.5], jac=square_der, lr=0.25)
    assert res.success
    assert abs(res.jac[0]) <= 1e-5
    assert run(lambda x: -square(x), [0.5], jac=square_der, lr=0.25, returns="best").x == 0.5


def test_which_point_is_returned():
    common = {"lr": 0.9, "maxiter": 5, "gtol": None, "history": "x", "averaging": oc.Polyak()}
    noisy = [5.0, 1.0, 3.0, 2.0, 4.0, 3.0]
    points = {
        returns: oc.minimize(
            losses_in_turn([*noisy, 0.5]), 0.0, method="sgd", jac=True, options={**common, "returns": returns}
        )
        for returns in (None, "best", "last", "averaged")
    }
    path = points["best"].history.x
    assert points["best"].x == path[1]
    assert points["last"].x == path[5]
    # Rounded five times, each by half a unit at most.
    assert points["averaged"].x == pytest.approx(path[1:].mean(), rel=5e-16)
    same(points[None], points["averaged"])
    assert {key: res.fun for key, res in points.items()} == {None: 0.5, "best": 1.0, "last": 3.0, "averaged": 0.5}
    assert {key: res.nfev for key, res in points.items()} == {None: 7, "best": 6, "last": 6, "averaged": 7}


def test_of_equal_losses_the_first_is_returned():
    res = oc.minimize(losses_in_turn([2.0, 1.0, 1.0, 1.0]), 0.0, jac=True, options={"maxiter": 3, "history": "x"})
    assert res.x == res.history.x[1]


@pytest.mark.parametrize("averaging", [oc.EMA(0.9), oc.Polyak()])
def test_averages_without_a_step_or_beside_the_bounds(averaging):
    assert run(averaging=averaging, maxiter=0).x.tolist() == [3.0, -1.0]
    bounds = np.random.default_rng(0).uniform(0.1, 1.0, 100)  # of some, averages are off by a rounding
    res = run(x0=bounds, bounds=[(bound, None) for bound in bounds], averaging=averaging, gtol=None, maxiter=30)
    assert np.array_equal(res.x, bounds)


@pytest.mark.parametrize("bad", [(math.nan, np.ones(1)), (0.0, np.array([np.nan]))])
def test_an_average_that_cannot_be_evaluated_is_not_returned(bad):
    points = iter([(3.0, np.ones(1)), (1.0, np.ones(1)), (2.0, np.ones(1)), bad])
    options = {"maxiter": 2, "averaging": oc.Polyak(), "history": "x"}
    res = oc.minimize(lambda x: next(points), 0.0, jac=True, options=options)
    assert (res.fun, res.x, res.nfev) == (1.0, res.history.x[1], 4)


# ---------------------------------------------------------------------------- divergence


def nan_gradient(x):
    return square(x), square_der(x) * (np.nan if x[0] < 2 else 1.0)


def infinite_gradient(x):
    return square(x), np.array([1.0, -np.inf if x[0] < 2 else 1.0])


def infinite_loss(x):
    return (math.inf if x[0] < 2 else square(x)), square_der(x)


def nan_loss(x):
    return (math.nan if x[0] < 2 else square(x)), square_der(x)


BREAKING = [
    (nan_gradient, "element 0 of the gradient is nan"),
    (infinite_gradient, "element 1 of the gradient is -inf"),
    (infinite_loss, "the loss is inf"),
    (nan_loss, "the loss is nan"),
]


@pytest.mark.parametrize(("fun", "reason"), BREAKING)
@pytest.mark.parametrize("returns", [None, "best", "last"])
def test_what_is_not_finite_ends_the_run(fun, reason, returns):
    res = oc.minimize(fun, [3.0, -1.0], jac=True, method="sgd",
                      options={"lr": 0.05, "returns": returns, "history": "x", "averaging": None})  # fmt: skip
    step = res.nit
    assert (res.status, res.success) == (Status.DIVERGED, False)
    assert res.message == MESSAGES[Status.DIVERGED].format(step=step, reason=reason)
    assert res.history.x[step - 1, 0] >= 2 > res.history.x[step, 0]
    assert np.array_equal(res.x, res.history.x[step - 1])
    assert res.fun == res.history.loss[step - 1]
    assert np.isfinite(res.jac).all()
    assert not np.isfinite(res.history.gradient_norm[step])
    assert res.nfev == step + 1
    assert res.njev == res.nfev - ("loss" in reason)  # where the loss is not finite, the gradient is not asked for


def test_a_growing_loss_ends_the_run():
    usual = run(lr=1.5, maxiter=10_000)  # each step doubles x
    assert (usual.status, usual.x.tolist()) == (Status.DIVERGED, [3.0, -1.0])
    assert np.isfinite(usual.fun)
    assert not np.isfinite(usual.history.loss[-1])
    assert np.isfinite(usual.history.loss[:-1]).all()
    last = run(lr=1.5, divergence=1e6, returns="last")
    assert last.message == MESSAGES[Status.DIVERGED].format(
        step=last.nit, reason=f"the loss is {last.history.loss[-1]:g}, above divergence=1e+06"
    )
    assert last.fun == last.history.loss[-2] <= 1e6 < last.history.loss[-1]


def test_a_step_into_infinity_is_not_evaluated():
    def constant(x):
        assert np.isfinite(x).all()
        return 1.0, np.array([1e300])

    res = oc.minimize(constant, 1.0, jac=True, method="sgd", options={"lr": 1e300, "averaging": oc.EMA(0.9)})
    assert (res.status, res.nit, res.nfev, res.x.tolist()) == (Status.DIVERGED, 1, 1, [1.0])
    assert "x is not finite" in res.message


@pytest.mark.parametrize(("fun", "reason"), BREAKING)
@pytest.mark.parametrize("options", [{}, {"restarts": 3}, {"averaging": oc.Polyak()}, {"returns": "last"}])
def test_a_bad_start_is_said_to_be_one(fun, reason, options):
    res = oc.minimize(fun, [1.0, 2.0], jac=True, options=options)
    assert (res.status, res.success, res.nit, res.nfev) == (Status.START, False, 0, 1)
    assert res.message == f"There is no way to start: at x0, {reason}."
    assert res.x.tolist() == [1.0, 2.0]


def test_bounds_do_not_hide_an_infinite_gradient():
    res = oc.minimize(infinite_gradient, [3.0, -1.0], jac=True, bounds=[(0, 5)] * 2, options={"lr": 0.05})
    assert res.status == Status.DIVERGED
    assert "element 1 of the gradient is -inf" in res.message


def test_a_start_above_the_bound_of_the_loss():
    assert run(divergence=10.0).success
    res = run(divergence=1.0)
    assert (res.status, res.nit, res.x.tolist(), res.fun) == (Status.DIVERGED, 0, [3.0, -1.0], 10.0)


@pytest.mark.parametrize(
    "lr", [10.0, oc.Constant(10.0), lambda t: 10.0, oc.Plateau(10.0), oc.BackOff(10.0, factor=0.99)], ids=str
)
def test_restarts_with_a_smaller_rate(lr):
    res = run(lr=lr, restarts=3, restart_factor=0.25, divergence=1e12, history="x")
    assert (res.success, res.restarts) == (True, 2)  # 10 and 2.5 are above the limit of 1, 0.625 below
    diverged = np.flatnonzero(res.history.loss > 1e12)
    assert len(diverged) == 2
    for number, k in enumerate(diverged, 1):
        g = square_der(res.history.x[np.argmin(res.history.loss[:k])])
        best = res.history.x[np.argmin(res.history.loss[:k])]
        if not isinstance(lr, oc.BackOff):
            assert res.history.lr[k + 1] == 10.0 * 0.25**number
        assert np.array_equal(res.history.x[k + 1], best - res.history.lr[k + 1] * g)
    assert (res.nfev, len(res.history.step)) == (res.nit + 1, res.nit + 1)


def test_restarts_have_an_end():
    never = run(nan_gradient, jac=True, lr=0.05, restarts=3)
    assert (never.status, never.restarts) == (Status.DIVERGED, 3)
    for maxiter in range(12):
        assert run(lr=1e200, restarts=5, maxiter=maxiter, gtol=None).nit <= maxiter
    restarted = run(lr=10.0, restarts=1, restart_factor=0.01, divergence=1e3, method="adam")
    assert restarted.success  # with moments that begin at zero


def test_a_restart_goes_on_from_the_best_point():
    common = {"restarts": 1, "gtol": None, "lr": 1.0}
    again = losses_in_turn([5.0, 1.0, 3.0, math.inf, math.inf])
    assert oc.minimize(again, 0.0, jac=True, method="sgd", options={**common, "returns": "last"}).fun == 1.0
    # Steps without improvement are counted anew: 3 of 4, and 4 of 4.
    flat = losses_in_turn([3.0] * 4 + [math.inf] + [3.0] * 4)
    res = oc.minimize(flat, 0.0, jac=True, method="sgd", options={**common, "ftol": 0.0, "window": 4})
    assert (res.status, res.nit) == (Status.LOSS, 8)
    # A rate that follows the loss is told of the point gone back to, and finds the next one worse.
    losses = losses_in_turn([1.0, math.inf, 2.0, 3.0])
    options = {**common, "lr": oc.BackOff(1.0, factor=0.5), "restart_factor": 0.25, "maxiter": 3}
    res = oc.minimize(losses, 0.0, jac=True, method="sgd", options=options)
    assert res.history.lr[1:].tolist() == [1.0, 0.25, 0.125]


# ---------------------------------------------------------------------------- interruptions


def interrupting(calls):
    """A function that gets Ctrl-C at its n-th call, and the points where it was called before."""
    points = []

    def fun(x):
        if len(points) == calls:
            signal.raise_signal(signal.SIGINT)
        points.append(x)
        return both(x)

    return fun, points


def test_an_interruption_returns_the_best_so_far():
    for calls in (1, 2, 30):
        fun, points = interrupting(calls)
        res = oc.minimize(fun, START, jac=True, options={"lr": 0.5, "averaging": oc.EMA(0.9)})
        assert (res.status, res.success, res.nit) == (Status.INTERRUPTED, False, calls - 1)
        best = min(points, key=rosen)
        assert np.array_equal(res.x, best)
        assert np.array_equal(res.jac, rosen_der(best))
        assert res.history.loss.tolist() == [rosen(point) for point in points]


def test_an_interruption_may_be_wanted():
    fun, _ = interrupting(0)
    with pytest.raises(KeyboardInterrupt):  # there is nothing to return
        oc.minimize(fun, START, jac=True)
    fun, _ = interrupting(5)
    with pytest.raises(KeyboardInterrupt):
        oc.minimize(fun, START, jac=True, options={"on_interrupt": "raise"})


@pytest.mark.parametrize("options", [{}, {"returns": "last", "xtol": 0.0}, {"averaging": oc.Polyak()}, {"restarts": 1}])
def test_an_interruption_at_any_line_leaves_a_whole_point(options):
    options = {"lr": 1e-4, "maxiter": 3, "history": "x", **options}
    if "restarts" in options:
        options.update(lr=10.0, divergence=1e3)
    classes = (Run, Objective)
    inside = {f.__code__ for cls in classes for f in vars(cls).values() if inspect.isfunction(f)}

    def interrupted(line):
        """The result where Ctrl-C comes before the line that is run as that number in the loop."""
        count, running = itertools.count(), False

        def trace(frame, event, argument):
            nonlocal running
            if frame.f_code is Run.go.__code__:
                running = event != "return"
            if event == "line" and running and next(count) == line:
                raise KeyboardInterrupt
            return trace if frame.f_code in inside else None

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            return oc.minimize(both, START, jac=True, method="sgd", options=options)
        finally:
            sys.settrace(before)

    statuses = []
    for line in itertools.count():
        try:
            res = interrupted(line)
        except KeyboardInterrupt:  # before there is a point
            assert not statuses
            continue
        statuses.append(res.status)
        rows = res.history
        assert len(rows.step) == len(rows.loss) == len(rows.x) == res.nit + 1
        assert rows.loss[:-1].tolist() == [rosen(x) for x in rows.x[:-1]]
        assert (res.fun, res.jac.tobytes()) == (rosen(res.x), rosen_der(res.x).tobytes())
        if res.status != Status.INTERRUPTED:
            break
        finite = np.where(rows.loss > 1e3, np.inf, rows.loss)  # beyond, it diverged
        judged = finite if len(finite) == 1 else finite[:-1]  # the last row may not have been
        assert res.fun in ([finite[-1], judged[-1]] if "returns" in options else [finite.min(), judged.min()])
    assert len(statuses) > 50
    same(res, oc.minimize(both, START, jac=True, method="sgd", options=options))
