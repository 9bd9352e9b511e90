"""The built-in tasks: their gradients, minima and rows are what independent sources say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import check_grad
from sklearn.datasets import load_digits
from sklearn.metrics import log_loss
from sklearn.neural_network import MLPClassifier

from optcore.compare import Settings, compare
from optcore.data import badly_scaled, sparse_linear
from optcore.tasks import L2, TASKS, load_task


def flat(arrays):
    return np.concatenate([array.ravel() for array in arrays])


def shaped(vector, task):
    """The parameters of a task from one vector."""
    start = task.start()
    ends = np.cumsum([array.size for array in start])[:-1]
    return [part.reshape(array.shape) for part, array in zip(np.split(vector, ends), start, strict=True)]


@pytest.mark.parametrize("name", TASKS)
def test_gradient_is_that_of_the_objective(name):
    task = load_task(name)
    task = replace(task, x=task.x[:50], y=task.y[:50])  # check_grad asks for the objective once per parameter
    vector = np.random.default_rng(1).normal(size=flat(task.start()).size)
    error = check_grad(
        lambda v: task.objective(shaped(v, task)), lambda v: flat(task.gradient(shaped(v, task), *task.rows)), vector
    )
    # check_grad differentiates by steps h of 1.5e-8. Each derivative is off by h times the second one, which is below
    # the mean square of the column, and by the roundings of the objective over h.
    curvature, value = np.square(task.x).mean(axis=0).max(), task.objective(shaped(vector, task))
    assert error < np.sqrt(vector.size) * (1.5e-8 * 2 * curvature + 2 * 2.2e-16 * value / 1.5e-8)


@pytest.mark.parametrize("name", TASKS)
def test_the_start_is_always_the_same_and_new(name):
    task = load_task(name, seed=3)
    first, again = task.start(), load_task(name, seed=3).start()
    for a, b, c in zip(first, again, task.start(), strict=True):
        assert np.array_equal(a, b)
        assert not np.shares_memory(a, c)


def test_objectives_are_the_textbooks():
    weights = np.random.default_rng(2).normal(size=31)
    task = load_task("breast_cancer")
    probability = 1 / (1 + np.exp(-task.x @ weights))
    expected = log_loss(task.y, probability) + L2 / 2 * np.sum(weights[:-1] ** 2)
    np.testing.assert_allclose(task.objective([weights]), expected, rtol=1e-12)  # a few roundings
    task = load_task("diabetes")
    # The mean predicts a standardised target.
    assert task.objective(task.start()) == pytest.approx(1.0, rel=1e-12)
    weights = np.zeros(11)
    weights[-1] = 3.0  # the intercept is not penalised
    assert task.objective([weights]) == pytest.approx(10.0, rel=1e-12)


def test_the_neural_network_is_scikit_learns():
    task = load_task("mlp")
    random = np.random.default_rng(2)
    w1, b1, w2, b2 = params = [random.normal(size=p.shape) for p in task.start()]
    model = MLPClassifier((b1.size,), activation="tanh")
    model.partial_fit(task.x, task.y.argmax(axis=1), classes=range(10))
    model.coefs_, model.intercepts_ = [w1, w2], [b1, b2]
    for x, y, loss in (
        (task.held_out_x, task.held_out_y, task.held_out_loss(params)),
        (task.x, task.y, task.objective(params) - 1e-3 / 2 * (np.sum(w1**2) + np.sum(w2**2))),
    ):
        np.testing.assert_allclose(loss, log_loss(y, model.predict_proba(x)), rtol=1e-12)  # a few roundings


def test_large_scores_do_not_overflow():
    task = load_task("mlp")
    params = [p * 1e6 for p in task.start()]
    assert np.isfinite(task.objective(params))
    assert all(np.isfinite(g).all() for g in task.gradient(params, *task.rows))


@pytest.mark.parametrize("name", ["diabetes", "badly_scaled"])
def test_best_known_loss_is_the_minimum_of_least_squares(name):
    task = load_task(name)
    columns = task.x.shape[1]
    # The penalty as further rows.
    x = np.vstack([task.x, np.diag(np.sqrt(len(task.y) * task.penalty / 2))[:-1]])
    weights = np.linalg.lstsq(x, np.append(task.y, np.zeros(columns - 1)), rcond=None)[0]
    best, how = task.best_known()
    # Both are at the minimum but for roundings, which at a minimum count squared, and those of the sum.
    np.testing.assert_allclose(best, task.objective([weights]), rtol=1e-12)
    result = compare(name, settings=Settings(("sgd",), rates=(0.01,), epochs=5))
    assert (result.best_known_loss, result.how_known) == (best, how) == (best, "the minimum that scikit-learn finds")


@pytest.mark.parametrize("name", ["breast_cancer", "sparse_linear"])
def test_best_known_loss_is_the_minimum_of_the_logistic_loss(name):
    task = load_task(name)
    params = task.best_params()
    assert task.best_known()[0] == task.objective(params)
    # Strictly convex, so a gradient of zero is the minimum; what is left raises the loss by less than its square / L2.
    (gradient,) = task.gradient(params, *task.rows)
    assert np.abs(gradient).max() < 1e-9


@pytest.mark.parametrize("name", TASKS)
def test_a_fifth_is_held_out(name):
    task = load_task(name)
    rows = {"diabetes": 442, "breast_cancer": 569, "badly_scaled": 500, "sparse_linear": 1250, "mlp": 1797}[name]
    assert task.held_out_rows == len(task.held_out_x) == len(task.held_out_y) == -(-rows // 5)
    assert [len(array) for array in task.rows] == [rows - task.held_out_rows] * 2


@pytest.mark.parametrize("name", ["diabetes", "breast_cancer"])
def test_the_rest_is_standardised(name):
    task = load_task(name)
    # Means and deviations of a few hundred numbers of size 1 are off by some roundings.
    np.testing.assert_allclose(task.x[:, :-1].mean(axis=0), 0.0, atol=1e-12)
    np.testing.assert_allclose(task.x[:, :-1].std(axis=0), 1.0, rtol=1e-12)
    assert np.all(task.x[:, -1] == 1.0)
    assert np.abs(task.held_out_x[:, :-1].mean(axis=0)).max() > 0.01  # by the training rows, not by their own
    if name == "breast_cancer":
        np.testing.assert_allclose(task.y.mean(), task.held_out_y.mean(), atol=0.01)  # classes are shared out
        assert task.data.classes == ("malignant", "benign")


def test_made_data_are_what_they_say():
    found, again = badly_scaled(), badly_scaled()
    assert np.array_equal(found.x, again.x)
    assert np.array_equal(found.y, again.y)
    deviations = found.x.std(axis=0)
    # Deviations of 500 numbers are off by some percent, and neighbours differ by 88 %.
    np.testing.assert_allclose(deviations, 0.03 * 1000 ** (np.arange(12) / 11), rtol=0.1)
    shares = found.y @ (found.x / deviations) / 500  # each about sqrt(0.9 / 12), give or take 1 / sqrt(500)
    assert np.all(abs(abs(shares) - 0.3) < 0.2)

    found, again = sparse_linear(), sparse_linear()
    assert np.array_equal(found.x, again.x)
    assert np.array_equal(found.y, again.y)
    assert set(np.unique(found.x)) == {0.0, 1.0}
    assert found.x[:, :5].all()
    assert 0.9 < np.mean(found.x == 0) < 0.95
    shares, expected = found.x.mean(axis=0), np.minimum(1, 5 / np.arange(1, 401))
    deviations = np.sqrt(expected * (1 - expected) / 1250)
    assert np.all(abs(shares - expected) <= 5 * deviations)  # of 400 at random, one in 4000 would be beyond


def test_made_data_are_used_as_they_are():
    task = load_task("badly_scaled")
    both = np.vstack([task.x, task.held_out_x])
    order, original = np.lexsort(both.T), badly_scaled().x
    assert np.array_equal(both[order][:, :-1], original[np.lexsort(np.column_stack([original, np.ones(500)]).T)])
    assert not task.penalty.any()


def test_digits_are_scikit_learns():
    task = load_task("mlp")
    found = np.vstack([task.x, task.held_out_x]) * 16
    labels = np.vstack([task.y, task.held_out_y])
    x, expected = load_digits(return_X_y=True)
    assert np.array_equal(labels.sum(axis=1), np.ones(1797))
    order, other = np.lexsort([*found.T, labels.argmax(axis=1)]), np.lexsort([*x.T, expected])
    assert np.array_equal(found[order], x[other])
    assert np.array_equal(labels.argmax(axis=1)[order], expected[other])
