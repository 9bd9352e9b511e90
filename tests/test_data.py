"""Files to learn from: what is read is what was written, and a broken file gets the line and column that is wrong."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from contextlib import nullcontext
from functools import partial

import numpy as np
import pandas
import pytest
from sklearn.datasets import load_diabetes
from typer.testing import CliRunner

from optcore.cli import app
from optcore.compare import Settings, runs, summary
from optcore.data import DataError, load_csv, load_file, load_parquet
from optcore.tasks import MANY_ROWS, load_task

ROWS = [f"{i},{i % 7},{i * i % 11}" for i in range(40)]


def text_of(rows=ROWS, names="age,b,y", end="\n"):
    return end.join([names, *rows]) + end


def changed(line, row):
    """The file with one line changed, counted from 1; the header is line 1."""
    return text_of([*ROWS[: line - 2], row, *ROWS[line - 1 :]])


def refusal(path, contents, target="y", load=load_csv):
    path.write_bytes(contents if isinstance(contents, bytes) else contents.encode())
    with pytest.raises(DataError) as info:
        load(path, target)
    message = str(info.value)
    assert "\n" not in message
    assert message.startswith(str(path))
    return message.removeprefix(str(path))


# ---------------------------------------------------------------------------- what is right


def test_every_bit_is_read(tmp_path):
    """Python's own float() says what the digits mean."""
    values = np.random.default_rng(0).normal(size=(200, 3)) * 10.0 ** np.arange(-20, 20, 15)
    rows = [",".join(map(repr, row)) for row in values.tolist()]
    (tmp_path / "t.csv").write_text(text_of(rows))
    data = load_csv(tmp_path / "t.csv", "y")
    expected = np.array([[float(cell) for cell in row.split(",")] for row in rows])
    # Older versions of pandas are off in the last bits of some numbers.
    np.testing.assert_array_max_ulp(np.column_stack([data.x, data.y]), expected, maxulp=4)
    assert data.x.dtype == data.y.dtype == np.float64
    assert data.x.flags.c_contiguous


@pytest.mark.parametrize(
    "text",
    [
        text_of(end="\r\n"),
        text_of(end="\r"),
        "\ufeff" + text_of(),
        "\n  \n" + text_of(),
        text_of() + "\n\n",
        text_of([*ROWS[:5], "", "   ", ",,", *ROWS[5:]]),
        text_of([row + "," for row in ROWS]),
        text_of([row.replace(",", ", ") for row in ROWS], "age, b, y"),
        text_of([",".join(f'"{cell}"' for cell in row.split(",")) for row in ROWS], '"age","b","y"'),
        text_of().removesuffix("\n"),
    ],
    ids=["crlf", "cr", "bom", "before", "behind", "between", "commas", "spaces", "quotes", "no end"],
)
def test_dialects_that_mean_the_same(tmp_path, text):
    (tmp_path / "t.csv").write_bytes(text.encode())
    data = load_csv(tmp_path / "t.csv", "y")
    assert data.columns == ("age", "b")
    assert data.x.tolist() == [[i, i % 7] for i in range(40)]
    assert data.y.tolist() == [i * i % 11 for i in range(40)]


def test_true_and_false_are_numbers(tmp_path):
    (tmp_path / "t.csv").write_text(text_of([f"{i},{i % 3 == 0},{i}" for i in range(40)]))
    assert load_csv(tmp_path / "t.csv", "y").x[:, 1].tolist() == [float(i % 3 == 0) for i in range(40)]


def test_a_class_is_one_class_in_all_pieces(tmp_path):
    """pandas reads long files in pieces, of which the first has numbers alone here."""
    count = 300_000
    rows = [f"{i % 10},{i % 7},01" for i in range(count)] + [f"{i},1,x" for i in range(10)]
    (tmp_path / "t.csv").write_text(text_of(rows))
    data = load_csv(tmp_path / "t.csv", "y")
    assert data.classes == ("01", "x")
    assert data.y.sum() == 10


@pytest.mark.parametrize(
    ("cells", "classes"),
    [
        ([f"{i % 3}" for i in range(40)], (0, 1, 2)),
        ([f"{i % 3}.0" for i in range(40)], (0, 1, 2)),
        ([f"{i % 20 - 5}" for i in range(200)], tuple(range(-5, 15))),
        ([f"{i % 21}" for i in range(300)], None),  # more than 20 differ
        ([f"{i % 5}" for i in range(49)], None),  # fewer than ten rows for each
        ([f"{i % 3 / 2}" for i in range(40)], None),
        (["abc"[i % 3] for i in range(40)], ("a", "b", "c")),
        (["12x"[i % 3] for i in range(39)], None),  # most are numbers: x is a mistake
        ([f"{i % 30 // 2}" for i in range(300)], tuple(range(15))),
    ],
)
def test_what_a_target_is_taken_for(tmp_path, cells, classes):
    rows = [f"{i},{i % 7},{cell}" for i, cell in enumerate(cells)]
    path = tmp_path / "t.csv"
    path.write_text(text_of([*rows[:5], "", *rows[5:]]))
    if classes is None and "x" in cells:
        with pytest.raises(
            DataError, match=r"line 4, column 'y': 'x' is not a number; a target has numbers, or classes"
        ):
            load_file(path, "y", "auto")
        assert load_file(path, "y", "classification").classes == ("1", "2", "x")
        return
    found = load_file(path, "y", "auto")
    assert found.classes == classes
    if classes is None:
        assert found.y.tolist() == [float(cell) for cell in cells]
    else:
        assert [str(classes[int(place)]) for place in found.y] == [cell.removesuffix(".0") for cell in cells]
        assert [type(name) for name in found.classes] == [type(name) for name in classes]
        with pytest.raises(DataError) if isinstance(classes[0], str) else nullcontext():
            assert load_file(path, "y", "regression").classes is None
    forced = load_file(path, "y", "classification")
    assert len(forced.classes) == len(set(cells))


def test_two_numbers_can_be_numbers(tmp_path):
    (tmp_path / "t.csv").write_text(text_of([f"{i},{i % 7},{i % 2}" for i in range(40)]))
    assert load_file(tmp_path / "t.csv", "y").classes == (0, 1)
    found = load_file(tmp_path / "t.csv", "y", "regression")
    assert found.classes is None
    assert found.y.tolist() == [0.0, 1.0] * 20


def test_a_class_of_one_row_is_named(tmp_path):
    rows = [f"{i},{i % 7},{'abc'[i % 3]}" for i in range(39)]
    message = refusal(tmp_path / "t.csv", text_of([*rows, "1,2,d"]), load=partial(load_csv, kind="auto"))
    assert message == ": 'y' has 4 different values, and is d in one row only; a class needs at least 2"


# ---------------------------------------------------------------------------- what is wrong


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (changed(17, "abc,1,2"), ", line 17, column 'age': 'abc' is not a number; encode the column"),
        (changed(17, "1 2,1,2"), ", line 17, column 'age': '1 2' is not a number"),
        (changed(17, "1_0,1,2"), ", line 17, column 'age': '1_0' is not a number"),
        (changed(17, "2020-01-01,1,2"), ", line 17, column 'age': '2020-01-01' is not a number"),
        (changed(17, "1,,2"), ", line 17, column 'b': the value is missing"),
        (changed(17, "1,NaN,2"), ", line 17, column 'b': the value is missing"),
        (changed(17, "1,2,"), ", line 17, column 'y': the value is missing"),
        (changed(17, "1,inf,2"), ", line 17, column 'b': inf is too large"),
        (changed(17, "1,2,-Infinity"), ", line 17, column 'y': -inf is too large"),
        (changed(17, "1,2"), ", line 17: 2 cells instead of 3, nothing for column 'y'"),
        (changed(2, "1,2"), ", line 2: 2 cells instead of 3, nothing for column 'y'"),
        (changed(17, "1"), ", line 17: 1 cell instead of 3, nothing for column 'b'"),
        (changed(17, "\t"), ", line 17: 1 cell instead of 3, nothing for column 'b'"),
        (text_of(["", *[row + "," for row in ROWS]]), ", line 3: 4 cells instead of 3, more than the header"),
        (text_of([*[row + "," for row in ROWS], "1,2,,"]), ", line 42, column 'y': the value is missing"),
        (changed(17, "1,2,3,4"), ", line 17: 4 cells instead of 3, more than the header"),
        (changed(17, "1,2,3,"), ", line 17: 4 cells instead of 3, more than the header"),
        (changed(2, "1,2,3,4"), ", line 2: 4 cells instead of 3, more than the header"),
        (changed(17, '1,"2,3'), ', line 17, cell 2: a quote (") is opened and not closed'),
        (changed(17, '1,2,"3'), ', line 17, cell 3: a quote (") is opened and not closed'),
        (changed(17, '1,"2,3') + "x" * 200_000, ', line 17, cell 2: a quote (") is opened and not closed'),
        (
            text_of([*ROWS[:5], '1,"2,3', '1,2",3', *ROWS[7:]]).replace('2",3', '2"'),
            ", lines 7 to 8, which a quote makes one row: 2 cells instead of 3, nothing for column 'y'",
        ),
        (text_of([*ROWS[:5], '"\n\n7",x,3', *ROWS[6:]]), ", line 9, column 'b': 'x' is not a number"),
        (text_of(['"\n7",1,3', *ROWS[1:5], "7,x,3", *ROWS[6:]]), ", line 8, column 'b': 'x' is not a number"),
        ("\n\n" + changed(17, "x,1,1"), ", line 19, column 'age': 'x' is not a number"),
        (text_of([*ROWS[:5], "", "  ", *ROWS[5:9], "x,1,1", *ROWS[9:]]), ", line 13, column 'age': 'x' is not a"),
        (changed(17, "x,1,1").replace("\n", "\r\n"), ", line 17, column 'age': 'x' is not a number"),
        (changed(17, "\ufeffx,1,1"), ", line 17, column 'age': '\\ufeffx' is not a number"),
        (text_of(names="age,y,y"), " has more than one column 'y'; each needs a name of its own"),
        (text_of().replace(",", ";"), ", line 1: the names seem to be separated by semicolons; only commas are read"),
        (text_of().replace(",", "\t"), ", line 1: the names seem to be separated by tabs; only commas are read"),
        ("", " is empty; a header and rows of numbers are needed"),
        ("\n \n", " is empty; a header and rows of numbers are needed"),
        ("age,b,y\n", " has 0 rows of data; at least 10 are needed"),
        ("age,b,y", " has 0 rows of data; at least 10 are needed"),
        (
            changed(17, "1,é,2").encode("latin-1"),
            ", line 17, cell 2: the byte 0xe9 is not UTF-8 text; save the file as",
        ),
        (text_of(names="âge,b,y").encode("latin-1"), ", line 1, cell 1: the byte 0xe2 is not UTF-8 text"),
        (text_of().encode("utf-16"), " is UTF-16; save it as UTF-8"),
    ],
)
def test_the_place_is_named(tmp_path, text, message):
    assert refusal(tmp_path / "t.csv", text).startswith(message)


def test_the_place_far_into_a_long_file(tmp_path):
    rows = [f"{i},{i % 7},{i % 11}" for i in range(50_000)]
    for row, message in (
        ("x,1,1", ", line 40002, column 'age': 'x' is not a number"),
        ("1,1", ", line 40002: 2 cells instead of 3"),
        ("1,1,1,1", ", line 40002: 4 cells instead of 3"),
        ("1,1,1,\xff".encode("latin-1").decode("latin-1"), ", line 40002: 4 cells"),
        ('"1,1,1', ', line 40002, cell 1: a quote (") is opened and not closed'),
    ):
        rows[40_000] = row
        assert refusal(tmp_path / "t.csv", text_of(rows)).startswith(message)
    rows[40_000] = "1,\xff,1"
    message = ", line 40002, cell 2: the byte 0xff is not UTF-8 text"
    assert refusal(tmp_path / "t.csv", text_of(rows).encode("latin-1")).startswith(message)


# ---------------------------------------------------------------------------- Parquet


@pytest.fixture
def arrow():
    return pytest.importorskip("pyarrow", exc_type=ImportError)  # which it raises beside a NumPy that is too old


def test_parquet_is_the_data_set_it_was_written_from(tmp_path, arrow):
    frame = load_diabetes(as_frame=True, scaled=False).frame
    for name in ("d.parquet", "d.PQ"):
        frame.to_parquet(tmp_path / name)
        data = load_task(str(tmp_path / name), "target").data
        assert (data.name, data.target, data.columns) == ("d", "target", tuple(frame.columns[:-1]))
        assert np.array_equal(data.x, frame.to_numpy()[:, :-1])
        assert np.array_equal(data.y, frame["target"])


@pytest.mark.parametrize("dtype", ["str", "category", "bool", "object"])
def test_classes_of_a_parquet_file(tmp_path, arrow, dtype):
    kinds = pandas.Series([False, True] * 10) if dtype == "bool" else pandas.Series(["a", "b"] * 10, dtype=dtype)
    frame = pandas.DataFrame({"x": np.arange(20, dtype=np.float32), "kind": kinds}, index=np.arange(20) * 3)
    frame["kind"] = kinds.to_numpy() if dtype == "bool" else kinds.array
    frame.to_parquet(tmp_path / "t.parquet")
    data = load_parquet(tmp_path / "t.parquet", "kind")
    assert data.classes == ((False, True) if dtype == "bool" else ("a", "b"))
    assert {type(name) for name in data.classes} == {bool if dtype == "bool" else str}
    assert data.y.tolist() == [0.0, 1.0] * 10
    assert data.x[:, 0].tolist() == list(range(20))


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ([*range(7), None, *range(12)], ", row 8, column 'a': the value is missing"),
        ([*range(7), np.inf, *range(12)], ", row 8, column 'a': inf is too large"),
        ([*map(str, range(7)), "x", *map(str, range(12))], ", row 8, column 'a': 'x' is not a number; encode the"),
        (pandas.date_range("2020-01-01", periods=20), ", column 'a': datetime64["),
    ],
)
def test_the_place_in_a_parquet_file(tmp_path, arrow, column, message):
    frame = pandas.DataFrame({"a": column, "y": range(20)})
    frame.to_parquet(tmp_path / "t.parquet")
    contents = (tmp_path / "t.parquet").read_bytes()
    assert refusal(tmp_path / "t.parquet", contents, load=load_parquet).startswith(message)
    assert refusal(tmp_path / "t.parquet", contents, "z", load_parquet).startswith(" has no column 'z'")


@pytest.mark.parametrize("contents", [b"", b"a,y\n1,2\n", b"PAR1PAR1"])
def test_a_file_that_is_no_parquet(tmp_path, arrow, contents):
    assert refusal(tmp_path / "t.parquet", contents, load=load_parquet).startswith(" is not a Parquet file: ")


def test_pyarrow_missing_is_named(tmp_path):
    (tmp_path / "t.parquet").touch()
    program = (
        "import sys; sys.modules['pyarrow'] = None; sys.argv = ['optcore', 'compare', 't.parquet', '--target', 'y']\n"
        "from optcore.cli import main; main()"
    )
    result = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stderr) == (1, 'optcore: pyarrow is missing; pip install "optcore[all]"\n')


# ---------------------------------------------------------------------------- many rows


def test_many_rows_are_seen_less_often(tmp_path):
    random = np.random.default_rng(0)
    x = random.normal(size=(50_000, 3))
    frame = pandas.DataFrame(np.column_stack([x, x @ [1.0, -2.0, 0.5]]), columns=[*"abc", "y"])
    frame.to_csv(tmp_path / "t.csv", index=False)
    tracemalloc.start()
    task = load_task(str(tmp_path / "t.csv"), "y")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # The table, its rows dealt out, and these standardised with an intercept. An object for each cell would add 4.
    assert peak < 5 * frame.to_numpy().nbytes
    assert len(task.y) == 4 * MANY_ROWS
    assert task.epochs == 200 // 4
    settings = Settings(("sgd",), rates=(0.01,), epochs=1)
    (row,) = summary(task, settings, list(runs(task, settings))).rows
    assert (row.run.steps[-1], row.outcome) == (4 * MANY_ROWS // 64, "converged")
    assert load_task("diabetes").epochs == 200


@pytest.mark.parametrize(
    ("rows", "arguments", "epochs", "said"),
    [(12_500, [], 200, False), (25_000, [], 100, True), (25_000, ["--epochs", "2"], 2, False)],
)
def test_fewer_epochs_are_said(tmp_path, monkeypatch, rows, arguments, epochs, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.csv").write_text(text_of([f"{i % 101},{i % 7},{i % 13}" for i in range(rows)]))
    command = ["compare", "t.csv", "--target", "y", "--optimizers", "sgd", "--lr", "0.01", "--batch-size", "1000"]
    output = CliRunner().invoke(app, [*command, *arguments]).output
    assert f"\n{epochs} epochs in batches of at most 1000 rows" in output
    assert ("There are fewer epochs, as there are more than 10000 rows" in output) == said
