"""Gradients from values of a function alone, and a check of gradients that were written by hand."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from optcore.domains import NOT_NEGATIVE, check_choice, check_number

__all__ = ["SCHEMES", "GradientCheck", "Objective", "check_grad", "relative_steps", "starting_point"]

SCHEMES = ("2-point", "3-point", "cs")
EPS = np.finfo(np.float64).eps
ROUNDINGS = 64.0
"""What a function's value may be off by, in eps: sums of many terms lose a few bits more than one operation."""


def starting_point(x0: Any, name: str = "x0") -> np.ndarray:
    """A copy of ``x0`` as a one-dimensional float64 array.

    Raises
    ------
    TypeError, ValueError
        It is not made of real numbers, has more than one dimension, no element, or one that is not finite.
    """
    x = np.atleast_1d(np.asarray(x0))
    if x.dtype.kind not in "fiub":
        raise TypeError(f"{name} must be an array of real numbers, got dtype {x.dtype}")
    if x.ndim != 1:
        raise ValueError(f"{name} must have one dimension, got shape {x.shape}; pass x0.ravel(), and reshape in fun")
    if not x.size:
        raise ValueError(f"{name} is empty; at least one number is needed")
    x = np.array(x, np.float64)
    if not np.isfinite(x).all():
        index = int(np.argmin(np.isfinite(x)))
        raise ValueError(f"{name} must be finite, but element {index} is {x[index]}")
    return x


def relative_steps(name: str, value: Any, x: np.ndarray) -> np.ndarray | None:
    """A relative step for each element, if there is one; ValueError for what is none."""
    try:
        steps = None if value is None else np.array(np.broadcast_to(np.asarray(value, np.float64), x.shape))
    except (TypeError, ValueError):
        steps = np.array(math.nan)
    if steps is not None and not np.all((steps > 0) & np.isfinite(steps)):
        raise ValueError(f"{name} must be a finite number > 0, or {x.size} of them, got {value!r}")
    return steps


def step_lengths(x: np.ndarray, scheme: str, eps: Any, rel_step: Any) -> np.ndarray:
    """Steps that balance rounding and truncation, away from zero; those of central differences are positive.

    SciPy's choice: ``eps ** (1 / 2)``, or ``eps ** (1 / 3)`` where the error is of second order, times
    ``max(1, abs(x))``; or ``rel_step * abs(x)`` where that moves x (Press et al., Numerical Recipes, section 5.7).
    """
    away = np.where((x >= 0) | (scheme == "3-point"), 1.0, -1.0)
    # Powers as NumPy 2 has them: of a float32, with an exponent and a result that are rounded to float32.
    exponent = type(eps)(1 / 3 if scheme == "3-point" else 0.5)
    usual = float(type(eps)(float(eps) ** float(exponent))) * away * np.maximum(1.0, np.abs(x))
    if rel_step is None:
        return usual
    wanted = rel_step * away * np.abs(x)
    return np.where((x + wanted) - x == 0, usual, wanted)


def fitted(
    x: np.ndarray, h: np.ndarray, scheme: str, lower: np.ndarray, upper: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Steps that stay within the bounds, and which of them can be taken to both sides.

    A step that does not fit is taken to the roomier side, as far as there is room.
    """
    below, above = x - lower, upper - x
    room, side = np.maximum(below, above), np.where(above >= below, 1.0, -1.0)
    if scheme == "2-point":
        fits = np.where(h > 0, np.abs(h) <= above, np.abs(h) <= below)
        turned = np.where(np.abs(h) <= room, -h, side * room)
        return np.where(fits, h, turned), np.zeros(x.shape, bool)
    near = np.minimum(below, above)
    twice = np.minimum(h, 0.5 * room)  # two steps to one side
    both = (near >= h) | (twice <= near)
    return np.where(near >= h, h, np.where(both, near, side * twice)), both


def differences(
    fun: Callable[[np.ndarray], Any],
    x: np.ndarray,
    f0: float,
    scheme: str,
    lower: np.ndarray | None = None,
    upper: np.ndarray | None = None,
    rel_step: Any = None,
    eps: Any = EPS,
    widened: float = 1.0,
) -> np.ndarray:
    """The gradient at x; an element that its bounds fix is 0."""
    h = step_lengths(x, scheme, eps, rel_step) * widened
    both = np.full(x.shape, scheme == "3-point")
    if lower is not None and upper is not None and scheme != "cs":
        h, both = fitted(x, h, scheme, lower, upper)
    point, g = x.astype(complex) if scheme == "cs" else x.copy(), np.zeros_like(x)

    def at(i: int, value: float) -> tuple[float, float]:
        """The function where element i has this value, or its bound if rounding led beyond; and that value."""
        if lower is not None and upper is not None:
            value = min(max(value, float(lower[i])), float(upper[i]))
        point[i] = value
        return fun(point), value

    for i, (here, step) in enumerate(zip(x.tolist(), h.tolist(), strict=True)):
        if step == 0:
            continue
        if scheme == "cs":
            point[i] = complex(here, step)
            g[i] = fun(point).imag / step
        elif scheme == "2-point":
            there, end = at(i, here + step)
            g[i] = (there - f0) / (end - here)
        elif both[i]:
            (before, begin), (there, end) = at(i, here - step), at(i, here + step)
            g[i] = (there - before) / (end - begin)
        else:
            (near, _), (there, end) = at(i, here + step), at(i, here + 2 * step)
            g[i] = (-3.0 * f0 + 4 * near - there) / (end - here)
        point[i] = here
    return g


class Objective:
    """A function and its gradient as SciPy calls them: with copies of x, counted, and their results checked.

    Parameters
    ----------
    fun : callable
        ``fun(x, *args)`` returns a number; with ``jac=True`` a pair of that and the gradient.
    jac : callable, True, "2-point", "3-point", "cs", None or False
        Where the gradient comes from; None and False are "2-point".
    args : tuple
    lower, upper : array, optional
        Finite differences stay between them.
    rel_step : float or array, optional
        SciPy's ``finite_diff_rel_step``.

    Raises
    ------
    TypeError, ValueError
        An argument is of no use; on evaluation, a result is not a real number or not a gradient of x's shape.
    """

    def __init__(
        self,
        fun: Callable[..., Any],
        jac: Any = None,
        args: Any = (),
        lower: np.ndarray | None = None,
        upper: np.ndarray | None = None,
        rel_step: Any = None,
    ):
        if not callable(fun):
            raise TypeError(f"fun must be callable, got {fun!r}")
        if jac is None or jac is False:
            jac = SCHEMES[0]
        if jac is not True and not callable(jac) and not (isinstance(jac, str) and jac in SCHEMES):
            accepted = f"a function, True, None or one of {', '.join(map(repr, SCHEMES))}"
            raise ValueError(f"jac must be {accepted}, got {jac!r}")
        self.fun, self.jac, self.rel_step = fun, jac, rel_step
        self.args = args if isinstance(args, tuple) else (args,)
        self.lower, self.upper = lower, upper
        self.nfev = self.njev = 0
        self.eps: Any = EPS
        """Of the type that the function returns."""

    def value(self, x: np.ndarray) -> Any:
        """The function's value as a Python number."""
        self.nfev += 1
        return number(self.fun(x.copy(), *self.args), x.dtype.kind == "c")

    def __call__(self, x: np.ndarray, g: np.ndarray) -> float:
        """Returns the loss at x and writes the gradient to g: NaN where the loss is not finite."""
        self.nfev += 1
        result = self.fun(x.copy(), *self.args)
        gradient: Any = None
        if self.jac is True:
            if not isinstance(result, (tuple, list)) or len(result) != 2:
                raise TypeError(f"with jac=True, fun must return a pair (loss, gradient), got {type(result).__name__}")
            result, gradient = result
        loss = number(result)
        if not isinstance(result, float) and (dtype := np.asarray(result).dtype) in (np.float32, np.float16):
            self.eps = np.finfo(dtype).eps
        if not math.isfinite(loss):
            g[...] = np.nan
            return loss
        if callable(self.jac):
            gradient = self.jac(x.copy(), *self.args)
        elif self.jac is not True:
            gradient = differences(self.value, x, loss, self.jac, self.lower, self.upper, self.rel_step, self.eps)
        self.njev += 1
        copy_gradient(gradient, g)
        return loss


def number(value: Any, or_complex: bool = False) -> Any:
    """What an objective returned as a Python number, if it is one; TypeError or ValueError otherwise."""
    if isinstance(value, float):
        return float(value)
    if not np.isscalar(value):
        if isinstance(value, tuple):
            raise TypeError("the objective function returned a tuple; where it returns the gradient too, jac is True")
        array = np.asarray(value)
        if array.size != 1:
            raise ValueError(f"the objective function must return a scalar value, got an array of shape {array.shape}")
        value = array.item()
    with contextlib.suppress(TypeError, ValueError):
        if isinstance(value, (complex, np.complexfloating)):
            if or_complex:
                return complex(value)
        elif not isinstance(value, (str, bytes)):
            return float(value)
    raise TypeError(f"the objective function must return a real number, got {value!r}")


def copy_gradient(gradient: Any, g: np.ndarray) -> None:
    """Writes a gradient to g as float64, if it is one of that shape; TypeError or ValueError otherwise."""
    found = np.atleast_1d(np.asarray(gradient))
    if found.dtype.kind not in "fiubO":
        raise TypeError(f"the gradient must be an array of real numbers, got dtype {found.dtype}")
    if found.shape != g.shape:
        raise ValueError(f"the gradient has shape {found.shape}, but x has shape {g.shape}")
    try:
        g[...] = found
    except (TypeError, ValueError):
        raise TypeError(f"the gradient must be an array of real numbers, got {gradient!r}") from None


# ---------------------------------------------------------------------------- check_grad


class GradientCheck(float):
    """What :func:`check_grad` found: the number that SciPy's returns, with the details.

    The number is the 2-norm of ``jac(x)`` minus the finite differences.

    Attributes
    ----------
    ok : bool
        No element differs by more than its tolerance.
    index : int
        The worst element: the one with the largest error compared with its tolerance.
    max_error, analytic, numeric : float
        How far it is off, and what ``jac`` and the finite differences say.
    errors, tolerances : array of float64, shape (n,)
        Absolute differences, and up to where they may come from the finite differences alone.
    """

    ok: bool
    index: int
    max_error: float
    analytic: float
    numeric: float
    errors: np.ndarray
    tolerances: np.ndarray

    def __repr__(self) -> str:
        values = f"jac says {self.analytic!r}, finite differences say {self.numeric!r}, off by {self.max_error:.2g}"
        if self.ok:
            return f"gradient ok in all {len(self.errors)} elements; worst is element {self.index}: {values}"
        wrong = int(np.sum(~(self.errors <= self.tolerances)))
        return (
            f"gradient WRONG in {wrong} of {len(self.errors)} elements; worst is element {self.index}: {values}, "
            f"where {self.tolerances[self.index]:.2g} is tolerated"
        )

    __str__ = __repr__

    def __bool__(self) -> bool:
        raise TypeError("a gradient check is neither true nor false: look at .ok, or compare it with a number")


def check_grad(
    fun: Callable[..., Any],
    jac: Any,
    x: Any,
    *args: Any,
    scheme: str = "3-point",
    rel_step: Any = None,
    rtol: float = 1e-5,
) -> GradientCheck:
    """Compares a gradient with finite differences and says which element is off, and by how much.

    An element is tolerated up to ``rtol`` times its size, and twice the difference that doubling the step makes
    (truncation), and what rounding of ``fun(x)`` makes of a difference. So a small error that no finite difference
    can show passes. ``scheme="cs"``, the complex step, has neither cancellation nor, in effect, truncation: it
    shows errors down to ``rtol``, however small; but ``fun`` must take complex arrays and be analytic (no
    ``abs``, no ``max``, no conjugate).

    Parameters
    ----------
    fun : callable
        ``fun(x, *args)`` returns a number.
    jac : callable or True
        ``jac(x, *args)`` returns an array of shape (n,). True: ``fun`` returns the pair of both.
    x : array_like, shape (n,)
        Where to compare. A point where no element is 0 or 1 shows more than one where they are.
    *args :
        Handed on to both.
    scheme : {"3-point", "2-point", "cs"}
        Central differences, forward differences, complex step.
    rel_step : float or array, optional
        The step is ``rel_step * abs(x)``; without it ``eps ** (1 / 3) * max(1, abs(x))``, with a square root for the
        other schemes.
    rtol : float
        What share of an element may be off.

    Returns
    -------
    GradientCheck
        A float, SciPy's ``check_grad``, with ``ok``, ``index``, ``max_error``, ``analytic``, ``numeric``, ``errors``
        and ``tolerances``.

    Raises
    ------
    TypeError, ValueError
        An argument, or what a function returned, is of no use.

    Examples
    --------
    >>> import optcore as oc
    >>> fun = lambda x: x[0] ** 2 + x[0] * x[1]
    >>> oc.check_grad(fun, lambda x: [2 * x[0] + x[1], x[0]], [3.0, 5.0]).ok
    True
    >>> check = oc.check_grad(fun, lambda x: [2 * x[0] + x[1], x[1]], [3.0, 5.0])
    >>> check.ok, check.index, check.analytic, round(check.numeric, 6)
    (False, 1, 5.0, 3.0)

    References
    ----------
    Squire & Trapp, Using complex variables to estimate derivatives of real functions, 1998.
    """
    check_choice("scheme", scheme, SCHEMES)
    rtol = check_number("rtol", rtol, NOT_NEGATIVE)
    if jac is not True and not callable(jac):
        raise TypeError(f"jac must be a function or True, got {jac!r}")
    x = starting_point(x, "x")
    rel_step = relative_steps("rel_step", rel_step, x)
    objective, analytic = Objective(fun, jac, args), np.empty_like(x)
    loss = objective(x, analytic)
    if not math.isfinite(loss):
        raise ValueError(f"fun(x) is {loss}; a gradient can be checked where the function is finite")

    value = (lambda z: number(fun(z.copy(), *args)[0], scheme == "cs")) if jac is True else objective.value
    numeric, doubled = (
        differences(value, x, loss, scheme, rel_step=rel_step, eps=objective.eps, widened=widened)
        for widened in (1.0, 2.0)
    )
    with np.errstate(divide="ignore", invalid="ignore"):  # what is not finite is wrong
        errors, sizes = np.abs(analytic - numeric), np.maximum(np.abs(analytic), np.abs(numeric))
        sizes[~np.isfinite(sizes)] = 0.0
        # Of the complex step, only the sum within the imaginary part is rounded.
        lost = sizes.max() if scheme == "cs" else abs(loss) / step_lengths(x, scheme, objective.eps, rel_step)
        tolerances = rtol * sizes + 2 * np.abs(doubled - numeric) + ROUNDINGS * objective.eps * np.abs(lost)
        ratios = np.where(errors == 0, 0.0, np.nan_to_num(errors / tolerances, nan=np.inf, posinf=np.inf))
        check = GradientCheck(np.linalg.norm(analytic - numeric))
    check.errors, check.tolerances = errors, tolerances
    check.index, check.ok = int(np.argmax(ratios)), bool(ratios.max() <= 1)
    check.max_error = float(errors[check.index])
    check.analytic, check.numeric = float(analytic[check.index]), float(numeric[check.index])
    return check
