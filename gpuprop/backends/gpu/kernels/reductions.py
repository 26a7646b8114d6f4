"""Sums over arrays on a GPU, and what is made of them, in two launches: nobody waits for the device.

The first adds up an array by blocks of threads, and the second is one block, which adds up their sums. The
order of all additions depends on nothing but the sizes. (CuPy's own reductions to one number run in a single
block where there is no CUDA toolkit.)
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np

from gpuprop.backends.gpu.kernels.elementwise import COMPILER_OPTIONS, PREAMBLE, REAL, compute_name

#: Of a block, and how many blocks there are: together what the largest GPU can hold at a time.
THREADS, MOST_BLOCKS = 256, 1024

#: What is summed of each element ``v``, a double.
TERMS = {"square": "v * v", "finite square": "isfinite(v) ? v * v : 0.0"}

SUM_OF_BLOCK = f"""
/* What the threads of a block have, added up: for its first thread. */
__device__ double sum_of_block(double value) {{
    __shared__ double values[{THREADS}];
    values[threadIdx.x] = value;
    for (unsigned half = {THREADS} / 2; half > 0; half /= 2) {{
        __syncthreads();
        if (threadIdx.x < half) values[threadIdx.x] += values[threadIdx.x + half];
    }}
    __syncthreads();
    return threadIdx.x == 0 ? values[0] : 0.0;
}}
"""
ONE_BLOCK = {"size": THREADS, "block_size": THREADS}


def blocks_for(elements: int) -> int:
    """How many blocks add up that many elements: a thread for 64 of them, up to `MOST_BLOCKS`."""
    return min(max(-(-elements // (64 * THREADS)), 1), MOST_BLOCKS)


class Workspace(SimpleNamespace):
    """What the steps of one array need beside the arrays, on its device, which is the current one."""

    def __init__(self, elements: int, compute: np.dtype) -> None:
        import cupy

        blocks = blocks_for(elements)
        factors = {name: cupy.empty(2, name) for name in ("float32", "float64")}
        super().__init__(
            skipped=cupy.zeros(1, np.uint64),  # in which CUDA can count atomically
            count=cupy.zeros(1, np.uint64),
            blocks=blocks,
            sums=cupy.empty((3, blocks), np.float64),
            #: Sums of several arrays together, by their number: graphs may hold each of them.
            joint={},
            factors=factors,
            scales={
                (n, sign): f[:1] if sign > 0 else f[1:] for n, f in factors.items() for sign in (1.0, -1.0)
            },
            found=cupy.empty(1, compute),
            damped=cupy.empty(1, compute),
            #: What a rank lets the others know.
            known=cupy.empty(5, np.float64),
        )

    def blocks_of(self, array: Any) -> int:
        """As many as an array of this size has, whatever it is a part of."""
        return min(blocks_for(array.size), self.blocks)


def clip_scales(
    grads: Sequence[Any], clip_norm: float, signs: Sequence[float], terms: Sequence[str],
    workspaces: Sequence[Any], empty: Any, gather: Any = None,
) -> list[Any]:  # fmt: skip
    """As `Backend.clip_scales`; `empty` makes room for the sums of arrays that were never together.

    Of parts, `gather` gives what each rank has.
    """
    space = workspaces[0]
    counts = [each.blocks_of(grad) for each, grad in zip(workspaces, grads, strict=True)]
    together, sums, first = sum(counts), space.sums, 0
    if len(grads) > 1:
        sums = space.joint[together] if together in space.joint else empty(together)
        space.joint[together] = sums
    for grad, term, count in zip(grads, terms, counts, strict=True):
        kernel = sum_kernel(grad.dtype.name, term)
        kernel(flat(grad), grad.size, first, sums, size=count * THREADS, block_size=THREADS)
        first += count
    if gather is not None:
        sums = gather(sum_up(space, sums, 1, together, together)[:1])
        together = sums.size
    clip_kernel()(sums, together, clip_norm, *space.factors.values(), **ONE_BLOCK)
    return [
        space.scales[compute_name(grad.dtype.name), sign] for grad, sign in zip(grads, signs, strict=True)
    ]


def sum_up(space: Any, sums: Any, rows: int, count: int, length: int, *numbers: int) -> Any:
    """The sum of each of several rows, behind them two numbers: what a rank lets the others know."""
    rows_kernel()(sums, rows, count, length, *(numbers or (0, 0)), space.known, **ONE_BLOCK)
    return space.known


def flat(array: Any) -> Any:
    return array.reshape(-1) if array.flags.c_contiguous else array


def kernel_of_blocks(inputs: str, outputs: str, operation: str, name: str) -> Any:
    """Of whole blocks of `THREADS`, each of whose threads goes once through the operation."""
    import cupy

    preamble = PREAMBLE + SUM_OF_BLOCK
    return cupy.ElementwiseKernel(
        inputs, outputs, operation, name, preamble=preamble, no_return=True, options=COMPILER_OPTIONS
    )


@cache
def sum_kernel(dtype: str, term: str) -> Any:
    """(array, its size, the place of the first sum) to a sum for each block, of every so-many-th element.

    Neighbouring threads read neighbouring elements, whatever the number of sums.
    """
    return kernel_of_blocks(
        f"raw {dtype} array, int64 size, int64 first",
        "raw float64 sums",
        f"""
        double total = 0;
        #pragma unroll 4
        for (ptrdiff_t j = i; j < size; j += _ind.size()) {{
            const double v = ({REAL[compute_name(dtype)]})array[j];
            total += {TERMS[term]};
        }}
        total = sum_of_block(total);
        if (threadIdx.x == 0) sums[first + blockIdx.x] = total;
        """,
        f"gpuprop_sum_{term.replace(' ', '_')}_{dtype}",
    )


@cache
def rows_kernel() -> Any:
    """(rows of sums, how many rows, of how many, how far apart, two numbers) to sums, and the numbers."""
    return kernel_of_blocks(
        "raw float64 sums, int64 rows, int64 count, int64 length, float64 one, float64 other",
        "raw float64 known",
        f"""
        for (ptrdiff_t row = 0; row < rows; row++) {{
            double total = 0;
            for (ptrdiff_t j = i; j < count; j += {THREADS}) total += sums[row * length + j];
            total = sum_of_block(total);
            if (threadIdx.x == 0) known[row] = total;
        }}
        if (threadIdx.x == 0) known[rows] = one, known[rows + 1] = other;
        """,
        "gpuprop_rows",
    )


@cache
def clip_kernel() -> Any:
    """(sums of squares, their number, clip_norm) to the factor that brings the norm to that, and minus it."""
    return kernel_of_blocks(
        "raw float64 sums, int64 count, float64 clip_norm",
        "raw float32 singles, raw float64 doubles",
        f"""
        double total = 0;
        for (ptrdiff_t j = i; j < count; j += {THREADS}) total += sums[j];
        const double norm = sqrt(sum_of_block(total));
        if (threadIdx.x == 0) {{
            const double factor = norm <= clip_norm ? 1.0 : clip_norm / norm;
            singles[0] = doubles[0] = factor;
            singles[1] = doubles[1] = -factor;
        }}
        """,
        "gpuprop_clip",
    )
