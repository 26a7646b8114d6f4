"""Options with a learning rate: given, or found while the steps are made."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from gpuprop import arguments as check
from gpuprop import rules
from gpuprop.optimizers.options import Options


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Rated(Options):
    """Options with a learning rate: a number, a schedule, an array of rates, or "auto"."""

    learning_rate: Any = field(default=0.1, kw_only=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._set("learning_rate", check.rate(self.learning_rate))
        if self._finds_rate and (check.is_array(self.weight_decay) or self.weight_decay != 0):
            raise ValueError(
                f"learning_rate is 'auto' and {type(self).__name__} has a weight_decay, of which the gradient"
                " that is followed knows nothing; set it to 0, and add weight_decay * x to the gradient"
            )

    @cached_property
    def _has_rates(self) -> bool:
        return check.is_array(self.learning_rate)

    @cached_property
    def _finds_rate(self) -> bool:
        return isinstance(self.learning_rate, str)

    @property
    def _averaged(self) -> tuple[str, str] | None:
        """What says where the last step went, and the scalar that makes it an average; None for neither."""
        return None

    @cached_property
    def _displacement(self) -> bool:
        # What bounds stop is no step, whatever an average says.
        return self._finds_rate and bool(self._averaged is None or self.bounds or self.modulus_bounds)

    @cached_property
    def _followed(self) -> tuple[str, str | None]:
        name, average = self._averaged or ("displacement", None)
        return "displacement" if self._displacement else name, average

    @property
    def _rates(self) -> rules.Rates:
        """Where the rule multiplies by rates that are an array, or found."""
        return "outside" if self._has_rates or self._finds_rate else ""

    def _more_reads(self) -> tuple[Any, ...]:
        rates = (self.learning_rate,) if self._has_rates else ()
        return (*rates, *super()._more_reads())

    def _rate_at(self, step: float, rate_scale: float) -> float:
        """The learning rate, or what such as are an array, or found, are multiplied by."""
        if self._has_rates or self._finds_rate:
            return rate_scale
        if not callable(self.learning_rate):
            return self.learning_rate * rate_scale
        if math.isnan(step):
            return math.nan
        return check.number(f"learning_rate({step})", self.learning_rate(int(step))) * rate_scale

    @cached_property
    def _template(self) -> tuple[list[float], dict[str, int]] | None:
        names = {name: place for place, name in enumerate(self.rule.scalars)}
        # A schedule is asked for each step alone.
        first = math.nan if callable(self.learning_rate) else 0.0
        return list(self._ordered(self._scalars_at(first, 1.0))), names

    @cached_property
    def _is_scheduled(self) -> bool:
        return callable(self.learning_rate) and not self._has_rates

    @cached_property
    def _place_of_rate(self) -> int | None:
        changing = [n for n, v in zip(self.rule.scalars, self._scalars_known, strict=True) if math.isnan(v)]
        if not self._is_scheduled or changing != ["step_size"] or "step_size" not in self._of_rate(1.0):
            return None
        return self.rule.scalars.index("step_size")

    def _scheduled_rate(self, step: int) -> float:
        rate: Any = self.learning_rate(step)
        if type(rate) is not float or not 0 <= rate < math.inf:
            rate = check.number(f"learning_rate({step})", rate)
        return rate

    def _scheduled(self, step: int) -> dict[str, float]:
        rate = self._scheduled_rate(step)
        scalars = self._of_rate(rate)
        if self._shrinks_as_a_whole:
            scalars["shrink"] = 1 - rate * self.weight_decay
        elif self._shrinks:
            scalars["decay_rate"] = rate
        return scalars

    def _of_rate(self, rate: float) -> dict[str, float]:
        """The scalars of the rule itself that a learning rate makes."""
        return {"step_size": rate}


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Momentum(Rated):
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

    @property
    def _rates(self) -> rules.Rates:
        rates = super()._rates
        return "inside" if rates and self.momentum and self.learning_rate_in_velocity else rates

    @property
    def _averaged(self) -> tuple[str, str] | None:
        return ("velocity", "momentum") if self.momentum else None

    def _of_rate(self, rate: float) -> dict[str, float]:
        if not self.momentum:
            return {"step_size": rate}
        inside, outside = (rate, 1.0) if self.learning_rate_in_velocity else (1.0, rate)
        return {
            "step_size": inside,
            "momentum": self.momentum,
            "velocity_share": outside * self.momentum if self.nesterov else outside,
            "increment_share": outside if self.nesterov else 0.0,
        }
