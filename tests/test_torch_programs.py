"""optcore.torch inside programs written for torch: groups, schedulers, hooks, closures, and what is refused."""

import copy
import importlib
import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch_support import bits, both, gradients, parameters, run, same_run, snapshot  # noqa: E402

import optcore.torch as ot  # noqa: E402

README = Path(__file__).parents[1] / "README.md"


# ---------------------------------------------------------------------- groups, schedulers, hooks, closures


def test_groups():
    made = []
    for module in (ot, torch.optim):
        params = parameters()
        optimizer = module.Adam(
            [{"params": params[:1], "lr": 0.1}, {"params": params[1:2], "betas": (0.5, 0.6), "amsgrad": True}], lr=0.01
        )
        run(optimizer, params[:2], range(10))
        optimizer.add_param_group({"params": params[2], "maximize": True})
        run(optimizer, params, range(10, 30))
        made += [optimizer, params]
    same_run(*made)


def test_names():
    model = torch.nn.Linear(2, 1)
    optimizer = ot.Adam(model.named_parameters())
    theirs = torch.optim.Adam(model.named_parameters())
    assert optimizer.state_dict()["param_groups"][0]["param_names"] == ["weight", "bias"]
    others = copy.deepcopy(list(model.parameters()))
    run(theirs, list(model.parameters()), range(3))
    fresh = ot.Adam(zip(("weight", "bias"), others, strict=True))
    fresh.load_state_dict(theirs.state_dict())
    assert fresh.state_dict()["param_groups"][0]["param_names"] == ["weight", "bias"]
    assert fresh.state[others[1]]["step"] == 3
    others[1].grad = torch.ones(1).to_sparse()
    with pytest.raises(TypeError, match="the gradient of parameter 'bias' is sparse"):
        fresh.step()


def test_a_parameter_without_a_name():
    named = torch.nn.Parameter(torch.zeros(2))
    optimizer = ot.SGD([("weight", named)])
    optimizer.param_groups[0]["params"].append(torch.nn.Parameter(torch.zeros(2)))
    optimizer.param_groups[0]["params"][1].grad = torch.ones(2).to_sparse()
    with pytest.raises(TypeError, match="the gradient of parameter '1 of group 0' is sparse"):
        optimizer.step()


SCHEDULERS = {
    "StepLR": lambda s, o: s.StepLR(o, 5),
    "MultiStepLR": lambda s, o: s.MultiStepLR(o, [3, 11]),
    "LinearLR": lambda s, o: s.LinearLR(o),
    "LinearLR to 0": lambda s, o: s.LinearLR(o, end_factor=0.0, total_iters=5),
    "ExponentialLR": lambda s, o: s.ExponentialLR(o, 0.9),
    "CosineAnnealingLR": lambda s, o: s.CosineAnnealingLR(o, 20),
    "CosineAnnealingWarmRestarts": lambda s, o: s.CosineAnnealingWarmRestarts(o, 7),
    "PolynomialLR": lambda s, o: s.PolynomialLR(o, 20),
    "LambdaLR": lambda s, o: s.LambdaLR(o, lambda epoch: 0.9**epoch),
    "MultiplicativeLR": lambda s, o: s.MultiplicativeLR(o, lambda epoch: 0.95),
    "CyclicLR": lambda s, o: s.CyclicLR(o, 0.01, 0.1, step_size_up=4),
    "OneCycleLR": lambda s, o: s.OneCycleLR(o, 0.1, total_steps=31),
    "SequentialLR": lambda s, o: s.SequentialLR(o, [s.ConstantLR(o), s.ExponentialLR(o, 0.9)], [10]),
}


@pytest.mark.filterwarnings("ignore:The epoch parameter")  # older versions of torch warn of their own SequentialLR
@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize(
    ("name", "form"), [("SGD", {"lr": 0.05, "momentum": 0.9}), ("Adam", {"lr": 0.05}), ("RMSprop", {"momentum": 0.5})]
)
def test_schedulers(name, form, scheduler):
    a, params, b, others = both(name, **form)
    rates = []
    for optimizer, some in ((a, params), (b, others)):
        schedule = SCHEDULERS[scheduler](torch.optim.lr_scheduler, optimizer)
        run(optimizer, some, range(30), scheduler=schedule)
        rates.append({key: value for key, value in optimizer.param_groups[0].items() if key != "params"})
    same_run(a, params, b, others)
    assert {key: rates[0][key] for key in rates[1]} == rates[1]


@pytest.mark.parametrize("name", ot.__all__)
def test_a_rate_below_zero(name):
    # As in torch: the sign is looked at where groups are made; what a program, or a rounding, makes of it is taken.
    for rate in (-1e-18, -0.5):
        a, params, b, others = both(name, lr=0.1)
        for optimizer, some in ((a, params), (b, others)):
            run(optimizer, some, range(2))
            optimizer.param_groups[0]["lr"] = rate
            run(optimizer, some, range(2, 4))
        same_run(a, params, b, others)
        fresh_params = copy.deepcopy(params)
        fresh = getattr(ot, name)(fresh_params)
        fresh.load_state_dict(copy.deepcopy(a.state_dict()))
        run(a, params, range(4, 6))
        run(fresh, fresh_params, range(4, 6))
        assert bits(params) == bits(fresh_params)
        with pytest.raises(ValueError, match="lr of group 1 must be a finite number >= 0"):
            a.add_param_group({"params": parameters(), "lr": rate})


def test_plateau():
    params = parameters()
    optimizer = ot.SGD(params, lr=1.0)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0)
    for loss in (1.0, 2.0, 3.0):
        scheduler.step(loss)
    before = params[1].detach().clone()
    run(optimizer, params, range(1))
    np.testing.assert_allclose(params[1].detach(), before - 0.01 * params[1].grad, rtol=1e-15)  # one rounding


def test_momentum_that_starts_later():
    a, params, b, others = both("SGD", lr=0.1, dampening=0.5)
    for optimizer, some in ((a, params), (b, others)):
        run(optimizer, some, range(5))
        optimizer.param_groups[0]["momentum"] = 0.9  # the first gradient is taken whole now
        run(optimizer, some, range(5, 10))
        optimizer.param_groups[0]["momentum"] = 0
        run(optimizer, some, range(10, 15))
        optimizer.param_groups[0]["momentum"] = 0.5  # the buffer is still there
        run(optimizer, some, range(15, 20))
    same_run(a, params, b, others)


def test_closure():
    p = torch.nn.Parameter(torch.tensor([4.0]))
    optimizer = ot.SGD([p], lr=0.25)

    def closure():
        assert torch.is_grad_enabled()
        optimizer.zero_grad()
        loss = (p**2).sum()
        loss.backward()
        return loss

    with torch.no_grad():
        assert optimizer.step(closure).item() == 16.0
    assert p.item() == 2.0
    assert optimizer.step() is None


def test_step_hooks():
    seen = []
    p = torch.nn.Parameter(torch.tensor([4.0]))
    p.grad = torch.tensor([1.0])
    optimizer = ot.SGD([p], lr=1.0)

    def closure():
        seen.append("closure")
        return 7.0

    def pre(opt, args, kwargs):
        assert (opt, args, kwargs) == (optimizer, (optimizer,), {})
        seen.append(("pre", p.item()))
        return (optimizer, closure), {}

    def post(opt, args, kwargs):
        assert args == (optimizer, closure)
        seen.append(("post", p.item()))

    handles = [optimizer.register_step_pre_hook(pre), optimizer.register_step_post_hook(post)]
    assert optimizer.step() == 7.0
    assert seen == [("pre", 4.0), "closure", ("post", 3.0)]
    for handle in handles:
        handle.remove()
    assert optimizer.step() is None
    assert len(seen) == 3
    optimizer.register_step_pre_hook(lambda opt, args, kwargs: seen.append((args, kwargs)))
    for way in ({"args": (closure,)}, {"kwargs": {"closure": closure}}):
        optimizer.step(*way.get("args", ()), **way.get("kwargs", {}))
        assert seen[-2:] == [((optimizer, closure), {}), "closure"]


@pytest.mark.parametrize("kind", ["pre", "post"])
def test_hooks_of_all_optimizers(kind):
    seen = []
    params = parameters()
    optimizer = ot.Adam(params)
    module = importlib.import_module("torch.optim.optimizer")  # torch.optim has deleted the name
    register = getattr(module, f"register_optimizer_step_{kind}_hook")
    handle = register(lambda opt, args, kwargs: seen.append((opt, params[0].detach().clone())))
    before = params[0].detach().clone()
    try:
        run(optimizer, params, range(1))
    finally:
        handle.remove()
    ((opt, value),) = seen
    assert opt is optimizer
    assert torch.equal(value, before) is (kind == "pre")


def test_state_hooks():
    params = parameters()
    optimizer = ot.Adam(params)
    run(optimizer, params, range(1))
    seen = []
    optimizer.register_state_dict_pre_hook(lambda opt: seen.append("before"))
    optimizer.register_state_dict_post_hook(lambda opt, state: {**state, "mine": 1})
    optimizer.register_load_state_dict_pre_hook(lambda opt, state: seen.append(state["mine"]))
    optimizer.register_load_state_dict_post_hook(lambda opt: seen.append("after"))
    optimizer.load_state_dict(optimizer.state_dict())
    assert seen == ["before", 1, "after"]


def test_profiler_sees_steps():
    params = parameters()
    optimizer = ot.Adam(params)
    with torch.autograd.profiler.profile() as profile:
        run(optimizer, params, range(3))
    assert sum(event.name == "Optimizer.step#Adam.step" for event in profile.function_events) == 3


def test_subclasses():
    class Mine(ot.Adam):
        def step(self, closure=None):
            self.mine = True
            return super().step(closure)

    class Heir(Mine):
        pass

    others = parameters()
    run(ot.Adam(others), others, range(3))
    for cls in (Mine, Heir):
        seen, params = [], parameters()
        optimizer = cls(params)
        optimizer.register_step_pre_hook(lambda opt, args, kwargs, seen=seen: seen.append("pre"))
        optimizer.register_step_post_hook(lambda opt, args, kwargs, seen=seen: seen.append("post"))
        run(optimizer, params, range(3))
        assert optimizer.mine
        assert bits(params) == bits(others)
        assert seen == ["pre", "post"] * 3


def test_gradient_scaler():
    p = torch.nn.Parameter(torch.tensor([4.0]))
    optimizer, scaler = ot.SGD([p], lr=1.0), torch.amp.GradScaler("cpu", init_scale=8.0)
    for value, expected in ((float("inf"), 4.0), (1.0, 3.0)):
        p.grad = torch.tensor([value]) * scaler.get_scale()
        scaler.scale(torch.zeros(()))
        scaler.step(optimizer)
        scaler.update()
        assert p.item() == expected


def test_in_a_compiled_program():
    params, others = parameters(), parameters()
    a, b = ot.Adam(params, lr=0.1), ot.Adam(others, lr=0.1)

    def train(optimizer, some):
        optimizer.zero_grad()
        sum((p**2).sum() for p in some).backward()
        optimizer.step()

    torch._dynamo.reset()
    compiled = torch.compile(train, backend="eager")
    for _ in range(3):
        compiled(a, params)
        train(b, others)
    assert bits(params) == bits(others)
    assert a.state[params[0]]["step"] == 3


def test_training_a_model():
    losses = []
    for module in (ot, torch.optim):
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1)).double()
        X = torch.randn(50, 3, dtype=torch.float64)
        y = X.sum(dim=1, keepdim=True) ** 2
        optimizer = module.AdamW(model.parameters(), lr=0.01)
        for _ in range(100):
            optimizer.zero_grad()
            loss = torch.nn.functional.mse_loss(model(X), y)
            loss.backward()
            optimizer.step()
        losses.append(loss.item())
    # Here differences do feed back, through 100 steps of a smooth problem.
    assert losses[0] == pytest.approx(losses[1], rel=1e-8)


@pytest.mark.skipif(not README.exists(), reason="needs the source tree")
def test_readme_code_runs():
    (block,) = [
        text for text in re.findall(r"```python\n(.*?)```", README.read_text(), re.S) if "optcore.torch" in text
    ]
    names = {}
    exec(block, names)
    assert names["optimizer"].state[names["model"][0].weight]["step"] == 100


# ---------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("tensor", "words"),
    [
        (torch.zeros(3, dtype=torch.float16), ("torch.float16", "use .float()")),
        (torch.zeros(3, dtype=torch.bfloat16), ("torch.bfloat16", "use .float()")),
        (torch.zeros(3, dtype=torch.complex64), ("torch.complex64",)),
        (torch.zeros(3, device="meta"), ("is on meta", "torch.optim")),
        (torch.zeros(3, 2).t(), ("(2, 3)", "not contiguous", ".contiguous()")),
        (torch.zeros(2, 3, 4, 5).to(memory_format=torch.channels_last), ("not contiguous", "channels_last")),
        (torch.zeros(3, 2).to_sparse(), ("sparse", "dense")),
    ],
    ids=["half", "bfloat16", "complex", "device", "transposed", "channels_last", "sparse"],
)
def test_parameters_that_are_refused(tensor, words):
    for module_name in ot.__all__:
        cls = getattr(ot, module_name)
        with pytest.raises((TypeError, ValueError)) as caught:
            cls([("good", torch.nn.Parameter(torch.zeros(2))), ("bad", tensor.detach().requires_grad_())])
        for word in ("parameter 'bad'", *words):
            assert word in str(caught.value)
    optimizer = ot.SGD([torch.nn.Parameter(torch.zeros(2))])
    with pytest.raises((TypeError, ValueError), match="parameter '0 of group 1'"):
        optimizer.add_param_group({"params": tensor.detach().requires_grad_()})
    assert len(optimizer.param_groups) == 1


def test_frozen_parameters_may_be_anything():
    frozen = torch.nn.Parameter(torch.zeros(3, dtype=torch.float16), requires_grad=False)
    for name in ot.__all__:
        params = [frozen, *parameters()]
        optimizer = getattr(ot, name)(params)
        run(optimizer, params[1:], range(2))
        copy.deepcopy(optimizer).step()


def grads_that_are_refused():
    sparse = torch.sparse_coo_tensor([[0], [0]], [1.0], (3, 4), dtype=torch.float64, check_invariants=True)
    return {
        "sparse": (sparse, ("sparse", "sparse=False")),
        "expanded": (torch.ones((), dtype=torch.float64).expand(3, 4), ("not contiguous", ".contiguous()")),
        "transposed": (torch.ones(4, 3, dtype=torch.float64).t(), ("not contiguous", "strides")),
    }


@pytest.mark.parametrize("kind", grads_that_are_refused())
@pytest.mark.parametrize("groups", [1, 2])
def test_gradients_that_are_refused(kind, groups):
    bad, words = grads_that_are_refused()[kind]
    for name in ot.__all__:
        named = [("first", p) if i == 0 else (f"other{i}", p) for i, p in enumerate(parameters())][::-1]
        params = [p for _, p in named]
        entries = [{"params": named[:2]}, {"params": named[2:]}] if groups == 2 else named
        optimizer = getattr(ot, name)(entries)
        for steps in (0, 2):
            run(optimizer, params, range(steps))
            before = snapshot(optimizer, params)
            for p, g in zip(params, gradients(9, params), strict=True):
                p.grad = g
            params[-1].grad = bad
            with pytest.raises((TypeError, ValueError)) as caught:
                optimizer.step()
            for word in ("the gradient of parameter 'first'", *words):
                assert word in str(caught.value)
            assert snapshot(optimizer, params) == before
        others = copy.deepcopy(params)
        fresh = getattr(ot, name)([{"params": others[:2]}, {"params": others[2:]}] if groups == 2 else others)
        fresh.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        run(optimizer, params, range(2, 4))
        run(fresh, others, range(2, 4))
        assert bits(params) == bits(others)  # nothing of what failed is left


def test_gradient_with_its_sign_pending():
    p = torch.nn.Parameter(torch.ones(1))
    p.grad = torch.ones(1, dtype=torch.complex64).conj().imag
    assert p.grad.is_neg()
    assert p.grad.is_contiguous()
    with pytest.raises(ValueError, match="resolve_neg"):
        ot.SGD([p]).step()


@pytest.mark.skipif(not hasattr(torch.Tensor, "grad_dtype"), reason="gradients always have the dtype of the parameter")
def test_gradient_of_another_dtype():
    p = torch.nn.Parameter(torch.ones(2))
    p.grad_dtype = None
    p.grad = torch.ones(2, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"torch.float64 of shape \(2,\), but must be torch.float32"):
        ot.SGD([p]).step()


def test_gradient_that_shares_memory():
    p, q = parameters(shapes=[(3,), (3,)])
    optimizer = ot.SGD([{"params": [q]}, {"params": [p]}])
    p.grad, q.grad = p.detach(), torch.ones_like(q)
    before = bits([p, q])
    with pytest.raises(ValueError, match="shares memory with parameter '0 of group 1'"):
        optimizer.step()
    assert bits([p, q]) == before


NUMBERS = [
    ("SGD", "lr", float("nan"), "a finite number"),
    ("SGD", "lr", float("inf"), "a finite number"),
    ("SGD", "lr", -1e39, "a finite number"),
    ("SGD", "lr", torch.tensor(0.1), "use .item()"),
    ("SGD", "lr", None, "a finite number"),
    ("SGD", "lr", "0.1", "a finite number"),
    ("SGD", "momentum", 1.5, "between 0 and 1, got 1.5"),
    ("SGD", "weight_decay", -1.0, "a finite number >= 0"),
    ("SGD", "maximize", 1, "True or False"),
    ("SGD", "differentiable", True, "leave it out"),
    ("Adam", "betas", (0.9, 1.0), "betas[1] of group 0 must be at least 0 and below 1"),
    ("Adam", "betas", 0.9, "a pair of numbers"),
    ("Adam", "betas", (0.9,), "a pair of numbers"),
    ("Adam", "betas", (torch.tensor(0.8), torch.tensor(0.9)), "at least 0 and below 1"),
    ("Adam", "eps", 0.0, "> 0"),
    ("Adam", "eps", 1e-60, "that float32 can hold"),
    ("Adam", "amsgrad", None, "True or False"),
    ("Adam", "capturable", True, "leave it out"),
    ("Rprop", "etas", (1.5, 0.5), "below 1"),
    ("Rprop", "step_sizes", (1.0, 0.1), "(smallest, largest)"),
    ("Adadelta", "rho", 1.0, "below 1"),
    ("RMSprop", "alpha", 1.0, "below 1"),
    ("Adagrad", "lr_decay", -1.0, "a finite number >= 0"),
]


@pytest.mark.parametrize(("name", "key", "value", "words"), NUMBERS, ids=[f"{n[0]}-{n[1]}-{n[2]}" for n in NUMBERS])
def test_values_that_are_refused(name, key, value, words):
    cls = getattr(ot, name)
    params = parameters(torch.float32)
    with pytest.raises((TypeError, ValueError)) as made:
        cls(params, **{key: value})
    optimizer = cls(params)
    run(optimizer, params, range(1))
    before, good = snapshot(optimizer, params), optimizer.param_groups[0][key]
    optimizer.param_groups[0][key] = value
    with pytest.raises((TypeError, ValueError)) as changed:
        optimizer.step()
    optimizer.param_groups[0][key] = good
    bad = copy.deepcopy(optimizer.state_dict())
    bad["param_groups"][0][key] = value
    with pytest.raises((TypeError, ValueError)) as loaded:
        optimizer.load_state_dict(bad)
    for caught in (made, changed, loaded):
        assert key in str(caught.value)
        assert words in str(caught.value)
    assert snapshot(optimizer, params) == before


def test_bad_value_of_a_later_group():
    params = parameters()
    optimizer = ot.Adam([{"params": params[:1]}, {"params": params[1:]}])
    run(optimizer, params, range(1))
    optimizer.param_groups[0]["lr"] = 0.5
    optimizer.param_groups[1]["eps"] = -0.5
    before = snapshot(optimizer, params)
    with pytest.raises(ValueError, match="eps of group 1"):
        optimizer.step()
    assert snapshot(optimizer, params) == before


def test_numbers_of_a_group_of_several_dtypes():
    params = [parameters(dtype)[1] for dtype in (torch.float64, torch.float32)]
    with pytest.raises(ValueError, match=r"eps of group 0 .* that float32 can hold"):
        ot.Adam(params, eps=1e-60)
    assert ot.Adam(params[:1], eps=1e-60).defaults["eps"] == 1e-60
    optimizer = ot.Adam(params)
    run(optimizer, params, range(2))
    optimizer.param_groups[0]["eps"] = 1e-60
    before = snapshot(optimizer, params)
    with pytest.raises(ValueError, match=r"eps of group 0 .* that float32 can hold"):
        optimizer.step()
    assert snapshot(optimizer, params) == before


def test_a_parameter_that_becomes_float32_before_its_first_step():
    params = parameters()
    optimizer = ot.Adam(params)
    run(optimizer, params, range(2), lambda step, i: i == 1)
    params[1].data = params[1].data.float()
    params[1].grad = torch.ones(5)
    optimizer.param_groups[0]["eps"] = 1e-60
    with pytest.raises(ValueError, match=r"eps of group 0 .* that float32 can hold"):
        optimizer.step()


def test_nesterov_with_what_is_no_number():
    p = torch.nn.Parameter(torch.zeros(2))
    for params in ([p], [{"params": p, "momentum": 0.9}]):
        with pytest.raises(TypeError, match=r"momentum.* must be between 0 and 1, got '0.9'"):
            ot.SGD(params, momentum="0.9", nesterov=True)


@pytest.mark.parametrize("keywords", [{"momentum": 0.0}, {"momentum": 0.9, "dampening": 0.5}])
def test_nesterov_as_torch(keywords):
    for module in (ot, torch.optim):
        with pytest.raises(ValueError, match="dampening"):
            module.SGD(parameters(), nesterov=True, **keywords)


def test_first_sum_of_squares():
    with pytest.raises(ValueError, match="initial_accumulator_value must be a finite number >= 0"):
        ot.Adagrad(parameters(), initial_accumulator_value=-1.0)


def of_another_class(state):
    for entry in state["state"].values():
        entry["momentum_buffer"] = entry.pop("exp_avg")


def of_another_shape(state):
    state["state"][1]["exp_avg"] = torch.zeros(6)


def not_contiguous(state):
    state["state"][0]["exp_avg"] = torch.zeros(4, 3, dtype=torch.float64).t()


def with_other_switches(state):
    state["param_groups"][0]["amsgrad"] = True


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (of_another_class, ("parameter '0 of group 0'", "does not know", "another optimizer")),
        (of_another_shape, ("the state 'exp_avg' of parameter '1 of group 0'", "(6,)", "(5,)")),
        (not_contiguous, ("the state 'exp_avg' of parameter '0 of group 0'", "not contiguous")),
        (with_other_switches, ("no 'max_exp_avg_sq'", "other switches")),
    ],
)
def test_states_that_are_refused(spoil, words):
    params = parameters()
    optimizer = ot.Adam(params)
    run(optimizer, params, range(2))
    before = snapshot(optimizer, params)
    spoilt = copy.deepcopy(optimizer.state_dict())
    spoil(spoilt)
    with pytest.raises(ValueError) as caught:
        optimizer.load_state_dict(spoilt)
    for word in words:
        assert word in str(caught.value)
    assert snapshot(optimizer, params) == before
    run(optimizer, params, range(2, 4))
    assert optimizer.state[params[0]]["step"] == 4


@pytest.mark.parametrize(
    ("there", "here", "unknown"),
    [
        (partial(torch.optim.SGD, lr=0.1, momentum=0.9), ot.Adam, "momentum_buffer"),
        (torch.optim.NAdam, ot.Adam, "mu_product"),
        (torch.optim.Adagrad, partial(ot.SGD, lr=0.1), "sum"),
    ],
)
def test_states_of_another_optimizer_are_refused(there, here, unknown):
    params = parameters()
    other, optimizer = there(params), here(params)
    run(other, params, range(2))
    before = snapshot(optimizer, params)
    with pytest.raises(ValueError, match=f"has .*'{unknown}'.* does not know: it is of another"):
        optimizer.load_state_dict(other.state_dict())
    assert snapshot(optimizer, params) == before


COUNTS = {
    "nan": torch.tensor(float("nan")),
    "infinite": torch.tensor(float("inf")),
    "negative": torch.tensor(-1.0),
    "half": torch.tensor(2.5),
    "two": torch.tensor([2.0, 2.0]),
    "text": "x",
    "flag": True,
    "huge": 1e30,
    "complex": torch.tensor(2j),
    "elsewhere": torch.zeros((), device="meta"),
}


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("name", ["Adam", "Adagrad", "Rprop"])
def test_counts_that_are_refused(name, count):
    params = parameters()
    optimizer = getattr(ot, name)(params)
    run(optimizer, params, range(2))
    before = snapshot(optimizer, params)
    state = copy.deepcopy(optimizer.state_dict())
    state["state"][1]["step"] = COUNTS[count]
    words = "the state 'step' of parameter '1 of group 0' must be an integer >= 0"
    with pytest.raises(ValueError, match=words):
        optimizer.load_state_dict(state)
    assert snapshot(optimizer, params) == before
    good, values = optimizer.state[params[1]]["step"], bits(params)
    optimizer.state[params[1]]["step"] = COUNTS[count]
    with pytest.raises(ValueError, match=words):
        optimizer.step()
    assert bits(params) == values
    optimizer.state[params[1]]["step"] = good
    run(optimizer, params, range(2, 4))
    assert optimizer.state[params[1]]["step"] == 4


def test_a_count_that_is_missing():
    params = parameters()
    optimizer = ot.Adam(params)
    run(optimizer, params, range(2))
    optimizer.state[params[1]]["step"] = None
    with pytest.raises(ValueError, match="no 'step'"):
        optimizer.step()


def test_counts_as_numbers_and_of_one_element():
    a, params, b, others = both("Adam")
    for optimizer, some in ((a, params), (b, others)):
        run(optimizer, some, range(2))
    for p, count in zip(params, (2, np.int64(2), torch.tensor([2])), strict=True):
        a.state[p]["step"] = count
    for optimizer, some in ((a, params), (b, others)):
        run(optimizer, some, range(2, 4))
    same_run(a, params, b, others)


def test_a_model_whose_dtype_changes():
    model = torch.nn.Linear(2, 1)
    params = list(model.parameters())
    optimizer = ot.Adam(params)
    run(optimizer, params, range(2))
    optimizer.zero_grad()
    model.double()
    with pytest.raises(ValueError, match=r"load its state_dict again.*or start anew: del opt.state\[p\]"):
        run(optimizer, params, range(2, 3))
    optimizer.load_state_dict(optimizer.state_dict())
    run(optimizer, params, range(2, 3))
    assert optimizer.state[params[0]]["exp_avg"].dtype == torch.float64
    assert optimizer.state[params[0]]["step"] == 3


def test_memory_that_is_not_aligned():
    unaligned = torch.frombuffer(bytearray(17), dtype=torch.float32, offset=1, count=4)
    with pytest.raises(ValueError, match=r"parameter '0 of group 0' is not aligned in memory; use .clone\(\)"):
        ot.SGD([unaligned.requires_grad_()])
    p = torch.nn.Parameter(torch.zeros(4))
    p.grad = unaligned.detach()
    with pytest.raises(ValueError, match=r"the gradient .* is not aligned in memory; use .clone\(\)"):
        ot.SGD([p]).step()


def test_parameters_that_share_memory():
    memory = torch.ones(6)
    params = [memory[:4].requires_grad_(), memory[2:].requires_grad_()]
    with pytest.raises(ValueError, match="share memory"):
        run(ot.SGD(params), params, range(1))
    assert torch.equal(memory, torch.ones(6))


def test_choices_of_torch_mean_nothing_here():
    results = []
    for choice in ({}, {"foreach": True}, {"foreach": False}, {"fused": True}, {"fused": False}):
        params = parameters()
        optimizer = ot.Adam(params, **choice)
        run(optimizer, params, range(3))
        assert optimizer.param_groups[0]["foreach"] is choice.get("foreach")
        results.append(bits(params))
    assert all(result == results[0] for result in results)


def test_shared_sums():
    params = parameters()
    optimizer = ot.Adagrad(params)
    optimizer.share_memory()
    assert all(entry["sum"].is_shared() for entry in optimizer.state.values())
    others = parameters()
    other = torch.optim.Adagrad(others)
    run(optimizer, params, range(5))
    run(other, others, range(5))
    same_run(optimizer, params, other, others)
