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
from gpuprop.backends.gpu.kernels import COMPILER_OPTIONS, PREAMBLE, REAL, body, clock_lines, compute_name
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


def wide_source(
    name: str, rule: Rule, dtype: str, mode: Mode = "plain", *, on_device: Collection[str] = (),
    counting: str = "",
) -> str:  # fmt: skip
    """The CUDA C++ of `wide_kernel`, for a kernel called `name`."""
    counts, stores, couples = mode != "plain", mode != "count", dtype.startswith("complex")
    real, width = REAL[compute_name(dtype)], elements_a_thread(dtype)
    stored = real if couples else TYPES[dtype]
    parts = {n: rule.parts_of(n, couples) for n in rule.arrays}
    values = [f"const {real} scalar_{n}" for n in rule.scalars]
    device = {f"const {real} scalar_{n}": f"const {real} *at_{n}" for n in on_device}
    counter = ["unsigned long long *counter"] if counts else []
    of_element = [f"{stored} array_{part}" for n in rule.reads for part in parts[n]] + values
    of_element += [f"{stored} &array_{part}" for n in rule.writes for part in parts[n]] + counter
    of_kernel = [f"const pack<{len(parts[n])}> *array_{n}" for n in rule.reads]
    of_kernel += [device.get(v, v) for v in values]
    of_kernel += [f"pack<{len(parts[n])}> *array_{n}" for n in rule.writes] + counter
    of_kernel += ["unsigned long long *clock"] * bool(counting) + ["long long size"]

    def update(of: str) -> str:
        def each(names: tuple[str, ...]) -> list[str]:
            return [f"{of.format(n)}[{len(parts[n])} * k + {i}]" for n in names for i in range(len(parts[n]))]

        arguments = [*each(rule.reads), *(f"scalar_{n}" for n in rule.scalars), *each(rule.writes)]
        return f"element({', '.join([*arguments, *['counter'] * counts])});"

    read = " ".join(f"{value} = *at_{n};" for n, value in zip(on_device, device, strict=True))
    load = " ".join(
        f"pack<{len(parts[n])}> pack_{n}{'' if n in rule.fresh else f' = array_{n}[i]'};" for n in rule.arrays
    )
    store = " ".join(f"array_{n}[i] = pack_{n};" for n in rule.writes) if stores else ""
    return f"""{HEADERS.get(dtype, "")}{PREAMBLE}
typedef {stored} {dtype if dtype in HEADERS else "stored"};
template <int PARTS> struct __align__({BYTES}) pack {{ {stored} element[PARTS * {width}]; }};

__device__ __forceinline__ void element({", ".join(of_element)}) {{
{body(rule, dtype, mode, couples=couples)}
}}

extern "C" __global__ void {name}({", ".join(of_kernel)}) {{
    {read}
    const long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x, first = i * {width};
    {" ".join(clock_lines(counting, "i"))}
    if (first + {width} <= size) {{
        {load}
        #pragma unroll
        for (int k = 0; k < {width}; k++) {update("pack_{}.element")}
        {store}
    }} else {{
        #pragma unroll 1
        for (long long k = 0; first + k < size; k++) {update("array_{}[i].element")}
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
