"""The tests of a run's points: whether it stops, and what is said then."""

from __future__ import annotations

import math
import os
import time
from collections import deque
from typing import Any

import numpy as np

from gpuprop.backends import Backend
from gpuprop.backends.checks import as_real
from gpuprop.driver.arrays import read
from gpuprop.driver.bounds import largest_gradient, largest_of
from gpuprop.driver.checkpoints import Progress
from gpuprop.driver.functions.objective import Objective
from gpuprop.driver.options import DriverOptions
from gpuprop.driver.points import assign, copied, pairs
from gpuprop.driver.ranks import of_first, together
from gpuprop.driver.stopping.outcome import RECENT, Status, advice, gone_wrong, kind_of_rate, trend


class Stopping:
    """The tests of one run.

    Attributes
    ----------
    value : float
        The function at the last check.
    largest : float
        The largest component of the gradient at the last check: projected, as `largest_gradient` says.
    rows : sequence of (step, f, largest, seconds)
        The checks, all of them where a history is asked for, or else the last ones.
    before : point or None
        Where the last step began, if it ended at a check of its length.
    """

    def __init__(
        self,
        options: DriverOptions,
        objective: Objective,
        optimizer: Any,
        state: Any,
        backend: Backend,
        former: Progress | None,
    ) -> None:
        self.options, self._objective, self._optimizer, self._state = options, objective, optimizer, state
        self._comm = options.comm
        self._xp, self._goes_on = backend.xp, former is not None
        progress = former or Progress()
        if objective.fun is None:
            for name in ("ftol", "maxfev", "return_best"):
                if getattr(options, name):
                    raise ValueError(f"fun is None and {name} is given, which needs it; leave one of them")
        self.every = options.check_every or 10
        each = getattr(optimizer, "optimizers", {"": optimizer}).values()
        #: Of f where less is better; -1 where more is.
        self.sign = -1.0 if all(one.maximize for one in each) else 1.0
        self._has_one_sign = len({bool(one.maximize) for one in each}) == 1
        self.first = state.step
        self.value = self.largest = math.nan
        self.rows: deque[tuple[float, ...]] = deque(maxlen=None if options.history else RECENT)
        # The point that a run goes on from is checked again, by the same tests.
        self.rows.extend(row for row in progress.rows if row[0] < self.first)
        self.before: Any = progress.before
        self._first: tuple[float, ...] | None = self.rows[0] if self.rows else None
        self._step = math.nan
        self._start, self._seconds_before = time.perf_counter(), progress.seconds
        # What one more point takes, and then the best one again.
        self._reserve = max(objective.evaluations, 1) * (1 + bool(options.return_best))

    def before_step(self, x: Any) -> None:
        """Keep `x`, as the step that follows ends at a check of its length."""
        if self.before is None:
            self.before = copied(x)
        else:
            assign(self.before, x)

    def check(self, x: Any, gradient: Any, value: Any, nit: int) -> Status | None:
        """Read f, the gradient and the step from the device, and test them."""
        is_due = nit > 0 and nit % self.every == 0
        tests_step = self.options.xtol is not None and is_due and self.before is not None
        with np.errstate(all="ignore"):
            each = pairs(self._optimizer, self._state, x, gradient)
            slopes = [largest_gradient(*one) for one in each]
            steps, sizes = [], []
            if tests_step:
                for _, state, after, before in pairs(self._optimizer, self._state, x, self.before):
                    now, then = as_real(state.backend, after), as_real(state.backend, before)
                    with state.backend.on_device_of(after):
                        steps.append(largest_of(state.backend.xp, now - then))
                        sizes.append(largest_of(state.backend.xp, now))
            wanted = [slopes, [] if value is None else [value], steps, sizes]
            numbers = read([one for part in wanted for one in part], self._xp)
            found = iter(number + 0.0 for number in numbers)  # no -0
            largest, values, steps, sizes = ([next(found) for _ in part] for part in wanted)
        judged = [s for (one, *_), s in zip(each, largest, strict=True) if one.nonfinite == "propagate"]
        wrong = float(bool(judged)) + (not all(map(math.isfinite, judged)))
        *values, seconds, self.largest, step, size, wrong = together(
            self._comm,
            [*values, of_first(self._comm, self.total_seconds)],
            [_most(largest), _most(steps), _most(sizes), wrong],
        )
        self.value = values[0] if values else math.nan
        # Of the last check, if that was made in its time.
        previous = self.rows[-1][1] if self.rows and self.rows[-1][0] == nit - self.every else math.nan
        self.rows.append((nit, self.value, self.largest, seconds))
        self._first = self._first or self.rows[0]
        is_finite = value is None or math.isfinite(self.value)
        if wrong == 2 or (wrong and not is_finite):
            return Status.NONFINITE
        if self.options.gtol is not None and self.largest <= self.options.gtol:
            return Status.GRADIENT
        xtol, ftol = self.options.xtol, self.options.ftol
        if xtol is not None and tests_step:
            self._step = step
            if self._step <= xtol * (xtol + size):
                return Status.STEP
        scale = max(abs(self.value), abs(previous), 1)
        if ftol is not None and is_due and abs(self.value - previous) <= ftol * scale:
            return Status.CHANGE
        return None

    def limit(self, nit: int) -> Status | None:
        """What of the means given is used up; asked on the host alone, of the clock of rank 0."""
        options = self.options
        if nit >= options.maxiter:
            return Status.MAXITER
        if options.maxfev is not None and self._objective.nfev + self._reserve > options.maxfev:
            return Status.MAXFEV
        # After one step at least: a run that is started again and again gets on.
        if options.maxtime is not None and nit > self.first:
            (seconds,) = together(self._comm, [of_first(self._comm, self.seconds)])
            return Status.MAXTIME if seconds >= options.maxtime else None
        return None

    @property
    def seconds(self) -> float:
        """Since this run began, or went on."""
        return time.perf_counter() - self._start

    @property
    def total_seconds(self) -> float:
        """With those of the runs that this one goes on from."""
        return self._seconds_before + self.seconds

    def close(self, x: Any, gradient: Any, value: float | None, nit: int) -> None:
        """Let the history end with the last point, where the run has stopped between two checks."""
        if self.options.history and not (self.rows and self.rows[-1][0] == nit):
            with np.errstate(all="ignore"):
                each = pairs(self._optimizer, self._state, x, gradient)
                slopes = read([largest_gradient(*one) for one in each], self._xp)
            seconds = of_first(self._comm, self.total_seconds)
            seconds, largest = together(self._comm, [seconds], [_most(slopes) + 0.0])
            self.rows.append((nit, math.nan if value is None else value, largest, seconds))

    def history(self) -> Any:
        """The checks by columns."""
        from scipy.optimize import OptimizeResult

        columns = np.array(self.rows, np.float64).reshape(-1, 4).T
        return OptimizeResult(
            step=columns[0].astype(np.int64), fun=columns[1], gradient=columns[2], seconds=columns[3]
        )

    def message(self, status: Status, nit: int, reason: str) -> str:
        """What has ended the run after `nit` steps; `reason` is the callback's."""
        options = self.options
        f = "" if self._objective.fun is None else f"f = {self.value}, and "
        values = self._values()
        found = trend(values[-RECENT:])
        wrong = self._gone_wrong(found)
        is_named = bool(wrong) and found in ("", "still")  # then nothing else is said of the rate
        message = {
            Status.GRADIENT: f"The largest component of the gradient, {self.largest:.3g}, is within gtol.",
            Status.STEP: f"The last step, {self._step:.3g} at most in a component, is within xtol.",
            Status.CHANGE: f"The change of f in the last {self.every} steps is within ftol.",
            Status.MAXITER: self._of_maxiter(values, is_named) if status == Status.MAXITER else "",
            Status.MAXFEV: f"The limit of maxfev = {options.maxfev} evaluations of fun was reached.",
            Status.MAXTIME: f"The limit of maxtime = {options.maxtime} seconds was reached.",
            Status.NONFINITE: f"{'f or its' if f else 'The'} gradient is not finite at step {nit}: {f}the "
            f"largest component of the gradient is {self.largest}.",
            Status.INTERRUPTED: f"Interrupted from the keyboard after {nit} steps.",
            Status.CALLBACK: f"`callback` {reason} after {nit} steps.",
        }[status]
        message += wrong
        if options.resume is None:
            return message
        path = os.fsdecode(options.resume)
        went_on = f"The run went on from {path} at step {self.first}."
        return f"{message} {went_on if self._goes_on else f'The run began anew, as there was no {path}.'}"

    def _values(self) -> list[float]:
        """f, or else the largest component of the gradient, at the checks in their time: less is better."""
        by_f = self._objective.fun is not None
        return [self.sign * row[1] if by_f else row[2] for row in self.rows if row[0] % self.every == 0]

    def _gone_wrong(self, found: str) -> str:
        seen = [row for row in self.rows if not math.isnan(row[1])]
        if not seen or self._first is None or not self._has_one_sign:
            return ""
        return gone_wrong(self._first, seen[-1], found, rises=self.sign < 0)

    def _of_maxiter(self, values: list[float], is_named: bool) -> str:
        maxiter = self.options.maxiter
        if 0 < self.first >= maxiter:
            return (
                f"The limit of maxiter = {maxiter} steps was reached before this run: the state has taken "
                f"{self.first}, and they count."
            )
        gtol = "" if self.options.gtol is None else f" and gtol is {self.options.gtol:g}"
        by_f = self._objective.fun is not None
        kind = kind_of_rate(self._optimizer, self._state)
        more = "" if is_named else advice(values, kind, by_f=by_f, rises=self.sign < 0)
        return (
            f"The limit of maxiter = {maxiter} steps was reached, where the largest component of the gradient"
            f" is {self.largest:.3g}{gtol}{f'; {more}' * bool(more)}."
        )


def _most(numbers: list[float]) -> float:
    """The largest number, or NaN where there is one, which Python's max may pass over; of none, 0."""
    return math.nan if any(map(math.isnan, numbers)) else max(numbers, default=0.0)
