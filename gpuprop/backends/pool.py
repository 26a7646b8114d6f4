"""Compiled loops on a pool of threads: each runs once, and the caller waits for all, whatever interrupts.

Python runs the handler of a signal, which may raise, between two instructions of the main thread: when
a call returns, but never within one that stays in C. What must not be torn apart is therefore one such
call, and what must follow it stands in a ``finally``, whose first instruction is the next call.
"""

from __future__ import annotations

import os
import re
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import cache, partial
from typing import Any

import numpy as np
from numba import njit, types
from numba.core.compiler_lock import global_compiler_lock

from gpuprop.backends.intrinsics import advance, load

_call = partial.__call__
_pool: ThreadPoolExecutor | None = None
_pool_size = 0
_pool_lock = threading.Lock()


def run_in_pool(tasks: Sequence[partial[Any]], clock: np.ndarray | None = None) -> None:
    """Run the tasks, each once and on whatever thread takes it first, and return when all are done.

    Parameters
    ----------
    tasks : sequence of functools.partial
        Of compiled functions.
    clock : array of two int64, optional
        Its first number is advanced before any task runs, and its second when all are done. An
        interrupt is raised when both are.
    """
    clock = np.zeros(2, np.int64) if clock is None else clock
    add, finish = _compiled()
    queue: deque[Any] = deque([*tasks, *[None] * len(tasks)])  # each thread stops at a None
    running = np.zeros(1, np.int64)
    own = map(_call, iter(queue.popleft, None))
    others: list[Future[None]] = []
    try:
        add(clock, 0, 1)
        others.extend(_executor(len(tasks)).submit(_help, queue, running) for _ in tasks[1:])
    except RuntimeError as error:
        if not re.search("thread|shutdown", str(error)):  # a signal's handler may raise it, too
            raise
        if not others:  # those threads that there are do the work, and here there may be none
            forget_pool()
    finally:
        try:
            deque(own, 0)
            wait([future for future in others if not future.cancel()])
        finally:
            finish(running, clock)
    for future in others:
        if not future.cancelled():
            future.result()


def _help(queue: deque[Any], running: np.ndarray) -> None:
    add, _ = _compiled()
    add(running, 0, 1)
    try:
        deque(map(_call, iter(queue.popleft, None)), 0)
    finally:
        add(running, 0, -1)


@cache
def _compiled() -> tuple[Callable[..., None], ...]:
    """To add a number to one of an array; and to wait until `running` is 0, and then tell the clock."""
    numbers = types.Array(types.int64, 1, "C")

    @njit(types.void(numbers, types.int64, types.int64), nogil=True)
    def add(array, place, number):
        advance(array, place, number)  # type: ignore[call-arg]

    @njit(types.void(numbers, numbers), nogil=True)
    def finish(running, clock):
        while load(running) != 0:  # type: ignore[call-arg]
            pass
        advance(clock, 1, 1)  # type: ignore[call-arg]

    return add, finish


def _executor(workers: int) -> ThreadPoolExecutor:
    global _pool, _pool_size
    with _pool_lock:
        if _pool is None or _pool_size < workers:
            _pool = ThreadPoolExecutor(workers, thread_name_prefix="gpuprop")
            _pool_size = workers
        return _pool


def forget_pool() -> None:
    """Begin anew: a forked child has none of the threads, and may have the lock of one of them."""
    global _pool, _pool_lock
    _pool, _pool_lock = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    # Held across a fork, the lock around compiling is free in the child, whatever other threads do.
    os.register_at_fork(
        before=global_compiler_lock.acquire,
        after_in_parent=global_compiler_lock.release,
        after_in_child=global_compiler_lock.release,
    )
    os.register_at_fork(after_in_child=forget_pool)
