"""Data sets to learn from: tables of numbers with a column to be predicted."""

from __future__ import annotations

import difflib
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from optcore.domains import nearest

__all__ = ["Data", "DataError", "load_data"]

BUNDLED = ("breast_cancer", "diabetes")
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
        raise DataError(f"{source} is a folder" if Path(source).is_dir() else f"there is no file {source}{hint}")
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
