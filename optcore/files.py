"""States of optimizers in files: ``.npz`` without pickles, whole or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np

from optcore.buffers import IN_MEMORY, Allocator
from optcore.expressions import parse
from optcore.feedback import Feedback
from optcore.schedules import Schedule

if TYPE_CHECKING:
    import zipfile

FORMAT = 1
ENTRIES: dict[str, type | tuple[type, ...]] = {
    "class": str,
    "switches": Mapping,
    "made_with": Mapping,
    "on_nonfinite": str,
    "t": (int, float),  # the optimizer says what is wrong with another number
    "skipped": int,
    "carried": list,
    "shared": Mapping,
    "groups": list,
    "state": Mapping,
}
PIECE = 2**20  # bytes of an array that are read at a time
LOST = "a function that no file can keep"


def is_lost(value: Any) -> bool:
    return value == LOST or (isinstance(value, (list, tuple)) and LOST in value)


def encode(value: Any) -> Any:
    """What JSON does not have: schedules are kept by their text, functions are lost."""
    if not isinstance(value, (Schedule, Feedback)):
        return LOST
    text = repr(value)
    try:
        again = parse(text, longest=None)
    except ValueError:  # a class of somebody else's
        return LOST
    if isinstance(value, Feedback):  # the same object may be in several places
        kept = {"schedule": text, "state": value.state_dict(), "object": id(value)}
        return kept if type(again) is type(value) else LOST
    return {"schedule": text} if again == value else LOST


def decoder() -> Callable[[dict[str, Any]], Any]:
    """The other way, for the objects of one file."""
    known: dict[int, Feedback] = {}

    def decode(entry: dict[str, Any]) -> Any:
        if "schedule" not in entry:
            return entry
        if entry.get("object") in known:
            return known[entry["object"]]
        schedule = parse(entry["schedule"], longest=None)
        if isinstance(schedule, Feedback):
            schedule.load_state_dict(entry["state"])
            known[entry["object"]] = schedule
        return schedule

    return decode


def check_state(state: Any) -> None:
    """ValueError where this is no state of this version."""
    if not isinstance(state, Mapping) or "format" not in state:
        raise ValueError("this is not the state of an optcore optimizer")
    if state["format"] != FORMAT:
        raise ValueError(f"the state has format {state['format']!r}; this version of optcore reads format {FORMAT}")
    for key, kind in ENTRIES.items():
        if key not in state:
            raise ValueError(f"the state lacks {key}")
        if not isinstance(state[key], kind) or isinstance(state[key], bool):
            raise ValueError(f"{key} of the state cannot be {state[key]!r}")
    if not 0 <= state["skipped"] <= 2**62:
        raise ValueError(f"skipped of the state cannot be {state['skipped']!r}")
    for key in ("clip_norm", "averaging"):
        if key not in state["shared"]:
            raise ValueError(f"the state lacks {key}")
    for group in state["groups"]:
        names = group.get("names") if isinstance(group, Mapping) else None
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError(f"a group of the state has no list of names: {group!r}")
    for name, arrays in state["state"].items():
        if not isinstance(arrays, Mapping):
            raise ValueError(f"the state of {name!r} cannot be {arrays!r}")


def quoted(name: str) -> str:
    """A parameter's name as a part of an entry's."""
    return quote(name, safe="", errors="surrogatepass")


def write_state(path: str | os.PathLike[str], state: Mapping[str, Any]) -> None:
    """Writes a state dictionary to a temporary file, which then takes the place of the old one."""
    import json  # these and those below cost more at import than the rest of optcore's Python
    import shutil

    arrays = {
        f"state/{quoted(name)}/{key}": array for name, kept in state["state"].items() for key, array in kept.items()
    }
    header = np.array(json.dumps({**state, "state": None}, default=encode))
    path = os.path.realpath(os.fsdecode(path))  # of a link, what it points to
    temporary = f"{path}.{os.urandom(4).hex()}.tmp"  # not from tempfile, whose files only their owner may read
    try:
        with open(temporary, "xb") as file:
            np.savez(file, header=header, **arrays)
            file.flush()
            os.fsync(file.fileno())
        if os.path.exists(path):
            shutil.copymode(path, temporary)
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        if isinstance(error, OSError) and error.filename == temporary:
            error.filename = path
        raise


@contextlib.contextmanager
def whole(path: str | os.PathLike[str]) -> Iterator[None]:
    """Errors of what is read here are the file's; ValueError says so."""
    import zipfile
    import zlib

    try:
        yield
    except (ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{os.fsdecode(path)} is not a whole state file of optcore: {error}") from error


def read_array(path: str | os.PathLike[str], archive: zipfile.ZipFile, name: str, allocator: Allocator) -> np.ndarray:
    """One array of an ``.npz`` file, read in pieces to where ``allocate`` wants it."""
    with contextlib.ExitStack() as stack:
        with whole(path):
            entry = stack.enter_context(archive.open(f"{name}.npy"))
            np.lib.format.read_magic(entry)
            shape, fortran, dtype = np.lib.format.read_array_header_1_0(entry)
            if fortran or dtype not in (np.float32, np.float64):
                raise ValueError(f"{name} is no C-contiguous array of float32 or float64")
        array = allocator.empty(name, shape, dtype)
        octets, place = array.reshape(-1).view(np.uint8), 0
        with whole(path):
            while piece := entry.read(PIECE):
                octets[place : place + len(piece)] = np.frombuffer(piece, np.uint8)
                place += len(piece)
            if place != octets.size:
                raise ValueError(f"{name} has {place} bytes in place of {octets.size}")
    return array


def read_state(path: str | os.PathLike[str], allocator: Allocator = IN_MEMORY) -> dict[str, Any]:
    """The state dictionary of a file that :meth:`Optimizer.save` wrote, its arrays where ``allocate`` wants them.

    Raises
    ------
    OSError
        The file cannot be read.
    ValueError
        It is truncated, or something else.
    ValueError, TypeError
        Of the allocator.
    """
    import json

    with open(path, "rb") as opened, contextlib.ExitStack() as stack:
        with whole(path):
            file = stack.enter_context(np.load(opened, allow_pickle=False))
            state = json.loads(str(file["header"]), object_hook=decoder())
            found = {
                name: [key for key in file.files if key.startswith(f"state/{quoted(name)}/")]
                for group in state["groups"]
                for name in group["names"]
            }
        state["state"] = {
            name: {key.rpartition("/")[2]: read_array(path, file.zip, key, allocator) for key in keys}
            for name, keys in found.items()
        }
    check_state(state)
    return state
