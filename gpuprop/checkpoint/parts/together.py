"""What ranks do together, where one fails all raise what it raised; one process alone is None for `comm`."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


def by_all(comm: Any, work: Callable[[], T]) -> list[T]:
    """What `work` gave on each rank, small; or what it raised on the first rank on which it raised."""
    if comm is None:
        return [work()]
    own = _attempt(work)
    found = comm.exchange(_sendable(own))
    return [_result(own if rank == comm.rank else each) for rank, each in enumerate(found)]


def by_first(comm: Any, work: Callable[[], T]) -> T:
    """What `work`, done on rank 0 alone, gave or raised."""
    if comm is None:
        return work()
    own = _attempt(work) if comm.rank == 0 else None
    found = comm.broadcast(_sendable(own) if own else None)
    return _result(own or found)


def _attempt(work: Callable[[], T]) -> tuple[T | None, Exception | None]:
    """What it gave, and what it raised."""
    try:
        return work(), None
    except Exception as error:
        return None, error


def _sendable(found: tuple[Any, Exception | None]) -> tuple[Any, Exception | None]:
    result, error = found
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # of a class that cannot travel
        error = RuntimeError(f"{type(error).__name__}: {error}")
    return result, error


def _result(found: Any) -> Any:
    result, error = found
    if error is not None:
        raise error
    return result
