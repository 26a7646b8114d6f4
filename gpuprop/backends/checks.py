"""Which arrays can be updated in place: refused with a sentence, before anything is written."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np

from gpuprop.backends.base import Backend
from gpuprop.rules import Rule

#: The types that an array may have, and those in which a kernel computes.
COMPUTE_DTYPE: dict[np.dtype, np.dtype] = {
    np.dtype("float16"): np.dtype("float32"),
    np.dtype("float32"): np.dtype("float32"),
    np.dtype("float64"): np.dtype("float64"),
}
_ALLOWED = "float16, bfloat16, float32, float64, complex64 or complex128"


def compute_dtype(dtype: np.dtype) -> np.dtype | None:
    """The type in which a kernel computes on real arrays of `dtype`; None where it cannot."""
    known = COMPUTE_DTYPE.get(dtype)
    if known is None and dtype.name == "bfloat16" and dtype.isnative:
        # ml_dtypes gives this type to NumPy where it is loaded; the package does not need it.
        return np.dtype("float32")
    return known


def real_dtype(dtype: np.dtype) -> np.dtype:
    """That of the parts of complex numbers; of all others their own."""
    return np.dtype(f"f{dtype.itemsize // 2}") if dtype.kind == "c" else dtype


def adopted(backend: Backend, rule: Rule, arrays: Sequence[Any]) -> list[Any]:
    """`arrays` as the backend's own, on the same memory."""
    named = zip(rule.arrays, arrays, strict=True)
    return [backend.adopt(name, array, written=name in rule.writes) for name, array in named]


def checked(backend: Backend, rule: Rule, arrays: Sequence[Any], rows: Any = None) -> list[Any]:
    """`arrays` as the backend's own, on the same memory.

    Raises
    ------
    TypeError, ValueError
        `rule` cannot update them: see `Backend.update`.
    """
    arrays = adopted(backend, rule, arrays)
    _check_arrays(backend, rule, arrays, rows)
    return arrays


def dtypes_of(rule: Rule, dtype: np.dtype) -> list[np.dtype]:
    """Those that the arrays of `rule` must have where the first that it writes has `dtype`."""
    return [real_dtype(dtype) if name in rule.reals else dtype for name in rule.arrays]


def as_real(backend: Backend, array: Any) -> Any:
    """A complex array as one of pairs of reals, with one more axis of length 2."""
    if array.dtype.kind != "c":
        return array
    real = array.real
    if array.flags.c_contiguous and array.ndim:
        return array.view(real.dtype).reshape(*array.shape, 2)
    shape, strides = (*array.shape, 2), (*array.strides, real.itemsize)
    return backend.xp.lib.stride_tricks.as_strided(real, shape, strides)


def _check_arrays(backend: Backend, rule: Rule, arrays: Sequence[Any], rows: Any = None) -> None:
    main, x = rule.writes[0], arrays[len(rule.reads)]
    check_array(backend, main, x, written=True)
    for name, array, dtype in zip(rule.arrays, arrays, dtypes_of(rule, x.dtype), strict=True):
        if array is not x:
            check_array(backend, name, array, written=name in rule.writes)
        if array.dtype != dtype and dtype != x.dtype:
            raise TypeError(
                f"{name} has dtype {array.dtype} and {main} has {x.dtype}; beside it {name} must be real, "
                f"of dtype {dtype}"
            )
        if array.dtype != dtype and array.dtype == real_dtype(dtype) and name in rule.writes:
            raise TypeError(
                f"{name} has dtype {array.dtype} and {main} has {x.dtype}; they must be the same: step with "
                "the optimizer whose state it is, which has one second moment for both parts, or from init"
            )
        if array.dtype.kind == "c" != x.dtype.kind:
            raise TypeError(
                f"{name} has dtype {array.dtype} and {main} has {x.dtype}; they must be the same: "
                f"make {main} complex, or give {name}.real"
            )
        if array.dtype != dtype:
            raise TypeError(
                f"{name} has dtype {array.dtype} and {main} has {x.dtype}; they must be the same, "
                f"as {name}.astype({main}.dtype) makes"
            )
        of_rows = rows is not None and name in rule.reads[:1]
        shape = (*rows.shape, *x.shape[1:]) if of_rows else x.shape
        if array.shape != shape:
            raise ValueError(
                f"{name} has shape {array.shape} and {main} has {x.shape}"
                + (
                    f", of which {len(rows)} rows are to be stepped: it must have shape {shape}"
                    if of_rows
                    else "; they must be the same"
                )
                + (f", as {name}.reshape({main}.shape) is" if array.size == x.size and not of_rows else "")
            )
        if backend.device_of(array) != backend.device_of(x):
            raise ValueError(
                f"{name} is on device {backend.device_of(array)} and {main} on device "
                f"{backend.device_of(x)}; they must be on one, as {name} is when it is made under "
                f"`with {main}.device:`"
            )
    for (a, first), (b, second) in combinations(zip(rule.arrays, arrays, strict=True), 2):
        if b not in rule.writes or not backend.may_overlap(first, second):
            continue  # reads come first: where the second is only read, so is the first
        one, other = _Span(backend.address_of(first), first), _Span(backend.address_of(second), second)
        may_be_same = a in rule.reads[:1] and b == main  # x may be its own gradient, not its own bound
        if one.overlaps(other) and not (may_be_same and one.is_same(other)):
            raise ValueError(
                f"{a} and {b} share memory; they must be separate arrays"
                + (", or the very same one" if may_be_same else "")
                + f" (pass {a}.copy())"
            )


def check_array(backend: Backend, name: str, array: Any, *, written: bool) -> None:
    """Refuse an array that cannot take part in any update."""
    if not isinstance(array, backend.xp.ndarray):
        kind, module = type(array), backend.xp.__name__
        raise TypeError(
            f"{name} is a {kind.__module__}.{kind.__name__}; it must be a {module}.ndarray of the dtype "
            f"and shape of the parameters"
        )
    if compute_dtype(real_dtype(array.dtype)) is None:
        raise TypeError(
            f"{name} has dtype {array.dtype}; it must be {_ALLOWED} in native byte order, as "
            f"{name}.astype(float) is, and the same for all arrays"
        )
    flags = array.flags
    if isinstance(array, np.ndarray) and written and not flags.writeable:
        raise ValueError(f"{name} is read-only; it must be writable, as numpy.array({name}) is")
    if backend.address_of(array) % array.dtype.alignment:
        raise ValueError(f"{name} is not aligned in memory; {name}.copy() is")
    if (
        written
        and not (flags.c_contiguous or flags.f_contiguous)
        and overlaps_itself(array.shape, array.strides, array.itemsize)
    ):
        raise ValueError(
            f"{name} has strides {array.strides}, with which two of its elements may share memory; "
            f"it must be an array of its own, as {name}.copy() is"
        )


def overlaps_itself(shape: Sequence[int], strides: Sequence[int], itemsize: int) -> bool:
    """Whether the strides do not nest, from the smallest up."""
    reach = itemsize
    for stride, length in sorted((abs(s), n) for s, n in zip(strides, shape, strict=True)):
        if length > 1:
            if stride < reach:
                return 0 not in shape
            reach += stride * (length - 1)
    return False


class _Span:
    """The memory of an array on any device, by numbers alone: nothing is read from it."""

    def __init__(self, address: int, array: Any) -> None:
        self.__array_interface__ = {
            "version": 3,
            "data": (address, False),
            "shape": array.shape,
            "strides": array.strides,
            "typestr": array.dtype.str,
        }

    def is_same(self, other: _Span) -> bool:
        a, b = np.asarray(self), np.asarray(other)
        if self.__array_interface__["data"] != other.__array_interface__["data"] or a.shape != b.shape:
            return False
        return all(s == t for s, t, n in zip(a.strides, b.strides, a.shape, strict=True) if n > 1)

    def overlaps(self, other: _Span) -> bool:
        try:
            return np.shares_memory(np.asarray(self), np.asarray(other), max_work=10_000)  # type: ignore[arg-type]
        except np.exceptions.TooHardError:
            return True


def shared_memory(arrays: Sequence[tuple[str, Backend, Any, bool]]) -> tuple[str, str] | None:
    """Two owners whose arrays meet, of which one is written; for each array its owner, backend, and that."""
    found = []
    for owner, backend, array, written in arrays:
        if not array.size:
            continue
        address = backend.address_of(array)
        reaches = [(n - 1) * s for n, s in zip(array.shape, array.strides, strict=True)]
        low = address + sum(reach for reach in reaches if reach < 0)
        high = address + sum(reach for reach in reaches if reach > 0) + array.itemsize
        found.append((backend.name == "gpu", low, high, owner, written, _Span(address, array)))
    found.sort(key=lambda one: one[:3])
    for i, (place, _, high, owner, written, span) in enumerate(found):
        for other_place, other_low, _, other, other_written, other_span in found[i + 1 :]:
            if other_place != place or other_low >= high:
                break
            if owner != other and (written or other_written) and span.overlaps(other_span):
                return owner, other
    return None
