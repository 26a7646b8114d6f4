"""From hyperparameters and a state to a call that makes the step, and can no more refuse it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from typing import Any

from gpuprop.backends import Backend
from gpuprop.backends.checks import as_real, check_array, checked
from gpuprop.optimizers.state import State
from gpuprop.optimizers.steps import refusals
from gpuprop.optimizers.steps.captured import check_capture, recorded
from gpuprop.optimizers.steps.finding import places, with_rate
from gpuprop.optimizers.steps.scalars import Scalars
from gpuprop.rules import Rule


class Stepping(Scalars):
    """What comes before a step, and the step itself."""

    nonfinite: str
    clip_norm: float | None
    #: Whether steps are as long as the gradient.
    _per_gradient = False

    @cached_property
    def _has_rates(self) -> bool:
        """Whether the rule has an array of learning rates."""
        return False

    @cached_property
    def _finds_rate(self) -> bool:
        """Whether the learning rate is found by `rules.LAW`."""
        return False

    @cached_property
    def _displacement(self) -> bool:
        """Whether each step is kept, for lack of an average that says where it went."""
        return False

    @property
    def _followed(self) -> tuple[str, str | None]:
        """What says where the last step went, for `rules.LAW`, and the scalar that makes it an average."""
        return "displacement", None

    def _starts(self) -> Mapping[str, float]:
        """Where arrays of the state start, if not at zero."""
        return {}

    def _more_reads(self) -> tuple[Any, ...]:
        """The arrays that the rule reads beside the gradient."""
        return ()

    @cached_property
    def _is_one_launch(self) -> bool:
        """Whether nothing comes before the launch that makes the step."""
        return self.nonfinite != "raise" and self.clip_norm is None and not self._finds_rate

    @cached_property
    def _is_plain(self) -> bool:
        """Whether that launch counts nothing, either."""
        return self.nonfinite == "propagate" and self.clip_norm is None and not self._finds_rate

    @cached_property
    def _only_finds(self) -> bool:
        """Whether nothing but the finding of a rate comes before the launch, and that counts nothing."""
        return self._finds_rate and self.nonfinite == "propagate" and self.clip_norm is None

    @cached_property
    def _places(self) -> tuple[int, int, int | None]:
        return places(self.rule, *self._followed)

    @cached_property
    def _kept(self) -> tuple[str, ...]:
        """The names of the arrays of a state."""
        return self.rule.writes[1:]

    @cached_property
    def _reads(self) -> tuple[Any, ...]:
        return self._more_reads()

    @property
    def _on_all_ranks(self) -> dict[str, Any]:
        """What must be the same on all ranks, by name."""
        reduced: Any = self.__reduce__()
        kind, options = reduced[1]
        return {"optimizer": getattr(kind, "__name__", kind), **options}

    def _check_parameters(self, backend: Backend, x: Any) -> None:
        """Refuse parameters that cannot be stepped by these options; asked once for each state.

        Raises
        ------
        ValueError
        """

    def _arrays_of(self, rule: Rule, parameters: tuple[Any, ...], grad: Any, state: State) -> tuple[Any, ...]:
        """The arrays of a rule, from those that a step is given."""
        try:
            arrays = (grad, *self._reads, *parameters, *[getattr(state, name) for name in rule.writes[1:]])
            _ = state.backend
        except AttributeError:
            raise refusals.foreign(state, rule) from None
        return arrays

    def _ready(
        self, rule: Rule, arrays: tuple[Any, ...], state: State, rows: Any = None, scale: Any = None,
        captures: bool | None = None, more: tuple[float, ...] = (),
    ) -> Callable[[], Any]:  # fmt: skip
        """What makes the step, where nothing is left that would refuse it.

        `scale` is what clips the gradient, where others have a part in its norm; `captures`, whether the
        step is recorded into a graph, where that is known; and `more` are scalars that stand behind those of
        this optimizer's own rule.
        """
        last, x, clock = state.optimizer, arrays[len(rule.reads)], state._clock
        scalars: Sequence[Any]
        if captures is None:
            captures = state.backend.is_capturing(x)
        if captures:
            check_capture(self, state)
        if last is not self:
            self._take_over(rule, arrays, state)
        if captures:
            clock, scalars = recorded(self, rule, arrays, state, rows)
        else:
            scalars = self._scalars_of(state, x)
        scalars = (*scalars, *more)
        update: Callable[[], None]
        if self._is_plain:
            update = partial(state.backend.update, rule, arrays, scalars, clock, None, rows)
        else:
            update = self._guarded_update(rule, arrays, scalars, state, rows, scale, clock)
        return update if last is self else partial(self._and_own, update, state)

    def _and_own(self, update: Callable[[], None], state: State) -> None:
        update()
        state.optimizer = self  # type: ignore[assignment]

    def _take_over(self, rule: Rule, arrays: tuple[Any, ...], state: State) -> None:
        """Make sure that a state which another optimizer has stepped means the same to this one."""
        if state._owner not in (None, self.rule.name):
            raise refusals.foreign(state, self.rule)
        place = len(rule.reads)
        x = state.backend.adopt(rule.writes[0], arrays[place], written=True)
        check_array(state.backend, rule.writes[0], x, written=True)
        self._check_parameters(state.backend, x)
        if state._tuning is not None:  # steps of given rates turn its rows, and write none
            state.step = state.step

    def _guarded_update(
        self, rule: Rule, arrays: Any, scalars: Sequence[Any], state: State, rows: Any, scale: Any, clock: Any
    ) -> Callable[[], None]:
        backend, skip = state.backend, self.nonfinite == "skip"
        if state._workspace is None:
            self._provide_workspace(rule, arrays, state, rows)
        if self.clip_norm is not None:
            if scale is None:
                grad = backend.adopt("grad", arrays[0])
                check_array(backend, "grad", grad, written=False)
                grad = as_real(backend, grad)
                (scale,) = backend.clip_scales(
                    [grad], self.clip_norm, [self._sign], [skip], [state._workspace]
                )
            # In place of the NaN that stood for a scalar which each gradient decides anew.
            place = rule.scalars.index(self._scale_of_gradient)
            scalars = (*scalars[:place], scale, *scalars[place + 1 :])
        if self._finds_rate:
            scalars = with_rate(self, rule, arrays, scalars, state, rows, clock)
        if self.nonfinite == "raise":
            count = backend.count_nonfinite(rule, arrays, scalars, rows, state._workspace)
            if count if state.comm is None else state.comm.sum([count])[0]:
                raise refusals.not_finite(backend, rule, arrays, scalars, count, rows)
        skipped = state._workspace.skipped if skip else None
        return partial(backend.update, rule, arrays, scalars, clock, skipped, rows)

    def _provide_workspace(self, rule: Rule, arrays: Any, state: State, rows: Any) -> None:
        if state._workspace is None:  # the state was made for, or saved by, another optimizer
            x = checked(state.backend, rule, arrays, rows)[len(rule.reads)]
            with state.backend.aside(x):
                # Of whole arrays, whatever part of them is stepped first.
                largest = max((x, *state.arrays.values()), key=lambda a: a.size)
                state._workspace = state.backend.workspace(largest)
