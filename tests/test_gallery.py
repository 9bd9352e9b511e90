"""The gallery: every example runs, writes its picture, and finds what the page says."""

from __future__ import annotations

import importlib.util
import re

import numpy as np
import pytest
from PIL import Image
from support import ROOT

import optcore as oc

EXAMPLES, DOCS = ROOT / "examples", ROOT / "docs"
NAMES = sorted(path.stem for path in EXAMPLES.glob("*.py"))
ANIMATED = ("descent", "quadratic_fit")
LARGEST = {"png": 150_000, "gif": 400_000}  # bytes
if not DOCS.exists():
    pytest.skip("needs the source tree", allow_module_level=True)
PAGE = (DOCS / "gallery.md").read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def ran(tmp_path_factory):
    """Each example, run once: its module, and what its main returned."""
    done = {}

    def run(name):
        if name not in done:
            spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            picture = tmp_path_factory.mktemp(name) / "picture.png"
            arguments = ["--save-plot", str(picture)]
            if name in ANIMATED:
                arguments += ["--save-animation", str(picture.with_suffix(".gif"))]
            done[name] = module, module.main(arguments), picture
        return done[name]

    return run


@pytest.mark.parametrize("name", NAMES)
def test_an_example_runs_and_writes_its_picture(ran, name):
    module, _, picture = ran(name)
    made = sorted(picture.parent.iterdir())
    assert [path.suffix for path in made] == ([".gif", ".png"] if name in ANIMATED else [".png"])
    for path in made:
        suffix = path.suffix[1:]
        kept = DOCS / f"gallery-{name.replace('_', '-')}.{suffix}"
        assert f"({kept.name})" in PAGE
        assert f"docs/{kept.name}" in module.__doc__
        assert path.stat().st_size < LARGEST[suffix]
        assert kept.stat().st_size < LARGEST[suffix]
        with Image.open(path) as new, Image.open(kept) as old:
            assert new.size == old.size
            assert getattr(new, "n_frames", 1) == getattr(old, "n_frames", 1)


def test_the_page_has_all_examples_and_their_commands(ran):
    assert len(NAMES) >= 7
    commands = re.findall(r"^python examples/(\w+)\.py .*$", PAGE, re.M)
    assert sorted(set(commands)) == NAMES
    for name in NAMES:
        module = ran(name)[0]
        for command in re.findall(r"^python .*$", module.__doc__, re.M):
            assert command in PAGE
    for picture in re.findall(r"\((gallery-[\w-]+\.\w+)\)", PAGE):
        assert (DOCS / picture).exists()
    assert {path.name for path in DOCS.glob("gallery-*.*")} == set(re.findall(r"gallery-[\w-]+\.(?:png|gif)", PAGE))


def test_parabola_rates(ran):
    module, ends, _ = ran("parabola_rates")
    ends = dict(zip(module.RATES, ends.T, strict=True))
    assert ends[0.01].argmin() == 1
    assert ends[0.1][0] < 1e-10
    assert ends[0.1][0] == np.nanmin(ends[0.1])
    assert all(np.isnan(ends[lr][1]) for lr in module.RATES if lr >= 0.1)
    assert np.isnan(ends[0.6][:2]).all()
    assert np.isnan(ends[1.0][:2]).all()
    assert ends[0.6][2] < 1e-15
    assert ends[1.0][2] < 1e-3
    # A step of rate lr multiplies the distance, 2.5 at first, by 1 - 4 lr.
    for lr in (0.003, 0.01, 0.03):
        assert ends[lr][0] == pytest.approx(2.5 * (1 - 4 * lr) ** 50, rel=1e-9)  # roundings of 50 steps
        factors = 1 - 4 * lr * (1 - (np.arange(50) + 1) / 50)  # the last is 1: the last rate is 0
        assert ends[lr][2] == pytest.approx(2.5 * factors.prod(), rel=1e-9)


def test_growing_rate(ran):
    module, runs, _ = ran("growing_rate")
    above = {name: run.history.loss - module.LINE.minimum for name, run in runs.items()}
    assert above["growing, capped"][-1] < 1e-15
    assert 8e-8 < above["fixed"][-1] < 9e-8
    crossing = int(np.ceil((module.LIMIT / module.LR - 1) / 0.01))
    assert crossing == 687
    assert np.abs(above["growing"][crossing - 50]) < 1e-15 < 1e3 < above["growing"][-1]
    rates = runs["growing"].history.lr
    assert rates[crossing] < module.LIMIT < rates[crossing + 1]
    assert np.array_equal(rates[1:], [module.LR * (1 + 0.01 * epoch) for epoch in range(module.EPOCHS)])
    assert runs["growing, capped"].history.lr[1:].max() == 0.1 < module.LIMIT
    k, b = runs["growing, capped"].history.x[-1]
    slope, intercept = np.polyfit(module.LINE.data[0][:, 0], module.LINE.data[1], 1)
    assert (k, b) == pytest.approx((slope, intercept), rel=1e-7)  # the loss is flat to sqrt(eps) about its minimum
    far = np.abs(runs["growing"].history.x[-1] - [k, b])
    assert far.min() > 1e27


def test_quadratic_fit(ran):
    module, (plain, scaled), _ = ran("quadratic_fit")
    x, y = module.PLAIN.data[0][:, 1], module.PLAIN.data[1]
    least, of_a_line = (np.square(np.polyval(np.polyfit(x, y, degree), x) - y).mean() for degree in (2, 1))
    for name, run in plain.items():
        assert run.history.loss[-1] - least < 1e-11, name
    first = {name: np.flatnonzero(run.history.loss - least < 1e-6)[0] for name, run in plain.items()}
    assert max(first["momentum"], first["nesterov"]) < first["adam"] < first["adagrad"] < first["sgd"]
    for name in plain:
        assert of_a_line - 0.001 < scaled[name].history.loss[-1] < of_a_line + 0.001, name
    own = scaled[module.OWN]["history"]
    assert own["loss"][-1] - least < 1e-11
    # Steps of Adam with that rate and that eps are those of the other problem, but for the roundings of 1e-6.
    np.testing.assert_allclose(own["x"] * [1, 1, 1e-6], plain["adam"].history.x, rtol=0, atol=1e-6)


def test_no_other_rate_fits_the_badly_scaled_problem(ran):
    module, (plain, scaled), _ = ran("quadratic_fit")
    line, least = scaled["sgd"].history.loss[-1], plain["sgd"].history.loss[-1]
    for name in module.RATES:
        for lr in 10.0 ** np.arange(-3, 8):
            gained = (line - module.fit(module.SCALED, name, lr).history.loss[-1]) / (line - least)
            assert not gained > 0.05, (name, lr)  # of NaN, too


def test_descent(ran):
    module, runs, _ = ran("descent")
    sgd, momentum, adam = (np.linalg.norm(run.history.x - [1.0, 1.0], axis=1) for run in runs.values())
    assert len(sgd) == len(momentum) == len(adam) == module.STEPS + 1 == 1001
    assert 0.5 * sgd[0] < sgd[-1] < 0.52 * sgd[0]
    assert momentum[200] < sgd[1000]
    assert adam[200] > momentum[200]
    assert adam[500] < momentum[500]
    assert adam[-1] < 0.01 < 0.1 < momentum[-1]
    assert not np.isfinite(module.descend("sgd", 0.01).history.loss[-1])


def test_batches(ran):
    module, (runs, best), _ = ran("batches")
    batch, mini, single = module.SIZES
    same = {name: module.end(each[module.SAME]) for name, each in runs.items()}
    own = {name: module.end(each[best[name]]) for name, each in runs.items()}
    assert same[single] < same[mini] / 10 < same[batch] / 10
    assert same[batch] > 0.9 * runs[batch][module.SAME]["history"]["loss"][0]
    assert own[batch] > 50 * own[mini]
    assert own[mini] < 3 * own[single] < 10 * own[mini]
    assert best[batch] > best[mini] > best[single]
    assert {name: (module.ROWS // size) * module.PASSES for name, size in module.SIZES.items()} == {
        batch: 10,
        mini: 320,
        single: 40_960,
    }
    # Of one row, a constant rate keeps the loss up: with the larger one, in the second half as well as in the end.
    noisy = runs[single][module.SAME]["history"]["loss"]
    assert noisy[len(noisy) // 2 :].min() > own[single]


def test_failures(ran):
    _, ways, _ = ran("failures")
    slow, jumping, falling = ways["plateau"].values()
    assert (slow < 0).all()
    assert (abs(jumping[-50:] - 10) > 0.8).all()
    assert abs(falling[-1] - 10) < 1e-9
    centre = oc.problems.PROBLEMS["ravine"].minimizers[0]
    diverged, best, heavy = (np.linalg.norm(way - centre, axis=1) for way in ways["ravine"].values())
    assert diverged[-1] > 1e4
    assert best[30] == pytest.approx((19 / 21) ** 30 * best[0], rel=1e-9)  # roundings of 30 steps
    assert heavy[30] < best[30] / 50
    constant, decaying = (abs(way[:, 0]) for way in ways["three_halves"].values())
    assert constant[-10:] == pytest.approx([0.0625] * 10, rel=1e-6)  # d^2 / 4, where it settles
    assert decaying[-1] < 1e-3
    silent, noisy = (abs(way[:, 0]) for way in ways["double_well"].values())
    assert silent[1] < 1e-15
    assert np.flatnonzero(silent[1:] > 0.1)[0] > 30
    assert np.flatnonzero(noisy[1:] > 0.1)[0] < 10
    assert silent[-1] == pytest.approx(np.sqrt(2), abs=1e-9)
    assert noisy[-1] == pytest.approx(np.sqrt(2), abs=1e-3)  # the noise is still there


def test_cart_pole(ran):
    module, (rewards, pushes), _ = ran("cart_pole")
    assert rewards[0] < 20
    assert rewards[-1] == 500
    assert np.array_equal(pushes, np.full(module.TESTING, 500))


def test_the_physics_of_the_cart_and_the_pole(ran):
    """Against the equations of motion of Lagrange, which are not solved for the accelerations."""
    module, _, _ = ran("cart_pole")
    random = np.random.default_rng(0)
    angle, w, force = random.uniform(-3, 3, (3, 100))
    a, b = module.accelerations(w, angle, force)
    m, length, mass = module.POLE, module.HALF_LENGTH, module.POLE + module.CART
    sine, cosine = np.sin(angle), np.cos(angle)
    of_the_cart = mass * a + m * length * (b * cosine - w**2 * sine) - force
    of_the_pole = 4 / 3 * m * length**2 * b + m * length * (a * cosine - module.GRAVITY * sine)
    np.testing.assert_allclose(of_the_cart, 0, atol=1e-13)  # roundings of numbers near 10
    np.testing.assert_allclose(of_the_pole, 0, atol=1e-13)


def test_a_roll_out_counts_pushes(ran):
    module, _, _ = ran("cart_pole")
    outside = np.array([[3.0], [0.0], [0.0], [0.0]])
    assert module.roll_out(np.zeros(4), outside)[0].tolist() == [1.0]
    one, two = module.starts(0, 1), module.starts(1, 1)
    both = module.roll_out(np.zeros(4), np.hstack([one, two]))[0]
    assert both.tolist() == [module.roll_out(np.zeros(4), start)[0][0] for start in (one, two)]
