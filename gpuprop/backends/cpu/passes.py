"""Several steps in one pass over memory, and sums over all elements from the same pass.

A block of each array goes through all steps before the next one, and stays in the cache meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

import numpy as np

from gpuprop.backends.base import Mode
from gpuprop.backends.checks import compute_dtype, real_dtype
from gpuprop.backends.cpu import pool
from gpuprop.backends.cpu.kernels.kernel import Arguments, Array, Function, Kernel, function_of
from gpuprop.backends.cpu.lines import Layout, element_lines, form_of
from gpuprop.backends.cpu.reductions import exact_sum
from gpuprop.rules import Rule

#: Elements of a block, which are also summed by themselves.
BLOCK = 4096


def run(
    rule: Rule, dtype: np.dtype, mode: Mode, vectors: Sequence[Any], table: Any, steps: int, clock: Any,
    skipped: Any, checked: bool = True,
) -> np.ndarray | None:  # fmt: skip
    """As `Backend.run_at_once`, on vectors of arrays of `dtype`; None where they need the full checks.

    Complex numbers are such where their parts go together, and else twice as many reals.
    """
    blocks = -(-len(vectors[0]) // BLOCK)
    sums = np.empty((steps, blocks if rule.total else 0))
    chunks, workers = pool.chunks_for(vectors[0].nbytes * steps, blocks)
    counter = () if skipped is None else (skipped,)
    room = (np.empty((chunks, BLOCK), compute_dtype(real_dtype(dtype))),) if rule.total else ()
    table = np.asarray(table, np.float64)
    kernel = _kernel(rule, dtype, mode)
    if kernel is None:
        return None
    call = partial(kernel, *vectors, *counter, *room, table, sums, steps, clock)
    if not pool.run_in_chunks(call, checked, chunks, workers, clock, steps):
        return None
    return np.array([exact_sum(of_blocks) for of_blocks in sums]) if rule.total else sums


@cache
def _kernel(rule: Rule, dtype: np.dtype, mode: Mode) -> Callable[..., Any] | None:
    """The function of all steps; None where there are more arrays than a call has room for."""
    couples, part = dtype.kind == "c" and rule.couples, real_dtype(dtype)
    real: Any = compute_dtype(part)
    real = real.name
    item = "uint16" if part.itemsize == 2 else dtype.name if couples else part.name
    # Of whole numbers that are complex, some arrays are real.
    of_parts = rule.reals if couples else ()
    arrays = tuple(
        (f"array_{n}", Array(real if n in of_parts else item, is_read=n in rule.reads)) for n in rule.arrays
    )
    counter: Arguments = (("counter", Array("int64")),) * (mode != "plain")
    room: Arguments = (("room", Array(real, 2)),) * bool(rule.total)
    numbers: Arguments = (
        ("table", Array("float64", 2, is_read=True)),
        ("sums", Array("float64", 2)),
        ("steps", "int64"),
    )
    values = ("values",) * bool(rule.total)
    scalars = tuple(f"scalar_{name}" for name in rule.scalars)
    names = tuple(name for name, _ in arrays)
    lines = element_lines(rule, mode, form_of(part), Layout(is_complex=couples), sums=bool(rule.total))
    loop = Function("loop", (*names, *scalars, *values), (*lines, *["return count"] * (mode != "plain")))
    kernel = Kernel(
        f"{rule.name}_pass",
        (*arrays, *counter, *room, *numbers, ("clock", Array("int64"))),
        tuple(_lines(rule, mode, of_parts)),
        apart=len(arrays),
        reads=len(rule.reads),
        real=real,
        whole="int32" if real == "float32" else "int64",
        item=item,
        functions=(loop, _TOTAL) if rule.total else (loop,),
    )
    return function_of(kernel) if kernel.fits else None


#: Free to add in any order, and so to vectorise; the order is that of the one compiled code.
_TOTAL = Function(
    "total_of",
    ("values",),
    ("total = 0.0", "for i in range(values.size):", "    total += float64(values[i])", "return total"),
    fast=("reassoc",),
)


def _lines(rule: Rule, mode: Mode, of_parts: Sequence[str]) -> list[str]:
    """``loop`` over the blocks of a chunk, each through all steps."""
    first = f"array_{rule.arrays[0]}"
    kinds = {name: "part" if name in of_parts else "item" for name in rule.arrays}
    vectors = [
        f"vector(pointer(array_{name}, begin * array_{name}.itemsize), size, {kind})"
        for name, kind in kinds.items()
    ]
    scalars = [f"table[row, {place}]" for place in range(len(rule.scalars))]
    call = f"loop({', '.join([*vectors, *scalars, *['values'] * bool(rule.total)])})"
    return [
        f"blocks = ({first}.size + {BLOCK - 1}) // {BLOCK}",
        "for block in range(chunk * blocks // chunks, (chunk + 1) * blocks // chunks):",
        f"    begin = block * {BLOCK}",
        f"    size = min({BLOCK}, {first}.size - begin)",
        *[f"    values = vector(pointer(room, chunk * {BLOCK} * room.itemsize), size, real)"]
        * bool(rule.total),
        "    for step in range(steps):",
        "        row = min(step, table.shape[0] - 1)",
        f"        {call if mode == 'plain' else f'advance(counter, 0, {call})'}",
        *["        sums[step, block] = total_of(values)"] * bool(rule.total),
    ]
