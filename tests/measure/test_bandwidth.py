import numpy as np
import pytest
from conftest import DTYPES

from gpuprop import RMSProp
from gpuprop.measure import bandwidth


def test_traffic_of_rmsprop():
    assert bandwidth.bytes_per_parameter(RMSProp().rule, 4) == 20  # reads grad, x, s; writes x, s


@pytest.mark.parametrize(
    ("written", "size"),
    [(2, 3), (2, 1_000_003), (4, 3), pytest.param(4, 1_000_003, marks=pytest.mark.slow)],
)
def test_the_floor_touches_every_element_once(compiled, size, written):
    arrays = [compiled.asarray(np.arange(size) + k, "float32") for k in range(written + 1)]
    grad, *before = [compiled.to_host(a).copy() for a in arrays]
    bandwidth.floor(compiled, written)(*arrays)
    np.testing.assert_array_equal(compiled.to_host(arrays[0]), grad)
    for array, old in zip(arrays[1:], before, strict=True):
        np.testing.assert_array_equal(compiled.to_host(array), old + grad)


@pytest.mark.parametrize("dtype", DTYPES)
def test_measured_bandwidth_is_that_of_a_memory(backend, dtype):
    measured = bandwidth.measured_bandwidth(backend, dtype, nbytes=2**22)
    assert 1e7 < measured < 1e14


def test_seconds_grow_with_the_work(compiled):
    small, large = (compiled.xp.zeros(n, "float32") for n in (1000, 10_000_000))

    def add(a):
        a += 1

    few, many = (
        min(bandwidth.seconds(compiled, lambda a=a: add(a), 3) for _ in range(3)) for a in (small, large)
    )
    assert 0 < few < many


def test_peak_bandwidth_is_known_on_gpus_only(compiled):
    peak = bandwidth.peak_bandwidth(compiled)
    assert peak is None or (compiled.name == "gpu" and peak > 1e9)
