"""What every backend is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np

from gpuprop.backends.checks import check_array
from gpuprop.rules import Rule


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
            In the order of ``rule.arrays``; of one shape, dtype and device.
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
        check_array(self, "x", x, written=True)
        return self.xp.zeros_like(x, subok=False)

    def synchronize(self) -> None:  # noqa: B027 - the host has nothing to wait for
        """Wait until the work given to the device is done."""

    def device_of(self, array: Any) -> int | None:
        """The number of the array's device; None for the host."""
        return None

    def address_of(self, array: Any) -> int:
        """Where the array's first element is."""
        return array.ctypes.data

    def may_overlap(self, a: Any, b: Any) -> bool:
        """Whether the memory between the first and last bytes of two arrays meets."""
        return np.may_share_memory(a, b)

    def __repr__(self) -> str:
        return f"<gpuprop backend {self.name!r}>"

    def __reduce__(self) -> tuple[Any, ...]:
        from gpuprop.backends import select_backend

        return select_backend, (self.name,)
