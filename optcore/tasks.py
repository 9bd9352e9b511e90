"""What ``optcore compare`` trains: linear models, a small neural network, and functions of some numbers."""

from __future__ import annotations

import itertools
import math
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from optcore import data as data_sets
from optcore.data import Data, DataError, load_file
from optcore.domains import nearest
from optcore.problems import PROBLEMS, Problem, check_start, from_expression

if TYPE_CHECKING:  # SciPy is for those who train a network
    from optcore.networks import Layers, Network

__all__ = ["TASKS", "Function", "Linear", "MultiLayerPerceptron", "Task", "load_task"]

L2 = 1e-3  # without it, the classes of breast_cancer can be separated and the logistic loss has no minimum
MANY_ROWS = 10_000  # with so many, a run of 200 epochs takes about a second, and there are hundreds of runs
LARGEST = 1e200  # value of a function, above or below 0, that differences and shares can be counted of
SHOWN = 6  # numbers of a point that fit into a line
FORMULA = re.compile(r"[+*^()]")
"""What a formula has and the name of a task or a file has not. Both may have - and /: breast-cancer, data/prices."""
EXAMPLE = "(1 - x)**2 + 100*(y - x**2)**2"
UNKNOWN = (
    math.inf,
    "the lowest of all runs here, as the minimum is not known: whoever found it has converged by definition, and a "
    "lower one would change what the others are called",
)


class Task(Protocol):
    """A loss to be minimized, as a function of a list of arrays."""

    @property
    def name(self) -> str:
        """In the titles of pictures and in the names of files."""

    @property
    def heading(self) -> str:
        """What is minimized, in a line or more."""

    @property
    def rows(self) -> tuple[np.ndarray, ...]:
        """Arrays with one entry per training row, from which batches are taken; empty where there are no rows."""

    @property
    def held_out_rows(self) -> int:
        """How many rows are not trained on."""

    @property
    def epochs(self) -> int:
        """How many are enough to tell optimizers apart. Without rows, an epoch is one step."""

    @property
    def within(self) -> float:
        """An optimizer has converged where this share, or less, of the way from the start to the best is left."""

    def start(self) -> list[np.ndarray]:
        """Parameters to begin with, always the same, in new arrays."""

    def gradient(self, params: list[np.ndarray], *batch: np.ndarray) -> list[np.ndarray]:
        """Of the objective as the rows of a batch show it."""

    def objective(self, params: list[np.ndarray]) -> float:
        """What is minimized, over all training rows."""

    def held_out_loss(self, params: list[np.ndarray]) -> float | None:
        """Mean loss of the rows that are held out; None where there are none."""

    def best_known(self) -> tuple[float, str]:
        """The lowest known objective, infinity if none is, and how it is known."""

    def facts(self) -> dict[str, Any]:
        """What further belongs into a report, in types that JSON has."""


class Model:
    """What models of rows have in common: some of them are held out."""

    x: np.ndarray
    y: np.ndarray
    held_out_y: np.ndarray

    @property
    def rows(self) -> tuple[np.ndarray, ...]:
        return self.x, self.y

    @property
    def held_out_rows(self) -> int:
        return len(self.held_out_y)


@dataclass(frozen=True, eq=False)
class Linear(Model):
    """A linear model. The last weight is the intercept, which is not penalised.

    ``objective = mean over the training rows + l2 / 2 * |w|**2``, of squared errors for numbers and of the logistic
    loss for two classes.
    """

    data: Data
    x: np.ndarray
    y: np.ndarray
    held_out_x: np.ndarray
    held_out_y: np.ndarray
    penalty: np.ndarray
    epochs: int
    standardised: bool
    within = 0.01

    @classmethod
    def of(
        cls, data: Data, seed: int = 0, *, l2: float = L2, epochs: int | None = None, standardised: bool = True
    ) -> Linear:
        """Holds out a fifth of the rows; standardises the columns, and a target of numbers, by what is left.

        There are 200 epochs up to ``MANY_ROWS`` training rows, and fewer where there are more.
        """
        from sklearn.model_selection import train_test_split
        from sklearn.preprocessing import StandardScaler

        x, held_out_x, y, held_out_y = train_test_split(
            data.x, data.y, test_size=0.2, random_state=seed, stratify=None if data.classes is None else data.y
        )
        if standardised:
            scale = StandardScaler().fit(x)
            x, held_out_x = scale.transform(x), scale.transform(held_out_x)
            if data.classes is None:
                mean, deviation = y.mean(), y.std()
                if np.ptp(y) == 0:
                    raise DataError(f"the target {data.target!r} is {y[0]} in every training row")
                y, held_out_y = (y - mean) / deviation, (held_out_y - mean) / deviation
        x, held_out_x = (np.column_stack([part, np.ones(len(part))]) for part in (x, held_out_x))
        penalty = np.full(x.shape[1], l2)
        penalty[-1] = 0.0
        epochs = epochs or max(1, 200 * MANY_ROWS // max(MANY_ROWS, len(y)))
        return cls(data, x, y, held_out_x, held_out_y, penalty, epochs, standardised)

    @property
    def name(self) -> str:
        return self.data.name

    @property
    def heading(self) -> str:
        data, l2 = self.data, float(self.penalty[0])
        if data.classes is not None:
            loss = f"logistic loss of {data.classes[1]} against {data.classes[0]}"
        elif self.standardised:
            loss = "mean squared error of the standardised target, so that predicting the mean costs 1"
        else:
            loss = "mean squared error"
        columns = f"{len(data.columns)} columns" + ("" if self.standardised else " as they are")
        return (
            f"{data.name}: {data.target} from {columns}; {len(self.y)} training rows, {len(self.held_out_y)} held "
            f"out.\nTraining loss: {loss}{f'; with {l2:g}/2 |w|^2' if l2 else ''}."
        )

    def start(self) -> list[np.ndarray]:
        return [np.zeros(self.x.shape[1])]

    def loss(self, weights: np.ndarray, x: np.ndarray, y: np.ndarray) -> float:
        """Mean loss of some rows, without the penalty."""
        predicted = x @ weights
        if self.data.classes is None:
            return float(np.mean(np.square(predicted - y)))
        return float(np.mean(np.logaddexp(0.0, predicted) - y * predicted))

    def objective(self, params: list[np.ndarray]) -> float:
        (weights,) = params
        return self.loss(weights, self.x, self.y) + float(self.penalty @ np.square(weights)) / 2

    def held_out_loss(self, params: list[np.ndarray]) -> float:
        """Without the penalty."""
        return self.loss(params[0], self.held_out_x, self.held_out_y)

    def gradient(self, params: list[np.ndarray], *batch: np.ndarray) -> list[np.ndarray]:
        (weights,), (x, y) = params, batch
        predicted = x @ weights
        error = 2 * (predicted - y) if self.data.classes is None else 1 / (1 + np.exp(-predicted)) - y
        return [error @ x / len(y) + self.penalty * weights]

    def best_params(self) -> list[np.ndarray]:
        """The minimum, as scikit-learn finds it: in closed form for numbers, by Newton's method for classes."""
        from sklearn.linear_model import LogisticRegression, Ridge

        rows, l2 = len(self.y), self.penalty[0]
        if self.data.classes is None:
            model = Ridge(alpha=l2 * rows / 2, solver="svd").fit(self.x[:, :-1], self.y)
        else:
            model = LogisticRegression(C=1 / (l2 * rows), solver="newton-cholesky", tol=1e-10, max_iter=1000)
            model.fit(self.x[:, :-1], self.y)
        return [np.append(model.coef_, model.intercept_)]

    def best_known(self) -> tuple[float, str]:
        return self.objective(self.best_params()), "the minimum that scikit-learn finds"

    def facts(self) -> dict[str, Any]:
        return {
            "target": self.data.target,
            "classes": self.data.classes and list(self.data.classes),
            "columns": list(self.data.columns),
            "l2": float(self.penalty[0]),
        }


@dataclass(frozen=True, eq=False)
class MultiLayerPerceptron(Model):
    """A neural network with one hidden layer of tanh and a softmax, on scikit-learn's digits of 8 times 8 pixels.

    ``objective = mean cross-entropy of the training rows + l2 / 2 * (|w1|**2 + |w2|**2)``; no intercept is penalised.
    """

    x: np.ndarray
    y: np.ndarray
    held_out_x: np.ndarray
    held_out_y: np.ndarray
    first: list[np.ndarray]
    network: Network
    name = "mlp"
    epochs = 20
    within = 0.01

    @classmethod
    def of(cls, seed: int = 0, hidden: int = 32, l2: float = 1e-3) -> MultiLayerPerceptron:
        """Holds out a fifth of the rows, and draws the first weights (Glorot & Bengio 2010, equation 16)."""
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split

        from optcore.networks import Network

        x, y = load_digits(return_X_y=True)
        x, held_out_x, y, held_out_y = train_test_split(x / 16, y, test_size=0.2, random_state=seed, stratify=y)
        sizes = [x.shape[1], hidden, 10]
        random = np.random.default_rng(seed)
        first = []
        for before, behind in itertools.pairwise(sizes):
            limit = math.sqrt(6 / (before + behind))
            first += [random.uniform(-limit, limit, (before, behind)), np.zeros(behind)]
        return cls(x, y, held_out_x, held_out_y, first, Network(sizes, ["tanh"], "softmax", np.float64, l2))

    @property
    def heading(self) -> str:
        pixels, hidden, _ = self.network.sizes
        return (
            f"mlp: which digit, from {pixels} pixels, by {hidden} hidden units (tanh) and a softmax; "
            f"{len(self.y)} training rows, {len(self.held_out_y)} held out.\n"
            f"Training loss: mean cross-entropy; with {self.network.l2:g}/2 (|w1|^2 + |w2|^2)."
        )

    def start(self) -> list[np.ndarray]:
        return [p.copy() for p in self.first]

    def layers(self, params: list[np.ndarray]) -> Layers:
        return self.network.layers(dict(zip(self.network.shapes, params, strict=True)))

    def loss(self, params: list[np.ndarray], x: np.ndarray, y: np.ndarray) -> float:
        """Mean loss of some rows, without the penalty."""
        from optcore.networks import Rows

        return self.network.mean_loss(self.layers(params), Rows(x, y))

    def objective(self, params: list[np.ndarray]) -> float:
        squares = sum(float(np.sum(coef * coef)) for coef, _ in self.layers(params))
        return self.loss(params, self.x, self.y) + self.network.l2 / 2 * squares

    def held_out_loss(self, params: list[np.ndarray]) -> float:
        """Without the penalty."""
        return self.loss(params, self.held_out_x, self.held_out_y)

    def gradient(self, params: list[np.ndarray], *batch: np.ndarray) -> list[np.ndarray]:
        from optcore.networks import Rows

        self.network.gradient(self.layers(params), Rows(*batch))
        return [gradient.copy() for gradient in self.network.gradients.values()]

    def best_known(self) -> tuple[float, str]:
        return UNKNOWN

    def facts(self) -> dict[str, Any]:
        return {"layers": self.network.sizes, "l2": self.network.l2}


@dataclass(frozen=True, eq=False)
class Function:
    """A function of some numbers, which are one array. Each step sees all of it, so an epoch is a step."""

    problem: Problem
    rows = ()
    held_out_rows = 0
    epochs = 2000
    within = 1e-4  # less than for models: nothing is by chance, and the gradient is that of the whole

    @classmethod
    def of(cls, problem: Problem, start: Sequence[float] | None = None) -> Function:
        """With another start than the problem's; DataError where a start is not to be had, or the function there."""
        try:
            if start is not None:
                problem = replace(problem, start=check_start("--start", start, problem.variables))
        except (TypeError, ValueError) as error:
            raise DataError(str(error)) from None
        here = f"at the start, {named(problem.variables, problem.start)}; --start can name another place"
        value = problem.fun(problem.start)
        if not abs(value) <= LARGEST:
            raise DataError(f"{problem.name} is {value:g} {here}")
        for name, slope in zip(problem.variables, problem.jac(problem.start).tolist(), strict=True):
            if not math.isfinite(slope):
                raise DataError(f"the slope of {problem.name} in {name} is {slope:g} {here}")
        return cls(problem)

    @property
    def name(self) -> str:
        return self.problem.name

    @property
    def heading(self) -> str:
        problem = self.problem
        lines = [
            f"{problem.name}: {problem.description}, from {named(problem.variables, problem.start)}",
            f"It is {self.objective(self.start()):g} there.",
        ]
        if problem.minimum is not None:
            brackets = "({})" if len(problem.variables) > 1 else "{}"
            places = ", ".join(brackets.format(listed([f"{x:g}" for x in point])) for point in problem.minimizers)
            lines[1] += f" Its minimum is {problem.minimum:g}{', at ' * bool(places)}{places}."
        if not problem.jac(problem.start).any():
            lines.append("The slope is 0 there, so that few will move; --start can name another place.")
        return "\n".join(lines)

    def start(self) -> list[np.ndarray]:
        return [self.problem.start.copy()]

    def gradient(self, params: list[np.ndarray], *batch: np.ndarray) -> list[np.ndarray]:
        return [self.problem.jac(params[0])]

    def objective(self, params: list[np.ndarray]) -> float:
        return self.problem.fun(params[0]) + 0.0  # which makes -0.0 to 0.0

    def held_out_loss(self, params: list[np.ndarray]) -> None:
        return None

    def best_known(self) -> tuple[float, str]:
        return UNKNOWN if self.problem.minimum is None else (self.problem.minimum, "the minimum")

    def facts(self) -> dict[str, Any]:
        problem = self.problem
        return {
            "formula": problem.description,
            "variables": list(problem.variables),
            "start": problem.start.tolist(),
            "minimum": problem.minimum,
            "minimizers": [point.tolist() for point in problem.minimizers],
        }


def listed(parts: Sequence[str]) -> str:
    """The first of them, with commas between."""
    return ", ".join([*parts[:SHOWN], *["..."] * (len(parts) > SHOWN)])


def named(variables: Sequence[str], point: np.ndarray) -> str:
    """A point as x = 1, y = 2."""
    return listed([f"{name} = {x:g}" for name, x in zip(variables, point, strict=True)])


TASKS: dict[str, Callable[[int], Task]] = {
    "diabetes": lambda seed: Linear.of(data_sets.diabetes(), seed),
    "breast_cancer": lambda seed: Linear.of(data_sets.breast_cancer(), seed),
    "badly_scaled": lambda seed: Linear.of(data_sets.badly_scaled(), seed, l2=0.0, standardised=False),
    "sparse_linear": lambda seed: Linear.of(data_sets.sparse_linear(), seed, l2=3e-4, epochs=50, standardised=False),
    "mlp": lambda seed: MultiLayerPerceptron.of(seed),
}
"""Built-in tasks by name, made from a seed."""


def load_task(source: str, target: str | None = None, seed: int = 0, start: Sequence[float] | None = None) -> Task:
    """A built-in task or a function by name, a linear model of a file, or the function of a formula.

    Parameters
    ----------
    source : str
        A name in ``TASKS`` or in :data:`optcore.problems.PROBLEMS`; the path of a CSV file with a header and numbers,
        or of a Parquet file, whose name ends in ``.parquet`` or ``.pq``; or a formula, as
        :func:`optcore.formulas.parse` takes it. What is no name is a path where there is such a file, or where it ends
        in a dot and letters. Else it is a formula, if it has one of ``+ * ^ ( )``.
    target : str, optional
        The column of the file to be predicted. With two different values, numbers or text, it is a class.
    seed : int
        Of the rows that are held out, and of the first weights of ``mlp``.
    start : sequence of float, optional
        Where a function begins, one number for each variable. Without it a problem has its own start, and a formula
        begins at ones.

    Raises
    ------
    DataError
        The file or its contents cannot be used; there is no such name; the formula is refused, with a message that
        points at the place; the function, or its slope, is not finite at the start.
    ModuleNotFoundError
        The package is missing that this task needs.
    """
    if source in TASKS:
        if target is not None:
            raise DataError(f"--target is for files; {source} has its own target")
        if start is not None:
            raise DataError(f"--start is for functions; {source} has its own start")
        return TASKS[source](seed)
    problem = find_problem(source)
    if problem is not None:
        if target is not None:
            raise DataError("--target is for files; a function has no columns")
        return Function.of(problem, start)
    if start is not None:
        raise DataError("--start is for functions; a model of a file begins at zero")
    if not os.path.isfile(source):
        raise DataError(f"there is no file {source}")
    return Linear.of(load_file(Path(source), target), seed)


def find_problem(source: str) -> Problem | None:
    """The function that a name or a formula stands for, None for a file; DataError for anything else."""
    if source in PROBLEMS:
        return PROBLEMS[source]
    if os.path.isfile(source) or Path(source).suffix[1:].isalpha():
        return None
    if os.path.isdir(source):
        raise DataError(f"{source} is a folder")
    if not FORMULA.search(source):
        raise DataError(
            f"there is no task, function or file {source!r}{nearest(source, [*TASKS, *PROBLEMS])}, the path of a CSV "
            f"file, and formulas, which have one of + * ( ), such as {EXAMPLE}"
        )
    try:
        return from_expression(source, name="formula")
    except ValueError as error:
        raise DataError(str(error)) from None
