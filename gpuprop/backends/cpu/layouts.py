"""How arrays of any order and strides become what a loop takes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from gpuprop.backends.base import Mode
from gpuprop.backends.checks import real_dtype
from gpuprop.backends.cpu.lines import Layout
from gpuprop.backends.cpu.loops import Loops, loops
from gpuprop.rules import Rule

#: Elements up to which it does not pay to compile more.
FEW = 1024


class Plan(NamedTuple):
    """The loops for arrays of one dtype, shape and strides, and how to make views for them."""

    loops: Loops
    axes: tuple[int, ...] | None  # their order, where it is another
    is_flat: bool  # contiguous vectors, once they are in that order

    def views(self, arrays: Sequence[Any]) -> Sequence[Any]:
        if self.axes is not None:
            arrays = [array.transpose(self.axes) for array in arrays]
        if self.is_flat:
            arrays = [array.ravel("K") for array in arrays]
        elif 1 in arrays[0].shape:
            arrays = [array.squeeze() for array in arrays]
        return as_bits(arrays)


class RowPlan(NamedTuple):
    """As `Plan`, for some rows; the arrays are so many elements wide, where they are contiguous."""

    loops: Loops
    width: int | None

    def views(self, arrays: Sequence[Any]) -> Sequence[Any]:
        return _row_views(arrays, self.width)


def _row_views(arrays: Sequence[Any], width: int | None) -> Sequence[Any]:
    if width == 1:
        arrays = [array.reshape(-1) for array in arrays]
    elif width is not None and arrays[0].ndim != 2:
        arrays = [array.reshape(len(array), width) for array in arrays]
    return as_bits(arrays)


def as_bits(arrays: Sequence[Any]) -> Sequence[Any]:
    """Numba has no arithmetic in 16 bits, but can move them."""
    return [array.view(np.uint16) for array in arrays] if arrays[0].dtype.itemsize == 2 else arrays


def plan_of(rule: Rule, mode: Mode, arrays: Sequence[Any]) -> Plan:
    """For arrays of one shape."""
    x = arrays[len(rule.reads)]
    is_complex, dtype = x.dtype.kind == "c", real_dtype(x.dtype)
    if are_alike(arrays):
        return Plan(loops(rule, dtype, mode, Layout(is_complex=is_complex)), None, True)
    outermost_first = tuple(sorted(range(x.ndim), key=lambda axis: -abs(x.strides[axis])))
    axes = None if outermost_first == tuple(range(x.ndim)) else outermost_first
    views = [array.transpose(outermost_first).squeeze() for array in arrays]
    if all(view.flags.c_contiguous for view in views):
        return Plan(loops(rule, dtype, mode, Layout(is_complex=is_complex)), axes, True)
    one_by_one = x.size < FEW and (rule.couples or not is_complex)
    in_rows = views[0].ndim > 1 and _end_in_rows(views) and not one_by_one
    return Plan(loops(rule, dtype, mode, Layout(views[0].ndim, in_rows, is_complex, one_by_one)), axes, False)


def plan_of_rows(rule: Rule, mode: Mode, arrays: Sequence[Any]) -> RowPlan:
    """For some rows of arrays."""
    x = arrays[len(rule.reads)]
    width = math.prod(x.shape[1:]) if all(array.flags.c_contiguous for array in arrays) else None
    views = _row_views(arrays, width)
    ndim = views[0].ndim
    layout = Layout(ndim, ndim > 1 and _end_in_rows(views), x.dtype.kind == "c", is_gathered=True)
    return RowPlan(loops(rule, real_dtype(x.dtype), mode, layout), width)


def are_alike(arrays: Sequence[Any]) -> bool:
    """Whether arrays of one shape are contiguous in one and the same order."""
    first = arrays[0]
    if first.flags.c_contiguous and all(array.flags.c_contiguous for array in arrays):
        return True
    return first.flags.forc and all(
        array.flags.f_contiguous if array.itemsize != first.itemsize else array.strides == first.strides
        for array in arrays
    )


def _end_in_rows(arrays: Sequence[Any]) -> bool:
    return all(array.strides[-1] == array.itemsize for array in arrays)
