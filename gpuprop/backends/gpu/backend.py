"""The GPU backend: fused kernels on CuPy arrays."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import lru_cache, partial
from operator import setitem
from typing import Any, cast

import numpy as np
from numpy import ndarray

from gpuprop.backends.base import Backend, Capturing, Mode, at_once
from gpuprop.backends.checks import checked, compute_dtype, dtypes_of, real_dtype
from gpuprop.backends.gpu import graphs
from gpuprop.backends.gpu.cuda import cupy_with_a_device
from gpuprop.backends.gpu.kernels import finding, passes, reductions
from gpuprop.backends.gpu.kernels.elementwise import elementwise_kernel
from gpuprop.backends.gpu.kernels.wide import THREADS, elements_a_thread, wide_kernel
from gpuprop.backends.gpu.layouts import at_a_glance, misalignment
from gpuprop.backends.gpu.library import CuPyArrays
from gpuprop.rules import Rule


class GPUBackend(CuPyArrays, Backend):
    """Steps on the array's own device and that device's current stream."""

    name = "gpu"

    @property
    def _gather(self) -> Any:
        """What gives the few numbers of each rank, where arrays are parts."""
        return self.comm and self.comm.gather

    def __init__(self) -> None:
        self.xp = cupy_with_a_device()
        self._ndarray = self.xp.ndarray
        self._current_device = self.xp.cuda.runtime.getDevice
        self._current_stream = self.xp.cuda.get_current_stream
        self._stream_is_capturing = self.xp.cuda.runtime.streamIsCapturing
        self._kernels: dict[tuple[Any, ...], Any] = {}
        #: Of the arrays of a rule that the full checks have let pass, by that of x.
        self._dtypes: dict[tuple[Rule, str], list[Any]] = {}

    def workspace(self, x: Any) -> Any:
        compute = cast(np.dtype, compute_dtype(real_dtype(x.dtype)))
        with x.device:
            return reductions.Workspace(x.size * (2 if x.dtype.kind == "c" else 1), compute)

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
        on_host = type(clock) is ndarray
        recording = None if on_host or type(clock) is graphs.DeviceClock else clock
        x, launch = self._launch(mode, rule, arrays, scalars, skipped, rows, recording)
        if x.data.device_id != self._current_device():
            with x.device:
                return self.update(rule, arrays, scalars, clock, skipped, rows)
        if recording is not None:
            with graphs.unrestricted():
                launch() if (x if rows is None else rows).size else recording.tick()
            return
        if self._captures():
            raise Capturing
        self._do(launch, clock, 1)

    def run_at_once(
        self, rule: Rule, arrays: Sequence[Any], table: Any, steps: int, clock: Any, skipped: Any = None
    ) -> Any:
        arrays = checked(self, rule, arrays)
        x = arrays[len(rule.reads)]
        dtype = x.dtype if rule.couples else real_dtype(x.dtype)
        mode: Mode = "plain" if skipped is None else "skip"
        with x.device:
            if not x.size or misalignment(arrays) or self._captures():
                return None
            if steps > 1 and any(array.data.ptr == x.data.ptr for array in arrays[: len(rule.reads)]):
                return None  # a thread would not see in what it has read what it makes of x
            size, table = x.nbytes // dtype.itemsize, np.asarray(table, np.float64)
            launch, sums = passes.ready(rule, dtype.name, mode, arrays, size, table, steps, skipped)
            self._do(launch, clock, steps)
            return sums.sum(axis=1)

    @staticmethod
    def _do(launch: partial[Any], clock: Any, steps: int) -> None:
        now, on_host = clock.item(1) + steps, type(clock) is ndarray
        try:
            clock[0] = now
            at_once(launch, partial(setitem, clock, 1, now) if on_host else clock.counting(steps))
        except BaseException:  # where nothing has been launched, nothing has begun
            clock[0] = clock[1]
            raise

    def count_nonfinite(
        self,
        rule: Rule,
        arrays: Sequence[Any],
        scalars: Sequence[Any],
        rows: Any = None,
        workspace: Any = None,
    ) -> int:
        arrays = checked(self, rule, arrays, rows)
        with arrays[-1].device:
            counter = self.xp.empty(1, np.uint64) if workspace is None else workspace.count
            counter.fill(0)
            _, launch = self._launch("count", rule, arrays, scalars, counter, rows)
            launch()
            return int(counter[0])

    def _launch(
        self,
        mode: Mode,
        rule: Rule,
        arrays: Sequence[Any],
        scalars: Sequence[Any],
        counter: Any,
        rows: Any = None,
        recording: graphs.Recording | None = None,
    ) -> tuple[Any, partial[Any]]:
        """x, and what launches the kernel when it is called."""
        first = len(rule.reads)
        if len(arrays) != first + len(rule.writes) or len(scalars) != len(rule.scalars):
            raise ValueError(
                f"{rule.name} takes {len(rule.arrays)} arrays and {len(rule.scalars)} scalars; "
                f"{len(arrays)} and {len(scalars)} were given"
            )
        off = at_a_glance(rule, arrays, self._ndarray, self._dtypes) if rows is None else None
        if off is None:
            arrays = checked(self, rule, arrays, rows)
            self._dtypes[rule, arrays[first].dtype.char] = dtypes_of(rule, arrays[first].dtype)
            off = misalignment(arrays)
        x = arrays[first]
        # On the device may be the factor of a norm, and what is found for the step.
        on_device_now: Any = self._ndarray in map(type, scalars)
        if on_device_now:
            on_device_now = tuple(type(scalar) is self._ndarray for scalar in scalars)
        rounded = (_rounded_anew if on_device_now else _rounded)(tuple(scalars), x.dtype)
        more: tuple[Any, ...] = () if counter is None else (counter,)
        kind: Any = rows is None
        if recording is not None:
            more, kind = (*more, recording.cells), (kind, recording.counting)
        gathered = () if rows is None else (rows, math.prod(x.shape[1:]))
        arguments = *arrays[:first], *rounded, *gathered, *arrays[first:], *more
        make = wide_kernel if x.size and not off and rows is None else elementwise_kernel
        # The hash of a dtype takes longer.
        key = make, rule, x.dtype.char, mode, on_device_now, x.data.device_id, kind
        try:
            kernel, itemsize, elements = self._kernels[key]
        except KeyError:
            names = zip(rule.scalars, scalars, strict=True)
            on_device = [name for name, scalar in names if isinstance(scalar, self._ndarray)]
            # To packs complex numbers are twice as many reals, unless their parts go together.
            dtype = x.dtype if make is elementwise_kernel or rule.couples else real_dtype(x.dtype)
            options: dict[str, Any] = {} if rows is None else {"gathers": True}
            options |= {} if recording is None else {"counting": recording.counting}
            with x.device, nullcontext() if recording is None else graphs.unrestricted():
                if recording is None and self._captures():
                    raise Capturing from None
                kernel = make(rule, dtype.name, mode, on_device=on_device, **options)
            itemsize, elements = dtype.itemsize, elements_a_thread(dtype.name) * THREADS
            self._kernels[key] = kernel, itemsize, elements
        if make is elementwise_kernel:
            return x, partial(kernel, *arguments)
        size = x.nbytes // itemsize
        return x, partial(kernel, (-(-size // elements),), (THREADS,), (*arguments, size))

    def _captures(self) -> bool:
        return self._stream_is_capturing(self._current_stream().ptr)

    @contextmanager
    def aside(self, x: Any) -> Iterator[None]:
        with x.device, graphs.aside() if self.is_capturing(x) else nullcontext():
            yield

    def clock_on_device(self, clock: Any, x: Any) -> graphs.DeviceClock:
        if type(clock) is graphs.DeviceClock:
            return clock
        return graphs.DeviceClock(x, clock.item(1), self._captures)

    def compute_dtype_of(self, x: Any) -> Any:
        return compute_dtype(real_dtype(x.dtype))

    def is_capturing(self, array: Any) -> bool:
        if type(array) is self._ndarray and array.data.device_id == self._current_device():
            return self._captures()
        array = self.adopt("x", array)
        if not isinstance(array, self._ndarray):
            return False  # for the checks to refuse
        with array.device:
            return self._captures()

    def clip_scales(self, grads: Any, clip_norm: float, signs: Any, skips: Any, workspaces: Any) -> list[Any]:
        terms = ["finite square" if skip else "square" for skip in skips]

        def empty(count: int) -> Any:
            with self.aside(grads[0]):
                return self.xp.empty(count, np.float64)

        with grads[0].device:
            return reductions.clip_scales(grads, clip_norm, signs, terms, workspaces, empty, self._gather)

    def find_rate(
        self, grad: Any, last: Any, tuning: Any, step: Any, sign: float, whole: int, momentum: float,
        per_gradient: bool, workspace: Any,
    ) -> tuple[Any, Any]:  # fmt: skip
        is_recorded = not isinstance(step, int)
        with grad.device, graphs.unrestricted() if is_recorded else nullcontext():
            if not is_recorded and self._captures():
                raise Capturing
            return finding.find_rate(
                grad, last, tuning, step, sign, whole, momentum, per_gradient, workspace, self._gather
            )


def _rounded_anew(scalars: Sequence[Any], dtype: np.dtype) -> tuple[Any, ...]:
    """Numbers in the type whose bytes a kernel takes; arrays, on the device, as they are."""
    real = cast(Any, compute_dtype(real_dtype(dtype))).type
    with np.errstate(all="ignore"):  # what float32 cannot hold is infinite, or 0
        return tuple(
            scalar if hasattr(scalar, "__cuda_array_interface__") else real(scalar) for scalar in scalars
        )


#: The scalars of most steps are those of the step before.
_rounded = lru_cache(maxsize=64)(_rounded_anew)
