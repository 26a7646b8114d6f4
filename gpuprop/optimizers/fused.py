"""An optimizer with a user's lines in its kernel."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

from gpuprop import arguments as check
from gpuprop.backends import Backend
from gpuprop.backends.base import Capturing
from gpuprop.optimizers.state import State
from gpuprop.optimizers.steps import refusals
from gpuprop.optimizers.steps.ahead import compile_fused
from gpuprop.optimizers.steps.making import as_total, backend_of_state, check_data, made, taken, value_of
from gpuprop.optimizers.steps.parts import Rows, cut, index_of, part_of
from gpuprop.optimizers.steps.quick import step_at_once
from gpuprop.rules import Rule, around
from gpuprop.rules.fusion import Lines, behind_gradient, maker

if TYPE_CHECKING:
    from gpuprop.optimizers.options import Options


@dataclass(frozen=True, repr=False)
class Fused:
    """Steps of an optimizer with lines of your own in the same pass: what `RMSProp.fuse` gives.

    Its states are those of `optimizer`, and are saved and loaded as such.

    Parameters
    ----------
    optimizer : Optimizer
        Whose step it is.
    lines : tuple
        What `fuse` was given, checked.
    """

    optimizer: Options
    lines: Lines

    def init(self, x: Any, *, backend: Backend | None = None, comm: Any = None) -> State:
        """The state before the first step, as of `optimizer`.

        Parameters
        ----------
        x, backend, comm
            As for `Optimizer.init`.

        Returns
        -------
        State
            With its arrays.
        """
        return self.optimizer.init(x, backend=backend, comm=comm)

    def compile(self, x: Any, data: Any = None, *, backend: Backend | None = None) -> None:
        """Compile ahead what steps of such arrays need, so that the first takes no longer than others.

        Parameters
        ----------
        x, backend
            As for `Optimizer.compile`.
        data : mapping of str to array, optional
            As for `step`, or others of their dtypes and layouts; they are only read. By default they are
            taken to be arrays as ``empty_like(x)`` makes them.

        Raises
        ------
        TypeError, ValueError
            As for `init`; or `data` are not what `step` takes.

        Notes
        -----
        Without a `value`, `run` has a kernel of its own, which its first call compiles.
        """
        compile_fused(self, x, data, self.optimizer._chosen(x, backend))

    def step(self, x: Any, data: Any, state: State, *, at: Any = None, **scalars: float) -> Any:
        """Update `x` and `state` in place.

        Parameters
        ----------
        x : array
            The parameters that `state` was made for.
        data : mapping of str to array
            The arrays of `reads`, by name: of the shape, dtype and device of x; beside a complex x they may
            be real. ``()`` where there are none.
        state : State
            From `init`.
        at : index, optional
            The part of x that is stepped, as for `Optimizer.step`. An array of `data` of the shape of x is
            cut as x is, and one of the shape of the part is taken as it is; of rows, those that `after`
            uses must be of the shape of x.
        **scalars : float
            The numbers of `scalars`, by name.

        Returns
        -------
        None, float or cupy.ndarray
            With a `value`, its sum over all elements (of parts, over all ranks), at x before the update: a
            float64, on a GPU in an array of no dimension, for which nobody waits. Without one, None.

        Raises
        ------
        TypeError, ValueError, IndexError, FloatingPointError, RuntimeError
            As for `Optimizer.step`; or `data` or `scalars` have other names than `fuse` was told. Nothing has
            been written.

        Notes
        -----
        What needs the gradient of all elements before the first step of one, has it written to an array of
        the state, in a pass before: `clip_norm`, ``nonfinite="raise"``, ``learning_rate="auto"``, and rows.
        """
        with suppress(Capturing):  # what a graph needs is made below
            if (
                at is None
                and self.optimizer._is_one_launch
                and (done := step_at_once(self, x, data, state, scalars))
            ):
                return done[0]
        value = self._step(x, data, state, at, scalars)
        return value if value is None else state.backend.total(value)

    def _step(self, x: Any, data: Any, state: State, at: Any, scalars: dict[str, Any]) -> Any:
        """Make the step, for the value of the arrays that are here."""
        optimizer, backend = self.optimizer, backend_of_state(state)
        x, given, lines, numbers = taken(backend, self.lines, x, data, scalars)
        at = at if at is None else index_of(backend, at, x)
        is_rows = isinstance(at, Rows)
        if (is_rows or self._needs_gradient or lines.value) and backend.is_capturing(x):
            raise refusals.captured("its value, or the gradient that it needs before, is made aside")
        with backend.on_device_of(x):
            part = {name: cut(at, array, x.shape) for name, array in given.items()}
            x_part, value = cut(at, x, x.shape), None
        if is_rows or self._needs_gradient:
            check_data(backend, x_part, part, lines)
            value = value_of(backend, lines, x_part, part, numbers)
            if "grad" not in part:
                room = state._room_for_gradient(x) if at is None else backend.empty_like(x_part)
                part["grad"] = made(backend, maker(lines, "grad"), x_part, part, numbers, room)
            lines = behind_gradient(lines)
        # Of whole arrays the kernel takes the rows, but for the gradient's, which come first.
        first = [given[name] if is_rows and name != "grad" else part[name] for name in lines.reads]
        rule, rows, arrays = self._rule(lines), None, cast(Any, (*first, *self._others(x, state)))
        if at is not None:
            arrays, rows = part_of(backend, rule, arrays, at, None if is_rows else len(first))
        more = tuple(numbers[name] for name in lines.scalars)
        if lines.value:
            table = [(*optimizer._scalars_of(state, x), *more)]
            sums = self._run(rule, arrays, state, table, 1)
            if sums is not None:
                return as_total(backend, sums[0])
            value = value_of(backend, lines, arrays[len(rule.reads)], part, numbers)
        optimizer._ready(rule, arrays, state, rows, more=more)()
        return value

    def run(self, x: Any, data: Any, state: State, *, steps: int, **scalars: float) -> Any:
        """Make so many steps in one pass over memory.

        Each element goes through all of them before the next one, as its gradient needs nothing but its own
        numbers: to the same bits as single steps.

        Parameters
        ----------
        x, data, state, **scalars
            As for `step`.
        steps : int
            At least 1.

        Returns
        -------
        None or array of `steps` float64
            With a `value`, its sum before each step.

        Raises
        ------
        TypeError, ValueError, RuntimeError
            As for `step`; or an option needs all elements before the first step of one: `clip_norm`,
            ``nonfinite="raise"`` and ``learning_rate="auto"``.

        Notes
        -----
        Arrays that are not contiguous in one order are stepped one pass a step.
        """
        optimizer = self.optimizer
        if self._needs_gradient:
            raise ValueError(
                f"{optimizer} needs the gradient of all elements in each step, for clip_norm, "
                'nonfinite="raise" or learning_rate="auto"; leave these out, or call step'
            )
        steps, backend = check.whole("steps", steps, least=1), backend_of_state(state)
        x, given, lines, numbers = taken(backend, self.lines, x, data, scalars)
        rule, more = self._rule(lines), tuple(numbers.values())
        arrays = (*given.values(), *self._others(x, state))
        ahead = range(1 if optimizer._constant_scalars else steps)
        table = [(*optimizer._scalars_of(state, x, step), *more) for step in ahead]
        sums = self._run(rule, arrays, state, table, steps)
        if sums is None:
            sums = [self._step(x, data, state, None, scalars) for _ in range(steps)]
            with backend.on_device_of(x):
                sums = backend.xp.stack([backend.xp.asarray(each) for each in sums]) if lines.value else None
        return backend.total(sums) if lines.value else None

    @cached_property
    def rule(self) -> Rule:
        """What the kernel does with each element, the optimizer's lines and yours."""
        return self._rule(self.lines)

    @cached_property
    def _needs_gradient(self) -> bool:
        """Whether the gradient must be known before the pass that steps."""
        optimizer = self.optimizer
        return optimizer.clip_norm is not None or optimizer.nonfinite == "raise" or optimizer._finds_rate

    def _others(self, x: Any, state: State) -> tuple[Any, ...]:
        """The arrays of a rule behind those of data."""
        try:
            return (*self.optimizer._reads, x, *[getattr(state, n) for n in self.optimizer._kept])
        except AttributeError:
            raise refusals.foreign(state, self.optimizer.rule) from None

    def _rule(self, lines: Lines) -> Rule:
        if lines not in self._rules:
            options = self.optimizer._around._replace(lines=lines)
            self._rules[lines] = self.optimizer._folded(around(self.optimizer._core, options))
        return self._rules[lines]

    @cached_property
    def _rules(self) -> dict[Lines, Rule]:
        return {}

    def _run(self, rule: Rule, arrays: Any, state: State, table: Any, steps: int) -> Any:
        """So many steps in one pass; None where there is no such pass, and nothing has been done."""
        optimizer = self.optimizer
        if state.optimizer is not optimizer:
            optimizer._take_over(rule, arrays, state)
        skipped = None
        if optimizer.nonfinite == "skip":
            optimizer._provide_workspace(rule, arrays, state, None)
            skipped = state._workspace.skipped
        sums = state.backend.run_at_once(rule, arrays, table, steps, state._clock, skipped)
        if sums is not None:
            state.optimizer = optimizer
        return sums

    def __repr__(self) -> str:
        given = ((n, getattr(self.lines, n)) for n in ("before", "after", "reads", "scalars", "value"))
        return f"{self.optimizer!r}.fuse({', '.join(f'{name}={value!r}' for name, value in given if value)})"
