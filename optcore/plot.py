"""Pictures of results and of schedules, each drawn on an axes, which is returned; and a schedule as text."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from optcore.compare import Comparison, silent
from optcore.schedules import Schedule, check_integer, check_schedule

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Points", "loss_curves", "save_loss_curves", "save_schedule_curve", "schedule_curve", "schedule_points"]

# Okabe & Ito 2008, distinct for all kinds of colour vision; without yellow, which is faint on white. The numbers of
# colours and of styles have no common divisor, so 28 lines differ, and neighbours differ in both.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
STYLES = ("-", (0, (5, 1)), (0, (1, 1)), (0, (5, 1, 1, 1)))
FLOOR = 0.01  # of what is left where a run has converged: what is nearer to the best leaves the picture
COLUMNS = 2000  # of pixels, that a schedule is looked at in
LARGEST = 1e250  # value that is drawn: a margin of some percent in logarithms must not overflow
FEW = 50  # steps that are seen one by one
BRAILLE = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]])  # the dots of a character


def loss_curves(comparison: Comparison, ax: Axes | None = None) -> Axes:
    """What is left of the way from the loss at the start to the best known one, in percent, against epochs or steps.

    Where the start is the best known, the way has no length: it is how far a loss is above, and there is no border.

    Parameters
    ----------
    comparison : Comparison
        From :func:`optcore.compare.compare`, with at least one row.
    ax : matplotlib axes, optional
        Where to draw; a new figure without it.

    Returns
    -------
    matplotlib axes
        With one line per optimizer, and then one at the border of what counts as converged. The legend has the order
        of the curves at their ends: the best at the bottom.
    """
    if ax is None:
        from matplotlib import pyplot

        _, ax = pyplot.subplots(figsize=(10, 6), layout="constrained")
    best, settings, task = comparison.best_known_loss, comparison.settings, comparison.task
    way = comparison.rows[0].run.losses[0] - best
    border = 100 * task.within
    floor = FLOOR * border
    rows = sorted(comparison.rows, key=lambda row: (row.outcome != "diverged", -row.run.losses[-1]))
    with np.errstate(over="ignore"):  # a run that diverged may be as far off as numbers go
        gaps = [100 * ((row.run.losses - best) / way) if way else row.run.losses - best for row in rows]
    for place, (row, gap) in enumerate(zip(rows, gaps, strict=True)):
        ax.plot(
            row.run.epochs,
            np.maximum(gap, floor / 100),  # zero has no logarithm
            label=f"{row.run.label} ({'diverged, ' * (row.outcome == 'diverged')}lr {row.run.lr:g})",
            color=COLOURS[place % len(COLOURS)],
            linestyle=STYLES[place % len(STYLES)],
            linewidth=3 - 2 * place / len(rows),  # where curves coincide, the wide ones can be seen behind the narrow
        )
    if way:
        ax.axhline(border, color="grey", linewidth=0.8)
        ax.annotate(
            f"converged: {border:g} % or less",
            (0.01, border),
            xycoords=("axes fraction", "data"),
            va="top",
            color="0.3",
        )
    end = min(gap[-1] for gap in gaps)
    if task.rows:
        title, time, loss = (
            f"{task.name}, batches of at most {settings.batch_size} rows",
            "epochs (passes over the training rows)",
            "training loss",
        )
    else:
        first_line = task.heading.partition("\n")[0]
        title, time, loss = "\n".join(textwrap.wrap(first_line, 100, max_lines=3)), "steps", "loss"
    ax.set(
        title=title,
        xlabel=time,
        ylabel=f"{loss} above the best known" + (" (% of that at the start)" if way else ""),
        yscale="log",
        ylim=(max(floor, min(end, border) / 3), 300),
        xlim=(0, settings.epochs),
    )
    ax.set_xscale("symlog", linthresh=1)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(lambda value, position: f"{value:g}")
    ax.grid(alpha=0.3)
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, handlelength=4)
    return ax


def save_loss_curves(comparison: Comparison, path: str | Path) -> None:
    """Writes the picture to a file, in the format of its suffix."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 6), layout="constrained")
    loss_curves(comparison, figure.subplots())
    figure.savefig(path, dpi=150)


# ---------------------------------------------------------------------------- schedules


class Points(NamedTuple):
    """Points of the curve of a schedule, with rising t."""

    t: NDArray[np.int64]
    values: NDArray[np.float64]


def schedule_points(schedule: Schedule, steps: int, progress: Callable[[float], Any] = silent) -> Points:
    """The points at t = 0 to steps - 1 from which the curve can be drawn; all of them up to 2000 steps.

    More steps are cut into 2000 columns of pixels. The first, the lowest, the highest and the last point of each are
    kept, for lines between them cover the same pixels as lines between all (Jugel et al., M4: a visualization-oriented
    time series data aggregation, 2014). The values are computed column by column: 10**9 steps take 8 MB.

    ``progress`` is called with the share of the whole that has been done.
    """
    schedule, steps = check_schedule("schedule", schedule), check_integer("steps", steps)
    columns = min(steps, COLUMNS)
    kept_t, kept_values = [], []
    for column in range(columns):
        t = np.arange(column * steps // columns, (column + 1) * steps // columns)
        values = schedule(t)
        kept = sorted({0, int(values.argmin()), int(values.argmax()), len(t) - 1})
        kept_t.append(t[kept])
        kept_values.append(values[kept])
        progress((column + 1) / columns)
    return Points(np.concatenate(kept_t), np.concatenate(kept_values))


def drawable(values: NDArray[np.float64], log: bool) -> NDArray[np.float64]:
    """NaN where a value has no place on the axis."""
    return np.where((abs(values) <= LARGEST) & ((values > 0) | (not log)), values, np.nan)


def schedule_curve(
    schedule: Schedule, steps: int, ax: Axes | None = None, *, log: bool = False, points: Points | None = None
) -> Axes:
    """The values of a schedule against the number of completed updates.

    Parameters
    ----------
    schedule : Schedule
    steps : int
        It is drawn from t = 0 to t = steps - 1.
    ax : matplotlib axes, optional
        Where to draw; a new figure without it.
    log : bool
        A logarithmic value axis, which leaves out what is not above 0. NaN and values beyond 1e250 are left out
        on any axis.
    points : Points, optional
        From :func:`schedule_points`, if they are known already.

    Returns
    -------
    matplotlib axes
        With one line.
    """
    if ax is None:
        from matplotlib import pyplot

        _, ax = pyplot.subplots(figsize=(10, 6), layout="constrained")
    t, values = schedule_points(schedule, steps) if points is None else points
    ax.plot(t, drawable(values, log), color=COLOURS[0], marker="." if steps <= FEW else "")
    ax.set(
        title="\n".join(textwrap.wrap(repr(schedule), 100, max_lines=3)),
        xlabel="completed updates t",
        ylabel="value",
        xlim=(0, max(steps - 1, 1)),
    )
    if log:
        ax.set_yscale("log")
    ax.grid(alpha=0.3)
    return ax


def save_schedule_curve(
    schedule: Schedule, steps: int, path: str | Path, *, log: bool = False, points: Points | None = None
) -> None:
    """Writes the picture to a file, in the format of its suffix."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 6), layout="constrained")
    schedule_curve(schedule, steps, figure.subplots(), log=log, points=points)
    figure.savefig(path, dpi=150)


# ---------------------------------------------------------------------------- as text


def text_curve(
    points: Points, width: int = 80, height: int = 16, *, log: bool = False, only_ascii: bool = False
) -> str:
    """The curve as height + 2 lines of text, with eight dots in a character; ``only_ascii`` makes it one star.

    It leaves out what :func:`schedule_curve` leaves out.

    Raises
    ------
    ValueError
        Nothing is left, or what is left is too small.
    """
    scaled = drawable(points.values, log)
    if np.isnan(scaled).all():
        raise ValueError(f"there is nothing to draw: no value is finite{' and above 0' * log}")
    scaled = np.log10(scaled) if log else scaled
    ticks = value_ticks(float(np.nanmin(scaled)), float(np.nanmax(scaled)), log)
    labels = tick_labels([10.0**tick for tick in ticks] if log else ticks)
    margin = max(map(len, labels)) + 1
    columns = width - margin - 3  # the axis on the left, and its name on the right
    down, across = (1, 1) if only_ascii else BRAILLE.shape
    last = max(int(points.t[-1]), 1)

    def row(value: Any) -> Any:  # of dots
        return (ticks[-1] - value) / (ticks[-1] - ticks[0]) * (height * down - 1)

    def column(t: Any) -> Any:
        return t / last * (columns * across - 1)

    dots = line_of_dots(column(points.t), row(scaled), columns * across, height * down)
    weights = np.array([[ord("*") - ord(" ")]]) if only_ascii else BRAILLE
    codes = (dots.reshape(height, down, columns, across) * weights[:, None, :]).sum(axis=(1, 3))
    blank = " " if only_ascii else "\N{BRAILLE PATTERN BLANK}"
    vertical, left_tick, corner, horizontal, lower_tick = "|++-+" if only_ascii else "│┤└─┬"
    labelled = {round(row(tick)) // down: label for tick, label in zip(ticks, labels, strict=True)}
    lines = []
    for i, drawn in enumerate(codes.tolist()):
        axis = left_tick if i in labelled else vertical
        curve = "".join(chr(ord(blank) + code) if code else " " for code in drawn)
        lines.append(f"{labelled.get(i, ''):>{margin}}{axis}{curve}".rstrip())
    base, under = [horizontal] * columns, [" "] * width
    for t in time_ticks(last, columns):
        place, label = round(column(t)) // across, str(t)
        start = min(margin + 1 + place - len(label) // 2, width - len(label))
        base[place] = lower_tick
        under[start : start + len(label)] = label
    return "\n".join([*lines, f"{corner:>{margin + 1}}{''.join(base)} t", "".join(under).rstrip()])


def line_of_dots(x: NDArray[np.float64], y: NDArray[np.float64], width: int, height: int) -> NDArray[np.bool_]:
    """A picture of the lines between points, without those from and to where y is NaN."""
    seen = np.isfinite(y)
    lengths = np.ceil(np.nan_to_num(np.maximum(abs(np.diff(x)), abs(np.diff(y))), nan=1.0)).clip(1)
    places = np.concatenate([[0.0], lengths.cumsum()])  # on the way along the lines, in dots
    way = np.arange(places[-1] + 1)
    across, down = np.interp(way, places, x), np.interp(way, places, y)
    drawn = np.isfinite(down)
    picture = np.zeros((height, width), np.bool_)
    for columns, rows in ((across[drawn], down[drawn]), (x[seen], y[seen])):  # a point may have no line
        picture[rows.round().astype(int), columns.round().astype(int)] = True
    return picture


def value_ticks(low: float, high: float, log: bool) -> list[float]:
    """Round numbers around all values, or with ``log`` the exponents of powers of ten around them."""
    if log:
        low, high = math.floor(low), max(math.ceil(high), math.floor(low) + 1)
        stride = math.ceil((high - low) / 5)
        return [float(high - stride * i) for i in range(math.ceil((high - low) / stride), -1, -1)]
    size = max(abs(low), abs(high))
    if high - low <= 1e-12 * size:  # flat, or nothing but roundings
        low, high = (low - size / 2, high + size / 2) if size else (-1.0, 1.0)
    if high - low < 1 / LARGEST:
        raise ValueError(f"values from {low:g} to {high:g} are too small to be drawn")
    step = round_step((high - low) / 5)
    return [i * step for i in range(math.floor(low / step), math.ceil(high / step) + 1)]


def time_ticks(last: int, columns: int) -> list[int]:
    """Round numbers from 0 to ``last``, no more than their labels leave room for."""
    step = round_step(max(last * (len(str(last)) + 4) / columns, last / 8, 1))
    return list(range(0, last + 1, round(step)))


def round_step(least: float) -> float:
    """1, 2 or 5 times a power of ten."""
    unit = 10.0 ** math.floor(math.log10(least))
    return next((unit * times for times in (1, 2, 5) if unit * times >= least), unit * 10)


def tick_labels(ticks: list[float]) -> list[str]:
    """As short as they can be while they differ."""
    labels: list[str] = []
    for digits in range(6, 18):
        labels = [f"{tick:.{digits}g}" for tick in ticks]
        if len(set(labels)) == len(ticks):
            break
    return labels
