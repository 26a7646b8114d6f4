"""What NVIDIA's compiler makes of each kernel; it needs no device."""

import ast
import importlib.util
import re
import subprocess
import sys
from collections import Counter
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import DTYPES
from trial_rules import CLIPPED, EVERYTHING

from gpuprop import Adam, RMSProp, rules
from gpuprop.backends.gpu.kernels import machine_code
from gpuprop.backends.gpu.kernels.elementwise import COMPILER_OPTIONS, elementwise_kernel
from gpuprop.backends.gpu.kernels.wide import elements_a_thread, wide_kernel, wide_source
from gpuprop.rules.composition import direction_of

cupy = pytest.importorskip("cupy", reason="CuPy generates the kernels")
compiler = pytest.importorskip("gpuprop.backends.gpu.kernels.compiler")

LAYOUTS = {
    "contiguous": {},
    "contiguous_64_bit_index": {"index_32_bits": False},
    "strided": {"ndim": 2, "contiguous": False},
    "strided_64_bit_index": {"ndim": 2, "contiguous": False, "index_32_bits": False},
}


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


# bfloat16 is known to NumPy where ml_dtypes is loaded.
DTYPES = [*DTYPES, *(["bfloat16"] if importlib.util.find_spec("ml_dtypes") else [])]
if "bfloat16" in DTYPES:
    import ml_dtypes  # noqa: F401

BOUNDS = [rules.Around(arrays) for arrays in ((), ("lower",), ("upper",), ("lower", "upper"))]
#: Each rule of the package with every number in it, for each choice of arrays.
FULL = {
    "rmsprop": [
        rules.around(rules.rmsprop(v, c), b) for b, v, c in product(BOUNDS, (False, True), (False, True))
    ],
    "sgd": [rules.around(rules.sgd(v), b) for b, v in product(BOUNDS, (False, True))],
    "adagrad": [rules.around(rules.adagrad(), b) for b in BOUNDS],
    "adam": [rules.around(rules.adam(), b) for b in BOUNDS],
}
CASES = {
    f"article_{dtype}_{layout}": (RMSProp().rule, dtype, LAYOUTS[layout])
    for dtype, layout in product(DTYPES, LAYOUTS)
}
CASES |= {
    f"whole_{kind}_{dtype}": (of_a_kind[-1], dtype, {})
    for (kind, of_a_kind), dtype in product(FULL.items(), DTYPES)
}
#: What looks for elements that are not finite, and reads the factor of the norm on the device.
GUARDED = {"mode": "skip", "on_device": ("gradient_scale",)}
COUNTING = GUARDED | {"mode": "count"}
CASES |= {f"guarded_{dtype}": (FULL["rmsprop"][-1], dtype, GUARDED) for dtype in DTYPES}
CASES |= {f"counting_{dtype}": (FULL["rmsprop"][-1], dtype, COUNTING) for dtype in DTYPES}
#: Complex numbers that are not contiguous: pairs of reals, both in one thread.
COMPLEX = ("complex64", "complex128")
CASES |= {f"{dtype}_strided": (RMSProp().rule, dtype, LAYOUTS["strided"]) for dtype in COMPLEX}
CASES |= {
    f"guarded_{dtype}_strided": (FULL["rmsprop"][-1], dtype, GUARDED | LAYOUTS["strided"])
    for dtype in COMPLEX
}
#: Complex numbers whose parts go together, beside real arrays; rows; and what is only written.
ALL = rules.around(
    rules.rmsprop(True, True, True, "outside"),
    rules.Around(("weight_decay",), True, modulus_bounds=True, parameter_average=True),
)
TOGETHER = {
    "modulus": RMSProp(second_moment="modulus").rule,
    "modulus_adam": Adam(second_moment="modulus").rule,
    "modulus_all": ALL,
    "modulus_direction": direction_of(RMSProp(second_moment="modulus", momentum=0.5).rule),
}
CASES |= {
    f"{name}_{dtype}_{layout}": (rule, dtype, LAYOUTS[layout])
    for (name, rule), dtype, layout in product(TOGETHER.items(), COMPLEX, ("contiguous", "strided"))
}
CASES |= {f"modulus_guarded_{dtype}": (ALL, dtype, GUARDED) for dtype in COMPLEX}
CASES |= {f"real_{name}": (rule, "float32", {}) for name, rule in TOGETHER.items()}
ROWS = {"gathers": True}
CASES |= {f"rows_{dtype}": (RMSProp().rule, dtype, ROWS) for dtype in ("float16", "float32", "float64")}
CASES |= {f"rows_modulus_{dtype}": (TOGETHER["modulus"], dtype, ROWS) for dtype in COMPLEX}
#: Steps of a graph, which count themselves and know when to stop.
COUNTED = {"counting": "counts"}
STOPPED = {"counting": "is stopped", "on_device": ("step_size", "correction")}
ADAM = Adam().rule
CASES |= {f"counted_{dtype}": (RMSProp().rule, dtype, COUNTED) for dtype in DTYPES}
CASES |= {f"stopped_{dtype}": (ADAM, dtype, STOPPED) for dtype in DTYPES}
CASES |= {f"stopped_guarded_{dtype}": (ADAM, dtype, STOPPED | {"mode": "skip"}) for dtype in DTYPES}
CASES |= {f"stopped_{dtype}": (TOGETHER["modulus_adam"], dtype, STOPPED) for dtype in COMPLEX}
CASES |= {"stopped_rows": (ADAM, "float32", STOPPED | ROWS)}
#: Fewer arrays among the bounds, no velocity; and the whole language of rules.
MORE = {
    f"{kind}_{k}": (rule, "float32", {})
    for kind, of_a_kind in FULL.items()
    for k, rule in enumerate(of_a_kind[:-1])
}
MORE |= {
    f"{rule.name}_{dtype}": (rule, dtype, {})
    for rule, dtype in product((CLIPPED, EVERYTHING), ("float32", "float64"))
}
MORE |= {f"guarded_{kind}": (of_a_kind[0], "float32", GUARDED) for kind, of_a_kind in FULL.items()}


#: Kernels of contiguous arrays: those of the package with every option, and the whole language of rules.
WIDE = {
    f"wide_{name}": case
    for name, case in (CASES | MORE).items()
    if name.startswith(("whole", "guarded_float", "guarded_bfloat", "counting", "clipped", "everything"))
    or (name.startswith(("counted", "stopped")) and name != "stopped_rows")
    or (name.startswith(("real_", "modulus")) and not name.endswith("strided"))
}


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


def numbers_in(rule, dtype):
    """Real numbers that an element has in each array, and whether the rule sees its parts apart."""
    parts = 2 if dtype in COMPLEX else 1
    each = {name: 1 if name in rule.reals else parts for name in rule.arrays}
    return each, 1 if rule.couples else parts


def accesses(rule, dtype, options, bits):
    """Each array loaded once and stored once, by as many bits for each real number."""
    each, _ = numbers_in(rule, dtype)
    moved = Counter({("ld", bits): sum(each[n] for n in rule.arrays if n not in rule.fresh)})
    if options.get("mode") != "count":
        moved["st", bits] += sum(each[name] for name in rule.writes)
    return moved


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
