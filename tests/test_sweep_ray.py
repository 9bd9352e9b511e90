"""Sweeps on Ray, where it is installed: the table of one process, and who is said not to answer."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import joblib
import numpy as np
import pytest
from sklearn.datasets import make_regression
from sklearn.model_selection import GridSearchCV, KFold
from support import command_line

from optcore.estimators import MLPRegressor
from optcore.sweep import sweep

ray = pytest.importorskip("ray")

# What Ray's own processes and threads leave behind is not ours to close.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

X, Y = make_regression(100, 5, noise=10, random_state=0)
GRID = {"lr": [0.01, 0.1, 1e300], "optimizer": ["sgd", "adam"]}


def search(scoring=None):
    return GridSearchCV(MLPRegressor(5, epochs=3, random_state=0), GRID, cv=KFold(3), scoring=scoring)


def scores(done):
    return np.array([done.cv_results_[f"split{fold}_test_score"] for fold in range(done.n_splits_)])


def process(fitted, X, y):
    return float(os.getpid())


@pytest.fixture
def two_workers(monkeypatch):
    from ray.util.joblib import register_ray

    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)  # what is scored with
    ray.init("local", num_cpus=2, include_dashboard=False, logging_level="ERROR")
    register_ray()
    with joblib.parallel_config(backend="ray", n_jobs=-1):
        yield
    ray.shutdown()


def test_the_table_is_that_of_one_process(two_workers, tmp_path):
    told = []

    def stop(done, total):
        told.append(done)
        if done == 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sweep(search(), X, Y, results=tmp_path / "results.jsonl", progress=stop)
    done = sweep(search(), X, Y, results=tmp_path / "results.jsonl", progress=lambda done, total: told.append(done))
    assert told == [*range(11), *range(10, 19)]
    with joblib.parallel_config(backend="sequential"):
        alone = sweep(search(), X, Y)
    assert np.isnan(scores(done)).sum() == 6
    np.testing.assert_array_equal(scores(done), scores(alone))
    np.testing.assert_array_equal(done.predict(X), alone.predict(X))
    pids = set(scores(sweep(search(process), X, Y)).ravel())
    assert len(pids) == 2
    assert os.getpid() not in pids


def test_the_command_runs_on_ray(tmp_path, monkeypatch):
    cli = command_line("sweep", tmp_path, monkeypatch)
    common = ["diabetes", "--lr", "0.01,0.1", "--epochs", "5,10", "--folds", "3"]
    monkeypatch.setattr("optcore.sweep.joblib.effective_n_jobs", lambda n_jobs: asked.append(n_jobs) or 2)
    asked = []
    code, output = cli(*common, "--json", "there.json", "--backend", "ray")
    assert code == 0, output
    assert asked == [None]  # as many as there are, not one
    assert not ray.is_initialized()
    code, output = cli(*common, "--json", "here.json")
    assert code == 0, output
    tables = [json.loads((tmp_path / f"{name}.json").read_text()) for name in ("here", "there")]
    for table in tables:
        for row in table["settings"]:
            assert row.pop("fit_seconds") > 0
    assert tables[0] == tables[1]


@pytest.mark.parametrize("address", ["127.0.0.1:{}", "ray://127.0.0.1:{}", "tcp://127.0.0.1:{}", "nonsense"])
def test_an_address_where_nobody_answers(address, tmp_path, monkeypatch):
    cli = command_line("sweep", tmp_path, monkeypatch)
    with socket.socket() as held:  # bound, so that nobody else listens, but not listening
        held.bind(("127.0.0.1", 0))
        address = address.format(held.getsockname()[1])
        code, output = cli("diabetes", "--backend", "ray", "--scheduler", address)
    assert code == 2
    assert f"optcore: --scheduler: {address} does not answer: " in output
    assert not ray.is_initialized()
