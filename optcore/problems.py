"""Functions to try an optimizer on, with gradient, start and answer.

Each teaches one thing. They stand in the order of the steps that gradient descent needs with its best constant rate:

- :func:`parabola`: the first thing to try, and to follow by hand.
- :func:`double_well`: a step that ends on a maximum, where the gradient is 0 too.
- :func:`himmelblau`: four minima. Which one is found depends on the start.
- :func:`booth`: two variables that belong together.
- :func:`ravine`: one rate for a steep and a flat direction. What momentum is for.
- :func:`line_fit`: learning from data, where noise keeps the best loss above 0.
- :func:`three_halves`: a slope so sharp that constant steps do not settle. What decaying rates are for.
- :func:`quadratic_fit`: columns that resemble each other.
- :func:`beale`: a bent valley.
- :func:`rosenbrock`: a bent ravine, in any number of dimensions.
- :func:`quadratic_fit` with ``scale=1e-6``: a column in the wrong unit. What rates for each parameter are for.
- :func:`plateau`: no constant rate arrives, and a decaying one does.

:data:`PROBLEMS` has them by name. :func:`from_expression` makes one of a formula, :func:`least_squares` of data.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from optcore import formulas
from optcore.domains import POSITIVE, check_number
from optcore.schedules import check_integer

__all__ = [
    "PROBLEMS",
    "Problem",
    "beale",
    "booth",
    "double_well",
    "from_expression",
    "himmelblau",
    "least_squares",
    "line_fit",
    "parabola",
    "plateau",
    "quadratic_fit",
    "ravine",
    "rosenbrock",
    "three_halves",
]


@dataclass(frozen=True, eq=False)
class Problem:
    """A function to be minimized, and what is known of it. Its arrays are read-only; ``start.copy()`` can be moved.

    Attributes
    ----------
    name : str
    description : str
        The formula, in one line.
    variables : tuple of str
        A name for each component of x.
    fun : function
        ``fun(x)`` is the value, a float, at a float64 array of shape (n,). TypeError or ValueError for anything else.
        Where it is not defined or overflows it is nan or inf, without a warning.
    jac : function
        ``jac(x)`` is the gradient there, a new float64 array of shape (n,).
    start : numpy.ndarray
        Where to begin, of shape (n,).
    minimizers : tuple of numpy.ndarray
        All points with the least value, rounded to float64; empty where they are not known or not finitely many.
    minimum : float or None
        The least value, None where it is not known.
    source : str
        Where the function, or its start, is from.
    data : tuple of two numpy.ndarray, or None
        Of a fit the matrix A of shape (m, n) and the targets y of shape (m,).

    Examples
    --------
    >>> import optcore as oc
    >>> from optcore.problems import PROBLEMS
    >>> problem = PROBLEMS["booth"]
    >>> x = problem.start.copy()
    >>> opt = oc.SGD(x, lr=0.1)
    >>> for _ in range(200):
    ...     opt.step(problem.jac(x))
    >>> x
    array([1., 3.])
    """

    name: str
    description: str
    variables: tuple[str, ...]
    fun: Callable[[np.ndarray], float] = field(repr=False)
    jac: Callable[[np.ndarray], np.ndarray] = field(repr=False)
    start: np.ndarray
    minimizers: tuple[np.ndarray, ...] = ()
    minimum: float | None = None
    source: str = ""
    data: tuple[np.ndarray, np.ndarray] | None = field(default=None, repr=False)


def checked(function: Callable[[np.ndarray], Any], n: int) -> Callable[[np.ndarray], Any]:
    """A function of points that refuses what is no float64 array of shape (n,)."""
    shape = (n,)
    accepted = f"x must be a float64 array of shape {shape}"

    def at(x: np.ndarray) -> Any:
        if not isinstance(x, np.ndarray) or x.dtype != np.float64:
            raise TypeError(f"{accepted}, got {x!r}; np.array(x, dtype=float) makes one")
        if x.shape != shape:
            raise ValueError(f"{accepted}, got shape {x.shape}")
        return function(x)

    return at


def problem_of(
    name: str,
    description: str,
    variables: tuple[str, ...],
    fun: Callable[[np.ndarray], float],
    jac: Callable[[np.ndarray], np.ndarray],
    start: Any,
    minimizers: Sequence[Any] = (),
    **known: Any,
) -> Problem:
    """A problem whose functions check their argument."""
    n = len(variables)
    points = tuple(frozen("minimizers", point, (n,)) for point in minimizers)
    start = frozen("start", start, (n,))
    return Problem(name, description, variables, checked(fun, n), checked(jac, n), start, points, **known)


def of_numbers(function: Callable[..., float]) -> Callable[[np.ndarray], float]:
    """A function of floats as one of an array. Python's floats are fast and overflow in silence but for ``**``."""
    return lambda x: function(*x.tolist())


def slopes_of_numbers(function: Callable[..., tuple[float, ...]]) -> Callable[[np.ndarray], np.ndarray]:
    """The same for a function that gives a tuple."""
    return lambda x: np.array(function(*x.tolist()))


def square(x: float) -> float:
    return x * x


def frozen(name: str, value: Any, shape: tuple[int | None, ...]) -> np.ndarray:
    """``value`` as a read-only float64 array of this shape, where None is any length; TypeError or ValueError."""
    try:
        array = np.array(value)
    except ValueError:  # rows of different lengths
        array = np.array(None)
    if array.dtype.kind not in "iuf":
        raise TypeError(f"{name} must be an array of numbers, got {value!r}")
    array = array.astype(np.float64)
    if array.ndim != len(shape) or any(b not in (None, a) for a, b in zip(array.shape, shape, strict=True)):
        accepted = str(shape).replace("None", "any")
        raise ValueError(f"{name} must have shape {accepted}, got {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite, got {value!r}")
    array.flags.writeable = False
    return array


def check_start(name: str, start: Any, variables: Sequence[str]) -> np.ndarray:
    """``start`` as a read-only float64 array with a number for each variable; TypeError or ValueError otherwise."""
    array = frozen(name, start, (None,))
    if len(array) != len(variables):
        names = ", ".join(variables)
        raise ValueError(f"{name} must have a number for each of {names}, in this order, got {len(array)}")
    return array


def uniform(seed: int, n: int) -> np.ndarray:
    """Random numbers from 0 to 1, without 1, with the same bits wherever NumPy runs.

    NumPy promises that of the bits that a generator is made of alone (NEP 19).
    """
    return (np.random.PCG64(seed).random_raw(n) >> 11) * 2.0**-53


def parabola() -> Problem:
    """The first thing to try, and to follow by hand: ``2 x^2 - 2 x + 3``, least at 1/2, where it is 5/2.

    A step of rate lr multiplies the distance to the minimum by ``1 - 4 lr``: 0.25 arrives in one step, from 0.5 on
    nothing arrives.

    Examples
    --------
    >>> import optcore as oc
    >>> problem = parabola()
    >>> x = problem.start.copy()
    >>> oc.SGD(x, lr=0.25).step(problem.jac(x))
    >>> x, problem.fun(x)
    (array([0.5]), 2.5)
    """
    return problem_of(
        "parabola",
        "2 x^2 - 2 x + 3",
        ("x",),
        of_numbers(lambda x: 2.0 * x * x - 2.0 * x + 3.0),
        slopes_of_numbers(lambda x: (4.0 * x - 2.0,)),
        start=[3.0],
        minimizers=[[0.5]],
        minimum=2.5,
    )


def double_well() -> Problem:
    """A step that ends on a maximum: ``x^4 - 4 x^2``, least at the two roots of 2, where it is -4.

    From sqrt(3), where the slope is 4 sqrt(3), a step of rate 0.25 is a step to 0, where the slope is 0 too: the local
    maximum. In float64 it ends at 4.4e-16 instead, as sqrt(3) is rounded. From there on a step of rate 0.25 multiplies
    x by 3, so that it takes 31 more until x is beyond 0.1. Noise would be quicker.

    Examples
    --------
    >>> import optcore as oc
    >>> problem = double_well()
    >>> x = problem.start.copy()
    >>> oc.SGD(x, lr=0.25).step(problem.jac(x))
    >>> x
    array([4.4408921e-16])
    """
    return problem_of(
        "double_well",
        "x^4 - 4 x^2",
        ("x",),
        of_numbers(lambda x: x * x * (x * x - 4.0)),
        slopes_of_numbers(lambda x: (4.0 * x * x * x - 8.0 * x,)),
        start=[math.sqrt(3.0)],
        minimizers=[[-math.sqrt(2.0)], [math.sqrt(2.0)]],
        minimum=-4.0,
    )


def himmelblau() -> Problem:
    """Four minima, all 0: ``(x^2 + y - 11)^2 + (x + y^2 - 7)^2``. Which one is found depends on the start.

    One is (3, 2), which descent finds from (0, 0). There is one in each quadrant.

    References
    ----------
    Himmelblau, Applied Nonlinear Programming, 1972.

    Examples
    --------
    >>> for point in himmelblau().minimizers:
    ...     print(point.round(3))
    [3. 2.]
    [-2.805  3.131]
    [-3.779 -3.283]
    [ 3.584 -1.848]
    """

    def slopes(x: float, y: float) -> tuple[float, float]:
        a, b = x * x + y - 11.0, x + y * y - 7.0
        return 4.0 * x * a + 2.0 * b, 2.0 * a + 4.0 * y * b

    return problem_of(
        "himmelblau",
        "(x^2 + y - 11)^2 + (x + y^2 - 7)^2",
        ("x", "y"),
        of_numbers(lambda x, y: square(x * x + y - 11.0) + square(x + y * y - 7.0)),
        slopes_of_numbers(slopes),
        start=[0.0, 0.0],
        minimizers=[
            [3.0, 2.0],
            [-2.805118086952745, 3.131312518250573],
            [-3.779310253377747, -3.2831859912861696],
            [3.5844283403304917, -1.8481265269644036],
        ],
        minimum=0.0,
        source="Himmelblau 1972",
    )


def booth() -> Problem:
    """Two variables that belong together: ``(x + 2 y - 7)^2 + (2 x + y - 5)^2``, least at (1, 3), where it is 0.

    The valley lies across the axes: the second derivative is 10 in either variable, 18 along (1, 1), 2 along (1, -1).
    Where rates are set for each variable by itself, they remain equal.

    References
    ----------
    Jamil & Yang, A literature survey of benchmark functions for global optimization problems, 2013.

    Examples
    --------
    >>> problem = booth()
    >>> problem.fun(problem.start), problem.jac(problem.start)
    (74.0, array([-34., -38.]))
    """
    return problem_of(
        "booth",
        "(x + 2 y - 7)^2 + (2 x + y - 5)^2",
        ("x", "y"),
        of_numbers(lambda x, y: square(x + 2.0 * y - 7.0) + square(2.0 * x + y - 5.0)),
        slopes_of_numbers(lambda x, y: (10.0 * x + 8.0 * y - 34.0, 8.0 * x + 10.0 * y - 38.0)),
        start=[0.0, 0.0],
        minimizers=[[1.0, 3.0]],
        minimum=0.0,
        source="Jamil & Yang 2013",
    )


def ravine(a: Sequence[float] = (2.0, 0.1), c: Sequence[float] = (1.0, 2.0)) -> Problem:
    """One rate for a steep and a flat direction: ``a1 (x1 - c1)^2 + a2 (x2 - c2)^2``. What momentum is for.

    A step of rate lr multiplies the distances to the minimum by ``1 - 2 lr a1`` and ``1 - 2 lr a2``. With a1 = 2 a rate
    of 0.5 or more never arrives, and with less the flat direction, a2 = 0.1, keeps more than 0.9 of its distance. The
    best rate is ``1 / (a1 + a2)``; it keeps ``(k - 1) / (k + 1)`` of both, where k = a1 / a2. The best heavy ball keeps
    ``(sqrt(k) - 1) / (sqrt(k) + 1)`` in the long run (Polyak 1964).

    Parameters
    ----------
    a : two floats > 0
        How steep the directions are.
    c : two floats
        The minimizer.

    Examples
    --------
    >>> problem = ravine()
    >>> problem.start, problem.jac(problem.start)
    (array([-5., -2.]), array([-24. ,  -0.8]))
    """
    (a1, a2), (c1, c2) = frozen("a", a, (2,)).tolist(), frozen("c", c, (2,)).tolist()
    if min(a1, a2) <= 0.0:
        raise ValueError(f"a must be two numbers > 0, got {a!r}")
    return problem_of(
        "ravine",
        f"{a1:g} (x1 - {c1:g})^2 + {a2:g} (x2 - {c2:g})^2".replace("- -", "+ "),
        ("x1", "x2"),
        of_numbers(lambda x1, x2: a1 * square(x1 - c1) + a2 * square(x2 - c2)),
        slopes_of_numbers(lambda x1, x2: (2.0 * a1 * (x1 - c1), 2.0 * a2 * (x2 - c2))),
        start=[-5.0, -2.0],
        minimizers=[[c1, c2]],
        minimum=0.0,
        source="Polyak 1964",
    )


def line_fit() -> Problem:
    """Learning from data: k and b of ``k x + b`` for 50 points about the line ``2 x - 1``, with noise.

    The loss is the mean square of what is left over. Noise, from -1/2 to 1/2, keeps the best one above 0, and its k
    and b beside 2 and -1.

    Examples
    --------
    >>> problem = line_fit()
    >>> problem.minimizers[0].round(3), round(problem.minimum, 4)
    (array([ 1.966, -0.929]), 0.0688)
    """
    x, noise = 4.0 * uniform(1, 50), uniform(2, 50) - 0.5
    return least_squares(
        np.column_stack([x, np.ones(50)]),
        2.0 * x - 1.0 + noise,
        name="line_fit",
        description="mean of (k x + b - y)^2, 50 points",
        variables=("k", "b"),
    )


def three_halves() -> Problem:
    """A slope so sharp that constant steps do not settle: ``2/3 |x|^(3/2)``, least at 0. What decaying rates are for.

    The slope is ``sign(x) sqrt(|x|)``, and the second derivative is infinite at 0. Descent of a constant rate d
    reaches 0 from 0, from d^2 and -d^2 in a step, from (3 + sqrt(5)) / 2 d^2 and its negative in two steps, and so on:
    each distance x is that from which a step leads to the one before, ``x - d sqrt(x)``. From all other points it ends
    jumping from d^2 / 4 to -d^2 / 4 and back. From 1, a rate of 1 arrives at once, and one of 0.5 never does.

    Examples
    --------
    >>> import numpy as np, optcore as oc
    >>> problem = three_halves()
    >>> x = np.array([1.0])
    >>> opt = oc.SGD(x, lr=0.5)
    >>> for _ in range(1000):
    ...     opt.step(problem.jac(x))
    >>> abs(x)
    array([0.0625])
    """
    return problem_of(
        "three_halves",
        "2/3 |x|^(3/2)",
        ("x",),
        of_numbers(lambda x: 2.0 * (abs(x) * math.sqrt(abs(x))) / 3.0),
        slopes_of_numbers(lambda x: (math.copysign(math.sqrt(abs(x)), x),)),
        start=[3.0],
        minimizers=[[0.0]],
        minimum=0.0,
    )


def quadratic_fit(scale: float = 1.0) -> Problem:
    """Columns that resemble each other: alpha, beta and gamma of ``alpha + beta x + gamma scale x^2`` for 50 points.

    The points are about ``1 - 2 x + x^2 / 2`` with noise from -1/2 to 1/2; the condition number of the second
    derivative is 61. With ``scale=1e-6`` it is 2e12: the last column is in a unit a million times too large, and its
    parameter, near 500000, is a million times larger. The best loss is the same. What rates for each parameter are
    for: with 1e12 times the rate for the last one, gradient descent takes the steps of the other problem.

    Parameters
    ----------
    scale : float
        Multiplies the last column.

    Examples
    --------
    >>> for problem in quadratic_fit(), quadratic_fit(scale=1e-6):
    ...     print(*problem.minimizers[0].round(3), round(problem.minimum, 4))
    1.046 -2.027 0.525 0.0738
    1.046 -2.027 525377.096 0.0738
    """
    scale = check_number("scale", scale, POSITIVE)
    x, noise = 4.0 * uniform(3, 50) - 1.0, uniform(4, 50) - 0.5
    return least_squares(
        np.column_stack([np.ones(50), x, scale * x * x]),
        1.0 - 2.0 * x + 0.5 * x * x + noise,
        name="quadratic_fit" if scale == 1.0 else "quadratic_fit_scaled",
        description=f"mean of (alpha + beta x + gamma {'' if scale == 1.0 else f'{scale:g} '}x^2 - y)^2, 50 points",
        variables=("alpha", "beta", "gamma"),
    )


def beale() -> Problem:
    """A bent valley: ``(1.5 - x + x y)^2 + (2.25 - x + x y^2)^2 + (2.625 - x + x y^3)^2``, 0 at (3, 1/2).

    Its second derivative at the minimizer has a condition number of 162.

    References
    ----------
    Beale, On an iterative method for finding a local minimum of a function of more than one variable, 1958. The start
    is that of Moré, Garbow & Hillstrom, Testing unconstrained optimization software, 1981, problem 5.

    Examples
    --------
    >>> problem = beale()
    >>> problem.fun(problem.start), problem.fun(problem.minimizers[0])
    (14.203125, 0.0)
    """

    def value(x: float, y: float) -> float:
        return square(1.5 - x + x * y) + square(2.25 - x + x * y * y) + square(2.625 - x + x * y * y * y)

    def slopes(x: float, y: float) -> tuple[float, float]:
        a, b, c = 1.5 - x + x * y, 2.25 - x + x * y * y, 2.625 - x + x * y * y * y
        return (
            2.0 * (a * (y - 1.0) + b * (y * y - 1.0) + c * (y * y * y - 1.0)),
            2.0 * x * (a + 2.0 * b * y + 3.0 * c * y * y),
        )

    return problem_of(
        "beale",
        "(1.5 - x + x y)^2 + (2.25 - x + x y^2)^2 + (2.625 - x + x y^3)^2",
        ("x", "y"),
        of_numbers(value),
        slopes_of_numbers(slopes),
        start=[1.0, 1.0],
        minimizers=[[3.0, 0.5]],
        minimum=0.0,
        source="Beale 1958, start of Moré, Garbow & Hillstrom 1981",
    )


def rosenbrock(n: int = 2) -> Problem:
    """A bent ravine: the sum of ``100 (x[i+1] - x[i]^2)^2 + (1 - x[i])^2``, least at (1, ..., 1), where it is 0.

    The bottom of the ravine is nearly flat: at the minimizer of two variables the second derivative has a condition
    number of 2508. With four variables there is another, local minimum near (-0.78, 0.61, 0.38, 0.15), and with more
    there is one like it.

    Parameters
    ----------
    n : int
        The number of variables, at least 2.

    References
    ----------
    Rosenbrock, An automatic method for finding the greatest or least value of a function, 1960. The sum over
    overlapping pairs is that of many libraries, :func:`scipy.optimize.rosen` among them.

    Examples
    --------
    >>> problem = rosenbrock()
    >>> problem.start, problem.jac(problem.start)
    (array([-1.2,  1. ]), array([-215.6,  -88. ]))
    >>> rosenbrock(4).start
    array([-1.2,  1. , -1.2,  1. ])
    """
    n = check_integer("n", n, 2)

    @np.errstate(all="ignore")
    def value(x: np.ndarray) -> float:
        a, b = x[1:] - x[:-1] * x[:-1], 1.0 - x[:-1]
        return float(100.0 * (a @ a) + b @ b)

    @np.errstate(all="ignore")
    def gradient(x: np.ndarray) -> np.ndarray:
        steep = 200.0 * (x[1:] - x[:-1] * x[:-1])
        result = np.zeros_like(x)
        result[1:] = steep
        result[:-1] -= 2.0 * x[:-1] * steep + 2.0 * (1.0 - x[:-1])
        return result

    def value_of_2(x: float, y: float) -> float:
        return 100.0 * square(y - x * x) + square(1.0 - x)

    def slopes_of_2(x: float, y: float) -> tuple[float, float]:
        steep = 200.0 * (y - x * x)
        return -(2.0 * x * steep + 2.0 * (1.0 - x)), steep

    return problem_of(
        "rosenbrock" if n == 2 else f"rosenbrock_{n}",
        "100 (y - x^2)^2 + (1 - x)^2" if n == 2 else "sum of 100 (x[i+1] - x[i]^2)^2 + (1 - x[i])^2",
        ("x", "y") if n == 2 else tuple(f"x{i}" for i in range(1, n + 1)),
        of_numbers(value_of_2) if n == 2 else value,
        slopes_of_numbers(slopes_of_2) if n == 2 else gradient,
        start=np.resize([-1.2, 1.0], n),
        minimizers=[np.ones(n)],
        minimum=0.0,
        source="Rosenbrock 1960",
    )


def plateau() -> Problem:
    """No constant rate arrives, and a decaying one does: ``x^4 / 40 - x^3 / 3``, least at 10, where it is -250/3.

    The slope, ``x^2 (x - 10) / 10``, is 0 at 10, and at 0 too, with its derivative: the plateau. The start is at -3.5.

    - A constant rate below 40/189 = 0.2116 never gets across the plateau: x rises to 0 for ever, as -1 / (lr t).
    - One from 0.22 to 0.25 is beyond the plateau within 40 steps, and ends jumping to and fro over the minimum, more
      than 0.8 away from it: the second derivative there is 10, so from 0.2 on a step ends farther on the other side.
    - One that starts there and decays below 0.2 crosses it and arrives, such as ``Linear(0.25, 0, steps=200)``,
      ``InverseTime(0.25, rate=1, steps=100)`` and ``Exponential(0.25, 0.5, steps=100)``.

    Examples
    --------
    >>> import optcore as oc
    >>> problem = plateau()
    >>> for lr in 0.2, 0.25, oc.Exponential(0.25, 0.5, steps=100):
    ...     x = problem.start.copy()
    ...     opt = oc.SGD(x, lr=lr)
    ...     for _ in range(500):
    ...         opt.step(problem.jac(x))
    ...     print(x.round(6))
    [-0.009443]
    [8.083708]
    [10.]
    """
    return problem_of(
        "plateau",
        "x^4 / 40 - x^3 / 3",
        ("x",),
        of_numbers(lambda x: x * x * x * (x / 40.0 - 1.0 / 3.0)),
        slopes_of_numbers(lambda x: (x * x * (x - 10.0) / 10.0,)),
        start=[-3.5],
        minimizers=[[10.0]],
        minimum=-250.0 / 3.0,
    )


def least_squares(
    A: Any, y: Any, *, name: str = "least_squares", description: str = "", variables: Sequence[str] = ()
) -> Problem:
    """A linear model fitted to data: the mean of ``(A p - y)^2``, from p = 0.

    Parameters
    ----------
    A : array of shape (m, n)
        A row for each observation, a column for each parameter. Copied.
    y : array of shape (m,)
        The targets. Copied.
    name, description : str
    variables : sequence of n str
        The names of the parameters; p1, p2, ... if they have none.

    Raises
    ------
    TypeError, ValueError
        An argument has no numbers, not finite ones, or another shape.

    Notes
    -----
    The answer is LAPACK's, of columns divided by their norms. Where the columns are linearly dependent, the minimum is
    known, but there are more minimizers than can be listed.

    Examples
    --------
    >>> import numpy as np
    >>> problem = least_squares([[1.0, 0.0], [1.0, 1.0], [1.0, 2.0]], [1.0, 0.0, 2.0])
    >>> problem.minimizers[0].round(12), round(problem.minimum, 12)
    (array([0.5, 0.5]), 0.5)
    """
    A = frozen("A", A, (None, None))
    m, n = A.shape
    if m == 0 or n == 0:
        raise ValueError(f"A must have rows and columns, got shape {A.shape}")
    y = frozen("y", y, (m,))
    variables = tuple(variables) or tuple(f"p{i}" for i in range(1, n + 1))
    if len(variables) != n:
        raise ValueError(f"variables must have {n} names, one for each column of A, got {variables!r}")

    @np.errstate(all="ignore")
    def value(p: np.ndarray) -> float:
        residual = A @ p - y
        return float(residual @ residual) / m

    @np.errstate(all="ignore")
    def gradient(p: np.ndarray) -> np.ndarray:
        return (A @ p - y) @ A * (2.0 / m)

    norms = np.sqrt(np.square(A).sum(axis=0))
    norms[norms == 0.0] = 1.0
    scaled, _, rank, _ = np.linalg.lstsq(A / norms, y, rcond=None)
    return problem_of(
        name,
        description or "mean of (A p - y)^2",
        variables,
        value,
        gradient,
        start=np.zeros(n),
        minimizers=[scaled / norms] if rank == n else [],
        minimum=value(scaled / norms),
        data=(A, y),
    )


def from_expression(text: str, start: Any = None, name: str | None = None) -> Problem:
    """The problem of a formula, such as ``(1 - x)**2 + 100*(y - x**2)**2``, with its exact gradient.

    The text is read and never run. :func:`optcore.formulas.parse` says what it may have, and what stands for a gradient
    that is none.

    Parameters
    ----------
    text : str
        At most 1000 characters.
    start : array of n numbers, optional
        Where to begin; without it at ones, as many formulas have no slope, or no value, at 0.
    name : str, optional
        Without it, the text.

    Returns
    -------
    Problem
        Its variables are in alphabetical order, capitals first, and numbers in them count as numbers: x, x2, x10, y.

    Raises
    ------
    ValueError
        The text cannot be read; the message points at the place. Or the start is no finite number for each variable.
    ModuleNotFoundError
        SymPy is not installed.

    Examples
    --------
    >>> import numpy as np
    >>> problem = from_expression("2*x**2 - 2*x + 3", start=[3.0])
    >>> problem.fun(problem.start), problem.jac(problem.start)
    (15.0, array([10.]))
    >>> from_expression("log(y) + x").variables
    ('x', 'y')
    """
    formula = formulas.parse(text)
    return problem_of(
        text if name is None else name,
        " ".join(text.split()),
        *formula,
        start=np.ones(len(formula.variables)) if start is None else check_start("start", start, formula.variables),
    )


PROBLEMS: dict[str, Problem] = {
    problem.name: problem
    for problem in (
        parabola(),
        double_well(),
        himmelblau(),
        booth(),
        ravine(),
        line_fit(),
        three_halves(),
        quadratic_fit(),
        beale(),
        rosenbrock(),
        rosenbrock(10),
        quadratic_fit(scale=1e-6),
        plateau(),
    )
}
"""The problems by name, in the order of the steps that gradient descent needs with its best constant rate."""
