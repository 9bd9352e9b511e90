"""Trains one linear model with every optimizer from the same start on the same batches, and says how each fared.

Nothing here prints: :mod:`optcore.cli` makes a table of the result, :mod:`optcore.plot` a picture.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from optcore.data import Data, DataError, load_data
from optcore.domains import nearest
from optcore.optimizer import CATALOGUE, Optimizer

__all__ = ["Comparison", "Contender", "Problem", "Row", "Run", "Settings", "compare"]

RATES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
L2 = 1e-3  # without it, the classes of breast_cancer can be separated and the logistic loss has no minimum
WITHIN = 0.01  # of the best known loss: converged
LIMIT = 1e6  # times the loss at the start: there is no way back, and no need to wait for an overflow
FULL_BATCH = ("rprop",)  # compares the signs of successive gradients, which has no meaning between two batches


@dataclass(frozen=True, eq=False)
class Problem:
    """A linear model to be trained. The last weight is the intercept, which is not penalised.

    ``objective = mean over the training rows + l2 / 2 * |w|**2``, of squared errors for numbers (of the standardised
    target: predicting the mean costs 1) and of the logistic loss for two classes.
    """

    data: Data
    x: np.ndarray
    y: np.ndarray
    held_out_x: np.ndarray
    held_out_y: np.ndarray
    penalty: np.ndarray

    @classmethod
    def of(cls, data: Data, seed: int = 0) -> Problem:
        """Holds out a fifth of the rows and standardises by what is left."""
        from sklearn.model_selection import train_test_split
        from sklearn.preprocessing import StandardScaler

        x, held_out_x, y, held_out_y = train_test_split(
            data.x, data.y, test_size=0.2, random_state=seed, stratify=None if data.classes is None else data.y
        )
        scale = StandardScaler().fit(x)
        x, held_out_x = (np.column_stack([scale.transform(part), np.ones(len(part))]) for part in (x, held_out_x))
        if data.classes is None:
            mean, deviation = y.mean(), y.std()
            if np.ptp(y) == 0:
                raise DataError(f"the target {data.target!r} is {y[0]} in every training row")
            y, held_out_y = (y - mean) / deviation, (held_out_y - mean) / deviation
        penalty = np.full(x.shape[1], L2)
        penalty[-1] = 0.0
        return cls(data, x, y, held_out_x, held_out_y, penalty)

    def loss(self, weights: np.ndarray, x: np.ndarray, y: np.ndarray) -> float:
        """Mean loss of some rows, without the penalty."""
        predicted = x @ weights
        if self.data.classes is None:
            return float(np.mean(np.square(predicted - y)))
        return float(np.mean(np.logaddexp(0.0, predicted) - y * predicted))

    def objective(self, weights: np.ndarray) -> float:
        """What is minimized: the loss of all training rows, and the penalty."""
        return self.loss(weights, self.x, self.y) + float(self.penalty @ np.square(weights)) / 2

    def gradient(self, weights: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Of the objective as some training rows show it."""
        predicted = x @ weights
        error = 2 * (predicted - y) if self.data.classes is None else 1 / (1 + np.exp(-predicted)) - y
        return error @ x / len(y) + self.penalty * weights

    def best_weights(self) -> np.ndarray:
        """The minimum, as scikit-learn finds it: in closed form for numbers, by Newton's method for classes."""
        from sklearn.linear_model import LogisticRegression, Ridge

        if self.data.classes is None:
            model = Ridge(alpha=L2 * len(self.y) / 2, solver="cholesky").fit(self.x[:, :-1], self.y)
        else:
            model = LogisticRegression(C=1 / (L2 * len(self.y)), solver="newton-cholesky", tol=1e-10, max_iter=1000)
            model.fit(self.x[:, :-1], self.y)
        return np.append(model.coef_, model.intercept_)


# ---------------------------------------------------------------------------- training


@dataclass(frozen=True)
class Settings:
    """What is tried, and how long.

    Parameters
    ----------
    optimizers : sequence of str, optional
        Names in the catalogue; all without it.
    rates : sequence of float
        Learning rates; each optimizer is judged by its best.
    epochs, batch_size : int
        Passes over the training rows, and rows per step at most.
    seed : int
        Of the rows that are held out and of the order of the others. The same seed gives the same losses.

    Raises
    ------
    ValueError
        A setting is outside of what makes sense.
    """

    optimizers: tuple[str, ...] = tuple(CATALOGUE)
    rates: tuple[float, ...] = RATES
    epochs: int = 200
    batch_size: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        for name in self.optimizers:
            if name not in CATALOGUE:
                raise ValueError(f"there is no optimizer {name!r}{nearest(name, list(CATALOGUE))}")
        for rate in self.rates:
            if not 0 < rate < math.inf:
                raise ValueError(f"a learning rate must be a finite number > 0, got {rate!r}")
        if not self.optimizers or not self.rates:
            raise ValueError("at least one optimizer and one learning rate are needed")
        if self.epochs < 1 or self.batch_size < 1 or not 0 <= self.seed < 2**32:
            raise ValueError("epochs and batch_size must be at least 1, and the seed from 0 to 2**32 - 1")


DEFAULTS = Settings()


@dataclass(frozen=True)
class Contender:
    """An optimizer with its default hyper-parameters, and how it is fed."""

    label: str
    cls: type[Optimizer]
    lookahead: bool = False
    full_batch: bool = False


@dataclass(frozen=True, eq=False)
class Run:
    """One training with one learning rate. Step 0 is the start; all losses that are kept are finite."""

    label: str
    lr: float
    steps: np.ndarray
    epochs: np.ndarray
    losses: np.ndarray
    seconds: np.ndarray
    held_out_loss: float | None
    """Mean loss of the held-out rows, without the penalty; None where it is not finite."""
    overflowed_at: int | None
    """The step at which it was stopped because the loss was not finite or above ``LIMIT`` times its start."""


@dataclass(frozen=True, eq=False)
class Row:
    """What became of an optimizer: its best run, judged by the final training loss."""

    run: Run
    outcome: str
    """"converged": within 1 % of the best known loss at the end. "diverged": the loss grew beyond ``LIMIT`` times its
    start, or stayed above its start for the last fifth of the steps or more. "not yet": the rest."""
    steps_to_best: int | None
    """Steps until the loss was within 1 % of the best known for the first time; None unless converged."""
    seconds_to_best: float | None
    """The same in seconds of training; what measuring the loss took is not counted."""
    diverged_at: int | None
    """The step at which the loss was found beyond the limit, or since which it is above its start; None unless
    diverged."""
    diverged_rates: tuple[float, ...]
    """Learning rates with which this optimizer diverged."""


@dataclass(frozen=True, eq=False)
class Comparison:
    """The rows are in the order of the catalogue."""

    problem: Problem
    settings: Settings
    best_known_loss: float
    rows: tuple[Row, ...]


def contenders(names: Sequence[str]) -> list[Contender]:
    """Those optimizers in the order of the catalogue; one that can look ahead comes twice."""
    found = []
    for name, cls in CATALOGUE.items():
        if name in names:
            full = name in FULL_BATCH
            found.append(Contender(f"{name}, full batch" if full else name, cls, full_batch=full))
            if cls.lookahead is not Optimizer.lookahead:
                found.append(Contender(f"{name}, look-ahead", cls, lookahead=True))
    return found


def checkpoints(steps: int, epochs: int) -> set[int]:
    """Steps after which the loss of all training rows is measured, at even ratios.

    Their number follows the epochs, so that measuring costs about as much as training at most, however many rows
    there are.
    """
    return {int(step) for step in np.rint(np.geomspace(1, steps, min(200, 20 + 2 * epochs)))}


def batches(problem: Problem, size: int, epochs: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Shuffled rows, dealt into batches of almost equal size, so that no row counts more than another."""
    random, rows = np.random.default_rng(seed), len(problem.y)
    count = math.ceil(rows / size)
    edges = [rows * i // count for i in range(count + 1)]
    for _ in range(epochs):
        order = random.permutation(rows)
        x, y = problem.x[order], problem.y[order]
        for first, last in itertools.pairwise(edges):
            yield x[first:last], y[first:last]


def train(
    problem: Problem, contender: Contender, lr: float, settings: Settings, progress: Callable[[float], Any]
) -> Run:
    """One run from zero weights. ``progress`` is called with the share of the run that has been done."""
    weights = np.zeros(problem.x.shape[1])
    optimizer = contender.cls(weights, lr=lr)
    where_wanted = optimizer.lookahead if contender.lookahead else contextlib.nullcontext
    size = len(problem.y) if contender.full_batch else min(settings.batch_size, len(problem.y))
    epochs = settings.epochs
    total = epochs * math.ceil(len(problem.y) / size)
    stops = checkpoints(total, epochs)
    kept = [(0, problem.objective(weights), 0.0)]
    limit, seconds, overflowed_at = LIMIT * kept[0][1], 0.0, None
    with np.errstate(all="ignore"):  # a run may overflow; it is then reported as diverged
        begin = time.perf_counter()
        for step, (x, y) in enumerate(batches(problem, size, epochs, settings.seed), 1):
            with where_wanted():
                gradient = problem.gradient(weights, x, y)
            optimizer.step(gradient)
            if step in stops:
                seconds += time.perf_counter() - begin
                loss = problem.objective(weights)
                if not loss <= limit:
                    overflowed_at = step
                    break
                kept.append((step, loss, seconds))
                progress(step / total)
                begin = time.perf_counter()
        held_out_loss = problem.loss(weights, problem.held_out_x, problem.held_out_y)
    steps, losses, times = (np.array(column) for column in zip(*kept, strict=True))
    return Run(
        label=contender.label,
        lr=lr,
        steps=steps,
        epochs=steps * (epochs / total),
        losses=losses,
        seconds=times,
        held_out_loss=held_out_loss if math.isfinite(held_out_loss) else None,
        overflowed_at=overflowed_at,
    )


def silent(share: float) -> None:
    """The progress that nobody watches."""


def runs(problem: Problem, settings: Settings, progress: Callable[[float], Any] = silent) -> Iterator[Run]:
    """All runs, each when it is finished. ``progress`` is called with the share of the whole that has been done."""
    pairs = list(itertools.product(contenders(settings.optimizers), settings.rates))
    for done, (contender, lr) in enumerate(pairs):

        def inner(share: float, done: int = done) -> None:
            progress((done + share) / len(pairs))

        yield train(problem, contender, lr, settings, inner)


# ---------------------------------------------------------------------------- judging


def settled(good: np.ndarray) -> int | None:
    """Index from which on all are true; None where the last is not."""
    bad = np.flatnonzero(~good)
    first = int(bad[-1]) + 1 if len(bad) else 0
    return first if first < len(good) else None


def judge(tried: Sequence[Run], best_known_loss: float) -> Row:
    """The row of an optimizer, from its runs with all learning rates."""
    diverged_at: dict[float, int] = {}
    for run in tried:
        above = settled(run.losses > run.losses[0])
        if run.overflowed_at is not None:
            diverged_at[run.lr] = run.overflowed_at
        elif above is not None and run.steps[above] <= 0.8 * run.steps[-1]:
            diverged_at[run.lr] = int(run.steps[above])
    held = [run for run in tried if run.lr not in diverged_at]
    if not held:  # the one that held out longest
        run = max(tried, key=lambda run: diverged_at[run.lr])
        return Row(run, "diverged", None, None, diverged_at[run.lr], tuple(diverged_at))
    run = min(held, key=lambda run: run.losses[-1])
    within = run.losses <= (1 + WITHIN) * best_known_loss
    if not within[-1]:
        return Row(run, "not yet", None, None, None, tuple(diverged_at))
    near = int(np.argmax(within))
    return Row(run, "converged", int(run.steps[near]), float(run.seconds[near]), None, tuple(diverged_at))


def summary(problem: Problem, settings: Settings, finished: Sequence[Run]) -> Comparison:
    """Judges runs; an optimizer that was interrupted before its last learning rate is left out."""
    groups = [list(group) for _, group in itertools.groupby(finished, key=lambda run: run.label)]
    best = min([problem.objective(problem.best_weights()), *(float(run.losses.min()) for run in finished)])
    rows = tuple(judge(group, best) for group in groups if len(group) == len(settings.rates))
    return Comparison(problem, settings, best, rows)


def compare(source: str = "diabetes", target: str | None = None, settings: Settings = DEFAULTS) -> Comparison:
    """Trains a linear model with every optimizer and with every learning rate.

    Examples
    --------
    >>> result = compare("diabetes", settings=Settings(optimizers=("sgd", "rprop"), epochs=50))
    >>> [(row.run.label, row.outcome) for row in result.rows]
    [('sgd', 'converged'), ('rprop, full batch', 'converged')]
    """
    problem = Problem.of(load_data(source, target), settings.seed)
    return summary(problem, settings, list(runs(problem, settings)))


def as_dict(comparison: Comparison) -> dict[str, Any]:
    """A comparison in types that strict JSON has; a number that does not exist is null."""
    problem, settings = comparison.problem, comparison.settings
    return {
        "data": problem.data.name,
        "target": problem.data.target,
        "classes": problem.data.classes and list(problem.data.classes),
        "columns": list(problem.data.columns),
        "training_rows": len(problem.y),
        "held_out_rows": len(problem.held_out_y),
        "l2": L2,
        "lr": list(settings.rates),
        "epochs": settings.epochs,
        "batch_size": settings.batch_size,
        "seed": settings.seed,
        "best_known_loss": comparison.best_known_loss,
        "optimizers": [
            {
                "optimizer": row.run.label,
                "lr": row.run.lr,
                "outcome": row.outcome,
                "loss": None if row.outcome == "diverged" else float(row.run.losses[-1]),
                "held_out_loss": None if row.outcome == "diverged" else row.run.held_out_loss,
                "steps_to_best": row.steps_to_best,
                "seconds_to_best": row.seconds_to_best,
                "diverged_at": row.diverged_at,
                "diverged_lr": list(row.diverged_rates),
                "curve": {
                    "step": row.run.steps.tolist(),
                    "epoch": row.run.epochs.tolist(),
                    "loss": row.run.losses.tolist(),
                    "seconds": row.run.seconds.tolist(),
                },
            }
            for row in comparison.rows
        ],
    }
