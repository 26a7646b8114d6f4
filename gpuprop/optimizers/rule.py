"""An optimizer of a user's own rule."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, replace
from functools import cache, cached_property
from operator import itemgetter
from types import MappingProxyType
from typing import Any

from gpuprop import arguments as check
from gpuprop.optimizers.options import Options, is_other
from gpuprop.optimizers.state import State
from gpuprop.rules import NEUTRAL, Around, Rule, around
from gpuprop.rules.composition import names_in, with_arrays
from gpuprop.rules.options import own_names


class RuleOptimizer(Options):
    """Steps by a rule of your own, fused on every device.

    Parameters
    ----------
    rule : Rule
        Reads one array, the gradient; the first that it writes are the parameters, and the others
        are the state, zero at the start.
    **options
        Each scalar of the rule: a number; a schedule, ``step -> float``; or an array of real numbers, one for
        each parameter. A scalar ``learning_rate`` is what ``state.rate_scale`` multiplies.

        And the options of `RMSProp` around the rule: `maximize`, `clip_norm`, `clip_value`,
        `weight_decay`, `decoupled_weight_decay` (which takes the scalar ``learning_rate`` for its rate) and
        `projected_gradient` change the gradient or x before its lines, `bounds`, `modulus_bounds` and
        `parameter_average` come behind them, and `nonfinite` is as there. Where a scalar of the rule has the
        name of an option, it is the scalar that is meant.

    Raises
    ------
    TypeError, ValueError
        The rule reads something else, or the scalars are not those of the rule.

    Notes
    -----
    With options around it, the backend ``"numpy"`` evaluates the body of the rule, not its reference.
    """

    #: The rule as it was given; `rule` is what it is with the options around it.
    user_rule: Rule
    scalars: Mapping[str, Any]

    def __init__(self, rule: Rule, **options: Any) -> None:
        if not isinstance(rule, Rule):
            raise TypeError(f"rule is a {type(rule).__name__}; it must be a gpuprop.Rule")
        if len(rule.reads) != 1:
            raise ValueError(f"rule {rule.name!r} reads {rule.reads}; it must read one array, the gradient")
        scalars = {name: options.pop(name) for name in rule.scalars if name in options}
        around = {f.name: options.pop(f.name, f.default) for f in fields(Options) if f.init}
        if options:
            raise TypeError(
                f"rule {rule.name!r} has no scalar {next(iter(options))!r}, nor is there such an option; "
                f"its scalars are {', '.join(rule.scalars) or 'none'}, and the options {', '.join(around)}"
            )
        if set(scalars) != set(rule.scalars):
            raise TypeError(
                f"rule {rule.name!r} takes the scalars {', '.join(rule.scalars) or 'none'}, and was given "
                f"{', '.join(scalars) or 'none'}"
            )
        names_of_a_state = dir(State(None, 0, {}, None))  # type: ignore[arg-type]
        taken = sorted(set(rule.writes[1:]).intersection([*names_of_a_state, "parameter_average"]))
        if taken:
            raise ValueError(
                f"rule {rule.name!r} has an array {taken[0]!r}, which is also an attribute of every state; "
                "give it another name"
            )
        checked = {
            name: v if callable(v) else check.number_or_array(name, v, check.real)
            for name, v in scalars.items()
        }
        vars(self).update(around, user_rule=rule, scalars=MappingProxyType(checked))
        super().__post_init__()
        if rule.reads[0] in rule.reals:
            raise ValueError(
                f"rule {rule.name!r} has its gradient {rule.reads[0]!r} in reals; it is complex where the "
                "parameters are"
            )
        if self.parameter_average is not None and "parameter_average" in names_in(rule):
            raise ValueError(
                f"rule {rule.name!r} calls something parameter_average, which is an array of the state with "
                "the option of this name; call it otherwise"
            )
        if self.decoupled_weight_decay and "learning_rate" not in rule.scalars:
            raise ValueError(
                f"decoupled_weight_decay is True and rule {rule.name!r} has no scalar learning_rate, by "
                "which the decay is multiplied; call its rate so, or write the decay into the rule"
            )

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"cannot assign {name!r}: hyperparameters are immutable; make another optimizer")

    @property
    def options(self) -> dict[str, Any]:
        """The options around the rule that are not at their defaults, by name."""
        given = {
            f.name: (getattr(self, f.name), f.default) for f in fields(self) if f.name not in self.scalars
        }
        return {name: value for name, (value, default) in given.items() if is_other(value, default)}

    def _key(self) -> tuple[Any, ...]:
        scalars = ((name, id(v) if check.is_array(v) else v) for name, v in self.scalars.items())
        return self.user_rule, super()._key(), *sorted(scalars, key=itemgetter(0))

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self.user_rule, {**self.options, **self.scalars})

    def _replaced(self, **changes: Any) -> RuleOptimizer:
        if taken := sorted(changes.keys() & self.scalars.keys()):
            raise ValueError(
                f"rule {self.user_rule.name!r} has a scalar {taken[0]!r}, so that the option of this name "
                "cannot be set; call the scalar otherwise"
            )
        return RuleOptimizer(self.user_rule, **{**self.options, **self.scalars, **changes})

    @cached_property
    def _core(self) -> Rule:
        """The rule with those of its scalars as arrays that are such."""
        names = tuple(name for name, value in self.scalars.items() if check.is_array(value))
        return with_arrays(self.user_rule, names) if names else self.user_rule

    @cached_property
    def _has_rates(self) -> bool:
        return check.is_array(self.scalars.get("learning_rate"))

    @cached_property
    def _is_alone(self) -> bool:
        """Whether there are no options that make other lines of the rule's."""
        return not self.options.keys() - {"nonfinite"}

    @property
    def _full_rule(self) -> Rule:
        return self._core if self._is_alone else _evaluated_around(self._core, self._around)

    @property
    def _option_names(self) -> Mapping[str, str]:
        return own_names(self._core)

    @property
    def _neutral(self) -> dict[str, float]:
        names = self._option_names
        return {names[name]: value for name, value in NEUTRAL.items() if name in names}

    def _more_reads(self) -> tuple[Any, ...]:
        own = (self.scalars[name] for name in self._core.reads[1:])
        return (*own, *super()._more_reads())

    def _scalars_at(self, step: float, rate_scale: float) -> dict[str, float]:
        def at(name: str, value: Any) -> float:
            if callable(value):
                value = math.nan if math.isnan(step) else check.real(f"{name}({step})", value(int(step)))
            return value * rate_scale if name == "learning_rate" else value

        scalars = {name: at(name, v) for name, v in self.scalars.items() if not check.is_array(v)}
        if self._has_rates:
            scalars[self._core.scalars[-1]] = rate_scale
        elif "learning_rate" not in self.scalars and rate_scale != 1 and not math.isnan(rate_scale):
            raise ValueError(
                f"state.rate_scale is {rate_scale} and rule {self.user_rule.name!r} has no scalar "
                "learning_rate that it could multiply; call its rate so, or leave rate_scale at 1"
            )
        if self._is_alone:
            return scalars
        rate = rate_scale if self._has_rates else scalars.get("learning_rate", 1.0)
        options = self._common_scalars(rate)
        return {self._option_names[name]: value for name, value in options.items()} | scalars

    def __repr__(self) -> str:
        shown = {**self.scalars, **self.options}
        return f"RuleOptimizer({', '.join([self.user_rule.name, *(f'{k}={v!r}' for k, v in shown.items())])})"


@cache
def _evaluated_around(rule: Rule, options: Around) -> Rule:
    """`rule` with options, without its reference, which knows nothing of them."""
    return around(replace(rule, reference=None), options)


def _rebuild(rule: Rule, options: dict[str, Any]) -> RuleOptimizer:
    return RuleOptimizer(rule, **options)
