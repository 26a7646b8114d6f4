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
from gpuprop.backends.gpu.kernels import COMPILER_OPTIONS, PREAMBLE, REAL, body, compute_name
from gpuprop.rules import Rule

#: Of an access, and of the beginning of each array.
BYTES = 16
THREADS = 256

HEADERS = {"float16": "#include <cuda_fp16.h>\n", "bfloat16": "#include <cuda_bf16.h>\n"}
TYPES = {"float16": "__half", "bfloat16": "__nv_bfloat16", "float32": "float", "float64": "double"}


def elements_a_thread(dtype: str) -> int:
    return BYTES // (2 if dtype == "bfloat16" else np.dtype(dtype).itemsize)


def wide_source(
    name: str, rule: Rule, dtype: str, mode: Mode = "plain", *, on_device: Collection[str] = ()
) -> str:
    """The CUDA C++ of `wide_kernel`, for a kernel called `name`."""
    counts, stores = mode != "plain", mode != "count"
    real, width = REAL[compute_name(dtype)], elements_a_thread(dtype)
    values = [f"const {real} scalar_{n}" for n in rule.scalars]
    device = {f"const {real} scalar_{n}": f"const {real} *at_{n}" for n in on_device}
    counter = ["unsigned long long *counter"] if counts else []
    of_element = [f"{TYPES[dtype]} array_{n}" for n in rule.reads] + values
    of_element += [f"{TYPES[dtype]} &array_{n}" for n in rule.writes] + counter
    of_kernel = [f"const pack *array_{n}" for n in rule.reads] + [device.get(v, v) for v in values]
    of_kernel += [f"pack *array_{n}" for n in rule.writes] + [*counter, "long long size"]

    def update(of: str) -> str:
        each = [of.format(n) for n in rule.reads] + [f"scalar_{n}" for n in rule.scalars]
        each += [of.format(n) for n in rule.writes] + ["counter"] * counts
        return f"element({', '.join(each)});"

    read = " ".join(f"{value} = *at_{n};" for n, value in zip(on_device, device, strict=True))
    load = " ".join(f"pack pack_{n} = array_{n}[i];" for n in rule.arrays)
    store = " ".join(f"array_{n}[i] = pack_{n};" for n in rule.writes) if stores else ""
    return f"""{HEADERS.get(dtype, "")}{PREAMBLE}
typedef {TYPES[dtype]} {dtype if dtype in HEADERS else "stored"};
struct __align__({BYTES}) pack {{ {TYPES[dtype]} element[{width}]; }};

__device__ __forceinline__ void element({", ".join(of_element)}) {{
{body(rule, dtype, mode)}
}}

extern "C" __global__ void {name}({", ".join(of_kernel)}) {{
    {read}
    const long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x, first = i * {width};
    if (first + {width} <= size) {{
        {load}
        #pragma unroll
        for (int k = 0; k < {width}; k++) {update("pack_{}.element[k]")}
        {store}
    }} else {{
        #pragma unroll 1
        for (long long k = 0; first + k < size; k++) {update("array_{}[i].element[k]")}
    }}
}}
"""


def wide_kernel(rule: Rule, dtype: str, mode: Mode = "plain", *, on_device: Collection[str] = ()) -> Any:
    """The kernel of a rule for contiguous arrays that begin at multiples of `BYTES`.

    Parameters
    ----------
    rule, dtype, mode, on_device
        As for `elementwise_kernel`.

    Returns
    -------
    cupy.cuda.Function
        On the current device, to be launched with the arguments of that kernel, and at last the number of
        elements. (A `cupy.RawKernel` would look for it anew each time, for as long as a launch takes.)
    """
    import cupy

    name = f"gpuprop_{rule.name}_{dtype}_wide"
    source = wide_source(name, rule, dtype, mode, on_device=on_device)
    return cupy.RawKernel(source, name, options=COMPILER_OPTIONS).kernel
