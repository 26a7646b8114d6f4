import numpy as np
import pytest
from parameters import DTYPES

from gpuprop import RMSProp
from gpuprop.measure import bandwidth


def test_traffic_of_rmsprop():
    assert bandwidth.bytes_per_parameter(RMSProp().rule, 4) == 20  # reads grad, x, s; writes x, s
    rule = RMSProp(second_moment="modulus", parameter_average=0.9).rule
    assert bandwidth.bytes_per_parameter(rule, 4, is_complex=True) == 2 * 4 + 2 * (2 + 1 + 2) * 4


@pytest.mark.parametrize(
    ("reads", "writes", "size"),
    [
        ((1,), (1, 1), 3),
        ((1,), (1, 1), 1_000_003),
        ((2, 1), (2, 1), 1003),
        pytest.param((1, 1), (1, 1, 1, 1), 1_000_003, marks=pytest.mark.slow),
    ],
)
def test_the_floor_touches_every_element_once(compiled, size, reads, writes):
    numbers = np.arange(size, dtype="float32") % 1000
    kinds = {1: numbers, 2: numbers * np.complex64(1 + 2j)}
    hosts = [kinds[parts] + k for k, parts in enumerate(reads + writes)]
    arrays = [compiled.asarray(host.copy()) for host in hosts]
    bandwidth.floor(compiled, reads, writes)(*arrays)
    read = sum(hosts[: len(reads)])
    for k, (array, old) in enumerate(zip(arrays, hosts, strict=True)):
        added = 0 if k < len(reads) else read if (reads + writes)[k] == 2 else read.real
        np.testing.assert_array_equal(compiled.to_host(array), old + added)


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
