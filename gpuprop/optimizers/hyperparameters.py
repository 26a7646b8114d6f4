"""Hyperparameters checked when an optimizer is made: what was given, and what it must be."""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Real
from typing import Any

import numpy as np


def number(name: str, value: Any, *, below: float = math.inf, positive: bool = False) -> float:
    """`value` as a finite float in [0, below), or in (0, below)."""
    number = real(name, value)
    if not 0 <= number < below or (positive and number == 0):
        interval = f"in [0, {below:g})" if below != math.inf else "finite and at least 0"
        raise ValueError(f"{name} is {value!r}; it must be {'finite and above 0' if positive else interval}")
    return number


def real(name: str, value: Any) -> float:
    if not isinstance(value, Real) or isinstance(value, bool):
        raise TypeError(f"{name} is {value!r}; it must be a real number")
    try:
        return float(value)
    except OverflowError:
        return math.inf


def rate(value: Any) -> float | Callable[[int], float]:
    """A learning rate: a number, or a schedule, whose values are checked when they are used."""
    return value if callable(value) else number("learning_rate", value)


def flag(name: str, value: Any) -> bool:
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} is {value!r}; it must be True or False")
    return bool(value)


def choice(name: str, value: Any, choices: tuple[str, ...]) -> str:
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name} is {value!r}; it must be one of {', '.join(map(repr, choices))}")
    return value


def pair_of_bounds(value: Any) -> tuple[Any, Any] | None:
    """(lower, upper), each a float or an array."""
    if value is None:
        return None
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise TypeError(f"bounds is {value!r}; it must be (lower, upper), each a number or an array like x")
    lower, upper = (_bound(name, bound) for name, bound in zip(("lower", "upper"), value, strict=True))
    if isinstance(lower, float) and isinstance(upper, float) and lower > upper:
        raise ValueError(f"bounds is {value!r}; lower must not be above upper")
    return lower, upper


def is_array(bound: Any) -> bool:
    """Whether a bound has an element for each parameter."""
    return not isinstance(bound, float)


def _bound(name: str, value: Any) -> Any:
    if hasattr(value, "dtype"):
        if value.shape:
            return value
        value = value.item()
    bound = real(f"the {name} bound", value)
    if math.isnan(bound):
        raise ValueError(f"the {name} bound is {value!r}; it must be a number, or infinite for none")
    return bound
