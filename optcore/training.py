"""The loop around a network and an optimizer: epochs, what is recorded of them, and when they end.

An epoch takes every row once, in batches, and makes a step for each batch. Nothing here knows scikit-learn: the
estimators of :mod:`optcore.estimators` check what they are given and hand it over.
"""

from __future__ import annotations

import copy
import math
from array import array
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np

from optcore._build import linear
from optcore._engine import Plan
from optcore.feedback import BackOff, Feedback, Plateau
from optcore.networks import Network, Rows, Weights, batch_count, batches
from optcore.optimizer import Optimizer
from optcore.schedules import Schedule

__all__ = ["Diverged", "History", "Run"]

Settings = tuple[type[Optimizer], dict[str, Any]]

ROWS_ARE_EXACT = ("sgd", "gradient_scaled", "adagrad")
"""Rules for which a gradient of zero changes nothing."""
SORTING = 100
"""To find out which columns are in use takes as long, for each entry, as a whole step does for so many coefficients."""
TOGETHER = 1 << 17
"""Elements of the rows whose compiled steps are made in one go: a millisecond of work between looks at signals."""


class Diverged(Exception):
    """A loss, a gradient or a weight was not finite."""

    def __init__(self, step: int, what: str):
        super().__init__(f"at step {step} {what}")
        self.step = step


class History:
    """What was recorded of a training: ``steps`` and ``epochs``, each a dictionary of arrays of one length.

    Steps have ``loss`` (of the batch, before the step, with the penalty), ``lr`` and ``gradient_norm`` (before
    clipping). Epochs have ``loss`` (the mean of those of its steps, each for as many rows as it had),
    ``validation_loss`` (NaN where no rows were held out), ``lr`` and ``gradient_norm`` of the last step, and ``step``,
    the number of steps at its end. Both fit into a table: ``pandas.DataFrame(history.steps)``.
    """

    def __init__(self) -> None:
        self._steps = {name: array("d") for name in ("loss", "lr", "gradient_norm")}
        self._epochs: dict[str, Any] = {
            **{name: array("d") for name in ("loss", "validation_loss", "lr", "gradient_norm")},
            "step": array("q"),
        }

    def __repr__(self) -> str:
        return f"<History of {self.step_count} steps in {len(self)} epochs>"

    def __len__(self) -> int:
        return len(self._epochs["loss"])

    @property
    def step_count(self) -> int:
        """Steps that were made."""
        return len(self._steps["loss"])

    @property
    def last_loss(self) -> float:
        """That of the last epoch; NaN before there is one."""
        return self._epochs["loss"][-1] if self else math.nan

    @property
    def steps(self) -> dict[str, np.ndarray]:
        """Copies of what was recorded at every step."""
        return {name: np.array(values) for name, values in self._steps.items()}

    @property
    def epochs(self) -> dict[str, np.ndarray]:
        """Copies of what was recorded behind every epoch; of one that was broken off there is nothing."""
        return {name: np.array(values) for name, values in self._epochs.items()}

    def add_steps(
        self, losses: Sequence[float] | np.ndarray, rates: np.ndarray, norms: Sequence[float] | np.ndarray
    ) -> None:
        """Appends as many steps as all three have: an interrupt may have come between two of them."""
        count = min(len(losses), len(rates), len(norms))
        for values, new in zip(self._steps.values(), (losses, rates, norms), strict=True):
            values.frombytes(np.asarray(new[:count], np.float64).tobytes())

    def add_epoch(self, loss: float, validation_loss: float) -> None:
        _, lr, norm = (values[-1] for values in self._steps.values())
        for values, new in zip(self._epochs.values(), (loss, validation_loss, lr, norm, self.step_count), strict=True):
            values.append(new)


def rates(lr: float | Callable[[int], float], start: int, stop: int) -> np.ndarray:
    """The learning rates of the updates from ``start`` to ``stop - 1``."""
    if isinstance(lr, Schedule):
        return np.asarray(lr(np.arange(start, stop)))
    return np.array([lr(t) for t in range(start, stop)]) if callable(lr) else np.full(stop - start, lr)


def same(a: Any, b: Any) -> bool:
    """Whether two settings are equal; arrays are, if they are one object."""
    try:
        return a is b or bool(a == b)
    except ValueError:
        return False


def own_copy(value: Any) -> Any:
    """Of a Plateau or a BackOff, because it changes where it is used."""
    return copy.copy(value) if isinstance(value, Feedback) else value


class Run:
    """A training and all that it needs to go on, with the bits of the one that never stopped.

    Parameters
    ----------
    network : Network
    weights : mapping of names to arrays
        To start from.
    settings : pair
        The class of the optimizer, and its keywords.
    random : numpy.random.RandomState
        Shuffles the rows of each epoch.
    """

    def __init__(self, network: Network, weights: Weights, settings: Settings, random: np.random.RandomState):
        self.network, self.random = network, random
        self.make_optimizer(weights, settings)
        self.history = History()
        self.rows_seen = 0
        self.split_seed = int(random.randint(2**31 - 1))  # of the rows held out, now or in a later training
        self._watch(False)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "optimizer": self.optimizer.__reduce__()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        make, (cls, params, *rest) = state["optimizer"]
        # joblib maps arrays of a file, or of another process, into memory as they are: read-only.
        params = {name: p if type(p) is np.ndarray and p.flags.writeable else np.array(p) for name, p in params.items()}
        vars(self).update({**state, "optimizer": make(cls, params, *rest)})

    def make_optimizer(self, weights: Weights, settings: Settings) -> None:
        cls, keywords = settings
        self.optimizer = cls(dict(weights), **{name: own_copy(value) for name, value in keywords.items()})
        self.settings = settings

    def go_on_with(self, network: Network, settings: Settings) -> None:
        """Goes on with another penalty, another learning rate, or a new optimizer on the same weights.

        Raises
        ------
        TypeError, ValueError
            The network is another one, or the optimizer refuses its keywords. Nothing has been changed.
        """
        if not network.is_like(self.network):
            raise ValueError(
                f"what was trained is {self.network}, but the parameters and the data now ask for {network}; fit from "
                "the beginning (warm_start=False), or leave the parameters as they were"
            )
        (old_cls, old), (cls, new) = self.settings, settings
        missing = object()
        changed = {name for name in {**old, **new} if not same(old.get(name, missing), new.get(name, missing))}
        values = self.optimizer.groups[0]
        if cls is old_cls and changed == {"lr"} and "lr" in new and "lr" in values:
            values["lr"] = own_copy(new["lr"])
        elif cls is not old_cls or changed:
            self.make_optimizer(self.optimizer._named(), settings)
        self.network, self.settings = network, settings

    @property
    def _lr(self) -> Any:
        return self.optimizer.lr  # type: ignore[attr-defined]

    def weights(self) -> Weights:
        """The weights to predict with, live: the optimizer's average, where it has one."""
        optimizer = self.optimizer
        averages = optimizer._averages and optimizer.t  # before, some averages are zero
        return cast(Weights, optimizer.averaged()) if averages else optimizer._named()

    def epoch(self, rows: Rows, held_out: Rows | None, batch_size: int | None, shuffle: bool) -> tuple[float, float]:
        """One epoch; the mean loss of its steps, and that of the rows held out (NaN where there are none).

        Raises
        ------
        Diverged
            The weights are those before the step that is named, with the optimizer's state. Where they are not finite,
            because a step overflowed itself, they are those of the epoch's beginning, with a fresh optimizer.
        """
        before = {name: p.copy() for name, p in self.optimizer._named().items()}
        with np.errstate(all="ignore"):  # what overflows is looked for
            try:
                loss = self._steps(rows, batch_size, shuffle)
                if not all(math.isfinite(np.vdot(p, p)) for p in self.optimizer._named().values()):
                    raise Diverged(self.history.step_count, "the squares of the weights were not finite")
            except Diverged:
                if not all(
                    np.isfinite(p).all() for some in (self.optimizer._named(), self.weights()) for p in some.values()
                ):
                    self.make_optimizer(before, self.settings)
                raise
            validation_loss = (
                math.nan if held_out is None else self.network.mean_loss(self.network.layers(self.weights()), held_out)
            )
        self.history.add_epoch(loss, validation_loss)
        if isinstance(self._lr, (BackOff, Plateau)):
            self._lr.update(loss if held_out is None else validation_loss)
        return loss, validation_loss

    def is_compiled(self, rows: Rows) -> bool:
        """Whether the steps for such rows are made without Python, and have the same bits with any BLAS."""
        return self.network.is_compiled(rows.x) and type(self.optimizer).step is Plan.step

    def _steps(self, rows: Rows, batch_size: int | None, shuffle: bool) -> float:
        if self.is_compiled(rows):
            return self._compiled_steps(rows, batch_size, shuffle)
        network, optimizer = self.network, self.optimizer
        layers = network.layers(optimizer._named())
        start, total, losses, norms = optimizer.t, 0.0, array("d"), array("d")
        by_columns = self._can_step_columns(rows)
        try:
            for batch in batches(rows, batch_size, self.random if shuffle else None):
                grads, columns = network.gradients, None
                if by_columns and batch.x.nnz * SORTING < layers[0][0].size:
                    loss, norm, values, touched = network.gradient_of_columns(layers, batch)
                    grads, columns = {**grads, "coef_0": values}, {"coef_0": touched}
                else:
                    loss = network.gradient(layers, batch)
                    norm = network.norm()
                if not math.isfinite(loss + norm):
                    raise self._diverged(len(losses), loss)
                optimizer.step(grads, columns)
                losses.append(loss)
                norms.append(norm)
                total += loss * len(batch)
                self.rows_seen += len(batch)
        finally:
            self.history.add_steps(losses, rates(self._lr, start, start + len(losses)), norms)
        return total / len(rows)

    def _compiled_steps(self, rows: Rows, batch_size: int | None, shuffle: bool) -> float:
        network, optimizer = self.network, self.optimizer
        count, start, done, total = batch_count(len(rows), batch_size), optimizer.t, 0, 0.0
        together = max(1, count * TOGETHER // rows.x.size)
        order = self.random.permutation(len(rows)).astype(np.int64, copy=False) if shuffle and count > 1 else None
        coef, intercept = network.layers(optimizer._named())[0]
        model = network.loss, network.l2, coef, intercept, network.gradients
        data = rows.x, rows.targets, rows.weights, order
        losses, norms = np.empty(count), np.empty(count)
        try:
            while done < count:
                last = min(done + together, count)
                done, total = linear.steps(optimizer, *model, *data, count, done, last, total, losses, norms)
                if done < last:
                    raise self._diverged(done, losses[done])
        finally:
            done = optimizer.t - start  # also where a schedule has raised
            self.rows_seen += len(rows) * done // count
            self.history.add_steps(losses[:done], rates(self._lr, start, start + done), norms[:done])
        return total / len(rows)

    def _diverged(self, done: int, loss: float) -> Diverged:
        """Of the step behind so many of this epoch."""
        what = "the gradient overflowed" if math.isfinite(loss) else f"the loss was {loss:g}"
        lr = rates(self._lr, self.optimizer.t, self.optimizer.t + 1)[0]
        return Diverged(self.history.step_count + done + 1, f"{what}, with lr = {lr:g}")

    def _can_step_columns(self, rows: Rows) -> bool:
        """Whether steps of some columns of a linear model are exactly those of all."""
        optimizer = self.optimizer
        return (
            not isinstance(rows.x, np.ndarray)
            and len(self.network.sizes) == 2
            and self.network.l2 == 0.0
            and optimizer._rule.name in ROWS_ARE_EXACT
            and optimizer._options["averaging"] is None
            and optimizer.groups[0]["weight_decay"] == 0.0
        )

    def _watch(self, keeps_best: bool) -> None:
        self.best_loss, self.waited, self.keeps_best = math.inf, 0, keeps_best
        self.best_weights: dict[str, np.ndarray] | None = None

    def has_stalled(self, loss: float, tol: float, patience: int, keep_best: bool) -> bool:
        """Whether the loss has not fallen below its best by more than ``tol`` in more than ``patience`` epochs.

        If so, a training that goes on from here is given the same patience again.
        """
        if keep_best != self.keeps_best:  # another loss than before
            self._watch(keep_best)
        self.waited = 0 if loss < self.best_loss - tol else self.waited + 1
        if loss < self.best_loss:
            self.best_loss = loss
            if keep_best:
                self.best_weights = {name: p.copy() for name, p in self.weights().items()}
        stalled = self.waited > patience
        self.waited = 0 if stalled else self.waited
        return stalled
