"""Where a learning rate that is found begins: by the gradient a little way along the first step."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from gpuprop.backends.checks import as_real
from gpuprop.driver.functions.objective import Objective

#: Gradients that are spent on it, for each array; most take one.
MOST = 8
#: The relative distance between neighbouring numbers, by the bytes of one.
_SPACING = {2: 2.0**-8, 4: 2.0**-23, 8: 2.0**-52}


def find_first_rates(optimizer: Any, state: Any, x: Any, objective: Objective) -> None:
    """Set `found_rate` of each state whose learning rate is ``"auto"``, before the first step.

    Along the first step the slope falls to zero at about Newton's length, which two slopes tell: it has the
    units of x, whatever those of f are, and knows nothing of a constant in f.
    """
    gradient, value = objective.keep(x), objective.value(x)
    if type(x) is not dict:
        _find(optimizer, state, x, gradient, objective.gradient_elsewhere, value)
        return
    for name, array in x.items():
        if gradient[name] is not None:

            def along(trial: Any, name: str = name) -> Any:
                return objective.gradient_elsewhere(x | {name: trial})[name]

            _find(optimizer.optimizers[name], state[name], array, gradient[name], along, value)


def _find(
    optimizer: Any, state: Any, x: Any, gradient: Any, gradient_at: Callable[[Any], Any], value: Any
) -> None:
    if not optimizer._finds_rate:
        return
    backend, xp = state.backend, state.backend.xp
    # Later steps are longer than the first, by what momentum adds to them.
    share = (1 - getattr(optimizer, "momentum", 0.0)) / 2
    real = as_real(backend, x)
    spacing = _SPACING[real.dtype.itemsize]
    with backend.on_device_of(x):
        length = _scale(xp, real, as_real(backend, gradient), value) * spacing**0.5
        for _ in range(MOST):
            if not 0 < length < math.inf:
                return
            trial, there = x.copy(), optimizer.init(x, backend=backend)
            there.found_rate = length
            optimizer.step(trial, gradient, there)
            moved = real - as_real(backend, trial)
            slope = _dot(xp, as_real(backend, gradient), moved)
            if not slope:
                return
            bend = abs(1 - _dot(xp, as_real(backend, gradient_at(trial)), moved) / slope)
            if spacing**0.5 / 8 <= bend <= 0.5:
                state.found_rate = share * length / bend
                return
            factor = spacing**0.375 / bend if 0 < bend < math.inf else math.inf if bend == 0 else 0.0
            length *= min(max(factor, 2.0**-20), 2.0**20)
        state.found_rate = share * length


def _scale(xp: Any, x: Any, gradient: Any, value: Any) -> float:
    """Some length in the units of x: its largest component, or else f by its slope, or 1."""
    largest = float(xp.maximum(x.max(), -x.min()))
    if 0 < largest < math.inf:
        return largest
    total = float(xp.sum(abs(gradient), dtype="f8"))
    length = abs(float(value)) / total if value is not None and total else 0.0
    return length if 0 < length < math.inf else 1.0


def _dot(xp: Any, one: Any, other: Any) -> float:
    return float(xp.sum(one.astype("f8") * other.astype("f8")))
