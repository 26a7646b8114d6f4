"""The learning rate that is found for a step, among its scalars."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from gpuprop.backends.checks import as_real, checked
from gpuprop.optimizers.state import State
from gpuprop.rules import Rule


def with_rate(
    optimizer: Any, rule: Rule, arrays: Any, scalars: Sequence[Any], state: State, rows: Any
) -> tuple[Any, ...]:
    """The scalars of a step with the learning rate, and the momentum, that are found for it."""
    followed, rate, average = _places(rule, *optimizer._followed)
    grad, last = arrays[0], arrays[followed]
    backend, new = state.backend, list(scalars)
    if rows is not None or not backend.are_plainly_alike(grad, last):
        arrays = checked(backend, rule, arrays, rows)
        grad, last = arrays[0], arrays[followed]
        last = last if rows is None else last[rows]
        grad, last = as_real(backend, grad), as_real(backend, last)
    momentum = 1.0 if average is None else new[average]
    new[rate], damped = backend.find_rate(
        grad, last, state._tuning, state._clock.item(1), optimizer._sign, momentum, optimizer._per_gradient,
        state._workspace,
    )  # fmt: skip
    if average is not None:
        new[average] = damped
    return tuple(new)


@cache
def _places(rule: Rule, followed: str, average: str | None) -> tuple[int, int, int | None]:
    """Where, among the arrays and the scalars of a rule, is what the finding of a rate is about."""
    place = rule.scalars.index(average) if average in rule.scalars else None
    return rule.arrays.index(followed), rule.scalars.index("learning_rate"), place
