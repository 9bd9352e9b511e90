"""When a run of :func:`optcore.minimize` ends, and what it writes down on the way.

Limits stand in `Settings`, the decision in `Stopping`, the rows of the history in `Record`. They take and give numbers
and arrays alone, so that a compiled loop can read the same limits and fill the same arrays.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np

from optcore.domains import ANY, NOT_NEGATIVE, check_choice, check_number
from optcore.feedback import SHRINKING
from optcore.schedules import check_integer

__all__ = ["MESSAGES", "SUCCESSES", "Record", "Settings", "Status", "Stopping"]


class Status(IntEnum):
    """Why a run ended."""

    GRADIENT = 0
    MAXITER = 1
    DIVERGED = 2
    START = 3
    TIME = 4
    INTERRUPTED = 5
    TARGET = 6
    STEP = 7
    LOSS = 8
    CALLBACK = 99  # SciPy's number


MESSAGES = {
    Status.GRADIENT: "Converged: no element of the gradient is above gtol.",
    Status.MAXITER: "Maximum number of iterations has been reached.",
    Status.DIVERGED: "Diverged at step {step}: {reason}. Earlier points were finite; try a smaller lr, or restarts.",
    Status.START: "There is no way to start: at x0, {reason}.",
    Status.TIME: "The time allowed by max_seconds is over.",
    Status.INTERRUPTED: "Interrupted from the keyboard.",
    Status.TARGET: "Converged: the loss has reached the target.",
    Status.STEP: "Converged: the steps of a whole window are within xtol.",
    Status.LOSS: "Converged: the loss has not fallen by more than ftol within a whole window.",
    Status.CALLBACK: "`callback` raised `StopIteration`.",
}
SUCCESSES = (Status.GRADIENT, Status.TARGET, Status.STEP, Status.LOSS)


@dataclass(frozen=True)
class Settings:
    """How long a run goes on, and what it returns; explained in :func:`minimize`. None switches a test off.

    Raises
    ------
    TypeError, ValueError
        A setting is outside of what it accepts.
    """

    maxiter: int = 10_000
    gtol: float | None = 1e-5
    xtol: float | None = None
    ftol: float | None = None
    window: int = 10
    target: float | None = None
    max_seconds: float | None = None
    divergence: float | None = None
    restarts: int = 0
    restart_factor: float = 0.1
    returns: str | None = None
    on_interrupt: str = "return"
    history: bool | str = True
    disp: bool = False
    finite_diff_rel_step: Any = None

    def __post_init__(self) -> None:
        for name, low in (("maxiter", 0), ("window", 1), ("restarts", 0)):
            object.__setattr__(self, name, check_integer(name, getattr(self, name), low))
        limits = {"gtol": NOT_NEGATIVE, "xtol": NOT_NEGATIVE, "ftol": NOT_NEGATIVE, "max_seconds": NOT_NEGATIVE}
        for name, domain in {**limits, "target": ANY, "divergence": ANY}.items():
            if getattr(self, name) is not None:
                object.__setattr__(self, name, check_number(name, getattr(self, name), domain))
        check_number("restart_factor", self.restart_factor, SHRINKING)
        if self.returns is not None:
            check_choice("returns", self.returns, ("best", "last", "averaged"))
        check_choice("on_interrupt", self.on_interrupt, ("return", "raise"))
        if not any(self.history is one for one in (True, False)) and self.history != "x":
            raise ValueError(f'history must be True, False or "x", got {self.history!r}')
        if self.disp not in (True, False):  # SciPy's is 0 or 1 at times
            raise ValueError(f"disp must be True or False, got {self.disp!r}")


class Stopping:
    """Whether a run ends at a point. The tests stand in the order in which they count."""

    def __init__(self, settings: Settings):
        self.settings = settings
        seconds = settings.max_seconds
        self.deadline = math.inf if seconds is None else time.perf_counter() + seconds
        self.lowest = math.inf  # what the loss has to fall below by more than ftol
        self.idle = self.still = 0  # steps in a row without that, and within xtol

    def diverged(self, loss: float, largest: float) -> bool:
        """Before all others. ``largest`` is the largest absolute value in the gradient."""
        limit = self.settings.divergence
        return not (math.isfinite(loss) and math.isfinite(largest)) or (limit is not None and loss > limit)

    def status(self, step: int, loss: float, gradient_norm: float, moved: float, size: float) -> Status | None:
        """``moved`` is the largest change of an element in the last step, ``size`` the largest absolute value of x."""
        s = self.settings
        if s.target is not None and loss <= s.target:
            return Status.TARGET
        if s.gtol is not None and gradient_norm <= s.gtol:
            return Status.GRADIENT
        if s.xtol is not None and step:
            self.still = self.still + 1 if moved <= s.xtol * max(1.0, size) else 0
            if self.still >= s.window:
                return Status.STEP
        if s.ftol is not None:
            if self.lowest - loss > s.ftol * max(1.0, abs(loss)):
                self.lowest, self.idle = loss, 0
            else:
                self.idle += 1
            if self.idle >= s.window:
                return Status.LOSS
        if step >= s.maxiter:
            return Status.MAXITER
        if time.perf_counter() >= self.deadline:
            return Status.TIME
        return None

    def restarted(self) -> None:
        self.idle = self.still = 0


class Record:
    """The rows of the history so far, in arrays that double when they are full.

    Parameters
    ----------
    history : bool or "x"
        Whether to keep rows, and x with them. ``size`` counts in any case.
    n : int
        Elements of x.
    """

    def __init__(self, history: bool | str, n: int):
        self.size = 0
        self.columns: dict[str, np.ndarray] = {}
        if history:
            self.columns = {name: np.empty(256) for name in ("loss", "gradient_norm", "lr")}
        if history == "x":
            self.columns["x"] = np.empty((256, n))

    def append(self, loss: float, gradient_norm: float, lr: float, x: np.ndarray) -> None:
        columns, size = self.columns, self.size
        if columns:
            if size == len(columns["loss"]):
                for name, old in columns.items():
                    columns[name] = np.empty((2 * size, *old.shape[1:]))
                    columns[name][:size] = old
            columns["loss"][size] = loss
            columns["gradient_norm"][size] = gradient_norm
            columns["lr"][size] = lr
            if "x" in columns:
                columns["x"][size] = x
        self.size = size + 1  # last, so that an interruption leaves whole rows

    def finished(self) -> dict[str, np.ndarray]:
        return {"step": np.arange(self.size), **{name: a[: self.size].copy() for name, a in self.columns.items()}}
