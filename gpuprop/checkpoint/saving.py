"""A state into a file, or of several ranks into one each."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from typing import IO, Any, NamedTuple

from gpuprop.backends import Backend
from gpuprop.checkpoint.container import checksum, header_of, mark_of
from gpuprop.checkpoint.contents import check_one_state
from gpuprop.checkpoint.description import describe
from gpuprop.checkpoint.layout import as_array, blocks, layout_of
from gpuprop.checkpoint.parts import index
from gpuprop.checkpoint.parts.cutting import whole_of
from gpuprop.checkpoint.parts.together import by_all, by_first
from gpuprop.checkpoint.replacement import beside, replacing
from gpuprop.optimizers import GroupsState, State


class _Content(NamedTuple):
    description: dict[str, Any]
    tensors: dict[str, Any]
    owners: dict[str, Backend]
    parts: dict[str, State]
    clocks: list[Any]


def save(state: State | GroupsState, /, path: str | bytes | os.PathLike[str], **arrays: Any) -> None:
    """Write `state` to a file: see `State.save` and `GroupsState.save`, which call this."""
    if state.comm is not None:
        return _save_parts(state.comm, state, os.fsdecode(path), arrays)
    content = _content_of(state, arrays)
    with replacing(path) as file:
        _write(file, content)
    index.remove_parts(os.path.realpath(os.fsdecode(path)))  # of ranks whose index was here


def _save_parts(comm: Any, state: State | GroupsState, path: str, arrays: Mapping[str, Any]) -> None:
    """Each rank its part; then rank 0 the index, which until then is that of the former parts."""

    def begin() -> tuple[str, str, str]:
        target = os.path.realpath(path)
        index.remove_parts(target)  # which would keep space from the new ones
        return path, target, secrets.token_hex(8)

    given, target, generation = by_first(comm, begin)
    own = f"{target}.{generation}.rank{comm.rank}"

    def write() -> tuple[str, dict[str, Any]]:
        if path != given:
            raise ValueError(
                f"rank {comm.rank} saves to {path} and rank 0 to {given}; all must name one path"
            )
        content = _content_of(state, arrays)
        with beside(own, target) as file:
            mark = mark_of(_write(file, content))
        shapes = {name: {"shape": list(tensor.shape)} for name, tensor in content.tensors.items()}
        layouts = {name: layout | shapes[name] for name, layout in content.description["arrays"].items()}
        return mark, content.description | {"arrays": layouts}

    def finish() -> None:
        index.write(target, generation, marks, whole)
        index.remove_parts(target)

    try:
        marks, descriptions = zip(*by_all(comm, write), strict=True)
        whole = whole_of(descriptions)
    except Exception:
        index.unlink(own)
        raise
    by_first(comm, finish)  # a part stays where this fails: the index may be in its place


def _content_of(state: State | GroupsState, arrays: Mapping[str, Any]) -> _Content:
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
            "skipped": part._skipped_here,
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
    return _Content(description, tensors, owners, parts, clocks)


def _write(file: IO[bytes], content: _Content) -> bytes:
    """The header of a file that has all."""
    description, tensors, layouts = content.description, content.tensors, content.description["arrays"]
    file.write(header_of(description, tensors))  # keeps the place, until the checksums are known
    for name, array in tensors.items():
        for block in blocks(content.owners[name], array, layouts[name]):
            layouts[name]["crc32"] = checksum(block, layouts[name]["crc32"])
            file.write(block)
    _check_clock([part._clock.tolist() for part in content.parts.values()] == content.clocks)
    header = header_of(description, tensors)
    file.seek(0)
    file.write(header)
    return header


def _parts_of(state: State | GroupsState) -> dict[str, State]:
    """The states of single arrays, by what their arrays' names in a file begin with."""
    if isinstance(state, GroupsState):
        return {f"{number}.": part for number, part in enumerate(state.values())}
    return {"": state}


def _backend_for(array: Any, backends: list[Backend]) -> Backend:
    """Whose array it is: of the first, where of none."""
    return next((b for b in backends if isinstance(array, b.xp.ndarray)), backends[0])


def _check_clock(is_at_rest: bool) -> None:
    if not is_at_rest:
        raise RuntimeError(
            "the state was stepped while it was saved, or a step of it is under way or was cut short: its "
            "arrays are not of one moment, and no file has been replaced; save between two steps, or hold "
            "one lock around each step and each save (after a step that was cut short, load the last file)"
        )
