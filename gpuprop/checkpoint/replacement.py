"""A file that takes the place of another: whole, or not at all."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO


@contextmanager
def replacing(path: str | bytes | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A new file that takes the place of `path` once all of it is on the disk.

    Raises
    ------
    OSError
        The file cannot be written; one that existed is as it was.
    ValueError
        `path` is no regular file.
    """
    target = os.path.realpath(os.fsdecode(path))
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
