"""The law by which a learning rate is found, on a GPU: sums, and what is made of them, in two launches."""

from __future__ import annotations

from functools import cache
from typing import Any

from gpuprop.backends.gpu.kernels.elementwise import REAL, body, compute_name
from gpuprop.backends.gpu.kernels.reductions import ONE_BLOCK, THREADS, flat, kernel_of_blocks, sum_up
from gpuprop.rules import LAW


def find_rate(
    grad: Any, last: Any, tuning: Any, step: Any, sign: float, whole: int, momentum: float,
    per_gradient: bool, space: Any, gather: Any = None,
) -> tuple[Any, Any]:  # fmt: skip
    """As `Backend.find_rate`; `step` is a number, or an array on the device that begins with it.

    Of parts, `gather` gives what each rank has.
    """
    count, on_device = space.blocks_of(grad), not isinstance(step, int)
    products_kernel(grad.dtype.name)(
        flat(grad), flat(last), grad.size, space.blocks, space.sums, size=count * THREADS, block_size=THREADS
    )
    sums, elements = space.sums, [max(grad.size, 1), grad.size / max(whole, 1)]
    if gather is not None:
        sums, elements = gather(sum_up(space, sums, 3, count, space.blocks, grad.size, whole)), []
        count = len(sums)
    law_kernel(space.found.dtype.name, on_device, gather is not None)(
        sums, count, space.blocks, step if on_device else step % 2, sign, *elements, momentum,
        float(per_gradient), tuning, space.found, space.damped, **ONE_BLOCK,
    )  # fmt: skip
    return space.found, space.damped


@cache
def products_kernel(dtype: str) -> Any:
    """(two arrays, their size, the length of a row) to sums of products, of their moduli, and of squares.

    Three rows of them, a sum for each block; what is not finite is left out.
    """
    real = REAL[compute_name(dtype)]
    return kernel_of_blocks(
        f"raw {dtype} one, raw {dtype} other, int64 size, int64 length",
        "raw float64 sums",
        f"""
        double products = 0, sizes = 0, squares = 0;
        #pragma unroll 4
        for (ptrdiff_t j = i; j < size; j += _ind.size()) {{
            const double a = ({real})one[j], b = ({real})other[j];
            const double product = isfinite(a * b) ? a * b : 0.0;
            products += product;
            sizes += fabs(product);
            squares += isfinite(a * a) ? a * a : 0.0;
        }}
        products = sum_of_block(products), sizes = sum_of_block(sizes), squares = sum_of_block(squares);
        if (threadIdx.x == 0) {{
            const ptrdiff_t block = blockIdx.x;
            sums[block] = products, sums[length + block] = sizes, sums[2 * length + block] = squares;
        }}
        """,
        f"gpuprop_products_{dtype}",
    )


@cache
def law_kernel(dtype: str, on_device: bool = False, of_ranks: bool = False) -> Any:
    """`LAW` for three rows of sums and the two rows of a tuning, to what is found, in numbers of `dtype`.

    The row that is read is given, or is that of the steps which are counted on the device. Of ranks, each
    has a row: its sums, how many elements it steps, and of how many.
    """
    old, new = "tuning[3 * row + {}]", "tuning[3 * (1 - row) + {}]"
    place = {"products": "(sign * products)", "sizes": "sizes", "squares": "squares"}
    place |= {name: old.format(i) for i, name in enumerate(LAW.reads[3:])}
    place |= {name: new.format(i) for i, name in enumerate(LAW.writes[:3])}
    place |= {name: f"{name}[0]" for name in LAW.writes[3:]}
    summed = (*LAW.reads[:3], *(("elements", "wholes") if of_ranks else ()))
    at = f"{len(summed)} * j + {{}}" if of_ranks else "{} * length + j"
    given = LAW.scalars[2:] if of_ranks else LAW.scalars
    return kernel_of_blocks(
        f"raw float64 sums, int64 count, int64 length, {'raw uint64 step' if on_device else 'int64 row'}, "
        "float64 sign, " + ", ".join(f"float64 scalar_{name}" for name in given),
        f"raw float64 tuning, raw {dtype} found, raw {dtype} damped",
        f"""
        double {", ".join(f"{name} = 0" for name in summed)};
        for (ptrdiff_t j = i; j < count; j += {THREADS}) {{
            {", ".join(f"{name} += sums[{at.format(i)}]" for i, name in enumerate(summed))};
        }}
        {", ".join(f"{name} = sum_of_block({name})" for name in summed)};
        {"const ptrdiff_t row = step[0] % 2;" if on_device else ""}
        if (threadIdx.x == 0) {{
            {"const double scalar_count = max(elements, 1.0);" if of_ranks else ""}
            {"const double scalar_share = elements / max(wholes, 1.0);" if of_ranks else ""}
            {body(LAW, "float64", "plain", element=place.__getitem__)}
        }}
        """,
        f"gpuprop_law_{dtype}{'_of_step' * on_device}{'_of_ranks' * of_ranks}",
    )
