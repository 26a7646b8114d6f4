"""`Rule` to CUDA: what becomes of one element, and a `cupy.ElementwiseKernel` for arrays of any strides.

CuPy's loop gives each thread one element, in accesses of its own width. Contiguous arrays take the kernel of
``wide.py``, which has the same arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import numpy as np

from gpuprop.backends.base import Mode
from gpuprop.backends.checks import COMPUTE_DTYPE
from gpuprop.rules import Rule
from gpuprop.rules.arithmetic import PREFIX

#: Contraction to fused multiply-adds would gain nothing in a kernel that waits for memory, and
#: without it a GPU gives the very bits of the CPU and of NumPy.
COMPILER_OPTIONS = ("--fmad=false",)

PREAMBLE = """
template <typename T> __device__ T minimum(T a, T b) { return a < b || a != a ? a : b; }
template <typename T> __device__ T maximum(T a, T b) { return a > b || a != a ? a : b; }
template <typename T> __device__ T where(bool condition, T a, T b) { return condition ? a : b; }
template <typename T> __device__ T square(T a) { return a * a; }
"""


def body(
    rule: Rule,
    dtype: str,
    mode: Mode,
    on_device: Collection[str] = (),
    element: Callable[[str], str] = "array_{}".format,
    couples: bool = False,
    sums: bool = False,
) -> str:
    """What becomes of one `element` of each array, with ``scalar_rho`` for each scalar.

    It is loaded once into a local of the computing type and stored once at the end: through references
    the compiler would have to load again after every store. Of complex arrays, where the rule `couples` their
    parts, each part is an element of its own name.
    """
    elements = rule.elements(couples)
    lines = [f"typedef {REAL[compute_name(dtype)]} real;"]
    fresh = elements.fresh
    lines += [f"real {PREFIX}{n} = {'0' if n in fresh else element(n)};" for n in elements.arrays]
    lines += [
        f"const real {PREFIX}{name} = scalar_{name}{'[0]' if name in on_device else ''};"
        for name in rule.scalars
    ]
    if mode != "plain":
        lines += [f"const real old_{name} = {PREFIX}{name};" for name in elements.arrays]
    lines += [
        f"{'real ' if declares else ''}{target} = {value};"
        for target, value, declares in elements.assignments
    ]
    if mode != "plain":
        # As the arrays will hold them: 16 bits may make infinities of them.
        stored = dtype if dtype in ("float16", "bfloat16") else "real"
        prefix = "old_" if rule.looked_at in rule.arrays else PREFIX
        kept = [f"isfinite({prefix}{name})" for name in rule.parts_of(rule.looked_at, couples)]
        kept += [f"isfinite((real)({stored}){PREFIX}{name})" for name in elements.writes]
        lines += [
            f"const bool finite = {' && '.join(kept)};",
            "if (!finite) atomicAdd(&counter[0], 1ULL);",
        ]
    if sums:
        lines += [f"total += {PREFIX}{name};" for name in rule.parts_of(rule.total, couples)]
    if mode == "skip":
        lines += [f"{PREFIX}{name} = finite ? {PREFIX}{name} : old_{name};" for name in elements.writes]
    if mode != "count":
        lines += [f"{element(name)} = {PREFIX}{name};" for name in elements.writes]
    return "\n".join(lines)


def elementwise_kernel(
    rule: Rule,
    dtype: str,
    mode: Mode = "plain",
    *,
    on_device: Collection[str] = (),
    gathers: bool = False,
    counting: str = "",
) -> Any:
    """The kernel of a rule; to make it needs CuPy, but no device.

    Parameters
    ----------
    rule : Rule
    dtype : {"float16", "bfloat16", "float32", "float64", "complex64", "complex128"}
        Of the arrays. 16 bits are loaded and stored as such and computed in float32; complex numbers are
        pairs of reals.
    mode : Mode
        What happens to elements that are not finite.
    on_device : collection of str
        Scalars that are read, when the kernel runs, from an array of one number of the computing type.
    gathers : bool
        Of all arrays but the first only some rows are updated.
    counting : {"", "counts", "is stopped"}
        Whether it counts itself on the device, and does nothing where the clock there says so.

    Returns
    -------
    cupy.ElementwiseKernel
        Called with the arrays that the rule reads, its scalars, and the arrays that it writes; in a
        mode that counts, at last an array of one uint64. One that gathers takes, before the first that is
        written, the numbers of the rows, int64, and how many elements each has; one that counts itself takes
        a clock at last.
    """
    import cupy

    compute, is_complex = compute_name(dtype), dtype.startswith("complex")
    couples = is_complex and rule.couples

    def parameter(name: str) -> str:
        raw = "raw " if gathers and name != rule.arrays[0] else ""
        return f"{raw}{compute if couples and name in rule.reals else dtype} array_{name}"

    inputs = [parameter(name) for name in rule.reads]
    inputs += [
        f"raw {compute} scalar_{name}" if name in on_device else f"{compute} scalar_{name}"
        for name in rule.scalars
    ]
    inputs += ["raw int64 rows", "int64 width"] if gathers else []
    written = [parameter(name) for name in rule.writes]
    inputs += written if mode == "count" else []
    outputs = [] if mode == "count" else written
    outputs += [] if mode == "plain" else ["raw uint64 counter"]
    outputs += ["raw uint64 clock"] if counting else []
    # In C, an element of each array: where some rows are gathered, by its place in the whole array.
    place = {name: f"array_{name}" for name in rule.arrays}
    if gathers:
        place |= {name: f"array_{name}[place]" for name in rule.arrays[1:]}
    lines = clock_lines(counting, "i")
    lines += ["const ptrdiff_t place = rows[i / width] * width + i % width;"] if gathers else []
    if is_complex:
        real = REAL[compute]
        constant = dict.fromkeys(rule.reads, "const ")
        pairs = [n for n in rule.arrays if not couples or n not in rule.reals]
        lines += [
            f"{constant.get(n, '')}{real} *of_{n} = ({constant.get(n, '')}{real} *)&{place[n]};"
            for n in pairs
        ]
    if couples:
        for name in pairs:
            place |= {part: f"of_{name}[{i}]" for i, part in enumerate(rule.parts_of(name, couples))}
        lines.append(body(rule, dtype, mode, on_device, place.__getitem__, couples))
    elif is_complex:
        parts = body(rule, dtype, mode, on_device, "of_{}[part]".format)
        lines += ["#pragma unroll", f"for (int part = 0; part < 2; part++) {{\n{parts}\n}}"]
    else:
        lines.append(body(rule, dtype, mode, on_device, place.__getitem__))
    operation = "\n".join(lines)
    return cupy.ElementwiseKernel(
        ", ".join(inputs),
        ", ".join(outputs),
        operation,
        f"gpuprop_{rule.name}_{dtype}{'_rows' * gathers}{'_counted' * bool(counting)}",
        preamble=PREAMBLE,
        no_return=True,
        options=COMPILER_OPTIONS,
    )


def clock_lines(counting: str, number: str) -> list[str]:
    """What a thread does first in a kernel that counts itself: see ``graphs.py``."""
    lines = ["if (!clock[2]) return;"] if counting == "is stopped" else []
    return lines + ([f"if ({number} == 0) atomicAdd(&clock[0], 1ULL);"] if counting else [])


def compute_name(dtype: str) -> str:
    complexes = {"bfloat16": "float32", "complex64": "float32", "complex128": "float64"}
    return complexes.get(dtype) or COMPUTE_DTYPE[np.dtype(dtype)].name


REAL = {"float32": "float", "float64": "double"}
