"""Sums over an array on a GPU, and the factor that a norm makes of them: nobody waits for the device."""

from __future__ import annotations

from functools import cache
from typing import Any

from gpuprop.backends.gpu.kernels import COMPILER_OPTIONS, REAL, compute_name

#: What is summed of each element ``v``, a double.
TERMS = {
    "value": "v",
    "square": "v * v",
    "finite square": "isfinite(v) ? v * v : 0.0",
}


@cache
def sum_kernel(dtype: str, term: str) -> Any:
    """(array, its size) to as many sums as the output has elements, of every so-many-th element.

    CuPy's own reductions to one number run in a single block of threads where there is no CUDA
    toolkit. Here neighbouring threads read neighbouring elements, whatever the number of sums, and
    the order of the additions depends on nothing but the sizes.
    """
    import cupy

    return cupy.ElementwiseKernel(
        f"raw {dtype} array, int64 size",
        "float64 sum",
        f"""
        double total = 0;
        #pragma unroll 4
        for (ptrdiff_t j = i; j < size; j += _ind.size()) {{
            const double v = ({REAL[compute_name(dtype)]})array[j];
            total += {TERMS[term]};
        }}
        sum = total;
        """,
        f"gpuprop_sum_{term.replace(' ', '_')}_{dtype}",
        options=COMPILER_OPTIONS,
    )


@cache
def clip_kernel(dtype: str) -> Any:
    """(sums of squares, clip_norm, sign) to sign times the factor that brings the norm to clip_norm."""
    import cupy

    return cupy.ElementwiseKernel(
        "raw float64 sums, float64 clip_norm, float64 sign",
        f"{compute_name(dtype)} scale",
        """
        double total = 0;
        for (ptrdiff_t j = 0; j < sums.size(); j++) total += sums[j];
        const double norm = sqrt(total);
        scale = norm <= clip_norm ? sign : sign * (clip_norm / norm);
        """,
        f"gpuprop_clip_{dtype}",
        options=COMPILER_OPTIONS,
    )
