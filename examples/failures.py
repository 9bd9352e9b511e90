"""Four ways in which a learning rate fails: a plateau, a ravine, a jump to and fro, and a maximum.

python examples/failures.py --save-plot docs/gallery-failures.png
"""

import argparse

import numpy as np
from matplotlib.figure import Figure

import optcore as oc
from optcore.plot_runs import history_curves, trajectories
from optcore.problems import PROBLEMS

STEPS = 200


def way(name, make, noise=0.0):
    """The points of a run, shape (steps + 1, n)."""
    problem, random = PROBLEMS[name], np.random.default_rng(0)
    x = problem.start.copy()
    opt, points = make(x), [x.copy()]
    for _ in range(STEPS):
        opt.step(problem.jac(x) + noise * random.normal(size=x.shape))
        points.append(x.copy())
    return np.array(points)


def all_ways():
    """The runs of each problem."""
    falling = oc.Exponential(0.25, 0.5, steps=50)
    return {
        "plateau": {
            "lr 0.2": way("plateau", lambda x: oc.SGD(x, lr=0.2)),
            "lr 0.25": way("plateau", lambda x: oc.SGD(x, lr=0.25)),
            "lr 0.25, halved every 50 steps": way("plateau", lambda x: oc.SGD(x, lr=falling)),
        },
        "ravine": {
            "sgd, lr 0.51": way("ravine", lambda x: oc.SGD(x, lr=0.51)),
            "sgd, lr 1 / 2.1": way("ravine", lambda x: oc.SGD(x, lr=1 / 2.1)),
            "momentum 0.4, lr 0.67": way("ravine", lambda x: oc.Momentum(x, lr=0.67, momentum=0.4)),
        },
        "three_halves": {
            "lr 0.5": way("three_halves", lambda x: oc.SGD(x, lr=0.5)),
            "lr 0.5 / (1 + 0.1 t)": way("three_halves", lambda x: oc.SGD(x, lr=oc.InverseTime(0.5, rate=0.1))),
        },
        "double_well": {
            "lr 0.25, falling": way("double_well", lambda x: oc.SGD(x, lr=falling)),
            "lr 0.25, falling, noise": way("double_well", lambda x: oc.SGD(x, lr=falling), 0.01),
        },
    }


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--save-plot", metavar="PATH")
    path = parser.parse_args(arguments).save_plot
    ways = all_ways()
    for name, runs in ways.items():
        for label, points in runs.items():
            print(f"{name:<13} {label:<31} ends at", points[-1])
    if path:
        figure = Figure(figsize=(11, 8), layout="constrained")
        (plateau, ravine), (jump, maximum) = figure.subplots(2, 2)
        history_curves({label: x[:, 0] for label, x in ways["plateau"].items()}, plateau, log=False)
        plateau.set(title="plateau: x^4 / 40 - x^3 / 3, least at 10", ylabel="x", ylim=(-5, 14))
        trajectories("ravine", {label: x[:16] for label, x in ways["ravine"].items()}, ravine)
        ravine.set(title="15 steps in a ravine: 2 (x1 - 1)^2 + 0.1 (x2 - 2)^2")
        history_curves({label: abs(x[:, 0]) for label, x in ways["three_halves"].items()}, jump)
        jump.set(title="to and fro: 2/3 |x|^(3/2), least at 0", ylabel="|x|")
        history_curves({label: abs(x[:, 0]) for label, x in ways["double_well"].items()}, maximum)
        maximum.set(title="maximum: x^4 - 4 x^2, greatest at 0", ylabel="|x|")
        figure.savefig(path, dpi=80)
    return ways


if __name__ == "__main__":
    main()
