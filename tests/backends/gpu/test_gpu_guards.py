"""Steps that look at the gradient first, on a GPU: graphs, memory, several devices."""

import numpy as np
import pytest

from gpuprop import SGD, RMSProp

pytestmark = pytest.mark.gpu
SPOILT = [3.0, float("nan"), 4.0, 0.0]


def test_clipping_and_skipping_can_be_captured_into_a_graph(cupy):
    optimizer = SGD(1.0, clip_norm=1.0, nonfinite="skip")
    x, grad = cupy.zeros(4), cupy.asarray(SPOILT)
    warm = cupy.zeros(4)
    optimizer.step(warm, grad, optimizer.init(warm))  # compiles, which a capture forbids
    state = optimizer.init(x)
    stream = cupy.cuda.Stream(non_blocking=True)
    cupy.cuda.Device().synchronize()
    with stream:
        stream.begin_capture()
        optimizer.step(x, grad, state)
        graph = stream.end_capture()
    # What the pool now gives away must not be what the graph writes to.
    others = [cupy.full(n, 7.0, dtype) for n in (1, 4, 64, 512) for dtype in ("float32", "float64") * 4]
    cupy.cuda.Device().synchronize()
    for _ in range(3):
        graph.launch(stream)
    stream.synchronize()
    np.testing.assert_allclose(x.get(), [-1.8, 0, -2.4, 0], rtol=1e-14)
    assert state.skipped == 3
    assert all((other == 7).all() for other in others)


def test_a_guarded_step_asks_for_no_memory(cupy, requests):
    optimizer = RMSProp(clip_norm=1.0, nonfinite="skip")
    x, grad = cupy.ones(100_000, "float32"), cupy.ones(100_000, "float32")
    state = optimizer.init(x)
    optimizer.step(x, grad, state)
    with requests:
        for _ in range(10):
            optimizer.step(x, grad, state)
        assert requests.count == 0


@pytest.mark.parametrize("dtype", ["float32", "complex64"])
def test_guarded_steps_on_another_device(cupy, other_device, dtype):
    with other_device:
        x, grad = cupy.zeros(4, dtype), cupy.asarray(SPOILT, dtype)
    with pytest.raises(FloatingPointError, match=r"grad has 1 element of 4 .*nan.* at index \(1,\)"):
        SGD(nonfinite="raise").step(x, grad, SGD(nonfinite="raise").init(x))
    optimizer = SGD(1.0, clip_norm=1.0, nonfinite="skip")
    state = optimizer.init(x)
    optimizer.step(x, grad, state)
    with other_device:
        np.testing.assert_allclose(x.get(), [-0.6, 0, -0.8, 0], rtol=1e-6)
    assert state.skipped == 1
    assert cupy.cuda.runtime.getDevice() == 0
