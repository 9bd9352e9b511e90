"""The estimators: what they promise beside the right answer, for which there is test_estimators_certified.py."""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import pickle
import signal
import subprocess
import sys
import tracemalloc
import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
from sklearn.exceptions import ConvergenceWarning, DataConversionWarning, NotFittedError
from sklearn.linear_model import SGDRegressor
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import scale
from sklearn.utils.estimator_checks import parametrize_with_checks
from support import bits

import optcore as oc
from optcore.estimators import LinearClassifier, LinearRegressor, MLPClassifier, MLPRegressor

LINEAR = [LinearRegressor, LinearClassifier]
MLPS = [MLPRegressor, MLPClassifier]
ALL = LINEAR + MLPS
REGRESSORS = [LinearRegressor, MLPRegressor]
DTYPES = ["float32", "float64"]


def problem(cls, rows=60, columns=5, classes=3, seed=0):
    """Data that an estimator can learn something from."""
    random = np.random.default_rng(seed)
    X = random.normal(size=(rows, columns))
    scores = X @ random.normal(size=(columns, classes)) + random.normal(size=(rows, classes)) / 2
    return X, scores[:, 0] if cls in REGRESSORS else scores.argmax(axis=1)


def make(cls, **parameters):
    """An estimator that learns quickly, in several batches."""
    hidden = {"hidden_layer_sizes": (4,), "activation": "tanh"} if cls in MLPS else {}
    return cls(**{"lr": 0.05, "batch_size": 16, "epochs": 3, "random_state": 0, **hidden, **parameters})


def weights(model):
    """The weights to predict with."""
    return [model.coef_, model.intercept_] if hasattr(model, "coef_") else [*model.coefs_, *model.intercepts_]


def predicted(model, X):
    """The bits of what it predicts; classes here are numbers."""
    return bits(model.predict(X).astype(float))


def all_bits(model):
    """Everything that was learned and recorded."""
    kept = [array for state in model.optimizer_.state.values() for array in state.values()]
    recorded = [np.asarray(a, float) for a in (*model.history_.steps.values(), *model.history_.epochs.values())]
    return [bits(array) for array in (*weights(model), *model.optimizer_.params.values(), *kept, *recorded)]


# ---------------------------------------------------------------------------- scikit-learn's own checks


@parametrize_with_checks(
    [
        *(cls() for cls in ALL),
        LinearRegressor(optimizer="nesterov", batch_size=None, l2=1e-3, clip_norm=1.0),
        LinearClassifier(optimizer="schedule_free_adamw", lr=0.05),
        LinearClassifier(optimizer=oc.Momentum, optimizer_params={"momentum": 0.5}, averaging=oc.EMA(0.9), lr=0.1),
        MLPRegressor((20, 10), ("tanh", "logistic"), optimizer="nadam", lr=oc.Cosine(0.02, steps=200)),
        MLPClassifier(20, "tanh", clip_norm=1.0, lr=oc.Plateau(0.01)),
    ]
)
def test_scikit_learn_checks(estimator, check):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # one check has columns near 100 that are not scaled
        check(estimator)


# ---------------------------------------------------------------------------- what is recorded


@pytest.mark.parametrize("cls", ALL)
def test_history_says_what_happened(cls):
    X, y = problem(cls)
    seen = []

    def look(model):
        seen.append((model.n_iter_, model.loss_, [p.copy() for p in weights(model)], predicted(model, X)))

    schedule = oc.Warmup(3, oc.Cosine(0.1, steps=12))
    model = make(cls, lr=schedule, batch_size=20, epochs=4, callbacks=[look]).fit(X, y)
    steps, epochs = model.history_.steps, model.history_.epochs
    assert {name: len(values) for name, values in steps.items()} == {"loss": 12, "lr": 12, "gradient_norm": 12}
    assert steps["lr"].tolist() == schedule(np.arange(12)).tolist()
    assert epochs["step"].tolist() == [3, 6, 9, 12]
    for name in ("lr", "gradient_norm"):
        assert epochs[name].tolist() == steps[name][2::3].tolist()
    np.testing.assert_allclose(epochs["loss"], steps["loss"].reshape(4, 3).mean(axis=1), rtol=1e-14)  # a rounding
    assert np.isnan(epochs["validation_loss"]).all()
    assert [n for n, *_ in seen] == [1, 2, 3, 4]
    assert [loss for _, loss, *_ in seen] == epochs["loss"].tolist()
    assert [bits(p) for p in seen[-1][2]] == [bits(p) for p in weights(model)]
    assert seen[-1][3] == predicted(model, X)
    assert seen[0][3] != seen[-1][3]
    assert repr(model.history_) == "<History of 12 steps in 4 epochs>"


def test_losses_and_norms_are_those_of_the_objective():
    """Of full batches, so that those of a step are those of all rows at the weights before."""
    X, y = problem(LinearRegressor)
    seen = [(np.zeros(5), 0.0)]
    model = make(LinearRegressor, batch_size=None, l2=0.2, epochs=5, clip_norm=0.5)
    model.set_params(callbacks=[lambda model: seen.append((model.coef_.copy(), model.intercept_[0]))]).fit(X, y)
    for (w, b), loss, norm in zip(
        seen, model.history_.steps["loss"], model.history_.steps["gradient_norm"], strict=False
    ):
        r = X @ w + b - y
        # A few roundings.
        assert loss == pytest.approx(np.mean(r**2) / 2 + 0.1 * w @ w, rel=1e-13)
        assert norm == pytest.approx(np.hypot(np.linalg.norm(X.T @ r / 60 + 0.2 * w), r.mean()), rel=1e-13)
    assert model.optimizer_.clip_norm == 0.5


@pytest.mark.parametrize("cls", ALL)
@pytest.mark.parametrize("name", ["schedule_free_sgd", "schedule_free_adamw", "ema", "polyak"])
def test_averages_predict(cls, name):
    X, y = problem(cls)
    averaging = {"ema": oc.EMA(0.8), "polyak": oc.Polyak()}.get(name)
    model = make(cls, optimizer="sgd" if averaging else name, averaging=averaging).fit(X, y)
    average, trained = model.optimizer_.averaged(), model.optimizer_.params
    if cls in LINEAR:
        found = {"coef_0": model.coef_.reshape(-1, 5).T, "intercept_0": model.intercept_}
    else:
        found = {f"{kind}_{i}": p for kind in ("coef", "intercept") for i, p in enumerate(getattr(model, f"{kind}s_"))}
    assert found.keys() == average.keys()
    for name, p in found.items():
        assert bits(p) == bits(average[name])
        assert bits(p) != bits(trained[name])


# ---------------------------------------------------------------------------- when it ends


@pytest.mark.parametrize("averaging", [None, oc.EMA(0.5)])
@pytest.mark.parametrize("cls", ALL)
def test_early_stopping_keeps_the_best(cls, averaging):
    X, y = problem(cls, rows=40)
    snapshots = []
    model = make(
        cls, lr=0.3, epochs=200, early_stopping=True, validation_fraction=0.25, patience=4, averaging=averaging
    )
    model.set_params(callbacks=[lambda m: snapshots.append([bits(p) for p in weights(m)])]).fit(X, y)
    losses = model.history_.epochs["validation_loss"]
    best = int(losses.argmin())
    assert model.n_iter_ == len(losses) == best + 1 + 5  # four worse ones are put up with
    assert [bits(p) for p in weights(model)] == snapshots[best]
    # The rows that were held out, and their loss, independently.
    stratify = None if cls in REGRESSORS else y
    held_out = train_test_split(np.arange(40), test_size=0.25, stratify=stratify, random_state=model._run.split_seed)[1]
    assert model.t_ == model.n_iter_ * 30
    if cls in REGRESSORS:
        expected = np.mean((model.predict(X[held_out]) - y[held_out]) ** 2) / 2
    else:
        expected = -np.mean(model.predict_log_proba(X[held_out])[np.arange(10), y[held_out]])
    assert losses[best] == pytest.approx(expected, rel=1e-12)  # summed in another order


def test_tol_watches_the_training_loss():
    X, y = problem(LinearRegressor)
    model = make(LinearRegressor, batch_size=None, epochs=500, lr=0.1, tol=1e-3, patience=2).fit(X, y)
    losses = model.history_.epochs["loss"]
    assert model.n_iter_ == len(losses) < 500
    better = losses < np.minimum.accumulate(np.append(np.inf, losses[:-1])) - 1e-3
    assert better[-4]
    assert not better[-3:].any()
    assert make(LinearRegressor, batch_size=None, epochs=500, lr=0.1).fit(X, y).n_iter_ == 500


def test_a_training_that_goes_on_has_patience_again():
    X, y = problem(LinearRegressor)
    model = make(LinearRegressor, batch_size=None, lr=0.0, epochs=50, tol=0.0, patience=3, warm_start=True).fit(X, y)
    assert model.n_iter_ == 5  # the first, and four that are no better
    assert model.fit(X, y).n_iter_ == 5 + 4


def test_callbacks_end_the_training():
    X, y = problem(LinearRegressor)
    model = make(LinearRegressor, epochs=50, callbacks=[lambda m: m.n_iter_ == 7, lambda m: m.score(X, y)]).fit(X, y)
    assert model.n_iter_ == 7


@pytest.mark.parametrize("cls", ALL)
def test_an_interrupt_keeps_what_was_trained(cls):
    X, y = problem(cls)

    def interrupt(t):
        if t == 10:
            signal.raise_signal(signal.SIGINT)
        return 0.05

    model = make(cls, lr=interrupt, epochs=100)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, y)
    assert model.interrupted_
    assert model.diverged_at_ is None
    assert (model.n_iter_, model.t_) == (2, 150)
    expected = make(cls, lr=lambda t: 0.05 if t < 10 else 0.0, epochs=3).fit(X, y)
    assert model.optimizer_.t == len(model.history_.steps["loss"]) == 10
    assert {len(values) for values in model.history_.epochs.values()} == {2}
    assert predicted(model, X) == predicted(expected, X)
    assert not model.set_params(lr=0.05, warm_start=True, epochs=1).fit(X, y).interrupted_


def test_an_error_in_a_callback_keeps_what_was_trained():
    X, y = problem(LinearRegressor)

    def fail(model):
        if model.n_iter_ == 2:
            raise OSError("disk full")

    model = make(LinearRegressor, callbacks=[fail])
    with pytest.raises(OSError, match="disk full"):
        model.fit(X, y)
    assert model.interrupted_
    assert bits(model.coef_) == bits(make(LinearRegressor, epochs=2).fit(X, y).coef_)


# ---------------------------------------------------------------------------- what turns non-finite


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cls", ALL)
def test_a_run_that_diverges_says_where_and_keeps_finite_weights(cls, dtype):
    X, y = problem(cls)
    # Softmax has a bounded gradient, so that the weights have to overflow themselves.
    model = make(cls, optimizer="sgd", lr=1e38 if dtype == "float32" else 1e308, dtype=dtype)
    if cls in MLPS:
        model.set_params(activation="relu")
    with pytest.warns(ConvergenceWarning) as caught:
        model.fit(1e3 * X, y)
    (warning,) = caught
    step = model.diverged_at_
    assert f"{cls.__name__} stopped: at step {step} " in str(warning.message)
    assert "Lower lr, set clip_norm, or standardise" in str(warning.message)
    assert 1 <= step <= model.history_.step_count + 1
    for p in (*weights(model), *model.optimizer_.params.values()):
        assert np.isfinite(p).all()
    for values in (*model.history_.steps.values(), model.history_.epochs["loss"]):
        assert np.isfinite(values).all()
    for method in ("predict", "decision_function", "predict_proba", "predict_log_proba"):
        if hasattr(model, method):
            with pytest.raises(FloatingPointError, match=f"turned non-finite at step {step}"):
                getattr(model, method)(X)
    with pytest.raises(FloatingPointError):
        model.score(X, y)
    model = pickle.loads(pickle.dumps(model)).set_params(lr=1e-3, epochs=2).fit(X, y)
    assert model.diverged_at_ is None
    assert np.isfinite(model.score(X, y))


def test_weights_before_the_step_are_kept():
    """The squared error grows at every step, so the step where it overflows can be told."""
    X, y = np.array([[1.0], [-1.0]]), np.array([1.0, -1.0])
    model = LinearRegressor(optimizer="sgd", lr=11.0, batch_size=None, epochs=1000, fit_intercept=False)
    with pytest.warns(ConvergenceWarning, match="with lr = 11"):
        model.fit(X, y)
    w, expected = 0.0, []  # w - 1 grows tenfold
    while math.isfinite(2 * (w - 1) * (w - 1)):
        expected.append(w)
        w -= 11.0 * (w - 1)
    assert model.diverged_at_ == len(expected) + 1
    assert model.optimizer_.t == len(expected)
    assert model.coef_[0] == pytest.approx(w, rel=1e-10)  # of 154 digits; rounded in another order
    assert len(model.history_.epochs["loss"]) == len(expected)
    with pytest.raises(FloatingPointError, match="set diverged_at_ = None"):
        model.predict(X)
    model.diverged_at_ = None
    assert model.predict(X).tolist() == (X * model.coef_).ravel().tolist()


def test_early_stopping_keeps_the_best_of_what_diverged():
    X, y = problem(LinearRegressor)
    seen = []
    model = make(LinearRegressor, optimizer="sgd", lr=lambda t: 0.1 if t < 20 else 1e200, epochs=99, patience=99)
    model.set_params(early_stopping=True, callbacks=[lambda m: seen.append((bits(m.coef_), m.predict(X)))])
    with pytest.warns(ConvergenceWarning, match=r"The best weights are kept, but it does not predict"):
        model.fit(X, y)
    coef, predictions = seen[int(model.history_.epochs["validation_loss"].argmin())]
    assert bits(model.coef_) == coef
    with pytest.warns(ConvergenceWarning, match=r"The last finite weights are kept"):  # there is no best epoch yet
        clone(model).set_params(lr=1e200).fit(X, y)
    with pytest.raises(FloatingPointError):
        model.predict(X)
    model.diverged_at_ = None
    assert model.predict(X).tolist() == predictions.tolist()


@pytest.mark.parametrize("cls", ALL)
def test_a_warning_names_the_line_of_the_caller(cls):
    X, y = problem(cls)
    model = make(cls, optimizer="sgd", lr=1e308)
    for fit in (model.fit, model.partial_fit):
        with pytest.warns(ConvergenceWarning) as caught:
            fit(1e3 * X, y)
        assert [warning.filename for warning in caught] == [__file__]


@pytest.mark.parametrize("averaging", [None, oc.EMA(0.5), oc.Polyak()])
def test_weights_that_overflow_are_those_of_the_epochs_beginning(averaging):
    X, y = np.array([[1.0], [-1.0], [1.0]]), np.array([1e150, 1e150, 1e150])

    def lr(t):
        return 1e-3 if t < 4 else 1e200

    model = LinearRegressor(optimizer="sgd", lr=lr, batch_size=1, epochs=9, shuffle=False, averaging=averaging)
    with pytest.warns(ConvergenceWarning, match="at step 6"):
        model.fit(X, y)
    expected = clone(model).set_params(epochs=1).fit(X, y)
    assert bits(model.optimizer_.params["coef_0"]) == bits(expected.optimizer_.params["coef_0"])
    assert model.optimizer_.t == 0
    assert bits(model.coef_) == bits(model.optimizer_.params["coef_0"])
    model.set_params(lr=1e-3).partial_fit(X, y)
    assert model.diverged_at_ is None


def test_a_gradient_that_overflows():
    """A float32 whose square is infinite, where the loss is not."""
    X, y = np.array([[1e20], [-1e20]]), np.array([1e15, 2e15])
    model = LinearRegressor(dtype="float32", averaging=oc.Polyak())
    with pytest.warns(ConvergenceWarning, match=r"at step 1 the gradient overflowed, with lr = 0\.01"):
        model.fit(X, y)
    assert model.coef_.tolist() == [0.0]
    assert model.history_.step_count == model.n_iter_ == 0
    assert np.isnan(model.loss_)


@pytest.mark.parametrize(
    "scoring", [None, "neg_mean_squared_error", ["r2", "neg_max_error"], lambda model, X, y: model.predict(X).mean()]
)
def test_searches_count_what_diverged_as_failed(scoring):
    X, y = problem(LinearRegressor)
    grid = {"lr": [1e-2, 1e200], "optimizer": ["sgd", "gradient_scaled"]}
    model = LinearRegressor(epochs=30, batch_size=None)
    for error_score in (np.nan, -7.0):
        refit = "r2" if isinstance(scoring, list) else True
        search = GridSearchCV(model, grid, scoring=scoring, error_score=error_score, cv=3, refit=refit)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            search.fit(X, y)
        assert sum(warning.category is ConvergenceWarning for warning in caught) == 6
        assert any("turned non-finite at step" in str(warning.message) for warning in caught)
        assert search.best_params_["lr"] == 1e-2
        names = scoring if isinstance(scoring, list) else ["score"]
        failed = search.cv_results_["param_lr"] == 1e200
        for name, split in itertools.product(names, range(3)):
            scores = search.cv_results_[f"split{split}_test_{name}"]
            np.testing.assert_array_equal(scores[failed.astype(bool)], [error_score] * 2)
            assert np.isfinite(scores[~failed.astype(bool)]).all()
    with pytest.warns(ConvergenceWarning), pytest.raises(FloatingPointError):
        GridSearchCV(model, grid, scoring=scoring, error_score="raise", cv=3, refit=False).fit(X, y)


# ---------------------------------------------------------------------------- parameters


def test_searches_vary_everything():
    X, y = load_breast_cancer(return_X_y=True)
    grid = {
        "linearclassifier__optimizer": ["momentum", oc.Nesterov],
        "linearclassifier__optimizer_params": [None, {"momentum": 0.5, "dampening": 0.1}],
        "linearclassifier__lr": [0.1, oc.Cosine(0.5, steps=9)],
        "linearclassifier__averaging": [None, oc.EMA(0.9)],
        "linearclassifier__dtype": ["float32", np.float64],
    }
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), make(LinearClassifier, batch_size=None, epochs=9))
    search = GridSearchCV(model, grid, cv=2, error_score="raise").fit(X, y)
    assert len(set(search.cv_results_["mean_test_score"])) > 4
    assert (search.cv_results_["mean_test_score"] > 0.9).all()
    assert (
        clone(search.best_estimator_).get_params()["linearclassifier__lr"]
        == search.best_params_["linearclassifier__lr"]
    )


BAD = [
    ({"epochs": 0}, ValueError, "epochs must be from 1"),
    ({"epochs": 2.0}, TypeError, "epochs must be an integer"),
    ({"batch_size": 0}, ValueError, "batch_size must be from 1"),
    ({"batch_size": "auto"}, TypeError, "batch_size must be an integer"),
    ({"l2": -1.0}, ValueError, "l2 must be a finite number >= 0"),
    ({"lr": -1.0}, ValueError, "lr must be a finite number >= 0"),
    ({"lr": "fast"}, TypeError, "lr must be"),
    ({"optimizer": "sgd", "lr": None}, ValueError, "lr must be given: SGD has no default"),
    ({"optimizer": "adm"}, ValueError, "optimizer must be a name of the catalogue, got 'adm'; did you mean 'adam'?"),
    ({"optimizer": 3}, TypeError, "optimizer must be a name of the catalogue or a class"),
    ({"optimizer": oc.Adam(np.zeros(1))}, TypeError, "pass the class"),
    ({"optimizer": oc.Optimizer}, TypeError, "optimizer must be a name of the catalogue or a class"),
    ({"optimizer_params": {"beta": 1}}, TypeError, "unknown keyword 'beta'; did you mean 'betas'?"),
    ({"optimizer_params": {"lr": 1.0}}, ValueError, "lr is a parameter of"),
    ({"optimizer_params": 3}, TypeError, "optimizer_params must be a mapping"),
    ({"clip_norm": 0.0}, ValueError, "clip_norm must be a number > 0"),
    ({"averaging": "ema"}, TypeError, "averaging must be optcore.EMA(...)"),
    ({"optimizer": "schedule_free_sgd", "averaging": oc.EMA()}, TypeError, "takes no averaging"),
    ({"shuffle": "yes"}, TypeError, "shuffle must be True or False"),
    ({"early_stopping": 1}, TypeError, "early_stopping must be True or False"),
    ({"warm_start": None}, TypeError, "warm_start must be True or False"),
    ({"validation_fraction": 1.0}, ValueError, "validation_fraction must be above 0 and below 1"),
    ({"early_stopping": True, "validation_fraction": 0.999}, ValueError, "cannot hold out validation_fraction=0.999"),
    ({"patience": -1}, ValueError, "patience must be from 0"),
    ({"tol": -1e-3}, ValueError, "tol must be a finite number >= 0"),
    ({"random_state": "x"}, ValueError, "cannot be used to seed"),
    ({"dtype": "float16"}, ValueError, "dtype must be 'float64' or 'float32', got 'float16'"),
    ({"dtype": None}, ValueError, "dtype must be"),
    ({"verbose": "loud"}, TypeError, "verbose must be"),
    ({"callbacks": print}, TypeError, "callbacks must be a list of functions"),
    ({"callbacks": [3]}, TypeError, "callbacks must be a list of functions"),
]
BAD_LINEAR = [({"fit_intercept": 1}, TypeError, "fit_intercept must be True or False")]
BAD_MLP = [
    ({"hidden_layer_sizes": (3, 0)}, ValueError, "hidden_layer_sizes must be from 1"),
    ({"hidden_layer_sizes": 2.5}, TypeError, "hidden_layer_sizes must be an integer"),
    ({"activation": "sigmoid"}, ValueError, "activation must be one of 'identity', 'logistic', 'tanh', 'relu'"),
    ({"activation": ("tanh", "relu")}, ValueError, "one for each of 1 hidden layers"),
]


@pytest.mark.parametrize(
    ("cls", "parameters", "error", "message"),
    [
        (cls, *case)
        for cls in ALL
        for case in BAD + (BAD_LINEAR if cls in LINEAR else BAD_MLP)
    ],
)  # fmt: skip
def test_bad_parameters_are_named_and_nothing_is_lost(cls, parameters, error, message):
    X, y = problem(cls)
    model = make(cls).fit(X, y)
    before = all_bits(model)
    model.set_params(**parameters)  # only fit looks at them
    with pytest.raises(error) as caught:
        model.fit(np.hstack([X, X]), y)
    assert message in str(caught.value)
    assert all_bits(model) == before
    assert predicted(model, X) == predicted(make(cls).fit(X, y), X)


@pytest.mark.parametrize(
    "refused",
    [
        {"optimizer_params": {"beta": 1}},
        {"early_stopping": True, "optimizer_params": {"beta": 1}},
        {"early_stopping": True, "validation_fraction": 0.999},
        {"early_stopping": True, "dtype": "float32"},
    ],
    ids=str,
)
@pytest.mark.parametrize("cls", ALL)
def test_what_was_refused_leaves_no_trace(cls, refused):
    """Neither in the random numbers nor in the optimizer, with which a later training goes on."""
    X, y = problem(cls)
    model, expected = (make(cls, warm_start=True).fit(X, y) for _ in range(2))
    before = model.get_params()
    with pytest.raises((TypeError, ValueError)):
        model.set_params(**refused).fit(X, y)
    assert all_bits(model.set_params(**before).fit(X, y)) == all_bits(expected.fit(X, y))
    assert model.optimizer_.t == 24


@pytest.mark.parametrize("cls", ALL)
def test_bad_data_is_named_and_nothing_is_lost(cls):
    X, y = problem(cls)
    model = make(cls, warm_start=True).fit(X, y)
    before = all_bits(model)
    for given, message in [
        ((X, y, -np.ones(60)), "sample_weight must not be negative"),
        ((X, y, np.zeros(60)), "sample_weight is zero for every row"),
        ((X, y, np.ones((60, 1))), "sample_weight.shape must be (60,)"),
        ((X, y, np.full(60, np.nan)), "sample_weight contains NaN"),
        ((X[:, :4], y), "X has 4 features"),
        ((np.where(X > 0, np.nan, X), y), "X contains NaN"),
        ((X, y[:9]), "inconsistent numbers of samples"),
    ]:
        with pytest.raises(ValueError) as caught:
            model.fit(*given)
        assert message in str(caught.value)
        assert all_bits(model) == before
    if cls in REGRESSORS:
        with pytest.raises(ValueError, match="y contains a value too large for dtype='float32'"):
            make(cls, dtype="float32").fit(X, 1e39 * y)
    changed = {"dtype": "float32"}
    with pytest.raises(ValueError, match=r"what was trained is Network\("):
        model.set_params(**changed).fit(X, y)
    assert all_bits(model) == before
    with pytest.raises(NotFittedError):
        make(cls).predict(X)
    with pytest.raises(AttributeError):
        make(cls).history_  # noqa: B018
    with pytest.raises(ValueError, match="early_stopping must be False for partial_fit"):
        make(cls, early_stopping=True).partial_fit(X, y)


# ---------------------------------------------------------------------------- targets


@pytest.mark.parametrize("cls", REGRESSORS)
def test_several_outputs(cls):
    X, _ = problem(cls)
    Y = X @ np.random.default_rng(4).normal(size=(5, 3))
    model = make(cls, batch_size=None, epochs=400, hidden_layer_sizes=8) if cls in MLPS else make(cls, epochs=400)
    model.fit(X, Y)
    assert model.predict(X).shape == Y.shape
    assert model.score(X, Y) > 0.99
    with pytest.warns(DataConversionWarning):
        column = make(cls).fit(X, Y[:, :1])
    assert all_bits(column) == all_bits(make(cls).fit(X, Y[:, 0]))
    if cls is LinearRegressor:
        assert (model.coef_.shape, model.intercept_.shape) == ((3, 5), (3,))
        assert (column.coef_.shape, column.intercept_.shape) == ((5,), (1,))
        # The outputs of a linear model do not know of each other.
        alone = [make(cls, optimizer="sgd").fit(X, Y[:, k]).coef_ for k in range(3)]
        np.testing.assert_allclose(make(cls, optimizer="sgd").fit(X, Y).coef_, alone, rtol=1e-12)  # another BLAS path
    with pytest.raises(ValueError, match="what was trained is Network"):
        model.partial_fit(X, Y[:, 0])


@pytest.mark.parametrize("cls", [LinearClassifier, MLPClassifier])
@pytest.mark.parametrize("names", [["b", "a"], ["cat", "ant", "bee"], [3.0, -1.0], [True, False]], ids=str)
def test_classes_of_any_kind(cls, names):
    X, y = problem(cls, classes=len(names))
    y = np.array(names)[y]
    model = make(cls, epochs=100).fit(X, y)
    assert model.classes_.tolist() == sorted(names)
    assert model.score(X, y) > 0.8
    probability = model.predict_proba(X)
    assert probability.shape == (60, len(names))
    np.testing.assert_allclose(probability.sum(axis=1), 1.0, rtol=1e-14)  # a few roundings
    np.testing.assert_allclose(np.log(probability), model.predict_log_proba(X), rtol=1e-9, atol=1e-15)
    assert (model.classes_[probability.argmax(axis=1)] == model.predict(X)).all()
    assert model.decision_function(X).shape == ((60,) if len(names) == 2 else (60, len(names)))
    if cls is LinearClassifier:
        rows = 1 if len(names) == 2 else len(names)
        assert (model.coef_.shape, model.intercept_.shape) == ((rows, 5), (rows,))
        np.testing.assert_allclose(X @ model.coef_.T + model.intercept_, model._scores(X), rtol=1e-13)  # another order


@pytest.mark.parametrize("cls", [LinearClassifier, MLPClassifier])
def test_classes_of_partial_fit(cls):
    X, y = problem(cls)
    whole = make(cls).partial_fit(X, y)
    parts = make(cls)
    parts.partial_fit(X[y != 2], y[y != 2], classes=[2, 0, 1]).partial_fit(X[y == 2], y[y == 2], [0, 1, 2])
    assert parts.classes_.tolist() == [0, 1, 2] == whole.classes_.tolist()
    for given, message in [
        (([7] * 60, None), "y has the classes [7]"),
        ((["0"] * 60, None), "y has the classes ['0']"),
        ((np.full(60, "0", object), None), "among those known, [0 1 2], got values such as '0'"),
        ((y, [0, 1]), "classes must be those of the first call, [0 1 2], got [0 1]"),
    ]:
        with pytest.raises(ValueError) as caught:
            parts.partial_fit(X, given[0], classes=given[1])
        assert message in str(caught.value)
    with pytest.raises(ValueError, match="at least two classes, got one class"):
        make(cls).fit(X, np.zeros(60))
    with pytest.raises(ValueError, match="Unknown label type"):
        make(cls).fit(X, X[:, 0])


def test_no_intercept():
    X, y = problem(LinearRegressor)
    model = make(LinearRegressor, fit_intercept=False, optimizer="sgd").fit(X, y)
    assert model.intercept_.tolist() == [0.0]
    assert list(model.optimizer_.params) == ["coef_0"]
    expected = SGDRegressor(penalty=None, fit_intercept=False, learning_rate="constant", eta0=0.05, shuffle=False)
    expected.set_params(max_iter=3, tol=None).fit(X, y)
    model.set_params(batch_size=1, shuffle=False).fit(X, y)
    np.testing.assert_allclose(model.coef_, expected.coef_, rtol=1e-10)  # summed in another order


# ---------------------------------------------------------------------------- every optimizer learns


@pytest.mark.parametrize("name", oc.CATALOGUE)
@pytest.mark.parametrize("cls", ALL)
def test_every_optimizer_learns(cls, name):
    """With its own default learning rate, or a common one, it gets nearer to the data in a few epochs."""
    X, y = load_diabetes(return_X_y=True) if cls in REGRESSORS else load_digits(n_class=3, return_X_y=True)
    X, y = scale(X), scale(y) if cls in REGRESSORS else y
    needs = "lr" not in (oc.CATALOGUE[name].__init__.__kwdefaults__ or {})
    batch = None if name == "rprop" else 32
    model = make(cls, optimizer=name, lr=0.01 if needs else None, batch_size=batch, epochs=20).fit(X, y)
    assert model.loss_ < model.history_.epochs["loss"][0]


def test_memory_is_given_back():
    X, y = problem(MLPRegressor, rows=5000)
    model = MLPRegressor((100,), batch_size=None, epochs=1).fit(X[:9], y[:9])  # what is imported late, is
    tracemalloc.start()
    try:
        model.fit(X, y)
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak > 8 * 5000 * 100  # the output of the hidden layer
    assert kept < 100_000  # 701 weights, each a few times


def test_the_face_of_the_module():
    text = "import sys; sys.modules[{!r}] = None\nimport optcore.estimators"
    for missing, name in [("sklearn", "sklearn"), ("threadpoolctl", "threadpoolctl")]:
        run = subprocess.run([sys.executable, "-c", text.format(missing)], capture_output=True, text=True, check=False)
        assert f"ModuleNotFoundError: optcore.estimators needs {name}" in run.stderr
        assert 'pip install "optcore[sklearn]"' in run.stderr
    quiet = "import sys, optcore; assert not any(m in sys.modules for m in ('sklearn', 'scipy', 'tqdm'))"
    subprocess.run([sys.executable, "-c", quiet], check=True)


def test_progress_is_for_people(capfd):
    X, y = problem(LinearRegressor)
    make(LinearRegressor, verbose=True, epochs=30).fit(X, y)
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs a pseudo-terminal")
def test_progress_shows_the_loss():
    import termios  # where there are pseudo-terminals

    ours, theirs = os.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    text = (
        "import numpy as np\nfrom optcore.estimators import LinearRegressor\n"
        "LinearRegressor(verbose=True, epochs=30).fit(np.eye(3), np.ones(3))"
    )
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        subprocess.run([sys.executable, "-c", text], stderr=theirs, check=True)
        os.close(theirs)
        shown = b""
        with contextlib.suppress(OSError):  # how Linux says that the other end was closed
            while part := terminal.read(1000):
                shown += part
    assert b"30/30" in shown
    assert b"loss=" in shown
