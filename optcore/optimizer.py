"""What all optimizers share: parameters and groups, hyper-parameters, state, saving and loading."""

from __future__ import annotations

import contextlib
import copy
import functools
import inspect
import itertools
import math
import os
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, TypedDict

import numpy as np

from optcore._build import RULES
from optcore._engine import BLOCK_SIZE, Plan
from optcore.buffers import Allocator, Array, Arrays, as_array, is_array
from optcore.domains import (
    ANY,
    DOMAINS,
    LIMIT,
    NOT_NEGATIVE,
    PAIRS,
    Domain,
    check_choice,
    check_flag,
    check_number,
    held_by_float32,
    nearest,
)
from optcore.feedback import Feedback
from optcore.files import FORMAT, LOST, check_state, is_lost, read_state, write_state

__all__ = ["CATALOGUE", "EMA", "Group", "Optimizer", "Options", "Polyak", "load"]

Value = float | Callable[[int], float]
Parameters = Arrays | Sequence[Mapping[str, Any]]
Structure = np.ndarray | list[np.ndarray] | dict[str, np.ndarray]

CATALOGUE: dict[str, type[Optimizer]] = {}
"""Every optimizer by name, in order of increasing complexity."""
CLASSES: dict[str, type[Optimizer]] = {}
"""The same and other subclasses, by the name of the class."""
MOST_THREADS = 1024


@dataclass(frozen=True)
class EMA:
    """Exponential moving average of the parameters: ``a = decay * a + (1 - decay) * p`` after every step.

    It starts at the parameters as they are when the optimizer is made.
    """

    decay: Value = 0.999


@dataclass(frozen=True)
class Polyak:
    """Mean of all iterates: ``a = a + (p - a) / t`` (Polyak & Juditsky 1992). Before the first step it is zero."""


class Options(TypedDict, total=False):
    """Keywords that every optimizer takes. They are explained in :class:`Optimizer`."""

    maximize: bool
    clip_norm: Value | None
    clip_value: Value | None
    weight_decay: Value
    decoupled_weight_decay: bool
    bounds: tuple[Any, Any] | None
    averaging: EMA | Polyak | None
    on_nonfinite: str
    threads: int
    allocate: Callable[[tuple[int, ...], np.dtype], Array] | None


OPTIONS: dict[str, Any] = {
    "maximize": False,
    "clip_norm": None,
    "clip_value": None,
    "weight_decay": 0.0,
    "decoupled_weight_decay": False,
    "bounds": None,
    "averaging": None,
    "on_nonfinite": "allow",
    "threads": 1,
    "allocate": None,
}


def named_parameters(params: Arrays, start: int) -> tuple[dict[str, Any], bool]:
    """Parameters by name, and whether the names are the caller's; otherwise they count from ``start``."""
    if isinstance(params, Mapping):
        named = dict(params)
        for name, p in named.items():
            if not isinstance(name, str) or not name:
                raise TypeError(f"parameter names must be non-empty strings, got {name!r}")
            if params[name] is not p:  # numpy.load's result reads its file again
                kind = type(params).__name__
                raise TypeError(
                    f"{kind} makes a new array at each look, which no step would reach; pass dict(...) of it"
                )
        return named, True
    if isinstance(params, (list, tuple)):
        return {str(start + i): p for i, p in enumerate(params)}, False
    if is_array(params):
        return {str(start): params}, False
    raise TypeError(
        "params must be an array, a list or tuple of arrays, a mapping of names to arrays, or a list of groups "
        f'{{"params": ..., "lr": ...}}; got {type(params).__name__}; use '
        + ("list(...)" if hasattr(params, "__next__") else "numpy.array(...)")
    )


def group_entries(params: Any) -> list[Mapping[str, Any]] | None:
    """The groups, if there are some."""
    if isinstance(params, (list, tuple)) and params and all(isinstance(entry, Mapping) for entry in params):
        return list(params)
    return None


class Group(MutableMapping[str, Any]):
    """The hyper-parameters of some parameters; what is assigned to an item takes effect at the next step."""

    def __init__(self, optimizer: Optimizer, index: int):
        self._optimizer, self._index = optimizer, index

    def __getitem__(self, key: str) -> Any:
        if key == "params":
            params = self._optimizer._params[self._index]
            return dict(params) if self._optimizer._mapped else list(params.values())
        return self._optimizer._values[self._index][key]

    def __setitem__(self, key: str, value: Any) -> None:
        if key == "params":
            raise ValueError("the parameters of a group are fixed; make a new optimizer")
        if key not in self._optimizer._values[self._index]:
            raise KeyError(f"unknown hyper-parameter {key!r}{nearest(key, list(self._optimizer._values[self._index]))}")
        self._optimizer._assign([(self._index, key, value)])

    def __delitem__(self, key: str) -> None:
        raise TypeError("hyper-parameters of a group cannot be deleted")

    def __iter__(self) -> Iterator[str]:
        return iter(["params", *self._optimizer._values[self._index]])

    def __len__(self) -> int:
        return 1 + len(self._optimizer._values[self._index])

    def __repr__(self) -> str:
        return repr({**self, "params": list(self._optimizer._params[self._index])})


class Live:
    """A hyper-parameter as an attribute: that of the first group. Assigning sets it in every group.

    A descriptor, because ``__getattr__`` would make every look-up slower, that of ``step`` included.
    """

    def __init__(self, name: str):
        self.name = name
        self.__doc__ = f"``{name}``, live: assigning takes effect at the next step, in every group."

    def __get__(self, optimizer: Optimizer | None, owner: type[Optimizer]) -> Any:
        if optimizer is None:
            return self
        for values in (optimizer._values[0], optimizer._shared, optimizer._switches):
            if self.name in values:
                return values[self.name]
        raise AttributeError(f"this {type(optimizer).__name__} was made without {self.name}")

    def __set__(self, optimizer: Optimizer, value: Any) -> None:
        if self.name in optimizer._values[0]:
            optimizer._assign([(index, self.name, value) for index in range(len(optimizer._values))])
        elif self.name in optimizer._shared:
            optimizer._assign([(0, self.name, value)])
        else:
            raise AttributeError(f"{self.name} is fixed when a {type(optimizer).__name__} is made")


class Optimizer(Plan):
    """Base of all optimizers: the classes of the catalogue differ in their rule and its hyper-parameters alone.

    Parameters
    ----------
    params : array, sequence, mapping, or list of groups
        What is optimized, in place: C-contiguous, aligned, writeable float64 or float32 arrays of any shape that
        share no memory. They are NumPy's, or anything else that exports its memory by the buffer protocol or by DLPack;
        ``params`` of the optimizer are then NumPy's views of it. A group is ``{"params": ..., "lr": ...}``, with its
        own values of hyper-parameters, ``weight_decay`` and ``clip_value``.
    grads : array, sequence or mapping, optional
        Gradients to be read by every ``step()`` without arguments, in the structure of the parameters.
    maximize : bool
        Ascend: the gradient's sign is changed.
    clip_norm : float, optional
        Where the norm of all gradients together is above it, they are scaled down to it. Squares are summed in
        float64: beyond 1e154 the norm is infinite, and the gradient becomes zero.
    clip_value : float, optional
        Each gradient element is limited to ``[-clip_value, clip_value]``.
    weight_decay : float
        ``weight_decay * p`` is added to the gradient (L2).
    decoupled_weight_decay : bool
        Instead of that, parameters are multiplied by ``1 - lr * weight_decay`` before the rule
        (Loshchilov & Hutter 2019).
    bounds : (lower, upper), optional
        Parameters are clamped after every step. Each is a number, None, or arrays in the structure of the parameters.
    averaging : EMA or Polyak, optional
        Keeps an average of the parameters; see :meth:`averaged`.
    on_nonfinite : {"allow", "raise", "skip"}
        What a gradient with NaN or an infinity does: it is used; FloatingPointError; the step is left out and
        counted in ``skipped``. In the last two cases nothing else changes.
    threads : int
        How many threads share the blocks of a large step. The bits do not depend on it.
    allocate : callable, optional
        ``allocate(shape, dtype)`` makes the arrays of the state, and copies of them, in place of ``numpy.empty``: where
        it gives a :class:`numpy.memmap` the state lies on the disk. Memory that is in use is refused before anything
        is written to it. It is not saved, but can be given to :func:`optcore.load` again.

    Notes
    -----
    Any hyper-parameter may be a function of the number of completed updates. Transforms, bounds and averages are
    part of the same pass over memory as the rule. What a step does is specified by :func:`optcore.reference.step`.
    """

    name: str
    """The name in the catalogue and on the command line."""
    forms: ClassVar[tuple[dict[str, Any], ...]] = ({},)
    """Keywords that reach each form of the rule."""
    implied: ClassVar[dict[str, Any]] = {}
    """Options that the class settles."""
    domains: ClassVar[dict[str, Domain]] = {}
    """What hyper-parameters accept, where that is not what is usual."""
    constant: ClassVar[tuple[str, ...]] = ()
    """Hyper-parameters that cannot be functions."""

    def __init_subclass__(cls, **keywords: Any):
        super().__init_subclass__(**keywords)
        CLASSES[cls.__name__] = cls
        if "name" in vars(cls):
            CATALOGUE[cls.name] = cls
        for name in cls._keywords():
            if (name in DOMAINS or name in PAIRS) and name != "averaging" and not hasattr(cls, name):
                setattr(cls, name, Live(name))

    def __init__(
        self,
        params: Parameters,
        grads: Arrays | None = None,
        rule: str = "",
        hyper: Mapping[str, Any] = MappingProxyType({}),
        options: Mapping[str, Any] = MappingProxyType({}),
        *,
        switches: Mapping[str, Any] = MappingProxyType({}),
        codes: Mapping[str, float] = MappingProxyType({}),
        initial: Mapping[str, float] = MappingProxyType({}),
        copies: Sequence[str] = (),
    ):
        # hyper: live values by keyword; switches: fixed ones; codes: what switches mean to the rule's scalars;
        # initial: what state arrays are filled with, where not zero; copies: those that start as the parameter.
        if "_grads" in vars(self):  # the last that is set here; Plan would say it, but after what comes before it
            raise RuntimeError(f"this {type(self).__name__} is bound to its parameters; make a new one")
        if not rule:
            raise TypeError("Optimizer is the base of optimizers; make one of them, say optcore.Adam(params)")
        self._check_keywords(options)
        self._options = options = {**OPTIONS, **self.implied, **options}
        self._rule, self._switches, self._made_with = RULES[rule], dict(switches), dict(hyper)
        self._check_options("lr" in hyper)
        averaging = options["averaging"]
        self._shared = {
            "clip_norm": options["clip_norm"],
            "averaging": averaging.decay if isinstance(averaging, EMA) else 0.0,
        }
        self._make_groups(
            params, {**hyper, "weight_decay": options["weight_decay"], "clip_value": options["clip_value"]}
        )
        fresh = Allocator(options["allocate"], in_use(self._named(), grads, options["bounds"]))
        lower, upper = self._make_bounds(fresh)
        self._state: dict[str, dict[str, np.ndarray]] = {}
        arrays = []
        for index, named in enumerate(self._params):
            for name, p in named.items():
                for key, value in initial.items():
                    if abs(value) > float(np.finfo(p.dtype).max):
                        raise ValueError(f"{name!r} is {p.dtype}, which cannot hold {value!r}, the first {key}")
                state = [
                    fresh.full(
                        f"the state {key!r} of {name!r}",
                        p if key in copies else initial.get(key, 0.0),
                        p.shape,
                        p.dtype,
                    )
                    for key in self._rule.state
                ]
                self._state[name] = kept = dict(zip(self._rule.state, state, strict=True))
                if averaging is not None:
                    begin = p if isinstance(averaging, EMA) else 0.0
                    kept["average"] = fresh.full(f"the average of {name!r}", begin, p.shape, p.dtype)
                if self._wide_bounds:
                    kept.update(lower=lower[name], upper=upper[name])
                arrays.append((name, p, index, state, kept.get("average"), lower[name], upper[name]))
        self._bind(
            self._rule,
            arrays,
            self._mapped,
            len(self._params),
            options["maximize"],
            options["decoupled_weight_decay"],
            self._wide_bounds,
            options["on_nonfinite"],
            None if averaging is None else type(averaging).__name__,
            options["threads"],
        )
        for index in range(len(self._params)):
            for name, code in codes.items():
                self._set(index, name, code, name, -math.inf, math.inf, "")
        self._assign(
            [(index, key, value) for index, values in enumerate(self._values) for key, value in values.items()]
            + [(0, key, value) for key, value in self._shared.items()]
        )
        bound = self._bind_gradients(grads)
        self._grads = None if bound is None else self._structure(dict(zip(self._named(), bound, strict=True)))

    # ------------------------------------------------------------------ making

    @classmethod
    @functools.cache
    def _keywords(cls) -> list[str]:
        """What the constructor takes behind params and grads."""
        own = [p.name for p in inspect.signature(cls).parameters.values() if p.kind is p.KEYWORD_ONLY]
        return own + [name for name in OPTIONS if name not in own and name not in cls.implied]

    @classmethod
    @functools.cache
    def _needs_lr(cls) -> bool:
        """Whether there is no default learning rate."""
        lr = inspect.signature(cls).parameters.get("lr")
        return lr is not None and lr.default is lr.empty

    @classmethod
    def _check_keywords(cls, options: Mapping[str, Any]) -> None:
        accepted = cls._keywords()
        for keyword in options:
            if keyword in OPTIONS and keyword not in accepted:
                settles = next(base for base in cls.__mro__ if keyword in vars(base).get("implied", {}))
                where = f"{settles.__module__}.{settles.__name__}"
                raise TypeError(f"{cls.__name__} takes no {keyword}: see help({where})")
            if keyword not in accepted:
                raise TypeError(f"{cls.__name__} got an unknown keyword {keyword!r}{nearest(keyword, accepted)}")

    def _check_options(self, has_lr: bool) -> None:
        options = self._options
        check_choice("on_nonfinite", options["on_nonfinite"], ("allow", "raise", "skip"))
        check_flag("maximize", options["maximize"])
        if check_flag("decoupled_weight_decay", options["decoupled_weight_decay"]) and not has_lr:
            raise ValueError(f"decoupled weight decay is multiplied by lr, which {type(self).__name__} does not use")
        averaging, threads = options["averaging"], options["threads"]
        if not isinstance(averaging, (EMA, Polyak, type(None))):
            raise TypeError(f"averaging must be optcore.EMA(...), optcore.Polyak() or None, got {averaging!r}")
        if isinstance(threads, bool) or not isinstance(threads, (int, np.integer)):
            raise TypeError(f"threads must be an integer, got {threads!r}")
        if not 1 <= threads <= MOST_THREADS:
            raise ValueError(f"threads must be from 1 to {MOST_THREADS}, got {threads}")

    def _make_groups(self, params: Parameters, live: dict[str, Any]) -> None:
        entries, keywords = group_entries(params) or [{"params": params}], self._keywords()
        self._params: list[dict[str, np.ndarray]] = []
        self._values: list[dict[str, Any]] = []
        self._single = not isinstance(params, (Mapping, list, tuple))
        seen: dict[str, np.ndarray] = {}
        kinds = set()
        for index, entry in enumerate(entries):
            if "params" not in entry:
                raise ValueError(f'group {index} has no "params", only {list(entry)}')
            named, mapped = named_parameters(entry["params"], len(seen))
            kinds.add(mapped)
            if "params" in named and not is_array(named["params"]):
                raise TypeError('this looks like a group; groups come in a list: [{"params": ...}]')
            for name, p in named.items():
                if name in seen:
                    raise ValueError(f"two parameters are named {name!r}")
                named[name] = as_array(f"parameter {name!r}", p, writeable=True)
            seen.update(named)
            for key in entry:
                if key in keywords and key not in live:
                    raise TypeError(
                        f"group {index}: {key} is the same for all groups; give it to {type(self).__name__}"
                    )
                if key != "params" and key not in live:
                    raise TypeError(f"group {index} has an unknown key {key!r}{nearest(key, list(live))}")
            self._params.append(named)
            self._values.append({key: entry.get(key, value) for key, value in live.items()})
        if not seen:
            raise ValueError("params holds no arrays")
        if len(kinds) > 1:
            raise TypeError("either all groups have mappings of names as params, or none")
        self._mapped = kinds.pop()

    def _make_bounds(self, fresh: Allocator) -> list[dict[str, Any]]:
        """Lower and upper bounds by name: arrays as long as the parameter, or one block of a constant."""
        bounds, named = self._options["bounds"], self._named()
        self._wide_bounds = False
        if bounds is None:
            return [dict.fromkeys(named)] * 2
        if not isinstance(bounds, (list, tuple)) or len(bounds) != 2:
            raise TypeError(f"bounds must be a pair (lower, upper), got {bounds!r}")
        arrays = [isinstance(bound, (Mapping, list, tuple)) or is_array(bound) for bound in bounds]
        self._wide_bounds = any(arrays)
        sides = []
        for side, bound, wide, none in zip(("lower", "upper"), bounds, arrays, (-math.inf, math.inf), strict=True):
            if wide:
                given, _ = named_parameters(bound, 0)
                if not all(map(is_array, given.values())):
                    raise TypeError(
                        f"the {side} bound must be a number, None, or arrays in the structure of the parameters, got "
                        f"{bound!r}; from pairs for each element make two arrays: numpy.transpose(pairs).copy()"
                    )
                if given.keys() != named.keys():
                    raise ValueError(f"the {side} bounds must be for {list(named)}, got some for {list(given)}")
                for name, p in named.items():
                    given[name] = as_array(f"the {side} bound of {name!r}", given[name], p.dtype, p.shape)
            else:
                number = none if bound is None else check_number(f"the {side} bound", bound, ANY)
                for name, p in named.items():
                    if np.isfinite(number) and abs(number) > float(np.finfo(p.dtype).max):
                        raise ValueError(f"{name!r} is {p.dtype}, which cannot hold the {side} bound {number!r}")
                given = dict.fromkeys(named, np.asarray(number))
            sides.append(
                {
                    name: fresh.full(f"the {side} bound of {name!r}", given[name], p.shape, p.dtype)
                    if self._wide_bounds
                    else np.full(BLOCK_SIZE, given[name], p.dtype)
                    for name, p in named.items()
                }
            )
        for name in named:
            if not np.all(sides[0][name] <= sides[1][name]):
                raise ValueError(f"the lower bound of {name!r} must be at most the upper, and neither may be NaN")
        return sides

    def _check_setting(self, index: int, key: str, value: Any) -> tuple[Any, list[tuple]]:
        """What is to be kept of a new value of a hyper-parameter, and what the engine is to be told."""
        parts = {key: value}
        if key in PAIRS:
            if not isinstance(value, (list, tuple)) or len(value) != 2:
                raise TypeError(f"{key} must be a pair of numbers, got {value!r}")
            parts = {f"{key}[0]": value[0], f"{key}[1]": value[1]}
        single = any(p.dtype == np.float32 for p in self._params[index].values())
        values, settings = [], []
        for name, part in parts.items():
            domain = self.domains.get(name, DOMAINS[name])
            if callable(part) and name in self.constant:
                raise TypeError(f"{name} of {type(self).__name__} must be a number: all its values so far count")
            if part is None and domain is LIMIT:
                limit = math.inf
            else:
                if not callable(part):
                    part = check_number(name, part, domain, or_function=name not in self.constant)
                limit = part
            if single:
                domain = held_by_float32(domain)
                if not callable(limit):
                    check_number(name, limit, domain)
            values.append(part)
            settings.append((index, name, limit, name, *domain))
        if key == "step_sizes" and not any(map(callable, values)) and values[0] > values[1]:
            raise ValueError(f"step_sizes must be (smallest, largest), got {value!r}")
        return tuple(values) if key in PAIRS else values[0], settings

    def _assign(self, wanted: Sequence[tuple[int, str, Any]]) -> None:
        """Makes hyper-parameters of groups live, of which none is bad."""
        self._check_idle()
        checked = [(index, key, *self._check_setting(index, key, value)) for index, key, value in wanted]
        for index, key, value, settings in checked:
            for setting in settings:
                self._set(*setting)
            (self._values[index] if key in self._values[index] else self._shared)[key] = value

    # ------------------------------------------------------------------ looking

    def _named(self) -> dict[str, np.ndarray]:
        return {name: p for named in self._params for name, p in named.items()}

    def _structure(self, named: dict[str, np.ndarray]) -> Structure:
        if self._single:
            return named["0"]
        return named if self._mapped else list(named.values())

    @property
    def params(self) -> Structure:
        """The parameters in the structure in which they were given (of groups: one list, or one mapping)."""
        return self._structure(self._named())

    @property
    def groups(self) -> tuple[Group, ...]:
        """The groups, in order; without groups there is one. ``opt.groups[0]["lr"] = 0.1`` takes effect at once."""
        return tuple(Group(self, index) for index in range(len(self._params)))

    def __setattr__(self, name: str, value: Any) -> None:
        """Assigning a hyper-parameter sets it in every group; what is fixed, or unknown, cannot be assigned."""
        if name.startswith("_") or hasattr(type(self), name):
            super().__setattr__(name, value)
        elif name in self._switches or name in self._options:
            raise AttributeError(f"{name} is fixed when the optimizer is made")
        else:
            raise AttributeError(
                f"{type(self).__name__} has no attribute {name!r}{nearest(name, list(self._values[0]))}"
            )

    @property
    def state(self) -> Mapping[str, Mapping[str, np.ndarray]]:
        """The rule's arrays by parameter name and by the names in the formula, live: ``opt.state["W"]["m"]``.

        With them ``"average"``, and ``"lower"`` and ``"upper"`` where bounds are arrays. Parameters that were given
        without names are called ``"0"``, ``"1"``, ...
        """
        return MappingProxyType({name: MappingProxyType(views(arrays)) for name, arrays in self._state.items()})

    @property
    def _averages(self) -> bool:
        """Whether :meth:`averaged` has something to read."""
        return self._options["averaging"] is not None

    def averaged(self) -> Structure:
        """The averages of the parameters, live, in the structure of the parameters; of schedule-free rules, the result.

        Raises
        ------
        ValueError
            The optimizer was made without ``averaging``.
        """
        if not self._averages:
            raise ValueError("nothing is averaged; make the optimizer with averaging=optcore.EMA() or optcore.Polyak()")
        return self._structure({name: arrays["average"].view() for name, arrays in self._state.items()})

    def lookahead(self) -> contextlib.AbstractContextManager[None]:
        """A ``with`` block in which the parameters are where the rule wants its gradient.

        Raises
        ------
        TypeError
            The rule takes its gradient at the parameters themselves.
        """
        raise TypeError(f"{type(self).__name__} has no look-ahead point; optcore.Velocity has one")

    def __repr__(self) -> str:
        if "_values" not in vars(self):
            return f"<{type(self).__name__}, not initialized>"
        shown = {**self._values[0], **self._arguments(), **self._values[0]}
        shown = {key: value for key, value in shown.items() if key in self._keywords()}
        if self._wide_bounds:
            shown["bounds"] = "arrays"
        shown = {key: value for key, value in shown.items() if key not in OPTIONS or value != OPTIONS[key]}
        lines = [f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in shown.items())}, t={self.t})"]
        for index, (params, values) in enumerate(zip(self._params, self._values, strict=True)):
            if len(self._params) > 1:
                own = [f", {k}={v!r}" for k, v in values.items() if v != self._values[0][k]]
                lines.append(f"  group {index}{''.join(own)}")
            lines += [f"  {name}: {p.dtype} {p.shape}" for name, p in list(params.items())[:8]]
            if len(params) > 8:
                lines.append(f"  and {len(params) - 8} more")
        return "\n".join(lines)

    # ------------------------------------------------------------------ saving

    def _settled(self) -> dict[str, Any]:
        """Everything fixed that changes the numbers, in types that JSON has."""
        averaging, bounds = self._options["averaging"], self._options["bounds"]
        if bounds is not None:
            bounds = (
                [None if bound is None else float(bound) for bound in bounds] if not self._wide_bounds else "arrays"
            )
        return {
            "rule": self._rule.name,
            **self._switches,
            "maximize": bool(self._options["maximize"]),
            "decoupled_weight_decay": bool(self._options["decoupled_weight_decay"]),
            "averaging": None if averaging is None else type(averaging).__name__,
            "bounds": bounds,
        }

    def state_dict(self) -> dict[str, Any]:
        """A copy of all that a run needs to go on with the same bits, but for the parameters themselves."""
        self._check_idle()
        copies: dict[int, Feedback] = {}  # what groups share they share afterwards
        kept = ((f"the state {key!r} of {name!r}", a) for name, own in self._state.items() for key, a in own.items())
        fresh = Allocator(self._options["allocate"], itertools.chain(in_use(self._named(), self._grads), kept))
        return {
            "format": FORMAT,
            "class": type(self).__name__,
            "switches": self._settled(),
            "made_with": {key: snapshot(value, copies) for key, value in self._made_with.items()},
            "on_nonfinite": self._options["on_nonfinite"],
            "t": self.t,
            "skipped": self.skipped,
            "carried": self._carried(),
            "shared": {key: snapshot(value, copies) for key, value in self._shared.items()},
            "groups": [
                {"names": list(params), **{key: snapshot(value, copies) for key, value in values.items()}}
                for params, values in zip(self._params, self._values, strict=True)
            ],
            "state": {
                name: {key: fresh.full(f"the copy of {key!r}", a, a.shape, a.dtype) for key, a in arrays.items()}
                for name, arrays in self._state.items()
            },
        }

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> None:
        """Goes on where :meth:`state_dict` was called, hyper-parameters included.

        Parameters
        ----------
        state : mapping
            From :meth:`state_dict`.
        strict : bool
            False: parameters that only one side has are left alone, and hyper-parameters stay as they are here.

        Raises
        ------
        ValueError, TypeError
            The state is of another rule, or does not fit; the message says what differs. Nothing has been changed.
        """
        self._check_idle()
        check_state(state)
        there = {"class": state["class"], **state["switches"]}
        here = {"class": type(self).__name__, **self._settled()}
        differing = [
            f"{key} is {there.get(key)!r} there, {here.get(key)!r} here"
            for key in {**there, **here}
            if there.get(key) != here.get(key)
        ]
        if differing:
            raise ValueError(f"the state belongs to another optimizer: {'; '.join(differing)}")
        names, ours = [list(group["names"]) for group in state["groups"]], [list(named) for named in self._params]
        if strict and names != ours:
            raise ValueError(f"the state is of the parameters {names} (by group), not of {ours}")
        carried = self._matching_carried(state["carried"], names)
        arrays = self._matching_arrays(state["state"])
        feedbacks: list[tuple[Feedback, Feedback]] = []
        values = self._matching_values(state, feedbacks) if strict else []
        before, self.t = self.t, state["t"]
        try:
            self._assign(values)
        except BaseException:
            self.t = before
            raise
        self.skipped = state["skipped"]
        self._carry(carried)
        for array, saved in arrays:
            array[...] = saved
        for feedback, saved in feedbacks:
            feedback.load_state_dict(saved.state_dict())

    def _matching_carried(self, carried: Any, names: list[list[str]]) -> list[dict[str, float]]:
        """What the groups of a state, which have these names, carried from step to step."""
        known, ours = set(self._rule.carried), [list(named) for named in self._params]
        if not known:
            return [{} for _ in ours]
        if names != ours or len(carried) != len(ours):
            raise ValueError(
                f"a {type(self).__name__} carries numbers for each group: also unless strict, the state must be of the "
                f"parameters {ours} (by group), but it is of {names}, with the numbers of {len(carried)} groups"
            )
        for group in carried:
            if not isinstance(group, Mapping) or group.keys() != known:
                raise ValueError(f"a group of the state must carry {sorted(known)}, got {group!r}")
        return [{key: check_number(key, value, NOT_NEGATIVE) for key, value in group.items()} for group in carried]

    def _matching_arrays(self, state: Mapping[str, Mapping[str, Any]]) -> list[tuple[np.ndarray, np.ndarray]]:
        """Our state arrays, each with the one that is to be copied to it, of the parameters that both sides have."""
        found = []
        for name in [name for name in self._state if name in state]:
            for key in {**self._state[name], **state[name]}:
                array, saved = self._state[name].get(key), state[name].get(key)
                described = f"{saved.dtype} {saved.shape}" if isinstance(saved, np.ndarray) else repr(saved)
                if array is None:
                    raise ValueError(f"the state {key!r} of {name!r} is {described}, but is unknown")
                if not isinstance(saved, np.ndarray) or (saved.shape, saved.dtype) != (array.shape, array.dtype):
                    wanted = f"{array.dtype} {array.shape}"
                    raise ValueError(f"the state {key!r} of {name!r} is {described}, but must be {wanted}")
                found.append((array, saved))
        return found

    def _matching_values(
        self, state: Mapping[str, Any], feedbacks: list[tuple[Feedback, Feedback]]
    ) -> list[tuple[int, str, Any]]:
        """All hyper-parameters of a state, as `_assign` takes them.

        A Plateau or BackOff that is here already stays, because the caller's program updates it: it is appended to
        ``feedbacks`` with the one whose state it is to take over.
        """
        found, copies = [], {}
        for index, (ours, theirs) in enumerate(
            [*zip(self._values, state["groups"], strict=True), (self._shared, state["shared"])]
        ):
            if theirs.keys() - {"names"} != ours.keys():
                raise ValueError(f"the state has the values {sorted(theirs)}, this optimizer has {sorted(ours)}")
            index = index if ours is not self._shared else 0
            found += [(index, key, found_again(key, theirs[key], ours[key], feedbacks, copies)) for key in ours]
        return found

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes :meth:`state_dict` to an ``.npz`` file: all of it, or the file that was there stays.

        The file has no pickles. Its arrays are called ``state/<parameter>/<state>``. Schedules are kept, functions
        are not.

        Raises
        ------
        OSError
            The file cannot be written.
        """
        write_state(path, self.state_dict())

    def __reduce__(self) -> Any:
        """For pickle and copy: ``copy.copy`` steps the same parameters with a state of its own."""
        self._check_not_interim()
        groups = [dict(group) for group in self.groups]
        params = groups if len(groups) > 1 else self.params
        return _rebuild, (type(self), params, self._grads, self._arguments(), self.state_dict())

    def _arguments(self) -> dict[str, Any]:
        """Keywords that make this optimizer again."""
        arguments = {**self._switches, **self._options, **self._made_with, "clip_norm": self._shared["clip_norm"]}
        if isinstance(arguments["averaging"], EMA):
            arguments["averaging"] = EMA(self._shared["averaging"])
        if self._wide_bounds:
            arguments["bounds"] = self._bounds()
        return {key: value for key, value in arguments.items() if key in self._keywords()}

    def _bounds(self) -> tuple[Any, Any]:
        lower, upper = ({name: arrays[side] for name, arrays in self._state.items()} for side in ("lower", "upper"))
        return lower, upper


def _rebuild(cls: type[Optimizer], params: Any, grads: Any, arguments: dict[str, Any], state: Any) -> Optimizer:
    optimizer = cls(params, grads, **arguments)
    optimizer.load_state_dict(state)
    return optimizer


def in_use(params: Mapping[str, Any], grads: Any, bounds: Any = None) -> Iterator[tuple[str, Any]]:
    """What an optimizer is made of, with its names in messages; any value may be one that will be refused."""
    given = [("parameter", dict(params)), ("the gradient of", grads)]
    if isinstance(bounds, (list, tuple)):
        given += zip(("the lower bound of", "the upper bound of"), bounds, strict=False)
    for what, values in given:
        if not isinstance(values, Mapping):
            values = dict(zip(params, values if isinstance(values, (list, tuple)) else [values], strict=False))
        for name, value in values.items():
            yield f"{what} {name!r}", value


def views(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Through a view an array can be changed, but not be resized or get another dtype under the engine."""
    return {key: array.view() for key, array in arrays.items()}


def snapshot(value: Any, copies: dict[int, Feedback]) -> Any:
    """A hyper-parameter that later updates of it do not change; one object has one copy."""
    if isinstance(value, tuple):
        return tuple(snapshot(part, copies) for part in value)
    return copies.setdefault(id(value), copy.copy(value)) if isinstance(value, Feedback) else value


def found_again(
    key: str, saved: Any, current: Any, feedbacks: list[tuple[Feedback, Feedback]], copies: dict[int, Feedback]
) -> Any:
    """A saved hyper-parameter; a function that the file could not keep is the one that is here."""
    if isinstance(saved, (list, tuple)):
        pair = current if isinstance(current, tuple) else (None,) * len(saved)
        return tuple(found_again(key, s, c, feedbacks, copies) for s, c in zip(saved, pair, strict=True))
    if saved == LOST:
        if not callable(current):
            raise ValueError(f"{key} was {LOST}; pass it as {key}=... when making the optimizer")
        return current
    if isinstance(saved, Feedback) and isinstance(current, Feedback) and repr(saved) == repr(current):
        feedbacks.append((current, saved))
        return current
    return snapshot(saved, copies)


def load(path: str | os.PathLike[str], params: Parameters, grads: Arrays | None = None, **keywords: Any) -> Optimizer:
    """Makes the optimizer that :meth:`Optimizer.save` wrote to a file, for parameters of the same names and shapes.

    Parameters
    ----------
    path : path
        An ``.npz`` file.
    params, grads :
        As for the optimizer; which group a parameter is in stands in the file.
    **keywords :
        What the file cannot keep, above all hyper-parameters that were functions, and ``allocate``.

    Raises
    ------
    OSError, ValueError, TypeError
        The file cannot be read, is no state, or does not fit the parameters.
    """
    named: dict[str, np.ndarray] = {}
    mapped = False
    for entry in group_entries(params) or [{"params": params}]:
        some, mapped = named_parameters(entry["params"], len(named))
        named.update(some)
    state = read_state(path, Allocator(keywords.get("allocate"), in_use(named, grads, keywords.get("bounds"))))
    where, cls = os.fsdecode(path), CLASSES.get(state["class"])
    if cls is None:
        raise ValueError(f"{where} is the state of {state['class']!r}, which this version does not have")
    shared, groups, made_with = state["shared"], state["groups"], state["made_with"]
    if "clip_norm" in keywords:
        shared["clip_norm"] = keywords["clip_norm"]
    if isinstance(keywords.get("averaging"), EMA):
        shared["averaging"] = keywords["averaging"].decay
    for values in (made_with, *groups):
        values.update({key: value for key, value in keywords.items() if key in values})
    lost = {key for values in (shared, *groups) for key, value in values.items() if is_lost(value)}
    if lost:
        raise ValueError(f"{', '.join(sorted(lost))} was {LOST}; pass it again: load(..., {min(lost)}=...)")
    names = [name for group in groups for name in group["names"]]
    if sorted(named) != sorted(names):
        raise ValueError(f"{where} is the state of the parameters {names}, not of {list(named)}")
    entries = []
    for group in groups:
        chosen = {name: named[name] for name in group["names"]}
        values = {key: value for key, value in group.items() if key != "names"}
        entries.append({"params": chosen if mapped else list(chosen.values()), **values})
    if len(groups) > 1:
        params = entries
    elif mapped:
        params = entries[0]["params"]
    arguments = {**state["switches"], **made_with, "on_nonfinite": state["on_nonfinite"], **shared}
    arguments.update({key: value for key, value in groups[0].items() if is_lost(made_with.get(key))})
    if arguments["averaging"] is not None:
        kind = state["switches"]["averaging"]
        arguments["averaging"] = {None: None, "EMA": EMA(shared["averaging"]), "Polyak": Polyak()}[kind]
    if arguments["bounds"] == "arrays":
        kept = state["state"]
        arguments["bounds"] = tuple({name: kept[name][side] for name in named} for side in ("lower", "upper"))
    arguments = {key: value for key, value in arguments.items() if key in cls._keywords()}
    optimizer = cls(params, grads, **{**arguments, **keywords})
    optimizer.load_state_dict(state)
    return optimizer
