"""A file that takes the place of another, whole or not at all; and none but regular files."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO, BinaryIO

#: How the name of a file begins and ends that has not yet taken its place; a kill may leave it.
BEGIN, END = ".gpuprop-", ".tmp"


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
    temporary = os.path.join(os.path.dirname(target), f"{BEGIN}{secrets.token_hex(8)}{END}")
    with _new(temporary, target, os.fspath(path), target) as file:
        yield file


@contextmanager
def beside(new: str, target: str) -> Iterator[BinaryIO]:
    """A new file on the disk, for those who may use `target`, of which it will be a part.

    Raises
    ------
    OSError, ValueError
        It cannot be written, and is not there; or `target` could not be replaced.
    """
    with _new(new, target, new) as file:
        yield file


@contextmanager
def _new(path: str, like: str, told: str | bytes, becomes: str | None = None) -> Iterator[BinaryIO]:
    old = _status_of_writable(like)
    try:
        with open(path, "xb") as file:
            if old is not None:
                _inherit(path, like, old)
            yield file
            file.flush()
            os.fsync(file.fileno())
        if becomes is not None:
            os.replace(path, becomes)
    except BaseException as error:
        with suppress(OSError):
            os.unlink(path)
        if isinstance(error, OSError):
            error.filename = told
        raise
    directory = os.path.dirname(path)
    # Windows and some file systems cannot; there the new name reaches the disk in its own time.
    with suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def open_regular(path: str, mode: str, purpose: str) -> Iterator[IO[bytes]]:
    """Open a file that exists, at once: a FIFO would wait for its other end.

    Raises
    ------
    OSError
        It cannot be opened.
    ValueError
        It is no regular file, which it must be for `purpose`.
    """

    def at_once(name: str, flags: int) -> int:
        return os.open(name, flags | getattr(os, "O_NONBLOCK", 0))

    _refuse_irregular(path, os.stat(path).st_mode, purpose)  # to open some devices is to change them
    buffering = 0 if "+" in mode else -1  # for both directions a buffer asks for what FIFOs do not have
    with open(path, mode, buffering, opener=at_once) as file:
        _refuse_irregular(path, os.fstat(file.fileno()).st_mode, purpose)  # another may have come meanwhile
        yield file


def _refuse_irregular(path: str, mode: int, purpose: str) -> None:
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # whose opening fails in the words of the system
        raise ValueError(f"{path} is no regular file; a state must be {purpose} one")


def _status_of_writable(path: str) -> os.stat_result | None:
    """Whose an existing file is, which must be one that could be written to."""
    try:
        with open_regular(path, "r+b", "saved to") as file:
            return os.fstat(file.fileno())
    except FileNotFoundError:
        return None


def _inherit(new: str, old: str, status: os.stat_result) -> None:
    """Let those use the new file who could use the old one, as far as the system lets us."""
    mode, present = stat.S_IMODE(status.st_mode), os.stat(new)
    if (present.st_uid, present.st_gid) != (status.st_uid, status.st_gid):
        for owner in (status.st_uid, -1):  # only root gives files away
            with suppress(OSError):
                os.chown(new, owner, status.st_gid)
                break
        else:  # what was for one group is not for another
            mode = mode & ~0o070 | (mode & 0o007) << 3
    os.chmod(new, mode)
    if mode == stat.S_IMODE(status.st_mode) and hasattr(os, "listxattr"):
        with suppress(OSError):
            for name in os.listxattr(old):
                if name.startswith("system."):  # access control lists
                    os.setxattr(new, name, os.getxattr(old, name))
