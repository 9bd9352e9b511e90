"""Golden vectors: what torch's optimizers make of one sequence of gradients, in float64.

    python tests/golden/torch_vectors.py [file]

writes torch.json, or the file. It needs x86-64 Linux and torch of the version below, from
``pip install torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu``; reading the vectors
(tests/test_golden.py) needs neither.

Design
------
- Gradients do not depend on the parameters, so that every case sees the same ones and a difference cannot feed back.
- Each element has a habit of its own (ELEMENTS): signs that stay, alternate or come at random, exact zeros, and
  magnitudes from 2**-530, whose square is subnormal, over those that eps outweighs, to 2**7.
- Everything is drawn from random.Random(0).random(), the one generator whose numbers Python promises to keep.
- torch runs without its vector code (ATEN_CPU_CAPABILITY), because that contracts multiplications and additions,
  which optcore forbids. Most cases then agree in every bit.
- torch's square roots come from Intel's MKL: 1 in 80 is off in the last bit, and MKL does not promise the same bits on
  every CPU. IEEE 754 wants them correctly rounded, so numpy's stand in for them. Each case also runs with torch's
  own, and the program fails where that makes a difference beyond rounding.
- JSON, because Python writes the shortest decimals that read back as the same float, and a diff shows them.
"""

import json
import math
import os
import platform
import random
import sys
from pathlib import Path
from unittest import mock

import numpy as np

VERSION = "2.13.0"
FILE = Path(__file__).with_name("torch.json")
SHAPES = ((3, 4), (5,))
STEPS = 60
SNAPSHOTS = (1, 10, STEPS)

ELEMENTS = (
    # Power of two of the gradient's magnitude, and the habit of its sign.
    (-3, "random"),
    (0, "random"),
    (3, "random"),
    (7, "random"),
    (-7, "random"),
    (-14, "random"),
    (-27, "random"),  # about the eps of Adam
    (-20, "same"),
    (0, "same"),
    (4, "alternating"),
    (-530, "random"),
    (0, "zero"),
    # The vector, whose gradients are all zero in steps 20 to 24.
    (-1, "random"),
    (2, "random"),
    (-10, "same"),
    (-34, "random"),  # about the eps of Adagrad
    (5, "alternating"),
)

# torch's names of state arrays, and optcore's.
STATE = {
    "SGD": {"momentum_buffer": "b"},
    "Adagrad": {"sum": "s"},
    "RMSprop": {"square_avg": "s", "momentum_buffer": "b", "grad_avg": "m"},
    "Adadelta": {"square_avg": "s", "acc_delta": "a"},
    "Rprop": {"prev": "prev", "step_size": "step"},
    "Adam": {"exp_avg": "m", "exp_avg_sq": "v", "max_exp_avg_sq": "vmax"},
    "AdamW": {"exp_avg": "m", "exp_avg_sq": "v", "max_exp_avg_sq": "vmax"},
    "Adamax": {"exp_avg": "m", "exp_inf": "u"},
    "NAdam": {"exp_avg": "m", "exp_avg_sq": "v"},
    "RAdam": {"exp_avg": "m", "exp_avg_sq": "v"},
}
NUMBERS = ("step", "mu_product")  # what torch keeps per parameter beside the arrays
RENAMED = {"initial_accumulator_value": "initial_accumulator"}

# Each case: torch's class and keywords, and what may stand beside them: transforms of the gradient, averaging,
# groups, and a further class of optcore for the same rule, with the keyword that chooses it in torch.
MOMENTUM = {"lr": 0.05, "momentum": 0.9}
CASES = {
    "sgd": ("SGD", {"lr": 0.05}),
    "sgd weight_decay": ("SGD", {"lr": 0.05, "weight_decay": 0.1}),
    "sgd maximize": ("SGD", {"lr": 0.05, "maximize": True}),
    "sgd maximize weight_decay": ("SGD", {"lr": 0.05, "maximize": True, "weight_decay": 0.1}),
    "momentum": ("SGD", MOMENTUM, {"also": "Momentum"}),
    "momentum dampening": ("SGD", {**MOMENTUM, "dampening": 0.3}, {"also": "Momentum"}),
    "momentum weight_decay": ("SGD", {**MOMENTUM, "weight_decay": 0.1}, {"also": "Momentum"}),
    "momentum maximize": ("SGD", {**MOMENTUM, "dampening": 0.3, "maximize": True}, {"also": "Momentum"}),
    "nesterov": ("SGD", {**MOMENTUM, "nesterov": True}, {"also": "Nesterov"}),
    "nesterov weight_decay": ("SGD", {**MOMENTUM, "nesterov": True, "weight_decay": 0.1}, {"also": "Nesterov"}),
    "nesterov maximize": ("SGD", {**MOMENTUM, "nesterov": True, "maximize": True}, {"also": "Nesterov"}),
    "adagrad": ("Adagrad", {}),
    "adagrad lr_decay": ("Adagrad", {"lr": 0.3, "lr_decay": 0.07}),
    "adagrad initial_accumulator": ("Adagrad", {"lr": 0.1, "initial_accumulator_value": 0.3, "eps": 1e-4}),
    "adagrad weight_decay": ("Adagrad", {"lr": 0.1, "weight_decay": 0.1}),
    "adagrad maximize": ("Adagrad", {"lr": 0.1, "maximize": True}),
    "rmsprop": ("RMSprop", {}),
    "rmsprop alpha eps": ("RMSprop", {"lr": 0.03, "alpha": 0.9, "eps": 1e-3}),
    "rmsprop momentum": ("RMSprop", {"momentum": 0.9}),
    "rmsprop centered": ("RMSprop", {"centered": True}),
    "rmsprop centered momentum": ("RMSprop", {"centered": True, "momentum": 0.7, "alpha": 0.95, "eps": 1e-4}),
    "rmsprop weight_decay": ("RMSprop", {"weight_decay": 0.1}),
    "rmsprop maximize": ("RMSprop", {"maximize": True, "momentum": 0.5, "weight_decay": 0.1}),
    "adadelta": ("Adadelta", {}),
    "adadelta rho eps": ("Adadelta", {"lr": 0.5, "rho": 0.95, "eps": 1e-3}),
    "adadelta weight_decay": ("Adadelta", {"weight_decay": 0.1}),
    "adadelta maximize": ("Adadelta", {"maximize": True}),
    "rprop": ("Rprop", {}),
    "rprop etas step_sizes": ("Rprop", {"lr": 0.05, "etas": (0.3, 1.7), "step_sizes": (1e-3, 0.4)}),
    "rprop first step": ("Rprop", {"lr": 5.0, "step_sizes": (1e-2, 2.0)}),
    "rprop maximize": ("Rprop", {"maximize": True}),
    "adam": ("Adam", {}),
    "adam betas eps": ("Adam", {"lr": 0.03, "betas": (0.7, 0.95), "eps": 1e-3}),
    "adam weight_decay": ("Adam", {"lr": 0.01, "weight_decay": 0.1}),
    "adam maximize": ("Adam", {"lr": 0.01, "maximize": True}),
    "amsgrad": ("Adam", {"lr": 0.01, "amsgrad": True}, {"also": "AMSGrad"}),
    "amsgrad betas eps": (
        "Adam",
        {"lr": 0.01, "amsgrad": True, "betas": (0.8, 0.9), "eps": 1e-4},
        {"also": "AMSGrad"},
    ),
    "adamw": ("AdamW", {}),
    "adamw weight_decay": ("AdamW", {"lr": 0.02, "weight_decay": 0.3, "maximize": True}),
    "adamw amsgrad": ("AdamW", {"lr": 0.02, "amsgrad": True, "betas": (0.8, 0.9)}),
    "adamax": ("Adamax", {}),
    "adamax betas eps": ("Adamax", {"lr": 0.03, "betas": (0.7, 0.95), "eps": 1e-3}),
    "adamax weight_decay": ("Adamax", {"lr": 0.01, "weight_decay": 0.1}),
    "adamax maximize": ("Adamax", {"lr": 0.01, "maximize": True}),
    "nadam": ("NAdam", {}),
    "nadam betas eps": ("NAdam", {"lr": 0.02, "betas": (0.7, 0.95), "eps": 1e-3}),
    "nadam momentum_decay": ("NAdam", {"lr": 0.01, "momentum_decay": 0.3}),
    "nadam weight_decay": ("NAdam", {"lr": 0.01, "weight_decay": 0.1}),
    "nadam decoupled_weight_decay": ("NAdam", {"lr": 0.02, "weight_decay": 0.3, "decoupled_weight_decay": True}),
    "nadam maximize": ("NAdam", {"lr": 0.01, "maximize": True}),
    # rho_t of the default betas is above 5 from step 6 on, that of 0.6 never, as it stays below 4.
    "radam": ("RAdam", {}),
    "radam betas eps": ("RAdam", {"lr": 0.03, "betas": (0.7, 0.95), "eps": 1e-3}),
    "radam never rectified": ("RAdam", {"lr": 0.003, "betas": (0.8, 0.6)}),
    "radam weight_decay": ("RAdam", {"lr": 0.01, "weight_decay": 0.1}),
    "radam decoupled_weight_decay": ("RAdam", {"lr": 0.02, "weight_decay": 0.3, "decoupled_weight_decay": True}),
    "radam maximize": ("RAdam", {"lr": 0.01, "maximize": True}),
    "clip_value": ("SGD", MOMENTUM, {"clip_value": 0.75}),
    "clip_norm": ("SGD", MOMENTUM, {"clip_norm": 150.0}),
    "clip_norm clip_value weight_decay": (
        "Adam",
        {"lr": 0.01, "maximize": True, "weight_decay": 0.1},
        {"clip_norm": 150.0, "clip_value": 5.0},
    ),
    "average EMA": ("SGD", MOMENTUM, {"averaging": ("EMA", 0.9)}),
    "average Polyak": ("SGD", MOMENTUM, {"averaging": ("Polyak",)}),
    "groups lr": ("SGD", {}, {"groups": ({"lr": 0.05}, {"lr": 0.003})}),
    "groups rmsprop": (
        "RMSprop",
        {"momentum": 0.9},
        {"groups": ({"lr": 0.03, "alpha": 0.9, "momentum": 0.5}, {"lr": 1e-3, "eps": 1e-3, "weight_decay": 0.1})},
    ),
    "groups adam": (
        "Adam",
        {"betas": (0.8, 0.99)},
        {"groups": ({"lr": 0.03, "weight_decay": 0.1}, {"lr": 1e-3, "betas": (0.5, 0.9)})},
    ),
}


def make_start(generator):
    """Parameters of both signs, and one zero, in the two shapes."""
    values = [math.ldexp(generator.random() + 0.5, i % 4) * (-1) ** (i // 2) for i in range(len(ELEMENTS))]
    values[5] = 0.0
    return values


def make_gradients(generator):
    """For each step one number per element."""
    steps = []
    for t in range(STEPS):
        step = []
        for i, (exponent, habit) in enumerate(ELEMENTS):
            mantissa, shift = 1.0 + generator.random(), int(8 * generator.random()) - 4
            positive, zero = generator.random() < 0.5, generator.random() < 0.15
            sign = {"random": 1 if positive else -1, "alternating": (-1) ** t, "same": 1, "zero": 0}[habit]
            absent = (zero and habit == "random") or (i >= math.prod(SHAPES[0]) and 20 <= t + 1 < 25)
            step.append(0.0 if absent else sign * math.ldexp(mantissa, exponent + shift))
        steps.append(step)
    return steps


def split(values):
    """The two arrays, from the numbers of both."""
    n = math.prod(SHAPES[0])
    return [np.array(v).reshape(s) for v, s in zip((values[:n], values[n:]), SHAPES, strict=True)]


def load_torch():
    """torch without fused multiply-adds; SystemExit where the vectors would be others."""
    os.environ["ATEN_CPU_CAPABILITY"] = "default"  # read when torch is imported
    install = f"pip install torch=={VERSION} --index-url https://download.pytorch.org/whl/cpu"
    try:
        import torch
    except ImportError as error:
        raise SystemExit(f"the vectors are those of torch {VERSION}, which is not installed: {install}") from error
    if torch.__version__.partition("+")[0] != VERSION:
        raise SystemExit(f"the vectors are those of torch {VERSION}, and this is {torch.__version__}: {install}")
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise SystemExit("only on x86-64 Linux does torch have a build without fused multiply-adds")
    if torch.backends.cpu.get_cpu_capability() != "DEFAULT":
        raise SystemExit("torch was imported too early to run without fused multiply-adds")
    torch.set_default_dtype(torch.float64)  # NAdam's product of momenta has it, whatever the parameters have
    return torch


def clip_norm(torch, parameters, limit):
    """``torch.nn.utils.clip_grad_norm_`` without the 1e-6 that it adds to the norm.

    That constant is torch's guard against 0 / 0, not a part of clipping, and optcore divides by the norm itself. As
    the two differ by 1e-6 / norm, no tolerance fit for rounding would do. So the norm is torch's, the factor the
    definition's, and torch's function is held against the result at the size of its own constant.
    """
    gradients = [p.grad.clone() for p in parameters]
    norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(g) for g in gradients]))
    total = torch.nn.utils.clip_grad_norm_(parameters, limit, foreach=False)
    assert math.isclose(norm, total, rel_tol=1e-14)
    for p, g in zip(parameters, gradients, strict=True):
        clipped = g * (limit / norm) if norm > limit else g
        assert torch.allclose(p.grad, clipped, rtol=2e-6 / float(norm), atol=0.0)
        p.grad = clipped


def average_function(torch, kind, *decay):
    """torch's function for averages of the kind, and how often it has to be called before the first step.

    The first call copies the parameters. optcore's moving average starts so before the first step, the mean of all
    iterates with the first of them.
    """
    utilities = torch.optim.swa_utils
    return (utilities.get_ema_avg_fn(*decay), 1) if kind == "EMA" else (utilities.get_swa_avg_fn(), 0)


def run(torch, case, start, gradients):
    """Parameters after some of the steps, and the state after the last."""
    class_name, keywords, *rest = case
    extra = rest[0] if rest else {}

    def arrays(values):
        return [torch.from_numpy(array) for array in split(values)]

    model = torch.nn.ParameterList(torch.nn.Parameter(array) for array in arrays(start))
    parameters = list(model)
    grouped = parameters
    if "groups" in extra:
        grouped = [{"params": [p], **values} for p, values in zip(parameters, extra["groups"], strict=True)]
    fused = {"fused": False} if class_name in ("SGD", "Adagrad", "Adam", "AdamW") else {}
    optimizer = getattr(torch.optim, class_name)(grouped, **keywords, foreach=False, **fused)
    averaged = None
    if "averaging" in extra:
        function, calls = average_function(torch, *extra["averaging"])
        averaged = torch.optim.swa_utils.AveragedModel(model, avg_fn=function)
        for _ in range(calls):
            averaged.update_parameters(model)

    after = {}
    for t, step in enumerate(gradients, start=1):
        for p, g in zip(parameters, arrays(step), strict=True):
            p.grad = g
        if "clip_norm" in extra:
            clip_norm(torch, parameters, extra["clip_norm"])
        if "clip_value" in extra:
            torch.nn.utils.clip_grad_value_(parameters, extra["clip_value"], foreach=False)
        optimizer.step()
        if averaged is not None:
            averaged.update_parameters(model)
        if t in SNAPSHOTS:
            after[str(t)] = [p.detach().flatten().tolist() for p in parameters]

    state = []
    for i, p in enumerate(parameters):
        kept = {key: array for key, array in optimizer.state[p].items() if key not in NUMBERS and array is not None}
        named = {STATE[class_name][key]: array.flatten().tolist() for key, array in kept.items()}
        if averaged is not None:
            named["average"] = list(averaged.parameters())[i].detach().flatten().tolist()
        state.append(named)
    return {"after": after, "state": state}


def run_with_exact_roots(torch, run, *arguments):
    """``run(torch, *arguments)`` with correctly rounded roots; AssertionError where that is more than rounding."""

    def root(x):
        return torch.from_numpy(np.sqrt(x.numpy()))

    with mock.patch.multiple(torch.Tensor, sqrt=root, sqrt_=lambda x: x.copy_(root(x))):
        exact = run(torch, *arguments)
    own = run(torch, *arguments)
    for t, parameters in exact["after"].items():
        for ours, theirs in zip(parameters, own["after"][t], strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=0.0)
    return exact


def spellings(case):
    """The case in optcore's words: classes and keywords."""
    class_name, keywords, *rest = case
    extra = rest[0] if rest else {}
    ours = {RENAMED.get(key, key): value for key, value in keywords.items()}
    ours |= {key: extra[key] for key in ("clip_norm", "clip_value", "averaging") if key in extra}
    groups = extra.get("groups")
    if class_name == "SGD" and "lr" not in ours:
        ours["lr"] = groups[0]["lr"]  # required in optcore
    found = [{"class": class_name, "keywords": ours, "groups": groups}]
    if "also" in extra:
        chosen = {key: value for key, value in ours.items() if key not in ("nesterov", "amsgrad")}
        found.append({"class": extra["also"], "keywords": chosen, "groups": groups})
    return found


def write(path, head, results):
    """One line for each step and case, so that a diff names the case. The head has JSON."""
    lines = [f"{json.dumps(key)}: {value},\n" for key, value in head.items()]
    cases = [f"{json.dumps(name)}: {json.dumps(result, allow_nan=False)}" for name, result in results.items()]
    path.write_text("{\n" + "".join(lines) + '"cases": {\n' + ",\n".join(cases) + "\n}\n}\n")


def main(path):
    torch = load_torch()
    generator = random.Random(0)
    start, gradients = make_start(generator), make_gradients(generator)
    results = {
        name: {
            "torch": {"class": case[0], "keywords": case[1]},
            "optcore": spellings(case),
            **run_with_exact_roots(torch, run, case, start, gradients),
        }
        for name, case in CASES.items()
    }

    rows = ",\n".join(json.dumps(step) for step in gradients)
    head = {"torch": json.dumps(VERSION), "shapes": json.dumps(SHAPES), "start": json.dumps(start)}
    write(path, {**head, "gradients": f"[\n{rows}\n]"}, results)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FILE)
