"""The picture of the loss curves."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure

from optcore import CATALOGUE
from optcore.compare import Settings, compare
from optcore.plot import loss_curves, save_loss_curves


@pytest.fixture(scope="module")
def result():
    return compare("diabetes", settings=Settings(rates=(0.01,), epochs=5))


def test_loss_curves(result):
    ax = Figure().subplots()
    assert loss_curves(result, ax) is ax
    assert ax.get_title() == "diabetes, batches of at most 64 rows"
    assert ax.get_xlabel() == "epochs (passes over the training rows)"
    assert ax.get_ylabel() == "training loss above the best known loss (%)"
    assert ax.get_yscale() == "log"
    *curves, border = ax.lines
    assert list(border.get_ydata()) == [1.0, 1.0]
    rows = {f"{row.run.label} (lr 0.01)": row.run for row in result.rows}
    assert len(rows) > len(CATALOGUE)
    assert {line.get_label() for line in curves} == set(rows)
    for line in curves:
        run = rows[line.get_label()]
        assert np.array_equal(line.get_xdata(), run.epochs)
        np.testing.assert_allclose(line.get_ydata(), 100 * (run.losses / result.best_known_loss - 1), rtol=1e-12)
    ends = [line.get_ydata()[-1] for line in curves]
    assert ends == sorted(ends, reverse=True)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [line.get_label() for line in curves]
    assert len({(line.get_color(), str(line._dash_pattern)) for line in curves}) == len(curves)


def test_diverged_runs_leave_the_picture_but_stay_in_the_legend():
    ax = loss_curves(
        compare("diabetes", settings=Settings(("sgd", "adam"), rates=(10.0,), epochs=2)), Figure().subplots()
    )
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels[0] == "sgd (diverged, lr 10)"
    assert ax.get_ylim()[1] < 1e4 < max(ax.lines[0].get_ydata())


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_formats(result, tmp_path, suffix):
    save_loss_curves(result, tmp_path / f"picture.{suffix}")
    start = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}[suffix]
    assert (tmp_path / f"picture.{suffix}").read_bytes().startswith(start)


def test_a_figure_of_its_own(result):
    pyplot = pytest.importorskip("matplotlib.pyplot")
    ax = loss_curves(result)
    assert pyplot.gcf() is ax.figure
    pyplot.close(ax.figure)
