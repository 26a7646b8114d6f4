"""The options that all optimizers of the family share."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from gpuprop import arguments as check
from gpuprop import rules
from gpuprop.backends import Backend
from gpuprop.optimizers.base import Optimizer
from gpuprop.optimizers.state import State
from gpuprop.optimizers.steps import refusals
from gpuprop.rules.fusion import checked_lines

if TYPE_CHECKING:
    from gpuprop.optimizers.fused import Fused


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Options(Optimizer):
    """The options that all rules can have around them: see `RMSProp`."""

    weight_decay: Any = 0.0
    decoupled_weight_decay: bool = False
    maximize: bool = False
    clip_value: float | None = None
    clip_norm: float | None = None
    bounds: tuple[Any, Any] | None = None
    modulus_bounds: tuple[Any, Any] | None = None
    projected_gradient: bool = False
    parameter_average: float | None = None
    nonfinite: str = "propagate"

    def __post_init__(self) -> None:
        self._set("weight_decay", check.number_or_array("weight_decay", self.weight_decay))
        for name in ("decoupled_weight_decay", "maximize", "projected_gradient"):
            self._set(name, check.flag(name, getattr(self, name)))
        for name in ("clip_value", "clip_norm"):
            if getattr(self, name) is not None:
                self._set(name, check.number(name, getattr(self, name), positive=True))
        self._set("bounds", check.pair_of_bounds(self.bounds))
        self._set("modulus_bounds", check.pair_of_bounds(self.modulus_bounds, "modulus_bounds", least=0.0))
        if self.bounds and self.modulus_bounds:
            raise ValueError(
                "bounds and modulus_bounds are both given, of which a step can keep one; of real parameters "
                "bounds alone can say both"
            )
        if self.projected_gradient and not self.bounds:
            raise ValueError("projected_gradient is True and there are no bounds; give bounds=(lower, upper)")
        if self.parameter_average is not None:
            self._set("parameter_average", check.number("parameter_average", self.parameter_average, below=1))
        check.choice("nonfinite", self.nonfinite, ("propagate", "skip", "raise"))
        check.choice("second_moment", getattr(self, "second_moment", "parts"), ("parts", "modulus"))

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    @cached_property
    def _arrays(self) -> dict[str, Any]:
        """The options around a rule that are arrays, by what the rule calls them, in its order."""
        options: dict[str, Any] = dict(zip(("lower", "upper"), self.bounds or (), strict=False))
        options |= dict(zip(("lower_modulus", "upper_modulus"), self.modulus_bounds or (), strict=False))
        options["weight_decay"] = self.weight_decay
        return {name: option for name, option in options.items() if check.is_array(option)}

    @property
    @abstractmethod
    def _core(self) -> rules.Rule:
        """The rule without options around it."""

    @property
    def _full_rule(self) -> rules.Rule:
        return rules.around(self._core, self._around)

    def fuse(
        self,
        before: str = "",
        after: str = "",
        reads: tuple[str, ...] = (),
        scalars: tuple[str, ...] = (),
        value: str | None = None,
    ) -> Fused:
        """The same optimizer with lines of your own in its kernel, before and after its own.

        Parameters
        ----------
        before : str
            Lines in the language of `Rule` that make the gradient ``grad`` of an element out of its parameter
            ``x``, the arrays in `reads` and the numbers in `scalars`, as in ``"grad = 2 * x"``: then there is
            no array of gradients.
        after : str
            Lines that change the new ``x``, such as a proximal step; they may use whatever those before have.
            Bounds hold behind them, and averages are of what they leave.
        reads : tuple of str
            Names of arrays; ``"grad"`` among them is the gradient, where it is an array.
        scalars : tuple of str
            Names of numbers.
        value : str, optional
            An expression whose sum over all elements a step returns, such as f: of x before the update. Of
            complex numbers, it is that of both parts.

        Returns
        -------
        Fused
            With `init`, `compile` and `step` as here, and `run`, which makes many steps in one pass over
            memory.

        Raises
        ------
        ValueError, TypeError
            A line cannot work; the message quotes it. Or a name is missing, or is one too many.

        Examples
        --------
        >>> import numpy as np, gpuprop
        >>> x = np.array([5.0, 4.0])
        >>> optimizer = gpuprop.RMSProp(learning_rate=0.1).fuse(before="grad = 2 * x", value="x * x")
        >>> state = optimizer.init(x)
        >>> optimizer.step(x, (), state)
        41.0
        >>> x
        array([4.68377233, 3.68377236])
        """
        from gpuprop.optimizers.fused import Fused

        if taken := sorted({"self", "data", "state", "at", "steps"}.intersection(scalars)):
            raise ValueError(f"scalars has {taken[0]!r}, as every step has one itself; call it otherwise")
        return Fused(self, checked_lines(before, after, reads, scalars, value))

    def _more_reads(self) -> tuple[Any, ...]:
        return tuple(self._arrays.values())

    @cached_property
    def _around(self) -> rules.Around:
        """What the options are to a rule."""
        by_element = check.is_array(self.weight_decay) or self._has_rates
        return rules.Around(
            tuple(self._arrays),
            bool(self._shrinks and by_element),
            self.modulus_bounds is not None,
            self.projected_gradient,
            self.parameter_average is not None,
            self._displacement,
        )

    def _common_scalars(self, rate: float) -> dict[str, float]:
        """Those of the options, for this learning rate, or this factor of an array of such."""
        if self._finds_rate:
            return self._fixed_scalars | {"learning_rate": math.nan}
        if self._shrinks_as_a_whole:
            return self._fixed_scalars | {"shrink": 1 - rate * self.weight_decay}
        return self._fixed_scalars | {"decay_rate": rate} if self._shrinks else self._fixed_scalars

    @cached_property
    def _is_one_launch(self) -> bool:
        return super()._is_one_launch and not self.projected_gradient

    @cached_property
    def _shrinks(self) -> bool:
        return self.decoupled_weight_decay and (check.is_array(self.weight_decay) or self.weight_decay != 0)

    @cached_property
    def _shrinks_as_a_whole(self) -> bool:
        """By one number, and not each parameter by its own."""
        return self._shrinks and not self._around.decays_by_element

    @cached_property
    def _fixed_scalars(self) -> dict[str, float]:
        """The scalars of the options that no learning rate changes; NaN for arrays."""

        def number(value: Any) -> float:
            return math.nan if check.is_array(value) else value

        lower, upper = map(number, self.bounds or (-math.inf, math.inf))
        scalars = {
            # The norm of each gradient decides anew.
            "gradient_scale": math.nan if self.clip_norm else -1.0 if self.maximize else 1.0,
            "clip_value": self.clip_value or math.inf,
            "weight_decay": 0.0 if self._shrinks_as_a_whole else number(self.weight_decay),
            "shrink": 1.0,
            "lower": lower,
            "upper": upper,
        }
        if self.modulus_bounds:
            scalars |= zip(("lower_modulus", "upper_modulus"), map(number, self.modulus_bounds), strict=True)
        if (beta := self.parameter_average) is not None:
            scalars |= {"average_decay": beta, "one_minus_average_decay": 1 - beta}
        return scalars

    def _check_parameters(self, backend: Backend, x: Any) -> None:
        with backend.on_device_of(x):
            for pair, least in (("bounds", -math.inf), ("modulus_bounds", 0.0)):
                refusals.check_limits(backend, pair, getattr(self, pair), least)
            for name in ("learning_rate", "weight_decay"):
                refusals.check_factor(backend, name, getattr(self, name, 0.0))

    def _scalars_of(self, state: State, x: Any, ahead: int = 0) -> Sequence[Any]:
        scalars = super()._scalars_of(state, x, ahead)
        if not self.projected_gradient or x.dtype.itemsize > 2:
            return scalars
        # x is at a bound as 16 bits hold it.
        names = {self._option_names.get(name, name) for name in ("lower", "upper")}
        pairs = zip(self.rule.scalars, scalars, strict=True)
        return tuple(float(x.dtype.type(v)) if name in names else v for name, v in pairs)

    def _key(self) -> tuple[Any, ...]:
        def key(value: Any) -> Any:
            if isinstance(value, tuple):
                return tuple(map(key, value))
            return id(value) if check.is_array(value) else value

        return type(self), *(key(getattr(self, f.name)) for f in fields(self))

    def _replaced(self, **changes: Any) -> Any:
        """The same with other options."""
        return replace(self, **changes)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Options) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), {f.name: getattr(self, f.name) for f in fields(self)})

    def __repr__(self) -> str:
        in_order = sorted(fields(self), key=lambda f: bool(f.kw_only))
        given = ((f, getattr(self, f.name)) for f in in_order)
        shown = [f"{f.name}={v!r}" for f, v in given if not f.kw_only or is_other(v, f.default)]
        return f"{type(self).__name__}({', '.join(shown)})"


def is_other(value: Any, default: Any) -> bool:
    """Than the default of an option; an array is, and its comparison is no bool."""
    if isinstance(value, tuple) or check.is_array(value):
        return True
    return value is not default and value != default


def _rebuild(kind: type, values: dict[str, Any]) -> Any:
    return kind(**values)
