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


def floor(backend: Backend) -> Callable[[Any, Any, Any], None]:
    """A kernel ``(grad, x, s)`` that only reads three arrays and writes two of them.

    No update that needs these five streams can be faster than memory allows this to be. It is
    written apart from the kernels that it is held against. ``s`` stays positive for positive
    ``grad``, so that both can run in turn on the same arrays.
    """
    if backend.name == "gpu":
        return backend.xp.ElementwiseKernel(
            "T grad", "T x, T s", "T g = grad; x += g; s += g;", "gpuprop_floor", no_return=True
        )
    import numba

    from gpuprop.backends import threads

    @numba.njit(nogil=True)
    def one(grad, x, s):
        for i in range(x.size):
            x[i] += grad[i]
            s[i] += grad[i]

    @numba.njit(nogil=True, parallel=True)
    def many(grad, x, s, chunks):
        for chunk in numba.prange(chunks):
            start, stop = chunk * x.size // chunks, (chunk + 1) * x.size // chunks
            one(grad[start:stop], x[start:stop], s[start:stop])

    def run(grad, x, s):
        chunks = threads.get_num_threads()
        if x.nbytes <= 2**21 or chunks == 1:
            one(grad, x, s)
        elif threads.parallel_layer_is_safe():
            many(grad, x, s, chunks)
        else:
            slices = [slice(x.size * k // chunks, x.size * (k + 1) // chunks) for k in range(chunks)]
            threads.run_in_pool([partial(one, grad[part], x[part], s[part]) for part in slices])

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
    grad, x, s = (xp.ones(nbytes // dtype.itemsize, dtype) for _ in range(3))
    kernel = floor(backend)
    kernel(grad, x, s)
    rounds = [seconds(backend, lambda: kernel(grad, x, s)) for _ in range(7)]
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
