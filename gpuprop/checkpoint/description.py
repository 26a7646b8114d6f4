"""An optimizer in the terms of JSON, and back: what a file says of it, without any code."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from gpuprop import optimizers, schedules
from gpuprop.rules import Rule

#: What an optimizer is made of, beside numbers, strings, tuples and arrays.
_KINDS: dict[str, Any] = {"Rule": Rule} | {
    name: getattr(module, name) for module in (optimizers, schedules) for name in module.__all__
}


class _IsCode(Exception):
    """What only pickle could write."""


def describe(optimizer: optimizers.Optimizer | None) -> tuple[Any, list[Any]]:
    """What JSON can hold of an optimizer, and beside it the arrays among its hyperparameters.

    An object of one key says what its content is: ``{"constant_schedule": {"value": 0.1}}``,
    ``{"float": "inf"}``, or ``{"array": "0"}`` for the first of the arrays. All of it is None where a
    part is a function, or a class that the package does not have.
    """
    arrays: list[Any] = []
    try:
        return _described(optimizer, arrays), arrays
    except _IsCode:
        return None, []


def rebuild(described: Any, arrays: Mapping[str, Any]) -> Any:
    """What `describe` described.

    Raises
    ------
    KeyError, TypeError, ValueError
        The description is of something that is not, or no longer, made like that.
    """
    if isinstance(described, list):
        return tuple(rebuild(item, arrays) for item in described)
    if not isinstance(described, dict):
        return described
    ((kind, content),) = described.items()
    if kind == "float":
        return float(content)
    if kind == "array":
        return arrays[content]
    return _KINDS[kind](**{name: rebuild(item, arrays) for name, item in content.items()})


def _described(value: Any, arrays: list[Any]) -> Any:
    kind = type(value).__name__
    if _KINDS.get(kind) is type(value):
        return {kind: {name: _described(item, arrays) for name, item in _arguments(value).items()}}
    if callable(value):  # whatever else it is, such as a named tuple
        raise _IsCode
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {"float": str(float(value))}
    if isinstance(value, tuple):
        return [_described(item, arrays) for item in value]
    if hasattr(value, "dtype"):
        arrays.append(value)
        return {"array": str(len(arrays) - 1)}
    raise _IsCode


def _arguments(value: Any) -> dict[str, Any]:
    if isinstance(value, optimizers.RuleOptimizer):
        return {"rule": value.rule, "nonfinite": value.nonfinite, **value.scalars}
    return {f.name: getattr(value, f.name) for f in fields(value) if f.init}
