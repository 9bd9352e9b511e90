"""Schedules: pure functions of the number of completed updates t = 0, 1, 2, ...

A schedule is called with an int or an array of integers. It is a value: immutable, comparable, hashable, picklable,
and its ``repr`` makes it again, as Python or by :func:`optcore.expressions.parse`. Both ends are exact: at t = 0 a
schedule gives the value that it starts from, and from its last update on it holds the end value. Any hyper-parameter
of an optimizer may be one.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from dataclasses import KW_ONLY, FrozenInstanceError, dataclass
from typing import Any, TypeVar, dataclass_transform

import numpy as np

from optcore._scalars import pow, power
from optcore._schedules import Compiled
from optcore.domains import (
    ANY,
    MAX,
    NOT_NEGATIVE,
    POSITIVE,
    UNIT,
    Domain,
    check_choice,
    check_flag,
    check_number,
)

__all__ = [
    "Constant",
    "Cosine",
    "CosineRestarts",
    "Cyclic",
    "Exponential",
    "Growing",
    "InversePower",
    "InverseTime",
    "Join",
    "Linear",
    "MultiStep",
    "Noam",
    "OneCycle",
    "Piecewise",
    "Polynomial",
    "Root",
    "Schedule",
    "Step",
    "Warmup",
    "WarmupStableDecay",
]

LONGEST = 2**53  # beyond it doubles skip integers
T = TypeVar("T")
FINITE = Domain(-MAX, MAX, "a finite number")
SHRINKING = Domain(math.ulp(0.0), 1.0, "above 0 and at most 1")


def check_integer(name: str, value: Any, low: int = 1) -> int:
    """``value`` as an int, if it is an integer from ``low`` to 2**53; TypeError or ValueError otherwise."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    if not low <= value <= LONGEST:
        raise ValueError(f"{name} must be from {low} to 2**53, got {value}")
    return int(value)


def check_schedule(name: str, value: Any) -> Schedule:
    """``value``, if it is a schedule; a number becomes a constant one."""
    if isinstance(value, Schedule):
        return value
    if isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool):
        return Constant(value)
    raise TypeError(f"{name} must be a schedule or a number, got {value!r}")


def check_boundaries(name: str, value: Any) -> tuple[int, ...]:
    """``value`` as a tuple, if it is a sequence of integers that rise, the first at least 1."""
    if not isinstance(value, (list, tuple, np.ndarray)):
        raise TypeError(f"{name} must be a sequence of integers, got {value!r}")
    boundaries = tuple(check_integer(f"{name}[{i}]", boundary) for i, boundary in enumerate(value))
    for i, (one, other) in enumerate(itertools.pairwise(boundaries)):
        if one >= other:
            raise ValueError(f"{name} must rise, but {name}[{i + 1}] = {other} comes after {one}")
    return boundaries


def halves(power: float) -> int:
    """``2 * power`` where that is an integer from 1 to 8: such powers are roots and products; otherwise 0."""
    return int(2 * power) if 2 * power in range(1, 9) else 0


class Schedule(Compiled):
    """What schedules share: calling them, and combining them.

    ``schedule * 0.5``, ``schedule.clamp(low, high)``, ``schedule.shift(n)``, ``schedule.every(n)``.
    """

    __array_ufunc__ = None  # NumPy's numbers leave multiplication to us

    def __init__(self) -> None:
        raise TypeError(f"{type(self).__name__} is what schedules share; make one of its subclasses")

    def __post_init__(self) -> None:
        self._define()

    def _define(self) -> None:
        raise NotImplementedError

    def __setattr__(self, name: str, value: Any) -> None:
        if self.depth:
            raise FrozenInstanceError(f"cannot assign to field {name!r}")
        super().__setattr__(name, value)

    def __delattr__(self, name: str) -> None:
        raise FrozenInstanceError(f"cannot delete field {name!r}")

    def _values(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}  # type: ignore[arg-type]

    def __eq__(self, other: object) -> bool:
        return self._values() == other._values() if type(other) is type(self) else NotImplemented

    def __hash__(self) -> int:
        return hash(tuple(self._values().values()))

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={value!r}" for name, value in self._values().items())
        return f"{type(self).__qualname__}({fields})"

    def _keep(self, **values: Any) -> None:
        """Replaces fields by what was made of them."""
        for name, value in values.items():
            setattr(self, name, value)

    def _numbers(self, domain: Domain, *names: str) -> None:
        self._keep(**{name: check_number(name, getattr(self, name), domain) for name in names})

    def _integers(self, *names: str, low: int = 1) -> None:
        self._keep(**{name: check_integer(name, getattr(self, name), low) for name in names})

    def _choice(self, name: str, *accepted: str) -> None:
        self._keep(**{name: str(check_choice(name, getattr(self, name), accepted))})

    def _schedule(self, name: str) -> None:
        self._keep(**{name: check_schedule(name, getattr(self, name))})

    def __reduce__(self) -> Any:
        return _remake, (type(self), self._values())

    def __mul__(self, factor: float) -> Schedule:
        return Times(self, factor)

    __rmul__ = __mul__

    def clamp(self, low: float, high: float) -> Schedule:
        """The schedule, limited to the interval from low to high."""
        return Clamp(self, low, high)

    def shift(self, n: int) -> Schedule:
        """The schedule n updates later: its value at t + n."""
        return Shift(self, n)

    def every(self, n: int) -> Schedule:
        """The schedule at t // n: with n steps in an epoch, its value for the epoch."""
        return Every(self, n)


def _remake(cls: type[Schedule], values: dict[str, Any]) -> Schedule:
    return cls(**values)


@dataclass_transform(frozen_default=True)
def value(cls: type[T]) -> type[T]:
    """A frozen dataclass, whose methods are inherited from `Schedule`: made for each class they take 8 ms at import."""
    return dataclass(eq=False, repr=False)(cls)


@value
class Constant(Schedule):
    """``lr``

    Examples
    --------
    >>> Constant(0.1)(1000)
    0.1
    """

    lr: float

    def _define(self) -> None:
        self._numbers(FINITE, "lr")
        self._compile("constant", a=self.lr)


@value
class Step(Schedule):
    """``lr * gamma ** (t // size)``

    Parameters
    ----------
    lr : float
        The first value.
    size : int
        Updates between two drops.
    gamma : float
        Factor of each drop.

    Examples
    --------
    >>> [Step(1.0, size=10, gamma=0.5)(t) for t in (0, 9, 10, 25)]
    [1.0, 1.0, 0.5, 0.25]
    """

    lr: float
    size: int
    gamma: float = 0.1

    def _define(self) -> None:
        self._numbers(FINITE, "lr")
        self._numbers(NOT_NEGATIVE, "gamma")
        self._integers("size")
        self._compile("step", a=self.lr, c=self.gamma, n=self.size)


@value
class MultiStep(Schedule):
    """``lr * gamma ** (number of milestones <= t)``

    Examples
    --------
    >>> [MultiStep(1.0, (10, 30), gamma=0.5)(t) for t in (9, 10, 30)]
    [1.0, 0.5, 0.25]
    """

    lr: float
    milestones: tuple[int, ...]
    gamma: float = 0.1

    def _define(self) -> None:
        self._numbers(FINITE, "lr")
        self._numbers(NOT_NEGATIVE, "gamma")
        self._keep(milestones=check_boundaries("milestones", self.milestones))
        values = [self.lr * power(self.gamma, k) for k in range(len(self.milestones) + 1)]
        self._compile("piecewise", boundaries=self.milestones, values=values)


@value
class Piecewise(Schedule):
    """The value behind the last boundary <= t: ``values`` has one more entry than ``boundaries``.

    Examples
    --------
    >>> [Piecewise((1.0, 0.5, 0.1), (10, 30))(t) for t in (9, 10, 30)]
    [1.0, 0.5, 0.1]
    """

    values: tuple[float, ...]
    boundaries: tuple[int, ...]

    def _define(self) -> None:
        if not isinstance(self.values, (list, tuple, np.ndarray)):
            raise TypeError(f"values must be a sequence of numbers, got {self.values!r}")
        values = tuple(check_number(f"values[{i}]", value, FINITE) for i, value in enumerate(self.values))
        boundaries = check_boundaries("boundaries", self.boundaries)
        if len(values) != len(boundaries) + 1:
            raise ValueError(f"{len(boundaries)} boundaries need {len(boundaries) + 1} values, got {len(values)}")
        self._keep(values=values, boundaries=boundaries)
        self._compile("piecewise", boundaries=boundaries, values=values)


@value
class Exponential(Schedule):
    """``lr * rate ** (t / steps)``, or with ``staircase`` ``lr * rate ** (t // steps)``

    Examples
    --------
    >>> Exponential(1.0, rate=0.25, steps=10)(5)
    0.5
    """

    lr: float
    rate: float
    _: KW_ONLY
    steps: int = 1
    staircase: bool = False

    def _define(self) -> None:
        self._numbers(FINITE, "lr")
        self._numbers(POSITIVE, "rate")
        self._integers("steps")
        self._keep(staircase=check_flag("staircase", self.staircase))
        if self.staircase:
            self._compile("step", a=self.lr, c=self.rate, n=self.steps)
        else:
            self._compile("exponential", a=self.lr, b=self.steps, c=self.rate)


@value
class InverseTime(Schedule):
    """``lr / (1 + rate * t / steps)``

    Examples
    --------
    >>> InverseTime(1.0, rate=0.5)(2)
    0.5
    """

    lr: float
    rate: float
    _: KW_ONLY
    steps: int = 1

    def _define(self) -> None:
        self._numbers(FINITE, "lr")
        self._numbers(NOT_NEGATIVE, "rate")
        self._integers("steps")
        self._compile("inverse_time", a=self.lr, b=self.steps, c=self.rate)


@value
class InversePower(Schedule):
    """``lr / (t + offset) ** power``; a power of 0.5 is a square root.

    Examples
    --------
    >>> InversePower(1.0)(3)
    0.5
    """

    lr: float
    power: float = 0.5
    offset: float = 1.0

    def _define(self) -> None:
        self._numbers(FINITE, "lr")
        self._numbers(NOT_NEGATIVE, "power")
        self._numbers(POSITIVE, "offset")
        if not math.isfinite(abs(self.lr) / (pow(self.offset, self.power) or math.nan)):
            raise ValueError(f"the first value, lr / offset ** power, must be finite, got offset={self.offset}")
        self._compile("inverse_power", a=self.lr, b=self.offset, d=self.power, n=halves(self.power))


@value
class Linear(Schedule):
    """``start + (end - start) * min(t, steps) / steps``. Time-based decay is ``end=0``.

    Examples
    --------
    >>> [Linear(1.0, steps=4)(t) for t in (0, 1, 4, 9)]
    [1.0, 0.75, 0.0, 0.0]
    """

    start: float
    end: float = 0.0
    _: KW_ONLY
    steps: int

    def _define(self) -> None:
        self._numbers(FINITE, "start", "end")
        self._integers("steps")
        self._compile("linear", a=self.start, b=self.end, c=self.steps, limit=self.steps)


@value
class Polynomial(Schedule):
    """``(start - end) * (1 - min(t, steps) / steps) ** power + end``

    Examples
    --------
    >>> [Polynomial(1.0, steps=4, power=2)(t) for t in (0, 2, 4)]
    [1.0, 0.25, 0.0]
    """

    start: float
    end: float = 0.0
    _: KW_ONLY
    steps: int
    power: float = 1.0

    def _define(self) -> None:
        self._numbers(FINITE, "start", "end")
        self._numbers(POSITIVE, "power")
        self._integers("steps")
        self._compile(
            "polynomial",
            a=self.start,
            b=self.end,
            c=self.steps,
            d=self.power,
            n=halves(self.power),
            limit=self.steps,
        )


@value
class Growing(Schedule):
    """``min(cap, lr * (1 + rate * t))``. Without a cap a growing rate diverges in the long run, so one is required.

    Examples
    --------
    >>> [Growing(1.0, rate=0.5, cap=3.0)(t) for t in (0, 2, 100)]
    [1.0, 2.0, 3.0]
    """

    lr: float
    rate: float
    _: KW_ONLY
    cap: float

    def _define(self) -> None:
        self._numbers(POSITIVE, "lr")
        self._numbers(NOT_NEGATIVE, "rate")
        self._numbers(FINITE, "cap")
        if self.cap < self.lr:
            raise ValueError(f"cap must be at least lr, got cap={self.cap} and lr={self.lr}")
        self._compile("growing", a=self.lr, b=self.rate, c=self.cap)


@value
class Cosine(Schedule):
    """``end + (start - end) * (1 + cos(pi * min(t, steps) / steps)) / 2``; it does not climb again.

    Examples
    --------
    >>> [Cosine(1.0, steps=2)(t) for t in (0, 1, 2)]
    [1.0, 0.5, 0.0]

    References
    ----------
    Loshchilov & Hutter, SGDR: stochastic gradient descent with warm restarts, 2017, equation 5.
    """

    start: float
    end: float = 0.0
    _: KW_ONLY
    steps: int

    def _define(self) -> None:
        self._numbers(FINITE, "start", "end")
        self._integers("steps")
        self._compile("cosine", a=self.start, b=self.end, c=self.steps, limit=self.steps)


@value
class CosineRestarts(Schedule):
    """Cosines one after the other: cycle i has ``steps * mult ** i`` updates and the peak ``start * decay ** i``.

    The first update of a cycle has its peak, the last one ``end``; that of a cycle of one is ``end``.

    Examples
    --------
    >>> [CosineRestarts(1.0, steps=3, decay=0.5)(t) for t in range(6)]
    [1.0, 0.5, 0.0, 0.5, 0.25, 0.0]

    References
    ----------
    Loshchilov & Hutter 2017, section 3.
    """

    start: float
    end: float = 0.0
    _: KW_ONLY
    steps: int
    mult: int = 1
    decay: float = 1.0

    def _define(self) -> None:
        self._numbers(FINITE, "start", "end")
        self._numbers(UNIT, "decay")
        self._integers("steps", "mult")
        self._compile("cosine_restarts", a=self.start, b=self.end, c=self.decay, n=self.steps, m=self.mult)


@value
class Cyclic(Schedule):
    """Straight up from ``low`` to ``high`` in ``up`` updates and down again in ``down``, over and over.

    Parameters
    ----------
    low, high : float
    up, down : int
        ``down`` is ``up`` where it is left out.
    mode : {"triangular", "triangular2", "exp_range"}
        triangular2 halves the height after each cycle; exp_range multiplies it by ``gamma ** t``.
    gamma : float

    Examples
    --------
    >>> [Cyclic(0.0, 1.0, up=2)(t) for t in range(5)]
    [0.0, 0.5, 1.0, 0.5, 0.0]

    References
    ----------
    Smith, Cyclical learning rates for training neural networks, 2017.
    """

    low: float
    high: float
    _: KW_ONLY
    up: int
    down: int | None = None
    mode: str = "triangular"
    gamma: float = 1.0

    def _define(self) -> None:
        self._numbers(FINITE, "low", "high")
        self._numbers(SHRINKING, "gamma")
        self._integers("up")
        if self.down is not None:
            self._integers("down")
        self._choice("mode", "triangular", "triangular2", "exp_range")
        if self.gamma != 1.0 and self.mode != "exp_range":
            raise ValueError(f'gamma is for mode="exp_range", not for {self.mode!r}')
        self._compile(
            "cyclic",
            a=self.low,
            b=self.high,
            c=0.5 if self.mode == "triangular2" else self.gamma,
            by_cycle=self.mode != "exp_range",
            n=self.up,
            m=self.up if self.down is None else self.down,
        )


@value
class OneCycle(Schedule):
    """Up from ``start`` to ``peak``, and down to ``end``, which is reached at ``steps - 1``.

    The peak is at ``round(pct * (steps - 1))``, but neither first nor last. For a momentum that goes the other way, let
    start and end be above the peak.

    Parameters
    ----------
    peak : float
    steps : int
        At least 3.
    pct : float
        The share of the steps on the way to the peak.
    start, end : float, optional
        ``peak / 25`` and ``start / 10_000`` where they are left out.
    shape : {"cosine", "linear"}

    Examples
    --------
    >>> schedule = OneCycle(1.0, steps=11, start=0.5, end=0.0)
    >>> schedule(0), schedule(3), schedule(10)
    (0.5, 1.0, 0.0)

    References
    ----------
    Smith & Topin, Super-convergence: very fast training of neural networks using large learning rates, 2019.
    """

    peak: float
    _: KW_ONLY
    steps: int
    pct: float = 0.3
    start: float | None = None
    end: float | None = None
    shape: str = "cosine"

    def _define(self) -> None:
        self._numbers(FINITE, "peak")
        self._numbers(Domain(0.0, 1.0, "between 0 and 1"), "pct")
        self._integers("steps", low=3)
        self._numbers(FINITE, *(name for name in ("start", "end") if getattr(self, name) is not None))
        self._choice("shape", "cosine", "linear")
        start = self.peak / 25 if self.start is None else self.start
        end = start / 10_000 if self.end is None else self.end
        top = min(max(round(self.pct * (self.steps - 1)), 1), self.steps - 2)
        piece = Cosine if self.shape == "cosine" else Linear
        up, down = piece(start, self.peak, steps=top), piece(self.peak, end, steps=self.steps - 1 - top)
        self._compile("join", boundaries=(top,), parts=(up, down))


@value
class Noam(Schedule):
    """``scale * d ** -0.5 * min(s ** -0.5, s * warmup ** -1.5)`` with ``s = t + 1``

    Examples
    --------
    >>> Noam(d=4, warmup=16)(15)
    0.125

    References
    ----------
    Vaswani et al., Attention is all you need, 2017, equation 3.
    """

    d: int
    warmup: int
    scale: float = 1.0

    def _define(self) -> None:
        self._integers("d", "warmup")
        self._numbers(NOT_NEGATIVE, "scale")
        self._compile("noam", a=self.scale * pow(self.d, -0.5), b=pow(self.warmup, -1.5))


@value
class WarmupStableDecay(Schedule):
    """``lr * (t + 1) / warmup``, then ``lr``, then down to ``end``.

    Parameters
    ----------
    lr : float
    warmup, stable, decay : int
        Updates in the three parts; the first two may be 0.
    end : float
    shape : {"linear", "cosine", "sqrt"}
        sqrt: ``end + (lr - end) * (1 - sqrt(x))`` with x from 0 to 1.

    Examples
    --------
    >>> [WarmupStableDecay(1.0, warmup=2, stable=2, decay=2)(t) for t in range(7)]
    [0.5, 1.0, 1.0, 1.0, 1.0, 0.5, 0.0]

    References
    ----------
    Hu et al., MiniCPM, 2024; Haegele et al., Scaling laws and compute-optimal training beyond fixed training
    durations, 2024.
    """

    lr: float
    _: KW_ONLY
    warmup: int
    stable: int
    decay: int
    end: float = 0.0
    shape: str = "linear"

    def _define(self) -> None:
        self._numbers(FINITE, "lr", "end")
        self._integers("warmup", "stable", low=0)
        self._integers("decay")
        self._choice("shape", "linear", "cosine", "sqrt")
        piece = {"linear": Linear, "cosine": Cosine, "sqrt": Root}[self.shape]
        parts: list[Schedule] = [piece(self.lr, self.end, steps=self.decay)]
        boundaries: list[int] = []
        if self.stable:
            parts.insert(0, Constant(self.lr))
            boundaries.append(self.warmup + self.stable)
        if self.warmup:
            parts.insert(0, Linear(0.0, self.lr, steps=self.warmup).shift(1))
            boundaries.insert(0, self.warmup)
        self._compile("join", boundaries=boundaries, parts=parts)


@value
class Root(Schedule):
    """``end + (start - end) * (1 - sqrt(min(t, steps) / steps))``

    Examples
    --------
    >>> [Root(1.0, steps=4)(t) for t in (0, 1, 4)]
    [1.0, 0.5, 0.0]
    """

    start: float
    end: float = 0.0
    _: KW_ONLY
    steps: int

    def _define(self) -> None:
        self._numbers(FINITE, "start", "end")
        self._integers("steps")
        self._compile("root", a=self.start, b=self.end, c=self.steps, limit=self.steps)


# ---------------------------------------------------------------------- combinators


@value
class Warmup(Schedule):
    """``start + (peak - start) * (t + 1) / steps`` for the first steps, then the schedule.

    The schedule sees ``t - steps``, and its first value is the peak.

    Examples
    --------
    >>> [Warmup(4, Constant(1.0))(t) for t in range(5)]
    [0.25, 0.5, 0.75, 1.0, 1.0]
    """

    steps: int
    then: Schedule
    start: float = 0.0

    def _define(self) -> None:
        self._integers("steps")
        self._numbers(FINITE, "start")
        self._schedule("then")
        peak = check_number("the first value of then", self.then(0), FINITE)
        ramp = Linear(self.start, peak, steps=self.steps).shift(1)
        self._compile("join", boundaries=(self.steps,), parts=(ramp, self.then))


@value
class Join(Schedule):
    """One schedule after the other: from each boundary on the next, which sees ``t - boundary``.

    Examples
    --------
    >>> [Join((Constant(1.0), Linear(1.0, steps=2)), (3,))(t) for t in (2, 3, 4, 5)]
    [1.0, 1.0, 0.5, 0.0]
    """

    schedules: tuple[Schedule, ...]
    boundaries: tuple[int, ...]

    def _define(self) -> None:
        if not isinstance(self.schedules, (list, tuple)):
            raise TypeError(f"schedules must be a sequence of schedules, got {self.schedules!r}")
        schedules = tuple(check_schedule(f"schedules[{i}]", one) for i, one in enumerate(self.schedules))
        boundaries = check_boundaries("boundaries", self.boundaries)
        if len(schedules) != len(boundaries) + 1:
            raise ValueError(f"{len(boundaries)} boundaries need {len(boundaries) + 1} schedules, got {len(schedules)}")
        self._keep(schedules=schedules, boundaries=boundaries)
        self._compile("join", boundaries=boundaries, parts=schedules)


@value
class Times(Schedule):
    """``schedule * factor``"""

    schedule: Schedule
    factor: float

    def _define(self) -> None:
        self._schedule("schedule")
        self._numbers(FINITE, "factor")
        self._compile("times", a=self.factor, parts=(self.schedule,))

    def __repr__(self) -> str:
        return f"{self.schedule!r} * {self.factor!r}"


@value
class Clamp(Schedule):
    """``min(max(schedule, low), high)``"""

    schedule: Schedule
    low: float
    high: float

    def _define(self) -> None:
        self._schedule("schedule")
        self._numbers(ANY, "low", "high")
        if self.low > self.high:
            raise ValueError(f"low must be at most high, got {self.low} and {self.high}")
        self._compile("clamp", a=self.low, b=self.high, parts=(self.schedule,))

    def __repr__(self) -> str:
        return f"{bracketed(self.schedule)}.clamp({number(self.low)}, {number(self.high)})"


@value
class Shift(Schedule):
    """The schedule at ``t + n``."""

    schedule: Schedule
    n: int

    def _define(self) -> None:
        self._schedule("schedule")
        self._integers("n", low=0)
        self._compile("shift", n=self.n, parts=(self.schedule,))

    def __repr__(self) -> str:
        return f"{bracketed(self.schedule)}.shift({self.n})"


@value
class Every(Schedule):
    """The schedule at ``t // n``."""

    schedule: Schedule
    n: int

    def _define(self) -> None:
        self._schedule("schedule")
        self._integers("n")
        self._compile("every", n=self.n, parts=(self.schedule,))

    def __repr__(self) -> str:
        return f"{bracketed(self.schedule)}.every({self.n})"


def bracketed(schedule: Schedule) -> str:
    return f"({schedule!r})" if isinstance(schedule, Times) else repr(schedule)


def number(value: float) -> str:
    """Infinities, too, in a form that is read again."""
    return repr(value) if math.isfinite(value) else ("1e999" if value > 0 else "-1e999")
