"""The optimizer step as a small, exact, fast library."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

try:
    from optcore._scalars import power as _  # noqa: F401
except ModuleNotFoundError:
    raise ImportError(
        "optcore was found in its source folder, where it is not compiled; run Python in another folder, "
        "or compile it here: pip install -e ."
    ) from None

from optcore.feedback import BackOff, Plateau
from optcore.optimizer import CATALOGUE, EMA, Optimizer, Polyak, load
from optcore.optimizers import (
    FTRL,
    LAMB,
    LARS,
    SGD,
    AdaBelief,
    Adadelta,
    Adagrad,
    Adam,
    Adamax,
    AdamW,
    AMSGrad,
    GradientScaled,
    Lion,
    Momentum,
    NAdam,
    Nesterov,
    RAdam,
    RMSprop,
    Rprop,
    ScheduleFreeAdamW,
    ScheduleFreeSGD,
    Velocity,
)
from optcore.schedules import (
    Constant,
    Cosine,
    CosineRestarts,
    Cyclic,
    Exponential,
    Growing,
    InversePower,
    InverseTime,
    Join,
    Linear,
    MultiStep,
    Noam,
    OneCycle,
    Piecewise,
    Polynomial,
    Root,
    Schedule,
    Step,
    Warmup,
    WarmupStableDecay,
)

if TYPE_CHECKING:
    from optcore._minimize import minimize, scipy_method
    from optcore.embedding import get_include
    from optcore.finite_differences import check_grad

__version__ = "0.1.0"

__all__ = [
    "CATALOGUE",
    "EMA",
    "FTRL",
    "LAMB",
    "LARS",
    "SGD",
    "AMSGrad",
    "AdaBelief",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "BackOff",
    "Constant",
    "Cosine",
    "CosineRestarts",
    "Cyclic",
    "Exponential",
    "GradientScaled",
    "Growing",
    "InversePower",
    "InverseTime",
    "Join",
    "Linear",
    "Lion",
    "Momentum",
    "MultiStep",
    "NAdam",
    "Nesterov",
    "Noam",
    "OneCycle",
    "Optimizer",
    "Piecewise",
    "Plateau",
    "Polyak",
    "Polynomial",
    "RAdam",
    "RMSprop",
    "Root",
    "Rprop",
    "Schedule",
    "ScheduleFreeAdamW",
    "ScheduleFreeSGD",
    "Step",
    "Velocity",
    "Warmup",
    "WarmupStableDecay",
    "check_grad",
    "get_include",
    "load",
    "minimize",
    "scipy_method",
]

_LATER = {
    "_C_API": "optcore._c_api",
    "check_grad": "optcore.finite_differences",
    "get_include": "optcore.embedding",
    "minimize": "optcore._minimize",
    "scipy_method": "optcore._minimize",
}
"""Where to find what steps do not need: loaded where it is first asked for, it takes nothing of an import."""


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value = getattr(import_module(_LATER[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER})
