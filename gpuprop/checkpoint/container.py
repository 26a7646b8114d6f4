"""The container of the arrays: a safetensors file whose header has a checksum, too."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import IO, Any

from gpuprop.checkpoint.replacement import open_regular
from gpuprop.version import __version__

FORMAT = 1
#: Of the index of several such files, each of which is a rank's: no tensors, and a description of all.
INDEX = 2
#: The checksum of nothing, in the place of one that is not known yet.
UNKNOWN = "00000000"
_FORMATS = (str(FORMAT), str(INDEX))
_CHECKSUM = '"gpuprop.crc32":"%s"'

#: What safetensors calls each type.
CODES = {
    "float16": "F16", "bfloat16": "BF16", "float32": "F32", "float64": "F64",
    "complex64": "F32", "complex128": "F64", "bool": "BOOL",
    "int8": "I8", "int16": "I16", "int32": "I32", "int64": "I64",
    "uint8": "U8", "uint16": "U16", "uint32": "U32", "uint64": "U64",
}  # fmt: skip


def checksum(data: Any, before: str = UNKNOWN) -> str:
    """The CRC-32 of `data`, and of what came `before` it."""
    return f"{zlib.crc32(data, int(before, 16)):08x}"


def header_of(description: Mapping[str, Any], tensors: Mapping[str, Any], kind: int | None = None) -> bytes:
    """Eight bytes of length, and JSON: https://github.com/safetensors/safetensors#format.

    Its length does not depend on the checksums. The writer of safetensors itself would need all arrays
    on the host at once, and make a file of mode 0600 that is not forced to the disk, under a temporary
    name of its own.
    """
    metadata = {
        "gpuprop.format": str(kind or FORMAT),
        "gpuprop.version": __version__,
        "gpuprop.description": json.dumps(description),
        "gpuprop.crc32": UNKNOWN,
    }
    entries: dict[str, Any] = {"__metadata__": metadata}
    end = 0
    for name, array in tensors.items():
        shape = [array.shape[axis] for axis in description["arrays"][name]["axes"]]
        pair = [2] if array.dtype.kind == "c" else []
        begin, end = end, end + array.nbytes
        entries[name] = {
            "dtype": CODES[array.dtype.name],
            "shape": shape + pair,
            "data_offsets": [begin, end],
        }
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    unsigned = len(text).to_bytes(8, "little") + text
    return _with_checksum(unsigned, UNKNOWN, checksum(unsigned))


def read(path: str) -> tuple[dict[str, str], Any]:
    """The metadata of a file whose header is undamaged, and its tensors, to be got from it by name.

    Raises
    ------
    OSError
        There is no such file, or it cannot be read.
    ValueError
        The header is damaged, or the file truncated, of another program or of a newer version, or
        no regular file.
    """
    from safetensors import SafetensorError

    try:
        found, tensors = _open(path)
    except SafetensorError as error:
        raise ValueError(
            f"{path} is truncated, damaged, or no file of State.save: {error!s:.200}; load another copy"
        ) from None
    metadata = tensors.metadata() or {}
    _check(path, found, metadata)
    return metadata, tensors


@contextmanager
def data_of(path: str, mark: str) -> Iterator[tuple[IO[bytes], dict[str, int]]]:
    """A file that was `read` before, and where in it each tensor begins.

    To read some rows through safetensors 0.8 is to read the tensor.
    """
    with open_regular(path, "rb", "loaded from") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        if header.pop("__metadata__")["gpuprop.crc32"] != mark:
            raise OSError(f"{path} was replaced while it was read; load it again")
        yield file, {name: 8 + length + entry["data_offsets"][0] for name, entry in header.items()}


def index_at(path: str) -> bytes:
    """All that the index of several such files says, be it damaged; of any other file nothing.

    Raises
    ------
    OSError
        There is a file, and it cannot be read.
    """
    with suppress(FileNotFoundError, ValueError), open_regular(path, "rb", "loaded from") as file:
        if b'{"__metadata__":{"gpuprop.format":"%d",' % INDEX in (begin := file.read(64)):
            return begin + file.read()
    return b""


def mark_of(header: bytes) -> str:
    """The checksum in a header, which tells its file from others: those of its arrays are in it."""
    return json.loads(header[8:])["__metadata__"]["gpuprop.crc32"]


def _open(path: str) -> tuple[bytes, Any]:
    """The header of a file, and its tensors."""
    from safetensors import safe_open

    while True:
        with open_regular(path, "rb", "loaded from") as file:
            # By its number, where the system can: what has the path by now could be a FIFO.
            same = f"/proc/self/fd/{file.fileno()}"
            tensors = safe_open(same if os.path.exists(same) else path, "numpy", backend="pread")
            # Both are to be one file, though another process may put a new one in its place.
            if os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
                length = file.read(8)
                return length + file.read(int.from_bytes(length, "little")), tensors


def _check(path: str, found: bytes, metadata: Mapping[str, str]) -> None:
    if not any(name.startswith("gpuprop.") for name in metadata):
        raise ValueError(f"{path} is a safetensors file of another program; it must be one of State.save")
    number, told = metadata.get("gpuprop.format", ""), metadata.get("gpuprop.crc32", "")
    if checksum(_with_checksum(found, told, UNKNOWN)) != told:
        newer = "" if number in _FORMATS else ", or was written by a newer gpuprop"
        raise ValueError(f"{path} is damaged in its header{newer}; load another copy")
    if number not in _FORMATS:
        version = metadata.get("gpuprop.version", "")
        raise ValueError(
            f"{path} was written by gpuprop {version:.40} in format {number:.40}; this is "
            f"gpuprop {__version__}, which reads up to format {INDEX}; "
            "mend: python -m pip install --upgrade gpuprop"
        )


def _with_checksum(data: bytes, old: str, new: str) -> bytes:
    return data.replace((_CHECKSUM % old).encode(), (_CHECKSUM % new).encode())
