"""Gradients of some rows of a table: the bits of the reference, and of the whole gradient where that is promised."""

import re
import signal

import numpy as np
import pytest
from support import DTYPES, FORM_IDS, FORMS, Reference, accepted, bits, gradients, make, start

import optcore as oc

STEPS = 6
LAZY = [
    (name, form) for name, form in FORMS if name not in ("lamb", "lars", "schedule_free_sgd", "schedule_free_adamw")
]
TRANSFORMS = {
    "plain": {},
    "before": {"maximize": True, "clip_norm": 3.0, "clip_value": 0.5, "weight_decay": 0.1},
    "after": {"weight_decay": 0.1, "decoupled_weight_decay": True, "bounds": (-0.5, 0.75)},
}
# Height, trailing shape, rows of each step: one, many, repeated, unsorted, adjacent, none; longer than all blocks.
TABLES = [
    (7, (), ([3], [5, 0, 5, 5, 6], [], [0, 1, 2, 3, 4, 5, 6], [6, 6], [2])),
    (5, (3,), ([4], [1, 1, 0], [0, 2, 4], [], [3, 2, 1, 0, 3], [2])),
    (4, (2, 1030), ([2], [3, 0], [1, 3, 1], [0, 1, 2, 3], [], [3, 3])),
    (6000, (), ([0, 4095, 4096, 5999], list(range(0, 6000, 2)), list(range(5999, -1, -7)), [4097], [4097] * 3, [1])),
]


def table(height, trailing, dtype):
    return start(height * int(np.prod(trailing)), dtype).reshape(height, *trailing)


def steps(tables, dtype):
    """For each step rows and their gradients, one of each for every table; small enough for norms to be finite."""
    for t in range(STEPS):
        rows = [np.array(schedule[t], np.int64) for _, _, schedule in tables]
        yield (
            rows,
            [
                gradients(index.size * int(np.prod(trailing)), STEPS, dtype, seed=t, awkward=False)[t].reshape(
                    index.size, *trailing
                )
                for index, (_, trailing, _) in zip(rows, tables, strict=True)
            ],
        )


def whole(param, rows, values):
    gradient = np.zeros_like(param)
    np.add.at(gradient, rows, values)
    return gradient


def assert_reference(opt, expected):
    for k, (p, kept) in enumerate(zip(opt.params, opt.state.values(), strict=True)):
        assert bits(p) == bits(np.array(expected.params[k], p.dtype).reshape(p.shape))
        for key, array in zip(opt._rule.state, expected.states[k], strict=True):
            assert bits(kept[key]) == bits(np.array(array, p.dtype).reshape(p.shape)), key


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("name", "form"), LAZY, ids=[i for f, i in zip(FORMS, FORM_IDS, strict=True) if f in LAZY])
def test_rows_are_those_of_the_reference(name, form, dtype, transform):
    """Several tables of other widths, and an array whose gradient is whole, in one optimizer."""
    options = accepted(name, TRANSFORMS[transform])
    params = [*(table(height, trailing, dtype) for height, trailing, _ in TABLES[:3]), start(5, dtype)]
    opt = make(name, form, params, **options)
    expected = Reference(opt, **options)
    for rows, values in steps(TABLES[:3], dtype):
        dense = gradients(5, 1, dtype, awkward=False)[0]
        opt.step([*values, dense], [*rows, None])
        expected.step([*values, dense], [*(index.tolist() for index in rows), None])
    assert_reference(opt, expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_bounds_that_are_arrays(dtype):
    shape, schedule = (4, 700), ([2, 0], [3, 3, 1])
    lower, upper = (np.sort(start(2 * 2800, dtype).reshape(2, *shape), axis=0)[side].copy() for side in (0, 1))
    opt = oc.Momentum([table(4, (700,), dtype)], lr=0.5, bounds=([lower], [upper]))
    expected = Reference(opt, bounds=(lower.ravel(), upper.ravel()))
    for rows in schedule:
        values = gradients(len(rows) * 700, 1, dtype, awkward=False)[0].reshape(-1, 700)
        opt.step([values], [np.array(rows)])
        expected.step([values], [rows])
    assert_reference(opt, expected)


@pytest.mark.parametrize(
    "options", [{}, {"maximize": True, "clip_norm": 3.0, "clip_value": 0.5}], ids=["plain", "clipped"]
)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["sgd", "gradient_scaled", "adagrad"])
def test_lazy_is_dense(name, dtype, options):
    """Where a gradient of zero changes nothing, rows make the step of the whole gradient: clip_norm's norm included."""
    lazy = [table(height, trailing, dtype) for height, trailing, _ in TABLES]
    dense = [p.copy() for p in lazy]
    opt, expected = make(name, {}, lazy, **options), make(name, {}, dense, **options)
    for rows, values in steps(TABLES, dtype):
        opt.step(values, rows)
        expected.step([whole(p, *given) for p, *given in zip(dense, rows, values, strict=True)])
    assert opt.t == STEPS
    for p, q in zip(lazy, dense, strict=True):
        assert bits(p) == bits(q)
    for here, there in zip(opt.state.values(), expected.state.values(), strict=True):
        assert all(bits(here[key]) == bits(there[key]) for key in here)


@pytest.mark.parametrize("name", ["adam", "momentum", "rprop"])
def test_other_rows_are_not_touched(name):
    p = table(5, (3,), np.float64)
    opt = make(name, {}, p)
    opt.step(np.ones((5, 3)))
    before = [array.copy() for array in (p, *opt.state["0"].values())]
    opt.step(np.ones((2, 3)), rows=np.array([4, 1]))
    for array, old in zip((p, *opt.state["0"].values()), before, strict=True):
        assert bits(array[[0, 2, 3]]) == bits(old[[0, 2, 3]])
    assert (p[[1, 4]] != before[0][[1, 4]]).all()


def test_a_mapping_names_the_tables_that_are_sparse():
    params = {"W": np.zeros((3, 2)), "b": np.zeros(2)}
    opt = oc.SGD(params, lr=1.0)
    opt.step(grads={"W": np.ones((1, 2)), "b": np.ones(2)}, rows={"W": np.array([1])})
    assert params["W"].tolist() == [[0, 0], [-1, -1], [0, 0]]
    assert params["b"].tolist() == [-1, -1]
    opt.step({"W": np.ones((3, 2)), "b": np.ones(2)})
    assert params["W"].tolist() == [[-1, -1], [-2, -2], [-1, -1]]


def test_repeated_rows_are_summed_in_order():
    """1e16 + 1 + 1 loses both ones, 1 + 1 + 1e16 does not."""
    for values in ([1e16, 1.0, 1.0], [1.0, 1.0, 1e16]):
        p = np.zeros(3)
        oc.SGD(p, lr=1.0).step(np.array([values[0], 7.0, *values[1:]]), rows=np.array([2, 0, 2, 2]))
        assert p.tolist() == [-7.0, 0.0, -((values[0] + values[1]) + values[2])]


@pytest.mark.parametrize("dtype", DTYPES)
def test_threads_do_not_matter(dtype):
    results = []
    for threads in (1, 2, 3):
        params = [start(40_000, dtype), start(60_000, dtype).reshape(300, 200)]
        opt = oc.Adam(params, threads=threads, clip_norm=1.0)
        for t in range(3):
            rows = [np.arange(t, 40_000, 3), np.arange(299 - t, -1, -2)]
            values = [
                gradients(rows[0].size, 3, dtype, awkward=False)[t],
                gradients(rows[1].size * 200, 3, dtype, awkward=False)[t].reshape(-1, 200),
            ]
            opt.step(values, rows)
            opt.step([start(40_000, dtype, t), start(60_000, dtype, t).reshape(300, 200)])  # and all again
        results.append([bits(array) for array in (*params, *opt.state["1"].values())])
    assert results[0] == results[1] == results[2]


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", ">i4"])
def test_every_integer_type(dtype):
    p, q = np.zeros((5, 2)), np.zeros((5, 2))
    oc.SGD(p, lr=1.0).step(np.arange(6.0).reshape(3, 2), rows=np.array([4, 0, 4, 1, 4], dtype)[::2])
    oc.SGD(q, lr=1.0).step(np.arange(6.0).reshape(3, 2), rows=np.array([4, 4, 4]))
    assert bits(p) == bits(q)
    assert p[4].tolist() == [-6.0, -9.0]


BAD = {
    "negative": (np.array([0, -1]), ValueError, "the rows of 'W' must be from 0 to 3, got -1; they are not counted"),
    "too large": (np.array([0, 4]), ValueError, "the rows of 'W' must be from 0 to 3, got 4"),
    "far too large": (np.array([0, 2**64 - 1], np.uint64), ValueError, "got 18446744073709551615"),
    "floats": (np.array([0.0, 1.0]), TypeError, "the rows of 'W' must be an array of integers, got dtype float64"),
    "mask": (np.array([True, False]), TypeError, "got dtype bool; numpy.flatnonzero"),
    "list": ([0, 1], TypeError, "the rows of 'W' must be an array of integers, got list; use numpy.array"),
    "column": (np.array([[0], [1]]), ValueError, "the rows of 'W' must have shape (k,), got (2, 1); use .ravel()"),
    "length": (np.array([0, 1, 2]), ValueError, "has shape (2, 3), but for 3 rows of a parameter of shape (4, 3)"),
}


@pytest.mark.parametrize("bad", BAD)
def test_bad_rows_are_refused_and_change_nothing(bad):
    rows, kind, message = BAD[bad]
    W, b = np.ones((4, 3)), np.ones(2)
    opt = oc.Adam({"b": b, "W": W})
    grads = {"b": np.ones(2), "W": np.ones((2, 3))}
    with pytest.raises(kind, match=re.escape(message)):
        opt.step(grads, rows={"b": np.array([0, 1]), "W": rows})
    assert (W == 1).all()
    assert (b == 1).all()
    assert opt.t == 0
    opt.step({"b": np.ones(2), "W": np.ones((4, 3))})  # what was refused has left nothing behind
    assert opt.t == 1


def test_bad_structures_are_refused():
    pair, one = [np.ones((4, 3)), np.ones(2)], np.ones((4, 3))
    grads, rows = [np.ones((1, 3)), np.ones(2)], np.array([0])
    for params, given, message in [
        (pair, (grads, rows), "rows must be a list or tuple of 2 integer arrays, as the parameters are, got array"),
        (pair, (grads, [rows]), "got rows for 1 of 2 parameters; give None"),
        (one, (np.ones((1, 3)), [0]), "rows must be an integer array or a list or tuple of 1 integer arrays"),
        (one, (np.ones((1, 3)), 0), "got 0; use numpy.array"),
        (one, (np.ones((0, 3)), np.array([])), "got dtype float64; use .astype(int)"),
        (np.ones((0, 3)), (np.ones((1, 3)), rows), "must be none, as the parameter has no rows, got 0"),
        (one, (None, rows), "rows= says which rows the gradients are for"),
        (
            {"W": one},
            ({"W": np.ones((1, 3))}, rows),
            "rows must be a mapping of names, as the parameters are, got ndarray",
        ),
        ({"W": one}, ({"W": np.ones((1, 3))}, {"V": rows}), "rows has unknown names: ['V']; the parameters are ['W']"),
        (one, (np.ones((1, 3), np.float32), rows), "the gradient of '0' has dtype float32, but must be float64"),
        (
            one,
            (np.ones((3, 2)).T[:1], rows),
            "the gradient of '0' with shape (1, 3) and strides (8, 16) is not C-contiguous",
        ),
        (one, (one[:1], rows), "the gradient of '0' shares memory with parameter '0'"),
        (np.ones(()), (np.ones(1), rows), "parameter '0' has shape (), so it has no rows"),
    ]:
        opt = oc.SGD(params, lr=1.0)
        with pytest.raises((TypeError, ValueError), match=re.escape(message)):
            opt.step(*given)
        assert opt.t == 0
    assert all((p == 1).all() for p in (one, *pair))


def test_rows_in_memory_that_the_step_changes():
    """A copy of the indices is used."""
    memory = np.zeros(4)
    oc.SGD(memory, lr=1.0).step(np.ones(4), rows=memory.view(np.int64))
    assert memory.tolist() == [-4.0, 0.0, 0.0, 0.0]


class Lying(np.ndarray):
    """Its extremes are not those of its memory."""

    def min(self, *_, **__):
        return 0

    max = min


def test_arrays_whose_memory_is_not_all_of_them_are_refused():
    whole = np.zeros((100, 3))
    opt = oc.SGD(whole[:4], lr=1.0)
    for rows in (np.ma.array([0, 99], mask=[False, True]), np.array([0, 99]).view(Lying)):
        with pytest.raises(TypeError, match=r"must be an array of integers, got (MaskedArray|Lying)"):
            opt.step(np.ones((2, 3)), rows=rows)
    assert (whole == 0).all()


def test_unaligned_rows():
    memory = np.zeros(17, np.uint8)
    rows = memory[1:].view(np.int64)
    rows[:] = 2, 0
    p = np.zeros(3)
    oc.SGD(p, lr=1.0).step(np.array([1.0, 2.0]), rows=rows)
    assert p.tolist() == [-2.0, 0.0, -1.0]


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs timer signals")
def test_arrays_that_a_signal_resizes_during_the_look():
    """Each step is whole, or refused: it never writes where the array was."""
    rows = np.arange(2999, -1, -1)
    params: list[np.ndarray] = []
    before = signal.signal(signal.SIGALRM, lambda *_: params[0].resize(1, refcheck=False))
    refused = 0
    try:
        for _ in range(300):
            params[:] = np.zeros(3000), np.zeros((3000, 2))
            opt = oc.SGD(list(params), lr=1.0)
            signal.setitimer(signal.ITIMER_REAL, 50e-6)
            try:
                opt.step([np.ones(3000), np.ones((3000, 2))], [rows, rows])
            except ValueError:
                refused += 1
            signal.setitimer(signal.ITIMER_REAL, 0)
            assert (params[1] == -opt.t).all()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert refused > 0


@pytest.mark.parametrize("name", ["lamb", "lars", "schedule_free_sgd", "schedule_free_adamw"])
def test_rules_that_need_all_rows_say_so(name):
    opt = make(name, {}, np.ones((4, 3)))
    with pytest.raises(ValueError, match=f"{type(opt).__name__} needs all of a parameter at every step"):
        opt.step(np.ones((1, 3)), rows=np.array([0]))


def test_averages_need_all_rows():
    with pytest.raises(ValueError, match="an average follows all rows"):
        oc.SGD(np.ones((4, 3)), lr=1.0, averaging=oc.EMA()).step(np.ones((1, 3)), rows=np.array([0]))


def test_values_that_are_not_finite():
    """The sum counts, and the message gives the place in the table."""
    p = np.ones((4, 3))
    opt = oc.SGD(p, lr=1.0, on_nonfinite="raise")
    values = np.zeros((3, 3))
    values[[0, 2], 1] = 1e308
    with pytest.raises(
        FloatingPointError, match=re.escape("the gradient of '0' has inf for element (3, 1) of the parameter")
    ):
        opt.step(values, rows=np.array([3, 0, 3]))
    skipping = oc.SGD(p, lr=1.0, on_nonfinite="skip")
    skipping.step(values, rows=np.array([3, 0, 3]))
    assert (skipping.skipped, skipping.t, opt.t) == (1, 0, 0)
    assert (p == 1).all()


# ---------------------------------------------------------------------- a worked example

TEXT = """
the king rules the land and the queen rules the land . the king and the queen live in the castle . a farmer works
the field and a baker bakes the bread . the farmer sells the grain and the baker sells the bread . the king eats the
bread and the queen eats the bread . the farmer eats the grain . the baker works in the bakery and the farmer works in
the field . the king lives in the castle and the queen lives in the castle . a king rules and a queen rules .
"""


def cooccurrences(words, window=4):
    """Which words are near which, and how near: X[i, j] sums 1 / distance (Pennington et al. 2014, section 3.1)."""
    vocabulary = sorted(set(words))
    number = {word: i for i, word in enumerate(vocabulary)}
    X = np.zeros((len(vocabulary),) * 2)
    for place, word in enumerate(words):
        for distance in range(1, min(window, place) + 1):
            other = words[place - distance]
            X[number[word], number[other]] += 1 / distance
            X[number[other], number[word]] += 1 / distance
    return vocabulary, X


def test_word_vectors_by_adagrad():
    """GloVe, equation 8: one weighted least squares over the pairs that occur, in small batches of them."""
    vocabulary, X = cooccurrences(TEXT.split())
    rng = np.random.default_rng(0)
    params = {name: rng.uniform(-0.5, 0.5, (len(vocabulary), 8)) / 8 for name in ("words", "contexts")}
    params |= {f"{name} bias": np.zeros(len(vocabulary)) for name in ("words", "contexts")}
    dense = {name: p.copy() for name, p in params.items()}
    opt, whole_steps = (oc.Adagrad(p, lr=0.05, initial_accumulator=1.0) for p in (params, dense))
    pairs = np.argwhere(X > 0)
    losses = []
    for _ in range(60):
        total = 0.0
        for batch in np.array_split(rng.permutation(pairs), len(pairs) // 16):
            i, j = batch.T
            weight = np.minimum(X[i, j] / 10, 1) ** 0.75
            w, c = params["words"][i], params["contexts"][j]
            error = (w * c).sum(1) + params["words bias"][i] + params["contexts bias"][j] - np.log(X[i, j])
            total += float(weight @ error**2)
            slope = weight * error
            grads = {"words": slope[:, None] * c, "contexts": slope[:, None] * w}
            grads |= {"words bias": slope, "contexts bias": slope.copy()}
            rows = {name: j if "contexts" in name else i for name in params}
            opt.step(grads, rows)
            whole_steps.step({name: whole(dense[name], rows[name], grads[name]) for name in params})
        losses.append(total)
    assert losses[-1] < 0.2 * losses[0]
    assert all(bits(params[name]) == bits(dense[name]) for name in params)
    vectors = params["words"] + params["contexts"]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    king, queen, grain = (vectors[vocabulary.index(word)] for word in ("king", "queen", "grain"))
    assert king @ queen > king @ grain
