"""The learning rate that is found for a step, among its scalars."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from gpuprop.backends.checks import as_real, checked
from gpuprop.optimizers.state import State
from gpuprop.rules import Rule


def with_rate(
    optimizer: Any, rule: Rule, arrays: Any, scalars: Sequence[Any], state: State, rows: Any, clock: Any
) -> tuple[Any, ...]:
    """The scalars of a step with the learning rate, and the momentum, that are found for it.

    `clock` is that of the state, or of a step that is captured.
    """
    followed, rate, average = places(rule, *optimizer._followed)
    grad, last = arrays[0], arrays[followed]
    backend, new = state.backend, list(scalars)
    if rows is not None or state._tuning is None or not backend.are_plainly_alike(grad, last):
        arrays = checked(backend, rule, arrays, rows)
        grad, last = arrays[0], arrays[followed]
        last = last if rows is None else _gathered(backend, last, rows, clock)
        grad, last = as_real(backend, grad), as_real(backend, last)
        if state._tuning is None:  # the state was made for, or saved by, another optimizer
            # A direction may be without x: then nothing is known of its scale.
            x = arrays[rule.arrays.index("x")] if "x" in rule.arrays else 0 * arrays[followed]
            state._tuning = backend.tuning(x)
    whole = as_real(backend, getattr(state, rule.arrays[followed])).size
    momentum = 1.0 if average is None else new[average]
    new[rate], damped = backend.find_rate(
        grad, last, state._tuning, clock.item(1), optimizer._sign, whole, momentum,
        optimizer._per_gradient, state._workspace,
    )  # fmt: skip
    if average is not None:
        new[average] = damped
    return tuple(new)


def _gathered(backend: Any, whole: Any, rows: Any, clock: Any) -> Any:
    kept = getattr(clock, "kept", None)
    if kept is None:
        return whole[rows]
    with backend.aside(whole):  # each replay writes there
        part = backend.xp.empty((rows.size, *whole.shape[1:]), whole.dtype)
    kept.append(part)
    return backend.xp.take(whole, rows, axis=0, out=part)


def found_at_once(optimizer: Any, arrays: Any, state: State) -> list[float] | None:
    """As `with_rate`, of short vectors on the host; None where anything is out of the ordinary."""
    backend: Any = state.backend
    if optimizer._template is None or state._rate_scale != 1.0 or backend.name != "cpu":
        return None
    followed, rate, average = optimizer._places
    step = state._clock.item(1)
    scalars = optimizer._after(step)
    found = backend.find_at_once(
        arrays[0], arrays[followed], state._tuning, step, optimizer._sign, 1.0,
        1.0 if average is None else scalars[average], optimizer._per_gradient,
    )  # fmt: skip
    if found is None:
        return None
    if average is None:
        scalars[rate] = found[0]
    else:
        scalars[rate], scalars[average] = found
    return scalars


@cache
def places(rule: Rule, followed: str, average: str | None) -> tuple[int, int, int | None]:
    """Where, among the arrays and the scalars of a rule, is what the finding of a rate is about."""
    place = rule.scalars.index(average) if average in rule.scalars else None
    return rule.arrays.index(followed), rule.scalars.index("learning_rate"), place
