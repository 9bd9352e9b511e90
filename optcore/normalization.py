"""States that a policy sees, made comparable by the mean and the standard deviation of all states before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from optcore.schedules import check_integer

__all__ = ["Moments", "Normalizer"]

SMALLEST_DEVIATION = 1e-7  # of what is more than rounding errors
nothing = partial(np.zeros, ())


@dataclass(frozen=True, eq=False)
class Moments:
    """How many states there were, their mean, and the sum of their squared deviations from it."""

    count: int = 0
    mean: np.ndarray = field(default_factory=nothing)
    m2: np.ndarray = field(default_factory=nothing)

    @property
    def finite(self) -> bool:
        return bool(np.isfinite(self.m2).all())

    def merge(self, other: Moments) -> Moments:
        """Those of both together (Chan, Golub & LeVeque 1979)."""
        if self.count == 0 or other.count == 0:
            return self if self.count else other
        if self.mean.shape != other.mean.shape:
            raise ValueError(f"states have shape {other.mean.shape}, others had {self.mean.shape}")
        count = self.count + other.count
        delta = other.mean - self.mean
        mean = self.mean + delta * (other.count / count)
        return Moments(count, mean, self.m2 + other.m2 + delta * delta * (self.count * other.count / count))

    def to_lists(self) -> dict[str, Any]:
        """As JSON has them, whose floats are exact."""
        return {"count": self.count, "mean": self.mean.tolist(), "m2": self.m2.tolist()}

    @classmethod
    def from_lists(cls, kept: Mapping[str, Any]) -> Moments:
        mean, m2 = (np.array(kept[key], np.float64) for key in ("mean", "m2"))
        if mean.shape != m2.shape:
            raise ValueError(f"mean and m2 have different shapes, {mean.shape} and {m2.shape}")
        return cls(check_integer("count", kept["count"], 0), mean, m2)


class Normalizer:
    """``(state - mean) / standard deviation`` of all states in the iterations before.

    It also counts the states that it is called with; the next iteration knows them. Where nothing is known yet, states
    stay as they are. An element whose standard deviation is below 1e-7 is centred, but not divided.

    Attributes
    ----------
    known, seen : Moments
        ``count``, ``mean`` and ``m2`` (the sum of squared deviations) of the states before, and of its own.
    """

    def __init__(self, known: Moments):
        self.known = known
        self._count, self._mean, self._m2 = 0, np.zeros(()), np.zeros(())
        deviation = np.sqrt(known.m2 / max(known.count, 1))
        self._scale = np.where(deviation < SMALLEST_DEVIATION, 1.0, deviation)

    @property
    def seen(self) -> Moments:
        return Moments(self._count, self._mean.copy(), self._m2.copy())

    def __call__(self, state: Any) -> np.ndarray:
        """The normalised state, float64.

        Raises
        ------
        ValueError
            The shape is not that of the states before.
        """
        state = np.asarray(state, np.float64)
        if self._count == 0:
            shape = self.known.mean.shape if self.known.count else state.shape
            self._mean, self._m2 = np.zeros(shape), np.zeros(shape)
        if state.shape != self._mean.shape:
            raise ValueError(f"the state has shape {state.shape}, those before had {self._mean.shape}")
        self._count += 1  # and the update of Welford 1962
        with np.errstate(over="ignore", invalid="ignore"):  # a state that is not finite makes the evaluation a failure
            delta = state - self._mean
            self._mean += delta / self._count
            self._m2 += delta * (state - self._mean)
            return (state - self.known.mean) / self._scale
