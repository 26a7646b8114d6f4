"""States in files: whole after any crash, checked bit by bit when they are read, and no pickle.

A file is a safetensors file. Its tensors are the arrays of the state, ``state.velocity``, those of the
user, ``extras.x``, and those among the hyperparameters, ``optimizer.0``: each in the order it has in
memory, complex ones as pairs of reals. Its metadata are the format, the version of gpuprop, a
description in JSON (hyperparameters, step, backend; of each array the layout and the CRC-32), and the
CRC-32 of the header, in which all of this stands.
"""

from __future__ import annotations

import json
import os
import secrets
import stat
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO

import numpy as np

import gpuprop
from gpuprop.backends import Backend, DeviceUnavailableError, select_backend
from gpuprop.description import describe, rebuild
from gpuprop.optimizers import State

FORMAT = 1
_CHECKSUM = '"gpuprop.crc32":"%s"'
_UNKNOWN = "00000000"

#: What safetensors calls each type.
_CODES = {
    "float16": "F16", "bfloat16": "BF16", "float32": "F32", "float64": "F64",
    "complex64": "F32", "complex128": "F64", "bool": "BOOL",
    "int8": "I8", "int16": "I16", "int32": "I32", "int64": "I64",
    "uint8": "U8", "uint16": "U16", "uint32": "U32", "uint64": "U64",
}  # fmt: skip


def save(state: State, /, path: str | os.PathLike[str], **arrays: Any) -> None:
    """Write `state` to a file: what `State.save` does.

    Parameters
    ----------
    state : State
    path : str or path-like
        An existing file is replaced, and keeps its permissions; a symbolic link is followed.
    **arrays : array
        More arrays for the same file, of any shape and any type of float, complex, integer or
        boolean: above all the parameters, ``x=x``, which a resumed run needs of the same moment.
        They come back in ``state.extras``.

    Raises
    ------
    OSError
        The file cannot be written; one that existed is as it was.
    TypeError
        An array has another type, or is out of the reach of the state's backend.
    ValueError
        `path` is no regular file.

    Notes
    -----
    A new file is written beside the old one, forced to the disk, and renamed: after a kill or a power
    cut at any moment, `path` is the old file or the new one. What a killed process may leave is a file
    ``.gpuprop-*.tmp``, which can be deleted.

    An array that is one block of memory, in whatever order of its axes, is not copied. From a GPU, one
    array at a time passes through the host.

    Hyperparameters that are code cannot be written, which are schedules from elsewhere than
    `gpuprop.schedules` and rules with a reference of their own: ``state.optimizer`` will be None.
    """
    tensors = {f"state.{name}": array for name, array in state.arrays.items()}
    tensors |= {f"extras.{name}": _as_array(state.backend, name, a) for name, a in arrays.items()}
    optimizer, owned = describe(state.optimizer)
    tensors |= {f"optimizer.{i}": _as_array(state.backend, "a bound", a) for i, a in enumerate(owned)}
    # The widest types first, so that every tensor is aligned.
    tensors = dict(sorted(tensors.items(), key=lambda item: -item[1].dtype.itemsize))
    layouts = {name: _layout(state.backend, name, array) for name, array in tensors.items()}
    description = {
        "step": int(state.step),
        "skipped": int(state.skipped),
        "backend": state.backend.name,
        "optimizer": optimizer,
        "arrays": layouts,
    }
    with _replacing(path) as file:
        file.write(_header(description, tensors))  # keeps the place, until the checksums are known
        for name, array in tensors.items():
            data = _bytes(state.backend, array.transpose(layouts[name]["axes"]))
            layouts[name]["crc32"] = f"{zlib.crc32(data):08x}"
            file.write(data)
        file.seek(0)
        file.write(_header(description, tensors))


def load_state(path: str | os.PathLike[str], *, backend: Backend | None = None) -> State:
    """Read a state that `State.save` wrote.

    Parameters
    ----------
    path : str or path-like
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
        The file is damaged, truncated, of another program or of a newer version; the message says
        which.
    DeviceUnavailableError
        The state is from a GPU and there is none; the message says what mends it.
    ImportError
        The state has arrays of bfloat16, and ml_dtypes is not installed.

    Notes
    -----
    Arrays go straight to their place in memory; on the way to a GPU, one at a time is on the host.
    Every bit of the file is checked.
    """
    from safetensors import SafetensorError

    if backend is not None and not isinstance(backend, Backend):
        raise TypeError(f"backend is {backend!r}; it must be one that select_backend gave")
    path = os.fspath(path)
    try:
        header, file = _open(path)
    except SafetensorError as error:
        raise ValueError(
            f"{path} is truncated, damaged, or no file of State.save: {error}; load another copy"
        ) from None
    metadata = file.metadata() or {}
    _check_header(path, header, metadata)
    description = json.loads(metadata["gpuprop.description"])
    chosen = backend or _former_backend(path, description["backend"])
    arrays = {}
    for name, layout in description["arrays"].items():
        if layout["dtype"] == "bfloat16":
            _teach_numpy_bfloat16(path)
        array = file.get_tensor(name)
        if f"{zlib.crc32(array.reshape(-1).view(np.uint8)):08x}" != layout["crc32"]:
            raise ValueError(f"{path} is damaged in {name}; load another copy")
        arrays[name] = _restore(chosen, array, layout)
    try:
        optimizer = rebuild(description["optimizer"], _named("optimizer.", arrays))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} has an optimizer of gpuprop {metadata['gpuprop.version']} that this gpuprop "
            f"{gpuprop.__version__} does not know ({error}); mend: python -m pip install --upgrade gpuprop"
        ) from error
    return State(
        optimizer,
        description["step"],
        _named("state.", arrays),
        chosen,
        skipped=description["skipped"],
        extras=_named("extras.", arrays),
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


# Arrays


def _as_array(backend: Backend, name: str, array: Any) -> Any:
    if isinstance(array, np.ndarray) or not hasattr(array, "__dlpack__"):
        return array if isinstance(array, backend.xp.ndarray) else np.asarray(array)
    return backend.adopt(name, array)


def _layout(backend: Backend, name: str, array: Any) -> dict[str, Any]:
    if array.dtype.name not in _CODES:
        raise TypeError(f"{name} has dtype {array.dtype}; it must be one of {', '.join(_CODES)}")
    axes = range(array.ndim)
    # From the longest stride to the shortest, an array of any order is one block of memory.
    in_memory = axes if array.flags.c_contiguous else sorted(axes, key=lambda k: -abs(array.strides[k]))
    return {
        "dtype": array.dtype.name,
        "axes": list(in_memory),
        "on_device": isinstance(array, backend.xp.ndarray),
        "crc32": _UNKNOWN,
    }


def _bytes(backend: Backend, array: Any) -> memoryview:
    host = array if isinstance(array, np.ndarray) else backend.to_host(array)
    return np.asarray(host, host.dtype.newbyteorder("<"), order="C").reshape(-1).view(np.uint8).data


def _restore(backend: Backend, array: np.ndarray, layout: Mapping[str, Any]) -> Any:
    if layout["dtype"].startswith("complex"):
        array = array.reshape(-1).view(layout["dtype"]).reshape(array.shape[:-1])
    axes = layout["axes"]
    placed = backend.asarray(array) if layout["on_device"] else array
    return placed.transpose(sorted(range(len(axes)), key=axes.__getitem__))


# The header


def _header(description: Mapping[str, Any], tensors: Mapping[str, Any]) -> bytes:
    """Eight bytes of length, and JSON: https://github.com/safetensors/safetensors#format.

    The writer of safetensors itself would need all arrays on the host at once, and make a file of mode
    0600 that is not forced to the disk, under a temporary name of its own.
    """
    metadata = {
        "gpuprop.format": str(FORMAT),
        "gpuprop.version": gpuprop.__version__,
        "gpuprop.description": json.dumps(description),
        "gpuprop.crc32": _UNKNOWN,
    }
    entries: dict[str, Any] = {"__metadata__": metadata}
    end = 0
    for name, array in tensors.items():
        shape = [array.shape[axis] for axis in description["arrays"][name]["axes"]]
        pair = [2] if array.dtype.kind == "c" else []
        begin, end = end, end + array.nbytes
        entries[name] = {
            "dtype": _CODES[array.dtype.name],
            "shape": shape + pair,
            "data_offsets": [begin, end],
        }
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    header = len(text).to_bytes(8, "little") + text
    return _with_checksum(header, _UNKNOWN, f"{zlib.crc32(header):08x}")


def _with_checksum(header: bytes, old: str, new: str) -> bytes:
    return header.replace((_CHECKSUM % old).encode(), (_CHECKSUM % new).encode())


def _open(path: str) -> tuple[bytes, Any]:
    """The header of a file, and its tensors."""
    from safetensors import safe_open

    while True:
        with open(path, "rb") as file:
            tensors = safe_open(path, "numpy", backend="pread")
            # Both are to be one file, though another process may put a new one in its place.
            if os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
                length = file.read(8)
                return length + file.read(int.from_bytes(length, "little")), tensors


def _check_header(path: str, header: bytes, metadata: Mapping[str, str]) -> None:
    number = metadata.get("gpuprop.format")
    if number is None:
        raise ValueError(f"{path} is a safetensors file of another program; it must be one of State.save")
    if number.isdecimal() and int(number) > FORMAT:
        raise ValueError(
            f"{path} was written by gpuprop {metadata.get('gpuprop.version')} in format {number}; this is "
            f"gpuprop {gpuprop.__version__}, which reads up to format {FORMAT}; "
            "mend: python -m pip install --upgrade gpuprop"
        )
    checksum = metadata.get("gpuprop.crc32", "")
    unsigned = _with_checksum(header, checksum, _UNKNOWN)
    if f"{zlib.crc32(unsigned):08x}" != checksum:
        raise ValueError(f"{path} is damaged in its header; load another copy")


# The file


@contextmanager
def _replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A new file that takes the place of `path` once all of it is on the disk."""
    target = os.path.realpath(path)
    mode = _mode_to_keep(target)
    directory = os.path.dirname(target)
    temporary = os.path.join(directory, f".gpuprop-{secrets.token_hex(8)}.tmp")
    try:
        with open(temporary, "xb") as file:
            if mode is not None:
                os.chmod(temporary, mode)
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException as error:
        with suppress(OSError):
            os.unlink(temporary)
        if isinstance(error, OSError):
            error.filename = os.fspath(path)
        raise
    # Windows and some file systems cannot; there the new name reaches the disk in its own time.
    with suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _mode_to_keep(path: str) -> int | None:
    """The permissions of an existing file, which must be one that could be written to."""
    try:
        with open(path, "r+b", buffering=0) as file:
            mode = os.fstat(file.fileno()).st_mode
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(mode):
        raise ValueError(f"{path} is no regular file; a state must be saved to one")
    return stat.S_IMODE(mode)
