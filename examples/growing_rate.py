"""A learning rate that grows by 1 % of its first value with each epoch, and why it needs a cap.

python examples/growing_rate.py --save-plot docs/gallery-growing-rate.png
"""

import argparse

import numpy as np
from matplotlib.figure import Figure

import optcore as oc
from optcore.plot_runs import history_curves, trajectories
from optcore.problems import PROBLEMS

EPOCHS, LR = 1000, 0.02
LINE = PROBLEMS["line_fit"]  # 50 noisy points about y = 2 x - 1; slope k and intercept b
A = LINE.data[0]
LIMIT = 2 / np.linalg.eigvalsh(2 * A.T @ A / len(A)).max()  # from this rate on, a step leads farther away


def growing(epoch):
    return LR * (1 + 0.01 * epoch)


RATES = {"fixed": LR, "growing": growing, "growing, capped": oc.Growing(LR, rate=0.01, cap=0.1)}


def fit(lr):
    options = {"lr": lr, "maxiter": EPOCHS, "gtol": None, "history": "x"}
    return oc.minimize(LINE.fun, LINE.start, jac=LINE.jac, method="sgd", options=options)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--save-plot", metavar="PATH")
    path = parser.parse_args(arguments).save_plot
    runs = {name: fit(lr) for name, lr in RATES.items()}
    epoch = np.ceil((LIMIT / LR - 1) / 0.01)
    print(f"the rate must stay below {LIMIT:.4f}; the growing one gets there in epoch {epoch:.0f}")
    for name, run in runs.items():
        print(f"{name:<16} loss above the least: {run.history.loss[-1] - LINE.minimum:.1e}")
    if path:
        figure = Figure(figsize=(11, 4.2), layout="constrained")
        left, middle, right = figure.subplots(1, 3)
        trajectories(LINE, runs, left)
        left.set(title="slope k, intercept b")
        history_curves(runs, middle, minimum=LINE.minimum)
        middle.set(ylabel="loss above the least", ylim=(1e-17, 1e3))
        history_curves(runs, right, column="lr", log=False)
        right.axhline(LIMIT, color="0.5", linewidth=0.8)
        right.annotate("diverges above", (10, LIMIT), va="bottom", color="0.3")
        figure.savefig(path, dpi=80)
    return runs


if __name__ == "__main__":
    main()
