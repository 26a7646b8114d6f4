"""The RMSProp of TensorFlow 1."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gpuprop.optimizers.conventions.convention import Convention, their_schedule

if TYPE_CHECKING:
    from typing import Self


class TensorFlow(Convention):
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
            learning_rate=their_schedule(learning_rate, may_take_nothing=True),
            rho=decay,
            epsilon=epsilon,
            momentum=momentum,
            centered=centered,
            epsilon_inside_sqrt=True,
            initial_square_average=1.0,
            learning_rate_in_velocity=True,
        )
