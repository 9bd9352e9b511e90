"""Formulas from text, with their exact gradient. The text is read and never run.

It is looked at three times: its words, where habits like ``2x`` and ``x^2`` are found; its grammar, by :mod:`ast`; and
its tree, each node of which becomes one step of a short program. SymPy has the derivative of each step and writes the
program as NumPy code. It never sees the formula as a whole, of which it can make another function (its sqrt(x)**2 is
x), and which can take it hours ((3*x)**10**9). The gradient costs as much as a few values, for any number of variables.
"""

from __future__ import annotations

import ast
import itertools
import keyword
import math
import operator
import re
from collections import defaultdict
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from optcore.domains import nearest

__all__ = ["Formula", "parse"]

LONGEST = 1000
"""How many characters are read."""
EXACT = 2**53
"""Integers up to this one are float64 numbers. SymPy's and Python's are of any size, and NumPy 1 cannot take such."""

OPERATIONS: dict[type[ast.AST], str] = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.Pow: "**"}
NUMPY: dict[str, Callable[..., Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "**": operator.pow,
    "sqrt": np.sqrt,
    "exp": np.exp,
    "log": np.log,
    "sin": np.sin,
    "cos": np.cos,
    "tan": np.tan,
    "asin": np.arcsin,
    "acos": np.arccos,
    "atan": np.arctan,
    "sinh": np.sinh,
    "cosh": np.cosh,
    "tanh": np.tanh,
    "asinh": np.arcsinh,
    "acosh": np.arccosh,
    "atanh": np.arctanh,
    "abs": np.abs,
}
FUNCTIONS = [name for name in NUMPY if name.isalpha()]
CONSTANTS = {"pi": math.pi, "e": math.e, "E": math.e}
TOKEN = re.compile(
    r"(?P<number>(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9][0-9_]*)(?:[eE][+-]?[0-9]+)?)"
    r"|(?P<name>[A-Za-z_][A-Za-z0-9_]*)"
    r"|(?P<sign>\*\*|[-+*/(),])"
    r"|(?P<other>\S)"
)
ACCEPTED = "accepted are numbers, names of variables, + - * / **, parentheses and functions of one argument"


class Formula(NamedTuple):
    """A function of named variables and its gradient, both of a float64 array with one number for each variable."""

    variables: tuple[str, ...]
    value: Callable[[np.ndarray], float]
    gradient: Callable[[np.ndarray], np.ndarray]


def parse(text: str) -> Formula:
    """The function that a text like ``(1 - x)**2 + 100*(y - x**2)**2`` describes.

    Numbers, ``+ - * / **``, parentheses, the functions ``sqrt exp log sin cos tan asin acos atan sinh cosh tanh asinh
    acosh atanh abs``, the constants ``pi`` and ``e`` (or ``E``), and variables: all other names of ASCII letters,
    digits and underscores. All numbers are float64.

    Parameters
    ----------
    text : str
        At most 1000 characters.

    Returns
    -------
    Formula
        Its variables are in alphabetical order, capitals first, and numbers in them count as numbers: x, x2, x10, y.
        Its functions give nan where they are not defined, as NumPy does, without a warning.

    Raises
    ------
    ValueError
        Anything else is in the text, a constant in it is no finite float64, or its value does not depend on a
        variable; the message points at the place.
    ModuleNotFoundError
        SymPy is not installed.

    Notes
    -----
    The gradient is that of reverse accumulation (Griewank & Walther, Evaluating Derivatives, 2008, section 3.2): the
    chain rule from the last step to the first. The same part in two places is counted once, and nothing is rearranged,
    but what is taken from or divided by itself is gone, as in ``x - x``.

    Where there is no derivative, the gradient has what the rules give: for ``abs`` at 0 it is 0, for ``sqrt`` inf.

    Examples
    --------
    >>> import numpy as np
    >>> f = parse("2*x**2 - 2*x*y_1")
    >>> f.variables
    ('x', 'y_1')
    >>> x = np.array([3.0, 1.0])
    >>> f.value(x), f.gradient(x)
    (12.0, array([10., -6.]))
    >>> parse("2x**2")
    Traceback (most recent call last):
    ...
    ValueError: in '2x**2', at character 2, 'x': an operation is missing before it; a product is written 2*x
    """
    if not isinstance(text, str):
        raise TypeError(f"a formula is described by a string, got {text!r}")
    if len(text) > LONGEST:
        raise ValueError(f"a formula of at most {LONGEST} characters is read, not of {len(text)}")
    text = re.sub(r"\s", " ", text).strip()  # lines may end anywhere, and messages count characters
    variables = check_words(text)
    too_deep = ValueError(f"{text[:50]!r}... is nested too deeply")
    try:
        tree = ast.parse(text, mode="eval").body
    except SyntaxError as error:
        start = error.offset - 1 if error.offset else len(text)  # 0: at the end
        part = TOKEN.match(text, start)
        raise refuse(text, start, part[0] if part else "the end", f"this cannot be read ({error.msg})") from None
    except (RecursionError, MemoryError):
        raise too_deep from None
    try:
        return derive(text, tree, variables)
    except RecursionError:
        raise too_deep from None


def refuse(text: str, start: int, part: str, reason: str) -> ValueError:
    """The error about a part of the text, which starts at character ``start`` (from 0)."""
    part = part if len(part) <= 40 else f"{part[:37]}..."
    return ValueError(f"in {text!r}, at character {start + 1}, {part!r}: {reason}")


def alphabetical(name: str) -> list[tuple[float, str]]:
    """The key that sorts names by the alphabet, capitals first, and numbers in them by value."""
    return [(int(part), part) if part.isdigit() else (math.inf, part) for part in re.split(r"([0-9]+)", name)]


def check_words(text: str) -> dict[str, int]:
    """The variables and where each is first, if the text has numbers, names and signs, with a sign between any two."""
    tokens = list(TOKEN.finditer(text))
    variables: dict[str, int] = {}
    before = "("
    for token, following in itertools.zip_longest(tokens, tokens[1:]):
        kind, word, after = token.lastgroup, token[0], following and following[0]
        reason = None
        if kind == "other":
            reason = "use ** for a power" if word == "^" else ACCEPTED
        elif kind == "name" and (keyword.iskeyword(word) or "__" in word):
            reason = "this cannot be the name of a variable"
        elif (kind != "sign" or word == "(") and before not in FUNCTIONS and before[-1] not in "+-*/(,":
            reason = f"an operation is missing before it; a product is written {before}*{word}"
        elif word in FUNCTIONS and after != "(":
            reason = f"a function needs parentheses: {word}(x)"
        elif kind == "name" and word not in FUNCTIONS and after == "(":
            reason = f"a product is written {word}*(, and there is no such function{nearest(word, FUNCTIONS)}"
        if reason is not None:
            raise refuse(text, token.start(), word, reason)
        if kind == "name" and word not in FUNCTIONS and word not in CONSTANTS:
            variables.setdefault(word, token.start())
        before = word
    return variables


def derive(text: str, tree: ast.expr, variables: dict[str, int]) -> Formula:
    """The formula of a tree, given its variables and their places; ValueError at a node that is not accepted."""
    try:
        import sympy
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f'reading a formula needs {error.name}, which is not installed: pip install "optcore[all]"', name=error.name
        ) from None
    # The names of variables are the user's, and could be those of functions in the code that SymPy writes.
    names = sorted(variables, key=alphabetical)
    symbols = {name: sympy.Symbol(f"v_{i}", real=True) for i, name in enumerate(names)}
    steps: dict[Any, Any] = {}

    def build(node: ast.expr) -> Any:
        """What a node stands for: a float where it is constant, else a symbol."""
        reason = ACCEPTED
        try:
            match node:
                case ast.Constant(value=int() | float() as number):
                    return to_float(number)
                case ast.Name(id=name):
                    return CONSTANTS[name] if name in CONSTANTS else symbols[name]
                case ast.UnaryOp(op=ast.UAdd(), operand=operand):
                    return build(operand)
                case ast.UnaryOp(op=ast.USub(), operand=operand):
                    return add_step(steps, "*", -1.0, build(operand))
                case ast.BinOp(left=left, op=sign, right=right) if type(sign) in OPERATIONS:
                    return add_step(steps, OPERATIONS[type(sign)], build(left), build(right))
                case ast.Call(func=ast.Name(id=name), args=[argument], keywords=[]):
                    return add_step(steps, name, build(argument))
        except ArithmeticError as error:
            reason = str(error)
        raise refuse(text, node.col_offset, text[node.col_offset : node.end_col_offset], reason)

    value = build(tree)
    if not variables:
        raise refuse(text, 0, text, "there is no variable in it")
    more_steps, slopes = backwards(steps, value, list(symbols.values()))
    for name, slope in zip(names, slopes, strict=True):
        if slope == 0:
            raise refuse(text, variables[name], name, "the value does not depend on it")

    def compiled(program: list[tuple[Any, Any]], results: list[Any]) -> Callable[..., list[Any]]:
        return sympy.lambdify([*symbols.values()], results, modules="numpy", cse=lambda _: (program, results))

    forwards = [(symbol, expression) for expression, symbol in steps.items()]
    of_numbers, slopes_of_numbers = compiled(forwards, [value]), compiled(forwards + more_steps, slopes)

    @np.errstate(all="ignore")
    def function(x: np.ndarray) -> float:
        return float(of_numbers(*x)[0])

    @np.errstate(all="ignore")
    def gradient(x: np.ndarray) -> np.ndarray:
        return np.array(slopes_of_numbers(*x), dtype=np.float64)

    return Formula(tuple(names), function, gradient)


def to_float(number: Any) -> float:
    """A number as float64; ArithmeticError if it is none."""
    try:
        value = float(number)
    except OverflowError:
        value = math.inf
    if not math.isfinite(value):
        raise ArithmeticError("this is no finite float64")
    return value


def to_sympy(value: Any) -> Any:
    """A float as SymPy's number, which is an integer if it can be, for x**2 to have the derivative 2*x."""
    import sympy

    if not isinstance(value, float):
        return value
    if value.is_integer() and abs(value) <= EXACT:
        return sympy.Integer(int(value))
    return sympy.Float(value, 17)  # the digits that tell a float64 from its neighbours


def add_step(steps: dict[Any, Any], name: str, *arguments: Any) -> Any:
    """The symbol of an operation on floats and symbols, or a float if it is constant; ArithmeticError if it is none."""
    if all(isinstance(argument, float) for argument in arguments):
        with np.errstate(all="ignore"):
            return to_float(NUMPY[name](*map(np.float64, arguments)))
    import sympy

    if name == "**" and isinstance(arguments[0], float) and arguments[0] <= 0.0:
        raise ArithmeticError("only a positive number can have a variable power")
    if name == "/" and arguments[1] == 0.0:
        raise ArithmeticError("this is no finite float64")
    operands = [to_sympy(argument) for argument in arguments]
    if name == "/":  # of symbols, as SymPy would multiply by 1/3 and take the power -1
        operands = [name_of(steps, operand) if operand.is_Number else operand for operand in operands]
    function = getattr(sympy, {"abs": "Abs"}.get(name, name)) if name in FUNCTIONS else NUMPY[name]
    expression = function(*operands)
    if not expression.free_symbols:
        return to_float(expression)
    return expression if expression.is_Symbol else name_of(steps, expression)


def name_of(steps: dict[Any, Any], expression: Any) -> Any:
    """The symbol of an expression of earlier symbols, which becomes a step if it is none."""
    import sympy

    return steps.setdefault(expression, sympy.Symbol(f"t_{len(steps)}", real=True))


def backwards(steps: dict[Any, Any], value: Any, variables: list[Any]) -> tuple[list[tuple[Any, Any]], list[Any]]:
    """The steps that follow for the gradient, and its components: expressions of the symbols of all steps."""
    import sympy

    more_steps: list[tuple[Any, Any]] = []
    slopes: defaultdict[Any, list[Any]] = defaultdict(list, {value: [sympy.Float(1)]})
    for expression, symbol in reversed(steps.items()):
        slope = sympy.Add(*slopes.pop(symbol, []))
        if slope == 0 or expression.is_Number:  # only in what is cancelled, or a part of a quotient
            continue
        if not slope.is_Symbol:
            more_steps.append((sympy.Symbol(f"s_{len(more_steps)}", real=True), slope))
            slope = more_steps[-1][0]
        for argument in expression.free_symbols:
            slopes[argument].append(slope * sympy.diff(expression, argument).xreplace({expression: symbol}))
    return more_steps, [sympy.Add(*slopes[variable]) for variable in variables]
