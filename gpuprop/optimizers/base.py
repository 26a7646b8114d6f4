"""What every optimizer is: hyperparameters that make a state, and step through it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gpuprop.arguments import check_alike, ranks
from gpuprop.backends import Backend, backend_of
from gpuprop.backends.base import Capturing
from gpuprop.backends.checks import check_array, checked, dtypes_of
from gpuprop.optimizers.state import State
from gpuprop.optimizers.steps import refusals
from gpuprop.optimizers.steps.ahead import compile_ahead
from gpuprop.optimizers.steps.finding import found_at_once, with_rate
from gpuprop.optimizers.steps.parts import part_of
from gpuprop.optimizers.steps.quick import Quick
from gpuprop.optimizers.steps.stepping import Stepping
from gpuprop.rules.composition import direction_of, needs_parameters


class Optimizer(Stepping):
    """Immutable hyperparameters; `init` makes a `State` and `step` goes through it in place."""

    def init(self, x: Any, *, backend: Backend | None = None, comm: Any = None) -> State:
        """The state before the first step.

        Parameters
        ----------
        x : numpy.ndarray or cupy.ndarray, or a CPU or CUDA array of another library
            The parameters, of any shape; float16, bfloat16, float32, float64, complex64 or
            complex128. Of another library, such as a ``torch.Tensor``: its memory, not a copy.
        backend : Backend, optional
            Where steps run, from `select_backend`; by default the array's own type decides.
        comm : Communicator, optional
            From `gpuprop.distributed.communicator`, where `x` is this rank's part of the parameters. `init`
            and steps are called on all ranks, with the same options; norms, sums and counts are of all parts.

        Returns
        -------
        State
            With arrays like `x`, and no step taken.

        Raises
        ------
        TypeError, ValueError
            `x` is no such array, or it, or an array among the bounds, cannot take part.
        """
        chosen = self._chosen(x, backend, comm)
        rule, x = self.rule, chosen.adopt("x", x, written=True)
        check_array(chosen, "x", x, written=True)
        starts: dict[str, Any] = {**self._starts(), "parameter_average": x}
        arrays = {
            name: chosen.full_like(x, starts.get(name, 0.0), dtype)
            for name, dtype in zip(
                rule.writes[1:], dtypes_of(rule, x.dtype)[len(rule.reads) + 1 :], strict=True
            )
        }
        checked(chosen, rule, [x, *self._reads, x, *arrays.values()])
        state = State(self, 0, arrays, chosen)
        self._check_parameters(chosen, x)
        if not self._is_plain:
            state._workspace = chosen.workspace(x)
        if self._finds_rate:
            state._tuning = chosen.tuning(x)
        return state

    def compile(self, x: Any, *, backend: Backend | None = None) -> None:
        """Compile ahead what steps of such arrays need, so that the first takes no longer than others.

        A `learning_rate` that is a schedule is asked for the rate of the first step.

        Parameters
        ----------
        x : array
            Parameters as for `init`, or others of their dtype and layout; they are only read. Gradients are
            taken to be arrays as ``empty_like(x)`` makes them.
        backend : Backend, optional
            As for `init`.

        Raises
        ------
        TypeError, ValueError
            As for `init`.
        """
        compile_ahead(self, x, self._chosen(x, backend))

    def _chosen(self, x: Any, backend: Backend | None, comm: Any = None) -> Backend:
        if backend is not None and not isinstance(backend, Backend):
            raise TypeError(f"backend is {backend!r}; it must be one that select_backend gave")
        chosen, comm = backend or backend_of(x), ranks(comm)
        if comm:
            kind = {"dtype of x": str(getattr(x, "dtype", x)), "backend": chosen.name}
            check_alike(comm, kind | self._on_all_ranks)
        return comm.over(chosen) if comm else chosen

    def step(self, x: Any, grad: Any, state: State, at: Any = None) -> None:
        """Update `x` and `state` in place.

        Whatever interrupts it, a signal's handler that raises as Ctrl-C does, leaves a state that
        belongs to its x: both as before the step, or both as after it.

        Parameters
        ----------
        x : array
            The parameters that `state` was made for.
        grad : array of the same type, dtype and device, and of the shape of `x` or of ``x[at]``
            Gradient at `x`; it is only read, and may be `x` itself.
        state : State
            From `init`.
        at : index, optional
            The part of x that is stepped; nothing outside changes. A window: slices, integers and an
            ellipsis, or a tuple of such. Or rows: one array (or list) of integers, which are numbers along
            the first axis, each at most once; negative ones count from the end. The step count is that of the
            whole: bias corrections and schedules count the steps of all parts.

        Raises
        ------
        TypeError, ValueError
            An array cannot take part; the message says what was given and what is needed, and
            nothing has been written.
        IndexError
            `at` is out of the range of x, names a row twice, or is an index of another kind.
        FloatingPointError
            With ``nonfinite="raise"``, `grad` has elements that are not finite, or x or the state would
            have; nothing has been written.
        RuntimeError
            The step would be recorded into a CUDA graph, and must wait for the device; or replays of a graph
            have come to the end of the steps that it knows.

        Notes
        -----
        Of rows on a GPU, those in a NumPy array are checked on the host; those on the device are waited for.
        """
        quick = getattr(state, "_quick", None) if at is None else None
        if quick is not None and quick.ran(self, x, grad, state):
            return
        self._step(x, grad, state, at)
        if at is None and state.backend.name == "cpu" and (quick is None or quick.optimizer is not self):
            state._quick = Quick(self, x, state)

    def _step(self, x: Any, grad: Any, state: State, at: Any) -> None:
        rule, rows = self.rule, None
        try:
            arrays: Any = (grad, *self._reads, x, *[getattr(state, name) for name in self._kept])
            backend = state.backend
        except AttributeError:
            raise refusals.foreign(state, rule) from None
        try:
            if at is None and self._is_one_launch and state.optimizer is self:  # as most steps are
                scalars: Any = self._constant_scalars
                if scalars is None or state._rate_scale != 1.0:
                    scalars = self._scalars_of(state, x)
                if self._is_plain:
                    backend.update(rule, arrays, scalars, state._clock)
                    return
                if state._workspace is not None:
                    backend.update(rule, arrays, scalars, state._clock, state._workspace.skipped)
                    return
            if at is None and self._only_finds and state.optimizer is self and state._workspace is not None:
                scalars = found_at_once(self, arrays, state) or with_rate(
                    self, rule, arrays, self._scalars_of(state, x), state, None, state._clock
                )
                backend.update(rule, arrays, scalars, state._clock)
                return
        except Capturing:
            pass  # what a graph needs is made below
        if at is not None:
            arrays, rows = part_of(backend, rule, arrays, at)
        self._ready(rule, arrays, state, rows)()

    def direction(self, grad: Any, state: State, out: Any = None, x: Any = None, at: Any = None) -> Any:
        """What `step` would subtract from x; the state advances, and x stays as it is.

        For programs that go on with it: divide it by an illumination, trim it, search along it.

        Parameters
        ----------
        grad : array
            Gradient, as for `step`.
        state : State
            From `init`.
        out : array like `grad`, optional
            Where to write it; it may be `grad` itself. By default a new array.
        x : array, optional
            The parameters, for options that need them: weight decay, bounds, and rules that compute with x.
        at : index, optional
            A window, as for `step`: `grad` and `out` are of its shape, x and the state are whole.

        Returns
        -------
        array
            `out`: ``x -= out`` is the step. (With ``nonfinite="skip"``, 0 where the element is skipped.)

        Raises
        ------
        TypeError, ValueError
            As for `step`; or x is needed and not given.
        FloatingPointError, RuntimeError
            As for `step`.
        """
        rule = self.rule
        if "parameter_average" in rule.writes:
            raise ValueError(
                "parameter_average is of the parameters after a step, which direction does not make; "
                "average them yourself, or use step"
            )
        needs_x = needs_parameters(rule)
        if needs_x and x is None:
            raise ValueError(
                f"{rule.name} with these options computes with the parameters, as weight decay and bounds "
                "do; pass x= to direction"
            )
        if not isinstance(state, State):
            raise refusals.foreign(state, rule)
        if out is None:
            grad = state.backend.adopt("grad", grad)
            check_array(state.backend, "grad", grad, written=False)
            out = state.backend.empty_like(grad)
        rule = direction_of(rule)
        arrays: Any = self._arrays_of(rule, (x, out) if needs_x else (out,), grad, state)
        if at is not None:
            arrays, _ = part_of(state.backend, rule, arrays, at)
        self._ready(rule, arrays, state)()
        return out

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
