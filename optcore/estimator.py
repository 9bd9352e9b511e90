"""What the estimators share: parameters, data, the training, and predictions of numbers and of classes."""

from __future__ import annotations

import contextlib
import copy
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

try:
    from scipy.special import expit, log_expit, log_softmax, softmax
    from sklearn.base import BaseEstimator, ClassifierMixin, MultiOutputMixin, RegressorMixin
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.model_selection import train_test_split
    from sklearn.utils import check_random_state
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import check_array, check_is_fitted, column_or_1d, validate_data
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f'optcore.estimators needs {error.name}; pip install "optcore[sklearn]"', name=error.name
    ) from None

from optcore.domains import NOT_NEGATIVE, Domain, check_flag, check_number, nearest
from optcore.networks import Rows
from optcore.optimizer import CATALOGUE, EMA, Optimizer, Polyak
from optcore.schedules import check_integer
from optcore.threads import one_thread
from optcore.training import Diverged, History, Run, Settings

__all__ = ["Classifier", "Estimator", "Regressor"]

SHARE = Domain(np.nextafter(0.0, 1.0), np.nextafter(1.0, 0.0), "above 0 and below 1")


def progress_bar(verbose: int, epochs: int) -> Any:
    """A tqdm that shows itself where a person watches, if wanted."""
    if not verbose:
        return contextlib.nullcontext()
    from tqdm import tqdm

    return tqdm(total=epochs, unit="epoch", disable=None)


class Estimator(BaseEstimator):
    """What the estimators share.

    Parameters
    ----------
    optimizer : str or class
        A name of :data:`optcore.CATALOGUE`, or a class of optimizers.
    lr : float, schedule, function of the number of completed steps, or None
        None: the optimizer's own default. An :class:`optcore.Plateau` or :class:`optcore.BackOff` is updated behind
        every epoch, with the loss of the rows held out, or else with that of the epoch. A function is called a second
        time for ``history_``.
    batch_size : int or None
        Rows of a step at most; the batches of an epoch have almost the same size. None: all rows.
    epochs : int
        Passes over the rows, at most.
    l2 : float
        ``l2 / 2`` times the sum of the squared coefficients is added to the mean loss. Intercepts are free.
    optimizer_params : mapping, optional
        Further keywords of the optimizer: ``{"momentum": 0.9}``. In a search, give whole mappings to choose from.
    clip_norm : float or None
        Gradients whose norm is above it are scaled down to it.
    averaging : optcore.EMA, optcore.Polyak or None
        Predict with an average of the weights of all steps. (Schedule-free optimizers do so by themselves.)
    shuffle : bool
        Take the rows in a new random order in every epoch.
    early_stopping : bool
        Hold out rows, stop when their loss no longer falls, and keep the weights of the epoch where it was lowest.
    validation_fraction : float
        Which share is held out, of each class alike.
    patience : int
        So many epochs without a better loss are put up with; the one after them is the last. With ``warm_start`` they
        are counted from the best of all trainings so far.
    tol : float or None
        How much below the best loss is better. None: 0 with early stopping, and without it all epochs are run;
        with a number the loss of the epochs themselves is watched.
    warm_start : bool
        ``fit`` goes on where the last one ended, with further epochs: weights, optimizer, schedule, random numbers.
    random_state : int, RandomState or None
        Of the first weights, the order of rows, and the rows held out.
    dtype : {"float64", "float32"}
        Of the data, the weights and the predictions.
    callbacks : sequence of functions, optional
        Each is called with the estimator behind every epoch, when it can predict already. What returns True ends the
        training.
    verbose : bool or int
        Show the progress, where a person watches.

    Attributes
    ----------
    n_iter_ : int
        Epochs that were completed, since the training began.
    t_ : int
        Rows that were learned from, counted each time.
    loss_ : float
        Mean loss of the last epoch, with the penalty.
    history_ : optcore.training.History
        ``history_.steps`` and ``history_.epochs``: losses, learning rates and gradient norms, as arrays.
    optimizer_ : optcore.Optimizer
        As it stands: ``optimizer_.t``, ``optimizer_.state``; ``optimizer_.params`` are the weights in training, which
        need not be those to predict with.
    diverged_at_ : int or None
        The step at which the last training turned non-finite, counted from 1; None if it did not.
    interrupted_ : bool
        Whether the last training was broken off, by Ctrl-C or by an error in a callback. The exception reaches the
        caller, but what was trained until then is kept, as if the run had ended there.
    n_features_in_, feature_names_in_ :
        As everywhere in scikit-learn.

    Notes
    -----
    What is minimized is the mean of the rows' losses plus the penalty. With ``sample_weight`` it is the weighted mean:
    a row of weight 2 counts as two rows, and one of weight 0 is left out.

    A run that turns non-finite stops. It warns, keeps the last finite weights in ``coef_`` (or ``coefs_``; with early
    stopping the best ones), and refuses to predict, with a FloatingPointError: weights that were about to overflow are
    no result. A search therefore counts it as failed under each ``scoring`` (scikit-learn asks for ``error_score``
    where scoring raises), as it does for estimators of scikit-learn, whose ``fit`` raises. To predict with the kept
    weights all the same, set ``diverged_at_ = None``. A later training that stays finite makes the model usable, too:
    ``fit`` with a lower ``lr``, or with ``warm_start`` from the kept weights, if they are not too large.

    What goes on goes on exactly: fits of 3 and of 2 epochs with ``warm_start``, or five calls of ``partial_fit``, give
    the bits of a fit of 5, before and after pickling. If ``lr`` was changed in between, it is changed in the optimizer;
    another ``optimizer``, or other keywords, begin with a fresh state on the same weights. With early stopping the
    last weights are gone on from, not the best; and the same data are split in the same way.
    """

    _one_thread = False
    _run: Run
    diverged_at_: int | None
    classes_: np.ndarray

    # ------------------------------------------------------------------ settings

    def _settings(self) -> Settings:
        """Checks all parameters; the class of the optimizer, and its keywords."""
        check_integer("epochs", self.epochs)
        if self.batch_size is not None:
            check_integer("batch_size", self.batch_size)
        check_number("l2", self.l2, NOT_NEGATIVE)
        for name in ("shuffle", "early_stopping", "warm_start"):
            check_flag(name, getattr(self, name))
        check_number("validation_fraction", self.validation_fraction, SHARE)
        check_integer("patience", self.patience, 0)
        if self.tol is not None:
            check_number("tol", self.tol, NOT_NEGATIVE)
        if not isinstance(self.verbose, (bool, int, np.integer)):
            raise TypeError(f"verbose must be True, False or an integer, got {self.verbose!r}")
        callbacks = self.callbacks
        if callbacks is not None and not (isinstance(callbacks, Sequence) and all(map(callable, callbacks))):
            raise TypeError(f"callbacks must be a list of functions or None, got {callbacks!r}")
        if not isinstance(self.averaging, (EMA, Polyak, type(None))):
            raise TypeError(f"averaging must be optcore.EMA(...), optcore.Polyak() or None, got {self.averaging!r}")
        self._dtype()
        cls, keywords = self._optimizer_class(), self._optimizer_keywords()
        if "lr" not in keywords and cls._needs_lr():
            raise ValueError(f"lr must be given: {cls.__name__} has no default of its own")
        return cls, keywords

    def _dtype(self) -> np.dtype:
        try:
            dtype = np.dtype(self.dtype)
        except TypeError:
            dtype = None
        if self.dtype is None or dtype not in (np.float64, np.float32):
            raise ValueError(f"dtype must be 'float64' or 'float32', got {self.dtype!r}")
        return dtype

    def _optimizer_class(self) -> type[Optimizer]:
        optimizer = self.optimizer
        if isinstance(optimizer, str):
            if optimizer not in CATALOGUE:
                raise ValueError(
                    f"optimizer must be a name of the catalogue, got {optimizer!r}{nearest(optimizer, list(CATALOGUE))}"
                )
            return CATALOGUE[optimizer]
        if not (isinstance(optimizer, type) and issubclass(optimizer, Optimizer) and hasattr(optimizer, "name")):
            made = " It is made when the training begins: pass the class" if isinstance(optimizer, Optimizer) else ""
            raise TypeError(
                f"optimizer must be a name of the catalogue or a class of optimizers, got {optimizer!r}.{made}"
            )
        return optimizer

    def _optimizer_keywords(self) -> dict[str, Any]:
        given = self.optimizer_params
        if given is not None and not isinstance(given, Mapping):
            raise TypeError(f"optimizer_params must be a mapping of keywords or None, got {given!r}")
        own = {"lr": self.lr, "clip_norm": self.clip_norm, "averaging": self.averaging}
        for name in own:
            if given is not None and name in given:
                raise ValueError(
                    f"{name} is a parameter of {type(self).__name__} itself: take it out of optimizer_params"
                )
        return {**(given or {}), **{name: value for name, value in own.items() if value is not None}}

    # ------------------------------------------------------------------ training

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        """Trains from the beginning; with ``warm_start``, from where the last training ended.

        Parameters
        ----------
        X : array or sparse matrix of shape (rows, columns)
        y : array of shape (rows,); of a regressor also (rows, outputs)
        sample_weight : array of shape (rows,), optional
            Not negative.

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            A parameter of the estimator, or the data, cannot be used; the message names it.
        """
        return self._train(X, y, sample_weight)

    def _train(self, X: Any, y: Any, sample_weight: Any, classes: Any = None, *, partial: bool = False) -> Any:
        """For ``fit`` and ``partial_fit`` themselves, and nothing between, so that warnings name the caller's line."""
        settings = self._settings()
        if partial and self.early_stopping:
            raise ValueError("early_stopping must be False for partial_fit, which learns from all rows it is given")
        goes_on, epochs = partial or self.warm_start, 1 if partial else self.epochs
        before = vars(self).copy()
        try:
            rows, held_out = self._prepare(X, y, sample_weight, classes, goes_on and "_run" in before, settings)
        except BaseException:
            self.__dict__ = before  # what was fitted stays whole
            raise
        run, early_stopping = self._run, held_out is not None
        tol = 0.0 if self.tol is None and early_stopping else self.tol
        limited = self._one_thread and not run.is_compiled(rows)
        threads = one_thread() if limited else contextlib.nullcontext()
        try:
            with threads, progress_bar(self.verbose and epochs > 1, epochs) as bar:
                for _ in range(epochs):
                    loss, validation_loss = run.epoch(rows, held_out, self.batch_size, self.shuffle)
                    watched = validation_loss if early_stopping else loss
                    stops = tol is not None and run.has_stalled(watched, tol, self.patience, early_stopping)
                    if bar is not None:
                        bar.set_postfix(loss=f"{watched:.6g}", refresh=False)
                        bar.update()
                    if self.callbacks:
                        self._publish(early_stopping)
                        for callback in self.callbacks:
                            wanted = callback(self)
                            stops |= isinstance(wanted, (bool, np.bool_)) and bool(wanted)
                    if stops:
                        break
        except Diverged as error:
            self.diverged_at_ = error.step
            kept = "The best" if early_stopping and run.best_weights is not None else "The last finite"
            message = (
                f"{type(self).__name__} stopped: {error}. {kept} weights are kept, but it does not predict. "
                "Lower lr, set clip_norm, or standardise the columns of X"
            )
            warnings.warn(message, ConvergenceWarning, stacklevel=3)
        except BaseException:
            self.interrupted_ = True
            raise
        finally:
            self._publish(early_stopping)
            run.network = copy.copy(run.network)  # without the memory that it worked in
        return self

    def _prepare(
        self, X: Any, y: Any, sample_weight: Any, classes: Any, goes_on: bool, settings: Settings
    ) -> tuple[Rows, Rows | None]:
        """Begins a run, or goes on with one; the rows to learn from, and those held out."""
        rows = self._rows(X, y, sample_weight, goes_on, classes)
        network = self._network(rows.targets)
        if not goes_on:
            random = check_random_state(self.random_state)
            self._run = Run(network, self._first_weights(network, random), settings, random)
        learned, held_out = self._split(rows, self._run) if self.early_stopping else (rows, None)
        self._run.go_on_with(network, settings)
        self.diverged_at_, self.interrupted_ = None, False
        return learned.normalized(), None if held_out is None else held_out.normalized()

    def _rows(self, X: Any, y: Any, sample_weight: Any, goes_on: bool, classes: Any) -> Rows:
        """The data, checked, in our dtype; rows of weight 0 are left out."""
        dtype = self._dtype()
        X, y = validate_data(
            self,
            X,
            y,
            reset=not goes_on,
            accept_sparse="csr",
            dtype=dtype,
            order="C",
            multi_output=True,
            y_numeric=isinstance(self, RegressorMixin),
        )
        targets = self._targets(y, goes_on, classes)
        if sample_weight is None:
            return Rows(X, targets)
        weights = check_array(sample_weight, ensure_2d=False, dtype=np.float64, input_name="sample_weight")
        if weights.shape != targets.shape[:1]:
            raise ValueError(f"sample_weight.shape must be {targets.shape[:1]}, one for each row, got {weights.shape}")
        if weights.min() < 0:
            raise ValueError(f"sample_weight must not be negative, got {weights.min():g}")
        some = np.flatnonzero(weights)
        if not some.size:
            raise ValueError("sample_weight is zero for every row; at least one weight must be above zero")
        rows = Rows(X, targets, weights[:, np.newaxis])
        return rows if len(some) == len(rows) else rows.take(some)

    def _split(self, rows: Rows, run: Run) -> tuple[Rows, Rows]:
        """The rows to learn from, and those held out: the same ones in each training of a run."""
        classes = rows.targets.ravel() if isinstance(self, ClassifierMixin) else None
        try:
            learned, held_out = train_test_split(
                np.arange(len(rows)), test_size=self.validation_fraction, stratify=classes, random_state=run.split_seed
            )
        except ValueError as error:
            raise ValueError(
                f"early_stopping cannot hold out validation_fraction={self.validation_fraction:g} of {len(rows)} rows: "
                f"{error}"
            ) from None
        return rows.take(learned), rows.take(held_out)

    def _publish(self, best: bool) -> None:
        """Sets the weights to predict with."""
        run = self._run
        weights = run.best_weights if best and run.best_weights is not None else run.weights()
        self._set_weights({name: p.copy() for name, p in weights.items()})

    # ------------------------------------------------------------------ what was trained

    @property
    def optimizer_(self) -> Optimizer:
        """The optimizer as it stands, with the weights in training."""
        return self._run.optimizer

    @property
    def history_(self) -> History:
        """What was recorded of steps and epochs."""
        return self._run.history

    @property
    def n_iter_(self) -> int:
        """Epochs that were completed."""
        return len(self._run.history)

    @property
    def t_(self) -> int:
        """Rows that were learned from."""
        return self._run.rows_seen

    @property
    def loss_(self) -> float:
        """Mean loss of the last epoch; NaN where none was completed."""
        return self._run.history.last_loss

    # ------------------------------------------------------------------ predicting

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_run")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    def _scores(self, X: Any) -> np.ndarray:
        """The output of the last layer, of shape (rows, outputs)."""
        check_is_fitted(self)
        if self.diverged_at_ is not None:
            raise FloatingPointError(
                f"the training of this {type(self).__name__} turned non-finite at step {self.diverged_at_}, so it does "
                "not predict; lower lr and fit again. (To predict with the weights that were kept, set diverged_at_ = "
                "None)"
            )
        network = self._run.network
        X = validate_data(self, X, reset=False, accept_sparse="csr", dtype=network.dtype, order="C")
        return network.scores(self._layers(), X)


# ---------------------------------------------------------------------------- what is predicted


class Regressor(MultiOutputMixin, RegressorMixin, Estimator):
    """Predicts numbers, with half the squared error as loss, summed over outputs."""

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        """One epoch of these rows, on top of what was trained before.

        Parameters, returns and errors are those of :meth:`fit`.
        """
        return self._train(X, y, sample_weight, partial=True)

    def predict(self, X: Any) -> np.ndarray:
        """Numbers of shape (rows,), or (rows, outputs)."""
        scores = self._scores(X)
        return scores[:, 0] if scores.shape[1] == 1 else scores

    def _targets(self, y: np.ndarray, goes_on: bool, classes: Any) -> np.ndarray:
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        with np.errstate(over="ignore"):
            targets = np.ascontiguousarray(y.reshape(len(y), -1), self._dtype())
        if np.isinf(targets).any():
            raise ValueError(f"y contains a value too large for dtype={self.dtype!r}; scale y, or use dtype='float64'")
        return targets

    def _loss(self, targets: np.ndarray) -> tuple[str, int]:
        return "squared_error", targets.shape[1]


class Classifier(ClassifierMixin, Estimator):
    """Predicts classes and their probabilities, with the logistic loss of two, and the softmax loss of more."""

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Any:
        """One epoch of these rows, on top of what was trained before.

        Parameters
        ----------
        X, y, sample_weight :
            As for :meth:`fit`.
        classes : array
            All classes there will be; needed in the first call, unless y has them all.

        Returns
        -------
        self
        """
        return self._train(X, y, sample_weight, classes, partial=True)

    def decision_function(self, X: Any) -> np.ndarray:
        """Scores of shape (rows, classes); of two classes only that of the second, of shape (rows,)."""
        scores = self._scores(X)
        return scores[:, 0] if scores.shape[1] == 1 else scores

    def predict(self, X: Any) -> np.ndarray:
        """The class with the highest score for every row."""
        scores = self._scores(X)
        return self.classes_[(scores[:, 0] > 0).astype(int) if scores.shape[1] == 1 else scores.argmax(axis=1)]

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities of shape (rows, classes)."""
        scores = self._scores(X)
        return expit(np.hstack([-scores, scores])) if scores.shape[1] == 1 else softmax(scores, axis=1)

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """Their logarithms, also of probabilities that are too small for their dtype."""
        scores = self._scores(X)
        return log_expit(np.hstack([-scores, scores])) if scores.shape[1] == 1 else log_softmax(scores, axis=1)

    def _targets(self, y: np.ndarray, goes_on: bool, classes: Any) -> np.ndarray:
        y = column_or_1d(y, warn=True)
        given = None if classes is None else np.unique(classes)
        if goes_on:
            known = self.classes_
            if given is not None and not np.array_equal(given, known):
                raise ValueError(f"classes must be those of the first call, {known}, got {given}")
        else:
            check_classification_targets(y)
            known = np.unique(y) if given is None else given
            if len(known) < 2:
                raise ValueError(f"y must have at least two classes, got one class: {known[0]!r}")
        try:
            numbers = np.searchsorted(known, y)
        except TypeError:  # text and numbers have no order
            raise ValueError(f"y must have classes among those known, {known}, got values such as {y[0]!r}") from None
        unknown = known.take(numbers, mode="clip") != y
        if unknown.any():
            raise ValueError(f"y has the classes {np.unique(y[unknown])}, which are not among those known, {known}")
        self.classes_ = known
        return numbers[:, np.newaxis].astype(self._dtype()) if len(known) == 2 else numbers

    def _loss(self, targets: np.ndarray) -> tuple[str, int]:
        return ("logistic", 1) if len(self.classes_) == 2 else ("softmax", len(self.classes_))
