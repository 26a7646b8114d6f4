"""Steps that look at the gradient first, on a GPU: graphs, memory, several devices."""

import numpy as np
import pytest

from gpuprop import SGD, Groups, RMSProp, select_backend
from gpuprop.backends.gpu.kernels.reductions import THREADS

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


@pytest.mark.parametrize("nonfinite", ["propagate", "skip", "raise"])
def test_a_guarded_step_asks_for_no_memory(cupy, requests, nonfinite):
    optimizer = RMSProp(clip_norm=1.0, nonfinite=nonfinite)
    x, grad = cupy.ones(100_000, "float32"), cupy.ones(100_000, "float32")
    state = optimizer.init(x)
    optimizer.step(x, grad, state)
    with requests:
        for _ in range(10):
            optimizer.step(x, grad, state)
        assert requests.count == 0


def test_one_norm_of_several_arrays_asks_for_no_memory(cupy, requests):
    groups = Groups(a=RMSProp(), b=SGD(), c=SGD(maximize=True), clip_norm=1.0)
    arrays = {"a": cupy.ones(100_000, "float32"), "b": cupy.ones(70), "c": cupy.ones(70)}
    state = groups.init(arrays)
    gradients = {name: array.copy() for name, array in arrays.items()}
    few = {"a": gradients["a"], "c": gradients["c"]}
    for given in (gradients, few):
        groups.step(arrays, given, state)
    with requests:
        for given in (gradients, few) * 5:
            groups.step(arrays, given, state)
        assert requests.count == 0


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_norms_of_any_size(cupy, dtype):
    """Fewer elements than a block has threads, some blocks, and more elements than threads of all blocks."""
    gpu, random = select_backend("gpu"), np.random.default_rng(0)
    for size in (0, 1, 2, 255, 256, 257, 5000, 64 * THREADS, 64 * THREADS + 1, 300_001):
        grad = random.normal(size=size).astype(dtype)
        norm = np.sqrt(np.sum(grad.astype("float64") ** 2))
        for array in (cupy.asarray(grad), cupy.asarray(np.repeat(grad, 2))[::2]):
            found = [
                gpu.clip_scales([array], 0.5, [-1.0], [False], [gpu.workspace(array)])[0].get().item()
                for _ in range(2)
            ]
            assert found[0] == found[1]
            wanted = -1.0 if norm <= 0.5 else -0.5 / norm
            assert found[0] == pytest.approx(wanted, rel=1e-13 if dtype == "float64" else 1e-7)


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
