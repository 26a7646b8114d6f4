"""A learning rate that is found, of arrays of any kind and of parts of them."""

from itertools import product

import numpy as np
import pytest
from found_rates import BOUND, KINDS, START, TARGET, TWO, cases, slope, walked

import gpuprop
from gpuprop import RMSProp

PARTS = {
    "window": slice(3, 9),
    "all rows, in another order": np.random.default_rng(6).permutation(12),
    "rows": [7, 0, 3],
    "two axes": np.array([[5, 1], [2, 8]]),
}


@pytest.mark.parametrize(
    ("name", "part"),
    cases(
        [("sgd", "all rows, in another order")],
        *(
            c
            for c in product(["rmsprop", "sgd", "adam"], PARTS)
            if c != ("sgd", "all rows, in another order")
        ),
    ),
)
def test_a_part_changes_the_rate_by_its_share(backend, name, part):
    random, optimizer, at = np.random.default_rng(1), KINDS[name], PARTS[part]
    start = random.normal(size=(12, 2))
    index = np.asarray(at) if isinstance(at, list) else at
    target, curvature = random.normal(size=(2, *start[index].shape))

    def gradient(x):
        return curvature**2 * (x - target)

    x = backend.asarray(start.copy())
    state, growth = optimizer.init(x, backend=backend), 8.0
    share = start[index].size / start.size
    for _ in range(30):
        rate, last = state.found_rate, backend.to_host(getattr(state, optimizer._followed[0])).copy()[index]
        grad = gradient(backend.to_host(x)[index])
        outside = np.delete(backend.to_host(x).ravel(), np.arange(24).reshape(12, 2)[index].ravel())
        optimizer.step(x, backend.asarray(grad), state, at=at)
        now = np.delete(backend.to_host(x).ravel(), np.arange(24).reshape(12, 2)[index].ravel())
        assert (now == outside).all()
        size = abs(grad * last).sum()
        agreement = (grad * last).sum() / size if size else 0
        growth = growth if agreement > 0.5 or not size else 1.0
        if size and growth > 1:
            rate /= 1 - share * (1 - 1 / growth)
        elif size:
            brake = 5 * max(-0.8 - agreement, 0) if name == "sgd" else 0
            less = 1 / (1 + share * (brake - agreement / 10))
            rate *= 1 + share * agreement / 10 if agreement > 0 else less
        assert state.found_rate == pytest.approx(rate, rel=1e-12)


@TWO
def test_what_is_not_finite_is_left_out_where_it_is_skipped(backend, name):
    kind = type(KINDS[name])
    given = {"momentum": 0.9} if kind is RMSProp else {}
    given |= {"bounds": (-BOUND, BOUND)} if name == "bounds" else {}
    optimizer = kind("auto", nonfinite="skip", **given)
    x, other = (backend.asarray(START[:8].copy()) for _ in range(2))
    state, without = (optimizer.init(a, backend=backend) for a in (x, other))
    for t in range(12):
        grad = backend.to_host(x) - TARGET[:8]
        zeroed = grad.copy()
        if t % 3 == 1:
            grad[[1, 5]], zeroed[[1, 5]] = [np.nan, np.inf if t % 2 else -np.inf], 0
        optimizer.step(x, backend.asarray(grad), state)
        before = (
            backend.to_host(other).copy(),
            {n: backend.to_host(a).copy() for n, a in without.arrays.items()},
        )
        optimizer.step(other, backend.asarray(zeroed), without)
        if t % 3 == 1:  # what was skipped is as it was, which a zero does not leave it
            other[[1, 5]] = backend.asarray(before[0][[1, 5]])
            for array, old in before[1].items():
                without.arrays[array][[1, 5]] = backend.asarray(old[[1, 5]])
            if "displacement" in before[1]:
                state.displacement[[1, 5]] = without.displacement[[1, 5]] = 0.0
        np.testing.assert_allclose(backend.to_host(x), backend.to_host(other), rtol=1e-13)
        assert state.found_rate == pytest.approx(without.found_rate, rel=1e-13)
    assert state.skipped == 8
    assert np.isfinite(backend.to_host(x)).all()


@TWO
@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (1,)])
def test_no_element_and_one(backend, name, shape):
    x, grad = (backend.asarray(np.full(shape, value)) for value in (0.25, 0.125))
    state = KINDS[name].init(x, backend=backend)
    for _ in range(6):
        KINDS[name].step(x, grad, state)
    assert state.step == 6
    assert x.shape == shape
    if x.size:
        assert state.found_rate == 0.25 * 2.0**-20 * 8**5
        assert float(x.reshape(-1)[0]) < 0.25
    else:
        assert state.found_rate == 2.0**-20


@pytest.mark.parametrize("name", cases(["sgd"], "rmsprop", "adam", "bounds"))
def test_of_sixteen_bits_it_is_found_in_thirty_two(backend, name):
    start = START.astype("f2")
    points, rates, _ = walked(KINDS[name], backend, start, slope, 200)
    target = np.clip(TARGET, -BOUND, BOUND) if name == "bounds" else TARGET
    np.testing.assert_allclose(points[-1], target, atol=0.05)
    assert np.isfinite(rates).all()


LAYOUTS = {
    "fortran": lambda a: np.asfortranarray(a),
    "window": lambda a: np.repeat(np.repeat(a, 2, 0), 3, 1)[::2, ::3],
    "backwards": lambda a: np.ascontiguousarray(a[::-1, ::-1])[::-1, ::-1],
    "turned": lambda a: np.ascontiguousarray(a.T).T,
}


OF_LAYOUTS = [("fortran", "sgd", "complex128")]
MORE_LAYOUTS = [
    (n, *c) for n in LAYOUTS for c in (("rmsprop", "float64"), ("sgd", "complex128"), ("bounds", "float32"))
]


@pytest.mark.parametrize(
    ("layout", "name", "dtype"), cases(OF_LAYOUTS, *(c for c in MORE_LAYOUTS if c not in OF_LAYOUTS))
)
def test_arrays_of_any_layout(backend, layout, name, dtype):
    optimizer, random = KINDS[name], np.random.default_rng(2)
    start, target = (
        random.normal(size=(2, 6, 16)).view("c16").astype(dtype)
        if dtype[0] == "c"
        else (random.normal(size=(2, 6, 8)).astype(dtype))
    )
    expected, rates, _ = walked(optimizer, backend, start, lambda x: x - target, 15)
    x = LAYOUTS[layout](start)
    x = backend.asarray(x) if backend.name != "gpu" else _on_gpu(backend, x)
    state = optimizer.init(x, backend=backend)
    for point, rate in zip(expected, rates, strict=True):
        grad = LAYOUTS[layout](backend.to_host(x) - target)
        optimizer.step(x, backend.asarray(grad), state)
        rtol = 1e-5 if dtype == "float32" else 1e-12
        np.testing.assert_allclose(backend.to_host(x), point, rtol=rtol)
        assert state.found_rate == pytest.approx(rate, rel=rtol)


def _on_gpu(backend, x):
    """With the strides of the host."""
    whole = backend.xp.empty(sum(abs(s) * n for s, n in zip(x.strides, x.shape, strict=True)), "u1")
    offset = sum(-s * (n - 1) for s, n in zip(x.strides, x.shape, strict=True) if s < 0)
    made = backend.xp.ndarray(x.shape, x.dtype, whole.data + offset, x.strides)
    made[...] = backend.asarray(np.ascontiguousarray(x))
    return made


@pytest.mark.parametrize(
    ("name", "size", "dtype"),
    cases(
        [("sgd", 9000, "float64")],
        *[("sgd", 300_001, "float64"), *product(["rmsprop", "sgd"], [4097, 600_001], ["float32", "float16"])],
    ),
)
def test_the_number_of_threads_changes_no_bit(threads, name, size, dtype):
    cpu, random, found = gpuprop.select_backend("cpu"), np.random.default_rng(3), []
    start, target = random.normal(size=(2, size)).astype(dtype)
    for number in (1, 2, 3):
        threads(number)
        points, rates, _ = walked(KINDS[name], cpu, start, lambda x: x - target, 4)
        found.append((points[-1].tobytes(), tuple(rates)))
    assert found[0] == found[1]
    _, rates, _ = walked(KINDS[name], gpuprop.select_backend("numpy"), start, lambda x: x - target, 4)
    np.testing.assert_allclose(found[0][1], rates, rtol=1e-6 if dtype == "float16" else 1e-12)


@pytest.mark.few(("name", "parts"), [("rmsprop", 10), ("sgd", 100), ("adam", 10), ("adagrad", 10)])
@pytest.mark.parametrize("name", cases(["rmsprop"], "sgd", "adam", "adagrad"))
@pytest.mark.parametrize("parts", [10, 100])
def test_parts_that_do_not_meet_change_the_rate_by_little_each(backend, name, parts):
    x = backend.asarray(np.random.default_rng(0).normal(size=(parts, 2)))
    optimizer, first = KINDS[name], float(backend.xp.sum(x**2))
    state = optimizer.init(x, backend=backend)
    for _ in range(40):
        for row in range(parts):
            optimizer.step(x, x[row : row + 1].copy(), state, at=np.s_[row : row + 1])
    assert float(backend.xp.sum(x**2)) < first / 10
