"""Linear models and multi-layer perceptrons for scikit-learn, trained by the optimizers of optcore.

    from optcore.estimators import LinearRegressor

    model = make_pipeline(StandardScaler(), LinearRegressor(optimizer="momentum", lr=0.05, epochs=50, random_state=0))
    search = GridSearchCV(model, {"linearregressor__optimizer": ["sgd", "adam"], "linearregressor__lr": [0.01, 0.1]})

:class:`LinearRegressor` and :class:`LinearClassifier` fit ``y = X @ w + b``, with the squared error and with the
logistic loss. :class:`MLPRegressor` and :class:`MLPClassifier` put layers of units before that.

What one needs to know of training by steps:

- *Scale.* A step has one learning rate for all columns, so columns of different scale make every method slow, and most
  of them diverge. Put a ``StandardScaler`` in front; scale the target of an MLPRegressor, too.
- *Steps, not epochs.* An epoch of n rows makes ``n / batch_size`` steps. Schedules count steps; ``schedule.every(k)``
  counts epochs, where k is the number of steps of an epoch.
- *Full batch or small ones.* With ``batch_size=None`` each step sees all rows: the loss falls smoothly, to the minimum
  itself. Small batches get near it in fewer epochs, and then wander around it, as far as the learning rate lets them:
  a schedule that falls to zero (``Linear(0.1, steps=1000)``), averaging (``averaging=optcore.Polyak()``), or a
  schedule-free optimizer brings them to rest. Rprop makes sense with the full batch only.
- *Too high a learning rate* makes the loss grow until it overflows. The run then stops with a ConvergenceWarning that
  says at which step.

The parameters that all four share are explained in :class:`Estimator`.

Reproducibility
---------------
With the same ``random_state``, the same data and the same versions, one machine gives the same bits, in float32 and in
float64. A linear model of one output (numbers, or two classes) is trained on dense rows by compiled code, in which
every sum has one order: it has the same weights, to the bit, on every machine and with any number of threads.

All else takes its sums over rows from the BLAS that NumPy was built with, and another machine or another BLAS may round
them otherwise; the steps themselves have the same bits everywhere. Linear models of several outputs, or of sparse rows,
are trained with one BLAS thread, where threadpoolctl can see to it (not with Apple's Accelerate). The layers of an MLP
gain from threads and get them: how the BLAS shares out a product between them is its own business, so compare runs
with the same number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from optcore.domains import check_choice, check_flag
from optcore.estimator import Classifier, Estimator, Regressor
from optcore.networks import ACTIVATIONS, Layers, Network
from optcore.optimizer import EMA, Optimizer, Polyak, Value
from optcore.schedules import check_integer
from optcore.training import Settings

__all__ = ["Estimator", "LinearClassifier", "LinearRegressor", "MLPClassifier", "MLPRegressor"]


# ---------------------------------------------------------------------------- linear models


class LinearModel(Estimator):
    """``X @ coef_.T + intercept_``, from zero: the loss is convex, so the start does not matter."""

    _one_thread = True

    def __init__(
        self,
        *,
        optimizer: str | type[Optimizer] = "adam",
        lr: Value | None = 0.01,
        batch_size: int | None = 200,
        epochs: int = 200,
        l2: float = 0.0,
        fit_intercept: bool = True,
        optimizer_params: Mapping[str, Any] | None = None,
        clip_norm: float | None = None,
        averaging: EMA | Polyak | None = None,
        shuffle: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        patience: int = 10,
        tol: float | None = None,
        warm_start: bool = False,
        random_state: Any = None,
        dtype: Any = "float64",
        callbacks: Sequence[Callable[[Any], Any]] | None = None,
        verbose: bool | int = False,
    ):
        self.optimizer = optimizer
        self.lr = lr
        self.batch_size = batch_size
        self.epochs = epochs
        self.l2 = l2
        self.fit_intercept = fit_intercept
        self.optimizer_params = optimizer_params
        self.clip_norm = clip_norm
        self.averaging = averaging
        self.shuffle = shuffle
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.tol = tol
        self.warm_start = warm_start
        self.random_state = random_state
        self.dtype = dtype
        self.callbacks = callbacks
        self.verbose = verbose

    def _settings(self) -> Settings:
        check_flag("fit_intercept", self.fit_intercept)
        return super()._settings()

    def _network(self, targets: np.ndarray) -> Network:
        loss, outputs = self._loss(targets)
        return Network([self.n_features_in_, outputs], [], loss, self._dtype(), self.l2, self.fit_intercept)

    def _first_weights(self, network: Network, random: np.random.RandomState) -> dict[str, np.ndarray]:
        return network.zeros()

    def _set_weights(self, weights: dict[str, np.ndarray]) -> None:
        coef = weights["coef_0"].T
        self.coef_ = coef[0] if len(coef) == 1 and isinstance(self, Regressor) else coef
        self.intercept_ = weights.get("intercept_0", np.zeros(len(coef), coef.dtype))

    def _layers(self) -> Layers:
        return [(np.atleast_2d(self.coef_).T, self.intercept_)]


class LinearRegressor(Regressor, LinearModel):
    """Linear least squares, by steps of any optimizer.

    It minimizes ``mean((y - X @ coef_.T - intercept_)**2) / 2 + l2 / 2 * sum(coef_**2)``, summed over outputs: the loss
    of scikit-learn's SGDRegressor, where l2 is called alpha, and of its Ridge with ``alpha = l2 * rows``.

    Parameters
    ----------
    fit_intercept : bool
        False: lines through the origin.
    optimizer, lr, batch_size, epochs, ... :
        See :class:`Estimator`.

    Attributes
    ----------
    coef_ : array of shape (columns,), or (outputs, columns)
    intercept_ : array of shape (outputs,)
    n_iter_, t_, loss_, history_, optimizer_, ... :
        See :class:`Estimator`.

    Examples
    --------
    >>> import numpy as np, optcore as oc
    >>> from optcore.estimators import LinearRegressor
    >>> X = np.array([[-1.0], [0.0], [1.0], [2.0]])
    >>> y = np.array([-1.0, 1.0, 3.0, 5.0])
    >>> model = LinearRegressor(optimizer="nesterov", lr=0.1, batch_size=None, epochs=300).fit(X, y)
    >>> model.coef_.round(6), model.intercept_.round(6)
    (array([2.]), array([1.]))

    One row at a time, with a learning rate that falls to zero:

    >>> model = LinearRegressor(optimizer="sgd", lr=oc.Linear(0.3, steps=400), batch_size=1, epochs=100, random_state=0)
    >>> model.fit(X, y).predict([[10.0]]).round(6)
    array([21.])
    >>> model.history_.epochs["loss"][[0, 9]].round(6)
    array([1.712465, 0.      ])
    """


class LinearClassifier(Classifier, LinearModel):
    """The logistic perceptron: logistic regression of two classes, softmax regression of more.

    It minimizes the mean of ``-log(probability of the true class)``, plus ``l2 / 2 * sum(coef_**2)``. That is what
    scikit-learn's LogisticRegression does with ``C = 1 / (l2 * rows)``. Without a penalty there is no minimum where a
    line separates the classes: the coefficients grow without end.

    Parameters
    ----------
    fit_intercept : bool
        False: lines through the origin.
    optimizer, lr, batch_size, epochs, ... :
        See :class:`Estimator`.

    Attributes
    ----------
    classes_ : array of shape (classes,)
    coef_ : array of shape (classes, columns), or (1, columns) of two classes
    intercept_ : array of shape (classes,), or (1,)
    n_iter_, t_, loss_, history_, optimizer_, ... :
        See :class:`Estimator`.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from optcore.estimators import LinearClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> model = make_pipeline(StandardScaler(), LinearClassifier(l2=1e-3, random_state=0))
    >>> float(round(model.fit(X, y).score(X, y), 2))
    0.95
    """


# ---------------------------------------------------------------------------- multi-layer perceptrons


class MLP(Estimator):
    """Hidden layers, each ``f(X @ coef + intercept)``, and a last one without f."""

    def __init__(
        self,
        hidden_layer_sizes: int | Sequence[int] = (100,),
        activation: str | Sequence[str] = "relu",
        *,
        optimizer: str | type[Optimizer] = "adam",
        lr: Value | None = 0.001,
        batch_size: int | None = 200,
        epochs: int = 200,
        l2: float = 0.0,
        optimizer_params: Mapping[str, Any] | None = None,
        clip_norm: float | None = None,
        averaging: EMA | Polyak | None = None,
        shuffle: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        patience: int = 10,
        tol: float | None = None,
        warm_start: bool = False,
        random_state: Any = None,
        dtype: Any = "float64",
        callbacks: Sequence[Callable[[Any], Any]] | None = None,
        verbose: bool | int = False,
    ):
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.optimizer = optimizer
        self.lr = lr
        self.batch_size = batch_size
        self.epochs = epochs
        self.l2 = l2
        self.optimizer_params = optimizer_params
        self.clip_norm = clip_norm
        self.averaging = averaging
        self.shuffle = shuffle
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.tol = tol
        self.warm_start = warm_start
        self.random_state = random_state
        self.dtype = dtype
        self.callbacks = callbacks
        self.verbose = verbose

    def _hidden(self) -> tuple[list[int], list[str]]:
        """Size and activation of every hidden layer."""
        sizes, activation = self.hidden_layer_sizes, self.activation
        sizes = list(sizes) if np.iterable(sizes) else [sizes]
        sizes = [check_integer("hidden_layer_sizes", size) for size in sizes]
        names = [activation] * len(sizes) if isinstance(activation, str) else list(activation)
        for name in [activation] if isinstance(activation, str) else names:
            check_choice("activation", name, list(ACTIVATIONS))
        if len(names) != len(sizes):
            raise ValueError(f"activation must be one name, or one for each of {len(sizes)} hidden layers, got {names}")
        return sizes, names

    def _settings(self) -> Settings:
        self._hidden()
        return super()._settings()

    def _network(self, targets: np.ndarray) -> Network:
        (loss, outputs), (sizes, names) = self._loss(targets), self._hidden()
        return Network([self.n_features_in_, *sizes, outputs], names, loss, self._dtype(), self.l2)

    def _first_weights(self, network: Network, random: np.random.RandomState) -> dict[str, np.ndarray]:
        """As scikit-learn draws them, so that the same seed begins with the same weights."""
        last = [network.activations[-1]] if network.activations else ["identity"]
        return network.uniform(random, [2.0 if name == "logistic" else 6.0 for name in network.activations + last])

    def _set_weights(self, weights: dict[str, np.ndarray]) -> None:
        self.coefs_ = [p for name, p in weights.items() if name.startswith("coef")]
        self.intercepts_ = [p for name, p in weights.items() if name.startswith("intercept")]

    def _layers(self) -> Layers:
        return list(zip(self.coefs_, self.intercepts_, strict=True))


class MLPRegressor(Regressor, MLP):
    """A multi-layer perceptron that predicts numbers.

    It minimizes ``mean((y - prediction)**2) / 2 + l2 / 2 * sum(coefs_**2)``, summed over outputs.

    Parameters
    ----------
    hidden_layer_sizes : int or sequence of int
        Units of each hidden layer; ``()`` is a linear model.
    activation : {"relu", "tanh", "logistic", "identity"}, or a sequence of them
        f, of all hidden layers or of each.
    optimizer, lr, batch_size, epochs, ... :
        See :class:`Estimator`.

    Attributes
    ----------
    coefs_ : list of arrays of shape (units of the layer before, units)
    intercepts_ : list of arrays of shape (units,)
    n_iter_, t_, loss_, history_, optimizer_, ... :
        See :class:`Estimator`.

    Examples
    --------
    >>> import numpy as np
    >>> from optcore.estimators import MLPRegressor
    >>> X = np.linspace(-3, 3, 200)[:, np.newaxis]
    >>> model = MLPRegressor((20,), "tanh", lr=0.02, batch_size=20, epochs=100, random_state=0)
    >>> bool(model.fit(X, np.sin(X[:, 0])).score(X, np.sin(X[:, 0])) > 0.99)
    True
    """


class MLPClassifier(Classifier, MLP):
    """A multi-layer perceptron that predicts classes.

    It minimizes the mean of ``-log(probability of the true class)``, plus ``l2 / 2 * sum(coefs_**2)``: the loss of
    scikit-learn's MLPClassifier, but for its penalty, which has ``l2 = alpha / rows of the batch``.

    Parameters
    ----------
    hidden_layer_sizes : int or sequence of int
        Units of each hidden layer; ``()`` is a linear model.
    activation : {"relu", "tanh", "logistic", "identity"}, or a sequence of them
        f, of all hidden layers or of each.
    optimizer, lr, batch_size, epochs, ... :
        See :class:`Estimator`.

    Attributes
    ----------
    classes_ : array of shape (classes,)
    coefs_ : list of arrays of shape (units of the layer before, units)
    intercepts_ : list of arrays of shape (units,)
    n_iter_, t_, loss_, history_, optimizer_, ... :
        See :class:`Estimator`.

    Examples
    --------
    Exclusive or, which no linear model can learn:

    >>> from optcore.estimators import MLPClassifier
    >>> X, y = [[0, 0], [0, 1], [1, 0], [1, 1]], ["same", "other", "other", "same"]
    >>> MLPClassifier((8,), "tanh", lr=0.1, random_state=0).fit(X, y).predict(X).tolist()
    ['same', 'other', 'other', 'same']
    """
