"""What a launch must know of arrays, found in less time than it takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any

from gpuprop.backends.gpu.kernels.wide import BYTES
from gpuprop.backends.spans import overlaps_itself
from gpuprop.rules import Rule


def at_a_glance(
    rule: Rule, arrays: Sequence[Any], kind: Any, known: Mapping[tuple[Rule, str], list[Any]]
) -> int | None:
    """What the addresses of arrays of one order, contiguous, or-ed, leave when divided by `BYTES`.

    At least 1 for arrays of other strides, and None where the full checks must decide, which cost as
    a launch: not all is plainly right. They are of `kind`, and of dtypes `known` by the rule and that of x.
    """
    x = arrays[len(rule.reads)]
    if type(x) is not kind:
        return None
    dtype, shape, device, strides = x.dtype, x.shape, x.data.device_id, x.strides
    dtypes = known.get((rule, dtype.char))
    if dtypes is None:
        return None
    spans, all_bits, is_strided = [], 0, not _is_contiguous(x)
    for array, needed in zip(arrays, dtypes):  # noqa: B905 - in every step
        if (
            type(array) is not kind
            or (array.dtype is not needed and array.dtype != needed)
            or array.shape != shape
        ):
            return None
        data = array.data
        if data.device_id != device:
            return None
        address = data.ptr
        all_bits |= address
        if not is_strided and (
            array.strides == strides if needed is dtype else _is_of_the_order_of(x, array)
        ):
            spans.append((address, address + array.nbytes))
        else:
            is_strided = True
            reach = _reach(shape, array.strides, needed.itemsize)
            if reach is None:
                return None
            spans.append((address + reach[0], address + reach[1]))
    spans.sort()
    for one, next_one in pairwise(spans):
        if next_one[0] < one[1] and not (one == next_one and _is_its_own_gradient(rule, arrays)):
            return None
    if all_bits % dtype.alignment:
        return None
    return 1 if is_strided else all_bits % BYTES


def _is_its_own_gradient(rule: Rule, arrays: Sequence[Any]) -> bool:
    """Whether what a rule writes first is what it reads first, and no other array is there, too."""
    grad, x = arrays[0], arrays[len(rule.reads)]
    others = (array.data.ptr for array in arrays if array is not grad and array is not x)
    return (
        bool(rule.reads)
        and grad.data.ptr == x.data.ptr
        and grad.strides == x.strides
        and x.data.ptr not in others
    )


def _is_contiguous(array: Any) -> bool:
    flags = array.flags
    return flags.c_contiguous or flags.f_contiguous


def _is_of_the_order_of(x: Any, array: Any) -> bool:
    """Whether both are contiguous, and the last axis is that of both or the first one is."""
    one, other = x.flags, array.flags
    return (one.c_contiguous and other.c_contiguous) or (one.f_contiguous and other.f_contiguous)


def misalignment(arrays: Sequence[Any]) -> int:
    """0 for contiguous arrays of one order that begin where packs may."""
    if not all(_is_of_the_order_of(arrays[0], array) for array in arrays):
        return 1
    return max(a.data.ptr % BYTES for a in arrays)


@lru_cache(maxsize=1024)
def _reach(shape: tuple[int, ...], strides: tuple[int, ...], itemsize: int) -> tuple[int, int] | None:
    """Bytes from the first element to the first byte and behind the last; None where two may be one."""
    if 0 in shape or overlaps_itself(shape, strides, itemsize):
        return None
    reaches = [(length - 1) * stride for length, stride in zip(shape, strides, strict=True)]
    return sum(r for r in reaches if r < 0), sum(r for r in reaches if r > 0) + itemsize
