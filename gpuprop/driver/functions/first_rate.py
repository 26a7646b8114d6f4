"""Where a learning rate that is found begins: by the gradient a little way along the first step."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from gpuprop.backends.checks import as_real
from gpuprop.driver.bounds import largest_of
from gpuprop.driver.functions.callback import in_place
from gpuprop.driver.functions.objective import Objective
from gpuprop.driver.options import DriverOptions
from gpuprop.driver.points import copied
from gpuprop.driver.ranks import together

#: Elements of which copies in float64 are made at a time.
BLOCK = 2**18
#: Gradients that are spent on it, for each array, after the first one or two; most take none.
MOST = 7
#: The relative distance between neighbouring numbers, by the bytes of one.
_SPACING = {2: 2.0**-8, 4: 2.0**-23, 8: 2.0**-52}


def find_first_rates(
    optimizer: Any, state: Any, x: Any, objective: Objective, options: DriverOptions, stopping: Any
) -> None:
    """Set `found_rate` of each state whose learning rate is ``"auto"``, before the first step.

    Along the first step the slope falls to zero at about Newton's length, which two slopes tell: it has the
    units of x, whatever those of f are, and knows nothing of a constant in f. Where gradients tell none, as
    those of mini-batches, the rate begins as in steps alone, from far below.
    """
    gradient, value, comm = objective.keep(x), objective.value(x), options.comm
    # Differences of f know half of the digits.
    power = 0.5 if objective.evaluations > 1 else 1.0

    def gradient_at(point: Any) -> Any:
        if stopping.limit(0) is not None:
            return None
        if options.project is not None:
            in_place(options.project, point)
        return objective.gradient_elsewhere(point, with_value=options.check_every == 1)

    if type(x) is not dict:
        _find(optimizer, state, x, gradient, gradient_at, value, power, comm)
        return
    for name, array in x.items():
        if gradient[name] is not None:

            def along(trial: Any, name: str = name) -> Any:
                given = gradient_at(copied(x) | {name: trial})
                return given and given[name]

            _find(optimizer.optimizers[name], state[name], array, gradient[name], along, value, power, comm)


def _find(
    optimizer: Any, state: Any, x: Any, gradient: Any, gradient_at: Callable[[Any], Any], value: Any,
    power: float, comm: Any,
) -> None:  # fmt: skip
    if not optimizer._finds_rate or not state._is_untuned:
        return
    backend, xp = state.backend, state.backend.xp
    # Later steps are longer than the first, by what momentum adds to them.
    share = (1 - getattr(optimizer, "momentum", 0.0)) / 2
    real, slope = as_real(backend, x), as_real(backend, gradient)
    spacing = _SPACING[real.dtype.itemsize] ** power

    def bend_at(length: float) -> float:
        """How much of the slope along a first step of this length is gone at its end; NaN where none is."""
        trial, there = x.copy(), optimizer.init(x, backend=backend)
        there.found_rate = length
        optimizer.step(trial, gradient, there)
        del there  # whose memory the function may need
        given = gradient_at(trial)
        if given is None:
            return math.nan
        moved = real - as_real(backend, trial)
        first, last = together(comm, [_dot(xp, one, moved) for one in (slope, as_real(backend, given))])
        return abs(1 - last / first) if first else math.nan

    with backend.on_device_of(x):
        scale = _scale(xp, real, slope, value, comm)
        length = scale * spacing**0.5
        if not length:
            return
        bend = bend_at(length)
        if not bend <= spacing**0.25:
            # So much, so near: it is less still nearer, unless each gradient is of another mini-batch.
            length /= 16
            last, bend = bend, bend_at(length)
            if bend > last / 4:
                return
        for _ in range(MOST):
            if math.isnan(bend):
                return
            if bend > 0.5:
                length *= max(0.25 / bend, 2.0**-20)  # too far
            elif bend < spacing**0.5 / 8:  # too near to tell
                length *= min(spacing**0.375 / bend, 2.0**20) if bend else 2.0**20
                if length > 16 * scale:
                    return
            elif share * length / bend > max(2 * length, scale):
                length *= share / bend  # farther than it has looked
            else:
                state.found_rate = share * length / bend
                return
            if not 0 < length < math.inf:
                return
            bend = bend_at(length)
        state.found_rate = share * length


def _scale(xp: Any, x: Any, gradient: Any, value: Any, comm: Any) -> float:
    """Some length in the units of x: its largest component, or else f by its slope, or 1."""
    (largest,) = together(comm, [], [float(largest_of(xp, x))])
    if 0 < largest < math.inf:
        return largest
    total = float(xp.sum(abs(gradient), dtype="f8"))
    f, total = together(comm, [0.0 if value is None else float(value), total])
    length = abs(f) / total if total else 0.0
    return length if 0 < length < math.inf else 1.0


def _dot(xp: Any, one: Any, other: Any) -> float:
    one, other = one.reshape(-1), other.reshape(-1)
    parts = (slice(first, first + BLOCK) for first in range(0, one.size, BLOCK))
    return sum(float(xp.sum(one[part].astype("f8") * other[part].astype("f8"))) for part in parts)
