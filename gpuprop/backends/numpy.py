"""The reference as a backend: whole-array NumPy, for checking and for where Numba is missing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from gpuprop.arithmetic import PREFIX
from gpuprop.backends.base import Backend, clip_factor
from gpuprop.backends.checks import compute_dtype, prepare
from gpuprop.rules import Rule

_FUNCTIONS = {
    "sqrt": np.sqrt,
    "fabs": np.abs,
    "minimum": np.minimum,
    "maximum": np.maximum,
    "where": np.where,
}


class NumPyBackend(Backend):
    name = "numpy"
    xp = np

    def describe(self) -> str:
        return f"NumPy {np.__version__}"

    def update(self, rule: Rule, arrays: Sequence[Any], scalars: Sequence[Any], skipped: Any = None) -> None:
        arrays = prepare(self, rule, arrays)
        compute: Any = compute_dtype(arrays[0].dtype)
        wide = [array.astype(compute, copy=False) for array in arrays]
        kept = np.isfinite(arrays[0]) if skipped is not None else True
        if skipped is not None:
            wide[0] = np.where(kept, wide[0], 0)
        with np.errstate(over="ignore"):
            numbers = [compute.type(scalar) for scalar in scalars]
        names = dict(zip(rule.arrays + rule.scalars, (*wide, *numbers), strict=True))
        new = rule.reference(**names) if rule.reference else _evaluate(rule, names, compute.type)
        for name in rule.writes:
            if name not in new or np.shape(new[name]) != arrays[0].shape:
                raise ValueError(
                    f"the reference of rule {rule.name!r} gives no {name} of the shape of the arrays"
                )
        for name, array in zip(rule.writes, arrays[len(rule.reads) :], strict=True):
            np.copyto(array, new[name], where=kept, casting="unsafe")
        if skipped is not None:
            skipped[0] += np.count_nonzero(~kept)

    def clip_scale(self, grad: Any, clip_norm: float, sign: float, skip: bool, workspace: Any) -> float:
        values = grad[np.isfinite(grad)] if skip else grad
        values = values.astype(np.float64).ravel()
        largest = float(np.abs(values).max(initial=0.0))
        if largest > 1e150 and math.isfinite(largest):  # its square is beyond float64's numbers
            return sign * clip_factor(largest * float(np.linalg.norm(values / largest)), clip_norm)
        return sign * clip_factor(float(np.linalg.norm(values)), clip_norm)

    def nonfinite(self, grad: Any) -> tuple[int, tuple[int, ...]]:
        bad = ~np.isfinite(grad)
        count = np.count_nonzero(bad)
        return int(count), tuple(map(int, np.argwhere(bad)[0])) if count else ()


def _evaluate(rule: Rule, names: dict[str, Any], real: Any) -> dict[str, Any]:
    """A user's rule without a reference: its own lines, on whole arrays."""
    names = {PREFIX + name: value for name, value in names.items()}
    for assignment in rule.assignments:
        names[assignment.target] = eval(assignment.value, {**_FUNCTIONS, "real": real}, names)
    shape = np.shape(names[PREFIX + rule.writes[0]])
    # Copies: a plain name may stand for an array that is about to be overwritten.
    return {name: np.array(np.broadcast_to(names[PREFIX + name], shape)) for name in rule.writes}
