"""When a run of the driver stops: its options, its tests, and what each outcome is called."""

from __future__ import annotations

import math
import time
import warnings
from dataclasses import dataclass, fields
from enum import IntEnum
from numbers import Real
from operator import index
from typing import Any

import numpy as np

from gpuprop.arguments import number
from gpuprop.backends.checks import as_real
from gpuprop.driver.arrays import read
from gpuprop.driver.bounds import real_bounds
from gpuprop.driver.objective import Objective
from gpuprop.optimizers.state import State


class Status(IntEnum):
    """Why a run stopped; 1 and 99 are the numbers that SciPy gives them."""

    GRADIENT = 0
    MAXITER = 1
    MAXFEV = 2
    MAXTIME = 3
    STEP = 4
    CHANGE = 5
    NONFINITE = 6
    INTERRUPTED = 7
    CALLBACK = 99

    @property
    def success(self) -> bool:
        return self in (Status.GRADIENT, Status.STEP, Status.CHANGE)


def whole(name: str, value: Any, least: int) -> int:
    """`value` as a whole number: 1e3 is one, too."""
    try:
        number = index(value)
    except TypeError:
        number = int(float(value)) if isinstance(value, Real) and float(value).is_integer() else -1
    if number < least or isinstance(value, bool):
        raise ValueError(f"{name} is {value!r}; it must be a whole number of at least {least}")
    return number


@dataclass(frozen=True)
class DriverOptions:
    """The options of `gpuprop.minimize`, which explains them."""

    gtol: float | None = 1e-5
    xtol: float | None = None
    ftol: float | None = None
    maxiter: int = 10_000
    maxfev: int | None = None
    maxtime: float | None = None
    check_every: int | None = None
    return_best: bool = False
    disp: bool = False
    copy_x: bool = True
    state: State | None = None

    @classmethod
    def of(cls, options: dict[str, Any]) -> DriverOptions:
        """From the keywords of a SciPy method, where `tol` stands for `gtol`."""
        options = dict(options)
        tol = options.pop("tol", None)
        if tol is not None:
            options.setdefault("gtol", tol)
        names = {field.name for field in fields(cls)}
        unknown = sorted(options.keys() - names)
        if unknown:
            from scipy.optimize import OptimizeWarning

            warnings.warn(
                f"unknown options {', '.join(unknown)} are ignored; there are {', '.join(sorted(names))}",
                OptimizeWarning,
                stacklevel=4,
            )
        return cls(**{name: value for name, value in options.items() if name in names})

    def __post_init__(self) -> None:
        for name in ("gtol", "xtol", "ftol", "maxtime"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, number(name, getattr(self, name)))
        for name, least in (("maxiter", 0), ("maxfev", 1), ("check_every", 1)):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, whole(name, getattr(self, name), least))
        if self.maxiter is None:
            object.__setattr__(self, "maxiter", DriverOptions.maxiter)
        if self.state is not None and not isinstance(self.state, State):
            raise TypeError(
                f"state is a {type(self.state).__name__}; it must be one that init or a result gave"
            )


class Stopping:
    """The tests of one run.

    Attributes
    ----------
    value : float
        The function at the last check.
    largest : float
        The largest component of the gradient at the last check: projected, as `_largest_gradient` says.
    """

    def __init__(self, options: DriverOptions, objective: Objective, optimizer: Any, state: State) -> None:
        self.options, self._objective, self._optimizer, self._state = options, objective, optimizer, state
        if objective.fun is None:
            for name in ("ftol", "maxfev", "return_best"):
                if getattr(options, name):
                    raise ValueError(f"fun is None and {name} is given, which needs it; leave one of them")
        self.every = options.check_every or 10
        self.value = self.largest = math.nan
        self._step = math.nan
        self._before: Any = None
        self._start = time.perf_counter()
        # What one more point takes, and then the best one again.
        self._reserve = max(objective.evaluations, 1) * (1 + bool(options.return_best))

    def before_step(self, x: Any, nit: int) -> None:
        """Keep `x` where the step that follows ends at a check of its length."""
        if self.options.xtol is not None and (nit + 1) % self.every == 0:
            if self._before is None:
                self._before = x.copy()
            else:
                self._before[...] = x

    def check(self, x: Any, gradient: Any, value: Any, nit: int) -> Status | None:
        """Read f, the gradient and the step from the device, and test them."""
        xp, previous = self._state.backend.xp, self.value
        is_whole = nit > 0 and nit % self.every == 0  # steps since the last check
        with np.errstate(all="ignore"):
            wanted = [self._largest_gradient(x, gradient)]
            if value is not None:
                wanted.append(value)
            if self.options.xtol is not None and is_whole:
                after, before = self._real(x), self._real(self._before)
                wanted += [_largest(xp, after - before), _largest(xp, after)]
            self.largest, *rest = (value + 0.0 for value in read(wanted, xp))  # no -0
        if value is not None:
            self.value, *rest = rest
        finite = math.isfinite(self.largest) and (value is None or math.isfinite(self.value))
        if not finite and self._optimizer.nonfinite == "propagate":
            return Status.NONFINITE
        if self.options.gtol is not None and self.largest <= self.options.gtol:
            return Status.GRADIENT
        xtol, ftol = self.options.xtol, self.options.ftol
        if xtol is not None and is_whole:
            self._step, size = rest
            if self._step <= xtol * (xtol + size):
                return Status.STEP
        scale = max(abs(self.value), abs(previous), 1)
        if ftol is not None and is_whole and abs(self.value - previous) <= ftol * scale:
            return Status.CHANGE
        return None

    def limit(self, nit: int) -> Status | None:
        """What of the means given is used up; asked on the host alone."""
        options = self.options
        if nit >= options.maxiter:
            return Status.MAXITER
        if options.maxfev is not None and self._objective.nfev + self._reserve > options.maxfev:
            return Status.MAXFEV
        if options.maxtime is not None and self.seconds >= options.maxtime:
            return Status.MAXTIME
        return None

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._start

    def _real(self, array: Any) -> Any:
        return as_real(self._state.backend, array)

    def _largest_gradient(self, x: Any, gradient: Any) -> Any:
        """The largest component of the projected gradient of what is minimised.

        With bounds l and u, a component g counts as g clipped to [x - u, x - l]: a descent that a
        bound stops is none (the projected gradient of L-BFGS-B).
        """
        optimizer, xp = self._optimizer, self._state.backend.xp
        x, gradient = self._real(x), self._real(gradient)
        if getattr(optimizer, "maximize", False):
            gradient = -gradient
        decay = getattr(optimizer, "weight_decay", 0.0)
        if decay and not optimizer.decoupled_weight_decay:
            gradient = gradient + decay * x
        if getattr(optimizer, "bounds", None) is not None:
            lower, upper = real_bounds(optimizer.bounds, self._state.backend)
            gradient = xp.clip(gradient, x - upper, x - lower)
        return _largest(xp, gradient)

    def message(self, status: Status, nit: int) -> str:
        options = self.options
        rate = getattr(self._optimizer, "learning_rate", None)
        constant = "" if rate is None or callable(rate) else (
            "; the learning rate is constant, and one that falls (gpuprop.schedules) lets x settle"
        )  # fmt: skip
        f = "" if self._objective.fun is None else f"f = {self.value}, and "
        return {
            Status.GRADIENT: f"The largest component of the gradient, {self.largest:.3g}, is within gtol.",
            Status.STEP: f"The last step, {self._step:.3g} at most in a component, is within xtol.",
            Status.CHANGE: f"The change of f in the last {self.every} steps is within ftol.",
            Status.MAXITER: f"The limit of maxiter = {options.maxiter} steps was reached{constant}.",
            Status.MAXFEV: f"The limit of maxfev = {options.maxfev} evaluations of fun was reached.",
            Status.MAXTIME: f"The limit of maxtime = {options.maxtime} seconds was reached.",
            Status.NONFINITE: f"{'f or its' if f else 'The'} gradient is not finite at step {nit}: {f}the "
            f"largest component of the gradient is {self.largest}.",
            Status.INTERRUPTED: f"Interrupted from the keyboard after {nit} steps.",
            Status.CALLBACK: f"The callback raised StopIteration after {nit} steps.",
        }[status]


def _largest(xp: Any, array: Any) -> Any:
    """The largest absolute value of a real array, or NaN where there is one, without a temporary."""
    return xp.maximum(array.max(), -array.min())
