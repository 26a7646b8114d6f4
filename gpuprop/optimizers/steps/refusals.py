"""What is said of a step that is refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gpuprop.arguments import is_array
from gpuprop.backends import Backend
from gpuprop.backends.checks import as_real
from gpuprop.optimizers.state import State
from gpuprop.rules import Rule


def captured(reason: str) -> RuntimeError:
    return RuntimeError(
        f"the step would be captured into a CUDA graph, and {reason}; step outside the capture"
    )


def not_finite(
    backend: Backend, rule: Rule, arrays: Any, scalars: Any, count: int, rows: Any = None
) -> FloatingPointError:
    """What to say of a step that makes `count` numbers that are not finite; of parts, on all ranks."""
    grad, x = (backend.adopt("an array", arrays[i]) for i in (0, len(rule.reads)))
    comm = backend.comm
    where, of_rank = "", f" of rank {comm.rank}" if comm else ""
    with backend.on_device_of(grad):
        bad = ~backend.xp.isfinite(grad if grad.dtype.kind in "fc" else grad.astype("float32"))
        here = [count, int(bad.sum()), grad.size]
        count, of_grad, size = map(int, comm.sum(here)) if comm else here
        if here[1]:
            first = tuple(map(int, np.unravel_index(int(bad.argmax()), grad.shape)))
            where = f"{backend.to_host(grad[first])} at index {first}{of_rank}"
        elif here[0] and not of_grad:
            first = _first_nonfinite(backend, rule, arrays, scalars, rows)[: grad.ndim]
            x = x if rows is None else x[rows]
            where = f"at index {first}{of_rank}, where grad is {backend.to_host(grad[first])}" + (
                "" if rule.writes[0] in rule.fresh else f" and x is {backend.to_host(x[first])}"
            )
    if comm:
        where = next(filter(None, comm.exchange(where)), "")
    these, are = ("elements", "are") if of_grad > 1 else ("element", "is")
    what = f"grad has {of_grad} {these} of {size} that {are} not finite, the first {where}"
    if not of_grad:
        what = f"of the results of the step {count} would not be finite, the first {where}"
    return FloatingPointError(
        f'{what}; nothing has been updated (nonfinite="skip" would leave such elements out)'
    )


def _first_nonfinite(
    backend: Backend, rule: Rule, arrays: Sequence[Any], scalars: Sequence[Any], rows: Any = None
) -> tuple[int, ...]:
    """The index, in the first array, of the first that `count_nonfinite` counts: by bisection."""
    arrays = [backend.adopt(name, array) for name, array in zip(rule.arrays, arrays, strict=True)]
    index: list[int] = []
    for length in arrays[0].shape:
        first, last = 0, length
        while last - first > 1:
            middle = (first + last) // 2
            half = (*(slice(i, i + 1) for i in index), slice(first, middle))
            # Of whole arrays the rows are left as they are, since they are numbered.
            rest = half if rows is None else (slice(None), *half[1:])
            parts = [arrays[0][half], *(array[rest] for array in arrays[1:])]
            is_in_half = backend.count_nonfinite(
                rule, parts, scalars, None if rows is None else rows[half[0]]
            )
            first, last = (first, middle) if is_in_half else (middle, last)
        index.append(first)
    return tuple(index)


def check_limits(backend: Backend, name: str, pair: Any, least: float) -> None:
    """Refuse bounds among which an array has numbers that are none."""
    if not pair or not any(map(is_array, pair)):
        return
    lower, upper = (as_real(backend, backend.adopt(name, b)) if is_array(b) else b for b in pair)
    with np.errstate(all="ignore"):  # a number out of the dtype's range is no bound
        count = int((~((lower >= least) & (upper >= least))).sum())
        crossed = int((~(lower <= upper)).sum())
    if crossed:
        raise ValueError(
            f"the lower bound is above the upper one, or NaN, in {crossed} place{'s' * (crossed > 1)}; "
            f"{name} is (lower, upper)"
        )
    if count:
        raise ValueError(
            f"{name} is negative in {count} place{'s' * (count > 1)}; it must be at least {least:g}"
        )


def check_factor(backend: Backend, name: str, factor: Any) -> None:
    """Refuse an array of rates or decays with numbers that are none."""
    if not is_array(factor):
        return
    given = backend.adopt(name, factor)
    with np.errstate(all="ignore"):
        count = int((~((given >= 0) & (given < np.inf))).sum())
    if count:
        raise ValueError(
            f"{name} is negative or not finite in {count} place{'s' * (count > 1)}; it must be finite and at "
            "least 0"
        )


def foreign(state: Any, rule: Rule) -> Exception:
    if not isinstance(state, State):
        return TypeError(f"state is a {type(state).__name__}; it must be one that init gave")
    missing = [name for name in rule.writes[1:] if not hasattr(state, name)]
    if not missing:
        owner = state.optimizer or f"an optimizer by the rule {state._owner!r}"
        return ValueError(
            f"state is that of {owner}, whose arrays mean something else; it must be one that "
            "this optimizer's init gave"
        )
    return ValueError(
        f"state has no {' and no '.join(missing)}, which {rule.name} with these options keeps; it must be "
        "one that this optimizer's init gave"
    )
