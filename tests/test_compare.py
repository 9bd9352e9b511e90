"""``optcore compare``: what it finds is true, what goes wrong is said, and the same seed gives the same answer."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console
from scipy.optimize import rosen, rosen_der
from sklearn.datasets import load_breast_cancer, load_diabetes
from typer.testing import CliRunner

from optcore import CATALOGUE
from optcore.cli import app, introduce, main, show
from optcore.compare import (
    LIMIT,
    TIE,
    Settings,
    as_dict,
    batches,
    checkpoints,
    compare,
    judge,
    runs,
    summary,
)
from optcore.data import DataError, diabetes, load_csv
from optcore.tasks import L2, TASKS, Linear, load_task

EXTRAS = ["matplotlib", "pandas", "rich", "scipy", "sklearn", "sympy", "threadpoolctl", "tqdm", "typer"]


def settings(*optimizers, **keywords):
    return Settings(optimizers=optimizers or tuple(CATALOGUE), **{"epochs": 5, "rates": (0.01,), **keywords})


def one_run(task, *args, **keywords):
    (run,) = runs(task, settings(*args, **keywords))
    return run


@pytest.fixture
def cli(tmp_path, monkeypatch):
    """Runs ``optcore compare`` in an empty folder; gives the exit code and all that was printed."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        result = CliRunner().invoke(app, ["compare", *map(str, arguments)])
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result.exit_code, result.output

    return run


class Valley:
    """Rosenbrock's function, which has no rows: two numbers in two arrays."""

    name, heading, rows, held_out_rows, epochs, within = "valley", "valley of x and y.", (), 0, 300, 1e-3

    def start(self):
        return [np.array([-1.2]), np.array(1.0)]

    def objective(self, params):
        return float(rosen(np.hstack(params)))

    def gradient(self, params):
        x, y = rosen_der(np.hstack(params))
        return [np.array([x]), np.array(y)]

    def held_out_loss(self, params):
        return None

    def best_known(self):
        return 0.0, "the minimum"

    def facts(self):
        return {"variables": ["x", "y"]}


# ---------------------------------------------------------------------------- the runs


def test_batches_deal_every_row_once_in_an_epoch():
    rows = np.arange(353), -np.arange(353)
    dealt = list(batches(rows, 64, 2, seed=3))
    assert sorted({len(a) for a, _ in dealt}) == [58, 59]  # 353 rows in 6 batches
    assert all(np.array_equal(a, -b) for a, b in dealt)
    epochs = [np.concatenate([a for a, _ in dealt[i : i + 6]]) for i in (0, 6)]
    for a in epochs:
        assert np.array_equal(np.sort(a), rows[0])
    assert not np.array_equal(*epochs)
    assert not np.array_equal(dealt[0][0], next(batches(rows, 64, 2, seed=4))[0])
    assert list(batches((), 64, 3, seed=0)) == [[], [], []]


def test_the_seed_decides_what_is_held_out():
    first, again, other = (compare("diabetes", settings=settings("sgd", seed=seed)).task for seed in (0, 0, 1))
    assert np.array_equal(first.held_out_x, again.held_out_x)
    assert not np.array_equal(first.held_out_x, other.held_out_x)


def test_gradient_descent_follows_its_closed_form():
    """With one column, the slope's error shrinks by ``1 - lr * (2 + L2)`` in each full-batch step."""
    task = load_task("diabetes")
    pick = [2, -1]
    task = replace(task, x=task.x[:, pick], held_out_x=task.held_out_x[:, pick], penalty=task.penalty[pick])
    run = one_run(task, "sgd", rates=(0.1,), epochs=20, batch_size=1000)
    curvature = 2 + L2
    optimum = 2 * np.mean(task.x[:, 0] * task.y) / curvature
    lowest = 1 - curvature / 2 * optimum**2
    expected = lowest + curvature / 2 * (optimum * (1 - 0.1 * curvature) ** run.steps) ** 2
    assert list(run.steps) == list(run.epochs) == list(range(21))
    np.testing.assert_allclose(run.losses, expected, rtol=1e-12)  # twenty steps of some roundings each


def test_look_ahead_is_nesterovs_original_form():
    task = load_task("diabetes")
    plain, run = runs(task, settings("velocity", epochs=10, batch_size=1000))
    assert (plain.label, run.label) == ("velocity", "velocity, look-ahead")
    weights, velocity = np.zeros(11), np.zeros(11)
    for _ in range(10):
        velocity = 0.9 * velocity - 0.01 * task.gradient([weights + 0.9 * velocity], task.x, task.y)[0]
        weights = weights + velocity
    np.testing.assert_allclose(run.losses[-1], task.objective([weights]), rtol=1e-12)  # other order of the rows
    assert abs(plain.losses[-1] / run.losses[-1] - 1) > 1e-4
    held_out = np.mean((task.held_out_x @ weights - task.held_out_y) ** 2)
    np.testing.assert_allclose(run.held_out_loss, held_out, rtol=1e-12)


def test_schedule_free_is_judged_at_its_average():
    task = load_task("diabetes")
    run = one_run(task, "schedule_free_sgd", rates=(0.1,), epochs=10, batch_size=1000)
    z = x = np.zeros(11)
    for t in range(1, 11):
        z = z - 0.1 * task.gradient([0.1 * z + 0.9 * x], task.x, task.y)[0]
        x = x + (z - x) / t
    np.testing.assert_allclose(run.losses[-1], task.objective([x]), rtol=1e-12)  # other order of the rows
    np.testing.assert_allclose(run.held_out_loss, task.held_out_loss([x]), rtol=1e-12)
    assert abs(task.objective([0.1 * z + 0.9 * x]) / run.losses[-1] - 1) > 1e-4


def test_a_function_without_rows():
    task = Valley()
    names = ("sgd", "velocity", "rprop", "adam")
    chosen = Settings(names, rates=(1e-3, 0.1))
    result = summary(task, chosen, list(runs(task, chosen)))
    assert [row.run.label for row in result.rows] == ["sgd", "velocity", "velocity, look-ahead", "rprop", "adam"]
    assert (result.best_known_loss, result.settings.epochs) == (0.0, 300)
    assert result.converged_loss == pytest.approx(1e-3 * rosen([-1.2, 1.0]), rel=1e-12)
    first = result.rows[0].run
    assert first.steps[-1] == first.epochs[-1] == 300
    p = np.array([-1.2, 1.0])
    for _ in range(300):
        p = p - first.lr * rosen_der(p)
    assert first.losses[-1] == rosen(p)
    assert first.held_out_loss is None
    report = as_dict(result)
    assert (report["training_rows"], report["held_out_rows"], report["variables"]) == (None, 0, ["x", "y"])
    console = Console(width=80, record=True, file=io.StringIO())
    introduce(console, task, chosen)
    show(console, result)
    text = console.export_text()
    assert text.startswith("valley of x and y.\n300 steps, each with the gradient of the whole.\n")
    assert "to 0.1 %" in text
    assert "nan" not in text


def test_every_optimizer_has_a_row():
    labels = [row.run.label for row in compare("diabetes", settings=settings()).rows]
    assert list(dict.fromkeys(label.partition(",")[0] for label in labels)) == list(CATALOGUE)
    assert [label for label in labels if "," in label] == ["velocity, look-ahead", "rprop, full batch"]


def test_full_batch_means_one_step_in_an_epoch():
    assert one_run(load_task("diabetes"), "rprop").steps[-1] == 5
    assert one_run(load_task("diabetes"), "adam").steps[-1] == 5 * 6


@pytest.mark.parametrize("name", TASKS)
def test_same_seed_same_answer(name):
    def answer(seed):
        text = json.dumps(as_dict(compare(name, settings=settings(rates=(0.01, 1.0), epochs=2, seed=seed))))
        return re.sub(r'"seconds\w*": (\[.*?\]|[^,}]*)', "", text)

    first = answer(4)
    assert "seconds" not in first
    assert first == answer(4)
    assert first != answer(5)


def test_the_best_rate_is_the_one_with_the_lowest_final_loss():
    rates = (1e-4, 1e-2, 1e-1, 10.0)
    (row,) = compare("diabetes", settings=settings("adam", rates=rates, epochs=20)).rows
    final = {lr: one_run(load_task("diabetes"), "adam", rates=(lr,), epochs=20).losses[-1] for lr in rates}
    assert row.run.lr == min(final, key=final.get)
    assert row.run.losses[-1] == final[row.run.lr]


def test_outcomes_and_steps_agree_with_the_curve():
    result = compare("diabetes", settings=settings(rates=(1e-3, 1e-1), epochs=50))
    assert {"converged", "not yet"} <= {row.outcome for row in result.rows}
    border = result.converged_loss
    assert (border - result.best_known_loss) / (1.0 - result.best_known_loss) == pytest.approx(0.01, rel=1e-12)
    for row in result.rows:
        assert (row.outcome == "converged") == (row.run.losses[-1] <= border)
        if row.outcome == "converged":
            near = list(row.run.steps).index(row.steps_to_best)
            assert row.run.losses[near] <= border < row.run.losses[:near].min()
            assert row.seconds_to_best == row.run.seconds[near] > 0
        else:
            assert row.steps_to_best is row.seconds_to_best is None


def test_who_leaves_the_best_again_has_not_converged():
    task = load_task("diabetes")
    run = replace(one_run(task, "sgd"), steps=np.arange(4), losses=np.array([1.0, 0.5, 0.504, 0.506]))
    row = judge([run], 0.505)
    assert (row.outcome, row.steps_to_best, row.seconds_to_best) == ("not yet", None, None)
    row = judge([replace(run, losses=np.array([1.0, 0.5, 0.506, 0.504]))], 0.505)
    assert (row.outcome, row.steps_to_best, row.seconds_to_best) == ("converged", 1, run.seconds[1])


def test_a_run_below_scikit_learns_minimum_is_the_best_known():
    task = load_task("diabetes")
    run = replace(one_run(task, "sgd"), losses=np.array([1.0, 0.25, 0.5]))
    assert summary(task, settings("sgd"), [run]).best_known_loss == 0.25


def test_of_equally_good_rates_the_fastest_is_the_best():
    run = replace(one_run(load_task("diabetes"), "sgd"), steps=np.arange(4))
    slow = replace(run, lr=1.0, losses=np.array([1.0, 0.9, 0.8, 0.1]))
    fast = replace(run, lr=2.0, losses=np.array([1.0, 0.9, 0.1, 0.1 + 0.5 * TIE]))
    worse = replace(run, lr=3.0, losses=np.array([1.0, 0.1, 0.1, 0.1 + 2 * TIE]))
    assert judge([slow, fast, worse], 0.2).run is fast
    assert judge([slow, worse], 0.2).run is slow
    near = replace(run, lr=0.5, losses=np.array([1.0, 0.9, 0.8, 0.1 + 0.5 * TIE]))
    assert judge([near, slow], 0.1).run is slow, "the other is equally good, but has not converged"
    assert judge([near, slow], 0.05).outcome == "not yet"


def test_runs_that_end_above_the_start_are_judged_too():
    run = replace(one_run(load_task("diabetes"), "sgd"), steps=np.arange(6))
    one = replace(run, lr=1.0, losses=np.array([1.0, 1.1, 1.1, 1.1, 0.9, 1.2]))
    other = replace(run, lr=2.0, losses=np.array([1.0, 1.1, 1.1, 1.1, 0.9, 1.1]))
    row = judge([one, other], 0.5)
    assert (row.run, row.outcome, row.diverged_rates) == (other, "not yet", ())


def test_a_best_rate_at_the_edge_is_marked(cli, tmp_path):
    arguments = ["diabetes", "--optimizers", "sgd,adadelta", "--lr", "0.003,0.03,0.3", "--json", "all.json"]
    code, output = cli(*arguments)
    assert code == 0
    assert re.search(r"^sgd +0\.03 ", output, re.MULTILINE)
    assert re.search(r"^adadelta +0\.3\* ", output, re.MULTILINE)
    assert "* The lowest or the highest lr that was tried" in output
    rows = json.loads((tmp_path / "all.json").read_text())["optimizers"]
    assert [row["lr_at_edge"] for row in rows] == [False, True]
    code, output = cli("diabetes", "--optimizers", "sgd,adadelta", "--lr", "0.1")  # there is no edge
    assert code == 0
    assert "*" not in output


def test_a_rate_that_is_as_good_as_one_between_is_no_edge():
    run = replace(one_run(load_task("diabetes"), "sgd"), steps=np.arange(2))
    good, bad = np.array([1.0, 0.1]), np.array([1.0, 0.5])
    for losses, lr, at_edge in (
        ((good, bad, bad), 0.1, True),
        ((bad, bad, good), 10.0, True),
        ((good, bad, good), 0.1, True),
        ((bad, good, bad), 1.0, False),
        ((good, good, bad), 0.1, False),
        ((good, good, good), 0.1, False),
    ):
        row = judge([replace(run, lr=lr, losses=kept) for lr, kept in zip((0.1, 1.0, 10.0), losses, strict=True)], 0.2)
        assert (row.run.lr, row.at_edge) == (lr, at_edge)


def test_rates_that_diverged_are_summed_up(cli):
    output = cli("diabetes", "--optimizers", "sgd", "--epochs", 5)[1]
    assert "Diverged at lr 0.3 and above: sgd." in output
    result = compare("diabetes", settings=settings("sgd", rates=(0.1, 0.3, 1.0, 3.0)))
    result = replace(result, rows=(replace(result.rows[0], diverged_rates=(0.1, 1.0, 3.0)),))  # with a gap
    console = Console(record=True, file=io.StringIO())
    show(console, result)
    assert "Diverged at lr 0.1, 1, 3: sgd." in console.export_text()


def test_where_no_minimum_is_known_the_best_run_counts(cli):
    result = compare("mlp", settings=settings("sgd", "adam", rates=(0.01, 0.1), epochs=2))
    finished = [
        run for name in ("sgd", "adam") for run in runs(result.task, replace(result.settings, optimizers=(name,)))
    ]
    assert result.best_known_loss == min(run.losses.min() for run in finished)
    assert any(row.outcome == "converged" for row in result.rows)
    code, output = cli("mlp", "--optimizers", "sgd", "--epochs", 1)
    assert code == 0
    assert "the lowest of all runs here, as the minimum is not known" in re.sub(r"\s+", " ", output)


def test_rates_are_tried_once_from_the_smallest_on(cli, tmp_path):
    rates = "10,0.25,1e1, 1,1e-4,3,0.5"
    assert cli("diabetes", "--optimizers", "sgd", "--epochs", 1, "--lr", rates, "--json", "all.json")[0] == 0
    assert json.loads((tmp_path / "all.json").read_text())["lr"] == [1e-4, 0.25, 0.5, 1.0, 3.0, 10.0]


def test_progress_goes_from_nothing_to_the_whole():
    shares = []
    for _ in runs(load_task("diabetes"), settings("sgd", "adam", rates=(0.01, 0.1)), shares.append):
        pass
    assert 0 < shares[0] < 0.01
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_measuring_is_bounded_and_not_timed(monkeypatch):
    objective, calls = Linear.objective, []

    def slow(task, weights):
        calls.append(1)
        time.sleep(0.005)
        return objective(task, weights)

    monkeypatch.setattr(Linear, "objective", slow)
    run = one_run(load_task("diabetes"), "sgd", epochs=10)
    assert 20 < len(calls) <= 1 + 20 + 2 * 10
    assert run.seconds[-1] < 0.005 * len(calls)
    assert np.all(np.diff(run.seconds) > 0)


@pytest.mark.parametrize(("steps", "epochs"), [(1, 1), (7, 7), (1200, 200), (10**7, 1000)])
def test_checkpoints_begin_and_end_with_the_run(steps, epochs):
    found = checkpoints(steps, epochs)
    assert {min(found), max(found)} == {1, steps}
    assert len(found) <= min(200, 20 + 2 * epochs)


# ---------------------------------------------------------------------------- divergence


def test_divergence_is_reported_with_its_step():
    result = compare("diabetes", settings=settings("sgd", rates=(10.0,)))
    (row,) = result.rows
    assert (row.outcome, row.diverged_rates, row.steps_to_best) == ("diverged", (10.0,), None)
    task, weights = load_task("diabetes"), np.zeros(11)
    losses = []
    for x, y in list(batches(task.rows, 64, 1, 0))[: row.diverged_at]:
        weights -= 10.0 * task.gradient([weights], x, y)[0]
        losses.append(task.objective([weights]))
    assert losses[-1] > LIMIT > max(losses[:-1])
    assert np.all(np.isfinite(row.run.losses))


def test_a_loss_that_stays_above_its_start_has_diverged():
    """The logistic loss grows so slowly that no limit is met."""
    (row,) = compare("breast_cancer", settings=settings("momentum", rates=(1e3,), epochs=20)).rows
    assert row.outcome == "diverged"
    since = row.run.steps >= row.diverged_at
    assert row.run.steps[-1] == 20 * 8
    assert np.all(row.run.losses[since] > row.run.losses[0])


def test_a_rate_that_diverged_is_not_the_best():
    (row,) = compare("diabetes", settings=settings("sgd", rates=(0.01, 1.0, 10.0))).rows
    assert (row.run.lr, row.diverged_rates) == (0.01, (1.0, 10.0))
    assert row.outcome != "diverged"


def test_an_overflow_is_a_divergence_too():
    task = load_task("diabetes")
    run = one_run(task, "gradient_scaled", rates=(1e300,))
    assert run.overflowed_at == 1
    assert run.held_out_loss is None
    assert list(run.steps) == [0]


def test_no_nan_in_table_or_json(cli, tmp_path):
    arguments = ["--lr", "10,1e300", "--optimizers", "sgd,velocity,adagrad", "--epochs", 3, "--json", "all.json"]
    code, output = cli("diabetes", *arguments)
    assert code == 0
    assert not re.search(r"\b(nan|inf|none)\b", output, re.IGNORECASE)
    assert re.search(r"^sgd +10 +- +- +- +- +diverged at +$", output, re.MULTILINE)  # the step is on the next line
    assert re.search(r"^ +step \d *$", output, re.MULTILINE)
    assert "Diverged at lr 10 and above: sgd; velocity; velocity, look-ahead." in output.replace("\n", "")
    assert (tmp_path / "compare-diabetes.png").stat().st_size > 10_000

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    result = json.loads((tmp_path / "all.json").read_text(), parse_constant=refuse)
    by_name = {row["optimizer"]: row for row in result["optimizers"]}
    assert list(by_name) == ["sgd", "velocity", "velocity, look-ahead", "adagrad"]
    assert by_name["sgd"]["outcome"] == "diverged"
    assert by_name["sgd"]["loss"] is by_name["sgd"]["held_out_loss"] is None
    assert by_name["sgd"]["diverged_at"] > 0
    assert by_name["adagrad"]["loss"] == by_name["adagrad"]["curve"]["loss"][-1]


@pytest.mark.parametrize(("scale", "shift"), [(1e7, 0.0), (1.0, -24.2)])
def test_the_limit_follows_the_start(scale, shift):
    """A loss that is large from the start, or rises from 0, has not diverged."""

    class Moved(Valley):
        def objective(self, params):
            return scale * super().objective(params) + shift

    run = one_run(Moved(), "sgd", rates=(2e-3,))
    assert run.losses[0] == scale * rosen([-1.2, 1.0]) + shift
    assert run.losses[1] > run.losses[0]
    assert run.overflowed_at is None


# ---------------------------------------------------------------------------- CSV files


def write_csv(path, columns, rows):
    path.write_text("\n".join([",".join(columns), *(",".join(map(str, row)) for row in rows)]) + "\n")
    return path


def test_a_csv_is_the_data_set_it_was_written_from(tmp_path):
    data = load_diabetes(scaled=False)
    path = write_csv(tmp_path / "d.csv", ["out", *data.feature_names], np.column_stack([data.target, data.data]))
    found, bundled = load_csv(path, "out"), diabetes()
    assert found.classes is None
    assert (found.name, found.target, found.columns) == ("d", "out", bundled.columns)
    assert np.array_equal(found.x, bundled.x)
    assert np.array_equal(found.y, bundled.y)


@pytest.mark.parametrize("names", [("malignant", "safe"), (2, 10), (-0.5, 1e3), (2.5, 10.5), (False, True)])
def test_two_values_are_classes(tmp_path, names):
    data = load_breast_cancer()
    rows = [[*x, names[y]] for x, y in zip(data.data, data.target, strict=True)]
    found = load_csv(write_csv(tmp_path / "c.csv", [*map(str, range(30)), "kind"], rows), "kind")
    assert np.array_equal(found.y, data.target)
    assert found.classes == (tuple(map(str, names)) if isinstance(names[0], float) else names)
    assert {type(name) for name in found.classes} == {str if isinstance(names[0], float) else type(names[0])}
    assert np.array_equal(found.x, data.data)


def test_constant_columns_do_no_harm(tmp_path):
    random = np.random.default_rng(0)
    rows = [[0.1, x, 2 * x + e] for x, e in random.normal(size=(50, 2))]
    path = write_csv(tmp_path / "c.csv", ["a", "b", "y"], rows)
    (row,) = compare(str(path), "y", settings("adam", epochs=100, rates=(0.1,))).rows
    assert row.outcome == "converged"


ROWS = [[i, i % 7, i * i % 11] for i in range(12)]  # columns a, b and y


def changed(row, column, cell):
    rows = [list(cells) for cells in ROWS]
    rows[row][column] = cell
    return rows


@pytest.mark.parametrize(
    ("rows", "target", "message"),
    [
        (ROWS, None, "--target must name the column of t.csv to be predicted: a, b, y"),
        (ROWS, "yy", "t.csv has no column 'yy'; did you mean 'y'?"),
        (ROWS, "yy", "a, b, y"),
        (ROWS[:9], "y", "t.csv has 9 rows of data; at least 10 are needed"),
        ([], "y", "t.csv has 0 rows"),
        (changed(3, 1, "x"), "y", "t.csv, line 5, column 'b': 'x' is not a number"),
        (changed(3, 1, ""), "y", "t.csv, line 5, column 'b': the value is missing"),
        (changed(3, 2, "NaN"), "y", "t.csv, line 5, column 'y': the value is missing"),
        (changed(3, 1, "-inf"), "y", "t.csv, line 5, column 'b': -inf is too large"),
        (changed(3, 1, "1e200"), "y", "t.csv, line 5, column 'b': 1e+200 is too large"),
        (changed(3, 2, "x"), "y", "t.csv, line 5, column 'y': 'x' is not a number; a target has numbers or two"),
        ([*ROWS[:3], [], ["  "], *changed(3, 0, "x")[3:]], "y", "t.csv, line 7, column 'a': 'x' is not a number"),
        ([[*row[:2], 4] for row in ROWS], "y", "t.csv: the target 'y' is 4 in every row"),
        ([[*row[:2], "no"] for row in ROWS[1:]] + [[0, 0, "yes"]], "y", "t.csv: 'y' is yes in one row only"),
        ([[*row, 1] for row in ROWS], "y", "t.csv, line 2: 4 cells instead of 3, more than the header"),
        ([*ROWS, [1, 2, 3, 4]], "y", "t.csv, line 14: 4 cells instead of 3, more than the header"),
    ],
)
def test_a_csv_that_cannot_be_used_is_one_line(cli, tmp_path, rows, target, message):
    write_csv(tmp_path / "t.csv", ["a", "b", "y"], rows)
    code, output = cli("t.csv", *(["--target", target] if target else []))
    assert code == 2
    assert message in output
    assert output.count("\n") == 1
    assert output.startswith("optcore: ")
    assert not (tmp_path / "compare-t.png").exists()


def test_a_target_alone_is_not_enough(tmp_path):
    with pytest.raises(DataError, match="no column besides 'y'"):
        load_csv(write_csv(tmp_path / "t.csv", ["y"], [[i] for i in range(20)]), "y")


def test_a_target_that_only_varies_where_it_is_held_out(tmp_path):
    rows = [[i, float(i in (1, 2)) + float(i == 2)] for i in range(10)]
    path = write_csv(tmp_path / "t.csv", ["a", "y"], rows)
    refused = 0
    for seed in range(100):
        try:
            load_task(str(path), "y", seed)
        except DataError as error:
            refused += 1
            assert "'y' is 0.0 in every training row" in str(error)  # noqa: PT017
    assert 0 < refused < 100


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["diabets"], "there is no task, function or file 'diabets'; did you mean 'diabetes'?"),
        (["nowhere.csv"], "there is no file nowhere.csv"),
        (["empty.csv", "--target", "y"], "empty.csv is empty; a header"),
        (
            ["binary.csv", "--target", "y"],
            "binary.csv, line 1, cell 1: the byte 0x89 is not UTF-8 text; save the file as UTF-8",
        ),
        (["diabetes", "--target", "y"], "--target is for files"),
        (["diabetes", "--optimizers", "sgd,adm"], "there is no optimizer 'adm'; did you mean 'adam'?"),
        (["diabetes", "--lr", "0.1,fast"], "'fast' is not a number"),
        (["diabetes", "--lr", "0.1,-1"], "a learning rate must be a finite number > 0, got -1.0"),
        (["diabetes", "--lr", "nan"], "a learning rate must be a finite number > 0, got nan"),
        (["diabetes", "--save-plot", "picture.xyz"], "picture.xyz must end in one of .eps, "),
        (["diabetes", "--save-plot", "picture"], "picture must end in one of "),
        (["diabetes", "--json", "nowhere/all.json"], "all.json is a folder, or in a folder that does not exist"),
        (["diabetes", "--epochs", "0"], "--epochs"),
        (["diabetes", "--batch-size", "0"], "--batch-size"),
        (["diabetes", "--steps", "5"], "--steps is for functions; how long a model is trained is said by --epochs"),
        (["diabetes", "--start", "1"], "--start is for functions; diabetes has its own start"),
        (["t.csv", "--target", "y", "--start", "1"], "--start is for functions; a model of a file begins at zero"),
    ],
)
def test_bad_arguments_are_named(cli, tmp_path, arguments, message):
    (tmp_path / "empty.csv").touch()
    (tmp_path / "binary.csv").write_bytes(b"\x89PNG\xff\xfe")
    code, output = cli(*arguments)
    assert code == 2
    assert message in output
    assert "Traceback" not in output


@pytest.mark.parametrize(
    "keywords", [{"epochs": 0}, {"batch_size": 0}, {"seed": -1}, {"rates": ()}, {"optimizers": ()}, {"rates": (0.0,)}]
)
def test_settings_are_checked_for_callers_too(keywords):
    with pytest.raises(ValueError):
        Settings(**keywords)


# ---------------------------------------------------------------------------- the command


def test_the_table_fits_80_columns_and_tells_the_numbers(cli, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    code, output = cli("diabetes", "--epochs", 5)
    assert code == 0
    assert max(map(len, output.splitlines())) <= 80
    result = compare("diabetes", settings=Settings(epochs=5))
    for row in result.rows:
        line = next(line for line in output.splitlines() if re.match(rf"{row.run.label}  ", line))
        assert f"{row.run.lr:g} " in line
        assert f"{row.run.losses[-1]:#.5g}" in line
        assert f"{row.run.held_out_loss:#.4g}" in line
        assert row.outcome in line
        assert row.steps_to_best is None or re.search(rf" {row.steps_to_best} +0\.\d+  converged", line)
    assert f"{result.best_known_loss:.5g}" in output


def test_an_interruption_shows_what_is_finished(cli, tmp_path, monkeypatch):
    def interrupted(*arguments):
        for number, run in enumerate(runs(*arguments)):
            if number == 5:  # two rates of the third optimizer are missing
                raise KeyboardInterrupt
            yield run

    monkeypatch.setattr("optcore.compare.runs", interrupted)
    optimizers = "sgd,momentum,nesterov,adam"
    code, output = cli("diabetes", "--optimizers", optimizers, "--lr", "0.1,0.01", "--epochs", 2, "--json", "all.json")
    assert code == 130
    assert "interrupted; 2 of 4 optimizers were finished" in output
    assert re.search("^sgd .*^momentum ", output, re.MULTILINE | re.DOTALL)
    assert not re.search("^(nesterov|adam) ", output, re.MULTILINE)
    assert [path.name for path in tmp_path.iterdir()] == ["all.json"], "no picture, as none is named"
    finished = json.loads((tmp_path / "all.json").read_text())["optimizers"]
    assert [row["optimizer"] for row in finished] == ["sgd", "momentum"]


def test_a_file_that_cannot_be_written_is_named(cli, monkeypatch):
    def full(comparison, path):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("optcore.plot.save_loss_curves", full)
    code, output = cli("diabetes", "--optimizers", "sgd", "--epochs", 1, "--save-plot", "picture.png")
    assert code == 1
    assert output.endswith("optcore: picture.png cannot be written: No space left on device\n")


def test_the_command_in_a_shell(tmp_path):
    command = [sys.executable, "-W", "error", "-m", "optcore.cli", "compare", "diabetes", "--optimizers", "sgd,adam"]
    result = subprocess.run([*command, "--epochs", "3"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stderr) == (0, "")  # no progress where nobody watches
    assert "Picture: compare-diabetes.png" in result.stdout
    assert (tmp_path / "compare-diabetes.png").exists()


@pytest.mark.parametrize("extra", [extra for extra in EXTRAS if extra not in ("scipy", "pandas", "sympy")])
def test_a_missing_extra_is_named(tmp_path, extra):
    program = (
        f"import sys; sys.modules[{extra!r}] = None; sys.argv = ['optcore', 'compare', 'diabetes']\n"
        "from optcore.cli import main; main()"
    )
    result = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert result.returncode == 1
    assert result.stderr == f'optcore: {extra} is missing; pip install "optcore[all]"\n'


def test_import_optcore_imports_numpy_alone():
    program = f"import sys, optcore; print(sorted(set({EXTRAS}) & set(sys.modules)))"
    assert subprocess.check_output([sys.executable, "-c", program], text=True) == "[]\n"


def test_version_and_help(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["optcore", "--version"])
    with pytest.raises(SystemExit) as exit_code:
        main()
    assert exit_code.value.code == 0
    assert re.fullmatch(r"optcore \d+\.\d+\.\d+\n", capsys.readouterr().out)
    help_text = CliRunner().invoke(app, ["compare", "--help"]).output
    for option in ("--target", "--optimizers", "--lr", "--epochs", "--batch-size", "--seed", "--save-plot", "--json"):
        assert option in help_text
