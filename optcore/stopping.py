"""Why a run of :func:`optcore.minimize` ends, and the settings that say when. What decides is compiled: ``Descent``."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from optcore.domains import ANY, NOT_NEGATIVE, check_choice, check_number
from optcore.feedback import SHRINKING
from optcore.schedules import check_integer

__all__ = ["MESSAGES", "SUCCESSES", "Settings", "Status"]


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
