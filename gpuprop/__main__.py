"""``python -m gpuprop selfcheck`` and ``python -m gpuprop inspect FILE``.

The result goes to stdout, and all else to stderr. The exit code is 0 for good; 1 for a device that is not,
and where the reader of stdout has gone; 2, with one line that says why, for bad arguments, a file that
cannot be read, and output that cannot be written; 130 for Ctrl-C.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn, TextIO

from gpuprop.checkpoint.inspection import lines_about
from gpuprop.version import __version__


def selfcheck(options: argparse.Namespace) -> int:
    from gpuprop.measure.selfcheck import check

    report = check(_say, _tell, quick=options.quick)
    if options.json:
        try:
            options.json.write_text(json.dumps(report, indent=1) + "\n")
        except OSError as error:
            _tell(f"cannot write {str(options.json)!r}: {error.strerror}")
            return 2
    return 0 if report["good"] else 1


def inspect(options: argparse.Namespace) -> int:
    try:
        lines = list(lines_about(options.file))
    except (OSError, ValueError) as error:
        _tell(f"cannot read {options.file!r}: {error.strerror}" if isinstance(error, OSError) else str(error))
        return 2
    for line in lines:
        _say(line)
    return 0


def _say(line: str) -> None:
    print(line, flush=True)


def _tell(line: str) -> None:
    """On stderr, which may be closed or full."""
    if sys.stderr is not None:
        try:
            print(f"gpuprop: {line}", file=sys.stderr, flush=True)
        except OSError:
            _discard(sys.stderr)


def _discard(stream: TextIO) -> None:
    """What Python still holds would fail again when it exits, and make the exit code 120."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        _tell(f"{message}; {self.prog} --help says what there is")
        sys.exit(2)

    def print_help(self, file: Any = None) -> None:
        print(self.format_help(), end="", flush=True)


def _writable(text: str) -> Path:
    """Found out before the work, which takes half a minute, and without touching the file."""
    path = Path(text).absolute()
    if path.is_dir():
        reason = "it is a folder"
    elif not path.parent.is_dir():
        reason = f"there is no folder {str(path.parent)!r}"
    else:
        reason = "" if os.access(path if path.exists() else path.parent, os.W_OK) else "it is not writable"
    if reason:
        raise argparse.ArgumentTypeError(f"cannot write {text!r}: {reason}")
    return path


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m gpuprop")
    parser.add_argument("--version", action="version", version=f"gpuprop {__version__}")
    commands = parser.add_subparsers(required=True, metavar="command")
    about = "check every device: is it right, to the last bit, and how fast?"
    command = commands.add_parser("selfcheck", help=about, description=about[:1].upper() + about[1:])
    command.add_argument("--json", type=_writable, metavar="FILE", help="write a report, to send with a bug")
    command.add_argument("--quick", action="store_true", help="the article's experiment alone, and no timing")
    command.set_defaults(run=selfcheck)
    about = "say what a file of State.save holds, without loading its arrays"
    command = commands.add_parser("inspect", help=about, description=about[:1].upper() + about[1:] + ".")
    command.add_argument("file", metavar="FILE")
    command.set_defaults(run=inspect)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    if sys.stdout is None:
        _tell("stdout is closed; send it to a file, or to /dev/null")
        return 2
    if isinstance(sys.stdout, io.TextIOWrapper):  # and not a notebook's
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        options = _parser().parse_args(arguments)
        return options.run(options)
    except KeyboardInterrupt:
        _tell("interrupted")
        return 130
    except OSError as error:
        _discard(sys.stdout)
        if isinstance(error, BrokenPipeError):
            return 1
        _tell(f"cannot write to stdout: {error.strerror}")
        return 2


if __name__ == "__main__":
    sys.exit(main())
