"""An optimizer in the terms of JSON, and back: what a file says of it, without any code."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, NoReturn

from gpuprop import optimizers, schedules
from gpuprop.backends import backend_of
from gpuprop.rules import Rule

#: What an optimizer is made of, beside numbers, strings, tuples and arrays.
KINDS: dict[str, Any] = {"Rule": Rule} | {
    name: getattr(module, name)
    for module in (optimizers, schedules)
    for name in module.__all__
    if name not in ("Groups", "GroupsState")  # which are described by their parts
}
#: Options that files of 0.1.0 do not have, as they came later: at their defaults, they change nothing.
_LATER = {
    "second_moment", "modulus_bounds", "projected_gradient", "parameter_average", "reals", "fresh",
    "looks_at", "total",
}  # fmt: skip


@dataclass(frozen=True)
class Code:
    """In the place of what only pickle could write: a function, or an object of a class from elsewhere.

    `options` are those of an optimizer, in pairs of name and value.
    """

    name: str
    options: tuple[tuple[str, Any], ...]

    def __call__(self, step: int) -> NoReturn:
        raise NotImplementedError(f"{self.name} is code, and was not written")


def describe(optimizer: optimizers.Optimizer | Code | None) -> tuple[Any, list[Any]]:
    """What JSON can hold of an optimizer, and beside it the arrays among its hyperparameters.

    An object of one key says what its content is: ``{"constant_schedule": {"value": 0.1}}``,
    ``{"float": "inf"}``, ``{"array": "0"}`` for the first of the arrays, or for what is code
    ``{"code": {"name": "module.function", "options": {}}}``.
    """
    arrays: list[Any] = []
    return _described(optimizer, arrays), arrays


def rebuild(described: Any, arrays: Mapping[str, Any]) -> tuple[Any, bool]:
    """What `describe` described, with a `Code` where there was code; and whether it is without any.

    Raises
    ------
    Exception
        The description is of something that is not, or no longer, made like that.
    """
    builder = _Builder(arrays)
    optimizer = builder.built(described)
    if not (optimizer is None or isinstance(optimizer, (optimizers.Optimizer, Code))):
        raise TypeError(f"a {type(optimizer).__name__} is no optimizer")
    if builder.arrays:
        raise ValueError(f"nothing refers to the arrays {', '.join(builder.arrays)}")
    return optimizer, builder.is_whole


def is_like(optimizer: Any, other: Any) -> bool:
    """Whether files would say the same of two optimizers: arrays by their bits, and code is like any code."""
    (one, arrays), (two, others) = describe(optimizer), describe(other)
    pairs = zip(arrays, others, strict=False)
    return len(arrays) == len(others) and _are_like(one, two) and all(_are_same(*pair) for pair in pairs)


class _Builder:
    def __init__(self, arrays: Mapping[str, Any]) -> None:
        self.arrays, self.is_whole = dict(arrays), True

    def built(self, described: Any) -> Any:
        if isinstance(described, list):
            return tuple(map(self.part, described))
        if not isinstance(described, dict):
            return described
        ((kind, content),) = described.items()
        if kind == "float" and isinstance(content, str):
            return float(content)
        if kind == "array":
            return self.arrays.pop(content)
        if kind == "code":
            self.is_whole = False
            if not isinstance(content["name"], str):
                raise TypeError("the name of what is code is no text")
            options = content["options"].items()
            return Code(content["name"], tuple((name, self.built(option)) for name, option in options))
        return self.made(KINDS[kind], {name: self.part(value) for name, value in content.items()})

    def part(self, described: Any) -> Any:
        value = self.built(described)
        if isinstance(value, optimizers.Optimizer):  # which could be called, as a schedule is
            raise TypeError("an optimizer is no part of another")
        return value

    @staticmethod
    def made(kind: Any, arguments: dict[str, Any]) -> Any:
        named = ["rule", "nonfinite"] if kind is optimizers.RuleOptimizer else _names_of(kind)
        if missing := [name for name in named if name not in arguments and name not in _LATER]:
            raise TypeError(f"{kind.__name__} without {', '.join(missing)}")
        if kind is Rule and not isinstance(arguments["reference"], (type(None), Code)):
            raise TypeError("a reference is a function")
        return kind(**arguments)


def _described(value: Any, arrays: list[Any] | None) -> Any:
    """`value` in the terms of JSON; where `arrays` is None, arrays are left out."""
    kind = type(value)
    if KINDS.get(kind.__name__) is kind and type(getattr(value, "rule", None)) in (type(None), Rule):
        arguments = _arguments(value)
        return {kind.__name__: {name: _described(item, arrays) for name, item in arguments.items()}}
    if isinstance(value, Code):
        return {"code": {"name": value.name, "options": _all_described(dict(value.options))}}
    if not callable(value):  # what can be called is a schedule, whatever else it is, such as a named tuple
        if value is None or isinstance(value, (bool, str)) or (isinstance(value, int) and abs(value) < 1e308):
            return value
        if isinstance(value, float):
            return float(value) if math.isfinite(value) else {"float": str(float(value))}
        if isinstance(value, tuple):
            return [_described(item, arrays) for item in value]
        if hasattr(value, "dtype") and arrays is not None:
            arrays.append(value)
            return {"array": str(len(arrays) - 1)}
    named = value if hasattr(value, "__qualname__") else kind
    is_ours = isinstance(value, optimizers.Optimizer) and is_dataclass(value)  # by its base
    has_options = is_ours or isinstance(value, optimizers.RuleOptimizer)
    options = _all_described(_arguments(value)) if has_options else {}
    name = f"{getattr(named, '__module__', None)}.{named.__qualname__}"
    return {"code": {"name": name, "options": options}}


def _all_described(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _described(option, None) for name, option in options.items()}


def _arguments(value: Any) -> dict[str, Any]:
    if isinstance(value, optimizers.RuleOptimizer):
        return {"rule": value.user_rule, "nonfinite": value.nonfinite, **value.options, **value.scalars}
    return {name: getattr(value, name) for name in _names_of(value)}


def _names_of(kind: Any) -> list[str]:
    return [f.name for f in sorted(fields(kind), key=lambda f: bool(f.kw_only)) if f.init]


def _are_like(one: Any, two: Any) -> bool:
    if isinstance(one, dict) and isinstance(two, dict):
        same_keys = one.keys() == two.keys()
        return same_keys and ("code" in one or all(_are_like(one[key], two[key]) for key in one))
    if isinstance(one, list) and isinstance(two, list):
        return len(one) == len(two) and all(map(_are_like, one, two))
    return bool(one == two)


def _are_same(array: Any, other: Any) -> bool:
    one, two = (backend_of(a).to_host(backend_of(a).adopt("an array", a)) for a in (array, other))
    return (one.dtype, one.shape, one.tobytes()) == (two.dtype, two.shape, two.tobytes())
