"""Data sets to learn from: tables of numbers with a column to be predicted."""

from __future__ import annotations

import codecs
import csv
import itertools
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from optcore.domains import nearest

__all__ = [
    "Data",
    "DataError",
    "badly_scaled",
    "breast_cancer",
    "diabetes",
    "load_csv",
    "load_file",
    "load_parquet",
    "sparse_linear",
]

FEWEST_ROWS = 10
MOST_NUMBERS = 20  # different whole numbers that may be classes, with ten times as many rows
SHOWN = 5  # classes that are named
SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}
PARQUET = (".parquet", ".pq")
KINDS = ("auto", "regression", "classification")
"""What a target may be taken for."""
ADVICE = {
    "binary": "a target has numbers or two classes (optcore sweep takes more)",
    "auto": "a target has numbers, or classes, as --task classification would take these",
    "regression": "--task regression needs numbers",
}
"""What is said of a target that is not all numbers."""


class DataError(ValueError):
    """The data cannot be used; the message says where and why, in one line."""


@dataclass(frozen=True, eq=False)
class Data:
    """A table of numbers and the column to be predicted; for classes y has their places, 0.0, 1.0 and so on."""

    name: str
    target: str
    columns: tuple[str, ...]
    x: np.ndarray
    y: np.ndarray
    classes: tuple[Any, ...] | None = None
    """What the target has in the file: text, whole numbers, or True and False."""

    @property
    def kind(self) -> str:
        """The target in words."""
        if self.classes is None:
            return "a number"
        if len(self.classes) > SHOWN:
            return f"one of {len(self.classes)} classes: {', '.join(map(str, self.classes[:SHOWN]))}, ..."
        return f"{', '.join(map(str, self.classes[:-1]))} or {self.classes[-1]}"


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


def load_file(path: Path, target: str | None, kind: str = "binary") -> Data:
    """Reads a Parquet file if its name says so, else a CSV file.

    ``kind`` says what the target is: "regression", "classification", or by its values. "binary": two different ones
    are classes, all else are numbers. "auto": also text, and whole numbers of which at most ``MOST_NUMBERS`` differ, in
    ten times as many rows.
    """
    return (load_parquet if path.suffix.lower() in PARQUET else load_csv)(path, target, kind)


def load_csv(path: Path, target: str | None, kind: str = "binary") -> Data:
    """Reads and checks a CSV file: UTF-8, commas, a header. Empty lines are skipped. ``kind`` is as for load_file.

    DataError says what cannot be used and where: the line, counted from 1 as editors do, and the column or cell.
    """
    skipped, columns = header(path)
    check_target(path, columns, target)
    frame = csv_table(path, skipped, columns, target)
    return from_frame(path, frame, target, kind, lambda row, column: locate(path, skipped, columns, row, column))


def load_parquet(path: Path, target: str | None, kind: str = "binary") -> Data:
    """Reads and checks a Parquet file, which takes pyarrow. DataError says what cannot be used and where."""
    import pandas
    import pyarrow

    try:
        frame = pandas.read_parquet(path, engine="pyarrow")
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        raise DataError(f"{path} is not a Parquet file: {' '.join(str(error).split())}") from error
    frame = frame.set_axis([str(column) for column in frame.columns], axis=1).reset_index(drop=True)
    check_target(path, list(frame.columns), target)
    return from_frame(path, frame, target, kind, lambda row, column: f"row {row + 1}, column {column!r}")


def check_target(path: Path, columns: Sequence[str], target: str | None) -> None:
    """DataError where the columns do not have the target and others, each once."""
    repeated = [column for column, count in Counter(columns).items() if count > 1]
    if repeated:
        raise DataError(f"{path} has more than one column {repeated[0]!r}; each needs a name of its own")
    if target is None:
        raise DataError(f"--target must name the column of {path} to be predicted: {', '.join(columns)}")
    if target not in columns:
        raise DataError(f"{path} has no column {target!r}{nearest(target, columns)}")
    if len(columns) < 2:
        raise DataError(f"{path} has no column besides {target!r} to predict it from")


# ---------------------------------------------------------------------------- CSV


def reader(file: Any, strict: bool = True) -> Any:
    return csv.reader(file, skipinitialspace=True, strict=strict)


def records(path: Path) -> Iterator[tuple[int, int, list[str]]]:
    """The first and the last line of each record, and its cells; DataError where there is no reading on."""
    first = 1
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            rows = reader(file)
            for cells in rows:
                yield first, rows.line_num, cells
                first = rows.line_num + 1
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError:
        raise DataError(f"{path}{not_utf8(path)}") from None
    except csv.Error as error:
        with open(path, encoding="utf-8-sig", newline="") as file:
            line = next(itertools.islice(file, first - 1, None))
        if str(error).startswith(("unexpected end", "field larger")):  # the second is a limit of the module csv
            cell = len(next(reader([line], strict=False)))
            raise DataError(f'{path}, line {first}, cell {cell}: a quote (") is opened and not closed') from None
        raise DataError(f'{path}, line {first}: a quote (") is missing or too many ({error})') from None


def not_utf8(path: Path) -> str:
    """Where a file stops to be UTF-8 text."""
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            if number == 1 and line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                return " is UTF-16; save it as UTF-8"
            try:
                line.decode()
            except UnicodeDecodeError as error:
                cells = next(reader([line[: error.start].decode() + "?"], strict=False))
                wrong = f"the byte 0x{line[error.start]:02x} is not UTF-8 text"
                return f", line {number}, cell {len(cells)}: {wrong}; save the file as UTF-8"
    return " is not UTF-8"


def header(path: Path) -> tuple[int, list[str]]:
    """How many records there are up to the header, and the names in it."""
    for number, (line, _, cells) in enumerate(records(path), 1):
        if not any(cells):
            continue
        for separator, plural in SEPARATORS.items():
            if len(cells) == 1 and separator in cells[0]:
                raise DataError(
                    f"{path}, line {line}: the names seem to be separated by {plural}; only commas are read, with "
                    "points in the numbers"
                )
        return number, [cell or f"Unnamed: {i}" for i, cell in enumerate(cells)]  # such as an index that was saved
    raise DataError(f"{path} is empty; a header and rows of numbers are needed")


def csv_table(path: Path, skipped: int, columns: list[str], target: str | None) -> Any:
    """The records behind the header as a data frame, empty ones as missing values."""
    import pandas

    def read(**options: Any) -> Any:
        with open(path, encoding="utf-8-sig", newline="") as file, warnings.catch_warnings():
            warnings.simplefilter("error", pandas.errors.ParserWarning)  # of cells that would be lost
            warnings.simplefilter("ignore", pandas.errors.DtypeWarning)
            for _ in itertools.islice(reader(file), skipped):
                pass
            return pandas.read_csv(
                file,
                header=None,
                names=columns,
                index_col=False,
                skip_blank_lines=False,
                skipinitialspace=True,
                **options,
            )

    try:
        try:  # in pieces, and at once as float64, which takes the least memory
            frame = read(dtype={column: np.float64 for column in columns if column != target})
            if frame[target].dtype.kind in "biuf":
                return frame
        except ValueError:
            pass
        return read(low_memory=False)  # where there is text, the types of the pieces may differ
    except pandas.errors.EmptyDataError:
        return pandas.DataFrame(columns=columns)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, pandas.errors.ParserWarning) as error:
        locate(path, skipped, columns)
        raise DataError(f"{path} is not a CSV file: {' '.join(str(error).split())}") from error


def locate(path: Path, skipped: int, columns: list[str], row: int | None = None, column: str = "") -> str:
    """The place of a cell. DataError where a row up to there, or without one any row, is not as long as the header."""
    width = len(columns)
    for number, (first, last, cells) in enumerate(itertools.islice(records(path), skipped, None)):
        if not any(cells):
            continue
        if number == 0 and len(cells) == width + 1 and not cells[-1]:
            width += 1  # all rows end with a comma, which pandas tells by the first
        if len(cells) != width:
            lines = f"line {first}" if first == last else f"lines {first} to {last}, which a quote makes one row"
            problem = f"nothing for column {columns[len(cells)]!r}" if len(cells) < width else "more than the header"
            raise DataError(f"{path}, {lines}: {len(cells)} cell{'s' * (len(cells) > 1)} instead of {width}, {problem}")
        if number == row:
            line = first + sum(cell.count("\n") for cell in cells[: columns.index(column)])
            return f"line {line}, column {column!r}"
    return f"column {column!r}"


# ---------------------------------------------------------------------------- tables


def from_frame(path: Path, frame: Any, target: Any, kind: str, place: Callable[[int, str], str]) -> Data:
    """Checks a table. ``place`` says where the row of a number and the column of a name are."""
    import pandas

    missing = frame.isna().to_numpy()
    if missing.any():
        frame = frame[~missing.all(axis=1)]
    if len(frame) < FEWEST_ROWS:
        raise DataError(f"{path} has {len(frame)} rows of data; at least {FEWEST_ROWS} are needed")
    gaps = np.argwhere(missing[frame.index])
    if len(gaps):
        row, column = gaps[0]
        others = f" (and {len(gaps) - 1} more)" if len(gaps) > 1 else ""
        raise DataError(f"{path}, {place(frame.index[row], frame.columns[column])}: the value is missing{others}")

    def numbers(column: str, advice: str) -> np.ndarray:
        """A column as float64; DataError at the first cell that is no number."""
        cells = frame[column]
        if cells.dtype.kind in "mM":
            raise DataError(f"{path}, column {column!r}: {cells.dtype} are not numbers; {advice}")
        values = pandas.to_numeric(cells, errors="coerce").to_numpy(np.float64)
        # The square of a larger one is near the end of float64.
        unusable = np.flatnonzero(~((values < 1e100) & (values > -1e100)))
        if len(unusable):
            row = unusable[0]
            cell = cells.iloc[row]
            what = f"{str(cell)!r} is not a number; {advice}" if np.isnan(values[row]) else f"{cell} is too large"
            raise DataError(f"{path}, {place(frame.index[row], column)}: {what}")
        return values

    labels = frame[target]
    if labels.nunique() == 1:
        raise DataError(f"{path}: the target {target!r} is {labels.iloc[0]} in every row; there is nothing to predict")
    classes = None
    if are_classes(labels, kind):
        y, classes = places(path, target, labels)
    else:
        y = numbers(target, ADVICE[kind])
    columns = [column for column in frame.columns if column != target]
    x = np.empty((len(frame), len(columns)))
    for i, column in enumerate(columns):
        x[:, i] = numbers(column, "encode the column as numbers or leave it out")
    return Data(path.stem, target, tuple(columns), x, y, classes)


def are_classes(labels: Any, kind: str) -> bool:
    """Whether a column has classes, as ``load_file`` says."""
    import pandas

    count = labels.nunique()
    if kind in ("regression", "classification"):
        return kind == "classification"
    if count == 2 or kind == "binary":
        return count == 2
    if labels.dtype.kind in "iuf":
        return count <= MOST_NUMBERS and 10 * count <= len(labels) and bool((labels % 1 == 0).all())
    # Where most cells are numbers, the others are mistakes.
    return labels.dtype.kind not in "mM" and bool(pandas.to_numeric(labels, errors="coerce").isna().mean() > 0.5)


def places(path: Path, target: str, labels: Any) -> tuple[np.ndarray, tuple[Any, ...]]:
    """The place of each label among the classes, and the classes, in rising order."""
    if labels.dtype.kind not in "iufb":
        labels = labels.astype(str)
    classes, y, counts = np.unique(labels.to_numpy(), return_inverse=True, return_counts=True)
    if classes.dtype.kind == "f":  # as whole numbers are read beside empty lines; others are names
        whole = (classes % 1 == 0).all() and abs(classes).max() < 2**53
        classes = classes.astype(np.int64) if whole else classes.astype(str)
    if counts.min() < 2:
        rare = classes[counts.argmin()]
        many = f"has {len(classes)} different values, and " if len(classes) > 2 else ""
        raise DataError(f"{path}: {target!r} {many}is {rare} in one row only; a class needs at least 2")
    return y.astype(np.float64), tuple(classes.tolist())
