"""Golden values: the learning rates of torch's, optax's and Keras's schedulers, and what optcore calls them.

    python tests/golden/schedules.py [file]

writes schedules.json, or the file. It needs torch, optax (jax) and keras, from ``pip install torch optax keras``;
reading the values (tests/test_golden_schedules.py) needs none of them. docs/schedules.md shows the rows as tables.

Design
------
- ROWS is all that there is to know: the scheduler as its users write it, which is evaluated here; optcore's text for
  the same curve, which the test evaluates; and what one has to mind when moving from one to the other.
- A value is the rate that the library's own SGD applies to the update after t others, found from what the update does
  to a parameter, so that the values tell how each library counts.
- jax and Keras are told to compute in float64; Keras's cosine is in float32 nevertheless. Inside an optimizer optax
  divides an int32 by a number, which makes float32 of it, so its schedules are called with Python's integers instead;
  the optimizer has to agree within float32.
- Every scheduler that a library exports must be in a row: the program fails when a new version brings another.
- JSON, because Python writes the shortest decimals that read back as the same float, and a diff shows them.
"""

import dataclasses
import json
import math
import os
import sys
import types
from pathlib import Path

FILE = Path(__file__).with_name("schedules.json")
# Small and large improvements, and stretches without any that outlast patience and cooldown.
METRICS = [3.0, 2.0, 2.0, 1.99985, 2.5, 2.5, 2.5, 2.5, 2.5, 1.5, 1.6, 1.7, 1.45, 1.8, 1.9, 1.4, 1.4, 1.45, 1.5, 1.3]
METRICS += [1.31, 1.32, 1.33, 1.34, 1.35, 1.36, 1.37, 1.38, 1.39]


@dataclasses.dataclass
class Row:
    library: str
    theirs: str
    ours: str | None  # None: optcore has no such curve
    differs: str = ""
    _: dataclasses.KW_ONLY
    updates: int = 48
    each: int = 1  # updates between two calls of torch's scheduler.step()
    read: str = "lr"
    metrics: list[float] | None = None
    exact: bool = False  # whether optcore has the same bits


ROWS = [
    # torch: opt has lr=0.1
    Row("torch", "StepLR(opt, step_size=10, gamma=0.3)", "Step(0.1, size=10, gamma=0.3)"),
    Row(
        "torch",
        "MultiStepLR(opt, milestones=[5, 20, 30], gamma=0.3)",
        "MultiStep(0.1, (5, 20, 30), gamma=0.3)",
        "a milestone that is listed twice counts twice there; here milestones must rise",
        exact=True,
    ),
    Row(
        "torch",
        "ConstantLR(opt, factor=0.5, total_iters=5)",
        "Piecewise((0.05, 0.1), (5,))",
        "`factor` is a share of lr; we have the rates themselves",
        exact=True,
    ),
    Row(
        "torch",
        "LinearLR(opt, start_factor=0.25, end_factor=1.0, total_iters=8)",
        "Linear(0.025, 0.1, steps=8)",
        "the factors are shares of lr. `start_factor` must be above 0; our start may be 0",
    ),
    Row(
        "torch",
        "LinearLR(opt, start_factor=1/8, total_iters=7)",
        "Warmup(8, Constant(0.1))",
        "our warmup counts the update of the peak: `total_iters` is its steps - 1",
    ),
    Row("torch", "ExponentialLR(opt, gamma=0.9)", "Exponential(0.1, rate=0.9)"),
    Row(
        "torch",
        "ExponentialLR(opt, gamma=0.5)",
        "Exponential(0.1, rate=0.5).every(10)",
        "with `scheduler.step()` once in an epoch of 10 updates",
        each=10,
        exact=True,
    ),
    Row("torch", "PolynomialLR(opt, total_iters=20, power=2.0)", "Polynomial(0.1, steps=20, power=2.0)"),
    Row(
        "torch",
        "CosineAnnealingLR(opt, T_max=40, eta_min=0.01)",
        "Cosine(0.1, 0.01, steps=40)",
        "up to `T_max`, where ours stays",
        updates=41,
    ),
    Row(
        "torch",
        "CosineAnnealingLR(opt, T_max=12, eta_min=0.01)",
        "Join((Cosine(0.1, 0.01, steps=12), Cosine(0.01, 0.1, steps=12)), (12,))",
        "after `T_max` torch climbs again; one Cosine for each way, as many as are wanted",
        updates=25,
    ),
    Row(
        "torch",
        "CosineAnnealingWarmRestarts(opt, T_0=10, T_mult=2, eta_min=0.01)",
        "Join((Cosine(0.1, 0.01, steps=10), Cosine(0.1, 0.01, steps=20), Cosine(0.1, 0.01, steps=40)), (10, 30))",
        "torch restarts where it would reach `eta_min`; the last update of a cycle of our CosineRestarts has it. "
        "Written cycle by cycle",
        exact=True,
    ),
    Row(
        "torch",
        "CyclicLR(opt, base_lr=0.01, max_lr=0.1, step_size_up=6, step_size_down=10, cycle_momentum=False)",
        "Cyclic(0.01, 0.1, up=6, down=10)",
        exact=True,
    ),
    Row(
        "torch",
        'CyclicLR(opt, base_lr=0.01, max_lr=0.1, step_size_up=5, mode="triangular2", cycle_momentum=False)',
        'Cyclic(0.01, 0.1, up=5, mode="triangular2")',
    ),
    Row(
        "torch",
        'CyclicLR(opt, base_lr=0.01, max_lr=0.1, step_size_up=5, mode="exp_range", gamma=0.95, cycle_momentum=False)',
        'Cyclic(0.01, 0.1, up=5, mode="exp_range", gamma=0.95)',
    ),
    Row(
        "torch",
        "CyclicLR(opt, base_lr=0.01, max_lr=0.1, step_size_up=5, base_momentum=0.8, max_momentum=0.9)",
        "Cyclic(0.9, 0.8, up=5)",
        "the momentum: torch turns it on by itself; here it is a schedule of its own",
        read="momentum",
    ),
    Row(
        "torch",
        "OneCycleLR(opt, max_lr=0.1, total_steps=40, pct_start=0.3, cycle_momentum=False)",
        "OneCycle(0.1, steps=40, pct=0.28)",
        "torch's peak is at `pct_start * total_steps - 1`, here 11; ours at `round(pct * (steps - 1))`",
        updates=40,
    ),
    Row(
        "torch",
        'OneCycleLR(opt, max_lr=0.1, total_steps=40, anneal_strategy="linear", cycle_momentum=False)',
        'OneCycle(0.1, steps=40, pct=0.28, shape="linear")',
        "as above",
        updates=40,
    ),
    Row(
        "torch",
        "OneCycleLR(opt, max_lr=0.1, total_steps=40, three_phase=True, cycle_momentum=False)",
        "Join((Cosine(0.004, 0.1, steps=11), Cosine(0.1, 0.004, steps=11), Cosine(0.004, 4e-7, steps=17)), (11, 22))",
        "phases end at `pct_start * total_steps - 1`, `2 * pct_start * total_steps - 2` and `total_steps - 1`",
        updates=40,
    ),
    Row(
        "torch",
        "OneCycleLR(opt, max_lr=0.1, total_steps=40, base_momentum=0.85, max_momentum=0.95)",
        "OneCycle(0.85, steps=40, pct=0.28, start=0.95, end=0.95)",
        "the momentum, a schedule of its own",
        updates=40,
        read="momentum",
    ),
    Row(
        "torch",
        "OneCycleLR(opt, max_lr=0.1, total_steps=45, pct_start=0.3, cycle_momentum=False)",
        None,
        "torch's peak lies between two updates, at 12.5, so that none has `max_lr`; ours is always at one",
        updates=45,
    ),
    Row(
        "torch",
        "LambdaLR(opt, lambda t: 1 / (1 + 0.1 * t))",
        "InverseTime(0.1, rate=0.1)",
        "any function of t may stand for a schedule here, too; it gives the rate, not a share of it",
    ),
    Row(
        "torch",
        "LambdaLR(opt, lambda t: 64**-0.5 * min((t + 1) ** -0.5, (t + 1) * 10**-1.5))",
        "Noam(d=64, warmup=10, scale=0.1)",
        "the Transformer's schedule, which counts from 1",
    ),
    Row(
        "torch",
        "LambdaLR(opt, lambda t: t / 10 if t < 10 else max(0, (40 - t) / 30))",
        "Join((Linear(0.0, 0.1, steps=10), Linear(0.1, steps=30)), (10,))",
        "the linear warmup and decay of Transformers: the first update has rate 0",
    ),
    Row("torch", "MultiplicativeLR(opt, lambda t: 0.9)", "Exponential(0.1, rate=0.9)", "a constant factor only"),
    Row(
        "torch",
        "SequentialLR(opt, [LinearLR(opt, 0.1, total_iters=5), CosineAnnealingLR(opt, 43)], milestones=[5])",
        "Join((Linear(0.01, 0.1, steps=5), Cosine(0.1, steps=43)), (5,))",
        "the second begins at its own 0, as ours",
    ),
    Row(
        "torch",
        "ChainedScheduler([ConstantLR(opt, 0.5, total_iters=5), ExponentialLR(opt, 0.9)])",
        "Join((Exponential(0.05, rate=0.9), Exponential(0.1, rate=0.9).shift(5)), (5,))",
        "torch multiplies them; schedules here are multiplied by numbers alone, so the product is written in parts",
    ),
    Row(
        "torch",
        "ReduceLROnPlateau(opt, factor=0.5, patience=1, cooldown=2, min_lr=0.004)",
        "Plateau(0.1, factor=0.5, patience=1, cooldown=2, minimum=0.004)",
        "torch leaves out reductions by `eps=1e-8` or less",
        metrics=METRICS,
        exact=True,
    ),
    Row(
        "torch",
        'ReduceLROnPlateau(opt, mode="max", factor=0.5, patience=2, threshold=0.1, threshold_mode="abs")',
        'Plateau(0.1, mode="max", factor=0.5, patience=2, threshold=0.1, relative=False)',
        metrics=[-x for x in METRICS],
        exact=True,
    ),
    # optax
    Row("optax", "constant_schedule(0.1)", "Constant(0.1)", exact=True),
    Row("optax", "linear_schedule(0.1, 0.01, transition_steps=20)", "Linear(0.1, 0.01, steps=20)"),
    Row(
        "optax",
        "linear_schedule(0.1, 0.01, transition_steps=20, transition_begin=6)",
        "Join((0.1, Linear(0.1, 0.01, steps=20)), (6,))",
        "`transition_begin` is a join with a constant, in all of them",
    ),
    Row(
        "optax",
        "polynomial_schedule(0.1, 0.01, power=2, transition_steps=20)",
        "Polynomial(0.1, 0.01, steps=20, power=2)",
        exact=True,
    ),
    Row(
        "optax",
        "exponential_decay(0.1, transition_steps=10, decay_rate=0.3)",
        "Exponential(0.1, rate=0.3, steps=10)",
    ),
    Row(
        "optax",
        "exponential_decay(0.1, transition_steps=10, decay_rate=0.3, staircase=True)",
        "Exponential(0.1, rate=0.3, steps=10, staircase=True)",
        exact=True,
    ),
    Row(
        "optax",
        "exponential_decay(0.1, transition_steps=10, decay_rate=0.3, transition_begin=6, end_value=0.005)",
        "Join((0.1, Exponential(0.1, rate=0.3, steps=10).clamp(0.005, 0.1)), (6,))",
        "`end_value` is a clamp",
    ),
    Row(
        "optax",
        "cosine_decay_schedule(0.1, decay_steps=40, alpha=0.1)",
        "Cosine(0.1, 0.01, steps=40)",
        "`alpha` is a share of the first rate; our end is a rate",
    ),
    Row(
        "optax",
        "cosine_decay_schedule(0.1, decay_steps=40, exponent=2.0)",
        None,
        "an `exponent` other than 1 has no name here; a function of t does it",
    ),
    Row(
        "optax",
        "warmup_cosine_decay_schedule(0.0, 0.1, warmup_steps=8, decay_steps=40, end_value=0.01)",
        "Join((Linear(0.0, 0.1, steps=8), Cosine(0.1, 0.01, steps=32)), (8,))",
        "`decay_steps` counts the warmup, too. Our Warmup has the peak one update earlier",
    ),
    Row("optax", "warmup_constant_schedule(0.0, 0.1, warmup_steps=8)", "Linear(0.0, 0.1, steps=8)"),
    Row(
        "optax",
        "warmup_constant_schedule(0.1 / 8, 0.1, warmup_steps=7)",
        "Warmup(8, Constant(0.1))",
        "our warmup counts the update of the peak: `warmup_steps` is its steps - 1",
    ),
    Row(
        "optax",
        "warmup_exponential_decay_schedule(0.0, 0.1, warmup_steps=8, transition_steps=10, decay_rate=0.3)",
        "Join((Linear(0.0, 0.1, steps=8), Exponential(0.1, rate=0.3, steps=10)), (8,))",
    ),
    Row(
        "optax",
        "piecewise_constant_schedule(0.1, {10: 0.5, 25: 0.2})",
        "Piecewise((0.1, 0.05, 0.01), (10, 25))",
        "their factors multiply; we have the rates themselves",
    ),
    Row(
        "optax",
        'piecewise_interpolate_schedule("linear", 0.1, {10: 0.5, 25: 0.2})',
        "Join((Linear(0.1, 0.05, steps=10), Linear(0.05, 0.01, steps=15)), (10,))",
    ),
    Row(
        "optax",
        'piecewise_interpolate_schedule("cosine", 0.1, {10: 0.5, 25: 0.2})',
        "Join((Cosine(0.1, 0.05, steps=10), Cosine(0.05, 0.01, steps=15)), (10,))",
    ),
    Row(
        "optax",
        "cosine_onecycle_schedule(40, 0.1, pct_start=0.3)",
        "OneCycle(0.1, steps=41, pct=0.3)",
        "its end is at `transition_steps`, ours at `steps - 1`. Its peak is at `int(pct_start * transition_steps)`; "
        "ours is rounded",
    ),
    Row(
        "optax",
        "linear_onecycle_schedule(40, 0.1, pct_start=0.3, pct_final=0.85)",
        "Join((Linear(0.004, 0.1, steps=12), Linear(0.1, 0.004, steps=22), Linear(0.004, 4e-7, steps=6)), (12, 34))",
        "three straight lines; our OneCycle has two",
    ),
    Row(
        "optax",
        "join_schedules([linear_schedule(0.0, 0.1, 5), cosine_decay_schedule(0.1, 20)], [5])",
        "Join((Linear(0.0, 0.1, steps=5), Cosine(0.1, steps=20)), (5,))",
    ),
    Row(
        "optax",
        "join_schedules([linear_schedule(0.025, 0.1, 3), constant_schedule(0.1), linear_schedule(0.1, 0, 9)], [4, 20])",
        "WarmupStableDecay(0.1, warmup=4, stable=16, decay=9)",
        "our warmup counts the update of the peak",
    ),
    Row(
        "optax",
        "join_schedules([cosine_decay_schedule(0.1, 9), cosine_decay_schedule(0.05, 9)], [10])",
        "CosineRestarts(0.1, steps=10, decay=0.5)",
        "the last update of each of our cycles uses the end: `decay_steps` is steps - 1",
        updates=20,
        exact=True,
    ),
    Row(
        "optax",
        "sgdr_schedule([dict(init_value=0.01, peak_value=p, warmup_steps=4, decay_steps=16) for p in (0.1, 0.05)])",
        "Join((Linear(0.01, 0.1, steps=4), Cosine(0.1, steps=12), Linear(0.01, 0.05, steps=4), "
        "Cosine(0.05, steps=12)), (4, 16, 20))",
        "restarts where it would reach the end, as torch does",
    ),
    Row(
        "optax",
        "contrib.reduce_on_plateau(factor=0.5, patience=2, cooldown=2, min_scale=0.04)",
        "Plateau(0.1, factor=0.5, patience=1, cooldown=2, minimum=0.004)",
        "reduces in the `patience`-th bad update, ours (and torch's) in the one after it: patience - 1 here",
        metrics=METRICS,
        exact=True,
    ),
    # Keras
    Row(
        "keras",
        "ExponentialDecay(0.1, decay_steps=10, decay_rate=0.3)",
        "Exponential(0.1, rate=0.3, steps=10)",
    ),
    Row(
        "keras",
        "ExponentialDecay(0.1, decay_steps=10, decay_rate=0.3, staircase=True)",
        "Exponential(0.1, rate=0.3, steps=10, staircase=True)",
        exact=True,
    ),
    Row(
        "keras",
        "PiecewiseConstantDecay([10, 25], [0.1, 0.05, 0.01])",
        "Piecewise((0.1, 0.05, 0.01), (11, 26))",
        "a boundary still has the old rate there, the new one here: boundary + 1",
        exact=True,
    ),
    Row(
        "keras",
        "PolynomialDecay(0.1, decay_steps=20, end_learning_rate=0.01, power=2.0)",
        "Polynomial(0.1, 0.01, steps=20, power=2.0)",
        "`end_learning_rate` is 1e-4 where it is left out; our end is 0",
        exact=True,
    ),
    Row(
        "keras",
        "PolynomialDecay(0.1, decay_steps=16, end_learning_rate=0.01, cycle=True)",
        "Join((Linear(0.1, 0.01, steps=16), Linear(0.1, 0.01, steps=32).shift(17), "
        "Linear(0.1, 0.01, steps=48).shift(33)), (17, 33))",
        "each cycle is a stretched curve that is entered late; written cycle by cycle",
    ),
    Row(
        "keras",
        "InverseTimeDecay(0.1, decay_steps=10, decay_rate=0.5)",
        "InverseTime(0.1, rate=0.5, steps=10)",
        exact=True,
    ),
    Row(
        "keras",
        "InverseTimeDecay(0.1, decay_steps=10, decay_rate=0.5, staircase=True)",
        "InverseTime(0.1, rate=0.5).every(10)",
        exact=True,
    ),
    Row(
        "keras",
        "CosineDecay(0.1, decay_steps=40, alpha=0.1)",
        "Cosine(0.1, 0.01, steps=40)",
        "`alpha` is a share of the first rate; our end is a rate",
    ),
    Row(
        "keras",
        "CosineDecay(0.0, decay_steps=32, alpha=0.1, warmup_target=0.1, warmup_steps=8)",
        "Join((Linear(0.0, 0.1, steps=8), Cosine(0.1, 0.01, steps=32)), (8,))",
        "`decay_steps` does not count the warmup. Our Warmup has the peak one update earlier",
    ),
    Row(
        "keras",
        "CosineDecayRestarts(0.1, first_decay_steps=10, t_mul=2.0, m_mul=0.5, alpha=0.1)",
        "Join((Cosine(0.1, 0.01, steps=10), Cosine(0.055, 0.01, steps=20), Cosine(0.0325, 0.01, steps=40)), (10, 30))",
        "restarts where it would reach the end, as torch does. `m_mul` scales what is above `alpha`, the decay of our "
        "CosineRestarts the whole peak",
    ),
    Row(
        "keras",
        'ReduceLROnPlateau(monitor="loss", factor=0.5, patience=2, cooldown=3, min_lr=0.004)',
        "Plateau(0.1, factor=0.5, patience=1, cooldown=2, minimum=0.004, threshold=1e-4, relative=False)",
        "reduces in the `patience`-th bad update, and counts in the last one of `cooldown`: both - 1 here. `min_delta` "
        "is a difference",
        metrics=METRICS,
        exact=True,
    ),
]


def torch_values(row):
    import torch

    parameter = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    parameter.grad = -torch.ones(1, dtype=torch.float64)
    opt = torch.optim.SGD([parameter], lr=0.1)
    scheduler = eval(row.theirs, {**vars(torch.optim.lr_scheduler), "opt": opt})
    if row.metrics is not None:
        return [scheduler.step(metric) or opt.param_groups[0]["lr"] for metric in row.metrics]
    found = []
    for t in range(row.updates):
        if t and t % row.each == 0:
            scheduler.step()
        with torch.no_grad():
            parameter.zero_()
        momentum = opt.param_groups[0]["momentum"]
        opt.step()
        found.append(parameter.item() if row.read == "lr" else momentum)
    return found


def optax_values(row):
    import jax.numpy as jnp
    import optax

    scheduler = eval(row.theirs, {**vars(optax), **vars(optax.schedules)})
    gradient, parameter = -jnp.ones(1, jnp.float64), jnp.zeros(1, jnp.float64)
    if row.metrics is not None:
        opt = optax.chain(optax.sgd(0.1), scheduler)
        state, found = opt.init(parameter), []
        for metric in row.metrics:
            update, state = opt.update(gradient, state, parameter, value=metric)
            found.append(float(update[0]))
        return found
    opt = optax.sgd(scheduler)
    state, found = opt.init(parameter), []
    for t in range(row.updates):
        update, state = opt.update(gradient, state, parameter)
        found.append(float(scheduler(t)))
        assert math.isclose(float(update[0]), found[-1], rel_tol=1e-5, abs_tol=1e-8), (row.theirs, t)
    return found


def keras_values(row):
    import keras

    keras.config.set_floatx("float64")
    scheduler = eval(
        row.theirs, {**vars(keras.optimizers.schedules), "ReduceLROnPlateau": keras.callbacks.ReduceLROnPlateau}
    )
    if row.metrics is not None:
        opt, found = keras.optimizers.SGD(0.1), []
        scheduler.set_model(types.SimpleNamespace(optimizer=opt))
        scheduler.on_train_begin()
        for epoch, metric in enumerate(row.metrics):
            scheduler.on_epoch_end(epoch, {"loss": metric})
            found.append(float(opt.learning_rate))
        return found
    parameter = keras.Variable([0.0])
    opt, found = keras.optimizers.SGD(scheduler), []
    for _ in range(row.updates):
        parameter.assign([0.0])
        opt.apply([keras.ops.array([-1.0])], [parameter])
        found.append(float(parameter.value[0]))
    return found


def check_complete():
    """AssertionError where a library has a scheduler that is in no row."""
    import keras
    import optax
    import torch

    schedules = keras.optimizers.schedules
    theirs = {
        "torch": set(torch.optim.lr_scheduler.__all__) - {"LRScheduler"},
        "optax": {
            n for n in vars(optax.schedules) if not n.startswith("_") and n.endswith(("schedule", "schedules", "decay"))
        },
        "keras": {n for n in vars(schedules) if n[0].isupper()} - {"LearningRateSchedule"},
    }
    for library, names in theirs.items():
        missing = names - {row.theirs.partition("(")[0] for row in ROWS if row.library == library}
        assert not missing, (library, missing)


def main(path):
    os.environ.update(JAX_ENABLE_X64="1", KERAS_BACKEND="jax")
    import jax
    import keras
    import optax
    import torch

    check_complete()
    functions = {"torch": torch_values, "optax": optax_values, "keras": keras_values}
    lines = []
    for row in ROWS:
        kept = {key: getattr(row, key) for key in ("library", "theirs", "ours", "differs", "exact", "metrics")}
        kept["values"] = functions[row.library](row)
        lines.append(json.dumps(kept, allow_nan=False))
    versions = {m.__name__: m.__version__.partition("+")[0] for m in (torch, optax, jax, keras)}
    # One line for each row, so that a diff names it.
    path.write_text(f'{{\n"versions": {json.dumps(versions)},\n"rows": [\n' + ",\n".join(lines) + "\n]\n}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FILE)
