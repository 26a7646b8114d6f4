"""What every backend is."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from types import ModuleType, SimpleNamespace
from typing import Any, Literal

import numpy as np

from gpuprop.backends.foreign import shared
from gpuprop.rules import Rule
from gpuprop.rules.tuning import FAST


class DeviceUnavailableError(RuntimeError):
    """The device asked for is not there; the message says why and what mends it."""


#: What a kernel does with elements whose new values, or whose first array, are not finite: as with all
#: others; leave them as they are, and count them; write nothing at all, and count them.
Mode = Literal["plain", "skip", "count"]


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
    def update(
        self,
        rule: Rule,
        arrays: Sequence[Any],
        scalars: Sequence[Any],
        clock: np.ndarray,
        skipped: Any = None,
        rows: Any = None,
    ) -> None:
        """Apply `rule` in place.

        Parameters
        ----------
        rule : Rule
        arrays : sequence of array
            In the order of ``rule.arrays``; of one shape, dtype and device, but for ``rule.reals``, which
            are real.
        scalars : sequence of float, or of what `clip_scale` gave
            In the order of ``rule.scalars``; rounded once to the dtype of the computation.
        clock : ndarray of two int64
            The first is advanced before the arrays are written, and the second after: no signal's
            handler runs between. On a GPU both are, when the kernel has been launched.
        skipped : array of one integer, optional
            Elements that would not be finite, or whose first array is not, are left as they are, and
            counted here. Complex numbers whose parts go together are one element each.
        rows : array of one dimension of int64, optional
            Which along the first axis are updated, each once; the first array has these alone.

        Raises
        ------
        TypeError, ValueError
            An array cannot take part; nothing has been written.
        """

    @abstractmethod
    def count_nonfinite(
        self, rule: Rule, arrays: Sequence[Any], scalars: Sequence[Any], rows: Any = None
    ) -> int:
        """How many elements `update` would skip; nothing is written.

        Parameters
        ----------
        rule, arrays, scalars, rows
            As for `update`.
        """

    @abstractmethod
    def clip_scales(
        self,
        grads: Sequence[Any],
        clip_norm: float,
        signs: Sequence[float],
        skips: Sequence[bool],
        workspaces: Sequence[Any],
    ) -> list[Any]:
        """The factor that brings all of `grads` together to at most a norm, times the sign of each.

        They are real, checked, and on one device; each has its `workspace`. Of one that `skips`, elements
        that are not finite are left out of the norm. The factors are numbers, or arrays on that device, so
        that nobody waits for them.
        """

    @abstractmethod
    def find_rate(
        self,
        grad: Any,
        last: Any,
        tuning: Any,
        step: int,
        sign: float,
        momentum: float,
        per_gradient: bool,
        workspace: Any,
    ) -> tuple[Any, Any]:
        """The learning rate and the momentum of the next step, by `gpuprop.rules.LAW`.

        Parameters
        ----------
        grad, last : array
            The gradient and what the last step went along: real, checked, of one shape and device. Elements
            that are not finite are left out.
        tuning : array of shape (2, 3)
            Rate, growth and scale: the row of `step` modulo 2 is read, and the other one written, so that
            nothing has changed until that step is made.
        step : int
            Steps before this one.
        sign : float
            What `grad` is multiplied by.
        momentum : float
        per_gradient : bool
            Whether steps are as long as the gradient.
        workspace : what `workspace` gave

        Returns
        -------
        rate, momentum : float, or array of one number on the device, so that nobody waits for it
        """

    def tuning(self, x: Any) -> Any:
        """Where the finding of a learning rate for `x` starts: far below its scale, and fast."""
        with self.on_device_of(x), np.errstate(all="ignore"):
            xp, real = self.xp, x.real if x.dtype.kind == "c" else x
            largest = xp.maximum(real.max(), -real.min()).astype(np.float64) if x.size else xp.ones(())
            scale = xp.where((largest > 0) & (largest < np.inf), largest, 1.0)
            tuning = xp.zeros((2, 3))
            tuning[:, 0], tuning[:, 1] = scale * 2.0**-20, FAST
            return tuning

    def are_plainly_alike(self, one: Any, other: Any) -> bool:
        """Whether two arrays are this library's, real, contiguous, and of one shape, dtype and device."""
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
            and self.device_of(one) == self.device_of(other)
        )

    def norm(self, array: Any, skip: bool) -> tuple[float, float]:
        """Euclidean norm, by whole arrays, in two factors: it may be beyond float64's numbers."""
        with self.on_device_of(array), np.errstate(all="ignore"):
            values = abs(array.ravel().astype(np.float64))
            if skip:
                values = values[self.xp.isfinite(values)]
            largest = float(values.max()) if values.size else 0.0
            unit = largest if largest > 1e150 and math.isfinite(largest) else 1.0
            return float(self.xp.linalg.norm(values / unit)), unit

    def survey(self, rows: Any) -> tuple[int, int, int]:
        """The least and the most of some integers, and the place of one that is there twice, or -1."""
        places = rows.argsort()
        in_order = rows[places]
        repeated = in_order[1:] == in_order[:-1]
        twice = int(places[1:][repeated][0]) if bool(repeated.any()) else -1
        return int(in_order[0]), int(in_order[-1]), twice

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

    def is_capturing(self, array: Any) -> bool:
        """Whether a step of this array would be recorded into a CUDA graph instead of being done."""
        return False

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


def joint_factor(norms: Sequence[tuple[float, float]], clip_norm: float) -> float:
    """What brings vectors of these norms, by `Backend.norm`, together to at most `clip_norm`."""
    largest = max(unit for _, unit in norms)
    norm = math.hypot(*(norm * (unit / largest) for norm, unit in norms))
    return clip_factor(norm, clip_norm / largest)


def at_once(*calls: partial[Any]) -> None:
    """Make calls that stay in C one after another, with no signal's handler between two of them."""
    deque(map(partial.__call__, calls), 0)
