"""Steps that are captured into a CUDA graph: each replay is the next step, with the bits of one without."""

import copy
import pickle

import numpy as np
import pytest
from random_steps import normal
from variants import NAMES, OF_COMPLEX, variants

import gpuprop
from gpuprop import SGD, Adam, Groups, RMSProp, Rule, RuleOptimizer, load_state, schedules
from gpuprop.backends.gpu import graphs

pytestmark = pytest.mark.gpu
SIZE = 37
FALLING = schedules.exponential_decay(0.1, transition_steps=10, decay_rate=0.5)
STEPPED = [name for name in NAMES if variants(-np.ones(2), np.ones(2), np.ones(2))[name].nonfinite != "raise"]


@pytest.fixture
def short_tables(monkeypatch):
    """Scalars of fewer steps: those of many take long to make."""
    monkeypatch.setattr(graphs, "STEPS", 300)


class Descent:
    """x, its gradient by `slopes`, and a state: stepped, or captured and replayed."""

    def __init__(self, cupy, optimizer, x, slopes, **options):
        self.cupy, self.optimizer, self.options = cupy, optimizer, options
        self.x, self.slopes = cupy.asarray(x), cupy.asarray(slopes)
        self.grad, self.state = cupy.empty_like(self.x), optimizer.init(self.x)
        self.stream = cupy.cuda.Stream(non_blocking=True)

    def step(self, many=1):
        for _ in range(many):
            self.cupy.multiply(self.x, self.slopes, out=self.grad)
            self.optimizer.step(self.x, self._part(), self.state, **self.options)

    def _part(self):
        at = self.options.get("at", ...)
        return self.grad[: len(at)] if isinstance(at, list) else self.grad[at]

    def capture(self, many=1):
        self.cupy.cuda.Device().synchronize()
        with self.stream:
            self.stream.begin_capture()
            self.step(many)
            self.graph = self.stream.end_capture()

    def replay(self, many=1):
        for _ in range(many):
            self.graph.launch(self.stream)

    def found(self):
        numbers = {"x": self.x, **self.state.arrays}
        self.cupy.cuda.Device().synchronize()
        return {
            **{name: array.get().tobytes() for name, array in numbers.items()},
            "step": self.state.step, "skipped": self.state.skipped, "rate": self.state.found_rate,
        }  # fmt: skip


def twins(cupy, optimizer, dtype="float32", spoilt=False, shape=SIZE, **options):
    x, slopes = normal(shape, dtype, 1), abs(normal(shape, dtype, 2)).astype(dtype)
    if spoilt:
        slopes.reshape(-1)[3] = np.nan
    return [Descent(cupy, optimizer, x, slopes, **options) for _ in range(2)]


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


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("name", ["rmsprop", "everything", "auto", "auto sgd", "modulus and more"])
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


def test_rows_on_the_device_are_not_captured(cupy):
    x = cupy.ones((4, 2))
    optimizer = RMSProp()
    state, stream = optimizer.init(x), cupy.cuda.Stream(non_blocking=True)
    with stream:
        stream.begin_capture()
        with pytest.raises(RuntimeError, match="captured into a CUDA graph, and rows on the device"):
            optimizer.step(x, x[:2], state, at=cupy.arange(2))
        stream.end_capture()


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


@pytest.mark.parametrize("optimizer", [Adam(), Adam("auto", nonfinite="skip"), SGD(FALLING, clip_norm=1.0)])
def test_behind_its_last_step_a_graph_writes_nothing(cupy, optimizer, monkeypatch):
    monkeypatch.setattr(graphs, "STEPS", 5)
    replayed, stepped = twins(cupy, optimizer, spoilt=optimizer.nonfinite == "skip")
    for descent in (replayed, stepped):
        descent.step(2)
    replayed.capture()
    replayed.replay(9)
    stepped.step(5)
    with pytest.raises(
        RuntimeError, match=r"outside of steps 3 to 7, .* and 7 steps are done: capture it anew"
    ):
        _ = replayed.state.step
    assert replayed.found() == stepped.found()  # it was said, and the state is that of its x
    replayed.capture()
    replayed.replay(2)
    stepped.step(2)
    assert replayed.found() == stepped.found()
    replayed.state.step = 1
    replayed.replay(1)
    with pytest.raises(RuntimeError, match="outside of steps"):
        replayed.step()
    assert replayed.x.get().tobytes() == stepped.x.get().tobytes()


def test_a_schedule_that_ends(cupy):
    rates = [0.1, 0.2, 0.3, 0.4]
    replayed, stepped = twins(cupy, SGD(rates.__getitem__))
    replayed.capture()
    replayed.replay(6)
    stepped.step(4)
    with pytest.raises(RuntimeError, match="outside of steps 1 to 4") as raised:
        _ = replayed.state.step
    assert isinstance(raised.value.__cause__, IndexError)
    assert replayed.found() == stepped.found()
    with replayed.stream:
        replayed.stream.begin_capture()
        with pytest.raises(IndexError):
            replayed.step()
        replayed.stream.end_capture()


def test_65536_steps_are_known(cupy):
    replayed, stepped = twins(cupy, RMSProp(FALLING, bias_correction=True))
    replayed.capture()
    for descent in (replayed, stepped):
        descent.state.step = 2**16 - 1
    replayed.replay()
    stepped.step()
    assert replayed.found() == stepped.found()
    replayed.replay()
    with pytest.raises(RuntimeError, match="outside of steps 1 to 65536"):
        _ = replayed.state.step


def test_what_must_wait_is_not_captured(cupy):
    x = cupy.ones(5)
    raises, plain = RMSProp(nonfinite="raise"), RMSProp(momentum=0.9)
    found = RMSProp("auto", momentum=0.9)
    stream = cupy.cuda.Stream(non_blocking=True)
    for optimizer, first, reason in (
        (raises, raises, "must wait for what the device finds"),
        (found, plain, "the first step looks at the arrays"),
        (RMSProp(bounds=(x, None)), RMSProp(), "the first step looks at the arrays"),
        (plain, found, "the first step looks at the arrays"),
    ):
        state, before = first.init(x), x.get()
        with stream:
            stream.begin_capture()
            with pytest.raises(RuntimeError, match=f"captured into a CUDA graph, and .*{reason}"):
                optimizer.step(x, x, state)
            stream.end_capture().launch(stream)
        stream.synchronize()
        np.testing.assert_array_equal(x.get(), before)
        assert (state.step, state.optimizer) == (0, first)


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


def test_a_capture_asks_for_no_memory_on_its_stream(cupy, short_tables, monkeypatch):
    replayed, _ = twins(cupy, Adam(FALLING, clip_norm=1.0))
    replayed.step()
    streams = []

    class Where(cupy.cuda.MemoryHook):
        name = "where"

        def malloc_preprocess(self, **_):
            streams.append(cupy.cuda.get_current_stream().ptr)

    with Where():
        replayed.capture()
    assert streams
    assert replayed.stream.ptr not in streams
    streams.clear()
    with Where():
        replayed.replay(3)
        replayed.capture()
        assert replayed.state.step == 4
    assert streams == []


def test_a_capture_may_have_begun_in_any_mode(cupy, short_tables, monkeypatch):
    """What asks for memory or loads a kernel is done in the mode that lets it, and the old one restored."""
    modes, current = [], [0]

    def exchange(mode):
        current[0], mode._obj.value = mode._obj.value, current[0]
        modes.append(current[0])

    monkeypatch.setattr(graphs, "_exchange_mode", lambda: exchange)
    replayed, _ = twins(cupy, Adam(FALLING, clip_norm=1.0))
    replayed.step()
    assert modes == []
    replayed.capture()
    assert 2 in modes
    assert current == [0]


RULE = Rule("sign", ("g",), ("x",), ("learning_rate",), "x = x - learning_rate * where(g > 0, 1, -1)")


def groups_of(**options):
    return Groups(
        a=Adam(FALLING, nonfinite="skip"), b=RMSProp("auto", momentum=0.9, maximize=True),
        c=RuleOptimizer(RULE, learning_rate=0.1), **options,
    )  # fmt: skip


@pytest.mark.parametrize("clip_norm", [None, 0.5])
def test_groups_are_replayed(cupy, clip_norm, short_tables, tmp_path):
    groups, kinds = groups_of(clip_norm=clip_norm), {"a": "complex64", "b": "float64", "c": "float32"}
    if clip_norm is not None:
        groups = Groups({**groups.optimizers, "c": RMSProp()}, clip_norm=clip_norm)
    arrays, others = ({n: cupy.asarray(normal(SIZE, kind, 5)) for n, kind in kinds.items()} for _ in range(2))
    gradients = [{n: cupy.empty_like(a) for n, a in each.items()} for each in (arrays, others)]
    states = [groups.init(each) for each in (arrays, others)]
    stream = cupy.cuda.Stream(non_blocking=True)

    def step(arrays, gradients, state, names="abc"):
        for name in names:
            cupy.multiply(arrays[name], 0.5, out=gradients[name])
        groups.step(arrays, {name: gradients[name] for name in names}, state)

    def capture(names):
        cupy.cuda.Device().synchronize()
        with stream:
            stream.begin_capture()
            step(arrays, gradients[0], states[0], names)
            return stream.end_capture()

    step(arrays, gradients[0], states[0])
    step(others, gradients[1], states[1])
    of_all, of_two = capture("abc"), capture("ab")
    assert states[0].step == 1
    for graph, names, many in ((of_all, "abc", 10), (of_two, "ab", 3), (of_all, "abc", 1)):
        for _ in range(many):
            graph.launch(stream)
            step(others, gradients[1], states[1], names)
    for _ in range(2):
        step(arrays, gradients[0], states[0])
        step(others, gradients[1], states[1])
    cupy.cuda.Device().synchronize()
    assert states[0].step == states[1].step == 17
    copied = copy.deepcopy(states[0])
    of_all.launch(stream)
    step(others, gradients[1], states[1])
    cupy.cuda.Device().synchronize()
    assert (states[0].step, copied.step) == (18, 17)
    for name in kinds:
        assert states[0][name].step == states[1][name].step
        np.testing.assert_array_equal(arrays[name].get(), others[name].get())
        for kept, array in states[0][name].arrays.items():
            np.testing.assert_array_equal(array.get(), states[1][name].arrays[kept].get())


def test_groups_of_several_places_are_not_captured_in_part(cupy, other_device):
    here, there = cupy.ones(3), np.ones(3)
    with other_device:
        elsewhere = cupy.ones(3)
    stream, others_stream = cupy.cuda.Stream(non_blocking=True), None
    for other in (there, elsewhere):
        groups = Groups(a=SGD(), b=SGD())
        arrays = {"a": here, "b": other}
        state = groups.init(arrays)
        with stream:
            stream.begin_capture()
            with pytest.raises(RuntimeError, match="elsewhere, where they would be stepped now"):
                groups.step(arrays, arrays, state)
            stream.end_capture()
        assert state.step == 0
        assert (gpuprop.select_backend("gpu").to_host(other) == 1).all()
    groups = Groups(a=SGD(), b=SGD(), clip_norm=1.0)
    state = groups.init(arrays)
    with other_device:
        others_stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        stream.begin_capture()
        with other_device:
            others_stream.use()
            others_stream.begin_capture()
        try:
            with pytest.raises(RuntimeError, match="arrays on several devices must wait"):
                groups.step(arrays, arrays, state)
        finally:
            with other_device:
                others_stream.end_capture()
                cupy.cuda.Stream.null.use()
        stream.end_capture()
    assert state.step == 0


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
