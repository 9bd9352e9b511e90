"""Trains one linear model with every optimizer from the same start on the same batches, and says how each fared.

Nothing here prints: :mod:`optcore.cli` makes a table of the result, :mod:`optcore.plot` a picture.
"""

from __future__ import annotations

import contextlib
import difflib
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from optcore.optimizer import CATALOGUE, Optimizer, nearest

__all__ = ["Comparison", "Contender", "Data", "DataError", "Problem", "Row", "Run", "compare", "load_data"]

BUNDLED = ("breast_cancer", "diabetes")
EPOCHS, BATCH_SIZE = 200, 32
RATES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
L2 = 1e-3  # without it, the classes of breast_cancer can be separated and the logistic loss has no minimum
WITHIN = 0.01  # of the best known loss: converged
LIMIT = 1e6  # times the loss at the start: there is no way back, and no need to wait for an overflow
FEWEST_ROWS = 10
FULL_BATCH = ("rprop",)  # compares the signs of successive gradients, which has no meaning between two batches


class DataError(ValueError):
    """The data cannot be used; the message says where and why, in one line."""


# ---------------------------------------------------------------------------- data


@dataclass(frozen=True)
class Data:
    """A table of numbers and the column to be predicted; classes, if there are two, are 0 and 1 in it."""

    name: str
    target: str
    columns: tuple[str, ...]
    x: np.ndarray
    y: np.ndarray
    classes: tuple[str, str] | None = None


def load_data(source: str, target: str | None = None) -> Data:
    """One of scikit-learn's bundled data sets by name, or a CSV file.

    Parameters
    ----------
    source : str
        ``"diabetes"``, ``"breast_cancer"``, or the path of a CSV file with a header and numbers.
    target : str, optional
        The column of the CSV file to be predicted. With two different values, numbers or text, it is a class.

    Raises
    ------
    DataError
        The file or its contents cannot be used.
    """
    if source in BUNDLED:
        if target is not None:
            raise DataError(f"--target is for CSV files; {source} has its own target")
        return load_bundled(source)
    if not Path(source).is_file():
        close = difflib.get_close_matches(source, BUNDLED, n=1)
        hint = f"; did you mean {close[0]}?" if close else f"; the bundled data sets are {' and '.join(BUNDLED)}"
        raise DataError(f"there is no file {source}{hint}")
    return load_csv(Path(source), target)


def load_bundled(name: str) -> Data:
    """A data set that comes with scikit-learn."""
    from sklearn import datasets

    if name == "diabetes":
        data = datasets.load_diabetes(scaled=False)
        return Data(name, "disease progression", tuple(data.feature_names), data.data, data.target)
    data = datasets.load_breast_cancer()
    classes = (str(data.target_names[0]), str(data.target_names[1]))
    return Data(name, "diagnosis", tuple(map(str, data.feature_names)), data.data, data.target.astype(float), classes)


def load_csv(path: Path, target: str | None) -> Data:
    """Reads and checks a CSV file. Empty lines are skipped, but counted where a message names a line."""
    import pandas

    try:
        frame = pandas.read_csv(path, skip_blank_lines=False, low_memory=False)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:  # among them: no text, no columns, a row that is too long
        raise DataError(f"{path} is not a CSV file: {' '.join(str(error).split())}") from error
    if not isinstance(frame.index, pandas.RangeIndex):
        raise DataError(f"{path}: the rows have more cells than the header has names")
    if target is None:
        raise DataError(f"--target must name the column of {path} to be predicted: {', '.join(frame.columns)}")
    if target not in frame:
        raise DataError(f"{path} has no column {target!r}{nearest(target, list(frame.columns))}")
    if len(frame.columns) < 2:
        raise DataError(f"{path} has no column besides {target!r} to predict it from")
    frame = frame.dropna(how="all")
    if len(frame) < FEWEST_ROWS:
        raise DataError(f"{path} has {len(frame)} rows of data; at least {FEWEST_ROWS} are needed")
    missing = np.argwhere(frame.isna().to_numpy())
    if len(missing):
        row, column = missing[0]
        others = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise DataError(f"{path}, {place(frame, row, frame.columns[column])}: the value is missing{others}")

    values = frame[target].to_numpy()
    classes = None
    if frame[target].nunique() == 1:
        raise DataError(f"{path}: the target {target!r} is {values[0]} in every row; there is nothing to predict")
    if frame[target].nunique() == 2:
        low, high = np.unique(values if frame[target].dtype.kind in "iuf" else values.astype(str))
        y, classes = (values.astype(type(high)) == high).astype(float), (str(low), str(high))
        for name, count in zip(classes, np.bincount(y.astype(int)), strict=True):
            if count < 2:
                raise DataError(f"{path}: the class {name} of {target!r} has one row only; at least 2 are needed")
    else:
        y = numbers(path, frame, target, "a target has numbers or two classes")
    columns = [column for column in frame.columns if column != target]
    advice = "encode the column as numbers or leave it out"
    x = np.column_stack([numbers(path, frame, column, advice) for column in columns])
    return Data(path.stem, target, tuple(columns), x, y, classes)


def place(frame: Any, row: int, column: str) -> str:
    return f"line {frame.index[row] + 2}, column {column!r}"  # lines count from 1, and the first is the header


def numbers(path: Path, frame: Any, column: str, advice: str) -> np.ndarray:
    """A column as float64; DataError at the first cell that is no number."""
    import pandas

    values = pandas.to_numeric(frame[column], errors="coerce").to_numpy(np.float64)
    unusable = np.flatnonzero(~(np.abs(values) < 1e100))  # the square of a larger one is near the end of float64
    if len(unusable):
        cell, row = frame[column].iloc[unusable[0]], unusable[0]
        what = f"{str(cell)!r} is not a number; {advice}" if np.isnan(values[row]) else f"{cell} is too large"
        raise DataError(f"{path}, {place(frame, row, column)}: {what}")
    return values


# ---------------------------------------------------------------------------- problem


@dataclass(frozen=True)
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
class Contender:
    """An optimizer with its default hyper-parameters, and how it is fed."""

    label: str
    cls: type[Optimizer]
    lookahead: bool = False
    full_batch: bool = False


@dataclass(frozen=True)
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


@dataclass(frozen=True)
class Row:
    """What became of an optimizer: its best run, judged by the final training loss."""

    run: Run
    outcome: str
    """"converged": within 1 % of the best known loss at the end. "diverged": the loss is above its start at the
    end, or grew beyond all bounds. "not yet": the rest."""
    steps_to_best: int | None
    """Steps until the loss was within 1 % of the best known, to stay there; None unless converged."""
    seconds_to_best: float | None
    """The same in seconds of training; what measuring the loss took is not counted."""
    diverged_at: int | None
    """The step by which the loss was above its start, to stay there; None unless diverged."""
    diverged_rates: tuple[float, ...]
    """Learning rates with which this optimizer diverged."""


@dataclass(frozen=True)
class Comparison:
    """The rows are in the order of the catalogue."""

    problem: Problem
    rates: tuple[float, ...]
    epochs: int
    batch_size: int
    seed: int
    best_known_loss: float
    rows: tuple[Row, ...]


def contenders(names: Iterable[str] | None = None) -> list[Contender]:
    """Every optimizer of the catalogue, or those that are named; one that can look ahead comes twice.

    Raises
    ------
    ValueError
        A name is not in the catalogue.
    """
    names = list(CATALOGUE) if names is None else list(names)
    for name in names:
        if name not in CATALOGUE:
            raise ValueError(f"there is no optimizer {name!r}{nearest(name, list(CATALOGUE))}")
    found = []
    for name, cls in CATALOGUE.items():
        if name in names:
            full = name in FULL_BATCH
            found.append(Contender(f"{name}, full batch" if full else name, cls, full_batch=full))
            if cls.lookahead is not Optimizer.lookahead:
                found.append(Contender(f"{name}, look-ahead", cls, lookahead=True))
    return found


def checkpoints(steps: int, epochs: int) -> set[int]:
    """Steps after which the loss of all training rows is measured: dense at first, then even.

    Their number follows the epochs, so that measuring costs about as much as training at most, however many rows
    there are.
    """
    count = min(200, 20 + 2 * epochs)
    return {*np.rint([np.geomspace(1, steps, count // 2), np.linspace(1, steps, count // 2)]).astype(int).flat}


def batches(problem: Problem, size: int, epochs: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Shuffled rows, dealt into batches of almost equal size, so that no row counts more than another."""
    random, rows = np.random.default_rng(seed), len(problem.y)
    count = math.ceil(rows / size)
    edges = [rows * i // count for i in range(count + 1)]
    for _ in range(epochs):
        order = random.permutation(rows)
        x, y = problem.x[order], problem.y[order]
        for first, last in zip(edges, edges[1:], strict=False):
            yield x[first:last], y[first:last]


def train(
    problem: Problem,
    contender: Contender,
    lr: float,
    *,
    epochs: int,
    batch_size: int,
    seed: int,
    progress: Callable[[float], Any],
) -> Run:
    """One run from zero weights. ``progress`` is called with the share of the run that has been done."""
    weights = np.zeros(problem.x.shape[1])
    optimizer = contender.cls(weights, lr=lr)
    where_wanted = optimizer.lookahead if contender.lookahead else contextlib.nullcontext
    size = len(problem.y) if contender.full_batch else min(batch_size, len(problem.y))
    total = epochs * math.ceil(len(problem.y) / size)
    stops = checkpoints(total, epochs)
    kept = [(0, problem.objective(weights), 0.0)]
    limit, seconds, overflowed_at = LIMIT * kept[0][1], 0.0, None
    with np.errstate(all="ignore"):  # a run may overflow; it is then reported as diverged
        begin = time.perf_counter()
        for step, (x, y) in enumerate(batches(problem, size, epochs, seed), 1):
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


def runs(
    problem: Problem,
    *,
    entrants: Sequence[Contender],
    rates: Sequence[float],
    epochs: int,
    batch_size: int,
    seed: int,
    progress: Callable[[float], Any] = silent,
) -> Iterator[Run]:
    """All runs, each when it is finished. ``progress`` is called with the share of the whole that has been done."""
    pairs = [(contender, lr) for contender in entrants for lr in rates]
    for done, (contender, lr) in enumerate(pairs):

        def inner(share: float, done: int = done) -> None:
            progress((done + share) / len(pairs))

        yield train(problem, contender, lr, epochs=epochs, batch_size=batch_size, seed=seed, progress=inner)


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
            diverged_at[run.lr] = run.overflowed_at if above is None else int(run.steps[above])
        elif above is not None and run.losses[-1] > (1 + WITHIN) * best_known_loss:
            diverged_at[run.lr] = int(run.steps[above])
    held = [run for run in tried if run.lr not in diverged_at]
    if not held:  # the one that held out longest
        run = max(tried, key=lambda run: diverged_at[run.lr])
        return Row(run, "diverged", None, None, diverged_at[run.lr], tuple(diverged_at))
    run = min(held, key=lambda run: run.losses[-1])
    near = settled(run.losses <= (1 + WITHIN) * best_known_loss)
    if near is None:
        return Row(run, "not yet", None, None, None, tuple(diverged_at))
    return Row(run, "converged", int(run.steps[near]), float(run.seconds[near]), None, tuple(diverged_at))


def summary(
    problem: Problem, finished: Sequence[Run], *, rates: Sequence[float], epochs: int, batch_size: int, seed: int
) -> Comparison:
    """Judges runs; an optimizer that was interrupted before its last learning rate is left out."""
    by_label: dict[str, list[Run]] = {}
    for run in finished:
        by_label.setdefault(run.label, []).append(run)
    groups = [group for group in by_label.values() if len(group) == len(rates)]
    best = min([problem.objective(problem.best_weights()), *(float(run.losses.min()) for run in finished)])
    rows = tuple(judge(group, best) for group in groups)
    return Comparison(problem, tuple(rates), epochs, batch_size, seed, best, rows)


def compare(
    source: str = "diabetes",
    target: str | None = None,
    *,
    optimizers: Iterable[str] | None = None,
    rates: Sequence[float] = RATES,
    epochs: int = EPOCHS,
    batch_size: int = BATCH_SIZE,
    seed: int = 0,
) -> Comparison:
    """Trains a linear model with every optimizer and with every learning rate.

    Parameters
    ----------
    source, target : str
        See :func:`load_data`.
    optimizers : iterable of str, optional
        Names in the catalogue; all without it.
    rates : sequence of float
        Learning rates; each optimizer is shown with its best.
    epochs, batch_size : int
        Passes over the training rows, and rows per step at most.
    seed : int
        Of what is held out and of the order of the rows. The same seed gives the same losses.

    Returns
    -------
    Comparison
        One row for each optimizer.
    """
    problem = Problem.of(load_data(source, target), seed)
    settings = {"rates": tuple(rates), "epochs": epochs, "batch_size": batch_size, "seed": seed}
    return summary(problem, list(runs(problem, entrants=contenders(optimizers), **settings)), **settings)


def as_dict(comparison: Comparison) -> dict[str, Any]:
    """A comparison in types that strict JSON has; a number that does not exist is null."""
    problem = comparison.problem
    return {
        "data": problem.data.name,
        "target": problem.data.target,
        "classes": problem.data.classes and list(problem.data.classes),
        "columns": list(problem.data.columns),
        "training_rows": len(problem.y),
        "held_out_rows": len(problem.held_out_y),
        "l2": L2,
        "lr": list(comparison.rates),
        "epochs": comparison.epochs,
        "batch_size": comparison.batch_size,
        "seed": comparison.seed,
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
