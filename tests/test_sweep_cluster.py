"""Sweeps on a Dask cluster: the table of one process, also where workers are killed."""

from __future__ import annotations

import json
import os
import signal
import socket

import joblib
import numpy as np
import pytest
from sklearn.datasets import make_regression
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from typer.testing import CliRunner

from optcore.cli import app
from optcore.estimators import MLPRegressor
from optcore.sweep import sweep

distributed = pytest.importorskip("distributed")

# What the cluster's own threads leave behind is not ours to close.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

X, Y = make_regression(400, 20, noise=10, random_state=0)


def search():
    model = Pipeline([("scale", StandardScaler()), ("model", MLPRegressor(5, epochs=8, random_state=0))])
    grid = {"model__lr": [1e-3, 1e-2, 1e-1, 1e300], "model__optimizer": ["sgd", "adam"]}
    return GridSearchCV(model, grid, cv=KFold(3, shuffle=True, random_state=0))


def scores(done):
    return np.array([done.cv_results_[f"split{fold}_test_score"] for fold in range(done.n_splits_)])


@pytest.fixture(scope="module")
def alone():
    """The sweep in this process."""
    return sweep(search(), X, Y)


@pytest.fixture(scope="module")
def cluster():
    """Two workers, each a process of its own with two threads."""
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=2, processes=True, dashboard_address=":0", silence_logs=50
    ) as cluster:
        yield cluster


@pytest.fixture
def client(cluster):
    with distributed.Client(cluster, set_as_default=False) as client:
        yield client


def test_the_table_is_that_of_one_process(alone, client):
    pids = set(client.run(os.getpid).values())
    assert len(pids) == 2
    assert os.getpid() not in pids
    with joblib.parallel_config(backend="dask", client=client):
        done = sweep(search(), X, Y)
    assert np.isnan(scores(done)).any()
    np.testing.assert_array_equal(scores(done), scores(alone))
    np.testing.assert_array_equal(done.predict(X), alone.predict(X))


def test_nothing_is_lost_where_all_workers_are_killed(alone, client, tmp_path):
    results, reports = tmp_path / "results.jsonl", []
    pids = list(client.run(os.getpid).values())

    def kill(done, total):
        if done >= 6 and pids:
            reports.append(done)
            while pids:
                os.kill(pids.pop(), signal.SIGKILL)

    with joblib.parallel_config(backend="dask", client=client):
        done = sweep(search(), X, Y, results=results, progress=kill)
    assert reports[0] < scores(alone).size  # half way
    np.testing.assert_array_equal(scores(done), scores(alone))
    keys = [json.loads(line)["key"] for line in results.read_text().splitlines()[1:]]
    assert len(keys) == len(set(keys)) == scores(alone).size


def test_a_cluster_of_one_core(alone):
    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=1, processes=False, dashboard_address=":0", silence_logs=50
        ) as small,
        distributed.Client(small, set_as_default=False) as client,
        joblib.parallel_config(backend="dask", client=client),
    ):
        np.testing.assert_array_equal(scores(sweep(search(), X, Y)), scores(alone))


def test_the_command_runs_on_a_cluster(cluster, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    common = ["sweep", "diabetes", "--lr", "0.01,0.1", "--epochs", "5,10", "--folds", "3"]
    here = CliRunner().invoke(app, [*common, "--json", "here.json"])
    there = CliRunner().invoke(
        app, [*common, "--json", "there.json", "--backend", "dask", "--scheduler", cluster.scheduler_address]
    )
    assert here.exit_code == there.exit_code == 0, there.output
    tables = [json.loads((tmp_path / f"{name}.json").read_text()) for name in ("here", "there")]
    for table in tables:
        for row in table["settings"]:
            assert row.pop("fit_seconds") > 0
    assert tables[0] == tables[1]


def test_a_scheduler_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("optcore.sweep_command.PATIENCE", 1)
    with socket.socket() as held:  # bound, so that nobody else listens, but not listening
        held.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{held.getsockname()[1]}"
        result = CliRunner().invoke(app, ["sweep", "diabetes", "--backend", "dask", "--scheduler", address])
    assert result.exit_code == 2
    assert f"--scheduler: {address} does not answer" in result.output


def test_a_cluster_without_workers(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with distributed.LocalCluster(n_workers=0, processes=True, dashboard_address=":0", silence_logs=50) as empty:
        address = empty.scheduler_address
        result = CliRunner().invoke(app, ["sweep", "diabetes", "--backend", "dask", "--scheduler", address])
    assert result.exit_code == 2
    assert "has no workers" in result.output


def test_an_address_that_is_none(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["sweep", "diabetes", "--backend", "dask", "--scheduler", "nowhere://x:1"])
    assert result.exit_code == 2
    assert "does not answer" in result.output
