"""What the scripts share: streams and exit codes, arguments, progress, files, versions.

The result goes to stdout and all else to stderr. The exit code is 0; 2 for bad input and for output
that cannot be written, with one line that says why; 1, without a word, where the reader of stdout has
gone, as `head` does; 130 for Ctrl-C. What stderr cannot take is lost, and the work goes on.
"""

from __future__ import annotations

import argparse
import atexit
import io
import json
import os
import platform
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, TextIO

#: Between two lines of progress, where stderr is no terminal, or one of no columns.
SECONDS = 5.0


def start() -> None:
    """What a script does first, before the imports that take long."""
    signal.signal(signal.SIGINT, leave)
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:  # it is closed, and the next file to be opened would take its place
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", closefd=False)
    atexit.register(_print, "", sys.stderr, end="")  # what a library printed may be held yet
    if sys.stdout is None:
        tell("stdout is closed; send it to a file, or to /dev/null")
        sys.exit(2)
    try:
        os.getcwd()
    except OSError as error:
        tell(f"cannot go on in this folder: {error.strerror}; change to another")
        sys.exit(2)
    # A full disk, and whoever waits for a line, must not wait for a full buffer.
    if isinstance(sys.stdout, io.TextIOWrapper):  # and not a notebook's
        sys.stdout.reconfigure(line_buffering=True, errors="backslashreplace")


def leave(number: int, frame: FrameType | None) -> NoReturn:
    """Ctrl-C says so and exits with 130, as a shell expects, whatever is running."""
    with suppress(OSError):
        os.write(2, f"{name()}: interrupted\n".encode())  # sys.stderr may be in the midst of a line

    def end(*_: object) -> NoReturn:
        os._exit(128 + number)

    # What is running may swallow the exit, as a compiler's callbacks do, or make another error of it, as
    # an import does.
    sys.excepthook = end
    if hasattr(signal, "setitimer"):
        signal.signal(signal.SIGALRM, end)
        signal.setitimer(signal.ITIMER_REAL, 2.0)
    raise SystemExit(128 + number)


def name() -> str:
    return Path(sys.argv[0]).name


def say(line: str = "") -> None:
    """Print a line of the result; the script ends where it cannot be written."""
    error = _print(line, sys.stdout)
    if isinstance(error, BrokenPipeError):
        sys.exit(1)
    if error:
        tell(f"cannot write to stdout: {error.strerror}")
        sys.exit(2)


def tell(line: str) -> None:
    """Print on stderr what is not of the result."""
    _print(f"{name()}: {line}", sys.stderr)


def _print(line: str, stream: TextIO, end: str = "\n") -> OSError | None:
    """Why it could not, if so; nothing that is printed to this stream later is seen then."""
    try:
        if "tqdm" in sys.modules and sys.stderr.isatty():  # there may be a bar, which it would run into
            from tqdm import tqdm

            tqdm.write(line, stream, end)
        else:
            print(line, file=stream, end=end)
        stream.flush()
    except OSError as error:
        # What Python still holds would fail again when it exits, and make the exit code 120.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        return error
    return None


def progress(items: Iterable[Any], total: int, what: str) -> Iterator[Any]:
    """The items; on stderr a bar after a second, or a line now and then where there is no room for one."""
    if sys.stderr.isatty() and os.get_terminal_size(sys.stderr.fileno()).columns:
        from tqdm import tqdm

        yield from tqdm(items, what, total, leave=False, delay=1.0)
        return
    told = time.monotonic()
    for done, item in enumerate(items):
        if time.monotonic() - told >= SECONDS:
            tell(f"{what}: {done} of {total}")
            told = time.monotonic()
        yield item


class Parser(argparse.ArgumentParser):
    """Errors are one line on stderr and exit code 2.

    Parameters
    ----------
    doc : str or None
        The script's docstring, whose first paragraph opens the help; ``python -OO`` leaves none.
    """

    def __init__(self, doc: str | None) -> None:
        super().__init__(description=doc and doc.split("\n\n")[0])

    def error(self, message: str) -> NoReturn:
        tell(message)
        sys.exit(2)

    def print_help(self, file: Any = None) -> None:
        say(self.format_help().rstrip("\n"))

    def add_plot(self, what: str) -> None:
        help = f"draw {what}, in the format that the extension says (needs matplotlib)"
        self.add_argument("--plot", type=writable_file, metavar="FILE", help=help)

    def check_files(self, plot: Path | None, json: Path | None = None) -> None:
        """Refuse what could only fail when the work is done."""
        if plot and json and plot.resolve() == json.resolve():
            self.error(f"--plot and --json name the same file, {str(plot)!r}")
        if not plot:
            return
        if find_spec("matplotlib") is None:
            self.error('--plot needs matplotlib: python -m pip install "gpuprop[plot]"')
        try:
            from figures import check_format

            check_format(plot)
        except Exception as error:  # of matplotlib, or of what it writes a format with
            self.error(f"argument --plot: cannot write {str(plot)!r}: {' '.join(str(error).split())}")


def whole(text: str, least: int) -> int:
    """A whole number of at least `least`, also written as 1e6."""
    try:
        value = float(text)
        number = int(text) if text.strip().isdecimal() else int(value)
        if number != value or number < least:
            raise ValueError
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least {least}") from None
    return number


def writable_file(text: str) -> Path:
    """A path that can be written, found out without touching it."""
    path = Path(text)
    try:
        target = path.resolve()  # what a link leads to is what would be written
        if target.is_symlink():
            reason = "its links lead in a circle"  # from Python 3.13 on, resolve() takes them as they are
        elif target.is_dir():
            reason = "it is a folder"
        elif target.exists():
            reason = "" if os.access(target, os.W_OK) else "it is not writable"
        elif not target.parent.is_dir():
            reason = f"there is no folder {str(target.parent)!r}"
        else:
            reason = "" if os.access(target.parent, os.W_OK | os.X_OK) else "its folder is not writable"
    except (OSError, RuntimeError) as error:  # a name too long, links in a circle, no current folder
        reason = getattr(error, "strerror", None) or str(error)
    if reason:
        raise argparse.ArgumentTypeError(f"cannot write {text!r}: {reason}")
    return path


def write_json(file: Path, report: dict[str, Any]) -> None:
    """What is not finite, for which JSON has no words, becomes null."""
    numbers = json.loads(json.dumps(report), parse_constant=lambda _: None)
    file.write_text(json.dumps(numbers, indent=1) + "\n")


def write_files(*files: tuple[Path | None, Callable[[Path], None]]) -> int:
    """Write those that are asked for, each by its function; the exit code. One that fails stops no other."""
    code = 0
    for file, write in files:
        try:
            if file:
                write(file)
        except OSError as error:
            tell(f"cannot write {str(file)!r}: {error.strerror or error}")
            code = 2
    return code


def choose_backend(device: str, fallback: bool, tells: bool = True) -> Any:
    """The backend of that name; why it is another is told, but for `tells`."""
    import gpuprop

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        backend = gpuprop.select_backend(device, fallback=fallback)
    for warning in caught if tells else ():
        tell(str(warning.message))
    return backend


def versions() -> dict[str, str]:
    """Of Python and of the libraries that a measurement depends on."""
    from importlib.metadata import PackageNotFoundError, version  # slow to load, before Ctrl-C is seen to

    found = {"python": platform.python_version()}
    for name in (
        "gpuprop",
        "numpy",
        "numba",
        "cupy-cuda12x",
        "cupy-cuda13x",
        "torch",
        "jax",
        "optax",
        "bitsandbytes",
        "ml_dtypes",
        "scikit-learn",
    ):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
