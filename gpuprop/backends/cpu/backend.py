"""The CPU backend: fused, vectorised and threaded loops, by Numba."""

from __future__ import annotations

import math
import platform
from collections.abc import Sequence
from typing import Any

import numpy as np

from gpuprop.backends.base import SHORT, Backend, DeviceUnavailableError, Mode
from gpuprop.backends.checks import adopted, checked, dtypes_of, real_dtype
from gpuprop.backends.cpu import finding, passes, pool, reductions, threads
from gpuprop.backends.cpu.kernels import environment, kernel
from gpuprop.backends.cpu.layouts import Plan, RowPlan, are_alike, as_bits, plan_of, plan_of_rows
from gpuprop.backends.cpu.loops import Loops
from gpuprop.backends.numpy import NumPyBackend
from gpuprop.rules import Rule

#: Bytes of a line of the cache.
LINE = 64
#: Kinds of strided arrays that are known at a time.
MOST_PLANS = 1024


class CPUBackend(Backend):
    name = "cpu"
    xp = np

    def __init__(self) -> None:
        try:
            # Where its code is kept, it was compiled with the Numba that is here.
            kernel.prepare()
        except ImportError as error:
            raise DeviceUnavailableError(
                f"Numba cannot be imported ({error}); mend: python -m pip install numba"
            ) from error
        except kernel.UnknownLayout as error:
            mend = "install a gpuprop, or a NumPy, that knows the other"
            raise DeviceUnavailableError(f"{error}; mend: {mend}") from error
        if environment.compiler_is_off():
            raise DeviceUnavailableError(
                "Numba's compiler is switched off by NUMBA_DISABLE_JIT; mend: unset it, or set it to 0"
            )
        self._plain = NumPyBackend()
        #: For contiguous arrays, by what is the same for all shapes.
        self._vectors: dict[tuple[Rule, str, Mode], Loops] = {}
        self._plans: dict[tuple[Any, ...], Plan | RowPlan] = {}

    def empty_like(self, x: Any, dtype: np.dtype | None = None) -> Any:
        like = np.empty_like(x, dtype, subok=False)
        # From the beginning of a line of the cache, a short row touches fewer of them.
        memory = np.empty(like.nbytes + LINE, np.uint8)
        offset = -memory.ctypes.data % LINE
        return np.ndarray(like.shape, like.dtype, memory, offset, like.strides)

    def describe(self) -> str:
        n = threads.get_num_threads()
        return f"{_cpu_name()}, {n} thread{'s' * (n > 1)}, Numba {environment.numba_version()}"

    def update(
        self,
        rule: Rule,
        arrays: Sequence[Any],
        scalars: Sequence[Any],
        clock: Any,
        skipped: Any = None,
        rows: Any = None,
    ) -> None:
        mode: Mode = "plain" if skipped is None else "skip"
        if self._ran_at_once(mode, rule, arrays, scalars, clock, skipped, rows):
            return
        if not self._ran(mode, rule, arrays, scalars, clock, skipped, rows):
            self._plain.update(rule, arrays, scalars, clock, skipped, rows)

    def count_nonfinite(
        self,
        rule: Rule,
        arrays: Sequence[Any],
        scalars: Sequence[Any],
        rows: Any = None,
        workspace: Any = None,
    ) -> int:
        clock, count = np.zeros(2, np.int64), np.zeros(1, np.int64)
        mode: Mode = "count"
        if self._ran_at_once(mode, rule, arrays, scalars, clock, count, rows):
            return int(count[0])
        if not self._ran(mode, rule, arrays, scalars, clock, count, rows):
            return self._plain.count_nonfinite(rule, arrays, scalars, rows)
        return int(count[0])

    def run_at_once(
        self, rule: Rule, arrays: Sequence[Any], table: Any, steps: int, clock: Any, skipped: Any = None
    ) -> np.ndarray | None:
        mode: Mode = "plain" if skipped is None else "skip"
        x = arrays[len(rule.reads)]
        is_plain = x.dtype.char in "fd" and x.dtype.isnative
        if is_plain and all(type(array) is np.ndarray and array.ndim == 1 for array in arrays):
            sums = passes.run(rule, x.dtype, mode, arrays, table, steps, clock, skipped, checked=False)
            if sums is not None:
                return sums
        arrays = checked(self, rule, arrays)
        x = arrays[len(rule.reads)]
        if not (_converts(x.dtype) and x.size and are_alike(arrays)):
            return None
        vectors = as_bits([array.ravel("K") for array in arrays])
        if x.dtype.kind == "c" and not rule.couples:
            vectors = [each.view(real_dtype(x.dtype)) for each in vectors]
        return passes.run(rule, x.dtype, mode, vectors, table, steps, clock, skipped)

    def compile(self, rule: Rule, arrays: Sequence[Any], modes: Sequence[Mode], finds: bool) -> None:
        for mode in modes:
            plan = self._plan(mode, rule, arrays, None)
            if plan is not None:
                plan.loops.compile(arrays[0].nbytes)
        dtype = real_dtype(arrays[0].dtype)
        if finds and arrays[0].nbytes > pool.SERIAL_BYTES:
            few = np.zeros(1, dtype if _converts(dtype) else np.float32)
            reductions.sums_of_products(few, few)
            finding.law()

    def _plan(self, mode: Mode, rule: Rule, arrays: Sequence[Any], rows: Any) -> Plan | RowPlan | None:
        """The loops for such arrays, which are checked, from now on at once; None where there are none."""
        x = checked(self, rule, arrays, rows)[len(rule.reads)]
        if not _converts(x.dtype) or arrays[0].size == 0:
            return None
        plan: Plan | RowPlan
        if rows is None:
            plan = plan_of(rule, mode, arrays)
            is_vector = plan.is_flat and plan.axes is None
        else:
            plan, is_vector = plan_of_rows(rule, mode, arrays), False
        if not plan.loops.source.fits:
            return None
        if is_vector:
            self._vectors[rule, x.dtype.char, mode] = plan.loops
        else:
            if len(self._plans) == MOST_PLANS:
                self._plans.clear()
            self._plans[_kind(rule, mode, arrays, rows)] = plan
        return plan

    def _ran(
        self, mode: Mode, rule: Rule, arrays: Any, scalars: Any, clock: Any, counter: Any, rows: Any
    ) -> bool:
        """Run the loops of this mode; False where there are none for such arrays."""
        arrays = adopted(self, rule, arrays)
        if self._ran_at_once(mode, rule, arrays, scalars, clock, counter, rows):
            return True
        plan = self._plan(mode, rule, arrays, rows)
        if plan is None:
            return False
        if not plan.loops.run(plan.views(arrays), scalars, clock, counter, checked=True, rows=rows):
            raise AssertionError(f"{rule} ran on nothing: its compiled checks refuse what Python's let pass")
        return True

    def _ran_at_once(
        self, mode: Mode, rule: Rule, arrays: Any, scalars: Any, clock: Any, counter: Any, rows: Any
    ) -> bool:
        """Run on arrays of a kind that has been seen; what is compiled checks them in nanoseconds."""
        first = arrays[0]
        if type(first) is not np.ndarray:
            return False
        dtype, shape, strides = first.dtype, first.shape, first.strides
        is_vector = first.flags.forc
        if rows is not None:
            is_vector, shape = False, arrays[-1].shape
            if first.shape != (len(rows), *shape[1:]):
                return False
        is_mixed = rule.reals and dtype.kind == "c"
        for array in arrays:
            # Numba may take a foreign byte order for its own, and is slow to say what layouts it knows.
            if type(array) is not np.ndarray or (
                array.shape != shape and (rows is None or array is not first)
            ):
                return False
            if array.dtype is not dtype and array.dtype != dtype and not is_mixed:
                return False
            if array.strides != strides:
                is_vector = False
        if is_mixed:
            is_vector = rows is None and are_alike(arrays)
            if [array.dtype for array in arrays] != dtypes_of(rule, dtype):
                return False
        try:
            if is_vector:
                loops = self._vectors[rule, dtype.char, mode]
                views = arrays if len(shape) == 1 else [array.ravel("K") for array in arrays]
                if dtype.itemsize == 2:
                    views = as_bits(views)
            else:
                plan = self._plans[_kind(rule, mode, arrays, rows)]
                loops, views = plan.loops, plan.views(arrays)
            if dtype is not loops.given and dtype != loops.given:
                return False
            return loops.run(views, scalars, clock, counter, rows=rows)
        except KeyError:  # not compiled yet: the full checks will tell
            return False

    def quick(self, rule: Rule, x: np.ndarray, mode: Mode) -> Any:
        if type(x) is not np.ndarray or x.ndim != 1 or x.size > SHORT or x.itemsize == 2:
            return None
        known = self._vectors.get((rule, x.dtype.char, mode))
        return known and known.kernel

    def quick_norm(self, x: np.ndarray, finite_only: bool) -> Any:
        """The kernel for the sum of squares of real vectors of at most `SHORT` elements."""
        is_real = x.ndim == 1 and x.itemsize > 2 and x.dtype.kind == "f"
        return reductions.kernel_of_squares(x.dtype.name, finite_only) if is_real else None

    def survey(self, rows: np.ndarray) -> tuple[int, int, int]:
        return reductions.survey_of_rows(rows)

    def joint_norm(self, grads: Any, skips: Any) -> tuple[float, float]:
        each = zip(grads, skips, strict=True)
        sums = [reductions.sum_of_squares(*one) if _converts(one[0].dtype) else math.inf for one in each]
        if sum(sums) == math.inf:  # beyond float64's numbers, or an infinite element
            return self._plain.joint_norm(grads, skips)
        return math.sqrt(sum(sums)), 1.0

    def find_rate(
        self, grad: Any, last: Any, tuning: Any, step: int, sign: float, whole: int, momentum: float,
        per_gradient: bool, workspace: Any,
    ) -> tuple[Any, Any]:  # fmt: skip
        if not _converts(grad.dtype):
            grad, last = grad.astype(np.float32), last.astype(np.float32)
        return finding.find_rate(self, grad, last, tuning, step, sign, whole, momentum, per_gradient)

    sums_for_rate = staticmethod(finding.sums_for_rate)
    find_at_once = staticmethod(finding.find_at_once)


def _converts(dtype: np.dtype) -> bool:
    return dtype != np.float16 or environment.converts_half()


def _kind(rule: Rule, mode: Mode, arrays: Sequence[np.ndarray], rows: Any) -> tuple[Any, ...]:
    # Any number of rows is of one kind.
    shape = arrays[0].shape if rows is None else (None, *arrays[-1].shape)
    return rule, mode, arrays[0].dtype.char, shape, *[array.strides for array in arrays]


def _cpu_name() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()
