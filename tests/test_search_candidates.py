"""What searches ask about: the noise of candidates, their parameters, and the states that policies see."""

import itertools
import pickle
from fractions import Fraction

import numpy as np
import pytest
from search_support import INF, NAN, RNG, documented_noise, make, policy, sphere
from support import bits

import optcore as oc
from optcore.normalization import Moments, Normalizer
from optcore.search import METHODS, RandomDifferences

# ---------------------------------------------------------------------- noise


def philox(counter, key):
    """Philox4x64-10 (Salmon, Moraes, Dror & Shaw 2011), in Python's integers."""
    mask = 2**64 - 1
    c, k = list(counter), list(key)
    for _ in range(10):
        first, third = 0xD2E7470EE14C6C93 * c[0], 0xCA5A826395121157 * c[2]
        c = [third >> 64 ^ c[1] ^ k[0], third & mask, first >> 64 ^ c[3] ^ k[1], first & mask]
        k = [(k[0] + 0x9E3779B97F4A7C15) & mask, (k[1] + 0xBB67AE8584CAA73B) & mask]
    return c


def test_philox_of_the_test():
    """The known answers of Random123, the authors' library."""
    assert philox([0] * 4, [0] * 2) == [
        0x16554D9ECA36314C,
        0xDB20FE9D672D0FDC,
        0xD7E772CEE186176B,
        0x7E68B68AEC7BA23B,
    ]
    assert philox([2**64 - 1] * 4, [2**64 - 1] * 2) == [
        0x87B092C3013FE90B,
        0x438C3C67BE8D0224,
        0x9CC7D7C69CD777B6,
        0xA09CAEBF594F0BA0,
    ]


@pytest.mark.parametrize("seed", [0, 5, 2**64 + 3, 2**128 - 1])
def test_signs_are_the_bits_of_philox(seed):
    s = make("spsa", np.zeros(300), seed=seed, directions=3)
    for iteration in range(2):
        candidates = s.ask()
        for direction in range(3):
            words = [
                word
                for block in range(1, 3)  # NumPy counts before it draws
                for word in philox([block, 0, direction, iteration], [seed % 2**64, seed >> 64])
            ]
            signs = [1.0 if words[i // 64] >> (i % 64) & 1 else -1.0 for i in range(300)]
            assert (np.sign(candidates[2 * direction].params) == signs).all()
        s.tell(np.zeros(6))


def test_the_stream_of_normal_numbers():
    """It is the documented one, and the same as ever: these are the values of NumPy 1.26.4 and 2.4.6."""
    s = make("ars", np.zeros(4000), sigma=0.5, seed=12345)
    s.tell([0.0 for _ in s.ask()])
    candidate = s.ask()[6]
    assert (candidate.iteration, candidate.direction, candidate.sign) == (1, 3, 1)
    assert bits(candidate.params / 0.5) == bits(documented_noise(12345, 1, 3, 4000))
    drawn = documented_noise(12345, 7, 3, 1000)
    assert [x.hex() for x in drawn[:3].tolist()] == [
        "0x1.a4630333db180p+0", "-0x1.e34d7cbc99d23p-1", "0x1.a60677d1f51d1p+0",
    ]  # fmt: skip
    assert drawn[909].hex() == "-0x1.165dcdb8d7381p+2", "beyond 3.66, where the logarithm is needed"


def test_every_direction_iteration_and_seed_has_its_own_noise():
    seen = set()
    for name, seed in itertools.product(("ars", "spsa"), (0, 1, 2**64)):
        s = make(name, np.zeros(70), seed=seed)
        for _ in range(3):
            seen |= {bits(np.sign(candidate.params)) for candidate in s.ask()[::2]}
            s.tell(np.zeros(8))
    assert len(seen) == 2 * 3 * 3 * 4


def test_without_a_seed_every_search_is_another():
    first, second = (make("ars", np.zeros(3), seed=None) for _ in range(2))
    assert bits(first.ask()[0].params) != bits(second.ask()[0].params)
    again = make("ars", np.zeros(3), seed=first.options["seed"])
    assert bits(first.ask()[0].params) == bits(again.ask()[0].params)


@pytest.mark.parametrize("name", METHODS)
def test_parameters_are_perturbed_together(name):
    """However the elements are spread over arrays, element i has the same noise; float32 rounds it."""
    flat = make(name, np.zeros(7)).ask()[3].params
    named = make(name, {"W": np.zeros((2, 2)), "b": np.zeros(3)}).ask()[3].params
    assert bits(np.concatenate([named["W"].ravel(), named["b"]])) == bits(flat)
    listed = make(name, [np.zeros((1, 3)), np.array(0.0), np.zeros(3, np.float32)]).ask()[3].params
    assert all(type(p) is np.ndarray for p in listed)
    assert [(p.shape, p.dtype) for p in listed] == [((1, 3), float), ((), float), ((3,), np.float32)]
    assert bits(np.concatenate([p.ravel() for p in listed[:2]])) == bits(flat[:4])
    scale = np.float32(-0.25)
    assert bits(listed[2]) == bits(scale * (flat[4:] / -0.25).astype(np.float32))
    groups = [{"params": np.zeros(4)}, {"params": np.zeros(3), "lr": 0.5}]
    assert bits(np.concatenate(make(name, groups).ask()[3].params)) == bits(flat)


# ---------------------------------------------------------------------- candidates


def test_candidates():
    x = RNG(0).normal(size=5)
    s = RandomDifferences(x, sigma=0.3, directions=3, lr=0.1, seed=9)
    candidates = s.ask()
    assert [candidate.id for candidate in candidates] == [(0, i) for i in range(6)]
    assert [candidate.index for candidate in candidates] == list(range(6))
    assert [candidate.direction for candidate in candidates] == [0, 0, 1, 1, 2, 2]
    assert [candidate.sign for candidate in candidates] == [1, -1, 1, -1, 1, -1]
    for candidate in candidates:
        d = documented_noise(9, 0, candidate.direction, 5)
        assert bits(candidate.params) == bits(x + candidate.sign * 0.3 * d)
        again = pickle.loads(pickle.dumps(candidate))
        assert again.id == candidate.id
        assert bits(again.params) == bits(candidate.params)
    assert repr(candidates[3]) == "candidate (0, 3) (iteration 0, direction 1, sign -1)"


@pytest.mark.parametrize("name", METHODS)
def test_asking_changes_nothing(name):
    x = np.ones(3)
    s = make(name, x)
    first = s.ask()
    first[0].params[:] = 9.0
    x_before = bits(x)
    again = s.ask()
    assert bits(x) == x_before
    assert [bits(a.params) for a in again] == [bits(a.params) for a in first]
    s.tell([sphere(a.params) for a in first])  # the older ones have the same ids
    assert bits(first[0].params) == bits(again[0].params), "candidates are made of a copy"


def test_candidates_pickled_together_share_the_center():
    s = make("ars", np.zeros(10_000), directions=50)
    assert len(pickle.dumps(s.ask())) < 1.2 * 80_000


@pytest.mark.parametrize(
    "bounds",
    [(-0.125, 0.125), (None, 0.125), [None, None], (np.full(50, -0.125), np.full(50, 0.125))],
    ids=["numbers", "upper", "none", "arrays"],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_candidates_stay_within_bounds(bounds, dtype):
    if isinstance(bounds[0], np.ndarray):
        bounds = tuple(bound.astype(dtype) for bound in bounds)
    lower, upper = ((none if b is None else b) for b, none in zip(bounds, (-INF, INF), strict=True))
    free, bound = (make("ars", np.zeros(50, dtype), **kw) for kw in ({}, {"bounds": bounds}))
    for _ in range(3):
        for a, b in zip(free.ask(), bound.ask(), strict=True):
            assert b.params.dtype == dtype
            assert bits(b.params) == bits(np.minimum(np.maximum(a.params, lower), upper).astype(dtype))
            assert bits(pickle.loads(pickle.dumps(b)).params) == bits(b.params)
        bound.tell(np.arange(8.0))
        free.params[:] = bound.params
        free.ask()
        state = free.state_dict()
        state["search"]["iteration"] += 1
        free.load_state_dict(state)
    assert (bound.params >= lower).all()
    assert (bound.params <= upper).all()


def test_bounds_that_float32_rounds():
    """As the optimizer rounds them, so that what is clamped there is not outside here."""
    s = make("ars", np.zeros(20, np.float32), sigma=5.0, bounds=(-0.1, 0.1))
    assert set(np.abs(s.ask()[0].params).tolist()) == {float(np.float32(0.1))}


def test_sigma_may_be_a_function():
    s = RandomDifferences(np.zeros(1), sigma=lambda k: 2.0**-k, lr=0.0, seed=0)
    for k in range(4):
        plus, minus = s.ask()
        assert plus.params == -minus.params == 2.0**-k * documented_noise(0, k, 0, 1)
        s.tell([0, 0])
    s = RandomDifferences(np.zeros(1), sigma=oc.Linear(1.0, steps=2), lr=0.0)
    assert s.run(sphere, maxiter=2).nit == 2, "the center needs no sigma"
    with pytest.raises(ValueError, match=r"the value of sigma must be a number > 0 .* got 0\.0"):
        s.ask()


# ---------------------------------------------------------------------- states


def test_the_normalizer_knows_all_states():
    """Against NumPy's mean and standard deviation of them all, together."""
    s = make("ars", np.zeros(3), normalize_states=True)
    states = []

    def fun(weights, normalizer):
        rollout = RNG(int(abs(weights[0]) * 1e6)).normal([5.0, -1e3], [2.0, 1e-3], size=(7, 2))
        for state in rollout:
            seen = normalizer(state)
            if states:
                everything = np.concatenate(states)
                # Both sides round; relative to the deviation the mean -1000 has six digits less than 16.
                np.testing.assert_allclose(seen, (state - everything.mean(0)) / everything.std(0), atol=1e-8)
            else:
                assert (seen == state).all()
        now.append(rollout)
        return float(weights @ weights)

    for _ in range(4):
        now = []
        s.tell([c.evaluate(fun) for c in s.ask()])
        states += now
    assert s.normalizer.known.count == 4 * 8 * 7
    np.testing.assert_allclose(s.normalizer.known.mean, np.concatenate(states).mean(0), rtol=1e-14)


def test_moments_are_stable():
    """Far from zero, where the mean of squares has no digits left: against exact arithmetic."""
    values = (1e9 + RNG(0).normal(size=400)).tolist()
    exact = [Fraction(v) for v in values]
    mean = sum(exact) / len(exact)
    m2 = float(sum((v - mean) ** 2 for v in exact))
    parts = [values[:1], values[1:5], [], values[5:300], values[300:]]
    total = Moments()
    for part in parts:
        n = Normalizer(Moments())
        for value in part:
            n([value])
        assert n.seen.count == len(part)
        total = total.merge(n.seen)
    assert total.count == 400
    # Values are known to 1e-16 * 1e9 = 1e-7, deviations around 1 to 1e-7, and their squares as well.
    assert abs(total.m2[0] - m2) / m2 < 1e-7
    assert abs(total.mean[0] - float(mean)) < 1e-6
    naive = float(np.sum(np.square(values)) - 400 * np.mean(values) ** 2)
    assert abs(naive - m2) / m2 > 0.1, "the naive formula would have done here"


def test_states_that_do_not_vary():
    n = Normalizer(Moments())
    for i in range(5):
        n([0.1, float(i), 1e-9 * i])
    known = n.seen
    assert known.m2[0] == 0.0
    seen = Normalizer(known)([0.1, 2.0, 5e-9])
    assert seen[:2].tolist() == [0.0, 0.0]
    assert seen[2] == 5e-9 - known.mean[2]


def test_the_normalizer_keeps_and_changes_no_state():
    """A simulation may use one array for all its states; without any known, they come back as new ones."""
    n, state = Normalizer(Moments()), np.array([-0.0, 1e300])
    first = n(state)
    assert bits(first) == bits(state)
    state[:] = 5.0
    assert first[1] == 1e300
    seen = n.seen
    n(state)
    assert (seen.count, seen.mean.tolist()) == (1, [0.0, 1e300])


def test_states_of_failed_pairs_do_not_count():
    def fun(weights, normalizer, bad):
        normalizer([1.0])
        value = float(weights @ weights)
        if bad == "state":
            normalizer([INF])
        return NAN if bad == "value" else value

    for bad in ("state", "value"):
        s = make("ars", np.zeros(3), normalize_states=True)
        evaluations = [c.evaluate(fun, bad if c.index == 5 else None) for c in s.ask()]
        s.tell(evaluations)
        assert s.failed == 1
        assert np.isnan(s.last_values[2, 1])
        assert s.normalizer.known.count == 6
        assert s.normalizer.known.mean == 1.0


def test_states_must_be_told():
    s = make("ars", np.zeros(3), normalize_states=True)
    for values in (np.zeros(8), {candidate.id: 0.0 for candidate in s.ask()}):
        with pytest.raises(TypeError, match=r"the states that candidate \(0, 0\) .* saw are missing"):
            s.tell(values)
    with pytest.raises(ValueError, match="states have shape") as caught:
        s.tell([c.evaluate(lambda w, n: n(np.zeros(1 + (c.index > 3))).sum()) for c in s.ask()])  # noqa: B023
    assert "(2,)" in str(caught.value)
    assert s.iteration == 0
    with pytest.raises(ValueError, match=r"the state has shape \(3,\), those before had \(2,\)"):
        s.ask()[0].evaluate(lambda w, n: n([1, 2]).sum() + n([1, 2, 3]).sum())
    s.tell([c.evaluate(policy) for c in s.ask()])
    with pytest.raises(ValueError, match=r"the state has shape \(3,\), those before had \(2,\)") as caught:
        s.ask()[1].evaluate(lambda w, n: n([1, 2, 3]).sum())
    assert caught.value.__notes__ == ["raised by candidate (1, 1) (iteration 1, direction 0, sign -1)"]
