"""What NVIDIA's compiler makes of each kernel; it needs no device."""

import ast
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from compiled_kernels import CASES, COMPLEX, DTYPES, MORE, WIDE, accesses, numbers_in

from gpuprop import RMSProp
from gpuprop.backends.gpu.kernels import machine_code
from gpuprop.backends.gpu.kernels.elementwise import COMPILER_OPTIONS, elementwise_kernel
from gpuprop.backends.gpu.kernels.wide import elements_a_thread, wide_kernel, wide_source

cupy = pytest.importorskip("cupy", reason="CuPy generates the kernels")
compiler = pytest.importorskip("gpuprop.backends.gpu.kernels.compiler")

pytestmark = pytest.mark.usefixtures("nvidias_compiler")

#: The newest; the others are left to CI.
FIRST = (120,)
ARCHITECTURES = [
    pytest.param(each, marks=() if each in FIRST else pytest.mark.slow, id=f"sm_{each}")
    for each in compiler.ARCHITECTURES
]


@pytest.fixture(scope="module", params=ARCHITECTURES)
def architecture(request):
    if request.param not in compiler.known_architectures():
        pytest.skip("the installed NVRTC does not know it")
    return request.param


def sources(cases):
    return {
        name: (wide_source if name in WIDE else compiler.cuda_source)(name, rule, dtype, **options)
        for name, (rule, dtype, options) in cases.items()
    }


@pytest.fixture(scope="module")
def kernels(architecture):
    """Kernels as machine code, where that can be read: all for the oldest and the newest."""
    contiguous = {
        name: case for name, case in CASES.items() if not name.endswith(("strided", "64_bit_index"))
    }
    chosen = CASES if architecture in (75, 120) else contiguous
    return compiler.compile_sources(sources(chosen), architecture)


@pytest.fixture(scope="module")
def ptx():
    """Every kernel before it is fitted to an architecture."""
    return compiler.compile_sources(sources(CASES | MORE | WIDE), 80, machine_code=False)


def test_compiled_code(kernels):
    for case, kernel in kernels.items():
        rule, dtype, options = CASES[case]
        each, apart = numbers_in(rule, dtype)
        bits, double = (
            8 * cupy.dtype(dtype).itemsize // each[rule.writes[0]],
            dtype in ("float64", "complex128"),
        )
        moved = accesses(rule, dtype, options, bits)
        # Numbers for all threads the same, and whether there are such; counting is no load or store.
        moved["ld", 64 if double else 32] += apart * len(options.get("on_device", ()))
        moved["ld", 64] += options.get("counting") == "is stopped"
        if "gathers" in options:  # the number of the row
            moved["ld", 64] += 1
        assert kernel.accesses() == +moved, case
        assert len(kernel.atomics()) == apart * ("mode" in options) + ("counting" in options), case
        for operation in kernel.atomics():
            assert re.search(r"\.ADD\.(E\.)?64|\.add\.u64", operation), case
        assert kernel.local_accesses() == [], case
        assert kernel.local_bytes == 0, case
        assert "gathers" in options or bool(kernel.float64()) == double, case  # a row by division
        # 768 threads on a multiprocessor, or more; with all options and both parts of a complex128, 640.
        assert kernel.registers <= (80 if apart == each[rule.writes[0]] else 96), case


@pytest.mark.slow
def test_wide_kernels_move_each_array_once_by_128_bits(architecture):
    for case, kernel in compiler.compile_sources(sources(WIDE), architecture).items():
        rule, dtype, options = WIDE[case]
        bits = 8 * cupy.dtype(dtype).itemsize // (2 if dtype in COMPLEX else 1)
        # The last few elements go one by one.
        moved = accesses(rule, dtype, options, 128) + accesses(rule, dtype, options, bits)
        double = dtype in ("float64", "complex128")
        moved["ld", 64 if double else 32] += len(options.get("on_device", ()))
        moved["ld", 64] += options.get("counting") == "is stopped"
        assert kernel.accesses() == +moved, case
        assert kernel.local_accesses() == [], case
        assert kernel.local_bytes == 0, case
        assert bool(kernel.float64()) == double, case
        assert kernel.registers <= 128, case  # 512 threads on a multiprocessor, or more


@pytest.mark.slow
def test_arithmetic_is_that_of_ieee_754(ptx):
    for case, kernel in ptx.items():
        assert not kernel.is_machine_code
        rule, dtype, _ = (CASES | MORE | WIDE)[case]
        compute = "f64" if dtype in ("float64", "complex128") else "f32"
        operations = [op.replace(".ftz", "") for op in kernel.special_functions()]
        # In a wide kernel, once for each element of a pack, and once for those behind the last pack.
        _, apart = numbers_in(rule, dtype)
        often = elements_a_thread(dtype) + 1 if case in WIDE else apart
        nodes = list(ast.walk(rule.elements(dtype in COMPLEX).tree()))
        quotients = [ast.unparse(n) for n in nodes if isinstance(n, ast.BinOp) and isinstance(n.op, ast.Div)]
        roots = [ast.unparse(n) for n in nodes if isinstance(n, ast.Call) and n.func.id == "sqrt"]
        if rule.couples and dtype in COMPLEX:  # what is real is computed once for both parts
            quotients, roots = set(quotients), set(roots)
        wanted = [f"div.rn.{compute}"] * (often * len(quotients))
        wanted += [f"sqrt.rn.{compute}"] * (often * len(roots))
        assert sorted(operations) == wanted, case
        assert kernel.contractions() == [], case


@pytest.mark.parametrize("dtype", DTYPES)
def test_sums_load_elements_at_their_own_width(dtype):
    bits = 8 * cupy.dtype(dtype).itemsize
    sources = compiler.other_sources(dtype)
    for name, kernel in compiler.compile_sources(sources, 80, machine_code=False).items():
        widths = {size for (kind, size) in kernel.accesses() if kind == "ld"}
        # Sums of sums, and what is made of them, are in float64; scalars are as kernels take them.
        of_elements = name.startswith(("gpuprop_sum_", "gpuprop_products"))
        scalars = {max(bits, 32)} if name.startswith("gpuprop_fetch") else set()
        assert widths == ({bits} if of_elements else {64} | scalars), name
        assert kernel.local_bytes == 0


#: What makes 64 bits of an index out of 32, adds to one, or compares it.
NARROW = r"cvt\.[su]64\.s32|and\.b64 .*, 4294967295;|add\.[su]32|setp\.(?:lt|le|gt|ge)\.[su]32"


def test_sums_count_elements_in_64_bits():
    sources = {
        name: source for name, source in compiler.other_sources("float32").items() if "gpuprop_sum_" in name
    }
    trials = [("ptrdiff_t j", "int j"), ("ptrdiff_t j", "unsigned j"), ("j < size", "j < (int)size")]
    for written, instead in trials:
        name = f"narrow_{len(sources)}"
        source = sources["gpuprop_sum_square_float32"]
        assert written in source
        sources[name] = source.replace("gpuprop_sum_square_float32", name).replace(written, instead)
    for name, kernel in compiler.compile_sources(sources, 80, machine_code=False).items():
        assert f".param .u64 {name}_param_1" in kernel.code
        # Behind the barrier threads of a block are counted, of which there are few; before it, once.
        elements, _, _ = kernel.code.partition("bar.sync")
        is_wide = len(re.findall(NARROW, elements)) == 1
        assert is_wide == (not name.startswith("narrow")), name


def test_machine_code_is_read(architecture, kernels):
    if machine_code.disassembler() is None:
        pytest.skip("nvdisasm is not installed")
    if architecture < 75:
        pytest.skip("the nvdisasm of CUDA 13 reads sm_75 and later")
    assert all(kernel.is_machine_code for kernel in kernels.values())


def compiled(source, as_machine_code):
    return compiler.compile_sources({"trial": source}, 80, machine_code=as_machine_code)["trial"]


@pytest.mark.parametrize("as_machine_code", [True, False])
@pytest.mark.parametrize(
    ("written", "instead", "seen"),
    [
        ("v_rho * v_square", "v_rho * 1.0000001 * v_square", lambda k: k.float64()),
        ("= v_x;", "= v_x + *(volatile float*)&array_x;", lambda k: k.accesses()["ld", 32] == 4),
        ("array_square_average = v_square_average;", "", lambda k: k.accesses()["st", 32] == 1),
    ],
)
def test_what_must_not_be_there_would_be_seen(written, instead, seen, as_machine_code):
    source = compiler.cuda_source("trial", RMSProp().rule, "float32")
    assert written in source
    assert seen(compiled(source.replace(written, instead), as_machine_code))


@pytest.mark.parametrize("as_machine_code", [True, False])
@pytest.mark.parametrize("mode", ["skip", "count"])
def test_a_count_that_is_not_atomic_would_be_seen(mode, as_machine_code):
    source = compiler.cuda_source("trial", RMSProp().rule, "float32", mode=mode)
    addition = "atomicAdd(&counter[0], 1ULL)"
    assert addition in source
    seen = compiled(source.replace(addition, "counter[0] += 1"), as_machine_code)
    assert seen.atomics() == []
    assert seen.accesses()["st", 64] == 1


@pytest.mark.parametrize("dtype", DTYPES)
def test_cupy_is_given_the_options_that_these_tests_compile_with(dtype, monkeypatch):
    assert elementwise_kernel(RMSProp().rule, dtype).kwargs["options"] == COMPILER_OPTIONS
    given = []

    def raw_kernel(*source, options):
        return SimpleNamespace(kernel=given.append(options))

    monkeypatch.setattr(cupy, "RawKernel", raw_kernel)
    wide_kernel(RMSProp().rule, dtype)
    assert given == [COMPILER_OPTIONS]


def test_a_mistake_in_cuda_is_found():
    source = compiler.cuda_source("trial", RMSProp().rule, "float32").replace("v_rho *", "v_rhi *")
    with pytest.raises(cupy.cuda.compiler.CompileException, match="undefined"):
        compiled(source, False)


@pytest.mark.slow
def test_the_table_of_costs():
    script = Path(__file__).parents[3] / "scripts" / "inspect_kernels.py"
    arguments = ["--dtypes", "float32", "--architectures", "sm_80", "sm_90"]
    done = subprocess.run([sys.executable, script, *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    rows = [line.split(" | ") for line in done.stdout.splitlines() if line.startswith("| rmsprop |")]
    assert [row[2] for row in rows] == ["sm_80", "sm_90"]
    for row in rows:
        assert row[4:7] == ["3 x 128", "2 x 128", "20 / 20"]
    totals = [line for line in done.stdout.splitlines() if line.startswith("| all, ")]
    assert [line.split(" | ")[1:4] for line in totals] == [["12", "9", "84"], ["8", "5", "52"]]
