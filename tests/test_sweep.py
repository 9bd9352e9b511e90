"""Recorded searches: what they find is what scikit-learn's own find, also where they were broken off in between."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import warnings

import joblib
import numpy as np
import pytest
from joblib.parallel import SequentialBackend
from sklearn.base import clone
from sklearn.datasets import load_iris, make_regression
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.linear_model import Ridge, SGDClassifier
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    HalvingRandomSearchCV,
    KFold,
    RandomizedSearchCV,
    ShuffleSplit,
)
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_info

from optcore.estimators import LinearClassifier, LinearRegressor, MLPRegressor
from optcore.sweep import Interrupted, ResultsError, sweep

X, Y = make_regression(60, 3, noise=5, random_state=0)
GRID = {"model__lr": [0.01, 0.3, 1e300], "model__optimizer": ["sgd", "adam"]}  # sgd diverges with the last
KIND = {"cv": KFold(3, shuffle=True, random_state=0), "scoring": None}


def model(cls=LinearRegressor, **params):
    return Pipeline([("scale", StandardScaler()), ("model", cls(**{"epochs": 2, "random_state": 0, **params}))])


def grid(**options):
    return GridSearchCV(model(), GRID, **{**KIND, **options})


SEARCHES = {
    "grid": grid,
    "grid of grids": lambda: GridSearchCV(model(), [GRID, {"model__batch_size": [7, None]}], **KIND),
    "random": lambda: RandomizedSearchCV(model(), GRID, n_iter=4, random_state=1, **KIND),
    "halving of epochs": lambda: HalvingGridSearchCV(
        model(), GRID, resource="model__epochs", max_resources=9, random_state=1, **KIND
    ),
    "halving of rows": lambda: HalvingGridSearchCV(model(), GRID, min_resources=20, random_state=1, factor=2, **KIND),
    "random halving": lambda: HalvingRandomSearchCV(
        model(), GRID, n_candidates=4, min_resources=20, random_state=1, **KIND
    ),
}


@pytest.fixture(params=SEARCHES)
def search(request):
    return SEARCHES[request.param]()


def same_tables(a, b):
    """All columns but the times, and the scores of training rows, which a sweep has not."""
    names = [name for name in b.cv_results_ if "_time" not in name and "train_score" not in name]
    assert names == [name for name in a.cv_results_ if "_time" not in name]
    for name in names:
        np.testing.assert_array_equal(a.cv_results_[name], b.cv_results_[name])
    assert (a.best_index_, a.best_params_, a.best_score_) == (b.best_index_, b.best_params_, b.best_score_)
    np.testing.assert_array_equal(a.predict(X), b.predict(X))


def fitted_by_itself(search):
    """By scikit-learn's own fit, which tells of what diverges by warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return clone(search).fit(X, Y)


def fits(path):
    """The keys in a file of results, each of one fit."""
    return [json.loads(line)["key"] for line in path.read_text().splitlines()[1:]]


class StopAt:
    """A progress that interrupts where so many fits are done, and remembers what it was told."""

    def __init__(self, count=None):
        self.count, self.told = count, []

    def __call__(self, done, total):
        self.told.append((done, total))
        if done == self.count:
            raise KeyboardInterrupt


# ---------------------------------------------------------------------------- what is found


def test_a_sweep_is_a_loop_of_fits_and_scores():
    done = sweep(grid(), X, Y)
    pairs = list(itertools.product(GRID["model__lr"], GRID["model__optimizer"]))
    assert [tuple(params.values()) for params in done.cv_results_["params"]] == pairs
    finite = 0
    for fold, (train, test) in enumerate(KFold(3, shuffle=True, random_state=0).split(X)):
        scale = StandardScaler().fit(X[train])
        for (lr, optimizer), score in zip(pairs, done.cv_results_[f"split{fold}_test_score"], strict=True):
            if lr == 1e300:
                assert np.isnan(score)
                continue
            fitted = LinearRegressor(lr=lr, optimizer=optimizer, epochs=2, random_state=0)
            fitted.fit(scale.transform(X[train]), Y[train])
            assert score == fitted.score(scale.transform(X[test]), Y[test])
            finite += 1
    assert finite == 12


def test_it_finds_what_the_search_itself_finds(search):
    expected = fitted_by_itself(search)
    before = search.get_params()
    done = sweep(search, X, Y)
    same_tables(done, expected)
    public = {name for name in vars(expected) if not name.startswith("_")}
    assert public | {"failures_"} == {name for name in vars(done) if not name.startswith("_")}
    assert type(done) is type(search)
    assert not hasattr(search, "cv_results_")
    assert {name: repr(value) for name, value in search.get_params().items()} == {
        name: repr(value) for name, value in before.items()
    }


@pytest.mark.parametrize("scoring", ["neg_mean_absolute_error", lambda fitted, X, y: -len(X) - fitted[-1].n_iter_])
def test_scoring_is_that_of_the_search(scoring):
    some = GridSearchCV(model(), {"model__epochs": [1, 2]}, **{**KIND, "scoring": scoring})
    same_tables(sweep(some, X, Y), fitted_by_itself(some))


def test_any_model_and_frames():
    pandas = pytest.importorskip("pandas")
    data, target = load_iris(return_X_y=True, as_frame=True)
    names = target.map({0: "setosa", 1: "versicolor", 2: "virginica"})
    for cls in (SGDClassifier, LinearClassifier):
        some = GridSearchCV(Pipeline([("model", cls(random_state=0))]), {"model__random_state": [0, 1]}, cv=2)
        done, expected = sweep(some, data, names), some.fit(data, names)
        assert done.best_score_ == expected.best_score_
        assert done.feature_names_in_.tolist() == list(data.columns)
        assert (done.predict(data) == expected.predict(data)).all()
        assert set(done.classes_) == set(names)
    assert isinstance(data, pandas.DataFrame)


class OnlyLists(SequentialBackend):
    """As Ray and multiprocessing: no result is handed out before all are there."""

    supports_return_generator = False


def test_the_backend_and_the_number_of_workers_change_nothing():
    layers = model(MLPRegressor, hidden_layer_sizes=(30,))
    some = GridSearchCV(layers, GRID, **KIND)
    expected = sweep(some, X, Y)
    same_tables(sweep(some.set_params(n_jobs=2), X, Y), expected)
    with joblib.parallel_config(backend="loky", n_jobs=2):
        same_tables(sweep(some.set_params(n_jobs=None), X, Y), expected)
    with joblib.parallel_config(backend=OnlyLists()):
        same_tables(sweep(some, X, Y), expected)


# ---------------------------------------------------------------------------- what is interrupted


def test_a_resumed_sweep_is_the_uninterrupted_one(search, tmp_path):
    whole = sweep(search, X, Y, results=tmp_path / "whole.jsonl")
    total = len(fits(tmp_path / "whole.jsonl"))
    path = tmp_path / "parts.jsonl"
    for stop in (1, 4, total - 1):
        with pytest.raises(Interrupted):
            sweep(search, X, Y, results=path, progress=StopAt(stop))
        assert len(fits(path)) == stop
    progress = StopAt()
    done = sweep(search, X, Y, results=path, progress=progress)
    same_tables(done, whole)
    assert sorted(fits(path)) == sorted(fits(tmp_path / "whole.jsonl"))
    assert len(set(fits(path))) == total  # none was done twice
    again = sweep(search, X, Y, results=path, progress=StopAt())
    for name, column in done.cv_results_.items():  # the times, too, are those that were recorded
        np.testing.assert_array_equal(again.cv_results_[name], column)
    assert len(fits(path)) == total


def test_what_was_done_comes_with_the_exception():
    whole = sweep(grid(), X, Y)
    with pytest.raises(Interrupted, match="2 of 18 fits were done") as caught:
        sweep(grid(), X, Y, progress=StopAt(2))
    assert caught.value.search is None  # no setting has all its folds
    with pytest.raises(Interrupted) as caught:
        sweep(grid(), X, Y, progress=StopAt(7))
    part = caught.value.search
    assert (caught.value.done, caught.value.total) == (7, 18)
    assert part.cv_results_["params"] == whole.cv_results_["params"][:2]
    np.testing.assert_array_equal(part.cv_results_["mean_test_score"], whole.cv_results_["mean_test_score"][:2])
    assert not hasattr(part, "best_estimator_")


def test_a_signal_in_the_midst_of_a_fit(tmp_path):
    path, called = tmp_path / "results.jsonl", []

    def score(fitted, X, y):
        called.append(None)
        if len(called) == 5:
            signal.raise_signal(signal.SIGINT)
        return fitted.score(X, y)

    with pytest.raises(Interrupted) as caught:
        sweep(grid(scoring=score), X, Y, results=path)
    assert caught.value.done == len(fits(path)) == 4
    assert caught.value.search.cv_results_["params"] == [{"model__lr": 0.01, "model__optimizer": "sgd"}]
    same_tables(sweep(grid(scoring=score), X, Y, results=path), sweep(grid(), X, Y))


def test_an_interrupted_round_of_halving_keeps_the_rounds_before():
    make = SEARCHES["halving of epochs"]
    whole = sweep(make(), X, Y)
    assert whole.n_candidates_ == [6, 2]
    with pytest.raises(Interrupted) as caught:
        sweep(make(), X, Y, progress=StopAt(20))  # 18 fits of the first round, 2 of the second
    assert caught.value.search.cv_results_["iter"].tolist() == [0] * 6


def test_progress_is_told():
    progress = StopAt()
    sweep(grid(), X, Y, progress=progress)
    assert progress.told == [(done, 18) for done in range(19)]
    progress = StopAt()
    sweep(SEARCHES["halving of epochs"](), X, Y, progress=progress)
    assert progress.told[-1] == (24, 24)


@pytest.mark.parametrize("cut", [1, 2, 30, 150])
def test_a_line_that_was_not_finished_is_done_again(cut, tmp_path):
    path = tmp_path / "results.jsonl"
    whole, content = sweep(grid(), X, Y, results=path), path.read_bytes()
    path.write_bytes(content[:-cut])
    same_tables(sweep(grid(), X, Y, results=path), whole)
    assert len(fits(path)) == len(set(fits(path))) == 18


def test_an_empty_file_is_begun(tmp_path):
    path = tmp_path / "results.jsonl"
    path.touch()
    same_tables(sweep(grid(), X, Y, results=path), sweep(grid(), X, Y))
    assert len(fits(path)) == 18


# ---------------------------------------------------------------------------- what is refused

OTHERS = {
    "data": [(grid(), X + 1, Y), (grid(), X, Y + 1)],
    "settings": [(GridSearchCV(model(), {**GRID, "model__lr": [0.01, 0.3]}, **KIND), X, Y)],
    "folds": [(grid(cv=KFold(3, shuffle=True, random_state=1)), X, Y), (grid(cv=4), X, Y)],
    "model": [
        (GridSearchCV(model(l2=1.0), GRID, **KIND), X, Y),
        (GridSearchCV(model(random_state=1), GRID, **KIND), X, Y),
        (GridSearchCV(model(MLPRegressor), GRID, **KIND), X, Y),
    ],
    "scoring": [(grid(scoring="r2"), X, Y)],
    "search": [(RandomizedSearchCV(model(), GRID, n_iter=6, random_state=0, **KIND), X, Y)],
}


@pytest.mark.parametrize(("what", "other"), [(what, other) for what, others in OTHERS.items() for other in others])
def test_results_of_another_sweep_are_refused(what, other, tmp_path):
    path = tmp_path / "results.jsonl"
    sweep(grid(), X, Y, results=path)
    before = path.read_bytes()
    with pytest.raises(ResultsError) as caught:
        sweep(*other, results=path)
    message = str(caught.value)
    assert message.startswith(f"{path} has the results of another sweep: ")
    assert what in message.partition(": ")[2].partition(" differ")[0].split(", ")
    assert path.read_bytes() == before


BROKEN = {
    "no JSON": (lambda lines: ["price,rooms", *lines], "is no file of results"),
    "other JSON": (lambda lines: ['{"a": 1}'], "is no file of results of a sweep"),
    "a list": (lambda lines: ["[1]"], "is no file of results"),
    "no header": (lambda lines: lines[1:], "is no file of results of a sweep"),
    "half a line": (lambda lines: [*lines[:2], lines[2][:20], *lines[3:]], "is broken in line 3"),
    "bytes": (lambda lines: [*lines[:2], "\udcff\udcfe", *lines[3:]], "is broken in line 3"),
    "no key": (lambda lines: [*lines[:2], '{"score": 1.0, "failure": null}'], "is broken in line 3"),
    "no score": (lambda lines: [*lines[:2], '{"key": "a", "failure": null}'], "is broken in line 3"),
    "NaN": (lambda lines: [*lines[:2], '{"key": "a", "score": NaN, "failure": null}'], "is broken in line 3"),
    "a time": (lambda lines: [*lines[:2], lines[2].replace('"fit_time": ', '"fit_time": 1, "a": ')], "in line 3"),
    "text": (lambda lines: [*lines[:2], '{"key": "a", "score": "1", "failure": null}'], "is broken in line 3"),
}


@pytest.mark.parametrize("how", BROKEN)
def test_broken_files_are_refused(how, tmp_path):
    path = tmp_path / "results.jsonl"
    sweep(grid(), X, Y, results=path)
    change, message = BROKEN[how]
    text = "\n".join(change(path.read_text().splitlines())) + "\n"
    path.write_bytes(text.encode(errors="surrogateescape"))
    before = path.read_bytes()
    with pytest.raises(ResultsError) as caught:
        sweep(grid(), X, Y, results=path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert path.read_bytes() == before


def test_wrong_searches_are_refused(tmp_path):
    path = tmp_path / "results.jsonl"
    with pytest.raises(ValueError, match="no parameter 'model__rl'; did you mean 'model__lr'"):
        sweep(GridSearchCV(model(), {"model__rl": [1]}, **KIND), X, Y, results=path)
    with pytest.raises(ValueError, match="must have one score"):
        sweep(grid(scoring=["r2", "neg_mean_squared_error"], refit="r2"), X, Y, results=path)
    assert not path.exists()


# ---------------------------------------------------------------------------- what goes wrong


def test_what_diverges_is_said_and_has_no_number(tmp_path):
    path = tmp_path / "results.jsonl"
    done = sweep(grid(), X, Y, results=path)
    diverged = [params["model__lr"] == 1e300 for params in done.cv_results_["params"]]
    assert sum(diverged) == 2
    for wrong, failure, score in zip(diverged, done.failures_, done.cv_results_["mean_test_score"], strict=True):
        assert np.isnan(score) == wrong
        assert failure.startswith("diverged: ") == failure.endswith("(3 of 3 folds)") == wrong
    assert done.best_params_["model__lr"] != 1e300
    lines = path.read_text()
    assert "NaN" not in lines
    assert lines.count('"score": null') == 6


def test_where_everything_diverges_there_is_no_best():
    with pytest.warns(UserWarning, match="no setting has a score"):
        done = sweep(GridSearchCV(model(), {"model__lr": [1e300]}, **KIND), X, Y)
    assert not any(hasattr(done, name) for name in ("best_index_", "best_params_", "best_score_", "best_estimator_"))
    assert len(done.cv_results_["params"]) == 1


@pytest.mark.parametrize("score", [-np.inf, np.nan, -1e150])
def test_scores_that_are_no_numbers_count_as_diverged(score):
    some = GridSearchCV(Ridge(), {"alpha": [1.0, 2.0]}, cv=2, scoring=lambda m, X, y: score if m.alpha == 1 else 1.0)
    done = sweep(some, X, Y)
    assert done.failures_ == [f"diverged: the score is {score:g} (2 of 2 folds)", ""]
    assert done.best_params_ == {"alpha": 2.0}


def test_other_errors_are_recorded_or_raised(tmp_path):
    some = GridSearchCV(Ridge(), {"alpha": [-1.0, 2.0]}, cv=2)
    done = sweep(some, X, Y)
    assert done.failures_[0].startswith("failed: InvalidParameterError: The 'alpha' parameter")
    assert done.best_params_ == {"alpha": 2.0}
    with pytest.raises(ValueError, match="'alpha' parameter"):
        sweep(some.set_params(error_score="raise"), X, Y, results=tmp_path / "results.jsonl")


def test_random_folds_are_drawn_once():
    some = grid(cv=ShuffleSplit(3, random_state=np.random.RandomState(0)))
    assert np.isfinite(sweep(some, X, Y).best_score_)


# ---------------------------------------------------------------------------- threads


def most_threads(fitted, X, y):
    return max(library["num_threads"] for library in threadpool_info())


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_fit_has_one_thread(n_jobs):
    some = GridSearchCV(model(), {"model__epochs": [1, 2]}, **{**KIND, "scoring": most_threads}, n_jobs=n_jobs)
    assert sweep(some, X, Y).best_score_ == 1


THREADS = """
import threading
import scipy.linalg, sklearn.linear_model
from threadpoolctl import threadpool_info
from optcore.threads import one_thread

def threads():
    return [library["num_threads"] for library in threadpool_info()]

def leave_first():
    with one_thread():
        entered.set()
        leave.wait(10)

before, entered, leave = threads(), threading.Event(), threading.Event()
other = threading.Thread(target=leave_first)
other.start()
entered.wait(10)
with one_thread():
    leave.set()
    other.join()
    print(set(threads()), len(before))
print(threads() == before)
"""


def test_there_is_one_thread_while_anybody_is_inside():
    # A process of its own: who limits threads first in a process may stay the only one who can.
    command = [sys.executable, "-c", THREADS]
    run = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OPENBLAS_NUM_THREADS": "2"})
    assert run.stdout.split("\n")[0].startswith("{1} "), run.stderr
    assert not run.stdout.startswith("{1} 0")
    assert run.stdout.split("\n")[1] == "True"
