"""How a job ends of which one rank cannot go on: all with it, because the others would wait for ever."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

#: Seconds in which the launcher reads the last words, before it ends the ranks.
LAST_WORDS = 0.1
#: Where this package lies.
PACKAGE = os.path.dirname(os.path.dirname(__file__)) + os.sep
#: What is said of two ranks, each by its number and its place.
REFUSAL = (
    "rank {} is in {}, and rank {} in {}; all ranks must make the same calls, in the same order, and none "
    "under `if comm.rank == 0`"
)


def end_the_job(message: str, abort: Callable[[int], Any], status: int = 1) -> NoReturn:
    """Say why, and end all ranks."""
    with suppress(Exception):
        print(message, file=sys.stderr)
    _end(status, abort)


def end_all_with_one(abort: Callable[[int], Any]) -> None:
    """From now on an exception that nobody catches here ends all ranks, after it is printed as before."""
    before = sys.excepthook
    if getattr(before, "ends_all", False):
        return

    def hook(kind: type[BaseException], value: BaseException, trace: Any) -> None:
        try:
            before(kind, value, trace)
        finally:
            _end(130 if issubclass(kind, KeyboardInterrupt) else 1, abort)

    hook.ends_all = True  # type: ignore[attr-defined]
    sys.excepthook = hook


def is_by_mpi4py() -> bool:
    """Whether ``python -m mpi4py``, or the older ``-m mpi4py.run``, has started this: both end the job."""
    return "mpi4py.run" in sys.modules or "mpi4py.run" in sys.orig_argv


def _end(status: int, abort: Callable[[int], Any]) -> NoReturn:
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):  # nobody may read it any more
            stream.flush()
    time.sleep(LAST_WORDS)
    abort(status)
    os._exit(status)  # where another rank has ended the job already, it may come back


def call_of_user() -> tuple[str, FrameType | None]:
    """The function of this package that the user has called, and where the user is."""
    frame: FrameType | None = sys._getframe(1)
    name = ""
    while frame is not None and frame.f_code.co_filename.startswith(PACKAGE):
        name = frame.f_code.co_name
        frame = frame.f_back
    return name, frame


def place() -> str:
    """In which call this rank is, and where in the user's program."""
    name, frame = call_of_user()
    return (
        "no call of a program"
        if frame is None
        else f"{name} ({Path(frame.f_code.co_filename).name}, line {frame.f_lineno})"
    )
