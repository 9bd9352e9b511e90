"""Parameters and gradients of other libraries: stepped where they lie, or refused by name; and state on the disk."""

import array
import copy
import ctypes
import gc
import mmap
import pickle
import subprocess
import sys
import tempfile
import tracemalloc
import weakref

import numpy as np
import pytest
from support import DTYPES, FORM_IDS, FORMS, bits, gradients, make, start

import optcore as oc
from optcore import _engine
from optcore.buffers import as_array
from optcore.search import SPSA

NEW_DLPACK = np.lib.NumpyVersion(np.__version__) >= "2.1.0"


class Exporter:
    """What another library's array may be: DLPack of NumPy's, of this version of the protocol, and from this device."""

    def __init__(self, values, keywords=True, device=(1, 0)):
        self.values, self.keywords, self.device = values, keywords, device

    def __dlpack_device__(self):
        return self.device

    def __dlpack__(self, **keywords):
        if keywords and not self.keywords:
            raise TypeError("__dlpack__() takes no keyword arguments")
        return self.values.__dlpack__(**keywords)


class ExporterAndArray(Exporter):
    """One that NumPy can also make an array of, as it can of torch's and JAX's."""

    def __array__(self, dtype=None, copy=None):
        return self.values


class Both(bytearray):
    """Exports a buffer; its DLPack is never asked."""

    def __dlpack_device__(self):
        raise AssertionError

    def __dlpack__(self, **keywords):
        raise AssertionError


def of_torch(values):
    return pytest.importorskip("torch").from_numpy(values)


def code(values):
    return "f" if values.dtype == np.float32 else "d"


def mapped(values):
    memory = mmap.mmap(-1, max(values.nbytes, 1))
    memory[: values.nbytes] = values.tobytes()
    return memoryview(memory).cast(code(values))


def in_ctypes(values):
    kind = {"f": ctypes.c_float, "d": ctypes.c_double}[code(values)]
    return (kind * values.size)(*values.tolist())


def in_file(values):
    with tempfile.TemporaryFile() as file:
        made = np.memmap(file, values.dtype, "w+", shape=values.shape)
    made[...] = values
    return made


# Each makes a flat array of another library from one of NumPy's, whose memory may be used.
EXPORTERS = {
    "memmap": in_file,
    "array": lambda values: array.array(code(values), values.tobytes()),
    "memoryview": lambda values: values.data,
    "bytearray": lambda values: memoryview(bytearray(values.tobytes())).cast(code(values)),
    "mmap": mapped,
    "ctypes": in_ctypes,
    "DLPack": ExporterAndArray,
    "old DLPack": lambda values: ExporterAndArray(values, keywords=False),
    "torch": of_torch,
    "torch's parameter": lambda values: pytest.importorskip("torch").nn.Parameter(of_torch(values)),
}
if NEW_DLPACK:  # older versions cannot say that the memory may be written
    EXPORTERS["DLPack alone"] = Exporter


def numbers(exporter):
    """What another library's array holds."""
    if isinstance(exporter, Exporter):
        return exporter.values
    return np.asarray(exporter.detach() if hasattr(exporter, "detach") else exporter)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", EXPORTERS)
def test_every_optimizer_steps_them_where_they_lie(kind, dtype):
    for (name, form), ident in zip(FORMS, FORM_IDS, strict=True):
        given, expected = EXPORTERS[kind](start(5, dtype)), start(5, dtype)
        opt, there = make(name, form, given), make(name, form, expected)
        for g in gradients(5, 4, dtype):
            opt.step(EXPORTERS[kind](g.copy()))
            there.step(g)
        assert bits(numbers(given)) == bits(expected), ident
        assert bits(opt.params) == bits(expected), ident


@pytest.mark.parametrize("kind", EXPORTERS)
def test_structures(kind):
    """One array, a list, a mapping and groups; the gradients are bound, and others'."""

    def exporters(*values):
        return [EXPORTERS[kind](np.array(v)) for v in values]

    p, q, g, h = exporters([3.0], [5.0, 7.0], [1.0], [1.0, 2.0])
    for params, grads in (
        ([p, q], [g, h]),
        ({"p": p, "q": q}, {"p": g, "q": h}),
        ([{"params": p}, {"params": [q]}], [g, h]),
        ([{"params": {"p": p}}, {"params": {"q": q}}], {"q": h, "p": g}),
    ):
        opt = oc.SGD(params, grads, lr=0.5)
        opt.step()
        opt.step(grads)
        found = opt.params
        assert type(found) is type(grads)
        assert all(isinstance(a, np.ndarray) for a in (found.values() if isinstance(found, dict) else found))
    assert numbers(p).tolist() == [3.0 - 4.0]
    assert numbers(q).tolist() == [5.0 - 4.0, 7.0 - 8.0]
    opt = oc.SGD(p, g, lr=0.5)
    opt.step()
    assert opt.params.tolist() == numbers(p).tolist() == [-1.5]
    opt.params[0] = 9.0
    assert numbers(p).tolist() == [9.0]


def test_shapes_of_no_dimension_of_two_and_of_no_element():
    point, table = ctypes.c_double(3.0), (ctypes.c_float * 3 * 2)()
    opt = oc.SGD([point, table, array.array("d")], lr=1.0)
    opt.step([ctypes.c_double(1.0), memoryview(np.ones((2, 3), np.float32)), array.array("d")])
    assert point.value == 2.0
    assert [p.shape for p in opt.params] == [(), (2, 3), (0,)]
    assert [list(row) for row in table] == [[-1.0] * 3] * 2
    torch = pytest.importorskip("torch")
    point, empty = torch.tensor(3.0, requires_grad=True), torch.zeros(0, 3)
    (point * 4).backward()
    oc.SGD([point, empty], lr=0.5).step([point.grad, torch.zeros(0, 3)])
    assert point.item() == 1.0


@pytest.mark.parametrize("kind", EXPORTERS)
def test_everything_around_a_step_is_that_of_numpy_arrays(kind, tmp_path):
    """Averages, bounds, look-ahead, saving, loading, copies; all of it with the bits of NumPy's arrays."""
    results = []
    for exported in (lambda values: values, EXPORTERS[kind]):
        p = exported(start(6, np.float64))
        g = gradients(6, 6, np.float64, awkward=False)
        bounds = tuple({"W": exported(np.full(6, side))} for side in (-0.5, 0.5))
        opt = oc.Velocity({"W": p}, lr=0.1, averaging=oc.EMA(0.5), bounds=bounds)
        opt.step({"W": exported(g[0])})
        with opt.lookahead():
            ahead = numbers(p).copy()
        opt.save(tmp_path / "run.npz")
        opt = oc.load(tmp_path / "run.npz", {"W": p})
        opt.step({"W": exported(g[1])})
        state = opt.state_dict()
        opt.step({"W": exported(g[2])})
        opt.load_state_dict(state)
        opt.step({"W": exported(g[3])})
        same = copy.copy(opt)
        same.step({"W": exported(g[4])})
        other = pickle.loads(pickle.dumps(same))
        other.step({"W": exported(g[5])})
        assert bits(same.params["W"]) == bits(numbers(p)) != bits(other.params["W"])
        arrays = [ahead, same.params["W"], other.params["W"], same.averaged()["W"], *other.state["W"].values()]
        results.append([bits(a) for a in arrays])
    assert results[0] == results[1]


def test_copies_with_bound_gradients():
    p, g = array.array("d", [1.0, 2.0]), array.array("d", [1.0, 1.0])
    opt = oc.SGD([p], [g], lr=1.0)
    copy.copy(opt).step()
    assert p.tolist() == [0.0, 1.0]
    for other in (copy.deepcopy(opt), pickle.loads(pickle.dumps(opt))):
        other.step()
        assert other.params[0].tolist() == [-1.0, 0.0]
    assert p.tolist() == [0.0, 1.0]


@pytest.mark.parametrize("one", [True, False])
def test_rows_of_a_table(one):
    table = np.zeros((4, 2))
    values, rows = memoryview(np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])), array.array("q", [3, 0, 3])
    if one:
        oc.SGD(table.data, lr=1.0).step(values, rows=rows)
    else:
        whole = array.array("d", [1.0])
        opt = oc.SGD([table.data, array.array("d", [5.0])], lr=1.0)
        opt.step([values, whole], rows=[rows, None])
        assert opt.params[1].tolist() == [4.0]
    assert table.tolist() == [[-3.0, -4.0], [0.0, 0.0], [0.0, 0.0], [-6.0, -8.0]]


def test_rows_and_values_of_torch():
    torch = pytest.importorskip("torch")
    table = torch.nn.Embedding(4, 2)
    before = table.weight.detach().clone()
    index = torch.tensor([2, 0])
    oc.SGD({"E": table.weight}, lr=1.0).step({"E": torch.ones(2, 2)}, rows={"E": index})
    before[index] -= 1.0
    assert torch.equal(table.weight, before)


def test_a_search_moves_them():
    p = array.array("d", [3.0, -2.0])
    other = np.array(p)
    for params in (p, other):
        search = SPSA(params, a=0.5, c=0.1, A=20, seed=0)
        for _ in range(5):
            search.tell([candidate.evaluate(lambda x: np.sum(x**2)) for candidate in search.ask()])
    assert bits(np.array(p)) == bits(other)


# ---------------------------------------------------------------------- what is refused


def read_only(values):
    values = np.array(values)
    values.flags.writeable = False
    return values


def released():
    view = memoryview(bytearray(8))
    view.release()
    return view


class HasArray:
    """As h5py's datasets and pandas' columns are: read through NumPy, which makes a copy."""

    shape, dtype = (2,), np.dtype(float)

    def __array__(self, dtype=None, copy=None):
        return np.zeros(2)


class Copying(Exporter):
    def __dlpack__(self, *, copy=None, **keywords):
        if copy is False:
            raise BufferError("only a copy can be had")
        return self.values.copy().__dlpack__()


class Broken(Exporter):
    def __dlpack__(self, **keywords):
        raise BufferError("the tensor is sparse")


PLACES = {"parameter": "parameter 'W'", "gradient": "the gradient of 'W'"}
# What cannot be a parameter and a gradient of shape (2,) and float64: (it, error, words of the message)
REFUSED = {
    "int32": (array.array("i", [1, 2]), TypeError, "(array) has dtype int32, but must be float"),
    "bytes": (bytes(16), TypeError, "; if its bytes are such numbers, memoryview(...)"),
    "bytearray": (bytearray(16), TypeError, 'memoryview(...).cast("f") or .cast("d") says so'),
    "foreign bytes": (np.zeros(2, np.dtype(float).newbyteorder()).data, TypeError, "(memoryview) has dtype"),
    "characters": ((ctypes.c_char * 8)(), TypeError, "dtype |S1"),
    "strided": (
        np.zeros(4).data[::2],
        ValueError,
        "(memoryview) with shape (2,) and strides (16,) is not C-contiguous",
    ),
    "misaligned": (memoryview(bytearray(17))[1:].cast("d"), ValueError, "(memoryview) is not aligned"),
    "released": (released(), TypeError, "(memoryview) does not export its buffer: operation forbidden on released"),
    "text": ("12", TypeError, "must be a NumPy array, got str"),
    "number": (np.float64(1.0), TypeError, "must be a NumPy array, got float64"),
    "array protocol alone": (
        HasArray(),
        TypeError,
        "must be a NumPy array, got HasArray; use numpy.array(...), or what exports a buffer or DLPack",
    ),
    "CUDA": (Exporter(np.zeros(2), device=(2, 0)), TypeError, "(Exporter) is on another device (CUDA); copy it to"),
    "unknown device": (Exporter(np.zeros(2), device=(99, 0)), TypeError, "on another device (DLPack's number 99)"),
    "no device": (Exporter(np.zeros(2), device=None), TypeError, "(Exporter) has no view through DLPack: "),
    "failing": (
        Broken(np.zeros(2)),
        TypeError,
        "(Broken) has no view through DLPack: the tensor is sparse. It must be",
    ),
    "float16 in DLPack": (Exporter(np.zeros(2, np.float16)), TypeError, "(Exporter) has dtype float16"),
    "strided DLPack": (Exporter(np.zeros(4)[::2]), ValueError, "(Exporter) with shape (2,) and strides (16,)"),
}

if NEW_DLPACK:  # older versions do not ask
    REFUSED["copying"] = (Copying(np.zeros(2)), TypeError, "(Copying) has no view through DLPack: only a copy can be")


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_used_is_refused_by_name(what, place):
    given, error, words = REFUSED[what]
    p = np.array([1.0, 2.0])
    opt = oc.Adam({"V": np.zeros(1), "W": p})
    opt.step({"V": np.ones(1), "W": np.ones(2)})
    before = [bits(a) for a in (*opt.params.values(), *opt.state["V"].values(), *opt.state["W"].values())]
    use = {"parameter": oc.Adam, "gradient": opt.step}[place]
    with pytest.raises(error) as caught:
        use({"V": np.ones(1), "W": given})
    assert PLACES[place] in str(caught.value)
    assert words in str(caught.value)
    after = [bits(a) for a in (*opt.params.values(), *opt.state["V"].values(), *opt.state["W"].values())]
    assert (before, 1) == (after, opt.t)


# What can be read but not written: (it, words of the message)
READ_ONLY = {
    "memoryview": (read_only([1.0, 1.0]).data, "(memoryview) is exported read-only"),
    "bytes": (memoryview(np.ones(2).tobytes()).cast("d"), "make numpy.array(...) of it the parameter"),
    "DLPack that cannot say": (Exporter(np.ones(2), keywords=False), "(Exporter) is exported read-only"),
    "DLPack of a copy": (
        type("Copied", (Exporter,), {"__array__": lambda self, dtype=None, copy=None: self.values.copy()})(
            np.ones(2), keywords=False
        ),
        "(Copied) is exported read-only",
    ),
}
if NEW_DLPACK:
    READ_ONLY["DLPack"] = (Exporter(read_only([1.0, 1.0])), "(Exporter) is exported read-only")
    READ_ONLY["DLPack and array"] = (
        ExporterAndArray(read_only([1.0, 1.0])),
        "(ExporterAndArray) is exported read-only",
    )


@pytest.mark.parametrize("what", READ_ONLY)
def test_read_only_exporters_are_no_parameters_but_gradients(what):
    given, words = READ_ONLY[what]
    with pytest.raises(ValueError) as caught:
        oc.SGD({"W": given}, lr=1.0)
    assert "parameter 'W' " in str(caught.value)
    assert words in str(caught.value)
    p = np.zeros(2)
    opt = oc.SGD({"W": p}, {"W": given}, lr=1.0)
    opt.step()
    opt.step({"W": given})
    assert p.tolist() == [-2.0, -2.0]


def test_a_file_opened_for_reading(tmp_path):
    np.zeros(2).tofile(tmp_path / "p")
    with pytest.raises(ValueError, match=r'parameter .0. is read-only, .* open the file with mode="r\+"'):
        oc.SGD(np.memmap(tmp_path / "p", float, "r"), lr=1.0)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.bfloat16(), "(Tensor) has no view through DLPack: "),
        (lambda t: t.half(), "(Tensor) has dtype float16"),
        (lambda t: t.to("meta"), "(Tensor) has no view through DLPack: "),
        (lambda t: t.to_sparse(), "(Tensor) has no view through DLPack: "),
        (lambda t: t.expand(2, 3).T, "(Tensor) with shape (3, 2) and strides (8, 0) is not C-contiguous"),
        (lambda t: t.to(dtype=t.dtype.to_complex()), "(Tensor) has dtype complex128"),
    ],
)
def test_tensors_that_cannot_be_used(change, words):
    torch = pytest.importorskip("torch")
    with pytest.raises((TypeError, ValueError)) as caught:
        oc.SGD({"W": change(torch.ones(3, dtype=torch.float64))}, lr=1.0)
    assert f"parameter 'W' {words}" in str(caught.value)


NEGATIVE = {
    "made so": lambda torch: torch._neg_view(torch.ones(1, dtype=torch.float64)),
    "of a conjugate": lambda torch: torch.tensor([1 + 2j], dtype=torch.complex128).conj().imag,
}


@pytest.mark.parametrize("place", ["parameter", "gradient", "bound gradient", "values of rows"])
@pytest.mark.parametrize("kind", NEGATIVE)
def test_negative_tensors_are_not_taken_for_what_their_memory_holds(kind, place):
    given, p = NEGATIVE[kind](pytest.importorskip("torch")), np.zeros(1)
    assert given.is_neg()
    opt = oc.SGD({"W": p}, lr=1.0)
    use, what = {
        "parameter": (lambda g: oc.SGD({"W": g}, lr=1.0), "parameter"),
        "gradient": (lambda g: opt.step({"W": g}), "the gradient of"),
        "bound gradient": (lambda g: oc.SGD({"W": p}, {"W": g}, lr=1.0).step(), "the gradient of"),
        "values of rows": (lambda g: opt.step({"W": g}, rows={"W": np.array([0])}), "the gradient of"),
    }[place]
    with pytest.raises(TypeError) as caught:
        use(given)
    assert f"{what} 'W' (Tensor) has its negative bit set" in str(caught.value)
    assert "call .resolve_neg()" in str(caught.value)
    assert (p.tolist(), opt.t) == ([0.0], 0)
    use(given.resolve_neg())
    assert place == "parameter" or p.tolist() == [-given.item()]


def test_conjugate_tensors_are_refused():
    torch = pytest.importorskip("torch")
    with pytest.raises(TypeError, match=r"the gradient of '0' \(Tensor\) has no view .* conjugate bit"):
        oc.SGD(np.zeros(1), lr=1.0).step(torch.ones(1, dtype=torch.complex128).conj())


@pytest.mark.parametrize("place", PLACES)
def test_a_parameter_of_torch_without_memory_yet_is_refused_by_name(place):
    given = pytest.importorskip("torch").nn.UninitializedParameter()
    use = {"parameter": oc.SGD, "gradient": oc.SGD({"W": np.zeros(1)}, lr=1.0).step}[place]
    with pytest.raises(TypeError) as caught:
        use({"W": given}, **{"lr": 1.0} if place == "parameter" else {})
    assert f"{PLACES[place]} (UninitializedParameter) has no view through DLPack: Attempted to use" in str(caught.value)


@pytest.mark.parametrize(
    ("dtype", "advised"),
    [("f8", "float64"), ("f4", "float32"), ("f2", "float32"), ("i2", "float32"), ("i4", "float64"), ("i8", "float64")],
)
def test_the_advised_dtype_holds_every_number(dtype, advised):
    given = np.zeros(2, np.dtype(dtype).newbyteorder()).data
    with pytest.raises(TypeError) as caught:
        oc.SGD(given, lr=1.0)
    assert str(caught.value).endswith(f"; pass numpy.array(..., '{advised}')")
    for own in (np.float32, np.float64):
        with pytest.raises(TypeError) as caught:
            oc.SGD(np.zeros(2, own), lr=1.0).step(given)
        assert str(caught.value).endswith(f"; pass numpy.array(..., '{np.dtype(own)}')")


def test_messages_of_numpy_are_sentences_in_ours(monkeypatch):
    def refuse(value):
        raise ValueError("no such format.")

    monkeypatch.setattr(np, "asarray", refuse)
    with pytest.raises(
        TypeError, match=r"\(memoryview\) has no view in NumPy, .*: no such format\. It must be float32"
    ):
        oc.SGD(memoryview(bytes(8)), lr=1.0)


def test_memory_that_is_shared_is_found_across_libraries():
    whole = np.zeros(4)
    with pytest.raises(ValueError, match="parameter 'b' and parameter 'a' share memory"):
        oc.SGD({"a": whole, "b": whole.data[3:]}, lr=1.0)
    opt = oc.SGD({"a": whole}, lr=1.0)
    with pytest.raises(ValueError, match="the gradient of 'a' shares memory with parameter 'a'"):
        opt.step({"a": whole.data})


@pytest.mark.parametrize("device", [3, 11, 13])
def test_memory_that_the_cpu_shares_with_a_device_is_used(device):
    p = np.zeros(2)
    oc.SGD(p, lr=1.0).step(Exporter(np.ones(2), device=(device, 0)))
    assert p.tolist() == [-1.0, -1.0]


def test_the_buffer_is_asked_before_dlpack():
    with pytest.raises(TypeError, match=r"\(Both\) has dtype uint8"):
        oc.SGD(Both(8), lr=1.0)


def test_a_model_of_torch():
    torch = pytest.importorskip("torch")
    layer = torch.nn.Linear(3, 2).double()
    expected = {name: p.detach().numpy().copy() for name, p in layer.named_parameters()}
    opt, there = oc.AdamW(dict(layer.named_parameters())), oc.AdamW(expected)
    for _ in range(3):
        layer.zero_grad()
        layer(torch.ones(4, 3, dtype=torch.float64)).square().sum().backward()
        grads = {name: p.grad for name, p in layer.named_parameters()}
        opt.step(grads)
        there.step({name: g.numpy() for name, g in grads.items()})
    for name, p in layer.named_parameters():
        assert bits(p.detach().numpy()) == bits(expected[name])
    assert all(p.requires_grad for p in layer.parameters())


# ---------------------------------------------------------------------- lifetimes and costs


def test_exporters_are_locked_while_they_are_bound():
    p, g = array.array("d", [1.0]), array.array("d", [1.0])
    opt = oc.SGD(p, g, lr=1.0)
    for bound in (p, g):
        with pytest.raises(BufferError):
            bound.append(2.0)
    del opt
    once = oc.SGD(np.zeros(1), lr=1.0)
    once.step(g)
    p.append(2.0)
    g.append(2.0)
    with pytest.raises(ValueError, match=r"has shape \(2,\)"):
        once.step(g)
    g.append(3.0)


def test_torch_does_not_resize_what_is_bound():
    torch = pytest.importorskip("torch")
    p, g = torch.zeros(3), torch.ones(3)
    opt = oc.SGD(p, g, lr=1.0)
    for bound in (p, g):
        with pytest.raises(RuntimeError, match="not resizable"):
            bound.resize_(10**6)
    opt.step()  # a refused resize_ leaves the tensor with the new shape, but not its memory: look at that
    assert opt.params.tolist() == [-1.0] * 3


@pytest.mark.skipif(not NEW_DLPACK, reason="NumPy cannot say that the memory may be written")
def test_memory_lives_as_long_as_it_is_bound():
    exporter = Exporter(np.zeros(3))
    memory, whole = weakref.ref(exporter.values), exporter.values.ctypes.data
    opt = oc.SGD(exporter, lr=1.0)
    del exporter
    gc.collect()
    assert memory().ctypes.data == whole
    opt.step(np.ones(3))
    assert memory().tolist() == [-1.0] * 3
    del opt
    gc.collect()
    assert memory() is None


@pytest.mark.parametrize("kind", EXPORTERS)
def test_gradients_are_not_copied(kind):
    g, p = EXPORTERS[kind](np.ones(10**5)), np.zeros(10**5)
    opt = oc.SGD(p, lr=1.0)
    opt.step(g)
    tracemalloc.start()
    try:
        opt.step(g)
        assert tracemalloc.get_traced_memory()[1] < p.nbytes // 10
    finally:
        tracemalloc.stop()
    assert (p == -2.0).all()


def test_steps_with_numpy_arrays_look_for_no_exporters(monkeypatch):
    p, q, g, h = (np.ones(3) for _ in range(4))
    one, several, named = oc.SGD(p, g, lr=1.0), oc.SGD([p, q], [g, h], lr=1.0), oc.SGD({"p": p}, {"p": g}, lr=1.0)

    def refuse(*arguments, **keywords):
        raise AssertionError

    for name in ("as_array", "is_array", "view"):
        monkeypatch.setattr(_engine, name, refuse)
    with pytest.raises(AssertionError):
        one.step(g.data)
    for opt, grads in ((one, g), (several, [g, h]), (named, {"p": g})):
        opt.step()
        opt.step(grads)
    assert p.tolist() == [-5.0] * 3


# ---------------------------------------------------------------------- state on the disk


def test_allocate_makes_every_array_of_the_state_and_its_copies(tmp_path):
    made = []

    def allocate(shape, dtype):
        made.append(np.empty(shape, dtype))
        return made[-1]

    p, q = start(3, np.float64), start(4, np.float32).reshape(2, 2)
    expected = [p.copy(), q.copy()]
    bounds = [-np.ones(3), -np.ones((2, 2), np.float32)], 1.0
    options = {"averaging": oc.EMA(0.9), "bounds": bounds}
    opt = oc.AMSGrad([p, q], allocate=allocate, **options)
    assert [(a.shape, a.dtype) for a in made[:2]] == [((3,), p.dtype), ((2, 2), q.dtype)]
    assert {a.ctypes.data for a in made} == {a.ctypes.data for kept in opt.state.values() for a in kept.values()}
    there = oc.AMSGrad(expected, **options)
    for k in range(3):
        grads = [gradients(3, 3, np.float64)[k], gradients(4, 3, np.float32)[k].reshape(2, 2)]
        opt.step(grads)
        there.step(grads)
    assert [bits(a) for a in (p, q)] == [bits(a) for a in expected]
    before = len(made)
    state = opt.state_dict()
    places = {a.ctypes.data for kept in state["state"].values() for a in kept.values()}
    assert {a.ctypes.data for a in made[before:]} == places
    for name, kept in there.state.items():
        assert {key: bits(a) for key, a in kept.items()} == {key: bits(a) for key, a in state["state"][name].items()}
    assert copy.copy(opt)._options["allocate"] is allocate
    opt.save(tmp_path / "run.npz")
    del made[:]
    other = oc.load(tmp_path / "run.npz", [p, q], allocate=allocate)
    places = {a.ctypes.data for kept in other.state.values() for a in kept.values()}
    assert len(made) == 2 * len(places)  # what was read, and what it was copied to
    assert places < {a.ctypes.data for a in made}
    assert [bits(a) for kept in other.state.values() for a in kept.values()] == [
        bits(a) for kept in opt.state.values() for a in kept.values()
    ]


@pytest.mark.parametrize(
    ("allocate", "error", "words"),
    [
        (7, TypeError, "allocate must be a function like numpy.empty, or None, got 7"),
        (lambda shape, dtype: np.empty(shape), TypeError, "the state 'm' of 'W' that allocate made has dtype float64"),
        (lambda shape, dtype: np.empty(4, dtype), ValueError, "the state 'm' of 'W' that allocate made has shape (4,)"),
        (lambda shape, dtype: None, TypeError, "the state 'm' of 'W' that allocate made must be a NumPy array"),
        (lambda shape, dtype: read_only(np.zeros(shape, dtype)), ValueError, "that allocate made is read-only"),
    ],
)
def test_what_allocate_makes_is_checked(allocate, error, words):
    with pytest.raises(error) as caught:
        oc.Adam({"W": np.zeros(3, np.float32)}, allocate=allocate)
    assert words in str(caught.value)


def test_loading_checks_allocate_and_the_arrays_of_the_file(tmp_path):
    p = np.zeros(3)
    oc.Momentum({"W": p}, lr=1.0).save(tmp_path / "run.npz")
    with pytest.raises(TypeError, match=r"allocate must be a function like numpy\.empty, or None, got 7"):
        oc.load(tmp_path / "run.npz", {"W": p}, allocate=7)
    with pytest.raises(ValueError, match=r"state/W/b that allocate made has shape \(4,\)"):
        oc.load(tmp_path / "run.npz", {"W": p}, allocate=lambda shape, dtype: np.empty(4, dtype))
    with np.load(tmp_path / "run.npz") as file:
        header = file["header"]
    np.savez(tmp_path / "int.npz", header=header, **{"state/W/b": np.zeros(3, int)})
    with pytest.raises(ValueError, match=r"state/W/b is no C-contiguous array of float32 or float64"):
        oc.load(tmp_path / "int.npz", {"W": p})


@pytest.mark.parametrize(("cls", "bounds"), [(oc.Adam, None), (oc.SGD, (np.zeros(3), None))])
def test_what_allocate_makes_shares_no_memory(cls, bounds):
    kept = np.empty(3)
    with pytest.raises(
        ValueError, match=r"that allocate made and the .* of '0' share memory; allocate must make a new"
    ):
        cls(np.zeros(3), lr=1.0, bounds=bounds, allocate=lambda shape, dtype: kept)


# What may be in use while an optimizer is made or loaded, with its name in the message.
IN_USE = {
    "p": "parameter 'p'",
    "q": "parameter 'q'",
    "g": "the gradient of 'q'",
    "strided": "the gradient of 'p'",
    "lower": "the lower bound of 'q'",
    "upper": "the upper bound of 'q'",
}


@pytest.mark.parametrize("exported", [False, True])
@pytest.mark.parametrize("used", IN_USE)
@pytest.mark.parametrize("loading", [False, True])
def test_allocate_cannot_give_memory_that_is_in_use(loading, used, exported, tmp_path):
    """It is refused before anything is written to it; the gradient that is not contiguous would be refused later."""
    memory = {name: np.arange(k, k + 6.0) for k, name in enumerate(IN_USE)}
    memory["upper"] += 10
    p, q, g, strided, lower, upper = ((a.data if exported else a)[2:4] for a in memory.values())
    strided = (memory["strided"].data if exported else memory["strided"])[2:6:2]
    bounds = {"p": np.zeros(2), "q": lower}, {"p": np.full(2, 100.0), "q": upper}
    params, grads, before = {"p": p, "q": q}, {"q": g, "p": strided}, {k: bits(a) for k, a in memory.items()}
    path = tmp_path / "run.npz"
    oc.Adam({"p": np.ones(2), "q": np.ones(2)}, bounds=bounds).save(path)
    make = (lambda *given, **keywords: oc.load(path, *given, **keywords)) if loading else oc.Adam
    with pytest.raises(ValueError) as caught:
        make(params, grads, bounds=bounds, allocate=lambda shape, dtype: memory[used][1:3])
    assert f" that allocate made and {IN_USE[used]} share memory" in str(caught.value)
    assert not str(caught.value).startswith(str(path))
    assert {k: bits(a) for k, a in memory.items()} == before


COPIES = {
    "state_dict": lambda opt: opt.load_state_dict(opt.state_dict()),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
}


@pytest.mark.parametrize("kind", COPIES)
def test_allocate_cannot_give_live_state_again(kind):
    kept = np.empty(3)
    opt = oc.Momentum(np.ones(3), lr=1.0, allocate=lambda shape, dtype: kept)
    opt.step(np.arange(3.0))
    with pytest.raises(ValueError, match=r"that allocate made and the state 'b' of '0' share memory"):
        COPIES[kind](opt)
    assert (opt.state["0"]["b"] == np.arange(3.0)).all()


def test_what_is_no_longer_held_may_be_allocated_again():
    kept = np.empty(3)
    for _ in range(2):
        opt = oc.Momentum(np.ones(3), lr=1.0, allocate=lambda shape, dtype: kept)
        opt.step(np.ones(3))
        assert (opt.state["0"]["b"] == 1.0).all()


def test_an_error_of_allocate_is_not_one_of_the_file(tmp_path):
    p = np.zeros(3)
    oc.Momentum({"W": p}, lr=1.0).save(tmp_path / "run.npz")

    def fail(shape, dtype):
        raise ValueError("the disk is full")

    for allocate, words in (
        (fail, "the disk is full"),
        (lambda shape, dtype: np.empty(4), "state/W/b that allocate made has shape"),
    ):
        with pytest.raises(ValueError) as caught:
            oc.load(tmp_path / "run.npz", {"W": p}, allocate=allocate)
        assert str(caught.value).startswith(words)


@pytest.mark.parametrize("name", oc.CATALOGUE)
def test_an_optimizer_is_made_once(name):
    p = np.arange(3.0)
    opt = make(name, {}, p)
    opt.step(np.ones(3))
    before = repr(opt), {key: bits(a) for key, a in opt.state["0"].items()}, bits(p)
    for given in (p, np.zeros(2)):
        with pytest.raises(RuntimeError, match=f"this {type(opt).__name__} is bound to its parameters; make a new one"):
            opt.__init__(given, lr=0.25)
    assert before == (repr(opt), {key: bits(a) for key, a in opt.state["0"].items()}, bits(p))


LIMITED = """
import resource, sys, tempfile
import numpy as np, optcore as oc

def on_disk(shape, dtype):
    with tempfile.TemporaryFile(dir=".") as file:
        return np.memmap(file, dtype, "w+", shape=shape)

def refused(make):
    try:
        make()
    except MemoryError:
        return True

size = int(sys.argv[1])
table, gradient = (np.memmap(name, np.float64, "r+", shape=(size // 64, 64)) for name in ("table", "gradient"))
with open("/proc/self/status") as file:
    used = next(int(line.split()[1]) for line in file if line.startswith("VmData")) * 1024
resource.setrlimit(resource.RLIMIT_DATA, (used + table.nbytes * 3 // 4,) * 2)  # memory that is not a file's

opt = oc.Momentum(table, lr=0.1, allocate=on_disk)
opt.step(gradient)
opt.step(gradient[:1000], rows=np.arange(1000) * 3)
opt.save("run.npz")
del opt
opt = oc.load("run.npz", table, allocate=on_disk)
opt.step(gradient)
table.flush()
print(refused(lambda: np.array(table)), refused(lambda: oc.Momentum(table, lr=0.1)))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the memory that is not a file's")
def test_parameters_and_state_larger_than_memory(tmp_path):
    """Stepped, saved and loaded where a copy of them in memory could not be had, with the bits of those in memory."""
    table, gradient = (start(2**22, np.float64, seed=seed).reshape(-1, 64) for seed in (0, 1))
    table.tofile(tmp_path / "table")
    gradient.tofile(tmp_path / "gradient")
    run = subprocess.run([sys.executable, "-c", LIMITED, str(table.size)], cwd=tmp_path, capture_output=True, text=True)
    assert run.stdout == "True True\n", run.stderr
    opt = oc.Momentum(table, lr=0.1)
    opt.step(gradient)
    opt.step(gradient[:1000], rows=np.arange(1000) * 3)
    opt.step(gradient)
    assert bits(np.fromfile(tmp_path / "table")) == bits(table.ravel())


def test_as_array_passes_numpy_arrays_on():
    for values in (np.zeros(3), in_file(np.zeros(3))):
        assert as_array("it", values, writeable=True) is values
