"""``optcore sweep``: the table is that of scikit-learn's search, what it writes can be used, mistakes are said."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
import warnings

import joblib
import numpy as np
import pytest
from scipy.stats import loguniform
from sklearn.compose import TransformedTargetRegressor
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import get_scorer, get_scorer_names
from sklearn.model_selection import GridSearchCV, KFold, RandomizedSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from support import command_line

from optcore import CATALOGUE, sweep_command
from optcore.data import Data
from optcore.estimators import LinearClassifier, LinearRegressor, MLPClassifier
from optcore.sweep import sweep

SMALL = ["--lr", "0.01,0.1", "--batch-size", "64,128", "--epochs", "2,4", "--folds", "3"]
DIVERGING = ["--optimizers", "sgd,adam", "--lr", "0.01,1e300", "--epochs", "3", "--folds", "3"]


@pytest.fixture
def cli(tmp_path, monkeypatch):
    """Runs ``optcore sweep`` in an empty folder."""
    return command_line("sweep", tmp_path, monkeypatch, 100)


@pytest.fixture
def table(tmp_path):
    """A CSV file of 90 rows with a number and a class to be predicted."""
    random = np.random.default_rng(0)
    x = random.normal(size=(90, 3))
    y = 1000 * (x @ [1.0, 2.0, 3.0]) + 5000
    path = tmp_path / "table.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["a", "b", "c", "price", "kind"])
        writer.writerows([*row, value, int(value > 5000)] for row, value in zip(x, y, strict=True))
    return path


def rows_of(output):
    """The cells of the table that was printed."""
    lines = output.split("─\n", 1)[1].split("\n\n", 1)[0].splitlines()
    return [line.split() for line in lines]


def without_times(text):
    content = json.loads(text)
    for row in content["settings"]:
        del row["fit_seconds"]
    return content


# ---------------------------------------------------------------------------- what is found


def test_the_table_is_that_of_the_search_itself(cli, tmp_path):
    code, output = cli("diabetes", *SMALL, "--seed", 3, "--json", "table.json", "--save-model", "model.joblib")
    assert code == 0, output
    X, y = load_diabetes(return_X_y=True, scaled=False, as_frame=True)
    model = TransformedTargetRegressor(
        make_pipeline(StandardScaler(), LinearRegressor(optimizer="adam", random_state=3)), transformer=StandardScaler()
    )
    names = {"batch_size": [64, 128], "epochs": [2, 4], "lr": [0.01, 0.1]}
    grid = {f"regressor__linearregressor__{name}": values for name, values in names.items()}
    search = GridSearchCV(model, grid, scoring="r2", cv=KFold(3, shuffle=True, random_state=3)).fit(X, y)
    scores = dict(
        zip(
            [tuple(params.values()) for params in search.cv_results_["params"]],
            search.cv_results_["mean_test_score"].tolist(),
            strict=True,
        )
    )
    found = json.loads((tmp_path / "table.json").read_text())
    assert {tuple(row[name] for name in names): row["score"] for row in found["settings"]} == scores
    assert tuple(found["best"][name] for name in names) == tuple(search.best_params_.values())
    printed = rows_of(output)
    assert [row[:4] for row in printed] == [
        [*(f"{value:g}" for value in setting), f"{score:.5f}"]
        for setting, score in sorted(scores.items(), key=lambda item: -item[1])
    ]
    loaded = joblib.load(tmp_path / "model.joblib")
    np.testing.assert_array_equal(loaded.predict(X), search.predict(X))


def test_classes_have_their_names(cli, tmp_path):
    code, output = cli("breast_cancer", "--lr", "0.01,0.1", "--epochs", "3", "--save-model", "model.joblib")
    assert code == 0, output
    assert "accuracy" in output
    assert isinstance(joblib.load("model.joblib")[-1], LinearClassifier)
    data = load_breast_cancer(as_frame=True)
    assert set(joblib.load("model.joblib").predict(data.data)) == {"benign", "malignant"}
    model = make_pipeline(StandardScaler(), LinearClassifier(batch_size=64, epochs=3, random_state=0))
    search = GridSearchCV(
        model, {"linearclassifier__lr": [0.01, 0.1]}, cv=StratifiedKFold(5, shuffle=True, random_state=0)
    )
    search.fit(data.data, data.target_names[data.target])
    assert f"Best: lr {search.best_params_['linearclassifier__lr']:g}: accuracy {search.best_score_:.5f}" in output


def test_a_file_with_numbers_and_with_classes(cli, table):
    code, output = cli(table, "--target", "price", "--lr", "0.1", "--epochs", "50", "--batch-size", "all")
    assert code == 0, output
    assert "table: price (a number) from 4 columns; 90 rows in 5 folds, seed 0." in output
    assert "LinearRegressor with batch_size all, epochs 50, l2 0, lr 0.1, optimizer adam." in output
    assert "Best: the only setting: r2 0.9" in output
    options = ["--model", "mlp", "--hidden", "4,4", "--lr", "0.1", "--epochs", "9", "--save-model", "m.joblib"]
    code, output = cli(table, "--target", "kind", *options, "--scoring", "neg_log_loss")
    assert code == 0, output
    assert "neg_log_loss" in output
    model = joblib.load("m.joblib")[-1]
    assert isinstance(model, MLPClassifier)
    assert model.hidden_layer_sizes == (4, 4)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_classes_of_a_file_keep_what_they_are_called(cli, tmp_path, suffix):
    if suffix == "parquet":
        pytest.importorskip("pyarrow", exc_type=ImportError)
    iris = load_iris(as_frame=True)
    for target, names, said in (
        ("species", iris.target_names, "setosa, versicolor or virginica"),
        ("number", np.arange(3), "0, 1 or 2"),
    ):
        frame = iris.data.assign(**{target: names[iris.target]})
        path = tmp_path / f"iris.{suffix}"
        frame.to_csv(path, index=False) if suffix == "csv" else frame.to_parquet(path)
        options = ["--target", target, "--lr", "0.01,0.1", "--epochs", 20, "--save-model", "m", "--json", "t"]
        code, output = cli(path, *options)
        assert code == 0, output
        assert f"iris: {target} ({said}) from 4 columns; 150 rows in 5 folds" in output
        assert ("number is taken for classes; --task regression takes it for a number." in output) == (
            target == "number"
        )
        model = make_pipeline(StandardScaler(), LinearClassifier(batch_size=64, epochs=20, random_state=0))
        search = GridSearchCV(
            model, {"linearclassifier__lr": [0.01, 0.1]}, cv=StratifiedKFold(5, shuffle=True, random_state=0)
        )
        search.fit(iris.data, frame[target].to_numpy())
        assert f"accuracy {search.best_score_:.5f}" in output
        loaded = joblib.load("m")
        assert loaded.classes_.tolist() == list(names)
        assert loaded.feature_names_in_.tolist() == list(iris.data.columns)
        np.testing.assert_array_equal(loaded.predict(iris.data), search.predict(iris.data))
        assert json.loads((tmp_path / "t").read_text())["classes"] == names.tolist()
    code, output = cli(path, "--target", "number", "--lr", "0.1", "--task", "regression")
    assert code == 0, output
    assert "(a number)" in output
    assert "Best: the only setting: r2 " in output


def test_many_classes_are_not_all_named(cli, tmp_path):
    rows = [f"{i},{i % 7},{'abcdefg'[i % 7]}" for i in range(70)]
    (tmp_path / "t.csv").write_text("\n".join(["a,b,y", *rows]) + "\n")
    code, output = cli("t.csv", "--target", "y", "--lr", "0.1", "--epochs", 1)
    assert code == 0, output
    assert "t: y (one of 7 classes: a, b, c, d, e, ...) from 2 columns" in output


def test_a_column_of_text_is_refused(cli, tmp_path):
    rows = [f"{i},{'xyz'[i % 3]},{i % 2}" for i in range(20)]
    (tmp_path / "t.csv").write_text("\n".join(["a,b,y", *rows]) + "\n")
    assert cli("t.csv", "--target", "y") == (
        2,
        "optcore: t.csv, line 2, column 'b': 'x' is not a number; encode the column as numbers or leave it out\n",
    )


def test_every_optimizer_can_be_tried(cli, tmp_path):
    names = ",".join(CATALOGUE)
    code, output = cli("diabetes", "--optimizers", names, "--lr", "0.01", "--epochs", "1", "--folds", 2, "--json", "t")
    assert code == 0, output
    rows = json.loads((tmp_path / "t").read_text())["settings"]
    assert {row["optimizer"] for row in rows if row["score"] is not None} == set(CATALOGUE)


def test_what_diverges_comes_last_and_is_named(cli, tmp_path):
    code, output = cli("diabetes", *DIVERGING, "--json", "table.json")
    assert code == 0, output
    assert "nan" not in output.lower()
    rows = rows_of(output)
    assert [row[-1] == "diverged" for row in rows] == [False, False, True, True]
    assert [row[2:5] for row in rows[2:]] == [["-"] * 3] * 2
    assert re.search(r"Diverged: lr 1e\+300, optimizer sgd; lr 1e\+300, optimizer adam\.", output)
    found = json.loads((tmp_path / "table.json").read_text())["settings"]
    assert [row["score"] is None for row in found] == [False, False, True, True]
    assert all(row["failure"].startswith("diverged: ") for row in found[2:])


def test_where_everything_diverges(cli, tmp_path):
    code, output = cli("diabetes", "--lr", "1e300", "--epochs", "3", "--save-model", "m", "--json", "table.json")
    assert code == 1
    assert "no setting has a score, so there is no best; lower --lr" in output
    assert "Best" not in output
    assert not (tmp_path / "m").exists()
    assert json.loads((tmp_path / "table.json").read_text())["best"] is None


def test_random_settings_are_some_of_the_grid(cli, tmp_path):
    found = {}
    for options in (["grid"], ["random", "--samples", 3], ["random", "--samples", 99]):
        code, output = cli("diabetes", *SMALL, "--json", "table.json", "--search", *options)
        assert code == 0, output
        found[options[-1]] = without_times((tmp_path / "table.json").read_text())["settings"]
    assert len(found[3]) == 3
    assert all(row in found["grid"] for row in found[3])
    assert found[99] == found["grid"]


def test_random_settings_of_ranges_are_those_of_the_search_itself(cli, tmp_path):
    ranges = ["--search", "random", "--samples", 6, "--lr", "1e-3:1", "--l2", "1e-6:1e-2", "--epochs", 3]
    options = ["diabetes", *ranges, "--optimizers", "sgd,adam", "--folds", 3, "--json", "t", "--results", "r.jsonl"]
    code, output = cli(*options)
    assert code == 0, output
    whole = without_times((tmp_path / "t").read_text())
    model = TransformedTargetRegressor(
        make_pipeline(StandardScaler(), LinearRegressor(batch_size=64, epochs=3, random_state=0)),
        transformer=StandardScaler(),
    )
    offered = {"optimizer": ["sgd", "adam"], "lr": loguniform(1e-3, 1), "l2": loguniform(1e-6, 1e-2)}
    offered = {f"regressor__linearregressor__{name}": values for name, values in offered.items()}
    cv = KFold(3, shuffle=True, random_state=0)
    search = RandomizedSearchCV(model, offered, n_iter=6, random_state=0, scoring="r2", cv=cv)
    search.fit(*load_diabetes(return_X_y=True, scaled=False))
    drawn = {
        (params["regressor__linearregressor__lr"], score)
        for params, score in zip(search.cv_results_["params"], search.cv_results_["mean_test_score"], strict=True)
    }
    assert {(row["lr"], row["score"]) for row in whole["settings"]} == drawn
    assert len(drawn) == 6
    lines = (tmp_path / "r.jsonl").read_text().splitlines()
    (tmp_path / "r.jsonl").write_text("\n".join(lines[:8]) + "\n")
    code, output = cli(*options)
    assert code == 0, output
    assert without_times((tmp_path / "t").read_text()) == whole
    again = (tmp_path / "r.jsonl").read_text().splitlines()
    assert again[:8] == lines[:8]
    assert len(again) == len(lines) == 19


def test_halving_gives_all_epochs_to_the_best(cli, tmp_path):
    options = ["--lr", "0.001,0.01,0.1", "--batch-size", "32,64,128", "--epochs", 18, "--search", "halving"]
    code, output = cli("diabetes", *options, "--folds", 3, "--json", "table.json")
    assert code == 0, output
    rows = json.loads((tmp_path / "table.json").read_text())["settings"]
    assert [(row["round"], row["epochs"]) for row in rows] == [(2, 18)] + [(1, 6)] * 3 + [(0, 2)] * 9
    best = json.loads((tmp_path / "table.json").read_text())["best"]
    assert best == {name: rows[0][name] for name in best}
    for some in (rows[1:4], rows[4:]):
        assert [row["score"] for row in some] == sorted((row["score"] for row in some), reverse=True)


def test_the_same_seed_gives_the_same_table_for_any_number_of_jobs(cli, tmp_path):
    def run(*options):
        code, output = cli("diabetes", *SMALL, "--json", "table.json", *options)
        assert code == 0, output
        return without_times((tmp_path / "table.json").read_text())

    first = run()
    assert run("--jobs", 2) == first
    assert run("--seed", 1)["settings"] != first["settings"]


def test_a_picture_is_drawn(cli, tmp_path):
    ranges = ["--search", "random", "--samples", 4, "--lr", "0.01:1", "--l2", "1e-6:1e-2", "--epochs", 2]
    one = ["--lr", "0.1", "--epochs", "1"]
    for options in (SMALL, DIVERGING, one, [*one, "--batch-size", "9,all"], ranges):
        code, output = cli("diabetes", *options, "--save-plot", "p.png")
        assert code == 0, output
        assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
        (tmp_path / "p.png").unlink()


def drawn(done, monkeypatch):
    """The axes that a search makes."""
    from matplotlib.figure import Figure

    figures = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *arguments, **options: figures.append(figure))
    sweep_command.save_scores(done, "r2", "unused.png")
    return figures[0].axes


def finished(settings, scores, **offered):
    """What a search has when it is done, with these settings and scores."""
    search = GridSearchCV(None, offered) if offered else RandomizedSearchCV(None, {"m__lr": loguniform(0.1, 1)})
    params = [{f"m__{name}": value for name, value in setting.items()} for setting in settings]
    search.cv_results_ = {"params": params, "mean_test_score": np.array(scores)}
    return search


def test_the_map_is_in_order_and_its_colours_are_for_the_good(monkeypatch):
    settings = [{"lr": lr, "batch_size": size} for lr in (10.0, 0.1, 1.0) for size in (None, 64)]
    done = finished(settings, [-1e9, -1e7, 0.3, 0.4, 0.5, 0.45], m__lr=[0.1, 1.0, 10.0], m__batch_size=[64, None])
    ax, bar = drawn(done, monkeypatch)
    assert [label.get_text() for label in ax.get_xticklabels()] == ["0.1", "1", "10"]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["64", "all"]
    np.testing.assert_allclose(np.ma.getdata(ax.images[0].get_array())[:, :2], [[0.4, 0.45], [0.3, 0.5]])
    low, high = ax.images[0].get_clim()
    assert 0 < low < 0.3 < high == 0.5
    assert bar.get_ylabel() == "r2"
    assert ax.get_title() == ""


def test_a_range_is_an_axis(monkeypatch):
    settings = [
        {"lr": lr, "optimizer": name} for lr, name in ((0.5, "sgd"), (0.2, "adam"), (0.9, "sgd"), (7.0, "adam"))
    ]
    (ax,) = drawn(finished(settings, [0.3, 0.4, np.nan, 0.2]), monkeypatch)
    points = {line.get_label(): line.get_xydata().tolist() for line in ax.lines}
    assert points == {"sgd": [[0.5, 0.3]], "adam": [[0.2, 0.4], [7.0, 0.2]], "diverged": [[0.9, 0.0]]}
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("lr", "r2")


@pytest.mark.parametrize("columns", [30, 200])
def test_a_narrow_terminal_loses_nothing(columns, tmp_path, monkeypatch):
    """What is left of the breaks of lines is the same table."""
    narrow = command_line("sweep", tmp_path, monkeypatch, columns)
    _, output = narrow("diabetes", *SMALL, "--optimizers", "sgd,schedule_free_adamw", "--json", "t")
    table = rows_of(output)
    assert "\N{HORIZONTAL ELLIPSIS}" not in output
    assert len(table) == 16
    assert {row[3] for row in table} == {"sgd", "schedule_free_adamw"}
    best = json.loads((tmp_path / "t").read_text())["settings"][0]
    assert table[0][:5] == [
        *(f"{best[name]:g}" for name in ("batch_size", "epochs", "lr")),
        best["optimizer"],
        f"{best['score']:.5f}",
    ]


# ---------------------------------------------------------------------------- results


def test_results_are_gone_on_from(cli, tmp_path, monkeypatch):
    options = ["diabetes", *SMALL, "--results", "results.jsonl", "--json", "table.json"]
    code, output = cli(*options)
    assert code == 0, output
    whole = without_times((tmp_path / "table.json").read_text())
    lines = (tmp_path / "results.jsonl").read_text().splitlines()
    (tmp_path / "results.jsonl").write_text("\n".join([lines[0], *lines[5:20]]) + "\n")

    def interrupting(search, X, y, results, progress):
        def stop(done, total):
            progress(done, total)
            if done == 20:
                raise KeyboardInterrupt

        return sweep(search, X, y, results=results, progress=stop)

    with monkeypatch.context() as patched:
        patched.setattr("optcore.sweep.sweep", interrupting)
        code, output = cli(*options, "--save-model", "m")
    assert code == 130
    assert "interrupted; 20 of 24 fits were done; the same command goes on from results.jsonl" in output
    assert "Best so far: " in output
    assert not (tmp_path / "m").exists()
    code, output = cli(*options)
    assert code == 0, output
    assert without_times((tmp_path / "table.json").read_text()) == whole
    again = (tmp_path / "results.jsonl").read_text().splitlines()
    assert len(again) == len(lines)
    assert {json.loads(line)["key"] for line in again[1:]} == {json.loads(line)["key"] for line in lines[1:]}
    code, output = cli(*options, "--seed", 1)
    assert code == 2
    assert "results.jsonl has the results of another sweep: folds, model differ" in output
    (tmp_path / "results.jsonl").write_text("a,b\n1,2\n")
    code, output = cli(*options)
    assert code == 2
    assert "results.jsonl is no file of results" in output


@pytest.mark.skipif(os.name == "nt", reason="Ctrl-C cannot be sent to one process there")
def test_ctrl_c_keeps_what_was_done(tmp_path):
    path = tmp_path / "results.jsonl"
    rates = ",".join(f"{i / 1000}" for i in range(1, 31))
    command = [sys.executable, "-W", "error", "-m", "optcore.cli", "sweep", "diabetes", "--lr", rates]
    command += ["--epochs", "5", "--batch-size", "1", "--results", path.name, "--jobs", "2"]
    run = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    deadline = time.monotonic() + 60
    while not (path.exists() and path.read_text().count("\n") > 12) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(run.pid, signal.SIGINT)  # as a terminal does, which has the workers in the same group
    output, errors = run.communicate(timeout=60)
    assert run.returncode == 130
    assert re.fullmatch(
        r"optcore: interrupted; (\d+) of 150 fits were done; the same command goes on from results.jsonl\n", errors
    )
    assert len(rows_of(output)) >= 1
    assert 12 <= int(re.search(r"\d+", errors)[0]) < 150


@pytest.mark.parametrize("classes", [None, ("a", "b", "c"), (0, 1)])
def test_no_score_is_refused_that_a_model_can_have(classes):
    """Whoever refuses before the work must be sure. A model of scikit-learn says what can be had."""
    bundled = load_diabetes() if classes is None else load_iris() if len(classes) == 3 else load_breast_cancer()
    columns = tuple(map(str, range(bundled.data.shape[1])))
    data = Data("t", "y", columns, bundled.data, bundled.target.astype(float), classes)
    y = sweep_command.labels(data)
    fitted = make_pipeline(StandardScaler(), LinearRegression() if classes is None else LogisticRegression())
    fitted.fit(data.x, y)
    accepted = []
    for name in get_scorer_names():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                score = get_scorer(name)(fitted, data.x, y)
            except (ValueError, TypeError, AttributeError):
                continue
        if np.isfinite(score):
            assert sweep_command.scoring_name(name, data) == name
            accepted.append(name)
    assert len(accepted) > 15


# ---------------------------------------------------------------------------- mistakes

MISTAKES = {
    "a model": (["--model", "tree"], "--model must be one of 'linear', 'mlp', got 'tree'"),
    "a search": (["--search", "best"], "--search must be one of 'grid', 'random', 'halving', got 'best'"),
    "a backend": (["--backend", "mpi"], "--backend must be one of 'loky', 'dask', 'ray', got 'mpi'"),
    "an optimizer": (["--optimizers", "adm"], "there is no optimizer 'adm'; did you mean 'adam'?"),
    "a rate": (["--lr", "0.1,fast"], "--lr takes numbers with commas between, but 'fast' is not a number"),
    "a rate of zero": (["--lr", "0"], "--lr must be a finite number > 0, got 0.0"),
    "a negative rate": (["--lr", "-1"], "--lr must be a finite number > 0, got -1.0"),
    "no rate": (["--lr", ""], "--lr takes values with commas between, got ''"),
    "an infinite rate": (["--lr", "inf"], "--lr must be a finite number > 0, got inf"),
    "no number": (["--lr", "nan"], "--lr must be a finite number > 0, got nan"),
    "a range of the grid": (["--lr", "0.1:1"], "--lr: a range is for --search random; grid needs values with commas"),
    "a halved range": (["--l2", "0.1:1", "--search", "halving"], "--l2: a range is for --search random; halving needs"),
    "a range from 0": (["--l2", "0:1", "--search", "random"], "--l2 takes values with commas between, or one range"),
    "a falling range": (["--lr", "1:0.1", "--search", "random"], "or one range LOW:HIGH above 0, got 1:0.1"),
    "two ranges": (["--lr", "1:2,3:4", "--search", "random"], "or one range LOW:HIGH above 0, got 1:2,3:4"),
    "a range of batches": (["--batch-size", "1:9", "--search", "random"], "--batch-size takes whole numbers from 1 on"),
    "a penalty": (["--l2", "-1"], "--l2 must be a finite number >= 0, got -1.0"),
    "a task": (["--task", "ranking"], "--task must be one of 'auto', 'regression', 'classification', got 'ranking'"),
    "a task of its own": (["--task", "regression"], "--task is for files; diabetes has its own target"),
    "a score of classes": (
        ["--scoring", "accuracy"],
        "--scoring accuracy is not for 'disease progression', a number: ",
    ),
    "a batch": (["--batch-size", "0"], "--batch-size takes whole numbers from 1 on, or all, with commas between"),
    "an epoch": (["--epochs", "1.5"], "--epochs takes whole numbers from 1 on, with commas between, got '1.5'"),
    "all epochs": (["--epochs", "all"], "--epochs takes whole numbers from 1 on, with commas between, got 'all'"),
    "layers": (["--hidden", "5"], "--hidden is for --model mlp"),
    "halved epochs": (["--search", "halving", "--epochs", "1,2"], "--search halving shares out the epochs itself"),
    "nothing to halve": (["--search", "halving", "--lr", "1"], "--search halving needs more than one setting"),
    "a score": (["--scoring", "r3"], "--scoring must be a name of scikit-learn's, got 'r3'; did you mean 'r2'?"),
    "folds": (["--folds", "500"], "--folds must be at most the number of rows, 442, got 500"),
    "jobs": (["--jobs", "0"], "--jobs must be at least 1, or -1 for one process on each core, got 0"),
    "a scheduler": (["--scheduler", "tcp://a:1"], "--scheduler is for --backend dask or ray"),
    "no scheduler": (["--backend", "dask"], "--backend dask needs --scheduler"),
    "a folder": (["--results", "there/is/none.jsonl"], "--results: there/is/none.jsonl is a folder, or in a folder"),
    "a model's folder": (["--save-model", "."], "--save-model: . is a folder"),
    "a picture": (["--save-plot", "a.doc"], "--save-plot: a.doc must end in one of"),
    "a target": (["--target", "a"], "--target is for files"),
}


@pytest.mark.parametrize("what", MISTAKES)
def test_mistakes_are_said_in_one_line(what, cli, tmp_path):
    options, message = MISTAKES[what]
    code, output = cli("diabetes", *options)
    assert code == 2, output
    assert output.startswith("optcore: ")
    assert message in output
    assert output.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_mistakes_in_a_file(cli, table):
    assert cli(table) == (
        2,
        f"optcore: --target must name the column of {table} to be predicted: a, b, c, price, kind\n",
    )
    code, output = cli(table, "--target", "prize")
    assert code == 2
    assert "has no column 'prize'; did you mean 'price'?" in output
    code, output = cli(table, "--target", "kind", "--folds", 60)
    assert code == 2
    assert "--folds must be at most the number of rows of the rarest class" in output


def test_without_ray_it_is_said(cli, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    code, output = cli("diabetes", "--backend", "ray")
    assert code == 2
    assert "--backend ray needs Ray; pip install ray" in output


def test_a_failure_that_no_rate_mends(cli):
    """A squared error of logarithms, and predictions below -1."""
    code, output = cli("diabetes", "--scoring", "neg_mean_squared_log_error", "--lr", "1")
    assert code == 1
    assert output.endswith("optcore: no setting has a score, so there is no best\n")
    assert "Failed: the only setting.\nThe first: ValueError: " in output


@pytest.mark.parametrize("name", sweep_command.LOSSES)
def test_workers_that_are_lost(name, cli, monkeypatch):
    def lost(*args, **options):
        raise type(name, (Exception,), {})("A worker was\nkilled")

    monkeypatch.setattr("optcore.sweep.sweep", lost)
    code, output = cli("diabetes", "--results", "results.jsonl")
    assert code == 1
    assert "A worker was killed; what was done is in results.jsonl, and the same command goes on from there" in output
