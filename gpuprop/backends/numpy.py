"""The reference as a backend: whole-array NumPy, for checking and for where Numba is missing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gpuprop import reference
from gpuprop.backends.base import Backend
from gpuprop.backends.checks import COMPUTE_DTYPE, check_arrays
from gpuprop.rules import RMSPROP, Rule

_FUNCTIONS = {
    "real": float,
    "sqrt": np.sqrt,
    "fabs": np.abs,
    "minimum": np.minimum,
    "maximum": np.maximum,
    "where": np.where,
}


_REFERENCES = {RMSPROP: reference.rmsprop_step}


class NumPyBackend(Backend):
    name = "numpy"
    xp = np

    def describe(self) -> str:
        return f"NumPy {np.__version__}"

    def update(self, rule: Rule, arrays: Sequence[Any], scalars: Sequence[float]) -> None:
        check_arrays(self, rule, arrays)
        compute = COMPUTE_DTYPE[arrays[0].dtype]
        wide = [a.astype(compute, copy=False) for a in arrays]
        step = _REFERENCES.get(rule)
        new = step(*wide, *scalars) if step else _evaluate(rule, wide, scalars)
        for array, value in zip(arrays[len(rule.reads) :], new, strict=True):
            array[...] = value


def _evaluate(rule: Rule, arrays: Sequence[Any], scalars: Sequence[float]) -> list[Any]:
    """A user's rule has no reference: its own lines, on whole arrays."""
    names = dict(zip((f"v_{n}" for n in rule.arrays + rule.scalars), [*arrays, *scalars], strict=True))
    for assignment in rule.assignments:
        names[assignment.target] = eval(assignment.value, _FUNCTIONS, names)
    # Copies: a plain name may stand for an array that is about to be overwritten.
    return [np.array(names[f"v_{name}"]) for name in rule.writes]
