"""An optimizer of a user's own rule."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from operator import itemgetter
from types import MappingProxyType
from typing import Any

from gpuprop import arguments as check
from gpuprop.optimizers.base import Optimizer
from gpuprop.optimizers.state import State
from gpuprop.rules import Rule


class RuleOptimizer(Optimizer):
    """Steps by a rule of your own, fused on every device.

    Parameters
    ----------
    rule : Rule
        Reads one array, the gradient; the first that it writes are the parameters, and the others
        are the state, zero at the start.
    nonfinite : {"propagate", "skip", "raise"}
        As for `RMSProp`.
    **scalars : float or callable
        Each scalar of the rule: a number, or a schedule, ``step -> float``.

    Raises
    ------
    TypeError, ValueError
        The rule reads something else, or the scalars are not those of the rule.
    """

    clip_norm = None
    maximize = False
    scalars: Mapping[str, float | Callable[[int], float]]

    def __init__(
        self, rule: Rule, *, nonfinite: str = "propagate", **scalars: float | Callable[[int], float]
    ) -> None:
        if not isinstance(rule, Rule):
            raise TypeError(f"rule is a {type(rule).__name__}; it must be a gpuprop.Rule")
        if len(rule.reads) != 1:
            raise ValueError(f"rule {rule.name!r} reads {rule.reads}; it must read one array, the gradient")
        if set(scalars) != set(rule.scalars):
            raise TypeError(
                f"rule {rule.name!r} takes the scalars {', '.join(rule.scalars) or 'none'}, and was given "
                f"{', '.join(scalars) or 'none'}"
            )
        names_of_a_state = dir(State(None, 0, {}, None))  # type: ignore[arg-type]
        taken = sorted(set(rule.writes[1:]).intersection(names_of_a_state))
        if taken:
            raise ValueError(
                f"rule {rule.name!r} has an array {taken[0]!r}, which is also an attribute of every state; "
                "give it another name"
            )
        checked = {name: v if callable(v) else check.real(name, v) for name, v in scalars.items()}
        vars(self).update(
            rule=rule,
            nonfinite=check.choice("nonfinite", nonfinite, ("propagate", "skip", "raise")),
            scalars=MappingProxyType(checked),
        )

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"cannot assign {name!r}: hyperparameters are immutable; make another optimizer")

    def _key(self) -> tuple[Any, ...]:
        return self.rule, self.nonfinite, *sorted(self.scalars.items(), key=itemgetter(0))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RuleOptimizer) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __reduce__(self) -> tuple[Any, ...]:
        options = {"nonfinite": self.nonfinite, **self.scalars}
        return _rebuild, (self.rule, options)

    @property
    def _full_rule(self) -> Rule:
        return self.rule

    def _scalars_at(self, step: float) -> dict[str, float]:
        def at(name: str, value: Any) -> float:
            if not callable(value):
                return value
            return math.nan if math.isnan(step) else check.real(f"{name}({step})", value(int(step)))

        return {name: at(name, value) for name, value in self.scalars.items()}

    def __repr__(self) -> str:
        scalars = "".join(f", {name}={value!r}" for name, value in self.scalars.items())
        nonfinite = "" if self.nonfinite == "propagate" else f", nonfinite={self.nonfinite!r}"
        return f"RuleOptimizer({self.rule.name}{scalars}{nonfinite})"


def _rebuild(rule: Rule, options: dict[str, Any]) -> RuleOptimizer:
    return RuleOptimizer(rule, **options)
