"""The estimators find what is known to be right: certified coefficients, closed forms, and scikit-learn's own solvers.

The reference data sets of NIST are in tests/data. How far a first-order method gets is a question of the condition
number of its columns: momentum with the best constants takes off about ``2 / condition`` of the error at each step
(Polyak 1964).
"""

from __future__ import annotations

import functools
import itertools
import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from numpy.polynomial import Legendre, Polynomial
from numpy.polynomial.legendre import legvander
from scipy.optimize import check_grad
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge, SGDClassifier, SGDRegressor
from sklearn.neural_network import MLPClassifier as TheirClassifier
from sklearn.neural_network import MLPRegressor as TheirRegressor
from sklearn.preprocessing import scale
from test_estimators import LINEAR, problem, weights

from optcore.estimators import LinearClassifier, LinearRegressor, MLPClassifier, MLPRegressor
from optcore.networks import ACTIVATIONS, Network, Rows

# ---------------------------------------------------------------------------- certified by NIST


@functools.cache
def certified(name):
    """Columns with a constant one in front, the target, and what is certified of their regression: all exact."""
    lines = (Path(__file__).parent / "data" / f"{name}.csv").read_text().splitlines()
    coefficients, squares = (line.rpartition(":")[2].split() for line in lines[2:4])
    rows = [[Fraction(entry) for entry in line.split(",")] for line in lines[5:]]
    y, x = [row[0] for row in rows], [[Fraction(1), *row[1:]] for row in rows]
    if name == "filip":
        x = [[row[1] ** power for power in range(11)] for row in x]
    return x, y, [Fraction(c) for c in coefficients], Fraction(squares[0])


@functools.cache
def exact(name):
    """The coefficients of least squares, by Gauss's elimination of the normal equations in fractions."""
    x, y, _, _ = certified(name)
    columns = list(zip(*x, strict=True))
    rows = [[sum(map(Fraction.__mul__, a, b)) for b in (*columns, y)] for a in columns]
    for i, row in enumerate(rows):
        row[:] = [entry / row[i] for entry in row]
        for other in rows:
            if other is not row:
                factor = other[i]
                other[:] = [a - factor * b for a, b in zip(other, row, strict=True)]
    return [row[-1] for row in rows]


def fitted(name):
    """The exact predictions, rounded."""
    return np.array([float(sum(map(Fraction.__mul__, row, exact(name)))) for row in certified(name)[0]])


def floats(numbers):
    return np.array(numbers, float)


@pytest.mark.parametrize("name", ["norris", "longley", "filip"])
def test_no_digit_is_mistyped(name):
    x, y, coefficients, squares = certified(name)
    found = exact(name)
    assert len(y) == {"norris": 36, "longley": 16, "filip": 82}[name]
    np.testing.assert_allclose(floats(found), floats(coefficients), rtol=1e-14)  # 15 digits are certified
    residual = sum((b - sum(map(Fraction.__mul__, row, found))) ** 2 for row, b in zip(x, y, strict=True))
    assert float(residual) == pytest.approx(float(squares), rel=1e-14)


def standardised(columns):
    return (columns - columns.mean(axis=0)) / columns.std(axis=0)


def descend(columns, y, steps, condition=None, **parameters):
    """Full-batch momentum on standardised data with the best constants for a condition number, or their own.

    Returns the coefficients of the columns as they are, the intercept in front, and the predictions.
    """
    mean, deviation, y_mean, y_deviation = columns.mean(axis=0), columns.std(axis=0), y.mean(), y.std()
    X = standardised(columns)
    singular = np.linalg.svd(X, compute_uv=False) / math.sqrt(len(y))
    largest, smallest = singular[0], singular[0] / condition if condition else singular[-1]
    momentum = ((largest - smallest) / (largest + smallest)) ** 2
    model = LinearRegressor(
        optimizer="momentum",
        lr=4 / (largest + smallest) ** 2,
        optimizer_params={"momentum": momentum},
        batch_size=None,
        epochs=steps,
        **parameters,
    ).fit(X, (y - y_mean) / y_deviation)
    coef = model.coef_ * y_deviation / deviation
    intercept = y_mean + y_deviation * model.intercept_[0] - coef @ mean
    return np.array([intercept, *coef]), y_mean + y_deviation * model.predict(X)


@pytest.mark.parametrize(
    ("name", "steps", "tolerance"),
    [
        # One column, standardised: condition 1, and the first step ends at the minimum. The intercept is the difference
        # of numbers 2000 times as large.
        ("norris", 5, 1e-12),
        # Condition 111, by which rounding is raised. The intercept is the difference of numbers of its own size.
        ("longley", 3000, 1e-11),
    ],
)
def test_certified_coefficients(name, steps, tolerance):
    x, y, coefficients, squares = certified(name)
    found, predicted = descend(floats(x)[:, 1:], floats(y), steps)
    np.testing.assert_allclose(found, floats(coefficients), rtol=tolerance)
    assert np.sum((floats(y) - predicted) ** 2) == pytest.approx(float(squares), rel=1e-12)
    np.testing.assert_allclose(predicted, fitted(name), rtol=0, atol=1e-12 * np.abs(fitted(name)).max())


def test_filip_by_powers():
    """Ten powers of one column, standardised, have the condition 4e9: 1e10 steps would be needed for a first digit.

    What is found is far from the certified coefficients, and its residual sum of squares still above the certified one,
    falling slowly with the steps. No statistic of a run says so: its loss and its R squared look well.
    """
    x, y, coefficients, squares = certified("filip")
    X, y = floats(x)[:, 1:], floats(y)
    singular = np.linalg.svd(standardised(X), compute_uv=False)
    assert singular[0] / singular[-1] > 1e9
    residuals = []
    for steps in (1000, 10_000):
        found, predicted = descend(X, y, steps, condition=steps / 12)
        assert np.abs(found / floats(coefficients) - 1).max() > 0.99
        residuals.append(np.sum((y - predicted) ** 2) / float(squares))
    assert residuals[0] > residuals[1] > 4
    assert 1 - residuals[1] * float(squares) / np.sum((y - y.mean()) ** 2) > 0.98


def test_filip_by_legendre_polynomials():
    """The same polynomials, written as sums of Legendre's on the interval of the data: condition 2.

    So first-order methods find the certified coefficients to all their digits but one: not the problem is hard, but its
    usual columns.
    """
    x, y, coefficients, squares = certified("filip")
    raw = floats(x)[:, 1]
    interval = raw.min(), raw.max()
    columns = legvander(np.interp(raw, interval, (-1, 1)), 10)[:, 1:]
    found, predicted = descend(columns, floats(y), 100)
    powers = Legendre(found, domain=interval).convert(kind=Polynomial, domain=(-1, 1), window=(-1, 1)).coef
    np.testing.assert_allclose(powers, floats(coefficients), rtol=1e-12)
    assert np.sum((floats(y) - predicted) ** 2) == pytest.approx(float(squares), rel=1e-12)
    np.testing.assert_allclose(predicted, fitted("filip"), rtol=1e-13)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-11), ("float32", 1e-3)])
def test_diabetes_is_that_of_least_squares(dtype, tolerance):
    """Condition 22; what float32 rounds is raised by it."""
    X, y = load_diabetes(return_X_y=True)
    found, predicted = descend(X, y, 1000, dtype=dtype)
    expected = np.linalg.lstsq(np.column_stack([np.ones(len(X)), X]), y, rcond=None)[0]
    np.testing.assert_allclose(found, expected, rtol=tolerance)
    np.testing.assert_allclose(predicted, expected[0] + X @ expected[1:], rtol=tolerance)


# ---------------------------------------------------------------------------- what scikit-learn's solvers find


def nesterov(X, share, l2):
    """Constants of Nesterov's method for a loss whose second derivative is at most ``share`` of the squared error's."""
    largest = share * np.linalg.norm(np.column_stack([X, np.ones(len(X))]), 2) ** 2 / len(X) + l2
    root = math.sqrt(l2 / largest)
    return {"optimizer": "nesterov", "lr": 1 / largest, "optimizer_params": {"momentum": (1 - root) / (1 + root)}}


@pytest.mark.parametrize("outputs", [1, 3])
def test_ridge(outputs):
    X, y = load_diabetes(return_X_y=True)
    X, y = scale(X), np.column_stack([y, y**2, np.sqrt(y)])[:, :outputs]
    y = scale(y[:, 0] if outputs == 1 else y)
    model = LinearRegressor(batch_size=None, l2=0.01, epochs=1000, **nesterov(X, 1.0, 0.01)).fit(X, y)
    expected = Ridge(alpha=0.01 * len(X), solver="cholesky").fit(X, y)
    np.testing.assert_allclose(model.coef_, expected.coef_, rtol=1e-10)
    np.testing.assert_allclose(model.intercept_, expected.intercept_, atol=1e-12)


@pytest.mark.parametrize(
    ("data", "share", "steps"),
    [
        (load_breast_cancer, 0.25, 1500),  # p * (1 - p) is at most 1/4
        (load_digits, 0.5, 3000),  # and the largest eigenvalue of diag(p) - p p' at most 1/2
    ],
)
def test_logistic_regression(data, share, steps):
    X, y = data(return_X_y=True)
    X, l2 = scale(X), 1e-2
    expected = LogisticRegression(C=1 / (l2 * len(X)), solver="newton-cholesky", tol=1e-12, max_iter=100).fit(X, y)
    model = LinearClassifier(batch_size=None, l2=l2, epochs=steps, **nesterov(X, share, l2)).fit(X, y)
    assert model.classes_.tolist() == expected.classes_.tolist()
    assert model.history_.steps["gradient_norm"][-1] < 1e-11  # strictly convex: this is the minimum
    # Their Newton's method ends where the gradient is 1e-12, and the curvature is l2 at least.
    np.testing.assert_allclose(model.coef_, expected.coef_, rtol=0, atol=1e-9)
    np.testing.assert_allclose(model.predict_proba(X), expected.predict_proba(X), rtol=1e-8)
    np.testing.assert_allclose(model.decision_function(X), expected.decision_function(X), rtol=1e-7, atol=1e-8)
    assert (model.predict(X) == expected.predict(X)).all()


# ---------------------------------------------------------------------------- gradients


@pytest.mark.parametrize("l2", [0.0, 0.3])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("loss", ["squared_error", "logistic", "softmax"])
@pytest.mark.parametrize("names", [(), *itertools.product(ACTIVATIONS, repeat=2)], ids="-".join)
def test_gradient_is_that_of_the_loss(names, loss, weighted, l2):
    random = np.random.default_rng(1)
    outputs = 1 if loss == "logistic" else 3
    network = Network([4, *(5, 6)[: len(names)], outputs], names, loss, np.float64, l2)
    targets = {
        "squared_error": random.normal(size=(7, 3)),
        "logistic": random.integers(2, size=(7, 1)).astype(float),
        "softmax": random.integers(3, size=7),
    }[loss]
    rows = Rows(random.normal(size=(7, 4)), targets, random.uniform(0.1, 2, size=(7, 1)) if weighted else None)
    start = random.normal(size=sum(math.prod(shape) for shape in network.shapes.values()))

    def split(flat):
        parts = np.split(flat, np.cumsum([math.prod(shape) for shape in network.shapes.values()])[:-1])
        return network.layers({n: part.reshape(s) for (n, s), part in zip(network.shapes.items(), parts, strict=True)})

    def gradient(flat):
        network.gradient(split(flat), rows)
        return np.concatenate([array.ravel() for array in network.gradients.values()])

    def objective(flat):
        penalty = l2 / 2 * sum(np.sum(coef**2) for coef, _ in split(flat))
        return network.mean_loss(split(flat), rows) + penalty

    assert network.gradient(split(start), rows) == pytest.approx(objective(start), rel=1e-14)  # summed in another order
    assert network.norm() == pytest.approx(np.linalg.norm(gradient(start)), rel=1e-14)
    # check_grad differentiates by steps of 1.5e-8, which leaves an error of that size times the second derivative, and
    # loses half of the digits of the difference.
    assert check_grad(objective, gradient, start) < 1e-6 * np.linalg.norm(gradient(start))


def test_losses_are_the_textbooks():
    random = np.random.default_rng(2)
    X = random.normal(size=(6, 3))
    W, b = random.normal(size=(3, 4)), random.normal(size=4)
    z = X @ W + b
    weight = random.uniform(size=(6, 1))
    y = random.normal(size=(6, 4))
    network = Network([3, 4], [], "squared_error", np.float64)
    expected = np.mean(weight[:, 0] * np.sum((z - y) ** 2, axis=1)) / 2
    # Here and below a few roundings differ.
    assert network.mean_loss([(W, b)], Rows(X, y, weight)) == pytest.approx(expected, rel=1e-14)
    y = random.integers(4, size=6)
    expected = np.mean(-np.log(np.exp(z) / np.exp(z).sum(axis=1, keepdims=True))[np.arange(6), y])
    network = Network([3, 4], [], "softmax", np.float64)
    assert network.mean_loss([(W, b)], Rows(X, y)) == pytest.approx(expected, rel=1e-14)
    network = Network([3, 1], [], "logistic", np.float64)
    y = (y > 1).astype(float)[:, np.newaxis]
    p = 1 / (1 + np.exp(-z[:, :1]))
    expected = -np.mean(y * np.log(p) + (1 - y) * np.log(1 - p))
    assert network.mean_loss([(W[:, :1].copy(), b[:1])], Rows(X, y)) == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_losses_do_not_overflow_before_they_must(dtype):
    x = np.array([[1.0], [-1.0]], dtype)
    coef = np.array([[3e4]], dtype)
    network = Network([1, 1], [], "logistic", dtype)
    assert network.mean_loss([(coef, None)], Rows(x, np.array([[1.0], [0.0]], dtype))) == 0.0
    assert network.mean_loss([(coef, None)], Rows(x, np.array([[0.0], [1.0]], dtype))) == 3e4
    network = Network([1, 2], [], "softmax", dtype)
    coef = np.array([[3e4, -3e4]], dtype)
    assert network.mean_loss([(coef, None)], Rows(x, np.array([0, 1]))) == 0.0
    assert network.mean_loss([(coef, None)], Rows(x, np.array([1, 0]))) == 6e4


# ---------------------------------------------------------------------------- the same training as scikit-learn's


@pytest.mark.parametrize("l2", [0.0, 0.1])
@pytest.mark.parametrize("ours", LINEAR)
def test_steps_are_those_of_scikit_learns_sgd(ours, l2):
    X, y = problem(ours, classes=2)
    theirs, loss = (SGDRegressor, "squared_error") if ours is LinearRegressor else (SGDClassifier, "log_loss")
    expected = theirs(loss=loss, alpha=l2, penalty="l2" if l2 else None, learning_rate="constant", eta0=0.01)
    expected.set_params(max_iter=3, tol=None, shuffle=False).fit(X, y)
    model = ours(optimizer="sgd", lr=0.01, batch_size=1, l2=l2, epochs=3, shuffle=False).fit(X, y)
    # They apply the penalty before the gradient is taken from the weights, as a factor; 180 steps of 0.01 * 0.1 * 0.01.
    np.testing.assert_allclose(model.coef_, expected.coef_, rtol=1e-10 if l2 == 0 else 3e-3)
    np.testing.assert_allclose(model.intercept_, expected.intercept_, rtol=1e-10 if l2 == 0 else 3e-3)
    assert model.n_iter_ == expected.n_iter_
    assert model.optimizer_.t == expected.t_ - 1  # theirs starts at 1


@pytest.mark.parametrize("solver", ["sgd", "adam"])
@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
@pytest.mark.parametrize(("ours", "theirs"), [(MLPRegressor, TheirRegressor), (MLPClassifier, TheirClassifier)])
def test_training_is_that_of_scikit_learns_perceptrons(ours, theirs, activation, solver):
    """From the same seed the same first weights, and from the same batches the same losses and weights."""
    X, y = problem(ours)
    rule = {"momentum": 0.9, "nesterovs_momentum": False} if solver == "sgd" else {}
    expected = theirs(hidden_layer_sizes=(7, 4), activation=activation, solver=solver, alpha=0.0, batch_size=20, **rule)
    expected.set_params(learning_rate_init=0.01, max_iter=5, tol=0.0, shuffle=False, random_state=3)
    with pytest.warns(ConvergenceWarning):  # after 5 epochs they expect more
        expected.fit(X, y)
    name, keywords = ("velocity", None) if solver == "sgd" else ("adam", {"eps_form": "hat"})
    model = ours((7, 4), activation, optimizer=name, optimizer_params=keywords, lr=0.01, batch_size=20, epochs=5)
    model.set_params(shuffle=False, random_state=3).fit(X, y)
    tolerance = 1e-9  # summed in another order, and Adam divides small gradients by small roots
    np.testing.assert_allclose(model.history_.epochs["loss"], expected.loss_curve_, rtol=tolerance)
    for a, b in zip(weights(model), [*expected.coefs_, *expected.intercepts_], strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)
    assert model.t_ == expected.t_
    np.testing.assert_allclose(model.predict(X), expected.predict(X), rtol=tolerance)
