"""The reference as a backend: whole-array NumPy, for checking and for where Numba is missing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from operator import setitem
from typing import Any, cast

import numpy as np

from gpuprop.backends.base import Backend, at_once, clip_factor
from gpuprop.backends.checks import compute_dtype, prepare
from gpuprop.rules import Rule
from gpuprop.rules.arithmetic import PREFIX

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

    def update(
        self, rule: Rule, arrays: Sequence[Any], scalars: Sequence[Any], clock: Any, skipped: Any = None
    ) -> None:
        arrays, new, finite = self._computed(rule, arrays, scalars, checks=skipped is not None)
        now = int(clock[1]) + 1
        calls = [partial(setitem, clock, 0, now)]
        for name, array in zip(rule.writes, arrays[len(rule.reads) :], strict=True):
            value = new[name] if finite is None else np.where(finite, new[name], array)
            calls.append(partial(setitem, array, ..., value))
        if finite is not None:
            calls.append(partial(setitem, skipped, 0, skipped[0] + np.count_nonzero(~finite)))
        at_once(*calls, partial(setitem, clock, 1, now))

    def count_nonfinite(self, rule: Rule, arrays: Sequence[Any], scalars: Sequence[Any]) -> int:
        *_, finite = self._computed(rule, arrays, scalars, checks=True)
        return int(np.count_nonzero(~finite))

    def _computed(
        self, rule: Rule, arrays: Sequence[Any], scalars: Sequence[Any], *, checks: bool
    ) -> tuple[list[Any], dict[str, Any], Any]:
        """The arrays, prepared; their new values; and, if asked for, which elements are finite."""
        # Without dimensions NumPy would compute with numbers, whose squares differ from arrays'.
        arrays = [array.reshape(1) if array.ndim == 0 else array for array in prepare(self, rule, arrays)]
        dtype, compute = arrays[0].dtype, cast(Any, compute_dtype(arrays[0].dtype))
        # Whatever the user has NumPy do about errors: a number that is not finite is a result.
        with np.errstate(all="ignore"):
            values = [array.astype(compute, copy=False) for array in arrays]
            values += [compute.type(scalar) for scalar in scalars]
            names = dict(zip(rule.arrays + rule.scalars, values, strict=True))
            found = rule.reference(**names) if rule.reference else _evaluate(rule, names, compute.type)
            new = {}
            for name in rule.writes:
                if name not in found or np.shape(found[name]) != arrays[0].shape:
                    raise ValueError(
                        f"the reference of rule {rule.name!r} gives no {name} of the shape of the arrays"
                    )
                # A copy: it may be one of the arrays that are about to be overwritten.
                new[name] = np.array(found[name]).astype(dtype, copy=False)
            if not checks:
                return arrays, new, None
            return arrays, new, np.logical_and.reduce([np.isfinite(a) for a in (arrays[0], *new.values())])

    def clip_scale(self, grad: Any, clip_norm: float, sign: float, skip: bool, workspace: Any) -> float:
        with np.errstate(all="ignore"):
            values = grad[np.isfinite(grad)] if skip else grad
            values = values.astype(np.float64).ravel()
            largest = float(np.abs(values).max(initial=0.0))
            if largest > 1e150 and math.isfinite(largest):  # its square is beyond float64's numbers
                return sign * clip_factor(float(np.linalg.norm(values / largest)), clip_norm / largest)
            return sign * clip_factor(float(np.linalg.norm(values)), clip_norm)


def _evaluate(rule: Rule, names: dict[str, Any], real: Any) -> dict[str, Any]:
    """A user's rule without a reference: its own lines, on whole arrays."""
    names = {PREFIX + name: value for name, value in names.items()}
    for assignment in rule.assignments:
        names[assignment.target] = eval(assignment.value, {**_FUNCTIONS, "real": real}, names)
    shape = np.shape(names[PREFIX + rule.writes[0]])
    return {name: np.broadcast_to(names[PREFIX + name], shape) for name in rule.writes}
