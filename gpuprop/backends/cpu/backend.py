"""The CPU backend: fused, vectorised and threaded loops, by Numba."""

from __future__ import annotations

import math
import platform
from collections.abc import Sequence
from operator import attrgetter
from typing import Any

import numba
import numpy as np

from gpuprop.backends.base import Backend, Mode, clip_factor
from gpuprop.backends.checks import prepare
from gpuprop.backends.cpu import reductions, threads
from gpuprop.backends.cpu.intrinsics import converts_half
from gpuprop.backends.cpu.loops import Loops
from gpuprop.backends.numpy import NumPyBackend
from gpuprop.rules import Rule


class CPUBackend(Backend):
    name = "cpu"
    xp = np

    def __init__(self) -> None:
        self._loops: dict[tuple[Rule, np.dtype, int, Mode], Loops] = {}
        self._plain = NumPyBackend()
        self._vectors: dict[tuple[Rule, str, Mode], Loops] = {}  # contiguous: they need no preparation

    def describe(self) -> str:
        n = threads.get_num_threads()
        return f"{_cpu_name()}, {n} thread{'s' * (n > 1)}, Numba {numba.__version__}"

    def update(
        self, rule: Rule, arrays: Sequence[Any], scalars: Sequence[Any], clock: Any, skipped: Any = None
    ) -> None:
        mode: Mode = "plain" if skipped is None else "skip"
        if self._ran_at_once(mode, rule, arrays, scalars, clock, skipped):
            return
        if not self._ran(mode, rule, arrays, scalars, clock, skipped):
            self._plain.update(rule, arrays, scalars, clock, skipped)

    def count_nonfinite(self, rule: Rule, arrays: Sequence[Any], scalars: Sequence[Any]) -> int:
        clock, count = np.zeros(2, np.int64), np.zeros(1, np.int64)
        if not self._ran("count", rule, arrays, scalars, clock, count):
            return self._plain.count_nonfinite(rule, arrays, scalars)
        return int(count[0])

    def _ran(self, mode: Mode, rule: Rule, arrays: Any, scalars: Any, clock: Any, counter: Any) -> bool:
        """Run the loops of this mode; False where there are none for such arrays."""
        arrays = [self.adopt(name, array) for name, array in zip(rule.arrays, arrays, strict=True)]
        if self._ran_at_once(mode, rule, arrays, scalars, clock, counter):
            return True
        arrays = prepare(self, rule, arrays)
        x = arrays[len(rule.reads)]
        if not _converts(x.dtype) or x.size == 0:
            return False
        views, ndim = _simplest_views(arrays, x)
        key = rule, x.dtype, ndim, mode
        if key not in self._loops:
            self._loops[key] = Loops(*key)
            if ndim == 0 and x.dtype.itemsize != 2:
                self._vectors[rule, x.dtype.char, mode] = self._loops[key]
        if not self._loops[key].run(views, scalars, clock, counter):
            raise AssertionError(f"{rule} ran on nothing: its compiled checks refuse what Python's let pass")
        return True

    def _ran_at_once(
        self, mode: Mode, rule: Rule, arrays: Any, scalars: Any, clock: Any, counter: Any
    ) -> bool:
        """Run on contiguous arrays whose loop is compiled; its own guard checks them in nanoseconds."""
        try:
            last = arrays[-1]
            loops, shape = self._vectors[rule, last.dtype.char, mode], last.shape
        except (AttributeError, KeyError):  # no array, or not compiled yet: the full checks will tell
            return False
        dtype = loops.dtype
        for array in arrays:
            # Numba may take a foreign byte order for its own, and is slow to say what layouts it knows.
            if (
                type(array) is not np.ndarray
                or (array.dtype is not dtype and array.dtype != dtype)
                or array.shape != shape
                or not array.flags.c_contiguous
            ):
                return False
        flat = arrays if len(shape) == 1 else [array.reshape(-1) for array in arrays]
        try:
            return loops.run(flat, scalars, clock, counter)
        except TypeError as error:  # as of an array that is read-only
            if "No matching definition" not in str(error):
                raise
            return False

    def clip_scale(self, grad: Any, clip_norm: float, sign: float, skip: bool, workspace: Any) -> float:
        squares = reductions.sum_of_squares(grad, skip) if _converts(grad.dtype) else math.inf
        if squares == math.inf:  # beyond float64's numbers, or an infinite element
            return self._plain.clip_scale(grad, clip_norm, sign, skip, workspace)
        return sign * clip_factor(math.sqrt(squares), clip_norm)


def _converts(dtype: np.dtype) -> bool:
    return dtype != np.float16 or converts_half()


def _bits(array: np.ndarray) -> np.ndarray:
    """Numba has no arithmetic in 16 bits, but can move them."""
    return array.view(np.uint16) if array.dtype.itemsize == 2 else array


def _simplest_views(arrays: Sequence[np.ndarray], x: np.ndarray) -> tuple[list[np.ndarray], int]:
    """Views of the same elements, contiguous where they can be, and the number of strided axes."""
    plain = [_bits(array).view(np.ndarray) for array in arrays]
    outermost_first = sorted(range(x.ndim), key=lambda axis: -abs(x.strides[axis]))
    views = [array.transpose(outermost_first) for array in plain]
    if all(map(attrgetter("flags.c_contiguous"), views)):
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
