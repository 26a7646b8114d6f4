"""What NVIDIA's compiler makes of a rule, on a machine with or without a GPU.

CuPy generates and compiles a kernel when it is first launched, which needs a device. Here the same
generator and the same compiler options are used without one. The generator is private to CuPy;
everything that touches it is in `cuda_source` and `_run`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from io import StringIO
from typing import Any

from gpuprop.backends.base import Mode
from gpuprop.backends.checks import compute_dtype, dtypes_of, real_dtype
from gpuprop.backends.gpu.graphs import fetch_kernel
from gpuprop.backends.gpu.kernels.elementwise import COMPILER_OPTIONS, compute_name, elementwise_kernel
from gpuprop.backends.gpu.kernels.finding import law_kernel, products_kernel
from gpuprop.backends.gpu.kernels.machine_code import Kernel, disassemble
from gpuprop.backends.gpu.kernels.reductions import TERMS, clip_kernel, rows_kernel, sum_kernel
from gpuprop.rules import Rule

#: Compute capabilities, times ten: V100, T4, A100, RTX 30, RTX 40, H100, B200, RTX 50.
ARCHITECTURES = (70, 75, 80, 86, 89, 90, 100, 120)


def known_architectures() -> list[int]:
    """Those of `ARCHITECTURES` that the installed NVRTC compiles for."""
    from cupy.cuda import nvrtc

    supported = set(nvrtc.getSupportedArchs())
    return [architecture for architecture in ARCHITECTURES if architecture in supported]


def compile_sources(
    sources: Mapping[str, str], architecture: int, *, machine_code: bool = True
) -> dict[str, Kernel]:
    """Compile kernels as CuPy would, all at once: compiler and disassembler take long to start.

    Parameters
    ----------
    sources : mapping of str to str
        CUDA C++ from `cuda_source`, by the name of its kernel.
    architecture : int
        Compute capability times ten.
    machine_code : bool
        Whether to look at machine code where it can be disassembled, rather than at PTX.

    Raises
    ------
    cupy.cuda.compiler.CompileException
        NVRTC refuses one; the message is the compiler's log.
    """
    parts = []
    for name, source in sources.items():
        included = "".join(re.findall(r"^ *#include.*\n", source, re.MULTILINE))
        body = re.sub(r"^ *#include.*\n", "", source, flags=re.MULTILINE)
        parts.append(f"{included}namespace of_{name} {{\n{body}\n}}\n")
    source = "".join(parts)
    cubin, log = _run(source, f"sm_{architecture}", "cubin", "--ptxas-options=-v")
    # CuPy takes a cubin's last byte for the end of a text; disassemblers want it.
    sass = disassemble(cubin + b"\0") if machine_code else None
    code = sass or _run(source, f"compute_{architecture}", "ptx")[0].decode()
    start_of_one = r"^\.text\.(\w+):$" if sass else r"^\.visible \.entry (\w+)\("
    codes = _by_name(start_of_one, code)
    logs = _by_name(r"Function properties for (\w+)$", log)
    return {
        name: Kernel(
            code=codes[name],
            is_machine_code=sass is not None,
            registers=int(re.findall(r"Used (\d+) registers", logs[name])[0]),
            local_bytes=sum(
                int(n)
                for n in re.findall(r"(\d+) bytes (?:stack frame|spill stores|spill loads)", logs[name])
            ),
        )
        for name in sources
    }


def _by_name(heading: str, text: str) -> dict[str, str]:
    """The parts of `text` behind each line that matches `heading`, by what its group caught."""
    parts = re.split(heading, text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def _run(source: str, architecture: str, method: str, *more: str) -> tuple[bytes, str]:
    from cupy._core import core
    from cupy.cuda import compiler

    options = (
        *core.assemble_cupy_compiler_options((*COMPILER_OPTIONS, *more)),
        "-ftz=true",
        f"-arch={architecture}",
        "--device-as-default-execution-space",
    )
    source = "".join(f"#include <{header}>\n" for header in core._cupy_header_list) + source
    log = StringIO()
    code, _ = compiler._NVRTCProgram(source, "kernel.cu", method=method).compile(options, log)
    return code, log.getvalue()


def cuda_source(
    name: str,
    rule: Rule,
    dtype: str,
    *,
    ndim: int = 1,
    contiguous: bool = True,
    index_32_bits: bool = True,
    mode: Mode = "plain",
    on_device: Collection[str] = (),
    gathers: bool = False,
    counting: str = "",
) -> str:
    """The CUDA C++ that CuPy compiles for `rule` on such arrays.

    Parameters
    ----------
    name : str
        For the kernel.
    rule : Rule
    dtype : str
        As for `elementwise_kernel`.
    ndim : int
        Dimensions of the arrays (CuPy flattens contiguous ones to 1).
    contiguous, index_32_bits : bool
        Whether the arrays are C-contiguous, and small enough for 32-bit indices.
    mode, on_device, gathers, counting
        As for `elementwise_kernel`.
    """
    import cupy
    from cupy._core import _carray, _kernel, _scalar

    array, indexer, scalar = 1, 2, 3  # CuPy's _ArgKind
    kernel = elementwise_kernel(rule, dtype, mode, on_device=on_device, gathers=gathers, counting=counting)
    element, counter = cupy.dtype(dtype), cupy.dtype("uint64")
    compute = compute_dtype(real_dtype(element))
    layout = (ndim, contiguous, index_32_bits)

    def info(kind: int, of: type, element: Any, *shape: Any) -> Any:
        return _kernel._ArgInfo(kind, of, element, *shape)

    infos: list[Any] = []
    inputs: list[Any] = []
    outputs: list[Any] = []
    dtypes = dict(zip(rule.arrays, dtypes_of(rule, element), strict=True))
    for read in rule.reads:
        infos.append(info(array, cupy.ndarray, dtypes[read], *layout))
        inputs.append(dtypes[read])
    for name_of_scalar in rule.scalars:
        if name_of_scalar in on_device:
            infos.append(info(array, cupy.ndarray, compute, 1, True, True))
            inputs.append(compute)
        else:
            infos.append(info(scalar, _scalar.CScalar, compute, 0, True, True))
            inputs.append(None)
    if gathers:
        whole = cupy.dtype("int64")
        infos.append(info(array, cupy.ndarray, whole, 1, True, True))
        infos.append(info(scalar, _scalar.CScalar, whole, 0, True, True))
        inputs += [whole, None]
    for written in rule.writes:
        infos.append(info(array, cupy.ndarray, dtypes[written], *layout))
        (inputs if mode == "count" else outputs).append(dtypes[written])
    for _ in range((mode != "plain") + bool(counting)):
        infos.append(info(array, cupy.ndarray, counter, 1, True, True))
        outputs.append(counter)
    infos.append(info(indexer, _carray.Indexer, None, ndim, True, index_32_bits))
    return _code(name, kernel, infos, inputs, outputs)


def other_sources(dtype: str) -> dict[str, str]:
    """The CUDA C++ of what comes before a step of contiguous arrays of `dtype`, by name.

    Sums, what is made of them, and the scalars of a step that was captured.
    """
    import cupy
    from cupy._core import _carray, _kernel, _scalar

    indexer = _kernel._ArgInfo(2, _carray.Indexer, None, 1, True, True)

    def info(parameter: Any, is_array: bool) -> Any:
        kind: Any = (1, cupy.ndarray) if is_array else (3, _scalar.CScalar)
        return _kernel._ArgInfo(*kind, parameter.dtype, int(is_array), True, True)

    compute = compute_name(dtype)
    kernels = [*(sum_kernel(dtype, term) for term in TERMS), clip_kernel(), products_kernel(dtype)]
    kernels += [law_kernel(compute), law_kernel(compute, on_device=True), fetch_kernel(compute)]
    kernels += [rows_kernel(), law_kernel(compute, of_ranks=True)]
    sources = {}
    for kernel in kernels:
        inputs, outputs = kernel.params[: kernel.nin], kernel.params[kernel.nin : kernel.nargs]
        infos = [info(one, one.raw) for one in inputs] + [info(one, True) for one in outputs]
        types = [one.dtype if one.raw else None for one in inputs], [one.dtype for one in outputs]
        sources[kernel.name] = _code(kernel.name, kernel, [*infos, indexer], *types)
    return sources


def _code(name: str, kernel: Any, infos: list[Any], inputs: list[Any], outputs: list[Any]) -> str:
    from cupy._core import _kernel

    types = kernel._decide_params_type(tuple(inputs), tuple(outputs))[-1]
    return _kernel._get_elementwise_kernel_code(
        tuple(infos), types, kernel.params, kernel.operation, name, kernel.preamble, **kernel.kwargs
    )
