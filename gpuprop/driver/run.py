"""One run of the driver: steps, checks and callbacks, and what comes out of them."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from gpuprop.backends import Backend
from gpuprop.driver.arrays import read
from gpuprop.driver.checkpoints import Progress, are_finite, write
from gpuprop.driver.functions.callback import REASONS, Callback, in_place
from gpuprop.driver.functions.first_rate import find_first_rates
from gpuprop.driver.functions.interrupts import Interrupts
from gpuprop.driver.functions.objective import Objective
from gpuprop.driver.options import DriverOptions
from gpuprop.driver.points import assign, copied, pairs
from gpuprop.driver.ranks import together
from gpuprop.driver.stopping import Status, Stopping


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
        former: Progress | None = None,
    ) -> None:
        self._xp = backend.xp
        self._optimizer, self._x, self._state, self._objective = optimizer, x, state, objective
        self._options, self._project, self._comm = options, options.project, options.comm
        self._is_new = state.step == 0 and any(one._finds_rate for one, *_ in pairs(optimizer, state, x))
        self._stopping = Stopping(options, objective, optimizer, state, backend, former)
        former = former or Progress(told=state.step)
        objective.nfev, objective.njev = objective.before = former.nfev, former.njev
        self._callback = None if callback is None else Callback(callback, former.told)
        self._callback_every = options.check_every or 1
        self._interrupts = Interrupts(options.comm is None)
        self._best = former.best if options.return_best else None
        self._best_value = former.best_value
        self._written: int | None = None
        self._bar: Any = None

    def result(self) -> Any:
        """Descend, and tell how it went as a `scipy.optimize.OptimizeResult`."""
        from scipy.optimize import OptimizeResult

        objective, stopping = self._objective, self._stopping
        if self._options.disp:
            from tqdm import tqdm

            total = self._options.maxiter
            self._bar = tqdm(total=total, initial=stopping.first, unit="step", file=sys.stderr)
        try:
            with self._interrupts:
                status = self._descend()
        except self._interrupts.caught:
            status = Status.INTERRUPTED
        finally:
            self._interrupts.restore()
            if self._bar is not None:
                self._bar.close()
        nit = self._state.step
        message = stopping.message(status, nit, "" if self._callback is None else self._callback.reason)
        if status != Status.NONFINITE:
            with suppress(*self._interrupts.caught):
                self._write(nit)
        value, gradient = self._settle()
        if self._options.disp:
            print(f"{message} f = {value}, {stopping.seconds:.3g} s", file=sys.stderr)
        history = {"history": stopping.history()} if self._options.history else {}
        return OptimizeResult(
            x=self._x, fun=value, jac=gradient, nit=nit, nfev=objective.nfev, njev=objective.njev,
            status=int(status), success=status.success, message=message, state=self._state, **history,
        )  # fmt: skip

    def _descend(self) -> Status:
        stopping, objective, callback, x = self._stopping, self._objective, self._callback, self._x
        writes_every = 0 if self._options.checkpoint is None else self._options.checkpoint_every
        while True:
            nit = self._state.step
            is_due = nit % stopping.every == 0
            tells = callback is not None and nit > 0 and nit % self._callback_every == 0
            if is_due or (tells and callback.takes_a_result) or objective.evaluations:  # type: ignore[union-attr]
                objective.value(x)  # before the limits, as it counts
            limit, status = stopping.limit(nit), None
            if limit is not None:
                objective.value(x)
            # After f, as a program may compute in `fun` what its `jac` needs.
            gradient = objective.gradient(x)
            if is_due or limit is not None:
                status = stopping.check(x, gradient, objective.value(x), nit)
                self._report(nit, is_due)
            if tells and self._is_stopped_by(callback, nit) and status is None:
                return Status.CALLBACK
            if status is None and (is_due or limit is not None):
                status = stopping.limit(nit) if limit is None else limit  # functions take time, too
            if status is not None:
                return status
            if writes_every and nit % writes_every == 0 and nit > stopping.first:
                self._write(nit)
            if self._is_new:
                self._is_new = False
                find_first_rates(self._optimizer, self._state, x, objective, self._options, stopping)
                limit = stopping.limit(nit)
                if limit is not None:
                    return limit
            gradient = None  # whose memory the next one may take
            self._go_on(nit, self._next(nit, writes_every))

    def _next(self, nit: int, writes_every: int) -> int:
        """The step after which there is more to do than the next one."""
        options, every = self._options, [self._stopping.every]
        if options.maxtime is not None or options.maxfev is not None:
            return nit + 1
        if self._callback is not None:
            every.append(self._callback_every)
        if writes_every:
            every.append(writes_every)
        return min([options.maxiter, *(nit - nit % k + k for k in every)])

    def _go_on(self, nit: int, until: int) -> None:
        """Steps, with nothing between them."""
        objective, hold, step, x = self._objective, self._interrupts.hold, self._step, self._x
        every = 0 if self._options.xtol is None else self._stopping.every
        for number in range(nit + 1, until + 1):
            hold(step, objective.gradient(x), bool(every) and number % every == 0)

    def _step(self, gradient: Any, is_measured: bool) -> None:
        if is_measured:
            self._stopping.before_step(self._x)
        self._objective.forget()  # first, as the step may be interrupted when x has moved
        self._optimizer.step(self._x, gradient, self._state)
        if self._project is not None:
            self._project_step()

    def _project_step(self) -> None:
        # What the projection takes from a step is no part of it.
        kept = [one for one in pairs(self._optimizer, self._state, self._x) if one[0]._displacement]
        for _, state, x in kept:
            with state.backend.on_device_of(x):
                state.displacement[...] += x
        in_place(self._project, self._x)  # type: ignore[arg-type]
        for _, state, x in kept:
            with state.backend.on_device_of(x):
                state.displacement[...] -= x

    def _report(self, nit: int, is_due: bool) -> None:
        value, sign = self._stopping.value, self._stopping.sign
        is_better = self._best is None or sign * value < sign * self._best_value
        # The last point, if it comes between two checks, is compared when the run has ended.
        if self._options.return_best and is_due and math.isfinite(value) and is_better:
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

    def _is_stopped_by(self, callback: Any, nit: int) -> bool:
        if nit <= callback.told:  # by the run that this one goes on from
            return False
        gradient = self._objective.keep(self._x)
        more: dict[str, Any] = {}
        if callback.takes_a_result:
            more = {"fun": self._value(), "jac": copied(gradient), "state": self._state}
        callback.stops(nit, copied(self._x), **more)
        if self._comm is not None:  # one that stops stops all
            callback.reason = REASONS[int(self._comm.maximum([REASONS.index(callback.reason)])[0])]
        return bool(callback.reason)

    def _write(self, nit: int) -> None:
        """The checkpoint of this point, if there is to be one and its numbers are finite."""
        path, stopping, objective = self._options.checkpoint, self._stopping, self._objective
        if path is None or nit == self._written or not self._is_finite():
            return
        tests_step = self._options.xtol is not None and nit % stopping.every == 0
        progress = Progress(
            *objective.before,
            told=nit if self._callback is None else self._callback.told,
            seconds=stopping.total_seconds,
            rows=list(stopping.rows),
            before=stopping.before if tests_step else None,
            best=self._best,
            best_value=self._best_value,
        )
        if write(path, self._x, self._state, progress):
            self._written = nit

    def _is_finite(self) -> bool:
        """Whether x is on all ranks, and the gradient where it is known and must be."""
        gradient = self._objective.known
        arrays = [x for *_, x in pairs(self._optimizer, self._state, self._x)]
        if gradient is not None:
            each = pairs(self._optimizer, self._state, gradient)
            arrays += [slope for optimizer, _, slope in each if optimizer.nonfinite == "propagate"]
        return not together(self._comm, [], [float(not are_finite(*arrays))])[0]

    def _value(self) -> float | None:
        value = self._objective.value(self._x)
        return None if value is None else together(self._comm, read([value], self._xp))[0]

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
            self._stopping.close(self._x, gradient, value, self._state.step)
        sign = self._stopping.sign
        if self._best is not None and not sign * (value or 0.0) <= sign * self._best_value:
            self._x, value, gradient = self._best, self._best_value, None
            objective.forget()
            with suppress(*self._interrupts.caught):
                objective.value(self._x)
                gradient = objective.keep(self._x)
        return value, gradient
