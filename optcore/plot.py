"""Pictures of results. Each function draws on an axes, which it returns."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from optcore.compare import WITHIN, Comparison

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["loss_curves", "save_loss_curves"]

# Okabe & Ito 2008, distinct for all kinds of colour vision; without yellow, which is faint on white. The numbers of
# colours and of styles have no common divisor, so 28 lines differ, and neighbours differ in both.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
STYLES = ("-", (0, (5, 1)), (0, (1, 1)), (0, (5, 1, 1, 1)))
FLOOR = 1e-3  # percent above the best known loss: what is lower leaves the picture


def loss_curves(comparison: Comparison, ax: Axes | None = None) -> Axes:
    """How far each optimizer is above the best known loss, in percent of it, against the epochs.

    Parameters
    ----------
    comparison : Comparison
        From :func:`optcore.compare.compare`, with at least one row.
    ax : matplotlib axes, optional
        Where to draw; a new figure without it.

    Returns
    -------
    matplotlib axes
        With one line per optimizer, and one at the border of what counts as converged. The legend has the order of
        the curves at their ends: the best at the bottom.
    """
    if ax is None:
        from matplotlib import pyplot

        _, ax = pyplot.subplots(figsize=(10, 6), layout="constrained")
    best, settings, data = comparison.best_known_loss, comparison.settings, comparison.problem.data
    rows = sorted(comparison.rows, key=lambda row: (row.outcome != "diverged", -row.run.losses[-1]))
    gaps = [100 * (row.run.losses / best - 1) for row in rows]
    for place, (row, gap) in enumerate(zip(rows, gaps, strict=True)):
        ax.plot(
            row.run.epochs,
            np.maximum(gap, FLOOR / 100),  # zero has no logarithm
            label=f"{row.run.label} ({'diverged, ' * (row.outcome == 'diverged')}lr {row.run.lr:g})",
            color=COLOURS[place % len(COLOURS)],
            linestyle=STYLES[place % len(STYLES)],
            linewidth=3 - 2 * place / len(rows),  # where curves coincide, the wide ones can be seen behind the narrow
        )
    ax.axhline(100 * WITHIN, color="grey", linewidth=0.8)
    ax.annotate(
        f"converged: within {100 * WITHIN:g} %",
        (0.01, 100 * WITHIN),
        xycoords=("axes fraction", "data"),
        va="top",
        color="0.3",
    )
    start, end = gaps[0][0], min(gap[-1] for gap in gaps)
    ax.set(
        title=f"{data.name}, batches of at most {settings.batch_size} rows",
        xlabel="epochs (passes over the training rows)",
        ylabel="training loss above the best known loss (%)",
        yscale="log",
        ylim=(max(FLOOR, min(end, 100 * WITHIN) / 3), 3 * start),
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
