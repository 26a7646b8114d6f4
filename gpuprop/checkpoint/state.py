"""A state into a file, and out of it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from gpuprop.backends import Backend, DeviceUnavailableError, select_backend
from gpuprop.checkpoint.container import checksum, header_of, read
from gpuprop.checkpoint.contents import check_one_state, contents_of, parts_in, prefix_of, understanding
from gpuprop.checkpoint.description import describe, rebuild
from gpuprop.checkpoint.layout import as_array, blocks, layout_of, restored
from gpuprop.checkpoint.replacement import replacing
from gpuprop.optimizers import Groups, GroupsState, Optimizer, State


def save(state: State | GroupsState, /, path: str | bytes | os.PathLike[str], **arrays: Any) -> None:
    """Write `state` to a file: see `State.save` and `GroupsState.save`, which call this."""
    parts = _parts_of(state)
    together = state.optimizer if isinstance(state, GroupsState) else None
    # Of groups as they were given, without the norm of all.
    given = [part.optimizer for part in parts.values()]
    if together is not None:
        given = [together.optimizers[name] for name in state]  # type: ignore[union-attr]
    clocks = [part._clock.tolist() for part in parts.values()]
    _check_clock(all(begun == done for begun, done in clocks))
    for name in (*arrays, *(state if isinstance(state, GroupsState) else ())):
        try:
            name.encode()
        except UnicodeEncodeError:
            raise ValueError(f"an array's name is {name!r}, which UTF-8 cannot write; rename it") from None
    tensors: dict[str, Any] = {}
    owners: dict[str, Backend] = {}
    parts_described = []
    for (prefix, part), own in zip(parts.items(), given, strict=True):
        optimizer, owned = describe(part._outline if part.optimizer is None else own)
        named = {f"state.{prefix}{name}": a for name, a in part.arrays.items()}
        named |= {f"optimizer.{prefix}{i}": a for i, a in enumerate(owned)}
        tensors |= {name: as_array(part.backend, name, array) for name, array in named.items()}
        check_one_state(tensors[name] for name in named)
        owners |= dict.fromkeys(named, part.backend)
        parts_described.append({
            "step": int(part.step),
            "skipped": int(part.skipped),
            "rate_scale": part.rate_scale,
            "backend": part.backend.name,
            "rule": part._owner,
            "optimizer": optimizer,
        })  # fmt: skip
        if part._tuning is not None:
            parts_described[-1]["tuning"] = part._tuning[part.step % 2].tolist()
    for name, array in arrays.items():
        owners[f"extras.{name}"] = backend = _backend_for(array, [part.backend for part in parts.values()])
        tensors[f"extras.{name}"] = as_array(backend, name, array)
    # The widest types first, so that every tensor is aligned.
    tensors = dict(sorted(tensors.items(), key=lambda item: -item[1].dtype.itemsize))
    layouts = {name: layout_of(owners[name], name, array) for name, array in tensors.items()}
    description: dict[str, Any] = {"arrays": layouts}
    if isinstance(state, GroupsState):
        clip_norm = state._clip_norm if state.optimizer is None else state.optimizer.clip_norm
        description |= {
            "names": list(state),
            "groups": parts_described,
            "step": state.step,
            "clip_norm": clip_norm,
        }
    else:
        description |= parts_described[0]
    with replacing(path) as file:
        file.write(header_of(description, tensors))  # keeps the place, until the checksums are known
        for name, array in tensors.items():
            for block in blocks(owners[name], array, layouts[name]):
                layouts[name]["crc32"] = checksum(block, layouts[name]["crc32"])
                file.write(block)
        _check_clock([part._clock.tolist() for part in parts.values()] == clocks)
        file.seek(0)
        file.write(header_of(description, tensors))


def load_state(path: str | bytes | os.PathLike[str], *, backend: Backend | None = None) -> Any:
    """Read a state that `State.save` or `GroupsState.save` wrote.

    Parameters
    ----------
    path : str, bytes or path-like
    backend : Backend, optional
        Where steps will run, from `select_backend`; by default where they ran before.

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
        The file is damaged, truncated, of another program or of a newer version, or no regular file;
        the message says which.
    DeviceUnavailableError
        The state is from a GPU and there is none; the message says what mends it.
    ImportError
        The state has arrays of bfloat16, and ml_dtypes is not installed.

    Notes
    -----
    Arrays go straight to their place in memory; on the way to a GPU, one at a time is on the host.
    Every bit of the file is checked.
    """
    if backend is not None and not isinstance(backend, Backend):
        raise TypeError(f"backend is {backend!r}; it must be one that select_backend gave")
    path = os.fsdecode(path)
    metadata, tensors = read(path)
    with understanding(path, metadata, "a description"):
        description = contents_of(metadata, tensors)
    parts = parts_in(description)
    chosen = {prefix: backend or _former_backend(path, part["backend"]) for prefix, part in parts.items()}
    first = next(iter(chosen.values()))
    arrays = {}
    for name, layout in description["arrays"].items():
        if layout["dtype"] == "bfloat16":
            _teach_numpy_bfloat16(path)
        tensor = tensors.get_tensor(name)
        if checksum(tensor.reshape(-1).view(np.uint8)) != layout["crc32"]:
            raise ValueError(f"{path} is damaged in {name}; load another copy")
        if name.startswith("extras."):
            owner = backend or _backend_named(layout.get("backend"), chosen.values()) or first
        else:
            owner = chosen[prefix_of(name, description)]
        arrays[name] = restored(owner, tensor, layout)
    extras = _named("extras.", arrays)
    states = {
        prefix: _part(path, metadata, part, prefix, arrays, chosen[prefix]) for prefix, part in parts.items()
    }
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


def _parts_of(state: State | GroupsState) -> dict[str, State]:
    """The states of single arrays, by what their arrays' names in a file begin with."""
    if isinstance(state, GroupsState):
        return {f"{number}.": part for number, part in enumerate(state.values())}
    return {"": state}


def _backend_for(array: Any, backends: list[Backend]) -> Backend:
    """Whose array it is: of the first, where of none."""
    return next((b for b in backends if isinstance(array, b.xp.ndarray)), backends[0])


def _backend_named(name: str | None, backends: Iterable[Backend]) -> Backend | None:
    return next((backend for backend in backends if backend.name == name), None)


def _check_clock(is_at_rest: bool) -> None:
    if not is_at_rest:
        raise RuntimeError(
            "the state was stepped while it was saved, or a step of it is under way or was cut short: its "
            "arrays are not of one moment, and no file has been replaced; save between two steps, or hold "
            "one lock around each step and each save (after a step that was cut short, load the last file)"
        )


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
