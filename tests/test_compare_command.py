"""``optcore compare`` on functions: by name and by formula, with the answers of a loop written by hand."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support import command_line
from typer.testing import CliRunner

import optcore as oc
from optcore.cli import app
from optcore.compare import Settings, compare
from optcore.data import DataError
from optcore.optimizers import ScheduleFree
from optcore.problems import PROBLEMS
from optcore.tasks import TASKS

PAGE = Path(__file__).parents[1] / "docs" / "problems.md"
BANANA = "(1 - x)**2 + 100*(y - x**2)**2"


@pytest.fixture
def cli(tmp_path, monkeypatch):
    """Runs ``optcore compare`` in an empty folder."""
    return command_line("compare", tmp_path, monkeypatch)


def strict(path):
    """The contents of a file of JSON without NaN and infinity."""

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(path.read_text(), parse_constant=refuse)


def paragraph(output):
    return " ".join(output.split())


# ---------------------------------------------------------------------------- results


def loop(fun, jac, start, cls, lr, steps):
    """The losses of a run, written by hand."""
    x = np.array(start, dtype=float)
    opt = cls(x, lr=lr)
    losses = [fun(x)]
    for _ in range(steps):
        opt.step(jac(x))
        losses.append(fun(x))
    return losses


@pytest.mark.parametrize("name", PROBLEMS)
def test_losses_are_those_of_a_loop(name):
    problem = PROBLEMS[name]
    result = compare(name, settings=Settings(("sgd", "rprop", "adam"), rates=(1e-3,), epochs=60))
    assert [row.run.label for row in result.rows] == ["sgd", "rprop", "adam"]
    for row in result.rows:
        losses = loop(problem.fun, problem.jac, problem.start, oc.CATALOGUE[row.run.label], 1e-3, 60)
        assert row.run.steps[-1] == 60
        assert row.run.losses.tolist() == [losses[step] for step in row.run.steps]
    assert (result.best_known_loss, result.how_known) == (problem.minimum, "the minimum")


def test_a_formula_gives_what_a_loop_gives(cli, tmp_path):
    options = ["--lr", "1e-3,1e-2", "--optimizers", "momentum,adam", "--steps", 300, "--json", "all.json"]
    code, output = cli(BANANA, "--start", "-1.2,1", *options)
    assert code == 0
    assert output.startswith(f"formula: {BANANA}, from x = -1.2, y = 1\nIt is 24.2 there.\n300 steps, ")
    assert "Picture: compare-formula.png" in output
    assert (tmp_path / "compare-formula.png").stat().st_size > 10_000
    report = strict(tmp_path / "all.json")
    facts = {key: value for key, value in report.items() if key not in ("best_known_loss", "converged_loss")}
    assert facts.pop("optimizers")
    assert facts == {
        "data": "formula",
        "formula": BANANA,
        "variables": ["x", "y"],
        "start": [-1.2, 1.0],
        "minimum": None,
        "minimizers": [],
        "training_rows": None,
        "held_out_rows": 0,
        "lr": [0.001, 0.01],
        "epochs": 300,
        "batch_size": None,
        "seed": 0,
        "schedule": None,
    }

    def fun(p):
        x, y = p.tolist()
        return (1 - x) ** 2 + 100 * (y - x**2) ** 2

    def jac(p):
        x, y = p.tolist()
        return np.array([-2 * (1 - x) - 400 * x * (y - x**2), 200 * (y - x**2)])

    first, lowest = fun(np.array([-1.2, 1.0])), np.inf
    for row in report["optimizers"]:
        losses = loop(fun, jac, [-1.2, 1.0], oc.CATALOGUE[row["optimizer"]], row["lr"], 300)
        # The same formula with its derivative sorted otherwise: 300 steps of some roundings, in a stable run.
        np.testing.assert_allclose(row["curve"]["loss"], [losses[step] for step in row["curve"]["step"]], rtol=1e-9)
        assert row["curve"]["epoch"] == row["curve"]["step"]
        assert (row["loss"], row["held_out_loss"]) == (row["curve"]["loss"][-1], None)
        lowest = min(lowest, *row["curve"]["loss"])
    assert report["best_known_loss"] == lowest
    assert report["converged_loss"] == pytest.approx(lowest + 1e-4 * (first - lowest), rel=1e-12)
    assert "the lowest of all runs here, as the minimum is not known" in paragraph(output)


def test_a_named_function(cli, tmp_path):
    code, output = cli("rosenbrock", "--json", "all.json")
    assert code == 0
    assert "2000 steps" in output
    assert max(map(len, output.splitlines())) <= 80
    assert "Best known loss: 0, the minimum." in paragraph(output)
    assert "held-out" not in output
    assert "training" not in output
    report = strict(tmp_path / "all.json")
    assert (report["minimum"], report["minimizers"], report["epochs"]) == (0.0, [[1.0, 1.0]], 2000)
    assert report["converged_loss"] == pytest.approx(24.2e-4, rel=1e-12)
    outcomes = {row["optimizer"]: row["outcome"] for row in report["optimizers"]}
    assert [name for name in outcomes if "," not in name] == list(oc.CATALOGUE)
    assert (outcomes["sgd"], outcomes["adam"], outcomes["gradient_scaled"]) == ("not yet", "converged", "diverged")
    for row in report["optimizers"]:
        line = next(line for line in output.splitlines() if re.match(rf"{row['optimizer']}  ", line))
        loss = "-" if row["loss"] is None else re.escape(f"{row['loss']:#.5g}")
        steps = "-" if row["steps_to_best"] is None else row["steps_to_best"]
        assert re.match(rf"{row['optimizer']} +{row['lr']:g}\*? +{loss} +{steps} +\S+  {row['outcome']}", line)
    assert (tmp_path / "compare-rosenbrock.png").stat().st_size > 10_000


def test_the_seed_changes_nothing(cli, tmp_path):
    def answer(*arguments):
        cli("beale", "--optimizers", "sgd,adam", "--lr", "0.01,0.1", "--steps", 50, "--json", "all.json", *arguments)
        report = strict(tmp_path / "all.json")
        for row in report["optimizers"]:
            row.pop("seconds_to_best")
            row["curve"].pop("seconds")
        del report["seed"]
        return report

    assert answer() == answer() == answer("--seed", 7)


@pytest.mark.parametrize("name", ["double_well", "plateau", "himmelblau", "parabola"])
def test_minima_below_above_and_at_0(cli, tmp_path, name):
    optimizers = "sgd,momentum,rprop,adam,lamb"
    code, output = cli(name, "--optimizers", optimizers, "--lr", "0.001,0.03,0.1", "--json", "all.json")
    assert code == 0
    assert not re.search(r"\b(nan|inf)\b", output)
    problem, report = PROBLEMS[name], strict(tmp_path / "all.json")
    assert f"Best known loss: {problem.minimum:.5g}, the minimum." in paragraph(output)
    # A run may end below the minimum by the rounding of its value.
    assert report["best_known_loss"] == pytest.approx(problem.minimum, rel=1e-15, abs=0)
    first = problem.fun(problem.start)
    for row in report["optimizers"]:
        share = (row["curve"]["loss"][-1] - problem.minimum) / (first - problem.minimum)
        assert row["outcome"] == ("converged" if share <= 1e-4 else "not yet")
    by_name = {row["optimizer"]: row["outcome"] for row in report["optimizers"]}
    assert by_name["momentum"] == "converged"
    assert (by_name["sgd"] == "not yet") == (name == "plateau"), "no constant rate below 0.21 crosses the plateau"


def test_another_local_minimum_is_not_the_minimum(cli):
    """x^4/4 - x^3/3 - x^2 has minima at -1, of -5/12, and at 2, of -8/3."""
    options = ["--optimizers", "sgd,adam", "--lr", "0.01", "--steps", 3000]
    for start, loss in (("-1.5", "-0.41667"), ("1.5", "-2.6667")):
        code, output = cli("x**4/4 - x**3/3 - x**2", "--start", start, *options)
        assert code == 0
        assert re.search(rf"^sgd +0\.01 +{loss} .* converged", output, re.MULTILINE)
    code, output = cli("rosenbrock_10", "--start", "-1,1,1,1,1,1,1,1,1,1", "--optimizers", "sgd", "--lr", "1e-3")
    assert code == 0
    assert re.search(r"^sgd +0\.001 +3\.98\d+ +- +- +not yet", output, re.MULTILINE)


def test_a_start_at_the_minimum(cli, tmp_path):
    code, output = cli("rosenbrock", "--start", "1,1", "--json", "all.json")
    assert code == 0
    assert "The slope is 0 there, so that few will move; --start can name another place." in paragraph(output)
    assert "Converged: at the end at 0 or below" in paragraph(output)
    assert "*" not in output, "where all rates are equally good, none is at the edge"
    for row in strict(tmp_path / "all.json")["optimizers"]:
        if row["optimizer"] in ("adamw", "ftrl"):  # the one shrinks weights, the other takes those without slope to 0
            assert row["outcome"] == "diverged"
        else:
            assert (row["outcome"], row["loss"], row["steps_to_best"]) == ("converged", 0.0, 0)
            assert set(row["curve"]["loss"]) == {0.0}
    code, output = cli("double_well", "--start", "0", "--optimizers", "sgd,adam")
    assert code == 0
    assert re.search(r"^sgd +0\.0001 +0\.0000 +- +- +not yet", output, re.MULTILINE), "a maximum"


def test_all_diverge(cli, tmp_path):
    code, output = cli("x**4", "--start", 3, "--lr", "1e3,1e4", "--optimizers", "sgd,momentum", "--json", "all.json")
    assert code == 0
    assert not re.search(r"\b(nan|inf)\b", output)
    assert {row["outcome"] for row in strict(tmp_path / "all.json")["optimizers"]} == {"diverged"}
    assert (tmp_path / "compare-formula.png").exists()


def test_a_function_without_minimum_is_refused(cli, tmp_path):
    code, output = cli("(-x**2)", "--lr", "1", "--optimizers", "sgd")
    message = re.search(
        r"^optcore: formula seems to have no minimum: sgd with lr 1 is at -(.*) after step (\d+);", output, re.M
    )
    # From 1, each step multiplies x by 3. The loss is looked at in every step at first, later less often.
    assert float(message[1]) == pytest.approx(9.0 ** int(message[2]), rel=1e-5)
    assert 210 <= int(message[2]) <= 220
    assert code == 2
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(DataError, match=r"^formula seems to have no minimum: sgd with lr 1 is at -inf after step 1;"):
        compare("log(x)", settings=Settings(("sgd",), rates=(1.0,)))
    with pytest.raises(DataError, match=r"^formula seems to have no minimum: sgd with lr 3 is at -1\.\d+e\+223 after"):
        compare("x**3 - 3*x", settings=Settings(("sgd",), rates=(3.0,)), start=[2.0])
    (row,) = compare("x**3 - 3*x", settings=Settings(("sgd",), rates=(0.1,)), start=[2.0]).rows
    assert row.run.losses[-1] == -2.0, "lower rates stay at the local minimum"


def test_an_interruption_before_the_first_run(cli, monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr("optcore.compare.runs", interrupted)
    code, output = cli(BANANA, "--optimizers", "sgd,adam", "--start", "-1.2,1")
    assert code == 130
    assert "interrupted; 0 of 2 optimizers were finished" in output
    assert not re.search(r"\b(nan|inf)\b", output)


# ---------------------------------------------------------------------------- schedules

FALLING = "Linear(1.0, 0.25, steps=64)"


def test_a_schedule_multiplies_every_rate(cli, tmp_path):
    """From 1 to 1/4 in 64 steps: each value is a multiple of 3/256, so that the truth is exact."""
    arguments = ["--lr", "1e-3,1e-2", "--steps", 100, "--json", "all.json"]
    code, output = cli("booth", "--schedule", FALLING, *arguments)
    assert code == 0
    assert "lr times Linear(start=1.0, end=0.25, steps=64), in runs of 100 steps." in paragraph(output)
    report, problem = strict(tmp_path / "all.json"), PROBLEMS["booth"]
    assert report["schedule"] == "Linear(start=1.0, end=0.25, steps=64)"
    names = [row["optimizer"] for row in report["optimizers"]]
    assert [name for name in names if "," not in name] == list(oc.CATALOGUE)
    assert [row["optimizer"] for row in report["optimizers"] if row["schedule"] is None] == ["rprop"]
    assert "With a constant lr, as theirs cannot follow the schedule: rprop." in paragraph(output)
    for row in report["optimizers"]:
        if "," in row["optimizer"] or issubclass(oc.CATALOGUE[row["optimizer"]], ScheduleFree):
            continue  # what is measured there is not where the gradient is
        lr = row["lr"]
        rate = lr if row["optimizer"] == "rprop" else lambda t, lr=lr: (1 - 3 * min(t, 64) / 256) * lr
        losses = loop(problem.fun, problem.jac, problem.start, oc.CATALOGUE[row["optimizer"]], rate, 100)
        assert row["curve"]["loss"] == [losses[step] for step in row["curve"]["step"]], row["optimizer"]


def test_a_constant_schedule_of_1_changes_nothing():
    options = {"rates": (0.01,), "epochs": 2}
    plain, scheduled = (
        [row.run.losses.tolist() for row in compare("diabetes", settings=Settings(**options, schedule=schedule)).rows]
        for schedule in (None, oc.schedules.Constant(1.0))
    )
    assert plain == scheduled


@pytest.mark.parametrize(("steps", "alone"), [(50, "rprop"), (51, "rprop; ftrl")])
def test_a_rate_of_0_is_not_for_ftrl(cli, steps, alone):
    """At t = 50, which a run of 50 steps does not see."""
    options = ["--lr", "0.001", "--optimizers", "sgd,rprop,ftrl", "--schedule", "Linear(1.0, steps=50)"]
    code, output = cli("booth", "--steps", steps, *options)
    assert code == 0
    assert f"With a constant lr, as theirs cannot follow the schedule: {alone}." in paragraph(output)


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("Cosin(1.0, steps=9)", ["there is no such schedule; did you mean 'Cosine'?", "Cosin(1.0, steps=9)", "^"]),
        ("2 * Cosine(1.0)", ["steps", "2 * Cosine(1.0)", "    ^"]),
        ("Plateau(1.0)", ["--schedule: Plateau follows the losses of one run, so it is no shape for all"]),
        ("BackOff(1.0)", ["--schedule: BackOff follows the losses of one run, so it is no shape for all"]),
        ("0.5", ["this is no schedule; a constant one is Constant(...)", "0.5", "^"]),
        ("Linear(1, -1, steps=10)", ["is -0.2 at t = 6; a learning rate is multiplied by it"]),
        ("Constant(1e308)", ["is 1e+308 at t = 0; a learning rate is multiplied by it"]),
    ],
)
def test_a_schedule_that_is_none_is_pointed_at(cli, tmp_path, text, lines):
    code, output = cli("booth", "--schedule", text)
    found = output.splitlines()
    assert code == 2
    assert lines[0] in found[0]
    assert found[1:] == lines[1:]
    assert list(tmp_path.iterdir()) == []


def test_a_schedule_is_checked_for_callers_too():
    for wrong in (oc.Plateau(0.1), 0.5, "Constant(1.0)"):
        with pytest.raises(TypeError, match=r"^schedule must be a function of time"):
            Settings(schedule=wrong)
    with pytest.raises(DataError, match="is -1 at t = 7;"):
        compare("booth", settings=Settings(epochs=8, schedule=oc.schedules.Piecewise((1.0, -1.0), (7,))))
    compare("booth", settings=Settings(("sgd",), epochs=7, schedule=oc.schedules.Piecewise((1.0, -1.0), (7,))))


# ---------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("2x**2 + y", 1, "'x': an operation is missing before it; a product is written 2*x"),
        ("(1 - x)^2", 7, "'^': use ** for a power"),
        ("  x*arcsin(x) ", 2, "there is no such function; did you mean 'asin'?"),
        ("__import__('os').system('touch x')", 0, "this cannot be the name of a variable"),
        ("(x + 1", 0, "this cannot be read ('(' was never closed)"),
        ("x*y - x*y + 1", 0, "the value does not depend on it"),
    ],
)
def test_a_mistake_is_pointed_at(cli, tmp_path, text, place, message):
    code, output = cli(text)
    first, second, third = output.splitlines()
    assert code == 2
    assert first.startswith("optcore: ")
    assert message in first
    assert (second, third) == (text.strip(), " " * place + "^")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rosenbrok"], "there is no task, function or file 'rosenbrok'; did you mean 'rosenbrock'?"),
        (["rosenbrok"], f"formulas, which have one of + * ( ), such as {BANANA}"),
        (["rosenbrock", "--start", "1"], "--start must have a number for each of x, y, in this order, got 1"),
        ([BANANA, "--start", "1,2,3"], "--start must have a number for each of x, y, in this order, got 3"),
        ([BANANA, "--start", "1,b"], "--start takes numbers with commas between, but 'b' is not a number"),
        ([BANANA, "--start", "1,nan"], "--start must be finite"),
        ([BANANA, "--start", "1,1e200"], "formula is inf at the start, x = 1, y = 1e+200; --start can name another"),
        (["booth", "--target", "y"], "--target is for files; a function has no columns"),
        (["booth", "--epochs", 5], "--epochs is for models of rows; how long a function is minimized is said by --st"),
        (["booth", "--batch-size", 5], "--batch-size is for models of rows; each step on a function sees all of it"),
        (["booth", "--steps", 0], "--steps"),
        (["booth", "--optimizers", "adm"], "there is no optimizer 'adm'"),
    ],
)
def test_bad_arguments_are_named(cli, tmp_path, arguments, message):
    code, output = cli(*arguments)
    assert code == 2
    assert message in output
    assert "Traceback" not in output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [["(-exp(-x**2))"], ["--", "-exp(-x**2)"]])
def test_a_formula_that_begins_with_minus(cli, arguments):
    code, output = cli("--optimizers", "rprop", "--lr", "0.1", "--steps", 100, *arguments)
    assert code == 0
    assert re.search(r"^rprop +0\.1 +-1\.0000 ", output, re.MULTILINE)


@pytest.mark.parametrize(("source", "extra"), [("x**2 + y**2", "sympy"), ("booth", "matplotlib"), ("booth", "tqdm")])
def test_a_missing_extra_is_named(tmp_path, source, extra):
    program = (
        f"import sys; sys.modules[{extra!r}] = None; sys.argv = ['optcore', 'compare', {source!r}]\n"
        "from optcore.cli import main; main()"
    )
    result = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stderr) == (1, f'optcore: {extra} is missing; pip install "optcore[all]"\n')


def test_a_named_function_needs_neither_sympy_nor_data(tmp_path):
    program = (
        "import sys; sys.modules.update(sympy=None, sklearn=None, pandas=None)\n"
        "sys.argv = ['optcore', 'compare', 'booth', '--optimizers', 'sgd', '--steps', '5']\n"
        "from optcore.cli import main; main()"
    )
    result = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stderr) == (0, "")
    assert (tmp_path / "compare-booth.png").exists()


# ---------------------------------------------------------------------------- what is written about it


def test_help_names_tasks_functions_and_options():
    text = " ".join(CliRunner().invoke(app, ["compare", "--help"], env={"COLUMNS": "100"}).output.split())
    assert f"Functions are {', '.join(PROBLEMS)}, and formulas" in text
    for part in (*TASKS, "--start", "--steps", "--schedule", "Without it: 2000", BANANA):
        assert part in text


@pytest.mark.skipif(not PAGE.exists(), reason="needs the source tree")
def test_commands_of_the_page_run(cli):
    page = PAGE.read_text()
    commands = re.findall(r"^(optcore compare .*)$|`(optcore compare .+)`", page, re.M)
    commands = [shlex.split(block or inline)[2:] for block, inline in commands]
    assert [command[0] for command in commands] == ["rosenbrock", "himmelblau", BANANA, "rosenbrock"]
    for command in commands:
        code, output = cli(*command, "--steps", 3, "--lr", "0.001")
        assert code == 0, output
    code, output = cli("2x + 1")
    assert f'$ optcore compare "2x + 1"\n{output}```' in page
