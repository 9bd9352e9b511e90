"""optcore inside compiled code: where its headers are, and its C functions for those who call by address.

C and Cython code includes ``optcore.h`` or cimports ``optcore``. Here is what ctypes, cffi, numba and SciPy need: the
same functions, by name, as capsules and addresses. What they do stands in ``optcore.h``.

    >>> import ctypes
    >>> from optcore.embedding import address
    >>> value = ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_void_p, ctypes.c_int64)(address("schedule_value"))
    >>> import optcore
    >>> schedule = optcore.Linear(1.0, 0.0, steps=4)
    >>> value(address(schedule), 3)
    0.25
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from optcore import _c_api

__all__ = ["address", "capsule", "get_include"]


def get_include() -> str:
    """The folder of ``optcore.h``, for the include directories of a C or Cython extension.

    >>> import os
    >>> import optcore
    >>> os.listdir(optcore.get_include())
    ['optcore.h']
    """
    return str(Path(__file__).parent / "include")


def capsule(name: str) -> Any:
    """A function of ``optcore.h`` as a capsule that is named by its C signature.

    Parameters
    ----------
    name : str
        As in the table of ``optcore.h``, such as ``"apply64"``; ``"_C_API"`` is the table itself.

    Raises
    ------
    ValueError
        There is no function of that name.

    Examples
    --------
    How far a schedule carries, the sum of its values, as SciPy integrates it without calling Python:

    >>> import ctypes
    >>> from scipy import LowLevelCallable
    >>> from scipy.integrate import quad
    >>> import optcore
    >>> schedule = optcore.Linear(1.0, 0.0, steps=4)
    >>> function = LowLevelCallable(capsule("schedule_at"), ctypes.c_void_p(address(schedule)))
    >>> function.signature
    'double (double, void *)'
    >>> round(quad(function, 0, 4, points=[1, 2, 3])[0], 6)
    2.5
    """
    return _c_api.capsule(name)


def address(what: str | Any) -> int:
    """Where a function of ``optcore.h`` is in memory, or a schedule.

    Parameters
    ----------
    what : str or schedule
        A name as :func:`capsule` takes it, or a schedule such as ``optcore.Cosine(...)``, for what takes a pointer to
        one. It stays where it is as long as it lives: keep a reference.

    Raises
    ------
    ValueError
        There is no function of that name, or the object is no schedule that can be evaluated without Python.
    """
    return _c_api.address(what)
