"""How arrays of any order and strides become what a loop takes."""

from __future__ import annotations

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


def as_bits(arrays: Sequence[Any]) -> Sequence[Any]:
    """Numba has no arithmetic in 16 bits, but can move them."""
    return [array.view(np.uint16) for array in arrays] if arrays[0].dtype.itemsize == 2 else arrays


def plan_of(rule: Rule, mode: Mode, arrays: Sequence[Any]) -> Plan:
    """For arrays of one dtype and shape."""
    x = arrays[len(rule.reads)]
    is_complex = x.dtype.kind == "c"
    axes, views = None, arrays
    if not all(array.strides == x.strides and x.flags.forc for array in arrays):
        outermost_first = tuple(sorted(range(x.ndim), key=lambda axis: -abs(x.strides[axis])))
        axes = None if outermost_first == tuple(range(x.ndim)) else outermost_first
        views = [array.transpose(outermost_first).squeeze() for array in arrays]
        if not all(view.flags.c_contiguous for view in views):
            in_rows = views[0].ndim > 1 and all(view.strides[-1] == view.itemsize for view in views)
            one_by_one = x.size < FEW and not is_complex
            layout = Layout(views[0].ndim, in_rows and not one_by_one, is_complex, one_by_one)
            return Plan(loops(rule, real_dtype(x.dtype), mode, layout), axes, False)
    return Plan(loops(rule, real_dtype(x.dtype), mode, Layout(is_complex=is_complex)), axes, True)
