"""What the tests share: every form of every optimizer, awkward gradients, bits, and the reference as an optimizer."""

import hashlib
import inspect

import numpy as np

import optcore as oc
from optcore import reference

DTYPES = [np.float32, np.float64]
FORMS = [(name, form) for name, cls in oc.CATALOGUE.items() for form in cls.forms]
FORM_IDS = [name + "".join(f"-{key}={value}" for key, value in form.items()) for name, form in FORMS]


def make(name, form, params, grads=None, **options):
    """An optimizer of the catalogue, with a learning rate where one is required."""
    cls = oc.CATALOGUE[name]
    if inspect.signature(cls).parameters["lr"].default is inspect.Parameter.empty:
        options = {"lr": 0.05, **options}
    return cls(params, grads, **{**form, **options})


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
    """Gradients of many magnitudes; where awkward, every other element gets a special value every third step."""
    rng = np.random.default_rng([seed, size])
    g = (rng.standard_normal((steps, size)) * 10.0 ** rng.uniform(-6, 3, (steps, size))).astype(dtype)
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
        if "weight_decay" in opt.groups[0]:
            self.options["weight_decay"] = opt.groups[0]["weight_decay"]
            self.options["decoupled_weight_decay"] = opt._options["decoupled_weight_decay"]
        arrays = [p.ravel() for p in opt._named().values()]
        self.params = [scalars(p) for p in arrays]
        self.states = [[scalars(kept[key].ravel()) for key in opt._rule.state] for kept in opt.state.values()]
        if averaging is not None:
            self.options["averaging"] = averaging.decay if isinstance(averaging, oc.EMA) else "polyak"
            self.options["averages"] = [scalars(kept["average"].ravel()) for kept in opt.state.values()]
        if bounds is not None:
            self.options["bounds"] = [
                [scalars(np.broadcast_to(np.asarray(bound, p.dtype), p.shape)) for p in arrays] for bound in bounds
            ]
        self.t = 0

    def step(self, grads):
        self.t += 1
        with np.errstate(all="ignore"):
            grads = [scalars(g) for g in grads]
            reference.step(self.rule, self.params, grads, self.states, self.t, **self.hyper, **self.options)


def scalars(array):
    """A list of Python floats or of numpy.float32."""
    return array.tolist() if array.dtype == np.float64 else list(array)


def digest():
    """A hash of the bits that every form of every optimizer makes of awkward gradients."""
    total = hashlib.sha256()
    for name, form in FORMS:
        for dtype in DTYPES:
            params = [start(size, dtype) for size in (3, 64, 1030)]
            opt = make(
                name, form, params, clip_value=1e30, weight_decay=1e-3, averaging=oc.EMA(0.9), bounds=(-1e4, 1e4)
            )
            for t in range(60):
                opt.step([gradients(p.size, 60, dtype)[t] for p in params])
            for p, kept in zip(params, opt.state.values(), strict=True):
                for array in (p, *kept.values()):
                    total.update(bits(array))
    return total.hexdigest()


if __name__ == "__main__":
    print(digest())
