"""Who evaluates candidates: this process, processes of our own, or whatever the user's map-like reaches."""

from __future__ import annotations

import concurrent.futures
import contextlib
import multiprocessing
import os
import pickle
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

__all__ = ["Map", "mapping"]

Map = Callable[[Callable[[Any], Any], Sequence[Any]], Iterable[Any]]


@contextlib.contextmanager
def mapping(workers: int | Map, fun: Any, task: Any) -> Iterator[Map]:
    """The map for ``workers``; processes live as long as the ``with`` block. ``task`` holds the user's ``fun``."""
    if callable(workers):
        yield workers
        return
    if isinstance(workers, bool) or not isinstance(workers, (int, np.integer)):
        raise TypeError(f"workers must be an integer, or map-like as pool.map is; got {workers!r}")
    if workers < 1 and workers != -1:
        raise ValueError(f"workers must be at least 1, or -1 for one process per CPU; got {workers}")
    count = int(workers) if workers > 0 else getattr(os, "process_cpu_count", os.cpu_count)() or 1
    if count == 1:
        yield map
        return
    check_sendable(fun, task, count)
    # No plain fork: of a process with threads, it may hang. (Python 3.14 thinks so too.)
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    # An interrupt from the keyboard reaches the workers too: they end at once, and quietly.
    context, quiet = multiprocessing.get_context(method), (signal.SIGINT, signal.SIG_DFL)
    with concurrent.futures.ProcessPoolExecutor(count, context, signal.signal, quiet) as pool:
        yield lambda function, items: pool.map(function, items, chunksize=-(-len(items) // (4 * count)))


def check_sendable(fun: Any, task: Any, count: int) -> None:
    """TypeError where other processes could not unpickle the task; they would end without saying why."""
    interactive = not hasattr(sys.modules["__main__"], "__file__") and getattr(fun, "__module__", "") == "__main__"
    try:
        pickle.dumps(task)
        if interactive:
            raise TypeError("other processes do not see what was defined interactively")
    except Exception as error:
        raise TypeError(
            f"workers={count} sends fun and args to other processes, so they must be picklable: fun a function at "
            f"the top level of a module, say; got {fun!r}. Map-likes of joblib and Dask can send more"
        ) from error
