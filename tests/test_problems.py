"""Functions to try optimizers on: their values, gradients and answers are exact, and what is said of them is true."""

from __future__ import annotations

import hashlib
import inspect
import itertools
import math
import re
from pathlib import Path

import numpy as np
import pytest
import sympy
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import rosen, rosen_der

import optcore as oc
from optcore import problems
from optcore.problems import PROBLEMS, from_expression

PAGE = Path(__file__).parents[1] / "docs" / "problems.md"
MAKERS = [name for name in problems.__all__ if name.islower()]

# ---------------------------------------------------------------------------- values, gradients, answers

FORMULAS = {
    "parabola": "2*x**2 - 2*x + 3",
    "double_well": "x**4 - 4*x**2",
    "himmelblau": "(x**2 + y - 11)**2 + (x + y**2 - 7)**2",
    "booth": "(x + 2*y - 7)**2 + (2*x + y - 5)**2",
    "ravine": "2*(x1 - 1)**2 + (x2 - 2)**2/10",
    "three_halves": "2*Abs(x)**Rational(3, 2)/3",
    "beale": "(1.5 - x + x*y)**2 + (2.25 - x + x*y**2)**2 + (2.625 - x + x*y**3)**2",
    "rosenbrock": "100*(y - x**2)**2 + (1 - x)**2",
    "plateau": "x**4/40 - x**3/3",
}
EXACT_MINIMIZERS = {
    "parabola": [["1/2"]],
    "double_well": [["-sqrt(2)"], ["sqrt(2)"]],
    "booth": [[1, 3]],
    "ravine": [[1, 2]],
    "beale": [[3, "1/2"]],
    "rosenbrock": [[1, 1]],
    "rosenbrock_10": [[1] * 10],
    "plateau": [[10]],
}


def exact(array):
    return [sympy.Rational(*float(number).as_integer_ratio()) for number in array]


def formula(problem):
    """The function in SymPy, written once more, and its variables."""
    x = [sympy.Symbol(name, real=True) for name in problem.variables]
    if problem.data is not None:
        A, y = problem.data
        rows = zip(map(exact, A), exact(y), strict=True)
        return sum((sum(a * p for a, p in zip(row, x, strict=True)) - b) ** 2 for row, b in rows) / len(y), x
    if problem.name == "rosenbrock_10":
        return sum(100 * (b - a**2) ** 2 + (1 - a) ** 2 for a, b in itertools.pairwise(x)), x
    return sympy.sympify(FORMULAS[problem.name], locals={str(s): s for s in x}, rational=True), x


def hessian(problem, point):
    expression, x = formula(problem)
    return np.array(sympy.hessian(expression, x).subs(dict(zip(x, point, strict=True))), dtype=np.float64)


def descend(problem, start, steps, optimizer=oc.SGD, **options):
    """All points, of shape (steps + 1, n)."""
    x = np.array(start, dtype=np.float64)
    opt = optimizer(x, **options)
    points = [x.copy()]
    for _ in range(steps):
        opt.step(problem.jac(x))
        points.append(x.copy())
    return np.array(points)


@pytest.mark.parametrize("problem", PROBLEMS.values(), ids=PROBLEMS)
def test_value_and_gradient(problem):
    expression, x = formula(problem)
    slopes = [expression.diff(variable) for variable in x]
    rng = np.random.default_rng(0)
    for point in [problem.start, *(problem.start + rng.normal(size=(4, len(x))))]:
        at = dict(zip(x, exact(point), strict=True))
        # Rounding: fewer than 150 operations of 1.1e-16 each, on terms up to 1000 times as large as the result.
        assert problem.fun(point) == pytest.approx(float(expression.subs(at).evalf(30)), rel=1e-11)
        expected = [float(slope.subs(at).evalf(30)) for slope in slopes]
        np.testing.assert_allclose(problem.jac(point), expected, rtol=1e-11, atol=1e-11 * np.abs(expected).max())


@pytest.mark.parametrize("name", EXACT_MINIMIZERS)
def test_minimizers(name):
    problem = PROBLEMS[name]
    expression, x = formula(problem)
    values = set()
    for point, found in zip(EXACT_MINIMIZERS[name], problem.minimizers, strict=True):
        point = [sympy.sympify(number) for number in point]
        at = dict(zip(x, point, strict=True))
        assert found.tolist() == [float(number) for number in point]
        assert all(sympy.simplify(expression.diff(variable).subs(at)) == 0 for variable in x)
        assert np.linalg.eigvalsh(hessian(problem, point)).min() > 0
        values.add(sympy.simplify(expression.subs(at)))
    assert problem.minimum == float(*values)


def test_minimizers_of_himmelblau():
    """It is 0 where both squares are: y = 11 - x^2, and x is a root of a polynomial of degree 4."""
    x = sympy.Symbol("x")
    roots = sympy.Poly(x + (11 - x**2) ** 2 - 7, x).nroots(n=40)
    expected = {(float(root), float(11 - root**2)) for root in roots}
    problem = PROBLEMS["himmelblau"]
    assert {tuple(point.tolist()) for point in problem.minimizers} == expected
    assert len(expected) == 4
    assert problem.minimum == 0.0
    assert {tuple(np.sign(point)) for point in expected} == set(itertools.product([-1.0, 1.0], repeat=2))


def test_minimizer_of_three_halves():
    problem = PROBLEMS["three_halves"]
    assert [point.tolist() for point in problem.minimizers] == [[0.0]]
    assert problem.minimum == problem.fun(np.zeros(1)) == 0.0
    assert problem.jac(np.zeros(1)) == 0.0


@pytest.mark.parametrize("name", ["line_fit", "quadratic_fit", "quadratic_fit_scaled"])
def test_answers_of_fits_are_those_of_exact_fractions(name):
    problem = PROBLEMS[name]
    expression, x = formula(problem)
    equations = [expression.diff(parameter) for parameter in x]
    (solution,) = sympy.linsolve(equations, x)
    (found,) = problem.minimizers
    # The columns, divided by their norms, have a condition number below 20, and 50 rows are rounded.
    np.testing.assert_allclose(found, [float(number) for number in solution], rtol=1e-13)
    expected = float(expression.subs(dict(zip(x, solution, strict=True))))
    assert problem.minimum == pytest.approx(expected, rel=1e-13)


def test_every_answer_was_looked_at():
    others = {"himmelblau", "three_halves", "line_fit", "quadratic_fit", "quadratic_fit_scaled"}
    assert {*EXACT_MINIMIZERS, *others} == {*PROBLEMS}


@pytest.mark.parametrize("n", [2, 3, 4, 5, 100])
def test_rosenbrock_is_that_of_scipy(n):
    problem = problems.rosenbrock(n)
    for x in np.random.default_rng(n).normal(size=(20, n)):
        # Sums of up to 100 positive terms, and differences of terms up to 1000 times the result, in another order.
        assert problem.fun(x) == pytest.approx(rosen(x), rel=1e-13)
        np.testing.assert_allclose(problem.jac(x), rosen_der(x), rtol=1e-11, atol=1e-10)
    assert problem.start.tolist() == ([-1.2, 1.0] * 50)[:n]


def test_ravine_takes_its_numbers():
    problem = problems.ravine(a=[3, 0.5], c=[-1, 4])
    x = np.array([1.0, 6.0])
    assert (problem.fun(x), problem.jac(x).tolist()) == (14.0, [12.0, 2.0])
    assert problem.minimizers[0].tolist() == [-1.0, 4.0]
    assert problem.description == "3 (x1 + 1)^2 + 0.5 (x2 - 4)^2"


# ---------------------------------------------------------------------------- what is said of them


def test_order_is_that_of_the_steps_of_gradient_descent():
    """Until 1e-6 of the way is left, with the best rate of the powers of 2."""
    counts = []
    for problem in PROBLEMS.values():
        best, first = 7000, problem.fun(problem.start)
        goal = problem.minimum + 1e-6 * (first - problem.minimum)
        for exponent in range(-12, 3):
            x = problem.start.copy()
            for t in range(1, best):
                x -= 2.0**exponent * problem.jac(x)
                value = problem.fun(x)
                if value <= goal:
                    best = t
                if not goal < value < 1e30:
                    break
        counts.append(best)
    assert counts == sorted(counts)
    assert [name for name, count in zip(PROBLEMS, counts, strict=True) if count == 7000] == [
        "quadratic_fit_scaled",
        "plateau",
    ]


@pytest.mark.parametrize("lr", [0.0625, 0.125, 0.375, 0.4375])
def test_parabola(lr):
    problem = PROBLEMS["parabola"]
    distances = descend(problem, [2.5], 10, lr=lr) - 0.5
    assert distances[:, 0].tolist() == [2.0 * (1 - 4 * lr) ** t for t in range(11)], "all are short binary fractions"
    assert descend(problem, [2.5], 1, lr=0.25)[-1] == 0.5
    assert abs(descend(problem, [2.5], 100, lr=0.5)[-1] - 0.5) == 2.0
    assert abs(descend(problem, [2.5], 100, lr=0.51)[-1] - 0.5) > 2.0


def test_booth():
    second = hessian(PROBLEMS["booth"], [1, 3])
    assert second.diagonal().tolist() == [10.0, 10.0]
    assert (second @ [1, 1]).tolist() == [18.0, 18.0]
    assert (second @ [1, -1]).tolist() == [2.0, -2.0]


@pytest.mark.parametrize("lr", [0.1, 0.3, 0.49, 0.5, 0.6])
def test_ravine(lr):
    problem = PROBLEMS["ravine"]
    points = descend(problem, problem.start, 60, lr=lr) - problem.minimizers[0]
    kept = np.array([1 - 4 * lr, 1 - 0.2 * lr])
    expected = (problem.start - problem.minimizers[0]) * kept ** np.arange(61)[:, None]
    np.testing.assert_allclose(points, expected, rtol=1e-12, atol=1e-12)  # 60 steps of a few roundings each
    assert (abs(points[-1, 0]) < abs(points[0, 0])) == (lr < 0.5)
    assert lr >= 0.5 or kept[1] > 0.9


def test_rates_of_the_ravine():
    problem, k = PROBLEMS["ravine"], 20.0
    start, end = problem.start, problem.minimizers[0]
    best = np.abs(descend(problem, start, 100, lr=1 / 2.1) - end)
    np.testing.assert_allclose(best[1:] / best[:-1], (k - 1) / (k + 1), rtol=1e-6)  # 1e-4 of 7 is left, of 16 digits
    root = math.sqrt(k)
    keeps = (root - 1) / (root + 1)
    lr, momentum = 4 / (math.sqrt(4) + math.sqrt(0.2)) ** 2, keeps**2
    ball = np.linalg.norm(descend(problem, start, 60, oc.Momentum, lr=lr, momentum=momentum) - end, axis=1)
    # At the best rate both roots of the recurrence coincide: the distance falls as (a + b t) keeps^t.
    assert (ball[60] / ball[30]) ** (1 / 30) == pytest.approx(keeps, rel=0.05)
    assert ball[60] < 1e-6 < best[60].max()


def test_himmelblau_finds_the_minimum_of_its_start():
    problem = PROBLEMS["himmelblau"]
    for minimizer in problem.minimizers:
        np.testing.assert_allclose(descend(problem, np.sign(minimizer), 1000, lr=0.01)[-1], minimizer, rtol=1e-12)
    np.testing.assert_allclose(descend(problem, problem.start, 1000, lr=0.01)[-1], [3.0, 2.0], rtol=1e-12)


def test_double_well_steps_onto_the_maximum():
    problem = PROBLEMS["double_well"]
    expression, (x,) = formula(problem)
    start = sympy.sqrt(3)
    assert start - expression.diff(x).subs(x, start) / 4 == 0
    assert expression.diff(x).subs(x, 0) == 0
    assert expression.diff(x, 2).subs(x, 0) == -8
    assert problem.start == float(start)
    points = descend(problem, problem.start, 32, lr=0.25)[1:, 0]
    assert points[0] == 2.0**-51  # 4.4e-16
    # The cube of x, left out in a factor of 3, is 1e-4 of x at the end.
    np.testing.assert_allclose(points[1:30] / points[:29], 3.0, rtol=1e-3)
    assert points[30] < 0.1 < points[31]


DYADIC = [2.0**k for k in (-10, -3, -1, 0, 1, 6)]


@pytest.mark.parametrize("d", DYADIC)
def test_three_halves_reaches_0_from_some_points(d):
    problem = PROBLEMS["three_halves"]
    assert (descend(problem, [0.0], 3, lr=d) == 0.0).all()
    for sign in (1.0, -1.0):
        assert descend(problem, [sign * d * d], 2, lr=d)[:, 0].tolist() == [sign * d * d, 0.0, 0.0]
        # (3 + sqrt(5)) / 2 is rounded, and so is each result; here they end on the same numbers as without rounding.
        start = sign * (3.0 + math.sqrt(5.0)) / 2.0 * d * d
        assert descend(problem, [start], 2, lr=d)[1:, 0].tolist() == [sign * d * d, 0.0]


def test_three_halves_reaches_0_from_the_whole_chain_without_rounding():
    d = sympy.Symbol("d", positive=True)
    distance = d**2
    for _ in range(4):
        before, distance = distance, sympy.expand(((d + sympy.sqrt(d**2 + 4 * distance)) / 2) ** 2)
        leads_to = distance - d * (d + sympy.sqrt(d**2 + 4 * before)) / 2  # the root of distance, as it was squared
        assert sympy.simplify(leads_to - before) == 0
        if before == d**2:
            assert sympy.simplify(distance - (3 + sympy.sqrt(5)) / 2 * d**2) == 0


@given(d=st.sampled_from(DYADIC), start=st.floats(1e-6, 1e3), sign=st.sampled_from([-1.0, 1.0]))
def test_three_halves_jumps_for_ever_from_other_points(d, start, sign):
    points = descend(PROBLEMS["three_halves"], [sign * start * d * d], 200, lr=d)[:, 0]
    if points[-1] == 0.0:  # only from the chain, or from its neighbours that rounding leads there
        chain = [1.0]
        while chain[-1] < start:
            chain.append(((1.0 + math.sqrt(1.0 + 4.0 * chain[-1])) / 2.0) ** 2)
        assert np.abs(np.array(chain) / start - 1.0).min() < 1e-12
    else:
        assert points[-1] * points[-2] < 0.0
        quarter = d * d / 4.0
        assert (np.abs(np.abs(points[-2:]) - quarter) <= math.ulp(quarter)).all()


def test_three_halves_from_1():
    problem = PROBLEMS["three_halves"]
    assert descend(problem, [1.0], 1, lr=1.0)[-1] == 0.0
    assert np.abs(descend(problem, [1.0], 101, lr=0.5)[-2:]).tolist() == [[0.0625], [0.0625]]
    assert abs(descend(problem, problem.start, 2000, lr=oc.InversePower(1.0, power=0.5))[-1]) < 1e-3


def test_condition_numbers():
    for name, expected in (("ravine", 20), ("beale", 162), ("rosenbrock", 2508)):
        assert round(np.linalg.cond(hessian(PROBLEMS[name], EXACT_MINIMIZERS[name][0]))) == expected


@pytest.mark.parametrize("n", [4, 5, 6, 7, 10])
def test_rosenbrock_has_another_minimum_from_4_variables_on(n):
    x = sympy.symbols(f"x:{n}")
    expression = sum(100 * (b - a**2) ** 2 + (1 - a) ** 2 for a, b in itertools.pairwise(x))
    second = sympy.lambdify([x], sympy.hessian(expression, x))
    problem = problems.rosenbrock(n)
    point = np.ones(n)
    point[0] = -1.0
    for _ in range(50):
        point -= np.linalg.solve(second(point), problem.jac(point))
    # 1e-10 is rounding: terms of the gradient are up to 400.
    assert np.abs(problem.jac(point)).max() < 1e-10
    assert np.linalg.eigvalsh(second(point)).min() > 1e-3
    assert -1.0 < point[0] < 0.0
    if n == 4:
        assert point.round(2).tolist() == [-0.78, 0.61, 0.38, 0.15]


def test_data_have_the_same_bits_everywhere():
    # Made with NumPy 2.4 on Linux x86-64.
    digests = {
        "line_fit": "c6cd7e31c4eaf3b9",
        "quadratic_fit": "8f008c3d39bf69d8",
        "quadratic_fit_scaled": "9b8788791a802d03",
    }
    for name, digest in digests.items():
        assert hashlib.sha256(b"".join(array.tobytes() for array in PROBLEMS[name].data)).hexdigest()[:16] == digest
    for seed in (0, 1):
        expected = np.random.Generator(np.random.PCG64(seed)).random(100)
        assert problems.uniform(seed, 100).tolist() == expected.tolist()


def test_data_are_as_described():
    (A, y), (B, z) = PROBLEMS["line_fit"].data, PROBLEMS["quadratic_fit"].data
    for noise in (y - (2.0 * A[:, 0] - 1.0), z - (1.0 - 2.0 * B[:, 1] + B[:, 1] ** 2 / 2)):
        assert noise.shape == (50,)
        assert np.abs(noise).max() < 0.5 + 1e-12  # the noise is what is left after rounded additions
        assert noise.std() == pytest.approx(math.sqrt(1 / 12), rel=0.2)  # 50 uniform numbers: within 3 of 0.06
    assert PROBLEMS["line_fit"].minimum > 0


def test_scaled_column():
    (A, y), (B, z) = PROBLEMS["quadratic_fit"].data, PROBLEMS["quadratic_fit_scaled"].data
    assert (y == z).all()
    np.testing.assert_allclose(B, A * [1.0, 1.0, 1e-6], rtol=1e-15)  # a product of three is rounded twice
    plain, scaled = PROBLEMS["quadratic_fit"], PROBLEMS["quadratic_fit_scaled"]
    np.testing.assert_allclose(scaled.minimizers[0] / plain.minimizers[0], [1.0, 1.0, 1e6], rtol=1e-12)
    assert scaled.minimum == pytest.approx(plain.minimum, rel=1e-12)
    assert round(np.linalg.cond(hessian(plain, [0, 0, 0]))) == 61
    # Its smallest eigenvalue is 1e-12 of the largest, and known to three digits.
    assert np.linalg.cond(hessian(scaled, [0, 0, 0])) == pytest.approx(2.4e12, rel=0.01)
    a, b = plain.start.copy(), scaled.start.copy()
    for _ in range(100):
        a -= 0.0625 * plain.jac(a)
        b -= np.array([0.0625, 0.0625, 0.0625e12]) * scaled.jac(b)
    np.testing.assert_allclose(
        b, a * [1.0, 1.0, 1e6], rtol=1e-12
    )  # 100 steps of a few roundings, most of them forgotten


PLATEAU = PROBLEMS["plateau"]


@pytest.mark.parametrize("lr", [*np.linspace(0.01, 0.21, 11), 0.2116])
def test_small_rates_stay_before_the_plateau(lr):
    x = descend(PLATEAU, PLATEAU.start, 5000, lr=lr)[:, 0]
    assert (np.diff(x) > 0.0).all()
    assert x[-1] < 0.0
    if lr <= 0.2:
        # 1/x changes by lr (1 - x/10) / (1 + ...) a step, so -1/x grows as lr t, and slower terms, of log(t).
        assert x[-1] * lr * 5000 == pytest.approx(-1.0, rel=0.1)


def test_where_rates_begin_to_cross_the_plateau():
    expression, (x,) = formula(PLATEAU)
    start = sympy.Rational(-7, 2)
    assert start / expression.diff(x).subs(x, start) == sympy.Rational(40, 189)
    for lr, crosses in ((40 / 189 - 1e-6, False), (40 / 189 + 1e-6, True)):
        assert (descend(PLATEAU, PLATEAU.start, 1, lr=lr)[-1] > 0.0) == crosses
    assert expression.diff(x, 2).subs(x, 10) == 10
    assert expression.diff(x).subs(x, 0) == expression.diff(x, 2).subs(x, 0) == 0


@pytest.mark.parametrize("lr", np.linspace(0.22, 0.25, 13))
def test_rates_that_cross_the_plateau_do_not_settle(lr):
    x = descend(PLATEAU, PLATEAU.start, 3000, lr=lr)[:, 0]
    assert x[:41].max() > 5.0
    last = x[-1000:] - 10.0
    assert (last[1:] * last[:-1] < 0.0).all()
    assert 0.8 < np.abs(last).min() < np.abs(last).max() < 3.0


@pytest.mark.parametrize("lr", np.linspace(0.005, 0.4, 80))
def test_no_constant_rate_arrives_beyond_the_plateau(lr):
    x = PLATEAU.start.copy()
    farthest = 0.0
    for t in range(1000):
        x -= lr * PLATEAU.jac(x)
        if not abs(x[0]) < 1e6:
            return
        farthest = max(farthest, abs(x[0] - 10.0)) if t >= 900 else 0.0
    assert farthest > 0.5


@pytest.mark.parametrize(
    "lr",
    [
        oc.Linear(0.25, 0, steps=200),
        oc.InverseTime(0.25, rate=1, steps=100),
        oc.Exponential(0.25, 0.5, steps=100),
        oc.Linear(0.22, 0, steps=200),
        oc.Exponential(0.22, 0.5, steps=100),
        oc.Cosine(0.25, steps=200),
    ],
    ids=repr,
)
def test_decaying_rates_arrive_beyond_the_plateau(lr):
    x = descend(PLATEAU, PLATEAU.start, 400, lr=lr)[:, 0]
    assert x[-1] == pytest.approx(10.0, abs=1e-9)
    assert descend(PLATEAU, PLATEAU.start, 400, lr=lr * 0.8)[-1] < 0.0, "they begin below 40/189"


# ---------------------------------------------------------------------------- the face


def test_catalogue():
    assert all(problem.name == name for name, problem in PROBLEMS.items())
    for name in MAKERS:
        text = inspect.getdoc(getattr(problems, name))
        assert "Examples\n--------\n>>> " in text, f"the docstring of {name} lacks an example"
        assert f":func:`{name}`" in problems.__doc__
    for text in inspect.getdoc(problems).split("- :func:`")[1:]:
        assert text.partition("`")[0] in MAKERS


@pytest.mark.parametrize("problem", PROBLEMS.values(), ids=PROBLEMS)
def test_problem(problem):
    n = len(problem.variables)
    for array in (problem.start, *problem.minimizers, *(problem.data or ())):
        assert array.dtype == np.float64
        assert not array.flags.writeable
    assert problem.start.shape == (n,)
    assert all(point.shape == (n,) for point in problem.minimizers)
    assert type(problem.minimum) is float
    x = problem.start.copy()
    first, second = problem.jac(x), problem.jac(x)
    assert first is not second
    assert first.shape == (n,)
    assert first.dtype == np.float64
    assert type(problem.fun(x)) is float
    assert x.tolist() == problem.start.tolist()
    assert len(set(problem.variables)) == n
    assert "\n" not in problem.description
    assert problem.description
    assert not np.array_equal(problem.start, problem.minimizers[0])
    assert problem.fun(problem.start) > problem.minimum


@pytest.mark.parametrize("problem", [*PROBLEMS.values(), from_expression("x**4*exp(y)")], ids=lambda p: p.name)
def test_overflow_is_silent(problem):
    for number in (1e200, -1e308, math.inf, math.nan):
        x = np.full(len(problem.variables), number)
        with np.errstate(all="raise"):  # the caller's settings are for the caller's arithmetic
            assert not problem.fun(x) < 1e100
            assert problem.jac(x).shape == x.shape


@pytest.mark.parametrize("problem", [*PROBLEMS.values(), from_expression("x*y")], ids=lambda p: p.name)
def test_bad_points(problem):
    n = len(problem.variables)
    for function in (problem.fun, problem.jac):
        for bad in ([0.0] * n, None, 0.0, np.zeros(n, np.float32), np.zeros(n, int), np.zeros(n, complex)):
            with pytest.raises(TypeError, match=r"^x must be a float64 array of shape "):
                function(bad)
        for shape in ((n + 1,), (n, 1), ()):
            with pytest.raises(ValueError, match=r"^x must be a float64 array of shape "):
                function(np.zeros(shape))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: problems.rosenbrock(1), ValueError, "n must be from 2"),
        (lambda: problems.rosenbrock(2.0), TypeError, "n must be an integer"),
        (lambda: problems.ravine(a=(1, 0)), ValueError, "a must be two numbers > 0, got (1, 0)"),
        (lambda: problems.ravine(a=(1, math.nan)), ValueError, "a must be finite"),
        (lambda: problems.ravine(c=(1, 2, 3)), ValueError, "c must have shape (2,), got (3,)"),
        (lambda: problems.ravine(c="ab"), TypeError, "c must be an array of numbers, got 'ab'"),
        (lambda: problems.quadratic_fit(0), ValueError, "scale must be a finite number > 0, got 0"),
        (lambda: problems.least_squares([[1, 2], [3]], [1, 2]), TypeError, "A must be an array of numbers"),
        (lambda: problems.least_squares([1, 2], [1, 2]), ValueError, "A must have shape (any, any), got (2,)"),
        (lambda: problems.least_squares(np.ones((0, 2)), []), ValueError, "A must have rows and columns"),
        (lambda: problems.least_squares([[1, 2]], [1, 2]), ValueError, "y must have shape (1,), got (2,)"),
        (lambda: problems.least_squares([[1, math.inf]], [1]), ValueError, "A must be finite"),
        (lambda: problems.least_squares([[1j, 2]], [1]), TypeError, "A must be an array of numbers"),
        (lambda: problems.least_squares([[1, 2]], [1], variables=["k"]), ValueError, "variables must have 2 names"),
    ],
)
def test_bad_arguments(make, error, message):
    with pytest.raises(error) as info:
        make()
    assert message in str(info.value)


def test_least_squares_copies_and_knows_when_there_are_many_answers():
    A, y = np.array([[1.0, 2.0], [2.0, 4.0], [0.0, 0.0]]), np.array([1.0, 2.0, 3.0])
    problem = problems.least_squares(A, y)
    A[:], y[:] = 0.0, 0.0
    assert problem.fun(np.array([1.0, 0.0])) == 3.0
    assert problem.minimizers == ()
    assert problem.minimum == pytest.approx(3.0, rel=1e-15)  # LAPACK's rounding
    assert problem.variables == ("p1", "p2")
    assert problem.start.tolist() == [0.0, 0.0]
    assert problems.least_squares([[0.0]], [1.0]).minimum == 1.0


@pytest.mark.parametrize("name", sorted({*FORMULAS} - {"three_halves"}))
def test_formula_and_function_agree(name):
    problem = PROBLEMS[name]
    made = from_expression(FORMULAS[name], start=problem.start, name=name)
    assert made.variables == problem.variables
    assert (made.name, made.description, made.minimum, made.minimizers) == (name, FORMULAS[name], None, ())
    for x in problem.start + np.random.default_rng(0).normal(size=(20, len(problem.start))):
        # The same terms in another order; they are up to 1000 times as large as the result.
        assert made.fun(x) == pytest.approx(problem.fun(x), rel=1e-11)
        np.testing.assert_allclose(made.jac(x), problem.jac(x), rtol=1e-11, atol=1e-10)


# ---------------------------------------------------------------------------- the page about them


def numbers(point):
    return ", ".join(f"{x:g}" for x in point)


@pytest.mark.skipif(not PAGE.exists(), reason="needs the source tree")
def test_page_lists_the_problems_with_their_formulas_starts_and_answers():
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    table = [re.split(r" (?<!\\)\| ", line.strip("| ")) for line in lines]
    rows = [[cell.replace("\\|", "|") for cell in row[:4]] for row in table if len(row) == 5]
    expected = []
    for name, problem in PROBLEMS.items():
        brackets = "({})" if len(problem.variables) > 1 else "{}"
        answers = ", ".join(brackets.format(numbers(point)) for point in problem.minimizers)
        minimum = f"{problem.minimum:g} at {answers}"
        expected.append([f"`{name}`", f"`{problem.description}`", numbers(problem.start), minimum])
    assert rows == expected


@pytest.mark.skipif(not PAGE.exists(), reason="needs the source tree")
def test_page_code_runs(capsys):
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S)
    assert len(blocks) == 2
    names = {}
    exec(blocks[0], names)
    assert capsys.readouterr().out.startswith("[0.99999999 0.99999998] ")
    assert 0 < names["problem"].fun(names["x"]) < 1e-15
    exec(blocks[1], names)
    assert re.fullmatch(r"\('x', 'y'\) 24\.[0-9]+ \[-215\.6 +-88\. \]\n", capsys.readouterr().out)
    assert names["problem"].fun(names["problem"].start) == pytest.approx(24.2, rel=1e-15)  # two roundings
