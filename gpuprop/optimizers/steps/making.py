"""What a user's lines are given, and what they make by a pass of its own: the gradient, or a sum."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np

from gpuprop import arguments as check
from gpuprop.backends import Backend
from gpuprop.backends.checks import as_real, check_array, checked
from gpuprop.optimizers.state import State
from gpuprop.rules import Rule
from gpuprop.rules.fusion import Lines, maker


def backend_of_state(state: Any) -> Backend:
    if not isinstance(state, State):
        raise TypeError(f"state is a {type(state).__name__}; it must be one that init gave")
    return state.backend


def taken(
    backend: Backend, lines: Lines, x: Any, data: Any, scalars: Mapping[str, Any]
) -> tuple[Any, dict[str, Any], Lines, dict[str, float]]:
    """x and the arrays of data as the backend's own, the lines for such, and the scalars in order."""
    x = backend.adopt("x", x, written=True)
    check_array(backend, "x", x, written=True)
    if "at" in scalars:  # which step takes itself
        raise TypeError("run was given at, and takes the whole of x; call step with at, once for each step")
    if isinstance(data, (tuple, list)) and not data:
        data = {}
    if not isinstance(data, Mapping):
        raise TypeError(
            f"data is a {type(data).__module__}.{type(data).__name__}; it must be a dictionary of the arrays "
            f"{_listed(lines.reads) or '(there are none)'}, or () where there are none"
        )
    for what, named, names in (("data", data, lines.reads), ("the scalars", scalars, lines.scalars)):
        if named.keys() != {*names}:
            raise TypeError(
                f"{what} are {_listed(named) or 'none'}, and must be {_listed(names) or 'none'}, "
                "as fuse was told"
            )
    given = {name: data[name] for name in lines.reads}
    for name, array in given.items():  # x[at] of one element is a number of NumPy's
        given[name] = backend.adopt(name, np.asarray(array) if isinstance(array, np.generic) else array)
        check_array(backend, name, given[name], written=False)
    if x.dtype.kind == "c":
        lines = lines._replace(reals=tuple(name for name, a in given.items() if a.dtype.kind != "c"))
    return x, given, lines, {name: check.real(name, scalars[name]) for name in lines.scalars}


def _listed(names: Iterable[Any]) -> str:
    return ", ".join(map(repr, names))


def check_data(backend: Backend, x: Any, given: Mapping[str, Any], lines: Lines) -> None:
    """Refuse data that do not fit x, before anything else is made of them: a kernel of x would say so."""
    names = (*given, "x")
    rule: Any = SimpleNamespace(reads=names[:-1], writes=("x",), arrays=names, reals=lines.reals, fresh=())
    checked(backend, rule, [*given.values(), x])


def made(
    backend: Backend, rule: Rule, x: Any, given: Mapping[str, Any], numbers: Mapping[str, float], out: Any
) -> Any:
    """What a rule of `maker` makes of x and the arrays that are given, in `out`."""
    arrays = [*(x if name == "x" else given[name] for name in rule.reads), out]
    backend.update(rule, arrays, [numbers[name] for name in rule.scalars], np.zeros(2, np.int64))
    return out


def value_of(
    backend: Backend, lines: Lines, x: Any, given: Mapping[str, Any], numbers: Mapping[str, float]
) -> Any:
    """The sum, a float64, on a GPU in an array of no dimension; None where nothing is to be summed."""
    if not lines.value:
        return None
    with backend.on_device_of(x), np.errstate(all="ignore"):  # a sum that is not finite is one
        if x.dtype.itemsize == 2:  # in which no value is computed
            x, given = x.astype(np.float32), {name: a.astype(np.float32) for name, a in given.items()}
        values = made(backend, maker(lines, "value"), x, given, numbers, backend.empty_like(x))
        total = as_real(backend, values).sum(dtype=np.float64)
    return as_total(backend, total)


def as_total(backend: Backend, total: Any) -> Any:
    """As a float, but for one on a GPU, for which nobody waits."""
    return total if backend.name == "gpu" else float(total)
