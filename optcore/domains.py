"""What hyper-parameters and switches accept, and the errors that say so."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np


class Domain(NamedTuple):
    """The closed interval of accepted values, and how to say it."""

    low: float
    high: float
    accepted: str


MAX = float(np.finfo(np.float64).max)
MAX32, TINY32 = float(np.finfo(np.float32).max), float(np.finfo(np.float32).tiny)
BELOW_ONE, ABOVE_ONE = math.nextafter(1.0, 0.0), math.nextafter(1.0, 2.0)
NOT_NEGATIVE = Domain(0.0, MAX, "a finite number >= 0")
POSITIVE = Domain(math.ulp(0.0), MAX, "a finite number > 0")
LIMIT = Domain(math.ulp(0.0), math.inf, "a number > 0, or None")
FRACTION = Domain(0.0, BELOW_ONE, "at least 0 and below 1")
ANY = Domain(-math.inf, math.inf, "a number")
UNIT = Domain(0.0, 1.0, "between 0 and 1")

DOMAINS = {
    "lr": NOT_NEGATIVE,
    "scale": NOT_NEGATIVE,
    "momentum": UNIT,
    "dampening": UNIT,
    "betas[0]": FRACTION,
    "betas[1]": FRACTION,
    "alpha": FRACTION,
    "rho": FRACTION,
    "eps": POSITIVE,
    "lr_decay": NOT_NEGATIVE,
    "momentum_decay": NOT_NEGATIVE,
    "eps_root": NOT_NEGATIVE,
    "beta": NOT_NEGATIVE,
    "l1": NOT_NEGATIVE,
    "l2": NOT_NEGATIVE,
    "weight_lr_power": Domain(0.0, 10.0, "from 0 to 10"),
    "trust_coefficient": NOT_NEGATIVE,
    "etas[0]": Domain(math.ulp(0.0), BELOW_ONE, "above 0 and below 1"),
    "etas[1]": Domain(ABOVE_ONE, MAX, "a finite number > 1"),
    "step_sizes[0]": POSITIVE,
    "step_sizes[1]": POSITIVE,
    "weight_decay": NOT_NEGATIVE,
    "clip_value": LIMIT,
    "clip_norm": LIMIT,
    "averaging": FRACTION,
}
ALIASES = {
    "learning_rate": "lr",
    "alpha": "lr",
    "epsilon": "eps",
    "mu": "momentum",
    "beta_1": "betas",
    "beta_2": "betas",
    "beta1": "betas",
    "beta2": "betas",
    "param_groups": "groups",
}
"""What others call our keywords."""
PAIRS = ("betas", "etas", "step_sizes")


def nearest(name: str, known: Sequence[str]) -> str:
    """The end of an error message about an unknown name."""
    import difflib  # few need it; importing it costs them nothing then

    close = [ALIASES[name]] if ALIASES.get(name) in known else difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return (f"; did you mean {close[0]!r}?" if close else ".") + f" Accepted: {', '.join(known)}"


def held_by_float32(domain: Domain) -> Domain:
    """The part of a domain that float32 can hold; what it cannot would become 0 or infinite without a word."""
    low = max(domain.low, TINY32) if domain.low > 0 else domain.low
    high = min(domain.high, MAX32) if domain.high < math.inf else domain.high
    return domain if (low, high) == domain[:2] else Domain(low, high, domain.accepted + " that float32 can hold")


def check_choice(name: str, value: Any, accepted: Sequence[str]) -> str:
    """``value``, if it is one of the accepted strings; ValueError otherwise."""
    if value not in accepted:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, accepted))}, got {value!r}")
    return value


def check_flag(name: str, value: Any) -> bool:
    """``value``, if it is True or False; TypeError otherwise."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be True or False, got {value!r}")
    return bool(value)


def check_number(name: str, value: Any, domain: Domain, *, or_function: bool = False) -> float:
    """``value`` as a float, if it is a real number of the domain; TypeError or ValueError otherwise."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        other = ", or a function of t" if or_function else ""
        raise TypeError(f"{name} must be {domain.accepted}{other}, got {reprlib.repr(value)}")
    if isinstance(value, np.floating):  # a float32 would be compared in float32
        value = float(value)
    if not domain.low <= value <= domain.high:
        raise ValueError(f"{name} must be {domain.accepted}, got {reprlib.repr(value)}")
    return float(value)
