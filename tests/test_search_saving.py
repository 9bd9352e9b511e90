"""Searches that stop and go on: states, files, pickles and copies."""

import copy
import json
import pickle

import numpy as np
import pytest
from search_support import FORMS, documented_noise, evaluated, form_id, make
from support import bits

import optcore as oc
from optcore.candidates import leaves
from optcore.search import RandomDifferences


@pytest.mark.parametrize("way", ["state_dict", "file", "pickle", "deepcopy"])
@pytest.mark.parametrize(("name", "form"), FORMS, ids=form_id)
def test_stop_and_go_on(name, form, way, tmp_path):
    def build(x, seed=2**70):
        schedules = {} if name == "spsa" else {"sigma": oc.Exponential(0.5, 0.9), "lr": oc.Cosine(0.1, steps=9)}
        return make(name, x, seed=seed, optimizer="adam", averaging=oc.EMA(0.9), **schedules, **form)

    whole, part = build(np.zeros(3)), build(np.zeros(3))
    for s, iterations in ((whole, 8), (part, 4)):
        for _ in range(iterations):
            s.tell(evaluated(s))
    part.ask()  # what was asked and not told is asked again
    if way == "state_dict":
        state, x = part.state_dict(), part.params.copy()
        part.tell(evaluated(part))  # of which the state knows nothing
        part = build(x, seed=1)
        part.load_state_dict(state)
    elif way == "file":
        part.save(tmp_path / "search.npz")
        part = build(part.params, seed=1)
        part.load(tmp_path / "search.npz")
    elif way == "pickle":
        part = pickle.loads(pickle.dumps(part))
    else:
        part = copy.deepcopy(part)
    for _ in range(4):
        part.tell(evaluated(part))
    assert part.options["seed"] == 2**70
    assert (part.iteration, part.evaluations, part.failed) == (8, 64, 0)
    assert known(part) == known(whole)


def known(s):
    """All that a search has found."""
    numbers = [s.params, s.optimizer.averaged(), s.best.params, s.best.value]
    if s.normalizer is not None:
        for moments in (s.normalizer.known, s.best.states):
            numbers += [float(moments.count), moments.mean, moments.m2]
    return [s.best.id, *map(bits, numbers)]


def test_a_state_before_anything_happened(tmp_path):
    for form in ({}, {"normalize_states": True}):
        s = make("ars", np.zeros(3), **form)
        s.save(tmp_path / "s.npz")
        again = make("ars", np.zeros(3), seed=1, **form)
        again.load(tmp_path / "s.npz")
        assert again.best is None
        assert again.options == s.options
        assert bits(again.ask()[0].params) == bits(s.ask()[0].params)


def test_states_are_copies(tmp_path):
    s = make("ars", np.zeros(3), normalize_states=True)
    for _ in range(3):
        s.tell(evaluated(s))
    state = s.state_dict()
    s.save(tmp_path / "s.npz")
    assert s.best.id[0] == 2
    wanted = [bits(a) for a in (s.best.params, s.best.states.mean, s.best.states.m2)]
    assert wanted[1] != bits(s.normalizer.known.mean), "the last iteration is not known to its candidates"
    s.best.params[:] = 9.0
    for load in (lambda one: one.load_state_dict(state), lambda one: one.load(tmp_path / "s.npz")):
        again = make("ars", np.zeros(3), normalize_states=True, seed=1)
        again.ask()
        load(again)
        assert [bits(a) for a in (again.best.params, again.best.states.mean, again.best.states.m2)] == wanted
        assert again.best.states.count == s.best.states.count == 2 * 8 * 5
        again.best.params[:] = 9.0
        again.ask()
        load(again)  # maybe with another seed
        with pytest.raises(ValueError, match="nothing was asked in iteration 3"):
            again.tell(np.zeros(8))
    assert bits(state["state"]["0"]["search_best"]) == wanted[0]


def test_groups_and_structures_are_saved(tmp_path):
    kinds = {
        "list": lambda: [np.zeros((2, 1)), np.ones(2, np.float32)],
        "mapping": lambda: {"a/b": np.zeros((2, 1)), "é": np.ones(2, np.float32)},
        "groups": lambda: [{"params": {"W": np.zeros(2)}}, {"params": {"b": np.array(1.0)}, "lr": 0.5}],
    }
    for build in kinds.values():
        s = make("ars", build())
        s.ask()
        s.tell(np.arange(8.0))
        s.save(tmp_path / "s.npz")
        again = make("ars", build())
        again.load(tmp_path / "s.npz")
        assert type(again.best.params) is type(s.best.params)
        assert [bits(a) for a in leaves(again.best.params)] == [bits(a) for a in leaves(s.best.params)]


def test_what_no_file_keeps(tmp_path):
    s = RandomDifferences(np.zeros(2), sigma=lambda k: 0.5 / (k + 1), lr=0.1, seed=0)
    s.save(tmp_path / "s.npz")
    again = RandomDifferences(np.zeros(2), sigma=0.1, lr=0.1)
    with pytest.raises(ValueError, match="sigma was a function that no file can keep; pass it as sigma="):
        again.load(tmp_path / "s.npz")
    assert again.options["seed"] != 0
    again = RandomDifferences(np.zeros(2), sigma=lambda k: 0.25, lr=0.1)
    again.load(tmp_path / "s.npz")
    assert bits(again.ask()[0].params) == bits(0.25 * documented_noise(0, 0, 0, 2))


def test_states_that_do_not_fit(tmp_path):
    s = make("ars", np.zeros(3), optimizer="adam", normalize_states=True)
    s.tell(evaluated(s))
    good = s.state_dict()

    def changed(*path, value):
        state = copy.deepcopy(good)
        place = state
        for key in path[:-1]:
            place = place[key]
        if value is None:
            del place[path[-1]]
        else:
            place[path[-1]] = value
        return state

    cases = [
        (s.optimizer.state_dict(), "not the state of an optcore search"),
        ({}, "not the state of an optcore search"),
        (None, "not the state of an optcore search"),
        (changed("search", "class", value="SPSA"), "a search by SPSA, not by ARS"),
        (changed("search", "options", "top", value=None), "not whole, or of another: 'top'"),
        (changed("search", "options", "top", value=9), "top must be at most directions, got 9 of 4"),
        (changed("search", "options", "sigma", value=-1.0), "sigma must be"),
        (changed("search", "iteration", value=None), "not whole, or of another: 'iteration'"),
        (changed("search", "iteration", value=-1), "iteration must be from 0"),
        (changed("search", "iteration", value=1.5), "iteration must be an integer"),
        (changed("search", "best", "value", value="x"), "could not convert"),
        (changed("search", "states", "mean", value=None), "'mean'"),
        (changed("search", "states", "mean", value=[1.0]), "mean and m2 have different shapes"),
        (changed("search", "states", "count", value=-1), "count must be from 0"),
        (changed("state", "0", "search_best", value=None), "'search_best'"),
        (changed("state", "0", "search_best", value=np.zeros(4)), "the best point has other shapes"),
        (changed("state", "0", "m", value=np.zeros(4)), "the state 'm' of '0' is float64 (4,)"),
        (changed("class", value="SGD"), "the state belongs to another optimizer"),
    ]
    x = np.zeros(3)
    other = make("ars", x, optimizer="adam", normalize_states=True, seed=1)
    for state, words in cases:
        before = pickle.dumps(other.state_dict())
        with pytest.raises(ValueError) as caught:
            other.load_state_dict(state)
        assert words in str(caught.value)
        assert pickle.dumps(other.state_dict()) == before
    other.load_state_dict(good)
    (tmp_path / "x.npz").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="not a whole state file"):
        other.load(tmp_path / "x.npz")
    s.optimizer.save(tmp_path / "optimizer.npz")
    with pytest.raises(ValueError, match="not the state of an optcore search"):
        other.load(tmp_path / "optimizer.npz")


def test_the_file_has_no_pickles(tmp_path):
    s = make("ars", np.zeros(3), normalize_states=True)
    s.tell(evaluated(s))
    s.save(tmp_path / "s.npz")
    with np.load(tmp_path / "s.npz", allow_pickle=False) as file:
        assert {key: file[key].dtype.kind for key in file.files} == {"header": "U", "state/0/search_best": "f"}
        assert json.loads(str(file["header"]))["search"]["class"] == "ARS"
