"""Compiled epochs of linear models against the plain-Python reference, bit for bit, in each build."""

from __future__ import annotations

import importlib

import numpy as np
import pytest
from support import DTYPES, FORM_IDS, FORMS, accepted, bits, make
from test_bits import TRANSFORMS

import optcore as oc
from optcore import reference
from optcore._build import linear
from optcore.estimators import LinearClassifier, LinearRegressor
from optcore.networks import Network, Rows
from optcore.training import TOGETHER

BUILDS = ["_linear"] if linear.__name__ == "optcore._linear" else ["_linear", "_linear_avx2"]


def data(loss, dtype, rows, columns, seed=0):
    random = np.random.default_rng(seed)
    x = random.normal(size=(rows, columns)).astype(dtype)
    targets = random.normal(size=(rows, 1))
    targets = (targets > 0) if loss == "logistic" else targets
    return x, targets.astype(dtype), random.uniform(0.5, 2, size=(rows, 1)).astype(dtype), random.permutation(rows)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("loss", linear.LOSSES)
@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("columns", [1, 7, 8, 21])
@pytest.mark.parametrize("count", [1, 3, 20, 150])  # batches of more than a block, of several rows, and of one
@pytest.mark.parametrize(
    ("l2", "intercepts", "weighted", "shuffled"),
    [(0.0, True, False, True), (0.1, False, True, False), (0.3, True, True, True)],
)
def test_steps_are_the_references(dtype, loss, build, columns, count, l2, intercepts, weighted, shuffled):
    x, targets, weights, order = data(loss, dtype, 150, columns)
    weights, order = weights if weighted else None, order if shuffled else None
    network = Network([columns, 1], [], loss, dtype, l2, intercepts)
    params, expected = network.zeros(), network.zeros()
    optimizer, other = oc.Adam(params, lr=0.1), oc.Adam(expected, lr=0.1)
    losses, norms = np.empty(count), np.empty(count)
    layer = params["coef_0"], params.get("intercept_0")
    given = loss, l2, *layer, network.gradients, x, targets, weights, order, count
    steps = importlib.import_module(f"optcore.{build}").steps
    middle, total = steps(optimizer, *given, 0, count // 2, 0.0, losses, norms)
    assert middle == count // 2 == optimizer.t
    done, total = steps(optimizer, *given, middle, count, total, losses, norms)
    assert done == count == optimizer.t
    expected_total = 0.0
    for k in range(count):
        some = (np.arange(150) if order is None else order)[150 * k // count : 150 * (k + 1) // count]
        mean, gradient, shift, norm = reference.linear_batch(
            getattr(reference, loss),
            [list(row) for row in x[some]],
            list(targets[some, 0]),
            None if weights is None else list(weights[some, 0]),
            list(expected["coef_0"][:, 0]),
            expected["intercept_0"][0] if intercepts else None,
            l2,
        )
        grads = {"coef_0": np.array(gradient, dtype)[:, np.newaxis], "intercept_0": np.array([shift], dtype)}
        other.step({name: grads[name] for name in expected})
        assert (losses[k], norms[k]) == (mean, norm)
        expected_total += mean * len(some)
    assert total == expected_total
    for name in expected:
        assert bits(params[name]) == bits(expected[name])


OPTIONS = {
    **TRANSFORMS,
    "schedule": {"lr": oc.Cosine(0.1, steps=30)},
    "function": {"lr": lambda t: 0.1 / (1 + t)},
    "raise": {"on_nonfinite": "raise"},
    "threads": {"threads": 2},
}


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize(("name", "form"), FORMS, ids=FORM_IDS)
def test_steps_are_those_of_the_optimizer(name, form, option):
    """Of each rule with each option, as if it had been called with the gradient of each batch."""
    for dtype in DTYPES:
        options = accepted(name, OPTIONS[option])
        if name == "rprop":  # whose lr is that of the first step alone
            options.pop("lr", None)
        x, targets, _, order = data("squared_error", dtype, 24, 5)
        network = Network([5, 1], [], "squared_error", dtype)
        params, expected = network.zeros(), network.zeros()
        optimizer, other = make(name, form, params, **options), make(name, form, expected, **options)
        losses, norms, given = np.empty(12), np.empty(12), ("squared_error", 0.0)
        for first in (0, 7):
            data_given = x, targets, None, order, 12, first, first + 5, 0.0, losses, norms
            linear.steps(optimizer, *given, *params.values(), network.gradients, *data_given)
        gradients = Network([5, 1], [], "squared_error", dtype).gradients
        for k in (*range(5), *range(7, 12)):
            # A batch of its own, by an optimizer that leaves the weights as they are.
            still = oc.SGD(dict(expected), lr=0.0)
            one = x, targets, None, order, 12, k, k + 1, 0.0, losses, norms
            linear.steps(still, *given, *expected.values(), gradients, *one)
            other.step(gradients)
        assert optimizer.t == other.t == 10
        for key, p in expected.items():
            assert bits(params[key]) == bits(p)
            assert [bits(a) for a in optimizer.state[key].values()] == [bits(a) for a in other.state[key].values()]
        assert optimizer._carried() == other._carried()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("loss", linear.LOSSES)
def test_mean_loss_is_that_of_one_batch(loss, dtype):
    x, targets, weights, _ = data(loss, dtype, 150, 9)
    coef, intercept = x[:1].T.copy(), dtype([0.5])
    network = Network([9, 1], [], loss, dtype, 0.5)
    for given in (None, weights):
        expected, *_ = reference.linear_batch(
            getattr(reference, loss),
            [list(row) for row in x],
            list(targets[:, 0]),
            None if given is None else list(given[:, 0]),
            list(coef[:, 0]),
            intercept[0],
            0.0,
        )
        assert network.mean_loss([(coef, intercept)], Rows(x, targets, given)) == expected


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cls", [LinearRegressor, LinearClassifier])
def test_compiled_epochs_are_numpys(cls, dtype, monkeypatch):
    """The path of all other models, whose sums have another order."""
    x, targets, weights, _ = data("logistic", dtype, 300, 12)
    model = cls(batch_size=7, epochs=3, l2=0.01, random_state=0, dtype=dtype)
    model.fit(x, targets[:, 0], weights[:, 0])
    compiled, history = model.coef_, model.history_
    monkeypatch.setattr(Network, "is_compiled", lambda *given: False)
    model.fit(x, targets[:, 0], weights[:, 0])
    rtol = 1e-3 if dtype == np.float32 else 1e-10  # which Adam's steps make of a few roundings
    np.testing.assert_allclose(model.coef_, compiled, rtol=rtol)
    for name, values in model.history_.steps.items():
        np.testing.assert_allclose(history.steps[name], values, rtol=rtol)


def test_steps_in_several_goes_are_those_of_a_schedule_from_python():
    """More rows than are made in one go; a function of time takes the GIL at each step."""
    x, targets, *_ = data("squared_error", np.float64, 3000, 100)
    assert x.size > 2 * TOGETHER
    model = LinearRegressor(optimizer="sgd", lr=1e-3, batch_size=1, epochs=1, random_state=0).fit(x, targets[:, 0])
    assert model.history_.step_count == model.optimizer_.t == model.t_ == 3000
    coef = model.coef_
    model.set_params(lr=lambda _: 1e-3).fit(x, targets[:, 0])
    assert bits(model.coef_) == bits(coef)
