"""``optcore schedule``: the values are those of the schedule, the drawing has its shape, and mistakes are shown."""

from __future__ import annotations

import itertools
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from support import command_line
from typer.testing import CliRunner

from optcore.cli import app
from optcore.expressions import parse
from optcore.plot import COLUMNS, schedule_points, text_curve
from optcore.schedules import Constant, CosineRestarts, Linear, Piecewise

COMMAND = [sys.executable, "-W", "error", "-m", "optcore.cli", "schedule"]
EXAMPLE = "Warmup(500, Cosine(1e-3, steps=10_000))"


@pytest.fixture
def cli(tmp_path, monkeypatch):
    """Runs ``optcore schedule`` in an empty folder."""
    return command_line("schedule", tmp_path, monkeypatch)


def table(output):
    """The rows of values: name -> (t, value, in full)."""
    rows = re.findall(r"^(first|peak|last) +(\d+) +(\S+)  (\S+)$", output, re.MULTILINE)
    return {name: (int(t), value, full) for name, t, value, full in rows}


def heights(drawing, only_ascii=False):
    """For each column of dots, the rows of those that are set, from the top."""
    lines = [re.sub(r"^[^│┤|+]*[│┤|+]", "", line) for line in drawing.splitlines()[:-2]]
    if only_ascii:
        return [[r for r, line in enumerate(lines) if line[c : c + 1] == "*"] for c in range(max(map(len, lines)))]
    found = []
    for c in range(2 * max(map(len, lines))):
        codes = [ord(line[c // 2 : c // 2 + 1] or " ") for line in lines]
        bits = [(0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80)][c % 2]
        found.append([4 * r + d for r, code in enumerate(codes) if code > 0x2800 for d in range(4) if code & bits[d]])
    return found


# ---------------------------------------------------------------------------- values


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        (EXAMPLE, 12_000),
        (EXAMPLE, 300),
        ("Cyclic(0.1, 0.7, up=7)", 2001),
        ("Noam(d=512, warmup=4000)", 54_321),
        ("CosineRestarts(0.3, steps=10, mult=2, decay=0.9)", 5000),
        ("Linear(-1.0, -2.0, steps=7)", 10),
        ("Constant(0.1) * 0.3", 1),
    ],
)
def test_values_are_those_of_the_schedule(cli, text, steps):
    code, output = cli(text, "--steps", steps)
    assert code == 0
    values = [parse(text)(t) for t in range(steps)]
    peak = values.index(max(values))
    assert table(output) == {
        name: (t, f"{values[t]:.4g}", repr(values[t]))
        for name, t in (("first", 0), ("peak", peak), ("last", steps - 1))
    }
    rows = [line for line in output.splitlines() if line.startswith(("first", "peak", "last"))]
    assert len({re.search(r"\S+ +\S+ +\S+  ", row).end() for row in rows}) == 1  # aligned


def test_a_thousand_steps_if_nobody_says_how_many(cli):
    code, output = cli("Constant(1)")
    assert code == 0
    assert table(output)["last"] == (999, "1", "1.0")


def test_an_overflow_is_told(cli):
    code, output = cli("Exponential(1.0, 10.0)")
    assert code == 0
    assert table(output)["peak"] == (309, "inf", "inf")


@pytest.mark.parametrize("steps", [1, 2, COLUMNS - 1, COLUMNS, COLUMNS + 1, 12_345])
def test_points_have_what_decides_the_shape(steps):
    schedule = CosineRestarts(1.0, steps=37, decay=0.95) * -1
    t, values = schedule_points(schedule, steps)
    everything = schedule(np.arange(steps))
    assert np.array_equal(values, everything[t])
    assert np.all(np.diff(t) > 0)
    assert len(t) <= 4 * COLUMNS
    if steps <= COLUMNS:
        assert len(t) == steps
    bounds = [column * steps // COLUMNS for column in range(COLUMNS + 1)]
    for low, high in itertools.pairwise(bounds):
        if low < high:
            inside = values[(low <= t) & (t < high)]
            part = everything[low:high]
            assert (inside[0], inside.min(), inside.max(), inside[-1]) == (part[0], part.min(), part.max(), part[-1])


def test_a_single_step_among_millions_is_found():
    schedule = Piecewise((1.0, 3.0, 1.0, 0.5, 1.0, 0.0), (1_234_567, 1_234_568, 1_234_580, 1_234_581, 2_999_999))
    t, values = schedule_points(schedule, 3_000_000)
    assert set(values) == {1.0, 3.0, 0.5, 0.0}
    assert {0, 1_234_567, 1_234_580, 2_999_999} <= set(t.tolist())


def test_millions_of_steps_are_no_matter(cli):
    start = time.perf_counter()
    code, output = cli("CosineRestarts(1.0, steps=1000, mult=2)", "--steps", 3_000_000)
    assert code == 0
    assert table(output)["last"][0] == 2_999_999
    assert time.perf_counter() - start < 10  # takes less than one second


def test_memory_is_that_of_a_block():
    """With 10**9 steps, a block has 500 000 values; the values together would have 8 GB."""
    longest = 0

    class Counting(Constant):
        def __call__(self, t):
            nonlocal longest
            longest = max(longest, len(t))
            return np.full(len(t), 1.0)

    class Stop(Exception):
        pass

    def stop(share):
        if share > 0.01:
            raise Stop

    with pytest.raises(Stop):
        schedule_points(Counting(1.0), 10**9, stop)
    assert longest == 500_000


# ---------------------------------------------------------------------------- the drawing


def test_the_drawing_fits_80_columns_and_has_the_shape(cli):
    _, output = cli(EXAMPLE, "--steps", 12_000)
    drawing = output.partition("\n\n")[0]
    lines = drawing.splitlines()
    assert max(map(len, lines)) <= 80
    assert len(lines) == 18
    assert [line.split("┤")[0].strip() for line in lines if "┤" in line] == [
        "0.001", "0.0008", "0.0006", "0.0004", "0.0002", "0"
    ]  # fmt: skip
    assert lines[-1].split() == ["0", "2000", "4000", "6000", "8000", "10000"]
    assert lines[-2].endswith(" t")
    columns = heights(drawing)
    top, bottom = 0, 63
    assert columns[0][-1] == bottom
    schedule = parse(EXAMPLE)
    width = 2 * lines[-2].count("─") + 2 * lines[-2].count("┬")
    assert len(columns) == width
    for i in range(10, width):  # behind the steep part: where t is, at most a dot away
        expected = bottom - (bottom - top) * schedule(round(i * 11_999 / (width - 1))) / 1e-3
        assert min(abs(row - expected) for row in columns[i]) <= 1.0


@pytest.mark.parametrize("only_ascii", [False, True])
def test_lines_have_no_gaps(only_ascii):
    points = schedule_points(CosineRestarts(1.0, steps=100), 500)
    columns = heights(text_curve(points, only_ascii=only_ascii), only_ascii)
    assert all(columns)
    for one, other in itertools.pairwise(columns):
        assert min(other) - max(one) <= 1
        assert min(one) - max(other) <= 1


def test_a_logarithm_makes_a_straight_line(cli):
    code, output = cli("Exponential(1.0, 0.1, steps=100)", "--log", "--steps", 401)
    assert code == 0
    for label in ("1", "0.1", "0.01", "0.001", "0.0001"):
        assert re.search(rf"^ *{re.escape(label)}┤", output, re.MULTILINE)
    columns = heights(output.partition("\n\n")[0])
    line = np.linspace(0, 63, len(columns))
    assert all(abs(row - line[i]) <= 1.0 for i, rows in enumerate(columns) for row in rows)


def test_a_logarithm_leaves_out_zero(cli):
    code, output = cli("Linear(1.0, steps=500)", "--log", "--steps", 1000)
    assert code == 0
    assert len(heights(output.partition("\n\n")[0])) < 80  # of 150 columns of dots
    assert cli("Constant(0)", "--log") == (2, "optcore: there is nothing to draw: no value is finite and above 0\n")


@pytest.mark.parametrize("value", [0.0, 1.0, -3.0, 1e-20, 1e200, -1e200])
@pytest.mark.parametrize("steps", [1, 2, 1000])
def test_a_constant_is_a_line_in_the_middle(value, steps):
    drawing = text_curve(schedule_points(Constant(value), steps))
    rows = {row for column in heights(drawing) for row in column}
    assert len(rows) == 1
    assert 20 < rows.pop() < 43


@pytest.mark.parametrize(
    "schedule",
    [
        Linear(1.0, 1 + 1e-9, steps=900),
        Linear(1.0, np.nextafter(1.0, 2.0), steps=900),
        Linear(-1.7e308, 1.7e308, steps=900),
        Linear(1e-310, 3e-310, steps=900),
        Linear(1e250, -1e250, steps=900),
        Linear(5e-324, 1e300, steps=900),
        Constant(5e-324),
    ],
)
@pytest.mark.parametrize("log", [False, True])
def test_extremes_are_drawn_or_refused(cli, schedule, log):
    code, output = cli(repr(schedule), *["--log"] * log, "--save-plot", "picture.png")
    assert code in (0, 2)
    if code == 2:
        assert re.fullmatch("optcore: (there is nothing|values from .* are too small) .*\n", output)
    else:
        drawing = text_curve(schedule_points(schedule, 1000), log=log)
        labels = [line.split("┤")[0].strip() for line in drawing.splitlines() if "┤" in line]
        assert len(set(labels)) == len(labels) >= 2


@pytest.mark.parametrize("width", ["1", "40", "79", "300"])
def test_the_width_is_that_of_the_terminal_within_reason(cli, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", width)
    code, output = cli(EXAMPLE, "--steps", 12_000)
    assert code == 0
    assert max(map(len, output.splitlines())) == min(max(int(width), 40), 120)


def test_nothing_but_text_is_piped():
    for encoding, ascii_only in (("utf-8", False), ("ascii", True)):
        environment = {**os.environ, "PYTHONIOENCODING": encoding, "COLUMNS": "80", "FORCE_COLOR": "1"}
        command = [*COMMAND, EXAMPLE, "--steps", "12000"]
        result = subprocess.run(command, capture_output=True, env=environment, timeout=60)
        assert (result.returncode, result.stderr) == (0, b"")  # no progress where nobody watches
        text = result.stdout.decode(encoding)
        assert "\x1b" not in text
        assert "\r" not in text
        assert text.isascii() == ascii_only
        assert table(text)["peak"] == (499, "0.001", "0.001")


# ---------------------------------------------------------------------------- pictures


def test_a_picture_instead_of_the_drawing(cli, tmp_path):
    code, output = cli(EXAMPLE, "--steps", 12_000, "--save-plot", "picture.png")
    assert code == 0
    assert output.startswith("Picture: picture.png\n\n")
    assert "┤" not in output
    assert table(output)["last"] == (11_999, "0", "0.0")
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_a_file_that_cannot_be_written_is_named(cli, monkeypatch):
    def full(schedule, steps, path, **keywords):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("optcore.plot.save_schedule_curve", full)
    code, output = cli(EXAMPLE, "--save-plot", "picture.png")
    assert (code, output) == (1, "optcore: picture.png cannot be written: No space left on device\n")


# ---------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("Cosnie(1e-3, steps=5)", 0, "'Cosnie': there is no such schedule; did you mean 'Cosine'?"),
        ("Warmup(500, Cosnie(1e-3))", 12, "'Cosnie': there is no such schedule; did you mean 'Cosine'?"),
        ("  Warmup(5, Cosine(1, steps=0)) ", 10, "'Cosine(1, steps=0)': steps must be from 1 to 2**53, got 0"),
        ("Cosine(1e-3)", 0, "missing"),
        ("Cosine(1e-3, step=5)", 0, "unexpected keyword argument 'step'"),
        ("__import__('os').system('touch x')", 0, ""),
        ("Constant(open('x', 'w'))", 9, "'open': there is no such schedule"),
        ("Constant(1).__class__", 0, ""),
        ("Constant(1).__class__.__base__()", 0, ""),
        ("lambda t: 1 / t", 0, ""),
        ("[t for t in ()]", 0, ""),
        ("Constant(1) * Constant(x)", 23, "'x'"),
        ("0.1", 0, "this is no schedule; a constant one is Constant(...)"),
    ],
)
def test_a_mistake_is_pointed_at(cli, tmp_path, text, place, message):
    code, output = cli(text)
    first, second, third = output.splitlines()
    assert code == 2
    assert first.startswith("optcore: ")
    assert message in first
    assert (second, third) == (text.strip(), " " * place + "^")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot be read"),
        ("   ", "cannot be read"),
        ("Constant(1", "cannot be read: '(' was never closed"),
        ("import os", "cannot be read"),
        ("x = 1", "cannot be read"),
        ("Constant(1); Constant(2)", "cannot be read"),
        ("(" * 500 + "Constant(1)" + ")" * 500, "cannot be read"),
        ("Times(" + "1, " * 50 + ")", "there is no such schedule"),  # too long for a mark
        ("Constant(\nCosnie(1))", "there is no such schedule"),
        ("Cosnie('\x1b[31m')", r"\x1b[31m"),
        ("Constant('é')", "must be a finite number"),
        ("Plateau(0.1)", "Plateau is no function of time"),
        ("BackOff(0.1)", "BackOff is no function of time"),
    ],
)
def test_other_mistakes_are_one_line(cli, text, message):
    code, output = cli(text)
    assert code == 2
    assert output.startswith("optcore: ")
    assert message in output
    assert output.count("\n") == 1
    assert "\x1b" not in output


def test_feedback_belongs_into_a_program(cli):
    _, output = cli("Plateau(0.1, patience=3)")
    assert "use it there, as the lr of an optimizer" in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--steps", "0"], "--steps"),
        (["--steps", "-5"], "--steps"),
        (["--steps", "1e3"], "--steps"),
        (["--steps", "1_000_000_001"], "--steps"),
        (["--save-plot", "picture.xyz"], "picture.xyz must end in one of .eps, "),
        (["--save-plot", "nowhere/picture.png"], "--save-plot: nowhere/picture.png is a folder, or in a folder that"),
    ],
)
def test_bad_options_are_named(cli, arguments, message):
    code, output = cli("Constant(1)", *arguments)
    assert code == 2
    assert message in output.replace(os.sep, "/")
    assert "Traceback" not in output


def test_an_interruption_is_quiet(cli, monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("optcore.plot.schedule_points", interrupted)
    assert cli(EXAMPLE) == (130, "")


@pytest.mark.skipif(sys.platform == "win32", reason="has no SIGINT for a single process")
def test_an_interruption_from_the_keyboard():
    program = (
        "import os, signal, threading, time, tqdm\n"
        "from optcore import cli, plot\n"
        "def interrupt():\n"
        "    while True:  # an interrupt that strikes in a finalizer is lost\n"
        "        time.sleep(1.0)\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "threading.Thread(target=interrupt, daemon=True).start()\n"
        "cli.app(['schedule', 'Cosine(1.0, steps=1_000_000_000)', '--steps', '1_000_000_000'])"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stdout, result.stderr) == (130, "", "")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_help_names_the_options():
    help_text = " ".join(CliRunner().invoke(app, ["schedule", "--help"]).output.split())
    for part in ("--steps", "1000", "--log", "--save-plot", "never run as Python"):
        assert part in help_text
