"""``oc.minimize``: a loop around any optimizer, with the face of ``scipy.optimize.minimize``.

The module has an underscore, as SciPy's has, because the package's ``minimize`` is the function. A row of the history
belongs to a point: row k is the point after k steps, and ``nit`` is the last of them.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import inspect
import math
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from optcore._descent import Descent, Function
from optcore.domains import NOT_NEGATIVE, check_number, nearest
from optcore.feedback import Feedback
from optcore.finite_differences import Objective, relative_steps, starting_point
from optcore.optimizer import CATALOGUE, Optimizer
from optcore.results import new_style, progress_bar, result_class
from optcore.schedules import Schedule
from optcore.stopping import MESSAGES, SUCCESSES, Settings, Status

__all__ = ["minimize", "scipy_method"]


# ---------------------------------------------------------------------------- arguments

SETTINGS = tuple(field.name for field in dataclasses.fields(Settings))
ELSEWHERE = {
    "bounds": "give bounds to minimize itself",
    "maximize": "minimize the negative of fun",
    "on_nonfinite": "a gradient that is not finite ends the run",
}
"""Keywords of optimizers that are no options, and what to do instead."""


def find_optimizer(method: Any) -> type[Optimizer]:
    """The class of that name, or the class itself."""
    if isinstance(method, type) and issubclass(method, Optimizer) and method is not Optimizer:
        return method
    if method is None:  # SciPy's default
        method = "adam"
    if not isinstance(method, str):
        raise TypeError(f"method must be the name or the class of an optimizer, got {method!r}")
    if method.lower() not in CATALOGUE:
        raise ValueError(f"there is no method {method!r}{nearest(method.lower(), list(CATALOGUE))}")
    return CATALOGUE[method.lower()]


def known_options(cls: type[Optimizer]) -> list[str]:
    return [*SETTINGS, *(name for name in cls._keywords() if name not in ELSEWHERE)]


def split(cls: type[Optimizer], options: Mapping[str, Any]) -> tuple[Settings, dict[str, Any]]:
    """Options of the run, and keywords of the optimizer.

    Raises
    ------
    TypeError, ValueError
        One is unknown, or a setting is outside of what it accepts.
    """
    for name in options:
        if name in ELSEWHERE:
            raise TypeError(f"{name} is no option of minimize: {ELSEWHERE[name]}")
        if name not in known_options(cls):
            close = nearest(str(name), known_options(cls))
            raise TypeError(f"minimize with {cls.__name__} got an unknown option {name!r}{close}")
    settings = Settings(**{name: value for name, value in options.items() if name in SETTINGS})
    return settings, {name: value for name, value in options.items() if name not in SETTINGS}


def parse_bounds(bounds: Any, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper bounds of each element, from a sequence of pairs or from what has ``lb`` and ``ub``."""
    try:
        if hasattr(bounds, "lb") and hasattr(bounds, "ub"):
            sides = [bounds.lb, bounds.ub]
        else:
            pairs = [(low, high) for low, high in bounds]
            sides = [[-math.inf if low is None else low for low, _ in pairs],
                     [math.inf if high is None else high for _, high in pairs]]  # fmt: skip
        sides = [np.asarray(side, np.float64) for side in sides]
    except (TypeError, ValueError):
        accepted = "a sequence of pairs of numbers or None, (low, high), or scipy.optimize.Bounds"
        raise ValueError(f"bounds must be {accepted}, got {bounds!r}") from None
    try:
        lower, upper = (np.array(np.broadcast_to(side, x.shape)) for side in sides)
    except ValueError:
        raise ValueError(f"bounds has {sides[0].size} pairs, but x0 has {x.size} elements") from None
    wrong = np.flatnonzero(~((lower <= upper) & (lower < math.inf) & (upper > -math.inf)))
    if len(wrong):
        i = wrong[0]
        raise ValueError(f"bounds[{i}] must be (low, high) with low <= high, got ({lower[i]}, {upper[i]})")
    return lower, upper


# ---------------------------------------------------------------------------- the run


class Point(NamedTuple):
    loss: float
    x: np.ndarray
    g: np.ndarray


class Run:
    """One minimization. All that changes with a point changes in one compiled call: an interruption finds it whole."""

    def __init__(
        self,
        objective: Objective | Function,
        x: np.ndarray,
        bounds: tuple[np.ndarray, np.ndarray] | None,
        cls: type[Optimizer],
        keywords: Mapping[str, Any],
        settings: Settings,
        callback: Callable[..., Any] | None,
    ):
        # NaN, so that a compiled function that adds to the gradient and does not set it first is found out.
        self.objective, self.x, self.g, self.bounds = objective, x, np.full_like(x, math.nan), bounds
        self.cls, self.keywords, self.settings = cls, dict(keywords), settings
        parameter = inspect.signature(cls).parameters.get("lr")
        if "lr" not in keywords and parameter is not None:
            if cls._needs_lr():
                raise TypeError(f'{cls.__name__} needs a learning rate: options={{"lr": ...}}')
            self.keywords["lr"] = parameter.default
        if settings.restarts and "lr" not in self.keywords:
            raise ValueError(f"restarts make lr smaller, but {cls.__name__} has none")
        self.call_back = new_style(callback)
        self.bar: Any = None
        self.restarts = 0
        self.make_optimizer()
        if settings.returns == "averaged" and not self.optimizer._averages:
            raise ValueError('returns="averaged" needs averaging=optcore.EMA() or optcore.Polyak() in the options')
        self.points = Descent(x, self.g, bounds, settings, settings.returns == "last")
        self.average: Point | None = None
        seconds = settings.max_seconds
        self.deadline = math.inf if seconds is None else time.perf_counter() + seconds
        self.compiled = isinstance(objective, Function) and self.call_back is None and self.feedback is None
        self.steps_at_once = 1

    def make_optimizer(self) -> None:
        """A new one at x, with the learning rate that belongs to this many restarts."""
        lr = self.keywords.get("lr")
        self.feedback: Any = copy.copy(lr) if isinstance(lr, Feedback) else None
        if self.feedback is not None:
            lr = self.feedback
        elif callable(lr) and not isinstance(lr, Schedule):
            lr = functools.lru_cache(maxsize=1)(lr)  # the history asks once more
        if self.restarts:
            lr = scaled(lr, self.settings.restart_factor**self.restarts)
        self.lr: Any = lr
        keywords = dict(self.keywords)
        if "lr" in keywords:
            keywords["lr"] = lr
        if self.bounds is not None:
            keywords["bounds"] = self.bounds
        self.optimizer = self.cls(self.x, self.g, **keywords)

    @property
    def step(self) -> int:
        """Steps so far, those before a restart included."""
        return self.points.size - 1

    def go(self) -> Status:
        """Steps until there is a reason to stop."""
        status = self.evaluate(math.nan)
        while status is None:
            status = self.advance()
            if self.bar is not None:
                self.bar.set_postfix_str(f"loss {self.points.loss:.6g}", refresh=False)
                self.bar.update(self.step - self.bar.n)
        if self.returned(status) == "averaged":
            self.evaluate_average()
        return status

    def advance(self) -> Status | None:
        """One step, or several where nobody wants to look in between."""
        if self.compiled:
            begin = time.perf_counter()
            lr = math.nan if self.lr is None or callable(self.lr) else self.lr
            status = self.points.run(self.optimizer, self.objective, self.steps_at_once, lr)
            # Enough for the way there not to matter, few enough for Ctrl-C and the clock.
            self.steps_at_once = min(2 * self.steps_at_once, 1024) if time.perf_counter() - begin < 0.01 else 1
            return self.diverged() if status == Status.DIVERGED else self.in_time(status)
        if self.feedback is not None:  # after a restart, of the point gone back to
            self.feedback.update(self.points.best_loss if self.optimizer.t == 0 and self.step else self.points.loss)
        t = self.optimizer.t
        self.optimizer.step()
        return self.evaluate(self.lr(t) if callable(self.lr) else math.nan if self.lr is None else self.lr)

    def evaluate(self, lr: float) -> Status | None:
        """Loss and gradient at x, and what follows from them; ``lr`` is that of the step which led here."""
        loss = self.objective(self.x, self.g) if self.points.finite() else math.nan
        if not self.points.observe(loss, lr):
            return self.diverged()
        if self.step and self.call_back is not None:
            try:
                self.call_back(result_class()(x=self.x.copy(), fun=loss))
            except StopIteration:
                return Status.CALLBACK
        return self.in_time(self.points.decide())

    def in_time(self, status: int | None) -> Status | None:
        if status is None:
            return Status.TIME if time.perf_counter() >= self.deadline else None
        return Status(status)

    def diverged(self) -> Status | None:
        """Starts again from the best point, where that is wanted."""
        if self.step == 0:
            finite = math.isfinite(self.points.loss) and math.isfinite(self.points.largest)
            return Status.DIVERGED if finite else Status.START
        if self.best() is None or self.restarts == self.settings.restarts or self.step >= self.settings.maxiter:
            return Status.DIVERGED
        self.restarts += 1
        self.points.go_back()
        self.make_optimizer()
        return None

    def returned(self, status: Status) -> str:
        """Which point is to be returned."""
        returns = self.settings.returns
        if self.best() is None or (returns is None and status in (Status.GRADIENT, Status.TARGET)):
            return "here"
        if returns in ("best", "last"):
            return returns
        averages = self.optimizer._averages and self.optimizer.t > 0  # before, some averages are zero
        return "averaged" if averages and status not in (Status.DIVERGED, Status.INTERRUPTED) else "best"

    def evaluate_average(self) -> None:
        x, g = np.array(self.optimizer.averaged()), np.empty_like(self.g)
        if self.bounds is not None:  # an average of equal numbers can be off by a rounding
            np.clip(x, *self.bounds, out=x)
        loss = self.objective(x, g)
        if math.isfinite(loss) and np.isfinite(g).all():
            self.average = Point(loss, x, g)

    def best(self) -> Point | None:
        points = self.points
        return Point(points.best_loss, points.best_x, points.best_g) if math.isfinite(points.best_loss) else None

    def reason(self) -> str:
        """What was wrong with the last point."""
        loss = self.points.loss
        if not np.isfinite(self.x).all():
            return "x is not finite"
        if not math.isfinite(loss):
            return f"the loss is {loss}"
        if not math.isfinite(self.points.largest):
            index = int(np.argmin(np.isfinite(self.g)))
            return f"element {index} of the gradient is {self.g[index]}"
        return f"the loss is {loss:g}, above divergence={self.settings.divergence:g}"

    def result(self, status: Status) -> Any:
        message = MESSAGES[status]
        if status in (Status.DIVERGED, Status.START):
            message = message.format(step=self.step, reason=self.reason())
        points, here = self.points, Point(self.points.loss, self.x, self.g)
        last = Point(points.last_loss, points.last_x, points.last_g)
        kept = {"here": here, "best": self.best(), "last": last, "averaged": self.average}
        point = kept[self.returned(status)] or self.best() or here
        fields = {
            "message": message,
            "success": status in SUCCESSES,
            "status": int(status),
            "fun": point.loss,
            "x": point.x,
            "nit": self.step,
            "jac": point.g,
            "nfev": self.objective.nfev,
            "njev": self.objective.njev,
            "restarts": self.restarts,
        }
        if points.columns:
            fields["history"] = result_class()(points.history())
        return result_class()(**fields)


def compiled_function(fun: Any) -> Function | None:
    """What SciPy's LowLevelCallable holds, or a capsule, as a function of ours; None for what is neither."""
    scipy = sys.modules.get("scipy")
    if scipy is not None and isinstance(fun, scipy.LowLevelCallable):
        return Function(tuple.__getitem__(fun, 0))
    return Function(fun) if type(fun).__name__ == "PyCapsule" else None


def scaled(lr: Any, factor: float) -> Any:
    if callable(lr) and not isinstance(lr, Schedule):
        return lambda t: factor * lr(t)
    return lr * factor


def minimize(
    fun: Callable[..., Any],
    x0: Any,
    args: Any = (),
    method: str | type[Optimizer] = "adam",
    jac: Any = None,
    bounds: Any = None,
    tol: float | None = None,
    callback: Callable[..., Any] | None = None,
    options: Mapping[str, Any] | None = None,
    **misplaced: Any,
) -> Any:
    """Minimizes a function of several variables with any optimizer of the catalogue.

    Arguments, options and result are those of ``scipy.optimize.minimize``, as far as they apply. SciPy need not be
    installed.

    Parameters
    ----------
    fun : callable, scipy.LowLevelCallable, or capsule
        ``fun(x, *args)`` returns the loss, a number. x is a copy, float64 of shape (n,). Or a compiled function
        ``double fun(int n, const double *x, double *gradient, void *data)`` that also writes the gradient: the loop
        then runs without Python and without the GIL, 1024 steps at a time, or one where they are slow. It must not
        raise exceptions nor use Python: in Cython it is declared ``cdef api ... noexcept nogil``. A capsule is named
        after its signature, as those in the ``__pyx_capi__`` of a Cython module are.
    x0 : array_like, shape (n,)
        The start. It is not changed. A number has shape (1,). Outside of the bounds, it is moved to the nearest.
    args : tuple
        Handed on to ``fun`` and ``jac``. What is no tuple is one argument.
    method : str or class
        A name in ``optcore.CATALOGUE``, or an optimizer class.
    jac : callable, True, "2-point", "3-point", "cs" or None
        ``jac(x, *args)`` returns the gradient, shape (n,). True: ``fun`` returns loss and gradient. Else finite
        differences: forward (None, too), central, or the complex step. They stay within the bounds.
    bounds : sequence of pairs, or scipy.optimize.Bounds
        ``(low, high)`` for each element; None is no bound.
    tol : float, optional
        ``gtol``, where the options do not have it.
    callback : callable, optional
        Called after each step: ``callback(intermediate_result=...)`` with ``x`` and ``fun``, if that is its only
        parameter's name, else ``callback(x)``. It may raise StopIteration.
    options : mapping, optional
        Every keyword of the optimizer but ``bounds``, ``maximize`` and ``on_nonfinite``; ``lr`` may be a schedule, and
        ``eps`` is the optimizer's, no step of finite differences. A ``Plateau`` or ``BackOff`` is copied, and updated
        with each loss. Besides:

        maxiter : int, default 10_000
            Steps at most.
        gtol : float or None, default 1e-5
            Ends the run where no element of the gradient is above it; one that leads out of the bounds does not count.
        xtol : float, optional
            Ends it after ``window`` steps in a row of which none moved an element by more than
            ``xtol * max(1, max(abs(x)))``.
        ftol : float, optional
            Ends it after ``window`` steps in a row by which the loss has not fallen by more than
            ``ftol * max(1, abs(loss))``.
        window : int, default 10
        target : float, optional
            Ends it where the loss is at or below it.
        max_seconds : float, optional
        divergence : float, optional
            A loss above it counts as infinite.
        restarts : int, default 0
            How often a run that diverged goes on from its best point, with a new optimizer whose ``lr`` is multiplied
            by ``restart_factor`` once more. Schedules begin anew.
        restart_factor : float, default 0.1
        returns : {None, "best", "last", "averaged"}
            Which point is returned. None: the one that met ``gtol`` or ``target``; otherwise the average, where the
            optimizer keeps one (``averaging``, or a schedule-free method), evaluated once more; otherwise that of the
            lowest loss. After a divergence or an interruption there is no average. The loss is what ``fun`` returned,
            without weight decay and the penalties of FTRL: where these are wanted or ``fun`` is noisy, "last".
        on_interrupt : {"return", "raise"}
            What Ctrl-C does. In a loop over many runs, "raise".
        history : bool or "x", default True
            Whether to keep the rows of ``res.history``, 24 bytes a step, and x with them.
        disp : bool, default False
            Show progress, if tqdm is installed and the terminal is watched, and a summary in the end.
        finite_diff_rel_step : float or array, optional
            The step of finite differences is this times ``abs(x)``.

    Returns
    -------
    scipy.optimize.OptimizeResult
        Or a mapping like it, where SciPy is not installed. ``x``, ``fun``, ``jac`` (always finite, but for status 3),
        ``success``, ``status``, ``message``, ``nit`` (steps), ``nfev`` (with those of finite differences), ``njev``,
        ``restarts``, and ``history``: arrays ``step``, ``loss``, ``gradient_norm`` (as for ``gtol``), ``lr`` (of the
        step that led there; NaN at the start), and ``x``. A row that has NaN or infinities is where a run diverged.

    Raises
    ------
    TypeError, ValueError
        An argument, an option, or what a function returned, is of no use.

    Notes
    -----
    ====== ======= ==============================================================================
    status success why the run ended; the first that applies
    ====== ======= ==============================================================================
    3      False   loss or gradient are not finite at x0, which is returned
    2      False   loss, gradient or x are not finite, or the loss is above ``divergence``
    99     False   the callback raised StopIteration
    6      True    ``target``
    0      True    ``gtol``
    7      True    ``xtol``
    8      True    ``ftol``
    1      False   ``maxiter``
    4      False   ``max_seconds``
    5      False   KeyboardInterrupt, at any time after the first evaluation
    ====== ======= ==============================================================================

    First-order methods converge slowly, and only as well as ``lr`` suits: for a smooth function of few variables,
    SciPy's L-BFGS-B is the better choice.

    Examples
    --------
    >>> import numpy as np, optcore as oc
    >>> fun = lambda x: np.sum((x - [1.0, 2.0]) ** 2)
    >>> res = oc.minimize(fun, [0.0, 0.0], jac=lambda x: 2 * (x - [1.0, 2.0]), options={"lr": 0.1})
    >>> res.success, np.round(res.x, 4)
    (True, array([1., 2.]))
    >>> res = oc.minimize(fun, [0.0, 0.0], method="nesterov", bounds=[(0, 0.5), (0, None)], options={"lr": 0.01})
    >>> res.message, np.round(res.x, 4)
    ('Converged: no element of the gradient is above gtol.', array([0.5, 2. ]))
    """
    cls = find_optimizer(method)
    if options is not None and not isinstance(options, Mapping):
        raise TypeError(f"options must be a mapping, got {options!r}")
    if misplaced:
        given = ", ".join(f'"{name}": {value!r}' for name, value in misplaced.items())
        raise TypeError(f"minimize takes {', '.join(misplaced)} among its options: options={{{given}}}")
    options = dict(options or {})
    if tol is not None:
        options.setdefault("gtol", check_number("tol", tol, NOT_NEGATIVE))
    settings, keywords = split(cls, options)
    x = starting_point(x0)
    limits = None if bounds is None else parse_bounds(bounds, x)
    if limits is not None:
        np.clip(x, *limits, out=x)
    lower, upper = limits or (None, None)
    rel_step = relative_steps("finite_diff_rel_step", settings.finite_diff_rel_step, x)
    objective: Objective | Function | None = compiled_function(fun)
    if objective is None:
        objective = Objective(fun, jac, args, lower, upper, rel_step)
    elif (jac is not None and jac is not True) or not (isinstance(args, tuple) and not args):
        raise ValueError("a compiled fun writes the gradient, and has its data in its capsule: leave out jac and args")
    run = Run(objective, x, limits, cls, keywords, settings, callback)
    run.bar = progress_bar(settings.disp, settings.maxiter, "steps")
    try:
        status = run.go()
    except KeyboardInterrupt:
        if settings.on_interrupt == "raise" or run.best() is None:
            raise
        status = Status.INTERRUPTED
    finally:
        if run.bar is not None:
            run.bar.close()
    result = run.result(status)
    if settings.disp:
        print(f"{result.message}\nloss {result.fun:g}, {result.nit} steps, {result.nfev} and {result.njev} evaluations")
    return result


# ---------------------------------------------------------------------------- SciPy's door


def scipy_method(name: str | type[Optimizer], **options: Any) -> functools.partial[Any]:
    """An optimizer as ``method`` of ``scipy.optimize.minimize``, and of what builds on that, say ``basinhopping``.

    Parameters
    ----------
    name : str or class
        A name in ``optcore.CATALOGUE``, or an optimizer class.
    **options :
        As for :func:`minimize`; those that SciPy is given come on top. Besides, ``jac="3-point"`` or ``"cs"``: SciPy
        does not hand these on to methods that are not its own.

    Returns
    -------
    callable
        It can be pickled. As SciPy's methods do, it warns of options that it does not know (OptimizeWarning), and of
        ``hess``, ``hessp`` and ``constraints`` that it cannot use (RuntimeWarning).

    Raises
    ------
    TypeError, ValueError
        There is no such optimizer or option.

    Examples
    --------
    >>> import numpy as np, scipy.optimize, optcore as oc
    >>> res = scipy.optimize.minimize(lambda x: (x[0] - 3) ** 2, 0.0, method=oc.scipy_method("rprop"))
    >>> res.success, np.round(res.x, 4)
    (True, array([3.]))
    """
    cls = find_optimizer(name)
    jac = options.pop("jac", None)
    split(cls, options)
    return functools.partial(called_by_scipy, cls, jac, options)


def called_by_scipy(
    cls: type[Optimizer],
    own_jac: Any,
    own_options: dict[str, Any],
    fun: Callable[..., Any],
    x0: Any,
    args: Any = (),
    jac: Any = None,
    hess: Any = None,
    hessp: Any = None,
    bounds: Any = None,
    constraints: Any = (),
    callback: Any = None,
    tol: float | None = None,
    **options: Any,
) -> Any:
    from scipy.optimize import OptimizeWarning

    ignored = {
        "does not use Hessian information (hess)": hess is not None,
        "does not use Hessian-vector product information (hessp)": hessp is not None,
        "cannot handle constraints": bool(np.any(constraints)),
    }
    for message, given in ignored.items():
        if given:
            warnings.warn(f"Method {cls.__name__} {message}.", RuntimeWarning, stacklevel=3)
    known = [*known_options(cls), *ELSEWHERE]
    unknown = [name for name in options if name not in known]
    if unknown:
        warnings.warn(f"Unknown solver options: {', '.join(unknown)}", OptimizeWarning, stacklevel=3)
    # An interruption ends the loop around this one as well, say that of basinhopping.
    options = {
        "on_interrupt": "raise",
        **own_options,
        **{name: value for name, value in options.items() if name in known},
    }
    return minimize(fun, x0, args, cls, own_jac if jac is None else jac, bounds, tol, callback, options)
