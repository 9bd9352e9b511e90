"""Three learning rates on a parabola: fixed, scaled by the gradient, and falling with time.

python examples/parabola_rates.py --save-plot docs/gallery-parabola-rates.png
"""

import argparse

import numpy as np
from matplotlib.figure import Figure

import optcore as oc
from optcore.plot_runs import history_curves, sweep_map
from optcore.problems import PROBLEMS

STEPS = 50
RATES = (0.003, 0.01, 0.03, 0.1, 0.3, 0.6, 1.0)
RULES = {
    "fixed: lr": lambda x, lr: oc.SGD(x, lr=lr),
    "scaled: lr |g|": lambda x, lr: oc.GradientScaled(x, lr=lr),
    "time-based: lr (1 - (i + 1) / T)": lambda x, lr: oc.SGD(x, lr=oc.Linear(lr, steps=STEPS).shift(1)),
}


def distances(rule, lr):
    """How far x is from the minimum of 2 x^2 - 2 x + 3, at the start and after each step."""
    problem = PROBLEMS["parabola"]
    x, far = problem.start.copy(), []
    opt = RULES[rule](x, lr)
    for _ in range(STEPS):
        far.append(abs(x - problem.minimizers[0])[0])
        opt.step(problem.jac(x))
    return np.array([*far, abs(x - problem.minimizers[0])[0]])


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--save-plot", metavar="PATH")
    path = parser.parse_args(arguments).save_plot
    ways = np.array([[distances(rule, lr) for lr in RATES] for rule in RULES])
    ends = np.where(ways[..., -1] <= ways[..., 0], ways[..., -1], np.nan)  # farther away than at the start: diverged
    for rule, row in zip(RULES, ends, strict=True):
        print(f"{rule:<35}", *(f"{end:9.1e}" for end in row))
    if path:
        figure = Figure(figsize=(11, 4), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(2, 3))
        history_curves(dict(zip(RULES, ways[:, RATES.index(0.01)], strict=True)), left)
        left.set(title="lr = 0.01", ylabel="distance to the minimum")
        names = [rule.split(":")[0] for rule in RULES]
        sweep_map(ends, right, rows=("rule", names), columns=("lr", RATES), name="distance after 50 steps")
        figure.savefig(path, dpi=80)
    return ends


if __name__ == "__main__":
    main()
