"""Runs in files: what a run knows beside x and its state, and how it goes on from there.

A file is that of `State.save`, with ``x`` among its extras (of a dictionary ``x.object``, or ``object`` in a
file of the user's own), and more that begins with ``minimize``. Counts and checks are those before the
point that is in it: a run that goes on evaluates and tests that point as the first one did.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gpuprop.backends import DeviceUnavailableError, backend_of
from gpuprop.checkpoint import load_state
from gpuprop.checkpoint.description import is_like
from gpuprop.checkpoint.parts.cutting import parameter_rows
from gpuprop.checkpoint.parts.index import Index
from gpuprop.checkpoint.parts.together import by_all, by_first
from gpuprop.driver.points import assign, copied, pairs
from gpuprop.optimizers import GroupsState, State

_NUMBERS = ("nfev", "njev", "told", "seconds", "best_value")


@dataclass
class Progress:
    """What a run knows beside x and its state.

    Attributes
    ----------
    nfev, njev : int
        Evaluations before this point.
    told : int
        The last step that the callback was told of.
    seconds : float
    rows : list of (step, f, largest component of the gradient, seconds)
        The checks so far, or the last ones of them.
    before : point or None
        Where the last step began, where its length is to be tested.
    best : point or None
        The parameters of the least f among the checks.
    best_value : float
    """

    nfev: int = 0
    njev: int = 0
    told: int = 0
    seconds: float = 0.0
    rows: list[tuple[float, ...]] = field(default_factory=list)
    before: Any = None
    best: Any = None
    best_value: float = math.nan


@dataclass
class Former:
    """A run that is in a file."""

    path: str
    state: State | GroupsState

    def goes_on(self, optimizer: Any, x: Any) -> Progress:
        """Bring `x` to where the run was, and tell the rest.

        Raises
        ------
        ValueError
            It is of arrays of other kinds, or of another optimizer.
        """
        points = {name: self._point(name, x) for name in ("x", "minimize.before", "minimize.best")}
        by_all(self.state.comm, lambda: self._check(optimizer, x, points["x"]))
        assign(x, points["x"])
        if "minimize.told" not in self.state.extras:  # a file of the user's own: its callback has seen this x
            return Progress(told=self.state.step)
        numbers = {name: _host(self.state.extras[f"minimize.{name}"]).item() for name in _NUMBERS}
        counts = {name: int(numbers[name]) for name in ("nfev", "njev", "told")}
        rows = map(tuple, _host(self.state.extras["minimize.checks"]).tolist())
        before, best = (None if points[name] is None else copied(x) for name in list(points)[1:])
        for point, name in ((before, "minimize.before"), (best, "minimize.best")):
            if point is not None:
                assign(point, points[name])
        return Progress(**{**numbers, **counts}, rows=list(rows), before=before, best=best)

    def _point(self, name: str, like: Any) -> Any:
        """A point of the file; of a dictionary, None where one of its arrays is missing."""
        extras = self.state.extras
        if type(like) is not dict:
            return extras.get(name)
        point = {one: extras.get(f"{name}.{one}") for one in like}
        if name == "x":  # in a file of the user's own each has the name of its group
            point = {one: extras.get(one) if array is None else array for one, array in point.items()}
        return None if any(array is None for array in point.values()) else point

    def _check(self, optimizer: Any, x: Any, point: Any) -> None:
        if point is None:
            both = "**x" if type(x) is dict else "x=x"
            raise ValueError(
                f"{self.path} has a state and not the x of that moment; save both, state.save(path, {both}), "
                'or pass that x as x0, with options={"state": gpuprop.load_state(path)}'
            )
        theirs, ours = _kinds(point), _kinds(x)
        if theirs != ours:
            raise ValueError(
                f"{self.path} has x of {theirs} and x0 is of {ours}; they must be alike: pass an x0 like "
                "that of the run which wrote the file, or name another file in resume"
            )
        former = self.state.optimizer
        parts = [
            (one, state._owner, state.optimizer or state._outline)
            for one, state, _ in pairs(optimizer, self.state, x)
        ]
        is_same = all(
            owner in (None, one.rule.name) and (known is None or is_like(one, known))
            for one, owner, known in parts
        )
        if isinstance(self.state, GroupsState):
            clip_norm = self.state._clip_norm if former is None else former.clip_norm
            is_same = is_same and optimizer.clip_norm == clip_norm
        if not is_same:
            known = former or ", ".join(str(each) for *_, each in parts)
            raise ValueError(
                f"method (with its bounds) is {optimizer!r} and that of {self.path} is {known}; they must be "
                "the same: leave out method and bounds to go on with the file's, or name another file in "
                "resume"
            )


def read(path: Any, x0: Any, comm: Any) -> Former | None:
    """The run in a file, its state beside the arrays of `x0`; None where there is no file.

    Of several ranks, each has the rows that its `x0` has, after those of the ranks before it.
    """
    path = os.fsdecode(path)
    is_there = os.path.exists(path)
    if not (is_there if comm is None else comm.broadcast(is_there)):
        return None
    given = {
        name: backend_of(array).adopt("x0", array) if hasattr(array, "__dlpack__") else array
        for name, array in (x0 if isinstance(x0, Mapping) else {"": x0}).items()
    }
    beside = [array for array in given.values() if hasattr(array, "__dlpack__")] or [np.empty(0)]
    backends = [backend_of(array) for array in beside]
    with backends[0].on_device_of(beside[0]):
        rows = {"comm": comm, "part": _part(path, given, comm)}
        try:
            state = load_state(path, **rows)
        except DeviceUnavailableError:
            state = load_state(path, backend=backends[0], **rows)
        parts = state if isinstance(state, GroupsState) else {"": state}
        used = {name: backend_of(a) if hasattr(a, "__dlpack__") else backends[0] for name, a in given.items()}
        is_moved = any(part.backend.xp is not used[name].xp for name, part in parts.items())
        if is_moved if comm is None else any(comm.exchange(is_moved)):  # from another device
            state = load_state(path, backend=backends[0], **rows)
            parts = state if isinstance(state, GroupsState) else {"": state}
    for name, part in parts.items():
        if (backend := part.backend).device_of(given[name]) not in (None, backends[0].device_of(beside[0])):
            with backend.on_device_of(given[name]):
                for key, array in part.arrays.items():
                    there = backend.xp.empty_like(array)
                    there[...] = array
                    setattr(part, key, there)
                if part._tuning is not None:
                    part._tuning = backend.asarray(backend.to_host(part._tuning))
    return Former(path, state)


def _part(path: str, given: Mapping[str, Any], comm: Any) -> Any:
    """Which rows of the whole the arrays of this rank are, where the file tells how many there are.

    Raises
    ------
    ValueError
        The file has arrays of other names, or of other lengths.
    """
    description = by_first(comm, lambda: Index.read(path)).description
    names, rows = description.get("names", [""]), {}
    if {*names} != given.keys():
        kinds = ("one array" if "" in n else f"a dictionary of {', '.join(n)}" for n in (names, given))
        raise ValueError(
            "{} is of {} and x0 is {}; pass an x0 like that of the run which wrote the file, or name another "
            "file in resume".format(path, *kinds)
        )
    for name, parts in parameter_rows(description).items() if comm is not None else ():
        lengths = comm.exchange([*np.shape(given[name]), 1][0])
        if (here := sum(lengths)) != (there := sum(parts)):
            of = f"x0[{name!r}]" if name else "x0"
            raise ValueError(
                f"{of} has {here} rows on all ranks ({', '.join(map(str, lengths)):.200}) and {path} has "
                f"{there}; give each rank its part alone, as numpy.array_split cuts: "
                f"whole[comm.cut({there})], or name another file in resume"
            )
        begin = sum(lengths[: comm.rank])
        rows[name] = slice(begin, begin + lengths[comm.rank])
    return rows if "names" in description else rows.get("")


def write(path: Any, x: Any, state: State | GroupsState, progress: Progress) -> bool:
    """Replace a file by one of this moment; where that fails, the old one stays, and the run goes on."""
    arrays = {f"minimize.{name}": np.array(getattr(progress, name), np.float64) for name in _NUMBERS}
    arrays["minimize.checks"] = np.array(progress.rows, np.float64).reshape(-1, 4)
    for name, point in (("x", x), ("minimize.before", progress.before), ("minimize.best", progress.best)):
        if type(point) is dict:
            arrays |= {f"{name}.{one}": array for one, array in point.items()}
        elif point is not None:
            arrays[name] = point
    try:
        state.save(path, **arrays)
        return True
    except OSError as error:
        warnings.warn(
            f"the checkpoint at step {state.step} was not written ({error}); the last one stays, and the run "
            "goes on", RuntimeWarning, stacklevel=2,
        )  # fmt: skip
        return False


def are_finite(*arrays: Any) -> bool:
    """Whether all numbers are; of a GPU it waits, as a copy to the host does anyway."""
    found = []
    for array in arrays:
        backend = backend_of(array)
        with backend.on_device_of(array):
            found.append(bool(backend.xp.isfinite(array).all()))
    return all(found)


def _kinds(point: Any) -> str:
    arrays = point if type(point) is dict else {"": point}
    named = (
        f"{name}: {a.dtype} of shape {a.shape}" if name else f"{a.dtype} of shape {a.shape}"
        for name, a in arrays.items()
    )
    return ", ".join(named)


def _host(array: Any) -> np.ndarray:
    return backend_of(array).to_host(array) if hasattr(array, "__dlpack__") else np.asarray(array)
