"""What the constructors of all conventions share."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gpuprop.schedules import Schedule


class Convention:
    """A constructor of `RMSProp` from the arguments of one library."""

    if TYPE_CHECKING:

        def __init__(self, learning_rate: Any, **options: Any) -> None: ...


@dataclass(frozen=True)
class _Schedule:
    """Another library's schedule, whose values may be arrays of it."""

    function: Callable[..., Any]
    takes_step: bool

    def __call__(self, step: int) -> Any:
        return self.function(step) if self.takes_step else self.function()


def their_schedule(value: Any, may_take_nothing: bool = False) -> Any:
    if not callable(value) or isinstance(value, Schedule):
        return value
    return _Schedule(value, not (may_take_nothing and _takes_nothing(value)))


def _takes_nothing(function: Callable[..., Any]) -> bool:
    try:
        inspect.signature(function).bind()
    except (TypeError, ValueError):  # it needs an argument, or does not say
        return False
    return True
