"""Schedules that change at boundaries."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from gpuprop import arguments as check
from gpuprop.schedules.schedule import Schedule, whole_steps

_Pairs = tuple[tuple[int, float], ...]
_Boundaries = Mapping[int, float] | Iterable[tuple[int, float]] | None


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


def _rising(boundaries: Iterable[Any]) -> tuple[int, ...]:
    steps = tuple(whole_steps("a boundary", boundary) for boundary in boundaries)
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
