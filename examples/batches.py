"""Steps from all rows, from 128 at a time, and from single ones, over the same number of passes.

python examples/batches.py --save-plot docs/gallery-batches.png
"""

import argparse

import numpy as np
from matplotlib.figure import Figure

import optcore as oc
from optcore.plot_runs import history_curves

ROWS, COLUMNS, PASSES, EVERY = 4096, 10, 10, 128
RATES = (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
SAME = 0.01
SIZES = {"batch: all 4096 rows": ROWS, "mini-batch: 128 rows": 128, "stochastic: 1 row": 1}

random = np.random.default_rng(0)
X = random.normal(size=(ROWS, COLUMNS)) * np.geomspace(0.3, 1.0, COLUMNS)
Y = X @ random.normal(size=COLUMNS) + random.normal(size=ROWS)
LEAST = np.square(Y - X @ np.linalg.lstsq(X, Y, rcond=None)[0]).mean() / 2


def above_least(p):
    return np.square(X @ p - Y).mean() / 2 - LEAST


@np.errstate(over="ignore", invalid="ignore")  # of rates that diverge
def train(size, lr):
    """Loss above the least after every so many rows, each pass in a new order."""
    p, g, orders = np.zeros(COLUMNS), np.empty(COLUMNS), np.random.default_rng(1)
    opt = oc.SGD(p, g, lr=lr)
    passes, losses = [0.0], [above_least(p)]
    for epoch in range(PASSES):
        order = orders.permutation(ROWS)
        for start in range(0, ROWS, size):
            x, y = X[order[start : start + size]], Y[order[start : start + size]]
            g[:] = (x @ p - y) @ x / len(x)
            opt.step()
            if (start + size) % EVERY == 0:
                passes.append(epoch + (start + size) / ROWS)
                losses.append(above_least(p))
        if not np.isfinite(losses[-1]):
            break
    return {"history": {"step": np.array(passes), "loss": np.array(losses)}}


def end(run):
    return np.nan_to_num(run["history"]["loss"][-1], nan=np.inf)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--save-plot", metavar="PATH")
    path = parser.parse_args(arguments).save_plot
    runs = {name: {lr: train(size, lr) for lr in RATES} for name, size in SIZES.items()}
    best = {name: min(each, key=lambda lr, each=each: end(each[lr])) for name, each in runs.items()}
    print(f"loss above the least after {PASSES} passes")
    for name, lr in best.items():
        same, own = end(runs[name][SAME]), end(runs[name][lr])
        print(f"{name:<21} lr {SAME:g}: {same:.1e}, the best lr, {lr:g}: {own:.1e}")
    if path:
        figure = Figure(figsize=(11, 4.2), layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True)
        history_curves({name: each[SAME] for name, each in runs.items()}, left)
        history_curves({f"{name}, lr {lr:g}": runs[name][lr] for name, lr in best.items()}, right)
        for ax, title in ((left, f"the same rate for all, {SAME:g}"), (right, "the best rate for each")):
            ax.set(title=title, xlabel="passes over the rows", ylabel="loss above the least")
        figure.savefig(path, dpi=80)
    return runs, best


if __name__ == "__main__":
    main()
