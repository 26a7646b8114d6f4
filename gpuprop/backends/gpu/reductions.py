"""Sums over an array on a GPU, and the factor that a norm makes of them: nobody waits for the device."""

from __future__ import annotations

from functools import cache
from typing import Any

from gpuprop.backends.gpu.kernels import COMPILER_OPTIONS, PREAMBLE, REAL, body, compute_name
from gpuprop.rules import LAW

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


@cache
def products_kernel(dtype: str) -> Any:
    """(two arrays, their size) to sums of products, of the moduli of such, and of squares of the first.

    As many as the outputs have elements, as in `sum_kernel`; what is not finite is left out.
    """
    import cupy

    real = REAL[compute_name(dtype)]
    return cupy.ElementwiseKernel(
        f"raw {dtype} one, raw {dtype} other, int64 size",
        "float64 products, float64 sizes, float64 squares",
        f"""
        double of_products = 0, of_sizes = 0, of_squares = 0;
        #pragma unroll 4
        for (ptrdiff_t j = i; j < size; j += _ind.size()) {{
            const double a = ({real})one[j], b = ({real})other[j];
            const double product = isfinite(a * b) ? a * b : 0.0;
            of_products += product;
            of_sizes += fabs(product);
            of_squares += isfinite(a * a) ? a * a : 0.0;
        }}
        products = of_products, sizes = of_sizes, squares = of_squares;
        """,
        f"gpuprop_products_{dtype}",
        options=COMPILER_OPTIONS,
    )


@cache
def sums_kernel() -> Any:
    """(three rows of sums, how many of them count, the length of a row) to fewer sums, three rows as well."""
    import cupy

    return cupy.ElementwiseKernel(
        "raw float64 sums, int64 count, int64 length",
        "float64 first, float64 second, float64 third",
        """
        double a = 0, b = 0, c = 0;
        for (ptrdiff_t j = i; j < count; j += _ind.size()) {
            a += sums[j], b += sums[length + j], c += sums[2 * length + j];
        }
        first = a, second = b, third = c;
        """,
        "gpuprop_sums",
        options=COMPILER_OPTIONS,
    )


@cache
def law_kernel(dtype: str) -> Any:
    """`LAW` for three rows of sums and the two rows of a tuning, to what is found, in numbers of `dtype`."""
    import cupy

    old, new = "tuning[3 * row + {}]", "tuning[3 * (1 - row) + {}]"
    place = {"products": "(sign * products)", "sizes": "sizes", "squares": "squares"}
    place |= {name: old.format(i) for i, name in enumerate(LAW.reads[3:])}
    place |= {name: new.format(i) for i, name in enumerate(LAW.writes[:3])}
    place |= {name: name for name in LAW.writes[3:]}
    return cupy.ElementwiseKernel(
        "raw float64 sums, int64 number, int64 length, int64 row, float64 sign, "
        + ", ".join(f"float64 scalar_{name}" for name in LAW.scalars),
        f"raw float64 tuning, {dtype} found, {dtype} damped",
        f"""
        double products = 0, sizes = 0, squares = 0;
        for (ptrdiff_t j = 0; j < number; j++) {{
            products += sums[j], sizes += sums[length + j], squares += sums[2 * length + j];
        }}
        {body(LAW, "float64", "plain", element=place.__getitem__)}
        """,
        f"gpuprop_law_{dtype}",
        preamble=PREAMBLE,
        options=COMPILER_OPTIONS,
    )
