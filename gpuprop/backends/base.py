"""What every backend is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from types import ModuleType, SimpleNamespace
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
    def update(self, rule: Rule, arrays: Sequence[Any], scalars: Sequence[Any], skipped: Any = None) -> None:
        """Apply `rule` in place.

        Parameters
        ----------
        rule : Rule
        arrays : sequence of array
            In the order of ``rule.arrays``; of one shape, dtype and device.
        scalars : sequence of float, or of what `clip_scale` gave
            In the order of ``rule.scalars``; rounded once to the dtype of the computation.
        skipped : array of one integer, optional
            Elements where the first array is not finite are left as they are, and counted here.

        Raises
        ------
        TypeError, ValueError
            An array cannot take part; nothing has been written.
        """

    @abstractmethod
    def clip_scale(self, grad: Any, clip_norm: float, sign: float, skip: bool, workspace: Any) -> Any:
        """`sign` times the factor that brings `grad` to at most the norm `clip_norm`.

        Parameters
        ----------
        grad : array, real and checked
        clip_norm, sign : float
        skip : bool
            Leave elements that are not finite out of the norm.
        workspace
            From `workspace`.

        Returns
        -------
        float, or an array on the device of `grad`, so that nobody waits for it
        """

    @abstractmethod
    def nonfinite(self, grad: Any) -> tuple[int, tuple[int, ...]]:
        """How many elements of a real array are not finite, and the index of the first."""

    @abstractmethod
    def describe(self) -> str:
        """The device and the library that drives it, for people."""

    def asarray(self, a: Any, dtype: Any = None) -> Any:
        """`a` as an array of ``xp``, copied only where it must be."""
        return self.xp.asarray(a, dtype=dtype)

    def to_host(self, a: Any) -> np.ndarray:
        """`a` as a NumPy array, copied only where it must be."""
        return np.asarray(a)

    def adopt(self, name: str, array: Any) -> Any:
        """`array` itself, or this library's view of another library's memory.

        Raises
        ------
        TypeError
            It cannot be shared through DLPack.
        """
        own = type(array).__module__.partition(".")[0] in ("numpy", "cupy")  # never meant to be exchanged
        if own or isinstance(array, self.xp.ndarray) or not hasattr(array, "__dlpack__"):
            return array
        try:
            return self.xp.from_dlpack(array)
        except Exception as error:
            kind = type(array)
            raise TypeError(
                f"{name} is a {kind.__module__}.{kind.__name__} of which {self.xp.__name__} cannot share the "
                f"memory through DLPack: {error}"
            ) from error

    def full_like(self, x: Any, value: float) -> Any:
        """An array of the shape, dtype and device of `x`, filled with `value` (of complex ones, both parts).

        Raises
        ------
        TypeError, ValueError
            `x` cannot be updated in place by this backend.
        """
        check_array(self, "x", x, written=True)
        full = self._allocate(x)
        full[...] = complex(value, value) if x.dtype.kind == "c" else value
        return full

    def _allocate(self, x: Any) -> Any:
        return self.xp.empty_like(x, subok=False)

    def workspace(self, x: Any) -> Any:
        """What steps need beside the arrays: it belongs to a state, so that a graph can be captured.

        Its ``skipped`` is an array of one integer, 0.
        """
        return SimpleNamespace(skipped=self.xp.zeros(1, self.xp.int64))

    def synchronize(self) -> None:  # noqa: B027 - the host has nothing to wait for
        """Wait until the work given to the device is done."""

    def device_of(self, array: Any) -> int | None:
        """The number of the array's device; None for the host."""
        return None

    def on_device_of(self, array: Any) -> AbstractContextManager[Any]:
        """Makes the array's device the current one."""
        return nullcontext()

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


def clip_factor(norm: float, clip_norm: float) -> float:
    """What brings a vector of this norm to at most `clip_norm`; NaN for a NaN."""
    return 1.0 if norm <= clip_norm else clip_norm / norm
