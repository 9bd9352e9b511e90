"""The schedule-free optimizers: the average that they are, and the two numbers that a group carries for it."""

import re

import numpy as np
import pytest
from support import DTYPES, bits, make

import optcore as oc

NAMES = ["schedule_free_sgd", "schedule_free_adamw"]


def run(opt, p, steps, seed=0):
    """z after every step."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(steps):
        opt.step((p + rng.normal(size=p.shape)).astype(p.dtype))
        found.append(opt.state["0"]["z"].copy())
    return found


@pytest.mark.parametrize("name", NAMES)
def test_x_is_the_mean_of_z(name):
    """With equal weights, in exact arithmetic; 60 roundings at most keep it within 1e-14 of that."""
    p = np.array([1.0, -2.0, 3.0])
    opt = make(name, {}, p, weight_lr_power=0.0)
    z = run(opt, p, 60)
    np.testing.assert_allclose(opt.averaged(), np.mean(z, axis=0), rtol=0, atol=1e-14)


@pytest.mark.parametrize("name", NAMES)
def test_weights_are_squares_of_the_largest_rate_so_far(name):
    rates = [0.0, 0.1, 0.2, 0.3, 0.1, 0.0]
    p = np.array([1.0, -2.0, 3.0])
    opt = make(name, {}, p, lr=lambda t: rates[t])
    z = run(opt, p, 6)
    weights = np.square([0.0, 0.1, 0.2, 0.3, 0.3, 0.3])
    np.testing.assert_allclose(opt.averaged(), weights @ z / weights.sum(), rtol=1e-14)  # a few roundings
    assert opt._carried()[0]["largest_lr"] == 0.3


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_parameters_are_between_z_and_x(name, dtype):
    p = np.array([1.0, -2.0], dtype)
    key = "beta" if name == "schedule_free_sgd" else "betas"
    opt = make(name, {}, p, **{key: 0.0 if key == "beta" else (0.0, 0.999)})
    z = run(opt, p, 5)
    assert bits(p) == bits(z[-1])
    opt = make(name, {}, p)
    run(opt, p, 5)
    x, z = opt.averaged(), opt.state["0"]["z"]
    keep, beta = dtype(1 - 0.9), dtype(0.9)
    assert bits(p) == bits(keep * z + beta * x)


def test_starting_again_at_t_0_forgets_the_weights():
    p = np.ones(2)
    opt = oc.ScheduleFreeSGD(p, lr=0.5)
    run(opt, p, 5)
    opt.t = 0
    opt.step(np.ones(2))
    assert opt._carried() == [{"largest_lr": 0.5, "sum_of_weights": 0.25}]


@pytest.mark.parametrize("on_nonfinite", ["raise", "skip"])
def test_a_step_that_is_not_made_carries_nothing(on_nonfinite):
    p = np.ones(2)
    opt = oc.ScheduleFreeSGD(p, lr=0.5, on_nonfinite=on_nonfinite)
    run(opt, p, 3)
    before = opt._carried()
    for bad in (np.full(2, np.nan), np.ones(3)):
        try:
            opt.step(bad)
        except (FloatingPointError, ValueError):
            pass
        else:
            assert on_nonfinite == "skip"
        assert opt._carried() == before


def test_groups_carry_their_own():
    params = [np.ones(2), np.ones(2)]
    opt = oc.ScheduleFreeSGD([{"params": params[0], "lr": 0.1}, {"params": params[1], "lr": 0.2}], lr=1.0)
    opt.step([np.ones(2)] * 2)
    assert [group["largest_lr"] for group in opt._carried()] == [0.1, 0.2]
    again = oc.ScheduleFreeSGD([{"params": params[0]}, {"params": params[1]}], lr=1.0)
    again.load_state_dict(opt.state_dict())
    assert again._carried() == opt._carried()


@pytest.mark.parametrize(
    ("carried", "message"),
    [
        ([{}], "a group of the state must carry ['largest_lr', 'sum_of_weights'], got {}"),
        ([{"largest_lr": 0.1, "sum_of_weights": -1.0}], "sum_of_weights must be a finite number >= 0, got -1.0"),
        ([None], "got None"),
    ],
)
def test_bad_numbers_are_refused(carried, message):
    opt = oc.ScheduleFreeSGD(np.ones(2), lr=0.5)
    state = {**opt.state_dict(), "carried": carried, "t": 7}
    with pytest.raises((TypeError, ValueError), match=re.escape(message)):
        opt.load_state_dict(state)
    assert opt.t == 0


@pytest.mark.parametrize("strict", [True, False])
def test_groups_must_be_the_same(strict):
    """The numbers of one group say nothing about another."""
    a, b = np.ones(2), np.ones(3)
    there = oc.ScheduleFreeSGD([{"params": {"a": a}}, {"params": {"b": b}}], lr=0.5)
    there.step({"a": np.ones(2), "b": np.ones(3)})
    for groups in (
        [{"params": {"a": a, "b": b}}],
        [{"params": {"b": b}}, {"params": {"a": a}}],
        [{"params": {"a": a}}],
    ):
        here = oc.ScheduleFreeSGD(groups, lr=0.5)
        with pytest.raises(ValueError, match="parameters"):
            here.load_state_dict(there.state_dict(), strict=strict)
        assert here.t == 0
    with pytest.raises(ValueError, match="carries numbers for each group"):
        there.load_state_dict({**there.state_dict(), "carried": []}, strict=strict)


@pytest.mark.parametrize("option", ["bounds", "averaging", "decoupled_weight_decay"])
@pytest.mark.parametrize("name", NAMES)
def test_what_the_average_settles_is_refused_by_name(name, option):
    with pytest.raises(TypeError, match=f"takes no {option}"):
        make(name, {}, np.ones(2), **{option: None})
