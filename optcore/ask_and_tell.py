"""What all searches share: ask and tell, the loop around them, and their state."""

from __future__ import annotations

import copy
import inspect
import math
import os
import secrets
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import methodcaller
from typing import Any, ClassVar

import numpy as np

from optcore.candidates import CENTER, Candidate, Evaluation, Recipe, check_value, leaves, like
from optcore.domains import MAX32, TINY32, Domain, check_choice, check_number, nearest
from optcore.files import LOST, read_state, write_state
from optcore.normalization import Moments, Normalizer
from optcore.optimizer import CATALOGUE, Optimizer, Parameters, Structure, snapshot
from optcore.results import new_style, progress_bar, result_class
from optcore.schedules import check_integer
from optcore.stopping import MESSAGES, Status
from optcore.workers import Map, mapping

__all__ = ["Best", "Search"]

SIGMA = Domain(TINY32, MAX32, "a number > 0 that float32 can hold")
LARGEST_SEED = 2**128 - 1  # the key of Philox
BEST = "search_best"  # its name among the state arrays of a parameter


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


class Search(ABC):
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
    A value that is NaN or infinite is that of a failed evaluation; that of a policy that saw such a state is NaN. Its
    pair is left out of the estimate, and counted in ``failed``. Where all fail, there is a RuntimeWarning and no step,
    and the next iteration tries other directions.

    Under ``bounds``, candidates are clamped as the center is. For an element at its bound, the estimate is too small.
    """

    name: ClassVar[str]
    """The name in ``METHODS``."""
    distribution: ClassVar[str] = "normal"

    def __init__(
        self,
        params: Parameters,
        options: Mapping[str, Any],
        /,
        optimizer: str | Callable[..., Optimizer] = "sgd",
        seed: int | None = None,
        **keywords: Any,
    ):
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
                    close = nearest(keyword, accepted)
                    raise TypeError(f"{type(self).__name__} got an unknown keyword {keyword!r}{close}")
        self.optimizer = optimizer(params, **keywords)
        if not isinstance(self.optimizer, Optimizer):
            raise TypeError(f"optimizer must make an optimizer of optcore, it returned {self.optimizer!r}")
        self._progress = Progress(states=Moments() if self._options.get("normalize_states") else None)
        self._asked: Recipe | None = None
        self.last_values: np.ndarray | None = None

    @classmethod
    def _checked(cls, options: Mapping[str, Any]) -> dict[str, Any]:
        """The options, if all are good: those of the constructor, or of a saved state."""
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

    @abstractmethod
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
        sigma = self._options["sigma"]
        if callable(sigma):
            sigma = check_number("the value of sigma", sigma(self.iteration), SIGMA)
        self._asked = self._recipe(self.params, sigma)
        return [Candidate(self._asked, index) for index in range(2 * self._options["directions"])]

    def _recipe(self, center: Structure, sigma: float) -> Recipe:
        optimizer = self.optimizer
        center = like(center, [p.copy() for p in leaves(center)])
        bounds = optimizer._options["bounds"]
        if optimizer._wide_bounds:
            bounds = tuple([kept[side] for kept in optimizer.state.values()] for side in ("lower", "upper"))
        elif bounds is not None:
            numbers = [none if bound is None else bound for bound, none in zip(bounds, (-np.inf, np.inf), strict=True)]
            bounds = tuple([p.dtype.type(number) for p in leaves(center)] for number in numbers)
        seed, states = self._options["seed"], self._progress.states
        return Recipe(self.iteration, seed, self.distribution, sigma, center, bounds, states)

    def tell(self, values: Iterable[Any] | Mapping[tuple[int, int], Any]) -> None:
        """Takes the values of all candidates that :meth:`ask` returned, and a step.

        Parameters
        ----------
        values :
            Numbers in the order of the candidates; or, in any order, what :meth:`Candidate.evaluate` returned, or a
            mapping from ``candidate.id`` to numbers.

        Raises
        ------
        ValueError, TypeError
            A value is missing, there twice, of another iteration, or no number. Nothing has been changed.
        """
        recipe, before = self._asked, self._progress
        if recipe is None or recipe.iteration != self.iteration:
            raise ValueError(f"nothing was asked in iteration {self.iteration}; call ask() before tell()")
        told = self._in_order(values, recipe)
        both = np.array([evaluation.value for evaluation in told]).reshape(-1, 2)
        good, states = np.isfinite(both).all(axis=1), before.states
        if states is not None:
            for evaluation, counts in zip(told, np.repeat(good, 2), strict=True):
                states = states.merge(evaluation.seen or Moments()) if counts else states
        progress = Progress(
            before.iteration + 1,
            before.evaluations + len(told),
            before.failed + int(np.count_nonzero(~good)),
            states,
            self._better(recipe, told),
        )
        if not good.any():
            self._progress, self.last_values = progress, both
            message = f"iteration {recipe.iteration}: all pairs have values that are NaN or infinite; no step was taken"
            warnings.warn(message, RuntimeWarning, stacklevel=2)
            return
        with np.errstate(over="ignore", invalid="ignore"):  # the optimizer has a keyword for infinities
            plus, minus = both[good].T
            weights = self.weights(plus, minus, recipe.sigma).tolist()
            estimate = recipe.weighted_sum(dict(zip(np.flatnonzero(good).tolist(), weights, strict=True)))
        t, self._progress = self.optimizer.t, progress
        try:
            self.optimizer.step(estimate)
        except BaseException:
            if self.optimizer.t == t:  # an interrupt from the keyboard may come when the step is done
                self._progress = before
            raise
        self.last_values = both

    def _in_order(self, values: Any, recipe: Recipe) -> list[Evaluation]:
        """What was told in the order of the candidates, if it is whole. A number has the id of its place."""
        candidates = [Candidate(recipe, index) for index in range(2 * self._options["directions"])]
        by_id = {candidate.id: candidate for candidate in candidates}
        told: dict[tuple[int, int], Evaluation] = {}
        if isinstance(values, Mapping):
            values = map(Evaluation, values.keys(), values.values())
        for place, value in enumerate(values):
            evaluation = value if isinstance(value, Evaluation) else Evaluation((recipe.iteration, place), value)
            try:
                candidate = by_id[evaluation.id]
            except (KeyError, TypeError):
                raise ValueError(
                    f"there is no candidate {evaluation.id!r}; those of iteration {recipe.iteration} are "
                    f"{candidates[0].id} to {candidates[-1].id}"
                ) from None
            if candidate.id in told:
                raise ValueError(f"there are two values of {candidate!r}")
            if recipe.states is not None and not isinstance(evaluation.seen, Moments):
                raise TypeError(f"the states that {candidate!r} saw are missing; tell what Candidate.evaluate returned")
            told[candidate.id] = Evaluation(candidate.id, check_value(evaluation.value, candidate), evaluation.seen)
        missing = [candidate for candidate in candidates if candidate.id not in told]
        if missing:
            more = f", and of {len(missing) - 1} more" if len(missing) > 1 else ""
            raise ValueError(f"there is no value of {missing[0]!r}{more}")
        return [told[candidate.id] for candidate in candidates]

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
        disp: bool = False,
    ) -> Any:
        """``maxiter`` iterations more; :func:`optcore.search.minimize` explains arguments and result.

        Where fun raises, what was done so far is kept, and ``run`` goes on with the iteration that failed.
        """
        check_integer("maxiter", maxiter, 0)
        if not callable(fun):
            raise TypeError(f"fun must be callable, got {fun!r}")
        if disp not in (True, False):  # or 1 and 0, as in optcore.minimize
            raise ValueError(f"disp must be True or False, got {disp!r}")
        call_back, center_fun = new_style(callback), math.nan
        task = methodcaller("evaluate", fun, *(args if isinstance(args, tuple) else (args,)))
        bar = progress_bar(disp, maxiter, "iterations")
        try:
            with mapping(workers, fun, task) as mapped:
                status = self._iterate(lambda asked: mapped(task, asked), maxiter, call_back, bar)
                center = self._center()
                (evaluation,) = mapped(task, [center])
                center_fun, better = evaluation.value, self._better(center.recipe, [evaluation])
                self._progress = replace(self._progress, evaluations=self.evaluations + 1, best=better)
                if better is None:
                    status = Status.START
        except KeyboardInterrupt:
            status = Status.INTERRUPTED
        finally:
            if bar is not None:
                bar.close()
        result = self._result(
            center=self._center().params,
            center_fun=center_fun,
            success=status is Status.MAXITER,
            status=int(status),
            message=MESSAGES[status].format(reason="no value is finite"),
        )
        if disp:
            print(f"{result.message}\nvalue {result.fun:g}, {result.nit} iterations, {result.nfev} evaluations")
        return result

    def _iterate(self, evaluate: Callable[[Any], Any], maxiter: int, call_back: Any, bar: Any) -> Status:
        for _ in range(maxiter):
            self.tell(evaluate(self.ask()))
            if bar is not None:
                bar.set_postfix_str("" if self.best is None else f"best {self.best.value:.6g}", refresh=False)
                bar.update()
            if call_back is not None:
                try:
                    call_back(self._result(last_values=self.last_values))
                except StopIteration:
                    return Status.CALLBACK
        return Status.MAXITER

    def _center(self) -> Candidate:
        """The parameters, or their average if the optimizer keeps one, as a candidate."""
        averages = self.optimizer._averages and self.optimizer.t > 0  # before, some averages are zero
        center = self.optimizer.averaged() if averages else self.params
        return Candidate(self._recipe(center, 0.0), CENTER)

    def _result(self, **fields: Any) -> Any:
        best = self.best or Best(math.nan, (self.iteration, CENTER), self.params, self._progress.states)
        if best.states is not None:
            fields["normalizer"] = Normalizer(best.states)
        counts = {"nit": self.iteration, "nfev": self.evaluations, "failed": self.failed}
        return result_class()(x=copy.deepcopy(best.params), fun=best.value, **counts, **fields)

    # ------------------------------------------------------------------ saving

    def state_dict(self) -> dict[str, Any]:
        """A copy of all that a run needs to go on with the same bits, but for the parameters themselves."""
        state, progress, best = self.optimizer.state_dict(), self._progress, self.best
        if best is not None:
            for kept, array in zip(state["state"].values(), leaves(best.params), strict=True):
                kept[BEST] = array.copy()
        state["search"] = {
            "class": type(self).__name__,
            "options": {key: snapshot(value, {}) for key, value in self._options.items()},
            "iteration": progress.iteration,
            "evaluations": progress.evaluations,
            "failed": progress.failed,
            "states": listed(progress.states),
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
            options = self._checked(options)
            progress = Progress(
                check_integer("iteration", saved["iteration"], 0),
                check_integer("evaluations", saved["evaluations"], 0),
                check_integer("failed", saved["failed"], 0),
                unlisted(saved["states"]),
            )
            if saved["best"] is not None:
                params = like(self.params, [arrays[BEST].copy() for arrays in state["state"].values()])
                if [(a.shape, a.dtype) for a in leaves(params)] != [(p.shape, p.dtype) for p in leaves(self.params)]:
                    raise ValueError("the best point has other shapes or dtypes than the parameters")
                value, where, states = (saved["best"][key] for key in ("value", "id", "states"))
                progress = replace(progress, best=Best(float(value), tuple(where), params, unlisted(states)))
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


def listed(states: Moments | None) -> dict[str, Any] | None:
    return None if states is None else states.to_lists()


def unlisted(kept: Mapping[str, Any] | None) -> Moments | None:
    return None if kept is None else Moments.from_lists(kept)
