"""The optimizers that RMSProp is compared with, by the same machinery."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from typing import Any

from gpuprop import arguments as check
from gpuprop import rules
from gpuprop.optimizers.rates import Momentum, Rated


@dataclass(frozen=True, eq=False, repr=False)
class SGD(Momentum):
    r"""Gradient descent, with momentum or without.

    .. math::
        v &\leftarrow \mu v + g \\
        x &\leftarrow x - \eta v, \quad\text{or with nesterov}\quad x - \eta (\mu v + g)

    Parameters
    ----------
    learning_rate : float, callable, array or "auto"
        :math:`\eta`, in units of the parameters per unit of the gradient; a schedule; an array of rates; or
        found, as in `RMSProp`. Then ``state.found_rate`` is in the units of the parameters: each step divides
        it by the root of a moving average (of decay 0.97) of the mean squared gradient.
    momentum : float
        :math:`\mu`, in [0, 1); at 0 there is no velocity.
    nesterov : bool
        Look ahead by the velocity.
    learning_rate_in_velocity : bool
        :math:`v \leftarrow \mu v + \eta g`, and :math:`x \leftarrow x - v`.
    weight_decay, decoupled_weight_decay, maximize, clip_value, clip_norm, bounds, modulus_bounds
        As for `RMSProp`.
    projected_gradient, parameter_average, nonfinite
        As for `RMSProp`.

    Raises
    ------
    ValueError, TypeError
        A hyperparameter is out of its range, or not of its kind.

    References
    ----------
    .. [1] B. T. Polyak, "Some methods of speeding up the convergence of iteration methods", USSR Comput.
       Math. Math. Phys. 4(5), 1964.
    .. [2] I. Sutskever, J. Martens, G. Dahl and G. Hinton, "On the importance of initialization and
       momentum in deep learning", ICML 2013: Nesterov's, in terms of the velocity.
    """

    _per_gradient = True

    @property
    def _core(self) -> rules.Rule:
        return rules.sgd(bool(self.momentum), self._rates, self._finds_rate)

    def _scalars_at(self, step: float, rate_scale: float) -> dict[str, float]:
        rate = self._rate_at(step, rate_scale)
        return self._common_scalars(rate) | self._of_rate(rate)


@dataclass(frozen=True, eq=False, repr=False)
class AdaGrad(Rated):
    r"""AdaGrad: each parameter's step is divided by the root of the sum of its squared gradients.

    .. math::
        s &\leftarrow s + g^2 \\
        x &\leftarrow x - \eta \, g / (\sqrt{s} + \epsilon)

    Parameters
    ----------
    learning_rate : float, callable, array or "auto"
        :math:`\eta`, in the units of the parameters; a schedule; an array of rates; or found, as in
        `RMSProp`.
    epsilon : float
        :math:`\epsilon`, in the units of the gradient.
    initial_square_sum : float
        Where :math:`s` starts.
    epsilon_inside_sqrt : bool
        :math:`\sqrt{s + \epsilon}`.
    second_moment, weight_decay, decoupled_weight_decay, maximize, clip_value, clip_norm, bounds
        As for `RMSProp`.
    modulus_bounds, projected_gradient, parameter_average, nonfinite
        As for `RMSProp`.

    Raises
    ------
    ValueError, TypeError
        A hyperparameter is out of its range, or not of its kind.

    References
    ----------
    .. [1] J. Duchi, E. Hazan and Y. Singer, "Adaptive subgradient methods for online learning and
       stochastic optimization", JMLR 12, 2011.
    """

    learning_rate: Any = 0.1
    epsilon: float = 1e-10
    _: KW_ONLY
    initial_square_sum: float = 0.0
    epsilon_inside_sqrt: bool = False
    second_moment: str = "parts"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("epsilon", "initial_square_sum"):
            self._set(name, check.number(name, getattr(self, name)))
        self._set("epsilon_inside_sqrt", check.flag("epsilon_inside_sqrt", self.epsilon_inside_sqrt))

    @property
    def _core(self) -> rules.Rule:
        return rules.adagrad(self.second_moment == "modulus", self._rates, self._finds_rate)

    def _starts(self) -> dict[str, float]:
        return {"square_sum": self.initial_square_sum}

    def _scalars_at(self, step: float, rate_scale: float) -> dict[str, float]:
        rate = self._rate_at(step, rate_scale)
        inside = self.epsilon_inside_sqrt
        return {
            **self._common_scalars(rate),
            "step_size": rate,
            "epsilon_inside": self.epsilon if inside else 0.0,
            "epsilon": 0.0 if inside else self.epsilon,
        }


@dataclass(frozen=True, eq=False, repr=False)
class Adam(Rated):
    r"""Adam: RMSProp of a mean gradient, with both means corrected for their start at zero.

    .. math::
        m &\leftarrow \beta_1 m + (1 - \beta_1) g, \quad
        v \leftarrow \beta_2 v + (1 - \beta_2) g^2 \\
        x &\leftarrow x - \eta \, \frac{m / (1 - \beta_1^t)}{\sqrt{v / (1 - \beta_2^t)} + \epsilon}

    in the t-th update. The state calls :math:`m` and :math:`v` ``gradient_average`` and
    ``square_average``.

    Parameters
    ----------
    learning_rate : float, callable, array or "auto"
        :math:`\eta`, in the units of the parameters; a schedule; an array of rates; or found, as in
        `RMSProp`.
    beta1, beta2 : float
        Decays of the means, in [0, 1).
    epsilon : float
        :math:`\epsilon`, in the units of the gradient.
    second_moment, weight_decay, decoupled_weight_decay, maximize, clip_value, clip_norm, bounds
        As for `RMSProp`.
    modulus_bounds, projected_gradient, parameter_average, nonfinite
        As for `RMSProp`.

    Raises
    ------
    ValueError, TypeError
        A hyperparameter is out of its range, or not of its kind.

    References
    ----------
    .. [1] D. P. Kingma and J. Ba, "Adam: a method for stochastic optimization", ICLR 2015, algorithm 1.
    """

    learning_rate: Any = 0.001
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    _: KW_ONLY
    second_moment: str = "parts"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("beta1", "beta2"):
            self._set(name, check.number(name, getattr(self, name), below=1))
        self._set("epsilon", check.number("epsilon", self.epsilon))

    @property
    def _averaged(self) -> tuple[str, str] | None:
        return ("gradient_average", "beta1") if self.beta1 else None

    @property
    def _core(self) -> rules.Rule:
        return rules.adam(self.second_moment == "modulus", self._rates, self._finds_rate)

    def _scalars_at(self, step: float, rate_scale: float) -> dict[str, float]:
        rate = self._rate_at(step, rate_scale)
        return {
            **self._common_scalars(rate),
            **self._corrections(step, rate),
            "beta1": self.beta1,
            "one_minus_beta1": 1 - self.beta1,
            "beta2": self.beta2,
            "one_minus_beta2": 1 - self.beta2,
            "epsilon": self.epsilon,
        }

    def _of_rate(self, rate: float) -> dict[str, float]:
        return {}  # it is among the corrections

    @cached_property
    def _is_scheduled(self) -> bool:
        return super()._is_scheduled and self._shrinks

    def _corrections(self, step: float, rate: float | None = None) -> dict[str, float]:
        if rate is None:
            rate = self._rate_at(step, 1.0)
        return {
            "step_size": rate / (1 - self.beta1 ** (step + 1)),
            "correction": 1 / (1 - self.beta2 ** (step + 1)),
        }


@dataclass(frozen=True, eq=False, repr=False)
class AdamW(Adam):
    r"""Adam with decoupled weight decay: `Adam` with other defaults.

    Parameters
    ----------
    learning_rate, beta1, beta2, epsilon
        As for `Adam`.
    weight_decay : float
        :math:`\lambda`; in each step x is multiplied by :math:`1 - \eta \lambda`.
    decoupled_weight_decay : bool
        If False, :math:`\lambda x` is added to the gradient, as in `Adam`.
    second_moment, maximize, clip_value, clip_norm, bounds, modulus_bounds, projected_gradient
        As for `RMSProp`.
    parameter_average, nonfinite
        As for `RMSProp`.

    Raises
    ------
    ValueError, TypeError
        A hyperparameter is out of its range, or not of its kind.

    References
    ----------
    .. [1] I. Loshchilov and F. Hutter, "Decoupled weight decay regularization", ICLR 2019, algorithm 2.
    """

    _: KW_ONLY
    weight_decay: float = 0.01
    decoupled_weight_decay: bool = True
