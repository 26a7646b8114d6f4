import copy
import pickle
import tracemalloc

import article
import hypothesis.extra.numpy as arrays_of
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from parameters import DTYPES

import gpuprop
from gpuprop import RMSProp, reference


@pytest.mark.parametrize("name", ["learning_rate", "rho", "epsilon"])
@pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf"), 10**400, "0.1", None, 1j, True])
def test_refuses_a_bad_hyperparameter(name, value):
    with pytest.raises((ValueError, TypeError), match=f"{name} is {value!r}"):
        RMSProp(**{name: value})


@pytest.mark.parametrize("rho", [1, 1.5])
def test_refuses_rho_outside_its_interval(rho):
    with pytest.raises(ValueError, match=rf"rho is {rho}; it must be in \[0, 1\)"):
        RMSProp(rho=rho)


def test_is_an_immutable_comparable_printable_set_of_hyperparameters():
    optimizer = RMSProp(learning_rate=np.float32(0.5), rho=0)
    assert optimizer == RMSProp(0.5, 0.0, 1e-6)
    assert optimizer != RMSProp(0.5, 0.1, 1e-6)
    assert hash(optimizer) == hash(RMSProp(0.5, 0.0))
    assert eval(repr(optimizer)) == optimizer
    with pytest.raises(AttributeError):
        optimizer.rho = 0.5


def descend(backend, dtype):
    x = backend.asarray([5.0, 4.0], dtype)
    optimizer = RMSProp(article.LEARNING_RATE, article.RHO, article.EPSILON)
    state = optimizer.init(x, backend=backend)
    points = []
    for epoch in range(article.EPOCHS):
        assert state.step == epoch
        optimizer.step(x, 2 * x, state)
        points.append(backend.to_host(x).copy())
    return np.array(points)


def test_every_point_of_the_article(backend):
    np.testing.assert_allclose(descend(backend, "float64"), article.trajectory(), rtol=1e-12, atol=0)


def test_every_point_of_the_article_in_float32(backend):
    error = np.abs(descend(backend, "float32") - article.trajectory())
    bound = article.rounding_bound("float32")
    assert (error <= bound).all()
    # The bound means something: it is narrow wherever the path does not end on the minimum.
    assert (bound[:60] < 1e-4 * article.trajectory()[:60]).all()


def test_state_is_like_x(backend):
    x = backend.asarray(np.ones((3, 4), "float32", order="F"))
    state = RMSProp().init(x, backend=backend)
    assert state.step == 0
    average = state.square_average
    assert (type(average), average.shape, average.dtype) == (type(x), x.shape, x.dtype)
    assert not backend.to_host(average).any()


@st.composite
def vectors(draw):
    """x, grad and a later grad of one shape and dtype, each in a layout of its own."""
    shape = draw(arrays_of.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=9))
    dtype = draw(st.sampled_from(DTYPES))
    # From 1/16 up: squares stay normal numbers in every dtype, which a GPU need not flush.
    numbers = st.floats(0.0625, 16, width=16) | st.floats(-16, -0.0625, width=16)
    result = []
    for _ in range(3):
        values = draw(arrays_of.arrays(dtype, shape, elements=numbers))
        order = draw(st.permutations(range(len(shape))))
        steps = draw(st.tuples(*(st.sampled_from([1, 2, 3, -1, -2]) for _ in shape)))
        result.append((values, order, steps))
    return result


def lay_out(backend, values, order, steps):
    """`values` in memory with these strides: axes in this order, gaps of these steps."""
    room = [values.shape[axis] * abs(steps[axis]) for axis in order]
    spacious = backend.xp.zeros(room, values.dtype)
    view = spacious[(..., *(slice(None, None, steps[axis]) for axis in order))]
    view = view.transpose(np.argsort(order)) if order else view
    view[...] = backend.asarray(values)
    return view


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=vectors())
def test_any_shape_and_layout_gives_the_bits_of_the_reference(backend, data):
    optimizer = RMSProp(0.03, 0.8, 1e-3)
    dtype = data[0][0].dtype
    wide = np.promote_types(dtype, "float32")
    x, *grads = (lay_out(backend, *layout) for layout in data)
    state = optimizer.init(x, backend=backend)
    expected, s = data[0][0], np.zeros_like(data[0][0])
    for grad, (values, _, _) in zip(grads, data[1:], strict=True):
        optimizer.step(x, grad, state)
        updates, s = reference.rmsprop(0.03, 0.8, 1e-3, values.astype(wide), s.astype(wide))
        expected, s = (expected.astype(wide) - updates).astype(dtype), s.astype(dtype)
        np.testing.assert_array_equal(backend.to_host(grad), values)
    np.testing.assert_array_equal(backend.to_host(x), expected)
    np.testing.assert_array_equal(backend.to_host(state.square_average), s)


@pytest.mark.parametrize(
    ("size", "dtype"),
    [
        *((5, dtype) for dtype in DTYPES),
        (1_100_001, "float32"),
        *(pytest.param(1_100_001, dtype, marks=pytest.mark.slow) for dtype in ("float16", "float64")),
    ],
)
def test_large_vectors_give_the_bits_of_the_reference(compiled, dtype, size):
    random = np.random.default_rng(size)
    x, *grads = (random.uniform(0.1, 4, size).astype(dtype) for _ in range(4))
    optimizer = RMSProp(0.01)
    results = []
    for backend in (gpuprop.select_backend("numpy"), compiled):
        given = backend.asarray(x.copy())
        state = optimizer.init(given, backend=backend)
        for grad in grads:
            optimizer.step(given, backend.asarray(grad), state)
        results.append([backend.to_host(a) for a in (given, state.square_average)])
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize("dtype", DTYPES)
def test_x_may_be_its_own_gradient(backend, dtype):
    # The gradient of |x|^2 / 2 is x: as one array it must step as from a copy.
    x = backend.asarray(np.linspace(0.5, 3, 1000), dtype)
    apart = x.copy()
    optimizer = RMSProp()
    state, state_apart = (optimizer.init(a, backend=backend) for a in (x, apart))
    for _ in range(3):
        optimizer.step(x, x, state)
        optimizer.step(apart, apart.copy(), state_apart)
    np.testing.assert_array_equal(backend.to_host(x), backend.to_host(apart))


def test_a_read_only_gradient_is_welcome():
    x, grad = np.ones(10), np.ones(10)
    grad.flags.writeable = False
    optimizer = RMSProp()
    state = optimizer.init(x)
    for _ in range(2):
        optimizer.step(x, grad, state)
    assert state.step == 2


def test_a_memory_map_is_updated_on_disk(tmp_path):
    x = np.memmap(tmp_path / "x", "float32", "w+", shape=1000)
    x[:] = 1
    optimizer = RMSProp()
    optimizer.step(x, np.ones(1000, "float32"), optimizer.init(x))
    x.flush()
    assert np.fromfile(tmp_path / "x", "float32") == pytest.approx(1 - 0.1 / (0.1**0.5 + 1e-6), rel=1e-6)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s))])
def test_a_copied_state_goes_on_alone(backend, copied):
    x = backend.asarray([5.0, 4.0])
    optimizer = RMSProp()
    state = optimizer.init(x, backend=backend)
    optimizer.step(x, 2 * x, state)
    twin, x_twin = copied(state), x.copy()
    for _ in range(3):
        optimizer.step(x, 2 * x, state)
    assert twin.step == 1
    for _ in range(3):
        optimizer.step(x_twin, 2 * x_twin, twin)
    np.testing.assert_array_equal(backend.to_host(x), backend.to_host(x_twin))


@pytest.mark.parametrize("shape", [20_000, (300, 400), 2_000_000])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_step_allocates_no_array(shape, dtype):
    x = np.ones(shape, dtype)
    grad = x.copy()
    optimizer = RMSProp()
    state = optimizer.init(x)
    for _ in range(3):
        optimizer.step(x, grad, state)
    tracemalloc.start()
    try:
        for _ in range(20):
            optimizer.step(x, grad, state)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # Views, tuples and the like, whatever the size; the smallest array here has 40,000 bytes.
    assert peak < 16_384
