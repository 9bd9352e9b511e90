"""What the optimizers of :mod:`optcore.torch` share: looking at tensors, binding their memory, and the step.

Design
------
- A step reads and writes the tensors' own memory, through NumPy arrays over it. Gradients are let go behind each step.
- torch counts the updates of each parameter, and leaves out those without a gradient. Parameters of a group that have
  been updated equally often are a cohort, which one `Plan` steps. Where only some of a cohort have a gradient it is
  split for good; where all always have one, which is usual, a group stays one cohort.
- ``param_groups`` and ``state`` belong to the caller, who may write into them, replace tensors and parameters, or move
  their memory (``p.data = ...``). Each step therefore looks whether every object, address and shape is still what was
  bound, and starts from what is there if not. That is a good part of the time of a small step.
- torch wraps ``step`` in a profiler's range and in loops over hooks, which take longer than the step of a small model.
  Where nobody listens, that wrapper is left out.
- Autograd has to know that memory was changed behind its back: `increment_version`.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Container, Iterable, Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks

from optcore._build import RULES
from optcore._engine import Plan
from optcore.domains import DOMAINS, MAX, MAX32, Domain, check_flag, check_number, held_by_float32

SWITCHES = {"ema": 0.0, "inside": 0.0, "form": 0.0, "forget": 1.0}
"""torch's forms, as the scalars of a rule have them."""
UNLIMITED = {"clip_norm": float("inf"), "clip_value": float("inf")}
NUMBER = (int, float, np.integer, np.floating)
MOST = 2**53
"""Updates: a float counts no further."""
SHARE = 262144
"""Elements for each thread: with fewer, waking it took longer than it saved."""
DOMAINS32 = {name: held_by_float32(domain) for name, domain in DOMAINS.items()}
RATE = Domain(-MAX, MAX, "a finite number")
RATE32 = Domain(-MAX32, MAX32, "a finite number that float32 can hold")
"""What a step takes as lr. torch looks at its sign only where a group is made, and its schedulers overshoot zero by a
rounding (``LinearLR(opt, end_factor=0.0)`` ends near -1e-18), which must not end a run."""


def view(what: str, tensor: Any, p: torch.Tensor | None = None, remedy: str = "") -> np.ndarray:
    """An array over the memory of a tensor, or the error that says why there is none, and what to do.

    ``p``: the parameter whose dtype and shape it must have; ``remedy``: what to do where it has others.
    """
    if not isinstance(tensor, torch.Tensor):
        raise TypeError(f"{what} must be a tensor, got {type(tensor).__name__}")
    if tensor.layout != torch.strided:
        raise TypeError(
            f"{what} is sparse ({tensor.layout}); make it dense (torch.nn.Embedding(..., sparse=False), or "
            ".to_dense()), or take torch.optim.SparseAdam. optcore's own optimizers step rows: opt.step(values, rows)"
        )
    if tensor.device.type != "cpu":
        raise TypeError(f"{what} is on {tensor.device}; optcore steps on the CPU: use .cpu(), or torch.optim")
    if tensor.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"{what} is {tensor.dtype}; accepted are torch.float32 and torch.float64: use .float()")
    if not tensor.is_contiguous():
        raise ValueError(
            f"{what} of shape {tuple(tensor.shape)} and strides {tensor.stride()} is not contiguous; use "
            ".contiguous(), or .to(memory_format=torch.contiguous_format) for what is channels_last"
        )
    if tensor.is_neg():
        raise ValueError(f"{what} is a view with its sign pending; use .resolve_neg()")
    if p is not None and (tensor.dtype, tensor.shape) != (p.dtype, p.shape):
        raise ValueError(
            f"{what} is {tensor.dtype} of shape {tuple(tensor.shape)}, but must be {p.dtype} of shape "
            f"{tuple(p.shape)}, as the parameter is{remedy}"
        )
    if tensor.data_ptr() % tensor.element_size():
        raise ValueError(f"{what} is not aligned in memory; use .clone()")
    return tensor.detach().numpy()


def counting_dtype() -> torch.dtype:
    """In which torch counts updates."""
    return torch.float64 if torch.get_default_dtype() == torch.float64 else torch.float32


def any_float32(params: Iterable[torch.Tensor]) -> bool:
    """Whether float32 must hold the numbers of these parameters."""
    return any(p.dtype == torch.float32 for p in params)


class Form(NamedTuple):
    """What of a group is settled when a plan is made."""

    rule: str
    maximize: bool
    decoupled: bool


class Cohort:
    """Parameters of one group that have been updated equally often; ``plan`` is made when they are first stepped."""

    def __init__(self, positions: list[int], params: list[torch.Tensor]):
        self.positions, self.params = positions, params
        self.plan: Any = None
        self.form: Form | None = None
        self.values: tuple[Any, ...] | None = None  # what was read of the group for the plan
        self.tensors: list[torch.Tensor] = []  # whose memory the plan has
        self.state: list[dict[str, torch.Tensor]] = []  # made with the plan, to be taken at its first step
        self.counts = np.empty(0)  # the memory of state[p]["step"], and what was last written there
        self.counted = b""


class Optimizer(torch.optim.Optimizer):
    """What the classes share. A step that is refused has changed nothing.

    Parameters
    ----------
    params : iterable
        Tensors, pairs of names and tensors, or groups, as torch takes them: contiguous float32 or float64 on the CPU.
        Only those that have a gradient at a step are looked at.
    maximize : bool
        Ascend.
    foreach, fused : bool, optional
        Accepted, without effect: they choose between implementations of torch.
    capturable, differentiable : bool
        False. Nothing else is accepted.

    Raises
    ------
    TypeError, ValueError
        A parameter, a gradient, a state or a hyper-parameter cannot be used; the message names it and says what to do.
        Sparse, complex and half-precision tensors, those that are not contiguous or not on the CPU, and tensors as
        hyper-parameters are not accepted, nor are parameters of one group that share memory (a tied parameter is given
        once).

    Notes
    -----
    Large steps use as many threads as ``torch.get_num_threads()`` says; the bits do not depend on it. Optimizers cannot
    be compiled into a graph: ``torch.compile`` breaks it at ``step``. One optimizer must not be used by several threads
    at once.

    ``lr`` must be >= 0 where a group is made. A step takes any finite one, as torch's do: schedulers overshoot zero by
    a rounding.

    Parameters, gradients and states are looked at through NumPy, after which torch does not resize their storage
    (``resize_``). The tensors ``state[p]["step"]`` are replaced by new ones where memory is bound: at the first step,
    and after the caller has changed what is bound.
    """

    _hyper: ClassVar[tuple[str, ...]]
    """Hyper-parameters, by the names in DOMAINS."""
    _flags: ClassVar[tuple[str, ...]]
    """Keys of a group that are True or False."""
    _state_names: ClassVar[dict[str, str]]
    """What torch calls a rule's state arrays."""
    _counts_updates: ClassVar[bool] = True
    """Whether the state has "step"."""
    _parts: ClassVar[list[tuple[str, str, int | None]]]
    """Each of _hyper with its key in a group, and, of a pair, which it is."""
    _keys: ClassVar[tuple[str, ...]]
    """What of a group a step depends on."""
    _read: ClassVar[operator.itemgetter]
    """Takes the values of _keys from a group."""

    def __init_subclass__(cls, **keywords: Any):
        super().__init_subclass__(**keywords)
        if "_hyper" in vars(cls):
            split = [(name, *name.partition("[")[::2]) for name in cls._hyper]
            cls._parts = [(name, key, int(part[0]) if part else None) for name, key, part in split]
            cls._keys = (*dict.fromkeys(key for _, key, _ in cls._parts), *cls._flags)
            cls._read = operator.itemgetter(*cls._keys)

    def __init__(self, params: Iterable[Any], defaults: dict[str, Any]):
        self._cohorts: list[list[Cohort]] = []  # of each group; empty where they have to be made from what is there
        super().__init__(params, defaults)

    # ------------------------------------------------------------------ looking at what was given

    def _rule(self, group: Mapping[str, Any]) -> str:
        raise NotImplementedError

    def _start(self, name: str, group: Mapping[str, Any]) -> float:
        """What a state tensor is filled with at first."""
        return 0.0

    @staticmethod
    def _label(index: int, group: Mapping[str, Any], position: int) -> str:
        names = group.get("param_names")
        # A parameter that was appended to the group by hand has none.
        return names[position] if names and position < len(names) else f"{position} of group {index}"

    def _check_flags(self, index: int, group: Mapping[str, Any]) -> None:
        for name in self._flags:
            if check_flag(f"{name} of group {index}", group[name]) and name in ("capturable", "differentiable"):
                why = {"capturable": "is for graphs on a GPU", "differentiable": "needs steps that autograd can record"}
                raise ValueError(
                    f"{name}=True {why[name]}, which optcore does not have; leave it out "
                    f"(in a loaded state, set it to False in param_groups[{index}]), or take torch.optim"
                )

    def _numbers(
        self,
        index: int,
        group: Mapping[str, Any],
        single: bool,
        keys: Container[str] | None = None,
        *,
        new: bool = False,
    ) -> dict[str, float]:
        """The hyper-parameters of a group (or only those of some keys) by the names in DOMAINS, if none is bad.

        ``single``: for float32; ``new``: the group is being added, and its lr must not be negative.
        """
        found = {}
        for name, key, part in self._parts:
            if keys is not None and key not in keys:
                continue
            value = group[key]
            if isinstance(value, torch.Tensor):
                raise TypeError(f"{key} of group {index} is a tensor, {value!r}; a number is needed: use .item()")
            if part is not None:
                if not isinstance(value, (list, tuple)) or len(value) != 2:
                    raise TypeError(f"{key} of group {index} must be a pair of numbers, got {value!r}")
                value = value[part]
            domain = (DOMAINS32 if single else DOMAINS)[name]
            if name == "lr" and not new:
                domain = RATE32 if single else RATE
            found[name] = check_number(f"{name} of group {index}", value, domain)
        return found

    def _check_group(self, index: int, group: Mapping[str, Any], *, new: bool = False) -> None:
        self._check_flags(index, group)
        self._numbers(index, group, any_float32(group["params"]), new=new)

    def _arrays(self, name: str, p: torch.Tensor, rule: str, entry: Mapping[str, Any]) -> list[np.ndarray] | None:
        """Arrays over the state of a parameter, in the order of the rule; None where it has none yet."""
        names = [self._state_names[key] for key in RULES[rule].state]
        present = [key for key in ("step", *names) if entry.get(key) is not None]
        if not present:
            return None
        for key in ["step", *names] if self._counts_updates else names:
            if key not in present:
                raise ValueError(
                    f"the state of parameter {name!r} has {sorted(entry)}, but no {key!r}: it is of another "
                    f"optimizer, or of one with other switches; delete it (del opt.state[p]) to start anew"
                )
        remedy = "; load its state_dict again, which casts the state, or start anew: del opt.state[p]"
        return [view(f"the state {key!r} of parameter {name!r}", entry[key], p, remedy) for key in names]

    def _updates(self, name: str, entry: Mapping[str, Any]) -> int:
        """How often a parameter was updated, by its state; without "step", whether it was."""
        if not self._counts_updates:
            return int(any(entry.get(key) is not None for key in self._state_names.values()))
        found = count = entry.get("step")
        if count is None:  # no state, or one that _arrays refuses
            return 0
        if isinstance(count, torch.Tensor) and count.numel() == 1 and not count.is_meta:
            count = count.item()
        if isinstance(count, bool) or not isinstance(count, NUMBER) or not 0 <= count <= MOST or count % 1:
            raise ValueError(
                f"the state 'step' of parameter {name!r} must be an integer >= 0 (and at most 2**53), the updates so "
                f"far, as a tensor of one element or a number, got {found!r}; set it to that, or delete the state "
                "(del opt.state[p]) to start anew"
            )
        return int(count)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds a group, as torch does.

        Raises
        ------
        TypeError, ValueError
            Something in it cannot be used. It was not added.
        """
        super().add_param_group(param_group)
        index = len(self.param_groups) - 1
        try:
            self._check_group(index, param_group, new=True)
            for position, p in enumerate(param_group["params"]):
                if p.requires_grad:
                    view(f"parameter {self._label(index, param_group, position)!r}", p)
        except BaseException:
            self.param_groups.pop()
            raise

    def __setstate__(self, state: dict[str, Any]) -> None:
        # This is where load_state_dict, pickle and copy end. A state that cannot be used is refused before it is taken.
        loaded = "defaults" not in state
        defaults = self.defaults if loaded else state["defaults"]  # unpickling has none yet
        for index, group in enumerate(state["param_groups"]):
            for key, value in defaults.items():  # older versions of torch had fewer
                group.setdefault(key, value)
            self._settle(group)
            self._check_group(index, group)
            for position, p in enumerate(group["params"]):
                if not p.requires_grad:  # a half-precision part, say, that is frozen
                    continue
                name, entry = self._label(index, group, position), state["state"].get(p) or {}
                known = {"step", *self._state_names.values()}
                unknown = [key for key, kept in entry.items() if kept is not None and key not in known]
                if loaded and unknown:
                    raise ValueError(
                        f"the state of parameter {name!r} has {unknown}, which {type(self).__name__} does not "
                        "know: it is of another optimizer; make a new one, or take that out of the state_dict"
                    )
                self._updates(name, entry)
                self._arrays(name, p, self._rule(group), entry)
        self._cohorts = []
        super().__setstate__(state)

    def _settle(self, group: dict[str, Any]) -> None:
        """What a class has its own way, whatever is loaded."""

    # ------------------------------------------------------------------ binding memory

    def _objects(self) -> list[Any]:
        """Everything of the caller's that plans are made of."""
        objects: list[Any] = []
        for group in self.param_groups:
            objects.append(group)
            objects += group["params"]
        for entry in self.state.values():
            if isinstance(entry, dict):
                objects += entry.values()
        return objects

    def _remember(self) -> None:
        """What `_is_bound` compares with."""
        self._bound = self._objects()
        self._stepped = [cohort for cohorts in self._cohorts for cohort in cohorts if cohort.plan is not None]
        self._tensors = [tensor for cohort in self._stepped for tensor in cohort.tensors]
        self._addresses = list(map(torch.Tensor.data_ptr, self._tensors))
        self._bound_params = [p for cohort in self._stepped for p in cohort.params]
        self._sizes = list(map(torch.Tensor.size, self._bound_params))
        self._threads = torch.get_num_threads()

    def _is_bound(self) -> bool:
        """Whether all of the caller's objects are those that plans were made of, at the same place in memory.

        A tensor can stay there with other strides (``p.data = p.data.t()``) or another shape (``p.data = p.data[:3]``).
        """
        objects = self._objects()
        return (
            len(objects) == len(self._bound)
            and all(map(operator.is_, objects, self._bound))
            and list(map(torch.Tensor.data_ptr, self._tensors)) == self._addresses
            and all(map(torch.Tensor.is_contiguous, self._tensors))
            and list(map(torch.Tensor.size, self._bound_params)) == self._sizes
            and all(cohort.counts.tobytes() == cohort.counted for cohort in self._stepped)
            and torch.get_num_threads() == self._threads
        )

    def _make_cohorts(self, index: int, group: Mapping[str, Any]) -> list[Cohort]:
        """The cohorts of a group."""
        by_updates: dict[int, list[int]] = {}
        params = group["params"]
        for position, p in enumerate(params):
            updates = self._updates(self._label(index, group, position), self.state.get(p) or {})
            by_updates.setdefault(updates, []).append(position)
        return [Cohort(some, [params[position] for position in some]) for some in by_updates.values()]

    def _gather(self, index: int, cohort: Cohort) -> tuple[Cohort, list[np.ndarray]]:
        """Those of a cohort that have a gradient, and their gradients: the long way, with the errors that it meets."""
        group = self.param_groups[index]
        pairs = list(zip(cohort.positions, cohort.params, strict=True))
        there, absent = ([pair for pair in pairs if (pair[1].grad is None) is none] for none in (False, True))
        if not there:
            return cohort, []
        if absent:
            parts = [Cohort([position for position, _ in some], [p for _, p in some]) for some in (there, absent)]
            self._cohorts[index] = [other for other in self._cohorts[index] if other is not cohort] + parts
            cohort = parts[0]
        return cohort, [
            view(f"the gradient of parameter {self._label(index, group, position)!r}", p.grad, p)
            for position, p in there
        ]

    def _follow(self, index: int, cohort: Cohort) -> None:
        """Brings the plan of a cohort up to date with its group; makes it where there is none that fits."""
        group, values = self.param_groups[index], self._read(self.param_groups[index])
        old = cohort.values or (None,) * len(values)
        changed = {key for key, new, before in zip(self._keys, values, old, strict=True) if new != before}
        single = any_float32(cohort.params)  # may have changed: model.double()
        hyper = self._numbers(index, group, single, changed)
        if not changed.isdisjoint(self._flags):
            self._check_flags(index, group)
        form = Form(self._rule(group), bool(group["maximize"]), bool(group.get("decoupled_weight_decay", False)))
        if cohort.plan is None or form != cohort.form:
            cohort.plan, cohort.form = self._make_plan(index, cohort, form), form
            hyper = self._numbers(index, group, single)
        for name, value in hyper.items():
            if name in RULES[form.rule].hyper or name == "weight_decay":
                cohort.plan._set(0, name, value, name, value, value, "")
        # A copy of a list that the caller may write into.
        cohort.values = tuple(list(value) if isinstance(value, list) else value for value in values)

    def _make_plan(self, index: int, cohort: Cohort, form: Form) -> Plan:
        group, rule = self.param_groups[index], RULES[form.rule]
        updates = self._updates("", self.state.get(cohort.params[0]) or {})
        counts = torch.full((len(cohort.params),), updates, dtype=counting_dtype(), device="cpu")
        arrays, cohort.state, cohort.tensors = [], [], list(cohort.params)
        for position, p, count in zip(cohort.positions, cohort.params, counts.unbind(), strict=True):
            name, entry = self._label(index, group, position), self.state.get(p) or {}
            array, state = view(f"parameter {name!r}", p), self._arrays(name, p, form.rule, entry)
            names = [self._state_names[key] for key in rule.state]
            own: dict[str, torch.Tensor] = {"step": count} if self._counts_updates else {}
            if state is None:
                own.update({key: torch.full_like(p, self._start(key, group)) for key in names})
                state = [own[key].numpy() for key in names]
            arrays.append((name, array, 0, state, None, None, None))
            cohort.state.append(own)
            cohort.tensors += [own[key] if key in own else entry[key] for key in names]
        threads = max(1, min(torch.get_num_threads(), sum(p.numel() for p in cohort.params) // SHARE))
        plan = Plan()
        plan._bind(rule, arrays, False, 1, form.maximize, form.decoupled, False, "allow", None, threads)
        plan.t = updates
        for name, value in {**UNLIMITED, **SWITCHES}.items():
            if name in UNLIMITED or name in rule.hyper:
                plan._set(0, name, value, name, value, value, "")
        cohort.counts = counts.numpy() if self._counts_updates else np.empty(0)
        cohort.counted = cohort.counts.tobytes()
        return plan

    # ------------------------------------------------------------------ stepping

    def _prepare(self) -> list[Cohort]:
        """The cohorts with gradients, these bound to their plans: all that can be refused has been looked at."""
        found = []
        for index, (group, cohorts) in enumerate(zip(self.param_groups, self._cohorts, strict=True)):
            for one in tuple(cohorts):
                try:
                    cohort, grads = one, [p.grad.numpy() for p in one.params]  # type: ignore[union-attr]
                except (AttributeError, RuntimeError, TypeError):  # None, or what NumPy cannot look at
                    cohort, grads = self._gather(index, one)
                if not grads:
                    continue
                if cohort.plan is None or self._read(group) != cohort.values:
                    self._follow(index, cohort)
                try:
                    cohort.plan._bind_gradients(grads)
                except (TypeError, ValueError):
                    self._gather(index, cohort)  # says it in words of torch
                    raise
                found.append(cohort)
        new = [cohort for cohort in found if cohort.state]
        for cohort in new:
            for p, own in zip(cohort.params, cohort.state, strict=True):
                if own:
                    self.state[p].update(own)
            cohort.state = []
        if new:
            self._remember()
        return found

    def _step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        if not (self._cohorts and self._is_bound()):
            self._cohorts = [self._make_cohorts(index, group) for index, group in enumerate(self.param_groups)]
            self._remember()
        try:
            stepping = self._prepare()
            for cohort in stepping:
                cohort.plan.step()
                cohort.plan._bind_gradients(None)
                torch.autograd.graph.increment_version(cohort.params)
                if self._counts_updates:
                    cohort.counts.fill(cohort.plan.t)
                    cohort.counted = cohort.counts.tobytes()
        except BaseException:
            self._cohorts, self._stepped = [], []  # forgets gradients that were bound, and state that was made
            raise
        return loss

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Updates every parameter that has a gradient, once, and returns the closure's loss.

        Parameters
        ----------
        closure : callable, optional
            Evaluates the model again, takes gradients, and returns the loss.

        Raises
        ------
        TypeError, ValueError
            A gradient, a hyper-parameter or a state cannot be used. Nothing has been changed.

        Notes
        -----
        Hooks are given the closure as a positional argument, ``args == (optimizer, closure)``, however ``step`` got it.
        """
        # `hooked_step` and `step_outside_of_graphs` are `_step` and `step` in torch's wrappers, made below.
        if torch.compiler.is_compiling():
            return step_outside_of_graphs(self, closure)
        # torch has wrapped the step of a subclass that has its own, from which this one may be called.
        if type(self).step is Optimizer.step and (
            self._optimizer_step_pre_hooks
            or self._optimizer_step_post_hooks
            or _global_optimizer_pre_hooks
            or _global_optimizer_post_hooks
            or torch.autograd._profiler_enabled()
        ):
            return hooked_step(self) if closure is None else hooked_step(self, closure)
        return self._step(closure)

    step.hooked = True  # type: ignore[attr-defined]  # torch, do not wrap it


hooked_step = torch.optim.Optimizer.profile_hook_step(Optimizer._step)
# Imports torch's compiler, as the first optimizer that is made would do otherwise.
step_outside_of_graphs = torch.compiler.disable(Optimizer.step)
