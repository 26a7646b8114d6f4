"""What NVIDIA's compiler makes of a rule, on a machine with or without a GPU.

CuPy generates and compiles a kernel when it is first launched, which needs a device. Here the same
generator and the same compiler options are used without one. The generator is private to CuPy;
everything that touches it is in `cuda_source`.
"""

from __future__ import annotations

from gpuprop.backends.checks import COMPUTE_DTYPE
from gpuprop.backends.gpu import elementwise_kernel
from gpuprop.rules import Rule


def cuda_source(
    rule: Rule, dtype: str, *, ndim: int = 1, contiguous: bool = True, index_32_bits: bool = True
) -> str:
    """The CUDA C++ that CuPy compiles for `rule` on such arrays.

    Parameters
    ----------
    rule : Rule
    dtype : {"float16", "float32", "float64"}
    ndim : int
        Dimensions of the arrays (CuPy flattens contiguous ones to 1).
    contiguous, index_32_bits : bool
        Whether the arrays are C-contiguous, and small enough for 32-bit indices.
    """
    import cupy
    from cupy._core import _carray, _kernel, _scalar, core

    array, indexer, scalar = 1, 2, 3  # CuPy's _ArgKind
    kernel = elementwise_kernel(rule, dtype)
    element = cupy.dtype(dtype)
    compute = COMPUTE_DTYPE[element]

    def arrays(count: int) -> list:
        layout = (ndim, contiguous, index_32_bits)
        return [_kernel._ArgInfo(array, cupy.ndarray, element, *layout) for _ in range(count)]

    infos = [
        *arrays(len(rule.reads)),
        *(_kernel._ArgInfo(scalar, _scalar.CScalar, compute, 0, True, True) for _ in rule.scalars),
        *arrays(len(rule.writes)),
        _kernel._ArgInfo(indexer, _carray.Indexer, None, ndim, True, index_32_bits),
    ]
    inputs = (*(element for _ in rule.reads), *(None for _ in rule.scalars))
    types = kernel._decide_params_type(inputs, tuple(element for _ in rule.writes))[-1]
    body = _kernel._get_elementwise_kernel_code(
        tuple(infos), types, kernel.params, kernel.operation, kernel.name, kernel.preamble, **kernel.kwargs
    )
    return "".join(f"#include <{header}>\n" for header in core._cupy_header_list) + body


def ptx(source: str, architecture: int, options: tuple[str, ...] = ("--fmad=false",)) -> str:
    """`source` compiled by NVRTC, as CuPy would, for compute capability `architecture` / 10.

    Raises
    ------
    cupy.cuda.compiler.CompileException
        NVRTC refuses it; the message is the compiler's log.
    """
    from cupy._core import core
    from cupy.cuda import compiler

    options = (
        *core.assemble_cupy_compiler_options(options),
        "-ftz=true",
        f"-arch=compute_{architecture}",
        "--device-as-default-execution-space",
    )
    program = compiler._NVRTCProgram(source, "kernel.cu", method="ptx")
    return program.compile(options)[0].decode()
