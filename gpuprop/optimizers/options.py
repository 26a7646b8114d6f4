"""The options that all optimizers of the family share."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from gpuprop import arguments as check
from gpuprop.backends import Backend
from gpuprop.backends.checks import as_real
from gpuprop.optimizers.base import Optimizer


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Options(Optimizer):
    """The options that all optimizers of the family share: see `RMSProp`."""

    learning_rate: float | Callable[[int], float] = field(default=0.1, kw_only=False)
    weight_decay: float = 0.0
    decoupled_weight_decay: bool = False
    maximize: bool = False
    clip_value: float | None = None
    clip_norm: float | None = None
    bounds: tuple[Any, Any] | None = None
    nonfinite: str = "propagate"

    def __post_init__(self) -> None:
        self._set("learning_rate", check.rate(self.learning_rate))
        self._set("weight_decay", check.number("weight_decay", self.weight_decay))
        for name in ("decoupled_weight_decay", "maximize"):
            self._set(name, check.flag(name, getattr(self, name)))
        for name in ("clip_value", "clip_norm"):
            if getattr(self, name) is not None:
                self._set(name, check.number(name, getattr(self, name), positive=True))
        self._set("bounds", check.pair_of_bounds(self.bounds))
        check.choice("nonfinite", self.nonfinite, ("propagate", "skip", "raise"))
        check.choice("second_moment", getattr(self, "second_moment", "parts"), ("parts", "modulus"))

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    def _rate_at(self, step: float) -> float:
        if not callable(self.learning_rate):
            return self.learning_rate
        if math.isnan(step):
            return math.nan
        return check.number(f"learning_rate({step})", self.learning_rate(int(step)))

    @property
    def _array_bounds(self) -> dict[str, Any]:
        pairs = zip(("lower", "upper"), self.bounds or (), strict=False)
        return {name: bound for name, bound in pairs if check.is_array(bound)}

    def _more_reads(self) -> tuple[Any, ...]:
        return tuple(self._array_bounds.values())

    def _common_scalars(self, rate: float) -> dict[str, float]:
        lower, upper = self.bounds or (-math.inf, math.inf)
        shrinks = self.decoupled_weight_decay and self.weight_decay
        return {
            # The norm of each gradient decides anew.
            "gradient_scale": math.nan if self.clip_norm else -1.0 if self.maximize else 1.0,
            "clip_value": self.clip_value or math.inf,
            "weight_decay": 0.0 if shrinks else self.weight_decay,
            "shrink": 1 - rate * self.weight_decay if shrinks else 1.0,
            "lower": math.nan if check.is_array(lower) else lower,
            "upper": math.nan if check.is_array(upper) else upper,
        }

    def _check_parameters(self, backend: Backend, x: Any) -> None:
        self._check_array_bounds(backend)
        if getattr(self, "second_moment", "parts") == "modulus" and x.dtype.kind == "c":
            raise ValueError(
                f'x has dtype {x.dtype} and second_moment is "modulus", one average of |g|^2 an element, '
                'which complex x does not have yet; "parts" keeps one for each of its two parts'
            )

    def _check_array_bounds(self, backend: Backend) -> None:
        if not self._array_bounds:
            return
        names = zip(("lower", "upper"), self.bounds or (), strict=False)
        lower, upper = (
            as_real(backend, backend.adopt(*bound)) if check.is_array(bound[1]) else bound[1]
            for bound in names
        )
        with np.errstate(all="ignore"):  # a number out of the dtype's range is no bound
            count = int((~(lower <= upper)).sum())
        if count:
            raise ValueError(
                f"the lower bound is above the upper one, or NaN, in {count} place{'s' * (count > 1)}; "
                "bounds is (lower, upper)"
            )

    def _key(self) -> tuple[Any, ...]:
        bounds = tuple(id(b) if check.is_array(b) else b for b in self.bounds or ())
        return type(self), bounds, *(getattr(self, f.name) for f in fields(self) if f.name != "bounds")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Options) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), {f.name: getattr(self, f.name) for f in fields(self)})

    def __repr__(self) -> str:
        given = ((f, getattr(self, f.name)) for f in fields(self))
        # A bound may be an array, whose comparison is no bool.
        shown = [
            f"{f.name}={v!r}"
            for f, v in given
            if not f.kw_only or (v is not None and v is not f.default and v != f.default)
        ]
        return f"{type(self).__name__}({', '.join(shown)})"


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Momentum(Options):
    """Options with a velocity: Polyak's or Nesterov's, with the learning rate inside or outside."""

    momentum: float = 0.0
    nesterov: bool = False
    learning_rate_in_velocity: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self._set("momentum", check.number("momentum", self.momentum, below=1))
        for name in ("nesterov", "learning_rate_in_velocity"):
            self._set(name, check.flag(name, getattr(self, name)))
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov is True and momentum is 0; Nesterov's step needs a momentum above 0")

    def _momentum_scalars(self, rate: float) -> dict[str, float]:
        if not self.momentum:
            return {"learning_rate": rate}
        inside, outside = (rate, 1.0) if self.learning_rate_in_velocity else (1.0, rate)
        return {
            "learning_rate": inside,
            "momentum": self.momentum,
            "velocity_share": outside * self.momentum if self.nesterov else outside,
            "increment_share": outside if self.nesterov else 0.0,
        }


def _rebuild(kind: type, values: dict[str, Any]) -> Any:
    return kind(**values)
