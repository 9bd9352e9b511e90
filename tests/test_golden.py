"""Golden vectors of torch: golden/torch.json holds them, golden/torch_vectors.py says how they were made.

    pytest tests/test_golden.py

The file names optcore's class and keywords for each case. torch itself is needed for the last test alone.
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

PROGRAM = Path(__file__).parent / "golden" / "torch_vectors.py"
FILE = PROGRAM.with_name("torch.json")
GOLDEN = json.loads(FILE.read_text())
SPELLINGS = [
    pytest.param(case, spelling, id=f"{name} ({spelling['class']})")
    for name, case in GOLDEN["cases"].items()
    for spelling in case["optcore"]
]

# Rules that torch does not have; every other one must be among the cases.
NOT_IN_TORCH = {"gradient_scaled", "velocity"}

# Where a case is not bit-equal its largest difference is 7.2e-15, the same on every machine, because optcore's bits
# and the file's are. The rest of 1e-13 is room for another form of the same formula, in either. No absolute part is
# needed: none of these numbers has lost more than a few bits to cancellation, and those that are 0 are so exactly.
RTOL = 1e-13


def is_exact(spelling, array):
    """Whether torch does the same operations in the same order, so that every bit has to be equal."""
    keywords = [spelling["keywords"], *(spelling["groups"] or [])]
    if any("clip_norm" in values for values in keywords):
        return False  # torch adds the squares in another order, array by array
    if spelling["class"] not in ("Adam", "AMSGrad", "AdamW", "Adamax"):
        return True
    if array in ("p", "m"):
        # torch has m + (1 - beta1) * (g - m) for the first moment, divides by the root of the bias where optcore
        # multiplies by its reciprocal, and takes beta ** t from the C library.
        return False
    # The second moments see the gradient alone, unless weight decay mixes p into it.
    return spelling["class"] == "AdamW" or not any("weight_decay" in values for values in keywords)


def arrays(values):
    """One array per shape, from flat numbers: for both arrays in a row, or a list for each."""
    flat = values if isinstance(values[0], float) else [number for part in values for number in part]
    shapes = [tuple(shape) for shape in GOLDEN["shapes"]]
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


def compare(actual, expected, exact, what):
    if exact:  # as numbers: torch's first momentum buffer is a copy of the gradient and may hold -0
        np.testing.assert_array_equal(actual, expected, err_msg=what, strict=True)
    else:
        assert (actual.shape, actual.dtype) == (expected.shape, expected.dtype), what
        np.testing.assert_allclose(actual, expected, rtol=RTOL, atol=0.0, err_msg=what)


@pytest.mark.parametrize(("case", "spelling"), SPELLINGS)
def test_torch(case, spelling):
    parameters = arrays(GOLDEN["start"])
    optimizer = make(spelling, parameters)
    compared = 0
    for t, step in enumerate(GOLDEN["gradients"], start=1):
        optimizer.step(arrays(step))
        if str(t) in case["after"]:
            for i, expected in enumerate(arrays(case["after"][str(t)])):
                compare(parameters[i], expected, is_exact(spelling, "p"), f"parameter {i} after step {t}")
                compared += 1
    assert compared == len(case["after"]) * len(GOLDEN["shapes"])
    for i, expected in enumerate(case["state"]):
        state = optimizer.state[str(i)]
        assert state.keys() == expected.keys()
        for key, array in state.items():
            compare(array.ravel(), np.array(expected[key]), is_exact(spelling, key), f"{key} of parameter {i}")


def test_every_rule_that_torch_has_is_compared():
    compared = {getattr(optcore, spelling["class"]).name for _, spelling in (entry.values for entry in SPELLINGS)}
    assert compared == optcore.CATALOGUE.keys() - NOT_IN_TORCH


def test_program_reproduces_file(tmp_path):
    try:
        version = importlib.metadata.version("torch").partition("+")[0]
    except importlib.metadata.PackageNotFoundError:
        version = None
    if version != GOLDEN["torch"] or sys.platform != "linux" or platform.machine() != "x86_64":
        pytest.skip(f"needs torch {GOLDEN['torch']} on x86-64 Linux")
    # A process of its own, because torch reads at its import which instructions it may use.
    again = tmp_path / "torch.json"
    subprocess.run([sys.executable, PROGRAM, again], check=True)
    assert again.read_text() == FILE.read_text()
