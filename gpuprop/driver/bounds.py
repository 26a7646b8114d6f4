"""Bounds in any of SciPy's forms, as an optimizer takes them, and what is left of a gradient within them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gpuprop.arguments import is_array
from gpuprop.backends import Backend
from gpuprop.backends.checks import as_real
from gpuprop.driver.arrays import adopted, numbers
from gpuprop.driver.ranks import together
from gpuprop.optimizers import Optimizer, State
from gpuprop.optimizers.options import Options


def with_bounds(optimizer: Optimizer, bounds: Any, x: Any, backend: Backend, comm: Any) -> Optimizer:
    """`optimizer` with these bounds in place of its own."""
    if bounds is None:
        return optimizer
    if not isinstance(optimizer, Options):
        raise ValueError(f"bounds are given and {optimizer!r} has none; put them into its rule")
    lower, upper = (_bound_like(bound, x, backend, comm) for bound in _two_sides(bounds, x.size))
    real_lower, real_upper = real_bounds((lower, upper), backend)
    if not bool(np.all(real_lower <= real_upper)):
        raise ValueError("a lower bound is above its upper one, or is NaN; each pair must be (lower, upper)")
    return optimizer._replaced(bounds=(lower, upper))


def _two_sides(bounds: Any, n: int) -> tuple[Any, Any]:
    """The lower and the upper bounds of any of SciPy's forms, or of one pair of numbers for all."""
    if hasattr(bounds, "lb") and hasattr(bounds, "ub"):
        return bounds.lb, bounds.ub
    if getattr(bounds, "shape", None) == (n, 2):
        return bounds[:, 0], bounds[:, 1]
    pairs = list(bounds) if np.iterable(bounds) else []
    if len(pairs) == 2 and not any(hasattr(side, "__len__") for side in pairs):
        pairs = [pairs]
    elif (
        len(pairs) != n
        or any(not hasattr(pair, "__len__") or len(pair) != 2 for pair in pairs)
        or _may_be_two_sides(bounds)
    ):
        raise ValueError(
            f"bounds is {bounds!r:.200}; it must be scipy.optimize.Bounds(lower, upper), or a pair (lower, "
            f"upper) for each of the {n} parameters, as [(lower, upper), ...]"
        )
    lower = [-math.inf if side is None else side for side, _ in pairs]
    upper = [math.inf if side is None else side for _, side in pairs]
    return lower, upper


def _may_be_two_sides(bounds: Any) -> bool:
    """Whether two pairs look like all lower bounds and all upper ones: a pair of arrays, or a tuple of lists.

    `scipy.optimize.least_squares` and the optimizers here take those, and SciPy's `minimize` does not.
    """
    if len(bounds) != 2 or hasattr(bounds, "shape"):
        return False
    are_lists = isinstance(bounds, tuple) and all(isinstance(side, list) for side in bounds)
    return are_lists or any(hasattr(side, "shape") for side in bounds)


def _bound_like(bound: Any, x: Any, backend: Backend, comm: Any) -> Any:
    """One number where it is the same for all on all ranks, else an array like `x`."""
    xp = backend.xp
    # On a GPU, too, bounds may be on the host.
    given = numbers(backend, "a bound", bound) if xp is np else xp.asarray(adopted(backend, "a bound", bound))
    if given.dtype.kind == "c" and x.dtype.kind != "c":
        raise ValueError(f"a bound has dtype {given.dtype} and x0 has {x.dtype}; it must be real, too")
    try:
        is_flat = given.ndim == 1 and given.size == x.size
        full = given.reshape(x.shape) if is_flat else xp.broadcast_to(given, x.shape)
    except ValueError:
        raise ValueError(
            f"a bound has shape {given.shape} and x0 has {x.shape}; it must be a number or like x0"
        ) from None
    first = math.nan if given.dtype.kind == "c" or not given.size else float(given.ravel()[0])
    is_one = bool((given == first).all())  # of no element, too
    of_size = [first, -first] if given.size else [-math.inf, -math.inf]
    *ends, differs = together(comm, [], [*of_size, float(not is_one)])
    if not differs and ends[0] == -ends[1]:
        value = ends[0]
        in_x = float(x.real.dtype.type(value))
        return in_x if math.isinf(in_x) else value
    like = xp.empty(x.shape, x.dtype)
    # A real bound of complex parameters is that of both parts.
    real = x.dtype.kind == "c" and full.dtype.kind != "c"
    as_real(backend, like)[...] = full[..., None] if real else as_real(backend, full.astype(x.dtype))
    return like


def project(optimizer: Any, x: Any, backend: Backend) -> Any:
    """Bring `x` into the bounds of an optimizer, in place."""
    xp = backend.xp
    if getattr(optimizer, "bounds", None) is not None:
        real = as_real(backend, x)
        xp.clip(real, *real_bounds(optimizer.bounds, backend), out=real)
    limits = getattr(optimizer, "modulus_bounds", None)
    if limits is not None:
        lower, upper = (b if isinstance(b, float) else adopted(backend, "a bound", b) for b in limits)
        modulus = abs(x)
        limited = xp.clip(modulus, lower, upper)
        with np.errstate(invalid="ignore", divide="ignore"):
            scaled = xp.where(modulus == 0, limited.astype(x.dtype), x * (limited / modulus))
        x[...] = xp.where(modulus == limited, x, scaled)
    return x


def is_within(optimizer: Any, x: Any, backend: Backend) -> bool:
    """Whether `x` is as a step leaves it: within bounds, and with a modulus that is so to within rounding."""
    tests = []
    if getattr(optimizer, "bounds", None) is not None:
        real, (lower, upper) = as_real(backend, x), real_bounds(optimizer.bounds, backend)
        tests += [real >= lower, real <= upper]
    limits = getattr(optimizer, "modulus_bounds", None)
    if limits is not None:
        lower, upper = (b if isinstance(b, float) else adopted(backend, "a bound", b) for b in limits)
        modulus, rounding = abs(x), 4 * float(backend.xp.finfo(x.dtype).eps)
        tests += [modulus >= lower * (1 - rounding), modulus <= upper * (1 + rounding)]
    return all(bool(test.all()) for test in tests)


def land(optimizer: Any, x: Any, moved: Any, backend: Backend) -> Any:
    """Bring `moved`, which has come from `x`, within bounds of the modulus, in place.

    A step inwards ends at the lower bound. Projected alone, one that is longer than the modulus would come
    out beyond zero, and a minimum at that bound would look like none.
    """
    xp = backend.xp
    lower = optimizer.modulus_bounds[0]
    lower = lower if isinstance(lower, float) else adopted(backend, "a bound", lower)
    modulus = abs(x)
    unit = x / xp.where(modulus == 0, xp.ones_like(modulus), modulus)
    along = unit.real * moved.real + unit.imag * moved.imag if x.dtype.kind == "c" else unit * moved
    short = xp.maximum(lower - along, xp.zeros_like(along)) * (lower > 0)  # through 0 where 0 is allowed
    moved[...] = moved + unit * short.astype(modulus.dtype, copy=False)
    return project(optimizer, moved, backend)


def real_bounds(bounds: tuple[Any, Any], backend: Any) -> tuple[Any, Any]:
    """Bounds that broadcast against the real view of the parameters."""
    lower, upper = (
        b if isinstance(b, float) else as_real(backend, adopted(backend, "a bound", b)) for b in bounds
    )
    return lower, upper


def largest_gradient(optimizer: Any, state: State, x: Any, gradient: Any) -> Any:
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
        return largest_of(xp, slope)


def largest_of(xp: Any, array: Any) -> Any:
    """The largest absolute value of a real array, or NaN where there is one, without a copy; of none, 0."""
    return xp.maximum(array.max(), -array.min()) if array.size else 0.0
