"""How fast a step is: beside what no step can beat, NumPy, and torch where it is installed.

    python bench/step.py            prints the tables
    python bench/step.py --check    also fails where a ratio is above its limit

Contenders of a row run in turn, many rounds of them; a figure is the median over rounds, and a ratio the median of
the ratios within each round, so that a machine that changes its mind about its clock rate does not matter.
"""

import argparse
import contextlib
import importlib
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import optcore as oc


def build_limit():
    """Compiles limit.pyx as setup.py compiles the kernels."""
    from Cython.Build import cythonize
    from setuptools import Distribution, Extension

    folder = tempfile.mkdtemp()
    source = Path(__file__).with_name("limit.pyx")
    extension = Extension("limit", [str(source)], extra_compile_args=[] if sys.platform == "win32" else ["-O3"])
    with contextlib.redirect_stdout(sys.stderr):
        modules = cythonize([extension], build_dir=folder, quiet=True)
        command = Distribution({"ext_modules": modules}).get_command_obj("build_ext")
        command.build_lib = command.build_temp = folder
        command.ensure_finalized()
        command.run()
    sys.path.insert(0, folder)
    return importlib.import_module("limit")


class NumpyAdam:
    """Adam as one writes it with NumPy, in place."""

    def __init__(self, params, grads, lr=1e-3, betas=(0.9, 0.999), eps=1e-8):
        self.params, self.grads, self.lr, self.betas, self.eps, self.t = params, grads, lr, betas, eps, 0
        self.m, self.v = [np.zeros_like(p) for p in params], [np.zeros_like(p) for p in params]

    def step(self):
        self.t += 1
        beta1, beta2 = self.betas
        step, root = self.lr / (1 - beta1**self.t), (1 - beta2**self.t) ** -0.5
        for p, g, m, v in zip(self.params, self.grads, self.m, self.v, strict=True):
            m *= beta1
            m += (1 - beta1) * g
            v *= beta2
            v += (1 - beta2) * (g * g)
            p -= step * m / (np.sqrt(v) * root + self.eps)


def torch_adams(params, grads):
    """torch's three implementations, on tensors of their own."""
    try:
        import torch
    except ImportError:
        return {}
    torch.set_num_threads(1)
    result = {}
    for name, switches in [
        ("torch", {"foreach": False}),
        ("torch foreach", {"foreach": True}),
        ("torch fused", {"fused": True}),
    ]:
        tensors = [torch.tensor(p, requires_grad=True) for p in params]
        for tensor, g in zip(tensors, grads, strict=True):
            tensor.grad = torch.tensor(g)
        result[name] = torch.optim.Adam(tensors, lr=1e-3, **switches).step
    return result


def torch_sparse_adam(table, rows, values):
    """torch's SparseAdam, on a table of its own."""
    try:
        import torch
    except ImportError:
        return {}
    tensor = torch.tensor(table, requires_grad=True)
    indices = torch.tensor(rows)[None]
    tensor.grad = torch.sparse_coo_tensor(indices, torch.tensor(values), tensor.shape, check_invariants=True)
    return {"torch SparseAdam": torch.optim.SparseAdam([tensor], lr=1e-3).step}


def measure(contenders, seconds=1.0, rounds=25):
    """Seconds per call of each contender, in every round."""
    calls = {}
    for name, call in contenders.items():
        call()
        count, elapsed = 1, 0.0
        while elapsed < seconds / rounds / len(contenders):
            begin = time.perf_counter()
            for _ in range(count):
                call()
            elapsed = time.perf_counter() - begin
            calls[name] = count
            count *= 2
    times = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, call in contenders.items():
            count = calls[name]
            begin = time.perf_counter()
            for _ in range(count):
                call()
            times[name].append((time.perf_counter() - begin) / count)
    return times


def ratio(times, name, other):
    return statistics.median(a / b for a, b in zip(times[name], times[other], strict=True))


def say(seconds):
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6), ("ns", 1e-9)):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}"
    return "0"


def arrays(count, size, dtype):
    rng = np.random.default_rng(0)
    return [[rng.standard_normal(size).astype(dtype) for _ in range(count)] for _ in range(2)]


def cases(limit):
    """Title, contenders, the one that ratios refer to, and the largest ratios allowed."""
    floor = limit.Floor().step
    params, grads = arrays(1, 10, np.float64)
    bound, given = oc.Adam(params, grads), oc.Adam(params[0].copy())
    scheduled = oc.Adam([params[0].copy()], grads, lr=oc.Warmup(500, oc.Cosine(1e-3, steps=10**9)))
    g = grads[0]
    yield (
        "one array of 10 float64",
        {
            "an empty call": floor,
            "optcore step()": bound.step,
            "optcore step(g)": lambda: given.step(g),
            "optcore step(), scheduled": scheduled.step,
            "NumPy": NumpyAdam(*arrays(1, 10, np.float64)).step,
            **torch_adams(*arrays(1, 10, np.float64)),
        },
        "an empty call",
        {"optcore step()": 8.0, "optcore step(g)": 12.0},
    )
    for dtype in (np.float32, np.float64):
        params, grads = arrays(100, 100, dtype)
        yield (
            f"100 arrays of 100 {dtype.__name__}",
            {
                "optcore step()": oc.Adam(params, grads).step,
                "NumPy": NumpyAdam(*arrays(100, 100, dtype)).step,
                **torch_adams(*arrays(100, 100, dtype)),
            },
            "optcore step()",
            {},
        )
    (table,), (values,) = ([a.reshape(-1, 64) for a in same] for same in arrays(1, 6_400_000, np.float32))
    values, rows = values[:1000].copy(), np.random.default_rng(0).integers(len(table), size=1000)
    several = oc.Adam(table.copy(), lr=1e-3)
    yield (
        "1000 of 100 thousand rows of 64 float32",
        {
            "optcore step(g, rows)": lambda: several.step(values, rows),
            **torch_sparse_adam(table, rows, values),
        },
        "optcore step(g, rows)",
        {},
    )
    size = 10_000_000
    params, grads = arrays(1, size, np.float64)
    moved = [np.full(size, 1e-9) for _ in range(4)]  # np.zeros would share one page until it is written
    yield (
        "one array of 10 million float64",
        {
            "the same bytes": lambda: limit.move(*moved),
            "optcore step()": oc.Adam(params, grads).step,
            "optcore step(), 2 threads": oc.Adam([p.copy() for p in params], grads, threads=2).step,
            "NumPy": NumpyAdam(*arrays(1, size, np.float64)).step,
            **torch_adams(*arrays(1, size, np.float64)),
        },
        "the same bytes",
        {"optcore step()": 1.1},
    )


def catalogue():
    """Every form of every optimizer on one array that fits the nearest cache."""
    print("\nnanoseconds per element, one array of 1000\n" + f"{'':52}{'float32':>10}{'float64':>10}")
    for name, cls in oc.CATALOGUE.items():
        for form in cls.forms:
            figures = []
            for dtype in (np.float32, np.float64):
                (p,), (g,) = arrays(1, 1000, dtype)
                required = {} if "lr" in (cls.__init__.__kwdefaults__ or {}) else {"lr": 1e-6}
                times = measure({"step": cls(p, g, **form, **required).step}, seconds=0.1, rounds=7)
                figures.append(statistics.median(times["step"]) * 1e6)
            title = name + "".join(f" {key}={value}" for key, value in form.items())
            print(f"{title:52}{figures[0]:10.3f}{figures[1]:10.3f}")


def report(title, times, base, limits):
    """Prints a table of medians and ratios; what is above its limit, as sentences."""
    failures, width = [], max(28, len(f"  ratio to {base}"))
    print(f"\n{title}\n{'':28}{'median':>12}{'ratio to ' + base:>{width}}")
    for name in times:
        value = ratio(times, name, base)
        print(f"{name:28}{say(statistics.median(times[name])):>12}{value:{width}.3g}", flush=True)
        if value > limits.get(name, float("inf")):
            failures.append(f"{title}: {name} is {value:.3g} times {base}; at most {limits[name]} is promised")
    return failures


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="exit with 1 where a ratio is above its limit")
    check = parser.parse_args().check
    failures = []
    for title, contenders, base, limits in cases(build_limit()):
        failures += report(title, measure(contenders), base, limits)
    catalogue()
    if check and failures:
        sys.exit("\n".join(failures))


if __name__ == "__main__":
    main()
