"""Steps that are recorded into a CUDA graph: what they need is made before, and stays."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from operator import itemgetter
from types import SimpleNamespace
from typing import Any

import numpy as np

from gpuprop.backends.together import Taken
from gpuprop.optimizers.state import State
from gpuprop.optimizers.steps import refusals
from gpuprop.rules import Rule


def check_capture(optimizer: Any, state: State) -> None:
    """Refuse what has to look at numbers now.

    Raises
    ------
    RuntimeError
    """
    if optimizer.nonfinite == "raise":
        raise refusals.captured('nonfinite="raise" must wait for what the device finds')
    if state.comm and (optimizer.clip_norm is not None or optimizer._finds_rate):
        raise refusals.captured("the ranks tell each other the norm, or the sums of a found rate")
    looks = optimizer._reads or optimizer._finds_rate or state._tuning is not None
    if state.optimizer is not optimizer and looks:
        raise refusals.captured(
            "the state was last stepped by another optimizer, or comes from a file: the first step looks at "
            "the arrays of this one"
        )


def all_captured(taken: Mapping[str, Taken]) -> bool:
    """Whether several steps are recorded into a graph: all of them, or none.

    Raises
    ------
    RuntimeError
    """
    one_of: dict[Any, Any] = {}
    for backend, _, arrays, _ in taken.values():
        one_of[backend, backend.device_of(arrays[0])] = arrays[0]
    found = [backend.is_capturing(array) for (backend, _), array in one_of.items()]
    if any(found) and not all(found):
        raise refusals.captured("others of the arrays are elsewhere, where they would be stepped now")
    return any(found)


def recorded(optimizer: Any, rule: Rule, arrays: Any, state: State, rows: Any) -> tuple[Any, list[Any]]:
    """The clock and the scalars of a step that is captured.

    Scalars that each step changes are on the device, for as many steps as its table has.
    """
    backend: Any = state.backend
    x = backend.adopt(rule.writes[0], arrays[len(rule.reads)], written=True)
    scale, places, table = state._rate_scale, _changing(optimizer), None
    with backend.aside(x):
        clock = state._clock = backend.clock_on_device(state._clock, x)
        scalars = list(optimizer._scalars_of(_at(clock[1], scale), x))
        if places:
            key, make = (optimizer, scale, x.dtype), partial(_table, optimizer, places, scale, x)
            table = clock.table(key, backend.compute_dtype_of(x), make)
            for place, scalar in zip(places, table.scalars, strict=True):
                scalars[place] = scalar
    with backend.on_device_of(x):
        return clock.recording(table, rows), scalars


def _changing(optimizer: Any) -> tuple[int, ...]:
    """The places of the scalars that each step changes, but for those made of its gradient."""
    of_gradient = {optimizer._scale_of_gradient} if optimizer.clip_norm is not None else set()
    of_gradient |= {"learning_rate"} if optimizer._finds_rate else set()
    at_nan = optimizer._ordered(optimizer._scalars_at(math.nan, 1.0))
    names = enumerate(optimizer.rule.scalars)
    return tuple(i for i, name in names if math.isnan(at_nan[i]) and name not in of_gradient)


def _table(
    optimizer: Any, places: tuple[int, ...], scale: float, x: Any, start: int, steps: int
) -> tuple[list[Any], Exception | None]:
    """Scalars after `start` steps, and so on, as eager steps have them; and what ends them before `steps`."""
    moment, chosen, rows = _at(start, scale), itemgetter(*places, places[0]), []
    for step in range(start, start + steps):
        moment._clock[1] = step
        try:
            rows.append(chosen(optimizer._scalars_of(moment, x))[:-1])
        except Exception as error:  # of a schedule that knows no more steps
            if not rows:
                raise
            return rows, error
    return rows, None


def _at(step: int, scale: float) -> Any:
    """What of a state decides its scalars."""
    return SimpleNamespace(_clock=np.array([step, step]), _rate_scale=scale)
