"""The optimizer step as a small, exact, fast library."""

from optcore.optimizer import CATALOGUE, EMA, Optimizer, Polyak, load
from optcore.optimizers import (
    SGD,
    Adadelta,
    Adagrad,
    Adam,
    Adamax,
    AdamW,
    AMSGrad,
    GradientScaled,
    Momentum,
    Nesterov,
    RMSprop,
    Rprop,
    Velocity,
)

__version__ = "0.1.0"

__all__ = [
    "CATALOGUE",
    "EMA",
    "SGD",
    "AMSGrad",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "GradientScaled",
    "Momentum",
    "Nesterov",
    "Optimizer",
    "Polyak",
    "RMSprop",
    "Rprop",
    "Velocity",
    "load",
]
