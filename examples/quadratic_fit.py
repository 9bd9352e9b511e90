"""alpha + beta x + gamma x^2, fitted by five optimizers; and again with the last column in another unit.

python examples/quadratic_fit.py --save-plot docs/gallery-quadratic-fit.png
python examples/quadratic_fit.py --save-animation docs/gallery-quadratic-fit.gif
"""

import argparse

import numpy as np
from matplotlib.figure import Figure

import optcore as oc
from optcore.animation import fit_animation, save_animation
from optcore.plot_runs import history_curves
from optcore.problems import PROBLEMS

STEPS = 1000
RATES = {"sgd": 0.03, "momentum": 0.01, "nesterov": 0.01, "adagrad": 1.0, "adam": 0.03}
PLAIN, SCALED = PROBLEMS["quadratic_fit"], PROBLEMS["quadratic_fit_scaled"]  # the last column times 1e-6
UNIT = 1e-6
OWN = "adam, own lr for gamma"


def fit(problem, name, lr):
    options = {"lr": lr, "maxiter": STEPS, "gtol": None, "returns": "last", "history": "x"}
    return oc.minimize(problem.fun, problem.start, jac=problem.jac, method=name, options=options)


def fit_with_rates(problem, lr, lr_of_gamma):
    """The same with Adam and two groups of parameters. eps is in the unit of the gradient, too."""
    p = problem.start.copy()
    opt = oc.Adam([{"params": p[:2], "lr": lr}, {"params": p[2:], "lr": lr_of_gamma, "eps": 1e-8 * UNIT}])
    points = [p.copy()]
    for _ in range(STEPS):
        g = problem.jac(p)
        opt.step([g[:2], g[2:]])
        points.append(p.copy())
    losses = [problem.fun(point) for point in points]
    return {"history": {"step": np.arange(STEPS + 1), "loss": np.array(losses), "x": np.array(points)}}


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--save-plot", metavar="PATH")
    parser.add_argument("--save-animation", metavar="PATH")
    paths = parser.parse_args(arguments)
    plain = {name: fit(PLAIN, name, lr) for name, lr in RATES.items()}
    scaled = {name: fit(SCALED, name, lr) for name, lr in RATES.items()}
    scaled[OWN] = fit_with_rates(SCALED, RATES["adam"], RATES["adam"] / UNIT)
    print(f"loss above the least after {STEPS} steps")
    for title, runs in (("x^2", plain), ("1e-6 x^2", scaled)):
        for name, run in runs.items():
            print(f"{title:<9} {name:<23} {run['history']['loss'][-1] - PLAIN.minimum:8.1e}")
    if paths.save_plot:
        figure = Figure(figsize=(11, 4.2), layout="constrained")
        axes = figure.subplots(1, 2, sharey=True)
        titles = "alpha + beta x + gamma x^2", "alpha + beta x + gamma 1e-6 x^2"
        for ax, title, runs in zip(axes, titles, (plain, scaled), strict=True):
            history_curves(runs, ax, minimum=PLAIN.minimum, log=True)
            ax.set(title=title, ylabel="loss above the least", ylim=(1e-10, 1e2))
        figure.savefig(paths.save_plot, dpi=80)
    if paths.save_animation:
        x, y = SCALED.data[0][:, 1], SCALED.data[1]
        ax = Figure(figsize=(6, 4.5), layout="constrained").subplots()
        ax.set_title("x^2 times 1e-6")
        animation = fit_animation(x, y, lambda p, x: p[0] + p[1] * x + p[2] * UNIT * x**2, scaled, ax, frames=30)
        save_animation(animation, paths.save_animation, dpi=80)
    return plain, scaled


if __name__ == "__main__":
    main()
