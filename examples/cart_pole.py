"""A policy that balances a pole on a cart, found by Augmented Random Search without any gradient.

python examples/cart_pole.py --save-plot docs/gallery-cart-pole.png

The task is that of Barto, Sutton & Anderson, Neuronlike adaptive elements that can solve difficult learning control
problems, 1983, without friction: push a cart to the left or to the right, 50 times a second, so that its pole stays
within 12 degrees and the cart within 2.4 m. The reward is the number of pushes until it fails, 500 at most.
"""

import argparse

import numpy as np
from matplotlib.figure import Figure

from optcore.plot_runs import history_curves
from optcore.search import ARS

GRAVITY, CART, POLE, HALF_LENGTH, FORCE, SECONDS = 9.8, 1.0, 0.1, 0.5, 10.0, 0.02  # m/s^2, kg, kg, m, N, s
WIDEST, STEEPEST, LONGEST = 2.4, np.radians(12), 500
ITERATIONS, TRAINING, TESTING = 8, 4, 100


def accelerations(velocity_of_angle, angle, force):
    """Of the cart, in m/s^2, and of the angle: Newton's second law for both, solved for them.

    angle is from the vertical. The pole is uniform: its moment of inertia about its centre is m (2 l)^2 / 12, and so
    4/3 m l^2 about the hinge.
    """
    sine, cosine, mass = np.sin(angle), np.cos(angle), CART + POLE
    push = (force + POLE * HALF_LENGTH * velocity_of_angle**2 * sine) / mass
    of_angle = (GRAVITY * sine - push * cosine) / (HALF_LENGTH * (4 / 3 - POLE * cosine**2 / mass))
    return push - POLE * HALF_LENGTH * of_angle * cosine / mass, of_angle


def roll_out(policy, starts):
    """Pushes until failure, and the angles, of all starts at once; starts have shape (4, n)."""
    x, v, angle, w = starts.copy()
    upright, pushes, angles = np.ones(x.shape, bool), np.zeros(x.shape), []
    for _ in range(LONGEST):
        force = np.where(policy @ np.stack([x, v, angle, w]) > 0, FORCE, -FORCE)
        a, b = accelerations(w, angle, force)
        x, v, angle, w = x + SECONDS * v, v + SECONDS * a, angle + SECONDS * w, w + SECONDS * b
        pushes += upright
        upright &= (abs(x) <= WIDEST) & (abs(angle) <= STEEPEST)
        if not upright.any():
            break
        angles.append(np.where(upright, angle, np.nan))
    return pushes, np.array(angles)


def starts(seed, count):
    return np.random.default_rng(seed).uniform(-0.05, 0.05, (4, count))


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--save-plot", metavar="PATH")
    path = parser.parse_args(arguments).save_plot
    policy, unseen = np.zeros(4), starts(1_000_000, TESTING)
    search = ARS(policy, sigma=0.1, directions=8, top=4, maximize=True, lr=0.1, seed=0)
    rewards = [roll_out(policy, unseen)[0].mean()]
    for iteration in range(ITERATIONS):
        training = starts(iteration, TRAINING)
        search.tell([roll_out(candidate.params, training)[0].mean() for candidate in search.ask()])
        rewards.append(roll_out(policy, unseen)[0].mean())
    pushes, angles = roll_out(policy, unseen)
    print(f"push to the right where {policy.round(3)} @ (x, velocity, angle, angular velocity) > 0")
    print(f"{(pushes == LONGEST).sum()} of {TESTING} unseen starts stay upright for {LONGEST} pushes")
    print("mean reward after each iteration:", *np.round(rewards))
    if path:
        figure = Figure(figsize=(11, 3.6), layout="constrained")
        left, right = figure.subplots(1, 2)
        history_curves(np.array(rewards), left, log=False)
        left.set(xlabel="iterations", ylabel=f"mean reward, {TESTING} unseen starts", ylim=(0, 520))
        fell = roll_out(np.zeros(4), unseen[:, :1])[1]
        curves = {"push to the left always": fell[:, 0], "the policy found": angles[:, 0]}
        history_curves({label: np.degrees(angle) for label, angle in curves.items()}, right, log=False)
        right.set(xlabel="pushes, 50 a second", ylabel="angle of the pole (degrees)", ylim=(-13, 13))
        figure.savefig(path, dpi=80)
    return np.array(rewards), pushes


if __name__ == "__main__":
    main()
