"""Searches at work: what they are told, their best point, and the loop with its callbacks and interruptions."""

import math
import pickle
import re

import numpy as np
import pytest
from search_support import INF, NAN, RNG, make, policy, sphere
from support import bits

import optcore as oc
from optcore import ask_and_tell, search

# ---------------------------------------------------------------------- telling


def test_values_may_come_in_any_order():
    results = set()
    for order in range(6):
        x = np.zeros(3)
        s = make("ars", x)
        for _ in range(3):
            evaluations = [c.evaluate(sphere) for c in s.ask()]
            RNG(order).shuffle(evaluations)
            by_id = {e.id: e.value for e in evaluations}
            kinds = [evaluations, iter(evaluations), by_id, [by_id[c.id] for c in s.ask()]]
            s.tell(kinds[order % 4])
        results.add(bits(x))
    assert len(results) == 1


GOOD = [(0, i) for i in range(4)]
BAD_VALUES = {
    "too few": ([1.0] * 3, ValueError, "there is no value of candidate (0, 3)"),
    "too many": ([1.0] * 5, ValueError, "no candidate (0, 4); those of iteration 0 are (0, 0) to (0, 3)"),
    "none": ([], ValueError, "candidate (0, 0) (iteration 0, direction 0, sign +1), and of 3 more"),
    "missing": (dict.fromkeys(GOOD[:3], 1.0), ValueError, "there is no value of candidate (0, 3) (iteration 0, direct"),
    "two missing": (dict.fromkeys(GOOD[::3], 1.0), ValueError, "direction 0, sign -1), and of 1 more"),
    "twice": ([search.Evaluation(key, 1.0) for key in [*GOOD, GOOD[2]]], ValueError, "two values of candidate (0, 2)"),
    "wrong index": (dict.fromkeys([*GOOD, (0, 4)], 1.0), ValueError, "those of iteration 0 are (0, 0) to (0, 3)"),
    "center": (dict.fromkeys([*GOOD, (0, -1)], 1.0), ValueError, "there is no candidate (0, -1)"),
    "stale": (dict.fromkeys([(1, 0), *GOOD], 1.0), ValueError, "there is no candidate (1, 0)"),
    "no id": (dict.fromkeys(range(4), 1.0), ValueError, "there is no candidate 0"),
    "a list": ([search.Evaluation([0, 0], 1.0)], ValueError, "there is no candidate [0, 0]"),
    "mixed": ([search.Evaluation(GOOD[1], 1.0), 1.0, 1.0, 1.0], ValueError, "two values of candidate (0, 1)"),
    "text": ([1.0, "2", 1.0, 1.0], TypeError, "sign -1) must be a real number, got '2'"),
    "None": ([1.0, 1.0, None, 1.0], TypeError, "candidate (0, 2)"),
    "bool": ([1.0, 1.0, True, 1.0], TypeError, "got True"),
    "complex": ([1.0, 1.0, 1j, 1.0], TypeError, "got 1j"),
    "numpy's complex": ([1.0, 1.0, np.complex128(1), 1.0], TypeError, "real number"),
    "array": ([1.0, 1.0, np.ones(1), 1.0], TypeError, "got array([1.])"),
    "by id": (dict.fromkeys(GOOD, "x"), TypeError, "candidate (0, 0)"),
    "too large": ([1.0, 10**400, 1.0, 1.0], TypeError, "candidate (0, 1)"),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD_VALUES)
def test_bad_values(what):
    values, error, words = BAD_VALUES[what]
    x = np.ones(3)
    s = make("ars", x, directions=2, optimizer="adam")
    s.ask()
    before = (bits(x), pickle.dumps(s.state_dict()))
    with pytest.raises(error) as caught:
        s.tell(values)
    assert words in str(caught.value)
    assert (bits(x), pickle.dumps(s.state_dict())) == before
    s.tell([1.0, 2, np.float32(3.0), np.array(4.0)])
    assert s.iteration == 1


def test_told_without_being_asked():
    s = make("ars", np.zeros(3))
    with pytest.raises(ValueError, match=r"nothing was asked in iteration 0; call ask\(\) before tell\(\)"):
        s.tell(np.zeros(8))
    candidates = s.ask()
    s.tell(np.zeros(8))
    with pytest.raises(ValueError, match="nothing was asked in iteration 1"):
        s.tell(np.zeros(8))
    s.ask()
    with pytest.raises(ValueError, match=r"there is no candidate \(0, 0\); those of iteration 1"):
        s.tell({candidate.id: 1.0 for candidate in candidates})


def test_a_step_that_fails_changes_nothing():
    """Here the estimate is infinite, which the optimizer was told to refuse."""
    x = np.ones(3)
    s = make("ars", x, scale_by_std=False, on_nonfinite="raise", directions=1)
    candidates = s.ask()
    before = (bits(x), pickle.dumps(s.state_dict()))
    with pytest.raises(FloatingPointError):
        s.tell([1e308, -1e308])
    assert (bits(x), pickle.dumps(s.state_dict())) == before
    assert s.last_values is None
    s.tell({candidate.id: 1.0 for candidate in candidates})
    assert s.iteration == s.optimizer.t == 1
    s = make("ars", x, scale_by_std=False, on_nonfinite="skip", directions=1)
    s.ask()
    s.tell([1e308, -1e308])
    assert (s.iteration, s.optimizer.t, s.optimizer.skipped, s.failed) == (1, 0, 1, 0)


@pytest.mark.parametrize("maximize", [False, True])
def test_best(maximize):
    x = np.zeros(3)
    s = make("ars", x, directions=2, maximize=maximize)
    sign = -1 if maximize else 1
    assert s.best is None
    first = s.ask()
    s.tell([sign * v for v in (3.0, 2.0, 2.0, INF)])
    assert (s.best.id, s.best.value) == ((0, 1), sign * 2.0), "the first of equal ones"
    assert bits(s.best.params) == bits(first[1].params)
    s.ask()
    s.tell([sign * v for v in (2.0, 2.5, 3.0, NAN)])
    assert s.best.id == (0, 1)
    third = s.ask()
    s.tell([sign * v for v in (2.0, 2.5, 1.0, NAN)])
    assert (s.best.id, s.best.value) == ((2, 2), sign * 1.0), "also where its pair failed"
    assert bits(s.best.params) == bits(third[2].params)


# ---------------------------------------------------------------------- the loop


def test_run_is_ask_and_tell():
    x, y = np.zeros(3), np.zeros(3)
    s, by_hand = make("ars", x), make("ars", y)
    result = s.run(sphere, maxiter=5)
    for _ in range(5):
        by_hand.tell([sphere(c.params) for c in by_hand.ask()])
    assert bits(x) == bits(y) == bits(result.center)
    assert (result.nit, result.nfev, result.status, result.success) == (5, 41, 1, True)
    assert result.message == "Maximum number of iterations has been reached."
    assert result.center_fun == sphere(x)
    assert result.fun == min(by_hand.best.value, sphere(x)) == sphere(result.x)
    s.run(sphere, maxiter=3)
    for _ in range(3):
        by_hand.tell([sphere(c.params) for c in by_hand.ask()])
    assert bits(x) == bits(y), "evaluating the center changes no bit of what follows"


def test_the_normalizer_of_the_best_point_belongs_to_it():
    """It is that of its iteration, whatever was seen afterwards."""
    s = make("ars", np.zeros(3), normalize_states=True)
    for maxiter in range(1, 6):
        result = s.run(policy, maxiter=maxiter)
        assert policy(result.x, result.normalizer) == result.fun
        assert policy(result.center, s.normalizer) == result.center_fun
    values = iter([*range(8), *range(8, 17)])
    s = make("ars", np.zeros(3), normalize_states=True)
    result = s.run(lambda weights, normalizer: 0 * normalizer([1.0])[0] + next(values), maxiter=2)
    assert (s.best.id, result.normalizer.known.count, s.normalizer.known.count) == ((0, 0), 0, 16)
    assert "normalizer" not in make("ars", np.zeros(3)).run(sphere, maxiter=1)


@pytest.mark.parametrize("order", range(3))
def test_maps_may_answer_in_any_order(order):
    rng = RNG(order)

    def shuffled(function, candidates):
        candidates = list(candidates)
        rng.shuffle(candidates)
        results = [function(candidate) for candidate in candidates]
        rng.shuffle(results)
        return iter(results)

    found = []
    for workers in (shuffled, 1):
        s = make("ars", np.zeros(3), normalize_states=True)
        s.run(policy, maxiter=4, workers=workers)
        found.append([bits(a) for a in (s.params, s.normalizer.known.mean, s.normalizer.known.m2)])
    assert found[0] == found[1]


def test_maps_that_lose_or_repeat():
    x = np.zeros(3)
    s = make("ars", x)
    with pytest.raises(ValueError, match=r"there is no value of candidate \(0, 7\)"):
        s.run(sphere, maxiter=1, workers=lambda f, c: [f(one) for one in c[:-1]])
    with pytest.raises(ValueError, match=r"there are two values of candidate \(0, 0\)"):
        s.run(sphere, maxiter=1, workers=lambda f, c: [f(c[0]), *map(f, c)])
    assert s.iteration == 0
    assert (x == 0.0).all()


def test_exceptions_name_the_candidate():
    x = np.zeros(3)
    s = make("ars", x)
    calls = []

    def fun(params):
        calls.append(1)
        if len(calls) == 8 + 4:
            raise KeyError("no such key")
        return sphere(params)

    with pytest.raises(KeyError, match="no such key") as caught:
        s.run(fun, maxiter=3)
    assert caught.value.__notes__ == ["raised by candidate (1, 3) (iteration 1, direction 1, sign -1)"]
    assert s.iteration == s.optimizer.t == 1
    s.run(fun, maxiter=2)
    y = np.zeros(3)
    make("ars", y).run(sphere, maxiter=3)
    assert bits(x) == bits(y), "it went on with the iteration that failed"

    def stop(params):
        raise StopIteration

    with pytest.raises(RuntimeError, match=r"fun raised StopIteration for candidate \(3, 0\)"):
        s.run(stop, maxiter=1)
    with pytest.raises(TypeError, match=r"the value of candidate \(3, 0\) .* must be a real number, got None"):
        s.run(lambda x: None, maxiter=1)
    s = make("ars", x)
    with pytest.raises(ZeroDivisionError) as caught:
        s.run(lambda x: 1 / 0, maxiter=0)
    assert caught.value.__notes__ == ["raised by the center after 0 iterations"]


def test_callback():
    seen = []

    def new(intermediate_result):
        seen.append(intermediate_result)

    s = make("ars", np.zeros(3))
    result = s.run(sphere, maxiter=3, callback=new)
    assert [r.nit for r in seen] == [1, 2, 3]
    assert [r.nfev for r in seen] == [8, 16, 24]
    assert [r.fun for r in seen] == sorted((r.fun for r in seen), reverse=True)
    assert all(r.last_values.shape == (4, 2) and r.fun == sphere(r.x) for r in seen)
    assert seen[0].last_values.min() == seen[0].fun
    result.x[:] = 9.0
    assert bits(s.best.params) == bits(seen[2].x), "results are copies"

    def old(x):
        points.append(x)
        if len(points) == 2:
            raise StopIteration

    points = []
    s = make("ars", np.zeros(3))
    result = s.run(sphere, maxiter=9, callback=old)
    assert bits(points[1]) == bits(seen[1].x)
    assert (result.nit, result.status, result.success) == (2, 99, False)
    assert result.message == "`callback` raised `StopIteration`."
    assert result.center_fun == sphere(s.params)


def test_interruption_returns_the_best_so_far():
    calls = []

    def fun(x):
        calls.append(sphere(x))
        if len(calls) == 8 * 2 + 5:
            raise KeyboardInterrupt
        return calls[-1]

    x, y = np.zeros(3), np.zeros(3)
    s = make("ars", x)
    result = s.run(fun, maxiter=9)
    assert (result.nit, result.nfev, result.status, result.success) == (2, 16, 5, False)
    assert result.message == "Interrupted from the keyboard."
    assert result.fun == min(calls[:16]) == sphere(result.x)
    assert math.isnan(result.center_fun)
    s.run(sphere, maxiter=2)
    make("ars", y).run(sphere, maxiter=4)
    assert bits(x) == bits(y)

    def interrupted(x):
        raise KeyboardInterrupt

    result = search.minimize(interrupted, [0.0, 0.0], sigma=0.1, lr=0.1)
    assert (result.status, result.nit) == (5, 0)
    assert math.isnan(result.fun)
    assert result.x.tolist() == [0.0, 0.0]


def test_an_interruption_behind_the_step_counts_it():
    """A signal that comes while the step runs is delivered when it is done."""
    x = np.zeros(3)

    class Interrupted(oc.SGD):
        def step(self, grads=None):
            super().step(grads)
            if self.t == 2:
                raise KeyboardInterrupt

    s = make("ars", x, optimizer=Interrupted)
    result = s.run(sphere, maxiter=5)
    assert (result.status, s.iteration, s.optimizer.t) == (5, 2, 2)


def test_all_fail():
    with pytest.warns(RuntimeWarning, match="no step was taken"):
        result = search.minimize(lambda x: NAN, [1.0, 2.0], sigma=0.1, lr=0.1, maxiter=3)
    assert (result.status, result.success, result.message) == (
        3,
        False,
        "There is no way to start: at x0, no value is finite.",
    )
    assert result.x.tolist() == [1.0, 2.0]
    assert math.isnan(result.fun)
    assert result.failed == 24


def test_arguments_of_the_loop():
    s = make("ars", np.zeros(2))
    cases = [
        ({"maxiter": -1}, ValueError, "maxiter must be from 0"),
        ({"maxiter": 1.5}, TypeError, "maxiter must be an integer"),
        ({"fun": 3}, TypeError, "fun must be callable, got 3"),
        ({"callback": 3}, TypeError, "callback must be callable, got 3"),
        ({"workers": 0}, ValueError, "workers must be at least 1, or -1 for one process per CPU; got 0"),
        ({"workers": -2}, ValueError, "got -2"),
        ({"workers": 2.0}, TypeError, "workers must be an integer, or map-like as pool.map is; got 2.0"),
        ({"workers": True}, TypeError, "workers must be an integer"),
        ({"workers": None}, TypeError, "workers must be an integer"),
        ({"disp": "yes"}, ValueError, "disp must be True or False"),
    ]
    for keywords, error, words in cases:
        keywords = {"fun": sphere, "maxiter": 1, **keywords}
        with pytest.raises(error, match=re.escape(words)):
            s.run(**keywords)
    assert s.iteration == 0
    assert s.run(lambda x, a, b: a * sphere(x) + b, maxiter=0, args=(2.0, 1.0)).fun == 5.0
    assert s.run(lambda x, a: a, maxiter=0, args=2.0).center_fun == 2.0, "what is no tuple is one argument"


def test_progress_and_summary(capsys, monkeypatch):
    s = make("ars", np.zeros(2))
    s.run(sphere, maxiter=2)
    assert capsys.readouterr() == ("", "")
    result = s.run(sphere, maxiter=2, disp=1)  # as SciPy's users write it; here nobody watches, so there is no bar
    summary = f"Maximum number of iterations has been reached.\nvalue {result.fun:g}, 4 iterations, 34 evaluations\n"
    assert capsys.readouterr() == (summary, "")
    bars = []

    class Bar:
        def __init__(self, *arguments):
            bars.append(self)
            self.arguments, self.count, self.text, self.closed = arguments, 0, "", False

        def set_postfix_str(self, text, refresh):
            self.text = text

        def update(self):
            self.count += 1

        def close(self):
            self.closed = True

    monkeypatch.setattr(ask_and_tell, "progress_bar", Bar)
    s.run(sphere, maxiter=2, disp=True)
    with pytest.raises(ZeroDivisionError):
        s.run(lambda x: 1 / 0, maxiter=3, disp=True)
    first, second = bars
    assert first.arguments == (True, 2, "iterations")
    assert (first.count, second.count) == (2, 0)
    assert first.text == f"best {s.best.value:.6g}"
    assert first.closed
    assert second.closed


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "method 'ars' needs sigma=..., lr=...; got []"),
        ({"sigma": 0.1}, "method 'ars' needs lr=...; got ['sigma']"),
        ({"method": "spsa", "a": 1.0}, "method 'spsa' needs c=...; got ['a']"),
    ],
)
def test_what_a_method_needs_is_said(options, words):
    with pytest.raises(TypeError, match=re.escape(words)):
        search.minimize(np.sum, [1.0, 2.0], **options)
