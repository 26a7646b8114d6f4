"""Arrays of any shape as the vectors that ranks cut: on the same memory, in its order."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any
from zlib import crc32

import numpy as np

from gpuprop.arguments import is_array
from gpuprop.backends import Backend
from gpuprop.backends.checks import check_array, check_like
from gpuprop.optimizers import Optimizer


def axes_of(x: Any) -> tuple[int, ...]:
    """The order of the axes in memory, from the longest stride down."""
    if x.flags.c_contiguous:
        return tuple(range(x.ndim))
    return tuple(sorted(range(x.ndim), key=lambda axis: -x.strides[axis]))


def layout_mark(x: Any) -> np.ndarray:
    """A number of the shape and the order of axes, which a vector tells no more."""
    return np.array(crc32(repr((x.shape, axes_of(x))).encode()))


def vector_of_x(backend: Backend, x: Any) -> tuple[Any, Any]:
    """The parameters as the backend's own array, and as a vector.

    Raises
    ------
    TypeError, ValueError
        It cannot be updated in place, or has gaps in memory.
    """
    x = backend.adopt("x", x, written=True)
    check_array(backend, "x", x, written=True)
    ordered = x.transpose(axes_of(x))
    if not ordered.flags.c_contiguous:
        raise ValueError(
            f"x has shape {x.shape} and strides {x.strides}, with gaps in memory; what ranks send each other "
            "must have none, as x.copy() has"
        )
    return x, ordered.reshape(-1)


def checksum(backend: Backend, vector: Any) -> int:
    """Of the bits of a contiguous vector and their places, without a copy of it: by sums on its device."""
    bits = vector.view(f"u{min(vector.itemsize, 8)}")
    width = 1021  # a prime, as arrays that have their rows in another order have other lengths
    rows = bits[: bits.size // width * width].reshape(-1, width)
    sums = rows.sum(axis=0, dtype="u8")
    return crc32(b"".join(backend.to_host(each).tobytes() for each in (sums, bits[rows.size :])))


def vector_like(backend: Backend, name: str, array: Any, x: Any, part: slice | None = None) -> Any:
    """An array as a vector whose elements belong to those of `vector_of_x`; or a part of that alone.

    That of a part may lie in memory otherwise than x, and be of another dtype.

    Raises
    ------
    TypeError, ValueError
        It is not like x.
    """
    array = backend.adopt(name, array)
    check_array(backend, name, array, written=False)
    check_like(backend, name, array, "x", x, x.dtype if part is None else array.dtype)
    ordered = array.transpose(axes_of(x))
    if part is not None:  # what reshape has to copy is kept no longer than this
        vector = ordered.reshape(-1)[part]
        return vector if ordered.flags.c_contiguous else vector.copy()
    if not ordered.flags.c_contiguous:
        raise ValueError(
            f"{name} has strides {array.strides} and x has {x.strides}; they must lie alike in memory, as "
            f"they do where {name} is written into an empty_like(x)"
        )
    return ordered.reshape(-1)


def with_arrays(optimizer: Optimizer, change: Callable[[Any], Any]) -> Optimizer:
    """A copy whose options that are arrays have been changed; of one element, too, they are arrays still.

    The constructor would take such for a number, with which a step may round otherwise.
    """

    def changed(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(map(changed, value))
        if isinstance(value, Mapping):
            return {name: changed(each) for name, each in value.items()}
        return change(value) if is_array(value) else value

    options = {field.name for field in fields(optimizer)} | {"user_rule", "scalars"}  # type: ignore[arg-type]
    new = object.__new__(type(optimizer))
    vars(new).update({name: changed(value) for name, value in vars(optimizer).items() if name in options})
    return new
