"""What NVIDIA's compiler makes of each kernel; it needs no device."""

import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest
from conftest import DTYPES
from trial_rules import CLIPPED, EVERYTHING

from gpuprop.backends.gpu import COMPILER_OPTIONS, elementwise_kernel
from gpuprop.rules import RMSPROP

cupy = pytest.importorskip("cupy", reason="CuPy generates the kernels")
nvrtc = pytest.importorskip("gpuprop.backends.nvrtc")

LAYOUTS = {
    "contiguous": {},
    "contiguous_64_bit_index": {"index_32_bits": False},
    "strided": {"ndim": 2, "contiguous": False},
    "strided_64_bit_index": {"ndim": 2, "contiguous": False, "index_32_bits": False},
}


@pytest.fixture(scope="module", autouse=True)
def nvidias_compiler():
    """CuPy also runs where something else stands in for NVRTC."""
    try:
        code, _ = nvrtc._run('extern "C" __global__ void nothing() {}', "compute_80", "ptx")
    except Exception as error:
        pytest.skip(f"NVRTC cannot be used: {error}")
    if b"\n.target sm_80" not in code:
        pytest.skip("the NVRTC that CuPy uses here is not NVIDIA's: it writes no PTX")


@pytest.fixture(scope="module", params=nvrtc.ARCHITECTURES, ids="sm_{}".format)
def architecture(request):
    if request.param not in nvrtc.known_architectures():
        pytest.skip("the installed NVRTC does not know it")
    return request.param


# The package's own rules in every layout, and the whole language of rules in one.
WANTED = [*product([RMSPROP], DTYPES, LAYOUTS), *product([CLIPPED, EVERYTHING], DTYPES, ["contiguous"])]
CASES = {f"{rule.name}_{dtype}_{layout}": (rule, dtype, layout) for rule, dtype, layout in WANTED}


@pytest.fixture(scope="module")
def sources():
    return {
        name: nvrtc.cuda_source(name, rule, dtype, **LAYOUTS[layout])
        for name, (rule, dtype, layout) in CASES.items()
    }


@pytest.fixture(scope="module")
def kernels(sources, architecture):
    """Every kernel, as machine code where that can be read."""
    return nvrtc.compile_sources(sources, architecture)


@pytest.fixture(scope="module")
def ptx(sources):
    """Every kernel before it is fitted to an architecture."""
    return nvrtc.compile_sources(sources, 80, machine_code=False)


@pytest.mark.parametrize("case", CASES)
def test_compiled_code(case, kernels):
    rule, dtype, _ = CASES[case]
    bits = 8 * cupy.dtype(dtype).itemsize
    kernel = kernels[case]
    assert kernel.accesses() == {("ld", bits): len(rule.arrays), ("st", bits): len(rule.writes)}
    assert kernel.local_accesses() == []
    assert kernel.local_bytes == 0
    assert bool(kernel.float64()) == (dtype == "float64")
    assert kernel.registers <= 64  # half of the threads that a multiprocessor can hold, or more


@pytest.mark.parametrize("case", CASES)
def test_arithmetic_is_that_of_ieee_754(case, ptx):
    kernel = ptx[case]
    assert not kernel.is_machine_code
    compute = "f64" if CASES[case][1] == "float64" else "f32"
    operations = [op.replace(".ftz", "") for op in kernel.special_functions()]
    assert sorted(operations) == [f"div.rn.{compute}", f"sqrt.rn.{compute}"]
    assert kernel.contractions() == []


def test_machine_code_is_read(architecture, kernels):
    if nvrtc._disassembler() is None:
        pytest.skip("nvdisasm is not installed")
    if architecture < 75:
        pytest.skip("the nvdisasm of CUDA 13 reads sm_75 and later")
    assert all(kernel.is_machine_code for kernel in kernels.values())


def compiled(source, machine_code):
    return nvrtc.compile_sources({"trial": source}, 80, machine_code=machine_code)["trial"]


@pytest.mark.parametrize("machine_code", [True, False])
@pytest.mark.parametrize(
    ("written", "instead", "seen"),
    [
        ("v_rho * v_square", "v_rho * 1.0000001 * v_square", lambda k: k.float64()),
        ("= v_x;", "= v_x + *(volatile float*)&array_x;", lambda k: k.accesses()["ld", 32] == 4),
        ("array_square_average = v_square_average;", "", lambda k: k.accesses()["st", 32] == 1),
    ],
)
def test_what_must_not_be_there_would_be_seen(written, instead, seen, machine_code):
    source = nvrtc.cuda_source("trial", RMSPROP, "float32")
    assert written in source
    assert seen(compiled(source.replace(written, instead), machine_code))


@pytest.mark.parametrize("dtype", DTYPES)
def test_cupy_is_given_the_options_that_these_tests_compile_with(dtype):
    assert elementwise_kernel(RMSPROP, dtype).kwargs["options"] == COMPILER_OPTIONS


def test_a_mistake_in_cuda_is_found():
    source = nvrtc.cuda_source("trial", RMSPROP, "float32").replace("v_rho *", "v_rhi *")
    with pytest.raises(cupy.cuda.compiler.CompileException, match="undefined"):
        compiled(source, False)


def test_the_table_of_costs():
    script = Path(__file__).parents[2] / "scripts" / "inspect_kernels.py"
    arguments = ["--dtypes", "float32", "--architectures", "sm_80", "sm_90"]
    done = subprocess.run([sys.executable, script, *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    rows = [line.split(" | ") for line in done.stdout.splitlines() if line.startswith("| rmsprop")]
    assert [row[2] for row in rows] == ["sm_80", "sm_90"]
    for row in rows:
        assert row[4:7] == ["3 x 32", "2 x 32", "20 / 20"]
    totals = [line for line in done.stdout.splitlines() if line.startswith("| all, ")]
    assert [line.split(" | ")[1:4] for line in totals] == [["12", "9", "84"], ["8", "5", "52"]]
