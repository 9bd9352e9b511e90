"""How fast schedules are: a million values beside the plain NumPy expression, and one value from Python.

    python bench/schedules.py            prints the table
    python bench/schedules.py --check    also fails where a form is slower than is promised

Both contenders of a row run in turn, many rounds of them, and a figure is the smallest over rounds.
"""

import argparse
import itertools
import sys

import numpy as np
from step import measure

import optcore as oc

N = 1_000_000
CALL = 150e-9  # seconds for one value, at most
COSINE = 5.0  # how many times as fast as NumPy the cosine is, at least

where, minimum, sqrt, power, cos, pi = np.where, np.minimum, np.sqrt, np.power, np.cos, np.pi
start, end, rate, S, P = 0.1, 1e-4, 0.95, 100_000, 0.75
boundaries, levels = (S, 3 * S, 6 * S), np.array([0.1, 0.05, 0.01, 0.001])


def line(t, a, b, steps):
    return a + (b - a) * minimum(t, steps) / steps


def wave(t, a, b, steps):
    return b + (a - b) * (1 + cos(pi * minimum(t, steps) / steps)) / 2


def triangle(t):
    return 1 - abs(t / S % 2 - 1)


ROWS = [
    (oc.Constant(start), lambda t: np.full(t.shape, start)),
    (oc.Step(start, size=S, gamma=0.5), lambda t: start * 0.5 ** (t // S)),
    (oc.Step(start, size=10, gamma=0.9999), lambda t: start * 0.9999 ** (t // 10)),
    (oc.MultiStep(start, boundaries), lambda t: start * 0.1 ** np.searchsorted(boundaries, t, side="right")),
    (oc.Piecewise(levels, boundaries), lambda t: levels[np.searchsorted(boundaries, t, side="right")]),
    (oc.Exponential(start, rate, steps=S), lambda t: start * rate ** (t / S)),
    (oc.Exponential(start, rate, steps=S, staircase=True), lambda t: start * rate ** (t // S)),
    (oc.InverseTime(start, rate), lambda t: start / (1 + rate * t)),
    (oc.InversePower(start), lambda t: start / sqrt(t + 1.0)),
    (oc.InversePower(start, power=1), lambda t: start / (t + 1.0)),
    (oc.InversePower(start, power=P), lambda t: start / power(t + 1.0, P)),
    (oc.Linear(start, end, steps=N), lambda t: line(t, start, end, N)),
    (oc.Polynomial(start, end, steps=N), lambda t: (start - end) * (1 - minimum(t, N) / N) + end),
    (oc.Polynomial(start, end, steps=N, power=2), lambda t: (start - end) * (1 - minimum(t, N) / N) ** 2 + end),
    (oc.Polynomial(start, end, steps=N, power=P), lambda t: (start - end) * (1 - minimum(t, N) / N) ** P + end),
    (oc.Root(start, end, steps=N), lambda t: end + (start - end) * (1 - sqrt(minimum(t, N) / N))),
    (oc.Growing(start, rate, cap=1e4), lambda t: minimum(1e4, start * (1 + rate * t))),
    (oc.Cosine(start, end, steps=N), lambda t: wave(t, start, end, N)),
    (oc.CosineRestarts(start, end, steps=S), lambda t: wave(t % S, start, end, S - 1)),
    (oc.CosineRestarts(start, end, steps=10, decay=0.9999),
     lambda t: wave(t % 10, start * 0.9999 ** (t // 10), end, 9)),
    (oc.CosineRestarts(start, end, steps=S, mult=2),
     lambda t: wave((t + S) / 2.0 ** np.floor(np.log2(t / S + 1)) - S, start, end, S)),
    (oc.Cyclic(end, start, up=S), lambda t: end + (start - end) * triangle(t)),
    (oc.Cyclic(end, start, up=S, mode="triangular2"),
     lambda t: end + (start - end) * triangle(t) * 0.5 ** (t // (2 * S))),
    (oc.Cyclic(end, start, up=S, mode="exp_range", gamma=0.99999),
     lambda t: end + (start - end) * triangle(t) * 0.99999 ** t),
    (oc.OneCycle(start, steps=N, start=end, end=end),
     lambda t: where(t < 3 * S, wave(t, end, start, 3 * S), wave(t - 3 * S, start, end, N - 3 * S - 1))),
    (oc.Noam(d=512, warmup=S), lambda t: 512**-0.5 * minimum(1 / sqrt(t + 1.0), (t + 1.0) * S**-1.5)),
    (oc.WarmupStableDecay(start, warmup=S, stable=S, decay=8 * S),
     lambda t: where(t < 2 * S, minimum(start, start * (t + 1) / S), line(t - 2 * S, start, 0.0, 8 * S))),
    (oc.Warmup(S, oc.Cosine(start, end, steps=N)),
     lambda t: where(t < S, start * (t + 1) / S, wave(t - S, start, end, N))),
    (oc.Linear(start, end, steps=N) * 0.5, lambda t: line(t, start, end, N) * 0.5),
    (oc.Linear(start, end, steps=N).clamp(0.01, 0.05), lambda t: np.clip(line(t, start, end, N), 0.01, 0.05)),
    (oc.Linear(start, end, steps=N).shift(10), lambda t: line(t + 10, start, end, N)),
    (oc.Linear(start, end, steps=N // 10).every(10), lambda t: line(t // 10, start, end, N // 10)),
    (oc.Linear(start, end, steps=N // 1000).every(1000), lambda t: line(t // 1000, start, end, N // 1000)),
]  # fmt: skip

# Of which nothing is promised: np.full does not look at t, and where NumPy has AVX-512 it has a power of its own for
# it, with other bits.
FREE = [
    oc.Constant(start), oc.InversePower(start, power=P), oc.Polynomial(start, end, steps=N, power=P),
]  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="exit with 1 where a form is slower than is promised")
    parser.add_argument("--shuffled", action="store_true", help="times in no order")
    given = parser.parse_args()
    t, out, failures = np.arange(N), np.empty(N), []
    if given.shuffled:
        np.random.default_rng(0).shuffle(t)
    print(f"{'':76}{'ns/value':>9}{'NumPy':>9}{'ratio':>7}{'ns/call':>9}")
    for schedule, plain in ROWS:
        title = repr(schedule).replace("np.float64", "")
        with np.errstate(over="ignore", under="ignore"):
            expected, value = plain(t), schedule(t)
        if not np.allclose(
            value, expected, rtol=1e-6 if "mult" in title else 1e-9, atol=1e-4 if "mult" in title else 0.0
        ):
            print("DIFFERS", title, abs(value - expected).max())
        times = measure(
            {"optcore": lambda s=schedule: s(t, out=out), "NumPy": lambda p=plain: p(t)}, seconds=0.6, rounds=15
        )
        calls = measure({"call": lambda s=schedule: [s(1000) for _ in itertools.repeat(None, 1000)]}, 0.05, 9)
        ours, theirs, call = min(times["optcore"]), min(times["NumPy"]), min(calls["call"]) / 1000
        print(
            f"{title:76.76}{ours / N * 1e9:9.2f}{theirs / N * 1e9:9.2f}{theirs / ours:7.1f}{call * 1e9:9.0f}",
            flush=True,
        )
        wanted = 0.0 if schedule in FREE else COSINE if type(schedule) is oc.Cosine else 1.0
        if theirs < wanted * ours:
            failures.append(f"{title} is {theirs / ours:.2f} times as fast as NumPy; {wanted} is promised")
        if call > CALL:
            failures.append(f"one call of {title} takes {call * 1e9:.0f} ns; {CALL * 1e9:.0f} are promised")
    if given.check and failures:
        sys.exit("\n".join(failures))


if __name__ == "__main__":
    main()
