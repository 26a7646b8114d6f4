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

from gpuprop.arguments import is_array, number
from gpuprop.backends import Backend
from gpuprop.backends.checks import as_real
from gpuprop.driver.arrays import read
from gpuprop.driver.bounds import land, real_bounds
from gpuprop.driver.objective import Objective
from gpuprop.driver.points import assign, copied, pairs
from gpuprop.optimizers.state import GroupsState, State


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
    state: State | GroupsState | None = None

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
        if self.state is not None and not isinstance(self.state, (State, GroupsState)):
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

    def __init__(
        self, options: DriverOptions, objective: Objective, optimizer: Any, state: Any, backend: Backend
    ) -> None:
        self.options, self._objective, self._optimizer, self._state = options, objective, optimizer, state
        self._xp = backend.xp
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
                self._before = copied(x)
            else:
                assign(self._before, x)

    def check(self, x: Any, gradient: Any, value: Any, nit: int) -> Status | None:
        """Read f, the gradient and the step from the device, and test them."""
        previous = self.value
        is_whole = nit > 0 and nit % self.every == 0  # steps since the last check
        with np.errstate(all="ignore"):
            each = pairs(self._optimizer, self._state, x, gradient)
            slopes = [_largest_gradient(*one) for one in each]
            steps, sizes = [], []
            if self.options.xtol is not None and is_whole:
                for _, state, after, before in pairs(self._optimizer, self._state, x, self._before):
                    now, then = as_real(state.backend, after), as_real(state.backend, before)
                    with state.backend.on_device_of(after):
                        steps.append(_largest(state.backend.xp, now - then))
                        sizes.append(_largest(state.backend.xp, now))
            wanted = [slopes, [] if value is None else [value], steps, sizes]
            numbers = read([one for part in wanted for one in part], self._xp)
            found = iter(number + 0.0 for number in numbers)  # no -0
            largest, values, steps, sizes = ([next(found) for _ in part] for part in wanted)
        # NaN, where there is one, and not what Python's max makes of it.
        self.largest = float(np.max(largest)) if largest else 0.0
        self.value = values[0] if values else self.value
        is_finite = value is None or math.isfinite(self.value)
        for (optimizer, *_), slope in zip(each, largest, strict=True):
            if optimizer.nonfinite == "propagate" and not (is_finite and math.isfinite(slope)):
                return Status.NONFINITE
        if self.options.gtol is not None and self.largest <= self.options.gtol:
            return Status.GRADIENT
        xtol, ftol = self.options.xtol, self.options.ftol
        if xtol is not None and is_whole:
            self._step, size = float(np.max(steps)), float(np.max(sizes))
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


def _largest_gradient(optimizer: Any, state: State, x: Any, gradient: Any) -> Any:
    """The largest component of the projected gradient of what is minimised.

    With bounds l and u, a component g counts as g clipped to [x - u, x - l]: a descent that a
    bound stops is none (the projected gradient of L-BFGS-B). With bounds on the modulus it is, as well,
    what a step along the gradient and back into the bounds would come to.
    """
    backend, xp = state.backend, state.backend.xp
    with backend.on_device_of(x):
        real, slope = as_real(backend, x), as_real(backend, gradient)
        if getattr(optimizer, "maximize", False):
            slope = -slope
        decay: Any = getattr(optimizer, "weight_decay", 0.0)
        if (is_array(decay) or decay) and not optimizer.decoupled_weight_decay:
            by_element = is_array(decay) and x.dtype.kind == "c"
            decay = backend.adopt("weight_decay", decay) if is_array(decay) else decay
            slope = slope + (decay[..., None] if by_element else decay) * real
        if getattr(optimizer, "bounds", None) is not None:
            lower, upper = real_bounds(optimizer.bounds, backend)
            slope = xp.clip(slope, real - upper, real - lower)
        if getattr(optimizer, "modulus_bounds", None) is not None:
            moved = x.copy()
            as_real(backend, moved)[...] = real - slope
            slope = real - as_real(backend, land(optimizer, x, moved, backend))
        return _largest(xp, slope)


def _largest(xp: Any, array: Any) -> Any:
    """The largest absolute value of a real array, or NaN where there is one, without a temporary."""
    return xp.maximum(array.max(), -array.min())
