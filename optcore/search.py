"""Optimizers that need function values alone: for simulations, rollouts and whatever else cannot be differentiated.

All of them do the same. Around the parameters, the *center*, they evaluate pairs ``center + sigma * d`` and
``center - sigma * d`` in random directions d, and add the directions up, each weighted by what its two values say. The
sum estimates a gradient, and any rule of the catalogue takes a step along it. They differ in the weights:

:class:`RandomDifferences`
    The finite difference along each direction, ``(f(+) - f(-)) / (2 * sigma)``. Its mean is the gradient of f, smoothed
    by a Gaussian of width sigma. There is nothing simpler; steps are as long as the gradient says.
:class:`SPSA`
    The same where every element of d is 1 or -1, with Spall's schedules for sigma and lr. Two evaluations a step,
    whatever the number of parameters, and it converges under noise. For functions that are noisy and expensive.
:class:`EvolutionStrategy`
    Ranks among all values of the iteration stand for the values: outliers and the scale of f no longer matter. For many
    parameters and many workers, with ``optimizer="adam"``.
:class:`ARS`
    Differences are divided by the standard deviation of the values, the best directions alone may count, and states
    that a policy sees may be normalised. For policies with few parameters; the first to try in control.

How to choose the rest: ``sigma`` is a change of the parameters that changes f noticeably beside its noise; scale the
parameters so that one sigma suits all. ``lr`` is how far the center moves, times the estimate. More ``directions`` make
a better estimate, at two evaluations each: as many as workers can evaluate at once are a good start. Among n
parameters the estimate from one direction is wrong by sqrt(n) times the gradient, so with many of them lr has to be
small; where there is a gradient, use it.

:func:`minimize` is the loop for users of SciPy. A loop of your own asks and tells:

>>> import numpy as np
>>> from optcore import search
>>> def fun(x):
...     return np.sum((x - [1.0, 2.0]) ** 2)
>>> x = np.zeros(2)
>>> s = search.RandomDifferences(x, sigma=0.1, directions=4, lr=0.1, seed=0)
>>> for _ in range(100):
...     s.tell([fun(candidate.params) for candidate in s.ask()])
>>> x.round(4)
array([1., 2.])

Noise is neither stored nor sent. That of a direction is a function of three numbers,
``Generator(Philox(key=seed, counter=[0, 0, direction, iteration])).standard_normal(n)``. So a pickled candidate is the
center and these numbers, and neither the number of workers nor their order changes a bit. Where sending the center is
too much, every process keeps a search with the same seed, and only values travel (Salimans et al. 2017, Algorithm 2):

.. code-block:: python

    mine = [candidate.evaluate(fun) for candidate in s.ask()[comm.rank :: comm.size]]
    s.tell(itertools.chain(*comm.allgather(mine)))  # mpi4py; every process takes the same step

NumPy guarantees the integers of Philox, and so the signs of SPSA, for all its versions. The stream of
``standard_normal`` has not changed from NumPy 1.26 to 2.4, but that is no promise, and one value in four thousand has
its last bits from the logarithm of the C library: for the same bits, have the same versions on all machines.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import copy
import inspect
import math
import multiprocessing
import os
import pickle
import reprlib
import secrets
import signal
import statistics
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from functools import partial
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple

import numpy as np

from optcore.domains import (
    MAX32,
    NOT_NEGATIVE,
    POSITIVE,
    TINY32,
    Domain,
    check_choice,
    check_flag,
    check_number,
    nearest,
)
from optcore.files import LOST, read_state, write_state
from optcore.optimizer import CATALOGUE, Optimizer, Parameters, Structure, Value, snapshot
from optcore.results import new_style, result_class
from optcore.schedules import InversePower, check_integer

__all__ = [
    "ARS",
    "METHODS",
    "SPSA",
    "Candidate",
    "Evaluation",
    "EvolutionStrategy",
    "Normalizer",
    "RandomDifferences",
    "Search",
    "minimize",
]

SIGMA = Domain(TINY32, MAX32, "a number > 0 that float32 can hold")
LARGEST_SEED = 2**128 - 1  # the key of Philox
SMALLEST_DEVIATION = 1e-7  # of a state that is more than rounding errors
CENTER = -1  # the index of the candidate that is not perturbed
BEST = "search_best"  # its name among the state arrays of a parameter

Map = Callable[[Callable[[Any], Any], Sequence[Any]], Iterable[Any]]


# ---------------------------------------------------------------------- states that policies see


@dataclass(frozen=True, eq=False)
class Moments:
    """How many states there were, their mean, and the sum of their squared deviations from it."""

    count: int = 0
    mean: np.ndarray | None = None
    m2: np.ndarray | None = None

    def merge(self, other: Moments) -> Moments:
        """Those of both together (Chan, Golub & LeVeque 1979)."""
        if self.mean is None or self.m2 is None or other.mean is None or other.m2 is None:
            return other if self.count == 0 else self
        if self.mean.shape != other.mean.shape:
            raise ValueError(f"states have shape {other.mean.shape}, others had {self.mean.shape}")
        count = self.count + other.count
        delta = other.mean - self.mean
        mean = self.mean + delta * (other.count / count)
        return Moments(count, mean, self.m2 + other.m2 + delta * delta * (self.count * other.count / count))

    @property
    def finite(self) -> bool:
        return self.m2 is None or bool(np.isfinite(self.m2).all())


class Normalizer:
    """Makes states that a policy sees comparable: ``(state - mean) / standard deviation`` of all states so far.

    It also counts the states it is called with; they become known to all candidates of the next iteration. Where
    nothing is known yet, states stay as they are. An element whose standard deviation is below 1e-7 is centred, but not
    divided.
    """

    def __init__(self, known: Moments):
        self.known = known
        self._count, self._mean, self._m2 = 0, np.zeros(()), np.zeros(())
        if known.m2 is not None:
            deviation = np.sqrt(known.m2 / known.count)
            self._scale = np.where(deviation < SMALLEST_DEVIATION, 1.0, deviation)

    @property
    def seen(self) -> Moments:
        """Of the states that it was called with."""
        return Moments(self._count, self._mean.copy(), self._m2.copy()) if self._count else Moments()

    def __call__(self, state: Any) -> np.ndarray:
        """The normalised state, float64.

        Raises
        ------
        ValueError
            The shape is not that of the states before.
        """
        state = np.array(state, np.float64)
        known = self.known.mean
        if self._count == 0:
            self._mean, self._m2 = np.zeros(state.shape), np.zeros(state.shape)
        before = self._mean if known is None else known
        if not state.shape == before.shape == self._mean.shape:
            raise ValueError(f"the state has shape {state.shape}, those before had {before.shape}")
        self._count += 1  # and the update of Welford 1962
        with np.errstate(over="ignore", invalid="ignore"):  # a state that is not finite makes the evaluation a failure
            delta = state - self._mean
            self._mean += delta / self._count
            self._m2 += delta * (state - self._mean)
            return state if known is None else (state - known) / self._scale


# ---------------------------------------------------------------------- candidates


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
    """What :meth:`Candidate.evaluate` returns, and :meth:`Search.tell` takes."""

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
    bounds: tuple[list[Any], list[Any]] | None
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
        return self.recipe.iteration, self.index

    @property
    def direction(self) -> int:
        return self.index // 2

    @property
    def sign(self) -> int:
        return 0 if self.index == CENTER else 1 - 2 * (self.index % 2)

    @property
    def params(self) -> Structure:
        center, bounds = leaves(self.recipe.center), self.recipe.bounds
        if self.sign == 0:
            return like(self.recipe.center, [p.copy() for p in center])
        moved = []
        for i, (p, d) in enumerate(zip(center, self.recipe.noise(self.direction), strict=True)):
            candidate: Any = p + p.dtype.type(self.sign * self.recipe.sigma) * d
            if bounds is not None:
                candidate = np.clip(candidate, bounds[0][i], bounds[1][i])
            moved.append(np.asarray(candidate, p.dtype))  # of an array without dimensions NumPy makes a number
        return like(self.recipe.center, moved)

    def normalizer(self) -> Normalizer:
        """A new one, which knows the states of all iterations before. For :class:`ARS` with ``normalize_states``."""
        if self.recipe.states is None:
            raise ValueError("states are not normalised; make the search with normalize_states=True")
        return Normalizer(self.recipe.states)

    def evaluate(self, fun: Callable[..., float], *args: Any) -> Evaluation:
        """``fun(params, *args)``, or ``fun(params, normalizer, *args)`` where states are normalised.

        Raises
        ------
        Exception
            What fun raised, with a note that names the candidate.
        """
        normalizer = None if self.recipe.states is None else self.normalizer()
        try:
            value = fun(self.params, *([] if normalizer is None else [normalizer]), *args)
        except Exception as error:
            error.add_note(f"raised by {self!r}")
            if isinstance(error, StopIteration):  # which would quietly end the caller's map
                raise RuntimeError(f"fun raised StopIteration for {self!r}") from error
            raise
        return Evaluation(self.id, check_value(value, self), None if normalizer is None else normalizer.seen)

    def __repr__(self) -> str:
        if self.index == CENTER:
            return f"the center after {self.iteration} iterations"
        return f"candidate {self.id} (iteration {self.iteration}, direction {self.direction}, sign {self.sign:+d})"


def evaluate(fun: Callable[..., float], args: tuple[Any, ...], candidate: Candidate) -> Evaluation:
    """What workers do."""
    return candidate.evaluate(fun, *args)


def check_value(value: Any, candidate: Candidate) -> float:
    """A function value as a float."""
    try:
        if isinstance(value, (str, bytes, bool, np.bool_)) or np.iscomplexobj(value) or np.ndim(value) != 0:
            raise TypeError("not one of these")
        return float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise TypeError(f"the value of {candidate!r} must be a real number, got {reprlib.repr(value)}") from error


# ---------------------------------------------------------------------- searches


@dataclass(frozen=True, eq=False)
class Best:
    """The best point seen, and its value. Where states are normalised, what was known of them then belongs to it."""

    value: float
    id: tuple[int, int]
    params: Structure
    states: Moments | None


@dataclass(frozen=True, eq=False)
class Progress:
    """All that an iteration changes beside the optimizer."""

    iteration: int = 0
    evaluations: int = 0
    failed: int = 0
    states: Moments | None = None
    best: Best | None = None


class Search:
    """Base of all searches: the classes differ in how they weight directions alone.

    Parameters
    ----------
    params : array, sequence, mapping, or list of groups
        What is optimized, in place, as optimizers take it. All are perturbed together. Leave them alone between
        ``ask`` and ``tell``.
    sigma : float or function of the iteration
        What the directions are multiplied by.
    directions : int
        How many pairs are evaluated in an iteration.
    optimizer : str, class or function
        What takes a step along the estimate: a name of the catalogue, its class, or a function that is called with the
        parameters and keywords and returns an optimizer, say ``functools.partial(optcore.RMSprop, alpha=0.9)``.
        By default ``"sgd"``.
    seed : int, optional
        From 0 to 2**128 - 1. It determines all noise. By default it is random, and stands in ``options``.
    **keywords :
        For the optimizer: ``lr`` (a number or a schedule), ``clip_norm``, ``bounds``, ``maximize``, ...

    Attributes
    ----------
    optimizer : Optimizer
    options : dict
        A copy of ``seed``, ``sigma`` and what else was chosen for the search.
    iteration, evaluations, failed : int
        Completed iterations; values told; pairs left out, because a value was NaN or infinite.
    last_values : array of shape (directions, 2), or None
        Those of the last iteration, first of +, then of -.
    best : Best or None
        ``value``, ``params`` and ``id`` of the best candidate so far.

    Notes
    -----
    The center is not evaluated, except once at the end of :meth:`run`.

    A value that is NaN or infinite is that of a failed evaluation, and so is any value of a policy that saw such a
    state. Its pair is left out of the estimate, and counted in ``failed``. Where all fail, there is a RuntimeWarning
    and no step, and the next iteration tries other directions.

    Under ``bounds``, candidates are clamped as the center is. For an element at its bound, the estimate is too small.
    """

    name: ClassVar[str]
    """The name in ``METHODS``."""
    distribution: ClassVar[str] = "normal"

    def __init__(
        self,
        params: Parameters,
        options: Mapping[str, Any] = MappingProxyType({}),
        /,
        optimizer: str | Callable[..., Optimizer] = "sgd",
        seed: int | None = None,
        **keywords: Any,
    ):
        if type(self) is Search:
            raise TypeError("Search is the base of searches; make one of them, say optcore.search.ARS(params)")
        self._options = self._checked({**options, "seed": secrets.randbits(64) if seed is None else seed})
        if isinstance(optimizer, str):
            optimizer = CATALOGUE[check_choice("optimizer", optimizer, list(CATALOGUE))]
        if not callable(optimizer):
            raise TypeError(f"optimizer must be a name of the catalogue, a class or a function, got {optimizer!r}")
        if isinstance(optimizer, type) and issubclass(optimizer, Optimizer):
            own = [p.name for p in inspect.signature(type(self)).parameters.values() if p.kind is p.KEYWORD_ONLY]
            accepted = [*own, "optimizer", "seed", *optimizer._keywords()]
            for keyword in keywords:
                if keyword not in accepted:
                    raise TypeError(
                        f"{type(self).__name__} got an unknown keyword {keyword!r}{nearest(keyword, accepted)}"
                    )
        self.optimizer = optimizer(params, **keywords)
        if not isinstance(self.optimizer, Optimizer):
            raise TypeError(f"optimizer must make an optimizer of optcore, it returned {self.optimizer!r}")
        self._progress = Progress(states=Moments() if self._options.get("normalize_states") else None)
        self._asked: Recipe | None = None
        self.last_values: np.ndarray | None = None

    @classmethod
    def _checked(cls, options: Mapping[str, Any]) -> dict[str, Any]:
        """The options, if all are good."""
        sigma, seed = options["sigma"], options["seed"]
        if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)):
            raise TypeError(f"seed must be an integer or None, got {seed!r}")
        if not 0 <= seed <= LARGEST_SEED:
            raise ValueError(f"seed must be from 0 to 2**128 - 1, got {seed}")
        return {
            **options,
            "sigma": sigma if callable(sigma) else check_number("sigma", sigma, SIGMA, or_function=True),
            "directions": check_integer("directions", options["directions"]),
            "seed": int(seed),
        }

    def weights(self, plus: np.ndarray, minus: np.ndarray, sigma: float) -> np.ndarray:
        """What each direction is multiplied by in the sum that estimates the gradient.

        Parameters
        ----------
        plus, minus : array of shape (n,)
            Finite values at ``center + sigma * d`` and ``center - sigma * d`` of the n pairs that are left.
        sigma : float

        Returns
        -------
        array of shape (n,)
        """
        raise NotImplementedError

    # ------------------------------------------------------------------ looking

    @property
    def params(self) -> Structure:
        """The center, live, in the structure in which it was given."""
        return self.optimizer.params

    @property
    def options(self) -> dict[str, Any]:
        return dict(self._options)

    @property
    def iteration(self) -> int:
        return self._progress.iteration

    @property
    def evaluations(self) -> int:
        return self._progress.evaluations

    @property
    def failed(self) -> int:
        return self._progress.failed

    @property
    def best(self) -> Best | None:
        return self._progress.best

    @property
    def normalizer(self) -> Normalizer | None:
        """Of the states so far, for use with the center; None where they are not normalised."""
        states = self._progress.states
        return None if states is None else Normalizer(states)

    @property
    def _maximize(self) -> bool:
        return bool(self.optimizer._options["maximize"])

    def __repr__(self) -> str:
        shown = ", ".join(f"{key}={value!r}" for key, value in self._options.items())
        return f"{type(self).__name__}({shown}, iteration={self.iteration})\n{self.optimizer!r}"

    # ------------------------------------------------------------------ ask and tell

    def ask(self) -> list[Candidate]:
        """The ``2 * directions`` candidates of this iteration. Asked again, they are the same."""
        self._asked = self._recipe()
        return [Candidate(self._asked, index) for index in range(2 * self._options["directions"])]

    def _recipe(self) -> Recipe:
        optimizer, sigma, states = self.optimizer, self._options["sigma"], self._progress.states
        if callable(sigma):
            sigma = check_number("the value of sigma", sigma(self.iteration), SIGMA)
        center = like(self.params, [p.copy() for p in leaves(self.params)])
        bounds = optimizer._options["bounds"]
        if optimizer._wide_bounds:
            bounds = tuple([kept[side].copy() for kept in optimizer.state.values()] for side in ("lower", "upper"))
        elif bounds is not None:
            numbers = [none if bound is None else bound for bound, none in zip(bounds, (-np.inf, np.inf), strict=True)]
            bounds = tuple([p.dtype.type(number) for p in leaves(center)] for number in numbers)
        return Recipe(self.iteration, self._options["seed"], self.distribution, sigma, center, bounds, states)

    def tell(self, values: Iterable[Any] | Mapping[Any, Any]) -> None:
        """Takes the values of all candidates that :meth:`ask` returned, and a step.

        Parameters
        ----------
        values :
            Numbers in the order of the candidates; or, in any order, what :meth:`Candidate.evaluate` returned, or a
            mapping from candidates or their ids to numbers.

        Raises
        ------
        ValueError, TypeError
            A value is missing, there twice, of another iteration, or no number. Nothing has been changed.
        """
        recipe, before = self._asked, self._progress
        if recipe is None or recipe.iteration != self.iteration:
            raise ValueError(f"nothing was asked in iteration {self.iteration}; call ask() before tell()")
        told = self._told(values, recipe)
        both = np.array([evaluation.value for evaluation in told]).reshape(-1, 2)
        good = np.isfinite(both).all(axis=1)
        states = before.states
        if states is not None:
            seen = [evaluation.seen or Moments() for evaluation in told]
            good &= np.array([moments.finite for moments in seen]).reshape(-1, 2).all(axis=1)
            for index, moments in enumerate(seen):
                if good[index // 2]:
                    states = states.merge(moments)
        failed = int(np.count_nonzero(~good))
        progress = Progress(
            before.iteration + 1,
            before.evaluations + len(told),
            before.failed + failed,
            states,
            self._better(recipe, told),
        )
        if failed == len(good):
            self._progress, self.last_values = progress, both
            message = f"iteration {recipe.iteration}: all pairs have values that are NaN or infinite; no step was taken"
            warnings.warn(message, RuntimeWarning, stacklevel=2)
            return
        with np.errstate(over="ignore", invalid="ignore"):  # the optimizer has a keyword for infinities
            plus, minus = both[good].T
            weights = self.weights(plus, minus, recipe.sigma)
            estimate = weighted_sum(recipe, np.flatnonzero(good).tolist(), weights.tolist())
        t, self._progress = self.optimizer.t, progress
        try:
            self.optimizer.step(estimate)
        except BaseException:
            if self.optimizer.t == t:  # an interrupt from the keyboard may come when the step is done
                self._progress = before
            raise
        self.last_values = both

    def _told(self, values: Any, recipe: Recipe) -> list[Evaluation]:
        """What was told in the order of the candidates, if it is whole."""
        count = 2 * self._options["directions"]
        evaluations: list[Any]
        if isinstance(values, Mapping):
            evaluations = [
                Evaluation(key.id if isinstance(key, Candidate) else key, value) for key, value in values.items()
            ]
        else:
            evaluations = list(values)
            if not any(isinstance(evaluation, Evaluation) for evaluation in evaluations):
                if len(evaluations) != count:
                    raise ValueError(
                        f"iteration {recipe.iteration} has {count} candidates, got {len(evaluations)} values"
                    )
                evaluations = [Evaluation((recipe.iteration, i), value) for i, value in enumerate(evaluations)]
        told: dict[int, Evaluation] = {}
        for evaluation in evaluations:
            if not isinstance(evaluation, Evaluation):
                raise TypeError(f"all values must come from Candidate.evaluate, or none; among them is {evaluation!r}")
            key = evaluation.id
            if not isinstance(key, tuple) or len(key) != 2 or key[0] != recipe.iteration or key[1] not in range(count):
                raise ValueError(
                    f"there is no candidate {key!r}; those of iteration {recipe.iteration} are "
                    f"{(recipe.iteration, 0)} to {(recipe.iteration, count - 1)}"
                )
            candidate = Candidate(recipe, int(key[1]))
            if candidate.index in told:
                raise ValueError(f"there are two values of {candidate!r}")
            if recipe.states is not None and not isinstance(evaluation.seen, Moments):
                raise TypeError(f"the states that {candidate!r} saw are missing; tell what Candidate.evaluate returned")
            told[candidate.index] = Evaluation(candidate.id, check_value(evaluation.value, candidate), evaluation.seen)
        missing = [Candidate(recipe, index) for index in range(count) if index not in told]
        if missing:
            more = f", and of {len(missing) - 1} more" if len(missing) > 1 else ""
            raise ValueError(f"there is no value of {missing[0]!r}{more}")
        return [told[index] for index in range(count)]

    def _better(self, recipe: Recipe, evaluations: Sequence[Evaluation]) -> Best | None:
        """The best point, with some more evaluations. Of equal ones it is the first."""
        best, sign = self.best, -1.0 if self._maximize else 1.0
        finite = [evaluation for evaluation in evaluations if math.isfinite(evaluation.value)]
        if finite:
            first = min(finite, key=lambda evaluation: sign * evaluation.value)
            if best is None or sign * first.value < sign * best.value:
                return Best(first.value, first.id, Candidate(recipe, first.id[1]).params, recipe.states)
        return best

    # ------------------------------------------------------------------ the loop

    def run(
        self,
        fun: Callable[..., float],
        *,
        maxiter: int,
        args: tuple[Any, ...] = (),
        workers: int | Map = 1,
        callback: Callable[..., Any] | None = None,
        disp: bool = True,
    ) -> Any:
        """``maxiter`` iterations more; :func:`minimize` explains arguments and result.

        Where fun raises, what was done so far is kept, and ``run`` goes on with the iteration that failed.
        """
        check_integer("maxiter", maxiter, 0)
        if not callable(fun):
            raise TypeError(f"fun must be callable, got {fun!r}")
        call_back, last = new_style(callback), self.iteration + maxiter
        task = partial(evaluate, fun, args if isinstance(args, tuple) else (args,))
        status, center_fun = Status.DONE, math.nan
        with mapping(workers, fun, task) as mapped, progress_bar(disp, maxiter) as bar:
            try:
                while self.iteration < last and status is Status.DONE:
                    self.tell(mapped(task, self.ask()))
                    if bar is not None:
                        bar.set_postfix_str("" if self.best is None else f"best {self.best.value:.6g}", refresh=False)
                        bar.update()
                    if call_back is not None:
                        try:
                            call_back(self._result(last_values=self.last_values))
                        except StopIteration:
                            status = Status.CALLBACK
                recipe = replace(self._recipe(), center=self._center())
                (evaluation,) = mapped(task, [Candidate(recipe, CENTER)])
                center_fun = evaluation.value
                better = self._better(recipe, [evaluation])
                self._progress = replace(self._progress, evaluations=self.evaluations + 1, best=better)
                if better is None:
                    status = Status.FAILED
            except KeyboardInterrupt:
                status = Status.INTERRUPTED
        return self._result(
            center=self._center(),
            center_fun=center_fun,
            success=status is Status.DONE,
            status=int(status),
            message=MESSAGES[status],
        )

    def _center(self) -> Structure:
        """A copy of the parameters, or of their average if the optimizer keeps one."""
        center = self.params
        if self.optimizer.t > 0:  # before, some averages are zero
            with contextlib.suppress(ValueError):
                center = self.optimizer.averaged()
        return copy.deepcopy(center)

    def _result(self, **fields: Any) -> Any:
        best = self.best or Best(math.nan, (self.iteration, CENTER), self.params, self._progress.states)
        if best.states is not None:
            fields["normalizer"] = Normalizer(best.states)
        counts = {"nit": self.iteration, "nfev": self.evaluations, "failed": self.failed}
        return _result(x=copy.deepcopy(best.params), fun=best.value, **counts, **fields)

    # ------------------------------------------------------------------ saving

    def state_dict(self) -> dict[str, Any]:
        """A copy of all that a run needs to go on with the same bits, but for the parameters themselves."""
        state, best = self.optimizer.state_dict(), self.best
        if best is not None:
            for kept, array in zip(state["state"].values(), leaves(best.params), strict=True):
                kept[BEST] = array.copy()
        state["search"] = {
            "class": type(self).__name__,
            "options": {key: snapshot(value, {}) for key, value in self._options.items()},
            "iteration": self.iteration,
            "evaluations": self.evaluations,
            "failed": self.failed,
            "states": listed(self._progress.states),
            "best": None if best is None else {"value": best.value, "id": best.id, "states": listed(best.states)},
        }
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on where :meth:`state_dict` was called, options and hyper-parameters included.

        Raises
        ------
        ValueError, TypeError
            The state is of another search or optimizer, or does not fit. Nothing has been changed.
        """
        if not isinstance(state, Mapping) or not isinstance(state.get("search"), Mapping):
            raise ValueError("this is not the state of an optcore search")
        saved = state["search"]
        if saved.get("class") != type(self).__name__:
            raise ValueError(f"the state is of a search by {saved.get('class')}, not by {type(self).__name__}")
        try:
            options = {key: saved["options"][key] for key in self._options}
            if options["sigma"] == LOST:
                if not callable(self._options["sigma"]):
                    raise ValueError(f"sigma was {LOST}; pass it as sigma=... when making the search")
                options["sigma"] = self._options["sigma"]
            counts: dict[str, Any] = {
                key: check_integer(key, saved[key], 0) for key in ("iteration", "evaluations", "failed")
            }
            progress = Progress(**counts, states=unlisted(saved["states"]))
            if saved["best"] is not None:
                params = like(self.params, [arrays[BEST].copy() for arrays in state["state"].values()])
                if [(a.shape, a.dtype) for a in leaves(params)] != [(p.shape, p.dtype) for p in leaves(self.params)]:
                    raise ValueError("the best point has other shapes or dtypes than the parameters")
                value, where, states = (saved["best"][key] for key in ("value", "id", "states"))
                progress = replace(progress, best=Best(float(value), tuple(where), params, unlisted(states)))
            options = self._checked(options)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"the state of the search is not whole, or of another: {error}") from error
        rest = {name: {k: a for k, a in arrays.items() if k != BEST} for name, arrays in state["state"].items()}
        self.optimizer.load_state_dict({**state, "state": rest})
        self._options, self._progress, self._asked, self.last_values = options, progress, None, None

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes :meth:`state_dict` to an ``.npz`` file without pickles: all of it, or the file there stays."""
        write_state(path, self.state_dict())

    def load(self, path: str | os.PathLike[str]) -> None:
        """Goes on where :meth:`save` was called, in a search that was made with the same arguments.

        Raises
        ------
        OSError, ValueError, TypeError
            The file cannot be read, is no state, or does not fit. Nothing has been changed.
        """
        self.load_state_dict(read_state(path))


def weighted_sum(recipe: Recipe, directions: list[int], weights: list[float]) -> Structure:
    """The directions times their weights, added in order as float64."""
    arrays = leaves(recipe.center)
    total = [np.zeros(p.shape) for p in arrays]
    for direction, weight in zip(directions, weights, strict=True):
        if weight != 0.0:
            for part, d in zip(total, recipe.noise(direction), strict=True):
                part += weight * d.astype(np.float64, copy=False)
    return like(recipe.center, [part.astype(p.dtype, copy=False) for part, p in zip(total, arrays, strict=True)])


def listed(states: Moments | None) -> dict[str, Any] | None:
    """Moments as JSON has them, whose floats are exact."""
    if states is None or states.mean is None or states.m2 is None:
        return None if states is None else {"count": 0}
    return {"count": states.count, "mean": states.mean.tolist(), "m2": states.m2.tolist()}


def unlisted(kept: Mapping[str, Any] | None) -> Moments | None:
    if kept is None or kept["count"] == 0:
        return None if kept is None else Moments()
    return Moments(check_integer("count", kept["count"]), *(np.array(kept[key], np.float64) for key in ("mean", "m2")))


# ---------------------------------------------------------------------- the methods, in order of increasing complexity


class RandomDifferences(Search):
    """Finite differences along random directions.

    ``g = mean of (f(x + sigma * d) - f(x - sigma * d)) / (2 * sigma) * d``, d standard normal. Its expected value is
    the gradient of f averaged over a normal distribution of width sigma around x; of a linear f, the gradient.

    Parameters
    ----------
    params, sigma, directions, **keywords :
        See :class:`Search`.

    Examples
    --------
    >>> import numpy as np
    >>> from optcore.search import RandomDifferences
    >>> x = np.zeros(3)
    >>> s = RandomDifferences({"x": x}, sigma=0.5, optimizer="adam", lr=0.1, bounds=(-0.25, 0.25), seed=0)
    >>> plus, minus = s.ask()
    >>> plus
    candidate (0, 0) (iteration 0, direction 0, sign +1)
    >>> s.tell({minus: 2.0, plus: 1.0})
    >>> s.iteration, s.best.id, s.best.value
    (1, (0, 0), 1.0)

    References
    ----------
    Nesterov & Spokoiny, Random gradient-free minimization of convex functions, 2017.
    """

    name = "random_differences"

    def __init__(self, params: Parameters, *, sigma: Value, directions: int = 1, **keywords: Any):
        super().__init__(params, {"sigma": sigma, "directions": directions}, **keywords)

    def weights(self, plus: np.ndarray, minus: np.ndarray, sigma: float) -> np.ndarray:
        return (plus - minus) / (2.0 * sigma * len(plus))


class SPSA(RandomDifferences):
    """Simultaneous perturbation stochastic approximation.

    ``g = (f(x + c_k * d) - f(x - c_k * d)) / (2 * c_k) / d``, where every element of d is 1 or -1 with equal
    probability, and ``x = x - a_k * g``, with ``a_k = a / (A + k + 1) ** alpha`` and ``c_k = c / (k + 1) ** gamma``.

    Parameters
    ----------
    params, directions, **keywords :
        See :class:`Search`. The estimates from several directions are averaged.
    c : float
        About the standard deviation of the noise of f; where there is none, something small.
    a : float
        Makes the first steps, ``a / (A + 1) ** alpha * g``, as long as you want them. The optimizer gets a_k as ``lr``,
        k being its completed updates; instead of a, ``lr`` may be given.
    A : float
        About a tenth of the iterations to come.
    alpha, gamma : float
        By default the lowest values that theory allows, which are best in practice; 1 and 1/6 are best in the limit.

    Examples
    --------
    >>> import numpy as np
    >>> from optcore.search import SPSA
    >>> x, noise = np.array([1.0, 1.0]), np.random.default_rng(0)
    >>> s = SPSA(x, a=0.5, c=0.1, A=20, seed=1)
    >>> result = s.run(lambda x: x @ x + 0.01 * noise.normal(), maxiter=200)
    >>> result.nfev, bool(np.abs(x).max() < 0.05)
    (401, True)

    References
    ----------
    Spall, Multivariate stochastic approximation using a simultaneous perturbation gradient approximation, 1992;
    Implementation of the simultaneous perturbation algorithm for stochastic optimization, 1998.
    """

    name = "spsa"
    distribution = "signs"

    def __init__(
        self,
        params: Parameters,
        *,
        c: float,
        a: float | None = None,
        A: float = 0.0,
        alpha: float = 0.602,
        gamma: float = 0.101,
        directions: int = 1,
        **keywords: Any,
    ):
        if (a is None) == ("lr" not in keywords):
            raise TypeError("SPSA takes a, of which it makes lr = a / (A + k + 1) ** alpha, or lr; give one of them")
        for name, value in {"A": A, "alpha": alpha, "gamma": gamma}.items():
            check_number(name, value, NOT_NEGATIVE)
        if a is not None:
            keywords["lr"] = InversePower(check_number("a", a, POSITIVE), power=alpha, offset=A + 1.0)
        sigma: Any = InversePower(check_number("c", c, POSITIVE), power=gamma)
        super().__init__(params, sigma=sigma, directions=directions, **keywords)


class EvolutionStrategy(Search):
    """Evolution strategy with antithetic normal perturbations, and ranks as fitness.

    ``g = sum of F_i * e_i / (n * sigma)`` over the n = 2 * directions candidates ``x + sigma * e_i``. F_i is the rank
    of the value among all n, from -1/2 to 1/2; equal values share the mean of their ranks.

    Parameters
    ----------
    params, sigma, directions, **keywords :
        See :class:`Search`. The paper has ``optimizer="adam"`` and ``weight_decay``.
    rank_shaping : bool
        False: F_i is the value itself, and all is as in :class:`RandomDifferences`.

    Examples
    --------
    >>> import numpy as np
    >>> from optcore.search import EvolutionStrategy
    >>> x = np.array([3.0, -2.0])
    >>> s = EvolutionStrategy(x, sigma=0.1, directions=8, optimizer="adam", lr=0.1, seed=0)
    >>> result = s.run(lambda x: np.exp(x @ x), maxiter=200)
    >>> bool(np.abs(x).max() < 0.05)
    True

    References
    ----------
    Salimans, Ho, Chen, Sidor & Sutskever, Evolution strategies as a scalable alternative to reinforcement learning,
    2017, Algorithm 1 and section 2.1.
    """

    name = "evolution_strategy"

    def __init__(
        self, params: Parameters, *, sigma: Value, directions: int = 16, rank_shaping: bool = True, **keywords: Any
    ):
        options = {"sigma": sigma, "directions": directions, "rank_shaping": rank_shaping}
        super().__init__(params, options, **keywords)

    @classmethod
    def _checked(cls, options: Mapping[str, Any]) -> dict[str, Any]:
        return {**super()._checked(options), "rank_shaping": check_flag("rank_shaping", options["rank_shaping"])}

    def weights(self, plus: np.ndarray, minus: np.ndarray, sigma: float) -> np.ndarray:
        if self._options["rank_shaping"]:
            plus, minus = centered_ranks(np.stack([plus, minus]))
        return (plus - minus) / (2.0 * sigma * len(plus))


def centered_ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from -1/2 to 1/2. Equal values share the mean of theirs, or the bits would depend on how NumPy sorts."""
    _, inverse, counts = np.unique(values.ravel(), return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts + 1) / 2
    return (ranks[inverse] / (values.size - 1) - 0.5).reshape(values.shape)


class ARS(Search):
    """Augmented random search.

    ``g = sum of (f(x + sigma * d) - f(x - sigma * d)) * d / (b * s)`` over the b directions with the best single
    values, s being the standard deviation of their 2 * b values.

    Parameters
    ----------
    params, directions, **keywords :
        See :class:`Search`. The paper's step size is ``lr``.
    sigma : float or function of the iteration
        The paper's exploration noise, nu.
    top : int, optional
        b; by default all directions count.
    scale_by_std : bool
        False: s is 1. Where all values are equal, g is zero.
    normalize_states : bool
        ``fun(params, normalizer)`` then evaluates a policy, and shows it ``normalizer(state)`` instead of each state:
        ``(state - mean) / std`` of all states in all iterations before. The trained policy needs
        ``search.normalizer``. See :class:`Normalizer`.

    Notes
    -----
    The paper's Algorithm 1, basic random search, has ``scale_by_std=False``. Of Algorithm 2, V1 is what this class does
    by default; the variants with -t have ``top``, V2 has ``normalize_states=True``. States of pairs that failed are not
    counted. All others are merged in the order of the candidates, whoever was ready first.

    Examples
    --------
    >>> import numpy as np
    >>> from optcore.search import ARS
    >>> def reward(policy, normalizer):  # for keeping a leaky tank at level 5
    ...     level, total = 0.0, 0.0
    ...     for _ in range(20):
    ...         level += policy @ [*normalizer([level]), 1.0] - 0.1 * level
    ...         total -= (level - 5.0) ** 2
    ...     return total
    >>> policy = np.zeros(2)
    >>> s = ARS(policy, sigma=0.05, directions=8, top=4, normalize_states=True, maximize=True, lr=0.05, seed=0)
    >>> result = s.run(reward, maxiter=100)
    >>> float(reward(np.zeros(2), s.normalizer)), result.center_fun > -60
    (-500.0, True)

    References
    ----------
    Mania, Guy & Recht, Simple random search provides a competitive approach to reinforcement learning, 2018.
    """

    name = "ars"

    def __init__(
        self,
        params: Parameters,
        *,
        sigma: Value,
        directions: int = 8,
        top: int | None = None,
        scale_by_std: bool = True,
        normalize_states: bool = False,
        **keywords: Any,
    ):
        options = {"sigma": sigma, "directions": directions, "top": top}
        flags = {"scale_by_std": scale_by_std, "normalize_states": normalize_states}
        super().__init__(params, {**options, **flags}, **keywords)

    @classmethod
    def _checked(cls, options: Mapping[str, Any]) -> dict[str, Any]:
        checked = super()._checked(options)
        if checked["top"] is not None:
            checked["top"] = check_integer("top", checked["top"])
            if checked["top"] > checked["directions"]:
                raise ValueError(f"top must be at most directions, got {checked['top']} of {checked['directions']}")
        return {**checked, **{key: check_flag(key, checked[key]) for key in ("scale_by_std", "normalize_states")}}

    def weights(self, plus: np.ndarray, minus: np.ndarray, sigma: float) -> np.ndarray:
        losses = -np.maximum(plus, minus) if self._maximize else np.minimum(plus, minus)
        used = np.argsort(losses, kind="stable")[: self._options["top"]]
        weights, std = np.zeros(len(plus)), 1.0
        if self._options["scale_by_std"]:
            std = statistics.pstdev([*plus[used].tolist(), *minus[used].tolist()])  # exact, so in any order
        if std > 0.0:
            weights[used] = (plus[used] - minus[used]) / (len(used) * std)
        return weights


METHODS: dict[str, type[Search]] = {cls.name: cls for cls in (RandomDifferences, SPSA, EvolutionStrategy, ARS)}
"""Every search by name, in order of increasing complexity."""


# ---------------------------------------------------------------------- the loop for SciPy's users


class Status(IntEnum):
    """Why a run ended; the numbers are those of :func:`optcore.minimize`, as far as they have the same meaning."""

    DONE = 0
    FAILED = 3
    INTERRUPTED = 5
    CALLBACK = 99


MESSAGES = {
    Status.DONE: "All iterations were done.",
    Status.FAILED: "No value was finite.",
    Status.INTERRUPTED: "Interrupted from the keyboard.",
    Status.CALLBACK: "`callback` raised `StopIteration`.",
}


def _result(**fields: Any) -> Any:
    return result_class()(**fields)


def minimize(
    fun: Callable[..., float],
    x0: Any,
    args: tuple[Any, ...] = (),
    *,
    method: str | type[Search] = "ars",
    maxiter: int = 1000,
    workers: int | Map = 1,
    callback: Callable[..., Any] | None = None,
    disp: bool = True,
    **options: Any,
) -> Any:
    """Minimizes a function of which only values are known; it may be noisy, and fail at times.

    Parameters
    ----------
    fun : callable
        ``fun(x, *args)`` returns a number. NaN and infinities are failures, which are left out.
    x0 : array_like, or a sequence or mapping of arrays
        The start. It is not changed. x has its structure, and is float32 where it is, otherwise float64.
    args : tuple
    method : {"random_differences", "spsa", "evolution_strategy", "ars"} or class
    maxiter : int
        Iterations, each of ``2 * directions`` evaluations.
    workers : int or map-like
        How many processes evaluate; -1: one for each CPU. Or a function: ``workers(function, candidates)`` returns
        ``function(candidate)`` for all candidates, in any order. Such are ``Pool.map`` and the ``Executor.map`` of
        ``concurrent.futures`` and ``mpi4py.futures``. Of joblib it is
        ``lambda f, c: joblib.Parallel(4)(map(joblib.delayed(f), c))``, of a Dask client
        ``lambda f, c: client.gather(client.map(f, c, pure=False))``. The numbers do not depend on it.
    callback : callable, optional
        Called after each iteration: ``callback(intermediate_result=...)``, if that is its only parameter's name, with
        a result and ``last_values``, those of the iteration; else ``callback(x)``. It may raise StopIteration.
    disp : bool
        Show progress, if tqdm is installed, and standard error is a terminal.
    **options :
        Of the method: ``sigma``, ``directions``, ``optimizer``, ``lr``, ``seed``, ``bounds``, ...

    Returns
    -------
    scipy.optimize.OptimizeResult
        Or a mapping like it, where SciPy is not installed. ``x`` and ``fun``: the best point that was evaluated, and
        its value. ``center`` and ``center_fun``: where the search is now, or the average where the optimizer keeps one.
        It is evaluated once, in the end, because mostly it is better than its perturbations, and under noise better
        than the luckiest of them. ``nit``, ``nfev``, ``failed`` (pairs left out), ``success``, ``status`` (0: all done,
        3: no value was finite, 5: KeyboardInterrupt, 99: the callback raised StopIteration), ``message``; with
        normalised states, ``normalizer``, as it was for x.

    Raises
    ------
    TypeError, ValueError
        An argument is of no use.
    Exception
        What fun raised, with a note that names the candidate. What was done so far is lost; where fun may raise, make
        the search yourself, and call its :meth:`~Search.run`, again if need be.

    Examples
    --------
    >>> from concurrent.futures import ThreadPoolExecutor
    >>> from optcore.search import minimize
    >>> def fun(x):
    ...     return (x[0] - 1.0) ** 2 + abs(x[1])
    >>> with ThreadPoolExecutor(2) as pool:
    ...     result = minimize(fun, [3.0, 3.0], workers=pool.map, sigma=0.02, lr=0.02, maxiter=500, seed=0)
    >>> result.message, result.nfev, result.fun < 0.01
    ('All iterations were done.', 8001, True)
    """
    if not (isinstance(method, type) and issubclass(method, Search)):
        method = METHODS[check_choice("method", method, list(METHODS))]
    search = method(copied(x0), **options)
    return search.run(fun, maxiter=maxiter, args=args, workers=workers, callback=callback, disp=disp)


def copied(x0: Any) -> Any:
    """Parameters of our own."""
    if isinstance(x0, Mapping):
        return {name: copied_array(f"x0[{name!r}]", array) for name, array in x0.items()}
    if isinstance(x0, (list, tuple)) and any(isinstance(array, np.ndarray) for array in x0):
        return [copied_array(f"x0[{i}]", array) for i, array in enumerate(x0)]
    return np.atleast_1d(copied_array("x0", x0))


def copied_array(what: str, array: Any) -> np.ndarray:
    array = np.asarray(array)
    if array.dtype.kind not in "iuf":
        raise TypeError(f"{what} must be an array of real numbers, or arrays in a sequence or mapping; got {array!r}")
    return np.array(array, np.float32 if array.dtype == np.float32 else np.float64, order="C")


@contextlib.contextmanager
def mapping(workers: int | Map, fun: Any, task: Any) -> Iterator[Map]:
    """The map that evaluates; one of processes for as long as the ``with`` block."""
    if callable(workers):
        yield workers
        return
    if isinstance(workers, bool) or not isinstance(workers, (int, np.integer)):
        raise TypeError(f"workers must be an integer, or map-like as pool.map is; got {workers!r}")
    if workers < 1 and workers != -1:
        raise ValueError(f"workers must be at least 1, or -1 for one process per CPU; got {workers}")
    count = int(workers) if workers > 0 else getattr(os, "process_cpu_count", os.cpu_count)() or 1
    if count == 1:
        yield map
        return
    interactive = not hasattr(sys.modules["__main__"], "__file__") and getattr(fun, "__module__", "") == "__main__"
    try:
        pickle.dumps(task)
        if interactive:
            raise TypeError("other processes do not see what was defined interactively")
    except Exception as error:
        raise TypeError(
            f"workers={workers} sends fun and args to other processes, so they must be picklable: fun a function at "
            f"the top level of a module, say; got {fun!r}. Map-likes of joblib and Dask can send more"
        ) from error
    # No plain fork: of a process with threads, it may hang. (Python 3.14 thinks so too.)
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    # An interrupt from the keyboard reaches the workers too: they end at once, and quietly.
    context, quiet = multiprocessing.get_context(method), (signal.SIGINT, signal.SIG_DFL)
    with concurrent.futures.ProcessPoolExecutor(count, context, signal.signal, quiet) as pool:
        try:
            yield lambda function, items: pool.map(function, items, chunksize=-(-len(items) // (4 * count)))
        finally:
            pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def progress_bar(disp: bool, total: int) -> Iterator[Any]:
    """A bar, if one is asked for, and tqdm is installed; it is shown in terminals only."""
    if check_flag("disp", disp):
        try:
            from tqdm import tqdm
        except ImportError:
            yield None
            return
        with tqdm(total=total, unit=" iterations", leave=False, disable=None) as bar:
            yield bar
    else:
        yield None
