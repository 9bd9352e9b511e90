from collections.abc import Callable, Mapping, Sequence

import numpy as np

from optcore._rules import Rule
from optcore.buffers import Array, Arrays

Rows = Array | Sequence[Array | None] | Mapping[str, Array | None]

BLOCK_SIZE: int

class Plan:
    t: int
    skipped: int

    def step(self, grads: Arrays | None = None, rows: Rows | None = None) -> None: ...
    def _bind(
        self,
        rule: Rule,
        arrays: list[tuple],
        mapped: bool,
        groups: int,
        maximize: bool,
        decoupled: bool,
        wide: bool,
        on_nonfinite: str,
        averaging: str | None,
        threads: int,
    ) -> None: ...
    def _carried(self) -> list[dict[str, float]]: ...
    def _carry(self, carried: Sequence[Mapping[str, float]]) -> None: ...
    def _check_idle(self) -> None: ...
    def _check_not_interim(self) -> None: ...
    def _bind_gradients(self, grads: Arrays | None) -> tuple[np.ndarray, ...] | None: ...
    def _set(
        self,
        group: int,
        name: str,
        value: float | Callable[[int], float],
        what: str,
        low: float,
        high: float,
        accepted: str,
    ) -> None: ...
    def _enter_interim(self, key: str, name: str) -> None: ...
    def _leave_interim(self) -> None: ...
