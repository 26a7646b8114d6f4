"""What NVIDIA's compiler makes of each kernel; it needs no device."""

import re
from collections import Counter

import pytest
from conftest import DTYPES

from gpuprop.rules import RMSPROP

cupy = pytest.importorskip("cupy", reason="CuPy generates the kernels")
nvrtc = pytest.importorskip("gpuprop.backends.nvrtc")

ARCHITECTURES = (70, 80, 90, 120)
LAYOUTS = {
    "contiguous": {},
    "contiguous, 64-bit index": {"index_32_bits": False},
    "strided": {"ndim": 2, "contiguous": False},
    "strided, 64-bit index": {"ndim": 2, "contiguous": False, "index_32_bits": False},
}
WIDTH = {"float16": "16", "float32": "32", "float64": "64"}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rule", [RMSPROP], ids=lambda rule: rule.name)
def test_compiled_code(rule, dtype, layout, architecture):
    code = nvrtc.ptx(nvrtc.cuda_source(rule, dtype, **LAYOUTS[layout]), architecture)
    accesses = Counter(re.findall(r"\b(ld|st)\.global(?:\.\w+)*?\.[bfsu](16|32|64)\s", code))
    assert accesses == {("ld", WIDTH[dtype]): len(rule.arrays), ("st", WIDTH[dtype]): len(rule.writes)}
    assert not re.search(r"\b(ld|st)\.local", code)
    if dtype != "float64":
        assert ".f64" not in code
    # IEEE roots and quotients, and no contraction: the bits of the CPU.
    compute = "f64" if dtype == "float64" else "f32"
    assert re.search(rf"sqrt\.rn(\.ftz)?\.{compute}", code)
    assert re.search(rf"div\.rn(\.ftz)?\.{compute}", code)
    assert not re.search(r"\bfma\.", code)


def test_a_mistake_in_cuda_is_found():
    with pytest.raises(cupy.cuda.compiler.CompileException, match="undefined"):
        nvrtc.ptx(nvrtc.cuda_source(RMSPROP, "float32").replace("v_rho *", "v_rhi *"), 80)
