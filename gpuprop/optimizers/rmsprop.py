"""RMSProp, with every convention in use as numbers and flags."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any

from gpuprop import arguments as check
from gpuprop import rules
from gpuprop.optimizers.conventions import Conventions
from gpuprop.optimizers.rates import Momentum


@dataclass(frozen=True, eq=False, repr=False)
class RMSProp(Conventions, Momentum):
    r"""RMSProp: each parameter's step is divided by the root of its mean squared gradient.

    .. math::
        s &\leftarrow \rho s + (1 - \rho) g^2 \\
        x &\leftarrow x - \eta \, g / (\sqrt{s} + \epsilon)

    with :math:`s = 0` at the start. What other libraries call RMSProp has options here, and a
    constructor each, which takes that library's own arguments: `RMSProp.pytorch`, `RMSProp.keras`,
    `RMSProp.tensorflow`, `RMSProp.optax`, `RMSProp.chainer`, `RMSProp.timm`.

    Parameters
    ----------
    learning_rate : float, callable, array or "auto"
        :math:`\eta \ge 0`, in the units of the parameters; or a schedule, ``step -> float``, which
        is asked with 0 for the first update (`gpuprop.schedules` has the usual ones); or an array of
        rates, one for each parameter: real, of the shape of x and the dtype of its parts, read in the same
        pass. Or it is found, from gradients alone: see the notes. ``state.rate_scale`` multiplies each.
    rho : float
        Decay :math:`\rho` of the moving averages, in [0, 1).
    epsilon : float
        :math:`\epsilon \ge 0`, in the units of the gradient; outside the root.
    momentum : float
        :math:`\mu`, in [0, 1). Above 0 there is a velocity, :math:`v = 0` at the start:
        :math:`v \leftarrow \mu v + g / (\sqrt{s} + \epsilon)`, and :math:`x \leftarrow x - \eta v`.
    nesterov : bool
        Look ahead: :math:`x \leftarrow x - \eta (\mu v + g / (\sqrt{s} + \epsilon))`.
    centered : bool
        Divide by the root of the variance instead (Graves, 2013): :math:`s - a^2` for :math:`s`,
        with :math:`a \leftarrow \rho a + (1 - \rho) g`. Where rounding makes it negative it is 0.
    epsilon_inside_sqrt : bool
        :math:`\sqrt{s + \epsilon}`, with :math:`\epsilon` in the units of the squared gradient.
    initial_square_average : float
        Where :math:`s` starts, in the units of the squared gradient.
    bias_correction : bool
        Divide :math:`s` and :math:`a` by :math:`1 - \rho^t` in the t-th update, as Adam does.
    second_moment : {"parts", "modulus"}
        Of complex parameters: the real and the imaginary part each with an average of its own square, as in
        PyTorch; or both with one of :math:`|g|^2`, as in optax, which is a real array. (With `centered`,
        :math:`|a|^2` is subtracted.) Of real parameters they are the same.
    learning_rate_in_velocity : bool
        :math:`v \leftarrow \mu v + \eta g / (\sqrt{s} + \epsilon)`, and
        :math:`x \leftarrow x - v`: another path where the learning rate changes.
    weight_decay : float or array
        :math:`\lambda \ge 0`: :math:`\lambda x` is added to the gradient. An array is as one of rates.
    decoupled_weight_decay : bool
        Instead, :math:`x` is multiplied by :math:`1 - \eta \lambda` in each step (Loshchilov and
        Hutter, 2019).
    maximize : bool
        Ascend: the gradient is taken with the opposite sign, before all that follows.
    clip_value : float, optional
        Each component of the gradient is limited to [-clip_value, clip_value].
    clip_norm : float, optional
        The gradient is scaled to at most this Euclidean norm over all of its elements (Pascanu,
        Mikolov and Bengio, 2013), before `clip_value` and `weight_decay`. It takes one more pass
        over the gradient (1.2 to 1.5 times a plain step's time for 2e7 parameters on a CPU), and on a
        GPU no wait for the device, where a norm above 1e154 counts as infinite.
    bounds : (lower, upper), optional
        Each a number, None for none, or an array like x: x is projected onto them at the end of each step. Of
        complex parameters, the real and the imaginary part each by itself. The result is rounded to
        the dtype of x: to within that, it is inside.
    modulus_bounds : (lower, upper), optional
        Of :math:`|x|`, each a number of at least 0, None for none, or a real array of the shape of x: x is
        scaled onto them at the end of each step, and where it is 0, or its square is, becomes real. Not
        together with `bounds`.
    projected_gradient : bool
        Where x is at one of its `bounds`, the gradient's component that points outwards counts as 0 before
        the averages and the velocity see it: they do not grow there, and x leaves as soon as the gradient
        turns.
    parameter_average : float, optional
        :math:`\beta` in [0, 1): ``state.parameter_average`` starts as a copy of x, and is
        :math:`\beta a + (1 - \beta) x` of the new x after each step, in the same pass (Polyak and Juditsky,
        1992, with weights that fall).
    nonfinite : {"propagate", "skip", "raise"}
        What becomes of an element whose gradient is infinite or NaN, or which would make x or its state
        so: an average of squares overflows long before a gradient does, and x would never move again.
        ``"skip"`` leaves that element of x and of the state as it was, and counts it in
        ``state.skipped``, in the same pass. ``"raise"`` looks before anything is written: one more pass
        that computes all and writes nothing (together 1.7 to 2.1 times a plain step's time for 2e7
        parameters on a CPU), and on a GPU it waits for the device. Real and imaginary parts are
        elements each, unless an option takes them together (modulus, and arrays of rates or decays).

    Raises
    ------
    ValueError
        A hyperparameter is out of its range; the message names it and its value.
    TypeError
        A hyperparameter is not of its kind.

    Notes
    -----
    With ``learning_rate="auto"``, each step begins with one pass that reads the gradient :math:`g` and where
    the last step went, :math:`v`, and takes their agreement,
    :math:`h = \sum g v / \sum |g v|`, in [-1, 1]:

    .. math::
        \eta \leftarrow \eta \, (1 + h / 10) \text{ or, for } h < 0, \quad
        \eta \leftarrow \eta / (1 + |h| / 10), \quad \mu \leftarrow \mu \, (1 - |h| / 4)

    the latter for this step alone [6]_ [7]_. From the start on, as long as :math:`h > 1/2`, the rate is
    multiplied by 8: it begins at :math:`2^{-20}` of the largest parameter (in `minimize`, which looks for
    its scale, by 1.2). It is ``state.found_rate``, which may be set. With a momentum, :math:`v` is the
    velocity; without one, or with bounds, it is one array more, the ``displacement``. Momentum is what makes
    it fast: 0.9 serves. (Without one, the rate is divided by :math:`1 + |h| / 10 + 5 (|h| - 0.8)` where
    :math:`h < -0.8`.) A `weight_decay` is refused: add it to the gradient. No step waits for a GPU.

    In the formulas of the constructors :math:`s`, :math:`a` and :math:`v` are the ``square_average``,
    ``gradient_average`` and ``velocity`` of the state; without `centered`, :math:`a = 0` throughout, and
    without `momentum`, :math:`\mu = 0`. What only gpuprop has is added afterwards:
    ``dataclasses.replace(RMSProp.pytorch(lr=0.001), bounds=(0, 1))``.

    References
    ----------
    .. [1] T. Tieleman and G. Hinton, "Lecture 6.5 - rmsprop", COURSERA: Neural Networks for Machine
       Learning, 2012.
    .. [2] A. Graves, "Generating sequences with recurrent neural networks", arXiv:1308.0850, 2013, eq. 38
       to 45: centered, with momentum and the learning rate in the velocity.
    .. [3] R. Pascanu, T. Mikolov and Y. Bengio, "On the difficulty of training recurrent neural networks",
       ICML 2013, algorithm 1: clip_norm.
    .. [4] I. Loshchilov and F. Hutter, "Decoupled weight decay regularization", ICLR 2019.
    .. [5] B. T. Polyak and A. B. Juditsky, "Acceleration of stochastic approximation by averaging", SIAM
       J. Control Optim. 30(4), 1992: averages of the parameters.

    .. [6] L. B. Almeida, T. Langlois, J. D. Amaral and A. Plakhov, "Parameter adaptation in stochastic
       optimization", in On-line Learning in Neural Networks, Cambridge, 1998; A. G. Baydin, R. Cornish,
       D. Martínez Rubio, M. Schmidt and F. Wood, "Online learning rate adaptation with hypergradient
       descent", ICLR 2018: a rate that follows the product of the last gradients.
    .. [7] B. O'Donoghue and E. Candès, "Adaptive restart for accelerated gradient schemes", Found. Comput.
       Math. 15, 2015: momentum that ends where it points uphill.

    Examples
    --------
    >>> import numpy as np, gpuprop
    >>> x = np.array([5.0, 4.0])
    >>> optimizer = gpuprop.RMSProp(learning_rate=0.1)
    >>> state = optimizer.init(x)
    >>> optimizer.step(x, 2 * x, state)
    >>> x
    array([4.68377233, 3.68377236])
    """

    learning_rate: Any = 0.1
    rho: float = 0.9
    epsilon: float = 1e-6
    _: KW_ONLY
    centered: bool = False
    epsilon_inside_sqrt: bool = False
    initial_square_average: float = 0.0
    bias_correction: bool = False
    second_moment: str = "parts"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._set("rho", check.number("rho", self.rho, below=1))
        for name in ("epsilon", "initial_square_average"):
            self._set(name, check.number(name, getattr(self, name)))
        for name in ("centered", "epsilon_inside_sqrt", "bias_correction"):
            self._set(name, check.flag(name, getattr(self, name)))

    @property
    def _core(self) -> rules.Rule:
        modulus = self.second_moment == "modulus"
        return rules.rmsprop(bool(self.momentum), self.centered, modulus, self._rates, self._finds_rate)

    def _starts(self) -> dict[str, float]:
        return {"square_average": self.initial_square_average}

    def _corrections(self, step: float) -> dict[str, float]:
        return {"correction": 1 / (1 - self.rho ** (step + 1))} if self.bias_correction else {}

    def _scalars_at(self, step: float, rate_scale: float) -> dict[str, float]:
        rate = self._rate_at(step, rate_scale)
        inside = self.epsilon_inside_sqrt
        return {
            **self._common_scalars(rate),
            **self._of_rate(rate),
            "rho": self.rho,
            "one_minus_rho": 1 - self.rho,
            "correction": 1.0,
            **self._corrections(step),
            "epsilon_inside": self.epsilon if inside else 0.0,
            "epsilon": 0.0 if inside else self.epsilon,
        }
