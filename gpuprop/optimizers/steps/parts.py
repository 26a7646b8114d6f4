"""Parts of the parameters by an index: windows, which are views, and rows, which are gathered."""

from __future__ import annotations

from operator import index as whole
from types import EllipsisType
from typing import Any

import numpy as np

from gpuprop.backends import Backend
from gpuprop.backends.checks import adopted, check_array
from gpuprop.rules import Rule


def part_of(backend: Backend, rule: Rule, arrays: Any, at: Any) -> tuple[list[Any], Any]:
    """The arrays of a step of ``x[at]``, and which rows those are, None for a window.

    Raises
    ------
    IndexError
        `at` is out of the range of x, names a row twice, or is an index of another kind.
    ValueError
        An array that the step takes whole is not of the shape of x.
    """
    grad, *whole_arrays = adopted(backend, rule, arrays)
    x = whole_arrays[len(rule.reads) - 1]
    check_array(backend, rule.writes[0], x, written=True)
    for name, array in zip(rule.arrays[1:], whole_arrays, strict=True):
        check_array(backend, name, array, written=name in rule.writes)
        if array.shape != x.shape:
            raise ValueError(
                f"{name} has shape {array.shape} and {rule.writes[0]} has {x.shape}; they must be the same: "
                "what `at` takes of them is found by the step"
            )
    items = at if isinstance(at, tuple) else (at,)
    if all(isinstance(item, (slice, EllipsisType)) or _is_integer(item) for item in items):
        # An ellipsis more makes of a single element an array, too.
        window = items if any(item is Ellipsis for item in items) else (*items, ...)
        return [grad, *(array[window] for array in whole_arrays)], None
    if len(items) == 1 and isinstance(at, (list, range)):
        items = (np.asarray(at, None if len(at) else np.int64),)
    if len(items) != 1 or getattr(getattr(items[0], "dtype", None), "kind", "") not in ("i", "u"):
        raise IndexError(
            f"at is {_shown(at)}; it must be slices, integers and an ellipsis, or one array of integers, "
            "which are rows (of a mask m of rows, numpy.flatnonzero(m); for several index arrays, step on a "
            "copy of x[at] and put it back)"
        )
    with backend.on_device_of(x):
        rows = _checked_rows(backend, items[0], x)
        if rows.size and grad.ndim >= items[0].ndim:
            grad = grad.reshape(rows.size, *grad.shape[items[0].ndim :])
        return [grad, *whole_arrays], rows


def _checked_rows(backend: Backend, rows: Any, x: Any) -> Any:
    """As a vector of int64 where the arrays are, none of it negative."""
    if not x.ndim:
        raise IndexError("x is one number without an axis, of which there are no rows; leave out at")
    length = x.shape[0]
    rows = backend.adopt("at", rows) if not isinstance(rows, np.ndarray) else rows
    rows = rows.reshape(-1).astype(np.int64, copy=False)
    if not rows.size:
        return backend.asarray(rows)
    in_order = rows.copy()
    in_order[rows < 0] += length
    rows = in_order.copy()
    in_order.sort()
    outside, repeated = (in_order[0] < 0) | (in_order[-1] >= length), (in_order[1:] == in_order[:-1]).any()
    if outside:
        raise IndexError(
            f"at has rows from {in_order[0]} to {in_order[-1]}, and x has {length}: 0 to {length - 1}"
        )
    if repeated:
        twice = in_order[1:][in_order[1:] == in_order[:-1]][0]
        raise IndexError(
            f"at has row {twice} more than once; add up the gradients of a row, and step it once "
            "(numpy.unique with return_inverse, and numpy.add.at)"
        )
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
