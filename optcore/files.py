"""States of optimizers in files: ``.npz`` without pickles, whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import numpy as np

FORMAT = 1
LOST = "a function that no file can keep"


def has_function(value: Any) -> bool:
    return callable(value) or (isinstance(value, tuple) and any(map(callable, value)))


def is_lost(value: Any) -> bool:
    return value == LOST or (isinstance(value, (list, tuple)) and LOST in value)


def check_state(state: Any) -> None:
    """ValueError where this is no state of this version."""
    if not isinstance(state, Mapping) or "format" not in state:
        raise ValueError("this is not the state of an optcore optimizer")
    if state["format"] != FORMAT:
        raise ValueError(f"the state has format {state['format']!r}; this version of optcore reads format {FORMAT}")
    missing = {"class", "switches", "t", "skipped", "shared", "groups", "state"} - state.keys()
    if missing:
        raise ValueError(f"the state lacks {', '.join(sorted(missing))}")


def write_state(path: str | os.PathLike[str], state: Mapping[str, Any]) -> None:
    """Writes a state dictionary to a temporary file, which then takes the place of the old one."""
    arrays = {
        f"state/{quote(name, safe='')}/{key}": array
        for name, kept in state["state"].items()
        for key, array in kept.items()
    }
    header = np.array(json.dumps({**state, "state": None}, default=lambda function: LOST))
    path = os.fspath(path)
    temporary = f"{path}.{secrets.token_hex(4)}.tmp"  # not from tempfile, whose files only their owner may read
    try:
        with open(temporary, "xb") as file:
            np.savez(file, header=header, **arrays)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def read_state(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The state dictionary of a file that :meth:`Optimizer.save` wrote.

    Raises
    ------
    OSError
        The file cannot be read.
    ValueError
        It is truncated, or something else.
    """
    try:
        with open(path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
            state = json.loads(str(file["header"]))
            state["state"] = {
                name: {
                    key.rpartition("/")[2]: file[key]
                    for key in file.files
                    if key.startswith(f"state/{quote(name, safe='')}/")
                }
                for group in state["groups"]
                for name in group["names"]
            }
    except (ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{os.fspath(path)} is not a whole state file of optcore: {error}") from error
    check_state(state)
    return state
