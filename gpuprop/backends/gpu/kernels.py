"""`Rule` to a CUDA kernel: one `cupy.ElementwiseKernel`, one launch a step.

Why the kernel loads one element at a time
------------------------------------------
CuPy's loop gives each thread one element, so a float32 kernel makes 32-bit accesses (and
``scripts/inspect_kernels.py`` shows three loads and two stores of them, nothing more). Wider ones
pay where a multiprocessor has too few bytes under way to cover the memory's latency. By Little's
law it needs bandwidth x latency: with some 600 cycles to memory, an H100 (3.35 TB/s, 132
multiprocessors, 1.75 GHz) needs 8.7 KB each, an A100 (2.04 TB/s, 108, 1.41 GHz) 8.0 KB and an RTX
4090 (1.01 TB/s, 128, 2.5 GHz) 1.9 KB. The three loads of this kernel do not depend on each other,
and its registers allow every thread that fits (2048, on the RTX 4090 1536): in float32 that is 24.6
KB (18.4 KB) under way, in float16 12.3 KB (9.2 KB), each above the need. A warp's 32-bit accesses
already fill whole 128-byte lines.

Published measurements differ: +4% on a V100 for the sum of two arrays (ml-explore/mlx#2330); on an
RTX 2080 Ti nothing in float32 and up to +20% in float16 (xlite-dev/LeetCUDA#361); +27% for x**2 + 3y
on a card that is not named (ml-explore/mlx#2444). Inside an `ElementwiseKernel` the price would be
``raw`` arguments, a tail, a test of alignment and a second kernel for everything strided, and the
gain could not be measured while this was written. So it is not done. Where to measure first: float16,
and cards with more bandwidth to each multiprocessor than an H100 has.

In float64 on consumer cards (RTX 4090: 1/64 of the float32 rate) a step is bound by the arithmetic
of its root and quotient rather than by memory, whatever the width.
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

_PREAMBLE = """
template <typename T> __device__ T minimum(T a, T b) { return a < b || a != a ? a : b; }
template <typename T> __device__ T maximum(T a, T b) { return a > b || a != a ? a : b; }
template <typename T> __device__ T where(bool condition, T a, T b) { return condition ? a : b; }
"""


def elementwise_kernel(
    rule: Rule, dtype: str, mode: Mode = "plain", *, on_device: Collection[str] = ()
) -> Any:
    """The kernel of a rule; to make it needs CuPy, but no device.

    Parameters
    ----------
    rule : Rule
    dtype : {"float16", "bfloat16", "float32", "float64"}
        Of the arrays. 16 bits are loaded and stored as such and computed in float32.
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
    # Each element is loaded once into a local of the computing type and stored once at the end:
    # through CuPy's references the compiler would have to load again after every store.
    lines = [f"typedef {REAL[compute]} real;"]
    lines += [f"real {PREFIX}{name} = array_{name};" for name in rule.arrays]
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
        lines += [f"array_{name} = {PREFIX}{name};" for name in rule.writes]
    inputs = [f"{dtype} array_{name}" for name in rule.reads]
    inputs += [
        f"raw {compute} scalar_{name}" if name in on_device else f"{compute} scalar_{name}"
        for name in rule.scalars
    ]
    written = [f"{dtype} array_{name}" for name in rule.writes]
    inputs += written if mode == "count" else []
    outputs = [] if mode == "count" else written
    outputs += [] if mode == "plain" else ["raw uint64 counter"]
    return cupy.ElementwiseKernel(
        ", ".join(inputs),
        ", ".join(outputs),
        "\n".join(lines),
        f"gpuprop_{rule.name}_{dtype}",
        preamble=_PREAMBLE,
        no_return=True,
        options=COMPILER_OPTIONS,
    )


def compute_name(dtype: str) -> str:
    return "float32" if dtype == "bfloat16" else COMPUTE_DTYPE[np.dtype(dtype)].name


REAL = {"float32": "float", "float64": "double"}
