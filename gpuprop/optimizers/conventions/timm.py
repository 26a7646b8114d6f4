"""timm's RMSpropTF."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gpuprop.optimizers.conventions.convention import Convention

if TYPE_CHECKING:
    from typing import Self


class Timm(Convention):
    @classmethod
    def timm(
        cls,
        lr: Any = 1e-2,
        alpha: float = 0.9,
        eps: float = 1e-10,
        weight_decay: float = 0,
        momentum: float = 0.0,
        centered: bool = False,
        decoupled_decay: bool = False,
        lr_in_momentum: bool = True,
        caution: bool = False,
    ) -> Self:
        r"""``timm.optim.RMSpropTF``, its arguments after ``params``.

        .. math::
            g &\leftarrow g + \lambda x \quad\text{or}\quad x \leftarrow (1 - \eta\lambda) x \\
            s &\leftarrow \alpha s + (1 - \alpha) g^2, \qquad a \leftarrow \alpha a + (1 - \alpha) g \\
            v &\leftarrow \mu v + \eta g / \sqrt{s - a^2 + \epsilon} \\
            x &\leftarrow x - v

        from :math:`s = 1` and :math:`a = v = 0`, as in TensorFlow 1, but with a learning rate, a decay and an
        epsilon of its own. Epsilon is inside the root, and the learning rate inside the velocity unless
        `lr_in_momentum` is False. Weight decay is coupled, or with `decoupled_decay` that of AdamW.

        Parameters
        ----------
        lr : float, one-element tensor, or callable ``step -> float``
            :math:`\eta`.
        alpha, eps, weight_decay, momentum : float
            :math:`\alpha`, :math:`\epsilon`, :math:`\lambda` and :math:`\mu`.
        centered, decoupled_decay, lr_in_momentum : bool
        caution : bool
            Must be False.

        Returns
        -------
        RMSProp
            With these hyperparameters.

        References
        ----------
        pytorch-image-models, ``timm/optim/rmsprop_tf.py``,
        https://github.com/huggingface/pytorch-image-models/blob/main/timm/optim/rmsprop_tf.py
        """
        if caution:
            raise ValueError(
                f"caution is {caution!r}, which takes a mean over all elements; a step here takes none, so "
                "it must be False"
            )
        return cls(
            learning_rate=lr,
            rho=alpha,
            epsilon=eps,
            momentum=momentum,
            centered=centered,
            epsilon_inside_sqrt=True,
            initial_square_average=1.0,
            learning_rate_in_velocity=lr_in_momentum,
            weight_decay=weight_decay,
            decoupled_weight_decay=decoupled_decay,
        )
