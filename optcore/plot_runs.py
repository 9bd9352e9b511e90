"""Pictures of runs and of sweeps: histories, ways over contours, and maps of two hyper-parameters.

Each is drawn on an axes, which is returned. :mod:`optcore.plot` has those of comparisons and schedules,
:mod:`optcore.animation` has these in motion.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from optcore.domains import check_choice, check_flag, nearest
from optcore.plot import COLOURS, LARGEST, STYLES, drawable
from optcore.problems import PROBLEMS, Problem

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

__all__ = ["history_curves", "sweep_map", "sweep_points", "trajectories"]

DECADES = 100.0  # from the smallest to the largest value, where an axis is logarithmic
ROUNDING = 1e-9  # of the largest value: what is below 0 by less counts as 0
MESH = 200  # points of a contour plot along an axis
LEVELS = 14  # lines of a contour plot
MARKERS = "os^DvP*"  # as many as colours
QUANTITIES = {"loss": "loss", "gradient_norm": "largest element of the gradient", "lr": "learning rate"}
"""The columns of a history, and what the axis is called."""


def axes_or_new(ax: Axes | None) -> Axes:
    if ax is None:
        from matplotlib import pyplot

        _, ax = pyplot.subplots(figsize=(8, 6), layout="constrained")
    return ax


def line_style(place: int, count: int) -> dict[str, Any]:
    """Of the line at this place. Where lines coincide, the wide ones can be seen behind the narrow."""
    return {
        "color": COLOURS[place % len(COLOURS)],
        "linestyle": STYLES[place % len(STYLES)],
        "linewidth": 2.8 - 1.6 * place / count,
    }


def legend_below(ax: Axes) -> None:
    """A legend that covers nothing, in as many columns as there is room for."""
    from matplotlib.transforms import ScaledTranslation

    handles, labels = ax.get_legend_handles_labels()
    if not any(labels):
        return
    width = ax.get_position().width * ax.figure.bbox.width / ax.figure.dpi  # inches
    columns = int(width / (0.6 + 0.06 * max(map(len, labels))))
    ax.legend(
        handles,
        labels,
        loc="upper center",
        bbox_to_anchor=(0.5, 0),
        bbox_transform=ax.transAxes + ScaledTranslation(0, -0.5, ax.figure.dpi_scale_trans),  # type: ignore[arg-type]
        ncols=min(max(columns, 1), len(labels)),
        frameon=False,
        fontsize="small",
        handlelength=2.5,
        columnspacing=1.0,
    )


def numbers(name: str, value: Any, dimensions: Sequence[int]) -> NDArray[np.float64]:
    """``value`` as a float64 array with so many dimensions; TypeError or ValueError otherwise. NaN is a number here."""
    try:
        array = np.asarray(value)
    except ValueError:  # rows of different lengths
        array = np.asarray(None)
    if array.dtype.kind not in "iuf":
        raise TypeError(f"{name} must be an array of real numbers, got {value!r:.200}")
    if array.ndim not in dimensions or array.size == 0:
        accepted = " or ".join(map(str, dimensions))
        raise ValueError(f"{name} must have {accepted} dimensions and not be empty, got shape {array.shape}")
    return array.astype(np.float64)


def named_runs(runs: Any) -> dict[str, Any]:
    """Runs by their labels; a single one has an empty label."""
    if isinstance(runs, Mapping) and "history" not in runs and "nit" not in runs:
        if not runs:
            raise ValueError("runs must have at least one run, got none")
        return {str(label): run for label, run in runs.items()}
    return {"": runs}


def history_of(label: str, run: Any, column: str) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Steps and a column of a result, or of an array with a row for each step from 0 on."""
    name = f"the run {label!r}" if label else "the run"
    rows = (2,) if column == "x" else (1,)
    if not isinstance(run, Mapping):
        values = numbers(name, run, rows)
        return np.arange(len(values)), values
    history = run.get("history")
    if not isinstance(history, Mapping) or column not in history:
        wanted = '"x"' if column == "x" else "True"
        raise ValueError(f'{name} has no history of {column}; minimize with options={{"history": {wanted}}} keeps it')
    return np.asarray(history["step"]), numbers(f"the history of {name}", history[column], rows)


def remark(label: str, *remarks: str) -> str:
    """A label for the legend, and what is to be said of its line."""
    said = ", ".join(filter(None, remarks))
    return f"{label} ({said})" if label and said else label or said


def history_curves(
    runs: Any, ax: Axes | None = None, *, column: str = "loss", minimum: float = 0.0, log: bool | None = None
) -> Axes:
    """Loss, norm of the gradient or learning rate of runs against their steps.

    Parameters
    ----------
    runs : result of minimize, array of shape (steps + 1,), or mapping from labels to them
        An array has the value at the start, and after each step.
    ax : matplotlib axes, optional
        Where to draw; a new figure without it.
    column : {"loss", "gradient_norm", "lr"}
        Of ``res.history``.
    minimum : float
        Is subtracted, as the least loss if that is known.
    log : bool, optional
        A logarithmic value axis, which leaves out what is not above 0. By default it is logarithmic where values above
        0 span two decades, and none is below.

    Returns
    -------
    matplotlib axes
        With one line per run, in the order of the runs. The legend says where a run diverged, and, on a logarithmic
        axis, where it came to 0. What is NaN, infinite or beyond 1e250 is left out.

    Raises
    ------
    TypeError, ValueError
        There is no run, a run has no such history, or another argument is of no use.

    Examples
    --------
    >>> import optcore as oc
    >>> from matplotlib.figure import Figure
    >>> booth = oc.problems.PROBLEMS["booth"]
    >>> res = oc.minimize(booth.fun, booth.start, jac=booth.jac, method="sgd", options={"lr": 0.05})
    >>> ax = history_curves({"sgd": res}, Figure().subplots())
    >>> ax.get_yscale(), ax.lines[0].get_label(), len(ax.lines[0].get_xdata()) == res.nit + 1
    ('log', 'sgd', True)
    """
    column = check_choice("column", column, list(QUANTITIES))
    minimum = float(numbers("minimum", minimum, (0,)))
    if log is not None:
        log = check_flag("log", log)
    curves = []
    for label, run in named_runs(runs).items():
        steps, values = history_of(label, run, column)
        if column == "lr" and isinstance(run, Mapping):
            steps, values = steps[1:], values[1:]  # no step led to the start
        curves.append((label, steps, values - minimum))
    if log is None:
        log = spans_decades(np.concatenate([values for _, _, values in curves]))
    ax = axes_or_new(ax)
    tops, calm = [], True
    for place, (label, steps, values) in enumerate(curves):
        shown = drawable(values, log)
        broken = np.flatnonzero(~(abs(values) <= LARGEST))
        said = [f"diverged at step {steps[broken[0]]}" if len(broken) else ""]
        if column == "lr" and len(broken) == len(values):
            said = ["has no lr"]
        zeros = np.flatnonzero(values <= 0)
        if log and len(zeros):
            said.append(f"0 at step {steps[zeros[0]]}")
        style = line_style(place, len(curves))
        ax.plot(steps, shown, label=remark(label, *said), marker="." if len(values) == 1 else "", **style)
        seen = shown[np.isfinite(shown)]
        if len(seen):
            calm = calm and not len(broken)
            tops.append(seen[0] if len(broken) else seen.max())
    ax.set(xlabel="steps", ylabel=QUANTITIES[column] + (f" above {minimum:.6g}" if minimum else ""))
    if log:
        ax.set_yscale("log")
    if tops and not calm:  # a run that diverged leaves the picture
        ax.set_ylim(top=10 * max(tops) if log else max(tops) + 0.1 * abs(max(tops)))
    ax.grid(alpha=0.3)
    legend_below(ax)
    return ax


def spans_decades(values: NDArray[np.float64]) -> bool:
    """Whether a logarithmic axis suits them."""
    values = values[abs(values) <= LARGEST]
    above = values[values > 0]
    if not len(above):
        return False
    high = float(above.max())
    return bool(high / DECADES >= above.min() and values.min() >= -ROUNDING * high)


# ---------------------------------------------------------------------------- two variables


def two_variables(problem: Any) -> Problem:
    if isinstance(problem, str):
        if problem not in PROBLEMS:
            raise ValueError(f"there is no problem {problem!r}{nearest(problem, list(PROBLEMS))}")
        problem = PROBLEMS[problem]
    if not isinstance(problem, Problem):
        raise TypeError(f"problem must be a name in optcore.problems.PROBLEMS, or a Problem, got {problem!r:.200}")
    if len(problem.variables) != 2:
        raise ValueError(f"problem must have 2 variables, and {problem.name} has {len(problem.variables)}")
    return problem


def paths_of(runs: Any) -> dict[str, NDArray[np.float64]]:
    """The points of each run, shape (steps + 1, 2)."""
    paths = {}
    for label, run in named_runs(runs).items():
        _, points = history_of(label, run, "x")
        if points.shape[1] != 2:
            raise ValueError(f"the run {label!r} must have points of 2 variables, got shape {points.shape}")
        paths[label] = points
    return paths


def limits_of(problem: Problem, paths: Mapping[str, NDArray[np.float64]]) -> NDArray[np.float64]:
    """What is shown: the minimizers, starts and, unless they are far off, all points; shape (2, 2), lower and upper."""
    core = np.array([problem.start, *problem.minimizers, *(points[0] for points in paths.values())])
    if not problem.minimizers:
        ends = [points[np.isfinite(points).all(axis=1)][-1:] for points in paths.values()]
        core = np.concatenate([core, *ends])
    core = core[np.isfinite(core).all(axis=1) & (abs(core) <= LARGEST).all(axis=1)]
    low, high = core.min(axis=0), core.max(axis=0)
    size = np.where(high > low, high - low, max(float((high - low).max()), 1.0))
    points = np.concatenate([*paths.values(), core])
    near = points[((points >= low - size / 2) & (points <= high + size / 2)).all(axis=1)]
    low, high = near.min(axis=0), near.max(axis=0)
    margin = 0.1 * np.maximum(high - low, size / 2)
    return np.array([low - margin, high + margin])


def contours(problem: Problem, ax: Axes, limits: NDArray[np.float64]) -> None:
    """Lines of equal value; where values span decades, so do the lines."""
    x, y = (np.linspace(low, high, MESH) for low, high in limits.T)
    values = np.array([[problem.fun(np.array([a, b])) for a in x] for b in y])
    values[~(abs(values) <= LARGEST)] = np.nan
    seen = values[np.isfinite(values)]
    if not len(seen) or seen.min() == seen.max():
        return
    lowest = float(seen.min()) if problem.minimum is None else min(problem.minimum, float(seen.min()))
    heights = seen[seen > lowest] - lowest
    low, high = float(np.quantile(heights, 0.001)), float(heights.max())
    levels = np.geomspace(low, high, LEVELS) if high >= DECADES * low else np.linspace(low, high, LEVELS)
    levels = np.unique(lowest + levels)
    from matplotlib.colors import BoundaryNorm, ListedColormap

    greys = ListedColormap([str(shade) for shade in np.linspace(0.72, 1.0, len(levels) + 1)])
    # Of a norm with extensions there is one colour more than intervals: one below, one above.
    norm = BoundaryNorm(levels, greys.N, extend="both")
    ax.contourf(x, y, np.ma.masked_invalid(values), levels, cmap=greys, norm=norm, extend="both")
    ax.contour(x, y, np.ma.masked_invalid(values), levels, colors="0.55", linewidths=0.5)


def trajectories(problem: Problem | str, runs: Any, ax: Axes | None = None, *, limits: Any = None) -> Axes:
    """The ways of runs over the contours of a function of two variables.

    Parameters
    ----------
    problem : Problem or str
        Of :mod:`optcore.problems`, or a name in ``PROBLEMS``.
    runs : result of minimize, array of shape (steps + 1, 2), or mapping from labels to them
        Results need ``options={"history": "x"}``.
    ax : matplotlib axes, optional
        Where to draw; a new figure without it.
    limits : array of shape (2, 2), optional
        The lower left and the upper right corner. By default minimizers and starts are seen, and all points that are
        not far from them.

    Returns
    -------
    matplotlib axes
        With a line and a mark at the end (a square) for each run, in the order of the runs; then the starts (circles),
        and the minimizers (stars), if they are known. The legend says where a run diverged, and whether it ended
        outside of the picture. A point that is not finite is left out.

    Raises
    ------
    TypeError, ValueError
        The problem has not two variables, a run has no points, or limits are of no use.

    Examples
    --------
    >>> import optcore as oc
    >>> from matplotlib.figure import Figure
    >>> booth = oc.problems.PROBLEMS["booth"]
    >>> options = {"lr": 0.05, "history": "x"}
    >>> res = oc.minimize(booth.fun, booth.start, jac=booth.jac, method="sgd", options=options)
    >>> ax = trajectories("booth", {"sgd": res}, Figure().subplots())
    >>> [line.get_label() for line in ax.lines]
    ['sgd', '_end', 'start', 'minimum']
    """
    problem, paths = two_variables(problem), paths_of(runs)
    corners = limits_of(problem, paths) if limits is None else numbers("limits", limits, (2,))
    if corners.shape != (2, 2) or not np.isfinite(corners).all() or not (corners[0] < corners[1]).all():
        raise ValueError(f"limits must be [[x low, y low], [x high, y high]], finite and rising, got {limits!r}")
    ax = axes_or_new(ax)
    contours(problem, ax, corners)
    draw_paths(ax, paths, corners)
    starts = np.unique([points[0] for points in paths.values()], axis=0)
    marks: dict[str, Any] = {"linestyle": "", "markeredgecolor": "black", "zorder": 4}
    ax.plot(*starts.T, marker="o", markerfacecolor="white", markersize=7, label="start", **marks)
    if problem.minimizers:
        stars = np.array(problem.minimizers)
        label = "minimum" if len(stars) == 1 else "minima"
        ax.plot(*stars.T, marker="*", markerfacecolor="#F0E442", markersize=13, label=label, **marks)
    (left, bottom), (right, top) = corners
    ax.set(
        title=problem.description,
        xlabel=problem.variables[0],
        ylabel=problem.variables[1],
        xlim=(left, right),
        ylim=(bottom, top),
    )
    legend_below(ax)
    return ax


def draw_paths(
    ax: Axes, paths: Mapping[str, NDArray[np.float64]], corners: NDArray[np.float64]
) -> list[tuple[Line2D, Line2D]]:
    """A line and the mark at its end for each path."""
    drawn = []
    for place, (label, points) in enumerate(paths.items()):
        points, said = seen_points(points, corners)
        (line,) = ax.plot(*points.T, label=remark(label, said), **line_style(place, len(paths)))
        last = points[np.isfinite(points).all(axis=1)][-1:]
        colour = line.get_color()
        (end,) = ax.plot(*last.T, "s", color=colour, markeredgecolor="white", markersize=6, label="_end", zorder=5)
        drawn.append((line, end))
    return drawn


def seen_points(points: NDArray[np.float64], corners: NDArray[np.float64]) -> tuple[NDArray[np.float64], str]:
    """Points with NaN where they cannot be drawn, and what is to be said of them."""
    broken = np.flatnonzero(~(abs(points) <= LARGEST).all(axis=1))
    shown = np.where((abs(points) <= LARGEST).all(axis=1, keepdims=True), points, np.nan)
    if len(broken):
        return shown, f"diverged at step {broken[0]}"
    outside = (points[-1] < corners[0]) | (points[-1] > corners[1])
    return shown, "ends outside" if outside.any() else ""


# ---------------------------------------------------------------------------- sweeps


def sweep_map(
    scores: Any,
    ax: Axes | None = None,
    *,
    rows: Any,
    columns: Any,
    score: str = "mean_test_score",
    name: str = "",
    floor: float | None = None,
) -> Axes:
    """What came of each pair of two hyper-parameters, as colours with numbers.

    Parameters
    ----------
    scores : array of shape (rows, columns), or mapping
        NaN or infinite where a run diverged; masked elements of a masked array were not run. Or what searches of
        scikit-learn call ``cv_results_``: a mapping with ``"params"``, a sequence of mappings, and the scores.
    ax : matplotlib axes, optional
        Where to draw; a new figure without it.
    rows, columns : pair of name and values, or str
        As ``("lr", [0.1, 0.01])``. Of a mapping, the names alone.
    score : str
        Which scores of a mapping.
    name : str
        What the scores are, for the colour bar. ``score``, if it is missing and scores are a mapping.
    floor : float, optional
        Lower scores have the colour of this one, so that the others can be told apart.

    Returns
    -------
    matplotlib axes
        The colours are of a logarithmic scale where scores above 0 span two decades, and none is below. A cell that
        diverged is hatched and says so; one that was not run is empty.

    Raises
    ------
    TypeError, ValueError
        Shapes do not agree, or a mapping lacks a name, or has two scores of one pair.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> losses = [[0.5, 0.02], [float("nan"), 0.3]]
    >>> rows, columns = ("lr", [0.1, 1.0]), ("momentum", [0.0, 0.9])
    >>> ax = sweep_map(losses, Figure().subplots(), rows=rows, columns=columns, name="loss")
    >>> [text.get_text() for text in ax.texts]
    ['0.5', '0.02', 'diverged', '0.3']
    """
    if isinstance(scores, Mapping):
        name = name or score
        rows, columns, table = table_of(scores, rows, columns, score)
    else:
        rows, columns = named_values("rows", rows), named_values("columns", columns)
        table = np.ma.array(numbers("scores", scores, (2,)), mask=np.ma.getmaskarray(scores))
    if table.shape != (len(rows[1]), len(columns[1])):
        raise ValueError(
            f"scores must have a row for each of {len(rows[1])} rows and a column for each of {len(columns[1])} "
            f"columns, got shape {table.shape}"
        )
    ax = axes_or_new(ax)
    values, missing = table.data, np.ma.getmaskarray(table)
    good = ~missing & (abs(values) <= LARGEST)
    seen = values[good]
    from matplotlib.colors import LogNorm, Normalize
    from matplotlib.patches import Rectangle

    log = spans_decades(seen)
    scale = seen[seen > 0] if log else seen
    low, high = (float(scale.min()), float(scale.max())) if len(scale) else (0.0, 1.0)
    cut = floor is not None and low < floor < high
    low = float(floor) if cut else low  # type: ignore[arg-type]
    norm = LogNorm(low, high) if log else Normalize(low, high)
    shades = np.where(good, np.maximum(values, low), np.nan)  # zero has the colour of the least that is above
    image = ax.imshow(np.ma.masked_invalid(shades), cmap="cividis", norm=norm, aspect="auto")
    for (i, j), value in np.ndenumerate(values):
        if good[i, j]:
            colour = "black" if norm(max(value, low)) > 0.5 else "white"
            ax.text(j, i, short(value), ha="center", va="center", color=colour, size="small")
        elif not missing[i, j]:
            ax.add_patch(Rectangle((j - 0.5, i - 0.5), 1, 1, facecolor="white", edgecolor="0.75", hatch="///"))
            ax.text(j, i, "diverged", ha="center", va="center", size="small", bbox={"color": "white", "pad": 1})
    for axis, (label, ticks) in ((ax.yaxis, rows), (ax.xaxis, columns)):
        axis.set_ticks(range(len(ticks)), [f"{tick:g}" if isinstance(tick, float) else str(tick) for tick in ticks])
        axis.set_label_text(label)
    if len(seen):
        ax.figure.colorbar(image, ax=ax, label=name, extend="min" if cut else "neither")
    return ax


def sweep_points(
    results: Mapping[str, Any],
    ax: Axes | None = None,
    *,
    parameter: str,
    groups: str | None = None,
    score: str = "mean_test_score",
    name: str = "",
    floor: float | None = None,
) -> Axes:
    """Scores against one hyper-parameter, a point for each setting, as of a random search over a range.

    Parameters
    ----------
    results : mapping
        What searches of scikit-learn call ``cv_results_``: ``"params"``, a sequence of mappings, and the scores, of
        which a NaN or infinite one is of a setting that diverged.
    ax : matplotlib axes, optional
        Where to draw; a new figure without it.
    parameter : str
        Along the axis, which is logarithmic where numbers span two decades. Where some are not numbers, all are text,
        and None, as of a batch size, is "all".
    groups : str, optional
        A parameter whose values are told apart by colours and markers.
    score : str
        The name of the scores in the mapping.
    name : str
        What the axis of the scores is called; the name in the mapping without it.
    floor : float, optional
        Where the axis of the scores ends, so that those above can be told apart.

    Returns
    -------
    matplotlib axes
        With a line of markers for each group. At the lower edge, settings below the floor are triangles, and those
        that diverged are crosses.

    Raises
    ------
    TypeError, ValueError
        Scores or parameters are missing.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> results = {"params": [{"lr": 0.001}, {"lr": 0.02}, {"lr": 5.0}], "mean_test_score": [0.5, 0.7, np.nan]}
    >>> ax = sweep_points(results, Figure().subplots(), parameter="lr", name="r2")
    >>> ax.get_xscale(), [line.get_xdata().tolist() for line in ax.lines]
    ('log', [[0.001, 0.02], [5.0]])
    """
    names = {"parameter": parameter} if groups is None else {"parameter": parameter, "groups": groups}
    params, values = params_and_scores(results, score, names)
    places: list[Any] = [each[parameter] for each in params]
    ax = axes_or_new(ax)
    if all(isinstance(place, (int, float)) for place in places):
        x = np.array(places, np.float64)
        if spans_decades(x):
            ax.set_xscale("log")
    else:
        texts = ["all" if place is None else str(place) for place in places]
        kinds = list(dict.fromkeys(texts))
        x = np.array([kinds.index(text) for text in texts], np.float64)
        ax.set_xticks(range(len(kinds)), kinds)
    good = abs(values) <= LARGEST
    low = good & (values < (-np.inf if floor is None else floor))
    members = [None if groups is None else each[groups] for each in params]
    for place, member in enumerate(dict.fromkeys(members)):
        here = good & ~low & np.array([other == member for other in members])
        label = "" if member is None else str(member)
        marker = MARKERS[place % len(MARKERS)]
        ax.plot(x[here], values[here], marker, color=COLOURS[place % len(COLOURS)], label=label, alpha=0.8)
    if low.any():
        ax.set_ylim(bottom=floor)
    for some, marker, label in ((low, "v", "worse than the axis shows"), (~good, "x", "diverged")):
        if some.any():
            at_the_edge: dict[str, Any] = {
                "transform": ax.get_xaxis_transform(),
                "clip_on": False,
                "markersize": 8,
                "zorder": 3,
            }
            ax.plot(x[some], np.zeros(some.sum()), marker, color="black", label=label, **at_the_edge)
    ax.set(xlabel=parameter, ylabel=name or score)
    ax.grid(alpha=0.3)
    legend_below(ax)
    return ax


def short(value: float) -> str:
    """A number that fits into a cell."""
    return f"{value:.3g}" if value == 0 or 0.01 <= abs(value) < 10_000 else f"{value:.1e}"


def named_values(argument: str, pair: Any) -> tuple[str, list[Any]]:
    try:
        name, values = pair
        values = np.asarray(values).tolist() if isinstance(values, np.ndarray) else list(values)
    except (TypeError, ValueError):
        name, values = None, []
    if not isinstance(name, str) or isinstance(pair, str) or not values:
        raise TypeError(f'{argument} must be a name and its values, as ("lr", [0.1, 0.01]), got {pair!r}')
    return name, values


def table_of(
    results: Mapping[str, Any], rows: Any, columns: Any, score: str
) -> tuple[tuple[str, list[Any]], tuple[str, list[Any]], Any]:
    """Names, values and a masked table of what scikit-learn calls ``cv_results_``."""
    params, values = params_and_scores(results, score, {"rows": rows, "columns": columns})
    kept = [list(dict.fromkeys(each[name] for each in params)) for name in (rows, columns)]
    for ticks in kept:
        if all(isinstance(tick, (int, float)) for tick in ticks):
            ticks.sort()
    table = np.ma.masked_all((len(kept[0]), len(kept[1])))
    for each, value in zip(params, values, strict=True):
        place = kept[0].index(each[rows]), kept[1].index(each[columns])
        if not table.mask[place]:
            raise ValueError(
                f"there are two scores of {rows}={each[rows]!r}, {columns}={each[columns]!r}; keep one value of each "
                f"other parameter: {', '.join(name for name in each if name not in (rows, columns)) or 'none left'}"
            )
        table[place] = value
    return (rows, kept[0]), (columns, kept[1]), table


def params_and_scores(
    results: Mapping[str, Any], score: str, names: Mapping[str, Any]
) -> tuple[list[Mapping[str, Any]], NDArray[np.float64]]:
    """What was tried and what came of it; the names, by argument, are parameters that all have."""
    if not isinstance(results, Mapping):
        raise TypeError(f"results must be a mapping, such as cv_results_ of a search, got {results!r:.200}")
    for key in ("params", score):
        if key not in results:
            raise ValueError(f"scores have no {key!r}{nearest(key, list(map(str, results)))}")
    params, values = list(results["params"]), numbers(f"scores[{score!r}]", results[score], (1,))
    if len(params) != len(values):
        raise ValueError(f"scores have {len(params)} params and {len(values)} of {score}")
    for argument, name in names.items():
        if not isinstance(name, str):
            raise TypeError(f"{argument} must be the name of a parameter where scores are a mapping, got {name!r}")
        for each in params:
            if name not in each:
                raise ValueError(f"{argument}: there is no parameter {name!r}{nearest(name, list(each))}")
    return params, values
