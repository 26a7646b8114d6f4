"""What is equal between backends over ten thousand steps, and how far what is not can go."""

import numpy as np
import pytest

import gpuprop
from gpuprop import RMSProp

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
