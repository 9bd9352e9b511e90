"""What all optimizers share: parameters and groups, hyper-parameters, state, saving and loading."""

from __future__ import annotations

import contextlib
import inspect
import math
import os
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, TypedDict

import numpy as np

from optcore._build import RULES
from optcore._engine import BLOCK_SIZE, Plan, check_array
from optcore.domains import (
    ANY,
    DOMAINS,
    LIMIT,
    MAX32,
    PAIRS,
    TINY32,
    Domain,
    check_choice,
    check_flag,
    check_number,
    nearest,
)
from optcore.files import FORMAT, LOST, check_state, has_function, is_lost, read_state, write_state

__all__ = ["CATALOGUE", "EMA", "Group", "Optimizer", "Options", "Polyak", "load"]

Value = float | Callable[[int], float]
Arrays = np.ndarray | Sequence[np.ndarray] | Mapping[str, np.ndarray]
Parameters = Arrays | Sequence[Mapping[str, Any]]
Structure = np.ndarray | list[np.ndarray] | dict[str, np.ndarray]

CATALOGUE: dict[str, type[Optimizer]] = {}
"""Every optimizer by name, in order of increasing complexity."""


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
}


def named_parameters(params: Arrays, start: int) -> tuple[dict[str, np.ndarray], bool]:
    """Parameters by name, and whether the names are the caller's; otherwise they count from ``start``."""
    if isinstance(params, np.ndarray):
        return {str(start): params}, False
    if isinstance(params, Mapping):
        for name in params:
            if not isinstance(name, str) or not name:
                raise TypeError(f"parameter names must be non-empty strings, got {name!r}")
        return dict(params), True
    if isinstance(params, (list, tuple)):
        return {str(start + i): p for i, p in enumerate(params)}, False
    raise TypeError(
        "params must be an array, a list or tuple of arrays, a mapping of names to arrays, or a list of groups "
        f'{{"params": ..., "lr": ...}}; got {type(params).__name__}'
    )


class Group(MutableMapping[str, Any]):
    """The hyper-parameters of some parameters; what is assigned to an item takes effect at the next step."""

    def __init__(self, optimizer: Optimizer, index: int, params: dict[str, np.ndarray], values: dict[str, Any]):
        self._optimizer, self._index, self._params, self._values = optimizer, index, params, values

    def __getitem__(self, key: str) -> Any:
        if key == "params":
            return dict(self._params) if self._optimizer._mapped else list(self._params.values())
        return self._values[key]

    def __setitem__(self, key: str, value: Any) -> None:
        if key == "params":
            raise ValueError("the parameters of a group are fixed; make a new optimizer")
        if key not in self._values:
            raise KeyError(f"unknown hyper-parameter {key!r}{nearest(key, list(self._values))}")
        self._optimizer._assign(self._index, key, value)

    def __delitem__(self, key: str) -> None:
        raise TypeError("hyper-parameters of a group cannot be deleted")

    def __iter__(self) -> Iterator[str]:
        return iter(["params", *self._values])

    def __len__(self) -> int:
        return 1 + len(self._values)

    def __repr__(self) -> str:
        return repr({"params": list(self._params), **self._values})


class Optimizer(Plan):
    """Base of all optimizers: the classes of the catalogue differ in their rule and its hyper-parameters alone.

    Parameters
    ----------
    params : array, sequence, mapping, or list of groups
        What is optimized, in place: C-contiguous, aligned, writeable float64 or float32 arrays of any shape that
        share no memory. A group is ``{"params": ..., "lr": ...}``, with its own values of hyper-parameters,
        ``weight_decay`` and ``clip_value``.
    grads : array, sequence or mapping, optional
        Gradients to be read by every ``step()`` without arguments, in the structure of the parameters.
    maximize : bool
        Ascend: the gradient's sign is changed.
    clip_norm : float, optional
        Where the norm of all gradients together is above it, they are scaled down to it.
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

    Notes
    -----
    Any hyper-parameter may be a function of the number of completed updates. Transforms, bounds and averages are
    part of the same pass over memory as the rule. What a step does is specified by :func:`optcore.reference.step`.
    """

    name: str
    """The name in the catalogue and on the command line."""
    forms: tuple[dict[str, Any], ...] = ({},)
    """Keywords that reach each form of the rule."""
    implied: ClassVar[dict[str, Any]] = {}
    """Options that the class settles."""

    def __init_subclass__(cls, **keywords: Any):
        super().__init_subclass__(**keywords)
        if "name" in vars(cls):
            CATALOGUE[cls.name] = cls

    def __init__(
        self,
        params: Parameters,
        grads: Arrays | None,
        rule: str,
        hyper: dict[str, Any],
        options: Mapping[str, Any],
        *,
        switches: dict[str, Any] | None = None,
        codes: dict[str, float] | None = None,
        initial: dict[str, float] | None = None,
    ):
        """hyper: live values by keyword; switches: fixed ones; codes: what switches mean to the rule's scalars;
        initial: what state arrays are filled with, where not zero."""
        accepted = self._keywords()
        for keyword in options:
            if keyword not in accepted:
                raise TypeError(f"{type(self).__name__} got an unknown keyword {keyword!r}{nearest(keyword, accepted)}")
        self._options = options = {**OPTIONS, **self.implied, **options}
        self._rule, self._switches = RULES[rule], dict(switches or {})
        self._check_options("lr" in hyper)
        averaging = options["averaging"]
        self._shared = {
            "clip_norm": options["clip_norm"],
            "averaging": averaging.decay if isinstance(averaging, EMA) else 0.0,
        }
        live = {**hyper, "weight_decay": options["weight_decay"], "clip_value": options["clip_value"]}
        self._make_groups(params, live)

        lower, upper = self._make_bounds()
        self._state = {}
        arrays = []
        for group in self._groups:
            for name, p in group._params.items():
                state = [np.full(p.shape, (initial or {}).get(key, 0.0), p.dtype) for key in self._rule.state]
                kept = dict(zip(self._rule.state, state, strict=True))
                if averaging is not None:
                    kept["average"] = p.copy() if isinstance(averaging, EMA) else np.zeros_like(p)
                if lower[name] is not None and lower[name].shape == p.shape:
                    kept.update(lower=lower[name], upper=upper[name])
                # Views: an array that is only looked at through one cannot be resized under the engine.
                self._state[name] = MappingProxyType({key: array.view() for key, array in kept.items()})
                arrays.append((name, p, group._index, state, kept.get("average"), lower[name], upper[name]))
        self._bind(
            self._rule,
            arrays,
            self._mapped,
            len(self._groups),
            options["maximize"],
            options["decoupled_weight_decay"],
            options["on_nonfinite"],
            None if averaging is None else type(averaging).__name__,
            options["threads"],
        )
        for group in self._groups:
            for name, code in (codes or {}).items():
                self._set(group._index, name, code, name, -math.inf, math.inf, "")
            for key, value in group._values.items():
                self._assign(group._index, key, value)
        for key, value in self._shared.items():
            self._assign(0, key, value)
        if grads is not None:
            self._bind_gradients(grads)
        self._grads = grads

    # ------------------------------------------------------------------ making

    @classmethod
    def _keywords(cls) -> list[str]:
        """What the constructor takes behind params and grads."""
        own = [p.name for p in inspect.signature(cls).parameters.values() if p.kind is p.KEYWORD_ONLY]
        return own + [name for name in OPTIONS if name not in own and name not in cls.implied]

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
        if threads < 1:
            raise ValueError(f"threads must be at least 1, got {threads}")

    def _make_groups(self, params: Parameters, live: dict[str, Any]) -> None:
        entries: list[Mapping[str, Any]] = [{"params": params}]
        if isinstance(params, (list, tuple)) and params and all(isinstance(entry, Mapping) for entry in params):
            entries = list(params)
        self._groups: list[Group] = []
        self._single = isinstance(params, np.ndarray)
        seen: dict[str, np.ndarray] = {}
        kinds = set()
        for index, entry in enumerate(entries):
            if "params" not in entry:
                raise ValueError(f'group {index} has no "params", only {list(entry)}')
            named, mapped = named_parameters(entry["params"], len(seen))
            kinds.add(mapped)
            for name, p in named.items():
                if name in seen:
                    raise ValueError(f"two parameters are named {name!r}")
                check_array(f"parameter {name!r}", p, writeable=True)
            seen.update(named)
            for key in entry:
                if key != "params" and key not in live:
                    raise TypeError(f"group {index} has an unknown key {key!r}{nearest(key, list(live))}")
            self._groups.append(Group(self, index, named, {key: entry.get(key, value) for key, value in live.items()}))
        if not seen:
            raise ValueError("params holds no arrays")
        if len(kinds) > 1:
            raise TypeError("either all groups have mappings of names as params, or none")
        self._mapped = kinds.pop()

    def _make_bounds(self) -> list[dict[str, np.ndarray | None]]:
        """Lower and upper bounds by name: arrays as long as the parameter, or one block of a constant."""
        bounds, named = self._options["bounds"], self._named()
        if bounds is None:
            return [dict.fromkeys(named)] * 2
        if not isinstance(bounds, (list, tuple)) or len(bounds) != 2:
            raise TypeError(f"bounds must be a pair (lower, upper), got {bounds!r}")
        wide = any(isinstance(bound, (np.ndarray, Mapping, list, tuple)) for bound in bounds)
        sides = []
        for side, bound, none in zip(("lower", "upper"), bounds, (-math.inf, math.inf), strict=True):
            if isinstance(bound, (np.ndarray, Mapping, list, tuple)):
                given, _ = named_parameters(bound, 0)
                if given.keys() != named.keys():
                    raise ValueError(f"the {side} bounds must be for {list(named)}, got some for {list(given)}")
                for name, p in named.items():
                    check_array(f"the {side} bound of {name!r}", given[name], p.dtype, p.shape)
            else:
                number = none if bound is None else check_number(f"the {side} bound", bound, ANY)
                given = dict.fromkeys(named, number)
            sides.append(
                {
                    name: np.array(np.broadcast_to(given[name], p.shape if wide else BLOCK_SIZE), dtype=p.dtype)
                    for name, p in named.items()
                }
            )
        for name in named:
            if not np.all(sides[0][name] <= sides[1][name]):
                raise ValueError(f"the lower bound of {name!r} must be at most the upper, and neither may be NaN")
        return sides

    def _assign(self, index: int, key: str, value: Any) -> None:
        """Checks one hyper-parameter of a group, then makes it live."""
        group = self._groups[index]
        parts = {key: value}
        if key in PAIRS:
            if not isinstance(value, (list, tuple)) or len(value) != 2:
                raise TypeError(f"{key} must be a pair of numbers, got {value!r}")
            parts = {f"{key}[0]": value[0], f"{key}[1]": value[1]}
        single = any(p.dtype == np.float32 for p in group._params.values())
        values, settings = [], []
        for name, part in parts.items():
            domain = DOMAINS[name]
            if part is None and domain is LIMIT:
                limit = math.inf
            else:
                limit = part = part if callable(part) else check_number(name, part, domain)
            if single:  # what float32 cannot hold would become 0 or inf without a word
                domain = Domain(
                    max(domain.low, TINY32) if domain.low > 0 else domain.low,
                    min(domain.high, MAX32) if domain.high < math.inf else domain.high,
                    domain.accepted + " that float32 can hold",
                )
                if not callable(limit):
                    check_number(name, limit, domain)
            values.append(part)
            settings.append((name, limit, name, *domain))
        if key == "step_sizes" and not any(map(callable, values)) and values[0] > values[1]:
            raise ValueError(f"step_sizes must be (smallest, largest), got {value!r}")
        for setting in settings:
            self._set(index, *setting)
        (group._values if key in group._values else self._shared)[key] = tuple(values) if key in PAIRS else values[0]

    def _assign_all(self, shared: Mapping[str, Any], groups: Sequence[Mapping[str, Any]]) -> None:
        """Assigns everything or nothing."""
        wanted = [(0, self._shared, shared)]
        wanted += [(group._index, group._values, values) for group, values in zip(self._groups, groups, strict=True)]
        before = [(index, key, value) for index, values, _ in wanted for key, value in values.items()]
        try:
            for index, current, values in wanted:
                for key in list(current):
                    if not is_lost(values[key]):
                        self._assign(index, key, values[key])
                    elif not has_function(current[key]):
                        raise ValueError(f"{key} was {LOST}; pass it as {key}=... when making the optimizer")
        except BaseException:
            for setting in before:
                self._assign(*setting)
            raise

    # ------------------------------------------------------------------ looking

    def _named(self) -> dict[str, np.ndarray]:
        return {name: p for group in self._groups for name, p in group._params.items()}

    def _structure(self, named: dict[str, np.ndarray]) -> Structure:
        if self._single:
            return named["0"]
        return named if self._mapped else list(named.values())

    @property
    def params(self) -> Structure:
        """The parameters in the structure in which they were given (of groups: one list, or one mapping)."""
        return self._structure(self._named())

    @property
    def groups(self) -> list[Group]:
        """The groups, in order; without groups there is one. ``opt.groups[0]["lr"] = 0.1`` takes effect at once."""
        return list(self._groups)

    @property
    def lr(self) -> Value:
        """The learning rate (of the first group). Assigning sets it in every group."""
        return self._groups[0]["lr"] if "lr" in self._groups[0] else self._switches["lr"]

    @lr.setter
    def lr(self, value: Value) -> None:
        if "lr" not in self._groups[0]:
            raise ValueError(f"the lr of {type(self).__name__} is its first step, fixed when the optimizer is made")
        self._assign_all(self._shared, [{**group._values, "lr": value} for group in self._groups])

    @property
    def clip_norm(self) -> Value | None:
        """The limit for the norm of all gradients together, or None. Assigning takes effect at the next step."""
        return self._shared["clip_norm"]

    @clip_norm.setter
    def clip_norm(self, value: Value | None) -> None:
        self._assign(0, "clip_norm", value)

    @property
    def state(self) -> Mapping[str, Mapping[str, np.ndarray]]:
        """The rule's arrays by parameter name and by the names in the formula, live: ``opt.state["W"]["m"]``.

        With them ``"average"``, and ``"lower"`` and ``"upper"`` where bounds are arrays. Parameters that were given
        without names are called ``"0"``, ``"1"``, ...
        """
        return MappingProxyType(self._state)

    def averaged(self) -> Structure:
        """The averages of the parameters, live, in the structure of the parameters.

        Raises
        ------
        ValueError
            The optimizer was made without ``averaging``.
        """
        if self._options["averaging"] is None:
            raise ValueError("nothing is averaged; make the optimizer with averaging=optcore.EMA() or optcore.Polyak()")
        return self._structure({name: arrays["average"] for name, arrays in self._state.items()})

    def lookahead(self) -> contextlib.AbstractContextManager[None]:
        """A ``with`` block in which the parameters are where the rule wants its gradient.

        Raises
        ------
        TypeError
            The rule takes its gradient at the parameters themselves.
        """
        raise TypeError(f"{type(self).__name__} has no look-ahead point; optcore.Velocity has one")

    def __repr__(self) -> str:
        shown = {**self._groups[0]._values, **self._switches, **self._options, **self._groups[0]._values}
        shown["clip_norm"] = self.clip_norm
        shown = {k: v for k, v in shown.items() if k in self._keywords() and not (k in OPTIONS and v == OPTIONS[k])}
        lines = [f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in shown.items())}, t={self.t})"]
        for index, group in enumerate(self._groups):
            if len(self._groups) > 1:
                own = [f", {k}={v!r}" for k, v in group._values.items() if v != self._groups[0]._values[k]]
                lines.append(f"  group {index}{''.join(own)}")
            named = list(group._params.items())
            lines += [f"  {name}: {p.dtype} {p.shape}" for name, p in named[:8]]
            if len(named) > 8:
                lines.append(f"  and {len(named) - 8} more")
        return "\n".join(lines)

    # ------------------------------------------------------------------ saving

    def _settled(self) -> dict[str, Any]:
        """Everything fixed that changes the numbers, in types that JSON has."""
        averaging, bounds = self._options["averaging"], self._options["bounds"]
        if bounds is not None:
            wide = any("lower" in arrays for arrays in self._state.values())
            bounds = "arrays" if wide else [None if bound is None else float(bound) for bound in bounds]
        return {
            **self._switches,
            "maximize": bool(self._options["maximize"]),
            "decoupled_weight_decay": bool(self._options["decoupled_weight_decay"]),
            "averaging": None if averaging is None else type(averaging).__name__,
            "bounds": bounds,
        }

    def state_dict(self) -> dict[str, Any]:
        """A copy of all that a run needs to go on with the same bits, but for the parameters themselves."""
        return {
            "format": FORMAT,
            "class": type(self).__name__,
            "switches": self._settled(),
            "on_nonfinite": self._options["on_nonfinite"],
            "t": self.t,
            "skipped": self.skipped,
            "shared": dict(self._shared),
            "groups": [{"names": list(group._params), **group._values} for group in self._groups],
            "state": {name: {key: a.copy() for key, a in arrays.items()} for name, arrays in self._state.items()},
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
        names, ours = [list(group["names"]) for group in state["groups"]], [list(g._params) for g in self._groups]
        if strict and names != ours:
            raise ValueError(f"the state is of the parameters {names} (by group), not of {ours}")
        common = [name for name in self._state if name in state["state"]]
        for name in common:
            for key, array in self._state[name].items():
                found = state["state"][name].get(key)
                if not isinstance(found, np.ndarray) or found.shape != array.shape or found.dtype != array.dtype:
                    found = f"{found.dtype} {found.shape}" if isinstance(found, np.ndarray) else repr(found)
                    raise ValueError(
                        f"the state {key!r} of {name!r} is {found}, but must be {array.dtype} {array.shape}"
                    )
        before = self.t
        self.t = state["t"]
        try:
            if strict:
                self._assign_all(state["shared"], state["groups"])
        except BaseException:
            self.t = before
            raise
        self.skipped = state["skipped"]
        for name in common:
            for key, array in self._state[name].items():
                array[...] = state["state"][name][key]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes :meth:`state_dict` to an ``.npz`` file: all of it, or the file that was there stays.

        The file has no pickles. Its arrays are called ``state/<parameter>/<state>``. Functions are not kept.

        Raises
        ------
        OSError
            The file cannot be written.
        """
        write_state(path, self.state_dict())

    def __reduce__(self) -> Any:
        """For pickle and copy: ``copy.copy`` steps the same parameters with a state of its own."""
        return _rebuild, (type(self), self._regrouped(), self._grads, self._arguments(), self.state_dict())

    def _regrouped(self) -> Parameters:
        if len(self._groups) == 1:
            return self.params
        return [dict(group) for group in self._groups]

    def _arguments(self) -> dict[str, Any]:
        """Keywords that make this optimizer again."""
        values = {**self._switches, **self._options, **self._groups[0]._values, "clip_norm": self.clip_norm}
        return {key: value for key, value in values.items() if key in self._keywords()}


def _rebuild(cls: type[Optimizer], params: Any, grads: Any, arguments: dict[str, Any], state: Any) -> Optimizer:
    optimizer = cls(params, grads, **arguments)
    optimizer.load_state_dict(state)
    return optimizer


def load(path: str | os.PathLike[str], params: Arrays, grads: Arrays | None = None, **keywords: Any) -> Optimizer:
    """Makes the optimizer that :meth:`Optimizer.save` wrote to a file, for parameters of the same names and shapes.

    Parameters
    ----------
    path : path
        An ``.npz`` file.
    params, grads :
        As for the optimizer; parameters that were in groups may be given by name alone.
    **keywords :
        What the file cannot keep, above all hyper-parameters that were functions.

    Raises
    ------
    OSError, ValueError, TypeError
        The file cannot be read, is no state, or does not fit the parameters.
    """
    state = read_state(path)
    cls = {cls.__name__: cls for cls in CATALOGUE.values()}.get(state["class"])
    if cls is None:
        raise ValueError(f"{os.fspath(path)} is the state of {state['class']!r}, which this version does not have")
    averaging, shared, groups = keywords.get("averaging"), state["shared"], state["groups"]
    if "clip_norm" in keywords:
        shared["clip_norm"] = keywords["clip_norm"]
    if isinstance(averaging, EMA):
        shared["averaging"] = averaging.decay
    for group in groups:
        group.update({key: value for key, value in keywords.items() if key in group})
    lost = {key for values in (shared, *groups) for key, value in values.items() if is_lost(value)}
    if lost:
        raise ValueError(f"{', '.join(sorted(lost))} was {LOST}; pass it again: load(..., {min(lost)}=...)")

    named, mapped = named_parameters(params, 0)
    names = [name for group in groups for name in group["names"]]
    if sorted(named) != sorted(names):
        raise ValueError(f"{os.fspath(path)} is the state of the parameters {names}, not of {list(named)}")
    if len(groups) > 1:
        entries = []
        for group in groups:
            chosen = {name: named[name] for name in group["names"]}
            values = {key: value for key, value in group.items() if key != "names"}
            entries.append({"params": chosen if mapped else list(chosen.values()), **values})
        params = entries
    switches = dict(state["switches"])
    if switches["averaging"] is not None:
        switches["averaging"] = EMA(shared["averaging"]) if switches["averaging"] == "EMA" else Polyak()
    if switches["bounds"] == "arrays":
        switches["bounds"] = [{name: state["state"][name][side] for name in named} for side in ("lower", "upper")]
    arguments = {**switches, **groups[0], "on_nonfinite": state["on_nonfinite"], "clip_norm": shared["clip_norm"]}
    arguments = {key: value for key, value in arguments.items() if key in cls._keywords()}
    optimizer = cls(params, grads, **{**arguments, **keywords})
    optimizer.load_state_dict(state)
    return optimizer
