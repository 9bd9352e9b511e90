"""Golden values of the scalar functions, from mpmath, which owes nothing to our code. Needs mpmath and numpy.

python tests/golden/scalars.py            writes scalars.npz beside this file
python tests/golden/scalars.py measure    prints the largest errors of optcore/reference.py (takes minutes)
python tests/golden/scalars.py constants  prints the constants in src/optcore/_scalars.pxd
"""

import math
import sys
from pathlib import Path

import mpmath
import numpy as np

HERE = Path(__file__).parent
mpmath.mp.prec = 300

EXACT = {"exp": mpmath.exp, "log": mpmath.log, "cos": mpmath.cos, "pow": mpmath.power, "power": mpmath.power}


def arguments(name, size, rng):
    """Columns x, or x and y, from everywhere and from where it is difficult, with finite results."""
    part = size // 5
    near_one = 1.0 + rng.choice([-1.0, 1.0], part) * 2.0 ** rng.uniform(-50.0, -1.0, part)
    # Both ends of the reduced ranges, where the series are longest.
    k, end = rng.integers(-20, 20, part), 1.0 + rng.uniform(-1e-3, 1e-3, part)
    if name == "exp":
        ends = (k + 0.5) * math.log(2.0) * end
        return [np.concatenate([rng.uniform(-745.0, 709.7, 3 * part), near_one - 1.0, ends])]
    if name == "log":
        ends = 2.0 ** (k // 20 + 0.5) * end
        return [np.concatenate([positive(rng, 2 * part), rng.uniform(0.5, 2.0, part), near_one, ends])]
    if name == "cos":
        ends = (k % 2 + 0.5) * math.pi / 2 * end
        # Next to the zero everything cancels but what the reduction of the argument has kept.
        return [np.concatenate([rng.uniform(0.0, 3.5, 2 * part), -ends, ends, near_one * (math.pi / 2)])]
    if name == "pow":
        # Any result of any base, of a base near 1, of one at an end; rates of decay over a fraction of a run;
        # roots and powers of update counts.
        x = np.concatenate([positive(rng, part), near_one, 2.0 ** (k // 20 + 0.5) * end])
        y = rng.uniform(-745.0, 709.7, 3 * part) / np.log(x)
        x = np.concatenate([x, rng.uniform(0.0, 1.0, part), np.floor(rng.uniform(2.0, 1e7, part))])
        fractions, roots = rng.uniform(0.0, 2.0, part), rng.choice([-2.0, -1.5, -0.75, -0.5, 0.5, 1.5], part)
        return [x, np.concatenate([y, fractions, roots])]
    rates = rng.choice([0.5, 0.9, 0.95, 0.99, 0.999, 0.9999, 0.9999999, 1.0 - 2.0**-40, 1.001, 1.1], 4 * part)
    base = np.concatenate([rng.uniform(0.0, 1.0, part), rates])
    longest = np.minimum(np.where(base < 1.0, 745.0, 709.7) / np.abs(np.log(base)), 2.0**62)
    return [base, (rng.uniform(0.0, 1.0, 5 * part) * longest).astype(np.int64)]


def positive(rng, size):
    """Positive doubles of all magnitudes."""
    return rng.integers(1, 0x7FF0000000000000, size).view(np.float64)


def rows(columns):
    return zip(*(column.tolist() for column in columns), strict=True)


def exact(name, row):
    return EXACT[name](*(mpmath.mpf(argument) for argument in row))


def write():
    rng = np.random.default_rng(20)
    arrays = {}
    for name in EXACT:
        columns = arguments(name, 500, rng)
        values = [exact(name, row) for row in rows(columns)]
        arrays |= {f"{name}_{label}": column for label, column in zip("xy", columns, strict=False)}
        # The nearest double and the nearest one to what that lacks.
        arrays[f"{name}_high"] = np.array([float(value) for value in values])
        arrays[f"{name}_low"] = np.array([float(value - float(value)) for value in values])
    np.savez_compressed(HERE / "scalars.npz", **arrays)


def measure(size=1_000_000):
    sys.path.insert(0, str(HERE.parent.parent))
    from optcore import reference

    rng = np.random.default_rng(21)
    for name in EXACT:
        worst = {"below 1e-290": (0.0,), "to 6e299": (0.0,), "above": (0.0,)}
        for row in rows(arguments(name, size, rng)):
            value = exact(name, row)
            error = float(abs(getattr(reference, name)(*row) - value) / math.ulp(value))
            where = "below 1e-290" if abs(value) < 1e-290 else "to 6e299" if abs(value) < 6e299 else "above"
            worst[where] = max(worst[where], (error, row))
        for where, (error, *row) in worst.items():
            print(f"{name:6}{where:13}{error:8.4f} ulp  {row}")
    worst = mpmath.mpf(0)
    for (x,) in rows(arguments("log", size, rng)):
        parts = reference.log_parts(x)
        if x != 1.0:
            worst = max(worst, abs((mpmath.mpf(parts.hi) + parts.lo) / mpmath.log(x) - 1))
    print("log_parts", float(mpmath.log(worst, 2)), "bits")


def cut(value, *grids):
    """value = a + b + ... + rest: each a multiple of 2**-grid, the rest the nearest double."""
    parts = []
    for grid in grids:
        parts.append(mpmath.ldexp(mpmath.nint(mpmath.ldexp(value, grid)), -grid))
        value -= parts[-1]
    return [float(part) for part in [*parts, value]]


def polynomial(function, size, end):
    """Coefficients of the polynomial in z = r**2 that agrees with the function for `size` r up to the end.

    They are the zeros of the Chebyshev polynomial of one degree more, moved so that its first zero is z = 0, where
    the terms before the polynomial are exact: the error is then nearly as small as any polynomial's.
    """
    zeros = [mpmath.cos(mpmath.pi * (2 * i + 1) / (2 * size + 2)) for i in range(size + 1)]
    z = [end**2 * (zero - zeros[-1]) / (1 - zeros[-1]) for zero in zeros[:-1]]
    powers = mpmath.matrix([[x**j for j in range(size)] for x in z])
    return [float(c) for c in mpmath.lu_solve(powers, mpmath.matrix([function(mpmath.sqrt(x)) for x in z]))]


def constants():
    print("2/pi", float(2 / mpmath.pi), "pi/2", float(mpmath.pi / 2), float(mpmath.pi / 2 - float(mpmath.pi / 2)))
    end = mpmath.pi / 4
    print("sine", polynomial(lambda r: (r - mpmath.sin(r)) / r**3, 6, end))
    print("cosine", polynomial(lambda r: (mpmath.cos(r) - 1 + r**2 / 2) / r**4, 6, end))
    print("1/ln2", float(1 / mpmath.ln2), "ln2", *cut(mpmath.ln2 + 0, 42))
    print("1/3", 1.0 / 3.0, float(mpmath.mpf(1) / 3 - mpmath.mpf(1.0 / 3.0)))


if __name__ == "__main__":
    {"": write, "measure": measure, "constants": constants}["".join(sys.argv[1:])]()
