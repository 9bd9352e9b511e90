"""Pictures in motion: descent over contours, and a fitted curve on its way to the data; as GIF or as a film.

The frames are not evenly spaced in time: most happens in the first steps.
"""

from __future__ import annotations

import os
import secrets
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from optcore.domains import POSITIVE, check_flag, check_number
from optcore.plot import drawable
from optcore.plot_runs import (
    axes_or_new,
    history_of,
    legend_below,
    line_style,
    named_runs,
    numbers,
    paths_of,
    seen_points,
    trajectories,
)
from optcore.problems import Problem
from optcore.results import progress_bar
from optcore.schedules import check_integer

if TYPE_CHECKING:
    from matplotlib.animation import FuncAnimation
    from matplotlib.axes import Axes

__all__ = ["descent_animation", "fit_animation", "save_animation"]

CURVE = 200  # points of a fitted curve
FFMPEG = (
    "the program ffmpeg on the search path, or its place in matplotlib.rcParams['animation.ffmpeg_path'], such as "
    "imageio_ffmpeg.get_ffmpeg_exe() of pip install imageio-ffmpeg"
)
WRITERS = {
    ".gif": ("pillow", "Pillow, which comes with matplotlib: pip install pillow"),
    ".mp4": ("ffmpeg", FFMPEG),
    ".mov": ("ffmpeg", FFMPEG),
    ".webm": ("ffmpeg", FFMPEG),
}
"""What writes a file of that suffix, and how to get it."""


def frame_steps(last: int, frames: int) -> list[int]:
    """Steps from 0 to ``last`` that are shown: at first all, then at even ratios."""
    return np.unique(np.geomspace(1, last + 1, frames).round().astype(int) - 1).tolist()


def animated(ax: Axes, title: str, steps: list[int], show: Callable[[int], None]) -> FuncAnimation:
    """An animation that shows one step after the other, and stays at the last for a moment."""
    from matplotlib.animation import FuncAnimation

    def update(step: int) -> list[Any]:
        show(step)
        ax.set_title(f"{title}, step {step}" if title else f"step {step}")
        return []

    update(0)
    rest = [steps[-1]] * (len(steps) // 4)
    return FuncAnimation(ax.figure, update, steps + rest, init_func=list, interval=100)  # type: ignore[arg-type]


def descent_animation(
    problem: Problem | str, runs: Any, ax: Axes | None = None, *, limits: Any = None, frames: int = 60
) -> FuncAnimation:
    """The ways of runs over the contours of a function of two variables, as they grow.

    Parameters
    ----------
    problem, runs, ax, limits :
        As for :func:`optcore.plot_runs.trajectories`. A run that is shorter than others stays where it ended.
    frames : int
        At most so many steps are shown, beside the last one, which stays.

    Returns
    -------
    matplotlib.animation.FuncAnimation
        For :func:`save_animation`, or ``to_jshtml`` in a notebook.

    Raises
    ------
    TypeError, ValueError
        As of trajectories, or frames are not at least 2.

    Examples
    --------
    >>> import tempfile
    >>> import optcore as oc
    >>> from matplotlib.figure import Figure
    >>> booth = oc.problems.PROBLEMS["booth"]
    >>> options = {"lr": 0.05, "history": "x"}
    >>> res = oc.minimize(booth.fun, booth.start, jac=booth.jac, method="sgd", options=options)
    >>> animation = descent_animation("booth", {"sgd": res}, Figure().subplots(), frames=5)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_animation(animation, f"{folder}/descent.gif")
    """
    frames = check_integer("frames", frames, 2)
    paths = paths_of(runs)
    ax = trajectories(problem, runs, ax, limits=limits)
    corners = np.array([ax.get_xlim(), ax.get_ylim()]).T
    moved = [
        (line, end, seen_points(points, corners)[0])
        for line, end, points in zip(ax.lines[: 2 * len(paths) : 2], ax.lines[1::2], paths.values(), strict=False)
    ]

    def show(step: int) -> None:
        for line, end, points in moved:
            way = points[: step + 1]
            line.set_data(*way.T)
            end.set_data(*way[np.isfinite(way).all(axis=1)][-1:].T)

    return animated(ax, ax.get_title(), frame_steps(max(map(len, paths.values())) - 1, frames), show)


def fit_animation(
    x: Any,
    y: Any,
    predict: Callable[[NDArray[np.float64], NDArray[np.float64]], Any],
    runs: Any,
    ax: Axes | None = None,
    *,
    frames: int = 60,
) -> FuncAnimation:
    """Fitted curves, one for each run, as they move over their data.

    Parameters
    ----------
    x, y : array of shape (m,)
        The data, finite.
    predict : function
        ``predict(parameters, x)`` returns the curve at x of shape (200,), as an array of the same shape.
    runs : result of minimize, array of shape (steps + 1, n), or mapping from labels to them
        The parameters at each step. Results need ``options={"history": "x"}``. A run that is shorter than others stays
        where it ended.
    ax : matplotlib axes, optional
        Where to draw; a new figure without it. It may have a title.
    frames : int
        At most so many steps are shown, beside the last one, which stays.

    Returns
    -------
    matplotlib.animation.FuncAnimation
        The curve of parameters that are not finite is left out, and the legend says where a run diverged.

    Raises
    ------
    TypeError, ValueError
        Data have different shapes or are not finite, a run has no parameters, predict returns another shape, or frames
        are not at least 2.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from matplotlib.figure import Figure
    >>> slopes = np.linspace(0.0, 2.0, 20)[:, None]
    >>> def line(parameters, x):
    ...     return parameters[0] * x
    >>> animation = fit_animation([1.0, 2.0], [2.1, 3.9], line, {"by hand": slopes}, Figure().subplots(), frames=5)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_animation(animation, f"{folder}/fit.gif")
    """
    frames = check_integer("frames", frames, 2)
    x, y = numbers("x", x, (1,)), numbers("y", y, (1,))
    if x.shape != y.shape:
        raise ValueError(f"x and y must have the same shape, got {x.shape} and {y.shape}")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError("x and y must be finite")
    if not callable(predict):
        raise TypeError(f"predict must be a function of parameters and x, got {predict!r}")
    parameters = {label: history_of(label, run, "x")[1] for label, run in named_runs(runs).items()}
    grid = np.linspace(x.min(), x.max(), CURVE)
    margin = 0.3 * (float(np.ptp(y)) or 1.0)
    ax = axes_or_new(ax)
    ax.plot(x, y, "o", color="0.6", markersize=4, label="data")
    moved = []
    for place, (label, rows) in enumerate(parameters.items()):
        broken = np.flatnonzero(~np.isfinite(rows).all(axis=1))
        said = f" (diverged at step {broken[0]})" if len(broken) else ""
        style = line_style(place, len(parameters))
        (line,) = ax.plot(grid, curve_of(predict, rows[0], grid), label=f"{label}{said}".strip(), **style)
        moved.append((line, rows))
    title = ax.get_title()
    ax.set(xlabel="x", ylabel="y", ylim=(y.min() - margin, y.max() + margin))
    ax.grid(alpha=0.3)
    legend_below(ax)

    def show(step: int) -> None:
        for line, rows in moved:
            line.set_ydata(curve_of(predict, rows[min(step, len(rows) - 1)], grid))

    return animated(ax, title, frame_steps(max(map(len, parameters.values())) - 1, frames), show)


def curve_of(
    predict: Callable[[NDArray[np.float64], NDArray[np.float64]], Any],
    parameters: NDArray[np.float64],
    grid: NDArray[np.float64],
) -> NDArray[np.float64]:
    if not np.isfinite(parameters).all():
        return np.full(grid.shape, np.nan)
    with np.errstate(over="ignore", invalid="ignore"):  # of parameters on their way to infinity
        values = numbers("what predict returned", predict(parameters, grid), (1,))
    if values.shape != grid.shape:
        raise ValueError(f"predict must return an array of shape {grid.shape}, as x is, got shape {values.shape}")
    return drawable(values, log=False)


def save_animation(
    animation: FuncAnimation,
    path: str | os.PathLike[str],
    *,
    fps: float = 10.0,
    dpi: float = 80.0,
    disp: bool = False,
) -> None:
    """Writes an animation to a file, whole or not at all.

    Parameters
    ----------
    animation : FuncAnimation
    path : str or path
        Ends in ``.gif``, or in ``.mp4``, ``.mov`` or ``.webm`` where ffmpeg is installed.
    fps : float
        Frames in a second.
    dpi : float
        Pixels in an inch of the figure.
    disp : bool
        Show progress, if tqdm is installed and the terminal is watched.

    Raises
    ------
    ValueError
        The suffix is another one, or fps or dpi are not above 0.
    RuntimeError
        What writes such files is not installed, or fails; the message says what is missing, or what ffmpeg said.
    OSError
        The file cannot be written.
    """
    from matplotlib import rcParams
    from matplotlib.animation import Animation, writers

    if not isinstance(animation, Animation):
        raise TypeError(f"animation must be one of matplotlib, as fit_animation returns, got {animation!r}")
    fps, dpi = check_number("fps", fps, POSITIVE), check_number("dpi", dpi, POSITIVE)
    disp = check_flag("disp", disp)
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in WRITERS:
        raise ValueError(f"path must end in one of {', '.join(WRITERS)}, got {str(path)!r}")
    writer, needed = WRITERS[suffix]
    if not writers.is_available(writer):
        other = "" if suffix == ".gif" else "; a path that ends in .gif needs no other program"
        raise RuntimeError(f"{suffix} needs {needed}{other}")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {str(path.parent)!r} to write {path.name!r} into")
    temporary = path.with_name(f"{path.stem}.{secrets.token_hex(4)}.tmp{suffix}")
    bar: Any = None

    def progress(frame: int, total: int) -> None:
        nonlocal bar
        if bar is None:
            bar = progress_bar(disp, total, "frames")
        if bar is not None:
            bar.update(frame + 1 - bar.n)

    # What all players take. By default newer versions of ffmpeg choose one for webm that its own encoder refuses.
    film = [*rcParams["animation.ffmpeg_args"], "-pix_fmt", "yuv420p"] if writer == "ffmpeg" else None
    try:
        animation.save(temporary, writer=writer, fps=fps, dpi=dpi, extra_args=film, progress_callback=progress)  # type: ignore[arg-type]
        os.replace(temporary, path)
    except subprocess.CalledProcessError as error:
        reason = (error.stderr or "").strip().rpartition("\n")[2] or f"it ended with {error.returncode}"
        raise RuntimeError(f"ffmpeg could not write {str(path)!r}: {reason}") from error
    finally:
        temporary.unlink(missing_ok=True)
        if bar is not None:
            bar.close()
