"""What the steps of an array need, compiled before the first of them."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np

from gpuprop.backends import Backend
from gpuprop.backends.base import Mode
from gpuprop.backends.checks import check_array, dtypes_of
from gpuprop.optimizers.state import State
from gpuprop.optimizers.steps.making import check_data, taken
from gpuprop.rules.fusion import behind_gradient, maker


def compile_ahead(optimizer: Any, x: Any, backend: Backend) -> None:
    """By a step of a few elements, and of the whole by what it looks like: `x` is not written."""
    x, few, state = _few(optimizer, x, backend)
    with suppress(FloatingPointError):  # of hyperparameters that would not be finite for these, either
        state.optimizer.step(few, backend.full_like(few, 1.0), state)
    if backend.name == "cpu" and x.size:
        grad = backend.empty_like(x, dtypes_of(optimizer.rule, x.dtype)[0])
        _compile(backend, optimizer, optimizer.rule, (grad, *_others(optimizer, x, backend)))


def compile_fused(fused: Any, x: Any, data: Any, backend: Backend) -> None:
    """As `compile_ahead`, of a `Fused`; of data as ``empty_like(x)`` makes them where there are none."""
    optimizer, lines = fused.optimizer, fused.lines
    x, few, state = _few(optimizer, x, backend)
    numbers = dict.fromkeys(lines.scalars, 1.0)
    if data is None:
        some = dict.fromkeys(lines.reads, backend.full_like(few, 1.0))
    else:
        x, data, lines, _ = taken(backend, lines, x, data, numbers)
        check_data(backend, x, data, lines)
        some = {name: _ones_like_some(backend, array) for name, array in data.items()}
    with suppress(FloatingPointError):
        replace(fused, optimizer=state.optimizer).step(few, some, state, **numbers)
    if backend.name != "cpu" or not x.size:
        return
    like_x, others = backend.empty_like(x), _others(optimizer, x, backend)
    given = dict.fromkeys(lines.reads, like_x) if data is None else data
    arrays = [*given.values(), *others]
    sums_in_one_pass = not fused._needs_gradient and any(
        all(getattr(array.flags, order) for array in arrays) for order in ("c_contiguous", "f_contiguous")
    )
    if lines.value and not sums_in_one_pass:
        wide = x.dtype if x.dtype.itemsize > 2 else np.dtype(np.float32)
        _compile_maker(backend, lines, "value", given, x, wide)
    if fused._needs_gradient:
        if "grad" not in given:
            _compile_maker(backend, lines, "grad", given, x, x.dtype)
        lines = behind_gradient(lines)
        arrays = [*[given.get(name, like_x) for name in lines.reads], *others]
    _compile(backend, optimizer, fused._rule(lines), arrays)


def _compile_maker(backend: Backend, lines: Any, what: str, given: Any, x: Any, dtype: np.dtype) -> None:
    rule, arrays = maker(lines, what), {**given, "x": x}
    reads = [arrays[name] for name in rule.reads]
    if dtype != x.dtype:
        reads = [backend.empty_like(array, dtype) for array in reads]
    backend.compile(rule, [*reads, backend.empty_like(x, dtype)], ("plain",), False)


def _compile(backend: Backend, optimizer: Any, rule: Any, arrays: Any) -> None:
    backend.compile(rule, arrays, _MODES[optimizer.nonfinite], optimizer._finds_rate)


_MODES: dict[str, tuple[Mode, ...]] = {
    "propagate": ("plain",), "skip": ("skip",), "raise": ("count", "plain")
}  # fmt: skip


def _few(optimizer: Any, x: Any, backend: Backend) -> tuple[Any, Any, Any]:
    """x, checked; a few elements like it; and the state of an optimizer whose arrays are as few."""
    x = backend.adopt("x", x, written=True)
    check_array(backend, "x", x, written=True)
    few = _ones_like_some(backend, x)
    read = [_ones_like_some(backend, backend.adopt("x", a), keeps=True) for a in optimizer._reads]
    small = object.__new__(type(optimizer))
    vars(small).update(vars(optimizer), _reads=tuple(read))
    kept = [backend.full_like(few, 0.0, dtype) for dtype in _dtypes(optimizer, x)]
    state = State(small, 0, dict(zip(optimizer._kept, kept, strict=True)), backend)
    if optimizer._finds_rate:
        state._tuning = backend.tuning(few)
    return x, few, state


def _others(optimizer: Any, x: Any, backend: Backend) -> tuple[Any, ...]:
    """The arrays of a step behind what it is given; of those of a state no page is touched."""
    reads = [backend.adopt("x", array) for array in optimizer._reads]
    return (*reads, x, *[backend.empty_like(x, dtype) for dtype in _dtypes(optimizer, x)])


def _dtypes(optimizer: Any, x: Any) -> list[np.dtype]:
    return dtypes_of(optimizer.rule, x.dtype)[len(optimizer.rule.reads) + 1 :]


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
