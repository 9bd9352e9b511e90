"""Linear models and networks of dense layers: what they predict, and the gradient of their loss.

A layer is ``a = f(x @ W + b)``, and a network a chain of layers whose last one has no f. A linear model is a network
of that layer alone, so what holds for one holds for the other:

- The loss says what the last layer's output, the *scores*, costs. Of each of the three losses here the derivative by a
  score is the prediction minus the target, which is why they are the ones in use.
- The chain rule carries that derivative back, layer by layer, by two matrix products: ``x.T @ delta`` is the gradient
  of W, and ``delta @ W.T`` times f's derivative is the delta of the layer before.

All work on one batch at a time, in memory that is kept from step to step.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import csr_array, issparse
from scipy.special import expit, log_expit

from optcore._build import linear

__all__ = ["ACTIVATIONS", "LOSSES", "Network", "Rows"]

Weights = Mapping[str, np.ndarray]
Layers = Sequence[tuple[np.ndarray, np.ndarray | None]]


# ---------------------------------------------------------------------------- activations
# In place: f of an array, and delta times f's derivative, which each of them has from f's value alone.


def identity(a: np.ndarray) -> None:
    """``f(z) = z``"""


def identity_back(delta: np.ndarray, a: np.ndarray) -> None:
    """``f' = 1``"""


def logistic(a: np.ndarray) -> None:
    """``f(z) = 1 / (1 + exp(-z))``"""
    expit(a, out=a)


def logistic_back(delta: np.ndarray, a: np.ndarray) -> None:
    """``f' = f * (1 - f)``"""
    delta *= a
    delta *= 1 - a


def tanh(a: np.ndarray) -> None:
    """``f(z) = tanh(z)``"""
    np.tanh(a, out=a)


def tanh_back(delta: np.ndarray, a: np.ndarray) -> None:
    """``f' = 1 - f**2``"""
    delta *= 1 - a * a


def relu(a: np.ndarray) -> None:
    """``f(z) = max(z, 0)``"""
    np.maximum(a, 0, out=a)


def relu_back(delta: np.ndarray, a: np.ndarray) -> None:
    """``f' = 1 where z > 0, else 0``"""
    delta *= a > 0


ACTIVATIONS: dict[str, tuple[Callable[..., None], Callable[..., None]]] = {
    "identity": (identity, identity_back),
    "logistic": (logistic, logistic_back),
    "tanh": (tanh, tanh_back),
    "relu": (relu, relu_back),
}
"""Each with how delta passes it, by scikit-learn's names."""


# ---------------------------------------------------------------------------- losses
# Each gives the sum of the losses of some rows, times their weights, and turns the scores into its derivative by them.


def squared_error(scores: np.ndarray, targets: np.ndarray, weights: np.ndarray | None) -> float:
    """``sum((score - target)**2) / 2`` over the outputs of a row. Targets have the shape of the scores."""
    scores -= targets
    if weights is None:
        return float(np.vdot(scores, scores)) / 2
    errors = scores.copy()
    scores *= weights
    return float(np.vdot(errors, scores)) / 2


def logistic_loss(scores: np.ndarray, targets: np.ndarray, weights: np.ndarray | None) -> float:
    """``-log(p)`` of the true one of two classes: 1 has ``p = expit(score)``. Targets have the shape of the scores."""
    losses = log_expit(np.where(targets > 0, scores, -scores))
    expit(scores, out=scores)
    scores -= targets
    return -weighted(losses, scores, weights)


def softmax_loss(scores: np.ndarray, targets: np.ndarray, weights: np.ndarray | None) -> float:
    """``-log(p)`` of the true class, where ``p = exp(score) / sum(exp(scores))``. Targets are the classes' numbers."""
    scores -= scores.max(axis=1, keepdims=True)  # which cancels, and no power is above 1
    true = np.arange(len(targets)), targets
    losses = -scores[true][:, np.newaxis]
    np.exp(scores, out=scores)
    total = scores.sum(axis=1, keepdims=True)
    losses += np.log(total)
    scores /= total
    scores[true] -= 1
    return weighted(losses, scores, weights)


def weighted(losses: np.ndarray, derivatives: np.ndarray, weights: np.ndarray | None) -> float:
    """The sum of losses times weights; the derivatives are multiplied, too."""
    if weights is not None:
        losses *= weights
        derivatives *= weights
    return float(losses.sum())


LOSSES: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray | None], float]] = {
    "squared_error": squared_error,
    "logistic": logistic_loss,
    "softmax": softmax_loss,
}


# ---------------------------------------------------------------------------- rows of data


@dataclass(slots=True, eq=False)
class Rows:
    """Rows to learn from: ``x`` (a C-contiguous array, or CSR), what is to be predicted, and how much each counts.

    Weights have the shape (rows, 1).
    """

    x: Any
    targets: np.ndarray
    weights: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, some: slice) -> Rows:
        return Rows(self.x[some], self.targets[some], None if self.weights is None else self.weights[some])

    def normalized(self) -> Rows:
        """The same, with weights whose mean is 1, in the dtype of x."""
        if self.weights is None:
            return self
        weights = self.weights / self.weights.max()  # whose sum does not overflow
        return Rows(self.x, self.targets, (weights / weights.mean()).astype(self.x.dtype))

    def take(self, order: np.ndarray) -> Rows:
        """Those rows, copied, in that order."""
        x = self.x[order] if issparse(self.x) else self.x.take(order, axis=0)
        return Rows(x, self.targets[order], None if self.weights is None else self.weights[order])


# ---------------------------------------------------------------------------- networks


class Network:
    """Layers of given sizes and a loss; the weights are the caller's.

    Parameters
    ----------
    sizes : sequence of int
        Numbers of columns, of units of each hidden layer, and of outputs. Layer i has the weights ``coef_i`` of shape
        (sizes[i], sizes[i + 1]) and ``intercept_i`` of shape (sizes[i + 1],).
    activations : sequence of str
        Of the hidden layers; keys of :data:`ACTIVATIONS`.
    loss : str
        A key of :data:`LOSSES`.
    dtype : numpy dtype
        float32 or float64, of weights and of data.
    l2 : float
        ``l2 / 2`` times the sum of the squares of all coefs is added to the loss. Intercepts are free.
    intercepts : bool
        False: no intercepts.

    Examples
    --------
    The loss of a line through two points, at zero, and its gradient:

    >>> network = Network([1, 1], [], "squared_error", np.float64)
    >>> layers = network.layers(network.zeros())
    >>> network.gradient(layers, Rows(np.array([[1.0], [3.0]]), np.array([[2.0], [4.0]])))
    5.0
    >>> {name: float(gradient.item()) for name, gradient in network.gradients.items()}
    {'coef_0': -7.0, 'intercept_0': -3.0}
    """

    def __init__(
        self,
        sizes: Sequence[int],
        activations: Sequence[str],
        loss: str,
        dtype: Any,
        l2: float = 0.0,
        intercepts: bool = True,
    ):
        self.sizes, self.activations, self.loss = list(sizes), list(activations), loss
        # A NumPy scalar would make float64 of a product with float32.
        self.dtype, self.l2, self.intercepts = np.dtype(dtype), float(l2), intercepts
        self.shapes: dict[str, tuple[int, ...]] = {}
        for i, shape in enumerate(itertools.pairwise(sizes)):
            self.shapes[f"coef_{i}"] = shape
            if intercepts:
                self.shapes[f"intercept_{i}"] = shape[1:]
        self._kept: dict[int, list[np.ndarray]] = {}

    def _arguments(self) -> tuple[Any, ...]:
        return self.sizes, self.activations, self.loss, self.dtype, self.l2, self.intercepts

    def __reduce__(self) -> Any:
        """For pickle and copy: the same without the memory for batches and gradients."""
        return Network, self._arguments()

    def __repr__(self) -> str:
        return f"Network{self._arguments()}"

    def is_like(self, other: Network) -> bool:
        """Whether the same weights fit, with the same meaning; the penalty may be another."""
        return (*self._arguments()[:4], self.intercepts) == (*other._arguments()[:4], other.intercepts)

    @functools.cached_property
    def _flat(self) -> np.ndarray:
        """Gradients of all weights, one after the other."""
        return np.zeros(sum(map(math.prod, self.shapes.values())), self.dtype)

    @functools.cached_property
    def gradients(self) -> dict[str, np.ndarray]:
        """Where :meth:`gradient` leaves them, by the names of the weights."""
        edges = itertools.pairwise(itertools.accumulate(map(math.prod, self.shapes.values()), initial=0))
        return {
            name: self._flat[first:last].reshape(shape)
            for (name, shape), (first, last) in zip(self.shapes.items(), edges, strict=True)
        }

    @functools.cached_property
    def _gradient_layers(self) -> Layers:
        return self.layers(self.gradients)

    def zeros(self) -> dict[str, np.ndarray]:
        """Weights to start from, where the loss is convex."""
        return {name: np.zeros(shape, self.dtype) for name, shape in self.shapes.items()}

    def uniform(self, random: np.random.RandomState, gains: Sequence[float]) -> dict[str, np.ndarray]:
        """Weights to start from, uniform within ``sqrt(gain / (rows + columns))`` of zero, with a gain for each layer.

        Glorot & Bengio, Understanding the difficulty of training deep feedforward neural networks, 2010, equation 16,
        where the gain is 6. The numbers are drawn in scikit-learn's order.
        """
        weights = {}
        for name, shape in self.shapes.items():
            i = int(name.rpartition("_")[2])
            bound = math.sqrt(gains[i] / (self.sizes[i] + self.sizes[i + 1]))
            weights[name] = random.uniform(-bound, bound, shape).astype(self.dtype)
        return weights

    def _outputs(self, rows: int) -> list[np.ndarray]:
        return [np.empty((rows, size), self.dtype) for size in self.sizes[1:]]

    def layers(self, weights: Weights) -> Layers:
        """The coefs and intercepts of each layer, as the other methods take them."""
        return [(weights[f"coef_{i}"], weights.get(f"intercept_{i}")) for i in range(len(self.sizes) - 1)]

    def _forward(self, layers: Layers, x: Any, outputs: Sequence[np.ndarray]) -> np.ndarray:
        """The scores; ``outputs`` takes what each layer makes of the one before."""
        for i, ((coef, intercept), a) in enumerate(zip(layers, outputs, strict=True)):
            if isinstance(x, np.ndarray):
                np.matmul(x, coef, out=a)
            else:
                a[...] = x @ coef
            if intercept is not None:
                a += intercept
            if i < len(self.activations):
                ACTIVATIONS[self.activations[i]][0](a)
            x = a
        return x

    def scores(self, layers: Layers, x: Any) -> np.ndarray:
        """The output of the last layer, of shape (rows, outputs)."""
        return self._forward(layers, x, self._outputs(x.shape[0]))

    def is_compiled(self, x: Any) -> bool:
        """Whether the epochs and losses of such rows are those of :mod:`optcore._linear`."""
        return isinstance(x, np.ndarray) and self.sizes[1:] == [1] and self.loss in linear.LOSSES

    def mean_loss(self, layers: Layers, rows: Rows) -> float:
        """The loss without the penalty, averaged over rows, each times its weight."""
        if self.is_compiled(rows.x):
            return linear.mean_loss(self.loss, *layers[0], rows.x, rows.targets, rows.weights)
        return LOSSES[self.loss](self.scores(layers, rows.x), rows.targets, rows.weights) / len(rows)

    def _deltas(self, layers: Layers, rows: Rows) -> tuple[float, list[np.ndarray]]:
        """The mean loss with the penalty, and the outputs of all layers, of which the last is its derivative."""
        count = len(rows.targets)
        outputs = self._kept.get(count)
        if outputs is None:  # batches of an epoch have two sizes at most
            outputs = self._outputs(count)
            self._kept = {**dict(list(self._kept.items())[-1:]), count: outputs}
        delta = self._forward(layers, rows.x, outputs)
        loss = LOSSES[self.loss](delta, rows.targets, rows.weights) / count
        delta /= count
        if self.l2:
            loss += self.l2 / 2 * sum(float(np.vdot(coef, coef)) for coef, _ in layers)
        return loss, outputs

    def gradient(self, layers: Layers, rows: Rows) -> float:
        """The mean loss of the rows with the penalty; its gradient is then in ``gradients``."""
        loss, outputs = self._deltas(layers, rows)
        delta = outputs[-1]
        for i in range(len(layers) - 1, -1, -1):
            coef, (gradient, intercept_gradient) = layers[i][0], self._gradient_layers[i]
            x = outputs[i - 1] if i > 0 else rows.x
            if isinstance(x, np.ndarray):
                np.matmul(x.T, delta, out=gradient)
            else:
                gradient[...] = x.T @ delta
            if self.l2:
                gradient += self.l2 * coef
            if intercept_gradient is not None:
                np.add.reduce(delta, axis=0, out=intercept_gradient)
            if i > 0:
                delta = delta @ coef.T
                ACTIVATIONS[self.activations[i - 1]][1](delta, x)
        return loss

    def norm(self) -> float:
        """The Euclidean norm of all gradients together."""
        return math.sqrt(np.vdot(self._flat, self._flat))

    def gradient_of_columns(self, layers: Layers, rows: Rows) -> tuple[float, float, np.ndarray, np.ndarray]:
        """As :meth:`gradient` of a linear model without penalty and of CSR rows, but of the columns in use alone.

        Returns
        -------
        loss, norm : float
        values : array of shape (k, outputs)
            The gradient of ``coef_0`` in those columns, in the bits that :meth:`gradient` gives it. In all others it
            is zero.
        columns : array of shape (k,)
        """
        loss, (delta,) = self._deltas(layers, rows)
        columns, inverse = np.unique(rows.x.indices, return_inverse=True)
        packed = csr_array((rows.x.data, inverse, rows.x.indptr), (len(rows), len(columns)))
        values = np.ascontiguousarray(packed.T @ delta)
        square = np.vdot(values, values)
        intercept_gradient = self.gradients.get("intercept_0")
        if intercept_gradient is not None:
            np.add.reduce(delta, axis=0, out=intercept_gradient)
            square += np.vdot(intercept_gradient, intercept_gradient)
        return loss, math.sqrt(square), values, columns


def batch_count(rows: int, size: int | None) -> int:
    """Into how many batches an epoch is divided: batch i begins with row ``rows * i // count``."""
    return 1 if size is None else -(-rows // size)


def batches(rows: Rows, size: int | None, random: np.random.RandomState | None) -> Iterator[Rows]:
    """The rows of one epoch in batches of almost equal size, so that no row counts more than another.

    Parameters
    ----------
    rows : Rows
    size : int or None
        How many a batch has at most. None, or at least as many as there are rows: one batch of all, as they lie.
    random : numpy.random.RandomState or None
        Shuffles the rows. None: in order.
    """
    total, count = len(rows), batch_count(len(rows), size)
    if count == 1:
        yield rows
        return
    edges = [total * i // count for i in range(count + 1)]
    if random is None:
        for first, last in itertools.pairwise(edges):
            yield rows[first:last]
        return
    order = random.permutation(total)
    # Rows of several batches are gathered in one go: as many as a second-level cache holds.
    together = max(1, GATHERED // (-(-total // count) * rows.x.shape[1]))
    for i in range(0, count, together):
        some = edges[i : i + together + 1]
        gathered = rows.take(order[some[0] : some[-1]])
        for first, last in itertools.pairwise(some):
            yield gathered[first - some[0] : last - some[0]]


GATHERED = 1 << 16
"""Elements."""
