"""The scalar functions: kernel = reference in every bit, close to the exact value, and right at the edges."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optcore import _scalars as kernel
from optcore import reference

GOLDEN = np.load(Path(__file__).parent / "golden" / "scalars.npz")
INF, NAN = math.inf, math.nan
UNARY = ["exp", "log", "cos"]
BETAS = [0.9, 0.99, 0.999, 0.9999999, 0.5, 0.0, 1.0]
# Errors in ulps, as stated in the docstrings.
BOUND = {"exp": 0.75, "log": 0.501, "cos": 0.8, "pow": 0.8, "power": 0.501}

anything = st.floats() | st.floats(-1e3, 1e3) | st.floats(0.0, 4.0)


def bits(values):
    """Doubles as integers, all NaN alike: which NaN a processor makes is its own affair."""
    values = np.array(values, dtype=np.float64)
    values[np.isnan(values)] = NAN
    return values.view(np.int64)


def same(a, b):
    np.testing.assert_array_equal(bits(a), bits(b))


def sweep(name, size, seed):
    """Arguments of all magnitudes, and densely where a schedule has them."""
    rng = np.random.default_rng(seed)
    anywhere = rng.integers(0, 2**64, size // 4, dtype=np.uint64).view(np.float64)
    common = {"exp": (-750.0, 720.0), "log": (0.0, 3.0), "cos": (-4.0, 4.0), "pow": (0.0, 3.0)}[name]
    x = np.concatenate([anywhere, rng.uniform(*common, size - len(anywhere))])
    y = rng.uniform(-800.0, 800.0, size)
    y[::2] = rng.uniform(-3.0, 3.0, len(y[::2]))
    return (x, y) if name == "pow" else (x,)


def evaluate(name, *arguments):
    out = np.empty(len(arguments[0]))
    kernel.evaluate(name, out, *arguments)
    return out


# Kernel and reference


@given(anything)
@pytest.mark.parametrize("name", UNARY)
def test_kernel_equals_reference(name, x):
    same(getattr(kernel, name)(x), getattr(reference, name)(x))


@given(anything, anything)
def test_kernel_pow_equals_reference(x, y):
    same(kernel.pow(x, y), reference.pow(x, y))


@given(st.floats(0.0, INF) | st.floats(0.0, 2.0), st.integers(0, 2**63 - 1) | st.integers(0, 5000))
def test_kernel_power_equals_reference(base, n):
    same(kernel.power(base, n), reference.power(base, n))


@pytest.mark.parametrize("name", [*UNARY, "pow"])
def test_single_call_loop_and_reference_agree(name):
    arguments = sweep(name, 20_000, seed=1)
    rows = list(zip(*(column.tolist() for column in arguments), strict=True))
    single = [getattr(kernel, name)(*row) for row in rows]
    same(single, [getattr(reference, name)(*row) for row in rows])
    # A loop is made of vectors and a remainder: every element must come out the same in either.
    same(single, evaluate(name, *arguments))
    for start in range(1, 8):
        same(single[start:99], evaluate(name, *(column[start:99] for column in arguments)))


@pytest.mark.parametrize("base", [0.0, 1e-300, 0.5, 0.95, 0.9999, 1.0, 1.5, 1e300, INF, NAN])
def test_pow_with_the_logarithm_taken_once(base):
    y = sweep("pow", 5000, seed=2)[1]
    out = np.empty_like(y)
    kernel.evaluate_pow(out, base, y)
    same(out, [kernel.pow(base, exponent) for exponent in y.tolist()])


@pytest.mark.parametrize("beta", BETAS)
def test_power_at_every_update(beta):
    n = [*range(2001), *range(2**31 - 3, 2**31 + 3), *range(2**62 - 3, 2**62 + 3), 2**63 - 1]
    same([kernel.power(beta, k) for k in n], [reference.power(beta, k) for k in n])


def test_power_does_not_depend_on_its_cache():
    rng = np.random.default_rng(3)
    base = np.repeat([*BETAS, 1.001, 1e200, NAN], 300)
    n = rng.integers(0, 3000, len(base))
    n[::3] = np.sort(n[::3])
    fresh = np.array([kernel.power(*row) for row in zip(base.tolist(), n.tolist(), strict=True)])
    for order in (np.arange(len(base)), np.arange(len(base))[::-1], rng.permutation(len(base))):
        out = np.empty(len(base))
        kernel.evaluate_power(out, base[order], n[order])
        same(out, fresh[order])


# Accuracy


@pytest.mark.parametrize("name", BOUND)
def test_close_to_the_exact_value(name):
    columns = [GOLDEN[f"{name}_{label}"] for label in "xy" if f"{name}_{label}" in GOLDEN]
    high, low = GOLDEN[f"{name}_high"], GOLDEN[f"{name}_low"]
    value = np.array([getattr(kernel, name)(*row) for row in zip(*(c.tolist() for c in columns), strict=True)])
    error = np.abs((value - high) - low) / np.spacing(np.abs(high))
    # Below 1e-290 `low` is subnormal and tells nothing, and a power loses up to three of the smallest steps.
    small, large = np.abs(high) < 1e-290, np.abs(high) > 6e299
    assert error[~small & ~large].max() <= BOUND[name]
    assert error[large].max(initial=0.0) <= 0.8
    assert (np.abs(value - high) / np.spacing(np.abs(high)))[small].max(initial=0.0) <= (
        3.0 if name == "power" else 1.0
    )


def test_pow_is_exact_where_the_result_is_a_double():
    rng = np.random.default_rng(4)
    x = rng.uniform(0.0, 1e3, 10_000)
    same(evaluate("pow", x, np.ones_like(x)), x)
    short = np.floor(rng.uniform(1.0, 2.0**17, 10_000))
    same(evaluate("pow", short, np.full_like(x, 2.0)), short * short)
    same(evaluate("pow", short, np.full_like(x, 3.0)), short * short * short)
    same(evaluate("pow", short * short, np.full_like(x, 0.5)), short)


def test_cosine_never_rises_between_0_and_pi():
    # A cosine schedule must not climb. Evenly spaced, and double by double where two pieces of it meet.
    assert (np.diff(evaluate("cos", np.linspace(0.0, math.pi, 1_000_001))) <= 0.0).all()
    for centre in (1e-9, math.pi / 4, math.pi / 2, 3 * math.pi / 4, math.pi):
        around = np.arange(-100_000, 100_000) + np.float64(centre).view(np.int64)
        x = around.view(np.float64)
        assert (np.diff(evaluate("cos", x[x <= math.pi])) <= 0.0).all()


@given(st.floats(-3.5, 3.5))
def test_cosine_is_even(x):
    same(kernel.cos(-x), kernel.cos(x))


# Edges

SPECIAL = [
    ("exp", (0.0,), 1.0),
    ("exp", (-0.0,), 1.0),
    ("exp", (INF,), INF),
    ("exp", (-INF,), 0.0),
    ("exp", (NAN,), NAN),
    ("exp", (1e308,), INF),
    ("exp", (-1e308,), 0.0),
    ("exp", (709.782712893384,), 1.7976931348622732e308),
    ("exp", (709.7827128933841,), INF),
    ("exp", (-744.4400719213812,), 5e-324),
    ("exp", (-745.1332191019411,), 5e-324),
    ("exp", (-745.1332191019412,), 0.0),
    ("log", (1.0,), 0.0),
    ("log", (0.0,), -INF),
    ("log", (-0.0,), -INF),
    ("log", (-1.0,), NAN),
    ("log", (-5e-324,), NAN),
    ("log", (-INF,), NAN),
    ("log", (INF,), INF),
    ("log", (NAN,), NAN),
    ("log", (5e-324,), -744.4400719213812),
    ("log", (1.7976931348623157e308,), 709.782712893384),
    ("cos", (0.0,), 1.0),
    ("cos", (-0.0,), 1.0),
    ("cos", (5e-324,), 1.0),
    ("cos", (math.pi,), -1.0),
    ("cos", (math.pi / 2,), 6.123233995736766e-17),
    ("cos", (-math.pi,), -1.0),
    ("cos", (3.5,), -0.9364566872907963),
    ("cos", (math.nextafter(3.5, INF),), NAN),
    ("cos", (-1e300,), NAN),
    ("cos", (INF,), NAN),
    ("cos", (NAN,), NAN),
    ("pow", (2.0, 0.0), 1.0),
    ("pow", (0.0, 0.0), 1.0),
    ("pow", (INF, -0.0), 1.0),
    ("pow", (0.0, 0.5), 0.0),
    ("pow", (-0.0, 3.0), 0.0),
    ("pow", (0.0, 5e-324), 0.0),
    ("pow", (0.0, -0.5), INF),
    ("pow", (1.0, 1e308), 1.0),
    ("pow", (1.0, -1e308), 1.0),
    ("pow", (0.5, 1e308), 0.0),
    ("pow", (0.5, -1e308), INF),
    ("pow", (math.nextafter(1.0, 2.0), 1e308), INF),
    ("pow", (math.nextafter(1.0, 0.0), 1e308), 0.0),
    ("pow", (INF, 0.5), INF),
    ("pow", (INF, -0.5), 0.0),
    ("pow", (-1.0, 0.5), NAN),
    ("pow", (NAN, 0.5), NAN),
    ("pow", (0.5, NAN), NAN),
    ("pow", (2.0, 0.5), math.sqrt(2.0)),
    ("pow", (2.0, 1023.0), 2.0**1023),
    ("pow", (2.0, 1024.0), INF),
    ("pow", (2.0, -1074.0), 5e-324),
    ("pow", (2.0, -1076.0), 0.0),
    ("power", (0.0, 0), 1.0),
    ("power", (0.0, 1), 0.0),
    ("power", (1.0, 2**62), 1.0),
    ("power", (0.9, 2**62), 0.0),
    ("power", (0.1, 1), 0.1),
    ("power", (2.0, 1023), 2.0**1023),
    ("power", (2.0, 1024), INF),
    ("power", (1.001, 2**62), INF),
    ("power", (1e200, 1), 1e200),
    ("power", (1e200, 2), INF),
    ("power", (INF, 0), 1.0),
    ("power", (INF, 64), INF),
    ("power", (NAN, 1), NAN),
]


@pytest.mark.parametrize("module", [kernel, reference], ids=["kernel", "reference"])
@pytest.mark.parametrize(("name", "arguments", "value"), SPECIAL)
def test_special_values(module, name, arguments, value):
    same(getattr(module, name)(*arguments), value)


def test_underflow_is_gradual():
    x = np.linspace(-745.5, -707.0, 10_001)
    value = evaluate("exp", x)
    assert (np.diff(value) >= 0.0).all()
    exponents = np.frexp(value[value > 0.0])[1]
    assert np.array_equal(np.unique(exponents), np.arange(-1073, exponents.max() + 1))
    same(value, [reference.exp(v) for v in x.tolist()])


def test_arrays_that_cannot_be_used_are_refused():
    good = np.ones(4)
    for bad in (np.ones(3), np.ones(4, np.float32), np.ones(8)[::2]):
        with pytest.raises(ValueError, match="contiguous arrays of one size"):
            kernel.evaluate("exp", good, bad)
    with pytest.raises(ValueError, match="no function 'sin'"):
        kernel.evaluate("sin", good, good)
