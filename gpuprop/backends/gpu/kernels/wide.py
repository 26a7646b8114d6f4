"""`Rule` to a CUDA kernel for contiguous arrays, in accesses of 128 bits.

An update waits for memory, and a thread with one element has too few bytes under way to keep that busy: on
an H200 (CUDA 13, 10^8 elements, RMSProp) a step reached 44% of the memory's peak bandwidth in float16 and
bfloat16, 71% in float32 and 80% in float64. With 16 bytes of each array a thread it is 86% in 16 bits and
88% in float32 and float64. 8 bytes did as well in float32 and less in 16 bits, 32 bytes did worse, and so
did loops over more than one pack. The bits are the same.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from gpuprop.backends.base import Mode
from gpuprop.backends.checks import real_dtype
from gpuprop.backends.gpu.kernels.elementwise import (
    COMPILER_OPTIONS,
    PREAMBLE,
    REAL,
    body,
    clock_lines,
    compute_name,
)
from gpuprop.rules import Rule

#: Of an access, and of the beginning of each array.
BYTES = 16
THREADS = 256

HEADERS = {"float16": "#include <cuda_fp16.h>\n", "bfloat16": "#include <cuda_bf16.h>\n"}
TYPES = {"float16": "__half", "bfloat16": "__nv_bfloat16", "float32": "float", "float64": "double"}


def elements_a_thread(dtype: str) -> int:
    """Of complex numbers as many as of their parts: then what is real beside them takes one access, too."""
    if dtype == "bfloat16":  # which NumPy does not know
        return BYTES // 2
    return BYTES // real_dtype(np.dtype(dtype)).itemsize


class Wide:
    """The pieces of a kernel of packs: a thread has one of each array."""

    def __init__(self, rule: Rule, dtype: str, mode: Mode, sums: bool = False) -> None:
        self.rule, self.couples = rule, dtype.startswith("complex")
        self.width, self.real = elements_a_thread(dtype), REAL[compute_name(dtype)]
        self.parts = {n: rule.parts_of(n, self.couples) for n in rule.arrays}
        self.scalars = [f"const {self.real} scalar_{n}" for n in rule.scalars]
        self.counter = ["unsigned long long *counter"] * (mode != "plain")
        self.reads = [f"const pack<{len(self.parts[n])}> *array_{n}" for n in rule.reads]
        self.writes = [f"pack<{len(self.parts[n])}> *array_{n}" for n in rule.writes]
        self._more = ["counter"] * (mode != "plain") + ["total"] * sums
        stored = self.real if self.couples else TYPES[dtype]
        takes = [f"{stored} array_{part}" for n in rule.reads for part in self.parts[n]] + self.scalars
        takes += [f"{stored} &array_{part}" for n in rule.writes for part in self.parts[n]]
        takes += self.counter + ["double &total"] * sums
        #: What comes before the kernel: what a pack is, and what becomes of an element.
        self.head = f"""{HEADERS.get(dtype, "")}{PREAMBLE}
typedef {stored} {dtype if dtype in HEADERS else "stored"};
template <int PARTS> struct __align__({BYTES}) pack {{ {stored} element[PARTS * {self.width}]; }};

__device__ __forceinline__ void element({", ".join(takes)}) {{
{body(rule, dtype, mode, couples=self.couples, sums=sums)}
}}
"""
        self.load = " ".join(f"pack_{n} = array_{n}[i];" for n in rule.arrays if n not in rule.fresh)
        self.packs = " ".join(f"pack<{len(self.parts[n])}> pack_{n};" for n in rule.arrays)
        written = rule.writes if mode != "count" else ()
        self.store = " ".join(f"array_{n}[i] = pack_{n};" for n in written)

    def update(self, of: str) -> str:
        """The call for element ``k`` of packs that are called so."""

        def each(names: tuple[str, ...]) -> list[str]:
            parts = {n: len(self.parts[n]) for n in names}
            return [f"{of.format(n)}[{count} * k + {i}]" for n, count in parts.items() for i in range(count)]

        rule = self.rule
        scalars = [f"scalar_{n}" for n in rule.scalars]
        return f"element({', '.join([*each(rule.reads), *scalars, *each(rule.writes), *self._more])});"


def wide_source(
    name: str, rule: Rule, dtype: str, mode: Mode = "plain", *, on_device: Collection[str] = (),
    counting: str = "",
) -> str:  # fmt: skip
    """The CUDA C++ of `wide_kernel`, for a kernel called `name`."""
    wide = Wide(rule, dtype, mode)
    device = {f"const {wide.real} scalar_{n}": f"const {wide.real} *at_{n}" for n in on_device}
    read = " ".join(f"{value} = *at_{n};" for n, value in zip(on_device, device, strict=True))
    scalars = [device.get(value, value) for value in wide.scalars]
    takes = [*wide.reads, *scalars, *wide.writes, *wide.counter]
    takes += ["unsigned long long *clock"] * bool(counting) + ["long long size"]
    return f"""{wide.head}
extern "C" __global__ void {name}({", ".join(takes)}) {{
    {read}
    const long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x, first = i * {wide.width};
    {" ".join(clock_lines(counting, "i"))}
    if (first + {wide.width} <= size) {{
        {wide.packs} {wide.load}
        #pragma unroll
        for (int k = 0; k < {wide.width}; k++) {wide.update("pack_{}.element")}
        {wide.store}
    }} else {{
        #pragma unroll 1
        for (long long k = 0; first + k < size; k++) {wide.update("array_{}[i].element")}
    }}
}}
"""


def wide_kernel(
    rule: Rule, dtype: str, mode: Mode = "plain", *, on_device: Collection[str] = (), counting: str = ""
) -> Any:
    """The kernel of a rule for contiguous arrays that begin at multiples of `BYTES`.

    Parameters
    ----------
    rule, dtype, mode, on_device, counting
        As for `elementwise_kernel`; complex arrays only of a rule that couples their parts (of others they
        are twice as many reals).

    Returns
    -------
    cupy.cuda.Function
        On the current device, to be launched with the arguments of that kernel, and at last the number of
        elements. (A `cupy.RawKernel` would look for it anew each time, for as long as a launch takes.)
    """
    import cupy

    name = f"gpuprop_{rule.name}_{dtype}_wide{'_counted' * bool(counting)}"
    source = wide_source(name, rule, dtype, mode, on_device=on_device, counting=counting)
    return cupy.RawKernel(source, name, options=COMPILER_OPTIONS).kernel
