"""Finite differences beside SciPy's, and `oc.check_grad`."""

import math
import pickle

import numpy as np
import pytest
import scipy.optimize
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import rosen, rosen_der
from scipy.optimize._numdiff import approx_derivative
from test_minimize import both, run, square, square_der

import optcore as oc
from optcore.finite_differences import SCHEMES, Objective, differences

# ---------------------------------------------------------------------------- finite differences

POINT = np.array([1.3, 0.7, 2.0, -0.4])
NUMBERS = st.one_of(st.just(0.0), st.floats(1e-9, 1e5), st.floats(-1e5, -1e-9))


def wavy(x):
    return np.sum(np.sin(x) * np.arange(1, len(x) + 1)) + np.prod(x**2)


@pytest.mark.parametrize("scheme", SCHEMES)
@given(data=st.data(), x=st.lists(NUMBERS, min_size=1, max_size=4), rel_step=st.sampled_from([None, 1e-7]))
def test_finite_differences_have_scipys_bits_and_stay_within_the_bounds(scheme, data, x, rel_step):
    x = np.array(x)
    distances = st.lists(
        st.one_of(st.just(np.inf), st.floats(1e-14, 1.0)), min_size=len(x), max_size=len(x)
    ).map(np.array)  # fmt: skip
    lower, upper = x - data.draw(distances), x + data.draw(distances)
    seen = []

    def fun(z):
        seen.append(z.copy())
        return complex(wavy(z)) if scheme == "cs" else float(wavy(z))

    if np.any(lower == upper):  # so near to a large x that nothing lies between
        return
    ours = differences(fun, x, float(wavy(x)), scheme, lower, upper, rel_step)
    for z in seen:
        assert np.all(z.real >= lower)
        assert np.all(z.real <= upper)
    with np.errstate(all="ignore"):
        theirs = approx_derivative(wavy, x, scheme, rel_step=rel_step, bounds=(lower, upper))
        outside = []
        approx_derivative(lambda z: outside.append(z) or wavy(z), x, scheme, rel_step=rel_step, bounds=(lower, upper))
    # SciPy's points can be beyond a bound by a rounding; ours then are on it, and the quotient is another one.
    if all(np.all((z.real >= lower) & (z.real <= upper)) for z in outside):
        assert ours.tobytes() == theirs.tobytes()
    ours = differences(fun, x, float(wavy(x)), scheme, rel_step=rel_step)
    assert ours.tobytes() == approx_derivative(wavy, x, scheme, rel_step=rel_step).tobytes()


@pytest.mark.parametrize("scheme", ["2-point", "3-point"])
def test_points_beside_a_bound_are_not_rounded_beyond_it(scheme):
    # Nearer to each other than a step is long, and of other magnitudes, so that distances are rounded.
    lower, x, upper = np.sort(np.random.default_rng(0).uniform(-1e-8, 1e-8, (3, 1000)), axis=0)

    def fun(z):
        assert np.all(z >= lower)
        assert np.all(z <= upper)
        return 0.0

    differences(fun, x, 0.0, scheme, lower, upper)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_step_and_a_function_that_overwrites_x(scheme):
    def fun(x):
        value = wavy(x)
        x[:] = np.nan
        return value

    options = {"finite_diff_rel_step": 1e-4, "maxiter": 0}
    ours = oc.minimize(fun, POINT, jac=scheme, options=options)
    theirs = scipy.optimize.minimize(wavy, POINT, jac=scheme, method="BFGS", options=options)
    assert ours.jac.tobytes() == theirs.jac.tobytes()
    assert ours.jac.tobytes() != oc.minimize(fun, POINT, jac=scheme, options={"maxiter": 0}).jac.tobytes()


@pytest.mark.parametrize("jac", [None, False, *SCHEMES])
def test_the_first_gradient_is_that_of_bfgs(jac):
    # SciPy's None has an absolute step; "2-point" has a relative one, as ours.
    ours = oc.minimize(wavy, POINT, jac=jac, options={"maxiter": 0})
    theirs = scipy.optimize.minimize(wavy, POINT, jac=jac or "2-point", method="BFGS", options={"maxiter": 0})
    assert ours.jac.tobytes() == theirs.jac.tobytes()
    assert (ours.nfev, ours.njev, ours.nit) == (theirs.nfev, theirs.njev, 0)


@pytest.mark.parametrize("scheme", ["2-point", "3-point"])
def test_steps_are_longer_for_a_function_in_float32(scheme):
    def fun(x):
        return np.float32(wavy(x))

    ours = oc.minimize(fun, POINT, jac=scheme, options={"maxiter": 0})
    if int(np.__version__.split(".")[0]) >= 2:  # before, a power of a float32 was a float64
        assert ours.jac.tobytes() == approx_derivative(fun, POINT, scheme).tobytes()
    # Half of 7 digits, and of a step for float64 nothing would be left.
    assert ours.jac == pytest.approx(wavy_der(POINT), rel=0.01)


@pytest.mark.parametrize("jac", [None, "2-point", "3-point", "cs"])
def test_finite_differences_at_the_bounds(jac):
    def fun(x):  # not even defined below 0 and above 1
        assert np.all(x.real >= 0)
        assert np.all(x.real <= 1)
        assert x[2].real == 0.5
        return np.sum((x - [2.0, -1.0, 0.0, 0.25]) ** 2)

    res = run(fun, [0.3, 0.4, 0.5, 0.6], jac=jac, bounds=[(0, 1), (0, 1), (0.5, 0.5), (0, 1)])
    assert res.success
    assert res.x[:3].tolist() == [1.0, 0.0, 0.5]
    assert res.x[3] == pytest.approx(0.25, abs=1e-5)  # gtol, and the error of forward differences


# ---------------------------------------------------------------------------- check_grad


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("point", [POINT, np.ones(4), np.zeros(4), 1e6 * POINT, 1e-6 * POINT], ids=str)
def test_a_right_gradient_passes(scheme, point):
    for fun, jac in ((rosen, rosen_der), (both, True), (lambda x: wavy(x) + 1e3, wavy_der)):
        if scheme == "cs" and jac is True:
            continue  # rosen_der with complex numbers beside it is no pair of real numbers
        check = oc.check_grad(fun, jac, point, scheme=scheme)
        assert check.ok, check
        assert repr(check).startswith("gradient ok in all 4 elements")


def wavy_der(x):
    return np.cos(x) * np.arange(1, len(x) + 1) + [2 * v * np.prod(np.delete(x, i) ** 2) for i, v in enumerate(x)]


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("index", range(4))
@pytest.mark.parametrize("factor", [-1.0, 0.0, 1 + 1e-4, np.nan, np.inf])
def test_the_wrong_element_is_named(scheme, index, factor):
    right = wavy_der(POINT)
    jac = right.copy()
    jac[index] *= factor
    check = oc.check_grad(wavy, lambda x: jac, POINT, scheme=scheme)
    assert (check.ok, check.index) == (False, index)
    assert np.array_equal(check.analytic, jac[index], equal_nan=True)
    assert check.numeric == pytest.approx(right[index], rel=1e-6)  # forward differences have half of 16 digits
    assert np.array_equal(check.max_error, abs(check.analytic - check.numeric), equal_nan=True)
    assert f"gradient WRONG in 1 of 4 elements; worst is element {index}: jac says " in repr(check)


def test_it_is_the_number_that_scipys_is():
    doubled = oc.check_grad(rosen, lambda x: 2 * rosen_der(x), POINT)
    theirs = scipy.optimize.check_grad(rosen, lambda x: 2 * rosen_der(x), POINT)
    assert float(doubled) == pytest.approx(theirs, rel=1e-7)  # SciPy's forward differences are off by that
    assert isinstance(doubled, float)
    assert doubled > 1.0
    assert float(doubled) == np.linalg.norm(doubled.errors)
    centers = [3.0, 4.0]
    assert oc.check_grad(square, square_der, [1.0, 2.0], centers).ok  # further arguments as in SciPy
    with pytest.raises(TypeError, match="neither true nor false"):
        bool(doubled)
    again = pickle.loads(pickle.dumps(doubled))
    assert (repr(again), float(again)) == (repr(doubled), float(doubled))


def test_the_complex_step_sees_what_differences_cannot():
    def nearly(x):
        return rosen_der(x) * (1 + 1e-11)

    assert oc.check_grad(rosen, nearly, POINT, rtol=1e-12).ok
    assert not oc.check_grad(rosen, nearly, POINT, rtol=1e-12, scheme="cs").ok
    assert oc.check_grad(rosen, rosen_der, POINT, rtol=1e-12, scheme="cs").ok


def test_functions_in_float32_are_checked_with_longer_steps():
    def fun(x):
        return np.float32(np.sum(np.exp(x.astype(np.float32))))

    assert oc.check_grad(fun, np.exp, POINT, rtol=1e-3).ok
    assert not oc.check_grad(fun, lambda x: 1.1 * np.exp(x), POINT, rtol=1e-3).ok


def test_a_point_at_the_rim():
    def log(x):
        return math.log(x[0]) if x[0] > 0 else math.nan

    check = oc.check_grad(log, lambda x: 1 / x, [1e-7])
    assert (check.ok, math.isnan(check.numeric)) == (False, True)
    assert oc.check_grad(log, lambda x: 1 / x, [1e-7], rel_step=1e-3).ok
    with pytest.raises(ValueError, match=r"fun\(x\) is nan; a gradient can be checked where the function is finite"):
        oc.check_grad(log, lambda x: 1 / x, [-1.0])


@pytest.mark.parametrize(
    ("keywords", "error", "message"),
    [
        ({"scheme": "4-point"}, ValueError, "scheme must be one of"),
        ({"rtol": -1}, ValueError, "rtol must be"),
        ({"rel_step": -1.0}, ValueError, "rel_step must be a finite number > 0, or 4 of them, got -1.0"),
        ({"jac": "3-point"}, TypeError, "jac must be a function or True"),
        ({"x": np.ones((2, 2))}, ValueError, "x must have one dimension"),
    ],
)
def test_bad_input_of_check_grad(keywords, error, message):
    keywords = {"jac": rosen_der, "x": POINT, **keywords}
    with pytest.raises(error) as caught:
        oc.check_grad(rosen, **keywords)
    assert message in str(caught.value)


def test_evaluations_are_counted():
    objective, g = Objective(wavy, "3-point"), np.empty(4)
    objective(POINT, g)
    assert (objective.nfev, objective.njev) == (9, 1)
