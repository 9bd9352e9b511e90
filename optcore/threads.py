"""One thread for what is too small for more, and for each of many workers."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

__all__ = ["one_thread"]


class OneThread:
    """Limits BLAS and OpenMP to one thread while anybody is inside.

    Workers may be threads of one process. The number of BLAS threads is the process's: if each set it back to what it
    found, the first to leave would set it back for those who still compute. That of OpenMP is each thread's own.
    """

    def __init__(self) -> None:
        self._lock, self._inside = threading.Lock(), 0
        self._libraries: Any = None
        self._blas: Any = None

    @contextlib.contextmanager
    def __call__(self) -> Iterator[None]:
        with self._lock:
            if self._libraries is None:  # looking for them takes milliseconds
                from threadpoolctl import ThreadpoolController

                self._libraries = ThreadpoolController()
            if not self._inside:
                self._blas = self._libraries.limit(limits=1, user_api="blas")
            self._inside += 1
        try:
            with self._libraries.limit(limits=1, user_api="openmp"):
                yield
        finally:
            with self._lock:
                self._inside -= 1
                if not self._inside:
                    self._blas.restore_original_limits()


one_thread = OneThread()
