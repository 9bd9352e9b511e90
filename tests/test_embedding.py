"""Inside other people's code: what C, Cython, ctypes, cffi and numba reach has the bits of the Python optimizers.

The clients in tests/embed are built by their own setup.py against whatever optcore is imported, in a folder of their
own, and run in processes of their own.
"""

import ctypes
import math
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from support import DTYPES, FORM_IDS, FORMS, bits, gradients, make, start

import optcore as oc
from optcore._rules import RULES
from optcore.embedding import address, capsule, get_include

EMBED = Path(__file__).parent / "embed"
HEADER = Path(get_include(), "optcore.h").read_text()
ROWS, COLUMNS = 20, 5


@pytest.fixture(scope="session")
def native(tmp_path_factory):
    """tests/embed/native.c, compiled."""
    if sys.platform == "win32":
        pytest.skip("there are no POSIX threads")
    library = tmp_path_factory.mktemp("native") / "native.so"
    compiler = shlex.split(os.environ.get("CC", "cc"))
    subprocess.run([*compiler, "-shared", "-fPIC", "-o", library, EMBED / "native.c", "-lpthread"], check=True)
    return ctypes.CDLL(str(library))


# ---------------------------------------------------------------------- functions, called from here

SIZE, LONG, PLACE, TEXT, NUMBER = ctypes.c_int, ctypes.c_int64, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_double


def function(name, result, *arguments):
    """A function of the table, as ctypes calls it."""
    return ctypes.CFUNCTYPE(result, *arguments)(address(name))


message = function("message", TEXT)
find_rule, rule_at, rule_name = (
    function("find_rule", PLACE, TEXT),
    function("rule_at", PLACE, SIZE),
    function("rule_name", TEXT, PLACE),
)
state_count, state_name = function("state_count", SIZE, PLACE), function("state_name", TEXT, PLACE, SIZE)
hyper_count, hyper_name = function("hyper_count", SIZE, PLACE), function("hyper_name", TEXT, PLACE, SIZE)
prepare = function("prepare", SIZE, PLACE, PLACE, LONG, PLACE)
apply = {
    np.dtype(np.float32): function("apply32", SIZE, PLACE, PLACE, LONG, PLACE, PLACE, PLACE),
    np.dtype(np.float64): function("apply64", SIZE, PLACE, PLACE, LONG, PLACE, PLACE, PLACE),
}
find_schedule = function("find_schedule", PLACE, ctypes.py_object)
schedule_value, schedule_at = (
    function("schedule_value", NUMBER, PLACE, LONG),
    function("schedule_at", NUMBER, NUMBER, PLACE),
)
open_plan = function("open_plan", SIZE, ctypes.py_object, ctypes.POINTER(PLACE))
step_plan, plan_updates = function("step_plan", SIZE, PLACE), function("plan_updates", LONG, PLACE)
close_plan = function("close_plan", SIZE, PLACE)

STATUS = dict(re.findall(r"OPTCORE_(\w+) = (\d)", HEADER))
OK, BAD_ARGUMENT, REFUSED, NOT_FINITE, FAILED = (
    int(STATUS[name]) for name in ("OK", "BAD_ARGUMENT", "REFUSED", "NOT_FINITE", "FAILED")
)


def pointers(arrays):
    return (PLACE * max(len(arrays), 1))(*(array.ctypes.data for array in arrays))


def new_update():
    return ctypes.create_string_buffer(512 * 8)


def hyper_of(opt):
    """The hyper-parameters of an optimizer's rule in the rule's order, from its keywords."""
    values = {**opt.groups[0], **opt._switches}
    forms = ("outside", "inside", "hat")
    codes = {
        "inside": float(values.get("eps_form") == "inside"),
        "form": float(forms.index(values.get("eps_form", "outside"))),
        "ema": float(values.get("velocity") == "ema"),
        "forget": float(values.get("variant") == "irprop-"),
    }
    found = []
    for name in opt._rule.hyper:
        key, _, index = name.rstrip("]").partition("[")
        value = {**codes, **values}.get(key, 0.0)
        found.append(float(value[int(index)] if index else value))
    return np.array(found)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("name", "form"), FORMS, ids=FORM_IDS)
def test_every_rule_on_raw_memory(name, form, dtype):
    size = 3 * 4096 + 1031  # several blocks of a norm, the last one not whole
    p = start(size, dtype)
    opt = make(name, {**form, **({"weight_decay": 0.0} if name == "adamw" else {})}, p)
    rule = find_rule(opt._rule.name.encode())
    hyper, update = hyper_of(opt), new_update()
    q, state = p.copy(), [opt.state["0"][key].copy() for key in opt._rule.state]
    for t, g in enumerate(gradients(size, 5, dtype), 1):
        with np.errstate(all="ignore"):
            opt.step(g)
        assert prepare(rule, update, t, hyper.ctypes.data) == OK
        assert apply[q.dtype](rule, update, size, q.ctypes.data, g.ctypes.data, pointers(state)) == OK
        assert bits(q) == bits(p), t
    for key, array in zip(opt._rule.state, state, strict=True):
        assert bits(array) == bits(opt.state["0"][key]), key


def test_rules_can_be_listed():
    found = {}
    for index in range(1000):
        rule = rule_at(index)
        if rule is None:
            break
        assert find_rule(rule_name(rule)) == rule
        states = [state_name(rule, i).decode() for i in range(state_count(rule))]
        found[rule_name(rule).decode()] = (
            tuple(states),
            tuple(hyper_name(rule, i).decode() for i in range(hyper_count(rule))),
        )
        assert state_name(rule, len(states)) is None
        assert hyper_name(rule, -1) is None
    assert found == {name: (rule.state, rule.hyper) for name, rule in RULES.items()}
    assert rule_at(-1) is None


def test_state_starts_as_the_header_says():
    """What the header names as an exception is one, and nothing else is."""
    for name, form in FORMS:
        p = start(3, np.float64)
        opt = make(name, form, p, **({"initial_accumulator": 0.0} if name == "adagrad" else {}))
        for key, array in opt.state["0"].items():
            expected = np.zeros(3)
            if name.startswith("schedule_free") and key in "zx":
                expected = p
            if name == "rprop" and key == "step":
                expected = np.full(3, opt._switches["lr"])
            assert (array == expected).all(), (name, key)


def test_bad_arguments_are_reported_and_change_nothing():
    rule, update, hyper = find_rule(b"momentum"), new_update(), np.array([0.1, 0.9, 0.0, 0.0])
    p, g, b = np.ones(3), np.ones(3), np.zeros(3)

    def refused(status, words):
        assert status == BAD_ARGUMENT
        assert words in message().decode()
        assert update.raw == before
        assert (p == 1).all()

    before = update.raw
    assert find_rule(b"momentun") is None
    assert "there is no rule of that name" in message().decode()
    assert find_rule(None) is None
    assert rule_name(None) is None
    assert (state_count(None), hyper_count(None), state_name(None, 0)) == (0, 0, None)
    refused(prepare(None, update, 1, hyper.ctypes.data), "rule, update or hyper is NULL")
    refused(prepare(rule, None, 1, hyper.ctypes.data), "rule, update or hyper is NULL")
    refused(prepare(rule, update, 1, None), "rule, update or hyper is NULL")
    refused(prepare(rule, update, 0, hyper.ctypes.data), "t counts updates from 1 on")
    prepare(rule, update, 1, hyper.ctypes.data)
    before = update.raw
    apply64, here = apply[p.dtype], (p.ctypes.data, g.ctypes.data)
    refused(apply64(None, update, 3, *here, pointers([b])), "is NULL, or n is negative")
    refused(apply64(rule, update, -1, *here, pointers([b])), "is NULL, or n is negative")
    refused(apply64(rule, update, 3, None, here[1], pointers([b])), "is NULL, or n is negative")
    refused(apply64(rule, update, 3, *here, None), "the rule has state, but state is NULL")
    refused(apply64(rule, update, 3, *here, pointers([])), "one of the state arrays is NULL")
    assert apply64(rule, update, 0, None, None, None) == OK
    assert apply64(rule, update, 3, *here, pointers([b])) == OK
    assert (p == 1 - 0.1).all()


# ---------------------------------------------------------------------- schedules


def test_schedules():
    schedule = oc.Warmup(3, oc.Cosine(0.1, steps=20))
    place = find_schedule(schedule)
    assert place == address(schedule)
    for t in range(30):
        assert schedule_value(place, t) == schedule(t) == schedule_at(t + 0.5, place)
    for value in (
        schedule_value(place, -1),
        schedule_value(None, 1),
        schedule_at(-0.5, place),
        schedule_at(math.nan, place),
    ):
        assert math.isnan(value)
    assert function("find_schedule", PLACE, PLACE)(None) is None
    assert find_schedule(0.1) is None
    assert "float is no schedule that C can evaluate" in message().decode()

    class Own(oc.Cosine):
        def __call__(self, t, out=None):
            return 1.0

    with pytest.raises(ValueError, match="Own is no schedule that C can evaluate; use one such as"):
        address(Own(0.1, steps=3))


# ---------------------------------------------------------------------- whole optimizers


def opened(opt):
    plan = PLACE()
    assert open_plan(opt, ctypes.byref(plan)) == OK, message()
    return plan


@pytest.mark.parametrize("thread", [False, True], ids=["here", "thread of its own"])
@pytest.mark.parametrize(("name", "form"), FORMS, ids=FORM_IDS)
def test_a_plan_steps_as_in_python(name, form, thread):
    """With groups, schedules, clipping, averages; also in a thread."""

    def run(step_all):
        params = {"a": start(300, np.float64), "b": start(7, np.float32)}
        grads = {"a": gradients(300, 1, np.float64)[0], "b": gradients(7, 1, np.float32)[0]}
        options = {"averaging": oc.EMA(0.9)} if "averaging" in oc.CATALOGUE[name]._keywords() else {}
        groups = [{"params": {"a": params["a"]}}, {"params": {"b": params["b"]}, "clip_value": 0.25}]
        opt = make(name, form, groups, grads, clip_norm=3.0, **options)
        if "lr" in opt.groups[0]:
            opt.groups[1]["lr"] = oc.Cosine(0.05, 0.01, steps=8)
        step_all(opt)
        return params, opt

    def in_c(opt):
        plan = opened(opt)
        statuses = []

        def steps():
            statuses.extend(step_plan(plan) for _ in range(10))

        if thread:
            worker = threading.Thread(target=steps)
            worker.start()
            worker.join()
        else:
            steps()
        assert statuses == [OK] * 10
        assert plan_updates(plan) == 10
        assert close_plan(plan) == OK

    with np.errstate(all="ignore"):
        expected, one = run(lambda opt: [opt.step() for _ in range(10)])
        found, other = run(in_c)
    assert one.t == other.t == 10
    for key in expected:
        assert bits(found[key]) == bits(expected[key])
        for kept in one.state[key]:
            assert bits(other.state[key][kept]) == bits(one.state[key][kept])


def test_an_open_plan_is_kept_from_python_and_alive():
    p, g = np.ones(3), np.ones(3)
    opt = oc.SGD(p, g, lr=0.25)
    plan = opened(opt)
    with pytest.raises(RuntimeError, match="compiled code makes the steps of this optimizer"):
        opt.step()
    with pytest.raises(RuntimeError, match="cannot be changed"):
        opt.lr = 0.1
    again = PLACE()
    assert open_plan(opt, ctypes.byref(again)) == REFUSED
    assert "compiled code makes the steps" in message().decode()
    assert again.value is None
    with pytest.raises(RuntimeError, match="cannot be changed, copied or saved while compiled code makes its steps"):
        opt.state_dict()
    count = sys.getrefcount(opt)
    assert close_plan(plan) == OK
    assert sys.getrefcount(opt) == count - 1
    assert close_plan(plan) == step_plan(plan) == REFUSED
    assert "it was closed" in message().decode()
    opt.step()
    assert (p == 0.75).all()


def test_optimizers_that_cannot_be_opened_are_refused():
    def refused(words, optimizer):
        plan = PLACE()
        assert open_plan(optimizer, ctypes.byref(plan)) == REFUSED
        assert words in message().decode()
        assert plan.value is None

    p, g = np.ones(3), np.ones(3)
    refused("open_plan takes an optimizer, such as optcore.Adam(params, grads), got dict", {})
    refused("the Adam was made without gradients; pass them when making it", oc.Adam(p))
    opt = oc.Adam(p, g)
    g.resize(4, refcheck=False)
    refused("the gradient of '0' has shape (4,), but its parameter has shape (3,)", opt)
    g.resize(3, refcheck=False)
    opt.step()  # it is free again
    assert open_plan(opt, None) == BAD_ARGUMENT
    assert function("open_plan", SIZE, PLACE, PLACE)(None, ctypes.byref(PLACE())) == BAD_ARGUMENT
    assert step_plan(None) == close_plan(None) == BAD_ARGUMENT
    assert plan_updates(None) == -1


@pytest.mark.parametrize("python_knows_it", [True, False], ids=["python's thread", "thread of C"])
def test_failures_are_statuses(python_knows_it, native):
    """Also in a thread that Python has never seen, where an exception would be lost."""
    steps = []

    def lr(t):
        steps.append(t)
        if t == 2:
            raise ValueError("no rate for t = 2")
        return 0.5

    def step(plan):
        if python_knows_it:
            return step_plan(plan), message().decode()
        text = ctypes.create_string_buffer(512)
        status = native.in_a_thread(PLACE(address("step_plan")), PLACE(address("message")), plan, text)
        return status, text.value.decode()

    p, g = np.ones(2), np.ones(2)
    plan = opened(oc.SGD(p, g, lr=lr))
    assert step(plan)[0] == step(plan)[0] == OK
    status, text = step(plan)
    assert status == FAILED
    assert text == "ValueError: no rate for t = 2"
    assert steps == [0, 1, 2]  # nothing is asked twice
    assert (p == 0).all()
    assert plan_updates(plan) == 2
    close_plan(plan)

    p = np.ones(2)
    plan = opened(oc.SGD(p, g, lr=0.5, on_nonfinite="raise"))
    g[1] = np.nan
    status, text = step(plan)
    assert status == NOT_FINITE
    assert "the gradient of '0' has nan at index (1,); nothing was changed" in text
    assert (p == 1).all()
    assert plan_updates(plan) == 0
    g[1] = 1
    assert step(plan)[0] == OK
    assert (p == 0.5).all()
    close_plan(plan)


def test_steps_do_without_the_gil(native):
    """While this thread keeps it, another one steps: with schedule, clipping, groups and averages."""
    steps = ctypes.PyDLL(native._name).steps_without_gil
    for options in ({}, {"lr": oc.Cosine(0.1, steps=50), "clip_norm": 1.0, "averaging": oc.EMA(0.9)}):
        opt = oc.Adam({"a": np.ones(5), "b": np.ones(3)}, {"a": np.ones(5), "b": np.ones(3)}, **options)
        plan = opened(opt)
        assert steps(PLACE(address("step_plan")), plan, ctypes.c_long(100)) == 100
        assert plan_updates(plan) == 100
        close_plan(plan)


def test_a_schedule_cannot_step_or_close_the_plan_that_asks_it():
    statuses = []

    def lr(t):
        statuses.extend([step_plan(plan), close_plan(plan), plan_updates(plan)])
        return 0.5

    p = np.ones(1)
    plan = opened(oc.SGD(p, np.ones(1), lr=lr))
    assert step_plan(plan) == step_plan(plan) == OK
    assert statuses == [REFUSED, REFUSED, 0, REFUSED, REFUSED, 1]
    assert p == 0.0
    assert close_plan(plan) == OK


def test_an_interrupt_is_a_status_and_comes_again():
    def lr(t):
        raise KeyboardInterrupt

    p = np.ones(1)
    plan = opened(oc.SGD(p, np.ones(1), lr=lr))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    found = []
    try:
        found.append(step_plan(plan))
        for _ in range(1000):
            found.append(message())
    except KeyboardInterrupt:
        found.append("again")
    finally:
        signal.signal(signal.SIGINT, before)
    assert found[-1] == "again"
    assert len(found) == 1 or found[0] == FAILED  # it may come before the status is looked at
    assert p == 1.0
    assert close_plan(plan) == OK


def test_a_text_that_cannot_be_had_is_still_a_failure():
    class Bad(Exception):
        def __str__(self):
            raise KeyboardInterrupt

    def lr(t):
        raise Bad

    plan = opened(oc.SGD(np.ones(1), np.ones(1), lr=lr))
    assert step_plan(plan) == FAILED
    assert plan_updates(plan) == 0
    close_plan(plan)


# ---------------------------------------------------------------------- clients


@pytest.fixture(scope="session")
def clients(tmp_path_factory):
    """The folder in which tests/embed was built."""
    pytest.importorskip("Cython")
    pytest.importorskip("setuptools")
    folder = tmp_path_factory.mktemp("embed")
    shutil.copytree(EMBED, folder, dirs_exist_ok=True)
    found = run([sys.executable, "setup.py", "build_ext", "--inplace"], folder)
    assert "warning" not in found.lower(), found
    return folder


def run(command, folder, **variables):
    """What a command prints in a folder where nothing but an installed optcore can be found."""
    home = str(Path(oc.__file__).parents[1])  # site-packages, or the source tree of an editable install
    result = subprocess.run(
        command, cwd=folder, env={**os.environ, "PYTHONPATH": home, **variables}, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout + result.stderr


CLIENTS = ["c_client", "c_client_of_v1", "cython_client"]


@pytest.mark.parametrize("client", CLIENTS)
def test_clients_train_to_the_same_bits(clients, client):
    run([sys.executable, "train.py", "same_bits", client, "300"], clients)


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None) if os.name == "posix" else None, "__libc_malloc"), reason="no glibc")
@pytest.mark.parametrize("client", CLIENTS)
def test_a_million_steps_allocate_nothing(clients, client, native):
    counted = {"LD_PRELOAD": native._name, "PYTHONMALLOC": "malloc"}
    run([sys.executable, "train.py", "allocate_nothing", client, "1000000"], clients, **counted)


@pytest.mark.parametrize("name", ["c_client.c", "cython_client.pyx"])
def test_clients_need_at_most_ten_lines_of_optcore(name):
    text = (EMBED / name).read_text()
    words = set(re.findall(r"\w+", (Path(oc.__file__).parent / "__init__.pxd").read_text().split("cimport (")[1]))
    if name.endswith(".c"):
        ours = re.compile(r"\boc\b|optcore|OPTCORE")
    else:
        ours = re.compile(r"\b(" + "|".join(words) + r")\b")
    bodies = re.split(r"\n(?=static PyObject|def )", text)
    counted = [sum(bool(ours.search(line)) for line in body.splitlines()) for body in bodies[1:3]]
    assert all(3 <= count <= 10 for count in counted), counted


@pytest.mark.skipif(sys.platform == "win32", reason="asks a compiler as POSIX has it")
@pytest.mark.parametrize("language", ["c", "c++"])
def test_the_header_is_of_the_standard_and_needs_no_python(tmp_path, language):
    compiler, standard = {"c": (os.environ.get("CC", "cc"), "c99"), "c++": (os.environ.get("CXX", "c++"), "c++11")}[
        language
    ]
    (tmp_path / "alone").write_text('#include "optcore.h"\noptcore_update update;\n')
    flags = [f"-std={standard}", "-Wall", "-Wextra", "-pedantic", "-Werror", "-fsyntax-only", "-I", get_include()]
    run([*shlex.split(compiler), *flags, "-x", language, "alone"], tmp_path)


def test_the_table_is_only_appended_to():
    """Members, order and types: the table of the first version is the beginning of today's."""

    def members(text):
        table = re.search(r"typedef struct optcore_api \{(.*?)\n\} optcore_api;", text, re.S)[1]
        return [" ".join(member.split()) for member in re.sub(r"/\*.*?\*/", "", table, flags=re.S).split(";")[:-1]]

    def constants(text):
        return re.findall(r"(?:#define (OPTCORE_ABI|OPTCORE_CAPSULE) (\S+))|(OPTCORE_[A-Z_]+ = \d+)", text)

    first = (EMBED / "v1" / "optcore.h").read_text()
    assert members(first)[:2] == ["size_t size", "int abi"]
    assert members(HEADER)[: len(members(first))] == members(first)
    assert set(constants(first)) <= set(constants(HEADER))
    assert "double opaque[512]" in first
    assert "double opaque[512]" in HEADER


# ---------------------------------------------------------------------- who calls by address


def test_capsules_are_named_by_signature():
    from scipy import LowLevelCallable

    assert LowLevelCallable(capsule("schedule_at")).signature == "double (double, void *)"
    assert LowLevelCallable(capsule("prepare")).signature == (
        "int (optcore_rule const *, optcore_update *, int64_t, double const *)"
    )
    with pytest.raises(ValueError, match=r"name must be one of '_C_API', 'apply32', .* got 'apply'"):
        capsule("apply")
    with pytest.raises(ValueError, match="name must be one of"):
        address("adam")
    with pytest.raises(ValueError, match="name must be one of"):
        capsule("check")
