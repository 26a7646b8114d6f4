"""Several steps in one pass over memory on a GPU, and sums over all elements from the same pass.

A thread takes a pack of each array through all steps in its registers. What the threads of a block add up
is one number a step.
"""

from __future__ import annotations

from functools import cache, partial
from typing import Any

import numpy as np

from gpuprop.backends.base import Mode
from gpuprop.backends.gpu.kernels.elementwise import COMPILER_OPTIONS, compute_name
from gpuprop.backends.gpu.kernels.reductions import SUM_OF_BLOCK
from gpuprop.backends.gpu.kernels.wide import THREADS, Wide, elements_a_thread
from gpuprop.rules import Rule


def pass_source(name: str, rule: Rule, dtype: str, mode: Mode, has_table: bool) -> str:
    """The CUDA C++ of `pass_kernel`, for a kernel called `name`."""
    wide = Wide(rule, dtype, mode, sums=bool(rule.total))
    takes = [*wide.reads, *([] if has_table else wide.scalars), *wide.writes, *wide.counter, "long long size"]
    takes += ["int steps", f"const {wide.real} *table"] if has_table else ["int steps"]
    takes += ["double *sums"] * bool(rule.total)
    row = [f"{value} = table[{len(wide.scalars)} * step + {i}];" for i, value in enumerate(wide.scalars)]
    scalars = " ".join(row * has_table)
    begin, end = "", ""
    if rule.total:
        begin = "double total = 0;"
        end = """total = sum_of_block(total);
        if (threadIdx.x == 0) sums[step * (long long)gridDim.x + blockIdx.x] = total;"""
    return f"""{wide.head}{SUM_OF_BLOCK if rule.total else ""}
extern "C" __global__ void {name}({", ".join(takes)}) {{
    const long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x, first = i * {wide.width};
    const bool is_whole = first + {wide.width} <= size;
    {wide.packs}
    if (is_whole) {{ {wide.load} }}
    #pragma unroll 1
    for (int step = 0; step < steps; step++) {{
        {scalars} {begin}
        if (is_whole) {{
            #pragma unroll
            for (int k = 0; k < {wide.width}; k++) {wide.update("pack_{}.element")}
        }} else {{
            #pragma unroll 1
            for (long long k = 0; first + k < size; k++) {wide.update("array_{}[i].element")}
        }}
        {end}
    }}
    if (is_whole) {{ {wide.store} }}
}}
"""


@cache
def pass_kernel(rule: Rule, dtype: str, mode: Mode, has_table: bool, device: int) -> Any:
    """The kernel of a pass, for contiguous arrays that begin where packs may, on the current device.

    It takes the arrays that `rule` reads, its scalars where there is no table of them, the arrays that it
    writes, the counter of a mode that counts, the numbers of elements and of steps, the table with a row for
    each step, and room for a row of sums for each step, with one for each block.
    """
    import cupy

    name = f"gpuprop_{rule.name}_{dtype}_pass"
    source = pass_source(name, rule, dtype, mode, has_table)
    return cupy.RawKernel(source, name, options=COMPILER_OPTIONS).kernel


def ready(
    rule: Rule, dtype: str, mode: Mode, arrays: Any, size: int, table: np.ndarray, steps: int, counter: Any
) -> tuple[partial[Any], Any]:
    """What launches it on checked arrays of so many elements of `dtype`; and room for sums, a row a step."""
    import cupy

    first, compute = len(rule.reads), np.dtype(compute_name(dtype))
    with np.errstate(all="ignore"):  # what float32 cannot hold is infinite, or 0
        table = table.astype(compute)
    has_table = len(table) > 1
    blocks = -(-size // (elements_a_thread(dtype) * THREADS))
    sums = cupy.empty((steps, blocks if rule.total else 0), np.float64)
    scalars = () if has_table else table[0]
    arguments = [*arrays[:first], *scalars, *arrays[first:], *([] if counter is None else [counter])]
    arguments += [size, np.int32(steps), *([cupy.asarray(table)] if has_table else [])]
    arguments += [sums] if rule.total else []
    kernel = pass_kernel(rule, dtype, mode, has_table, cupy.cuda.Device().id)
    return partial(kernel, (blocks,), (THREADS,), tuple(arguments)), sums
