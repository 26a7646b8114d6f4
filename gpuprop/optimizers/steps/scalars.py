"""From hyperparameters to the rule of an optimizer, and the scalars of each step."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from gpuprop.optimizers.state import State
from gpuprop.rules import NEUTRAL, Rule
from gpuprop.rules.folding import fold


class Scalars(ABC):
    """The rule of an optimizer, and its scalars in each step."""

    maximize: bool

    @property
    @abstractmethod
    def _full_rule(self) -> Rule:
        """The rule with every option."""

    @abstractmethod
    def _scalars_at(self, step: float, rate_scale: float) -> Mapping[str, float]:
        """The scalars of the rule for the update after `step` others, and the learning rate times a factor.

        For a `step` of NaN, those that depend on it are NaN; and those that depend on a factor of NaN.
        """

    @cached_property
    def rule(self) -> Rule:
        """The rule without what is neutral all the time."""
        return self._folded(self._full_rule)

    def _folded(self, rule: Rule) -> Rule:
        # An optimizer that knows nothing of an option leaves it neutral.
        always = {**dict.fromkeys(rule.scalars), **self._scalars_at(math.nan, math.nan)}
        return fold(rule, {k: v for k, v in self._neutral.items() if always.get(k, math.nan) in (v, None)})

    # At which values options fall away, by what the rule calls them; and their names, where others.
    @property
    def _neutral(self) -> Mapping[str, float]:
        return NEUTRAL

    @property
    def _option_names(self) -> Mapping[str, str]:
        return {}

    @cached_property
    def _constant_scalars(self) -> tuple[float, ...] | None:
        """The scalars, where no step changes them."""
        scalars = self._scalars_known
        return None if any(map(math.isnan, scalars)) else scalars

    @cached_property
    def _scalars_known(self) -> tuple[float, ...]:
        """The scalars, with NaN for those that each step makes anew."""
        return self._ordered(self._scalars_at(math.nan, 1.0))

    @property
    def _scale_of_gradient(self) -> str:
        return self._option_names.get("gradient_scale", "gradient_scale")

    def _ordered(self, scalars: Mapping[str, float]) -> tuple[Any, ...]:
        return tuple(scalars[name] for name in self.rule.scalars)

    @cached_property
    def _place_of_scale(self) -> int:
        return self.rule.scalars.index(self._scale_of_gradient)

    @cached_property
    def _sign(self) -> float:
        return -1.0 if self.maximize else 1.0

    def _scalars_of(self, state: State, x: Any, ahead: int = 0) -> Sequence[Any]:
        """The scalars of the next step of `state`, or of one further ahead, in the order of the rule."""
        constant, scale = self._constant_scalars, state._rate_scale
        if constant is not None:
            return constant if scale == 1.0 else self._scaled(scale)
        step = state._clock.item(1) + ahead
        if scale != 1.0 or self._template is None:
            return self._ordered(self._scalars_at(step, scale))
        return self._after(step)

    def _after(self, step: int) -> list[float]:
        """The scalars after so many steps, where `_template` has them."""
        template: Any = self._template
        scalars, by_name = template[0].copy(), template[1]
        if self._place_of_rate is not None:
            scalars[self._place_of_rate] = self._scheduled_rate(step)
            return scalars
        for name, value in self._corrections(step).items():
            scalars[by_name[name]] = value
        if self._is_scheduled:
            for name, value in self._scheduled(step).items():
                if name in by_name:
                    scalars[by_name[name]] = value
        return scalars

    @cached_property
    def _is_scheduled(self) -> bool:
        return False

    @cached_property
    def _place_of_rate(self) -> int | None:
        """Of the scalar that is what a schedule gives, where no other changes."""
        return None

    def _scheduled_rate(self, step: int) -> float:
        raise NotImplementedError

    def _scheduled(self, step: int) -> dict[str, float]:
        """The scalars that a schedule changes, but for those among `_corrections`."""
        return {}

    def _corrections(self, step: float) -> dict[str, float]:
        """The scalars that each step changes, but for a schedule's and the norm's."""
        return {}

    @cached_property
    def _template(self) -> tuple[list[float], dict[str, int]] | None:
        """The scalars but for `_corrections`, and the place of each; None where others change."""
        return None

    def _scaled(self, rate_scale: float) -> tuple[float, ...]:
        """The scalars, where no step but only that factor changes them."""
        known = self.__dict__.setdefault("_last_scaled", (1.0, ()))
        if known[0] != rate_scale:
            known = rate_scale, self._ordered(self._scalars_at(math.nan, rate_scale))
            self.__dict__["_last_scaled"] = known
        return known[1]
