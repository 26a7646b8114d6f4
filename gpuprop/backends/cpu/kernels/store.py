"""Machine code in files, between processes: found, read and written so that nobody else's is ever run.

What is read is executed, so the folder must be such that only this user, or root, can have put it there; see
`_is_safe`. Nothing here fails a step: without a folder, each process compiles for itself.
"""

from __future__ import annotations

import os
import re
import stat
import sys
import time
import warnings
from functools import cache
from hashlib import sha256
from pathlib import Path

from gpuprop.backends.cpu.kernels import environment
from gpuprop.backends.cpu.kernels.loader import Code

VARIABLE = "GPUPROP_CACHE"
#: What each file begins with; then come a digest of the rest, the symbol, and an object file.
MAGIC = b"gpuprop kernel 1\n"
#: The largest file that is read: kernels have 2 to 100 kilobytes.
MOST_BYTES = 2**24
#: What a file is called while it is written: the folder may have other files, which are nobody's here.
_TEMPORARY = re.compile(r"[0-9a-f]{64}\.\d+\.\d+")
#: Seconds after which a file is abandoned that a process began to write.
ABANDONED = 3600

_NO_LINKS = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_NO_WAIT = getattr(os, "O_NONBLOCK", 0)  # for whoever writes into a pipe


def key_of(text: str) -> str:
    """The name of a file: what is compiled, and all that it depends on."""
    return sha256(f"{environment.text()}\n{text}".encode()).hexdigest()


def read(key: str) -> Code | None:
    """What was written for `key`; None where nothing is there that can be trusted and is whole."""
    folder = _folder()
    if folder is None:
        return None
    try:
        file = os.open(folder / key, os.O_RDONLY | _NO_LINKS | _NO_WAIT)
        with open(file, "rb") as opened:
            about = os.fstat(file)
            if not (stat.S_ISREG(about.st_mode) and _is_own(about) and about.st_size <= MOST_BYTES):
                return None
            content = opened.read()
    except OSError:
        return None
    begin = MAGIC + sha256(content[len(MAGIC) + 32 :]).digest()
    symbol, found, object_file = content[len(begin) :].partition(b"\0")
    if not content.startswith(begin) or not found:
        return None
    return Code(symbol.decode(), object_file)


def write(key: str, code: Code) -> None:
    """Keep `code`, at once or not at all: others see no file, or the whole."""
    folder = _folder()
    if folder is None:
        return
    rest = code.symbol.encode() + b"\0" + code.object_file
    temporary = folder / f"{key}.{os.getpid()}.{time.monotonic_ns()}"
    try:
        file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_LINKS, 0o600)
        try:
            with open(file, "wb") as opened:
                opened.write(MAGIC + sha256(rest).digest() + rest)
            os.replace(temporary, folder / key)
        except BaseException:
            os.unlink(temporary)
            raise
        for other in folder.iterdir():  # of processes that were killed
            if _TEMPORARY.fullmatch(other.name) and other.lstat().st_mtime < time.time() - ABANDONED:
                other.unlink()
    except OSError:  # a full disk, a folder that is only to be read, another process that was faster
        return


@cache
def _folder() -> Path | None:
    """Where files are, and only this user's; None where there is no such place."""
    chosen = os.environ.get(VARIABLE, "")
    if chosen == "0":
        return None
    is_named = chosen not in ("", "1")
    if is_named and not os.path.isabs(chosen):
        raise ValueError(
            f"{VARIABLE} is {chosen!r}; it must be 0 for no files, or the absolute path of a folder for them"
        )
    try:
        folder = Path(chosen) if is_named else _default()
        for place in (*reversed(folder.parents), folder):
            place.mkdir(mode=0o700, exist_ok=True)  # parents, too, whatever the umask
        folder = folder.resolve(strict=True)
        unsafe = next((place for place in (folder, *folder.parents) if not _is_safe(place, folder)), None)
    except (OSError, RuntimeError):  # RuntimeError: there is no home
        return None
    if unsafe is not None and is_named:
        warnings.warn(
            f"kernels are not kept in {VARIABLE}: others can write to {unsafe}, and put code there that "
            f"would be run; mend: chmod go-w {unsafe}, or name another folder, or 0 for none",
            RuntimeWarning,
            stacklevel=2,
        )
    return folder if unsafe is None else None


def _default() -> Path:
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "gpuprop" / "cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "gpuprop"
    base = os.environ.get("XDG_CACHE_HOME", "")  # by its specification, to be ignored where not absolute
    return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "gpuprop"


def _is_safe(place: Path, folder: Path) -> bool:
    """Whether nobody but this user and root can put another folder or file in place of what is there.

    The folder is this user's and only to be written by them. Folders above it are theirs or root's; where
    others can write to one, as to ``/tmp``, it must be sticky: then they cannot rename what is not theirs.
    """
    about = place.lstat()
    if place == folder:
        return _is_own(about)
    return _is_own(about, or_roots=True, unless_sticky=True)


def _is_own(about: os.stat_result, or_roots: bool = False, unless_sticky: bool = False) -> bool:
    if not hasattr(os, "geteuid"):  # Windows: a user's own folder is closed to others
        return True
    if about.st_uid != os.geteuid() and not (or_roots and about.st_uid == 0):
        return False
    is_open = about.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return not is_open or (unless_sticky and bool(about.st_mode & stat.S_ISVTX))
