"""optax's rmsprop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gpuprop.optimizers.conventions.convention import Convention, their_schedule

if TYPE_CHECKING:
    from typing import Self


class Optax(Convention):
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
        Of complex parameters there is one real average of :math:`|g|^2` for both parts:
        ``second_moment="modulus"``.

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
            learning_rate=their_schedule(learning_rate),
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
