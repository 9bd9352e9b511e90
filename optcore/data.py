"""Data sets to learn from: tables of numbers with a column to be predicted."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from optcore.domains import nearest

__all__ = ["Data", "DataError", "badly_scaled", "breast_cancer", "diabetes", "load_csv", "sparse_linear"]

FEWEST_ROWS = 10


class DataError(ValueError):
    """The data cannot be used; the message says where and why, in one line."""


@dataclass(frozen=True, eq=False)
class Data:
    """A table of numbers and the column to be predicted; classes, if there are two, are 0 and 1 in it."""

    name: str
    target: str
    columns: tuple[str, ...]
    x: np.ndarray
    y: np.ndarray
    classes: tuple[str, str] | None = None


def diabetes() -> Data:
    """The progression of a disease, which comes with scikit-learn: 442 rows of 10 columns."""
    from sklearn.datasets import load_diabetes

    data = load_diabetes(scaled=False)
    return Data("diabetes", "disease progression", tuple(data.feature_names), data.data, data.target)


def breast_cancer() -> Data:
    """A diagnosis, which comes with scikit-learn: 569 rows of 30 columns, two classes."""
    from sklearn.datasets import load_breast_cancer

    data = load_breast_cancer()
    classes = (str(data.target_names[0]), str(data.target_names[1]))
    columns = tuple(map(str, data.feature_names))
    return Data("breast_cancer", "diagnosis", columns, data.data, data.target.astype(float), classes)


def badly_scaled() -> Data:
    """500 rows of 12 independent columns whose deviations go from 0.03 to 30 at even ratios.

    Each column has the same share in the target, whose variance is 1, a tenth of it noise.
    """
    random, scales = np.random.default_rng(0), np.geomspace(0.03, 30.0, 12)
    x = random.normal(size=(500, 12))
    signs = random.choice([-1.0, 1.0], 12)
    y = np.sqrt(0.9 / 12) * (x @ signs) + np.sqrt(0.1) * random.normal(size=500)
    return Data("badly_scaled", "y", tuple(f"x{i}" for i in range(12)), x * scales, y)


def sparse_linear() -> Data:
    """1250 texts as rows of ones and zeros for 400 words, of which 50 tell something about the two classes.

    The share of texts with a word is 5 divided by its rank (Zipf's law): the first five are in every text, the last
    in 1.25 %. None of the 20 most frequent words tells anything.
    """
    random = np.random.default_rng(0)
    shares = np.minimum(1.0, 5.0 / np.arange(1, 401))
    x = (random.random((1250, 400)) < shares).astype(np.float64)
    weights = np.zeros(400)
    weights[20 + random.choice(380, 50, replace=False)] = random.choice([-5.0, 5.0], 50)
    y = random.random(1250) < 1 / (1 + np.exp(-x @ weights))
    return Data("sparse_linear", "kind", tuple(f"word{i}" for i in range(400)), x, y.astype(float), ("0", "1"))


def load_csv(path: Path, target: str | None) -> Data:
    """Reads and checks a CSV file. Empty lines are skipped, but counted where a message names a line."""
    import pandas

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pandas.errors.ParserWarning)
            frame = pandas.read_csv(
                path, index_col=False, skip_blank_lines=False, skipinitialspace=True, low_memory=False
            )
    except pandas.errors.ParserWarning as error:
        raise DataError(f"{path}: the first rows have more cells than the header") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:  # among them: no text, no columns, a row that is too long
        raise DataError(f"{path} is not a CSV file: {' '.join(str(error).split())}") from error
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

    labels, classes = frame[target], None
    if labels.nunique() == 1:
        raise DataError(f"{path}: the target {target!r} is {labels.iloc[0]} in every row; there is nothing to predict")
    if labels.nunique() == 2:
        labels = labels if labels.dtype.kind in "iuf" else labels.astype(str)
        counts = labels.value_counts()
        if counts.min() < 2:
            raise DataError(f"{path}: {target!r} is {counts.idxmin()} in one row only; a class needs at least 2")
        y, classes = (labels == labels.max()).to_numpy(np.float64), (str(labels.min()), str(labels.max()))
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
