"""What the steps of an array need, compiled before the first of them."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from gpuprop.backends import Backend
from gpuprop.backends.base import Mode
from gpuprop.backends.checks import check_array, dtypes_of
from gpuprop.optimizers.state import State


def compile_ahead(optimizer: Any, x: Any, backend: Backend) -> None:
    """By a step of a few elements, and of the whole by what it looks like: `x` is not written."""
    rule = optimizer.rule
    x = backend.adopt("x", x, written=True)
    check_array(backend, "x", x, written=True)
    dtypes, reads = dtypes_of(rule, x.dtype), [backend.adopt("x", array) for array in optimizer._reads]
    few = _ones_like_some(backend, x)
    read = [_ones_like_some(backend, array, keeps=True) for array in reads]
    kept = [backend.full_like(few, 0.0, dtype) for dtype in dtypes[len(rule.reads) + 1 :]]
    state = State(optimizer, 0, dict(zip(rule.writes[1:], kept, strict=True)), backend)
    if optimizer._finds_rate:
        state._tuning = backend.tuning(few)
    with suppress(FloatingPointError):  # of hyperparameters that would not be finite for these, either
        optimizer._ready(rule, (backend.full_like(few, 1.0), *read, few, *kept), state)()
    if backend.name == "cpu" and x.size:
        # Of arrays of which no page is touched.
        like = [backend.empty_like(x, dtype) for dtype in (dtypes[0], *dtypes[len(rule.reads) + 1 :])]
        arrays = (like[0], *reads, x, *like[1:])
        backend.compile(rule, arrays, _MODES[optimizer.nonfinite], optimizer._finds_rate)


_MODES: dict[str, tuple[Mode, ...]] = {
    "propagate": ("plain",), "skip": ("skip",), "raise": ("count", "plain")
}  # fmt: skip


def _ones_like_some(backend: Backend, array: Any, keeps: bool = False) -> Any:
    """At most two elements along each axis, as dense as `array`: ones, or its own values."""
    outermost_first = sorted(range(array.ndim), key=lambda axis: -abs(array.strides[axis]))
    is_dense = array.transpose(outermost_first).flags.c_contiguous
    with backend.on_device_of(array):
        part = array[(slice(0, 2),) * array.ndim]
        if is_dense or backend.name == "cpu":  # whose loops are compiled for the whole
            return backend.full_like(part, part if keeps else 1.0)
        spread = backend.xp.ones((*part.shape[:-1], 2 * part.shape[-1]), part.dtype)[..., ::2]
        if keeps:
            spread[...] = part
        return spread
