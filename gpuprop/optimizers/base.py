"""What every optimizer is: a rule, the scalars of each step, and the arrays of a state."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

from gpuprop.backends import Backend, backend_of
from gpuprop.backends.checks import prepare
from gpuprop.folding import fold
from gpuprop.optimizers.state import State
from gpuprop.rules import NEUTRAL, Rule


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
            complex128. Of another library, such as a ``torch.Tensor``: through DLPack, not copied.
        backend : Backend, optional
            Where steps run, from `select_backend`; by default the array's own type decides.

        Returns
        -------
        State

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
        x = chosen.adopt("x", x)
        arrays = {name: chosen.full_like(x, self._starts().get(name, 0.0)) for name in names}
        prepare(chosen, self.rule, [x, *self._reads, x, *arrays.values()])
        state = State(self, 0, arrays, chosen)
        if not self._is_plain:
            state._workspace = chosen.workspace(x)
        return state

    def step(self, x: Any, grad: Any, state: State) -> None:
        """Update `x` and `state` in place.

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
            With ``nonfinite="raise"``, `grad` has elements that are not finite; nothing has been
            written.
        """
        rule = self.rule
        try:
            backend = state.backend
            arrays = (grad, *self._reads, x, *[getattr(state, name) for name in rule.writes[1:]])
            last = state.optimizer
        except AttributeError:
            raise _foreign(state, rule) from None
        if last is not self and state._owner not in (None, rule.name):
            raise _foreign(state, rule)
        scalars = self._constant_scalars
        if scalars is None:
            scalars = self._ordered(self._scalars_at(state.step))
        if self._is_plain:
            backend.update(rule, arrays, scalars)
        else:
            self._guarded_update(rule, arrays, scalars, state)
        state._clock += 1
        state.optimizer = self

    def _guarded_update(self, rule: Rule, arrays: Any, scalars: tuple[Any, ...], state: State) -> None:
        backend, skip = state.backend, self.nonfinite == "skip"
        if state._workspace is None:  # the state was made for, or saved by, another optimizer
            state._workspace = backend.workspace(prepare(backend, rule, arrays)[0])
        if self.clip_norm is not None or self.nonfinite == "raise":
            grad = prepare(backend, rule, arrays)[0]
        if self.nonfinite == "raise":
            _refuse_nonfinite(backend, grad, backend.adopt("grad", arrays[0]))
        if self.clip_norm is not None:
            # In place of the NaN that stood for a scalar which each gradient decides anew.
            sign = -1.0 if self.maximize else 1.0
            scale = backend.clip_scale(grad, self.clip_norm, sign, skip, state._workspace)
            place = rule.scalars.index("gradient_scale")
            scalars = (*scalars[:place], scale, *scalars[place + 1 :])
        backend.update(rule, arrays, scalars, state._workspace.skipped if skip else None)

    def __call__(
        self,
        fun: Callable[..., Any],
        x0: Any,
        args: tuple[Any, ...] = (),
        **options: Any,
    ) -> Any:
        """Minimise `fun`: what `scipy.optimize.minimize` calls where this object is its ``method``."""
        from gpuprop.driver import minimize_by

        return minimize_by(self, fun, x0, args, **options)


def _refuse_nonfinite(backend: Backend, real: Any, grad: Any) -> None:
    """`real` is `grad`, or its pairs where it is complex."""
    count, first = backend.nonfinite(real)
    if not count:
        return
    first = first[: grad.ndim]
    with backend.on_device_of(grad):
        if grad.dtype.kind == "c":
            count = int((~backend.xp.isfinite(grad)).sum())
        value = backend.to_host(grad[first])
    raise FloatingPointError(
        f"grad has {count} element{'s' * (count > 1)} of {grad.size} that {'are' if count > 1 else 'is'} not "
        f"finite, the first {value} at index {first}; nothing has been updated "
        '(nonfinite="skip" would leave such elements out)'
    )


def _foreign(state: Any, rule: Rule) -> Exception:
    if not isinstance(state, State):
        return TypeError(f"state is a {type(state).__name__}; it must be one that init gave")
    missing = [name for name in rule.writes[1:] if not hasattr(state, name)]
    if not missing:
        owner = state.optimizer or f"an optimizer by the rule {state._owner!r}"
        return ValueError(
            f"state is that of {owner}, whose arrays mean something else; it must be one that "
            "this optimizer's init gave"
        )
    return ValueError(
        f"state has no {' and no '.join(missing)}, which {rule.name} with these options keeps; it must be "
        "one that this optimizer's init gave"
    )
