"""Which arrays can be updated in place: refused with a sentence, before anything is written."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np

from gpuprop.backends.base import Backend
from gpuprop.backends.spans import Span, overlaps_itself
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
                f"{name} has dtype {array.dtype} and {main} has {x.dtype}; beside it {name} must be real, of "
                f"dtype {dtype}"
                + (
                    " (step with the optimizer whose state it is, or from init)"
                    if name in rule.writes
                    else ""
                )
            )
        if array.dtype != dtype and array.dtype == real_dtype(dtype) and name in rule.writes:
            raise TypeError(
                f"{name} has dtype {array.dtype} and {main} has {x.dtype}; they must be the same: step with "
                "the optimizer whose state it is, which has one second moment for both parts, or from init"
            )
        check_like(backend, name, array, main, x, dtype, rows if name in rule.reads[:1] else None)
    for (a, first), (b, second) in combinations(zip(rule.arrays, arrays, strict=True), 2):
        if b not in rule.writes or not backend.may_overlap(first, second):
            continue  # reads come first: where the second is only read, so is the first
        one, other = Span(backend.address_of(first), first), Span(backend.address_of(second), second)
        may_be_same = a in rule.reads[:1] and b == main  # x may be its own gradient, not its own bound
        if one.overlaps(other) and not (may_be_same and one.is_same(other)):
            raise ValueError(
                f"{a} and {b} share memory; they must be separate arrays"
                + (", or the very same one" if may_be_same else "")
                + f" (pass {a}.copy())"
            )


def check_like(
    backend: Backend, name: str, array: Any, main: str, x: Any, dtype: np.dtype, rows: Any = None
) -> None:
    """Refuse an array that has another dtype than this, or another shape or device than `x`, or its rows.

    Raises
    ------
    TypeError, ValueError
    """
    if array.dtype.kind == "c" != dtype.kind:
        raise TypeError(
            f"{name} has dtype {array.dtype} and {main} has {x.dtype}; they must be the same: "
            f"make {main} complex, or give {name}.real"
        )
    if array.dtype != dtype:
        raise TypeError(
            f"{name} has dtype {array.dtype} and {main} has {x.dtype}; they must be the same, "
            f"as {name}.astype({main}.dtype) makes"
        )
    shape = x.shape if rows is None else (*rows.shape, *x.shape[1:])
    if array.shape != shape:
        raise ValueError(
            f"{name} has shape {array.shape} and {main} has {x.shape}"
            + (
                "; they must be the same"
                if rows is None
                else f", of which {len(rows)} rows are to be stepped: it must have shape {shape}"
            )
            + (f", as {name}.reshape({main}.shape) is" if array.size == x.size and rows is None else "")
        )
    if backend.device_of(array) != backend.device_of(x):
        raise ValueError(
            f"{name} is on device {backend.device_of(array)} and {main} on device "
            f"{backend.device_of(x)}; they must be on one, as {name} is when it is made under "
            f"`with {main}.device:`"
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
