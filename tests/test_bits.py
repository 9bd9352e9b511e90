"""Promise 1: kernel = reference = every build = any thread count, length and alignment, in every bit."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support import (
    DTYPES,
    FORM_IDS,
    FORMS,
    ROOT,
    Reference,
    accepted,
    bits,
    digest,
    gradients,
    make,
    scalars,
    start,
    vectorised,
)

import optcore as oc
from optcore import reference

STEPS = 60
SHORT = [0, 1, 2, 3, 7, 8, 9, 63, 64, 65]
TRANSFORMS = {
    "plain": {},
    "maximize": {"maximize": True},
    "clip_norm": {"clip_norm": 2.0},
    "clip_value": {"clip_value": 0.5},
    "weight_decay": {"weight_decay": 0.1},
    "decoupled": {"weight_decay": 0.1, "decoupled_weight_decay": True},
    "bounds": {"bounds": (-0.5, 0.75)},
    "ema": {"averaging": oc.EMA(0.9)},
    "polyak": {"averaging": oc.Polyak()},
    "all": {
        "maximize": True,
        "clip_norm": 30.0,
        "clip_value": 0.5,
        "weight_decay": 0.1,
        "bounds": (-0.5, 0.75),
        "averaging": oc.EMA(0.99),
    },
}


def has_norms(name):
    """Whether the rule needs a norm of each array."""
    return bool(make(name, {}, np.zeros(1))._rule.trust)


def assert_same_bits(opt, expected):
    for k, (name, kept) in enumerate(opt.state.items()):
        p = opt._named()[name]
        assert list(opt._carried()[0].values()) == (expected.states[k][-1] if opt._rule.carried else [])
        assert bits(p) == bits(np.array(expected.params[k], p.dtype)), f"parameter {name}"
        for j, key in enumerate(opt._rule.state):
            assert bits(kept[key]) == bits(np.array(expected.states[k][j], p.dtype)), f"state {key} of {name}"
        if "average" in kept:
            assert bits(kept["average"]) == bits(np.array(expected.options["averages"][k], p.dtype)), (
                f"average of {name}"
            )


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("name", "form"), FORMS, ids=FORM_IDS)
def test_kernel_is_reference(name, form, dtype, transform):
    options = accepted(name, TRANSFORMS[transform])
    opt = make(name, form, [start(size, dtype) for size in SHORT], **options)
    # A norm with an infinity in it is infinite, and then every element is 0 or NaN: ordinary values test more.
    awkward = "clip_norm" not in options and not opt._rule.trust
    grads = [gradients(size, STEPS, dtype, awkward=awkward) for size in SHORT]
    expected = Reference(opt, **options)
    for t in range(STEPS):
        step = [g[t].copy() for g in grads]
        opt.step(step)
        expected.step(step)
        assert all(bits(g) == bits(whole[t]) for g, whole in zip(step, grads, strict=True)), "a gradient was written"
    assert_same_bits(opt, expected)


@pytest.mark.parametrize("size", [1024, 1025, 2049])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("averaging", [oc.EMA(0.9), oc.Polyak()], ids=["ema", "polyak"])
def test_blocks_behind_the_first(averaging, dtype, size):
    """Everything that is indexed by block: decay, bounds as arrays, averages, state."""
    lower = np.linspace(-1.0, 0.0, size).astype(dtype)
    upper = np.linspace(0.5, 1.5, size).astype(dtype)
    grads = gradients(size, 4, dtype, awkward=False)
    for decoupled in (False, True):
        options = {"weight_decay": 0.1, "decoupled_weight_decay": decoupled, "averaging": averaging}
        opt = make("adam", {}, [start(size, dtype)], lr=0.25, bounds=(lower, upper), **options)
        expected = Reference(opt, bounds=(lower, upper), averaging=averaging)
        for t in range(4):
            opt.step([grads[t]])
            expected.step([grads[t]])
        assert_same_bits(opt, expected)


@pytest.mark.parametrize("options", [{}, {"clip_value": 0.5, "bounds": (-0.5, 0.75)}], ids=["whole", "blocks"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("name", "form"), FORMS, ids=FORM_IDS)
def test_position_and_length_do_not_matter(name, form, dtype, options):
    """Long and unaligned arrays repeat a short one, whose bits a test above has compared."""
    if has_norms(name):
        pytest.skip("a norm depends on the length; the next test is for those")
    period = 97
    options = accepted(name, options)
    pattern, grads = start(period, dtype), gradients(period, STEPS, dtype)
    expected = pattern.copy()
    short = make(name, form, expected, **options)
    lengths = [1000, 4095, 4096, 4097]
    long = [np.resize(pattern, n + offset)[offset:] for n in lengths for offset in (0, 1, 3)]
    opt = make(name, form, long, **options)
    for t in range(STEPS):
        short.step(grads[t])
        opt.step([np.resize(grads[t], n + offset)[offset:] for n in lengths for offset in (0, 1, 3)])
    for p, (n, offset) in zip(long, [(n, offset) for n in lengths for offset in (0, 1, 3)], strict=True):
        assert bits(p) == bits(np.resize(expected, n + offset)[offset:])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("name", "form"), [(name, form) for name, form in FORMS if has_norms(name)])
def test_norms_of_arrays_of_several_blocks(name, form, dtype):
    """Rules that need a norm of each array: lengths around those of blocks, unaligned, in one optimizer."""
    sizes = [1000, 4095, 4096, 4097, 9001]
    params = [start(n + offset, dtype)[offset:] for n in sizes for offset in (0, 1)]
    grads = [gradients(p.size + 1, 2, dtype, awkward=False)[:, 1:] for p in params]
    opt = make(name, form, params, clip_value=1.0)
    expected = Reference(opt, clip_value=1.0)
    for t in range(2):
        opt.step([g[t] for g in grads])
        expected.step([g[t] for g in grads])
    assert_same_bits(opt, expected)


@pytest.mark.parametrize("zero", ["parameter", "gradient"])
@pytest.mark.parametrize(("name", "form"), [(name, form) for name, form in FORMS if has_norms(name)])
def test_trust_where_a_norm_is_zero(name, form, zero):
    p, g = (np.zeros(3), np.ones(3)) if zero == "parameter" else (np.ones(3), np.zeros(3))
    opt = make(name, form, p)
    expected = Reference(opt)
    for _ in range(3):
        opt.step(g)
        expected.step([g])
    assert_same_bits(opt, expected)
    assert np.isfinite(p).all()
    assert (p < 0).all() or zero == "gradient"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sizes", [[1000], [4095], [4096], [4097], [0, 9000, 1, 4097, 13]])
def test_norm_has_one_shape(dtype, sizes):
    """Where clipping begins tells the norm in every bit, whatever the dtype of the parameters."""
    grads = [gradients(size, 1, dtype, awkward=False)[0] for size in sizes]
    norm = reference.norm([scalars(g) for g in grads])
    params = [np.zeros(size, dtype) for size in sizes]
    oc.SGD(params, lr=1.0, clip_norm=norm / 3).step(grads)
    factor = dtype(norm / 3 / norm)
    for p, g in zip(params, grads, strict=True):
        assert bits(p) == bits(dtype(0) - dtype(1) * (g * factor))
    params = [np.zeros(size, dtype) for size in sizes]
    oc.SGD(params, lr=1.0, clip_norm=norm).step(grads)
    assert all(bits(p) == bits(0 - g) for p, g in zip(params, grads, strict=True)), "a norm at the limit is not scaled"
    # Far above the largest gradient, factors below 1 by a bit or two change some float64 parameter.
    if dtype is np.float64:
        params = [np.zeros(size) for size in sizes]
        oc.SGD(params, lr=1.0, clip_norm=norm * (1 - 2.0**-50)).step(grads)
        assert any(bits(p) != bits(0 - g) for p, g in zip(params, grads, strict=True)), "a norm above it is"


def test_norm_of_unlucky_values():
    """Values whose sum depends on its order, against the sum of exact rationals by hand: 1 + 8 lanes of 2**-53."""
    g = np.zeros(16)
    g[0], g[8:16] = 1.0, 2.0**-27
    # Lane 0 has 1 + 2**-54 = 1; the others 2**-54 each, whose tree sums to 7 * 2**-54 with 1: ((1 + e) + 2e) + 4e.
    lanes = [1.0] + [2.0**-54] * 7
    total = ((lanes[0] + lanes[1]) + (lanes[2] + lanes[3])) + ((lanes[4] + lanes[5]) + (lanes[6] + lanes[7]))
    assert reference.sum_of_squares(g.tolist()) == total == 1.0 + 2.0**-52


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", oc.CATALOGUE)
def test_threads_do_not_matter(name, dtype):
    sizes = [5, 20_000, 1023, 1025]
    results = []
    for clip_norm in (None, 50.0):
        for threads in (1, 2, 3):
            params = [start(size, dtype) for size in sizes]
            opt = make(name, {}, params, clip_norm=clip_norm, threads=threads)
            for t in range(3):
                opt.step([gradients(size, 3, dtype, awkward=False)[t] for size in sizes])
            results.append([bits(p) for p in params])
    assert results[0] == results[1] == results[2]
    assert results[3] == results[4] == results[5]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("name", "form"), FORMS, ids=FORM_IDS)
def test_stop_save_load_go_on(name, form, dtype, tmp_path):
    sizes = [3, 70]
    grads = [gradients(size, STEPS, dtype) for size in sizes]
    params = {f"layer.{size}": start(size, dtype) for size in sizes}
    whole = {key: p.copy() for key, p in params.items()}
    options = accepted(name, {"averaging": oc.EMA(0.9), "weight_decay": 0.1, "clip_value": 1.0})
    uninterrupted = make(name, form, whole, **options)
    opt = make(name, form, params, **options)
    for t in range(STEPS):
        step = {f"layer.{size}": g[t] for size, g in zip(sizes, grads, strict=True)}
        uninterrupted.step(step)
        opt.step(step)
        if t in (0, 20, 40):
            opt.save(tmp_path / "run.npz")
            opt = oc.load(tmp_path / "run.npz", params)
            assert opt.t == t + 1
    for key in params:
        assert bits(params[key]) == bits(whole[key])
        assert bits(opt.averaged()[key]) == bits(uninterrupted.averaged()[key])


def test_t_can_be_far_along():
    """Powers at t near the end of int64 are those of the reference."""
    adam = oc.Adam(np.array([1.0]), lr=0.5, betas=(0.9, 1 - 2.0**-53))
    for opt in (adam, oc.NAdam(np.array([1.0])), oc.RAdam(np.array([1.0]))):
        opt.t = 2**62
        expected = Reference(opt)
        expected.t = 2**62
        opt.step(np.array([0.5]))
        expected.step([np.array([0.5])])
        assert_same_bits(opt, expected)


# ---------------------------------------------------------------------- builds


def run_digest(**environment):
    command = [sys.executable, str(Path(__file__).with_name("support.py"))]
    return subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, check=True
    ).stdout.strip()


def test_instruction_sets_agree():
    assert run_digest(OPTCORE_BASELINE="1") == digest()


needs_compiler = pytest.mark.skipif(
    not (ROOT / "src").exists() or sys.platform == "win32" or shutil.which("cc") is None,
    reason="needs the source tree and a compiler that takes gcc's options",
)


@needs_compiler
@pytest.mark.parametrize("flags", ["-O0", "-O3 -march=native"])
def test_compiler_flags_do_not_matter(flags, tmp_path):
    for name in ("setup.py", "pyproject.toml", "src", "optcore"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    for old in (tmp_path / "optcore").glob("*.so"):
        old.unlink()
    environment = {**os.environ, "OPTCORE_EXTRA_CFLAGS": flags}
    command = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
    subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=True)
    built = run_digest(PYTHONPATH=str(tmp_path), OPTCORE_BASELINE="1")
    assert built == digest()


@needs_compiler
def test_every_loop_vectorises(tmp_path):
    """The compiler's report on the rules at the baseline instruction set, for both dtypes; no warning besides."""
    text = (ROOT / "src/optcore/_rules.pyx").read_text()
    loops = {}
    for match in re.finditer(
        r"^cdef (?:void|double|bint) (\w+)\([^)]*real\*[^)]*\) noexcept nogil:\n(.*?)(?=^\S)", text, re.M | re.S
    ):
        first = text[: match.start(2)].count("\n") + 1
        loops[match[1]] = range(first, first + match[2].count("\n"))
    assert set(loops) >= {"sgd", "adam", "rprop", "clamp", "add_squares", "has_nonfinite"}

    found = vectorised("_rules", tmp_path)
    for name, lines in loops.items():
        count = sum(line in lines for line in found)
        assert count >= 2, f"{name} is vectorised for {count} of 2 dtypes"
