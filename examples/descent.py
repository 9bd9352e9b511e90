"""Down a bent valley: plain descent, momentum and Adam on Rosenbrock's function.

python examples/descent.py --save-plot docs/gallery-descent.png
python examples/descent.py --save-animation docs/gallery-descent.gif
"""

import argparse

import numpy as np
from matplotlib.figure import Figure

import optcore as oc
from optcore.animation import descent_animation, save_animation
from optcore.plot_runs import history_curves, trajectories
from optcore.problems import PROBLEMS

STEPS = 1000
VALLEY = PROBLEMS["rosenbrock"]
RATES = {"sgd": 0.001, "momentum": 0.0005, "adam": 0.1}
LIMITS = [[-1.6, -0.4], [1.4, 1.6]]


def descend(method, lr):
    options = {"lr": lr, "maxiter": STEPS, "gtol": None, "returns": "last", "history": "x"}
    return oc.minimize(VALLEY.fun, VALLEY.start, jac=VALLEY.jac, method=method, options=options)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--save-plot", metavar="PATH")
    parser.add_argument("--save-animation", metavar="PATH")
    paths = parser.parse_args(arguments)
    runs = {f"{method}, lr {lr:g}": descend(method, lr) for method, lr in RATES.items()}
    for label, run in runs.items():
        far = np.linalg.norm(run.history.x[-1] - VALLEY.minimizers[0])
        print(f"{label:<20} loss after {STEPS} steps {run.history.loss[-1]:.1e}, {far:.1e} away from the minimum")
    if paths.save_plot:
        figure = Figure(figsize=(11, 4.2), layout="constrained")
        left, right = figure.subplots(1, 2)
        trajectories(VALLEY, runs, left, limits=LIMITS)
        history_curves(runs, right)
        figure.savefig(paths.save_plot, dpi=80)
    if paths.save_animation:
        ax = Figure(figsize=(5, 4), layout="constrained").subplots()
        save_animation(descent_animation(VALLEY, runs, ax, limits=LIMITS, frames=30), paths.save_animation, dpi=80)
    return runs


if __name__ == "__main__":
    main()
