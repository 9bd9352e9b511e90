"""Functions that are compiled: the loop without Python has the bits of the loop with it, and can be interrupted."""

import ctypes
import itertools
import re
import shutil
import subprocess
import sys
import threading

import numpy as np
import pytest
from support import accepted

import optcore as oc
from optcore._descent import Function
from optcore.stopping import Status

numba = pytest.importorskip("numba")
scipy = pytest.importorskip("scipy")
SIGNATURE = numba.types.double(
    numba.types.intc,
    numba.types.CPointer(numba.types.double),
    numba.types.CPointer(numba.types.double),
    numba.types.voidptr,
)


@numba.cfunc(SIGNATURE)
def rosenbrock(n, x, g, data):
    total = 0.0
    for i in range(n):
        g[i] = 0.0
    for i in range(n - 1):
        a = x[i + 1] - x[i] * x[i]
        b = 1 - x[i]
        total += 100 * a * a + b * b
        g[i] += -400 * a * x[i] - 2 * b
        g[i + 1] += 200 * a
    return total


COMPILED = scipy.LowLevelCallable(rosenbrock.ctypes)
START = [-1.2, 1.0, 0.3, 0.7]


def python(x):
    """The same function, called one point at a time."""
    g = np.empty_like(x)
    double = ctypes.POINTER(ctypes.c_double)
    loss = rosenbrock.ctypes(x.size, x.ctypes.data_as(double), g.ctypes.data_as(double), None)
    return loss, g


def capsule(function, name, data=None):
    new = ctypes.pythonapi.PyCapsule_New
    new.restype, new.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
    return new(ctypes.cast(function, ctypes.c_void_p), name, data)


def both(options, method="adam", callback=lambda: None, bounds=None):
    return [
        oc.minimize(fun, START, jac=True, method=method, options=options(), callback=callback(), bounds=bounds)
        for fun in (COMPILED, python)
    ]


def assert_same(one, other):
    assert one.keys() == other.keys()
    for key in one.keys() - {"history"}:
        assert repr(one[key]) == repr(other[key]), key
        assert np.array(one[key]).tobytes() == np.array(other[key]).tobytes(), key
    for key in one.get("history", {}):
        assert one.history[key].tobytes() == other.history[key].tobytes(), key


@pytest.mark.parametrize("method", oc.CATALOGUE)
def test_the_bits_are_those_of_a_python_function(method):
    bounds = accepted(method, {"bounds": [(-2, 2), (None, 0.9), (0, None), (None, None)]}).get("bounds")
    lr = 3e-3 if method == "rprop" else oc.Cosine(3e-3, 1e-4, steps=700)
    one, other = both(lambda: {"lr": lr, "maxiter": 800, "history": "x"}, method, bounds=bounds)
    assert_same(one, other)
    assert len(one.history.step) == one.nit + 1


@pytest.mark.parametrize(
    "options",
    [
        {"gtol": 3.0},
        {"target": 3.0, "lr": 0.01},
        {"xtol": 1e-4, "window": 3, "lr": 0.05},
        {"ftol": 1e-3, "window": 20, "lr": 0.05},
        {"maxiter": 0},
        {"lr": 5.0, "restarts": 3, "divergence": 1e4, "maxiter": 3000},
        {"lr": 1e300, "restarts": 2},
        {"lr": lambda t: 0.1 / (t + 1)},
        {"averaging": oc.EMA(0.9), "returns": "averaged"},
        {"returns": "last", "history": False},
        {"clip_norm": 1.0, "weight_decay": 0.1},
    ],
    ids=str,
)
def test_every_way_to_end(options):
    assert_same(*both(lambda: {"maxiter": 2000, "history": "x", **options}))


def test_callbacks_and_rates_that_follow_the_loss():
    """Between steps, Python is wanted: the loop is the other one."""
    seen = []

    def callback():
        points = []
        seen.append(points)
        return points.append

    assert_same(*both(lambda: {"maxiter": 50, "lr": oc.BackOff(0.5)}, callback=callback))
    assert len(seen[0]) == 50
    assert np.array_equal(*seen)

    def stop_at_the_seventh(x, count=itertools.count(1)):  # noqa: B008
        if next(count) == 7:
            raise StopIteration

    res = oc.minimize(COMPILED, START, callback=stop_at_the_seventh, options={"maxiter": 50})
    assert (res.status, res.nit) == (Status.CALLBACK, 7)


def test_data_of_the_function():
    @numba.cfunc(SIGNATURE)
    def shifted(n, x, g, data):
        centre = numba.carray(data, (1,), numba.float64)
        total = 0.0
        for i in range(n):
            g[i] = 2 * (x[i] - centre[0])
            total += (x[i] - centre[0]) ** 2
        return total

    centre = ctypes.c_double(3.0)
    fun = scipy.LowLevelCallable(shifted.ctypes, ctypes.cast(ctypes.pointer(centre), ctypes.c_void_p))
    res = oc.minimize(fun, [0.0, 1.0], method="sgd", options={"lr": 0.5})
    assert res.x.tolist() == [3.0, 3.0]
    assert (res.nit, res.nfev, res.njev) == (1, 2, 2)


@pytest.mark.parametrize("name", [b"double (int, double *, double *)", b"double (int, double const *, double *)"])
def test_capsules_without_data(name):
    """As Cython makes them of functions that are declared for others."""

    @numba.cfunc(SIGNATURE.return_type(*SIGNATURE.args[:3]))
    def square(n, x, g):
        g[0] = 2 * x[0]
        return x[0] * x[0]

    res = oc.minimize(capsule(square.ctypes, name), 3.0, method="sgd", options={"lr": 0.5})
    assert (res.x.tolist(), res.fun) == ([0.0], 0.0)


MODULE = """
cdef api double bowl(int n, const double* x, double* gradient, void* data) noexcept nogil:
    cdef double total = 0.0
    cdef int i
    for i in range(n):
        gradient[i] = 2.0 * (x[i] - 1.0)
        total += (x[i] - 1.0) * (x[i] - 1.0)
    return total
"""


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a compiler")
def test_functions_of_a_cython_module(tmp_path, monkeypatch):
    (tmp_path / "bowls.pyx").write_text(MODULE)
    command = [sys.executable, "-m", "Cython.Build.Cythonize", "-3", "-i", "-q", "bowls.pyx"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    monkeypatch.syspath_prepend(str(tmp_path))
    import bowls

    for fun in (bowls.__pyx_capi__["bowl"], scipy.LowLevelCallable.from_cython(bowls, "bowl")):
        res = oc.minimize(fun, [0.0, 3.0], method="sgd", options={"lr": 0.5})
        assert (res.x.tolist(), res.fun, res.nit, res.success) == ([1.0, 1.0], 0.0, 1, True)


def test_scipy_hands_it_on():
    res = scipy.optimize.minimize(COMPILED, START, method=oc.scipy_method("rprop", maxiter=500))
    assert_same(res, oc.minimize(COMPILED, START, method="rprop", options={"maxiter": 500}))
    assert res.nit == 500


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Function(capsule(rosenbrock.ctypes, b"double (double)")), "got 'double (double)'"),
        (lambda: oc.minimize(scipy.LowLevelCallable(rosenbrock.ctypes, signature="double (int)"), 1.0), "double (int"),
        (lambda: oc.minimize(COMPILED, START, jac="2-point"), "writes the gradient"),
        (lambda: oc.minimize(COMPILED, START, args=(1,)), "leave out jac and args"),
        (lambda: Function(None), "comes in a capsule, got NoneType"),
    ],
)
def test_what_cannot_be_used_is_refused(call, message):
    with pytest.raises((TypeError, ValueError), match=re.escape(message)):
        call()


def test_a_gradient_that_is_not_set_first():
    @numba.cfunc(SIGNATURE)
    def adding(n, x, g, data):
        g[0] += 2 * x[0]
        return x[0] * x[0]

    res = oc.minimize(scipy.LowLevelCallable(adding.ctypes), 1.0)
    assert res.message == "There is no way to start: at x0, element 0 of the gradient is nan."


def outside(name, argument):
    """A function of the C library, called from a compiled one."""
    signature = numba.types.int32(argument)
    return numba.types.ExternalFunction(name, signature)


needs_unix = pytest.mark.skipif(sys.platform == "win32", reason="needs functions of a Unix library")


@needs_unix
def test_time_is_over():
    pause = outside("usleep", numba.types.uint32)

    @numba.cfunc(SIGNATURE)
    def slow(n, x, g, data):
        """Slow from the 5000th call on."""
        g[0] = 1.0
        if x[0] < -5000:
            pause(50_000)
        return x[0]

    res = oc.minimize(scipy.LowLevelCallable(slow.ctypes), 0.0, method="sgd",
                      options={"lr": 1.0, "max_seconds": 0.1, "maxiter": 10**12})  # fmt: skip
    assert res.status == Status.TIME
    assert res.nit <= 5000 + 1024 + 10


@needs_unix
@pytest.mark.parametrize("history", [True, False])
def test_ctrl_c(history):
    send = outside("raise", numba.types.int32)

    @numba.cfunc(SIGNATURE)
    def interrupting(n, x, g, data):
        g[0] = 1.0
        if x[0] == -3000:
            send(2)
        return x[0]

    res = oc.minimize(scipy.LowLevelCallable(interrupting.ctypes), 0.0, method="sgd",
                      options={"lr": 1.0, "maxiter": 10**12, "history": history})  # fmt: skip
    assert res.status == Status.INTERRUPTED
    assert 3000 <= res.nit <= 3000 + 1024
    assert res.fun == res.x[0] == -res.nit
    if history:
        assert res.history.loss.tolist() == [-k for k in range(res.nit + 1)]


@needs_unix
@pytest.mark.parametrize("maxiter", [0, 1])
def test_the_gil_is_given_back(maxiter):
    """Another thread sees that the function is running: at the start, and in the loop."""
    pause = outside("usleep", numba.types.uint32)

    @numba.cfunc(SIGNATURE)
    def pausing(n, x, g, data):
        running = numba.carray(data, (1,), numba.float64)
        running[0] += 1.0
        pause(200_000)
        running[0] += 1.0
        g[0] = 1.0
        return x[0]

    calls = ctypes.c_double(0.0)
    seen, done = set(), threading.Event()

    def look():
        while not done.wait(0.001):
            seen.add(calls.value)

    fun = scipy.LowLevelCallable(pausing.ctypes, ctypes.cast(ctypes.pointer(calls), ctypes.c_void_p))
    thread = threading.Thread(target=look)
    thread.start()
    oc.minimize(fun, 0.0, options={"maxiter": maxiter, "gtol": None})
    done.set()
    thread.join()
    assert 2.0 * maxiter + 1.0 in seen
