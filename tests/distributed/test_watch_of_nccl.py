"""When a collective call that is under way on a device has waited too long, on a device that is made up.

A software CUDA device is done when a call returns, where a GPU has only begun.
"""

import threading
import time
from types import SimpleNamespace

import pytest

from gpuprop.distributed import endings, nccl


class Device:
    """Does what it is given in order, as far as it is let."""

    def __init__(self):
        self.given = self.done = self.events = 0
        self.captures = False
        device, self.used = self, []

        class Event:
            def __init__(self, disable_timing):
                assert disable_timing
                device.events += 1
                self.place = 0

            def record(self):
                assert not device.captures
                device.given += 1
                self.place = device.given

            @property
            def done(self):
                return self.place <= device.done

        self.cuda = SimpleNamespace(
            Event=Event,
            Device=lambda number: SimpleNamespace(use=lambda: self.used.append(number)),
            runtime=SimpleNamespace(streamIsCapturing=lambda stream: self.captures),
        )

    def call(self, watch, name="all_gather"):
        """One, which the host leaves at once."""
        with watch.over(name, 0):
            self.given += 1


@pytest.fixture
def ended(monkeypatch):
    messages = []
    monkeypatch.setattr(endings, "end_the_job", lambda message, abort: messages.append(message))
    return messages


@pytest.fixture
def device():
    return Device()


@pytest.fixture
def watch(device):
    return nccl.Watch(3, 20.0, lambda status: None, device.cuda)


def look(watch, times):
    for _ in range(times):
        watch.look()


def test_a_call_in_which_the_device_waits_ends_the_job_after_the_time_out(device, watch, ended):
    device.call(watch, "reduce_scatter")
    device.call(watch, "all_gather")
    device.done = 1  # it is in the first
    look(watch, 20)
    assert ended == []
    watch.look()
    assert "rank 3 has waited 20 s for another rank in reduce_scatter by NCCL" in ended[0]


def test_so_does_one_that_the_host_does_not_leave(watch, ended):
    with watch.over("the start"):
        look(watch, 21)
    assert "in the start by NCCL" in ended[0]
    look(watch, 100)
    assert len(ended) == 1


def test_no_time_out_is_one_that_never_comes(device, ended):
    watch = nccl.Watch(3, float("inf"), lambda status: None, device.cuda)
    device.call(watch)
    device.done = 1
    look(watch, 100)
    assert ended == []


def test_what_the_device_computes_before_a_call_is_no_wait(device, watch, ended):
    device.given += 1  # the gradient
    device.call(watch)
    look(watch, 100)
    device.done = device.given
    look(watch, 100)
    assert ended == []


def test_nor_are_many_calls_that_the_host_is_ahead(device, watch, ended):
    for _ in range(100):
        device.call(watch)
    for _ in range(100):
        device.done += 1  # in the next call
        look(watch, 20)
        device.done += 2
    assert device.done == device.given
    assert ended == []


def test_the_last_of_many_is_watched_and_events_are_used_again(device, watch, ended):
    for _ in range(2000):
        device.call(watch)
        device.done = device.given
    assert device.events == 2 * nccl.AHEAD
    device.call(watch)
    device.done += 1
    look(watch, 21)
    assert len(ended) == 1


def test_a_call_that_fails_is_over(device, watch, ended):
    with pytest.raises(RuntimeError), watch.over("all_gather", 0):
        raise RuntimeError
    look(watch, 100)
    assert ended == []


def test_of_a_captured_call_no_event_is_recorded(device, watch, ended):
    device.captures = True
    device.call(watch)
    look(watch, 100)
    assert device.events == 0
    assert ended == []


def test_a_thread_looks_on_the_device_in_use_as_long_as_there_are_calls(device, ended):
    watch = nccl.Watch(0, 0.1, lambda status: None, device.cuda)
    watch.start(2)
    device.call(watch)
    device.done = 1
    until(lambda: ended)
    assert "has waited 0.1 s" in ended[0]
    assert device.used == [2]
    threads = count()
    del watch
    until(lambda: count() == threads - 1)


def count():
    return sum(thread.name == "gpuprop-nccl" for thread in threading.enumerate())


def until(condition):
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)
