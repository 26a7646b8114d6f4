"""What NVIDIA's compiler makes of a user's lines in a kernel: no byte is moved beyond the least."""

import importlib.util
import re
from collections import Counter
from itertools import product

import numpy as np
import pytest

from gpuprop import SGD, Adam, RMSProp
from gpuprop.measure import bandwidth

cupy = pytest.importorskip("cupy", reason="CuPy generates the kernels")
compiler = pytest.importorskip("gpuprop.backends.gpu.kernels.compiler")

from gpuprop.backends.gpu.kernels.passes import pass_source  # noqa: E402
from gpuprop.backends.gpu.kernels.wide import BYTES, elements_a_thread, wide_source  # noqa: E402

pytestmark = pytest.mark.usefixtures("nvidias_compiler")

DTYPES = ["float16", "float32", "float64", *(["bfloat16"] if importlib.util.find_spec("ml_dtypes") else [])]
PROX = "x = where(x > t, x - t, where(x < -t, x + t, 0))"
FUSED = {
    "square": RMSProp().fuse("grad = 2 * x"),
    "value": RMSProp().fuse("grad = 2 * x", value="x * x"),
    "data": Adam(parameter_average=0.9).fuse(
        "off = x - y\ngrad = off + lam * x / sqrt(x * x + 1e-3)", PROX, ("y",), ("lam", "t"), "off * off"
    ),
    "given": SGD(momentum=0.9).fuse(after=PROX, reads=("grad",), scalars=("t",)),
}
RULES = {name: fused.rule for name, fused in FUSED.items()}
#: Whose parts go together, beside data that are real.
MODULUS = RMSProp(second_moment="modulus").fuse("grad = x * y", "", ("y",), value="abs2(x)")
MODULUS_RULE = MODULUS._rule(MODULUS.lines._replace(reals=("y",)))


def parts_of(rule, dtype):
    """Real numbers that an element has in each array."""
    return {name: 2 if dtype.startswith("complex") and name not in rule.reals else 1 for name in rule.arrays}


def in_bits(rule, dtype, bits):
    """Each array loaded once, and stored once where it is written."""
    parts = parts_of(rule, dtype)
    loads, stores = sum(parts.values()), sum(parts[name] for name in rule.writes)
    return Counter({("ld", bits): loads, ("st", bits): stores})


def cases(dtypes):
    """By name, what makes a source, its options, and the rule and dtype of the arrays."""
    found, rules = {}, list(product(RULES.items(), dtypes))
    for (name, rule), dtype in [*rules, (("modulus", MODULUS_RULE), "complex64")]:
        if not rule.total:
            found[f"wide_{name}_{dtype}"] = wide_source, {}, rule, dtype
        for has_table in (False, True):
            found[f"{'steps' if has_table else 'once'}_{name}_{dtype}"] = (
                pass_source, {"mode": "plain", "has_table": has_table}, rule, dtype,
            )  # fmt: skip
    return found


def check(kernels, found):
    for name, kernel in kernels.items():
        _, options, rule, dtype = found[name]
        itemsize = 2 if dtype == "bfloat16" else np.dtype(dtype).itemsize
        real = 8 * (itemsize // 2 if dtype.startswith("complex") else itemsize)
        wanted = in_bits(rule, dtype, 8 * BYTES) + in_bits(rule, dtype, real)  # the last few go one by one
        if options.get("has_table"):
            wanted["ld", 64 if dtype == "float64" else 32] += len(rule.scalars)
        if rule.total:
            wanted["st", 64] += 1  # of a block, by one of its threads
        assert kernel.accesses() == wanted, name
        wide = sum(n for (_, bits), n in wanted.items() if bits == 8 * BYTES)
        least = bandwidth.bytes_per_parameter(rule, real // 8, dtype.startswith("complex"))
        assert wide * BYTES == least * elements_a_thread(dtype), name
        assert kernel.local_bytes == 0, name
        assert kernel.local_accesses() == [], name
        assert kernel.registers <= 128, name  # 512 threads on a multiprocessor, or more
        assert bool(kernel.float64()) == bool(rule.total or dtype == "float64"), name


def sources_of(found):
    return {name: source(name, rule, dtype, **more) for name, (source, more, rule, dtype) in found.items()}


def test_nothing_is_read_for_a_gradient_that_is_made():
    assert bandwidth.bytes_per_parameter(RULES["square"], 4) == 16
    assert bandwidth.bytes_per_parameter(RMSProp().rule, 4) == 20
    assert RULES["square"].reads == ()


def test_several_steps_move_what_one_does():
    """In PTX, whose order is that of the source: all loads before the steps, and all stores behind them."""
    found = cases(["float32"])
    kernels = compiler.compile_sources(sources_of(found), 80, machine_code=False)
    check(kernels, found)
    for name, kernel in kernels.items():
        order = re.findall(r"\b(ld|st)\.global(\.v4)?", kernel.code)
        inner = [place for place, (_, is_wide) in enumerate(order) if not is_wide]
        if name.startswith("wide"):
            continue
        before, within, behind = order[: inner[0]], order[inner[0] : inner[-1] + 1], order[inner[-1] + 1 :]
        assert {kind for kind, _ in before} == {"ld"}, name
        assert {is_wide for _, is_wide in within} == {""}, name
        assert {kind for kind, _ in behind} == {"st"}, name


@pytest.mark.slow
@pytest.mark.parametrize("architecture", compiler.ARCHITECTURES)
def test_each_array_is_moved_once_by_128_bits(architecture):
    if architecture not in compiler.known_architectures():
        pytest.skip("the installed NVRTC does not know it")
    if "bfloat16" in DTYPES:
        import ml_dtypes  # noqa: F401
    found = cases(DTYPES)
    check(compiler.compile_sources(sources_of(found), architecture), found)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
def test_arrays_that_are_not_contiguous(dtype):
    """An element a thread, each array once."""
    if dtype == "bfloat16":
        import ml_dtypes  # noqa: F401
    itemsize = np.dtype(dtype).itemsize
    layouts = {"contiguous": {}, "strided": {"ndim": 2, "contiguous": False}}
    found = {f"{name}_{layout}": (RULES[name], layouts[layout]) for name, layout in product(RULES, layouts)}
    sources = {name: compiler.cuda_source(name, rule, dtype, **more) for name, (rule, more) in found.items()}
    for name, kernel in compiler.compile_sources(sources, 80).items():
        rule, _ = found[name]
        assert kernel.accesses() == in_bits(rule, dtype, 8 * itemsize), name
        assert kernel.local_bytes == 0, name
