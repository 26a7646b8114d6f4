"""The reference as a backend: whole-array NumPy, for checking and for where Numba is missing."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from operator import setitem
from typing import Any, NamedTuple, cast

import numpy as np

from gpuprop.backends.base import Backend, at_once
from gpuprop.backends.checks import as_real, checked, compute_dtype
from gpuprop.rules import LAW, Rule
from gpuprop.rules.arithmetic import PREFIX

_FUNCTIONS = {
    "sqrt": np.sqrt,
    "fabs": np.abs,
    "minimum": np.minimum,
    "maximum": np.maximum,
    "where": np.where,
    "square": np.square,
}


class _Computed(NamedTuple):
    arrays: list[Any]  # as reals
    new: dict[str, Any]
    finite: Any  # which elements are so, if asked for
    places: list[Any]  # where in each of the arrays the new values belong


class NumPyBackend(Backend):
    name = "numpy"
    xp = np

    def describe(self) -> str:
        return f"NumPy {np.__version__}"

    def update(
        self,
        rule: Rule,
        arrays: Sequence[Any],
        scalars: Sequence[Any],
        clock: Any,
        skipped: Any = None,
        rows: Any = None,
    ) -> None:
        arrays, new, finite, places = self._computed(rule, arrays, scalars, rows, checks=skipped is not None)
        now = int(clock[1]) + 1
        calls = [partial(setitem, clock, 0, now)]
        for i, name in enumerate(rule.writes, len(rule.reads)):
            value = new[name]
            if finite is not None:
                value = np.where(finite, value, 0 if name in rule.fresh else arrays[i][places[i]])
            calls.append(partial(setitem, arrays[i], places[i], value))
        if finite is not None:
            calls.append(partial(setitem, skipped, 0, skipped[0] + np.count_nonzero(~finite)))
        at_once(*calls, partial(setitem, clock, 1, now))

    def count_nonfinite(
        self,
        rule: Rule,
        arrays: Sequence[Any],
        scalars: Sequence[Any],
        rows: Any = None,
        workspace: Any = None,
    ) -> int:
        return int(np.count_nonzero(~self._computed(rule, arrays, scalars, rows, checks=True).finite))

    def sums_for_rate(self, grad: Any, last: Any, whole: int) -> Sequence[Any]:
        """As that of the CPU backend."""
        g, v = (np.asarray(array, np.float64) for array in (grad, last))
        sums = [np.sum(terms[np.isfinite(terms)]) for terms in (g * v, abs(g * v), g * g)]
        return *sums, g.size, whole

    def _computed(
        self, rule: Rule, arrays: Sequence[Any], scalars: Sequence[Any], rows: Any, *, checks: bool
    ) -> _Computed:
        arrays = checked(self, rule, arrays, rows)
        # Without dimensions NumPy would compute with numbers, whose squares differ from arrays'.
        arrays = [array.reshape(1) if array.ndim == 0 else array for array in arrays]
        more = rule.couples and arrays[len(rule.reads)].dtype.kind == "c"
        # Beside pairs of reals, what is real has an axis of length 1.
        arrays = [as_real(self, a) if a.dtype.kind == "c" else a[..., None] if more else a for a in arrays]
        places: list[Any] = [... if rows is None or n in rule.reads[:1] else rows for n in rule.arrays]
        x = arrays[len(rule.reads)]
        dtype, compute = x.dtype, cast(Any, compute_dtype(x.dtype))
        # Whatever the user has NumPy do about errors: a number that is not finite is a result.
        with np.errstate(all="ignore"):
            taken = [array[place] for array, place in zip(arrays, places, strict=True)]
            values = [np.zeros(a.shape, compute) if n in rule.fresh else a.astype(compute, copy=False)
                      for n, a in zip(rule.arrays, taken, strict=True)]  # fmt: skip
            values += [compute.type(scalar) for scalar in scalars]
            names = dict(zip(rule.arrays + rule.scalars, values, strict=True))
            found = (
                _referred(rule, names, more) if rule.reference else _evaluate(rule, names, compute.type, more)
            )
            new = {}
            for name, old in zip(rule.writes, taken[len(rule.reads) :], strict=True):
                if name not in found or np.shape(found[name]) != old.shape:
                    raise ValueError(
                        f"the reference of rule {rule.name!r} gives no {name} of the shape of the arrays"
                    )
                # A copy: it may be one of the arrays that are about to be overwritten.
                new[name] = np.array(found[name]).astype(dtype, copy=False)
            finite = None
            if checks:
                given: dict[str, Any] = dict(zip(rule.arrays, taken, strict=True))
                looked_at: Any = given.get(rule.looked_at, found.get(rule.looked_at))
                each = [np.isfinite(array) for array in (looked_at, *new.values())]
                finite = np.logical_and.reduce([a.all(-1, keepdims=True) for a in each] if more else each)
            return _Computed(arrays, new, finite, places)

    def find_rate(
        self, grad: Any, last: Any, tuning: Any, step: int, sign: float, whole: int, momentum: float,
        per_gradient: bool, workspace: Any,
    ) -> tuple[Any, Any]:  # fmt: skip
        with np.errstate(all="ignore"):
            *sums, count, whole = self.sums_for_rate(grad, last, whole)
            values = [sign * np.array(sums[:1]), *np.array(sums[1:])[:, None], *tuning[step % 2, :, None]]
            scalars = max(count, 1), count / max(whole, 1), momentum, per_gradient
            values += [*np.zeros((5, 1)), *np.array(scalars, float)]
            names = dict(zip(LAW.arrays + LAW.scalars, values, strict=True))
            found = _evaluate(LAW, names, np.float64, False)
        tuning[(step + 1) % 2] = [found[name][0] for name in ("rate", "growth", "scale")]
        return float(found["found"][0]), float(found["damped"][0])


def _referred(rule: Rule, names: dict[str, Any], in_pairs: bool) -> dict[str, Any]:
    """What the rule's reference says, which may need functions of complex numbers."""
    if in_pairs:
        names = names | {"abs2": _abs2_of_pairs, "as_complex": _pair_of}
    elif rule.couples:
        names = names | {"abs2": np.square, "as_complex": np.asarray}
    return cast(Any, rule.reference)(**names)


def _abs2_of_pairs(pairs: Any) -> Any:
    squares = np.square(pairs)
    return squares[..., :1] + squares[..., 1:] if squares.shape[-1] == 2 else squares


def _pair_of(real: Any) -> Any:
    return np.concatenate([real, np.zeros_like(real)], -1)


def _evaluate(rule: Rule, names: dict[str, Any], real: Any, in_pairs: bool) -> dict[str, Any]:
    """A user's rule without a reference: its own lines, on whole arrays."""
    elements = rule.elements(in_pairs)
    local = {PREFIX + name: names[name] for name in rule.scalars}
    for name in rule.arrays:
        parts = rule.parts_of(name, in_pairs)
        values = [names[name]] if not in_pairs else [names[name][..., part] for part in range(len(parts))]
        local |= {PREFIX + part: value for part, value in zip(parts, values, strict=True)}
    for assignment in elements.assignments:
        local[assignment.target] = eval(assignment.value, {**_FUNCTIONS, "real": real}, local)
    shape = np.shape(names[rule.writes[0]])[: -1 if in_pairs else None]
    new = {}
    for name in dict.fromkeys((*rule.writes, rule.looked_at)):
        each = [np.broadcast_to(local[PREFIX + part], shape) for part in rule.parts_of(name, in_pairs)]
        new[name] = np.stack(each, -1) if in_pairs else each[0]
    return new
