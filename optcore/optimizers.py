"""The optimizers, in order of increasing complexity: one class per rule.

What all of them take is explained in :class:`optcore.optimizer.Optimizer`; the rules themselves can be read in
:mod:`optcore.reference`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, ClassVar, Unpack

from optcore.domains import DOMAINS, FRACTION, NOT_NEGATIVE, POSITIVE, Domain, check_choice, check_flag, check_number
from optcore.optimizer import Arrays, Optimizer, Options, Parameters, Structure, Value

__all__ = [
    "FTRL",
    "LAMB",
    "LARS",
    "SGD",
    "AMSGrad",
    "AdaBelief",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "GradientScaled",
    "Lion",
    "Momentum",
    "NAdam",
    "Nesterov",
    "RAdam",
    "RMSprop",
    "Rprop",
    "ScheduleFree",
    "ScheduleFreeAdamW",
    "ScheduleFreeSGD",
    "Velocity",
]


def inside(eps_form: Any) -> float:
    """What the scalars of a rule make of the switch."""
    return float(check_choice("eps_form", eps_form, ("outside", "inside")) == "inside")


class SGD(Optimizer):
    """Stochastic gradient descent, with torch's switches for momentum.

    ``p = p - lr * g``

    Parameters
    ----------
    params, grads, **options :
        See :class:`optcore.optimizer.Optimizer`.
    lr : float or function of t
        Learning rate.
    momentum, dampening, nesterov :
        Where momentum is not 0, this is :class:`Momentum`, or :class:`Nesterov`.

    Examples
    --------
    >>> import numpy as np, optcore as oc
    >>> p = np.array([1.0, 2.0])
    >>> opt = oc.SGD(p, lr=0.5)
    >>> opt.step(np.array([1.0, -1.0]))
    >>> p
    array([0.5, 2.5])

    References
    ----------
    Robbins & Monro, A stochastic approximation method, 1951.
    """

    name = "sgd"

    def __init__(
        self,
        params: Parameters,
        grads: Arrays | None = None,
        *,
        lr: Value,
        momentum: Value = 0.0,
        dampening: Value = 0.0,
        nesterov: bool = False,
        **options: Unpack[Options],
    ):
        if check_flag("nesterov", nesterov) and not callable(momentum) and not momentum:
            raise ValueError("nesterov=True needs momentum > 0")
        if not callable(momentum) and check_number("momentum", momentum, DOMAINS["momentum"], or_function=True) == 0.0:
            super().__init__(params, grads, "sgd", {"lr": lr}, options)
        else:
            self._init_momentum(params, grads, lr, momentum, dampening, "heavy_ball", nesterov, options)

    def _init_momentum(
        self,
        params: Parameters,
        grads: Arrays | None,
        lr: Value,
        momentum: Value,
        dampening: Value,
        velocity: str,
        nesterov: bool,
        options: Options,
    ) -> None:
        check_choice("velocity", velocity, ("heavy_ball", "ema"))
        super().__init__(
            params,
            grads,
            "nesterov" if nesterov else "momentum",
            {"lr": lr, "momentum": momentum, "dampening": dampening},
            options,
            switches={"velocity": velocity, "nesterov": bool(nesterov)},
            codes={"ema": float(velocity == "ema")},
        )


class GradientScaled(Optimizer):
    """Gradient descent whose learning rate is scaled by the gradient's own magnitude.

    ``p = p - lr * scale * abs(g) * g``

    Far from a minimum the step is longer than gradient descent's, near it shorter.

    Parameters
    ----------
    params, grads, **options :
        See :class:`optcore.optimizer.Optimizer`.
    lr : float or function of t
        Learning rate.
    scale : float or function of t
        Multiplies the learning rate.

    Examples
    --------
    >>> import numpy as np, optcore as oc
    >>> p = np.array([1.0, 1.0])
    >>> oc.GradientScaled(p, lr=0.1).step(np.array([1.0, -2.0]))
    >>> p
    array([0.9, 1.4])
    """

    name = "gradient_scaled"

    def __init__(
        self,
        params: Parameters,
        grads: Arrays | None = None,
        *,
        lr: Value,
        scale: Value = 1.0,
        **options: Unpack[Options],
    ):
        super().__init__(params, grads, "gradient_scaled", {"lr": lr, "scale": scale}, options)


class Momentum(SGD):
    """Gradient descent with a heavy ball, the learning rate outside the buffer.

    ``b = keep * b + take * g``, ``p = p - lr * b``

    Parameters
    ----------
    params, grads, **options :
        See :class:`optcore.optimizer.Optimizer`.
    lr : float or function of t
        Learning rate.
    momentum : float or function of t
        mu, what is kept of the buffer.
    dampening : float or function of t
        The buffer takes ``1 - dampening`` of the gradient.
    velocity : {"heavy_ball", "ema"}
        heavy_ball: the buffer starts as the first gradient, and then ``keep, take = mu, 1 - dampening`` (torch).
        ema: a moving average from zero, ``keep, take = mu, 1 - mu``.

    Examples
    --------
    >>> import numpy as np, optcore as oc
    >>> p = np.array([1.0])
    >>> opt = oc.Momentum(p, lr=0.5, momentum=0.5)
    >>> opt.step(np.array([1.0])); opt.step(np.array([1.0]))
    >>> p
    array([-0.25])

    References
    ----------
    Polyak, Some methods of speeding up the convergence of iteration methods, 1964, equation 9.
    """

    name = "momentum"
    forms: ClassVar[tuple[dict[str, Any], ...]] = ({}, {"dampening": 0.5}, {"velocity": "ema"})
    _nesterov = False

    def __init__(
        self,
        params: Parameters,
        grads: Arrays | None = None,
        *,
        lr: Value,
        momentum: Value = 0.9,
        dampening: Value = 0.0,
        velocity: str = "heavy_ball",
        **options: Unpack[Options],
    ):
        self._check_keywords(options)
        self._init_momentum(params, grads, lr, momentum, dampening, velocity, self._nesterov, options)


class Velocity(Optimizer):
    """Momentum with the learning rate inside the velocity, as in Keras and scikit-learn.

    ``v = mu * v - lr * g``, ``p = p + v``

    With :meth:`lookahead` this is Nesterov's method with the gradient at the interim point.

    Parameters
    ----------
    params, grads, **options :
        See :class:`optcore.optimizer.Optimizer`.
    lr : float or function of t
        Learning rate.
    momentum : float or function of t
        mu, what is kept of the velocity.

    Examples
    --------
    >>> import numpy as np, optcore as oc
    >>> p = np.array([1.0])
    >>> opt = oc.Velocity(p, lr=0.25, momentum=0.5)
    >>> for _ in range(3):
    ...     with opt.lookahead():
    ...         g = 2 * p
    ...     opt.step(g)
    >>> p
    array([-0.03125])

    References
    ----------
    Polyak 1964; Sutskever, Martens, Dahl & Hinton, On the importance of initialization and momentum in deep
    learning, 2013, equations 1 to 4.
    """

    name = "velocity"

    def __init__(
        self,
        params: Parameters,
        grads: Arrays | None = None,
        *,
        lr: Value,
        momentum: Value = 0.9,
        **options: Unpack[Options],
    ):
        super().__init__(params, grads, "velocity", {"lr": lr, "momentum": momentum}, options)

    @contextlib.contextmanager
    def lookahead(self) -> Iterator[None]:
        """A ``with`` block in which the parameters are ``p + mu * v``; behind it they are the old ones, bit for bit.

        Raises
        ------
        RuntimeError
            ``step()`` or ``lookahead()`` is called inside the block.
        """
        self._enter_interim("v", "momentum")
        try:
            yield
        finally:
            self._leave_interim()


class Nesterov(Momentum):
    """Nesterov's accelerated gradient in the one-gradient form of torch and optax.

    ``b = keep * b + take * g``, ``p = p - lr * (g + mu * b)``

    Parameters
    ----------
    params, grads, **options :
        See :class:`optcore.optimizer.Optimizer`.
    lr, momentum, dampening, velocity :
        As for :class:`Momentum`.

    Examples
    --------
    >>> import numpy as np, optcore as oc
    >>> p = np.array([1.0])
    >>> oc.Nesterov(p, lr=0.5, momentum=0.5).step(np.array([1.0]))
    >>> p
    array([0.25])

    References
    ----------
    Nesterov, A method of solving a convex programming problem with convergence rate O(1/k^2), 1983; Sutskever et
    al. 2013, equations 3 and 4, rewritten for the interim point.
    """

    name = "nesterov"
    _nesterov = True


class Adagrad(Optimizer):
    """A learning rate for each element, which falls with the sum of its squared gradients.

    ``s = s + g * g``, ``p = p - clr * g / (sqrt(s) + eps)`` with ``clr = lr / (1 + (t - 1) * lr_decay)``

    Parameters
    ----------
    params, grads, **options :
        See :class:`optcore.optimizer.Optimizer`.
    lr : float or function of t
        Learning rate.
    lr_decay : float or function of t
        How fast the learning rate falls besides.
    eps : float or function of t
        Keeps the quotient finite.
    eps_form : {"outside", "inside"}
        inside: ``sqrt(s + eps)``, as in much teaching.
    initial_accumulator : float
        s at first.

    Examples
    --------
    >>> import numpy as np, optcore as oc
    >>> p = np.array([1.0, 1.0])
    >>> oc.Adagrad(p, lr=0.5).step(np.array([4.0, -0.25]))
    >>> np.round(p, 6)
    array([0.5, 1.5])

    References
    ----------
    Duchi, Hazan & Singer, Adaptive subgradient methods for online learning and stochastic optimization, 2011,
    Figure 1 with a diagonal matrix.
    """

    name = "adagrad"
    forms: ClassVar[tuple[dict[str, Any], ...]] = (
        {},
        {"lr_decay": 0.1, "initial_accumulator": 0.25},
        {"eps_form": "inside"},
    )

    def __init__(
        self,
        params: Parameters,
        grads: Arrays | None = None,
        *,
        lr: Value = 1e-2,
        lr_decay: Value = 0.0,
        eps: Value = 1e-10,
        eps_form: str = "outside",
        initial_accumulator: float = 0.0,
        **options: Unpack[Options],
    ):
        start = check_number("initial_accumulator", initial_accumulator, DOMAINS["lr"])
        super().__init__(
            params,
            grads,
            "adagrad",
            {"lr": lr, "lr_decay": lr_decay, "eps": eps},
            options,
            switches={"eps_form": eps_form, "initial_accumulator": start},
            codes={"inside": inside(eps_form)},
            initial={"s": start},
        )


class RMSprop(Optimizer):
    """A learning rate for each element, divided by a moving root mean square of its gradients.

    ``s = alpha * s + (1 - alpha) * g * g``, ``p = p - lr * g / (sqrt(s) + eps)``

    Parameters
    ----------
    params, grads, **options :
        See :class:`optcore.optimizer.Optimizer`.
    lr : float or function of t
        Learning rate.
    alpha : float or function of t
        What is kept of the mean square. Hinton's lecture has 0.9.
    eps : float or function of t
        Keeps the quotient finite.
    eps_form : {"outside", "inside"}
        inside: ``sqrt(s + eps)``.
    momentum : float or function of t
        Where it is not 0: ``b = momentum * b + g / (sqrt(s) + eps)``, ``p = p - lr * b``.
    centered : bool
        The root of the variance ``max(s - m * m, 0)`` with ``m = m + (1 - alpha) * (g - m)``.

    Examples
    --------
    >>> import numpy as np, optcore as oc
    >>> p = np.array([1.0, 1.0])
    >>> oc.RMSprop(p, lr=0.1, alpha=0.75).step(np.array([4.0, -0.25]))
    >>> np.round(p, 6)
    array([0.8, 1.2])

    References
    ----------
    Tieleman & Hinton, Neural networks for machine learning, lecture 6.5, 2012; Graves, Generating sequences with
    recurrent neural networks, 2013, equations 38 to 42.
    """

    name = "rmsprop"
    forms: ClassVar[tuple[dict[str, Any], ...]] = (
        {},
        {"eps_form": "inside"},
        {"momentum": 0.9},
        {"centered": True},
        {"centered": True, "momentum": 0.9, "eps_form": "inside"},
    )

    def __init__(
        self,
        params: Parameters,
        grads: Arrays | None = None,
        *,
        lr: Value = 1e-2,
        alpha: Value = 0.99,
        eps: Value = 1e-8,
        eps_form: str = "outside",
        momentum: Value = 0.0,
        centered: bool = False,
        **options: Unpack[Options],
    ):
        hyper = {"lr": lr, "alpha": alpha, "eps": eps}
        rule = "rmsprop"
        if check_flag("centered", centered):
            rule += "_centered"
        if callable(momentum) or check_number("momentum", momentum, DOMAINS["momentum"], or_function=True) != 0.0:
            rule += "_momentum"
            hyper["momentum"] = momentum
        super().__init__(
            params,
            grads,
            rule,
            hyper,
            options,
            switches={"eps_form": eps_form, "centered": bool(centered)},
            codes={"inside": inside(eps_form)},
        )


class Adadelta(Optimizer):
    """Steps in the units of the parameters: the ratio of two moving root mean squares times the gradient.

    ``s = rho * s + (1 - rho) * g * g``, ``d = sqrt(a + eps) / sqrt(s + eps) * g``,
    ``a = rho * a + (1 - rho) * d * d``, ``p = p - lr * d``

    Parameters
    ----------
    params, grads, **options :
        See :class:`optcore.optimizer.Optimizer`.
    lr : float or function of t
        Learning rate; the paper has none, which is 1.
    rho : float or function of t
        What is kept of both means. The paper has 0.95.
    eps : float or function of t
        Keeps the quotient finite and starts the first step.

    Examples
    --------
    >>> import numpy as np, optcore as oc
    >>> p = np.array([1.0])
    >>> oc.Adadelta(p, eps=0.25, rho=0.75).step(np.array([np.sqrt(3.0)]))
    >>> np.round(p, 6)
    array([0.133975])

    References
    ----------
    Zeiler, ADADELTA: an adaptive learning rate method, 2012, Algorithm 1.
    """

    name = "adadelta"

    def __init__(
        self,
        params: Parameters,
        grads: Arrays | None = None,
        *,
        lr: Value = 1.0,
        rho: Value = 0.9,
        eps: Value = 1e-6,
        **options: Unpack[Options],
    ):
        super().__init__(params, grads, "adadelta", {"lr": lr, "rho": rho, "eps": eps}, options)


class Rprop(Optimizer):
    """A step length for each element, which grows while the gradient keeps its sign. For full batches.

    ``step`` is multiplied by ``etas[1]`` where the sign stays, by ``etas[0]`` where it changes, and kept within
    ``step_sizes``; ``p = p - sign(g) * step``

    Parameters
    ----------
    params, grads, **options :
        See :class:`optcore.optimizer.Optimizer`.
    lr : float
        The first step length.
    etas : pair of float or function of t
        Shrinking and growing factor.
    step_sizes : pair of float or function of t
        The shortest and the longest step.
    variant : {"irprop-", "rprop-"}
        irprop-: where the sign changed the gradient counts as zero, once. rprop-: it does not.

    Examples
    --------
    >>> import numpy as np, optcore as oc
    >>> p = np.array([1.0, 1.0])
    >>> opt = oc.Rprop(p, lr=0.5)
    >>> opt.step(np.array([9.0, -1.0])); opt.step(np.array([9.0, 1.0]))
    >>> p
    array([-0.1,  1.5])

    References
    ----------
    Riedmiller & Braun, A direct adaptive method for faster backpropagation learning, 1993; Igel & Huesken,
    Improving the Rprop learning algorithm, 2000, the algorithm iRprop-.
    """

    name = "rprop"
    forms: ClassVar[tuple[dict[str, Any], ...]] = ({}, {"variant": "rprop-"})

    def __init__(
        self,
        params: Parameters,
        grads: Arrays | None = None,
        *,
        lr: float = 1e-2,
        etas: tuple[Value, Value] = (0.5, 1.2),
        step_sizes: tuple[Value, Value] = (1e-6, 50.0),
        variant: str = "irprop-",
        **options: Unpack[Options],
    ):
        forget = check_choice("variant", variant, ("irprop-", "rprop-")) == "irprop-"
        lr = check_number("lr", lr, DOMAINS["step_sizes[0]"])
        super().__init__(
            params,
            grads,
            "rprop",
            {"etas": etas, "step_sizes": step_sizes},
            options,
            switches={"lr": lr, "variant": variant},
            codes={"forget": float(forget)},
            initial={"step": lr},
        )


class Adam(Optimizer):
    """Adaptive moments: a moving average of the gradient over the root of one of its squares, both corrected.

    ``m = beta1 * m + (1 - beta1) * g``, ``v = beta2 * v + (1 - beta2) * g * g``,
    ``p = p - lr * (m / (1 - beta1**t)) / (sqrt(v / (1 - beta2**t)) + eps)``

    Parameters
    ----------
    params, grads, **options :
        See :class:`optcore.optimizer.Optimizer`.
    lr : float or function of t
        Learning rate, about the length of a step.
    betas : pair of float or function of t
        What is kept of the two moments.
    eps : float or function of t
        Keeps the quotient finite.
    eps_form : {"outside", "inside", "hat"}
        outside: as above, Algorithm 1. inside: under the corrected root, ``sqrt(v / (1 - beta2**t) + eps)``. hat:
        the paper's remark in section 2, ``lr * sqrt(1 - beta2**t) / (1 - beta1**t) * m / (sqrt(v) + eps)``.
    amsgrad : bool
        Be :class:`AMSGrad`.

    Examples
    --------
    >>> import numpy as np, optcore as oc
    >>> W, b = np.ones((2, 3)), np.zeros(3)
    >>> opt = oc.Adam({"W": W, "b": b}, lr=0.1)
    >>> opt.step({"W": np.full((2, 3), 4.0), "b": np.array([-1.0, 0.0, 1.0])})
    >>> np.round(W[0], 6), np.round(b, 6)
    (array([0.9, 0.9, 0.9]), array([ 0.1,  0. , -0.1]))
    >>> opt
    Adam(lr=0.1, betas=(0.9, 0.999), eps=1e-08, eps_form='outside', amsgrad=False, t=1)
      W: float64 (2, 3)
      b: float64 (3,)

    References
    ----------
    Kingma & Ba, Adam: a method for stochastic optimization, 2015, Algorithm 1.
    """

    name = "adam"
    forms: ClassVar[tuple[dict[str, Any], ...]] = ({}, {"eps_form": "inside"}, {"eps_form": "hat"})

    def __init__(
        self,
        params: Parameters,
        grads: Arrays | None = None,
        *,
        lr: Value = 1e-3,
        betas: tuple[Value, Value] = (0.9, 0.999),
        eps: Value = 1e-8,
        eps_form: str = "outside",
        amsgrad: bool = False,
        **options: Unpack[Options],
    ):
        forms = ("outside", "inside", "hat")
        super().__init__(
            params,
            grads,
            "amsgrad" if check_flag("amsgrad", amsgrad) else "adam",
            {"lr": lr, "betas": betas, "eps": eps},
            options,
            switches={"eps_form": eps_form, "amsgrad": bool(amsgrad)},
            codes={"form": float(forms.index(check_choice("eps_form", eps_form, forms)))},
        )


class AMSGrad(Adam):
    """Adam with the largest second moment so far under the root, so that no step length grows again.

    As :class:`Adam`, with ``vmax = max(vmax, v)`` in place of v

    Parameters
    ----------
    params, grads, **options :
        See :class:`optcore.optimizer.Optimizer`.
    lr, betas, eps, eps_form :
        As for :class:`Adam`.

    Examples
    --------
    >>> import numpy as np, optcore as oc
    >>> p = np.array([1.0])
    >>> oc.AMSGrad(p, lr=0.1).step(np.array([2.0]))
    >>> np.round(p, 6)
    array([0.9])

    References
    ----------
    Reddi, Kale & Kumar, On the convergence of Adam and beyond, 2018, Algorithm 2; with Adam's corrections of the
    bias, and the largest of the uncorrected v, as torch has it.
    """

    name = "amsgrad"

    def __init__(
        self,
        params: Parameters,
        grads: Arrays | None = None,
        *,
        lr: Value = 1e-3,
        betas: tuple[Value, Value] = (0.9, 0.999),
        eps: Value = 1e-8,
        eps_form: str = "outside",
        **options: Unpack[Options],
    ):
        self._check_keywords(options)
        super().__init__(params, grads, lr=lr, betas=betas, eps=eps, eps_form=eps_form, amsgrad=True, **options)


class AdamW(Adam):
    """Adam with a weight decay that does not go through the moments.

    ``p = p * (1 - lr * weight_decay)``, then as :class:`Adam`

    Parameters
    ----------
    params, grads, **options :
        See :class:`optcore.optimizer.Optimizer`.
    lr, betas, eps, eps_form, amsgrad :
        As for :class:`Adam`.
    weight_decay : float or function of t
        The share of the parameters that ``lr`` takes away in a step.

    Examples
    --------
    >>> import numpy as np, optcore as oc
    >>> p = np.array([1.0])
    >>> oc.AdamW(p, lr=0.1, weight_decay=0.5).step(np.array([2.0]))
    >>> np.round(p, 6)
    array([0.85])

    References
    ----------
    Loshchilov & Hutter, Decoupled weight decay regularization, 2019, Algorithm 2.
    """

    name = "adamw"
    implied: ClassVar[dict[str, Any]] = {"decoupled_weight_decay": True}
    forms: ClassVar[tuple[dict[str, Any], ...]] = ({}, {"amsgrad": True})

    def __init__(  # type: ignore[misc]
        self,
        params: Parameters,
        grads: Arrays | None = None,
        *,
        lr: Value = 1e-3,
        betas: tuple[Value, Value] = (0.9, 0.999),
        eps: Value = 1e-8,
        eps_form: str = "outside",
        amsgrad: bool = False,
        weight_decay: Value = 1e-2,
        **options: Unpack[Options],
    ):
        super().__init__(
            params,
            grads,
            lr=lr,
            betas=betas,
            eps=eps,
            eps_form=eps_form,
            amsgrad=amsgrad,
            weight_decay=weight_decay,
            **options,
        )


class Adamax(Optimizer):
    """Adam with a decaying maximum of the gradient's magnitude in place of the root mean square.

    ``m = beta1 * m + (1 - beta1) * g``, ``u = max(beta2 * u, abs(g) + eps)``,
    ``p = p - lr / (1 - beta1**t) * m / u``

    Parameters
    ----------
    params, grads, **options :
        See :class:`optcore.optimizer.Optimizer`.
    lr : float or function of t
        Learning rate, the longest step.
    betas : pair of float or function of t
        What is kept of the average and of the maximum.
    eps : float or function of t
        Keeps the quotient finite.

    Examples
    --------
    >>> import numpy as np, optcore as oc
    >>> p = np.array([1.0, 1.0])
    >>> oc.Adamax(p, lr=0.1).step(np.array([2.0, -3.0]))
    >>> np.round(p, 6)
    array([0.9, 1.1])

    References
    ----------
    Kingma & Ba 2015, Algorithm 2.
    """

    name = "adamax"

    def __init__(
        self,
        params: Parameters,
        grads: Arrays | None = None,
        *,
        lr: Value = 2e-3,
        betas: tuple[Value, Value] = (0.9, 0.999),
        eps: Value = 1e-8,
        **options: Unpack[Options],
    ):
        super().__init__(params, grads, "adamax", {"lr": lr, "betas": betas, "eps": eps}, options)


class NAdam(Optimizer):
    """Adam with Nesterov's momentum, whose weight grows over time.

    ``p = p - (cg * g + cm * m) / (sqrt(v / (1 - beta2**t)) + eps)`` with
    ``mu(t) = beta1 * (1 - 0.5 * 0.96**(t * psi))``, ``cg = lr * (1 - mu(t)) / (1 - mu(1) ... mu(t))`` and
    ``cm = lr * mu(t + 1) / (1 - mu(1) ... mu(t + 1))``

    Parameters
    ----------
    params, grads, **options :
        See :class:`optcore.optimizer.Optimizer`.
    lr : float or function of t
        Learning rate.
    betas : pair of float
        What is kept of the two moments. The first cannot be a function of t, because all its values so far count.
    eps : float or function of t
        Keeps the quotient finite.
    momentum_decay : float
        psi: how fast mu grows to beta1.

    Examples
    --------
    >>> import numpy as np, optcore as oc
    >>> p = np.array([1.0])
    >>> oc.NAdam(p, lr=0.1).step(np.array([2.0]))
    >>> np.round(p, 3)
    array([0.894])

    References
    ----------
    Dozat, Incorporating Nesterov momentum into Adam, 2016.
    """

    name = "nadam"
    constant: ClassVar[tuple[str, ...]] = ("betas[0]", "momentum_decay")

    def __init__(
        self,
        params: Parameters,
        grads: Arrays | None = None,
        *,
        lr: Value = 2e-3,
        betas: tuple[float, Value] = (0.9, 0.999),
        eps: Value = 1e-8,
        momentum_decay: float = 4e-3,
        **options: Unpack[Options],
    ):
        hyper = {"lr": lr, "betas": betas, "eps": eps, "momentum_decay": momentum_decay}
        super().__init__(params, grads, "nadam", hyper, options)


class RAdam(Optimizer):
    """Adam whose step is rectified while the second moment knows too few gradients; at first it is momentum.

    Parameters
    ----------
    params, grads, **options :
        See :class:`optcore.optimizer.Optimizer`.
    lr, betas, eps :
        As for :class:`Adam`.

    Examples
    --------
    >>> import numpy as np, optcore as oc
    >>> p = np.array([1.0])
    >>> oc.RAdam(p, lr=0.25).step(np.array([2.0]))
    >>> np.round(p, 6)
    array([0.5])

    References
    ----------
    Liu et al., On the variance of the adaptive learning rate and beyond, 2020, Algorithm 2.
    """

    name = "radam"

    def __init__(
        self,
        params: Parameters,
        grads: Arrays | None = None,
        *,
        lr: Value = 1e-3,
        betas: tuple[Value, Value] = (0.9, 0.999),
        eps: Value = 1e-8,
        **options: Unpack[Options],
    ):
        super().__init__(params, grads, "radam", {"lr": lr, "betas": betas, "eps": eps}, options)


class Lion(Optimizer):
    """Steps of one length: the sign of a moving average that looks one gradient ahead.

    ``p = p - lr * sign(beta1 * m + (1 - beta1) * g)``, ``m = beta2 * m + (1 - beta2) * g``

    Weight decay is decoupled.

    Parameters
    ----------
    params, grads, **options :
        See :class:`optcore.optimizer.Optimizer`.
    lr : float or function of t
        The length of every step.
    betas : pair of float or function of t
        What the step and the average keep.

    Examples
    --------
    >>> import numpy as np, optcore as oc
    >>> p = np.array([1.0, 1.0])
    >>> oc.Lion(p, lr=0.25).step(np.array([1e-6, -1e6]))
    >>> p
    array([0.75, 1.25])

    References
    ----------
    Chen et al., Symbolic discovery of optimization algorithms, 2023, Algorithm 2.
    """

    name = "lion"
    implied: ClassVar[dict[str, Any]] = {"decoupled_weight_decay": True}

    def __init__(
        self,
        params: Parameters,
        grads: Arrays | None = None,
        *,
        lr: Value = 1e-4,
        betas: tuple[Value, Value] = (0.9, 0.99),
        **options: Unpack[Options],
    ):
        super().__init__(params, grads, "lion", {"lr": lr, "betas": betas}, options)


class AdaBelief(Optimizer):
    """Adam whose second moment is that of the surprise: of the gradient's distance from its average.

    ``s = beta2 * s + (1 - beta2) * (g - m)**2 + eps_root`` in place of v

    Parameters
    ----------
    params, grads, **options :
        See :class:`optcore.optimizer.Optimizer`.
    lr, betas, eps :
        As for :class:`Adam`.
    eps_root : float or function of t
        Added to s at every step.

    Examples
    --------
    >>> import numpy as np, optcore as oc
    >>> p = np.array([1.0])
    >>> opt = oc.AdaBelief(p, lr=0.1)
    >>> opt.step(np.array([2.0])); opt.step(np.array([2.0]))
    >>> np.round(p, 3)  # a gradient that does not change is believed: the steps are longer than Adam's
    array([0.772])

    References
    ----------
    Zhuang et al., AdaBelief optimizer: adapting stepsizes by the belief in observed gradients, 2020, Algorithm 1.
    """

    name = "adabelief"

    def __init__(
        self,
        params: Parameters,
        grads: Arrays | None = None,
        *,
        lr: Value = 1e-3,
        betas: tuple[Value, Value] = (0.9, 0.999),
        eps: Value = 1e-16,
        eps_root: Value = 1e-16,
        **options: Unpack[Options],
    ):
        hyper = {"lr": lr, "betas": betas, "eps": eps, "eps_root": eps_root}
        super().__init__(params, grads, "adabelief", hyper, options)


class FTRL(Optimizer):
    """Follow the regularized leader, per coordinate: the rule of sparse linear models. Start it at zero.

    ``z`` sums the gradients; where ``abs(z) <= l1`` the parameter is exactly 0

    Parameters
    ----------
    params, grads, **options :
        See :class:`optcore.optimizer.Optimizer`.
    lr : float or function of t
        Learning rate, alpha in the paper. Above 0.
    beta : float or function of t
        Holds back the first steps.
    l1, l2 : float or function of t
        Penalties: l1 makes parameters zero, l2 small.

    Examples
    --------
    >>> import numpy as np, optcore as oc
    >>> p = np.zeros(2)
    >>> oc.FTRL(p, lr=0.5, l1=1.0).step(np.array([3.0, -0.5]))
    >>> p
    array([-0.25,  0.  ])

    References
    ----------
    McMahan et al., Ad click prediction: a view from the trenches, 2013, Algorithm 1.
    """

    name = "ftrl"
    forms: ClassVar[tuple[dict[str, Any], ...]] = ({}, {"l1": 0.5, "l2": 0.25})
    domains: ClassVar[dict[str, Domain]] = {"lr": POSITIVE}

    def __init__(
        self,
        params: Parameters,
        grads: Arrays | None = None,
        *,
        lr: Value,
        beta: Value = 1.0,
        l1: Value = 0.0,
        l2: Value = 0.0,
        **options: Unpack[Options],
    ):
        super().__init__(params, grads, "ftrl", {"lr": lr, "beta": beta, "l1": l1, "l2": l2}, options)


class ScheduleFree(Optimizer):
    """Base of the schedule-free optimizers: no decay of the learning rate, but an average that is always ready.

    The parameters hold ``y``, where gradients are to be taken; ``opt.averaged()`` reads ``x``, which is the result.
    They are made from the state at every step: what is written into them in between is lost.

    Notes
    -----
    ``x`` is the average of all ``z``, weighted by the largest learning rate so far to the power ``weight_lr_power``:
    steps of a warmup count little. The average would not heed bounds, and is one already: neither ``bounds`` nor
    ``averaging`` can be given.
    """

    implied: ClassVar[dict[str, Any]] = {"decoupled_weight_decay": False, "bounds": None, "averaging": None}
    domains: ClassVar[dict[str, Domain]] = {
        "lr": Domain(0.0, 1e30, "from 0 to 1e30"),  # its powers are summed
        "beta": FRACTION,
    }
    constant: ClassVar[tuple[str, ...]] = ("weight_lr_power",)
    _averages = True

    def averaged(self) -> Structure:
        """``x``, live, in the structure of the parameters: the point to evaluate and to keep."""
        return self._structure({name: arrays["x"].view() for name, arrays in self._state.items()})


class ScheduleFreeSGD(ScheduleFree):
    """SGD whose average is a part of it, in place of a decaying learning rate.

    ``z = z - lr * g``, ``x = (1 - c) * x + c * z``, ``p = (1 - beta) * z + beta * x``

    where c is the weight of this step among those of all; see :class:`optcore.optimizers.ScheduleFree`. The result is
    ``opt.averaged()``; what is written into the parameters between steps is lost.

    Parameters
    ----------
    params, grads, **options :
        See :class:`optcore.optimizer.Optimizer`.
    lr : float or function of t
        Learning rate; larger than for SGD is often best. A function should rise to its value (:class:`Warmup`).
    beta : float or function of t
        Where between z and x gradients are taken: momentum.
    weight_lr_power : float
        0 weighs all steps alike.

    Examples
    --------
    >>> import numpy as np, optcore as oc
    >>> p = np.array([1.0])
    >>> opt = oc.ScheduleFreeSGD(p, lr=0.5)
    >>> for _ in range(100):
    ...     opt.step(2 * p + np.random.default_rng(opt.t).normal(size=1))
    >>> bool(abs(opt.averaged()[0]) < 0.1)
    True

    References
    ----------
    Defazio et al., The road less scheduled, 2024, equations 3 to 5.
    """

    name = "schedule_free_sgd"
    forms: ClassVar[tuple[dict[str, Any], ...]] = ({}, {"weight_lr_power": 0.0})

    def __init__(
        self,
        params: Parameters,
        grads: Arrays | None = None,
        *,
        lr: Value,
        beta: Value = 0.9,
        weight_lr_power: float = 2.0,
        **options: Unpack[Options],
    ):
        hyper = {"lr": lr, "beta": beta, "weight_lr_power": weight_lr_power}
        super().__init__(params, grads, "schedule_free_sgd", hyper, options, copies=("z", "x"))


class ScheduleFreeAdamW(ScheduleFree):
    """AdamW whose average is a part of it, in place of a decaying learning rate.

    ``v = beta2 * v + (1 - beta2) * g * g``,
    ``z = z - lr * (g / (sqrt(v / (1 - beta2**t)) + eps) + weight_decay * p)``, ``x = (1 - c) * x + c * z``,
    ``p = (1 - beta1) * z + beta1 * x``

    where c is the weight of this step among those of all; see :class:`optcore.optimizers.ScheduleFree`. The result is
    ``opt.averaged()``; what is written into the parameters between steps is lost.

    Parameters
    ----------
    params, grads, **options :
        See :class:`optcore.optimizer.Optimizer`.
    lr : float or function of t
        Learning rate. A function should rise to its value (:class:`Warmup`).
    betas : pair of float or function of t
        Where between z and x gradients are taken, and what is kept of the second moment.
    eps : float or function of t
        Keeps the quotient finite.
    weight_decay : float or function of t
        The share of y that ``lr`` takes from z in a step.
    weight_lr_power : float
        0 weighs all steps alike.

    Examples
    --------
    >>> import numpy as np, optcore as oc
    >>> p = np.array([1.0])
    >>> opt = oc.ScheduleFreeAdamW(p, lr=0.25)
    >>> opt.step(np.array([2.0]))
    >>> np.round(opt.averaged(), 6)
    array([0.75])

    References
    ----------
    Defazio et al., The road less scheduled, 2024, Algorithm 1; with Adam's correction of the bias under the root in
    place of its effect on the learning rate, as the authors' and optax's programs have it.
    """

    name = "schedule_free_adamw"

    def __init__(  # type: ignore[misc]
        self,
        params: Parameters,
        grads: Arrays | None = None,
        *,
        lr: Value = 2.5e-3,
        betas: tuple[Value, Value] = (0.9, 0.999),
        eps: Value = 1e-8,
        weight_decay: Value = 0.0,
        weight_lr_power: float = 2.0,
        **options: Unpack[Options],
    ):
        hyper = {"lr": lr, "betas": betas, "eps": eps, "weight_lr_power": weight_lr_power}
        options["weight_decay"] = weight_decay
        super().__init__(params, grads, "schedule_free_adamw", hyper, options, copies=("z", "x"))


class LAMB(Optimizer):
    """Adam whose step is as long as ``lr`` times the norm of its array: layers learn alike in large batches.

    ``u = (m / (1 - beta1**t)) / (sqrt(v / (1 - beta2**t)) + eps) + weight_decay * p``,
    ``p = p - lr * trust * u`` with ``trust = norm(p) / norm(u)`` per array, 1 where either is 0

    Parameters
    ----------
    params, grads, **options :
        See :class:`optcore.optimizer.Optimizer`.
    lr : float or function of t
        Learning rate, relative to the norm of the parameter.
    betas : pair of float or function of t
        What is kept of the two moments.
    eps : float or function of t
        Keeps the quotient finite.
    weight_decay : float or function of t
        The share of the parameter in the direction of the step.

    Examples
    --------
    >>> import numpy as np, optcore as oc
    >>> W, b = np.array([3.0, 4.0]), np.array([10.0])
    >>> oc.LAMB([W, b], lr=0.1).step([np.array([5.0, 5.0]), np.array([1e-3])])
    >>> np.round(W, 3), np.round(b, 3)  # the norms are 5 and 10
    (array([2.646, 3.646]), array([9.]))

    References
    ----------
    You et al., Large batch optimization for deep learning: training BERT in 76 minutes, 2020, Algorithm 2, with the
    identity as phi.
    """

    name = "lamb"
    implied: ClassVar[dict[str, Any]] = {"decoupled_weight_decay": False}
    forms: ClassVar[tuple[dict[str, Any], ...]] = ({}, {"weight_decay": 0.1})

    def __init__(  # type: ignore[misc]
        self,
        params: Parameters,
        grads: Arrays | None = None,
        *,
        lr: Value = 1e-3,
        betas: tuple[Value, Value] = (0.9, 0.999),
        eps: Value = 1e-6,
        weight_decay: Value = 0.0,
        **options: Unpack[Options],
    ):
        options["weight_decay"] = weight_decay
        super().__init__(params, grads, "lamb", {"lr": lr, "betas": betas, "eps": eps}, options)


class LARS(Optimizer):
    """Momentum whose step is as long as a share of the norm of its array: layers learn alike in large batches.

    ``u = g + weight_decay * p``, ``u = u * trust_coefficient * norm(p) / (norm(u) + eps)`` per array, left alone where
    either norm is 0; ``b = momentum * b - lr * u``, ``p = p + b``

    Parameters
    ----------
    params, grads, **options :
        See :class:`optcore.optimizer.Optimizer`.
    lr : float or function of t
        Learning rate.
    momentum : float or function of t
        What is kept of the last step.
    trust_coefficient : float or function of t
        How far, relative to the norm of the parameter, a step of ``lr = 1`` goes.
    eps : float or function of t
        Added to the norm of u; may be 0. With that, a gradient next to the smallest numbers makes a trust that float32
        cannot hold, and the step infinite.
    weight_decay : float or function of t
        The share of the parameter in u.

    Examples
    --------
    >>> import numpy as np, optcore as oc
    >>> p = np.array([3.0, 4.0])
    >>> oc.LARS(p, lr=1.0, trust_coefficient=0.1).step(np.array([0.0, 1e6]))
    >>> p
    array([3. , 3.5])

    References
    ----------
    You, Gitman & Ginsburg, Large batch training of convolutional networks, 2017, Algorithm 1; with the weight decay
    in the norm, as optax has it.
    """

    name = "lars"
    implied: ClassVar[dict[str, Any]] = {"decoupled_weight_decay": False}
    forms: ClassVar[tuple[dict[str, Any], ...]] = ({}, {"weight_decay": 0.1})
    domains: ClassVar[dict[str, Domain]] = {"eps": NOT_NEGATIVE}

    def __init__(  # type: ignore[misc]
        self,
        params: Parameters,
        grads: Arrays | None = None,
        *,
        lr: Value,
        momentum: Value = 0.9,
        trust_coefficient: Value = 1e-3,
        eps: Value = 0.0,
        weight_decay: Value = 0.0,
        **options: Unpack[Options],
    ):
        options["weight_decay"] = weight_decay
        hyper = {"lr": lr, "momentum": momentum, "trust_coefficient": trust_coefficient, "eps": eps}
        super().__init__(params, grads, "lars", hyper, options)
