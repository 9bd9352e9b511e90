"""What the tests share: every form of every optimizer, awkward gradients, bits, and the reference as an optimizer."""

import hashlib
import inspect
import os
import re
import shlex
import subprocess
import sys
import sysconfig
from functools import partial
from itertools import chain, product
from pathlib import Path

import numpy as np

import optcore as oc
from optcore import reference
from optcore._build import linear

ROOT = Path(__file__).parents[1]
DTYPES = [np.float32, np.float64]
FORMS = [(name, form) for name, cls in oc.CATALOGUE.items() for form in cls.forms]
FORM_IDS = [name + "".join(f"-{key}={value}" for key, value in form.items()) for name, form in FORMS]


def make(name, form, params, grads=None, **options):
    """An optimizer of the catalogue, with a learning rate where one is required."""
    cls = oc.CATALOGUE[name]
    if inspect.signature(cls).parameters["lr"].default is inspect.Parameter.empty:
        options = {"lr": 0.05, **options}
    return cls(params, grads, **{**form, **options})


def accepted(name, options):
    """The options without those that the class does not take."""
    options = {key: value for key, value in options.items() if key in oc.CATALOGUE[name]._keywords()}
    if name == "rprop":
        options.pop("decoupled_weight_decay", None)
    return options


def bits(array):
    """The bits of an array; all NaN are one, because IEEE 754 leaves their payload open."""
    array = np.array(array)
    array[np.isnan(array)] = np.nan
    return array.tobytes()


def special(dtype):
    """Values that are easily got wrong."""
    info = np.finfo(dtype)
    return np.array(
        [
            0.0,
            -0.0,
            info.smallest_subnormal,
            -info.tiny / 2,
            info.tiny,
            1.0,
            -info.max,
            info.max / 3,
            np.inf,
            -np.inf,
            np.nan,
        ],
        dtype,
    )


def gradients(size, steps, dtype, seed=0, awkward=True):
    """Gradients of many magnitudes; where awkward, every other element gets a special value every third step.

    Made of integers: the bits of NumPy's powers depend on the machine.
    """
    rng = np.random.default_rng([seed, size])
    whole = rng.integers(-(2**53), 2**53, (steps, size)).astype(np.float64)
    g = np.ldexp(whole, rng.integers(-73, -43, (steps, size))).astype(dtype)  # from about 1e-6 to 1e3
    if awkward:
        values = special(dtype)
        for i in range(0, size, 2):
            g[i % 3 :: 3, i] = values[i // 2 % len(values)]
    return g


def start(size, dtype, seed=0):
    return np.random.default_rng([seed, size, 1]).standard_normal(size).astype(dtype)


class Reference:
    """An optimizer's step by `reference.step`, on lists of scalars of the optimizer's dtype."""

    def __init__(self, opt, averaging=None, bounds=None, **options):
        self.rule = getattr(reference, opt._rule.name)
        known = inspect.signature(self.rule).parameters
        given = {**opt._switches, **opt.groups[0]}
        self.hyper = {key: value for key, value in given.items() if key in known}
        self.options = {key: value for key, value in options.items() if value is not None}
        if "weight_decay" in known:  # the rule's own
            self.rule = partial(self.rule, weight_decay=self.hyper.pop("weight_decay"))
            self.options.pop("weight_decay", None)
        else:
            self.options["weight_decay"] = opt.groups[0]["weight_decay"]
            self.options["decoupled_weight_decay"] = opt._options["decoupled_weight_decay"]
        arrays = [p.ravel() for p in opt._named().values()]
        self.params = [scalars(p) for p in arrays]
        self.states = [[scalars(kept[key].ravel()) for key in opt._rule.state] for kept in opt.state.values()]
        if opt._rule.carried:
            self.states = [[*state, [0.0] * len(opt._rule.carried)] for state in self.states]
        if averaging is not None:
            self.options["averaging"] = averaging.decay if isinstance(averaging, oc.EMA) else "polyak"
            self.options["averages"] = [scalars(kept["average"].ravel()) for kept in opt.state.values()]
        if bounds is not None:
            self.options["bounds"] = [
                [scalars(np.broadcast_to(np.asarray(bound, p.dtype), p.shape)) for p in arrays] for bound in bounds
            ]
        self.t = 0

    def step(self, grads, rows=None):
        self.t += 1
        with np.errstate(all="ignore"):
            grads = [scalars(g.ravel()) for g in grads]
            step, given = (reference.step, ()) if rows is None else (reference.step_rows, (rows,))
            step(self.rule, self.params, grads, self.states, self.t, *given, **self.hyper, **self.options)


def scalars(array):
    """A list of Python floats or of numpy.float32."""
    return array.tolist() if array.dtype == np.float64 else list(array)


# Every form of every schedule, with ends that are easily missed.
SCHEDULES = [
    oc.Constant(0.1),
    oc.Step(0.1, size=7, gamma=0.9),
    oc.Step(0.1, size=2**40, gamma=0.3),
    oc.Step(1.0, size=1, gamma=1.5),
    oc.Step(1.0, size=3, gamma=0.0),
    oc.MultiStep(0.1, (1, 9, 100, 2**53), gamma=0.3),
    oc.MultiStep(0.1, ()),
    oc.Piecewise((0.1, -0.2, 0.3), (5, 64)),
    oc.Piecewise((0.1,), ()),
    oc.Exponential(0.1, 0.95),
    oc.Exponential(0.1, 0.3, steps=77),
    oc.Exponential(0.1, 1.1, steps=1000),
    oc.Exponential(0.1, 0.95, steps=3, staircase=True),
    oc.InverseTime(0.1, 0.3),
    oc.InverseTime(0.1, 0.3, steps=11),
    *(oc.InversePower(0.1, power=h / 2, offset=0.7) for h in range(10)),
    oc.InversePower(0.1, power=0.51),
    oc.InversePower(0.1, power=1e-3, offset=1e-5),
    oc.Linear(0.1, steps=100),
    oc.Linear(0.1, 0.7, steps=1),
    oc.Linear(-0.1, 0.3, steps=2**53),
    *(oc.Polynomial(0.1, 0.01, steps=99, power=h / 2) for h in range(1, 10)),
    oc.Polynomial(0.1, 0.7, steps=100, power=0.9),
    oc.Polynomial(0.1, steps=2**53, power=0.9),
    oc.Root(0.1, 0.03, steps=100),
    oc.Root(0.1, 0.03, steps=2**53 - 1),
    oc.Growing(0.1, 0.01, cap=0.2),
    oc.Growing(0.1, 1e300, cap=0.2),
    oc.Cosine(0.1, 0.01, steps=100),
    oc.Cosine(0.1, 0.7, steps=1),
    oc.Cosine(0.1, -0.3, steps=2**53),
    oc.CosineRestarts(0.1, 0.01, steps=10, decay=0.7),
    oc.CosineRestarts(0.1, 0.01, steps=1, mult=2, decay=0.99),
    oc.CosineRestarts(0.1, 0.01, steps=7, mult=3),
    oc.CosineRestarts(0.1, steps=1),
    oc.CosineRestarts(0.1, steps=2**53, mult=2**53),
    oc.Cyclic(0.1, 0.3, up=7),
    oc.Cyclic(0.1, 0.3, up=7, down=3, mode="triangular2"),
    oc.Cyclic(0.1, 0.3, up=1, down=30, mode="exp_range", gamma=0.999),
    oc.Cyclic(0.1, 0.3, up=2**53, down=2**53),
    oc.OneCycle(0.1, steps=100),
    oc.OneCycle(0.1, steps=3, shape="linear"),
    oc.OneCycle(0.1, steps=100, pct=0.0, start=0.3, end=0.2),
    oc.OneCycle(0.1, steps=100, pct=1.0),
    oc.Noam(d=512, warmup=50),
    oc.WarmupStableDecay(0.1, warmup=10, stable=50, decay=30, end=0.01),
    oc.WarmupStableDecay(0.1, warmup=0, stable=50, decay=30, shape="cosine"),
    oc.WarmupStableDecay(0.1, warmup=10, stable=0, decay=30, shape="sqrt"),
    oc.WarmupStableDecay(0.1, warmup=0, stable=0, decay=30),
    oc.Warmup(5, oc.Cosine(0.1, steps=50)),
    oc.Warmup(5, 0.3, start=0.1),
    oc.Join((oc.Linear(0.1, steps=5), 0.3, oc.Cyclic(0.1, 0.3, up=7)), (10, 63)),
    oc.Cosine(0.1, steps=50) * 0.3,
    (-2 * oc.Cosine(0.1, steps=50)).clamp(-0.15, np.inf),
    oc.Exponential(0.1, 0.95).shift(2**53).shift(3),
    oc.Cosine(0.1, steps=20).every(13),
    oc.Linear(0.1, steps=5).every(13).shift(7) * 0.1 * 3,
]
TIMES = np.array(
    [*range(1200), *(2**k + d for k in range(11, 63) for d in (-2, -1, 0, 1)), *range(2**63 - 9, 2**63)], np.int64
)


def linear_epochs():
    """Weights, losses and norms of linear models, trained in batches of one row, of a few, and of many."""
    random = np.random.default_rng(0)
    for dtype, loss, count, columns in product(DTYPES, linear.LOSSES, (150, 40, 2), (3, 21)):
        x, order = random.standard_normal((150, columns)).astype(dtype), random.permutation(150)
        targets, weights = (
            random.integers(2, size=(150, 1)).astype(dtype),
            random.uniform(0.5, 2, (150, 1)).astype(dtype),
        )
        params = {"coef_0": np.zeros((columns, 1), dtype), "intercept_0": np.zeros(1, dtype)}
        gradients, losses, norms = (
            {name: np.zeros_like(p) for name, p in params.items()},
            np.empty(count),
            np.empty(count),
        )
        data = x, targets, weights
        for l2, given in ((0.0, (x, targets, None, None)), (0.1, (*data, order))):
            model = loss, l2, *params.values(), gradients
            linear.steps(oc.Adam(params, lr=0.1), *model, *given, count, 0, count, 0.0, losses, norms)
            yield from (*params.values(), losses, norms, np.float64(linear.mean_loss(loss, *params.values(), *data)))


def descents():
    """The points, losses and gradients of minimizations that end for different reasons."""

    def valley(x):
        a, b, g = x[1:] - x[:-1] * x[:-1], 1.0 - x[:-1], np.zeros_like(x)
        g[:-1] = -400.0 * a * x[:-1] - 2.0 * b
        g[1:] += 200.0 * a
        return sum((100.0 * a * a + b * b).tolist()), g

    for bounds, limits in product((None, [(-1.5, 0.5)] * 4), ({"gtol": 0.1}, {"xtol": 1e-3}, {"ftol": 1e-3}, {})):
        options = {"lr": 0.01, "maxiter": 300, "history": "x", **limits}
        run = oc.minimize(valley, [-1.2, 1.0, 0.3, 0.7], jac=True, method="adam", bounds=bounds, options=options)
        yield from (
            run.x,
            run.jac,
            *(np.asarray(column, float) for column in (run.fun, run.status, *run.history.values())),
        )


def digest():
    """A hash of the bits of what is compiled.

    All schedules; what every form of every optimizer makes of awkward gradients; epochs of linear models;
    minimizations.
    """
    total = hashlib.sha256()
    for array in chain(linear_epochs(), descents()):
        total.update(bits(array))
    for schedule in SCHEDULES:
        total.update(bits(schedule(TIMES)))
    for name, form in FORMS:
        for dtype in DTYPES:
            params = [start(size, dtype) for size in (3, 64, 1030)]
            options = {"clip_value": 1e30, "weight_decay": 1e-3, "averaging": oc.EMA(0.9), "bounds": (-1e4, 1e4)}
            opt = make(name, {**accepted(name, options), **form}, params)
            for grads in zip(*(gradients(p.size, 60, dtype) for p in params), strict=True):
                opt.step(grads)
            for p, kept in zip(params, opt.state.values(), strict=True):
                for array in (p, *kept.values()):
                    total.update(bits(array))
    return total.hexdigest()


def vectorised(module, folder, *flags):
    """Numbers of the lines of src/optcore/<module>.pyx whose loops the compiler reports as vectorised; no warnings."""
    usual = re.search(r"FLAGS = \[\n(.*?)\n    \]", (ROOT / "setup.py").read_text(), re.S)[1]
    usual = re.findall(r'"(-[^"]+)"', usual)
    subprocess.run(
        [sys.executable, "-m", "cython", "-3", "--line-directives", "-X", "cdivision=True", "-I", "src",
         "--module-name", f"optcore.{module}", "-o", str(folder / "module.c"), f"src/optcore/{module}.pyx"],
        cwd=ROOT, check=True,
    )  # fmt: skip
    report = subprocess.run(
        [*shlex.split(os.environ.get("CC", "gcc")), "-c", "-fPIC", *usual, *flags, "-Wall", "-fopt-info-vec-optimized",
         "-I", sysconfig.get_path("include"), "module.c", "-o", "module.o"],
        cwd=folder, check=True, capture_output=True, text=True,
    ).stderr  # fmt: skip
    assert "warning" not in report, report
    # 8 bytes are what some loops have behind the main one.
    found = re.findall(rf"{module}\.pyx:(\d+):\d+: optimized: loop vectorized using (?:16|32) byte", report)
    return [int(line) for line in found]


def command_line(name, folder, monkeypatch, columns=80):
    """Runs a command of ``optcore`` in a folder, so wide; gives the exit code and all that was printed."""
    from typer.testing import CliRunner

    from optcore.cli import app

    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", str(columns))

    def run(*arguments):
        result = CliRunner().invoke(app, [name, *map(str, arguments)])
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result.exit_code, result.output

    return run


if __name__ == "__main__":
    print(digest())
