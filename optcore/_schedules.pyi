from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

class Compiled:
    depth: int

    def __call__(self, t: int | np.ndarray, out: NDArray[np.float64] | None = None) -> float | NDArray[np.float64]: ...
    def _compile(
        self,
        kind: str,
        a: float = 0.0,
        b: float = 0.0,
        c: float = 0.0,
        d: float = 0.0,
        n: int = 1,
        m: int = 0,
        limit: int = ...,
        by_cycle: bool = False,
        boundaries: Sequence[int] = (),
        values: Sequence[float] = (),
        parts: Sequence[Compiled] = (),
    ) -> None: ...
