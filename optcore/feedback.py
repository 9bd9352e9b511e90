"""Learning rates that follow what happens: small state machines, advanced by ``update``.

They are no functions of time. Given as ``lr`` they are read at every step; their state is saved with the optimizer's.
"""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, asdict, dataclass, field
from typing import Any

import numpy as np

from optcore.domains import NOT_NEGATIVE, POSITIVE, Domain, check_choice, check_flag, check_number
from optcore.schedules import check_integer

__all__ = ["BackOff", "Feedback", "Plateau"]

SHRINKING = Domain(math.ulp(0.0), math.nextafter(1.0, 0.0), "above 0 and below 1")


class Feedback:
    """What the two share: being called like a schedule, and their state as a dictionary."""

    current: float

    def __call__(self, t: int) -> float:
        """The learning rate now, whatever t is."""
        return self.current

    def state_dict(self) -> dict[str, Any]:
        """Everything that ``update`` changes."""
        return {name: value for name, value in asdict(self).items() if name in self._changing()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on where :meth:`state_dict` was called.

        Raises
        ------
        ValueError
            The state is of something else. Nothing has been changed.
        """
        if set(state) != set(self._changing()):
            raise ValueError(f"the state of a {type(self).__name__} has {self._changing()}, got {sorted(state)}")
        for name, value in state.items():
            setattr(self, name, value)

    def _changing(self) -> list[str]:
        return sorted(f.name for f in self.__dataclass_fields__.values() if not f.init)  # type: ignore[attr-defined]


def check_metric(metric: Any) -> float:
    if isinstance(metric, bool) or not isinstance(metric, (int, float, np.integer, np.floating)):
        raise TypeError(f"metric must be a number, got {metric!r}")
    return float(metric)


@dataclass
class Plateau(Feedback):
    """Multiplies the learning rate by ``factor`` where a metric has not become better for some updates.

    Parameters
    ----------
    lr : float
        The first value.
    factor : float
        Above 0 and below 1.
    patience : int
        Updates without improvement that are put up with: the one after them reduces.
    threshold : float
        How much better is better: a share of the best value (``relative``), or a difference.
    relative : bool
    mode : {"min", "max"}
        Whether lower or higher is better. NaN never is.
    cooldown : int
        Updates after a reduction in which nothing is counted.
    minimum : float
        The learning rate does not go below it.

    Examples
    --------
    >>> plateau = Plateau(1.0, factor=0.5, patience=1)
    >>> [plateau.update(loss) for loss in (3.0, 2.0, 2.0, 2.0, 2.0)]
    [1.0, 1.0, 1.0, 0.5, 0.5]
    """

    lr: float
    _: KW_ONLY
    factor: float = 0.1
    patience: int = 10
    threshold: float = 1e-4
    relative: bool = True
    mode: str = "min"
    cooldown: int = 0
    minimum: float = 0.0
    current: float = field(init=False, repr=False)
    best: float | None = field(init=False, repr=False, default=None)
    bad: int = field(init=False, repr=False, default=0)
    waiting: int = field(init=False, repr=False, default=0)

    def __post_init__(self) -> None:
        self.current = self.lr = check_number("lr", self.lr, NOT_NEGATIVE)
        self.factor = check_number("factor", self.factor, SHRINKING)
        self.patience = check_integer("patience", self.patience, 0)
        self.threshold = check_number("threshold", self.threshold, NOT_NEGATIVE)
        self.cooldown = check_integer("cooldown", self.cooldown, 0)
        self.minimum = check_number("minimum", self.minimum, NOT_NEGATIVE)
        self.relative = check_flag("relative", self.relative)
        self.mode = str(check_choice("mode", self.mode, ("min", "max")))
        if self.minimum > self.lr:
            raise ValueError(f"minimum must be at most lr, got minimum={self.minimum} and lr={self.lr}")

    def update(self, metric: float) -> float:
        """Takes the newest value of the metric and returns the learning rate."""
        metric = check_metric(metric)
        if self._better(metric):
            self.best, self.bad = metric, 0
        else:
            self.bad += 1
        if self.waiting:
            self.waiting, self.bad = self.waiting - 1, 0
        if self.bad > self.patience:
            self.current = max(self.current * self.factor, self.minimum)
            self.waiting, self.bad = self.cooldown, 0
        return self.current

    def _better(self, metric: float) -> bool:
        if math.isnan(metric):
            return False
        if self.best is None:
            return True
        sign = 1.0 if self.mode == "min" else -1.0
        margin = self.threshold * abs(self.best) if self.relative else self.threshold
        # Of an infinite best value there is no share.
        return sign * metric < sign * self.best - (margin if math.isfinite(margin) else 0.0)


@dataclass
class BackOff(Feedback):
    """Multiplies the learning rate by ``factor`` each time the loss rises, or the gradient turns round.

    Parameters
    ----------
    lr : float
        The first value.
    factor : float
        Above 0 and below 1.
    minimum : float
        The learning rate does not go below it.

    Examples
    --------
    "Start at 0.245, and take 10 % off each time the iterate steps across the minimum":

    >>> import numpy as np, optcore as oc
    >>> p, rate = np.array([3.0]), oc.BackOff(0.245)
    >>> opt = oc.SGD(p, lr=rate)
    >>> g = 8 * (p - 1)  # of 4 * (p - 1) ** 2
    >>> while abs(g[0]) >= 1e-6:
    ...     _ = rate.update(gradient=g)
    ...     opt.step(g)
    ...     g = 8 * (p - 1)
    >>> opt.t, round(rate.current, 4), bool(abs(p[0] - 1) < 1e-6)
    (11, 0.1172, True)
    """

    lr: float
    _: KW_ONLY
    factor: float = 0.9
    minimum: float = 0.0
    current: float = field(init=False, repr=False)
    last: float | None = field(init=False, repr=False, default=None)
    direction: list[float] | None = field(init=False, repr=False, default=None)

    def __post_init__(self) -> None:
        self.current = self.lr = check_number("lr", self.lr, POSITIVE)
        self.factor = check_number("factor", self.factor, SHRINKING)
        self.minimum = check_number("minimum", self.minimum, NOT_NEGATIVE)
        if self.minimum > self.lr:
            raise ValueError(f"minimum must be at most lr, got minimum={self.minimum} and lr={self.lr}")

    def update(self, metric: float | None = None, *, gradient: Any = None) -> float:
        """Takes the newest loss, or gradient, or both, and returns the learning rate.

        NaN counts as worse. A gradient has turned round where its inner product with the last one is negative: in one
        dimension, where its sign changed.
        """
        if metric is None and gradient is None:
            raise TypeError("update() needs a metric or a gradient")
        metric = None if metric is None else check_metric(metric)
        direction = None if gradient is None else np.asarray(gradient, np.float64).ravel().tolist()
        worse = metric is not None and self.last is not None and not metric <= self.last
        if direction is not None and self.direction is not None:
            if len(direction) != len(self.direction):
                raise ValueError(f"the gradient has {len(direction)} elements, the last one had {len(self.direction)}")
            inner = 0.0
            for a, b in zip(direction, self.direction, strict=True):
                inner += a * b
            worse = worse or not inner >= 0
        self.last = self.last if metric is None else metric
        self.direction = self.direction if direction is None else direction
        if worse:
            self.current = max(self.current * self.factor, self.minimum)
        return self.current
