"""Golden values of torch's, optax's and Keras's schedulers: golden/schedules.json, made by golden/schedules.py.

    pytest tests/test_golden_schedules.py

The file names optcore's schedule for each of theirs. The libraries themselves are needed for the last test alone.
"""

import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from optcore.expressions import parse
from optcore.schedules import Schedule

PROGRAM = Path(__file__).parent / "golden" / "schedules.py"
FILE = PROGRAM.with_suffix(".json")
DOCUMENT = Path(__file__).parents[1] / "docs" / "schedules.md"
GOLDEN = json.loads(FILE.read_text())
TITLES = {"torch": "## torch", "optax": "## optax", "keras": "## Keras"}
ROWS = [pytest.param(row, id=f"{row['library']} {row['theirs']}") for row in GOLDEN["rows"]]
SHARED = [row for row in ROWS if row.values[0]["ours"] is not None]


def tolerance(row):
    """What two ways to round may differ by, absolutely, because all of these curves add to or take from their peak.

    torch multiplies the last rate, once in every update, where optcore has a closed form; the others associate in
    another order, and have the C library's or XLA's powers and cosines. 7e-16 of the peak is the most that is seen.
    Keras (3.15, on jax) takes every cosine in float32, whatever it is told.
    """
    single = row["library"] == "keras" and "Cosine" in row["theirs"]
    return 2.0 ** (-23 if single else -49) * max(map(abs, row["values"]))


def run(row):
    """optcore's values for all of the row's updates."""
    schedule = parse(row["ours"])
    if row["metrics"] is not None:
        return np.array([schedule.update(metric) for metric in row["metrics"]])
    return schedule(np.arange(len(row["values"])))


@pytest.mark.parametrize("row", SHARED)
def test_values(row):
    ours, theirs = run(row), np.array(row["values"])
    if row["exact"]:
        np.testing.assert_array_equal(ours, theirs, strict=True)
    else:
        assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
        np.testing.assert_allclose(ours, theirs, rtol=0.0, atol=tolerance(row))


@pytest.mark.parametrize("row", SHARED)
def test_text_is_the_schedules_own(row):
    schedule = parse(row["ours"])
    assert not isinstance(schedule, Schedule) or parse(repr(schedule)) == schedule


def line(row):
    ours = "none" if row["ours"] is None else f"`{row['ours']}`"
    return f"| `{row['theirs']}` | {ours} | {row['differs']} |".replace("|  |", "| |")


@pytest.mark.skipif(not DOCUMENT.exists(), reason="needs the source tree")
@pytest.mark.parametrize("library", TITLES)
def test_document_has_these_rows(library):
    section = DOCUMENT.read_text().partition(f"\n{TITLES[library]}\n")[2].partition("\n## ")[0]
    table = [text for text in section.splitlines() if text.startswith("|")]
    assert table[2:] == [line(row) for row in GOLDEN["rows"] if row["library"] == library]


def test_program_reproduces_file(tmp_path):
    for name, version in GOLDEN["versions"].items():
        try:
            found = importlib.metadata.version(name).partition("+")[0]
        except importlib.metadata.PackageNotFoundError:
            found = None
        if found != version:
            pytest.skip(f"needs {name} {version}")
    # A process of its own, because jax and Keras read at their import in which precision to compute.
    again = tmp_path / "schedules.json"
    subprocess.run([sys.executable, PROGRAM, again], check=True)
    for new, old in zip(json.loads(again.read_text())["rows"], GOLDEN["rows"], strict=True):
        values = new.pop("values")
        np.testing.assert_allclose(values, old["values"], rtol=0.0, atol=tolerance(old))  # C libraries differ
        assert new == {key: value for key, value in old.items() if key != "values"}
