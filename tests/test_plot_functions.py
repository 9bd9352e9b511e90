"""The pictures of runs and of sweeps, still and in motion: what is drawn, how it is labelled, what is refused."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys

import matplotlib
import numpy as np
import pytest
from matplotlib.animation import AbstractMovieWriter
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from PIL import Image

import optcore as oc
from optcore.animation import descent_animation, fit_animation, frame_steps, save_animation
from optcore.plot_runs import history_curves, sweep_map, sweep_points, trajectories
from optcore.problems import PROBLEMS, from_expression

NAN, INF = float("nan"), float("inf")
TWO = [name for name, problem in PROBLEMS.items() if len(problem.variables) == 2]


def run(name="booth", method="sgd", lr=0.05, **options):
    problem = PROBLEMS[name]
    options = {"lr": lr, "maxiter": 100, "history": "x", **options}
    return oc.minimize(problem.fun, problem.start, jac=problem.jac, method=method, options=options)


@pytest.fixture(scope="module")
def runs():
    return {"sgd": run(), "adam": run(method="adam", lr=0.5), "too fast": run(lr=5.0, maxiter=2000)}


@pytest.fixture
def ax():
    """Axes that are drawn after the test, where a warning is an error."""
    ax = Figure(layout="constrained").subplots()
    yield ax
    ax.figure.savefig(io.BytesIO())


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def styles(lines):
    return {(line.get_color(), str(line._dash_pattern)) for line in lines}


# ---------------------------------------------------------------------------- histories


@pytest.mark.parametrize(
    ("column", "label", "scale"),
    [("loss", "loss", "log"), ("gradient_norm", "largest element of the gradient", "log"),
     ("lr", "learning rate", "log")],
)  # fmt: skip
def test_history_curves(runs, ax, column, label, scale):
    assert history_curves(runs, ax, column=column) is ax
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_yscale()) == ("steps", label, scale)
    assert len(ax.lines) == len(styles(ax.lines)) == len(runs)
    first = 1 if column == "lr" else 0  # no step led to the start
    for line, result in zip(ax.lines, runs.values(), strict=True):
        assert np.array_equal(line.get_xdata(), result.history.step[first:])
        shown, values = line.get_ydata(), result.history[column][first:]
        drawn = (values > 0) & (values <= 1e250)
        assert drawn.any()
        assert np.array_equal(shown[drawn], values[drawn])
        assert np.isnan(shown[~drawn]).all()
    names = legend(ax)
    assert names[:2] == ["sgd", "adam"]
    assert names[2].startswith("too fast") if column == "lr" else "diverged at step" in names[2]


def test_a_run_that_diverged_leaves_the_picture_and_the_legend_says_where(runs, ax):
    loss = runs["too fast"].history.loss
    history_curves(runs, ax)
    step = np.flatnonzero(~(loss <= 1e250))[0]
    assert legend(ax)[2] == f"too fast (diverged at step {step})"
    assert ax.get_ylim()[1] == pytest.approx(10 * loss[0], rel=1e-12)  # a limit is kept as a logarithm


def test_the_minimum_is_subtracted(ax):
    losses = np.array([5.0, 3.0, 2.5, 2.0])
    history_curves({"a": losses}, ax, minimum=2.0, log=True)
    assert np.array_equal(ax.lines[0].get_ydata()[:3], [3.0, 1.0, 0.5])
    assert np.isnan(ax.lines[0].get_ydata()[3])
    assert legend(ax) == ["a (0 at step 3)"]
    assert ax.get_ylabel() == "loss above 2"


@pytest.mark.parametrize(
    ("values", "scale"),
    [([1.0, 100.0], "log"), ([1.0, 99.0], "linear"), ([0.0, 0.0], "linear"), ([-1.0, 1.0, 1e9], "log"),
     ([-1.0, 1.0, 1e3], "linear"), ([0.0, 1.0, 1e3], "log"), ([NAN, INF], "linear"), ([1.0], "linear")],
)  # fmt: skip
def test_a_logarithmic_axis_where_values_span_decades(ax, values, scale):
    history_curves(np.array(values), ax)
    assert ax.get_yscale() == scale
    assert ax.get_legend() is None or legend(ax)[0].startswith(("diverged", "0 at"))


def test_a_scale_that_was_asked_for(ax):
    assert history_curves([1.0, 2.0], ax, log=True).get_yscale() == "log"
    assert history_curves([1.0, 2e9], Figure().subplots(), log=False).get_yscale() == "linear"


def test_a_single_run_has_no_legend(ax):
    result = run()
    history_curves(result, ax)
    assert ax.get_legend() is None
    assert np.array_equal(ax.lines[0].get_ydata(), result.history.loss)


def test_new_figures():
    pyplot = pytest.importorskip("matplotlib.pyplot")
    pictures = (
        lambda: history_curves([1.0, 2.0]),
        lambda: trajectories("booth", run()),
        lambda: sweep_map([[1.0]], rows=("a", [1]), columns=("b", [1])),
        lambda: sweep_points(of_rates([0.1, 0.2, 0.3, 0.4]), parameter="lr"),
    )
    for picture in pictures:
        ax = picture()
        assert pyplot.gcf() is ax.figure
        pyplot.close(ax.figure)


@pytest.mark.parametrize(
    ("runs", "options", "error", "words"),
    [
        ({}, {}, ValueError, "at least one run"),
        (run(history=False), {}, ValueError, 'options={"history": True}'),
        ({"a": {"nit": 3}}, {}, ValueError, "the run 'a' has no history of loss"),
        ({"a": [[1.0, 2.0]]}, {}, ValueError, "1 dimensions"),
        ({"a": []}, {}, ValueError, "not be empty"),
        ({"a": "losses"}, {}, TypeError, "the run 'a' must be an array of real numbers, got 'losses'"),
        ({"a": [1j]}, {}, TypeError, "real numbers"),
        ([1.0], {"column": "losses"}, ValueError, "column must be one of 'loss'"),
        ([1.0], {"log": 1}, TypeError, "log must be True or False"),
        ([1.0], {"minimum": "low"}, TypeError, "minimum must be"),
    ],
)
def test_histories_that_are_refused(runs, options, error, words):
    ax = Figure().subplots()
    with pytest.raises(error) as caught:
        history_curves(runs, ax, **options)
    assert words in str(caught.value)
    assert not ax.lines


# ---------------------------------------------------------------------------- trajectories


@pytest.mark.parametrize("name", TWO)
def test_trajectories(ax, name):
    problem = PROBLEMS[name]
    runs = {"sgd": run(name, lr=1e-3), "adam": run(name, "adam", 0.1)}
    assert trajectories(name, runs, ax) is ax
    assert ax.get_title() == problem.description
    assert (ax.get_xlabel(), ax.get_ylabel()) == problem.variables
    lines = {line.get_label(): line for line in ax.lines}
    assert len(ax.lines) == 2 * len(runs) + 2
    for label, result in runs.items():
        assert np.array_equal(np.array(lines[label].get_data()).T, result.history.x)
    for end, result in zip(ax.lines[1:4:2], runs.values(), strict=True):
        assert np.array_equal(np.ravel(end.get_data()), result.history.x[-1])
    assert np.array_equal(np.ravel(lines["start"].get_data()), problem.start)
    stars = lines["minimum" if len(problem.minimizers) == 1 else "minima"]
    assert np.array_equal(np.array(stars.get_data()).T, problem.minimizers)
    low, high = np.array([ax.get_xlim(), ax.get_ylim()]).T
    for point in (problem.start, *problem.minimizers):
        assert (low < point).all()
        assert (point < high).all()
    assert legend(ax) == ["sgd", "adam", "start", stars.get_label()]


def test_contours_are_spaced_as_the_values_are(ax):
    trajectories("rosenbrock", run("rosenbrock", lr=1e-3), ax)
    levels = ax.collections[0].levels
    ratios = levels[1:] / levels[:-1]
    assert levels[-1] > 1e3 * levels[0]
    np.testing.assert_allclose(ratios, ratios[0], rtol=1e-9)  # the minimum is 0; roundings of powers
    other = Figure().subplots()
    trajectories(from_expression("x + y", start=[0.0, 0.0]), np.array([[0.0, 0.0], [1.0, 1.0]]), other)
    np.testing.assert_allclose(np.diff(other.collections[0].levels, 2), 0, atol=1e-12)  # roundings


def test_limits(ax):
    trajectories("booth", run(), ax, limits=[[-1, -2], [3, 4]])
    assert (ax.get_xlim(), ax.get_ylim()) == ((-1, 3), (-2, 4))


def test_what_is_not_finite_breaks_no_picture(ax):
    points = np.array([[0.0, 0.0], [1.0, 1.0], [1e200, 3.0], [NAN, 1.0], [0.0, -INF], [0.5, 2.0]])
    trajectories("booth", {"a": points, "b": np.array([[0.0, 0.0], [1e6, 1e6]]), "c": [[NAN, NAN]]}, ax)
    assert legend(ax)[:3] == ["a (diverged at step 3)", "b (ends outside)", "c (diverged at step 0)"]
    shown = np.array(ax.lines[0].get_data()).T
    assert np.array_equal(np.isfinite(shown).all(axis=1), [True, True, True, False, False, True])
    assert np.array_equal(np.ravel(ax.lines[1].get_data()), [0.5, 2.0])
    other = Figure().subplots()
    trajectories("booth", points[:5], other)
    assert np.array_equal(np.ravel(other.lines[1].get_data()), [1e200, 3.0])  # the end of what can be drawn
    assert max(map(abs, ax.get_xlim() + ax.get_ylim())) < 10


def test_a_function_that_is_not_defined_everywhere(ax):
    problem = from_expression("log(x) + 1/y", start=[0.1, 0.1])
    trajectories(problem, {"a": np.array([[0.1, 0.1], [-2.0, -1.0]])}, ax)
    assert len(ax.lines) == 3  # no minimizers are known
    nowhere = from_expression("log(-1 - x**2) + y", start=[0.1, 0.1])
    assert not trajectories(nowhere, [[0.1, 0.1]], Figure().subplots()).collections


@pytest.mark.parametrize(
    ("problem", "runs", "options", "error", "words"),
    [
        ("boot", [[0.0, 0.0]], {}, ValueError, "did you mean 'booth'"),
        ("rosenbrock_10", [[0.0, 0.0]], {}, ValueError, "2 variables, and rosenbrock_10 has 10"),
        (lambda x: 0.0, [[0.0, 0.0]], {}, TypeError, "problem must be a name"),
        ("booth", {"a": run(history=True)}, {}, ValueError, 'options={"history": "x"}'),
        ("booth", {"a": np.zeros((3, 3))}, {}, ValueError, "2 variables, got shape (3, 3)"),
        ("booth", {"a": np.zeros(3)}, {}, ValueError, "2 dimensions"),
        ("booth", {}, {}, ValueError, "at least one run"),
        ("booth", [[0.0, 0.0]], {"limits": [[0, 0], [0, 1]]}, ValueError, "limits must be"),
        ("booth", [[0.0, 0.0]], {"limits": [0, 1]}, ValueError, "limits must have 2 dimensions"),
        ("booth", [[0.0, 0.0]], {"limits": [[0, 0], [NAN, 1]]}, ValueError, "finite"),
    ],
)
def test_trajectories_that_are_refused(problem, runs, options, error, words):
    ax = Figure().subplots()
    with pytest.raises(error) as caught:
        trajectories(problem, runs, ax, **options)
    assert words in str(caught.value)
    assert not ax.lines


# ---------------------------------------------------------------------------- sweeps

ROWS, COLUMNS = ("lr", [0.1, 1e-3]), ("momentum", (0.0, 0.5, 0.9))


def test_sweep_map(ax):
    scores = np.ma.masked_array([[1e-5, 2.0, NAN], [0.25, INF, 7.0]], mask=[[0, 1, 0], [0, 0, 0]])
    assert sweep_map(scores, ax, rows=ROWS, columns=COLUMNS, name="loss") is ax
    (image,) = ax.images
    assert isinstance(image.norm, LogNorm)
    shown = image.get_array()
    assert np.array_equal(shown.mask, [[False, True, True], [False, True, False]])
    assert np.array_equal(shown.compressed(), [1e-5, 0.25, 7.0])
    assert [text.get_text() for text in ax.texts] == ["1.0e-05", "diverged", "0.25", "diverged", "7"]
    assert [(patch.get_x(), patch.get_y()) for patch in ax.patches] == [(1.5, -0.5), (0.5, 0.5)]
    assert all(patch.get_hatch() for patch in ax.patches)
    assert (ax.get_ylabel(), ax.get_xlabel()) == ("lr", "momentum")
    assert [label.get_text() for label in ax.get_yticklabels()] == ["0.1", "0.001"]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["0", "0.5", "0.9"]
    assert ax.figure.axes[1].get_ylabel() == "loss"


def test_scores_that_span_no_decades_or_have_signs(ax):
    sweep_map([[1.0, 2.0, -1e-3]] * 2, ax, rows=ROWS, columns=COLUMNS)
    norm = ax.images[0].norm
    assert type(norm) is Normalize
    assert (norm.vmin, norm.vmax) == (-1e-3, 2.0)


def test_zero_has_the_colour_of_the_least_above(ax):
    sweep_map([[0.0, 1e-6, 1.0]] * 2, ax, rows=ROWS, columns=COLUMNS)
    assert ax.images[0].get_array()[0].tolist() == [1e-6, 1e-6, 1.0]
    assert ax.texts[0].get_text() == "0"


def test_a_sweep_where_all_diverged(ax):
    sweep_map(np.full((2, 3), NAN), ax, rows=ROWS, columns=COLUMNS)
    assert [text.get_text() for text in ax.texts] == ["diverged"] * 6
    assert len(ax.figure.axes) == 1


def test_what_scikit_learn_returns(ax):
    from sklearn.datasets import load_diabetes
    from sklearn.linear_model import Ridge
    from sklearn.model_selection import GridSearchCV

    grid = {"fit_intercept": [True, False], "alpha": [10.0, 0.1, 1.0]}
    results = GridSearchCV(Ridge(), grid, cv=3).fit(*load_diabetes(return_X_y=True)).cv_results_
    sweep_map(results, ax, rows="fit_intercept", columns="alpha")
    shown = ax.images[0].get_array()
    assert not np.ma.getmaskarray(shown).any()
    for params, score in zip(results["params"], results["mean_test_score"], strict=True):
        assert shown[[False, True].index(params["fit_intercept"]), [0.1, 1.0, 10.0].index(params["alpha"])] == score
    assert [label.get_text() for label in ax.get_xticklabels()] == ["0.1", "1", "10"]
    assert ax.figure.axes[1].get_ylabel() == "mean_test_score"
    other = Figure().subplots()
    sweep_map(results, other, rows="fit_intercept", columns="alpha", score="std_test_score", name="deviation")
    assert other.figure.axes[1].get_ylabel() == "deviation"


RESULTS = {"params": [{"a": 1, "b": 2, "c": 3}, {"a": 1, "b": 2, "c": 4}], "mean_test_score": [1.0, 2.0]}


@pytest.mark.parametrize(
    ("scores", "rows", "columns", "error", "words"),
    [
        ([[1.0, 2.0]], ROWS, COLUMNS, ValueError, "got shape (1, 2)"),
        ([1.0, 2.0], ROWS, COLUMNS, ValueError, "2 dimensions"),
        ([["a", "b"]], ROWS, COLUMNS, TypeError, "scores must be an array of real numbers"),
        ([[1.0], [1.0, 2.0]], ROWS, COLUMNS, TypeError, "scores must be an array of real numbers"),
        ([[1.0]], "lr", COLUMNS, TypeError, "rows must be a name and its values"),
        ([[1.0]], ROWS, ("lr", []), TypeError, "columns must be a name and its values"),
        ([[1.0]], ROWS, 3, TypeError, "columns must be a name and its values"),
        (RESULTS, "a", "b", ValueError, "two scores of a=1, b=2; keep one value of each other parameter: c"),
        (RESULTS, "a", "d", ValueError, "columns: there is no parameter 'd'"),
        (RESULTS, ROWS, "b", TypeError, "rows must be the name of a parameter"),
        ({"params": []}, "a", "b", ValueError, "scores have no 'mean_test_score'"),
        ({**RESULTS, "mean_test_score": [1.0]}, "a", "b", ValueError, "2 params and 1 of mean_test_score"),
    ],
)
def test_sweeps_that_are_refused(scores, rows, columns, error, words):
    ax = Figure().subplots()
    with pytest.raises(error) as caught:
        sweep_map(scores, ax, rows=rows, columns=columns)
    assert words in str(caught.value)
    assert not ax.images


def test_colours_are_for_what_is_above_the_floor(ax):
    sweep_map([[0.5, 0.4, -1e9], [NAN, 0.2, -3.0]], ax, rows=ROWS, columns=COLUMNS, floor=0.3)
    norm = ax.images[0].norm
    assert (norm.vmin, norm.vmax) == (0.3, 0.5)
    assert [text.get_text() for text in ax.texts] == ["0.5", "0.4", "-1.0e+09", "diverged", "0.2", "-3"]
    assert ax.images[0].colorbar.extend == "min"


@pytest.mark.parametrize("floor", [None, 0.1, 0.9])
def test_a_floor_that_cuts_nothing_or_all(ax, floor):
    sweep_map([[0.5, 0.4, 0.2]] * 2, ax, rows=ROWS, columns=COLUMNS, floor=floor)
    assert (ax.images[0].norm.vmin, ax.images[0].norm.vmax) == (0.2, 0.5)
    assert ax.images[0].colorbar.extend == "neither"


def of_rates(values, rates=(1e-3, 1e-2, 1e-1, 1.0), names=("sgd", "adam", "sgd", "adam")):
    params = [{"lr": lr, "optimizer": name} for lr, name in zip(rates, names, strict=True)]
    return {"params": params, "mean_test_score": values}


def points(ax):
    return {line.get_label(): line.get_xydata().tolist() for line in ax.lines}


def test_sweep_points(ax):
    assert sweep_points(of_rates([0.1, 0.2, NAN, -INF]), ax, parameter="lr", groups="optimizer", name="r2") is ax
    assert points(ax) == {"sgd": [[1e-3, 0.1]], "adam": [[1e-2, 0.2]], "diverged": [[0.1, 0.0], [1.0, 0.0]]}
    assert legend(ax) == ["sgd", "adam", "diverged"]
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_xscale()) == ("lr", "r2", "log")
    assert len({(line.get_color(), line.get_marker()) for line in ax.lines}) == 3
    low, high = ax.get_ylim()
    assert low < 0.1 < 0.2 < high  # those at the edge have no say


def test_points_below_the_floor_are_at_the_edge(ax):
    sweep_points(of_rates([0.1, 0.2, -1e9, 0.3]), ax, parameter="lr", floor=0.05)
    assert list(points(ax).values()) == [[[1e-3, 0.1], [1e-2, 0.2], [1.0, 0.3]], [[0.1, 0.0]]]
    assert legend(ax) == ["worse than the axis shows"]
    assert ax.get_ylim()[0] == 0.05


def test_points_of_what_is_no_number(ax):
    sweep_points(of_rates([0.1, 0.2, 0.3, 0.4]), ax, parameter="optimizer")
    assert ax.lines[0].get_xydata().tolist() == [[0.0, 0.1], [1.0, 0.2], [0.0, 0.3], [1.0, 0.4]]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["sgd", "adam"]
    assert ax.get_legend() is None
    other = Figure().subplots()
    sweep_points(of_rates([0.1, 0.2, 0.3, 0.4], (64, None, 64, 2)), other, parameter="lr")
    assert [label.get_text() for label in other.get_xticklabels()] == ["64", "all", "2"]


@pytest.mark.parametrize(
    ("results", "parameter", "groups", "error", "words"),
    [
        ([[1.0]], "lr", None, TypeError, "results must be a mapping"),
        ({}, "lr", None, ValueError, "scores have no 'params'"),
        (of_rates([1.0]), "lr", None, ValueError, "scores have 4 params and 1 of mean_test_score"),
        (of_rates([1.0] * 4), "lt", None, ValueError, "parameter: there is no parameter 'lt'; did you mean 'lr'"),
        (of_rates([1.0] * 4), None, None, TypeError, "parameter must be the name of a parameter"),
        (of_rates([1.0] * 4), "lr", "optimiser", ValueError, "groups: there is no parameter 'optimiser'"),
    ],
)
def test_points_that_are_refused(results, parameter, groups, error, words):
    ax = Figure().subplots()
    with pytest.raises(error) as caught:
        sweep_points(results, ax, parameter=parameter, groups=groups)
    assert words in str(caught.value)
    assert not ax.lines


# ---------------------------------------------------------------------------- in motion


class Recorder(AbstractMovieWriter):
    """Keeps the lines and the title of each frame."""

    def __init__(self, ax):
        super().__init__()
        self.ax, self.frames = ax, []

    def setup(self, fig, outfile, dpi=None):
        super().setup(fig, outfile, dpi)

    def grab_frame(self, **options):
        lines = [np.array(line.get_data()).T for line in self.ax.lines]
        self.frames.append((self.ax.get_title(), lines))

    def finish(self):
        pass


def recorded(animation, ax, folder):
    recorder = Recorder(ax)
    animation.save(folder / "frames", writer=recorder)
    return recorder.frames


def test_frame_steps():
    assert frame_steps(0, 10) == [0]
    assert frame_steps(3, 60) == [0, 1, 2, 3]
    steps = frame_steps(1000, 20)
    assert steps[:3] == [0, 1, 2]  # 1.44, which is 1000 to the power 1/19, rounds to steps next to each other
    assert steps[-1] == 1000
    assert len(steps) <= 20


def test_descent_animation(runs, tmp_path):
    ax = Figure().subplots()
    chosen = {"sgd": runs["sgd"], "short": np.array([[0.0, 0.0], [1.0, 2.0]])}
    frames = recorded(descent_animation("booth", chosen, ax, frames=6), ax, tmp_path)
    title = PROBLEMS["booth"].description
    steps = frame_steps(runs["sgd"].nit, 6)
    assert [text for text, _ in frames] == [f"{title}, step {step}" for step in [*steps, steps[-1]]]
    for step, (_, lines) in zip(steps, frames, strict=False):
        assert np.array_equal(lines[0], runs["sgd"].history.x[: step + 1])
        assert np.array_equal(lines[1], runs["sgd"].history.x[step : step + 1])
        assert np.array_equal(lines[2], chosen["short"][: step + 1])


def test_fit_animation(tmp_path):
    x, y = PROBLEMS["line_fit"].data[0][:, 0], PROBLEMS["line_fit"].data[1]
    ax = Figure().subplots()
    ax.set_title("a line")
    chosen = {"sgd": run("line_fit"), "bad": np.array([[0.0, 0.0], [NAN, 1.0]])}
    animation = fit_animation(x, y, lambda p, x: p[0] * x + p[1], chosen, ax, frames=5)
    frames = recorded(animation, ax, tmp_path)
    assert legend(ax) == ["data", "sgd", "bad (diverged at step 1)"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("x", "y")
    for step, (title, (data, curve, bad)) in zip(frame_steps(100, 5), frames, strict=False):
        assert title == f"a line, step {step}"
        assert np.array_equal(data, np.column_stack([x, y]))
        k, b = chosen["sgd"].history.x[step]
        assert np.array_equal(curve[:, 1], k * curve[:, 0] + b)
        assert curve[[0, -1], 0].tolist() == [x.min(), x.max()]
        assert np.isnan(bad[:, 1]).all() == (step > 0)


def test_curves_beyond_all_bounds_are_left_out(tmp_path):
    ax = Figure().subplots()
    animation = fit_animation([0.0, 1.0], [0.0, 1.0], lambda p, x: p[0] * p[0] * x, np.array([[1.0], [1e200]]), ax)
    assert np.isnan(recorded(animation, ax, tmp_path)[-1][1][1][1:, 1]).all()


def small(frames=4):
    ax = Figure(figsize=(2, 2)).subplots()
    return fit_animation(
        [0.0, 1.0], [0.0, 1.0], lambda p, x: p[0] * x, np.linspace(0, 1, 9)[:, None], ax, frames=frames
    )


def test_a_gif(tmp_path):
    save_animation(small(), tmp_path / "a.GIF", dpi=40, fps=5)
    with Image.open(tmp_path / "a.GIF") as image:
        assert image.format == "GIF"
        assert image.size == (80, 80)
        assert image.info["duration"] == 200
        assert image.n_frames == 4  # the last one is shown twice, which Pillow makes one
    assert [path.name for path in tmp_path.iterdir()] == ["a.GIF"]


@pytest.fixture
def ffmpeg(tmp_path, monkeypatch):
    """The program, off the search path, so that it is matplotlib's own setting that finds it."""
    program = shutil.which("ffmpeg")
    if program is None:
        imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg", reason="there is no ffmpeg")
        program = imageio_ffmpeg.get_ffmpeg_exe()
    monkeypatch.setenv("PATH", str(tmp_path))
    with matplotlib.rc_context({"animation.ffmpeg_path": program}):
        yield program


@pytest.mark.parametrize("suffix", ["mp4", "mov", "webm"])
def test_a_film(tmp_path, ffmpeg, suffix):
    ax = Figure(figsize=(2.01, 1.51)).subplots()  # whose pixels are not even numbers, which a codec wants
    run = np.linspace(0, 1, 9)[:, None]
    animation = fit_animation([0.0, 1.0], [0.0, 1.0], lambda p, x: p[0] * x, run, ax, frames=4)
    (tmp_path / "made").mkdir()
    save_animation(animation, tmp_path / "made" / f"a.{suffix}", dpi=100, fps=5)
    assert [path.name for path in (tmp_path / "made").iterdir()] == [f"a.{suffix}"]
    (tmp_path / "read").mkdir()
    # Each frame once, whatever the clock of the film says.
    command = [
        ffmpeg,
        "-i",
        tmp_path / "made" / f"a.{suffix}",
        "-fps_mode",
        "passthrough",
        tmp_path / "read" / "%d.png",
    ]
    subprocess.run(command, check=True, capture_output=True)
    frames = [Image.open(path) for path in sorted((tmp_path / "read").iterdir())]
    assert len(frames) == 5  # the last one is shown twice
    for frame in frames:
        assert abs(frame.width - 201) <= 1
        assert abs(frame.height - 151) <= 1
        assert np.ptp(np.asarray(frame.convert("L"))) > 100  # black lines on white
        frame.close()


def test_without_ffmpeg(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    animation = small()
    for suffix in ("mp4", "mov", "webm"):
        with pytest.raises(RuntimeError) as caught:
            save_animation(animation, tmp_path / f"a.{suffix}")
        assert f".{suffix} needs the program ffmpeg" in str(caught.value)
        assert "pip install imageio-ffmpeg" in str(caught.value)
        assert ".gif needs no other program" in str(caught.value)
    assert not list(tmp_path.iterdir())
    save_animation(animation, tmp_path / "a.gif")


@pytest.mark.skipif(os.name == "nt", reason="the program is a script")
def test_an_ffmpeg_that_fails(tmp_path):
    program = tmp_path / "ffmpeg"
    program.write_text("#!/bin/sh\ncat > /dev/null\necho version 9 >&2\necho no such codec >&2\nexit 3\n")
    program.chmod(0o755)
    with matplotlib.rc_context({"animation.ffmpeg_path": str(program)}), pytest.raises(RuntimeError) as caught:
        save_animation(small(), tmp_path / "a.mp4")
    assert str(caught.value) == f"ffmpeg could not write {str(tmp_path / 'a.mp4')!r}: no such codec"
    assert [path.name for path in tmp_path.iterdir()] == ["ffmpeg"]


def test_a_failure_leaves_the_old_file(tmp_path):
    (tmp_path / "a.gif").write_bytes(b"old")

    def predict(p, x):
        if p[0] > 0.5:
            raise ArithmeticError("beyond")
        return p[0] * x

    animation = fit_animation([0.0, 1.0], [0.0, 1.0], predict, np.linspace(0, 1, 9)[:, None], Figure().subplots())
    with pytest.raises(ArithmeticError, match="beyond"):
        save_animation(animation, tmp_path / "a.gif")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a.gif", b"old")]


@pytest.mark.parametrize(
    ("path", "options", "error", "words"),
    [
        ("a.png", {}, ValueError, "path must end in one of .gif, .mp4"),
        ("a", {}, ValueError, "path must end in one of"),
        ("a.gif", {"fps": 0}, ValueError, "fps must be a finite number > 0"),
        ("a.gif", {"dpi": "high"}, TypeError, "dpi must be a finite number > 0"),
        ("a.gif", {"disp": 1}, TypeError, "disp must be True or False"),
        ("missing/a.gif", {}, FileNotFoundError, "there is no folder"),
    ],
)
def test_files_that_are_refused(tmp_path, path, options, error, words):
    animation = small()
    with pytest.raises(error) as caught:
        save_animation(animation, tmp_path / path, **options)
    assert words in str(caught.value)
    assert not list(tmp_path.iterdir())
    save_animation(animation, tmp_path / "a.gif")  # one that was never drawn warns


def test_what_is_no_animation_is_refused(tmp_path):
    with pytest.raises(TypeError, match="animation must be one of matplotlib"):
        save_animation("frames", tmp_path / "a.gif")


@pytest.mark.parametrize(
    ("changed", "error", "words"),
    [
        ({"x": [1.0]}, ValueError, "x and y must have the same shape, got (1,) and (2,)"),
        ({"y": [1.0, NAN]}, ValueError, "x and y must be finite"),
        ({"predict": 3}, TypeError, "predict must be a function"),
        ({"predict": lambda p, x: x[:3]}, ValueError, "predict must return an array of shape (200,)"),
        ({"predict": lambda p, x: None}, TypeError, "what predict returned must be an array"),
        ({"runs": [1.0, 2.0]}, ValueError, "2 dimensions"),
        ({"frames": 1}, ValueError, "frames"),
    ],
)
def test_fits_that_are_refused(changed, error, words):
    arguments = {"x": [0.0, 1.0], "y": [0.0, 1.0], "predict": lambda p, x: x, "runs": [[1.0], [2.0]], "frames": 5}
    with pytest.raises(error) as caught:
        fit_animation(**{**arguments, **changed}, ax=Figure().subplots())
    assert words in str(caught.value)


def test_descents_that_are_refused():
    with pytest.raises(ValueError, match="frames"):
        descent_animation("booth", [[0.0, 0.0]], Figure().subplots(), frames=1)
    with pytest.raises(ValueError, match="did you mean 'booth'"):
        descent_animation("boot", [[0.0, 0.0]], Figure().subplots())


def test_matplotlib_is_imported_when_something_is_drawn():
    code = "import optcore.animation, optcore.plot_runs, sys; sys.exit('matplotlib' in sys.modules)"
    assert matplotlib is not None
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
