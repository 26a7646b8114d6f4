"""Options that look at the whole gradient, or at what is not a number in it."""

from contextlib import nullcontext
from itertools import product

import numpy as np
import pytest
from random_steps import normal

import gpuprop
from gpuprop import RMSProp

SPOILT = {3: np.nan, 500: np.inf, 777: -np.inf}


def spoilt(dtype, shape=1000):
    grad = normal(1000, dtype, 5)
    for place, value in SPOILT.items():
        grad[place] = value
    return grad.reshape(shape)


@pytest.mark.parametrize(
    ("dtype", "copies", "strided"),
    [
        ("float16", 1, False),
        ("float32", 1, False),
        ("float32", 1, True),
        pytest.param("float32", 1200, False, marks=pytest.mark.slow),  # in threads
        ("float64", 1, False),
    ],
)
def test_skip_leaves_an_element_and_its_state_as_they_were(backend, dtype, copies, strided, threads):
    if backend.name == "gpu":
        copies = 1
    threads(2)
    layout = (slice(None, None, 2),) if strided else (slice(None),)
    optimizer = RMSProp(0.1, momentum=0.9, nonfinite="skip")
    x, first = (backend.asarray(np.tile(normal(1000, dtype, k), copies))[layout] for k in range(2))
    state = optimizer.init(x, backend=backend)
    optimizer.step(x, first, state)
    assert state.skipped == 0
    before = {"x": x.copy()} | {name: array.copy() for name, array in state.arrays.items()}
    bad = backend.asarray(np.tile(spoilt(dtype), copies))[layout]
    optimizer.step(x, bad, state)
    finite = np.isfinite(backend.to_host(bad))
    assert state.skipped == np.count_nonzero(~finite) > 0
    plain = RMSProp(0.1, momentum=0.9)
    plain_state = plain.init(before["x"], backend=backend)
    for name in state.arrays:
        setattr(plain_state, name, before[name].copy())
    expected = before["x"].copy()
    plain.step(
        expected, backend.asarray(np.where(finite, backend.to_host(bad), 0).astype(dtype)), plain_state
    )
    for name, array in {"x": x, **state.arrays}.items():
        stepped = expected if name == "x" else plain_state.arrays[name]
        right = np.where(finite, backend.to_host(stepped), backend.to_host(before[name]))
        np.testing.assert_array_equal(backend.to_host(array), right)


def test_the_norm_of_what_is_not_skipped(backend):
    # Were the others in the norm, it would be NaN.
    optimizer = gpuprop.SGD(1.0, clip_norm=2.0, nonfinite="skip")
    x = backend.asarray(np.zeros(4))
    state = optimizer.init(x, backend=backend)
    optimizer.step(x, backend.asarray([3.0, np.nan, 4.0, -np.inf]), state)
    np.testing.assert_allclose(backend.to_host(x), [-1.2, 0, -1.6, 0], rtol=1e-15)
    assert state.skipped == 2


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "complex64"])
def test_raise_names_the_first_and_the_count_and_writes_nothing(backend, dtype):
    optimizer = RMSProp(nonfinite="raise", clip_norm=1.0)
    x = backend.asarray(normal((20, 50), dtype))
    state = optimizer.init(x, backend=backend)
    optimizer.step(x, x.copy(), state)
    before = x.copy(), state.square_average.copy()
    bad = backend.asarray(spoilt(dtype, (20, 50)))
    message = r"grad has 3 elements of 1000 that are not finite, the first .*nan.* at index \(0, 3\)"
    with pytest.raises(FloatingPointError, match=message):
        optimizer.step(x, bad, state)
    assert state.step == 1
    for array, old in zip((x, state.square_average), before, strict=True):
        np.testing.assert_array_equal(backend.to_host(array), backend.to_host(old))


#: A gradient whose square no average can hold, by dtype; and one whose parts are rounded to it.
HUGE = {"float16": 6e4, "float32": 1e20, "float64": 1e160, "complex64": 1e20j}


@pytest.mark.parametrize("strided", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("dtype", HUGE)
def test_a_gradient_whose_square_overflows_freezes_nothing(backend, dtype, strided):
    grad = backend.asarray(np.ones(12, dtype))
    x = backend.asarray(np.ones(12, dtype))
    if strided:
        grad, x = (a.reshape(3, 4)[:, ::2] for a in (grad, x))
    grad[(1,) * grad.ndim] = HUGE[dtype]

    raising = RMSProp(nonfinite="raise")
    state = raising.init(x, backend=backend)
    index = r"\(1, 1\)" if strided else r"\(1,\)"
    message = (
        f"of the results of the step 1 would not be finite, the first at index {index}, where grad is .*"
    )
    with pytest.raises(FloatingPointError, match=message):
        raising.step(x, grad, state)
    assert (backend.to_host(x) == 1).all()
    assert not backend.to_host(state.square_average).any()
    assert (state.step, state._clock.tolist()) == (0, [0, 0])

    skipping = RMSProp(nonfinite="skip")
    state = skipping.init(x, backend=backend)
    skipping.step(x, grad, state)
    assert state.skipped == 1
    ones = backend.asarray(np.ones(x.shape, dtype))
    skipping.step(x, ones, state)
    assert np.isfinite(backend.to_host(state.square_average)).all()
    assert (backend.to_host(x).real < 1).all()  # every one has moved


#: Above the first an average of squares is infinite; below the second it is 0, with rho = 0.9. The README
#: has them for any rho.
REACH = {
    "float16": (256 / 0.1**0.5, 1.73e-4 / 0.1**0.5),
    "float32": (1.84e19, 2.65e-23 / 0.1**0.5),
    "float64": (1.34e154, 1.57e-162 / 0.1**0.5),
}


@pytest.mark.parametrize("dtype", REACH)
def test_what_gradients_an_average_can_hold(backend, dtype):
    largest, least = REACH[dtype]
    more_than_least, less = 1.2 * least, 0.8 * least
    if backend.name == "gpu" and dtype != "float16":
        normal = float(np.sqrt(np.finfo(dtype).tiny / 0.1))
        more_than_least = 1.2 * normal
        # A GPU's kernels flush to zero what is below, but in float64, where a device may hold it.
        less = less if dtype == "float64" else 0.8 * normal
    numbers = np.array([0.98 * largest, 1.02 * largest, more_than_least, less])
    grad = backend.asarray(numbers.astype(dtype))
    x = backend.asarray(np.zeros(4, dtype))
    state = RMSProp().init(x, backend=backend)
    RMSProp().step(x, grad, state)
    held = backend.to_host(state.square_average)
    assert np.isfinite(held).tolist() == [True, False, True, True]
    assert (held > 0).tolist() == [True, True, True, False]


def test_what_rounding_to_16_bits_makes_infinite_counts_as_such(backend):
    x = backend.asarray(np.full(3, 64992, "float16"))
    optimizer = gpuprop.SGD(1.0, nonfinite="skip", maximize=True)
    state = optimizer.init(x, backend=backend)
    optimizer.step(x, backend.asarray(np.array([1, 600, 500], "float16")), state)
    assert backend.to_host(x).tolist() == [64992, 64992, 65504]  # and not 64992 + 600, rounded to infinity
    assert state.skipped == 1


@pytest.mark.parametrize("size", [3, 5 * 4096])
@pytest.mark.parametrize("value", [1.3e152, 1e200, 1.7e308])
def test_a_norm_that_is_beyond_float64_or_its_square_still_clips(size, value):
    for name in ("numpy", "cpu"):
        x = np.zeros(size)
        optimizer = gpuprop.SGD(1.0, clip_norm=1.0)
        optimizer.step(x, np.full(size, value), optimizer.init(x, backend=gpuprop.select_backend(name)))
        # The factor for the largest is below the normal numbers, and has 36 bits.
        np.testing.assert_allclose(x, -1 / np.sqrt(size), rtol=1e-13 if value < 1e300 else 2.0**-36)


def test_propagate_keeps_to_the_element(backend):
    x = backend.asarray(np.ones(1000))
    optimizer = RMSProp()
    with np.errstate(invalid="ignore"):
        optimizer.step(x, backend.asarray(spoilt("float64")), optimizer.init(x, backend=backend))
    assert set(np.flatnonzero(~np.isfinite(backend.to_host(x)))) == set(SPOILT)


@pytest.mark.parametrize(
    ("dtype", "nonfinite"),
    [("float16", "propagate"), ("float16", "skip"), ("float16", "raise"), ("float32", "propagate")],
)
def test_what_numpy_does_about_errors_is_nothing_to_a_step(backend, dtype, nonfinite):
    optimizer = RMSProp(
        bounds=(-1e300, 1e300), initial_square_average=1e-300, weight_decay=1e-50, nonfinite=nonfinite,
        clip_norm=1e10,
    )  # fmt: skip
    numbers = [1e-7, 6e4, 1.0, 0.0] if nonfinite == "raise" else [1e-7, 6e4, np.nan, np.inf]
    results = []
    for errors in ("ignore", "raise"):
        x, grad = (backend.asarray(np.array(numbers, dtype)) for _ in range(2))
        with np.errstate(all=errors):
            state = optimizer.init(x, backend=backend)
            # The squares overflow.
            refused = pytest.raises(FloatingPointError, match="would not be finite")
            with refused if nonfinite == "raise" else nullcontext():
                optimizer.step(x, grad, state)
        results.append(backend.to_host(x).tolist() + backend.to_host(state.square_average).tolist())
    np.testing.assert_array_equal(*results)


LAYOUTS = ["contiguous", "fortran", "strided"]


@pytest.mark.parametrize(
    ("dtype", "layout", "size"),
    [
        *product(["float16", "float32", "float64", "complex64"], LAYOUTS, [(30, 40)]),
        pytest.param("float32", "contiguous", (1200, 1000), marks=pytest.mark.slow),  # in threads
    ],
)
def test_clip_norm_is_the_euclidean_norm_of_all_elements(backend, dtype, layout, size, threads):
    if backend.name == "gpu":
        size = (30, 40)
    grad = backend.asarray(normal(size, dtype))
    grad = {"contiguous": grad, "fortran": grad.copy(order="F"), "strided": grad[::2, 1::3]}[layout]
    on_host = backend.to_host(grad).astype("complex128")
    norm = np.sqrt((on_host.real**2 + on_host.imag**2).sum())
    factors = []
    for n in (1, 2, 5):
        threads(n)
        for limit in (norm / 3, norm * 1.5):
            x = backend.xp.zeros_like(grad)
            optimizer = gpuprop.SGD(1.0, clip_norm=float(limit))
            optimizer.step(x, grad, optimizer.init(x, backend=backend))
            expected = -on_host * min(1, limit / norm)
            # A few roundings in dtype, and in float64 half of those of a sum of 2^12 squares.
            tolerance = 4 * np.finfo(dtype).eps + 2**11 * 2.0**-53
            np.testing.assert_allclose(backend.to_host(x), expected, rtol=tolerance, atol=tolerance / 1e3)
            factors.append(backend.to_host(x).tobytes())
    assert factors == factors[:2] * 3  # the same bits for any number of threads
