"""Hyperparameters checked when an optimizer is made: what was given, and what it must be."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from numbers import Real
from operator import index
from typing import Any

import numpy as np


def number(name: str, value: Any, *, below: float = math.inf, positive: bool = False) -> float:
    """`value` as a finite float in [0, below), or in (0, below)."""
    number = real(name, value)
    if not 0 <= number < below or (positive and number == 0):
        interval = f"in [0, {below:g})" if below != math.inf else "finite and at least 0"
        needed = "finite and above 0" if positive else interval
        raise ValueError(f"{name} is {_shown(value)}; it must be {needed}")
    return number


def real(name: str, value: Any) -> float:
    """`value` as a float: a number, or an array of any library and device that holds one."""
    if isinstance(value, float):  # asked first: a schedule's rate comes by in every step
        return float(value)
    number = value if isinstance(value, Real) else _held(value)
    if not isinstance(number, Real) or isinstance(number, (bool, np.timedelta64)):
        raise TypeError(f"{name} is {_shown(value)}; it must be a real number")
    try:
        return float(number)
    except OverflowError:
        return math.inf


def _held(value: Any) -> Any:
    """What an array of one element holds, and None for all else."""
    if not hasattr(value, "item") and hasattr(value, "__array__"):
        value = np.asarray(value)
    kind = getattr(getattr(value, "dtype", None), "kind", "")
    if _elements(value) != 1 or kind in ("m", "M") or np.ma.is_masked(value):
        return None  # the item of a date is an integer, and that of a masked element some number
    return value.item()


def _elements(value: Any) -> int | None:
    """Of an array; None for all else."""
    shape = getattr(value, "shape", None)
    return math.prod(shape) if isinstance(shape, tuple) else None


def _shown(value: Any) -> str:
    """A few words on one line, also for an array."""
    if _elements(value) not in (None, 1):
        return f"an array of shape {tuple(value.shape)}"
    return " ".join(repr(value).split())


def rate(value: Any) -> Any:
    """A learning rate: "auto", a number, a schedule, whose values are checked when used, or an array."""
    if (isinstance(value, str) and value == "auto") or (callable(value) and not is_array(value)):
        return value
    try:
        return number_or_array("learning_rate", value)
    except TypeError as error:
        raise TypeError(f'{error}, "auto", a schedule, or an array of rates') from None


def number_or_array(name: str, value: Any, number: Callable[[str, Any], float] = number) -> Any:
    """`value` as a `number`; or itself where it is an array of several, or of none, for the parameters."""
    return value if is_array(value) and _elements(value) != 1 else number(name, value)


def whole(name: str, value: Any, least: int) -> int:
    """`value` as a whole number: 1e3 is one, too."""
    try:
        number = index(value)
    except TypeError:
        number = int(float(value)) if isinstance(value, Real) and float(value).is_integer() else -1
    if number < least or isinstance(value, bool):
        raise ValueError(f"{name} is {value!r}; it must be a whole number of at least {least}")
    return number


def flag(name: str, value: Any) -> bool:
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} is {value!r}; it must be True or False")
    return bool(value)


def choice(name: str, value: Any, choices: tuple[str, ...]) -> str:
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name} is {value!r}; it must be one of {', '.join(map(repr, choices))}")
    return value


def pair_of_bounds(value: Any, name: str = "bounds", least: float = -math.inf) -> tuple[Any, Any] | None:
    """(lower, upper), each a float or an array."""
    if value is None:
        return None
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise TypeError(f"{name} is {value!r}; it must be (lower, upper), each a number or an array like x")
    none = {"lower": least, "upper": math.inf}
    lower, upper = (
        none[side] if bound is None else _bound(side, bound)
        for side, bound in zip(("lower", "upper"), value, strict=True)
    )
    if isinstance(lower, float) and isinstance(upper, float) and lower > upper:
        raise ValueError(f"{name} is {value!r}; lower must not be above upper")
    if any(isinstance(bound, float) and bound < least for bound in (lower, upper)):
        raise ValueError(f"{name} is {value!r}; each must be at least {least:g}")
    return lower, upper


def is_array(value: Any) -> bool:
    """Whether an option, or a bound, has an element for each parameter."""
    return hasattr(value, "dtype") and bool(getattr(value, "shape", ()))


def _bound(name: str, value: Any) -> Any:
    if hasattr(value, "dtype") and value.shape:
        return value
    bound = real(f"the {name} bound", value)
    if math.isnan(bound):
        raise ValueError(f"the {name} bound is {_shown(value)}; it must be a number, or infinite for none")
    return bound


def ranks(comm: Any) -> Any:
    """`comm` where it has several ranks; None for one process alone, which a rank without others is."""
    if comm is not None and not hasattr(comm, "over"):
        raise TypeError(
            f"comm is of type {type(comm).__name__}; it must be what "
            "gpuprop.distributed.communicator(MPI.COMM_WORLD) gives"
        )
    return comm if comm is not None and comm.size > 1 else None


def check_alike(comm: Any, given: Mapping[str, Any]) -> None:
    """Refuse on every rank what must be the same on all: by name, and by the text of each value.

    Arrays are each rank's own, and one of a single element may have become a number.

    Raises
    ------
    ValueError
        A rank has something else than rank 0.
    """
    first, *others = comm.exchange({name: _alike(value) for name, value in given.items()})
    for rank, other in enumerate(others, 1):
        for name in {**first, **other}:
            theirs, ours = (each.get(name, "not given") for each in (other, first))
            if theirs != ours and _ARRAY not in (theirs, ours):
                raise ValueError(
                    f"{name} is {theirs:.200} on rank {rank} and {ours:.200} on rank 0; give all ranks the "
                    "same"
                )


_ARRAY = "an array"


def _alike(value: Any) -> str:
    """A text of what can be the same on all ranks: a function's is without its place in memory."""
    if isinstance(value, tuple):
        return f"({', '.join(map(_alike, value))})"
    return _ARRAY if is_array(value) else re.sub(" at 0x[0-9A-Fa-f]+", "", _shown(value))


class naming:
    """A context that puts a name before what an error says."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __enter__(self) -> None: ...

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        if isinstance(error, (TypeError, ValueError, IndexError, ArithmeticError, RuntimeError)):
            try:
                named = type(error)(f"{self.name}: {error}")
            except TypeError:  # a kind of error that is made of other things
                return
            raise named from error
