"""What is equal between backends over ten thousand steps, and how far what is not can go."""

import numpy as np
import pytest

import gpuprop
from gpuprop import Adam, RMSProp

STEPS = 10_000


def descend(backend, dtype, decades, epsilon):
    """x after 10^4 steps on a random quadratic whose curvatures span these decades."""
    random = np.random.default_rng(5)
    curvature = 10 ** random.uniform(*decades, 300)
    arrays = (random.normal(size=300), curvature, random.normal(size=300))
    x, curvature, minimum = (backend.asarray(a, dtype) for a in arrays)
    optimizer = RMSProp(1e-3, 0.9, epsilon)
    state = optimizer.init(x, backend=backend)
    for _ in range(STEPS):
        optimizer.step(x, curvature * (x - minimum), state)
    return backend.to_host(x)


@pytest.mark.parametrize(
    ("dtype", "decades", "epsilon"),
    [
        ("float64", (-4, 4), 1e-6),
        ("float32", (-4, 4), 1e-6),
        pytest.param("float16", (-1, 1), 1e-3, marks=pytest.mark.slow),
    ],
)
def test_every_bit_is_equal(compiled, dtype, decades, epsilon):
    reference = descend(gpuprop.select_backend("numpy"), dtype, decades, epsilon)
    np.testing.assert_array_equal(descend(compiled, dtype, decades, epsilon), reference)


def test_denormals_that_a_gpu_flushes_vanish_beside_epsilon(compiled):
    # Gradients of 1e-30 to 1e3: in float32, the squares of those below 1e-19 are no normal numbers.
    # What a GPU makes of them differs by less than 1e-19 beside an epsilon of 1e-6 or 1e-12.
    for epsilon in (1e-6, 1e-12):
        reference = descend(gpuprop.select_backend("numpy"), "float32", (-30, 3), epsilon)
        np.testing.assert_array_equal(descend(compiled, "float32", (-30, 3), epsilon), reference)


#: 0.1 to the power of 2 is one unit in the last place beside 0.1 * 0.1; 1e-50 is 0 in float32.
OPTIMIZERS = {
    "plain": RMSProp(0.3),
    "tiny decay": RMSProp(0.3, weight_decay=1e-50, momentum=0.9, nesterov=True),
    "tiny rate": RMSProp(1e-50, momentum=0.9, nesterov=True, decoupled_weight_decay=True, weight_decay=0.1),
    "adam": Adam(0.3, weight_decay=1e-50),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_single_number_takes_the_steps_of_a_vector(backend, dtype, name):
    numbers = np.random.default_rng(1).normal(size=(50, 6)).astype(dtype)
    numbers[:, 5] = [np.inf, *[1] * 49]
    optimizer = OPTIMIZERS[name]

    def walk(backend, columns):
        x = backend.asarray(np.array(numbers[0, columns]))
        state = optimizer.init(x, backend=backend)
        for row in numbers:
            optimizer.step(x, backend.asarray(np.array(row[columns])), state)
        return backend.to_host(x)

    vector = walk(gpuprop.select_backend("numpy"), slice(None))
    for column in range(6):
        np.testing.assert_array_equal(walk(backend, column), vector[column])


@pytest.mark.parametrize(("lower", "upper"), [(2.0, 1.0), (np.nan, 1.0), (0.0, np.nan), (np.nan, np.nan)])
def test_bounds_that_make_no_sense_are_refused_or_mean_the_same(backend, lower, upper):
    x, grad = backend.asarray(np.array([0.5, 1.5, 3])), backend.asarray(np.ones(3))
    before = backend.to_host(x).copy()
    low, high = (backend.asarray(np.array([-9.0, b, -9])) for b in (lower, upper))
    state = RMSProp().init(x, backend=backend)
    bounded = RMSProp(bounds=(low, high))
    with pytest.raises(ValueError, match="the lower bound is above the upper one, or NaN"):
        bounded.step(x, grad, state)  # of a state that another has made
    assert (backend.to_host(x) == before).all()
    # Of arrays that are changed afterwards only the rule knows, and it is the same for all.
    results = []
    for each in (backend, gpuprop.select_backend("numpy")):
        bounds = tuple(each.asarray(np.full(3, b)) for b in (-9.0, 9.0))
        good = RMSProp(bounds=bounds)
        x = each.asarray(before.copy())
        state = good.init(x, backend=each)
        for bound, value in zip(bounds, (lower, upper), strict=True):
            bound[1] = value
        good.step(x, each.asarray(np.ones(3)), state)
        results.append(each.to_host(x))
    np.testing.assert_array_equal(*results)
