"""What the tests of optcore.torch share: every form of every class, gradients, runs, and how near is near enough."""

import copy
import inspect

import torch

import optcore.torch as ot

DTYPES = [torch.float32, torch.float64]
# Newer versions of torch have this of Adam as well.
HAS_DECOUPLED = "decoupled_weight_decay" in inspect.signature(torch.optim.Adam).parameters
DECOUPLED = {"decoupled_weight_decay": True} if HAS_DECOUPLED else {}
FORMS = [
    ("SGD", {}),
    ("SGD", {"lr": 0.1, "weight_decay": 0.1}),
    ("SGD", {"lr": 0.1, "momentum": 0.9}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.25, "weight_decay": 0.1, "maximize": True}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    ("Adagrad", {}),
    ("Adagrad", {"lr": 0.1, "lr_decay": 0.1, "weight_decay": 0.1, "initial_accumulator_value": 0.5, "maximize": True}),
    ("RMSprop", {}),
    ("RMSprop", {"alpha": 0.9, "eps": 1e-3, "weight_decay": 0.1, "maximize": True}),
    ("RMSprop", {"momentum": 0.9}),
    ("RMSprop", {"centered": True}),
    ("RMSprop", {"centered": True, "momentum": 0.9}),
    ("Adadelta", {}),
    ("Adadelta", {"lr": 0.5, "rho": 0.95, "eps": 1e-3, "weight_decay": 0.1, "maximize": True}),
    ("Rprop", {}),
    ("Rprop", {"lr": 0.1, "etas": (0.25, 1.5), "step_sizes": (1e-3, 0.5), "maximize": True}),
    ("Adam", {}),
    ("Adam", {"betas": (0.8, 0.9), "eps": 1e-3, "weight_decay": 0.1, "maximize": True}),
    ("Adam", {"amsgrad": True}),
    ("Adam", {"weight_decay": 0.1, **DECOUPLED}),
    ("AdamW", {}),
    ("AdamW", {"lr": 0.1, "weight_decay": 0.5, "amsgrad": True}),
    ("Adamax", {}),
    ("Adamax", {"lr": 0.1, "betas": (0.8, 0.9), "weight_decay": 0.1, "maximize": True}),
]
IDS = [name + "".join(f"-{key}={value}" for key, value in form.items()) for name, form in FORMS]
SHAPES = [(3, 4), (5,), ()]


def parameters(dtype=torch.float64, shapes=SHAPES):
    generator = torch.Generator().manual_seed(0)
    return [torch.nn.Parameter(torch.randn(shape, generator=generator, dtype=dtype)) for shape in shapes]


def gradients(step, params):
    """The same for every optimizer, whatever its parameters are: differences do not feed back."""
    generator = torch.Generator().manual_seed(1000 + step)
    return [torch.randn(p.shape, generator=generator, dtype=torch.float64).to(p.dtype) for p in params]


def run(optimizer, params, steps, missing=lambda step, i: False, scheduler=None):
    for step in steps:
        for i, (p, g) in enumerate(zip(params, gradients(step, params), strict=True)):
            p.grad = None if missing(step, i) else g
        optimizer.step()
        if scheduler is not None:
            scheduler.step()


def bits(tensors):
    return [t.detach().numpy().tobytes() for t in tensors]


def flat_state(optimizer, params):
    return {(i, key): value for i, p in enumerate(params) for key, value in optimizer.state.get(p, {}).items()}


def snapshot(optimizer, params):
    """Everything that an optimizer has, in every bit."""
    state = {key: (value.dtype, value.shape, *bits([value])) for key, value in flat_state(optimizer, params).items()}
    groups = [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
    return bits(params), state, copy.deepcopy(groups)


def close(ours, theirs):
    """Each step rounds a few times, some hundred steps in all, and nothing amplifies it: 1e-12 is 4500 roundings.

    float32 has 2**29 times the rounding; 1e-4 are 800. The absolute part is for numbers that have passed zero.
    """
    single = ours.dtype == torch.float32
    torch.testing.assert_close(ours, theirs, rtol=1e-4 if single else 1e-12, atol=1e-5 if single else 1e-13)


def same_run(a, params, b, others):
    """Parameters and state of two optimizers are those of one run, up to rounding."""
    for p, q in zip(params, others, strict=True):
        close(p.detach(), q.detach())
    mine, theirs = flat_state(a, params), flat_state(b, others)
    assert mine.keys() == theirs.keys()
    for key, value in mine.items():
        close(value, theirs[key])


def both(name, dtype=torch.float64, **form):
    params, others = parameters(dtype), parameters(dtype)
    return getattr(ot, name)(params, **form), params, getattr(torch.optim, name)(others, **form), others
