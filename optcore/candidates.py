"""The points that a search asks about: what they are made of, their noise, and how workers evaluate them."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from optcore.normalization import Moments, Normalizer
from optcore.optimizer import Structure

__all__ = ["CENTER", "Candidate", "Evaluation", "Recipe", "check_value", "leaves", "like"]

CENTER = -1  # the index of the candidate that is not perturbed


def leaves(structure: Structure) -> list[np.ndarray]:
    """The arrays of parameters, in order."""
    if isinstance(structure, np.ndarray):
        return [structure]
    return list(structure.values() if isinstance(structure, dict) else structure)


def like(structure: Structure, arrays: Iterable[np.ndarray]) -> Structure:
    """Other arrays in the same structure."""
    if isinstance(structure, np.ndarray):
        return next(iter(arrays))
    return dict(zip(structure, arrays, strict=True)) if isinstance(structure, dict) else list(arrays)


class Evaluation(NamedTuple):
    """The value of the candidate with this ``id``, and the states that its policy saw."""

    id: tuple[int, int]
    value: float
    seen: Moments | None = None


@dataclass(frozen=True, eq=False)
class Recipe:
    """What the candidates of one iteration share, and all that a worker needs to make one."""

    iteration: int
    seed: int
    distribution: str
    sigma: float
    center: Structure
    bounds: tuple[list[Any], list[Any]] | None  # for each array, lower and upper
    states: Moments | None

    def noise(self, direction: int) -> list[np.ndarray]:
        """Standard normal numbers or signs, drawn as float64 for all parameters in order."""
        arrays = leaves(self.center)
        size = sum(p.size for p in arrays)
        stream = np.random.Philox(key=self.seed, counter=[0, 0, direction, self.iteration])
        if self.distribution == "normal":
            drawn: np.ndarray = np.random.Generator(stream).standard_normal(size)
        else:
            words = stream.random_raw(-(-size // 64)).astype("<u8")
            drawn = 2.0 * np.unpackbits(words.view(np.uint8), count=size, bitorder="little") - 1.0
        parts = np.split(drawn, np.cumsum([p.size for p in arrays])[:-1])
        return [part.reshape(p.shape).astype(p.dtype, copy=False) for part, p in zip(parts, arrays, strict=True)]

    def weighted_sum(self, weights: Mapping[int, float]) -> Structure:
        """Directions times their weights, added in order as float64."""
        arrays = leaves(self.center)
        total = [np.zeros(p.shape) for p in arrays]
        for direction, weight in weights.items():
            if weight != 0.0:
                for part, d in zip(total, self.noise(direction), strict=True):
                    part += weight * d.astype(np.float64, copy=False)
        return like(self.center, [part.astype(p.dtype, copy=False) for part, p in zip(total, arrays, strict=True)])


@dataclass(frozen=True, eq=False)
class Candidate:
    """A point to be evaluated. It can be pickled, and is made where its parameters are looked at.

    Attributes
    ----------
    id : (int, int)
        Iteration, and index among its candidates: pairs in order of their direction, first +, then -.
    iteration, index, direction, sign : int
        The parameters are ``center + sign * sigma * d``. Of the center itself, the sign is 0 and the index -1.
    params : array, list or dict
        New arrays in the structure of the search's parameters.
    """

    recipe: Recipe
    index: int

    @property
    def iteration(self) -> int:
        return self.recipe.iteration

    @property
    def id(self) -> tuple[int, int]:
        return self.iteration, self.index

    @property
    def direction(self) -> int:
        return self.index // 2

    @property
    def sign(self) -> int:
        return 0 if self.index == CENTER else 1 - 2 * (self.index % 2)

    @property
    def params(self) -> Structure:
        center, scale = self.recipe.center, self.sign * self.recipe.sigma
        made: list[Any] = [p.copy() for p in leaves(center)]
        if self.sign:
            made = [p + p.dtype.type(scale) * d for p, d in zip(made, self.recipe.noise(self.direction), strict=True)]
        if self.recipe.bounds is not None:
            made = [np.clip(p, low, high) for p, low, high in zip(made, *self.recipe.bounds, strict=True)]
        return like(center, map(np.asarray, made))  # of an array without dimensions NumPy makes a number

    def evaluate(self, fun: Callable[..., float], *args: Any) -> Evaluation:
        """``fun(params, *args)``, or ``fun(params, normalizer, *args)`` where states are normalised.

        The value of a policy that saw NaN or infinities is NaN.

        Raises
        ------
        Exception
            What fun raised, with a note that names the candidate.
        """
        normalizer = None if self.recipe.states is None else Normalizer(self.recipe.states)
        try:
            value = fun(self.params, *([] if normalizer is None else [normalizer]), *args)
        except Exception as error:
            error.add_note(f"raised by {self!r}")
            if isinstance(error, StopIteration):  # which would quietly end the caller's map
                raise RuntimeError(f"fun raised StopIteration for {self!r}") from error
            raise
        value, seen = check_value(value, self), None if normalizer is None else normalizer.seen
        return Evaluation(self.id, value if seen is None or seen.finite else math.nan, seen)

    def __repr__(self) -> str:
        if self.index == CENTER:
            return f"the center after {self.iteration} iterations"
        return f"candidate {self.id} (iteration {self.iteration}, direction {self.direction}, sign {self.sign:+d})"


def check_value(value: Any, candidate: Candidate) -> float:
    """A function value as a float; TypeError where it is no real number."""
    try:
        if isinstance(value, (str, bytes, bool, np.bool_)) or np.iscomplexobj(value) or np.ndim(value) != 0:
            raise TypeError("not one of these")
        return float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise TypeError(f"the value of {candidate!r} must be a real number, got {reprlib.repr(value)}") from error
