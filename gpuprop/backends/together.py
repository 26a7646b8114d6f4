"""Arrays of several steps that are to be made together, or not at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from gpuprop.arguments import naming
from gpuprop.backends.base import Backend
from gpuprop.backends.checks import checked
from gpuprop.backends.spans import Span
from gpuprop.rules import Rule


class Taken(NamedTuple):
    """What one of several steps takes."""

    backend: Backend
    rule: Rule
    arrays: Sequence[Any]
    rows: Any


class _Extent(NamedTuple):
    device: int
    low: int
    high: int
    owner: str
    written: bool
    array: Any


def check_together(steps: Mapping[str, Taken], known: set[Any]) -> dict[str, Sequence[Any]]:
    """The arrays of several steps, checked each by itself and against those of the others.

    Raises
    ------
    TypeError, ValueError
        Arrays cannot take part; the message names the step, or the two that share memory.
    """
    kinds = [_kind(step) for step in steps.values()]
    if None not in kinds and known.issuperset(kinds):
        extents = _extents(steps)
        apart = all(a.device != b.device or a.high <= b.low for a, b in pairwise(extents))
        if apart and all(extent.low % extent.array.dtype.alignment == 0 for extent in extents):
            return {name: step.arrays for name, step in steps.items()}
    arrays: dict[str, Sequence[Any]] = {}
    for name, step in steps.items():
        with naming(name):
            arrays[name] = checked(step.backend, step.rule, step.arrays, step.rows)
    steps = {name: step._replace(arrays=arrays[name]) for name, step in steps.items()}
    _check_apart(_extents(steps), steps)
    known.update(map(_kind, steps.values()))
    return arrays


def _kind(step: Taken) -> Any:
    """All that the checks look at but for addresses; None where an array is not plainly the backend's."""
    if any(type(array) is not step.backend.xp.ndarray for array in step.arrays):
        return None
    # By the letters of dtypes, whose hashes take longer.
    if step.backend.xp is np:
        arrays: Any = [
            (a.dtype.char, a.dtype.isnative, a.shape, a.strides, a.flags.writeable) for a in step.arrays
        ]
    else:
        arrays = [(a.dtype.char, a.data.device_id, a.shape, a.strides) for a in step.arrays]
    return step.backend.name, step.rule, None if step.rows is None else len(step.rows), *arrays


def _extents(steps: Mapping[str, Taken]) -> list[_Extent]:
    """Of all arrays, in the order of their addresses."""
    extents = []
    for owner, step in steps.items():
        for name, array in zip(step.rule.arrays, step.arrays, strict=True):
            if array.size:
                low = step.backend.address_of(array)
                high, device = low + array.nbytes, step.backend.device_of(array)
                if not array.flags.c_contiguous:
                    reaches = [(n - 1) * s for n, s in zip(array.shape, array.strides, strict=True)]
                    high = low + array.itemsize + sum(reach for reach in reaches if reach > 0)
                    low += sum(reach for reach in reaches if reach < 0)
                of_device = -1 if device is None else device
                extents.append(_Extent(of_device, low, high, owner, name in step.rule.writes, array))
    return sorted(extents, key=lambda extent: extent[:3])


def _check_apart(extents: list[_Extent], steps: Mapping[str, Taken]) -> None:
    for i, one in enumerate(extents):
        for other in extents[i + 1 :]:
            if other.device != one.device or other.low >= one.high:
                break
            if one.owner == other.owner or not (one.written or other.written):
                continue
            first, second = (Span(steps[e.owner].backend.address_of(e.array), e.array) for e in (one, other))
            if first.overlaps(second):
                raise ValueError(
                    f"arrays of {one.owner} and {other.owner} share memory, and a step of one changes the "
                    "other; they must be apart"
                )
