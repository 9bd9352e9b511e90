"""Whoever evaluates, and in whichever order: the same bits. With real processes, clusters and MPI."""

import concurrent.futures
import contextlib
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from search_support import policy
from support import bits

from optcore import search

HERE = Path(__file__).parent


# What workers import. It takes longer for some than for others, so that they finish out of order.


def sphere(x, where=1.0):
    time.sleep(0.002 * (abs(float(x[0])) * 1e3 % 1.0))
    return float(np.sum((x - where) ** 2))


def spread(params):
    return sphere(np.concatenate([p.ravel() for p in params.values()]))


def rollout(weights, normalizer):
    sphere(weights)  # for its time
    return policy(weights, normalizer)


class Refused(Exception):
    """With arguments of its own, as many libraries have it."""


def failing(x, where):
    if x[0] > where:
        raise Refused(f"above {where}", where)
    return sphere(x)


def killed(x):
    os.kill(os.getpid(), signal.SIGKILL)


def ends(workers):
    """Bits of where searches arrive, and of what they know."""
    x, weights, several = np.zeros(4), np.zeros(2), {"W": np.zeros((2, 2)), "b": np.zeros(1, np.float32)}
    plain = search.EvolutionStrategy(x, sigma=0.25, directions=5, optimizer="adam", lr=0.1, seed=11)
    result = plain.run(sphere, maxiter=4, args=(2.0,), workers=workers)
    states = search.ARS(weights, sigma=0.25, directions=5, top=3, normalize_states=True, lr=0.1, seed=11)
    states.run(rollout, maxiter=4, workers=workers)
    known = states.normalizer.known
    search.SPSA(several, a=0.1, c=0.25, directions=5, seed=11).run(spread, maxiter=2, workers=workers)
    found = (x, weights, known.mean, known.m2, *several.values(), result.x, result.fun, result.center_fun)
    return [bits(a).hex() for a in found]


def raised(workers):
    """The exception of a worker; the search is as it was."""
    x = np.zeros(3)
    s = search.ARS(x, sigma=0.25, directions=3, lr=0.1, seed=0)
    notes = [f"raised by {candidate!r}" for candidate in s.ask() if candidate.params[0] > 0]
    assert len(notes) == 3
    with pytest.raises(Refused, match=r"above 0\.0") as caught:
        s.run(failing, maxiter=2, args=(0.0,), workers=workers)
    assert caught.value.args == ("above 0.0", 0.0)
    assert [note for note in caught.value.__notes__ if note in notes], "Dask raises whichever comes first"
    assert s.iteration == 0
    assert (x == 0.0).all()


@pytest.fixture(scope="module")
def serial():
    return ends(1)


@pytest.mark.parametrize("workers", [2, 3])
def test_processes_of_our_own(workers, serial):
    assert ends(workers) == serial
    raised(workers)


def test_all_cores():
    assert search.minimize(sphere, np.zeros(2), sigma=0.1, lr=0.1, maxiter=1, seed=0, workers=-1).nit == 1


def test_pool(serial):
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        for workers in (pool.map, pool.imap, pool.imap_unordered):
            assert ends(workers) == serial
            raised(workers)


@pytest.mark.parametrize("executor", ["ThreadPoolExecutor", "ProcessPoolExecutor"])
def test_executors(executor, serial):
    context = {"mp_context": multiprocessing.get_context("spawn")} if executor.startswith("P") else {}
    with getattr(concurrent.futures, executor)(2, **context) as pool:
        assert ends(pool.map) == serial
        raised(pool.map)

        def as_completed(function, candidates):
            futures = [pool.submit(function, candidate) for candidate in candidates]
            return [future.result() for future in concurrent.futures.as_completed(futures)]

        assert ends(as_completed) == serial


@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_joblib(backend, serial):
    joblib = pytest.importorskip("joblib")

    def workers(function, candidates):
        return joblib.Parallel(2, backend=backend)(map(joblib.delayed(function), candidates))

    assert ends(workers) == serial
    raised(workers)
    if backend == "loky":
        offset = np.ones(3)
        result = search.minimize(
            lambda x: float(np.sum((x - offset) ** 2)), offset, sigma=0.1, lr=0.1, maxiter=1, workers=workers
        )
        assert result.nit == 1, "it also sends functions that pickle cannot"


def test_dask(serial):
    """A real cluster: a scheduler, and two workers in processes of their own, over sockets."""
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, host="127.0.0.1"
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        assert cluster.scheduler_address.startswith("tcp://")

        def workers(function, candidates):
            return client.gather(client.map(function, candidates, pure=False))

        assert ends(workers) == serial
        raised(workers)
        pids = client.run(os.getpid)
        assert len({*pids.values(), os.getpid()}) == 3


MPI_POOL = """
import sys
from mpi4py import MPI
from mpi4py.futures import MPIPoolExecutor
import test_search_workers as t

if __name__ == "__main__":
    assert MPI.COMM_WORLD.size == 3
    with MPIPoolExecutor() as pool:
        found = [t.ends(pool.map), t.ends(lambda f, c: pool.map(f, c, unordered=True))]
        t.raised(pool.map)
    assert found[0] == found[1]
    print(*found[0], sep="\\n")
"""
MPI_REPLICAS = """
import itertools
import numpy as np
from mpi4py import MPI
from optcore import search
import test_search_workers as t

comm = MPI.COMM_WORLD
assert comm.size == 3
x = np.zeros(4)
s = search.EvolutionStrategy(x, sigma=0.25, directions=5, optimizer="adam", lr=0.1, seed=11)
weights = np.zeros(2)
policy = search.ARS(weights, sigma=0.25, directions=5, top=3, normalize_states=True, lr=0.1, seed=11)
for search, fun, args in ((s, t.sphere, (2.0,)), (policy, t.rollout, ())):
    for _ in range(4):
        mine = [candidate.evaluate(fun, *args) for candidate in search.ask()[comm.rank :: comm.size]]
        search.tell(itertools.chain(*comm.allgather(mine)))
known = policy.normalizer.known
found = comm.gather([a.tobytes().hex() for a in (x, weights, known.mean, known.m2)])
if comm.rank == 0:
    assert found[0] == found[1] == found[2]
    print(*found[0], sep="\\n")
"""


def under_mpi(tmp_path, program, *options):
    """What a program prints that runs in three processes."""
    pytest.importorskip("mpi4py")
    mpiexec = shutil.which("mpiexec", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    if mpiexec is None:
        pytest.skip("mpi4py is here, but no mpiexec")
    (tmp_path / "program.py").write_text(program)
    paths = [str(HERE), str(HERE.parent), os.environ.get("PYTHONPATH", "")]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        # Open MPI refuses to run as root and with more processes than cores; MPICH does not look at these.
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        "OMPI_MCA_rmaps_base_oversubscribe": "true",
        "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
    }
    command = [mpiexec, "-n", "3", sys.executable, *options, str(tmp_path / "program.py")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_mpi_pool(tmp_path, serial):
    assert under_mpi(tmp_path, MPI_POOL, "-m", "mpi4py.futures") == serial


def test_mpi_processes_that_exchange_values_alone(tmp_path, serial):
    assert under_mpi(tmp_path, MPI_REPLICAS) == serial[:4]


# ---------------------------------------------------------------------- what goes wrong


def test_what_cannot_be_sent():
    s = search.ARS(np.zeros(2), sigma=0.1, lr=0.1)
    for fun, args in [
        (lambda x: 0.0, ()),
        (partial(sphere, where=lambda: 0), ()),
        (sphere, (open(os.devnull),)),  # noqa: SIM115
    ]:
        with contextlib.ExitStack() as stack:
            stack.callback(args[0].close) if args else None
            with pytest.raises(TypeError, match="workers=2 sends fun and args to other processes") as caught:
                s.run(fun, maxiter=1, args=args, workers=2)
            assert caught.value.__cause__ is not None
    assert s.run(lambda x: 0.0, maxiter=1, workers=1).nit == 1


def test_what_was_defined_interactively(monkeypatch):
    monkeypatch.delattr(sys.modules["__main__"], "__file__", raising=False)
    monkeypatch.setattr(sphere, "__module__", "__main__")
    monkeypatch.setattr(sys.modules["__main__"], "sphere", sphere, raising=False)
    with pytest.raises(TypeError, match="the top level of a module") as caught:
        search.minimize(sphere, np.zeros(2), sigma=0.1, lr=0.1, workers=2)
    assert "interactively" in str(caught.value.__cause__)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="POSIX signals")
def test_a_worker_that_dies_is_an_error():
    s = search.ARS(np.zeros(2), sigma=0.1, lr=0.1)
    with pytest.raises(concurrent.futures.process.BrokenProcessPool):
        s.run(killed, maxiter=1, workers=2)
    assert s.iteration == 0


INTERRUPTED = r"""
import os, time
import numpy as np
from optcore import search
from test_search_workers import sphere

def slow(x):
    os.write(2, b"evaluating\n")
    time.sleep(60.0)

def callback(x):
    print("stepped", flush=True)

if __name__ == "__main__":
    s = search.ARS(np.zeros(2), sigma=0.1, lr=0.1, seed=0)
    s.run(sphere, maxiter=2, workers=2)
    result = s.run(slow, maxiter=2, workers=2)
    print(result.status, result.nit, result.fun == sphere(result.x), flush=True)
"""


@pytest.mark.skipif(os.name != "posix", reason="POSIX process groups")
def test_ctrl_c_in_a_terminal(tmp_path):
    """It reaches all processes of the group: workers end in the middle of an evaluation, the best point is returned."""
    (tmp_path / "program.py").write_text(INTERRUPTED)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent)])}
    with subprocess.Popen(
        [sys.executable, str(tmp_path / "program.py")],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    ) as process:  # fmt: skip
        try:
            assert process.stderr.readline() == "evaluating\n"
            os.killpg(process.pid, signal.SIGINT)
            out, err = process.communicate(timeout=30)  # an evaluation takes twice as long
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    assert out == "5 2 True\n"
    assert "Traceback" not in err
    assert process.returncode == 0
