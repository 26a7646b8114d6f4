"""What "RMSProp" means elsewhere: constructors with the arguments of other libraries."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing import Self


class Conventions:
    r"""RMSProp as other libraries define it, from their own arguments and defaults.

    The formulas stand beside each constructor: :math:`g` is the gradient, :math:`x` the parameters,
    and :math:`s`, :math:`a` and :math:`v` the ``square_average``, ``gradient_average`` and
    ``velocity`` of the state. Without `centered`, :math:`a = 0` throughout; without `momentum`,
    :math:`\mu = 0`.

    Arguments that only choose an implementation are taken and change nothing; one that asks for
    what a step here does not do is refused. What only gpuprop has is added afterwards, as in
    ``dataclasses.replace(RMSProp.pytorch(lr=0.001), bounds=(0, 1))``.

    Examples
    --------
    >>> from gpuprop import RMSProp
    >>> RMSProp.pytorch(lr=0.001) == RMSProp(0.001, rho=0.99, epsilon=1e-8)
    True
    >>> RMSProp.tensorflow(0.001).initial_square_average
    1.0
    """

    if TYPE_CHECKING:

        def __init__(self, learning_rate: Any, **options: Any) -> None: ...

    @classmethod
    def pytorch(
        cls,
        lr: Any = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum: float = 0,
        centered: bool = False,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
    ) -> Self:
        r"""``torch.optim.RMSprop``, its arguments after ``params``.

        .. math::
            g &\leftarrow \pm g + \lambda x \\
            s &\leftarrow \alpha s + (1 - \alpha) g^2, \qquad a \leftarrow \alpha a + (1 - \alpha) g \\
            v &\leftarrow \mu v + g / (\sqrt{s - a^2} + \epsilon) \\
            x &\leftarrow x - \eta v

        from :math:`s = a = v = 0`. Epsilon is outside the root. The learning rate is outside the
        velocity: a change of it acts on the whole velocity at once. Weight decay is coupled (added
        to the gradient, and so divided by the root), after `maximize` has changed the sign.

        Parameters
        ----------
        lr : float, one-element tensor, or callable ``step -> float``
            :math:`\eta`; a callable instead of a scheduler of ``torch.optim.lr_scheduler``.
        alpha, eps, weight_decay, momentum : float
            :math:`\alpha`, :math:`\epsilon`, :math:`\lambda` and :math:`\mu`.
        centered, maximize : bool
        capturable, foreach
            Change nothing.
        differentiable : bool
            Must be False.

        References
        ----------
        PyTorch 2.13, ``torch/optim/rmsprop.py``,
        https://docs.pytorch.org/docs/stable/generated/torch.optim.RMSprop.html
        """
        if differentiable:
            raise ValueError(f"differentiable is {differentiable!r}; steps are in place, so it must be False")
        return cls(
            learning_rate=lr,
            rho=alpha,
            epsilon=eps,
            momentum=momentum,
            centered=centered,
            weight_decay=weight_decay,
            maximize=maximize,
        )

    @classmethod
    def keras(
        cls,
        learning_rate: Any = 0.001,
        rho: float = 0.9,
        momentum: float = 0.0,
        epsilon: float = 1e-7,
        centered: bool = False,
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        use_ema: bool = False,
        ema_momentum: float = 0.99,
        ema_overwrite_frequency: int | None = None,
        loss_scale_factor: float | None = None,
        gradient_accumulation_steps: int | None = None,
        name: str | None = None,
    ) -> Self:
        r"""``keras.optimizers.RMSprop`` of Keras 3, which ``tf.keras`` is since TensorFlow 2.16.

        .. math::
            g &\leftarrow \operatorname{clip}(g), \qquad x \leftarrow (1 - \eta\lambda) x \\
            s &\leftarrow \rho s + (1 - \rho) g^2, \qquad a \leftarrow \rho a + (1 - \rho) g \\
            v &\leftarrow \mu v + \eta g / \sqrt{s - a^2 + \epsilon} \\
            x &\leftarrow x - v

        from :math:`s = a = v = 0`. Epsilon is inside the root, and the learning rate inside the
        velocity. Weight decay is decoupled: the gradient and its averages do not see it. What Keras
        names "velocity" is :math:`s`, and :math:`v` its "momentum".

        Parameters
        ----------
        learning_rate : float, or callable
            :math:`\eta`; of ``keras.optimizers.schedules``, any other callable ``step -> float``, or
            a callable without arguments.
        rho, momentum, epsilon, weight_decay : float
            :math:`\rho`, :math:`\mu`, :math:`\epsilon` and :math:`\lambda`.
        centered : bool
        clipnorm, clipvalue, global_clipnorm : float, optional
            At most one: the greatest norm of the gradient, the greatest size of an element, or the
            greatest norm of the gradients of all variables together; 0 does not clip. An array here
            is a variable there; with one array, as here, the two norms are the same.
        use_ema, loss_scale_factor, gradient_accumulation_steps
            Must be left at their defaults.
        ema_momentum, ema_overwrite_frequency, name
            Change nothing.

        References
        ----------
        Keras 3.15, ``keras/src/optimizers/rmsprop.py`` and ``base_optimizer.py``,
        https://keras.io/api/optimizers/rmsprop/
        """
        for argument, value, instead in (
            ("use_ema", use_ema, "average x between steps"),
            ("loss_scale_factor", loss_scale_factor, "divide the gradient by it before each step"),
            ("gradient_accumulation_steps", gradient_accumulation_steps, "step with their mean"),
        ):
            if value:
                raise ValueError(f"{argument} is {value!r}, which a step here does not do: {instead} instead")
        if sum(clip is not None for clip in (clipnorm, clipvalue, global_clipnorm)) > 1:
            raise ValueError(
                f"clipnorm is {clipnorm}, clipvalue {clipvalue} and global_clipnorm {global_clipnorm}; "
                "Keras takes one of them"
            )
        return cls(
            learning_rate=_schedule(learning_rate, may_take_nothing=True),
            rho=rho,
            epsilon=epsilon,
            momentum=momentum,
            centered=centered,
            epsilon_inside_sqrt=True,
            learning_rate_in_velocity=True,
            weight_decay=weight_decay or 0.0,
            decoupled_weight_decay=bool(weight_decay),
            clip_value=clipvalue or None,
            clip_norm=clipnorm or global_clipnorm or None,
        )

    @classmethod
    def tensorflow(
        cls,
        learning_rate: Any,
        decay: float = 0.9,
        momentum: float = 0.0,
        epsilon: float = 1e-10,
        use_locking: bool = False,
        centered: bool = False,
        name: str = "RMSProp",
    ) -> Self:
        r"""``tf.compat.v1.train.RMSPropOptimizer``, the ``tf.train.RMSPropOptimizer`` of TensorFlow 1.

        .. math::
            s &\leftarrow \rho s + (1 - \rho) g^2, \qquad a \leftarrow \rho a + (1 - \rho) g \\
            v &\leftarrow \mu v + \eta g / \sqrt{s - a^2 + \epsilon} \\
            x &\leftarrow x - v

        from :math:`s = 1` and :math:`a = v = 0`. Epsilon is inside the root, and the learning rate
        inside the velocity. As the average of the squares starts at one, small gradients take small
        steps until it is forgotten, after some :math:`1 / (1 - \rho)` steps.

        Parameters
        ----------
        learning_rate : float, or callable without arguments or ``step -> float``
            :math:`\eta`.
        decay, momentum, epsilon : float
            :math:`\rho`, :math:`\mu` and :math:`\epsilon`.
        centered : bool
        use_locking, name
            Change nothing.

        References
        ----------
        TensorFlow 2, ``tensorflow/python/training/rmsprop.py`` and, in
        ``tensorflow/core/kernels/training_ops.cc``, ``ApplyRMSProp`` and ``ApplyCenteredRMSProp``,
        https://www.tensorflow.org/api_docs/python/tf/compat/v1/train/RMSPropOptimizer
        """
        return cls(
            learning_rate=_schedule(learning_rate, may_take_nothing=True),
            rho=decay,
            epsilon=epsilon,
            momentum=momentum,
            centered=centered,
            epsilon_inside_sqrt=True,
            initial_square_average=1.0,
            learning_rate_in_velocity=True,
        )

    @classmethod
    def optax(
        cls,
        learning_rate: Any,
        decay: float = 0.9,
        eps: float = 1e-8,
        initial_scale: float = 0.0,
        eps_in_sqrt: bool = True,
        centered: bool = False,
        momentum: float | None = None,
        nesterov: bool = False,
        bias_correction: bool = False,
    ) -> Self:
        r"""``optax.rmsprop``.

        .. math::
            s &\leftarrow \rho s + (1 - \rho) g^2, \qquad a \leftarrow \rho a + (1 - \rho) g \\
            u &= \eta g / \sqrt{c s - (c a)^2 + \epsilon}
                \quad\text{or}\quad \eta g / (\sqrt{c s - (c a)^2} + \epsilon) \\
            v &\leftarrow \mu v + u \\
            x &\leftarrow x - v \quad\text{or}\quad x - (u + \mu v)

        from :math:`s` = `initial_scale` and :math:`a = v = 0`, with :math:`c = 1 / (1 - \rho^t)` at
        step :math:`t` if `bias_correction`, else 1. Epsilon is inside the root unless `eps_in_sqrt`
        is False; the learning rate is inside the velocity; `nesterov` takes the second line of x.
        Of complex parameters optax keeps one average of :math:`|g|^2`: they are refused so far.

        Parameters
        ----------
        learning_rate : float, or callable ``step -> float``
            :math:`\eta`, such as a schedule of optax.
        decay, eps, initial_scale : float
            :math:`\rho`, :math:`\epsilon` and the start of :math:`s`.
        momentum : float, optional
            :math:`\mu`.
        eps_in_sqrt, centered, nesterov, bias_correction : bool

        Notes
        -----
        With both `centered` and `bias_correction`, and `initial_scale` 0, the variance of the first
        step is zero but for rounding; optax may take its root, NaN, and here it is at least 0.

        References
        ----------
        optax 0.2.8, ``optax/_src/alias.py`` and ``transform.py``,
        https://optax.readthedocs.io/en/latest/api/optimizers.html#optax.rmsprop
        """
        return cls(
            learning_rate=_schedule(learning_rate),
            rho=decay,
            epsilon=eps,
            momentum=momentum or 0.0,
            nesterov=nesterov if momentum else False,
            centered=centered,
            epsilon_inside_sqrt=eps_in_sqrt,
            initial_square_average=initial_scale,
            bias_correction=bias_correction,
            learning_rate_in_velocity=True,
            second_moment="modulus",
        )

    @classmethod
    def chainer(
        cls, lr: Any = 0.01, alpha: float = 0.99, eps: float = 1e-8, eps_inside_sqrt: bool = False
    ) -> Self:
        r"""``chainer.optimizers.RMSprop``.

        .. math::
            s &\leftarrow \alpha s + (1 - \alpha) g^2 \\
            x &\leftarrow x - \eta g / (\sqrt{s} + \epsilon)
                \quad\text{or}\quad x - \eta g / \sqrt{s + \epsilon}

        from :math:`s = 0`. Epsilon is outside the root unless `eps_inside_sqrt`. The hook
        ``WeightDecay(rate)`` is this package's ``weight_decay=rate``, coupled, and
        ``GradientClipping(threshold)``, for one array, ``clip_norm=threshold``.

        Parameters
        ----------
        lr : float, or callable ``step -> float``
            :math:`\eta`.
        alpha, eps : float
            :math:`\alpha` and :math:`\epsilon`.
        eps_inside_sqrt : bool

        References
        ----------
        Chainer 7.8.1, ``chainer/optimizers/rmsprop.py``,
        https://docs.chainer.org/en/stable/reference/generated/chainer.optimizers.RMSprop.html
        """
        return cls(learning_rate=lr, rho=alpha, epsilon=eps, epsilon_inside_sqrt=eps_inside_sqrt)


@dataclass(frozen=True)
class _Schedule:
    """Another library's schedule, whose values may be arrays of it."""

    function: Callable[..., Any]
    takes_step: bool

    def __call__(self, step: int) -> Any:
        return self.function(step) if self.takes_step else self.function()


def _schedule(value: Any, may_take_nothing: bool = False) -> Any:
    from gpuprop.schedules import Schedule  # whose module needs this package

    if not callable(value) or isinstance(value, Schedule):
        return value
    return _Schedule(value, not (may_take_nothing and _takes_nothing(value)))


def _takes_nothing(function: Callable[..., Any]) -> bool:
    try:
        inspect.signature(function).bind()
    except (TypeError, ValueError):  # it needs an argument, or does not say
        return False
    return True
