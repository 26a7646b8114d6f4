"""A state out of its file, or out of those of several ranks."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from gpuprop import arguments as check
from gpuprop.backends import Backend, DeviceUnavailableError, select_backend
from gpuprop.checkpoint.contents import check_one_state, parts_in, prefix_of, understanding
from gpuprop.checkpoint.description import rebuild
from gpuprop.checkpoint.layout import restored
from gpuprop.checkpoint.parts.cutting import check_all_rows, checked_part, rows_to_read
from gpuprop.checkpoint.parts.index import Index
from gpuprop.checkpoint.parts.reading import PartLost, Reader
from gpuprop.checkpoint.parts.together import by_all, by_first
from gpuprop.optimizers import Groups, GroupsState, Optimizer, State


def load_state(
    path: str | bytes | os.PathLike[str],
    *,
    backend: Backend | None = None,
    comm: Any = None,
    part: slice | Mapping[str, slice] | None = None,
) -> Any:
    """Read a state that `State.save` or `GroupsState.save` wrote.

    Parameters
    ----------
    path : str, bytes or path-like
    backend : Backend, optional
        Where steps will run, from `select_backend`; by default where they ran before.
    comm : Communicator, optional
        From `gpuprop.distributed.communicator`: each of its ranks calls this, and has a part of each array
        of parameters, however many ranks, or one process, had saved it.
    part : slice, or dict of str to slice, optional
        Which rows of the whole, along the first axis of its arrays; of groups, by their names. With `comm`,
        those of all ranks together are the whole, in their order. By default all, or with `comm` what
        `numpy.array_split` would give to each rank.

    Returns
    -------
    State or GroupsState
        Its arrays, and those in ``state.extras`` that were of the same kind, are the backend's, on the
        current device, and in the order of axes that they had; other extras are NumPy arrays. With
        them, ``state.optimizer.step(x, grad, state)`` goes on bit for bit.

    Raises
    ------
    OSError
        There is no such file, or it cannot be read.
    ValueError
        The file is damaged, truncated, of another program or of a newer version, or no regular file; one of
        several parts is missing or of another save; `part` is of no such rows. The message says which. What
        one rank raises, all raise.
    DeviceUnavailableError
        The state is from a GPU and there is none; the message says what mends it.
    ImportError
        The state has arrays of bfloat16, and ml_dtypes is not installed.

    Notes
    -----
    Arrays go straight to their place in memory; on the way to a GPU, one at a time is on the host.
    Every bit of the file is checked; of several ranks, each part by one that reads of it.

    Cut are the arrays of the state and of its optimizer, and the extras that have as many rows as these, or
    that were not the same on all ranks when they were saved; every rank has the others as they are.
    """
    if backend is not None and not isinstance(backend, Backend):
        raise TypeError(f"backend is {backend!r}; it must be one that select_backend gave")
    path, comm, former = os.fsdecode(path), check.ranks(comm), None
    while True:
        index = by_first(comm, lambda: Index.read(path))
        try:
            return _loaded_by_all(index, backend, comm, part)
        except PartLost as error:  # also where another save has put an index of new parts in its place
            if former == index:
                raise ValueError(str(error)) from None
            former = index


def _loaded_by_all(index: Index, backend: Backend | None, comm: Any, part: Any) -> Any:
    given = by_all(comm, lambda: checked_part(index.path, index.description, part))
    if comm is not None:
        check_all_rows(index.path, index.description, given)
    found: list[Any] = []
    by_all(comm, lambda: found.append(_loaded(index, given, backend, comm)))
    return found[0]


def _loaded(index: Index, given: list[dict[str, slice]], backend: Backend | None, comm: Any) -> Any:
    path, metadata, description = index.path, index.metadata, index.description
    parts = parts_in(description)
    chosen = {prefix: backend or _former_backend(path, part["backend"]) for prefix, part in parts.items()}
    if comm is not None:
        chosen = {prefix: comm.over(each) for prefix, each in chosen.items()}
    first, rank = next(iter(chosen.values())), 0 if comm is None else comm.rank
    reader, arrays = Reader(index, rank, rows_to_read(description, comm, given)), {}
    for name, layout in description["arrays"].items():
        if layout["dtype"] == "bfloat16":
            _teach_numpy_bfloat16(path)
        if name.startswith("extras."):
            owner = backend or _backend_named(layout.get("backend"), chosen.values()) or first
        else:
            owner = chosen[prefix_of(name, description)]
        arrays[name] = restored(owner, *reader.array(name))
    extras = _named("extras.", arrays)
    states = {
        prefix: _part(path, metadata, part, prefix, arrays, chosen[prefix]) for prefix, part in parts.items()
    }
    if rank != 0:  # whose state counts what all have skipped
        for state in states.values():
            state._skipped_before = 0
    if "groups" not in description:
        (state,) = states.values()
        state.extras = extras
        return state
    with understanding(path, metadata, "groups"):
        named = dict(zip(description["names"], states.values(), strict=True))
        groups, clip_norm = None, description["clip_norm"]
        if all(state.optimizer is not None for state in named.values()):
            optimizers: Any = {name: state.optimizer for name, state in named.items()}
            groups = Groups(optimizers, clip_norm=clip_norm)
        return GroupsState(groups, named, description["step"], extras, clip_norm)


def _part(
    path: str,
    metadata: Mapping[str, str],
    part: dict[str, Any],
    prefix: str,
    arrays: dict[str, Any],
    chosen: Any,
) -> State:
    """The state that one description, and the arrays with its prefix, are of."""
    owned, rule = _named(f"optimizer.{prefix}", arrays), part["rule"]
    with understanding(path, metadata, "an optimizer"):
        optimizer, is_whole = rebuild(part["optimizer"], owned)
        if isinstance(optimizer, Optimizer) and rule not in (None, optimizer.rule.name):
            raise ValueError(f"its rule is no {rule!r}")
        if rule is None and not is_whole:
            raise ValueError("a part of it is code, and its rule has no name")
    with understanding(path, metadata, "a state"):
        own = _named(f"state.{prefix}", arrays)
        check_one_state([*own.values(), *owned.values()])
        return State(
            optimizer if is_whole else None,
            part["step"],
            own,
            chosen,
            skipped=part["skipped"],
            rate_scale=part["rate_scale"],
            tuning=chosen.asarray(np.array([part["tuning"]] * 2, np.float64)) if "tuning" in part else None,
            rule_name=None if is_whole else rule,
            outline=None if is_whole else optimizer,
        )


def _backend_named(name: str | None, backends: Iterable[Backend]) -> Backend | None:
    return next((backend for backend in backends if backend.name == name), None)


def _named(prefix: str, arrays: Mapping[str, Any]) -> dict[str, Any]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def _former_backend(path: str, name: str) -> Backend:
    try:
        return select_backend(name)
    except DeviceUnavailableError as error:
        raise DeviceUnavailableError(
            f"{path} was saved from the backend {name!r}: {error}; or load it elsewhere: "
            "load_state(path, backend=select_backend())"
        ) from error


def _teach_numpy_bfloat16(path: str) -> None:
    try:
        import ml_dtypes  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f"{path} has arrays of bfloat16, which NumPy knows from ml_dtypes ({error}); "
            "mend: python -m pip install ml_dtypes"
        ) from error
