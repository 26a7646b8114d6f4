"""The GPU backend: fused kernels on CuPy arrays."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache, partial
from itertools import pairwise
from operator import setitem
from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from gpuprop.backends.base import Backend, Mode, at_once
from gpuprop.backends.checks import checked, compute_dtype, overlaps_itself, real_dtype
from gpuprop.backends.gpu.cuda import cupy_with_a_device
from gpuprop.backends.gpu.kernels import elementwise_kernel
from gpuprop.backends.gpu.reductions import clip_kernel, sum_kernel
from gpuprop.backends.gpu.wide import BYTES, THREADS, wide_kernel
from gpuprop.rules import Rule


class GPUBackend(Backend):
    """Steps on the array's own device and that device's current stream."""

    name = "gpu"

    def __init__(self) -> None:
        self.xp = cupy_with_a_device()
        self._ndarray = self.xp.ndarray
        self._current_device = self.xp.cuda.runtime.getDevice
        self._current_stream = self.xp.cuda.get_current_stream
        self._stream_is_capturing = self.xp.cuda.runtime.streamIsCapturing
        self._kernels: dict[tuple[Any, ...], Any] = {}
        #: Of arrays that the full checks have let pass.
        self._dtypes: set[Any] = set()

    def describe(self) -> str:
        device = self.xp.cuda.Device()
        name = self.xp.cuda.runtime.getDeviceProperties(device.id)["name"].decode()
        return f"{name} (device {device.id}), CuPy {self.xp.__version__}"

    def to_host(self, a: Any) -> np.ndarray:
        return self.xp.asnumpy(a)

    def full_like(self, x: Any, value: float) -> Any:
        with x.device:
            return super().full_like(x, value)

    def _allocate(self, x: Any) -> Any:
        try:
            return self.xp.empty_like(x)
        except self.xp.cuda.memory.OutOfMemoryError as error:
            free, total = self.xp.cuda.runtime.memGetInfo()
            raise MemoryError(
                f"there is no room for the {x.nbytes} bytes for an array like x on device "
                f"{x.device.id}, where {free} of {total} are free; free some, or let "
                "cupy.get_default_memory_pool().free_all_blocks() give back what CuPy holds"
            ) from error

    def workspace(self, x: Any) -> Any:
        with x.device:
            # One thread for 64 elements, up to what the largest GPU can hold at a time.
            elements = x.size * (2 if x.dtype.kind == "c" else 1)
            sums = self.xp.empty(min(max(elements // 64, 1), 2**18), np.float64)
            return SimpleNamespace(
                skipped=self.xp.zeros(1, self.xp.uint64),  # in which CUDA can count atomically
                sums=sums,
                fewer_sums=self.xp.empty(min(sums.size, 512), np.float64),
                scale=self.xp.empty(1, compute_dtype(real_dtype(x.dtype))),
            )

    def synchronize(self) -> None:
        self.xp.cuda.Device().synchronize()

    def update(
        self, rule: Rule, arrays: Sequence[Any], scalars: Sequence[Any], clock: Any, skipped: Any = None
    ) -> None:
        x, launch = self._launch("plain" if skipped is None else "skip", rule, arrays, scalars, skipped)
        if x.data.device_id != self._current_device():
            with x.device:
                return self.update(rule, arrays, scalars, clock, skipped)
        # What is recorded into a graph is done later, and as often as that is launched.
        now = clock.item(1) + (not self._captures())
        try:
            clock[0] = now
            at_once(launch, partial(setitem, clock, 1, now))
        except BaseException:  # where nothing has been launched, nothing has begun
            clock[0] = clock[1]
            raise

    def count_nonfinite(self, rule: Rule, arrays: Sequence[Any], scalars: Sequence[Any]) -> int:
        arrays = checked(self, rule, arrays)
        with arrays[-1].device:
            counter = self.xp.zeros(1, np.uint64)
            _, launch = self._launch("count", rule, arrays, scalars, counter)
            launch()
            return int(counter[0])

    def _launch(
        self, mode: Mode, rule: Rule, arrays: Sequence[Any], scalars: Sequence[Any], counter: Any
    ) -> tuple[Any, partial[Any]]:
        """x, and what launches the kernel when it is called."""
        if len(arrays) != len(rule.arrays) or len(scalars) != len(rule.scalars):
            raise ValueError(
                f"{rule.name} takes {len(rule.arrays)} arrays and {len(rule.scalars)} scalars; "
                f"{len(arrays)} and {len(scalars)} were given"
            )
        off = self._at_a_glance(arrays)
        if off is None:
            arrays = checked(self, rule, arrays)
            self._dtypes.add(arrays[-1].dtype)
            off = _misalignment(arrays)
        first = len(rule.reads)
        x, size = arrays[first], arrays[first].size
        # The one scalar that may be on the device is the factor of a norm.
        is_on_device = self._ndarray in map(type, scalars)
        rounded = (_rounded_anew if is_on_device else _rounded)(tuple(scalars), x.dtype)
        more = () if counter is None else (counter,)
        arguments = *arrays[:first], *rounded, *arrays[first:], *more
        make = wide_kernel if size and not off else elementwise_kernel
        key = make, rule, x.dtype, mode, is_on_device, x.data.device_id
        try:
            kernel, itemsize = self._kernels[key]
        except KeyError:
            names = zip(rule.scalars, scalars, strict=True)
            on_device = [name for name, scalar in names if isinstance(scalar, self._ndarray)]
            # To packs complex numbers are twice as many reals.
            dtype = x.dtype if make is elementwise_kernel else real_dtype(x.dtype)
            with x.device:
                kernel = make(rule, dtype.name, mode, on_device=on_device)
            itemsize = dtype.itemsize
            self._kernels[key] = kernel, itemsize
        if make is elementwise_kernel:
            return x, partial(kernel, *arguments)
        blocks = -(-x.nbytes // (BYTES * THREADS))
        return x, partial(kernel, (blocks,), (THREADS,), (*arguments, x.nbytes // itemsize))

    def _captures(self) -> bool:
        return self._stream_is_capturing(self._current_stream().ptr)

    def is_capturing(self, array: Any) -> bool:
        array = self.adopt("x", array)
        if not isinstance(array, self._ndarray):
            return False  # for the checks to refuse
        with array.device:
            return self._captures()

    def clip_scale(self, grad: Any, clip_norm: float, sign: float, skip: bool, workspace: Any) -> Any:
        with grad.device:
            sums = self._sums(grad, "finite square" if skip else "square", workspace)
            return clip_kernel(grad.dtype.name)(sums, clip_norm, sign, workspace.scale)

    def _sums(self, array: Any, term: str, workspace: Any) -> Any:
        """At most 512 sums, which together are that over all elements."""
        flat = array.reshape(-1) if array.flags.c_contiguous else array
        sum_kernel(array.dtype.name, term)(flat, array.size, workspace.sums)
        return sum_kernel("float64", "value")(workspace.sums, workspace.sums.size, workspace.fewer_sums)

    def _at_a_glance(self, arrays: Sequence[Any]) -> int | None:
        """What the addresses of arrays of one order, contiguous, or-ed, leave when divided by `BYTES`.

        At least 1 for arrays of other strides, and None where the full checks must decide, which cost as
        a launch: not all is plainly right.
        """
        last = arrays[-1]
        if type(last) is not self._ndarray:
            return None
        dtype, shape, device, strides = last.dtype, last.shape, last.data.device_id, last.strides
        if dtype not in self._dtypes:
            return None
        spans, all_bits, is_strided = [], 0, not _is_contiguous(last)
        for array in arrays:
            if (
                type(array) is not self._ndarray
                or (array.dtype is not dtype and array.dtype != dtype)
                or array.shape != shape
            ):
                return None
            data = array.data
            if data.device_id != device:
                return None
            address = data.ptr
            all_bits |= address
            if array.strides == strides and not is_strided:
                spans.append((address, address + last.nbytes))
            else:
                is_strided = True
                reach = _reach(shape, array.strides, dtype.itemsize)
                if reach is None:
                    return None
                spans.append((address + reach[0], address + reach[1]))
        spans.sort()
        for one, next_one in pairwise(spans):
            if next_one[0] < one[1]:
                return None
        if all_bits % dtype.alignment:
            return None
        return 1 if is_strided else all_bits % BYTES

    def device_of(self, array: Any) -> int:
        return array.device.id

    def on_device_of(self, array: Any) -> Any:
        return array.device

    def address_of(self, array: Any) -> int:
        return array.data.ptr

    def may_overlap(self, a: Any, b: Any) -> bool:
        if a.flags.c_contiguous and b.flags.c_contiguous:
            return a.data.ptr < b.data.ptr + b.nbytes and b.data.ptr < a.data.ptr + a.nbytes
        return True


def _is_contiguous(array: Any) -> bool:
    flags = array.flags
    return flags.c_contiguous or flags.f_contiguous


def _misalignment(arrays: Sequence[Any]) -> int:
    """0 for contiguous arrays of one order that begin where packs may."""
    if not _is_contiguous(arrays[0]) or any(a.strides != arrays[0].strides for a in arrays):
        return 1
    return max(a.data.ptr % BYTES for a in arrays)


def _rounded_anew(scalars: Sequence[Any], dtype: np.dtype) -> tuple[Any, ...]:
    """Numbers in the type whose bytes a kernel takes; arrays, on the device, as they are."""
    real = cast(Any, compute_dtype(real_dtype(dtype))).type
    with np.errstate(all="ignore"):  # what float32 cannot hold is infinite, or 0
        return tuple(
            scalar if hasattr(scalar, "__cuda_array_interface__") else real(scalar) for scalar in scalars
        )


@lru_cache(maxsize=1024)
def _reach(shape: tuple[int, ...], strides: tuple[int, ...], itemsize: int) -> tuple[int, int] | None:
    """Bytes from the first element to the first byte and behind the last; None where two may be one."""
    if 0 in shape or overlaps_itself(shape, strides, itemsize):
        return None
    reaches = [(length - 1) * stride for length, stride in zip(shape, strides, strict=True)]
    return sum(r for r in reaches if r < 0), sum(r for r in reaches if r > 0) + itemsize


#: The scalars of most steps are those of the step before.
_rounded = lru_cache(maxsize=64)(_rounded_anew)
