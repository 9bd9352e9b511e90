from typing import Any

import numpy as np

from optcore._engine import Plan
from optcore.stopping import Settings

class Function:
    nfev: int
    njev: int
    def __init__(self, capsule: object) -> None: ...
    def __call__(self, x: np.ndarray, g: np.ndarray) -> float: ...

class Descent:
    size: int
    loss: float
    norm: float
    largest: float
    best_loss: float
    last_loss: float
    best_x: np.ndarray
    best_g: np.ndarray
    last_x: np.ndarray
    last_g: np.ndarray
    columns: dict[str, np.ndarray]
    def __init__(
        self,
        x: np.ndarray,
        g: np.ndarray,
        bounds: tuple[np.ndarray, np.ndarray] | None,
        settings: Settings,
        keep_last: bool,
    ) -> None: ...
    def finite(self) -> bool: ...
    def history(self) -> dict[str, Any]: ...
    def go_back(self) -> None: ...
    def observe(self, loss: float, lr: float) -> bool: ...
    def decide(self) -> int | None: ...
    def run(self, plan: Plan, function: Function, steps: int, lr: float) -> int | None: ...
