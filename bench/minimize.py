"""How many steps a second `oc.minimize` makes, with a compiled function and with one in Python.

    python bench/minimize.py            prints the table
    python bench/minimize.py --check    also fails where a ratio is above its limit

The function is Rosenbrock's in ten dimensions, compiled by numba; so is the loop that ratios refer to.
"""

import argparse
import statistics
import sys

import numpy as np
from numba import carray, cfunc, njit, types
from scipy import LowLevelCallable
from step import measure, ratio, say

import optcore as oc

DOUBLES = types.CPointer(types.double)
STEPS = 100_000


@cfunc(types.double(types.intc, DOUBLES, DOUBLES, types.voidptr))
def rosenbrock(n, x, gradient, data):
    x, g = carray(x, n), carray(gradient, n)
    g[:] = 0.0
    total = 0.0
    for i in range(n - 1):
        a, b = x[i + 1] - x[i] ** 2, 1.0 - x[i]
        total += 100.0 * a**2 + b**2
        g[i] -= 400.0 * a * x[i] + 2.0 * b
        g[i + 1] += 200.0 * a
    return total


def python(x):
    a, b = x[1:] - x[:-1] ** 2, 1.0 - x[:-1]
    g = np.zeros_like(x)
    g[:-1] -= 400.0 * a * x[:-1] + 2.0 * b
    g[1:] += 200.0 * a
    return float(100.0 * a @ a + b @ b), g


@njit
def adam_by_hand(x, steps, lr=1e-4, beta1=0.9, beta2=0.999, eps=1e-8):
    """Without limits, history or the best point."""
    g, m, v = np.zeros_like(x), np.zeros_like(x), np.zeros_like(x)
    for t in range(1, steps + 1):
        g[:] = 0.0
        for i in range(x.size - 1):
            a, b = x[i + 1] - x[i] ** 2, 1.0 - x[i]
            g[i] -= 400.0 * a * x[i] + 2.0 * b
            g[i + 1] += 200.0 * a
        step, root = lr / (1.0 - beta1**t), 1.0 / np.sqrt(1.0 - beta2**t)
        for i in range(x.size):
            m[i] = beta1 * m[i] + (1.0 - beta1) * g[i]
            v[i] = beta2 * v[i] + (1.0 - beta2) * g[i] ** 2
            x[i] -= step * m[i] / (np.sqrt(v[i]) * root + eps)


def minimized(fun, method, steps, **options):
    options = {"lr": 1e-4, "maxiter": steps, "gtol": None, **options}
    return lambda: oc.minimize(fun, np.full(10, -1.0), jac=True, method=method, options=options)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--check", action="store_true", help="exit with 1 where there are less than a million steps a second"
    )
    check = parser.parse_args().check
    compiled = LowLevelCallable(rosenbrock.ctypes)
    contenders = {
        "Adam by hand in numba": lambda: adam_by_hand(np.full(10, -1.0), STEPS),
        "sgd": minimized(compiled, "sgd", STEPS),
        "adam": minimized(compiled, "adam", STEPS),
        "adam, no history": minimized(compiled, "adam", STEPS, history=False),
        "adam, scheduled": minimized(compiled, "adam", STEPS, lr=oc.Cosine(1e-4, steps=STEPS)),
        "adam, Python function": minimized(python, "adam", STEPS // 100),
    }
    times = measure(contenders)
    print(f"Rosenbrock in ten dimensions\n{'':28}{'a step':>12}{'million steps/s':>20}{'ratio to the first':>20}")
    failures = []
    for name in contenders:
        steps = STEPS // 100 if "Python" in name else STEPS
        seconds = statistics.median(times[name]) / steps
        value = ratio(times, name, "Adam by hand in numba") * STEPS / steps
        print(f"{name:28}{say(seconds):>12}{1e-6 / seconds:20.3g}{value:20.3g}")
        if "Python" not in name and seconds > 1e-6:
            failures.append(f"{name}: a step takes {say(seconds)}; a microsecond is promised")
    if check and failures:
        sys.exit("\n".join(failures))


if __name__ == "__main__":
    main()
