"""Threads, those of compiled code and those of Python: each task once, and nobody writes afterwards."""

import os
import threading
from functools import partial

import numba
import numpy as np
import pytest

import gpuprop
from gpuprop import RMSProp
from gpuprop.backends.cpu import pool

SIZE = 1_000_003


@pytest.fixture
def pooled(monkeypatch):
    """Steps use the pool, as where compiled code has no threads, and its threads are new ones."""
    monkeypatch.setattr(pool, "team_is_there", lambda: False)
    pool._after_fork_in_child()


def walked(backend, steps=3):
    optimizer, random = RMSProp(0.1, momentum=0.9), np.random.default_rng(0)
    x = random.normal(size=SIZE)
    state = optimizer.init(x, backend=gpuprop.select_backend(backend))
    for _ in range(steps):
        optimizer.step(x, random.normal(size=SIZE), state)
    return x, state


def assert_same(walk):
    x, state = walk
    expected, reference = walked("numpy")
    np.testing.assert_array_equal(x, expected)
    assert all((array == reference.arrays[name]).all() for name, array in state.arrays.items())
    assert state._clock.tolist() == reference._clock.tolist()


@pytest.mark.parametrize("workers", [2, 4, 16])
@pytest.mark.parametrize("layer", ["team", "pool"])
def test_a_step_is_that_of_the_reference(layer, threads, workers, request):
    if layer == "pool":
        request.getfixturevalue("pooled")
    threads(workers)
    assert_same(walked("cpu"))


@pytest.mark.parametrize("possible", [0, 1, 2])
def test_every_task_runs_once_where_threads_cannot_be_started(pooled, threads, monkeypatch, possible):
    started, start = [], threading.Thread.start

    def start_new_thread(*arguments):
        started.append(arguments)
        if len(started) > possible:
            raise RuntimeError("can't start new thread")
        return begin(*arguments)

    begin = pool.start_new_thread
    monkeypatch.setattr(pool, "start_new_thread", start_new_thread)
    monkeypatch.setattr(threading.Thread, "start", lambda thread: start_new_thread(start, (thread,)))
    threads(4)
    assert_same(walked("cpu"))
    assert len(started) > possible


def test_an_error_of_a_task_reaches_the_caller_when_all_have_ended():
    done = []

    def fail():
        raise ZeroDivisionError("in a task")

    tasks = [partial(fail), *(partial(done.append, k) for k in range(3)), partial(fail)]
    for _ in range(20):  # whoever takes it
        with pytest.raises(ZeroDivisionError, match="in a task"):
            pool.run_in_pool(tasks)
    done.clear()
    pool.run_in_pool([partial(done.append, k) for k in range(50)])
    assert sorted(done) == list(range(50))


def test_many_callers_share_the_threads():
    loop = numba.njit("void(int64[::1])", nogil=True)(_count)
    counts = np.zeros((8, 200, 4), np.int64)

    def work(mine):
        for row in mine:
            pool.run_in_pool([partial(loop, row[k : k + 1]) for k in range(4)])

    callers = [threading.Thread(target=work, args=(mine,)) for mine in counts]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(60)
    assert (counts == 1000).all()


@pytest.mark.slow
@pytest.mark.parametrize("pooled_too", [False, True])
def test_many_chunks_for_the_counters_are_no_more_threads(monkeypatch, threads, pooled_too):
    from gpuprop.backends.cpu import loops

    used = []
    monkeypatch.setattr(loops, "MOST_COUNTED", 100_000)
    monkeypatch.setattr(
        pool, "run_in_pool", lambda tasks, clock, workers, steps: used.append((len(tasks), workers))
    )
    if pooled_too:
        monkeypatch.setattr(pool, "team_is_there", lambda: False)
    threads(1)
    x = np.ones(SIZE)
    optimizer = RMSProp(nonfinite="skip")
    state = optimizer.init(x)
    optimizer.step(x, np.ones(SIZE), state)
    assert used == ([(11, 1)] if pooled_too else [])  # chunks and threads
    if not pooled_too:
        assert (x < 1).all()


def _count(a):
    for _ in range(1000):
        a[0] += 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_child_forked_while_another_thread_compiles_can_compile():
    from numba.core.compiler_lock import global_compiler_lock

    import gpuprop.backends.cpu.kernels.compiler  # noqa: F401 - which minds forks

    compiling, enough = threading.Event(), threading.Event()

    def compile_for_long():
        with global_compiler_lock:
            compiling.set()
            enough.wait(1)

    other = threading.Thread(target=compile_for_long)
    other.start()
    compiling.wait()
    child = os.fork()
    if child == 0:
        if global_compiler_lock._lock.acquire(timeout=10):  # as whoever compiles next does
            os._exit(0)
        os._exit(1)
    enough.set()
    other.join()
    assert os.waitpid(child, 0)[1] == 0
