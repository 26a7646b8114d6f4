"""The CPU backend: fused, vectorised and threaded loops, by Numba."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from typing import Any

import numba
import numpy as np

from gpuprop.backends import threads
from gpuprop.backends.base import Backend
from gpuprop.backends.checks import check_arrays
from gpuprop.backends.loops import Loops, converts_half
from gpuprop.backends.numpy import NumPyBackend
from gpuprop.rules import Rule


class CPUBackend(Backend):
    name = "cpu"
    xp = np

    def __init__(self) -> None:
        self._loops: dict[tuple[Rule, str, int], Loops] = {}
        self._plain = NumPyBackend()
        self._vectors: dict[tuple[Rule, str], Loops] = {}  # contiguous: they need no preparation

    def describe(self) -> str:
        n = threads.get_num_threads()
        return f"{_cpu_name()}, {n} thread{'s' * (n > 1)}, Numba {numba.__version__}"

    def update(self, rule: Rule, arrays: Sequence[Any], scalars: Sequence[float]) -> None:
        try:
            shape = arrays[-1].shape
            for array in arrays:  # Numba is slow to say that a layout is not one that it knows
                if type(array) is not np.ndarray or not array.flags.c_contiguous or array.shape != shape:
                    break
            else:
                loops = self._vectors[rule, array.dtype.char]
                flat = arrays if len(shape) == 1 else [array.reshape(-1) for array in arrays]
                if loops.run(flat, scalars):
                    return
        except (KeyError, TypeError, AttributeError):
            pass  # not compiled yet, or not arrays of that dtype: the checks below will tell
        check_arrays(self, rule, arrays)
        x = arrays[len(rule.reads)]
        if x.size == 0:
            return
        if x.dtype == np.float16 and not converts_half():
            return self._plain.update(rule, arrays, scalars)
        views, ndim = _simplest_views(arrays, x)
        key = rule, x.dtype.char, ndim
        if key not in self._loops:
            self._loops[key] = Loops(*key)
            if ndim == 0 and x.dtype != np.float16:
                self._vectors[rule, x.dtype.char] = self._loops[key]
        if not self._loops[key].run(views, scalars):
            raise AssertionError(f"{rule} ran on nothing: its compiled checks refuse what Python's let pass")


def _simplest_views(arrays: Sequence[np.ndarray], x: np.ndarray) -> tuple[list[np.ndarray], int]:
    """Views of the same elements, contiguous where they can be, and the number of strided axes."""
    if x.dtype == np.float16:  # Numba has no arithmetic in it, but can move its 16 bits
        arrays = [array.view(np.uint16) for array in arrays]
    plain = [array.view(np.ndarray) for array in arrays]
    outermost_first = sorted(range(x.ndim), key=lambda axis: -abs(x.strides[axis]))
    views = [array.transpose(outermost_first) for array in plain]
    if all(view.flags.c_contiguous for view in views):
        return [view.reshape(-1) for view in views], 0
    views = [view.squeeze() for view in views]
    return views, views[0].ndim


def _cpu_name() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()
