"""Trains one task with every optimizer from the same start on the same batches, and says how each fared.

Nothing here prints: :mod:`optcore.cli` makes a table of the result, :mod:`optcore.plot` a picture.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from optcore.data import DataError
from optcore.domains import MAX, NOT_NEGATIVE, nearest
from optcore.optimizer import CATALOGUE, Optimizer
from optcore.schedules import Schedule
from optcore.tasks import Task, load_task
from optcore.threads import one_thread

__all__ = ["Comparison", "Contender", "Row", "Run", "Settings", "compare"]

RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0, 3.0, 10.0, 30.0, 100.0)
TIE = 1e-6  # of the way from the start to the best: final losses that differ by less are equally good
LIMIT = 1e6  # times the loss at the start, or 1 if that is less: there is no way back, no need to wait for an overflow
CHUNK = 10**6  # values of a schedule at a time
LOWEST = -1e200  # no loss that has a minimum falls below it
FULL_BATCH = ("rprop",)  # compares the signs of successive gradients, which has no meaning between two batches
CONSTANT_RATE = ("rprop",)  # lr is its first step size alone


def in_catalogue(names: Sequence[str]) -> list[str]:
    """Names of optimizers in the order of the catalogue; ValueError where it lacks one."""
    for name in names:
        if name not in CATALOGUE:
            raise ValueError(f"there is no optimizer {name!r}{nearest(name, list(CATALOGUE))}")
    return [name for name in CATALOGUE if name in names]


@dataclass(frozen=True)
class Settings:
    """What is tried, and how long.

    Parameters
    ----------
    optimizers : sequence of str, optional
        Names in the catalogue; all without it.
    rates : sequence of float
        Learning rates; each optimizer is judged by its best.
    epochs : int, optional
        Passes over the training rows, or steps on a function; without it, as many as the task suggests.
    batch_size : int
        Rows per step at most; a function has none.
    seed : int
        Of the order of the rows. The same seed gives the same losses.
    schedule : Schedule, optional
        A shape whose peak is 1: each learning rate is multiplied by its value at t, the number of completed updates.
        Without it, learning rates are constant.

    Raises
    ------
    TypeError
        The schedule is none, or one that follows the losses.
    ValueError
        A setting is outside of what makes sense.
    """

    optimizers: tuple[str, ...] = tuple(CATALOGUE)
    rates: tuple[float, ...] = RATES
    epochs: int | None = None
    batch_size: int = 64
    seed: int = 0
    schedule: Schedule | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.schedule, Schedule | None):
            raise TypeError(
                f"schedule must be a function of time, such as Cosine(1.0, steps=1000), or None, got {self.schedule!r}"
                "; Plateau and BackOff follow the losses of one run, so that they are no shape for all"
            )
        in_catalogue(self.optimizers)
        for rate in self.rates:
            if not 0 < rate < math.inf:
                raise ValueError(f"a learning rate must be a finite number > 0, got {rate!r}")
        if not self.optimizers or not self.rates:
            raise ValueError("at least one optimizer and one learning rate are needed")
        shortest = 1 if self.epochs is None else self.epochs
        if shortest < 1 or self.batch_size < 1 or not 0 <= self.seed < 2**32:
            raise ValueError("epochs and batch_size must be at least 1, and the seed from 0 to 2**32 - 1")


DEFAULTS = Settings()


@dataclass(frozen=True)
class Contender:
    """An optimizer with its default hyper-parameters, and how it is fed."""

    label: str
    cls: type[Optimizer]
    lookahead: bool = False
    full_batch: bool = False
    schedule: Schedule | None = None
    """What multiplies its learning rates."""


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
    schedule: Schedule | None = None
    """What multiplied the learning rate."""


@dataclass(frozen=True, eq=False)
class Row:
    """What became of an optimizer: its best run, judged by the final training loss, and by speed where that ties."""

    run: Run
    outcome: str
    """"converged": at the end, at most the share ``task.within`` of the way from the start to the best known loss is
    left (Moré & Wild, Benchmarking derivative-free optimization algorithms, 2009, equation 2.2). "diverged": the loss
    grew beyond ``LIMIT`` times its start, or stayed above its start for the last fifth of the steps or more.
    "not yet": the rest."""
    steps_to_best: int | None
    """Steps until the loss was so low for the first time; None unless converged."""
    seconds_to_best: float | None
    """The same in seconds of training; what measuring the loss took is not counted."""
    diverged_at: int | None
    """The step at which the loss was found beyond the limit, or since which it is above its start; None unless
    diverged."""
    diverged_rates: tuple[float, ...]
    """Learning rates with which this optimizer diverged."""
    at_edge: bool
    """The lowest or the highest learning rate that was tried is better than all between, so that one beyond may be
    better still."""


@dataclass(frozen=True, eq=False)
class Comparison:
    """The rows are in the order of the catalogue."""

    task: Task
    settings: Settings
    best_known_loss: float
    how_known: str
    converged_loss: float
    """Whose final loss is not above it has converged."""
    rows: tuple[Row, ...]


def contenders(task: Task, settings: Settings) -> list[Contender]:
    """The chosen optimizers in the order of the catalogue; one that can look ahead comes twice.

    DataError where the schedule has a value that no learning rate can be multiplied by.
    """
    lowest = (
        1.0 if settings.schedule is None else lowest_value(settings.schedule, settings, count_steps(task, settings))
    )
    found = []
    for name in in_catalogue(settings.optimizers):
        cls, full = CATALOGUE[name], name in FULL_BATCH and bool(task.rows)
        # ftrl divides by its lr
        constant = name in CONSTANT_RATE or (lowest == 0 and cls.domains.get("lr", NOT_NEGATIVE).low > 0)
        schedule = None if constant else settings.schedule
        found.append(Contender(f"{name}, full batch" if full else name, cls, full_batch=full, schedule=schedule))
        if cls.lookahead is not Optimizer.lookahead:
            found.append(Contender(f"{name}, look-ahead", cls, lookahead=True, schedule=schedule))
    return found


def lowest_value(schedule: Schedule, settings: Settings, steps: int) -> float:
    """The lowest learning rate of a run with so many steps; DataError where one is below 0 or not finite."""
    lowest = math.inf
    for first in range(0, steps, CHUNK):
        values = np.asarray(schedule(np.arange(first, min(first + CHUNK, steps))))
        wrong = np.flatnonzero(~((values >= 0) & (values <= MAX / max(1.0, *settings.rates))))
        if len(wrong):
            raise DataError(
                f"the schedule {schedule!r} is {float(values[wrong[0]]):g} at t = {first + wrong[0]}; a learning rate "
                "is multiplied by it, so that it must be finite and at least 0"
            )
        lowest = min(lowest, float(values.min()) * min(settings.rates))
    return lowest


def count_steps(task: Task, settings: Settings, size: int | None = None) -> int:
    """How many steps a run has, with batches of another size than that of the settings if need be."""
    number = len(task.rows[0]) if task.rows else 1
    return (settings.epochs or task.epochs) * math.ceil(number / min(size or settings.batch_size, number))


def checkpoints(steps: int, epochs: int) -> set[int]:
    """Steps after which the loss of all training rows is measured, at even ratios.

    Their number follows the epochs, so that measuring costs about as much as training at most, however many rows
    there are.
    """
    return {int(step) for step in np.rint(np.geomspace(1, steps, min(200, 20 + 2 * epochs)))}


def batches(rows: Sequence[np.ndarray], size: int, epochs: int, seed: int) -> Iterator[list[np.ndarray]]:
    """Shuffled rows, dealt into batches of almost equal size, so that no row counts more than another.

    Without rows, each epoch is one batch of nothing.
    """
    if not rows:
        yield from ([] for _ in range(epochs))
        return
    random, number = np.random.default_rng(seed), len(rows[0])
    count = math.ceil(number / size)
    edges = [number * i // count for i in range(count + 1)]
    for _ in range(epochs):
        order = random.permutation(number)
        shuffled = [array[order] for array in rows]
        for first, last in itertools.pairwise(edges):
            yield [array[first:last] for array in shuffled]


def train(task: Task, contender: Contender, lr: float, settings: Settings, progress: Callable[[float], Any]) -> Run:
    """One run from the start of the task. ``progress`` is called with the share of the run that has been done.

    DataError where the loss has no minimum.
    """
    params = task.start()
    optimizer = contender.cls(params, lr=lr if contender.schedule is None else contender.schedule * lr)
    where_wanted = optimizer.lookahead if contender.lookahead else contextlib.nullcontext
    number, epochs = len(task.rows[0]) if task.rows else 1, settings.epochs or task.epochs
    size = number if contender.full_batch else min(settings.batch_size, number)
    total = count_steps(task, settings, size)
    stops = checkpoints(total, epochs)

    def result() -> Any:
        return optimizer.averaged() if optimizer._averages else params

    kept = [(0, task.objective(params), 0.0)]
    limit, seconds, overflowed_at = LIMIT * max(abs(kept[0][1]), 1.0), 0.0, None
    with np.errstate(all="ignore"):  # a run may overflow; it is then reported as diverged
        begin = time.perf_counter()
        for step, batch in enumerate(batches(task.rows, size, epochs, settings.seed), 1):
            with where_wanted():
                gradient = task.gradient(params, *batch)
            optimizer.step(gradient)
            if step in stops:
                seconds += time.perf_counter() - begin
                loss = task.objective(result())
                if loss < LOWEST:
                    raise DataError(
                        f"{task.name} seems to have no minimum: {contender.label} with lr {lr:g} is at {loss:g} after "
                        f"step {step}; lower rates, by --lr, may stay at a local one"
                    )
                if not loss <= limit:
                    overflowed_at = step
                    break
                kept.append((step, loss, seconds))
                progress(step / total)
                begin = time.perf_counter()
        held_out_loss = task.held_out_loss(result())
    steps, losses, times = (np.array(column) for column in zip(*kept, strict=True))
    return Run(
        label=contender.label,
        lr=lr,
        steps=steps,
        epochs=steps * (epochs / total),
        losses=losses,
        seconds=times,
        held_out_loss=held_out_loss if held_out_loss is not None and math.isfinite(held_out_loss) else None,
        overflowed_at=overflowed_at,
        schedule=contender.schedule,
    )


def silent(share: float) -> None:
    """The progress that nobody watches."""


def runs(task: Task, settings: Settings, progress: Callable[[float], Any] = silent) -> Iterator[Run]:
    """All runs, each when it is finished. ``progress`` is called with the share of the whole that has been done."""
    pairs = list(itertools.product(contenders(task, settings), settings.rates))
    for done, (contender, lr) in enumerate(pairs):

        def inner(share: float, done: int = done) -> None:
            progress((done + share) / len(pairs))

        with one_thread():  # the products of matrices are so small that threads would wait for each other
            run = train(task, contender, lr, settings, inner)
        yield run


# ---------------------------------------------------------------------------- judging


def settled(good: np.ndarray) -> int | None:
    """Index from which on all are true; None where the last is not."""
    bad = np.flatnonzero(~good)
    first = int(bad[-1]) + 1 if len(bad) else 0
    return first if first < len(good) else None


def judge(tried: Sequence[Run], converged_loss: float) -> Row:
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
        return Row(run, "diverged", None, None, diverged_at[run.lr], tuple(diverged_at), False)
    lowest = min(run.losses[-1] for run in held)
    tied = [run for run in held if run.losses[-1] - lowest <= TIE * max(run.losses[0] - lowest, 0.0)]

    def steps_to_best(run: Run) -> float:
        near = run.losses <= converged_loss
        return float(run.steps[np.argmax(near)]) if near[-1] else math.inf

    run = min(tied, key=steps_to_best)
    rates = [run.lr for run in tried]
    as_good = [other.lr for other in tied if steps_to_best(other) == steps_to_best(run)]
    at_edge = len(as_good) < len(rates) and {*as_good} <= {min(rates), max(rates)}
    if steps_to_best(run) == math.inf:
        return Row(run, "not yet", None, None, None, tuple(diverged_at), at_edge)
    first = int(np.argmax(run.losses <= converged_loss))
    return Row(run, "converged", int(run.steps[first]), float(run.seconds[first]), None, tuple(diverged_at), at_edge)


def summary(task: Task, settings: Settings, finished: Sequence[Run]) -> Comparison:
    """Judges runs; an optimizer that was interrupted before its last learning rate is left out."""
    groups = [list(group) for _, group in itertools.groupby(finished, key=lambda run: run.label)]
    best, how_known = task.best_known()
    first = task.objective(task.start())
    best = min([best, first, *(float(run.losses.min()) for run in finished)])
    border = best + task.within * (first - best)
    rows = tuple(judge(group, border) for group in groups if len(group) == len(settings.rates))
    settings = replace(settings, epochs=settings.epochs or task.epochs)
    return Comparison(task, settings, best, how_known, border, rows)


def compare(
    source: str = "diabetes",
    target: str | None = None,
    settings: Settings = DEFAULTS,
    start: Sequence[float] | None = None,
) -> Comparison:
    """Trains a task, or minimizes a function, with every optimizer and with every learning rate.

    Parameters
    ----------
    source, target, settings.seed, start :
        As for :func:`optcore.tasks.load_task`.

    Raises
    ------
    DataError
        :func:`optcore.tasks.load_task` says why, the function has no minimum, or the schedule has a value that is
        negative or not finite.

    Examples
    --------
    >>> result = compare("diabetes", settings=Settings(optimizers=("sgd", "rprop"), epochs=50))
    >>> [(row.run.label, row.outcome) for row in result.rows]
    [('sgd', 'converged'), ('rprop, full batch', 'converged')]
    >>> result = compare("rosenbrock", settings=Settings(optimizers=("sgd", "momentum")), start=[-1.2, 1.0])
    >>> [(row.run.label, row.outcome) for row in result.rows]
    [('sgd', 'not yet'), ('momentum', 'converged')]
    """
    task = load_task(source, target, settings.seed, start)
    return summary(task, settings, list(runs(task, settings)))


def as_dict(comparison: Comparison) -> dict[str, Any]:
    """A comparison in types that strict JSON has; a number that does not exist is null."""
    task, settings = comparison.task, comparison.settings
    return {
        "data": task.name,
        **task.facts(),
        "training_rows": len(task.rows[0]) if task.rows else None,
        "held_out_rows": task.held_out_rows,
        "lr": list(settings.rates),
        "epochs": settings.epochs,
        "batch_size": settings.batch_size if task.rows else None,
        "seed": settings.seed,
        "schedule": settings.schedule and repr(settings.schedule),
        "best_known_loss": comparison.best_known_loss,
        "converged_loss": comparison.converged_loss,
        "optimizers": [
            {
                "optimizer": row.run.label,
                "lr": row.run.lr,
                "schedule": row.run.schedule and repr(row.run.schedule),
                "lr_at_edge": row.at_edge,
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
