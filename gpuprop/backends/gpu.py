"""`Rule` to a CUDA kernel: one `cupy.ElementwiseKernel`, one launch a step.

Why the kernel loads one element at a time
------------------------------------------
CuPy's loop gives each thread one element, so a float32 kernel makes 32-bit accesses (and
``scripts/inspect_kernels.py`` shows three loads and two stores of them, nothing more). Wider ones
pay where a multiprocessor has too few bytes under way to cover the memory's latency. By Little's
law it needs bandwidth x latency: with some 600 cycles to memory, an H100 (3.35 TB/s, 132
multiprocessors, 1.75 GHz) needs 8.7 KB each, an A100 (2.04 TB/s, 108, 1.41 GHz) 8.0 KB and an RTX
4090 (1.01 TB/s, 128, 2.5 GHz) 1.9 KB. The three loads of this kernel do not depend on each other,
and its registers allow every thread that fits (2048, on the RTX 4090 1536): in float32 that is 24.6
KB (18.4 KB) under way, in float16 12.3 KB (9.2 KB), each above the need. A warp's 32-bit accesses
already fill whole 128-byte lines.

Published measurements differ: +4% on a V100 for the sum of two arrays (ml-explore/mlx#2330); on an
RTX 2080 Ti nothing in float32 and up to +20% in float16 (xlite-dev/LeetCUDA#361); +27% for x**2 + 3y
on a card that is not named (ml-explore/mlx#2444). Inside an `ElementwiseKernel` the price would be
``raw`` arguments, a tail, a test of alignment and a second kernel for everything strided, and the
gain could not be measured while this was written. So it is not done. Where to measure first: float16,
and cards with more bandwidth to each multiprocessor than an H100 has.

In float64 on consumer cards (RTX 4090: 1/64 of the float32 rate) a step is bound by the arithmetic
of its root and quotient rather than by memory, whatever the width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gpuprop.arithmetic import PREFIX
from gpuprop.backends.base import Backend, DeviceUnavailableError
from gpuprop.backends.checks import COMPUTE_DTYPE, check_array, check_arrays
from gpuprop.rules import Rule

#: Contraction to fused multiply-adds would gain nothing in a kernel that waits for memory, and
#: without it a GPU gives the very bits of the CPU and of NumPy.
COMPILER_OPTIONS = ("--fmad=false",)

_PREAMBLE = """
template <typename T> __device__ T minimum(T a, T b) { return a < b || a != a ? a : b; }
template <typename T> __device__ T maximum(T a, T b) { return a > b || a != a ? a : b; }
template <typename T> __device__ T where(bool condition, T a, T b) { return condition ? a : b; }
"""


class GPUBackend(Backend):
    """Steps on the array's own device and that device's current stream."""

    name = "gpu"

    def __init__(self) -> None:
        self.xp = _cupy_with_a_device()
        self._ndarray = self.xp.ndarray
        self._current_device = self.xp.cuda.runtime.getDevice
        self._kernels: dict[tuple[Rule, str], Any] = {}

    def describe(self) -> str:
        device = self.xp.cuda.Device()
        name = self.xp.cuda.runtime.getDeviceProperties(device.id)["name"].decode()
        return f"{name} (device {device.id}), CuPy {self.xp.__version__}"

    def to_host(self, a: Any) -> np.ndarray:
        return self.xp.asnumpy(a)

    def zeros_like(self, x: Any) -> Any:
        check_array(self, "x", x, written=True)
        with x.device:
            try:
                return self.xp.zeros_like(x)
            except self.xp.cuda.memory.OutOfMemoryError as error:
                free, total = self.xp.cuda.runtime.memGetInfo()
                raise MemoryError(
                    f"there is no room for the {x.nbytes} bytes for an array like x on device "
                    f"{x.device.id}, where {free} of {total} are free; free some, or let "
                    "cupy.get_default_memory_pool().free_all_blocks() give back what CuPy holds"
                ) from error

    def synchronize(self) -> None:
        self.xp.cuda.Device().synchronize()

    def update(self, rule: Rule, arrays: Sequence[Any], scalars: Sequence[float]) -> None:
        if not self._are_plainly_right(arrays):
            check_arrays(self, rule, arrays)
        first = len(rule.reads)
        x = arrays[first]
        key = rule, x.dtype.char
        if key not in self._kernels:
            self._kernels[key] = elementwise_kernel(rule, x.dtype.name)
        arguments = (*arrays[:first], *scalars, *arrays[first:])
        if x.data.device_id == self._current_device():
            self._kernels[key](*arguments)
        else:
            with x.device:
                self._kernels[key](*arguments)

    def _are_plainly_right(self, arrays: Sequence[Any]) -> bool:
        """Whether all is well at a glance; else the full checks decide, which cost as a launch."""
        last = arrays[-1]
        if type(last) is not self._ndarray or last.dtype not in COMPUTE_DTYPE:
            return False
        dtype, shape, device, nbytes = last.dtype, last.shape, last.data.device_id, last.nbytes
        addresses: list[int] = []
        for array in arrays:
            if (
                type(array) is not self._ndarray
                or array.dtype != dtype
                or array.shape != shape
                or not array.flags.c_contiguous
            ):
                return False
            data = array.data
            if data.device_id != device or data.ptr % dtype.itemsize:
                return False
            for address in addresses:
                if -nbytes < data.ptr - address < nbytes:
                    return False
            addresses.append(data.ptr)
        return True

    def device_of(self, array: Any) -> int:
        return array.device.id

    def address_of(self, array: Any) -> int:
        return array.data.ptr

    def may_overlap(self, a: Any, b: Any) -> bool:
        if a.flags.c_contiguous and b.flags.c_contiguous:
            return a.data.ptr < b.data.ptr + b.nbytes and b.data.ptr < a.data.ptr + a.nbytes
        return True


def elementwise_kernel(rule: Rule, dtype: str) -> Any:
    """The kernel of a rule; to make it needs CuPy, but no device.

    Parameters
    ----------
    rule : Rule
    dtype : {"float16", "float32", "float64"}
        Of the arrays. float16 is loaded and stored as such and computed in float32.

    Returns
    -------
    cupy.ElementwiseKernel
        Called with the arrays that the rule reads, its scalars, and the arrays that it writes.
    """
    import cupy

    compute = COMPUTE_DTYPE[np.dtype(dtype)].name
    real = {"float32": "float", "float64": "double"}[compute]
    # Each element is loaded once into a local of the computing type and stored once at the end:
    # through CuPy's references the compiler would have to load again after every store.
    lines = [f"typedef {real} real;"]
    lines += [f"real {PREFIX}{name} = array_{name};" for name in rule.arrays]
    lines += [f"const real {PREFIX}{name} = scalar_{name};" for name in rule.scalars]
    lines += [
        f"{'real ' if declares else ''}{target} = {value};" for target, value, declares in rule.assignments
    ]
    lines += [f"array_{name} = {PREFIX}{name};" for name in rule.writes]
    inputs = [f"{dtype} array_{name}" for name in rule.reads]
    inputs += [f"{compute} scalar_{name}" for name in rule.scalars]
    return cupy.ElementwiseKernel(
        ", ".join(inputs),
        ", ".join(f"{dtype} array_{name}" for name in rule.writes),
        "\n".join(lines),
        f"gpuprop_{rule.name}_{dtype}",
        preamble=_PREAMBLE,
        no_return=True,
        options=COMPILER_OPTIONS,
    )


def _cupy_with_a_device() -> Any:
    """Import CuPy and make sure that it finds a device.

    Raises
    ------
    DeviceUnavailableError
        With the reason and the command that mends it.
    """
    install = 'python -m pip install "gpuprop[cuda12]" (or "gpuprop[cuda13]")'
    try:
        import cupy
    except ModuleNotFoundError as error:
        if error.name != "cupy":
            raise DeviceUnavailableError(f"CuPy cannot be imported ({error}); mend: {install}") from error
        raise DeviceUnavailableError(f"CuPy is not installed; mend: {install}") from None
    except Exception as error:
        text = " ".join(str(error).split())
        raise DeviceUnavailableError(f"CuPy cannot be imported ({text}); mend: {install}") from error
    runtime = cupy.cuda.runtime
    try:
        driver, needed = runtime.driverGetVersion(), runtime.runtimeGetVersion()
        if driver == 0:
            reason = "there is no NVIDIA driver on this machine"
            mend = "install one from nvidia.com/drivers if it has an NVIDIA card, else use the device 'cpu'"
        elif driver // 1000 < needed // 1000:
            reason = (
                f"the NVIDIA driver knows CUDA {cuda_version(driver)} and CuPy needs {cuda_version(needed)}"
            )
            mend = "update the driver, or install the CuPy of your driver's CUDA: " + install
        elif runtime.getDeviceCount() == 0:
            reason, mend = _NO_DEVICE
        else:
            cupy.cuda.nvrtc.getVersion()
            return cupy
    except ImportError as error:
        reason, mend = f"CuPy finds no NVRTC, with which it compiles kernels ({error})", install
    except runtime.CUDARuntimeError as error:
        if "cudaErrorNoDevice" in str(error):
            reason, mend = _NO_DEVICE
        else:
            reason, mend = f"CUDA says {error}", "see nvidia-smi"
    raise DeviceUnavailableError(f"{reason}; mend: {mend}")


_NO_DEVICE = (
    "the NVIDIA driver shows no device to this process",
    "look at nvidia-smi and at the environment variable CUDA_VISIBLE_DEVICES",
)


def cuda_version(number: int) -> str:
    """What CUDA's runtime and driver call 12090, as people write it: 12.9."""
    return f"{number // 1000}.{number % 1000 // 10}"
