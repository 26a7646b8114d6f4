"""What the scripts share: one clear line for bad input, 130 for Ctrl-C, versions."""

from __future__ import annotations

import argparse
import os
import platform
import signal
import sys
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn


class Parser(argparse.ArgumentParser):
    """Errors are one line on stderr and exit code 2."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n")

    def check_files(self, plot: Path | None, json: Path | None) -> None:
        """Refuse what could only fail when the work is done."""
        if plot and find_spec("matplotlib") is None:
            self.error('--plot needs matplotlib: python -m pip install "gpuprop[plot]"')
        if plot and json and plot.resolve() == json.resolve():
            self.error(f"--plot and --json name the same file, {str(plot)!r}")


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
    target = path.resolve()  # what a link leads to is what would be written
    if target.is_dir():
        reason = "it is a folder"
    elif target.exists():
        reason = "" if os.access(target, os.W_OK) else "it is not writable"
    elif not target.parent.is_dir():
        reason = f"there is no folder {str(target.parent)!r}"
    else:
        reason = "" if os.access(target.parent, os.W_OK | os.X_OK) else "its folder is not writable"
    if reason:
        raise argparse.ArgumentTypeError(f"cannot write {text!r}: {reason}")
    return path


def choose_backend(device: str, fallback: bool, tell: Callable[[str], None]) -> Any:
    """The backend of that name; why it is another is told."""
    import gpuprop

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        backend = gpuprop.select_backend(device, fallback=fallback)
    for warning in caught:
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
        "scikit-learn",
    ):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def end_cleanly_on_ctrl_c() -> None:
    """Ctrl-C says so and exits with 130, as a shell expects, whatever is running."""

    def leave(number: int, frame: FrameType | None) -> NoReturn:
        print(f"{Path(sys.argv[0]).name}: interrupted", file=sys.stderr)
        raise SystemExit(128 + number)

    signal.signal(signal.SIGINT, leave)


def to_the_end(main: Callable[[], int]) -> int:
    """The exit code of `main`; 1 where the reader of stdout has gone, as `head` does."""
    try:
        code = main()
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return code
