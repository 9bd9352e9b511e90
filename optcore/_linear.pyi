import numpy as np

from optcore._engine import Plan

LOSSES: tuple[str, ...]

def mean_loss(
    loss: str,
    coef: np.ndarray,
    intercept: np.ndarray | None,
    x: np.ndarray,
    targets: np.ndarray,
    weights: np.ndarray | None,
) -> float: ...
def steps(
    plan: Plan,
    loss: str,
    l2: float,
    coef: np.ndarray,
    intercept: np.ndarray | None,
    gradients: dict[str, np.ndarray],
    x: np.ndarray,
    targets: np.ndarray,
    weights: np.ndarray | None,
    order: np.ndarray | None,
    count: int,
    first: int,
    last: int,
    total: float,
    losses: np.ndarray,
    norms: np.ndarray,
) -> tuple[int, float]: ...
