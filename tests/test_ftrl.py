"""FTRL against the paper: a closed form, Algorithm 1 in its own variables, and zeros that are exact.

    pytest tests/test_ftrl.py

test_golden.py compares it with Keras's besides.
"""

import math

import numpy as np
import pytest

import optcore as oc

# Rounding alone: of the closed forms 1.1e-15 is seen.
RTOL = 1e-14
# Of Algorithm 1, whose weights are differences of z, of up to 40, and l1: 1.1e-14 is seen, two ulps of 40.
ATOL = 1e-13


def constant_gradient(c, t, *, lr, beta, l1, l2):
    """p, z and n after round t, from p = 0, where every gradient is c.

    p stays 0 and z is t * c until that exceeds l1, in round k. From there on -q * p, with q = (beta + sqrt(n)) / lr
    + l2, is z without its l1. Put into the update of z this makes it p = p - c / q.
    """

    def q(s):
        return (beta + abs(c) * math.sqrt(s)) / lr + l2

    k = math.floor(l1 / abs(c)) + 1
    if t < k:
        return 0.0, t * c, t * c * c
    l1 = math.copysign(l1, c)
    p = -(k * c - l1) / q(k) - math.fsum(c / q(s) for s in range(k + 1, t + 1))
    return p, l1 - q(t) * p, t * c * c


@pytest.mark.parametrize("c", [0.5, -3.0])
@pytest.mark.parametrize(
    "hyper",
    [
        {"lr": 0.1, "beta": 1.0, "l1": 0.0, "l2": 0.0},
        {"lr": 0.1, "beta": 0.0, "l1": 0.0, "l2": 0.0},
        {"lr": 0.5, "beta": 0.25, "l1": 0.0, "l2": 2.0},
        {"lr": 0.1, "beta": 1.0, "l1": 10.0, "l2": 0.0},
        {"lr": 0.5, "beta": 0.25, "l1": 6.0, "l2": 0.75},
    ],
    ids=str,
)
def test_constant_gradient(c, hyper):
    p = np.zeros(1)
    optimizer = oc.FTRL(p, **hyper)
    for t in range(1, 101):
        optimizer.step(np.array([c]))
        state = optimizer.state["0"]
        np.testing.assert_allclose([p[0], state["z"][0], state["n"][0]], constant_gradient(c, t, **hyper), rtol=RTOL)


def test_without_beta_and_penalties_it_is_gradient_descent_of_the_inverse_square_root():
    p = np.zeros(1)
    optimizer = oc.FTRL(p, lr=0.25, beta=0.0)
    for _ in range(50):
        optimizer.step(np.array([7.0]))
    np.testing.assert_allclose(p, -0.25 * sum(1 / np.sqrt(np.arange(1.0, 51.0))), rtol=RTOL)


class Algorithm1:
    """Per-coordinate FTRL-Proximal with L1 and L2 regularization for logistic regression: the paper's lines.

    Its weights are made of z and n when a round begins. optcore's are when a round ends.
    """

    def __init__(self, d, *, alpha, beta, lambda1, lambda2):
        self.alpha, self.beta, self.lambda1, self.lambda2 = alpha, beta, lambda1, lambda2
        self.z, self.n = np.zeros(d), np.zeros(d)

    def weights(self, some):
        w = np.zeros(len(self.z))
        for i in some:
            z, n = self.z[i], self.n[i]
            if abs(z) > self.lambda1:
                w[i] = -(((self.beta + np.sqrt(n)) / self.alpha + self.lambda2) ** -1) * (z - np.sign(z) * self.lambda1)
        return w

    def round(self, x, y):
        present = np.flatnonzero(x)
        w = self.weights(present)
        p = 1 / (1 + np.exp(-(x @ w)))
        for i in present:
            g = (p - y) * x[i]
            sigma = (np.sqrt(self.n[i] + g**2) - np.sqrt(self.n[i])) / self.alpha
            self.z[i] = self.z[i] + g - sigma * w[i]
            self.n[i] = self.n[i] + g**2


@pytest.mark.parametrize(
    ("alpha", "beta", "lambda1", "lambda2"), [(0.1, 1.0, 0.0, 0.0), (0.5, 1.0, 1.0, 0.0), (0.3, 0.1, 2.0, 0.5)]
)
def test_algorithm_1(alpha, beta, lambda1, lambda2):
    rng = np.random.default_rng(0)
    rounds, d = 400, 12
    x = rng.standard_normal((rounds, d)) * (rng.random((rounds, d)) < 0.4)
    truth = np.where(np.arange(d) < 4, 2.0, 0.0)
    y = (rng.random(rounds) < 1 / (1 + np.exp(-(x @ truth)))).astype(float)
    paper = Algorithm1(d, alpha=alpha, beta=beta, lambda1=lambda1, lambda2=lambda2)
    w = np.zeros(d)
    optimizer = oc.FTRL(w, lr=alpha, beta=beta, l1=lambda1, l2=lambda2)
    seen = set()
    for t in range(rounds):
        theirs = paper.weights(range(d))
        np.testing.assert_array_equal(w == 0, theirs == 0)
        np.testing.assert_allclose(w, theirs, rtol=0.0, atol=ATOL)
        seen.add(np.count_nonzero(w))
        paper.round(x[t], y[t])
        optimizer.step((1 / (1 + np.exp(-(x[t] @ w))) - y[t]) * x[t])
    assert 0 in seen
    assert max(seen) > 3
    assert (max(seen) < d) == (lambda1 > 1)
    state = optimizer.state["0"]
    np.testing.assert_allclose(state["z"], paper.z, rtol=0.0, atol=ATOL)
    np.testing.assert_allclose(state["n"], paper.n, rtol=0.0, atol=ATOL)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_small_gradients_leave_exact_zeros(dtype):
    rng = np.random.default_rng(0)
    size = np.where(np.arange(1000) % 10 == 0, 1.0, 1e-3)
    p = np.zeros(1000, dtype)
    optimizer = oc.FTRL(p, lr=0.1, l1=1.0)
    for _ in range(300):
        optimizer.step((size * (0.5 + rng.standard_normal(1000))).astype(dtype))
        assert not p[size < 1].any()  # their sums stay below 300 * 4.5 * 1e-3 by far
    assert p[size == 1].all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_zero_up_to_l1_itself(dtype):
    l1 = dtype(0.75)
    above = np.nextafter(l1, dtype(1))
    p = np.zeros(4, dtype)
    oc.FTRL(p, lr=0.5, l1=0.75).step(np.array([l1, -l1, above, -above]))
    np.testing.assert_array_equal(p == 0, [True, True, False, False])
    np.testing.assert_array_equal(np.sign(p), [0, 0, -1, 1])


def test_a_weight_becomes_zero_again():
    p = np.zeros(1)
    optimizer = oc.FTRL(p, lr=0.5, l1=1.0)
    history = []
    for g in (2.0, 0.5, -1.0, -1.0, -1.0, -1.0, -1.0, -1.0):
        optimizer.step(np.array([g]))
        history.append(float(np.sign(p[0])))
    assert history[0] == -1
    assert 0 in history[1:]
    assert history[-1] == 1
