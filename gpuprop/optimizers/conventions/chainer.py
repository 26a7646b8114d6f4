"""Chainer's RMSprop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gpuprop.optimizers.conventions.convention import Convention

if TYPE_CHECKING:
    from typing import Self


class Chainer(Convention):
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
