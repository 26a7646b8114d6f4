"""Steps of parts of the parameters: windows and rows."""

import numpy as np
import pytest

import gpuprop
from gpuprop import Adam, RMSProp

SHAPE = (12, 9)
WINDOWS = {
    "slices": (slice(2, 7), slice(-4, None)),
    "rows": slice(3, 5),
    "steps back": (slice(None, None, -2), slice(1, 8, 3)),
    "integer": -1,
    "column": (..., 4),
    "one element": (3, np.int64(5)),
    "all": ...,
    "none of it": slice(5, 5),
}
ROWS = {
    "array": np.array([7, 0, 3]),
    "negative": np.array([-1, 2, -12]),
    "list": [4, 8],
    "range": range(2, 10, 3),
    "of 32 bits, unsigned": np.array([5, 1], "u4"),
    "strided": np.arange(12)[::-4],
    "two axes": np.array([[0, 11], [5, 6]]),
    "none of them": [],
}
#: With an array of rates, one of bounds, and a mean of the parameters: all are cut alike.
OPTIONS = {"centered": True, "epsilon": 1e-3, "momentum": 0.5, "parameter_average": 0.9, "nonfinite": "skip"}


def numbers(seed, shape, dtype):
    real, imaginary = np.random.default_rng(seed).normal(size=(2, *shape))
    return (real + 1j * imaginary if dtype.startswith("complex") else real).astype(dtype)


def optimizer_of(backend, dtype, part=...):
    real = np.dtype(dtype).type(0).real.dtype
    rates = np.atleast_1d(abs(numbers(5, SHAPE, "float64")).astype(real)[part])
    upper = abs(numbers(6, SHAPE, dtype))[part].astype(dtype) * (1 + 1j if dtype.startswith("complex") else 1)
    upper = backend.asarray(np.atleast_1d(np.array(upper, dtype, order="C")))
    return RMSProp(backend.asarray(rates.copy()), bounds=(None, upper), second_moment="modulus", **OPTIONS)


PARTS = WINDOWS | ROWS
#: A kind of part more is a loop more to compile.
SOME = [(name, "complex64") for name in ("slices", "one element", "negative", "two axes", "none of them")]


@pytest.mark.parametrize(
    ("at", "dtype"),
    [
        pytest.param(at, dtype, id=f"{name}-{dtype}", marks=() if (name, dtype) in SOME else pytest.mark.slow)
        for name, at in PARTS.items()
        for dtype in ("complex64", *(["float16"] if name in ("slices", "array") else []))
    ],
)
def test_a_part_is_stepped_as_if_it_were_alone(backend, at, dtype):
    whole, before = backend.asarray(numbers(0, SHAPE, dtype)), numbers(0, SHAPE, dtype)
    index = np.asarray(at, int) if isinstance(at, (list, range)) else at
    alone = backend.asarray(np.atleast_1d(before[index]).copy())
    optimizer, of_part = optimizer_of(backend, dtype), optimizer_of(backend, dtype, index)
    state, part_state = (
        optimizer.init(whole, backend=backend),
        of_part.init(alone, backend=backend) if alone.size else None,
    )
    for t in range(3):
        grad = backend.asarray(numbers(t + 1, np.shape(before[index]), dtype))
        optimizer.step(whole, grad, state, at=at)
        if alone.size:
            of_part.step(alone, grad.reshape(alone.shape), part_state)
    assert state.step == 3
    expected = before.copy()
    expected[index] = backend.to_host(alone).reshape(expected[index].shape)
    np.testing.assert_array_equal(backend.to_host(whole), expected)
    for name, array in state.arrays.items():
        fresh = backend.to_host(optimizer.init(backend.asarray(before), backend=backend).arrays[name])
        if alone.size:
            fresh[index] = backend.to_host(part_state.arrays[name]).reshape(fresh[index].shape)
        np.testing.assert_array_equal(backend.to_host(array), fresh)


def test_every_rows_step_counts_for_the_bias_correction(backend):
    x = backend.asarray(np.ones((2, 3)))
    optimizer = Adam(0.1)
    state = optimizer.init(x, backend=backend)
    for row in (0, 1):
        optimizer.step(x, backend.asarray(np.full(3, 2.0)), state, at=row)
    # Of a constant gradient the first step is the rate; the second row's average is corrected for two.
    first, second = backend.to_host(x)[:, 0]
    corrected = (0.1 / (1 - 0.9**2)) / np.sqrt(0.001 / (1 - 0.999**2))
    np.testing.assert_allclose([first, second], [0.9, 1 - 0.1 * corrected], rtol=1e-6)


@pytest.mark.parametrize(
    ("at", "message"),
    [
        ([0, 3, 0], r"at has row 0 more than once; .* numpy.add.at"),
        ([0, -12], r"at has row 0 more than once"),
        ([12], r"at has rows from 12 to 12, and x has 12: 0 to 11"),
        (np.array([2**64 - 1], np.uint64), "at has rows from 9223372036854775807 to"),
        ([0, True], r"at is \[0, True\]"),
        ([[1], [1, 2]], r"at is \[\[1\], \[1, 2\]\]"),
        ([-13], r"at has rows from -13 to -13, and x has 12"),
        (np.ones(12, bool), r"at is an array of bool of shape \(12,\); it must be .* numpy.flatnonzero"),
        ((np.array([0]), np.array([1])), "at is .*several index arrays step x.reshape"),
        (True, "at is True; it must be slices"),
        (None, None),
        (np.array([0.5]), "at is an array of float64"),
        ("rows", "at is 'rows'"),
        ((slice(3), np.newaxis), "at is .*None"),
        (12, "out of bounds"),
    ],
)
def test_refuses_an_index_before_anything_is_written(backend, at, message):
    x = backend.asarray(np.ones(SHAPE))
    optimizer = RMSProp()
    state = optimizer.init(x, backend=backend)
    if at is None:
        return optimizer.step(x, x.copy(), state, at=at)
    with pytest.raises(IndexError, match=message):
        optimizer.step(x, backend.asarray(np.ones((3, 9))), state, at=at)
    assert state.step == 0
    assert (backend.to_host(x) == 1).all()


@pytest.mark.parametrize(
    ("at", "shape", "message"),
    [
        (slice(0, 4), (3, 9), r"grad has shape \(3, 9\) and x has \(4, 9\)"),
        ([0, 1, 2, 3], (3, 9), r"grad has shape \(3, 9\) .*, of which 4 rows .* it must have shape \(4, 9\)"),
        ([0, 1], (12, 9), r"of which 2 rows"),
        (0, (1, 9), r"grad has shape \(1, 9\) and x has \(9,\)"),
    ],
)
def test_refuses_a_gradient_of_another_part(backend, at, shape, message):
    x = backend.asarray(np.ones(SHAPE))
    optimizer = RMSProp()
    state = optimizer.init(x, backend=backend)
    with pytest.raises(ValueError, match=message):
        optimizer.step(x, backend.asarray(np.ones(shape)), state, at=at)
    with pytest.raises(ValueError, match=r"square_average has shape .* and x has .* must be the same"):
        optimizer.step(x[:4], backend.asarray(np.ones((4, 9))), state, at=...)
    assert state.step == 0


@pytest.mark.parametrize("at", [slice(2, 6), [2, 5, 3, 4]], ids=["window", "rows"])
def test_nonfinite_elements_of_a_part(backend, at):
    x, grad = backend.asarray(np.ones(SHAPE)), np.ones((4, 9))
    grad[1, 2] = np.inf
    raising, skipping = RMSProp(nonfinite="raise"), RMSProp(nonfinite="skip")
    state = raising.init(x, backend=backend)
    with pytest.raises(FloatingPointError, match=r"grad has 1 element .* at index \(1, 2\)"):
        raising.step(x, backend.asarray(grad), state, at=at)
    assert (backend.to_host(x) == 1).all()
    state = skipping.init(x, backend=backend)
    skipping.step(x, backend.asarray(grad), state, at=at)
    row = [2, 5, 3, 4][1] if isinstance(at, list) else 3
    assert state.skipped == 1
    assert backend.to_host(x)[row, 2] == 1
    assert (backend.to_host(x) == 1).sum() == 8 * 9 + 1


@pytest.mark.parametrize("at", [slice(2, 6), [2, 5, 3, 4]], ids=["window", "rows"])
def test_an_overflow_in_a_part_is_found_where_it_is(backend, at):
    x, grad = backend.asarray(np.ones(SHAPE, "float32")), np.ones((4, 9), "float32")
    grad[3, 1] = 1e30
    optimizer = RMSProp(nonfinite="raise")
    with pytest.raises(
        FloatingPointError, match=r"results .* the first at index \(3, 1\), where grad is 1\.0"
    ):
        optimizer.step(x, backend.asarray(grad), optimizer.init(x, backend=backend), at=at)


def test_a_norm_is_that_of_the_gradient_given(backend):
    x = backend.asarray(np.zeros(SHAPE))
    optimizer = gpuprop.SGD(1.0, clip_norm=3.0)
    optimizer.step(
        x, backend.asarray(np.full((4, 9), 2.0)), optimizer.init(x, backend=backend), at=[0, 1, 2, 3]
    )
    np.testing.assert_allclose(np.linalg.norm(backend.to_host(x)), 3.0)


@pytest.mark.parametrize(
    ("shape", "order"),
    [
        ((50_000, 5), "C"),
        *(
            pytest.param((50_000, *more), order, marks=pytest.mark.slow)
            for order in "CF"
            for more in ((), (2, 3))
        ),
    ],
)
def test_many_rows_in_threads(backend, shape, order):
    rows = np.random.default_rng(0).permutation(shape[0])[: shape[0] // 2]
    x = backend.asarray(np.asarray(numbers(0, shape, "float32"), order=order))
    optimizer = RMSProp()
    state, alone = optimizer.init(x, backend=backend), x[rows].copy()
    part_state = optimizer.init(alone, backend=backend)
    for t in range(2):
        grad = backend.asarray(numbers(t, alone.shape, "float32"))
        optimizer.step(x, grad, state, at=rows)
        optimizer.step(alone, grad, part_state)
    np.testing.assert_array_equal(backend.to_host(x[rows]), backend.to_host(alone))


@pytest.mark.parametrize("shape", [(64, 64), (640, 64)])
def test_a_norm_of_a_part_has_the_bits_of_that_of_the_part_alone(backend, shape):
    grad, optimizer, found = numbers(0, (64, 64), "float64"), gpuprop.SGD(1.0, clip_norm=0.01), []
    for size, at in (((64, 64), None), (shape, slice(0, 64))):
        x = backend.asarray(np.zeros(size))
        optimizer.step(x, backend.asarray(grad), optimizer.init(x, backend=backend), at=at)
        found.append(backend.to_host(x)[:64])
    np.testing.assert_array_equal(*found)


def test_rows_of_another_library(backend):
    torch = pytest.importorskip("torch", reason="torch is not installed: python -m pip install torch")
    if backend.name == "gpu":
        pytest.skip("torch on the host")
    x, optimizer = torch.ones(5, 2), gpuprop.SGD(1.0)
    optimizer.step(x, torch.ones(2, 2), optimizer.init(x, backend=backend), at=torch.tensor([3, -1]))
    assert x[:, 0].tolist() == [1, 1, 1, 0, 0]


@pytest.mark.gpu
def test_rows_and_rates_of_another_device(cupy, other_device):
    rows = cupy.array([1])
    with other_device:
        x = cupy.ones((3, 2))
        rates, lower, upper = 2 * x, -x, +x
    optimizer = gpuprop.SGD(rates, bounds=(lower, upper))
    state = optimizer.init(x)
    with other_device:
        grad = x[:1].copy()
    with pytest.raises(IndexError, match="at is on device 0 and x on 1; it must be there, or a NumPy array"):
        optimizer.step(x, grad, state, at=rows)
    optimizer.step(x, grad, state, at=np.array([1]))
    assert x.get()[:, 0].tolist() == [1, -1, 1]


@pytest.mark.gpu
def test_rows_on_the_device_and_on_the_host_are_the_same(cupy):
    optimizer = RMSProp()
    found = []
    for rows in (np.array([3, -1]), cupy.array([3, -1])):
        x = cupy.ones(SHAPE)
        optimizer.step(x, cupy.ones((2, 9)), optimizer.init(x), at=rows)
        found.append(x.get())
    np.testing.assert_array_equal(*found)
    with pytest.raises(IndexError, match="row 3 more than once"):
        optimizer.step(x, cupy.ones((2, 9)), optimizer.init(x), at=cupy.array([3, 3]))


@pytest.mark.parametrize("at", [(slice(2, 6), slice(1, 4)), 3], ids=["window", "row"])
def test_a_direction_of_a_window(backend, at):
    x, other = (backend.asarray(numbers(0, SHAPE, "complex128")) for _ in range(2))
    optimizer = RMSProp(0.1, weight_decay=0.1, momentum=0.5, second_moment="modulus")
    state, other_state = optimizer.init(x, backend=backend), optimizer.init(other, backend=backend)
    for t in range(2):
        grad = backend.asarray(numbers(t, np.shape(x[at]), "complex128"))
        optimizer.step(x, grad, state, at=at)
        other[at] -= optimizer.direction(grad, other_state, x=other, at=at)
    np.testing.assert_allclose(backend.to_host(other), backend.to_host(x), rtol=1e-14)
    assert other_state.step == 2
    with pytest.raises(IndexError, match="at has rows, of which step makes no direction"):
        optimizer.direction(x[[1]], other_state, x=other, at=[1])


def test_rows_need_not_be_aligned_in_memory():
    rows = np.frombuffer(b"\0" + np.array([2, 0], np.int64).tobytes(), np.int64, 2, 1)
    x, optimizer = np.ones((3, 2)), gpuprop.SGD(0.5)
    optimizer.step(x, np.ones((2, 2)), optimizer.init(x), at=rows)
    np.testing.assert_array_equal(x, [[0.5, 0.5], [1, 1], [0.5, 0.5]])
