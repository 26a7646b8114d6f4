"""Steps that are captured into a CUDA graph: each replay is the next step, with the bits of one without."""

import copy
import pickle
from itertools import product

import numpy as np
import pytest
from captured import FALLING, SIZE, twins
from random_steps import normal
from variants import NAMES, OF_COMPLEX, covering, covering_pairs, variants

import gpuprop
from gpuprop import SGD, Adam, RMSProp, load_state

pytestmark = pytest.mark.gpu
STEPPED = [name for name in NAMES if variants(-np.ones(2), np.ones(2), np.ones(2))[name].nonfinite != "raise"]


def optimizer_of(cupy, name, dtype):
    limits = normal(SIZE, dtype, 3)
    limits = abs(limits.real) + 1 + (1j * abs(limits.imag) + 1j if limits.dtype.kind == "c" else 0)
    limits = limits.astype(dtype)
    lower, upper = cupy.asarray(-limits), cupy.asarray(limits)
    rates = cupy.asarray(abs(normal(SIZE, dtype, 4)).astype(np.zeros(1, dtype).real.dtype) / 10)
    return variants(lower, upper, rates)[name]


CASES = [(name, "float32") for name in STEPPED]
CASES += [(name, "complex64") for name in OF_COMPLEX if name in STEPPED]
CASES += [("projected gradient", "float16")]
CASES += [
    (name, dtype) for name in ("rmsprop", "everything", "auto adam") for dtype in ("float16", "float64")
]
#: Which found rates there are decides what is captured.
FEW = covering_pairs(CASES) + [case for case in CASES if case[0].startswith("auto")]


@pytest.mark.few(("name", "dtype"), FEW)
@pytest.mark.parametrize(("name", "dtype"), CASES)
def test_each_replay_is_the_next_step(cupy, name, dtype, short_tables):
    optimizer = optimizer_of(cupy, name, dtype)
    replayed, stepped = twins(cupy, optimizer, dtype, optimizer.nonfinite == "skip")
    for descent in (replayed, stepped):
        descent.step(3)
    replayed.capture()
    assert replayed.state.step == 3  # what is only captured is no step
    replayed.replay(100)
    stepped.step(100)
    assert replayed.found() == stepped.found()
    for descent in (replayed, stepped):
        descent.step(2)  # between replays
    assert replayed.found() == stepped.found()
    replayed.replay(2)
    stepped.step(2)
    assert replayed.found() == stepped.found()
    assert stepped.state.step == 107


PARTS = {
    "window": (slice(2, 5), slice(None)),
    "strided": (slice(None), slice(0, 6, 2)),
    "column": (..., 1),
    "nothing": (slice(0), ...),
    "rows": [0, 4, 2],
    "no rows": [],
}


OF_PARTS = ["rmsprop", "everything", "auto", "auto sgd", "modulus and more"]


@pytest.mark.few(("name", "part"), covering(product(OF_PARTS, PARTS), set))
@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("name", OF_PARTS)
def test_parts_are_replayed(cupy, name, part, short_tables):
    optimizer = variants(-3.0, 3.0, 0.1)[name]
    dtype = "complex64" if name == "modulus and more" else "float32"
    replayed, stepped = twins(cupy, optimizer, dtype, shape=(6, 6), at=PARTS[part])
    replayed.capture()
    others = [cupy.full((3, 6), 7.0, dtype) for _ in range(50)]  # of memory that a graph may not use
    replayed.replay(10)
    stepped.step(10)
    assert replayed.found() == stepped.found()
    assert all((other == 7).all() for other in others)


def test_several_steps_and_several_graphs(cupy, short_tables):
    replayed, stepped = twins(cupy, Adam(FALLING))
    replayed.capture(3)
    of_three = replayed.graph
    replayed.capture()
    assert len(replayed.state._clock._tables) == 1
    for graph, many in ((of_three, 3), (replayed.graph, 1), (of_three, 3)):
        graph.launch(replayed.stream)
        stepped.step(many)
        assert replayed.found() == stepped.found()


def test_a_direction_is_captured(cupy, short_tables):
    for optimizer in (Adam(FALLING), RMSProp("auto", momentum=0.9)):
        replayed, stepped = twins(cupy, optimizer)
        for descent in (replayed, stepped):
            descent.step()
            descent.out = cupy.empty_like(descent.x)

        def search(descent):
            cupy.multiply(descent.x, descent.slopes, out=descent.grad)
            descent.optimizer.direction(descent.grad, descent.state, out=descent.out)
            cupy.subtract(descent.x, descent.out, out=descent.x)

        stream = replayed.stream
        cupy.cuda.Device().synchronize()
        with stream:
            stream.begin_capture()
            search(replayed)
            replayed.graph = stream.end_capture()
        replayed.replay(5)
        for _ in range(5):
            search(stepped)
        assert replayed.found() == stepped.found()


@pytest.mark.parametrize("scale", [0.5, 0.0])
def test_the_factor_of_the_rate_is_that_of_the_capture(cupy, scale, short_tables):
    for optimizer in (SGD(0.1), Adam(), Adam("auto")):
        replayed, stepped = twins(cupy, optimizer)
        for descent in (replayed, stepped):
            descent.state.rate_scale = scale
        replayed.capture()
        replayed.state.rate_scale = 3.0
        replayed.replay(4)
        stepped.step(4)
        assert replayed.found() == stepped.found()
        replayed.capture()  # with the new one
        replayed.replay(2)
        stepped.state.rate_scale = 3.0
        stepped.step(2)
        assert replayed.found() == stepped.found()


def test_copies_and_files_of_a_state_that_is_captured(cupy, tmp_path, short_tables):
    for optimizer in (Adam(FALLING), RMSProp("auto", momentum=0.9)):
        replayed, stepped = twins(cupy, optimizer)
        replayed.capture()
        replayed.replay(5)
        stepped.step(5)
        replayed.state.save(tmp_path / "state")
        copies = [copy.deepcopy(replayed.state), pickle.loads(pickle.dumps(replayed.state))]
        copies += [load_state(tmp_path / "state", backend=gpuprop.select_backend("gpu"))]
        x = replayed.x.copy()
        replayed.replay(2)
        stepped.step(2)
        wanted = stepped.found()
        assert replayed.found() == wanted
        for state in copies:
            assert state.step == 5
            other = copy.copy(stepped)
            other.x, other.state = x.copy(), state
            other.step(2)
            assert other.found() == wanted


def test_the_count_may_be_set(cupy, short_tables):
    replayed, stepped = twins(cupy, Adam(FALLING))
    replayed.capture()
    replayed.replay(3)
    stepped.step(3)
    for descent in (replayed, stepped):
        descent.state.step = 50
    replayed.replay(3)
    stepped.step(3)
    assert replayed.found() == stepped.found()
    assert stepped.state.step == 53


def test_another_optimizer_takes_over_in_a_capture(cupy, short_tables):
    replayed, stepped = twins(cupy, RMSProp(nonfinite="raise"))
    for descent in (replayed, stepped):
        descent.step(2)
        descent.optimizer = RMSProp(FALLING, clip_norm=1.0, nonfinite="skip")
    assert replayed.state._workspace is not None
    replayed.state._workspace = None
    replayed.capture()
    replayed.replay(5)
    stepped.step(5)
    assert replayed.found() == stepped.found()


def test_a_graph_of_another_device(cupy, other_device, short_tables):
    with other_device:
        replayed, stepped = twins(cupy, Adam(FALLING, clip_norm=1.0))
        replayed.step(2)
        stepped.step(2)
        replayed.stream.use()
        cupy.cuda.Device().synchronize()
        replayed.stream.begin_capture()
    try:
        replayed.optimizer.step(replayed.x, replayed.grad, replayed.state)  # device 0 is current
    finally:
        with other_device:
            replayed.graph = replayed.stream.end_capture()
            cupy.cuda.Stream.null.use()
    with other_device:
        replayed.replay(3)
    for _ in range(3):
        stepped.optimizer.step(stepped.x, stepped.grad, stepped.state)
    assert replayed.state.step == 5
    with other_device:
        assert replayed.found() == stepped.found()
    assert cupy.cuda.runtime.getDevice() == 0
