"""What a user's lines make by a pass of its own: the gradient in an array, or the sum of their value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from gpuprop.backends import Backend
from gpuprop.backends.checks import as_real
from gpuprop.rules import Rule
from gpuprop.rules.fusion import Lines, maker


def made(
    backend: Backend, rule: Rule, x: Any, given: Mapping[str, Any], numbers: Mapping[str, float], out: Any
) -> Any:
    """What a rule of `maker` makes of x and the arrays that are given, in `out`."""
    arrays = [*(x if name == "x" else given[name] for name in rule.reads), out]
    backend.update(rule, arrays, [numbers[name] for name in rule.scalars], np.zeros(2, np.int64))
    return out


def value_of(
    backend: Backend, lines: Lines, x: Any, given: Mapping[str, Any], numbers: Mapping[str, float]
) -> Any:
    """The sum, a float64, on a GPU in an array of no dimension; None where nothing is to be summed."""
    if not lines.value:
        return None
    with backend.on_device_of(x):
        if x.dtype.itemsize == 2:  # in which no value is computed
            x, given = x.astype(np.float32), {name: a.astype(np.float32) for name, a in given.items()}
        values = made(backend, maker(lines, "value"), x, given, numbers, backend.empty_like(x))
        total = as_real(backend, values).sum(dtype=np.float64)
    return total if backend.name == "gpu" else float(total)
