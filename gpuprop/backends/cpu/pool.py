"""Calls in chunks, on the team of threads of compiled code, or else on a pool of Python's threads.

In the pool each task runs once, and the caller waits for all, whatever interrupts. Python runs the handler of
a signal, which may raise, between two instructions of the main thread: when a call returns, but never within
one that stays in C. What must not be torn apart is therefore one such call, and what must follow it stands in
a ``finally``, whose first instruction is the next call. The standard library's executor is written in Python,
and is itself torn apart by a second signal.
"""

from __future__ import annotations

import os
from _thread import RLock, start_new_thread
from collections import deque
from collections.abc import Callable, Sequence
from functools import cache, partial
from queue import SimpleQueue
from typing import Any

import numpy as np

from gpuprop.backends.cpu import threads
from gpuprop.backends.cpu.kernels.environment import FUTEX
from gpuprop.backends.cpu.kernels.kernel import MOST_THREADS, Array, Kernel, function_of

#: Bytes of one array up to which one thread is used: to wake a second one takes tens of microseconds.
SERIAL_BYTES = 2**19
#: Bytes of one array for each thread, at least: on many of them, a step of less ends before they are awake.
BYTES_A_THREAD = 2**18
#: So that nobody waits long for a thread that has woken late, or has been sent away.
CHUNKS_A_THREAD = 8

_call = partial.__call__
_jobs: SimpleQueue[tuple[Any, ...]] = SimpleQueue()
_threads = 0
_lock = RLock()  # a signal's handler may step, too


def chunks_for(nbytes: int, most: int) -> tuple[int, int]:
    """Of arrays of so many bytes each: how many chunks, at most `most`, and on how many threads."""
    workers = min(threads.get_num_threads(), MOST_THREADS, nbytes // BYTES_A_THREAD, most)
    return (1, 1) if workers <= 1 else (min(CHUNKS_A_THREAD * workers, most), workers)


def team_is_there() -> bool:
    """Whether compiled code has threads of its own; else there are those of `run_in_pool`."""
    return FUTEX is not None


def run_in_chunks(
    call: Callable[..., bool], checked: bool, chunks: int, workers: int, clock: Any = None, steps: int = 1
) -> bool:
    """Have a kernel of bound arguments do its chunks on so many threads; False where it did nothing."""
    if chunks == 1:
        return call(checked, 0, 1, 0)
    if team_is_there():
        return call(checked, 0, chunks, workers)
    if not checked and not call(False, 0, 0, 0):
        return False
    run_in_pool([partial(call, True, chunk, chunks, 0) for chunk in range(chunks)], clock, workers, steps)
    return True


def prepare() -> None:
    """Have ready what `run_in_chunks` needs beside the kernel."""
    if not team_is_there():
        _compiled()


def run_in_pool(
    tasks: Sequence[partial[Any]],
    clock: np.ndarray | None = None,
    workers: int | None = None,
    steps: int = 1,
) -> None:
    """Run the tasks, each once and on whatever thread takes it first, and return when all are done.

    A process that a signal's handler forks meanwhile must not return into it: it has none of the threads.

    Parameters
    ----------
    tasks : sequence of functools.partial
        Of compiled functions.
    clock : array of two int64, optional
        Its first number is advanced before any task runs, and its second when all are done, by so many
        `steps`. An interrupt is raised when both are.
    workers : int, optional
        How many threads take part, the caller among them; by default one a task.
    """
    clock = np.zeros(2, np.int64) if clock is None else clock
    add, finish = _compiled()
    queue: deque[Any] = deque([*tasks, *[None] * len(tasks)])  # each thread stops at a None
    running, entered, finished = np.zeros(1, np.int64), list[None](), SimpleQueue[Any]()
    own = map(_call, iter(queue.popleft, None))
    helpers = _helpers(min(workers or len(tasks), len(tasks)) - 1)
    try:
        add(clock, 0, steps)
        for _ in range(helpers):
            _jobs.put((queue, running, entered, finished))
    finally:
        try:
            deque(own, 0)
            errors = [finished.get() for _ in entered]  # whoever enters from now on finds no task
        finally:
            try:
                queue.clear()  # an error has left tasks, which nobody is to run behind the caller's back
            finally:
                finish(running, clock, steps)
    for error in filter(None, errors):
        raise error


def _serve(jobs: SimpleQueue[tuple[Any, ...]]) -> None:
    """Help with whatever there is to do, for ever."""
    add, _ = _compiled()
    while True:
        queue, running, entered, finished = jobs.get()
        error = None
        add(running, 0, 1)
        entered.append(None)
        try:
            deque(map(_call, iter(queue.popleft, None)), 0)
        except BaseException as reason:  # for the caller
            error = reason
        add(running, 0, -1)
        finished.put(error)
        del queue, running, entered, finished, error  # until the next job they would keep arrays alive


def _helpers(wanted: int) -> int:
    """How many threads there are to help, at most so many as wanted."""
    global _threads
    with _lock:
        try:
            while _threads < wanted:
                start_new_thread(_serve, (_jobs,))
                _threads += 1
        except RuntimeError as error:
            if "new thread" not in str(error):  # it is of a signal's handler
                raise
        return min(_threads, wanted)


_NUMBERS = Array("int64")
_ADD = Kernel(
    "add", (("numbers", _NUMBERS), ("place", "int64"), ("by", "int64")), ("advance(numbers, place, by)",)
)
_FINISH = Kernel(
    "finish",
    (("running", _NUMBERS), ("numbers", _NUMBERS), ("by", "int64")),
    ("while load(running) != 0:", "    pass", "advance(numbers, 1, by)"),
)


@cache
def _compiled() -> tuple[Callable[..., bool], ...]:
    """To add to one of an array of numbers; and to wait until `running` is 0, and then tell the clock."""
    return function_of(_ADD), function_of(_FINISH)


def _after_fork_in_child() -> None:
    """The child has none of the threads."""
    global _jobs, _threads, _lock
    _jobs, _threads, _lock = SimpleQueue(), 0, RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
