"""What every optimizer is: a rule, the scalars of each step, and the arrays of a state."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

from gpuprop.backends import Backend, backend_of
from gpuprop.backends.checks import check_array, prepare
from gpuprop.optimizers import refusals
from gpuprop.optimizers.state import State
from gpuprop.rules import NEUTRAL, Rule
from gpuprop.rules.folding import fold


class Optimizer(ABC):
    """Immutable hyperparameters; `init` makes a `State` and `step` goes through it in place."""

    nonfinite: str
    clip_norm: float | None
    maximize: bool

    @property
    @abstractmethod
    def _full_rule(self) -> Rule:
        """The rule with every option."""

    @abstractmethod
    def _scalars_at(self, step: float) -> Mapping[str, float]:
        """The scalars of the rule for the update after `step` others.

        For a `step` of NaN, those that depend on it are NaN.
        """

    def _starts(self) -> Mapping[str, float]:
        """Where arrays of the state start, if not at zero."""
        return {}

    def _more_reads(self) -> tuple[Any, ...]:
        """The arrays that the rule reads beside the gradient."""
        return ()

    @cached_property
    def rule(self) -> Rule:
        """The rule without what is neutral all the time."""
        full, always = self._full_rule, self._scalars_at(math.nan)
        neutral = {k: v for k, v in always.items() if v == NEUTRAL.get(k)}
        if "velocity" not in full.writes:
            neutral.pop("learning_rate", None)  # 1 by chance, and not because it is outside the velocity
        return fold(full, neutral)

    @cached_property
    def _constant_scalars(self) -> tuple[float, ...] | None:
        """The scalars, where no step changes them."""
        scalars = self._ordered(self._scalars_at(math.nan))
        return None if any(map(math.isnan, scalars)) else scalars

    @cached_property
    def _has_a_past(self) -> bool:
        """Whether a scalar changes with the step, and not with the norm of the gradient."""
        of_norm = set() if self.clip_norm is None else {"gradient_scale"}
        at_nan = self._scalars_at(math.nan)
        return any(math.isnan(at_nan[name]) for name in set(self.rule.scalars) - of_norm)

    def _ordered(self, scalars: Mapping[str, float]) -> tuple[Any, ...]:
        return tuple(scalars[name] for name in self.rule.scalars)

    @cached_property
    def _is_plain(self) -> bool:
        """Whether a step is one launch and nothing else."""
        return self.nonfinite == "propagate" and self.clip_norm is None

    @cached_property
    def _reads(self) -> tuple[Any, ...]:
        return self._more_reads()

    def init(self, x: Any, *, backend: Backend | None = None) -> State:
        """The state before the first step.

        Parameters
        ----------
        x : numpy.ndarray or cupy.ndarray, or a CPU or CUDA array of another library
            The parameters, of any shape; float16, bfloat16, float32, float64, complex64 or
            complex128. Of another library, such as a ``torch.Tensor``: its memory, not a copy.
        backend : Backend, optional
            Where steps run, from `select_backend`; by default the array's own type decides.

        Returns
        -------
        State
            With arrays like `x`, and no step taken.

        Raises
        ------
        TypeError
            `x` is no such array.
        ValueError
            `x`, or an array among the bounds, cannot take part.
        """
        if backend is not None and not isinstance(backend, Backend):
            raise TypeError(f"backend is {backend!r}; it must be one that select_backend gave")
        chosen = backend or backend_of(x)
        names = self.rule.writes[1:]
        x = chosen.adopt("x", x, written=True)
        check_array(chosen, "x", x, written=True)
        arrays = {name: chosen.full_like(x, self._starts().get(name, 0.0)) for name in names}
        prepare(chosen, self.rule, [x, *self._reads, x, *arrays.values()])
        state = State(self, 0, arrays, chosen)
        self._check_parameters(chosen, x)
        if not self._is_plain:
            state._workspace = chosen.workspace(x)
        return state

    def _check_parameters(self, backend: Backend, x: Any) -> None:  # noqa: B027 - there need be none
        """Refuse parameters that cannot be stepped by these options; asked once for each state.

        Raises
        ------
        ValueError
        """

    def step(self, x: Any, grad: Any, state: State) -> None:
        """Update `x` and `state` in place.

        Whatever interrupts it, a signal's handler that raises as Ctrl-C does, leaves a state that
        belongs to its x: both as before the step, or both as after it.

        Parameters
        ----------
        x : array
            The parameters that `state` was made for.
        grad : array of the same type, shape, dtype and device
            Gradient at `x`; it is only read, and may be `x` itself.
        state : State
            From `init`.

        Raises
        ------
        TypeError, ValueError
            An array cannot take part; the message says what was given and what is needed, and
            nothing has been written.
        FloatingPointError
            With ``nonfinite="raise"``, `grad` has elements that are not finite, or x or the state would
            have; nothing has been written.
        RuntimeError
            The step would be recorded into a CUDA graph, whose replays would differ from steps.
        """
        rule = self.rule
        try:
            backend = state.backend
            arrays = (grad, *self._reads, x, *[getattr(state, name) for name in rule.writes[1:]])
            last = state.optimizer
        except AttributeError:
            raise refusals.foreign(state, rule) from None
        if last is not self:
            self._take_over(state, x)
        scalars = self._constant_scalars
        if scalars is None:
            if backend.name == "gpu" and self._has_a_past and backend.is_capturing(x):
                raise refusals.captured("learning rate or its bias correction changes with the step")
            scalars = self._ordered(self._scalars_at(state._clock.item(1)))
        if self._is_plain:
            backend.update(rule, arrays, scalars, state._clock)
        else:
            self._guarded_update(rule, arrays, scalars, state)
        if last is not self:
            state.optimizer = self

    def _take_over(self, state: State, x: Any) -> None:
        """Make sure that a state which another optimizer has stepped means the same to this one."""
        if state._owner not in (None, self.rule.name):
            raise refusals.foreign(state, self.rule)
        x = state.backend.adopt("x", x, written=True)
        check_array(state.backend, "x", x, written=True)
        self._check_parameters(state.backend, x)

    def _guarded_update(self, rule: Rule, arrays: Any, scalars: tuple[Any, ...], state: State) -> None:
        backend, skip = state.backend, self.nonfinite == "skip"
        x = arrays[len(rule.reads)]
        if self.nonfinite == "raise" and backend.is_capturing(x):
            raise refusals.captured('nonfinite="raise" must wait for what the device finds')
        if state._workspace is None:  # the state was made for, or saved by, another optimizer
            state._workspace = backend.workspace(prepare(backend, rule, arrays)[len(rule.reads)])
        if self.clip_norm is not None:
            grad = prepare(backend, rule, arrays)[0]
            # In place of the NaN that stood for a scalar which each gradient decides anew.
            sign = -1.0 if self.maximize else 1.0
            scale = backend.clip_scale(grad, self.clip_norm, sign, skip, state._workspace)
            place = rule.scalars.index("gradient_scale")
            scalars = (*scalars[:place], scale, *scalars[place + 1 :])
        if self.nonfinite == "raise":
            count = backend.count_nonfinite(rule, arrays, scalars)
            if count:
                raise refusals.not_finite(backend, rule, arrays, scalars, count)
        backend.update(rule, arrays, scalars, state._clock, state._workspace.skipped if skip else None)

    def __call__(
        self,
        fun: Callable[..., Any],
        x0: Any,
        args: tuple[Any, ...] = (),
        **options: Any,
    ) -> Any:
        """Minimise `fun`: what `scipy.optimize.minimize` calls where this object is its ``method``.

        Parameters
        ----------
        fun, x0, args
            As for `minimize`.
        **options
            The other arguments of `minimize`, and its options.

        Returns
        -------
        scipy.optimize.OptimizeResult
            As `minimize` gives it.
        """
        from gpuprop.driver import minimize_by

        return minimize_by(self, fun, x0, args, **options)
