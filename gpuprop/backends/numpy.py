"""The reference as a backend: whole-array NumPy, for checking and for where Numba is missing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gpuprop.arithmetic import PREFIX
from gpuprop.backends.base import Backend, clip_factor
from gpuprop.backends.checks import compute_dtype, prepare
from gpuprop.rules import Rule

_FUNCTIONS = {
    "real": float,
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
        compute = compute_dtype(arrays[0].dtype)
        wide = [array.astype(compute, copy=False) for array in arrays]
        kept = np.isfinite(arrays[0]) if skipped is not None else True
        if skipped is not None:
            wide[0] = np.where(kept, wide[0], 0)
        names = dict(zip(rule.arrays + rule.scalars, (*wide, *scalars), strict=True))
        new = rule.reference(**names) if rule.reference else _evaluate(rule, names)
        for name, array in zip(rule.writes, arrays[len(rule.reads) :], strict=True):
            np.copyto(array, new[name], where=kept, casting="unsafe")
        if skipped is not None:
            skipped[0] += np.count_nonzero(~kept)

    def clip_scale(self, grad: Any, clip_norm: float, sign: float, skip: bool) -> float:
        finite = grad[np.isfinite(grad)] if skip else grad
        return sign * clip_factor(float(np.linalg.norm(finite.astype(np.float64).ravel())), clip_norm)

    def nonfinite(self, grad: Any) -> tuple[int, tuple[int, ...]]:
        bad = ~np.isfinite(grad)
        count = np.count_nonzero(bad)
        return int(count), tuple(map(int, np.argwhere(bad)[0])) if count else ()


def _evaluate(rule: Rule, names: dict[str, Any]) -> dict[str, Any]:
    """A user's rule without a reference: its own lines, on whole arrays."""
    names = {PREFIX + name: value for name, value in names.items()}
    for assignment in rule.assignments:
        names[assignment.target] = eval(assignment.value, _FUNCTIONS, names)
    # Copies: a plain name may stand for an array that is about to be overwritten.
    return {name: np.array(names[PREFIX + name]) for name in rule.writes}
