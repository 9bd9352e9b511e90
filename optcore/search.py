"""Optimizers that need function values alone: for simulations, rollouts and whatever else cannot be differentiated.

All of them do the same. Around the parameters, the *center*, they evaluate pairs ``center + sigma * d`` and
``center - sigma * d`` in random directions d, and add the directions up, each weighted by what its two values say. The
sum estimates a gradient, and any rule of the catalogue takes a step along it. They differ in the weights:

:class:`RandomDifferences`
    The finite difference along each direction. There is nothing simpler; steps are as long as the gradient says.
:class:`SPSA`
    The same where every element of d is 1 or -1, with Spall's schedules for sigma and lr. Two evaluations a step,
    whatever the number of parameters, and it converges under noise. For functions that are noisy and expensive.
:class:`EvolutionStrategy`
    Ranks among all values of the iteration stand for the values: outliers and the scale of f no longer matter. For many
    parameters and many workers, with ``optimizer="adam"``.
:class:`ARS`
    Differences are divided by the standard deviation of the values, the best directions alone may count, and states
    that a policy sees may be normalised. For policies with few parameters; the first to try in control.

How to choose the rest: ``sigma`` is a change of the parameters that changes f noticeably beside its noise; scale the
parameters so that one sigma suits all. ``lr`` is how far the center moves, times the estimate. More ``directions`` make
a better estimate, at two evaluations each: as many as workers can evaluate at once are a good start. Among n
parameters the estimate from one direction is wrong by sqrt(n) times the gradient, so with many of them lr has to be
small; where there is a gradient, use it.

:func:`minimize` is the loop for users of SciPy. A loop of your own asks and tells:

>>> import numpy as np
>>> from optcore import search
>>> def fun(x):
...     return np.sum((x - [1.0, 2.0]) ** 2)
>>> x = np.zeros(2)
>>> s = search.RandomDifferences(x, sigma=0.1, directions=4, lr=0.1, seed=0)
>>> for _ in range(100):
...     s.tell([fun(candidate.params) for candidate in s.ask()])
>>> x.round(4)
array([1., 2.])

Noise is neither stored nor sent. That of a direction is a function of three numbers,
``Generator(Philox(key=seed, counter=[0, 0, direction, iteration])).standard_normal(n)``. So a pickled candidate is the
center and these numbers, and neither the number of workers nor their order changes a bit. Where sending the center is
too much, every process keeps a search with the same seed, and only values travel (Salimans et al. 2017, Algorithm 2):

.. code-block:: python

    mine = [candidate.evaluate(fun) for candidate in s.ask()[comm.rank :: comm.size]]
    s.tell(itertools.chain(*comm.allgather(mine)))  # mpi4py; every process takes the same step

NumPy guarantees the integers of Philox, and so the signs of SPSA, for all its versions. The stream of
``standard_normal`` has not changed from NumPy 1.26 to 2.4, but that is no promise, and one value in four thousand has
its last bits from the logarithm of the C library: for the same bits, have the same versions on all machines.
"""

from __future__ import annotations

import inspect
import statistics
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from optcore.ask_and_tell import Search
from optcore.candidates import Candidate, Evaluation
from optcore.domains import NOT_NEGATIVE, POSITIVE, check_choice, check_flag, check_number
from optcore.finite_differences import starting_point
from optcore.normalization import Normalizer
from optcore.optimizer import CATALOGUE, Parameters, Value
from optcore.schedules import InversePower, check_integer
from optcore.workers import Map

__all__ = [
    "ARS",
    "METHODS",
    "SPSA",
    "Candidate",
    "Evaluation",
    "EvolutionStrategy",
    "Normalizer",
    "RandomDifferences",
    "Search",
    "minimize",
]


# ---------------------------------------------------------------------- the methods, in order of increasing complexity


class RandomDifferences(Search):
    """Finite differences along random directions.

    ``g = mean of (f(x + sigma * d) - f(x - sigma * d)) / (2 * sigma) * d``, d standard normal. Its expected value is
    the gradient of f averaged over a normal distribution of width sigma around x; of a linear f, the gradient.

    Parameters
    ----------
    params, sigma, directions, **keywords :
        See :class:`Search`.

    Examples
    --------
    >>> import numpy as np
    >>> from optcore.search import RandomDifferences
    >>> x = np.zeros(3)
    >>> s = RandomDifferences({"x": x}, sigma=0.5, optimizer="adam", lr=0.1, bounds=(-0.25, 0.25), seed=0)
    >>> plus, minus = s.ask()
    >>> plus
    candidate (0, 0) (iteration 0, direction 0, sign +1)
    >>> s.tell({minus.id: 2.0, plus.id: 1.0})
    >>> s.iteration, s.best.id, s.best.value
    (1, (0, 0), 1.0)

    References
    ----------
    Nesterov & Spokoiny, Random gradient-free minimization of convex functions, 2017.
    """

    name = "random_differences"

    def __init__(self, params: Parameters, *, sigma: Value, directions: int = 1, **keywords: Any):
        super().__init__(params, {"sigma": sigma, "directions": directions}, **keywords)

    def weights(self, plus: np.ndarray, minus: np.ndarray, sigma: float) -> np.ndarray:
        return (plus - minus) / (2.0 * sigma * len(plus))


class SPSA(RandomDifferences):
    """Simultaneous perturbation stochastic approximation.

    ``g = (f(x + c_k * d) - f(x - c_k * d)) / (2 * c_k) / d``, where every element of d is 1 or -1 with equal
    probability, and ``x = x - a_k * g``, with ``a_k = a / (A + k + 1) ** alpha`` and ``c_k = c / (k + 1) ** gamma``.

    Parameters
    ----------
    params, directions, **keywords :
        See :class:`Search`. The estimates from several directions are averaged.
    c : float
        About the standard deviation of the noise of f; where there is none, something small.
    a : float
        Makes the first steps, ``a / (A + 1) ** alpha * g``, as long as you want them. The optimizer gets a_k as ``lr``,
        k being its completed updates; instead of a, ``lr`` may be given.
    A : float
        About a tenth of the iterations to come.
    alpha, gamma : float
        By default the lowest values that theory allows, which are best in practice; 1 and 1/6 are best in the limit.

    Examples
    --------
    >>> import numpy as np
    >>> from optcore.search import SPSA
    >>> x, noise = np.array([1.0, 1.0]), np.random.default_rng(0)
    >>> s = SPSA(x, a=0.5, c=0.1, A=20, seed=1)
    >>> result = s.run(lambda x: x @ x + 0.01 * noise.normal(), maxiter=200)
    >>> result.nfev, bool(np.abs(x).max() < 0.05)
    (401, True)

    References
    ----------
    Spall, Multivariate stochastic approximation using a simultaneous perturbation gradient approximation, 1992;
    Implementation of the simultaneous perturbation algorithm for stochastic optimization, 1998.
    """

    name = "spsa"
    distribution = "signs"

    def __init__(
        self,
        params: Parameters,
        *,
        c: float,
        a: float | None = None,
        A: float = 0.0,
        alpha: float = 0.602,
        gamma: float = 0.101,
        directions: int = 1,
        **keywords: Any,
    ):
        if (a is None) == ("lr" not in keywords):
            raise TypeError("SPSA takes a, of which it makes lr = a / (A + k + 1) ** alpha, or lr; give one of them")
        for name, value in {"A": A, "alpha": alpha, "gamma": gamma}.items():
            check_number(name, value, NOT_NEGATIVE)
        if a is not None:
            keywords["lr"] = InversePower(check_number("a", a, POSITIVE), power=alpha, offset=A + 1.0)
        sigma: Any = InversePower(check_number("c", c, POSITIVE), power=gamma)
        super().__init__(params, sigma=sigma, directions=directions, **keywords)


class EvolutionStrategy(RandomDifferences):
    """Evolution strategy with antithetic normal perturbations, and ranks as fitness.

    ``g = sum of F_i * e_i / (n * sigma)`` over the n = 2 * directions candidates ``x + sigma * e_i``. F_i is the rank
    of the value among all n, from -1/2 to 1/2; equal values share the mean of their ranks.

    Parameters
    ----------
    params, sigma, directions, **keywords :
        See :class:`Search`. The paper has ``optimizer="adam"`` and ``weight_decay``.

    Notes
    -----
    With the values themselves for F_i, it is :class:`RandomDifferences`.

    Examples
    --------
    >>> import numpy as np
    >>> from optcore.search import EvolutionStrategy
    >>> x = np.array([3.0, -2.0])
    >>> s = EvolutionStrategy(x, sigma=0.1, directions=8, optimizer="adam", lr=0.1, seed=0)
    >>> result = s.run(lambda x: np.exp(x @ x), maxiter=200)
    >>> bool(np.abs(x).max() < 0.05)
    True

    References
    ----------
    Salimans, Ho, Chen, Sidor & Sutskever, Evolution strategies as a scalable alternative to reinforcement learning,
    2017, Algorithm 1 and section 2.1.
    """

    name = "evolution_strategy"

    def __init__(self, params: Parameters, *, sigma: Value, directions: int = 16, **keywords: Any):
        super().__init__(params, sigma=sigma, directions=directions, **keywords)

    def weights(self, plus: np.ndarray, minus: np.ndarray, sigma: float) -> np.ndarray:
        plus, minus = centered_ranks(np.stack([plus, minus]))
        return super().weights(plus, minus, sigma)


def centered_ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from -1/2 to 1/2. Equal values share the mean of theirs, or the bits would depend on how NumPy sorts."""
    _, inverse, counts = np.unique(values.ravel(), return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts + 1) / 2
    return (ranks[inverse] / (values.size - 1) - 0.5).reshape(values.shape)


class ARS(Search):
    """Augmented random search.

    ``g = sum of (f(x + sigma * d) - f(x - sigma * d)) * d / (b * s)`` over the b directions with the best single
    values, s being the standard deviation of their 2 * b values.

    Parameters
    ----------
    params, directions, **keywords :
        See :class:`Search`. The paper's step size is ``lr``.
    sigma : float or function of the iteration
        The paper's exploration noise, nu.
    top : int, optional
        b; by default all directions count.
    scale_by_std : bool
        False: s is 1. Where all values are equal, g is zero.
    normalize_states : bool
        ``fun(params, normalizer)`` then evaluates a policy, and shows it ``normalizer(state)`` instead of each state.
        The trained policy needs ``search.normalizer``. See :class:`Normalizer`.

    Notes
    -----
    The paper's Algorithm 1, basic random search, has ``scale_by_std=False``. Of Algorithm 2, V1 is what this class does
    by default; the variants with -t have ``top``, V2 has ``normalize_states=True``. States of pairs that failed are not
    counted. All others are merged in the order of the candidates, whoever was ready first.

    Examples
    --------
    >>> import numpy as np
    >>> from optcore.search import ARS
    >>> def reward(policy, normalizer):  # for keeping a leaky tank at level 5
    ...     level, total = 0.0, 0.0
    ...     for _ in range(20):
    ...         level += policy @ [*normalizer([level]), 1.0] - 0.1 * level
    ...         total -= (level - 5.0) ** 2
    ...     return total
    >>> policy = np.zeros(2)
    >>> s = ARS(policy, sigma=0.05, directions=8, top=4, normalize_states=True, maximize=True, lr=0.05, seed=0)
    >>> result = s.run(reward, maxiter=100)
    >>> float(reward(np.zeros(2), s.normalizer)), result.center_fun > -60
    (-500.0, True)

    References
    ----------
    Mania, Guy & Recht, Simple random search provides a competitive approach to reinforcement learning, 2018.
    """

    name = "ars"

    def __init__(
        self,
        params: Parameters,
        *,
        sigma: Value,
        directions: int = 8,
        top: int | None = None,
        scale_by_std: bool = True,
        normalize_states: bool = False,
        **keywords: Any,
    ):
        options = {"sigma": sigma, "directions": directions, "top": top}
        flags = {"scale_by_std": scale_by_std, "normalize_states": normalize_states}
        super().__init__(params, {**options, **flags}, **keywords)

    @classmethod
    def _checked(cls, options: Mapping[str, Any]) -> dict[str, Any]:
        checked = super()._checked(options)
        if checked["top"] is not None:
            checked["top"] = check_integer("top", checked["top"])
            if checked["top"] > checked["directions"]:
                raise ValueError(f"top must be at most directions, got {checked['top']} of {checked['directions']}")
        return {**checked, **{key: check_flag(key, checked[key]) for key in ("scale_by_std", "normalize_states")}}

    def weights(self, plus: np.ndarray, minus: np.ndarray, sigma: float) -> np.ndarray:
        losses = -np.maximum(plus, minus) if self._maximize else np.minimum(plus, minus)
        used = np.argsort(losses, kind="stable")[: self._options["top"]]
        weights, std = np.zeros(len(plus)), 1.0
        if self._options["scale_by_std"]:
            std = statistics.pstdev([*plus[used].tolist(), *minus[used].tolist()])  # exact, so in any order
        if std > 0.0:
            weights[used] = (plus[used] - minus[used]) / (len(used) * std)
        return weights


METHODS: dict[str, type[Search]] = {cls.name: cls for cls in (RandomDifferences, SPSA, EvolutionStrategy, ARS)}
"""Every search by name, in order of increasing complexity."""


# ---------------------------------------------------------------------- the loop for SciPy's users


def minimize(
    fun: Callable[..., float],
    x0: Any,
    args: tuple[Any, ...] = (),
    *,
    method: str | type[Search] = "ars",
    maxiter: int = 1000,
    workers: int | Map = 1,
    callback: Callable[..., Any] | None = None,
    disp: bool = False,
    **options: Any,
) -> Any:
    """Minimizes a function of which only values are known; it may be noisy, and fail at times.

    Parameters
    ----------
    fun : callable
        ``fun(x, *args)`` returns a number; x is float64 of shape (n,). NaN and infinities are failures, which are left
        out.
    x0 : array_like, shape (n,)
        The start. It is not changed. For arrays of other shapes, float32, or several, make the search yourself, and
        call its :meth:`~Search.run`.
    args : tuple
    method : {"random_differences", "spsa", "evolution_strategy", "ars"} or class
    maxiter : int
        Iterations, each of ``2 * directions`` evaluations.
    workers : int or map-like
        How many processes evaluate; -1: one for each CPU. A program that asks for some calls this below
        ``if __name__ == "__main__":``, for each process imports it. Or a function: ``workers(function, candidates)``
        returns ``function(candidate)`` for all candidates, in any order. Such are ``Pool.map`` and the
        ``Executor.map`` of ``concurrent.futures`` and ``mpi4py.futures``. Of joblib it is
        ``lambda f, c: joblib.Parallel(4)(map(joblib.delayed(f), c))``, of a Dask client
        ``lambda f, c: client.gather(client.map(f, c, pure=False))``. The numbers do not depend on it.
    callback : callable, optional
        Called after each iteration: ``callback(intermediate_result=...)``, if that is its only parameter's name, with
        a result and ``last_values``, those of the iteration; else ``callback(x)``. It may raise StopIteration.
    disp : bool
        Show progress, if tqdm is installed and the terminal is watched, and a summary in the end.
    **options :
        Of the method: ``sigma``, ``directions``, ``optimizer``, ``lr``, ``seed``, ``bounds``, ...

    Returns
    -------
    scipy.optimize.OptimizeResult
        Or a mapping like it, where SciPy is not installed. ``x`` and ``fun``: the best point that was evaluated, and
        its value. ``center`` and ``center_fun``: where the search is now, or the average where the optimizer keeps one.
        It is evaluated once, in the end, because mostly it is better than its perturbations, and under noise better
        than the luckiest of them. ``nit``, ``nfev``, ``failed`` (pairs left out), ``success`` (True where all
        iterations were done: a search does not know more), ``status``, ``message``; with normalised states,
        ``normalizer``, as it was for x. The numbers of :func:`optcore.minimize` apply: ``status`` is 1 after
        ``maxiter`` iterations, 3 where no value was finite, 5 after KeyboardInterrupt, 99 where the callback raised
        StopIteration.

    Raises
    ------
    TypeError, ValueError
        An argument is of no use.
    Exception
        What fun raised, with a note that names the candidate. What was done so far is lost; where fun may raise, make
        the search yourself: its ``run`` can be called again.

    Examples
    --------
    >>> from concurrent.futures import ThreadPoolExecutor
    >>> from optcore.search import minimize
    >>> def fun(x):
    ...     return (x[0] - 1.0) ** 2 + abs(x[1])
    >>> with ThreadPoolExecutor(2) as pool:
    ...     result = minimize(fun, [3.0, 3.0], workers=pool.map, sigma=0.02, lr=0.1, maxiter=100, seed=0)
    >>> result.message, result.nfev, result.fun < 0.01
    ('Maximum number of iterations has been reached.', 1601, True)
    """
    own_class = isinstance(method, type) and issubclass(method, Search)
    make: Any = method if own_class else METHODS[check_choice("method", method, list(METHODS))]
    own = inspect.signature(make).parameters
    needed = [p.name for p in own.values() if p.kind is p.KEYWORD_ONLY and p.default is p.empty]
    rule = options.get("optimizer", "sgd")
    rule = CATALOGUE.get(rule) if isinstance(rule, str) else rule
    if "a" not in own and isinstance(rule, type):  # SPSA makes a rate of its a
        needed += ["lr"] * rule._needs_lr()
    missing = [f"{name}=..." for name in needed if name not in options]
    if missing and not own_class:
        raise TypeError(f"method {method!r} needs {', '.join(missing)}; got {sorted(options)}")
    search = make(starting_point(x0), **options)
    return search.run(fun, maxiter=maxiter, args=args, workers=workers, callback=callback, disp=disp)
