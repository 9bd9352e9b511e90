"""What gives the same bits: the same seed, a training that went on, rows left out, steps of the columns in use."""

from __future__ import annotations

import copy
import math
import pickle

import joblib
import numpy as np
import pytest
from scipy import sparse
from sklearn.base import clone
from support import FORM_IDS, FORMS, bits
from test_estimators import ALL, DTYPES, LINEAR, REGRESSORS, all_bits, make, predicted, problem, weights
from threadpoolctl import threadpool_limits

import optcore as oc
from optcore.estimators import LinearClassifier, LinearRegressor, MLPRegressor
from optcore.networks import Network, Rows, batches
from optcore.training import Run

# ---------------------------------------------------------------------------- the same bits


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cls", ALL)
def test_same_seed_same_bits(cls, dtype):
    X, y = problem(cls)
    model = make(cls, dtype=dtype).fit(X, y)
    assert all_bits(model) == all_bits(make(cls, dtype=dtype).fit(X, y))
    assert all_bits(model) != all_bits(make(cls, dtype=dtype, random_state=1).fit(X, y))
    assert all_bits(model) != all_bits(make(cls, dtype=dtype, shuffle=False).fit(X, y))
    assert {p.dtype.name for p in weights(model)} == {dtype}
    if cls in REGRESSORS:
        assert model.predict(X).dtype == dtype
    else:
        assert model.predict_proba(X).dtype == dtype


@pytest.mark.parametrize("cls", ALL)
def test_numpy_scalars_are_numbers(cls):
    """Grids are made by np.logspace, and float32 times float64 is no float32."""
    X, y = problem(cls)
    numbers = {"l2": 0.1, "lr": 0.05, "clip_norm": 9.0}
    model = make(cls, optimizer="sgd", dtype="float32", **numbers)
    expected = all_bits(model.fit(X, y))
    assert all_bits(model.set_params(**{k: np.float64(v) for k, v in numbers.items()}).fit(X, y)) == expected


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cls", LINEAR)
def test_linear_models_do_not_depend_on_blas_threads(cls, dtype):
    X, y = problem(cls, rows=20_000, columns=40)
    found = []
    for threads in (1, 2):
        with threadpool_limits(threads, "blas"):
            found.append(all_bits(make(cls, dtype=dtype, batch_size=None).fit(X, y)))
    assert found[0] == found[1]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cls", ALL)
def test_the_order_in_memory_does_not_matter(cls, dtype):
    X, y = problem(cls, rows=300, columns=40)
    expected = all_bits(make(cls, dtype=dtype, batch_size=None).fit(X, y))
    for given in (np.asfortranarray(X), np.hstack([X, X])[:, :40], X[::-1].copy()[::-1]):
        assert all_bits(make(cls, dtype=dtype, batch_size=None).fit(given, y)) == expected


AVERAGED = [
    pytest.param(name, form, averaging, id=f"{test_id}-{averaging}")
    for (name, form), test_id in zip(FORMS, FORM_IDS, strict=True)
    for averaging in (None, oc.EMA(0.9), oc.Polyak())
    if averaging is None or "averaging" in oc.CATALOGUE[name]._keywords()
]


@pytest.mark.parametrize(("name", "form", "averaging"), AVERAGED)
def test_what_goes_on_goes_on_exactly(name, form, averaging):
    X, y = problem(LinearClassifier)
    whole = make(LinearClassifier, optimizer=name, optimizer_params=form, averaging=averaging, epochs=5).fit(X, y)
    parts = clone(whole)
    for _ in range(5):
        parts = pickle.loads(pickle.dumps(parts.partial_fit(X, y)))
    warm = clone(whole).set_params(epochs=3, warm_start=True).fit(X, y)
    warm = copy.deepcopy(warm).set_params(epochs=2).fit(X, y)
    assert all_bits(whole) == all_bits(parts) == all_bits(warm)
    assert (whole.n_iter_, whole.t_, whole.loss_) == (parts.n_iter_, parts.t_, parts.loss_) == (5, 300, warm.loss_)
    assert whole.optimizer_.t == 20


@pytest.mark.parametrize("cls", ALL)
def test_early_stopping_goes_on_exactly(cls):
    X, y = problem(cls)
    whole = make(cls, early_stopping=True, epochs=5).fit(X, y)
    warm = make(cls, early_stopping=True, epochs=3, warm_start=True).fit(X, y)
    warm = pickle.loads(pickle.dumps(warm)).set_params(epochs=2).fit(X, y)
    assert all_bits(whole) == all_bits(warm)


def test_fit_begins_again():
    X, y = problem(LinearRegressor)
    model = make(LinearRegressor).fit(X, y)
    expected = all_bits(model)
    assert all_bits(model.partial_fit(X, y)) != expected
    assert all_bits(model.fit(X, y)) == expected


def test_what_changes_between_trainings():
    X, y = problem(LinearRegressor)
    model = make(LinearRegressor, warm_start=True, lr=0.5).fit(X, y)
    optimizer = model.optimizer_
    model.set_params(lr=oc.Constant(0.25), l2=0.1).fit(X, y)
    assert model.optimizer_ is optimizer
    assert model.history_.steps["lr"].tolist() == [0.5] * 12 + [0.25] * 12
    before = model.coef_.copy()
    model.set_params(optimizer="sgd", lr=0.0).fit(X, y)
    assert isinstance(model.optimizer_, oc.SGD)
    assert model.optimizer_.t == 12
    assert bits(model.coef_) == bits(before)
    model.set_params(clip_norm=1.0).fit(X, y)
    assert model.optimizer_.clip_norm == 1.0
    assert model.n_iter_ == 12


def test_plateau_is_left_as_it_was():
    plateau = oc.Plateau(1e-9, factor=0.5, patience=0)
    X, y = problem(LinearRegressor)
    model = make(LinearRegressor, lr=plateau, epochs=4).fit(X, y)
    # Nothing moves, so every epoch but the first is no better.
    assert model.history_.steps["lr"].tolist() == np.repeat([1e-9, 1e-9, 5e-10, 2.5e-10], 4).tolist()
    assert plateau == oc.Plateau(1e-9, factor=0.5, patience=0)
    warm = make(LinearRegressor, lr=plateau, epochs=2, warm_start=True).fit(X, y).fit(X, y)
    assert all_bits(warm) == all_bits(model)


def test_memory_mapped_models_predict_and_go_on(tmp_path):
    X, y = problem(MLPRegressor)
    model = make(MLPRegressor).fit(X, y)
    joblib.dump(model, tmp_path / "model.joblib")
    mapped = joblib.load(tmp_path / "model.joblib", mmap_mode="r")
    assert predicted(mapped, X) == predicted(model, X)
    assert all_bits(mapped.partial_fit(X, y)) == all_bits(model.partial_fit(X, y))


# ---------------------------------------------------------------------------- batches


@pytest.mark.parametrize("columns", [3, 70_000])  # gathered together, and one by one
@pytest.mark.parametrize("size", [1, 4, 20, 21, 100, None])
def test_batches_deal_every_row_once(size, columns):
    rows = Rows(np.arange(21.0)[:, np.newaxis] + np.zeros(columns), np.arange(21), np.arange(21.0)[:, np.newaxis])
    for random in (None, np.random.RandomState(0)):
        dealt = list(batches(rows, size, random))
        sizes = [len(batch) for batch in dealt]
        assert len(sizes) == math.ceil(21 / (size or 21))
        assert max(sizes) - min(sizes) <= 1
        assert max(sizes) <= (size or 21)
        order = np.concatenate([batch.targets for batch in dealt])
        assert sorted(order) == list(range(21))
        assert (order == np.arange(21)).all() == (random is None or len(sizes) == 1)
        for batch in dealt:
            assert (batch.x[:, -1] == batch.targets).all()
            assert (batch.weights[:, 0] == batch.targets).all()


# ---------------------------------------------------------------------------- weights of samples


@pytest.mark.parametrize("cls", ALL)
def test_rows_of_weight_zero_are_left_out(cls):
    X, y = problem(cls)
    weight = np.random.default_rng(3).uniform(0.5, 2, size=len(y)) * (np.arange(len(y)) % 3 > 0)
    some = weight > 0
    assert all_bits(make(cls).fit(X, y, weight)) == all_bits(make(cls).fit(X[some], y[some], weight[some]))


@pytest.mark.parametrize("cls", ALL)
def test_only_ratios_of_weights_matter(cls):
    X, y = problem(cls)
    model = make(cls).fit(X, y)
    assert all_bits(model) == all_bits(make(cls).fit(X, y, np.ones(len(y))))
    weight = np.random.default_rng(3).uniform(0.5, 2, size=len(y))
    assert all_bits(make(cls).fit(X, y, weight)) == all_bits(make(cls).fit(X, y, 4 * weight))
    assert all_bits(model) != all_bits(make(cls).fit(X, y, weight))


@pytest.mark.parametrize("weight", [1e-300, 1e308])  # neither is a float32, and the sum of the latter is infinite
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cls", ALL)
def test_weights_of_any_size(cls, dtype, weight):
    X, y = problem(cls)
    expected = make(cls, dtype=dtype).fit(X, y)
    assert all_bits(make(cls, dtype=dtype).fit(X, y, np.full(len(y), weight))) == all_bits(expected)


@pytest.mark.parametrize("cls", ALL)
def test_a_weight_of_two_is_a_row_repeated(cls):
    X, y = problem(cls)
    times = np.random.default_rng(3).integers(1, 4, size=len(y))
    repeated = make(cls, batch_size=None, optimizer="sgd").fit(X.repeat(times, axis=0), y.repeat(times))
    weighted = make(cls, batch_size=None, optimizer="sgd").fit(X, y, times)
    for a, b in zip(weights(weighted), weights(repeated), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)  # summed in another order


# ---------------------------------------------------------------------------- sparse rows


def sparse_problem(rows=40, columns=20_000, seed=0):
    """Few entries in many columns, some of them explicit zeros."""
    random = np.random.default_rng(seed)
    places = random.choice(columns, size=30, replace=False)  # most of them in use by several rows
    X = np.zeros((rows, columns))
    X[:, places] = random.normal(size=(rows, 30)) * (random.random((rows, 30)) < 0.15)
    X = sparse.csr_array(X)
    X.data[::7] = 0.0
    return X, random.normal(size=rows)


@pytest.mark.parametrize("cls", ALL)
def test_sparse_is_dense(cls):
    X, y = sparse_problem()
    y = y if cls in REGRESSORS else (y > 0).astype(int)
    expected = make(cls).fit(X.toarray(), y)
    for form in (sparse.csr_array, sparse.csr_matrix, sparse.csc_array, sparse.coo_array):
        model = make(cls).fit(form(X), y)
        for a, b in zip(weights(model), weights(expected), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-9)  # summed in another order
        np.testing.assert_allclose(model.predict(form(X)), expected.predict(X.toarray()), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("parameters", [{}, {"clip_norm": 0.1}, {"batch_size": 1}, {"fit_intercept": False}], ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("optimizer", ["sgd", "gradient_scaled", "adagrad"])
@pytest.mark.parametrize("classes", [0, 2, 3])
def test_steps_of_some_columns_are_those_of_all(classes, optimizer, dtype, parameters, monkeypatch):
    X, y = sparse_problem()
    assert X.indptr[1] > 1
    X.indices[: X.indptr[1]] = X.indices[0]  # several entries in one place are to be added
    if classes:
        y = np.digitize(y, [0.0, 0.5][: classes - 1])
    model = make(LinearClassifier if classes else LinearRegressor, optimizer=optimizer, dtype=dtype, **parameters)
    by_columns = []
    gradient = Network.gradient_of_columns
    monkeypatch.setattr(Network, "gradient_of_columns", lambda *given: by_columns.append(1) or gradient(*given))
    model.fit(X, y)
    assert len(by_columns) == model.optimizer_.t > 3
    monkeypatch.setattr(Run, "_can_step_columns", lambda *given: False)
    expected = clone(model).fit(X, y)
    assert len(by_columns) == model.optimizer_.t
    assert [bits(p) for p in weights(model)] == [bits(p) for p in weights(expected)]
    # The history's norms are those of fewer zeros, summed in another order.
    norms, expected_norms = model.history_.steps["gradient_norm"], expected.history_.steps["gradient_norm"]
    np.testing.assert_allclose(norms, expected_norms, rtol=1e-5 if dtype == "float32" else 1e-14)


@pytest.mark.parametrize(
    "parameters",
    [
        {"optimizer": "adam"},
        {"optimizer": "momentum"},
        {"l2": 0.1},
        {"averaging": oc.Polyak()},
        {"optimizer_params": {"weight_decay": 0.1}},
    ],
    ids=str,
)
def test_other_steps_are_of_all_columns(parameters):
    """Steps of some columns would leave out the penalty, the average, or the momentum of the others."""
    X, y = sparse_problem()
    parameters = {"optimizer": "sgd", **parameters}
    model, expected = make(LinearRegressor, **parameters).fit(X, y), make(LinearRegressor, **parameters)
    np.testing.assert_allclose(model.coef_, expected.fit(X.toarray(), y).coef_, rtol=1e-7, atol=1e-9)
