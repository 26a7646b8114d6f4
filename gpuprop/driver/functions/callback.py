"""The user's callback, of either of SciPy's kinds, and the user's projection."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

#: What may be said of how a callback has stopped a run; one above another where they are of several ranks.
REASONS = ("", "returned True", "raised `StopIteration`")


class Callback:
    """A callback, and how it says stop.

    Attributes
    ----------
    takes_a_result : bool
        Whether it is given an `intermediate_result`, and not x alone.
    told : int
        The last step that it was told of.
    reason : str
        How it has stopped the run.
    """

    def __init__(self, function: Callable[..., Any], told: int) -> None:
        self._function, self.told = function, told
        self.takes_a_result = takes_a_result(function)
        self.reason = ""

    def stops(self, nit: int, x: Any, **more: Any) -> bool:
        """Tell of a step; what is given is the callback's own, but for the state."""
        given, is_new = x, self.takes_a_result
        if is_new:
            from scipy.optimize import OptimizeResult

            given = OptimizeResult(x=x, nit=nit, **more)
        try:
            answer = self._function(intermediate_result=given) if is_new else self._function(given)
        except StopIteration:
            answer, self.reason = True, REASONS[2]
        self.told = nit
        # An array, as of a plot's or a list's method that gives something, is no answer.
        if answer is True or (isinstance(answer, np.bool_) and answer):
            self.reason = self.reason or REASONS[1]
            return True
        return False


def in_place(project: Callable[[Any], Any], x: Any) -> None:
    """Let the user's projection work on `x`; one that gives another array would change nothing."""
    answer = project(x)
    if answer is not None and answer is not x:
        raise TypeError(
            f"project gave a {type(answer).__name__}; it must work in place on x, as x[...] = does, and give "
            "nothing"
        )


def takes_a_result(callback: Callable[..., Any]) -> bool:
    """SciPy tells the two kinds of callback apart by the name of the only parameter."""
    if not callable(callback):
        raise TypeError(f"callback is {callback!r}; it must be a function of x or of intermediate_result")
    try:
        signature = inspect.signature(callback)
    except (TypeError, ValueError):  # some functions written in C do not say
        return False
    if set(signature.parameters) == {"intermediate_result"}:
        return True
    try:
        signature.bind(None)
    except TypeError:
        raise TypeError(
            f"callback takes {signature}; it must be a function of one argument, x or intermediate_result"
        ) from None
    return False
