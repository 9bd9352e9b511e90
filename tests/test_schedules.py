"""Schedules: kernel = reference in every bit, one value or a buffer; laws, ends, text, errors, feedback."""

import contextlib
import copy
import dataclasses
import functools
import hashlib
import json
import math
import os
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import ROOT, SCHEDULES, TIMES, bits, vectorised

import optcore as oc
from optcore import reference, schedules
from optcore.expressions import parse
from optcore.schedules import Clamp, Every, Shift, Times

LAST = 2**63 - 1
INTEGERS = [np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64]
RENAMED = {oc.Step: reference.step_decay, Clamp: reference.clamp_schedule}
NAMES = {}
exec("from optcore import *", NAMES)


def mirror(schedule):
    """The same schedule as a function of t of the reference."""
    if not isinstance(schedule, oc.Schedule):
        return [mirror(part) for part in schedule] if isinstance(schedule, tuple) else schedule
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(schedule).__name__).lower()
    function = RENAMED.get(type(schedule)) or getattr(reference, name)
    return functools.partial(function, *(mirror(getattr(schedule, f.name)) for f in dataclasses.fields(schedule)))


def around(*places):
    """Times around the places, in order, none twice."""
    near = {place + d for place in places for d in (-2, -1, 0, 1, 2)}
    return np.array(sorted(t for t in near if 0 <= t <= LAST), np.int64)


# Random schedules

number = st.floats(-1e3, 1e3)
positive = st.floats(1e-6, 1e3)
fraction = st.floats(1e-6, 1.0)
count = st.integers(1, 300) | st.integers(1, 2**53)
time = st.integers(0, 1000) | st.integers(0, LAST)
rising = st.lists(count, max_size=4, unique=True).map(sorted)


def sized(item, extra=1):
    """Boundaries, and a list of one more items."""
    return rising.flatmap(lambda b: st.tuples(st.lists(item, min_size=len(b) + 1, max_size=len(b) + 1), st.just(b)))


forms = [
    st.builds(oc.Constant, number),
    st.builds(oc.Step, number, count, st.floats(0.0, 2.0)),
    st.builds(oc.MultiStep, number, rising, st.floats(0.0, 2.0)),
    sized(number).map(lambda pair: oc.Piecewise(*pair)),
    st.builds(oc.Exponential, number, st.floats(1e-6, 2.0), steps=count, staircase=st.booleans()),
    st.builds(oc.InverseTime, number, positive, steps=count),
    st.builds(oc.InversePower, number, st.sampled_from([0.5, 1, 1.5, 2]) | st.floats(0.0, 5.0), positive),
    st.builds(oc.Linear, number, number, steps=count),
    st.builds(oc.Polynomial, number, number, steps=count, power=st.sampled_from([0.5, 1, 2]) | positive),
    st.builds(oc.Root, number, number, steps=count),
    st.builds(oc.Growing, fraction, positive, cap=st.floats(1.0, 1e3)),
    st.builds(oc.Cosine, number, number, steps=count),
    st.builds(oc.CosineRestarts, number, number, steps=count, mult=st.integers(1, 3), decay=st.floats(0.0, 1.0)),
    st.builds(
        oc.Cyclic, number, number, up=count, down=st.none() | count, mode=st.sampled_from(["triangular", "triangular2"])
    ),
    st.builds(oc.Cyclic, number, number, up=count, down=count, mode=st.just("exp_range"), gamma=fraction),
    st.builds(
        oc.OneCycle, number, steps=st.integers(3, 2**53), pct=st.floats(0.0, 1.0), start=st.none() | number,
        end=st.none() | number, shape=st.sampled_from(["cosine", "linear"]),
    ),
    st.builds(oc.Noam, count, count, positive),
    st.builds(
        oc.WarmupStableDecay, number, warmup=st.integers(0, 300), stable=st.integers(0, 300), decay=count, end=number,
        shape=st.sampled_from(["linear", "cosine", "sqrt"]),
    ),
]  # fmt: skip
any_schedule = st.recursive(
    st.one_of(forms),
    lambda inner: st.one_of(
        st.builds(oc.Warmup, count, inner.filter(lambda s: math.isfinite(s(0))), number),
        sized(inner).map(lambda pair: oc.Join(*pair)),
        st.builds(lambda s, factor: s * factor, inner, number),
        st.builds(lambda s, a, b: s.clamp(min(a, b), max(a, b)), inner, number, number | st.just(math.inf)),
        st.builds(lambda s, n: s.shift(n), inner, st.integers(0, 2**53)),
        st.builds(lambda s, n: s.every(n), inner, count),
    ),
    max_leaves=5,
)


# Bits


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_kernel_is_reference(schedule):
    function = mirror(schedule)
    expected = [function(t) for t in TIMES.tolist()]
    assert bits([schedule(t) for t in TIMES.tolist()]) == bits(expected)
    assert bits(schedule(TIMES)) == bits(expected)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_order_and_place_of_times_do_not_matter(schedule):
    values = schedule(TIMES)
    order = np.random.default_rng(0).permutation(len(TIMES))
    assert bits(schedule(TIMES[order])) == bits(values[order])
    for start in range(1, 8):
        assert bits(schedule(TIMES[start:77])) == bits(values[start:77])


def test_every_class_is_among_the_examples():
    assert {type(schedule) for schedule in SCHEDULES} == set(oc.Schedule.__subclasses__())


@given(any_schedule, st.lists(time, min_size=1, max_size=20))
def test_any_schedule(schedule, times):
    """Array, ints and reference agree; text, pickle and copies give the schedule back."""
    function = mirror(schedule)
    expected = [function(t) for t in times]
    assert bits([schedule(t) for t in times]) == bits(expected)
    assert bits(schedule(np.array(times))) == bits(expected)
    text = repr(schedule)
    for same in (
        eval(text, NAMES),
        parse(json.loads(json.dumps(text))),
        pickle.loads(pickle.dumps(schedule)),
        copy.deepcopy(schedule),
        copy.copy(schedule),
    ):
        assert same == schedule
        assert hash(same) == hash(schedule)
        assert repr(same) == text
        assert bits(same(np.array(times))) == bits(expected)


# Times


@pytest.mark.parametrize("dtype", INTEGERS)
def test_any_integers_are_times(dtype):
    schedule = oc.Cosine(0.1, steps=100)
    t = np.arange(0, 127, 3).astype(dtype)
    assert bits(schedule(t)) == bits([schedule(int(one)) for one in t])
    assert schedule(dtype(5)) == schedule(5)
    assert type(schedule(dtype(5))) is float
    assert bits(schedule(t.astype(t.dtype.newbyteorder()))) == bits(schedule(t))


def test_any_shape_and_layout_of_times():
    schedule = oc.CosineRestarts(0.1, steps=10)
    t = np.arange(24).reshape(2, 3, 4)
    for view in (t, t[:, ::2], t.T, t[::-1, 1], t[:0], np.array(7), np.broadcast_to(np.array(3), (2, 2))):
        values = schedule(view)
        assert np.shape(values) == view.shape
        assert bits(np.ravel(values)) == bits([schedule(int(one)) for one in view.ravel()])
    assert schedule([1, 2, 3]).tolist() == [schedule(one) for one in (1, 2, 3)]
    assert type(schedule(7)) is type(schedule(np.array(7))) is float


def test_out_is_filled_and_returned():
    schedule = oc.Linear(0.1, steps=10)
    t, out = np.arange(12).reshape(3, 4), np.empty((3, 4))
    assert schedule(t, out=out) is out
    assert bits(out) == bits(schedule(t))
    single = np.empty(())
    assert schedule(3, out=single) is single
    assert single == schedule(3)
    # out may be the memory that t is in.
    for start in (0, 1):
        memory = np.arange(2000)
        expected = schedule(memory[1:1001].copy())
        assert bits(schedule(memory[1:1001], out=memory.view(np.float64)[start : start + 1000])) == bits(expected)


OUTS = [
    (np.empty(3, np.float32), TypeError, "out must be a float64 array, got float32"),
    ([0.0, 0.0, 0.0], TypeError, "out must be a float64 array, got list"),
    (np.empty(3, ">f8"), TypeError, "out must be a float64 array, got >f8"),
    (np.empty(4), ValueError, "out has shape (4,), but t has shape (3,)"),
    (np.empty(6)[::2], ValueError, "out must be C-contiguous, aligned and writeable"),
    (np.frombuffer(bytes(24)), ValueError, "out must be C-contiguous, aligned and writeable"),
]


@pytest.mark.parametrize(("out", "error", "words"), OUTS)
def test_out_that_cannot_be_used_is_refused(out, error, words):
    with pytest.raises(error) as caught:
        oc.Constant(0.1)(np.arange(3), out=out)
    assert words in str(caught.value)


NOT_TIMES = [
    (-1, ValueError, "cannot be negative, got -1"),
    (-(2**70), ValueError, "cannot be negative"),
    (2**63, OverflowError, "t must be below 2**63, got 9223372036854775808"),
    (np.array([0, -3, 2]), ValueError, "cannot be negative, got -3"),
    (np.array([1, 2**63], np.uint64), OverflowError, "t must be below 2**63"),
    (True, TypeError, "must be an integer or an array of integers, got True"),
    (1.0, TypeError, "must be an integer"),
    (math.nan, TypeError, "must be an integer"),
    ("1", TypeError, "must be an integer"),
    (None, TypeError, "must be an integer"),
    (np.array([1.0]), TypeError, "must be an integer"),
    (np.array([True]), TypeError, "must be an integer"),
    (np.array([1], object), TypeError, "must be an integer"),
    (np.array(["2020-01-01"], "M8[D]"), TypeError, "must be an integer"),
]


@pytest.mark.parametrize(("t", "error", "words"), NOT_TIMES)
def test_what_is_no_time_is_refused(t, error, words):
    out = np.full(np.shape(t), 7.0)
    for given_out in (None, out):
        if isinstance(t, int) and abs(t) >= 2**63 and given_out is not None:
            continue  # NumPy has no integer for it
        with pytest.raises(error) as caught:
            oc.Linear(0.1, steps=10)(t, out=given_out)
        assert words in str(caught.value)
    assert (out == 7.0).all(), "something was written"


# Laws

straight = st.floats(1e-3, 1e3)
ending = st.sampled_from([oc.Linear, oc.Cosine, oc.Root, oc.Polynomial])


@given(ending, number, number, count)
def test_ends_are_exact_and_last(cls, start, end, steps):
    schedule = cls(start, end, steps=steps)
    assert schedule(0) == start
    assert schedule(np.array([steps, steps + 1, 2 * steps, LAST])).tolist() == [end] * 4


@given(
    st.one_of(
        st.builds(lambda cls, *ends, steps: cls(*sorted(ends), steps=steps), ending, straight, straight,
                  steps=st.integers(1, 10_000)),
        st.builds(oc.Growing, fraction, positive, cap=st.floats(1.0, 1e3)),
        st.builds(oc.Step, positive, st.integers(1, 100), st.floats(1.0, 2.0)),
    )
)  # fmt: skip
def test_what_grows_never_falls(schedule):
    assert (np.diff(schedule(np.arange(2000)).clip(max=1e300)) >= 0.0).all()


@given(
    st.one_of(
        st.builds(lambda cls, *ends, steps: cls(*sorted(ends)[::-1], steps=steps), ending, straight, straight,
                  steps=st.integers(1, 10_000)),
        st.builds(oc.Exponential, positive, st.floats(0.1, 1.0), steps=st.integers(1, 1000), staircase=st.booleans()),
        st.builds(oc.InverseTime, positive, fraction),
        st.builds(oc.InversePower, positive, st.floats(0.1, 3.0)),
        st.builds(oc.MultiStep, positive, rising, st.floats(0.0, 1.0)),
    )
)  # fmt: skip
def test_what_decays_never_rises(schedule):
    assert (np.diff(schedule(np.arange(2000))) <= 0.0).all()


@given(any_schedule, st.integers(0, 2**53), st.integers(0, 2**53), count, number, st.lists(time, min_size=1))
def test_shift_every_times_and_clamp(schedule, n, more, every, factor, times):
    t = np.array(times)
    later = np.array([min(one + n, LAST) for one in times])
    assert bits(schedule.shift(n)(t)) == bits(schedule(later))
    assert bits(schedule.shift(n).shift(more)(t)) == bits(schedule(np.array([min(x + n + more, LAST) for x in times])))
    assert bits(schedule.every(every)(t)) == bits(schedule(t // every))
    with np.errstate(all="ignore"):
        assert bits((schedule * factor)(t)) == bits(schedule(t) * factor)
    assert schedule * factor == factor * schedule == np.float64(factor) * schedule
    low, high = sorted((factor, 1.0))
    clamped = schedule.clamp(low, high)(t)
    assert ((clamped >= low) & (clamped <= high) | np.isnan(clamped)).all()
    inside = (schedule(t) >= low) & (schedule(t) <= high)
    assert bits(clamped[inside]) == bits(schedule(t)[inside])


@given(sized(any_schedule), st.lists(time, min_size=1))
def test_join_gives_each_part_its_own_time(pair, times):
    parts, boundaries = pair
    joined = oc.Join(parts, boundaries)
    t = np.concatenate([np.array(times), around(*boundaries)])
    for part, first, end in zip(parts, [0, *boundaries], [*boundaries, LAST + 1], strict=True):
        inside = t[(t >= first) & (t <= end - 1)]
        assert bits(joined(inside)) == bits(part(inside - first))


@given(count, st.one_of(forms), number)
def test_warmup_ends_at_the_first_value(steps, then, start):
    schedule = oc.Warmup(steps, then, start)
    peak = then(0)
    assert schedule(steps - 1) == schedule(steps) == peak or math.isnan(peak)
    assert bits(schedule(np.arange(steps, steps + 50))) == bits(then(np.arange(50)))


@given(st.integers(3, 10**6), st.floats(0.0, 1.0), positive)
def test_one_cycle_has_its_peak_and_its_end_where_it_says(steps, pct, peak):
    schedule = oc.OneCycle(peak, steps=steps, pct=pct)
    top = min(max(round(pct * (steps - 1)), 1), steps - 2)
    assert schedule(0) == peak / 25
    assert schedule(top) == peak
    assert schedule(steps - 1) == schedule(steps) == peak / 25 / 10_000
    assert schedule(np.array([top - 1, top + 1])).max() < peak


def test_restarts_have_their_peaks_and_ends():
    schedule = oc.CosineRestarts(1.0, 0.1, steps=5, mult=2, decay=0.5)
    starts, lengths = [0, 5, 15, 35], [5, 10, 20, 40]
    assert schedule(np.array(starts)).tolist() == [1.0, 0.5, 0.25, 0.125]
    assert schedule(np.array(starts) + np.array(lengths) - 1).tolist() == [0.1] * 4
    for start, length in zip(starts, lengths, strict=True):
        assert (np.diff(schedule(np.arange(start, start + length))) < 0.0).all()


def test_warmup_stable_decay_is_flat_between():
    schedule = oc.WarmupStableDecay(0.3, warmup=10, stable=5, decay=10, end=0.1, shape="sqrt")
    assert schedule(0) == 0.3 * 1 / 10
    assert schedule(np.arange(9, 16)).tolist() == [0.3] * 7
    assert schedule(25) == schedule(LAST) == 0.1


# Values


def test_schedules_are_immutable_values():
    schedule = oc.Cosine(0.1, steps=10)
    with pytest.raises(dataclasses.FrozenInstanceError):
        schedule.start = 0.2
    with pytest.raises(AttributeError):
        schedule.depth = 2
    with pytest.raises(RuntimeError, match="cannot be changed"):
        schedule._compile("constant")
    assert schedule(5) == oc.Cosine(0.1, steps=10)(5)


def test_schedules_of_different_classes_differ():
    assert len(set(SCHEDULES)) == len(SCHEDULES)
    assert oc.Linear(0.1, steps=10) != oc.Root(0.1, steps=10)
    assert oc.Linear(0.1, steps=10) != 0.1


def test_fields_are_made_python_numbers():
    schedule = oc.Join(
        [oc.Linear(np.float32(0.5), np.int64(0), steps=np.int8(5)), np.float64(0.25)], np.array([5, 7])[:1]
    )
    assert schedule == oc.Join((oc.Linear(0.5, 0, steps=5), 0.25), (5,))
    assert "np" not in repr(schedule)
    for one in (
        oc.Exponential(1, np.float64(0.5), staircase=np.True_),
        oc.OneCycle(np.float64(1), steps=np.int32(9), start=np.float32(0.5), shape=np.str_("linear")),
        oc.Cyclic(np.float64(0), 1, up=np.uint8(3), down=np.uint8(4), mode=np.str_("triangular2")),
        oc.Piecewise(np.array([0.5, 0.25]), np.array([3])),
        oc.MultiStep(1, [3, 4]),
        (oc.Constant(1) * np.float32(0.5)).clamp(np.float64(0), 1).shift(np.int64(3)).every(np.uint8(2)),
    ):
        assert "np" not in repr(one)
        assert eval(repr(one), NAMES) == one
        assert hash(one)


def test_nesting_has_a_limit():
    schedule = oc.Constant(0.5)
    for _ in range(31):
        schedule = schedule * 1.0
    assert schedule(np.arange(3)).tolist() == [0.5] * 3
    assert eval(repr(schedule), NAMES) == parse(repr(schedule)) == pickle.loads(pickle.dumps(schedule)) == schedule
    with pytest.raises(ValueError, match="can be nested 32 deep, not 33"):
        schedule.clamp(0.0, 1.0)


def test_what_schedules_share_is_no_schedule():
    with pytest.raises(TypeError, match="make one of its subclasses"):
        oc.Schedule()
    for empty in (oc.Cosine.__new__(oc.Cosine), schedules.Compiled()):
        with pytest.raises(TypeError, match="has not been given its values"):
            empty(0)
    with pytest.raises(ValueError, match="has not been given its values"):
        oc.Cosine.__new__(oc.Cosine) * 0.5


def test_all_is_exported_and_documented():
    for cls in (*oc.Schedule.__subclasses__(), oc.Plateau, oc.BackOff):
        assert cls.__doc__
        if cls not in (Times, Clamp, Shift, Every):
            assert cls.__name__ in oc.__all__
            assert ">>>" in cls.__doc__


# Errors

REFUSED = [
    (lambda: oc.Constant(math.nan), ValueError, "lr must be a finite number"),
    (lambda: oc.Constant(math.inf), ValueError, "lr must be a finite number"),
    (lambda: oc.Constant("0.1"), TypeError, "lr must be"),
    (lambda: oc.Constant(True), TypeError, "lr must be"),
    (lambda: oc.Constant(0.1j), TypeError, "lr must be"),
    (lambda: oc.Constant(10**400), ValueError, "lr must be"),
    (lambda: oc.Step(0.1, size=0), ValueError, "size must be from 1"),
    (lambda: oc.Step(0.1, size=5, gamma=-0.1), ValueError, "gamma must be a finite number >= 0"),
    (lambda: oc.Step(0.1, size=5.0), TypeError, "size must be an integer, got 5.0"),
    (lambda: oc.MultiStep(0.1, (5, 5)), ValueError, "milestones[1] = 5 comes after 5"),
    (lambda: oc.MultiStep(0.1, (9, 5)), ValueError, "milestones must rise"),
    (lambda: oc.MultiStep(0.1, (0, 5)), ValueError, "milestones[0] must be from 1"),
    (lambda: oc.MultiStep(0.1, 5), TypeError, "milestones must be a sequence of integers, got 5"),
    (lambda: oc.Piecewise((0.1, 0.2), ()), ValueError, "0 boundaries need 1 values, got 2"),
    (lambda: oc.Piecewise((0.1, math.nan), (5,)), ValueError, "values[1] must be a finite number"),
    (lambda: oc.Piecewise(0.1, (5,)), TypeError, "values must be a sequence of numbers"),
    (lambda: oc.Exponential(0.1, 0.0), ValueError, "rate must be a finite number > 0"),
    (lambda: oc.Exponential(0.1, 0.9, steps=-3), ValueError, "steps must be from 1 to 2**53, got -3"),
    (lambda: oc.Exponential(0.1, 0.9, staircase=2), TypeError, "staircase must be True or False"),
    (lambda: oc.InverseTime(0.1, -1.0), ValueError, "rate must be a finite number >= 0"),
    (lambda: oc.InversePower(0.1, offset=0.0), ValueError, "offset must be a finite number > 0"),
    (lambda: oc.InversePower(0.1, power=2.0, offset=1e-300), ValueError, "lr / offset ** power, must be finite"),
    (lambda: oc.Linear(0.1, steps=0), ValueError, "steps must be from 1 to 2**53, got 0"),
    (lambda: oc.Linear(0.1, steps=2**53 + 1), ValueError, "steps must be from 1 to 2**53"),
    (lambda: oc.Linear(0.1, steps=True), TypeError, "steps must be an integer, got True"),
    (lambda: oc.Linear(0.1), TypeError, "steps"),
    (lambda: oc.Polynomial(0.1, steps=10, power=0.0), ValueError, "power must be a finite number > 0"),
    (lambda: oc.Root(math.nan, steps=10), ValueError, "start must be a finite number"),
    (lambda: oc.Growing(0.1, 0.5), TypeError, "cap"),
    (lambda: oc.Growing(0.1, 0.5, cap=0.05), ValueError, "cap must be at least lr, got cap=0.05 and lr=0.1"),
    (lambda: oc.Growing(0.1, 0.5, cap=math.inf), ValueError, "cap must be a finite number"),
    (lambda: oc.Cosine(0.1, math.nan, steps=10), ValueError, "end must be a finite number"),
    (lambda: oc.CosineRestarts(0.1, steps=10, mult=0), ValueError, "mult must be from 1"),
    (lambda: oc.CosineRestarts(0.1, steps=10, decay=1.5), ValueError, "decay must be between 0 and 1"),
    (lambda: oc.Cyclic(0.1, 0.2, up=0), ValueError, "up must be from 1"),
    (lambda: oc.Cyclic(0.1, 0.2, up=5, down=0), ValueError, "down must be from 1"),
    (lambda: oc.Cyclic(0.1, 0.2, up=5, mode="square"), ValueError, "mode must be one of 'triangular'"),
    (lambda: oc.Cyclic(0.1, 0.2, up=5, gamma=0.9), ValueError, 'gamma is for mode="exp_range"'),
    (lambda: oc.Cyclic(0.1, 0.2, up=5, gamma=2.0, mode="exp_range"), ValueError, "gamma must be above 0 and at most 1"),
    (lambda: oc.OneCycle(0.1, steps=2), ValueError, "steps must be from 3"),
    (lambda: oc.OneCycle(0.1, steps=9, pct=1.5), ValueError, "pct must be between 0 and 1"),
    (lambda: oc.OneCycle(0.1, steps=9, start=math.nan), ValueError, "start must be a finite number"),
    (lambda: oc.OneCycle(0.1, steps=9, shape="sqrt"), ValueError, "shape must be one of 'cosine', 'linear'"),
    (lambda: oc.Noam(d=0, warmup=5), ValueError, "d must be from 1"),
    (lambda: oc.WarmupStableDecay(0.1, warmup=-1, stable=0, decay=1), ValueError, "warmup must be from 0"),
    (lambda: oc.WarmupStableDecay(0.1, warmup=1, stable=0, decay=0), ValueError, "decay must be from 1"),
    (lambda: oc.Warmup(0, 0.1), ValueError, "steps must be from 1"),
    (lambda: oc.Warmup(5, None), TypeError, "then must be a schedule or a number, got None"),
    (lambda: oc.Warmup(5, oc.Plateau(0.1)), TypeError, "then must be a schedule or a number"),
    (lambda: oc.Join((0.1, 0.2), (0,)), ValueError, "boundaries[0] must be from 1"),
    (lambda: oc.Join((0.1, 0.2, 0.3), (5, 3)), ValueError, "boundaries must rise"),
    (lambda: oc.Join((0.1,), (5,)), ValueError, "1 boundaries need 2 schedules, got 1"),
    (lambda: oc.Join(0.1, ()), TypeError, "schedules must be a sequence of schedules"),
    (lambda: oc.Join((0.1, "0.2"), (5,)), TypeError, "schedules[1] must be a schedule or a number"),
    (lambda: oc.Constant(0.1) * math.nan, ValueError, "factor must be a finite number"),
    (lambda: oc.Constant(0.1) * oc.Constant(0.1), TypeError, "factor must be"),
    (lambda: oc.Constant(0.1) * np.ones(3), TypeError, "factor must be"),
    (lambda: oc.Constant(0.1).clamp(1.0, 0.5), ValueError, "low must be at most high, got 1.0 and 0.5"),
    (lambda: oc.Constant(0.1).clamp(math.nan, 0.5), ValueError, "low must be"),
    (lambda: oc.Constant(0.1).shift(-1), ValueError, "n must be from 0"),
    (lambda: oc.Constant(0.1).every(0), ValueError, "n must be from 1"),
    (lambda: Times(None, 0.5), TypeError, "schedule must be a schedule or a number"),
    (lambda: oc.Plateau(0.1, factor=1.0), ValueError, "factor must be above 0 and below 1"),
    (lambda: oc.Plateau(0.1, patience=-1), ValueError, "patience must be from 0"),
    (lambda: oc.Plateau(0.1, mode="low"), ValueError, "mode must be one of 'min', 'max'"),
    (lambda: oc.Plateau(0.1, relative=1), TypeError, "relative must be True or False"),
    (lambda: oc.Plateau(0.1, minimum=0.2), ValueError, "minimum must be at most lr"),
    (lambda: oc.BackOff(0.0), ValueError, "lr must be a finite number > 0"),
    (lambda: oc.BackOff(0.1, minimum=0.2), ValueError, "minimum must be at most lr"),
    (lambda: oc.BackOff(0.1, factor=math.nan), ValueError, "factor must be above 0"),
    (lambda: oc.BackOff(0.1).update(), TypeError, "needs a metric or a gradient"),
    (lambda: oc.BackOff(0.1).update("0"), TypeError, "metric must be a number"),
    (lambda: oc.Plateau(0.1).update(None), TypeError, "metric must be a number"),
]


@pytest.mark.parametrize(("make", "error", "words"), REFUSED)
def test_what_is_refused_is_named(make, error, words):
    with pytest.raises(error) as caught:
        make()
    assert words in str(caught.value)


# Text

NOT_SCHEDULES = [
    ("", "cannot be read"),
    ("Cosine(", "cannot be read"),
    ("Cosine(0.1, steps=10)\0", "cannot be read"),
    ("Cosine(0.1, steps=10); 1", "cannot be read"),
    ("Cosin(0.1, steps=10)", "there is no such schedule; did you mean 'Cosine'?"),
    ("Cosine(0.1)", "steps"),
    ("Cosine(0.1, steps=0)", "at character 1, 'Cosine(0.1, steps=0)': steps must be from 1"),
    ("Warmup(5, Cosine(0.1, steps=-1))", "at character 11, 'Cosine(0.1, steps=-1)': steps must be from 1"),
    ("Cosine(0.1, steps=5, steps=6)", "repeated names"),
    ("Cosine(**{'start': 1})", "** and repeated names"),
    ("Cosine(*(1, 2))", "only schedules"),
    ("0.1", "this is no schedule; a constant one is Constant(...)"),
    ("'Cosine'", "this is no schedule"),
    ("Cosine", "only schedules"),
    ("Constant(0.1) + 1", "only schedules"),
    ("Constant(2 ** 10)", "only schedules"),
    ("Constant(1e999)", "lr must be a finite number"),
    ("Constant(0.1j)", "only schedules"),
    ("'x' * 1000000000 * 1000000000", "only a schedule can be multiplied"),
    ("(1,) * 1000000000", "only a schedule can be multiplied"),
    ("__import__('os').system('true')", "can be called"),
    ("Constant.__init__.__globals__", "only schedules"),
    ("Constant(0.1).__class__", "only schedules"),
    ("Constant(0.1).__reduce__()", "can be called"),
    ("Constant(0.1)._compile('constant')", "can be called"),
    ("Constant(0.1)(0)", "can be called"),
    ("Schedule()", "there is no such schedule"),
    ("parse('Constant(0.1)')", "there is no such schedule"),
    ("[x for x in ()]", "only schedules"),
    ("(lambda: 0)()", "can be called"),
    ("f'{1}'", "only schedules"),
    ("(y := Constant(0.1))", "only schedules"),
    ("Constant(0.1) if True else 0", "only schedules"),
    ("-" * 2000 + "1", ""),
    ("(" * 150 + "1" + ")" * 150, ""),
    ("Constant(0.1)" + " * 1" * 1500, "nested"),
    ("Constant(0.1)" + ".shift(1)" * 900, "nested"),
    ("[" * 3000, ""),
    ("Constant(" + "9" * 9000 + ")", ""),
    ("Piecewise((" + "0.1," * 3000 + "), ())", "at most 10000 characters"),
]


@pytest.mark.filterwarnings("ignore::SyntaxWarning")
@pytest.mark.parametrize(("text", "words"), NOT_SCHEDULES, ids=[text[:30] for text, _ in NOT_SCHEDULES])
def test_text_that_is_no_schedule_is_refused(text, words):
    with pytest.raises(ValueError) as caught:
        parse(text)
    assert words in str(caught.value)
    assert len(str(caught.value)) < 25_000


def test_text_must_be_text():
    with pytest.raises(TypeError, match="described by a string, got 5"):
        parse(5)


@settings(max_examples=300)
@given(st.text() | st.text("CosinetaL()*.,=-1e[]'\" \n", max_size=60).map(lambda tail: "Cosine(1, steps=5" + tail))
@pytest.mark.filterwarnings("ignore::SyntaxWarning", "ignore::DeprecationWarning")
def test_any_text_is_read_or_refused(text):
    with contextlib.suppress(ValueError):
        assert callable(parse(text))


def test_text_is_read_as_python_would():
    ramp = oc.Warmup(5, oc.Cosine(1e-3, -1.5, steps=1_000))
    assert parse("  2 * Warmup(5, Cosine(1e-3, -1.5, steps=1_000)).clamp(-1e999, 1)\n") == 2 * ramp.clamp(-math.inf, 1)
    assert parse("Join([Linear(1, steps=5), 0.5], [3])") == oc.Join((oc.Linear(1, steps=5), 0.5), (3,))
    assert repr(parse("Plateau(0.1, mode='max')")) == repr(oc.Plateau(0.1, mode="max"))
    assert repr(parse("BackOff(0.245)")) == repr(oc.BackOff(0.245))


# Feedback


def test_plateau_counts_waits_and_stops():
    plateau = oc.Plateau(1.0, factor=0.5, patience=2, cooldown=2, minimum=0.2)
    seen = [plateau.update(1.0) for _ in range(20)]
    # Best at once, three bad ones, then two that are not counted after each reduction.
    assert seen == [1.0] * 3 + [0.5] * 5 + [0.25] * 5 + [0.2] * 7


def test_plateau_knows_better():
    assert oc.Plateau(1.0, threshold=0.1)._better(math.inf)
    for options, best, better, worse in [
        ({"threshold": 0.1}, 1.0, 0.89, 0.91),
        ({"threshold": 0.1}, -1.0, -1.11, -1.09),
        ({"threshold": 0.1, "mode": "max"}, 1.0, 1.11, 1.09),
        ({"threshold": 0.1, "mode": "max"}, -1.0, -0.89, -0.91),
        ({"threshold": 0.5, "relative": False}, 10.0, 9.4, 9.6),
        ({"threshold": 0.5, "relative": False, "mode": "max"}, 10.0, 10.6, 10.4),
        ({"threshold": 0.0}, 0.0, -5e-324, 0.0),
    ]:
        plateau = oc.Plateau(1.0, patience=0, factor=0.5, **options)
        plateau.update(best)
        assert copy.copy(plateau).update(better) == 1.0
        assert copy.copy(plateau).update(worse) == 0.5
        assert copy.copy(plateau).update(math.nan) == 0.5


def test_back_off_takes_a_tenth_off_at_each_crossing():
    """Start at 0.245, take 10 % off each time the iterate steps across the minimum, stop at tolerance 1e-6."""
    p = np.array([3.0])
    opt = oc.SGD(p, lr=oc.BackOff(0.245, factor=0.9))
    rate, x, last = 0.245, 3.0, None
    for _ in range(1000):
        g = 10.0 * (p - 1.0)
        plain = 10.0 * (x - 1.0)
        if last is not None and plain * last < 0:
            rate = max(rate * 0.9, 0.0)
        last = plain
        assert opt.lr.update(gradient=g) == rate
        if abs(plain) < 1e-6:
            break
        before = p.copy()
        opt.step(g)
        x = x - rate * plain
        assert p[0] == x
        assert (before[0] - 1.0) * (p[0] - 1.0) < 0 or rate < 0.1, "above 1 / 10 every step crosses"
    assert abs(p[0] - 1.0) < 1e-6
    assert rate < 0.245


def test_back_off_without_a_crossing_keeps_its_rate():
    rate = oc.BackOff(0.05)
    assert [rate.update(gradient=[g]) for g in (3.0, 2.0, 0.0, 1.0)] == [0.05] * 4
    assert rate.update(gradient=[-1.0]) == 0.05 * 0.9


def test_back_off_follows_losses_too():
    rate = oc.BackOff(1.0, factor=0.5, minimum=0.2)
    assert [rate.update(loss) for loss in (3.0, 2.0, 2.5, 2.5, math.nan, 1.0, 2.0)] == [1, 1, 0.5, 0.5, 0.25, 0.2, 0.2]
    both = oc.BackOff(1.0, factor=0.5)
    both.update(1.0, gradient=[1.0, 2.0])
    assert both.update(2.0, gradient=[-1.0, -2.0]) == 0.5, "once for both"
    with pytest.raises(ValueError, match="has 3 elements, the last one had 2"):
        both.update(gradient=[1.0, 2.0, 3.0])


FEEDBACK = [
    (oc.Plateau(1.0, patience=1, factor=0.5, cooldown=1), [3.0, 2.0, 2.0, 2.0, 2.0, math.nan, 1.0, 1.0, 1.0]),
    (oc.BackOff(1.0), [3.0, 2.0, 4.0, 5.0, 1.0, 2.0, math.nan, 1.0]),
]


@pytest.mark.parametrize(("feedback", "metrics"), FEEDBACK, ids=["Plateau", "BackOff"])
def test_feedback_stops_and_goes_on(feedback, metrics):
    whole = copy.deepcopy(feedback)
    expected = [whole.update(metric) for metric in metrics]
    for stop in range(len(metrics)):
        first = copy.copy(feedback)
        seen = [first.update(metric) for metric in metrics[:stop]]
        loaded = eval(repr(feedback), NAMES)
        loaded.load_state_dict(json.loads(json.dumps(first.state_dict())))
        for other in (first, loaded, pickle.loads(pickle.dumps(first)), copy.deepcopy(first)):
            assert seen + [other.update(metric) for metric in metrics[stop:]] == expected
            assert other(12345) == expected[-1]


def test_feedback_refuses_the_state_of_another():
    plateau, rate = oc.Plateau(0.5), oc.BackOff(0.5)
    with pytest.raises(ValueError, match="the state of a Plateau has"):
        plateau.load_state_dict(rate.state_dict())
    assert plateau == oc.Plateau(0.5)


# Builds


def digest():
    return hashlib.sha256(b"".join(bits(schedule(TIMES)) for schedule in SCHEDULES)).hexdigest()


def test_instruction_sets_agree():
    environment = {**os.environ, "OPTCORE_BASELINE": "1"}
    run = subprocess.run([sys.executable, __file__], env=environment, capture_output=True, text=True, check=True)
    assert digest() == run.stdout.strip()


@pytest.mark.skipif(
    not (ROOT / "src").exists() or sys.platform == "win32" or shutil.which("cc") is None,
    reason="needs the source tree and a compiler that takes gcc's options",
)
@pytest.mark.parametrize("flags", [(), ("-mavx2",)])
def test_every_loop_vectorises(flags, tmp_path):
    lines = Path(ROOT / "src/optcore/_curves.pyx").read_text().splitlines()
    # Past 2**52 a conversion is one instruction for one element. Below, SSE2 lacks a comparison of 64-bit integers.
    needed = {i + 1 for i, line in enumerate(lines) if "for i in range(" in line}
    needed -= {i for i, line in enumerate(lines) if "<double> (t[i]" in line or ("bounded =" in line and not flags)}
    assert not needed - set(vectorised("_curves", tmp_path, *flags))


if __name__ == "__main__":
    print(digest())
