"""What the tests of searches share."""

import numpy as np

from optcore.search import METHODS

NAN, INF = float("nan"), float("inf")
RNG = np.random.default_rng
SMALLEST = {"random_differences": {"sigma": 0.25, "lr": 0.1}, "spsa": {"a": 0.1, "c": 0.25}}
PLAIN_FORMS = [*((name, {}) for name in METHODS), ("ars", {"top": 2}), ("ars", {"scale_by_std": False})]
FORMS = [*PLAIN_FORMS, ("ars", {"normalize_states": True}), ("ars", {"normalize_states": True, "top": 2})]


def form_id(form):
    """A name for what is a dictionary in FORMS; pytest takes care of the rest."""
    return "-".join(f"{key}={value}" for key, value in form.items()) if isinstance(form, dict) else None


def make(name, params, **keywords):
    """A search of the catalogue that lacks nothing."""
    keywords = {**SMALLEST.get(name, {"sigma": 0.25, "lr": 0.1}), "seed": 7, "directions": 4, **keywords}
    if "lr" in keywords:
        keywords.pop("a", None)
    return METHODS[name](params, **keywords)


def sphere(x):
    return float(np.sum((x - 1.0) ** 2))


def policy(weights, normalizer):
    """A rollout of 5 states, which depend on the weights."""
    state, total = np.array([1.0, -2.0]), 0.0
    for _ in range(5):
        seen = normalizer(state)
        total += float(seen @ seen)
        state = 0.5 * state + weights[:2] * 0.1 + 0.3
    return total + sphere(weights)


def evaluated(s):
    """Evaluations of this iteration, whichever function the search needs."""
    fun = policy if s.options.get("normalize_states") else sphere
    return [candidate.evaluate(fun) for candidate in s.ask()]


def documented_noise(seed, iteration, direction, size):
    stream = np.random.Philox(key=seed, counter=[0, 0, direction, iteration])
    return np.random.Generator(stream).standard_normal(size)
