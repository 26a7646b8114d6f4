"""`Rule` to CUDA: what becomes of one element, and a `cupy.ElementwiseKernel` for arrays of any strides.

CuPy's loop gives each thread one element, in accesses of its own width. Contiguous arrays take the kernel of
``wide.py``, which has the same arithmetic.
"""

from __future__ import annotations

from collections.abc import Collection
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
"""


def body(
    rule: Rule, dtype: str, mode: Mode, on_device: Collection[str] = (), element: str = "array_{}"
) -> str:
    """What becomes of one `element` of each array, with ``scalar_rho`` for each scalar.

    It is loaded once into a local of the computing type and stored once at the end: through references
    the compiler would have to load again after every store.
    """
    lines = [f"typedef {REAL[compute_name(dtype)]} real;"]
    lines += [f"real {PREFIX}{name} = {element.format(name)};" for name in rule.arrays]
    lines += [
        f"const real {PREFIX}{name} = scalar_{name}{'[0]' if name in on_device else ''};"
        for name in rule.scalars
    ]
    if mode != "plain":
        lines += [f"const real old_{name} = {PREFIX}{name};" for name in rule.arrays]
    lines += [
        f"{'real ' if declares else ''}{target} = {value};" for target, value, declares in rule.assignments
    ]
    if mode != "plain":
        # As the arrays will hold them: 16 bits may make infinities of them.
        stored = dtype if dtype in ("float16", "bfloat16") else "real"
        kept = [f"isfinite((real)({stored}){PREFIX}{name})" for name in rule.writes]
        lines += [
            f"const bool finite = isfinite(old_{rule.arrays[0]}) && {' && '.join(kept)};",
            "if (!finite) atomicAdd(&counter[0], 1ULL);",
        ]
    if mode == "skip":
        lines += [f"{PREFIX}{name} = finite ? {PREFIX}{name} : old_{name};" for name in rule.writes]
    if mode != "count":
        lines += [f"{element.format(name)} = {PREFIX}{name};" for name in rule.writes]
    return "\n".join(lines)


def elementwise_kernel(
    rule: Rule, dtype: str, mode: Mode = "plain", *, on_device: Collection[str] = ()
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

    Returns
    -------
    cupy.ElementwiseKernel
        Called with the arrays that the rule reads, its scalars, and the arrays that it writes; in a
        mode that counts, at last an array of one uint64.
    """
    import cupy

    compute = compute_name(dtype)
    inputs = [f"{dtype} array_{name}" for name in rule.reads]
    inputs += [
        f"raw {compute} scalar_{name}" if name in on_device else f"{compute} scalar_{name}"
        for name in rule.scalars
    ]
    written = [f"{dtype} array_{name}" for name in rule.writes]
    inputs += written if mode == "count" else []
    outputs = [] if mode == "count" else written
    outputs += [] if mode == "plain" else ["raw uint64 counter"]
    operation = body(rule, dtype, mode, on_device)
    if dtype.startswith("complex"):
        real = REAL[compute]
        pairs = [f"const {real} *of_{n} = (const {real} *)&array_{n};" for n in rule.reads]
        pairs += [f"{real} *of_{n} = ({real} *)&array_{n};" for n in rule.writes]
        parts = body(rule, dtype, mode, on_device, "of_{}[part]")
        operation = "\n".join(
            [*pairs, "#pragma unroll", f"for (int part = 0; part < 2; part++) {{\n{parts}\n}}"]
        )
    return cupy.ElementwiseKernel(
        ", ".join(inputs),
        ", ".join(outputs),
        operation,
        f"gpuprop_{rule.name}_{dtype}",
        preamble=PREAMBLE,
        no_return=True,
        options=COMPILER_OPTIONS,
    )


def compute_name(dtype: str) -> str:
    complexes = {"bfloat16": "float32", "complex64": "float32", "complex128": "float64"}
    return complexes.get(dtype) or COMPUTE_DTYPE[np.dtype(dtype)].name


REAL = {"float32": "float", "float64": "double"}
