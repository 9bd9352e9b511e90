"""Where memory of other libraries becomes a NumPy array: one view of it, or the error that says why there is none.

Everything that takes arrays goes through `as_array`. A NumPy array is passed on as it is. Of anything else the buffer
protocol is asked first, because it locks what it exports and says whether it may be written; then DLPack.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

try:
    from numpy.lib.array_utils import byte_bounds
except ImportError:  # NumPy before 2.0
    from numpy import byte_bounds  # type: ignore[attr-defined, no-redef]

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["IN_MEMORY", "Allocator", "Array", "Arrays", "as_array", "is_array", "view"]


class SupportsDLPack(Protocol):
    """What exports its memory through DLPack."""

    def __dlpack__(self) -> Any: ...
    def __dlpack_device__(self) -> tuple[Any, Any]: ...


if TYPE_CHECKING:
    Array = Buffer | SupportsDLPack
else:
    Array = Any
Arrays = Array | Sequence[Array] | Mapping[str, Array]

HOST = (1, 3, 11, 13)
"""The devices of DLPack whose memory the CPU can read: its own, pinned for CUDA or ROCm, and managed by CUDA."""
DEVICES = {2: "CUDA", 4: "OpenCL", 7: "Vulkan", 8: "Metal", 9: "VPI", 10: "ROCm", 14: "oneAPI", 15: "WebGPU"}


def is_array(value: Any) -> bool:
    """Whether a value offers memory to be looked at: an array, though perhaps one that cannot be used."""
    if isinstance(value, np.generic):  # a number, although it exports a buffer
        return False
    if isinstance(value, np.ndarray) or hasattr(value, "__dlpack__"):
        return True
    try:
        memoryview(value)
    except TypeError:
        return False
    except (BufferError, ValueError):  # not this time
        pass
    return True


def view(what: str, value: Any, *, brief: bool = False) -> np.ndarray:
    """A NumPy array on the memory of an array of any library. It is ``value`` itself, if that is a NumPy array.

    While the view lives its memory is not freed. Exporters of buffers, and torch, do not resize it either, unless the
    view is ``brief``: gone before the caller's code runs again.

    Raises
    ------
    TypeError
        Not an array, a subclass with other semantics, or one that cannot be looked at where it lies.
    """
    kind = type(value).__name__
    if isinstance(value, np.ndarray):
        if type(value) not in (np.ndarray, np.memmap):
            raise TypeError(
                f"{what} is a {kind}, whose extra meaning would be lost; pass a plain array: numpy.asarray(...)"
            )
        return value
    if not is_array(value):
        raise TypeError(
            f"{what} must be a NumPy array, got {kind}; use numpy.array(...), or what exports a buffer or DLPack"
        )
    try:
        exported = memoryview(value)
    except (TypeError, BufferError, ValueError) as error:
        if not hasattr(value, "__dlpack__"):
            raise TypeError(f"{what} ({kind}) does not export its buffer: {error}") from error
        exported = None
    if exported is None:
        return dlpack_view(what, value, brief)
    try:
        return np.asarray(exported)
    except (BufferError, ValueError) as error:
        raise TypeError(
            f"{what} ({kind}) has no view in NumPy, with its format {exported.format!r}: {str(error).rstrip('.')}. It "
            "must be float32 or float64, in one piece of memory"
        ) from error


def dlpack_view(what: str, value: Any, brief: bool) -> np.ndarray:
    """The view of what exports DLPack; it can be written where that is known to be allowed."""
    kind = type(value).__name__
    try:
        if getattr(value, "requires_grad", False):  # torch exports only what it does not record
            value = value.detach()
        # torch exports the memory, which holds the negative of such a tensor; conjugate ones it does not export.
        negative = hasattr(value, "is_neg") and value.is_neg()
        device = int(value.__dlpack_device__()[0])
        if device in HOST and not negative:
            shared = shared_view(value)
            return shared if brief else own_view(value, shared)
    except Exception as error:  # whatever the other library raises
        raise TypeError(
            f"{what} ({kind}) has no view through DLPack: {str(error).rstrip('.')}. It must be float32 or float64, "
            "dense, and in the memory of the CPU"
        ) from error
    if negative:
        raise TypeError(
            f"{what} ({kind}) has its negative bit set: its memory has the other sign; call .resolve_neg() of it first"
        )
    name = DEVICES.get(device, f"DLPack's number {device}")
    raise TypeError(f"{what} ({kind}) is on another device ({name}); copy it to the memory of the CPU first")


def shared_view(value: Any) -> np.ndarray:
    try:
        return np.from_dlpack(value, copy=False)
    except TypeError:  # NumPy before 2.1, or an exporter from before there was the keyword
        return np.from_dlpack(value)


def own_view(value: Any, shared: np.ndarray) -> np.ndarray:
    """The array that the exporter itself makes, if it is one of the same memory.

    It knows more than DLPack tells: whether the memory may be written, of which older versions of the protocol (all
    that NumPy 1.26 reads) say nothing; and torch does not resize memory of which it made an array.
    """
    if not hasattr(value, "__array__"):
        return shared
    own = np.asarray(value)
    same = (
        all(getattr(own, name) == getattr(shared, name) for name in ("dtype", "shape", "strides"))
        and own.ctypes.data == shared.ctypes.data
    )
    return own if same else shared


def as_array(
    what: str,
    value: Any,
    dtype: np.dtype | None = None,
    shape: tuple[int, ...] | None = None,
    *,
    writeable: bool = False,
    brief: bool = False,
) -> np.ndarray:
    """The `view` of a value that can be used where it lies; the error says what to do about one that cannot.

    Raises
    ------
    TypeError
        There is no view, or its dtype is another.
    ValueError
        Another shape or memory layout, unaligned, or read-only where it would be written.
    """
    array = view(what, value, brief=brief)
    kind = "" if array is value else f" ({type(value).__name__})"
    accepted = "float32 or float64" if dtype is None else str(dtype)
    if array.dtype not in (np.float32, np.float64) or (dtype is not None and array.dtype != dtype):
        found = str(array.dtype) if array.dtype.isnative else f"{array.dtype} (foreign byte order)"
        advice = "use .astype(...)"
        if kind:
            kept = "float32" if np.can_cast(array.dtype, np.float32) else "float64"
            advice = f"pass numpy.array(..., {kept if dtype is None else accepted!r})"
            if array.dtype.itemsize == 1:
                advice = 'if its bytes are such numbers, memoryview(...).cast("f") or .cast("d") says so'
        raise TypeError(f"{what}{kind} has dtype {found}, but must be {accepted}; {advice}")
    if shape is not None and array.shape != shape:
        raise ValueError(f"{what}{kind} has shape {array.shape}, but its parameter has shape {shape}")
    if not array.flags.aligned:
        raise ValueError(f"{what}{kind} is not aligned in memory; use {'numpy.array(...)' if kind else '.copy()'}")
    if not array.flags.c_contiguous:
        advice = "use numpy.ascontiguousarray(...)"
        if writeable:
            advice = "its memory cannot be updated in place: make numpy.ascontiguousarray(...) the parameter"
        raise ValueError(
            f"{what}{kind} with shape {array.shape} and strides {array.strides} is not C-contiguous; {advice}"
        )
    if writeable and not array.flags.writeable:
        if kind:
            advice = "make numpy.array(...) of it the parameter"
            raise ValueError(f"{what}{kind} is exported read-only, but is updated in place; {advice}")
        advice = "make a .copy() the parameter, or use .setflags(write=True)"
        if getattr(array, "mode", None) == "r":
            advice = 'open the file with mode="r+"'
        raise ValueError(f"{what} is read-only, but is updated in place; {advice}")
    return array


class Allocator:
    """``allocate`` during one call, which must make arrays in memory that nothing uses: neither what the caller names,
    nor another array of this call. Nothing has been written to an array that is refused.

    Parameters
    ----------
    allocate : callable, optional
        ``allocate(shape, dtype)``. None: ``numpy.empty``, whose arrays need no check.
    used : iterable of (name, array)
        What else is in use, of any library; what has no `view` is passed over, because binding refuses it by name.

    Raises
    ------
    TypeError
        ``allocate`` is no function.
    """

    def __init__(self, allocate: Callable[..., Array] | None, used: Iterable[tuple[str, Any]] = ()):
        if allocate is not None and not callable(allocate):
            raise TypeError(f"allocate must be a function like numpy.empty, or None, got {allocate!r}")
        self.allocate = allocate
        self.spans: list[tuple[int, int, str]] = []
        for what, value in () if allocate is None else used:
            with contextlib.suppress(TypeError):
                array = view(what, value, brief=True)
                self.spans.append((*byte_bounds(array), what))

    def empty(self, what: str, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """An array that can be written to; TypeError or ValueError as of `as_array` if ``allocate`` made another."""
        if self.allocate is None:
            return np.empty(shape, dtype)
        made = f"{what} that allocate made"
        array = as_array(made, self.allocate(shape, dtype), dtype, shape, writeable=True)
        begin, end = byte_bounds(array)
        for first, last, other in self.spans:
            if first < end and begin < last:
                raise ValueError(f"{made} and {other} share memory; allocate must make a new array at each call")
        self.spans.append((begin, end, what))
        return array

    def full(self, what: str, content: Any, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """The same with this content."""
        array = self.empty(what, shape, dtype)
        array[...] = content
        return array


IN_MEMORY = Allocator(None)
