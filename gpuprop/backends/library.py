"""The library of arrays behind a backend: how its arrays are made, shared, and told apart."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext
from types import ModuleType
from typing import Any

import numpy as np

from gpuprop.backends.foreign import shared


class Library(ABC):
    """What is NumPy's on the host, and CuPy's on a device."""

    name: str
    xp: ModuleType

    @abstractmethod
    def describe(self) -> str:
        """The device and the library that drives it, for people."""

    def asarray(self, a: Any, dtype: Any = None) -> Any:
        """Make `a` an array of ``xp``, copied only where it must be.

        Parameters
        ----------
        a : array_like
            Numbers, or an array on the host or on the device.
        dtype : dtype, optional
            By default that of `a`.

        Returns
        -------
        array
            A ``cupy.ndarray`` or ``numpy.ndarray``.
        """
        return self.xp.asarray(a, dtype=dtype)

    def to_host(self, a: Any) -> np.ndarray:
        """Make `a` a NumPy array, copied only where it must be.

        Parameters
        ----------
        a : array_like
            An array of this backend; from a GPU it is copied, which waits for the device.

        Returns
        -------
        numpy.ndarray
            The same numbers.
        """
        return np.asarray(a)

    def adopt(self, name: str, array: Any, *, written: bool = False) -> Any:
        """`array` itself, or this library's plain view of the same memory, which may be `written`.

        Raises
        ------
        TypeError
            It is masked, or of another library and cannot be shared.
        """
        if type(array) is self.xp.ndarray:
            return array
        if isinstance(array, np.ma.MaskedArray):
            raise TypeError(
                f"{name} is a masked array, and masks are not seen to; pass {name}.filled(value), or its data"
            )
        if isinstance(array, np.ndarray):
            return array.view(np.ndarray) if self.xp is np else array
        # What has no memory to share is for the checks to refuse; NumPy's and CuPy's own is not exchanged.
        own = type(array).__module__.partition(".")[0] in ("numpy", "cupy")
        return array if own or not hasattr(array, "__dlpack__") else shared(name, array, self.xp, written)

    def empty_like(self, x: Any, dtype: np.dtype | None = None) -> Any:
        """An array like the checked `x` on its device; what is in it, is undefined."""
        return self.xp.empty_like(x, dtype, subok=False)

    def full_like(self, x: Any, value: Any, dtype: np.dtype | None = None) -> Any:
        """An array like the checked `x`, filled with `value` (of complex ones, both parts); or a copy."""
        full = self.empty_like(x, dtype)
        with np.errstate(over="ignore"):  # what is beyond the dtype is infinite
            both = full.dtype.kind == "c" and value is not x
            full[...] = complex(value, value) if both else value
        return full

    def synchronize(self) -> None:  # noqa: B027 - the host has nothing to wait for
        """Wait until the work given to the device is done."""

    def device_of(self, array: Any) -> int | None:
        """The number of the array's device; None for the host."""
        return None

    def is_capturing(self, array: Any) -> bool:
        """Whether a step of this array would be recorded into a CUDA graph instead of being done."""
        return False

    def aside(self, array: Any) -> AbstractContextManager[Any]:
        """As `on_device_of`; what is made there is no part of a CUDA graph, and done at the end."""
        return self.on_device_of(array)

    def on_device_of(self, array: Any) -> AbstractContextManager[Any]:
        """Makes the array's device the current one."""
        return nullcontext()

    def address_of(self, array: Any) -> int:
        """Where the array's first element is."""
        return array.ctypes.data

    def may_overlap(self, a: Any, b: Any) -> bool:
        """Whether the memory between the first and last bytes of two arrays meets."""
        return np.may_share_memory(a, b)

    def are_plainly_alike(self, one: Any, other: Any) -> bool:
        """Whether two arrays are this library's, real, contiguous, and of one shape and dtype."""
        kind = self.xp.ndarray
        return (
            type(one) is kind
            and type(other) is kind
            and one.dtype == other.dtype
            and one.dtype.char in "fd"
            and one.dtype.isnative
            and one.shape == other.shape
            and one.flags.c_contiguous
            and other.flags.c_contiguous
        )
