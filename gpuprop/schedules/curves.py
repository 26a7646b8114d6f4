r"""Learning rates that change with the step, under the names, arguments and values of optax.

A schedule is called with the number :math:`t = 0, 1, \dots` of steps taken and gives the learning
rate of the next one, in the units of the parameters; called with an array of such numbers it gives
the array of their rates. It is a plain value, computed on the host in float64: it can be compared,
hashed, pickled, printed, and written into a file by ``State.save``.

Where optax is given an argument that makes no sense (no transition steps, a decay rate of 0, a
negative beginning) and carries on with a constant, a schedule here raises ValueError.

References
----------
DeepMind, optax 0.2.8, ``optax.schedules``, https://optax.readthedocs.io/en/latest/api/optimizer_schedules.html

Examples
--------
>>> from gpuprop import schedules
>>> rate = schedules.warmup_cosine_decay_schedule(0.0, 0.1, warmup_steps=100, decay_steps=1100)
>>> [round(rate(step), 4) for step in (0, 50, 100, 600, 1100, 2000)]
[0.0, 0.05, 0.1, 0.05, 0.0, 0.0]
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, cast, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gpuprop import arguments as check

__all__ = [
    "Schedule",
    "constant_schedule",
    "cosine_decay_schedule",
    "exponential_decay",
    "join_schedules",
    "linear_schedule",
    "piecewise_constant_schedule",
    "warmup_constant_schedule",
    "warmup_cosine_decay_schedule",
]

_Pairs = tuple[tuple[int, float], ...]
_Boundaries = Mapping[int, float] | Iterable[tuple[int, float]] | None


class Schedule:
    """A learning rate as a function of the number of steps taken."""

    @overload
    def __call__(self, step: float) -> float: ...
    @overload
    def __call__(self, step: ArrayLike) -> NDArray[np.float64]: ...
    def __call__(self, step: Any) -> Any:
        """The learning rate of the step that follows `step` others, or an array of them for an array."""
        if type(step) is int or type(step) is float:
            return self._at(step)
        steps = np.asarray(step)
        if steps.dtype.kind not in "iuf":
            raise TypeError(f"step is {step!r}; it must be a number of steps taken, or an array of such")
        # One by one: NumPy's own functions may differ from Python's in the last bit.
        rates = [self._at(each) for each in steps.ravel().tolist()]
        return np.array(rates, dtype=np.float64).reshape(steps.shape)[()]

    def _at(self, step: Any) -> float:
        raise NotImplementedError

    def _check(self, **kinds: str) -> None:
        """Make the arguments named under each kind plain floats and ints of it, or refuse them."""
        for kind, names in kinds.items():
            for name in names.split():
                self._set(name, _KINDS[kind](name, getattr(self, name)))

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)


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
    I. Loshchilov and F. Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", ICLR 2017,
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


@dataclass(frozen=True)
class piecewise_constant_schedule(Schedule):
    """A rate that is multiplied by a factor at each of some steps.

    Parameters
    ----------
    init_value : float
        The rate before the first boundary.
    boundaries_and_scales : dict of int to float, or pairs of them, optional
        From step `boundary` on, the rate is `scale` times what it was; factors accumulate. Kept
        as pairs in the order of the boundaries.
    """

    init_value: float
    boundaries_and_scales: _Boundaries = None

    def __post_init__(self) -> None:
        self._check(rates="init_value")
        self._set("boundaries_and_scales", _pairs(self.boundaries_and_scales))

    def _at(self, step: int) -> float:
        return self.init_value * math.prod(
            scale for boundary, scale in cast(_Pairs, self.boundaries_and_scales) if boundary <= step
        )


@dataclass(frozen=True)
class join_schedules(Schedule):
    """Schedules one after another, each counting its steps from 0.

    Parameters
    ----------
    schedules : sequence of callable ``step -> float``
    boundaries : sequence of int
        The steps, rising, at which the second schedule begins, the third, and so on.

    Examples
    --------
    A warm-up, then a staircase:

    >>> from gpuprop.schedules import exponential_decay, join_schedules, linear_schedule
    >>> warm_up = linear_schedule(0.0, 0.256, transition_steps=5)
    >>> rate = join_schedules([warm_up, exponential_decay(0.256, 2, 0.97, staircase=True)], [5])
    >>> [round(rate(step), 4) for step in (0, 4, 5, 6, 7)]
    [0.0, 0.2048, 0.256, 0.256, 0.2483]
    """

    schedules: tuple[Callable[[int], float], ...]
    boundaries: tuple[int, ...]

    def __post_init__(self) -> None:
        self._set("schedules", tuple(self.schedules))
        self._set("boundaries", _rising(self.boundaries))
        for schedule in self.schedules:
            if not callable(schedule):
                raise TypeError(f"schedules holds {schedule!r}; each must be a callable, step -> float")
        if len(self.schedules) != len(self.boundaries) + 1:
            raise ValueError(
                f"schedules are {len(self.schedules)} and boundaries {len(self.boundaries)}; "
                "there must be one boundary between each two schedules"
            )

    def _at(self, step: int) -> float:
        passed = bisect_right(self.boundaries, step)
        begin = self.boundaries[passed - 1] if passed else 0
        return check.real("a rate", self.schedules[passed](step - begin))


def _between(start: float, end: float, share: float) -> float:
    """The point at `share` of the way, exact at both ends."""
    return start * (1 - share) + end * share


def _half_cosine(share: float) -> float:
    """From 1 at 0 down to 0 at 1, where it stays."""
    return (1 + math.cos(math.pi * min(share, 1))) / 2


def _steps(name: str, value: Any, least: int = 0) -> int:
    """`value` as an int; 1e4 is welcome."""
    number = check.real(name, value)
    if not number >= least or not number.is_integer():
        raise ValueError(f"{name} is {value!r}; it must be a whole number, at least {least}")
    return int(number)


_KINDS: dict[str, Callable[[str, Any], float]] = {
    "rates": check.number,
    "positive": partial(check.number, positive=True),
    "steps": _steps,
    "lengths": partial(_steps, least=1),
}


def _rising(boundaries: Iterable[Any]) -> tuple[int, ...]:
    steps = tuple(_steps("a boundary", boundary) for boundary in boundaries)
    if list(steps) != sorted(set(steps)):
        raise ValueError(f"boundaries are {steps}; each must be greater than the one before")
    return steps


def _pairs(given: _Boundaries) -> _Pairs:
    """The boundaries, rising, each with its scale."""
    try:
        items = given.items() if isinstance(given, Mapping) else given or ()
        pairs = sorted((boundary, scale) for boundary, scale in items)
    except (TypeError, ValueError):
        raise TypeError(
            f"boundaries_and_scales is {given!r}; it must be a dict of step to factor, or pairs of them"
        ) from None
    scales = [check.number("a scale", scale) for _, scale in pairs]
    return tuple(zip(_rising(boundary for boundary, _ in pairs), scales, strict=True))
