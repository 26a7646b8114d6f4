"""What ranks do together, where one fails all raise what it raised; one process alone is None for `comm`."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")


def by_all(comm: Any, work: Callable[[], T]) -> list[T]:
    """What `work` gave on each rank, small; or what it raised on the first rank on which it raised."""
    if comm is None:
        return [work()]
    own, data = _attempt(work)
    lengths = comm.gather(np.array([len(data)], np.float64))[:, 0].astype(int)
    row = np.zeros(-(-lengths.max() // 8))  # bytes in the place of numbers: they are moved, and no more
    row.view(np.uint8)[: len(data)] = np.frombuffer(data, np.uint8)
    rows = np.ascontiguousarray(comm.gather(row)).view(np.uint8)
    found = [own if r == comm.rank else pickle.loads(rows[r, :n].tobytes()) for r, n in enumerate(lengths)]
    return [_result(each) for each in found]


def by_first(comm: Any, work: Callable[[], T]) -> T:
    """What `work`, done on rank 0 alone, gave or raised."""
    if comm is None:
        return work()
    own, data = _attempt(work) if comm.rank == 0 else (None, b"")
    data = comm.broadcast(data)
    return _result(own if comm.rank == 0 else pickle.loads(data))


def _attempt(work: Callable[[], T]) -> tuple[tuple[Any, Exception | None], bytes]:
    """What it gave, what it raised, and both for the other ranks."""
    try:
        found = work(), None
        return found, pickle.dumps(found)
    except Exception as error:
        try:
            data = pickle.dumps((None, error))
            pickle.loads(data)
        except Exception:  # of a class that cannot travel
            data = pickle.dumps((None, RuntimeError(f"{type(error).__name__}: {error}")))
        return (None, error), data


def _result(found: Any) -> Any:
    result, error = found
    if error is not None:
        raise error
    return result
