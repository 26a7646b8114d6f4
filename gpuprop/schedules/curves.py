"""Lines, powers and cosines."""

from __future__ import annotations

import math
from dataclasses import dataclass

from gpuprop import arguments as check
from gpuprop.schedules.schedule import Schedule


@dataclass(frozen=True)
class constant_schedule(Schedule):
    """The same rate at every step.

    Parameters
    ----------
    value : float
    """

    value: float

    def __post_init__(self) -> None:
        self._check(rates="value")

    def _at(self, step: int) -> float:
        return self.value


@dataclass(frozen=True)
class linear_schedule(Schedule):
    r"""A straight line from one rate to another, flat before and after.

    .. math:: \eta_t = I + (E - I) \min(\max(t - B, 0), T) / T

    Parameters
    ----------
    init_value, end_value : float
        :math:`I` and :math:`E`.
    transition_steps : int
        :math:`T \ge 1`, the length of the line.
    transition_begin : int
        :math:`B`, the steps before it.
    """

    init_value: float
    end_value: float
    transition_steps: int
    transition_begin: int = 0

    def __post_init__(self) -> None:
        self._check(rates="init_value end_value", lengths="transition_steps", steps="transition_begin")

    def _at(self, step: int) -> float:
        elapsed = min(max(step - self.transition_begin, 0), self.transition_steps)
        return _between(self.init_value, self.end_value, elapsed / self.transition_steps)


@dataclass(frozen=True)
class exponential_decay(Schedule):
    r"""A rate that shrinks, or grows, by a factor every so many steps.

    .. math:: \eta_t = I \, r^{\max(t - B, 0) / T}

    Parameters
    ----------
    init_value : float
        :math:`I`.
    transition_steps : int
        :math:`T \ge 1`, the steps in which the rate changes by the factor :math:`r`.
    decay_rate : float
        :math:`r > 0`.
    transition_begin : int
        :math:`B`, the steps before the first change.
    staircase : bool
        Round the exponent down: the rate changes at every :math:`T`-th step only.
    end_value : float, optional
        The least rate, or for :math:`r \ge 1` the greatest.
    """

    init_value: float
    transition_steps: int
    decay_rate: float
    transition_begin: int = 0
    staircase: bool = False
    end_value: float | None = None

    def __post_init__(self) -> None:
        bounded = " end_value" if self.end_value is not None else ""
        self._check(rates="init_value" + bounded, positive="decay_rate")
        self._check(lengths="transition_steps", steps="transition_begin")
        self._set("staircase", check.flag("staircase", self.staircase))

    def _at(self, step: int) -> float:
        turns = max(step - self.transition_begin, 0) / self.transition_steps
        try:
            value = self.init_value * self.decay_rate ** (math.floor(turns) if self.staircase else turns)
        except OverflowError:
            value = math.inf if self.init_value else 0.0
        if self.end_value is None:
            return value
        return max(value, self.end_value) if self.decay_rate < 1 else min(value, self.end_value)


@dataclass(frozen=True)
class cosine_decay_schedule(Schedule):
    r"""Half a cosine, from a rate down to a share of it, and flat from there.

    .. math:: \eta_t = I \left[(1 - \alpha) c_t^p + \alpha\right],\quad
              c_t = \tfrac12 \left[1 + \cos(\pi \min(t, T) / T)\right]

    Parameters
    ----------
    init_value : float
        :math:`I`.
    decay_steps : int
        :math:`T \ge 1`.
    alpha : float
        :math:`\alpha`, the share that is left at the end.
    exponent : float
        :math:`p > 0`.

    References
    ----------
    .. [1] I. Loshchilov and F. Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", ICLR 2017,
       equation 5.
    """

    init_value: float
    decay_steps: int
    alpha: float = 0.0
    exponent: float = 1.0

    def __post_init__(self) -> None:
        self._check(rates="init_value alpha", lengths="decay_steps", positive="exponent")

    def _at(self, step: int) -> float:
        share = _half_cosine(step / self.decay_steps) ** self.exponent
        return _between(self.alpha * self.init_value, self.init_value, share)


@dataclass(frozen=True)
class warmup_constant_schedule(Schedule):
    """A straight line up to a rate that is then kept.

    Parameters
    ----------
    init_value, peak_value : float
        The rates at step 0 and from step `warmup_steps` on.
    warmup_steps : int
        At least 1.
    """

    init_value: float
    peak_value: float
    warmup_steps: int

    def __post_init__(self) -> None:
        self._check(rates="init_value peak_value", lengths="warmup_steps")

    def _at(self, step: int) -> float:
        return _between(self.init_value, self.peak_value, min(step / self.warmup_steps, 1))


@dataclass(frozen=True)
class warmup_cosine_decay_schedule(Schedule):
    """A straight line up to the peak, then half a cosine down, and flat from there.

    Parameters
    ----------
    init_value, peak_value : float
        The rates at step 0 and at step `warmup_steps`; the peak is above 0.
    warmup_steps : int
        The steps of the straight line; may be 0.
    decay_steps : int
        The steps of line and cosine together, more than `warmup_steps`.
    end_value : float
        The rate from step `decay_steps` on.
    exponent : float
        Power of the cosine, as in `cosine_decay_schedule`.
    """

    init_value: float
    peak_value: float
    warmup_steps: int
    decay_steps: int
    end_value: float = 0.0
    exponent: float = 1.0

    def __post_init__(self) -> None:
        self._check(rates="init_value end_value", positive="peak_value exponent")
        self._check(steps="warmup_steps", lengths="decay_steps")
        if self.decay_steps <= self.warmup_steps:
            raise ValueError(
                f"decay_steps is {self.decay_steps} and counts the {self.warmup_steps} warmup_steps too; "
                "it must be greater than they are"
            )

    def _at(self, step: int) -> float:
        if step < self.warmup_steps:
            return _between(self.init_value, self.peak_value, step / self.warmup_steps)
        elapsed = (step - self.warmup_steps) / (self.decay_steps - self.warmup_steps)
        return _between(self.end_value, self.peak_value, _half_cosine(elapsed) ** self.exponent)


def _between(start: float, end: float, share: float) -> float:
    """The point at `share` of the way, exact at both ends."""
    return start * (1 - share) + end * share


def _half_cosine(share: float) -> float:
    """From 1 at 0 down to 0 at 1, where it stays."""
    return (1 + math.cos(math.pi * min(share, 1))) / 2
