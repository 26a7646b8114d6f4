"""A learning rate that is found on a GPU: nobody waits, and each device has its own."""

import copy

import numpy as np
import pytest
from found_rates import FOUR, KINDS, target_slope, walked

from gpuprop import Adam, select_backend

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("name", ["rmsprop", "sgd", "adam"])
def test_on_a_gpu_nobody_waits_and_no_memory_is_asked_for(cupy, requests, monkeypatch, name):
    optimizer = KINDS[name]
    x, grad = cupy.ones(100_000, "float32"), cupy.ones(100_000, "float32")
    state = optimizer.init(x)
    optimizer.step(x, grad, state)

    def waits(*arguments, **options):
        raise AssertionError("a step waits for the device")

    for owner, function in (
        (cupy.cuda.runtime, "deviceSynchronize"), (cupy.cuda.runtime, "streamSynchronize"),
        (cupy.cuda.runtime, "eventSynchronize"), (cupy.cuda.runtime, "memcpy"),
    ):  # fmt: skip
        monkeypatch.setattr(owner, function, waits)
    with requests:
        for _ in range(10):
            optimizer.step(x, grad, state)
        assert requests.count == 0


@pytest.mark.parametrize("name", ["rmsprop", "sgd"])
def test_arrays_of_another_device(cupy, other_device, tmp_path, name):
    optimizer, gpu = KINDS[name], select_backend("gpu")
    points, rates, _ = walked(optimizer, gpu, FOUR, target_slope, 8)
    with other_device:
        x = cupy.asarray(FOUR)
    state = optimizer.init(x)

    def step(x, state):
        with other_device:
            grad = cupy.asarray(target_slope(cupy.asnumpy(x)))
        optimizer.step(x, grad, state)

    for _ in range(4):
        step(x, state)
    assert state.found_rate == rates[3]
    state.step = 5
    state.step = 4
    state.save(tmp_path / "state")
    with other_device:
        kept = x.copy()
    for other in (copy.deepcopy(state), state):
        with other_device:
            other_x = kept.copy()
        for _ in range(4):
            step(other_x, other)
        with other_device:
            np.testing.assert_array_equal(other_x.get(), points[7])
        assert other.found_rate == rates[7]
    state.found_rate = 0.5
    assert state.found_rate == 0.5
    assert cupy.cuda.runtime.getDevice() == 0


def test_kernels_of_one_rule_are_told_apart_by_what_is_on_the_device(cupy):
    bounds, beside = (-1, 1), select_backend("numpy")
    kinds = [
        Adam("auto", beta1=0.0, bounds=bounds, clip_norm=1.0),
        Adam("auto", beta1=0.9, bounds=bounds, maximize=True),
    ]
    assert kinds[0].rule == kinds[1].rule
    for optimizer in kinds:
        x, twin = cupy.full(5, 0.5), np.full(5, 0.5)
        state, other = optimizer.init(x), optimizer.init(twin, backend=beside)
        for _ in range(4):
            optimizer.step(x, x.copy(), state)
            optimizer.step(twin, twin.copy(), other)
        np.testing.assert_allclose(x.get(), twin, rtol=1e-12)
