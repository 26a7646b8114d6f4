"""The RMSprop of Keras 3."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gpuprop.optimizers.conventions.convention import Convention, their_schedule

if TYPE_CHECKING:
    from typing import Self


class Keras(Convention):
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
            learning_rate=their_schedule(learning_rate, may_take_nothing=True),
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
