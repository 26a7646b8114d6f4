"""A state into a file, and out of it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from gpuprop.backends import Backend, DeviceUnavailableError, select_backend
from gpuprop.checkpoint.container import checksum, header_of, read
from gpuprop.checkpoint.contents import check_one_state, contents_of, understanding
from gpuprop.checkpoint.description import describe, rebuild
from gpuprop.checkpoint.layout import as_array, blocks, layout_of, restored
from gpuprop.checkpoint.replacement import replacing
from gpuprop.optimizers import Optimizer, State


def save(state: State, /, path: str | bytes | os.PathLike[str], **arrays: Any) -> None:
    """Write `state` to a file: see `State.save`, which calls this."""
    clock = state._clock.tolist()
    _check_clock(clock[0] == clock[1])
    for name in arrays:
        try:
            name.encode()
        except UnicodeEncodeError:
            raise ValueError(f"an array's name is {name!r}, which UTF-8 cannot write; rename it") from None
    tensors = {f"state.{name}": as_array(state.backend, name, a) for name, a in state.arrays.items()}
    tensors |= {f"extras.{name}": as_array(state.backend, name, a) for name, a in arrays.items()}
    optimizer, owned = describe(state._outline if state.optimizer is None else state.optimizer)
    tensors |= {f"optimizer.{i}": as_array(state.backend, "a bound", a) for i, a in enumerate(owned)}
    # The widest types first, so that every tensor is aligned.
    tensors = dict(sorted(tensors.items(), key=lambda item: -item[1].dtype.itemsize))
    check_one_state(array for name, array in tensors.items() if not name.startswith("extras."))
    layouts = {name: layout_of(state.backend, name, array) for name, array in tensors.items()}
    description = {
        "step": int(state.step),
        "skipped": int(state.skipped),
        "backend": state.backend.name,
        "rule": state._owner,
        "optimizer": optimizer,
        "arrays": layouts,
    }
    with replacing(path) as file:
        file.write(header_of(description, tensors))  # keeps the place, until the checksums are known
        for name, array in tensors.items():
            for block in blocks(state.backend, array, layouts[name]):
                layouts[name]["crc32"] = checksum(block, layouts[name]["crc32"])
                file.write(block)
        _check_clock(state._clock.tolist() == clock)
        file.seek(0)
        file.write(header_of(description, tensors))


def load_state(path: str | bytes | os.PathLike[str], *, backend: Backend | None = None) -> State:
    """Read a state that `State.save` wrote.

    Parameters
    ----------
    path : str, bytes or path-like
    backend : Backend, optional
        Where steps will run, from `select_backend`; by default where they ran before.

    Returns
    -------
    State
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
    chosen = backend or _former_backend(path, description["backend"])
    arrays = {}
    for name, layout in description["arrays"].items():
        if layout["dtype"] == "bfloat16":
            _teach_numpy_bfloat16(path)
        tensor = tensors.get_tensor(name)
        if checksum(tensor.reshape(-1).view(np.uint8)) != layout["crc32"]:
            raise ValueError(f"{path} is damaged in {name}; load another copy")
        arrays[name] = restored(chosen, tensor, layout)
    owned, rule = _named("optimizer.", arrays), description["rule"]
    with understanding(path, metadata, "an optimizer"):
        optimizer, is_whole = rebuild(description["optimizer"], owned)
        if isinstance(optimizer, Optimizer) and rule not in (None, optimizer.rule.name):
            raise ValueError(f"its rule is no {rule!r}")
        if rule is None and not is_whole:
            raise ValueError("a part of it is code, and its rule has no name")
    with understanding(path, metadata, "a state"):
        own = _named("state.", arrays)
        check_one_state([*own.values(), *owned.values()])
        return State(
            optimizer if is_whole else None,
            description["step"],
            own,
            chosen,
            skipped=description["skipped"],
            extras=_named("extras.", arrays),
            rule_name=None if is_whole else rule,
            outline=None if is_whole else optimizer,
        )


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
