"""Formulas from text: values with NumPy's bits, gradients that are SymPy's, and mistakes that are pointed at."""

from __future__ import annotations

import contextlib
import inspect
import math
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import sympy
from hypothesis import given
from hypothesis import strategies as st

from optcore import formulas
from optcore.cli import pointed_at
from optcore.problems import from_expression

PAGE = Path(__file__).parents[1] / "docs" / "problems.md"

# Every operation and function, alone and in one another, without x*x and x**-1, which are the same numbers but not
# the same operations of NumPy.
ACCEPTED = [
    "x + y",
    "x - y",
    "x*y",
    "x/y",
    "x**y",
    "+x",
    "-x**2",
    "2**x",
    "e**x + E",
    "pi*x",
    "x/3",
    "3/x",
    "(x*y)**1.5",
    "x**0.1",
    "0.1*x + .5 + 5. + 1_000 + 2e-3",
    "9007199254740993*x + 123456789012345678901234567890",
    "((x))",
    " x\n\t+ y ",
    *(f"{name}({argument})" for name in formulas.FUNCTIONS for argument in ("x", "x**2 + y - 1/2", "x/y")),
    "sin(x*y)*sin(x*y)/exp(sin(x*y))",
    "tanh(x)/3*exp(x) - 0.1*abs(x - 1) + sqrt(x)*tan(y)",
    "log(1 + exp(-x*y)) + 0.5*(x**2 + y**2)",
    "((x + 1)*(y + 2)*(x + 3)*(y + 4)/(x + 5)/(y + 6))**3",
    "x**x**x - y**-0.5",
    "1/(1 + x/(1 + y/(1 + x/(1 + y))))",
    "100*(y - x**2)**2 + (1 - x)**2",
    "exp(-(x - y)**2/2)/sqrt(2*pi)",
]
NUMPY = {"pi": math.pi, "e": math.e, "E": math.e, **{name: formulas.NUMPY[name] for name in formulas.FUNCTIONS}}


@pytest.mark.parametrize("text", ACCEPTED)
@pytest.mark.parametrize("x", [0.375, 0.7, 1.7])
def test_formula(text, x):
    """The value has the bits of NumPy's for the same text, and the gradient is SymPy's of the whole, at 30 digits."""
    point = {"x": np.float64(x), "y": np.float64(0.4)}
    f = formulas.parse(text)
    at = np.array([point[name] for name in f.variables])
    with np.errstate(all="ignore"):
        expected = eval(" ".join(text.split()), NUMPY, point)
    np.testing.assert_equal(f.value(at), float(expected))
    if math.isnan(f.value(at)):
        return
    symbols = {name: sympy.Symbol(name, real=True) for name in f.variables}
    exact = [sympy.Rational(*float(number).as_integer_ratio()) for number in at]
    whole = sympy.sympify(" ".join(text.split()), locals={**symbols, "e": sympy.E})
    numbers = dict(zip(symbols.values(), exact, strict=True))
    slopes = [complex(whole.diff(symbol).subs(numbers).evalf(30)) for symbol in symbols.values()]
    # Fewer than 50 roundings; nothing here cancels more than a digit. Literals are float64 here and decimal there.
    np.testing.assert_allclose(f.gradient(at), slopes, rtol=1e-13, atol=1e-14)


def test_accepted_functions_and_operations_are_all_there():
    text = " ".join(ACCEPTED)
    assert all(f"{name}(" in text for name in formulas.FUNCTIONS)
    assert all(f" {name} " in f" {formulas.ACCEPTED.replace(',', ' ')} " for name in "+-*/")
    documented = inspect.getdoc(formulas.parse)
    assert f"``{' '.join(formulas.FUNCTIONS)}``" in " ".join(documented.split())


@st.composite
def polynomials(draw, depth=4):
    """Text of x, y, small integers, + - * and powers."""
    if depth == 0 or draw(st.integers(0, 4)) == 0:
        return draw(st.sampled_from(["x", "y", "1", "2", "3"]))
    sign = draw(st.sampled_from("+-*~^"))
    left = draw(polynomials(depth - 1))
    if sign == "~":
        return f"-({left})"
    if sign == "^":
        return f"({left})**{draw(st.integers(0, 2))}"
    return f"({left}){sign}({draw(polynomials(depth - 1))})"


@given(text=polynomials(), x=st.integers(-2, 2), y=st.integers(-2, 2))
def test_gradient_of_polynomials_is_exact(text, x, y):
    symbols = sympy.symbols("x y", real=True)
    whole = sympy.expand(sympy.sympify(text))
    whole = whole.subs(dict(zip(sympy.symbols("x y"), symbols, strict=True)))
    used = [symbol for symbol in symbols if str(symbol) in text]
    slopes = [whole.diff(symbol) for symbol in used]
    if not used or 0 in slopes:
        with contextlib.suppress(ValueError):  # it need not be found that the value does not depend on a variable
            formulas.parse(text)
        return
    f = formulas.parse(text)
    at = dict(zip(symbols, (x, y), strict=True))
    expected = [float(slope.subs(at)) for slope in slopes]
    # Equal, as all that is counted are integers below 2**53.
    assert f.gradient(np.array([at[symbol] for symbol in used], dtype=np.float64)).tolist() == expected


@given(number=st.floats(allow_nan=False, allow_infinity=False).filter(bool))
def test_constants_keep_their_bits(number):
    f = formulas.parse(f"{number!r}*x")
    one = np.ones(1)
    assert f.value(one) == f.gradient(one)[0] == number
    f = formulas.parse(f"x/{number!r}")
    with np.errstate(all="ignore"):
        expected = float(1.0 / np.float64(number))
    assert f.value(one) == f.gradient(one)[0] == expected


@pytest.mark.parametrize(
    ("text", "variables"),
    [
        ("(1 - x)**2 + 100*(y - x**2)**2", ("x", "y")),
        ("100*(y - x**2)**2 + (1 - x)**2", ("x", "y")),
        ("x10 + x2 + x1 + x + a3 + B", ("B", "a3", "x", "x1", "x2", "x10")),
        ("e1 + pi2 + epsilon + e*pi*E*z", ("e1", "epsilon", "pi2", "z")),
        ("x_10*x_2*_x", ("_x", "x_2", "x_10")),
    ],
)
def test_order_of_variables(text, variables):
    problem = from_expression(text)
    assert problem.variables == variables
    assert problem.start.tolist() == [1.0] * len(variables)
    assert problem.name == problem.description == text


def test_names_of_variables_cannot_clash_with_code():
    names = ["numpy", "array", "sign", "v_1", "v_0", "t_0", "s_0", "x0", "print", "self", "Abs", "I", "S", "N", "oo"]
    f = formulas.parse(" + ".join(f"{i + 2}*abs({name})*exp({name})" for i, name in enumerate(names)))
    order = [f.variables.index(name) for name in names]
    np.testing.assert_allclose(f.gradient(np.ones(len(names)))[order], 2 * math.e * np.arange(2, 17), rtol=1e-15)


@pytest.fixture
def programs(monkeypatch):
    """Where the expressions go that are made into code, a list for the value and one for the gradient."""
    found, lambdify = [], sympy.lambdify

    def spy(arguments, results, *, cse, **options):
        found.append([expression for _, expression in cse(results)[0]] + [sympy.sympify(part) for part in results])
        return lambdify(arguments, results, cse=cse, **options)

    monkeypatch.setattr(sympy, "lambdify", spy)
    return found


def test_same_part_is_counted_once(programs):
    formulas.parse("sin(x*y)**2 + 3*sin(y*x)*exp(x) + x/exp(x) + tanh(x)")
    for function, times in ((sympy.sin, (1, 1)), (sympy.exp, (1, 1)), (sympy.tanh, (1, 1)), (sympy.cos, (0, 1))):
        assert tuple(sum(part.count(function) for part in program) for program in programs) == times


def test_slope_of_a_square_needs_no_power(programs):
    formulas.parse("x**2")
    assert [part for part in programs[1] if part.has(sympy.Pow)] == [programs[0][0]]


@pytest.mark.parametrize(
    ("text", "x", "value", "slope"),
    [
        ("abs(x)", 0.0, 0.0, 0.0),
        ("abs(x)", -2.0, 2.0, -1.0),
        ("sqrt(x)", 0.0, 0.0, math.inf),
        ("sqrt(x)", -1.0, math.nan, math.nan),
        ("sqrt(x)**2", -1.0, math.nan, math.nan),
        ("log(x)", -1.0, math.nan, -1.0),
        ("log(x)", 0.0, -math.inf, math.inf),
        ("1/x", 0.0, math.inf, -math.inf),
        ("exp(x)", 1000.0, math.inf, math.inf),
        ("(-x)**0.5", 1.0, math.nan, math.nan),
        ("(3*x)**10**9", 0.25, 0.0, 0.0),
        ("x**1e300", 1.0, 1.0, 1e300),
        ("x**1e300", 2.0, math.inf, math.inf),
        ("9e15*(" * 40 + "x" + ")" * 40, 0.0, 0.0, math.inf),
        ("1e16*(" * 40 + "x" + ")" * 40, 0.0, 0.0, math.inf),
    ],
)
def test_edges(text, x, value, slope):
    f = formulas.parse(text)
    np.testing.assert_equal(f.value(np.array([x])), value)
    np.testing.assert_equal(f.gradient(np.array([x])), [slope])


def test_slope_of_a_power_of_a_product():
    assert formulas.parse("(x*y)**1.5").gradient(np.array([0.0, 2.0])).tolist() == [0.0, 0.0]


REFUSED = [
    ("2x", 2, "an operation is missing before it; a product is written 2*x"),
    ("2 x", 3, "a product is written 2*x"),
    ("x 2", 3, "a product is written x*2"),
    ("2(x + 1)", 2, "a product is written 2*("),
    ("(x + 1)(x - 1)", 8, "a product is written )*("),
    ("(x)y", 4, "a product is written )*y"),
    ("2e", 2, "a product is written 2*e"),
    ("1.2.3", 4, "an operation is missing"),
    ("x(y + 1)", 1, "a product is written x*(, and there is no such function"),
    ("1 + arcsin(x)", 5, "did you mean 'asin'?"),
    ("x^2", 2, "use ** for a power"),
    ("sin x", 1, "a function needs parentheses: sin(x)"),
    ("x*sin", 3, "a function needs parentheses: sin(x)"),
    ("sin()", 1, formulas.ACCEPTED),
    ("sin(x, y)", 1, formulas.ACCEPTED),
    ("sin(*x)", 5, formulas.ACCEPTED),
    ("sin(x, **x)", 1, formulas.ACCEPTED),
    ("sin(**x)", 1, formulas.ACCEPTED),
    ("x // y", 1, formulas.ACCEPTED),
    ("x, y", 1, formulas.ACCEPTED),
    ("()", 1, formulas.ACCEPTED),
    ("x % y", 3, formulas.ACCEPTED),
    ("x = 3", 3, formulas.ACCEPTED),
    ("x.real", 2, formulas.ACCEPTED),
    ("x[0]", 2, formulas.ACCEPTED),
    ("'x'", 1, formulas.ACCEPTED),
    ("x # y", 3, formulas.ACCEPTED),
    ("x; y", 2, formulas.ACCEPTED),
    ("x := 1", 3, formulas.ACCEPTED),
    ("x @ y", 3, formulas.ACCEPTED),
    ("~x", 1, formulas.ACCEPTED),
    ("x < y", 3, formulas.ACCEPTED),
    ("x\x00", 2, formulas.ACCEPTED),
    ("x²", 2, formulas.ACCEPTED),
    ("\uff58 + 1", 1, formulas.ACCEPTED),
    ("lambda", 1, "this cannot be the name of a variable"),
    ("x if y else z", 3, "this cannot be the name of a variable"),
    ("not x", 1, "this cannot be the name of a variable"),
    ("None*x", 1, "this cannot be the name of a variable"),
    ("__import__('os')", 1, "this cannot be the name of a variable"),
    ("x.__class__", 2, formulas.ACCEPTED),
    ("a__b", 1, "this cannot be the name of a variable"),
    ("x +", 4, "this cannot be read"),
    ("", 1, "this cannot be read"),
    ("  ", 1, "this cannot be read"),
    ("*x", 1, "this cannot be read"),
    ("x */ y", 4, "this cannot be read"),
    ("2*(x", 3, "this cannot be read ('(' was never closed)"),
    ("x)", 2, "this cannot be read (unmatched ')')"),
    ("007*x", 1, "this cannot be read"),
    ("3", 1, "there is no variable in it"),
    ("pi", 1, "there is no variable in it"),
    ("x - x", 1, "the value does not depend on it"),
    ("y + (x - x)", 6, "the value does not depend on it"),
    ("y + x*y - y*x", 5, "the value does not depend on it"),
    ("0*x", 3, "the value does not depend on it"),
    ("y + x**0", 5, "the value does not depend on it"),
    ("1**x", 4, "the value does not depend on it"),
    ("x/x", 1, "the value does not depend on it"),
    ("x2 + x - x", 6, "the value does not depend on it"),
    ("9**9**9", 1, "this is no finite float64"),
    ("x + 2**(10**9)", 5, "this is no finite float64"),
    ("x*1e999", 3, "this is no finite float64"),
    ("x + 1/0", 5, "this is no finite float64"),
    ("x/0", 1, "this is no finite float64"),
    ("x/(2 - 2)", 1, "this is no finite float64"),
    ("x*log(-1)", 3, "this is no finite float64"),
    ("x*(-8)**(1/3)", 3, "this is no finite float64"),
    ("(-2)**x", 1, "only a positive number can have a variable power"),
    ("0**x", 1, "only a positive number can have a variable power"),
    ("x + " + "9" * 900, 5, "this is no finite float64"),
    ("(" * 300 + "x" + ")" * 300, 201, "this cannot be read (too many nested parentheses)"),
]


@pytest.mark.parametrize(("text", "character", "reason"), REFUSED, ids=[repr(row[0][:30]) for row in REFUSED])
def test_refused(text, character, reason):
    with pytest.raises(ValueError) as info:
        from_expression(text)
    message, text = str(info.value), text.strip()
    assert message.startswith(f"in {text!r}, at character {character}, ")
    assert reason in message
    if text.isascii() and text.isprintable() and len(text) < 80:
        shown, below, mark = pointed_at(text, message).split("\n")
        assert (below, mark) == (text, "^".rjust(character))
        assert reason in shown


@pytest.mark.parametrize(
    ("text", "start", "error", "message"),
    [
        (b"x", None, TypeError, "a formula is described by a string, got b'x'"),
        ("x*y", [1], ValueError, "start must have a number for each of x, y, in this order, got 1"),
        ("x*y", [1, 2, 3], ValueError, "start must have a number for each of x, y, in this order, got 3"),
        ("x*y", [[1, 2]], ValueError, "start must have shape (any,), got (1, 2)"),
        ("x*y", [1, None], TypeError, "start must be an array of numbers"),
        ("x*y", [1, math.nan], ValueError, "start must be finite"),
    ],
)
def test_bad_arguments(text, start, error, message):
    with pytest.raises(error) as info:
        from_expression(text, start)
    assert message in str(info.value)


def test_nested_too_deeply():
    with pytest.raises(ValueError, match=r"^'-{50}'... is nested too deeply$"):
        formulas.parse("-" * 999 + "x")


def test_too_long():
    with pytest.raises(ValueError, match=r"^a formula of at most 1000 characters is read, not of 1000002$"):
        formulas.parse("9" * 10**6 + "*x")


@pytest.mark.parametrize(
    "text",
    [
        "*".join(f"a{i}" for i in range(200)),
        "+".join(f"a{i}" for i in range(200)),
        "*".join(f"(x + {i})" for i in range(1, 90)),
        "sin(" * 150 + "x" + ")" * 150,
        "x**" * 150 + "x",
        "(" * 80 + "3*x" + ")**1000" * 80,
        "exp(1000*x*1000*1000*log(3*z)/x)",
    ],
    ids=lambda text: text[:20],
)
def test_large_formulas_are_read(text):
    """SymPy takes from minutes to for ever for some of these as a whole."""
    f = formulas.parse(text)
    assert f.gradient(np.ones(len(f.variables))).shape == (len(f.variables),)


def test_without_sympy(monkeypatch):
    monkeypatch.setitem(sys.modules, "sympy", None)
    with pytest.raises(ModuleNotFoundError, match=r'^reading a formula needs sympy, .* pip install "optcore') as info:
        from_expression("x**2")
    assert info.value.name == "sympy"


# ---------------------------------------------------------------------------- the page about them


@pytest.mark.skipif(not PAGE.exists(), reason="needs the source tree")
def test_page_says_what_is_accepted_and_what_is_said_of_the_rest():
    page = PAGE.read_text()
    assert f"`{' '.join(formulas.FUNCTIONS)}`" in page
    assert f"up to {formulas.LONGEST} characters" in page
    _, _, table = page.partition("| text | what is said |\n|---|---|\n")
    rows = re.findall(r"^\| `(.+)` \| (.+) \|$", table, re.M)
    assert len(rows) == 9
    for text, said in rows:
        with pytest.raises(ValueError) as info:
            formulas.parse(text)
        assert said in str(info.value)
    shown = re.search(r'^\$ optcore compare "(.*)"\noptcore: ((?:.*\n){3})```$', page, re.M)
    with pytest.raises(ValueError) as info:
        formulas.parse(shown[1])
    assert pointed_at(shown[1], str(info.value)) == shown[2].rstrip()
