"""`compile`: what the first step needs is there before it, and nothing is written."""

from functools import partial
from itertools import product

import numpy as np
import pytest
from parameters import COMPILED
from variants import covering

import gpuprop
from gpuprop.backends.cpu import finding, loops, passes, pool, reductions
from gpuprop.backends.cpu.kernels import kernel

OPTIMIZERS = {
    "plain": gpuprop.RMSProp(),
    "skip": gpuprop.RMSProp(nonfinite="skip"),
    "raise": gpuprop.Adam(nonfinite="raise"),
    "clip": gpuprop.RMSProp(clip_norm=1.0),
    "auto": gpuprop.Adam("auto"),
    "all": gpuprop.RMSProp("auto", clip_norm=1.0, nonfinite="skip"),
    "fused": gpuprop.RMSProp(nonfinite="skip").fuse("grad = x - t * y", reads=("y",), scalars=("t",)),
    "value": gpuprop.RMSProp().fuse("grad = 2 * x", value="x * x"),
    "fused all": gpuprop.RMSProp("auto", nonfinite="raise").fuse(
        "grad = x - y", "x = x - y", ("y",), value="y"
    ),
}
LAYOUTS = {
    "two": lambda xp: xp.ones(2),
    "large": lambda xp: xp.ones(600_000),
    "Fortran": lambda xp: xp.ones((300, 40), "float32").T,
    "window": lambda xp: xp.ones((300, 40), "float32")[::2, 3:],
    "strided": lambda xp: xp.ones((30, 4), "float32")[:, ::2],
    "transposed": lambda xp: xp.ones((3, 4, 5), "float16").transpose(1, 0, 2),
    "complex": lambda xp: xp.ones((20, 30), "complex128"),
    "strided complex": lambda xp: xp.ones((200, 30), "complex128")[::2, ::3],
    "scalar": lambda xp: xp.ones(()),
}
#: In these each optimizer and each layout is there.
FEW = covering(product(OPTIMIZERS, LAYOUTS), set)


@pytest.fixture
def nothing_compiled(monkeypatch, threads):
    """As in a new process; the list of kernels whose functions are made from then on."""
    for cached in (
        loops.loops, reductions._sums_of_blocks, reductions._sum_of_strided, finding.law,
        finding._sums_and_law, pool._compiled, passes._kernel,
    ):  # fmt: skip
        cached.cache_clear()
    backend, made, make = gpuprop.select_backend("cpu"), [], kernel._callable
    monkeypatch.setattr(backend, "_vectors", {})
    monkeypatch.setattr(backend, "_plans", {})
    monkeypatch.setattr(kernel, "_callable", lambda k, *more: made.append(k.name) or make(k, *more))
    threads(2)
    return made


def ready(optimizer, x):
    """The first step."""
    state = optimizer.init(x)
    given, scalars = state.backend.full_like(x, 0.5), {}
    if isinstance(optimizer, gpuprop.Fused):
        given, scalars = (
            dict.fromkeys(optimizer.lines.reads, given),
            dict.fromkeys(optimizer.lines.scalars, 0.5),
        )
    return partial(optimizer.step, x, given, state, **scalars)


@pytest.mark.parametrize(
    ("optimizer", "layout", "pooled"),
    [
        pytest.param(*case, marks=[] if case[:2] in FEW and not case[2] else pytest.mark.slow)
        for case in product(OPTIMIZERS, LAYOUTS, [False, True])
    ],
)
def test_the_first_step_compiles_nothing(optimizer, layout, pooled, nothing_compiled, monkeypatch):
    if pooled:
        monkeypatch.setattr("gpuprop.backends.cpu.pool.team_is_there", lambda: False)
    x, optimizer = LAYOUTS[layout](np), OPTIMIZERS[optimizer]
    optimizer.compile(x)
    assert (x == 1).all()
    assert nothing_compiled
    nothing_compiled.clear()
    ready(optimizer, x)()
    assert nothing_compiled == []


def test_compiling_for_what_is_not_finite_and_for_arrays_of_options(nothing_compiled):
    x = np.full((30, 40), np.nan)
    bounds = np.zeros((30, 40)), np.full((30, 40), 2.0)
    optimizer = gpuprop.RMSProp(np.full((30, 40), 0.1), bounds=bounds, nonfinite="raise")
    optimizer.compile(x)
    nothing_compiled.clear()
    ready(optimizer, np.ones((30, 40)))()
    assert nothing_compiled == []


def test_of_data_of_another_kind(nothing_compiled):
    """Real beside complex parameters, which no default guesses; and in other strides than those of x."""
    real, strided = gpuprop.RMSProp().fuse("grad = x - y", reads=("y",), value="x"), np.ones((4, 8))[:, ::2]
    for x, y in ((np.ones(5, complex), np.ones(5)), (np.ones((4, 4)), strided)):
        real.compile(x, {"y": y})
        assert nothing_compiled
        state = real.init(x)
        nothing_compiled.clear()
        real.step(x, {"y": y}, state)
        assert nothing_compiled == []
    with pytest.raises(TypeError, match="data are 'z', and must be 'y', as fuse was told"):
        real.compile(x, {"z": strided})
    with pytest.raises(ValueError, match=r"y has shape \(4,\) and x has \(4, 4\)"):
        real.compile(x, {"y": np.ones(4)})


def test_groups(nothing_compiled):
    groups = gpuprop.Groups(a=gpuprop.Adam(), b=gpuprop.SGD(0.1), clip_norm=1.0)
    arrays = {"a": np.ones(3), "b": np.ones((4, 4), "float32")}
    groups.compile(arrays)
    nothing_compiled.clear()
    groups.step(arrays, {name: np.ones_like(a) for name, a in arrays.items()}, groups.init(arrays))
    assert nothing_compiled == []
    with pytest.raises(ValueError, match="arrays has no 'b'"):
        groups.compile({"a": np.ones(3)})
    with pytest.raises(TypeError, match=r"a: .*int64"):
        groups.compile({"a": np.ones(3, int), "b": np.ones(1)})


@pytest.mark.gpu
@pytest.mark.few(("optimizer", "layout"), FEW)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_gpus_first_step_compiles_nothing(optimizer, layout, cupy, monkeypatch):
    x, optimizer = LAYOUTS[layout](cupy), OPTIMIZERS[optimizer]
    optimizer.compile(x)
    assert bool((x == 1).all())
    first_step = ready(optimizer, x)

    def compiles(*_, **__):
        raise AssertionError("a kernel is compiled")

    monkeypatch.setattr("cupy.cuda.compiler._compile_module_with_cache", compiles)
    first_step()


@pytest.mark.parametrize("device", COMPILED)
def test_what_cannot_be_stepped_cannot_be_compiled_for(device):
    backend = gpuprop.select_backend(device)
    with pytest.raises(TypeError, match="int64"):
        gpuprop.RMSProp().compile(backend.xp.ones(3, "int64"))
    with pytest.raises(TypeError, match="backend is 'cpu'; it must be one that select_backend gave"):
        gpuprop.RMSProp().compile(backend.xp.ones(3), backend="cpu")
    with pytest.raises(TypeError, match="int64"):
        gpuprop.RMSProp().fuse("grad = x").compile(backend.xp.ones(3, "int64"))
