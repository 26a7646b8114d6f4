"""What every backend is, and the checks of arrays that all of them share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np

from gpuprop.rules import Rule

#: The types that an array may have, and those in which a kernel computes.
COMPUTE_DTYPE = {"float16": "float32", "float32": "float32", "float64": "float64"}


class DeviceUnavailableError(RuntimeError):
    """The device asked for is not there; the message says why and what mends it."""


class Backend(ABC):
    """One way to run a `Rule` on arrays of one kind.

    Attributes
    ----------
    name : {"gpu", "cpu", "numpy"}
    xp : module
        The array module, ``cupy`` or ``numpy``.
    """

    name: str
    xp: ModuleType

    @abstractmethod
    def update(self, rule: Rule, arrays: Sequence[Any], scalars: Sequence[float]) -> None:
        """Apply `rule` in place.

        Parameters
        ----------
        rule : Rule
        arrays : sequence of array
            In the order of ``rule.arrays``; one shape, one dtype.
        scalars : sequence of float
            In the order of ``rule.scalars``; rounded once to the dtype of the computation.

        Raises
        ------
        TypeError, ValueError
            An array cannot take part; nothing has been written.
        """

    @abstractmethod
    def describe(self) -> str:
        """The device and the library that drives it, for people."""

    def asarray(self, a: Any, dtype: Any = None) -> Any:
        """`a` as an array of ``xp``, copied only where it must be."""
        return self.xp.asarray(a, dtype=dtype)

    def to_host(self, a: Any) -> np.ndarray:
        """`a` as a NumPy array, copied only where it must be."""
        return np.asarray(a)

    def zeros_like(self, x: Any) -> Any:
        """Zeros of the shape, dtype and device of `x`.

        Raises
        ------
        TypeError, ValueError
            `x` cannot be updated in place by this backend.
        """
        self._check_one("x", x, "x", x, written=True)
        return self.xp.zeros_like(x, subok=False)

    def synchronize(self) -> None:  # noqa: B027 - the host has nothing to wait for
        """Wait until the work given to the device is done."""

    def __repr__(self) -> str:
        return f"<gpuprop backend {self.name!r}>"

    def __reduce__(self) -> tuple[Any, ...]:
        from gpuprop.backends import select_backend

        return select_backend, (self.name,)

    def _address(self, array: Any) -> int:
        """Where the first element is."""
        return array.__array_interface__["data"][0]

    def _check(self, rule: Rule, arrays: Sequence[Any]) -> None:
        """Refuse arrays that cannot be updated in place, before anything is written."""
        main, x = rule.writes[0], arrays[len(rule.reads)]
        for name, array in zip(rule.arrays, arrays, strict=True):
            self._check_one(name, array, main, x, written=name in rule.writes)
        spans = [_Span(self._address(a), a) for a in arrays]
        for i, (name, span) in enumerate(zip(rule.arrays, spans, strict=True)):
            if name not in rule.writes:
                continue
            if span.overlaps_itself():
                raise ValueError(
                    f"{name} has strides {span.strides}, with which two of its elements share "
                    f"memory; it must be an array of its own, such as {name}.copy()"
                )
            for j, (other, its) in enumerate(zip(rule.arrays, spans, strict=True)):
                if i == j or not span.overlaps(its):
                    continue
                if other not in rule.writes and span.is_same(its):
                    continue
                raise ValueError(
                    f"{name} and {other} share memory; they must be separate arrays"
                    + ("" if other in rule.writes else ", or the very same one")
                    + f" (pass {other}.copy())"
                )

    def _check_one(self, name: str, array: Any, main: str, x: Any, *, written: bool) -> None:
        kind = self.xp.ndarray
        if not isinstance(array, kind) or isinstance(array, np.ma.MaskedArray):
            module = self.xp.__name__
            raise TypeError(
                f"{name} is a {type(array).__module__}.{type(array).__name__}; it must be a "
                f"{module}.ndarray, as {module}.asarray({name}) makes"
            )
        if array.dtype.name not in COMPUTE_DTYPE or not array.dtype.isnative:
            raise TypeError(
                f"{name} has dtype {array.dtype.str!r} ({array.dtype.name}); it must be one of "
                f"{', '.join(COMPUTE_DTYPE)} in native byte order, as {name}.astype('float64') makes"
            )
        if array.dtype != x.dtype:
            raise TypeError(
                f"{name} has dtype {array.dtype} and {main} has {x.dtype}; they must be the same, "
                f"as {name}.astype({main}.dtype) makes"
            )
        if array.shape != x.shape:
            raise ValueError(
                f"{name} has shape {array.shape} and {main} has {x.shape}; they must be the same"
            )
        if isinstance(array, np.ndarray):
            if written and not array.flags.writeable:
                raise ValueError(f"{name} is read-only; it must be writable, as {name}.copy() is")
            if not array.flags.aligned:
                raise ValueError(f"{name} is not aligned in memory; {name}.copy() is")


class _Span:
    """The memory of an array on any device, by numbers alone: nothing is read from it."""

    def __init__(self, address: int, array: Any) -> None:
        self.strides = array.strides
        self.__array_interface__ = {
            "version": 3,
            "data": (address, False),
            "shape": array.shape,
            "strides": array.strides,
            "typestr": array.dtype.str,
        }

    def is_same(self, other: _Span) -> bool:
        return self.__array_interface__ == other.__array_interface__

    def overlaps(self, other: _Span) -> bool:
        a, b = np.asarray(self), np.asarray(other)
        if not np.may_share_memory(a, b):
            return False
        try:
            return np.shares_memory(a, b, max_work=10_000)  # type: ignore[arg-type]
        except np.exceptions.TooHardError:
            return True

    def overlaps_itself(self) -> bool:
        """Whether its strides do not nest, the smallest first (sufficient and, in practice, so)."""
        a = np.asarray(self)
        reach = a.itemsize
        for stride, length in sorted((abs(s), n) for s, n in zip(a.strides, a.shape, strict=True)):
            if length > 1:
                if stride < reach:
                    return a.size > 0
                reach += stride * (length - 1)
        return False
