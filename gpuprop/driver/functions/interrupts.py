"""Ctrl-C while the user's functions run, and while a step does."""

from __future__ import annotations

import signal
from collections.abc import Callable
from contextlib import suppress
from typing import Any


class Interrupts:
    """Ctrl-C as KeyboardInterrupt, but not within a step: x and the state always belong together.

    One process among several leaves Ctrl-C alone: it ends them all.
    """

    def __init__(self, is_alone: bool) -> None:
        self._held = self._pending = False
        handler = signal.getsignal(signal.SIGINT)
        is_nested = isinstance(getattr(handler, "__self__", None), Interrupts)
        #: What ends a run with a result: in a function of another run nothing, so that both end.
        self.caught: tuple[type[BaseException], ...] = (
            () if is_nested or not is_alone else (KeyboardInterrupt,)
        )

    def __enter__(self) -> Interrupts:
        if self.caught and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            with suppress(ValueError):  # only the main thread sets handlers, and is interrupted at all
                signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        self.restore()

    def restore(self) -> None:
        """Put Python's handler back; again where an interrupt has come between."""
        if signal.getsignal(signal.SIGINT) == self._handle:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def _handle(self, number: int, frame: Any) -> None:
        if self._held:
            self._pending = True
        else:
            signal.default_int_handler(number, frame)

    def hold(self, action: Callable[..., None], *args: Any) -> None:
        """Do `action` to its end, and only then let an interrupt through."""
        self._held = True
        try:
            action(*args)
        finally:
            self._held = False
        if self._pending:
            raise KeyboardInterrupt
