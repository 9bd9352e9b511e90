"""Golden vectors: what optax and Keras make of the gradients of torch_vectors.py by rules that torch lacks, in float64.

    python tests/golden/optax_vectors.py [file]

writes optax.json, or the file: optax's Lion and AdaBelief, and Keras's Ftrl. It needs the libraries of the versions
below, on x86-64 Linux; reading the vectors (tests/test_golden.py) needs none of them.

Design
------
- Start, gradients and shapes are those of torch.json, and the cases have the same form.
- jax runs each operation by itself (disable_jit), so that XLA has nothing to contract.
- XLA takes subnormal numbers for zeros. The element of 2**-530, whose square is subnormal, shows it in AdaBelief's
  second moment. In Ftrl it would put an error as large as the gradient into z. So Keras, whose Ftrl is one text for
  all of its backends, runs on torch, which keeps them.
- Keras's Ftrl is Algorithm 1 of McMahan et al. 2013, with half its l2 and an accumulator that starts above zero
  unless told otherwise: FTRL(l2=x) is Ftrl(l2_regularization_strength=x / 2, initial_accumulator_value=0).
"""

import importlib
import json
import os
import sys
from pathlib import Path

import numpy as np
import torch_vectors
from torch_vectors import SNAPSHOTS, load_torch, split, write

VERSIONS = {"optax": "0.2.8", "jax": "0.10.2", "keras": "3.15.1", "torch": torch_vectors.VERSION}
FILE = Path(__file__).with_name("optax.json")

# Each case: the library, its function or class and keywords, and optcore's.
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
}
# Their names of state arrays, and optcore's.
STATE = {"lion": {"mu": "m"}, "adabelief": {"mu": "m", "nu": "s"}}


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
    rule = getattr(optax, function)(**keywords)
    with jax.disable_jit():
        parameters = [jax.numpy.asarray(array) for array in split(start)]
        state = rule.init(parameters)
        after = []
        for step in gradients:
            updates, state = rule.update([jax.numpy.asarray(g) for g in split(step)], state, parameters)
            parameters = optax.apply_updates(parameters, updates)
            after.append([np.asarray(p) for p in parameters])
    arrays = {ours: getattr(state[0], theirs) for theirs, ours in STATE[function].items()}
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
    library, name, keywords, ours, our_keywords = case
    after, state = {"optax": run_optax, "keras": run_keras}[library](name, keywords, start, gradients)
    arrays = [*after[-1], *(array for kept in state for array in kept.values())]
    assert all(array.dtype == np.float64 for array in arrays)
    return {
        library: {"name": name, "keywords": keywords},
        "optcore": [{"class": ours, "keywords": our_keywords, "groups": None}],
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
