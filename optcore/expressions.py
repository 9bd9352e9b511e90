"""Schedules from text, which is read and never run."""

from __future__ import annotations

import ast
import warnings
from typing import Any

from optcore import schedules
from optcore.domains import nearest
from optcore.feedback import BackOff, Feedback, Plateau
from optcore.schedules import Schedule, check_schedule

__all__ = ["parse"]

NAMES = {name: getattr(schedules, name) for name in schedules.__all__ if name != "Schedule"}
NAMES.update(BackOff=BackOff, Plateau=Plateau)
METHODS = ("clamp", "shift", "every")


def parse(text: str, longest: int | None = 10_000) -> Schedule | Feedback:
    """The schedule that a text like ``Warmup(500, Cosine(1e-3, steps=10_000)) * 0.5`` describes.

    The text is read, not run: names of schedules, their methods, ``*``, numbers, strings, tuples, None, True and False.

    Parameters
    ----------
    text : str
    longest : int or None
        How many characters are read at most.

    Raises
    ------
    ValueError
        Anything else is in it, or a schedule refuses its arguments; the message points at the place.

    Examples
    --------
    >>> parse("Linear(1.0, steps=4).clamp(0.5, 1)")(3)
    0.5
    """

    def refuse(node: ast.AST, reason: object) -> ValueError:
        part = ast.get_source_segment(text, node) or text
        return ValueError(f"in {text!r}, at character {node.col_offset + 1}, {part!r}: {reason}")

    def read(node: ast.AST) -> Any:
        if isinstance(node, ast.Constant) and isinstance(node.value, (bool, int, float, str, type(None))):
            return node.value
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            number = read(node.operand)
            if not isinstance(number, (int, float)):
                raise refuse(node, "only a number has a sign")
            return -number
        if isinstance(node, (ast.Tuple, ast.List)):
            return tuple(map(read, node.elts))
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
            left, right = read(node.left), read(node.right)
            if not isinstance(left, Schedule) and not isinstance(right, Schedule):
                raise refuse(node, "only a schedule can be multiplied")
            return attempt(node, lambda: left * right)
        if isinstance(node, ast.Call):
            arguments = [read(argument) for argument in node.args]
            keywords = {keyword.arg: read(keyword.value) for keyword in node.keywords if keyword.arg is not None}
            if len(keywords) < len(node.keywords):
                raise refuse(node, "** and repeated names are not read here")
            return attempt(node, lambda: function(node.func)(*arguments, **keywords))
        raise refuse(node, "only schedules, their methods, *, numbers, strings and tuples are read here")

    def function(node: ast.AST) -> Any:
        if isinstance(node, ast.Name):
            if node.id not in NAMES:
                raise refuse(node, f"there is no such schedule{nearest(node.id, sorted(NAMES))}")
            return NAMES[node.id]
        if isinstance(node, ast.Attribute) and node.attr in METHODS:
            return getattr(attempt(node.value, lambda: check_schedule("it", read(node.value))), node.attr)
        raise refuse(node, f"only names of schedules and the methods {', '.join(METHODS)} can be called")

    def attempt(node: ast.AST, make: Any) -> Any:
        try:
            return make()
        except (TypeError, ValueError) as error:
            if str(error).startswith("in "):  # the message has its place already
                raise
            raise refuse(node, error) from None

    if not isinstance(text, str):
        raise TypeError(f"a schedule is described by a string, got {text!r}")
    if longest is not None and len(text) > longest:
        raise ValueError(f"a text of at most {longest} characters is read, not of {len(text)}")
    text = text.strip()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python's about its own style
            tree = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError) as error:  # ValueError: a null byte
        raise ValueError(f"{text!r} cannot be read: {getattr(error, 'msg', error)}") from None
    except (RecursionError, MemoryError):
        raise ValueError(f"{text[:50]!r}... is nested too deeply") from None
    try:
        result = read(tree)
    except RecursionError:
        raise ValueError(f"{text[:50]!r}... is nested too deeply") from None
    if not callable(result):
        raise refuse(tree, "this is no schedule; a constant one is Constant(...)")
    return result
