"""The arrays that an optimizer takes beside plain vectors of floats."""

import subprocess
import sys
import tracemalloc
from itertools import product

import numpy as np
import pytest
from random_steps import normal, steps
from trial_rules import apply

import gpuprop
from gpuprop import RMSProp

try:
    from ml_dtypes import bfloat16
except ImportError:
    bfloat16 = None

needs_bfloat16 = pytest.mark.skipif(
    bfloat16 is None, reason="ml_dtypes, which brings bfloat16, is not installed"
)
COMPLEX = ["complex64", "complex128"]
OPTIMIZER = RMSProp(0.05, momentum=0.9, weight_decay=0.1, bounds=(-1, 1.5), initial_square_average=0.5)


@pytest.mark.parametrize(
    ("dtype", "shape"),
    [*product(COMPLEX, [(), 7, (3, 4)]), pytest.param("complex64", 700_000, marks=pytest.mark.slow)],
)
def test_complex_arrays_are_pairs_of_reals(backend, dtype, shape):
    if shape == 700_000 and backend.name == "gpu":
        shape = 7000
    x, *grads = (normal(shape, dtype, seed) for seed in range(4))
    pairs = [np.stack([a.real, a.imag], -1) for a in (x, *grads)]
    x, state = steps(OPTIMIZER, backend, x, grads)
    real_x, real_state = steps(OPTIMIZER, backend, pairs[0], pairs[1:])
    assert x.dtype == dtype
    for result, expected in ((x, real_x), *((state[name], real_state[name]) for name in real_state)):
        np.testing.assert_array_equal(np.stack([result.real, result.imag], -1), expected)


@pytest.mark.parametrize("dtype", COMPLEX)
def test_complex_arrays_of_any_layout(backend, dtype):
    x, grad = normal((6, 8), dtype), normal((6, 8), dtype, 1)
    expected, _ = steps(OPTIMIZER, backend, x, [grad] * 2)
    spacious = backend.xp.zeros((8, 3, 6), dtype)
    strided = spacious[::-1, 1].T
    strided[...] = backend.asarray(x)
    state = OPTIMIZER.init(strided, backend=backend)
    for _ in range(2):
        OPTIMIZER.step(strided, backend.asarray(np.asfortranarray(grad)), state)
    np.testing.assert_array_equal(backend.to_host(strided), expected)
    assert not backend.to_host(spacious[:, ::2]).any()


@needs_bfloat16
@pytest.mark.parametrize("shape", [9, (30, 40), 1_200_000])
def test_bfloat16_computes_in_float32_and_rounds_once(backend, shape):
    if shape == 1_200_000 and backend.name == "gpu":
        shape = 5000
    x, *grads = (normal(shape, bfloat16, seed) for seed in range(4))
    optimizer = RMSProp(0.05, 0.9, 1e-3)
    result, state = steps(optimizer, backend, x, grads)
    s = np.zeros_like(x)
    for grad in grads:
        updates, wide = gpuprop.reference.rmsprop(0.05, 0.9, 1e-3, grad.astype("f4"), s.astype("f4"))
        x, s = (x.astype("f4") - updates).astype(bfloat16), wide.astype(bfloat16)
    assert result.dtype == bfloat16
    np.testing.assert_array_equal(result.astype("f4"), x.astype("f4"))
    np.testing.assert_array_equal(state["square_average"].astype("f4"), s.astype("f4"))


@needs_bfloat16
def test_every_float32_rounds_to_the_bfloat16_that_it_should(compiled):
    # From above, from below, ties to even and to odd, infinities, NaN, beyond the largest number.
    bits = np.arange(0x3F7F_8000, 0x3F81_8000, 257, np.uint32)
    ties = np.array([0x3F80_8000, 0x3F81_8000, 0x7F7F_FFFF, 0x7F80_0000, 0x7F80_0001, 0xFFFF_FFFF], np.uint32)
    values = np.concatenate([bits, ties]).view(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        high = values.astype(bfloat16)
        low = (values - high.astype("f4")).astype(bfloat16)
        expected = (high.astype("f4") + low.astype("f4")).astype(bfloat16)
    add = gpuprop.Rule("add", ("grad",), ("x",), (), "x = x + grad")
    x = compiled.asarray(high.copy())
    apply(compiled, add, (compiled.asarray(low), x))
    np.testing.assert_array_equal(compiled.to_host(x).astype("f4"), expected.astype("f4"))


class Exchanged:
    """An array of a library that this package does not know; all that it offers is DLPack."""

    def __init__(self, array):
        self.array = array

    def __dlpack__(self, **options):
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


@pytest.mark.parametrize(
    "optimizer", [OPTIMIZER, RMSProp(clip_norm=1.0, nonfinite="raise")], ids=["plain", "guarded"]
)
def test_memory_of_other_libraries_is_stepped_in_place(compiled, optimizer):
    x, grad = normal(1000, "float32"), normal(1000, "float32", 1)
    expected, _ = steps(optimizer, compiled, x, [grad] * 3)
    own, gradient = (compiled.asarray(a.copy()) for a in (x, grad))
    state = optimizer.init(Exchanged(own))
    assert state.backend.name == compiled.name
    for _ in range(3):
        optimizer.step(Exchanged(own), Exchanged(gradient), state)
    np.testing.assert_array_equal(compiled.to_host(own), expected)


def test_torch_tensors_are_stepped_in_place():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    for dtype in (torch.float16, torch.float32, torch.float64, torch.complex64):
        x = torch.ones(100_000, dtype=dtype)
        grad = 0.5 * torch.ones_like(x)
        optimizer = RMSProp()
        state = optimizer.init(x)
        optimizer.step(x, grad, state)  # compiles
        tracemalloc.start()
        optimizer.step(x, grad, state)
        assert tracemalloc.get_traced_memory()[1] < x.nbytes
        tracemalloc.stop()
        mine = np.ones(1, str(x.numpy().dtype))
        state = optimizer.init(mine)
        for _ in range(2):
            optimizer.step(mine, 0.5 * np.ones_like(mine), state)
        assert (x.numpy() == mine).all()
    parameter = torch.nn.Parameter(torch.ones(3))
    with pytest.raises(
        TypeError,
        match=r"x is a torch.*Parameter of which numpy cannot share the memory: .*detach",
    ):
        optimizer.init(parameter)
    optimizer.step(parameter.detach(), torch.ones(3), optimizer.init(parameter.detach()))
    assert (parameter < 1).all()


def test_no_other_library_is_imported():
    code = """
import sys, numpy, gpuprop
class Exchanged:
    def __init__(self, array):
        self.__dlpack__, self.__dlpack_device__ = array.__dlpack__, array.__dlpack_device__
x = numpy.ones(3)
optimizer = gpuprop.RMSProp()
optimizer.step(Exchanged(x), Exchanged(x.copy()), optimizer.init(Exchanged(x)))
print(x[0] < 1, {"torch", "jax", "cupy"} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "True set()\n", done.stderr


def test_an_array_that_cannot_be_written_is_refused_through_dlpack():
    fixed = np.ones(5)
    fixed.flags.writeable = False
    with pytest.raises((TypeError, ValueError), match=r"read-?only"):
        RMSProp().init(Exchanged(fixed))


def test_pack_gives_views_that_one_step_updates(backend):
    parts = [normal(shape, "float32", k) for k, shape in enumerate([(2, 3), (), (0,), (4, 1, 2)])]
    grads = [normal(part.shape, "float32", 9 + k) for k, part in enumerate(parts)]
    flat, views = gpuprop.pack([backend.asarray(part) for part in parts])
    gradient, _ = gpuprop.pack([backend.asarray(grad) for grad in grads])
    assert flat.shape == (6 + 1 + 0 + 8,)
    optimizer = RMSProp()
    optimizer.step(flat, gradient, optimizer.init(flat, backend=backend))
    for view, part, grad in zip(views, parts, grads, strict=True):
        expected, _ = steps(optimizer, backend, part, [grad])
        np.testing.assert_array_equal(backend.to_host(view), expected)
        assert view.shape == part.shape
    views[0][...] = 7
    assert (backend.to_host(flat)[:6] == 7).all()


def test_pack_leaves_what_it_was_given_alone():
    part = np.ones((2, 2))
    flat, _ = gpuprop.pack([part])
    flat[:] = 3
    assert (part == 1).all()


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ([], "there are no arrays to pack"),
        ([np.ones(2), np.ones(2, "float32")], "array 1 has dtype float32 and array 0 has float64"),
        ([np.ones(2), [1.0]], r"array 1 is a builtins.list; it must be a numpy\.ndarray"),
        ([[1.0]], "it must be one NumPy or CuPy array"),
    ],
)
def test_pack_refuses(arrays, message):
    with pytest.raises((TypeError, ValueError), match=message):
        gpuprop.pack(arrays)
