"""The CPU backend: fused, vectorised and threaded loops, by Numba."""

from __future__ import annotations

import math
import platform
from collections.abc import Sequence
from typing import Any

import numba
import numpy as np

from gpuprop.backends.base import Backend, Mode, clip_factor
from gpuprop.backends.checks import adopted, checked
from gpuprop.backends.cpu import reductions, threads
from gpuprop.backends.cpu.intrinsics import converts_half
from gpuprop.backends.cpu.layouts import Plan, as_bits, plan_of
from gpuprop.backends.cpu.loops import Loops
from gpuprop.backends.numpy import NumPyBackend
from gpuprop.rules import Rule

#: Kinds of strided arrays that are known at a time.
MOST_PLANS = 1024


class CPUBackend(Backend):
    name = "cpu"
    xp = np

    def __init__(self) -> None:
        self._plain = NumPyBackend()
        #: For contiguous arrays, by what is the same for all shapes.
        self._vectors: dict[tuple[Rule, str, Mode], Loops] = {}
        self._plans: dict[tuple[Any, ...], Plan] = {}

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
        arrays = adopted(self, rule, arrays)
        if self._ran_at_once(mode, rule, arrays, scalars, clock, counter):
            return True
        x = checked(self, rule, arrays)[len(rule.reads)]
        if not _converts(x.dtype) or x.size == 0:
            return False
        plan = plan_of(rule, mode, arrays)
        if plan.is_flat and plan.axes is None:
            self._vectors[rule, arrays[-1].dtype.char, mode] = plan.loops
        else:
            if len(self._plans) == MOST_PLANS:
                self._plans.clear()
            self._plans[_kind(rule, mode, arrays)] = plan
        loops, views = plan.loops, plan.views(arrays)
        if not loops.run(views, scalars, clock, counter, checked=True):
            raise AssertionError(f"{rule} ran on nothing: its compiled checks refuse what Python's let pass")
        return True

    def _ran_at_once(
        self, mode: Mode, rule: Rule, arrays: Any, scalars: Any, clock: Any, counter: Any
    ) -> bool:
        """Run on arrays of a kind that has been seen; what is compiled checks them in nanoseconds."""
        last = arrays[-1]
        if type(last) is not np.ndarray:
            return False
        flags, dtype, shape, strides = last.flags, last.dtype, last.shape, last.strides
        is_vector = flags.forc
        for array in arrays:
            # Numba may take a foreign byte order for its own, and is slow to say what layouts it knows.
            if (
                type(array) is not np.ndarray
                or (array.dtype is not dtype and array.dtype != dtype)
                or array.shape != shape
            ):
                return False
            if array.strides != strides:
                is_vector = False
        try:
            if is_vector:
                loops = self._vectors[rule, dtype.char, mode]
                views = arrays if len(shape) == 1 else [array.ravel("K") for array in arrays]
                if dtype.itemsize == 2:
                    views = as_bits(views)
            else:
                plan = self._plans[_kind(rule, mode, arrays)]
                loops, views = plan.loops, plan.views(arrays)
            if dtype is not loops.given and dtype != loops.given:
                return False
            return loops.run(views, scalars, clock, counter)
        except KeyError:  # not compiled yet: the full checks will tell
            return False
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


def _kind(rule: Rule, mode: Mode, arrays: Sequence[np.ndarray]) -> tuple[Any, ...]:
    last = arrays[-1]
    return rule, mode, last.dtype.char, last.shape, *[array.strides for array in arrays]


def _cpu_name() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()
