"""How fast a step of optcore.torch is, beside torch's own: its default, which is a loop on a CPU, foreach and fused.

    python bench/torch_optimizers.py            prints the tables
    python bench/torch_optimizers.py --check    also fails where a ratio is above its limit

All step float32 tensors in one thread, but for the case that says otherwise. Contenders of a row run in turn; see
step.py. (This file is not called torch.py, because programs in this folder would then import it for torch.)
"""

import argparse
import sys

import torch
from step import measure, report

import optcore.torch

SMALL = "MLP 64-64-10: 4 tensors, 4810 elements"
SHAPES = {
    "one tensor of 10": [(10,)],
    SMALL: [(64, 64), (64,), (10, 64), (10,)],
    "MLP 784-256-128-10: 6 tensors, 235 thousand": [(256, 784), (256,), (128, 256), (128,), (10, 128), (10,)],
    "100 tensors of 100": [(100,)] * 100,
    "one tensor of 10 million": [(10_000_000,)],
}
BASE = "torch, fused"


def stepper(cls, shapes, scheduled=False, **keywords):
    """The step of an optimizer for tensors of its own."""
    params = [torch.nn.Parameter(torch.randn(shape)) for shape in shapes]
    for p in params:
        p.grad = torch.randn_like(p)
    optimizer = cls(params, **keywords)
    if not scheduled:
        return optimizer.step
    group = optimizer.param_groups[0]

    def step():
        group["lr"] *= 0.999999
        optimizer.step()

    return step


def contenders(name, shapes):
    """Ours and all of torch's that this class has."""
    ours, theirs = getattr(optcore.torch, name), getattr(torch.optim, name)
    found = {
        "optcore": stepper(ours, shapes),
        "optcore, lr changes": stepper(ours, shapes, scheduled=True),
        "torch": stepper(theirs, shapes),
        "torch, foreach": stepper(theirs, shapes, foreach=True),
    }
    if "fused" in ours([torch.ones(1)]).defaults:
        found[BASE] = stepper(theirs, shapes, fused=True)
    return found


def cases():
    """Title, threads, contenders, and the largest ratios allowed."""
    for title, shapes in SHAPES.items():
        # A large step is limited by memory, and both read and write the same.
        yield f"Adam, {title}", 1, contenders("Adam", shapes), {"optcore": 1.1 if "million" in title else 0.75}
    title = "one tensor of 10 million"
    yield f"Adam, {title}, 2 threads", 2, contenders("Adam", SHAPES[title]), {}
    for name in optcore.torch.__all__:
        if name != "Adam":
            yield f"{name}, {SMALL}", 1, contenders(name, SHAPES[SMALL]), {"optcore": 0.75}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="exit with 1 where a ratio is above its limit")
    check = parser.parse_args().check
    failures = []
    for title, threads, steps, limits in cases():
        torch.set_num_threads(threads)
        failures += report(title, measure(steps), BASE if BASE in steps else "torch, foreach", limits)
    if check and failures:
        sys.exit("\n".join(failures))


if __name__ == "__main__":
    main()
