"""Whether arrays share memory: by numbers alone, as nothing is read from them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


class Span:
    """The memory of an array on any device."""

    def __init__(self, address: int, array: Any) -> None:
        self.__array_interface__ = {
            "version": 3,
            "data": (address, False),
            "shape": array.shape,
            "strides": array.strides,
            "typestr": array.dtype.str,
        }

    def is_same(self, other: Span) -> bool:
        a, b = np.asarray(self), np.asarray(other)
        if self.__array_interface__["data"] != other.__array_interface__["data"] or a.shape != b.shape:
            return False
        return all(s == t for s, t, n in zip(a.strides, b.strides, a.shape, strict=True) if n > 1)

    def overlaps(self, other: Span) -> bool:
        try:
            return np.shares_memory(np.asarray(self), np.asarray(other), max_work=10_000)  # type: ignore[arg-type]
        except np.exceptions.TooHardError:
            return True


def overlaps_itself(shape: Sequence[int], strides: Sequence[int], itemsize: int) -> bool:
    """Whether the strides do not nest, from the smallest up."""
    reach = itemsize
    for stride, length in sorted((abs(s), n) for s, n in zip(strides, shape, strict=True)):
        if length > 1:
            if stride < reach:
                return 0 not in shape
            reach += stride * (length - 1)
    return False
