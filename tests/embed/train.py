"""Trains by a client and by Python: ``python train.py same_bits c_client 300``, or ``allocate_nothing``."""

import ctypes
import importlib
import sys

import numpy as np
import pytest

import optcore as oc

ROWS, COLUMNS = 20, 5
OPTIONS = {"clip_norm": 1.5, "weight_decay": 0.01, "averaging": oc.EMA(0.9), "bounds": (-0.5, 0.5)}
RATE = oc.Warmup(10, oc.Cosine(0.1, 0.001, steps=200))

rng = np.random.default_rng(0)
x, y = rng.standard_normal((ROWS, COLUMNS)), rng.standard_normal(ROWS)


def zeros(count):
    return [np.zeros(COLUMNS) for _ in range(count)]


def train(opt, w, g, steps):
    """What the clients do, in Python."""
    for t in range(steps):
        row = x[t % ROWS]
        error = -y[t % ROWS]
        for j in range(COLUMNS):
            error = error + row[j] * w[j]
        for j in range(COLUMNS):
            g[j] = error * row[j]
        opt.step()


def same(expected, found):
    assert (expected != 0).all()
    assert expected.tobytes() == found.tobytes(), (expected, found)


def same_bits(client, steps):
    w, g, m, v = zeros(4)
    client.fit(x, y, w, g, m, v, RATE, steps)
    expected, gradient = zeros(2)
    opt = oc.Adam(expected, gradient, lr=RATE)
    train(opt, expected, gradient, steps)
    same(expected, w)
    same(opt.state["0"]["m"], m)
    same(opt.state["0"]["v"], v)

    w, g = zeros(2)
    stepped = oc.Adam(w, g, lr=RATE, **OPTIONS)
    client.fit_with(stepped, x, y, w, g, steps)
    expected, gradient = zeros(2)
    opt = oc.Adam(expected, gradient, lr=RATE, **OPTIONS)
    train(opt, expected, gradient, steps)
    same(expected, w)
    same(opt.averaged(), stepped.averaged())
    assert opt.t == stepped.t == steps
    stepped.step()  # it belongs to Python again

    with pytest.raises(RuntimeError, match="was made without gradients"):
        client.fit_with(oc.Adam(w), x, y, w, g, steps)


def allocate_nothing(client, steps):
    allocations = ctypes.CDLL(None).allocations
    w, g, m, v = zeros(4)
    opt = oc.Adam(w, g, lr=RATE, **OPTIONS)
    for function, arguments in [(client.fit, (x, y, w, g, m, v, RATE)), (client.fit_with, (opt, x, y, w, g))]:

        def counted(steps, function=function, arguments=arguments):
            before = allocations()
            function(*arguments, steps)
            return allocations() - before

        counted(1)
        one = counted(1)
        assert one > 0  # the counter counts: the call itself is Python's
        assert counted(steps) == one, (counted(steps), one)


if __name__ == "__main__":
    {"same_bits": same_bits, "allocate_nothing": allocate_nothing}[sys.argv[1]](
        importlib.import_module(sys.argv[2]), int(sys.argv[3])
    )
