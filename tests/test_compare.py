"""``optcore compare``: what it finds is true, what goes wrong is said, and the same seed gives the same answer."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import check_grad
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.metrics import log_loss
from typer.testing import CliRunner

from optcore import CATALOGUE
from optcore.cli import app, main, parse_rates
from optcore.compare import (
    L2,
    LIMIT,
    WITHIN,
    Problem,
    Settings,
    as_dict,
    batches,
    checkpoints,
    compare,
    judge,
    runs,
    summary,
)
from optcore.data import DataError, load_data

EXTRAS = ["matplotlib", "pandas", "rich", "scipy", "sklearn", "tqdm", "typer"]


def problem_of(name, seed=0):
    return Problem.of(load_data(name), seed)


def settings(*optimizers, **keywords):
    return Settings(optimizers=optimizers or tuple(CATALOGUE), **{"epochs": 5, "rates": (0.01,), **keywords})


def one_run(problem, *args, **keywords):
    (run,) = runs(problem, settings(*args, **keywords))
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


# ---------------------------------------------------------------------------- the problem


@pytest.mark.parametrize("name", ["diabetes", "breast_cancer"])
def test_gradient_is_that_of_the_objective(name):
    problem = problem_of(name)
    weights = np.random.default_rng(1).normal(size=problem.x.shape[1])
    # check_grad differentiates by steps of 1.5e-8, which leaves an error of about that size times the second derivative
    assert check_grad(problem.objective, lambda w: problem.gradient(w, problem.x, problem.y), weights) < 1e-5


def test_objectives_are_the_textbooks():
    weights = np.random.default_rng(2).normal(size=31)
    problem = problem_of("breast_cancer")
    probability = 1 / (1 + np.exp(-problem.x @ weights))
    expected = log_loss(problem.y, probability) + L2 / 2 * np.sum(weights[:-1] ** 2)
    np.testing.assert_allclose(problem.objective(weights), expected, rtol=1e-12)  # a few roundings
    problem = problem_of("diabetes")
    assert problem.objective(np.zeros(11)) == pytest.approx(1.0, rel=1e-12)  # the mean predicts a standardised target
    weights = np.zeros(11)
    weights[-1] = 3.0  # the intercept is not penalised
    assert problem.objective(weights) == pytest.approx(10.0, rel=1e-12)


def test_best_known_loss_is_the_minimum():
    problem = problem_of("diabetes")
    x = np.vstack([problem.x, np.sqrt(len(problem.y) * L2 / 2) * np.eye(11)[:-1]])  # penalty as further rows
    weights = np.linalg.lstsq(x, np.append(problem.y, np.zeros(10)), rcond=None)[0]
    best = problem.objective(problem.best_weights())
    np.testing.assert_allclose(best, problem.objective(weights), rtol=1e-12)
    assert compare("diabetes", settings=settings("sgd")).best_known_loss == best

    problem = problem_of("breast_cancer")
    weights = problem.best_weights()
    # Strictly convex, so a gradient of zero is the minimum; what is left raises the loss by less than its square / L2.
    assert np.abs(problem.gradient(weights, problem.x, problem.y)).max() < 1e-9


@pytest.mark.parametrize("name", ["diabetes", "breast_cancer"])
def test_a_fifth_is_held_out_and_the_rest_is_standardised(name):
    problem = problem_of(name)
    rows = len(problem.data.y)
    assert len(problem.held_out_y) == -(-rows // 5)
    assert len(problem.y) + len(problem.held_out_y) == rows
    # Means and deviations of a few hundred numbers of size 1 are off by some roundings.
    np.testing.assert_allclose(problem.x[:, :-1].mean(axis=0), 0.0, atol=1e-12)
    np.testing.assert_allclose(problem.x[:, :-1].std(axis=0), 1.0, rtol=1e-12)
    assert np.all(problem.x[:, -1] == 1.0)
    assert np.abs(problem.held_out_x[:, :-1].mean(axis=0)).max() > 0.01  # by the training rows, not by their own
    if name == "breast_cancer":
        np.testing.assert_allclose(problem.y.mean(), problem.held_out_y.mean(), atol=0.01)  # classes are shared out
        assert problem.data.classes == ("malignant", "benign")


def test_batches_deal_every_row_once_in_an_epoch():
    problem = problem_of("diabetes")
    dealt = list(batches(problem, 64, 2, seed=3))
    assert sorted({len(y) for _, y in dealt}) == [58, 59]  # 353 rows in 6 batches
    epochs = [np.concatenate([y for _, y in dealt[i : i + 6]]) for i in (0, 6)]
    for y in epochs:
        assert np.array_equal(np.sort(y), np.sort(problem.y))
    assert not np.array_equal(*epochs)
    assert not np.array_equal(dealt[0][1], next(batches(problem, 64, 2, seed=4))[1])


def test_the_seed_decides_what_is_held_out():
    first, again, other = (compare("diabetes", settings=settings("sgd", seed=seed)).problem for seed in (0, 0, 1))
    assert np.array_equal(first.held_out_x, again.held_out_x)
    assert not np.array_equal(first.held_out_x, other.held_out_x)


# ---------------------------------------------------------------------------- the runs


def test_gradient_descent_follows_its_closed_form():
    """With one column, the slope's error shrinks by ``1 - lr * (2 + L2)`` in each full-batch step."""
    problem = problem_of("diabetes")
    pick = [2, -1]
    problem = replace(
        problem, x=problem.x[:, pick], held_out_x=problem.held_out_x[:, pick], penalty=problem.penalty[pick]
    )
    run = one_run(problem, "sgd", rates=(0.1,), epochs=20, batch_size=1000)
    curvature = 2 + L2
    optimum = 2 * np.mean(problem.x[:, 0] * problem.y) / curvature
    lowest = 1 - curvature / 2 * optimum**2
    expected = lowest + curvature / 2 * (optimum * (1 - 0.1 * curvature) ** run.steps) ** 2
    assert list(run.steps) == list(run.epochs) == list(range(21))
    np.testing.assert_allclose(run.losses, expected, rtol=1e-12)  # twenty steps of some roundings each


def test_look_ahead_is_nesterovs_original_form():
    problem = problem_of("diabetes")
    plain, run = runs(problem, settings("velocity", epochs=10, batch_size=1000))
    assert (plain.label, run.label) == ("velocity", "velocity, look-ahead")
    weights, velocity = np.zeros(11), np.zeros(11)
    for _ in range(10):
        velocity = 0.9 * velocity - 0.01 * problem.gradient(weights + 0.9 * velocity, problem.x, problem.y)
        weights = weights + velocity
    np.testing.assert_allclose(run.losses[-1], problem.objective(weights), rtol=1e-12)  # other order of the rows
    assert abs(plain.losses[-1] / run.losses[-1] - 1) > 1e-4
    held_out = np.mean((problem.held_out_x @ weights - problem.held_out_y) ** 2)
    np.testing.assert_allclose(run.held_out_loss, held_out, rtol=1e-12)


def test_every_optimizer_has_a_row():
    labels = [row.run.label for row in compare("diabetes", settings=settings()).rows]
    assert list(dict.fromkeys(label.partition(",")[0] for label in labels)) == list(CATALOGUE)
    assert [label for label in labels if "," in label] == ["velocity, look-ahead", "rprop, full batch"]


def test_full_batch_means_one_step_in_an_epoch():
    assert one_run(problem_of("diabetes"), "rprop").steps[-1] == 5
    assert one_run(problem_of("diabetes"), "adam").steps[-1] == 5 * 6


@pytest.mark.parametrize("name", ["diabetes", "breast_cancer"])
def test_same_seed_same_answer(name):
    def answer(seed):
        text = json.dumps(as_dict(compare(name, settings=settings(rates=(0.01, 1.0), seed=seed))))
        return re.sub(r'"seconds\w*": (\[.*?\]|[^,}]*)', "", text)

    first = answer(4)
    assert "seconds" not in first
    assert first == answer(4)
    assert first != answer(5)


def test_the_best_rate_is_the_one_with_the_lowest_final_loss():
    rates = (1e-4, 1e-2, 1e-1, 10.0)
    (row,) = compare("diabetes", settings=settings("adam", rates=rates, epochs=20)).rows
    final = {lr: one_run(problem_of("diabetes"), "adam", rates=(lr,), epochs=20).losses[-1] for lr in rates}
    assert row.run.lr == min(final, key=final.get)
    assert row.run.losses[-1] == final[row.run.lr]


def test_outcomes_and_steps_agree_with_the_curve():
    result = compare("diabetes", settings=settings(rates=(1e-3, 1e-1), epochs=50))
    assert {"converged", "not yet"} <= {row.outcome for row in result.rows}
    border = (1 + WITHIN) * result.best_known_loss
    for row in result.rows:
        assert (row.outcome == "converged") == (row.run.losses[-1] <= border)
        if row.outcome == "converged":
            near = list(row.run.steps).index(row.steps_to_best)
            assert row.run.losses[near] <= border < row.run.losses[:near].min()
            assert row.seconds_to_best == row.run.seconds[near] > 0
        else:
            assert row.steps_to_best is row.seconds_to_best is None


def test_who_leaves_the_best_again_has_not_converged():
    problem = problem_of("diabetes")
    run = replace(one_run(problem, "sgd"), steps=np.arange(4), losses=np.array([1.0, 0.5, 0.504, 0.506]))
    row = judge([run], 0.5)
    assert (row.outcome, row.steps_to_best, row.seconds_to_best) == ("not yet", None, None)
    row = judge([replace(run, losses=np.array([1.0, 0.5, 0.506, 0.504]))], 0.5)
    assert (row.outcome, row.steps_to_best, row.seconds_to_best) == ("converged", 1, run.seconds[1])


def test_a_run_below_scikit_learns_minimum_is_the_best_known():
    problem = problem_of("diabetes")
    run = replace(one_run(problem, "sgd"), losses=np.array([1.0, 0.25, 0.5]))
    assert summary(problem, settings("sgd"), [run]).best_known_loss == 0.25


def test_rates_are_tried_once_from_the_smallest_on():
    assert parse_rates("10,0.25,1e1, 1,1e-4,3,0.5") == (1e-4, 0.25, 0.5, 1.0, 3.0, 10.0)


def test_progress_goes_from_nothing_to_the_whole():
    shares = []
    for _ in runs(problem_of("diabetes"), settings("sgd", "adam", rates=(0.01, 0.1)), shares.append):
        pass
    assert 0 < shares[0] < 0.01
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_measuring_is_bounded_and_not_timed(monkeypatch):
    objective, calls = Problem.objective, []

    def slow(problem, weights):
        calls.append(1)
        time.sleep(0.005)
        return objective(problem, weights)

    monkeypatch.setattr(Problem, "objective", slow)
    run = one_run(problem_of("diabetes"), "sgd", epochs=10)
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
    problem, weights = problem_of("diabetes"), np.zeros(11)
    losses = []
    for x, y in list(batches(problem, 64, 1, 0))[: row.diverged_at]:
        weights -= 10.0 * problem.gradient(weights, x, y)
        losses.append(problem.objective(weights))
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
    problem = problem_of("diabetes")
    run = one_run(problem, "gradient_scaled", rates=(1e300,))
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
    assert "Diverged at lr 10, 1e+300: sgd; velocity; velocity, look-ahead." in output.replace("\n", "")
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


# ---------------------------------------------------------------------------- CSV files


def write_csv(path, columns, rows):
    path.write_text("\n".join([",".join(columns), *(",".join(map(str, row)) for row in rows)]) + "\n")
    return str(path)


def test_a_csv_is_the_data_set_it_was_written_from(tmp_path):
    data = load_diabetes(scaled=False)
    path = write_csv(tmp_path / "d.csv", ["out", *data.feature_names], np.column_stack([data.target, data.data]))
    found, bundled = load_data(path, "out"), load_data("diabetes")
    assert found.classes is None
    assert (found.name, found.target, found.columns) == ("d", "out", bundled.columns)
    assert np.array_equal(found.x, bundled.x)
    assert np.array_equal(found.y, bundled.y)


@pytest.mark.parametrize("names", [("malignant", "safe"), ("2", "10"), ("-0.5", "1e3"), ("False", "True")])
def test_two_values_are_classes(tmp_path, names):
    data = load_breast_cancer()
    rows = [[*x, names[y]] for x, y in zip(data.data, data.target, strict=True)]
    found = load_data(write_csv(tmp_path / "c.csv", [*map(str, range(30)), "kind"], rows), "kind")
    assert np.array_equal(found.y, data.target)
    assert found.classes == (names if names[0] != "-0.5" else ("-0.5", "1000.0"))
    assert np.array_equal(found.x, data.data)


def test_constant_columns_do_no_harm(tmp_path):
    random = np.random.default_rng(0)
    rows = [[0.1, x, 2 * x + e] for x, e in random.normal(size=(50, 2))]
    path = write_csv(tmp_path / "c.csv", ["a", "b", "y"], rows)
    (row,) = compare(path, "y", settings("adam", epochs=100, rates=(0.1,))).rows
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
        ([[*row, 1] for row in ROWS], "y", "t.csv: the first rows have more cells than the header"),
        ([*ROWS, [1, 2, 3, 4]], "y", "line 14, saw 4"),
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
        load_data(write_csv(tmp_path / "t.csv", ["y"], [[i] for i in range(20)]), "y")


def test_a_target_that_only_varies_where_it_is_held_out(tmp_path):
    rows = [[i, float(i in (1, 2)) + float(i == 2)] for i in range(10)]
    path = write_csv(tmp_path / "t.csv", ["a", "y"], rows)
    refused = 0
    for seed in range(100):
        try:
            Problem.of(load_data(path, "y"), seed)
        except DataError as error:
            refused += 1
            assert "'y' is 0.0 in every training row" in str(error)  # noqa: PT017
    assert 0 < refused < 100


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["diabets"], "there is no file diabets; did you mean diabetes?"),
        (["nowhere.csv"], "there is no file nowhere.csv; the bundled data sets are breast_cancer and diabetes"),
        (["empty.csv", "--target", "y"], "empty.csv is not a CSV file: No columns"),
        (["binary.csv", "--target", "y"], "binary.csv is not a CSV file: "),
        (["diabetes", "--target", "y"], "--target is for CSV files"),
        (["diabetes", "--optimizers", "sgd,adm"], "there is no optimizer 'adm'; did you mean 'adam'?"),
        (["diabetes", "--lr", "0.1,fast"], "'fast' is not a number"),
        (["diabetes", "--lr", "0.1,-1"], "a learning rate must be a finite number > 0, got -1.0"),
        (["diabetes", "--lr", "nan"], "a learning rate must be a finite number > 0, got nan"),
        (["diabetes", "--save-plot", "picture.xyz"], "picture.xyz must end in one of .eps, "),
        (["diabetes", "--save-plot", "picture"], "picture must end in one of "),
        (["diabetes", "--json", "nowhere/all.json"], "all.json is a folder, or in a folder that does not exist"),
        (["diabetes", "--epochs", "0"], "--epochs"),
        (["diabetes", "--batch-size", "0"], "--batch-size"),
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
    assert list(tmp_path.iterdir()) == []


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


@pytest.mark.parametrize("extra", [extra for extra in EXTRAS if extra not in ("scipy", "pandas")])
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
