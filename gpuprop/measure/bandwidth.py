"""How fast the memory is: the floor under every update, and a share of it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from gpuprop.backends import Backend
from gpuprop.rules import Rule


def bytes_per_parameter(rule: Rule, itemsize: int) -> int:
    """What one update must move: every array is read, and the written ones are written too."""
    return (len(rule.reads) + 2 * len(rule.writes)) * itemsize


def floor(backend: Backend, written: int = 2) -> Callable[..., None]:
    """A kernel ``(grad, *arrays)`` that reads all of these and writes all but the first.

    No update that needs these streams, five for ``(grad, x, s)``, can be faster than memory allows
    this to be. It is written apart from the kernels that it is held against. What is positive stays
    so, so that both can run in turn on the same arrays.

    Parameters
    ----------
    backend : Backend
    written : int
        Number of `arrays`.
    """
    arrays = [f"a{k}" for k in range(written)]
    if backend.name == "gpu":
        return _gpu_floor(backend, arrays)
    import numba

    from gpuprop.backends.cpu import threads
    from gpuprop.backends.cpu.pool import run_in_pool

    names = ", ".join(["grad", *arrays])
    parts = ", ".join(f"{a}[start:stop]" for a in ["grad", *arrays])
    source = f"""
def one({names}):
    for i in range(grad.size):
        {"; ".join(f"{a}[i] += grad[i]" for a in arrays)}

def many({names}, chunks):
    for chunk in numba.prange(chunks):
        start, stop = chunk * grad.size // chunks, (chunk + 1) * grad.size // chunks
        one({parts})
"""
    compiled: dict[str, Any] = {"numba": numba}
    exec(source, compiled)
    one = compiled["one"] = numba.njit(nogil=True)(compiled["one"])
    many = numba.njit(nogil=True, parallel=True)(compiled["many"])

    def run(*arrays):
        chunks, size = threads.get_num_threads(), arrays[0].size
        if arrays[0].nbytes <= 2**21 or chunks == 1:
            one(*arrays)
        elif threads.parallel_layer_is_safe():
            many(*arrays, chunks)
        else:
            slices = [slice(size * k // chunks, size * (k + 1) // chunks) for k in range(chunks)]
            run_in_pool([partial(one, *(a[part] for a in arrays)) for part in slices])

    return run


def _gpu_floor(backend: Backend, names: list[str]) -> Callable[..., None]:
    """By 128 bits, as a GPU is fastest."""
    from gpuprop.backends.gpu.wide import HEADERS, TYPES

    loads = " ".join(f"pack p{a} = {a}[i];" for a in names)
    adds = " ".join(f"p{a}.v[k] += g.v[k];" for a in names)
    stores = " ".join(f"{a}[i] = p{a};" for a in names)
    rest = " ".join(f"{a}[i].v[k] += grad[i].v[k];" for a in names)
    source = f"""
    struct __align__(16) pack {{ real v[16 / sizeof(real)]; }};
    extern "C" __global__ void gpuprop_floor(
        const pack *grad, {", ".join(f"pack *{a}" for a in names)}, long long size
    ) {{
        const long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x, n = 16 / sizeof(real);
        if ((i + 1) * n <= size) {{
            const pack g = grad[i];
            {loads}
            for (int k = 0; k < n; k++) {{ {adds} }}
            {stores}
        }} else for (int k = 0; i * n + k < size; k++) {{ {rest} }}
    }}"""
    kernels = {
        dtype: backend.xp.RawKernel(f"{HEADERS.get(dtype, '')}typedef {real} real;{source}", "gpuprop_floor")
        for dtype, real in TYPES.items()
    }

    def run(grad, *arrays):
        blocks = -(-grad.nbytes // (16 * 256))
        kernels[grad.dtype.name]((blocks,), (256,), (grad, *arrays, grad.size))

    return run


def seconds(backend: Backend, action: Callable[[], Any], calls: int = 1) -> float:
    """Time of one of `calls` calls of `action`: by events on a GPU, by the clock elsewhere."""
    if backend.name == "gpu":
        start, stop = backend.xp.cuda.Event(), backend.xp.cuda.Event()
        start.record()
        for _ in range(calls):
            action()
        stop.record()
        stop.synchronize()
        return backend.xp.cuda.get_elapsed_time(start, stop) / 1e3 / calls
    started = time.perf_counter()
    for _ in range(calls):
        action()
    return (time.perf_counter() - started) / calls


def measured_bandwidth(backend: Backend, dtype: Any = "float32", nbytes: int = 130_000_000) -> float:
    """Bytes per second that `floor` moves: the median of seven rounds.

    Parameters
    ----------
    backend : Backend
    dtype : dtype
    nbytes : int
        Size of each of the three arrays; by default far beyond any cache, and no power of two, so
        that the arrays do not compete for the same places in one.
    """
    xp = backend.xp
    dtype = xp.dtype(dtype)
    if backend.name != "gpu" and dtype.itemsize == 2:
        dtype = xp.dtype("float32")  # in 16 bits Numba has no arithmetic, and memory knows of no dtype
    grad, x, s = (xp.ones(nbytes // dtype.itemsize, dtype) for _ in range(3))
    kernel = floor(backend)
    kernel(grad, x, s)
    calls = 10 if backend.name == "gpu" else 1  # so that the first launch does not count
    rounds = [seconds(backend, lambda: kernel(grad, x, s), calls) for _ in range(7)]
    return 5 * x.nbytes / statistics.median(rounds)


def peak_bandwidth(backend: Backend) -> float | None:
    """Bytes per second from the data sheet of the current device, where its driver tells."""
    if backend.name != "gpu":
        return None
    attributes = backend.xp.cuda.Device().attributes
    clock, width = attributes.get("MemoryClockRate"), attributes.get("GlobalMemoryBusWidth")
    if not clock or not width:
        return None
    return 2 * clock * 1e3 * width / 8  # kHz, two transfers a clock, bits
