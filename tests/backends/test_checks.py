"""Arrays that cannot be updated: a sentence that says so, and nothing written."""

import sys

import numpy as np
import pytest

import gpuprop
from gpuprop import RMSProp


def read_only(xp):
    x = np.ones(8)
    x.flags.writeable = False
    return x


def unaligned(xp):
    return np.zeros(65, np.uint8)[1:].view(np.float64)


def ones(xp, shape=8, dtype="float64"):
    return xp.ones(shape, dtype)


# What is given in place of grad, and what the message must say was given and is needed.
GRADIENTS = {
    "shape": (lambda xp: ones(xp, 7), ValueError, r"grad has shape \(7,\) and x has \(8,\)"),
    "rank": (lambda xp: ones(xp, (8, 1)), ValueError, r"grad has shape \(8, 1\) and x has \(8,\)"),
    "dtype": (lambda xp: ones(xp, dtype="float32"), TypeError, "grad has dtype float32 and x has float64"),
    "integers": (
        lambda xp: ones(xp, dtype=int),
        TypeError,
        "grad has dtype int64; it must be float16",
    ),
    "complex": (
        lambda xp: ones(xp, dtype=complex),
        TypeError,
        "grad has dtype complex128 and x has float64; .*: make x complex, or give grad.real",
    ),
    "list": (lambda xp: [1.0] * 8, TypeError, "grad is a builtins.list; it must be a"),
    "number": (lambda xp: 1.0, TypeError, "grad is a builtins.float; it must be a"),
    "nothing": (lambda xp: None, TypeError, "grad is a builtins.NoneType; it must be a"),
}


def step_with(backend, grad, compiled, **state_changes):
    x = backend.asarray(np.linspace(1, 2, 8))
    optimizer = RMSProp()
    if compiled:
        good = backend.xp.ones(8)
        optimizer.step(good, good.copy(), optimizer.init(good, backend=backend))
    state = optimizer.init(x, backend=backend)
    for name, value in state_changes.items():
        setattr(state, name, value)
    try:
        optimizer.step(x, grad, state)
    finally:
        np.testing.assert_array_equal(backend.to_host(x), np.linspace(1, 2, 8))
        assert state.step == 0
        if not state_changes:
            assert not backend.to_host(state.square_average).any()


# Once a kernel is compiled, it is given a chance to refuse before the checks in Python.
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("case", GRADIENTS)
def test_bad_gradient(backend, case, compiled):
    make, error, message = GRADIENTS[case]
    with pytest.raises(error, match=message):
        step_with(backend, make(backend.xp), compiled)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("case", GRADIENTS)
def test_bad_state(backend, case, compiled):
    make, error, message = GRADIENTS[case]
    with pytest.raises(error, match=message.replace("grad", "square_average")):
        step_with(backend, ones(backend.xp), compiled, square_average=make(backend.xp))


@pytest.mark.parametrize("dtype", ["int64", "bool", "longdouble", "clongdouble", ">f8", "U3"])
def test_bad_parameters(backend, dtype):
    if backend.name == "gpu" and dtype not in ("int64", "bool"):
        pytest.skip("CuPy has no such arrays")
    if np.dtype(dtype) in (np.dtype("float64"), np.dtype("complex128")):
        pytest.skip("it is another name of an allowed type on this system")
    x = backend.xp.zeros(3, dtype)
    with pytest.raises(TypeError, match=r"x has dtype .*; it must be float16, bfloat16, .* in native"):
        RMSProp().init(x, backend=backend)


@pytest.mark.parametrize("x", [[1.0, 2.0], 1.0, None, "x", (1.0,)])
def test_parameters_that_are_no_array(x):
    with pytest.raises(TypeError, match=f"x is a {type(x).__name__}; it must be one NumPy or CuPy array"):
        RMSProp().init(x)


def test_a_masked_array_is_refused():
    masked = np.ma.masked_array([1.0, 2.0], [True, False])
    x = np.ones(2)
    state = RMSProp().init(x)
    with pytest.raises(TypeError, match="is a masked array, and masks are not seen to"):
        RMSProp().init(masked)
    for _ in range(2):
        for arrays in ((masked, x), (x, masked)):
            with pytest.raises(TypeError, match="is a masked array, and masks are not seen to"):
                RMSProp().step(*arrays, state)
        RMSProp().step(np.ones(2), x, RMSProp().init(x))
    assert masked.data.tolist() == [1, 2]


@pytest.mark.parametrize("make", [read_only, unaligned])
@pytest.mark.parametrize("device", ["cpu", "numpy"])
def test_host_arrays_that_cannot_be_written(make, device):
    backend = gpuprop.select_backend(device)
    x = make(np)
    words = "x is read-only; it must be writable" if make is read_only else "x is not aligned"
    with pytest.raises(ValueError, match=words):
        RMSProp().init(x, backend=backend)
    good = np.zeros(8)
    state = RMSProp().init(good, backend=backend)
    with pytest.raises(ValueError, match=words):
        RMSProp().step(x, np.ones(8), state)
    state.square_average = x
    with pytest.raises(ValueError, match=words.replace("x is", "square_average is")):
        RMSProp().step(good, np.ones(8), state)
    assert not good.any()


@pytest.mark.parametrize("other", ["x", "grad"])
@pytest.mark.parametrize("part", [slice(None), slice(None, None, -1)])
def test_the_state_must_be_apart(backend, other, part):
    arrays = {"x": backend.xp.ones(8), "grad": backend.xp.ones(8)}
    state = RMSProp().init(arrays["x"], backend=backend)
    state.square_average = arrays[other][part]
    with pytest.raises(ValueError, match=f"{other} and square_average share memory; they must be separate"):
        RMSProp().step(arrays["x"], arrays["grad"], state)
    assert (arrays["x"] == 1).all()


def test_a_reversed_view_of_x_is_not_x(backend):
    x = backend.xp.linspace(1, 2, 8)
    state = RMSProp().init(x, backend=backend)
    with pytest.raises(ValueError, match="grad and x share memory"):
        RMSProp().step(x, x[::-1], state)


def test_interleaved_views_share_no_element(backend):
    memory = backend.xp.linspace(1, 2, 16)
    x, grad = memory[::2], memory[1::2]
    before = grad.copy()
    RMSProp().step(x, grad, RMSProp().init(x, backend=backend))
    assert (grad == before).all()


def test_parameters_that_overlap_themselves(backend):
    memory = backend.xp.ones(10)
    x = backend.xp.lib.stride_tricks.as_strided(memory, (4, 4), (16, 8))
    with pytest.raises(
        ValueError, match=r"x has strides \(16, 8\), with which two of its elements may share memory"
    ):
        RMSProp().init(x, backend=backend)


def test_views_of_one_array_that_differ_in_empty_strides_are_one(backend):
    x = backend.xp.ones(6)
    RMSProp().step(x[None, :], x.reshape(1, -1), RMSProp().init(x[None, :], backend=backend))
    assert (x < 1).all()


@pytest.mark.parametrize("size", [3, 10**5])
def test_a_dtype_may_name_the_byte_order_of_this_machine(size):
    dtype = np.dtype(float).newbyteorder("<" if sys.byteorder == "little" else ">")
    assert dtype.isnative
    x, grad = np.ones(size), np.ones(size, dtype)
    RMSProp().step(x, grad, RMSProp().init(x))
    assert (x < 1).all()


@pytest.mark.parametrize("state", [None, np.ones(2), "state"])
def test_a_state_that_is_none(state):
    with pytest.raises(TypeError, match=f"state is a {type(state).__name__}; it must be one that init gave"):
        RMSProp().step(np.ones(2), np.ones(2), state)


def test_a_backend_that_is_none():
    with pytest.raises(TypeError, match="backend is 'cpu'; it must be one that select_backend gave"):
        RMSProp().init(np.ones(2), backend="cpu")


@pytest.mark.gpu
def test_an_unaligned_array_does_not_reach_the_device():
    import cupy

    x = cupy.zeros(65, "uint8")[1:].view("float64")
    with pytest.raises(ValueError, match="x is not aligned"):
        RMSProp().init(x)
    good = cupy.ones(8)
    state = RMSProp().init(good)
    for _ in range(2):
        with pytest.raises(ValueError, match="grad is not aligned"):
            RMSProp().step(good, x, state)
        RMSProp().step(good, good.copy(), RMSProp().init(good))


@pytest.mark.gpu
def test_arrays_of_two_kinds():
    import cupy

    for one, other in ((cupy, np), (np, cupy)):
        x = one.ones(8)
        with pytest.raises(TypeError, match=rf"grad is a .*ndarray; it must be a {one.__name__}.ndarray"):
            RMSProp().step(x, other.ones(8), RMSProp().init(x))
        assert (x == 1).all()
