from typing import NamedTuple

class Rule(NamedTuple):
    name: str
    state: tuple[str, ...]
    hyper: tuple[str, ...]
    scalars: int
    loop32: int
    loop64: int
    carried: tuple[str, ...]
    direction32: int
    direction64: int
    trust: int

HAS_AVX2: bool
RULES: dict[str, Rule]
