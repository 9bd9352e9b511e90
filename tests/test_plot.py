"""The pictures: of loss curves and of schedules."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure

from optcore import CATALOGUE
from optcore.compare import Settings, compare
from optcore.feedback import Plateau
from optcore.plot import (
    COLUMNS,
    loss_curves,
    save_loss_curves,
    save_schedule_curve,
    schedule_curve,
    schedule_points,
)
from optcore.schedules import Constant, Cosine, Exponential, Linear, MultiStep, Warmup


@pytest.fixture(scope="module")
def result():
    return compare("diabetes", settings=Settings(rates=(0.01,), epochs=5))


def test_loss_curves(result):
    ax = Figure().subplots()
    assert loss_curves(result, ax) is ax
    assert ax.get_title() == "diabetes, batches of at most 64 rows"
    assert ax.get_xlabel() == "epochs (passes over the training rows)"
    assert ax.get_ylabel() == "training loss above the best known (% of that at the start)"
    assert ax.get_yscale() == "log"
    *curves, border = ax.lines
    assert list(border.get_ydata()) == [1.0, 1.0]
    rows = {f"{row.run.label} (lr 0.01)": row.run for row in result.rows}
    assert len(rows) > len(CATALOGUE)
    assert {line.get_label() for line in curves} == set(rows)
    for line in curves:
        run = rows[line.get_label()]
        assert np.array_equal(line.get_xdata(), run.epochs)
        best, start = result.best_known_loss, run.losses[0]
        np.testing.assert_allclose(line.get_ydata(), 100 * (run.losses - best) / (start - best), rtol=1e-12)
    ends = [line.get_ydata()[-1] for line in curves]
    assert ends == sorted(ends, reverse=True)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [line.get_label() for line in curves]
    assert len({(line.get_color(), str(line._dash_pattern)) for line in curves}) == len(curves)


def test_a_function():
    text = "1 + (x + 3)**2 + " + " + ".join(f"(x{i} - {i})**2" for i in range(40))
    for source, settings in (("plateau", Settings(("sgd", "rprop"), epochs=50)), (text, Settings(("sgd",), epochs=50))):
        comparison = compare(source, settings=settings)
        ax = loss_curves(comparison, Figure().subplots())
        title = ax.get_title()
        heading = comparison.task.heading.partition("\n")[0]
        assert heading.startswith(title.replace("\n", " ").removesuffix(" [...]"))
        assert len(title.split("\n")) == (1 if source == "plateau" else 3)
        assert max(map(len, title.split("\n"))) <= 100
        assert (ax.get_xlabel(), ax.get_xlim()) == ("steps", (0, 50))
        assert ax.get_ylabel() == "loss above the best known (% of that at the start)"
        *curves, border = ax.lines
        assert list(border.get_ydata()) == [0.01, 0.01]
        assert ax.get_ylim()[0] >= 1e-4
        for line in curves:
            (run,) = (row.run for row in comparison.rows if line.get_label().startswith(row.run.label))
            best = comparison.best_known_loss
            expected = 100 * (run.losses - best) / (run.losses[0] - best)
            shown = expected > 1e-4  # what is below is out of the picture
            # One rounding more; the loss at the end of a run is the difference of numbers of size 100.
            np.testing.assert_allclose(line.get_ydata()[shown], expected[shown], rtol=1e-9)
            assert (line.get_ydata()[~shown] <= 1e-4).all()


def test_a_start_that_is_the_best():
    comparison = compare("rosenbrock", settings=Settings(("sgd", "ftrl"), epochs=5), start=[1.0, 1.0])
    ax = loss_curves(comparison, Figure().subplots())
    assert ax.get_ylabel() == "loss above the best known"
    assert len(ax.texts) == 0  # there is no border
    diverged, stayed = ax.lines
    assert diverged.get_ydata()[-1] == 1.0  # at (0, 0), to which ftrl takes weights without a gradient
    assert (stayed.get_ydata() < ax.get_ylim()[0]).all()


def test_runs_far_away_are_drawn_without_a_warning(tmp_path):
    """The way from the start to the best is so short that shares of it overflow."""
    comparison = compare("x**2", settings=Settings(("sgd", "lion"), rates=(0.3,), epochs=5), start=[1e-154])
    start, far = comparison.rows[0].run.losses[0], comparison.rows[1].run.losses.max()
    assert comparison.best_known_loss < start
    assert float(far) * 100 / float(start) == np.inf
    save_loss_curves(comparison, tmp_path / "picture.png")


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


# ---------------------------------------------------------------------------- schedules


def test_schedule_curve():
    schedule = Warmup(5, Cosine(1e-3, steps=50))
    ax = Figure().subplots()
    assert schedule_curve(schedule, 100, ax) is ax
    (line,) = ax.lines
    assert np.array_equal(line.get_xdata(), np.arange(100))
    assert np.array_equal(line.get_ydata(), [schedule(t) for t in range(100)])
    assert ax.get_xlabel() == "completed updates t"
    assert ax.get_ylabel() == "value"
    assert ax.get_title() == repr(schedule)
    assert ax.get_xlim() == (0, 99)
    assert ax.get_yscale() == "linear"
    assert line.get_marker() == ""
    assert schedule_curve(schedule, 50, Figure().subplots()).lines[0].get_marker() == "."


def test_a_long_schedule_keeps_what_can_be_seen():
    schedule = MultiStep(1.0, (1_000_500, 2_000_500, 2_999_999), gamma=0.5)
    (line,) = schedule_curve(schedule, 3_000_000, Figure().subplots()).lines
    t, values = line.get_data()
    assert len(t) <= 8000
    assert np.array_equal(values, schedule(t))
    assert {0, 1_000_500, 2_000_500, 2_999_999} <= set(t.tolist())
    widest = 3_000_000 // COLUMNS
    drops = np.diff(t)[np.diff(values) < 0]
    assert len(drops) == 3
    assert drops.max() < widest  # steep: within one column of pixels


def test_schedule_curve_with_a_logarithmic_axis():
    ax = schedule_curve(Linear(1.0, steps=10), 20, Figure().subplots(), log=True)
    assert ax.get_yscale() == "log"
    values = ax.lines[0].get_ydata()
    assert np.array_equal(values[:10], [Linear(1.0, steps=10)(t) for t in range(10)])
    assert np.isnan(values[10:]).all()


def test_what_has_no_place_is_left_out():
    values = schedule_curve(Exponential(1.0, 10.0), 400, Figure().subplots()).lines[0].get_ydata()
    assert values[249] == Exponential(1.0, 10.0)(249)
    assert np.isnan(values[251:]).all()


def test_points_that_are_known_are_drawn():
    points = schedule_points(Constant(2.0), 5)
    (line,) = schedule_curve(Constant(1.0), 5, Figure().subplots(), points=points).lines
    assert np.array_equal(line.get_ydata(), [2.0] * 5)


@pytest.mark.parametrize(
    ("schedule", "steps", "error"),
    [(Plateau(0.1), 10, TypeError), (Constant(1.0), 0, ValueError), (Constant(1.0), 1.5, TypeError)],
)
def test_schedule_curve_checks(schedule, steps, error):
    with pytest.raises(error):
        schedule_curve(schedule, steps, Figure().subplots())


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("steps", [1, 1000])
def test_save_schedule_curve(tmp_path, log, steps):
    save_schedule_curve(Cosine(1e-3, steps=500), steps, tmp_path / "picture.svg", log=log)
    assert (tmp_path / "picture.svg").read_text().startswith("<?xml")


def test_a_schedule_in_a_figure_of_its_own():
    pyplot = pytest.importorskip("matplotlib.pyplot")
    ax = schedule_curve(Constant(1.0), 10)
    assert pyplot.gcf() is ax.figure
    pyplot.close(ax.figure)
