"""Golden vectors of torch, optax and Keras: golden/*_vectors.py says how the files of golden/ were made.

    pytest tests/test_golden.py

The files name optcore's class and keywords for each case. The libraries are needed for the last test alone.
"""

import functools
import importlib.metadata
import json
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import optcore

FOLDER = Path(__file__).parent / "golden"
TORCH = json.loads((FOLDER / "torch.json").read_text())
OTHERS = json.loads((FOLDER / "optax.json").read_text())  # for the same start and gradients
SPARSE = json.loads((FOLDER / "sparse.json").read_text())
VERSIONS = {"torch": {"torch": TORCH["torch"]}, "sparse": {"torch": SPARSE["torch"]}, "optax": OTHERS["versions"]}


def spellings(cases):
    return [
        pytest.param(case, spelling, id=f"{name} ({spelling['class']})")
        for name, case in cases.items()
        for spelling in case["optcore"]
    ]


SPELLINGS = spellings({**TORCH["cases"], **OTHERS["cases"]})

# Rules that have no vectors; every other one must be among the cases.
NOT_COMPARED = {"gradient_scaled", "velocity"}

# Where a case is not bit-equal its largest difference is 6.4e-14, the same on every machine, because optcore's bits
# and the files' are. It is what 60 steps round, optax's schedule-free ones most, because they find x anew at each from
# y and z. The rest of 1e-13 is room for another form of the same formula, in either. No absolute part is needed: none
# of these numbers has lost more than eleven bits to cancellation, and those that are 0 are so exactly.
RTOL = 1e-13
# XLA, and so optax, takes subnormal numbers for zeros, which only second moments show.
ATOL_OPTAX = float(np.finfo(np.float64).tiny)


def is_exact(spelling, array):
    """Whether the library does the same operations in the same order, so that every bit has to be equal."""
    keywords = [spelling["keywords"], *(spelling["groups"] or [])]
    if any("clip_norm" in values for values in keywords):
        return False  # torch adds the squares in another order, array by array
    decays = any("weight_decay" in values for values in keywords)
    if spelling["class"] == "Lion":
        return array == "m" or not decays  # optax has p - lr * (sign + weight_decay * p)
    if spelling["class"] == "AdaBelief":
        return array == "m"  # optax squares before it multiplies, and corrects the bias of each moment by itself
    if spelling["class"] == "FTRL":
        return array == "n"  # Keras takes the roots by pow, and sums z in another order
    if spelling["class"] == "LARS":
        return False  # the norms are sums, and each library has an order of its own
    if spelling["class"] == "LAMB":
        return array == "m"  # norms again; and optax squares before it multiplies
    if spelling["class"] == "ScheduleFreeSGD":
        return array == "z" and not decays  # optax finds x from y and z, and y goes into the decay
    if spelling["class"] == "ScheduleFreeAdamW":
        return False  # the same, and again the squares
    if spelling["class"] not in ("Adam", "AMSGrad", "AdamW", "Adamax", "NAdam", "RAdam"):
        return True
    if array in ("p", "m"):
        # torch has m + (1 - beta1) * (g - m) for the first moment, divides by the root of the bias where optcore
        # multiplies by its reciprocal, and takes beta ** t from the C library.
        return False
    # The second moments see the gradient alone, unless weight decay mixes p into it.
    decoupled = spelling["class"] == "AdamW" or "decoupled_weight_decay" in spelling["keywords"]
    return decoupled or not decays


def is_exact_sparse(spelling, array):
    """As ``is_exact``, for row-sparse gradients."""
    # SparseAdam has m + (1 - beta1) * (g - m) and the same for v, and Adagrad multiplies by the learning rate last.
    return spelling["class"] == "SGD" or array == "s"


def arrays(values, shapes=TORCH["shapes"]):
    """One array per shape, from flat numbers: for all arrays in a row, or a list for each."""
    flat = values if isinstance(values[0], float) else [number for part in values for number in part]
    ends = np.cumsum([np.prod(shape) for shape in shapes])
    parts = np.split(np.array(flat), ends[:-1])
    return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]


def make(spelling, parameters, rates=None):
    """The optimizer; ``rates``: its learning rate for each number of completed updates."""
    keywords = dict(spelling["keywords"])
    if rates:
        keywords["lr"] = lambda t: rates[t]
    if "averaging" in keywords:
        kind, *arguments = keywords["averaging"]
        keywords["averaging"] = getattr(optcore, kind)(*arguments)
    if spelling["groups"]:
        parameters = [{"params": [p], **values} for p, values in zip(parameters, spelling["groups"], strict=True)]
    return getattr(optcore, spelling["class"])(parameters, **keywords)


def compare(actual, expected, exact, what, atol=0.0):
    if exact:  # as numbers: torch's first momentum buffer is a copy of the gradient and may hold -0
        np.testing.assert_array_equal(actual, expected, err_msg=what, strict=True)
    else:
        assert (actual.shape, actual.dtype) == (expected.shape, expected.dtype), what
        np.testing.assert_allclose(actual, expected, rtol=RTOL, atol=atol, err_msg=what)


def check(optimizer, parameters, gradients, case, exact, atol=0.0):
    """Take the steps and compare; ``exact`` tells of an array's name whether each bit has to be equal."""
    shapes = [array.shape for array in parameters]
    compared = 0
    for t, arguments in enumerate(gradients, start=1):
        optimizer.step(**arguments)
        if str(t) in case["after"]:
            for i, expected in enumerate(arrays(case["after"][str(t)], shapes)):
                compare(parameters[i], expected, exact("p"), f"parameter {i} after step {t}", atol)
                compared += 1
    assert compared == len(case["after"]) * len(shapes)
    for i, expected in enumerate(case["state"]):
        state = optimizer.state[str(i)]
        assert state.keys() == expected.keys()
        for key, array in state.items():
            compare(array.ravel(), np.array(expected[key]), exact(key), f"{key} of parameter {i}", atol)
        for key in expected.keys() & {"average", "x"}:
            compare(optimizer.averaged()[i].ravel(), np.array(expected[key]), exact(key), f"averaged() {i}", atol)


@pytest.mark.parametrize(("case", "spelling"), SPELLINGS)
def test_vectors(case, spelling):
    parameters = arrays(TORCH["start"])
    for array, zero in zip(parameters, case.get("zero", [False] * len(parameters)), strict=True):
        array[...] = 0.0 if zero else array
    optimizer = make(spelling, parameters, case.get("lr"))
    gradients = [{"grads": arrays(step)} for step in TORCH["gradients"]]
    atol = ATOL_OPTAX if "optax" in case else 0.0
    check(optimizer, parameters, gradients, case, functools.partial(is_exact, spelling), atol)


@pytest.mark.parametrize(("case", "spelling"), spellings(SPARSE["cases"]))
def test_sparse_vectors(case, spelling):
    parameters = arrays(SPARSE["start"], SPARSE["shapes"])
    width = parameters[0].shape[1]
    gradients = [
        {"rows": [np.array(step["rows"], np.intp)], "grads": [np.array(step["values"]).reshape(-1, width)]}
        for step in SPARSE["steps"]
    ]
    check(make(spelling, parameters), parameters, gradients, case, functools.partial(is_exact_sparse, spelling))


def test_every_other_rule_is_compared():
    compared = {getattr(optcore, spelling["class"]).name for _, spelling in (entry.values for entry in SPELLINGS)}
    assert compared == optcore.CATALOGUE.keys() - NOT_COMPARED


def test_cases_have_names_of_their_own():
    assert not TORCH["cases"].keys() & OTHERS["cases"].keys()


def numbers(values):
    """All numbers of nested lists and dictionaries."""
    if isinstance(values, float):
        return [values]
    return [number for part in (values.values() if isinstance(values, dict) else values) for number in numbers(part)]


@pytest.mark.parametrize("name", VERSIONS)
def test_program_reproduces_file(name, tmp_path):
    if sys.platform != "linux" or platform.machine() != "x86_64":
        pytest.skip("needs x86-64 Linux")
    for library, version in VERSIONS[name].items():
        try:
            found = importlib.metadata.version(library).partition("+")[0]
        except importlib.metadata.PackageNotFoundError:
            found = None
        if found != version:
            pytest.skip(f"needs {library} {version}")
    # A process of its own, because the libraries read at their import which instructions and precision they may use.
    again = tmp_path / "again.json"
    subprocess.run([sys.executable, FOLDER / f"{name}_vectors.py", again], check=True)
    if name != "optax":
        assert again.read_text() == (FOLDER / f"{name}.json").read_text()
        return
    new = json.loads(again.read_text())
    assert new["versions"] == OTHERS["versions"]
    assert new["cases"].keys() == OTHERS["cases"].keys()
    for key, case in new["cases"].items():
        old_case = dict(OTHERS["cases"][key])
        values, old = ([c.pop("after"), c.pop("state")] for c in (case, old_case))
        assert case == old_case
        # The powers are those of the C library, which may use other instructions on another CPU.
        np.testing.assert_allclose(numbers(values), numbers(old), rtol=RTOL, atol=0.0, err_msg=key)
