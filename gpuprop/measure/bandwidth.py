"""How fast the memory is: the floor under every update, and a share of it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from gpuprop.backends import Backend
from gpuprop.rules import Rule


def numbers_moved(rule: Rule, is_complex: bool = False) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Real numbers a parameter in each array that an update reads, and in each that it reads and writes."""

    def each(names: tuple[str, ...]) -> tuple[int, ...]:
        return tuple(2 if is_complex and name not in rule.reals else 1 for name in names)

    return each(rule.reads), each(rule.writes)


def bytes_per_parameter(rule: Rule, itemsize: int, is_complex: bool = False) -> int:
    """What one update must move, in reals of `itemsize`: it reads all arrays, and writes some of them."""
    reads, writes = numbers_moved(rule, is_complex)
    return (sum(reads) + 2 * sum(writes)) * itemsize


def floor(
    backend: Backend, reads: tuple[int, ...] = (1,), writes: tuple[int, ...] = (1, 1)
) -> Callable[..., None]:
    """A kernel of arrays that reads all of them and writes the last, or all where none is only read.

    No update that needs these streams, five for ``(grad, x, s)``, can be faster than memory allows
    this to be. It is written apart from the kernels that it is held against. What is positive stays
    so, so that both can run in turn on the same arrays.

    Parameters
    ----------
    backend : Backend
    reads, writes : tuple of int
        For each array that is only read, and each that is written, 2 if it is complex and 1 if not.
    """
    if backend.name == "gpu":
        return _gpu_floor(backend, reads, writes)
    from gpuprop.backends.cpu.kernels.kernel import Array, Kernel, function_of
    from gpuprop.backends.cpu.pool import SERIAL_BYTES, chunks_for, run_in_chunks

    names = [f"a{k}" for k in range(len(reads) + len(writes))]
    last = zip(names[len(reads) :], writes, strict=True)
    real = ".real" if max(reads + writes) == 2 else ""
    lines = (
        "for i in range(a0.size):",
        f"    value = {' + '.join(f'{a}[i]' for a in names[: len(reads) or 1])}",
        *(f"    {a}[i] += value{'' if parts == 2 else real}" for a, parts in last),
    )

    kernels: dict[str, Callable[..., bool]] = {}

    def compiled(key: str, arrays: Sequence[Any]) -> Callable[..., bool]:
        each = tuple((name, Array(array.dtype.name)) for name, array in zip(names, arrays, strict=True))
        kernels[key] = function_of(Kernel("floor", each, lines, apart=len(names), parted=tuple(names)))
        return kernels[key]

    def run(*arrays):
        key = arrays[0].dtype.char + arrays[-1].dtype.char  # of one width, they are real or complex
        call = kernels.get(key) or compiled(key, arrays)
        if arrays[0].nbytes <= SERIAL_BYTES:
            call(*arrays)
        else:
            run_in_chunks(partial(call, *arrays), True, *chunks_for(arrays[0].nbytes, arrays[0].size))

    return run


def _gpu_floor(backend: Backend, reads: tuple[int, ...], writes: tuple[int, ...]) -> Callable[..., None]:
    """By 128 bits, as a GPU is fastest."""
    from gpuprop.backends.gpu.kernels.wide import HEADERS, TYPES

    parts = (*reads, *writes)
    last, at = range(len(reads), len(parts)), range(len(parts))

    def adds(element: str) -> str:
        """To each part of what is written, the parts of what is read."""
        at_part = [[j for j in range(len(reads) or 1) if i < parts[j]] for i in (0, 1)]
        read = [" + ".join(element.format(j, reads[j], i) for j in at_part[i]) for i in (0, 1)]
        return " ".join(
            f"{element.format(j, parts[j], i)} += {read[i]};" for j in last for i in range(parts[j])
        )

    arguments = [f"{'const ' * (j < len(reads))}pack<{parts[j]}> *a{j}" for j in at]
    source = f"""
    template <int PARTS> struct __align__(16) pack {{ real v[PARTS * (16 / sizeof(real))]; }};
    extern "C" __global__ void gpuprop_floor({", ".join(arguments)}, long long size) {{
        const long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x, n = 16 / sizeof(real);
        if ((i + 1) * n <= size) {{
            {" ".join(f"pack<{parts[j]}> p{j} = a{j}[i];" for j in at)}
            for (int k = 0; k < n; k++) {{ {adds("p{}.v[{} * k + {}]")} }}
            {" ".join(f"a{j}[i] = p{j};" for j in last)}
        }} else for (int k = 0; i * n + k < size; k++) {{ {adds("a{}[i].v[{} * k + {}]")} }}
    }}"""
    kernels = {
        dtype: backend.xp.RawKernel(f"{HEADERS.get(dtype, '')}typedef {real} real;{source}", "gpuprop_floor")
        for dtype, real in TYPES.items()
    }

    def run(*arrays):
        dtype = arrays[0].real.dtype
        blocks = -(-arrays[0].size // (16 // dtype.itemsize * 256))
        kernels[dtype.name]((blocks,), (256,), (*arrays, arrays[0].size))

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
