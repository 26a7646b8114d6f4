"""PyTorch's RMSprop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gpuprop.optimizers.conventions.convention import Convention

if TYPE_CHECKING:
    from typing import Self


class PyTorch(Convention):
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
