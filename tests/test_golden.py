"""Golden vectors of torch, optax and Keras: golden/*_vectors.py says how the files of golden/ were made.

    pytest tests/test_golden.py

The files name optcore's class and keywords for each case. The libraries are needed for the last test alone.
"""

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
VERSIONS = {"torch": {"torch": TORCH["torch"]}, "optax": OTHERS["versions"]}
SPELLINGS = [
    pytest.param(case, spelling, id=f"{name} ({spelling['class']})")
    for name, case in [*TORCH["cases"].items(), *OTHERS["cases"].items()]
    for spelling in case["optcore"]
]

# Rules that have no vectors; every other one must be among the cases.
NOT_COMPARED = {"gradient_scaled", "velocity"}

# Where a case is not bit-equal its largest difference is 2.3e-14, the same on every machine, because optcore's bits
# and the files' are. The rest of 1e-13 is room for another form of the same formula, in either. No absolute part is
# needed: none of these numbers has lost more than seven bits to cancellation, and those that are 0 are so exactly.
RTOL = 1e-13
# XLA, and so optax, takes subnormal numbers for zeros, which only AdaBelief's s shows.
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
    if spelling["class"] not in ("Adam", "AMSGrad", "AdamW", "Adamax", "NAdam", "RAdam"):
        return True
    if array in ("p", "m"):
        # torch has m + (1 - beta1) * (g - m) for the first moment, divides by the root of the bias where optcore
        # multiplies by its reciprocal, and takes beta ** t from the C library.
        return False
    # The second moments see the gradient alone, unless weight decay mixes p into it.
    decoupled = spelling["class"] == "AdamW" or "decoupled_weight_decay" in spelling["keywords"]
    return decoupled or not decays


def arrays(values):
    """One array per shape, from flat numbers: for both arrays in a row, or a list for each."""
    flat = values if isinstance(values[0], float) else [number for part in values for number in part]
    shapes = [tuple(shape) for shape in TORCH["shapes"]]
    ends = np.cumsum([np.prod(shape) for shape in shapes])
    parts = np.split(np.array(flat), ends[:-1])
    return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]


def make(spelling, parameters):
    keywords = dict(spelling["keywords"])
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


@pytest.mark.parametrize(("case", "spelling"), SPELLINGS)
def test_vectors(case, spelling):
    atol = ATOL_OPTAX if "optax" in case else 0.0
    parameters = arrays(TORCH["start"])
    optimizer = make(spelling, parameters)
    compared = 0
    for t, step in enumerate(TORCH["gradients"], start=1):
        optimizer.step(arrays(step))
        if str(t) in case["after"]:
            for i, expected in enumerate(arrays(case["after"][str(t)])):
                compare(parameters[i], expected, is_exact(spelling, "p"), f"parameter {i} after step {t}", atol)
                compared += 1
    assert compared == len(case["after"]) * len(TORCH["shapes"])
    for i, expected in enumerate(case["state"]):
        state = optimizer.state[str(i)]
        assert state.keys() == expected.keys()
        for key, array in state.items():
            compare(array.ravel(), np.array(expected[key]), is_exact(spelling, key), f"{key} of parameter {i}", atol)


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
    if name == "torch":
        assert again.read_text() == (FOLDER / "torch.json").read_text()
        return
    new = json.loads(again.read_text())
    assert new["versions"] == OTHERS["versions"]
    assert new["cases"].keys() == OTHERS["cases"].keys()
    for key, case in new["cases"].items():
        values, old = ([c.pop("after"), c.pop("state")] for c in (case, dict(OTHERS["cases"][key])))
        assert {k: v for k, v in OTHERS["cases"][key].items() if k in case} == case
        # The powers are those of the C library, which may use other instructions on another CPU.
        np.testing.assert_allclose(numbers(values), numbers(old), rtol=RTOL, atol=0.0, err_msg=key)
