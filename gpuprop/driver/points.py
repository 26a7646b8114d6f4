"""Points of a run: one array of parameters, or a dictionary of such; and where a run starts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from gpuprop.arguments import naming
from gpuprop.backends import Backend, backend_of
from gpuprop.backends.checks import checked
from gpuprop.driver.arrays import own_copy
from gpuprop.driver.bounds import is_within, project, with_bounds
from gpuprop.optimizers import Groups, GroupsState, Optimizer, State


def each(function: Callable[..., Any], point: Any, *others: Any) -> Any:
    """`function` of the array of a point, or of each; of an array that is None, None."""
    if type(point) is not dict:
        return function(point, *others)
    return {
        name: None if array is None else function(array, *(other[name] for other in others))
        for name, array in point.items()
    }


def copied(point: Any) -> Any:
    return each(_copy, point)


def assign(point: Any, other: Any) -> None:
    """Write the numbers of another point into this one's arrays."""
    each(_assign, point, other)


def pairs(optimizer: Any, state: Any, *points: Any) -> list[tuple[Any, ...]]:
    """Optimizer, state, and array at each point, for each array that has one at all of them."""
    if type(points[0]) is not dict:
        return [(optimizer, state, *points)]
    names = [name for name in points[0] if all(point.get(name) is not None for point in points)]
    return [(optimizer.optimizers[n], state[n], *(point[n] for point in points)) for n in names]


def start(x0: Any, method: Any, bounds: Any, state: Any, comm: Any) -> tuple[Backend, Any, Any, Any]:
    """The backend that numbers are read from, the own arrays to step on, and optimizer and state for them."""
    if state is not None and state.comm is not comm:
        theirs, ours = ("one process" if c is None else f"{c.size} ranks" for c in (state.comm, comm))
        raise ValueError(
            f"state is of {theirs} and comm of {ours}; pass the comm that init or load_state was given"
        )
    if not isinstance(method, Groups):
        if isinstance(state, GroupsState):
            raise TypeError("state is a GroupsState and x0 one array; it must be a State")
        return _start_of_one(x0, method, bounds, state, comm)
    if not (bounds is None or isinstance(bounds, Mapping)):
        raise TypeError(f"bounds is a {type(bounds).__name__} and x0 a dictionary; bounds must be one, too")
    limits = method._named("bounds", bounds or {})
    given = method._named("x0", x0)
    if missing := [name for name in method.optimizers if name not in given]:
        raise ValueError(f"x0 has no {missing[0]!r}; there must be an array for each optimizer")
    if state is not None and not isinstance(state, GroupsState):
        raise TypeError(f"state is a {type(state).__name__} and x0 a dictionary; it must be a GroupsState")
    if state is not None and state.keys() != given.keys():
        raise ValueError(
            f"state is of {', '.join(state)} and x0 has {', '.join(given)}; they must be the same"
        )
    backends, points, optimizers = [], {}, {}
    for name, array in given.items():
        of_one = None if state is None else state[name]
        with naming(name):
            backend, points[name], optimizers[name], _ = _start_of_one(
                array, method.optimizers[name], limits.get(name), of_one, comm, makes_state=False
            )
        backends.append(backend)
    if any(limit is not None for limit in limits.values()):
        method = Groups(optimizers, clip_norm=method.clip_norm)
    on_gpu = [backend for backend in backends if backend.name == "gpu"]
    return (on_gpu or backends)[0], points, method, method.init(points, comm=comm) if state is None else state


def check_state(optimizer: Any, x: Any, state: Any) -> None:
    """Refuse a state of another optimizer or of another x: as a step would, and before there is one."""
    if isinstance(optimizer, Groups):
        for name, array in x.items():
            with naming(name):
                check_state(optimizer._stepping[name], array, state[name])
        return
    arrays = optimizer._arrays_of(optimizer.rule, (x,), x, state)
    if state.optimizer is not optimizer:
        optimizer._take_over(optimizer.rule, arrays, state)
    with state.backend.on_device_of(x):
        checked(state.backend, optimizer.rule, arrays)


def _start_of_one(
    x0: Any, method: Optimizer, bounds: Any, state: State | None, comm: Any, makes_state: bool = True
) -> tuple[Backend, Any, Any, Any]:
    backend, x = own_copy("x0", x0, state.backend if state else None, may_be_empty=comm is not None)
    if state:
        _check_device(state, x)
    # A bound beyond the range of x's dtype is none.
    with backend.on_device_of(x), np.errstate(over="ignore"):
        optimizer = with_bounds(method, bounds, x, backend, comm)
        # What a step has left within bounds keeps its bits where a run goes on.
        if not (state and state.step and is_within(optimizer, x, backend)):
            project(optimizer, x, backend)
        if state is None and makes_state:
            state = optimizer.init(x, backend=backend, comm=comm)
        return backend, x, optimizer, state


def _check_device(state: State, x: Any) -> None:
    for name, array in state.arrays.items():
        ours, theirs = state.backend.device_of(x), state.backend.device_of(array)
        if ours != theirs:
            raise ValueError(
                f"x0 is on device {ours} and {name} of the state on device {theirs}; they must be on one: "
                f"make x0 under `with state.{name}.device:`"
            )


def _copy(array: Any) -> Any:
    with backend_of(array).on_device_of(array):  # where CuPy's copies go is the current one
        return array.copy()


def _assign(array: Any, other: Any) -> None:
    with backend_of(array).on_device_of(array):
        array[...] = other
