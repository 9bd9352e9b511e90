"""torch's optimizers for parameters on the CPU, stepped by optcore's kernels: change the import, keep the program.

    from optcore.torch import AdamW

The classes are subclasses of ``torch.optim.Optimizer`` with the arguments, defaults, groups and state of torch's own:
closures, hooks, schedulers, ``state_dict`` and checkpoints work, and a run may move from one to the other at any step.
What a rule computes is specified in :mod:`optcore.reference`.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from typing import Any, ClassVar

import torch

from optcore.domains import DOMAINS, check_number, held_by_float32
from optcore.torch_optimizer import Optimizer, counting_dtype

__all__ = ["SGD", "Adadelta", "Adagrad", "Adam", "AdamW", "Adamax", "RMSprop", "Rprop"]

Betas = tuple[float, float]


def arguments(names: Mapping[str, Any]) -> dict[str, Any]:
    """What a constructor was given as defaults of its groups, from its ``locals()``."""
    return {name: value for name, value in names.items() if name not in ("self", "params", "__class__")}


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum.

    Parameters
    ----------
    params, maximize, foreach, differentiable, fused :
        See :class:`optcore.torch_optimizer.Optimizer`.
    lr, momentum, dampening, weight_decay, nesterov :
        As for :class:`optcore.SGD`.

    Examples
    --------
    >>> import torch, optcore.torch
    >>> p = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
    >>> opt = optcore.torch.SGD([p], lr=0.5)
    >>> (p**2).sum().backward()
    >>> opt.step()
    >>> p.data
    tensor([0., 0.])
    """

    _hyper = ("lr", "momentum", "dampening", "weight_decay")
    _flags = ("nesterov", "maximize", "differentiable")
    _state_names: ClassVar[dict[str, str]] = {"b": "momentum_buffer"}
    _counts_updates = False

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        differentiable: bool = False,
        fused: bool | None = None,
    ):
        super().__init__(params, arguments(locals()))
        # Groups may have values of their own, so that these need not have been looked at.
        numbers = [check_number(name, self.defaults[name], DOMAINS[name]) for name in ("momentum", "dampening")]
        if nesterov and (numbers[0] == 0 or numbers[1] != 0):
            raise ValueError(f"nesterov=True needs momentum > 0 and dampening = 0, got {momentum!r} and {dampening!r}")

    def _rule(self, group: Mapping[str, Any]) -> str:
        if group["momentum"] == 0:
            return "sgd"
        return "nesterov" if group["nesterov"] else "momentum"


class Adagrad(Optimizer):
    """A learning rate for each element, which falls with the sum of its squared gradients.

    Parameters
    ----------
    params, foreach, maximize, differentiable, fused :
        See :class:`optcore.torch_optimizer.Optimizer`.
    lr, lr_decay, weight_decay, eps :
        As for :class:`optcore.Adagrad`.
    initial_accumulator_value : float
        The sum of squares at first, of all groups.

    Examples
    --------
    >>> import torch, optcore.torch
    >>> p = torch.nn.Parameter(torch.tensor([1.0, 1.0]))
    >>> opt = optcore.torch.Adagrad([p], lr=0.5)
    >>> p.grad = torch.tensor([4.0, -0.25])
    >>> opt.step()
    >>> p.data
    tensor([0.5000, 1.5000])
    """

    _hyper = ("lr", "lr_decay", "eps", "weight_decay")
    _flags = ("maximize", "differentiable")
    _state_names: ClassVar[dict[str, str]] = {"s": "sum"}

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        lr_decay: float = 0,
        weight_decay: float = 0,
        initial_accumulator_value: float = 0,
        eps: float = 1e-10,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ):
        check_number("initial_accumulator_value", initial_accumulator_value, held_by_float32(DOMAINS["lr"]))
        super().__init__(params, arguments(locals()))
        for group in self.param_groups:  # here torch has a state before the first step
            for p in group["params"]:
                count = torch.tensor(0.0, dtype=counting_dtype(), device="cpu")
                self.state[p].update(step=count, sum=torch.full_like(p, initial_accumulator_value))

    def _rule(self, group: Mapping[str, Any]) -> str:
        return "adagrad"

    def _start(self, name: str, group: Mapping[str, Any]) -> float:
        return self.defaults["initial_accumulator_value"]

    def share_memory(self) -> None:
        """Moves the sums into memory that processes share, as torch does. Each process has counts of its own."""
        for group in self.param_groups:
            for p in group["params"]:
                self.state[p]["sum"].share_memory_()


class RMSprop(Optimizer):
    """A learning rate for each element, divided by a moving root mean square of its gradients.

    Where ``centered`` finds a variance below zero, which is rounding, it is taken for zero; torch makes NaN of it.

    Parameters
    ----------
    params, capturable, foreach, maximize, differentiable :
        See :class:`optcore.torch_optimizer.Optimizer`.
    lr, alpha, eps, weight_decay, momentum, centered :
        As for :class:`optcore.RMSprop`.

    Examples
    --------
    >>> import torch, optcore.torch
    >>> p = torch.nn.Parameter(torch.tensor([1.0, 1.0]))
    >>> opt = optcore.torch.RMSprop([p], lr=0.1, alpha=0.75)
    >>> p.grad = torch.tensor([4.0, -0.25])
    >>> opt.step()
    >>> p.data
    tensor([0.8000, 1.2000])
    """

    _hyper = ("lr", "alpha", "eps", "weight_decay", "momentum")
    _flags = ("centered", "maximize", "capturable", "differentiable")
    _state_names: ClassVar[dict[str, str]] = {"s": "square_avg", "m": "grad_avg", "b": "momentum_buffer"}

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum: float = 0,
        centered: bool = False,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
    ):
        super().__init__(params, arguments(locals()))

    def _rule(self, group: Mapping[str, Any]) -> str:
        return "rmsprop" + "_centered" * bool(group["centered"]) + "_momentum" * (group["momentum"] > 0)


class Adadelta(Optimizer):
    """Steps in the units of the parameters: the ratio of two moving root mean squares times the gradient.

    Parameters
    ----------
    params, foreach, capturable, maximize, differentiable :
        See :class:`optcore.torch_optimizer.Optimizer`.
    lr, rho, eps, weight_decay :
        As for :class:`optcore.Adadelta`.

    Examples
    --------
    >>> import torch, optcore.torch
    >>> p = torch.nn.Parameter(torch.tensor([1.0]))
    >>> opt = optcore.torch.Adadelta([p], eps=0.25, rho=0.75)
    >>> p.grad = torch.tensor([3.0]).sqrt()
    >>> opt.step()
    >>> p.data
    tensor([0.1340])
    """

    _hyper = ("lr", "rho", "eps", "weight_decay")
    _flags = ("maximize", "capturable", "differentiable")
    _state_names: ClassVar[dict[str, str]] = {"s": "square_avg", "a": "acc_delta"}

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0,
        foreach: bool | None = None,
        *,
        capturable: bool = False,
        maximize: bool = False,
        differentiable: bool = False,
    ):
        super().__init__(params, arguments(locals()))

    def _rule(self, group: Mapping[str, Any]) -> str:
        return "adadelta"


class Rprop(Optimizer):
    """A step length for each element, which grows while the gradient keeps its sign. For full batches.

    Where the gradient is NaN, the element becomes NaN; torch leaves it as it is.

    Parameters
    ----------
    params, capturable, foreach, maximize, differentiable :
        See :class:`optcore.torch_optimizer.Optimizer`.
    lr, etas, step_sizes :
        As for :class:`optcore.Rprop`.

    Examples
    --------
    >>> import torch, optcore.torch
    >>> p = torch.nn.Parameter(torch.tensor([1.0, 1.0]))
    >>> opt = optcore.torch.Rprop([p], lr=0.5)
    >>> p.grad = torch.tensor([9.0, -1.0])
    >>> opt.step()
    >>> p.data
    tensor([0.5000, 1.5000])
    """

    _hyper = ("lr", "etas[0]", "etas[1]", "step_sizes[0]", "step_sizes[1]")
    _flags = ("maximize", "capturable", "differentiable")
    _state_names: ClassVar[dict[str, str]] = {"prev": "prev", "step": "step_size"}

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        etas: tuple[float, float] = (0.5, 1.2),
        step_sizes: tuple[float, float] = (1e-6, 50),
        *,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
    ):
        super().__init__(params, arguments(locals()))

    def _numbers(
        self,
        index: int,
        group: Mapping[str, Any],
        single: bool,
        keys: Container[str] | None = None,
        *,
        new: bool = False,
    ) -> dict[str, float]:
        found = super()._numbers(index, group, single, keys, new=new)
        if found.get("step_sizes[0]", 0.0) > found.get("step_sizes[1]", 0.0):
            raise ValueError(f"step_sizes of group {index} must be (smallest, largest), got {group['step_sizes']!r}")
        return found

    def _rule(self, group: Mapping[str, Any]) -> str:
        return "rprop"

    def _start(self, name: str, group: Mapping[str, Any]) -> float:
        return group["lr"] if name == "step_size" else 0.0


class Adam(Optimizer):
    """Adaptive moments: a moving average of the gradient over the root of one of its squares, both corrected.

    Parameters
    ----------
    params, foreach, maximize, capturable, differentiable, fused :
        See :class:`optcore.torch_optimizer.Optimizer`.
    lr, betas, eps, weight_decay, amsgrad :
        As for :class:`optcore.Adam`.
    decoupled_weight_decay : bool
        Be :class:`AdamW`.

    Examples
    --------
    >>> import torch, optcore.torch
    >>> model = torch.nn.Linear(3, 1)
    >>> opt = optcore.torch.Adam(model.named_parameters(), lr=0.1)
    >>> model(torch.ones(2, 3)).sum().backward()
    >>> opt.step()
    >>> sorted(opt.state[model.bias])
    ['exp_avg', 'exp_avg_sq', 'step']
    """

    _hyper: ClassVar[tuple[str, ...]] = ("lr", "betas[0]", "betas[1]", "eps", "weight_decay")
    _flags = ("amsgrad", "maximize", "capturable", "differentiable", "decoupled_weight_decay")
    _state_names: ClassVar[dict[str, str]] = {"m": "exp_avg", "v": "exp_avg_sq", "vmax": "max_exp_avg_sq"}

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: Betas = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = False,
    ):
        if isinstance(betas, list):  # torch's has a tuple in its groups, too
            betas = tuple(betas)
        super().__init__(params, arguments(locals()))

    def _rule(self, group: Mapping[str, Any]) -> str:
        return "amsgrad" if group["amsgrad"] else "adam"


class AdamW(Adam):
    """Adam with a weight decay that does not go through the moments.

    Parameters
    ----------
    params, maximize, foreach, capturable, differentiable, fused :
        See :class:`optcore.torch_optimizer.Optimizer`.
    lr, betas, eps, weight_decay, amsgrad :
        As for :class:`optcore.AdamW`.

    Examples
    --------
    >>> import torch, optcore.torch
    >>> p = torch.nn.Parameter(torch.tensor([1.0]))
    >>> opt = optcore.torch.AdamW([p], lr=0.1, weight_decay=0.5)
    >>> p.grad = torch.tensor([2.0])
    >>> opt.step()
    >>> p.data
    tensor([0.8500])
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: Betas = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ):
        super().__init__(
            params,
            lr,
            betas,
            eps,
            weight_decay,
            amsgrad,
            foreach=foreach,
            maximize=maximize,
            capturable=capturable,
            differentiable=differentiable,
            fused=fused,
            decoupled_weight_decay=True,
        )

    def _settle(self, group: dict[str, Any]) -> None:
        group["decoupled_weight_decay"] = True


class Adamax(Optimizer):
    """Adam with a decaying maximum of the gradient's magnitude in place of the root mean square.

    Parameters
    ----------
    params, foreach, maximize, differentiable, capturable :
        See :class:`optcore.torch_optimizer.Optimizer`.
    lr, betas, eps, weight_decay :
        As for :class:`optcore.Adamax`.

    Examples
    --------
    >>> import torch, optcore.torch
    >>> p = torch.nn.Parameter(torch.tensor([1.0, 1.0]))
    >>> opt = optcore.torch.Adamax([p], lr=0.1)
    >>> p.grad = torch.tensor([2.0, -3.0])
    >>> opt.step()
    >>> p.data
    tensor([0.9000, 1.1000])
    """

    _hyper = ("lr", "betas[0]", "betas[1]", "eps", "weight_decay")
    _flags = ("maximize", "differentiable", "capturable")
    _state_names: ClassVar[dict[str, str]] = {"m": "exp_avg", "u": "exp_inf"}

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 2e-3,
        betas: Betas = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        capturable: bool = False,
    ):
        super().__init__(params, arguments(locals()))

    def _rule(self, group: Mapping[str, Any]) -> str:
        return "adamax"
