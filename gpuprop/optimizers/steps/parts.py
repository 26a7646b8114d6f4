"""Parts of the parameters by an index: windows, which are views, and rows, which are gathered."""

from __future__ import annotations

from operator import index as whole
from typing import Any, NamedTuple

import numpy as np

from gpuprop.backends import Backend, backend_of
from gpuprop.backends.checks import adopted, check_array
from gpuprop.optimizers.steps import refusals
from gpuprop.rules import Rule


class Rows(NamedTuple):
    """Rows that have been checked, and the shape of what they were given in."""

    numbers: Any
    shape: tuple[int, ...]


def part_of(
    backend: Backend, rule: Rule, arrays: Any, at: Any, given: int | None = None
) -> tuple[list[Any], Any]:
    """The arrays of a step of ``x[at]``, and which rows those are, None for a window.

    The gradient, or the first so many that are `given`, and what is only written, are of the shape of the
    part; all others are whole.

    Raises
    ------
    IndexError
        `at` is out of the range of x, names a row twice, or is an index of another kind.
    ValueError
        An array that the step takes whole is not of the shape of x.
    """
    kind = backend.xp.ndarray
    if isinstance(arrays[0], np.generic):  # as x[at] of one element is
        arrays = (np.asarray(arrays[0]), *arrays[1:])
    if any(type(array) is not kind for array in arrays):
        arrays = adopted(backend, rule, arrays)
    # Of a direction, the first that is written is no x.
    loose: Any = ((0, len(rule.reads)) if rule.fresh else (0,)) if given is None else range(given)
    whole = [i for i in range(len(arrays)) if i not in loose]
    x: Any = arrays[len(rule.reads)] if not rule.fresh else arrays[whole[-1]] if whole else None
    for i in whole:
        if not isinstance(arrays[i], kind):
            check_array(backend, rule.arrays[i], arrays[i], written=i >= len(rule.reads))
        if arrays[i].shape != x.shape:
            raise ValueError(
                f"{rule.arrays[i]} has shape {arrays[i].shape} and {rule.writes[0]} has {x.shape}; they must "
                "be the same: what `at` takes of them is found by the step"
            )
    if not isinstance(at, Rows):
        at = index_of(backend, at, x, takes_rows=not rule.fresh)
    if isinstance(at, Rows):
        return [_in_rows(at, arrays[0]), *arrays[1:]], at.numbers
    return [a if i in loose else a[at] for i, a in enumerate(arrays)], None


def index_of(backend: Backend, at: Any, x: Any, takes_rows: bool = True) -> Any:
    """`at` as a window, or as `Rows`.

    Raises
    ------
    IndexError
        As for `part_of`.
    """
    if not isinstance(at, (np.ndarray, np.generic, backend.xp.ndarray)) and hasattr(at, "__dlpack__"):
        at = backend_of(at).adopt("at", at)
    if (window := _window_of(at)) is not None:
        return window
    if not _are_numbers(at):
        at = _as_rows(at)
    if not takes_rows:
        raise IndexError("at has rows, of which step makes no direction; take a window, or step")
    with backend.on_device_of(x):
        return Rows(_checked_rows(backend, at, x), at.shape)


def cut(index: Any, array: Any, shape: tuple[int, ...]) -> Any:
    """The part of an array of this shape; the array, where it is that of a part, or there is no index."""
    rows = isinstance(index, Rows)
    if index is None:
        return array
    if array.shape == shape:
        return array[index.numbers if rows else index]
    return _in_rows(index, array) if rows else array


def _in_rows(rows: Rows, array: Any) -> Any:
    """With one axis of rows, where they were given in several."""
    axes = len(rows.shape)
    if axes < 2 or array.shape[:axes] != rows.shape:
        return array
    return array.reshape(rows.numbers.size, *array.shape[axes:])


def _window_of(at: Any) -> tuple[Any, ...] | None:
    """An index that makes a view, and an array of a single element, too; None of any other."""
    items = at if isinstance(at, tuple) else (at,)
    if _are_numbers(at) or not all(type(i) is slice or i is Ellipsis or _is_integer(i) for i in items):
        return None
    return items if any(item is Ellipsis for item in items) else (*items, ...)


def _are_numbers(at: Any) -> bool:
    """Whether it is an array of integers, with an axis."""
    return getattr(getattr(at, "dtype", None), "kind", "") in ("i", "u") and bool(at.shape)


def _as_rows(at: Any) -> np.ndarray:
    """A list of integers as an array; what else is no window, is refused."""
    if isinstance(at, range) or (isinstance(at, list) and all(map(_is_integer, at))):
        return np.asarray(at, np.int64)
    raise IndexError(
        f"at is {_shown(at)}; it must be slices, integers and an ellipsis, or one array of integers, "
        "which are rows (of a mask m of rows, numpy.flatnonzero(m); for other masks and several index arrays "
        "step x.reshape(-1), with a state of its own, at their numpy.ravel_multi_index)"
    )


def _checked_rows(backend: Backend, rows: Any, x: Any) -> Any:
    """As a vector of int64 where the arrays are, none of it negative."""
    if not x.ndim:
        raise IndexError("x is one number without an axis, of which there are no rows; leave out at")
    # Rows on the host are surveyed there, whatever the device.
    surveyor = backend_of(rows)
    rows, there = surveyor.adopt("at", rows), surveyor.device_of(rows)
    if there not in (None, backend.device_of(x)):
        raise IndexError(
            f"at is on device {there} and x on {backend.device_of(x)}; it must be there, or a NumPy array"
        )
    if there is not None and backend.is_capturing(x):
        raise refusals.captured(
            "rows on the device are looked at before they are stepped: give a NumPy array"
        )
    length = x.shape[0]
    if rows.dtype == np.uint64:
        rows = rows.clip(None, np.uint64(2**63 - 1))  # which is no row, either
    # Of the host a copy, which nobody can change meanwhile.
    rows = rows.reshape(-1).astype(np.int64, order="C", copy=there is None)
    if not rows.size:
        return _given(backend, rows, x)
    least, most, twice = surveyor.survey(rows)
    if least < -length or most >= length:
        raise IndexError(f"at has rows from {least} to {most}, and x has {length}: 0 to {length - 1}")
    if least < 0:
        rows = rows + length * (rows < 0)
        _, _, twice = surveyor.survey(rows)
    if twice >= 0:
        raise IndexError(
            f"at has row {int(rows[twice])} more than once; add up the gradients of a row, and step it once "
            "(numpy.unique with return_inverse, and numpy.add.at)"
        )
    return _given(backend, rows, x)


def _given(backend: Backend, rows: Any, x: Any) -> Any:
    with backend.aside(x):
        return backend.asarray(rows)


def _is_integer(item: Any) -> bool:
    if isinstance(item, (bool, np.bool_)):
        return False
    try:
        whole(item)
    except TypeError:
        return False
    return not getattr(item, "shape", ())


def _shown(at: Any) -> str:
    if hasattr(at, "dtype") and hasattr(at, "shape"):
        return f"an array of {at.dtype} of shape {tuple(at.shape)}"
    return " ".join(repr(at).split())[:100]
