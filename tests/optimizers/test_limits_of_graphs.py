"""What a CUDA graph does not capture, and where its steps end: it is said, and nothing is written."""

import numpy as np
import pytest
from captured import FALLING, twins

from gpuprop import SGD, Adam, RMSProp
from gpuprop.backends.gpu import graphs

pytestmark = pytest.mark.gpu


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


def test_rows_on_the_device_are_not_captured(cupy):
    x = cupy.ones((4, 2))
    optimizer = RMSProp()
    state, stream = optimizer.init(x), cupy.cuda.Stream(non_blocking=True)
    with stream:
        stream.begin_capture()
        with pytest.raises(RuntimeError, match="captured into a CUDA graph, and rows on the device"):
            optimizer.step(x, x[:2], state, at=cupy.arange(2))
        stream.end_capture()


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
