"""Golden vectors: what optax and Keras make of the gradients of torch_vectors.py by rules that torch lacks, in float64.

    python tests/golden/optax_vectors.py [file]

writes optax.json, or the file: optax's Lion, AdaBelief, schedule-free rules, LAMB and LARS, and Keras's Ftrl. It needs
the libraries of the versions below, on x86-64 Linux; reading the vectors (tests/test_golden.py) needs none of them.

Design
------
- Start, gradients and shapes are those of torch.json, and the cases have the same form. Beside it a case may have
  arrays that start at zero, and a learning rate for each number of completed updates.
- jax runs each operation by itself (disable_jit), so that XLA has nothing to contract.
- XLA takes subnormal numbers for zeros. The element of 2**-530, whose square is subnormal, shows it in the second
  moments of AdaBelief, LAMB and schedule-free AdamW. In Ftrl it would put an error as large as the gradient into z. So
  Keras, whose Ftrl is one text for all of its backends, runs on torch, which keeps them.
- Keras's Ftrl is Algorithm 1 of McMahan et al. 2013, with half its l2 and an accumulator that starts above zero
  unless told otherwise: FTRL(l2=x) is Ftrl(l2_regularization_strength=x / 2, initial_accumulator_value=0).
- optax's schedule-free rules keep z, and find x from y and z. Of a learning rate that changes they take the present
  value for the step and the next one for the weight of the average, as one counter starts at 0 and the other at 1.
  Defazio et al. 2024 have the same value for both. So the second counter is set to 0, too.
"""

import importlib
import json
import operator
import os
import sys
from pathlib import Path

import numpy as np
import torch_vectors
from torch_vectors import SNAPSHOTS, STEPS, load_torch, split, write

VERSIONS = {"optax": "0.2.8", "jax": "0.10.2", "keras": "3.15.1", "torch": torch_vectors.VERSION}
FILE = Path(__file__).with_name("optax.json")

# Each case: the library, its function or class and keywords, and optcore's. What may stand beside them: the learning
# rate for each number of completed updates, and the arrays that start at zero.
RISE_AND_FALL = tuple(0.1 * min(t / 10, (STEPS - t) / 50) for t in range(STEPS))
ZERO_VECTOR = {"zero": (False, True)}
FTRL = {"learning_rate": 0.05, "beta": 1.0, "initial_accumulator_value": 0.0}
CASES = {
    "lion": ("optax", "lion", {"learning_rate": 1e-4, "weight_decay": 0.0}, "Lion", {}),
    "lion betas": (
        "optax",
        "lion",
        {"learning_rate": 0.01, "b1": 0.7, "b2": 0.95, "weight_decay": 0.0},
        "Lion",
        {"lr": 0.01, "betas": (0.7, 0.95)},
    ),
    "lion weight_decay": (
        "optax",
        "lion",
        {"learning_rate": 0.01, "weight_decay": 0.3},
        "Lion",
        {"lr": 0.01, "weight_decay": 0.3},
    ),
    "adabelief": ("optax", "adabelief", {"learning_rate": 1e-3}, "AdaBelief", {}),
    "adabelief betas": (
        "optax",
        "adabelief",
        {"learning_rate": 0.03, "b1": 0.7, "b2": 0.95},
        "AdaBelief",
        {"lr": 0.03, "betas": (0.7, 0.95)},
    ),
    "adabelief eps": (
        "optax",
        "adabelief",
        {"learning_rate": 0.01, "eps": 1e-3, "eps_root": 1e-5},
        "AdaBelief",
        {"lr": 0.01, "eps": 1e-3, "eps_root": 1e-5},
    ),
    "adabelief eps_root 0": (
        "optax",
        "adabelief",
        {"learning_rate": 0.01, "eps": 1e-8, "eps_root": 0.0},
        "AdaBelief",
        {"lr": 0.01, "eps": 1e-8, "eps_root": 0.0},
    ),
    "ftrl": ("keras", "Ftrl", FTRL, "FTRL", {"lr": 0.05}),
    "ftrl beta l2": (
        "keras",
        "Ftrl",
        {**FTRL, "learning_rate": 0.3, "beta": 0.25, "l2_regularization_strength": 0.1},
        "FTRL",
        {"lr": 0.3, "beta": 0.25, "l2": 0.2},
    ),
    "ftrl l1": (
        "keras",
        "Ftrl",
        {**FTRL, "l1_regularization_strength": 2.0},
        "FTRL",
        {"lr": 0.05, "l1": 2.0},
    ),
    "ftrl l1 l2": (
        "keras",
        "Ftrl",
        {**FTRL, "l1_regularization_strength": 20.0, "l2_regularization_strength": 2.0},
        "FTRL",
        {"lr": 0.05, "l1": 20.0, "l2": 4.0},
    ),
    "schedule_free_sgd": (
        "optax",
        "contrib.schedule_free_sgd",
        {"learning_rate": 0.05},
        "ScheduleFreeSGD",
        {"lr": 0.05},
    ),
    "schedule_free_sgd beta weight_decay": (
        "optax",
        "contrib.schedule_free_sgd",
        {"learning_rate": 0.05, "b1": 0.6, "weight_decay": 0.1},
        "ScheduleFreeSGD",
        {"lr": 0.05, "beta": 0.6, "weight_decay": 0.1},
    ),
    "schedule_free_sgd lr": ("optax", "contrib.schedule_free_sgd", {}, "ScheduleFreeSGD", {}, {"lr": RISE_AND_FALL}),
    "schedule_free_sgd lr weight_lr_power": (
        "optax",
        "contrib.schedule_free_sgd",
        {"weight_lr_power": 0.7},
        "ScheduleFreeSGD",
        {"weight_lr_power": 0.7},
        {"lr": RISE_AND_FALL},
    ),
    "schedule_free_sgd lr weight_lr_power 0": (
        "optax",
        "contrib.schedule_free_sgd",
        {"weight_lr_power": 0.0},
        "ScheduleFreeSGD",
        {"weight_lr_power": 0.0},
        {"lr": RISE_AND_FALL},
    ),
    "schedule_free_adamw": (
        "optax",
        "contrib.schedule_free_adamw",
        {"learning_rate": 0.0025},
        "ScheduleFreeAdamW",
        {},
    ),
    "schedule_free_adamw betas eps": (
        "optax",
        "contrib.schedule_free_adamw",
        {"learning_rate": 0.03, "b1": 0.7, "b2": 0.95, "eps": 1e-3},
        "ScheduleFreeAdamW",
        {"lr": 0.03, "betas": (0.7, 0.95), "eps": 1e-3},
    ),
    "schedule_free_adamw weight_decay": (
        "optax",
        "contrib.schedule_free_adamw",
        {"learning_rate": 0.03, "weight_decay": 0.3},
        "ScheduleFreeAdamW",
        {"lr": 0.03, "weight_decay": 0.3},
    ),
    "schedule_free_adamw lr weight_decay": (
        "optax",
        "contrib.schedule_free_adamw",
        {"weight_decay": 0.1},
        "ScheduleFreeAdamW",
        {"weight_decay": 0.1},
        {"lr": RISE_AND_FALL},
    ),
    "schedule_free_adamw lr weight_lr_power 0": (
        "optax",
        "contrib.schedule_free_adamw",
        {"weight_lr_power": 0.0},
        "ScheduleFreeAdamW",
        {"weight_lr_power": 0.0},
        {"lr": RISE_AND_FALL},
    ),
    "lamb": ("optax", "lamb", {"learning_rate": 1e-3}, "LAMB", {}),
    "lamb betas eps": (
        "optax",
        "lamb",
        {"learning_rate": 0.03, "b1": 0.7, "b2": 0.95, "eps": 1e-3},
        "LAMB",
        {"lr": 0.03, "betas": (0.7, 0.95), "eps": 1e-3},
    ),
    "lamb weight_decay": (
        "optax",
        "lamb",
        {"learning_rate": 0.01, "weight_decay": 0.3},
        "LAMB",
        {"lr": 0.01, "weight_decay": 0.3},
    ),
    "lamb lr": ("optax", "lamb", {}, "LAMB", {}, {"lr": RISE_AND_FALL}),
    "lamb zero": ("optax", "lamb", {"learning_rate": 0.01}, "LAMB", {"lr": 0.01}, ZERO_VECTOR),
    "lamb zero weight_decay": (
        "optax",
        "lamb",
        {"learning_rate": 0.01, "weight_decay": 0.3},
        "LAMB",
        {"lr": 0.01, "weight_decay": 0.3},
        ZERO_VECTOR,
    ),
    "lars": ("optax", "lars", {"learning_rate": 0.5}, "LARS", {"lr": 0.5}),
    "lars momentum trust_coefficient eps": (
        "optax",
        "lars",
        {"learning_rate": 0.3, "momentum": 0.5, "trust_coefficient": 0.02, "eps": 10.0},
        "LARS",
        {"lr": 0.3, "momentum": 0.5, "trust_coefficient": 0.02, "eps": 10.0},
    ),
    "lars weight_decay": (
        "optax",
        "lars",
        {"learning_rate": 0.5, "weight_decay": 3.0},
        "LARS",
        {"lr": 0.5, "weight_decay": 3.0},
    ),
    "lars lr": ("optax", "lars", {}, "LARS", {}, {"lr": RISE_AND_FALL}),
    "lars zero": ("optax", "lars", {"learning_rate": 0.5}, "LARS", {"lr": 0.5}, ZERO_VECTOR),
    "lars zero weight_decay": (
        "optax",
        "lars",
        {"learning_rate": 0.5, "weight_decay": 3.0},
        "LARS",
        {"lr": 0.5, "weight_decay": 3.0},
        ZERO_VECTOR,
    ),
}
# Their names of state arrays, and optcore's. x is read with optax's function, not kept.
STATE = {
    "lion": {"mu": "m"},
    "adabelief": {"mu": "m", "nu": "s"},
    "contrib.schedule_free_sgd": {"z": "z"},
    "contrib.schedule_free_adamw": {"z": "z", "nu": "v"},
    "lamb": {"mu": "m", "nu": "v"},
    "lars": {"trace": "b"},
}


def load(name):
    """The library; SystemExit where the vectors would be others."""
    wanted = f"{name}=={VERSIONS[name]}"
    try:
        library = importlib.import_module(name)
    except ImportError as error:
        raise SystemExit(f"the vectors need {wanted}, which is not installed") from error
    if library.__version__ != VERSIONS[name]:
        raise SystemExit(f"the vectors need {wanted}, and this is {library.__version__}")
    return library


def run_optax(function, keywords, start, gradients):
    """Parameters after each step, and the state after the last."""
    jax, optax = load("jax"), load("optax")
    schedule_free = function.startswith("contrib.schedule_free")
    if not isinstance(keywords["learning_rate"], float):
        rates = jax.numpy.asarray(keywords["learning_rate"])
        keywords = {**keywords, "learning_rate": lambda t: rates[t]}
    rule = operator.attrgetter(function)(optax)(**keywords)
    with jax.disable_jit():
        parameters = [jax.numpy.asarray(array) for array in split(start)]
        state = rule.init(parameters)
        if schedule_free:
            state = state._replace(step_count=state.step_count - 1)
        after = []
        for step in gradients:
            updates, state = rule.update([jax.numpy.asarray(g) for g in split(step)], state, parameters)
            parameters = optax.apply_updates(parameters, updates)
            after.append([np.asarray(p) for p in parameters])
        arrays = {ours: optax.tree.get(state, theirs) for theirs, ours in STATE[function].items()}
        if schedule_free:
            arrays["x"] = optax.contrib.schedule_free_eval_params(state, parameters)
    return after, [{key: np.asarray(pair[i]) for key, pair in arrays.items()} for i in range(len(parameters))]


def run_keras(class_name, keywords, start, gradients):
    """As ``run_optax``."""
    torch, keras = load_torch(), load("keras")
    keras.config.set_floatx("float64")
    with keras.device("cpu"):
        parameters = [keras.Variable(array, dtype="float64") for array in split(start)]
        rule = getattr(keras.optimizers, class_name)(**keywords)
        rule.build(parameters)
        after = []
        for step in gradients:
            rule.apply([torch.from_numpy(g) for g in split(step)], parameters)
            after.append([keras.ops.convert_to_numpy(p).copy() for p in parameters])
    kept = zip(rule._linears, rule._accumulators, strict=True)
    return after, [{"z": keras.ops.convert_to_numpy(z), "n": keras.ops.convert_to_numpy(n)} for z, n in kept]


def run(case, start, gradients):
    library, name, keywords, ours, our_keywords, *rest = case
    extra = rest[0] if rest else {}
    rates = {"learning_rate": extra["lr"]} if "lr" in extra else {}
    if "zero" in extra:
        pairs = zip(split(start), extra["zero"], strict=True)
        start = np.concatenate([(array * (not zero)).ravel() for array, zero in pairs]).tolist()
    runs = {"optax": run_optax, "keras": run_keras}
    after, state = runs[library](name, {**keywords, **rates}, start, gradients)
    arrays = [*after[-1], *(array for kept in state for array in kept.values())]
    assert all(array.dtype == np.float64 for array in arrays)
    return {
        library: {"name": name, "keywords": keywords},
        "optcore": [{"class": ours, "keywords": our_keywords, "groups": None}],
        **extra,
        "after": {str(t): [p.ravel().tolist() for p in after[t - 1]] for t in SNAPSHOTS},
        "state": [{key: array.ravel().tolist() for key, array in kept.items()} for kept in state],
    }


def main(path):
    os.environ.update(JAX_ENABLE_X64="1", JAX_PLATFORMS="cpu", KERAS_BACKEND="torch")
    load_torch()  # before Keras imports it
    given = json.loads(torch_vectors.FILE.read_text())
    results = {name: run(case, given["start"], given["gradients"]) for name, case in CASES.items()}
    write(path, {"versions": json.dumps(VERSIONS)}, results)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FILE)
