"""One run of the driver: steps, checks and callbacks, and what comes out of them."""

from __future__ import annotations

import inspect
import math
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from gpuprop.backends import Backend
from gpuprop.driver.arrays import read
from gpuprop.driver.objective import Objective
from gpuprop.driver.points import assign, copied, pairs
from gpuprop.driver.stopping import DriverOptions, Status, Stopping


class Interrupts:
    """Ctrl-C as KeyboardInterrupt, but not within a step: x and the state always belong together."""

    def __init__(self) -> None:
        self._held = self._pending = False
        handler = signal.getsignal(signal.SIGINT)
        is_nested = isinstance(getattr(handler, "__self__", None), Interrupts)
        #: What ends a run with a result: in a function of another run nothing, so that both end.
        self.caught: tuple[type[BaseException], ...] = () if is_nested else (KeyboardInterrupt,)

    def __enter__(self) -> Interrupts:
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            with suppress(ValueError):  # only the main thread sets handlers, and is interrupted at all
                signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        self.restore()

    def restore(self) -> None:
        """Put Python's handler back; again where an interrupt has come between."""
        if signal.getsignal(signal.SIGINT) == self._handle:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def _handle(self, number: int, frame: Any) -> None:
        if self._held:
            self._pending = True
        else:
            signal.default_int_handler(number, frame)

    def hold(self, action: Callable[..., None], *args: Any) -> None:
        """Do `action` to its end, and only then let an interrupt through."""
        self._held = True
        try:
            action(*args)
        finally:
            self._held = False
        if self._pending:
            raise KeyboardInterrupt


class Run:
    """A descent from `x`, in place, until something says stop."""

    def __init__(
        self,
        optimizer: Any,
        x: Any,
        state: Any,
        objective: Objective,
        options: DriverOptions,
        callback: Callable[..., Any] | None,
        backend: Backend,
    ) -> None:
        self._xp = backend.xp
        self._optimizer, self._x, self._state, self._objective = optimizer, x, state, objective
        self._options, self._callback = options, callback
        self._gives_result = callback is not None and _takes_a_result(callback)
        self._callback_every = options.check_every or 1
        self._stopping = Stopping(options, objective, optimizer, state, backend)
        self._interrupts = Interrupts()
        self._first_step = state.step
        self._sign = -1.0 if all(one.maximize for one, *_ in pairs(optimizer, state, x)) else 1.0
        self._best: Any = None
        self._best_value = math.nan
        self._bar: Any = None

    @property
    def _nit(self) -> int:
        return self._state.step - self._first_step

    def result(self) -> Any:
        """Descend, and tell how it went as a `scipy.optimize.OptimizeResult`."""
        from scipy.optimize import OptimizeResult

        if self._options.disp:
            from tqdm import tqdm

            self._bar = tqdm(total=self._options.maxiter, unit="step", file=sys.stderr)
        try:
            with self._interrupts:
                status = self._descend()
        except self._interrupts.caught:
            status = Status.INTERRUPTED
        finally:
            self._interrupts.restore()
            if self._bar is not None:
                self._bar.close()
        message = self._stopping.message(status, self._nit)
        value, gradient = self._settle()
        if self._options.disp:
            print(f"{message} f = {value}, {self._stopping.seconds:.3g} s", file=sys.stderr)
        objective = self._objective
        return OptimizeResult(
            x=self._x, fun=value, jac=gradient, nit=self._nit, nfev=objective.nfev, njev=objective.njev,
            status=int(status), success=status.success, message=message, state=self._state,
        )  # fmt: skip

    def _descend(self) -> Status:
        stopping, objective, x = self._stopping, self._objective, self._x
        while True:
            nit = self._nit
            tells = self._callback is not None and nit > 0 and nit % self._callback_every == 0
            due = nit % stopping.every == 0
            if due or (tells and self._gives_result) or objective.evaluations:
                objective.value(x)  # before the limits, as it counts
            limit = stopping.limit(nit)
            if limit is not None:
                objective.value(x)
            objective.gradient(x)  # after f, since a program may compute in `fun` what its `jac` needs
            if tells and self._is_stopped_by(self._callback):
                return Status.CALLBACK
            if due or limit is not None:
                status = stopping.check(x, objective.gradient(x), objective.value(x), nit)
                self._report(nit)
                if status is None:
                    status = stopping.limit(nit) if limit is None else limit  # jac takes time, too
                if status is not None:
                    return status
            stopping.before_step(x, nit)
            self._interrupts.hold(self._step)

    def _step(self) -> None:
        gradient = self._objective.gradient(self._x)
        self._objective.forget()  # first, as the step may be interrupted when x has moved
        self._optimizer.step(self._x, gradient, self._state)

    def _report(self, nit: int) -> None:
        value = self._stopping.value
        is_better = self._best is None or self._sign * value < self._sign * self._best_value
        if self._options.return_best and math.isfinite(value) and is_better:
            self._interrupts.hold(self._keep, value)
        if self._bar is not None:
            f = "" if self._objective.fun is None else f"f = {value:.6g}, "
            self._bar.set_postfix_str(f"{f}gradient = {self._stopping.largest:.3g}", refresh=False)
            self._bar.update(nit - self._bar.n)

    def _keep(self, value: float) -> None:
        if self._best is None:
            self._best = copied(self._x)
        else:
            assign(self._best, self._x)
        self._best_value = value

    def _is_stopped_by(self, callback: Any) -> bool:
        self._objective.keep(self._x)
        given: dict[str, Any] = {}
        if self._gives_result:
            from scipy.optimize import OptimizeResult

            given["intermediate_result"] = OptimizeResult(x=copied(self._x), fun=self._value())
        try:
            callback(**given) if given else callback(copied(self._x))
        except StopIteration:
            return True
        return False

    def _value(self) -> float | None:
        value = self._objective.value(self._x)
        return None if value is None else read([value], self._xp)[0]

    def _settle(self) -> tuple[float | None, Any]:
        """f and the gradient at the parameters that are returned.

        A Ctrl-C in here leaves unknown what is not known yet: f is NaN, or the gradient None.
        """
        objective, gradient = self._objective, None
        value: float | None = math.nan
        with suppress(*self._interrupts.caught):
            objective.value(self._x)
            gradient = objective.keep(self._x)
            value = self._value()
        if self._best is not None and not self._sign * (value or 0.0) <= self._sign * self._best_value:
            self._x, value, gradient = self._best, self._best_value, None
            objective.forget()
            with suppress(*self._interrupts.caught):
                objective.value(self._x)
                gradient = objective.keep(self._x)
        return value, gradient


def _takes_a_result(callback: Callable[..., Any]) -> bool:
    """SciPy tells the two kinds of callback apart by the name of the only parameter."""
    if not callable(callback):
        raise TypeError(f"callback is {callback!r}; it must be a function of x or of intermediate_result")
    try:
        signature = inspect.signature(callback)
    except (TypeError, ValueError):  # some functions written in C do not say
        return False
    if set(signature.parameters) == {"intermediate_result"}:
        return True
    try:
        signature.bind(None)
    except TypeError:
        raise TypeError(
            f"callback takes {signature}; it must be a function of one argument, x or intermediate_result"
        ) from None
    return False
