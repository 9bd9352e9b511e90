"""What loops hand back and show: SciPy's result or one like it, its two kinds of callback, and a bar."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = ["Result", "new_style", "progress_bar", "result_class"]


class Result(dict):
    """What :func:`minimize` returns where SciPy is not installed: a mapping whose items are attributes as well."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None

    __setattr__ = dict.__setitem__  # type: ignore[assignment]
    __delattr__ = dict.__delitem__  # type: ignore[assignment]

    def __dir__(self) -> list[str]:
        return list(self)

    def __repr__(self) -> str:
        if not self:
            return "Result()"
        width = max(map(len, self))
        with np.printoptions(threshold=12, edgeitems=2, precision=3):
            rows = [(key, str(value).replace("\n", "\n" + " " * (width + 2))) for key, value in self.items()]
        return "\n".join(f"{key:>{width}}: {value}" for key, value in rows)


@functools.cache
def result_class() -> type[dict]:
    try:
        from scipy.optimize import OptimizeResult
    except ImportError:
        return Result
    return OptimizeResult


def new_style(callback: Any) -> Callable[[Any], Any] | None:
    """The callback as a function of an intermediate result, whichever of SciPy's two forms it has."""
    if callback is None:
        return None
    if not callable(callback):
        raise TypeError(f"callback must be callable, got {callback!r}")
    try:
        names = set(inspect.signature(callback).parameters)
    except ValueError:  # some that are built in do not tell
        names = set()
    if names == {"intermediate_result"}:
        return lambda result: callback(intermediate_result=result)
    return lambda result: callback(result.x)


def progress_bar(disp: bool, total: int, unit: str) -> Any:
    """A bar, if one is asked for, and tqdm is installed, and somebody watches; None otherwise."""
    if disp:
        with contextlib.suppress(ImportError):
            from tqdm import tqdm

            bar = tqdm(total=total, unit=f" {unit}", leave=False, disable=None)
            return None if bar.disable else bar
    return None
