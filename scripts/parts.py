"""Parts of a long run, each a program of its own, in a time that is given: the most important come first.

A part that fails stops no other. One for which no time is left is cut, and one that takes longer than it may
is ended, with all that it has started.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from command_line import tell

ROOT = Path(__file__).parents[1]
#: Seconds below which it is of no use to begin.
LEAST = 5.0


@dataclass
class Part:
    """One program.

    Attributes
    ----------
    name, about : str
        What it is called, and what it shows.
    command : tuple of str
        What comes after ``python``, run in the repository's folder; ``{folder}`` is that of the results.
    most : float
        Seconds that it may take.
    report : str
        The file in the folder that it writes.
    read : callable
        Makes its figures out of that file.
    stops_itself : bool
        Whether it has ``--seconds``, and keeps to them.
    missing : str
        Why it is left out, if so.
    """

    name: str
    about: str
    command: tuple[str, ...]
    most: float
    report: str
    read: Callable[[Path], dict[str, Any]] = field(default=lambda file: json.loads(file.read_text()))
    stops_itself: bool = False
    missing: str = ""

    def shown(self) -> str:
        return shlex.join(["python", *(each.replace("{folder}", "FOLDER") for each in self.command)])


def run_all(parts: Sequence[Part], folder: Path, budget: float) -> Iterator[dict[str, Any]]:
    """Run them one after another.

    Yields
    ------
    dict
        ``name``, ``about``, ``command``, ``state``, ``why``, ``rc``, ``seconds`` and ``figures`` of each; the
        state is good, failed, cut or left out.
    """
    started = time.monotonic()
    for part in parts:
        row: dict[str, Any] = {"name": part.name, "about": part.about, "command": part.shown()}
        row |= {"state": "left out", "why": part.missing, "rc": None, "seconds": 0.0, "figures": {}}
        left = budget - (time.monotonic() - started)
        if not part.missing and left < LEAST:
            row |= {"state": "cut", "why": f"the {budget:g} seconds were up"}
        elif not part.missing:
            tell(f"{part.name}: {part.shown()}")
            row |= run_one(part, folder, min(part.most, left))
        yield row


def run_one(part: Part, folder: Path, limit: float) -> dict[str, Any]:
    """Its output goes to a log beside its report."""
    command = [each.replace("{folder}", str(folder)) for each in part.command]
    if part.stops_itself:
        command += ["--seconds", f"{0.8 * limit:.0f}"]
    report, log = folder / part.report, folder / (Path(part.report).stem + ".log")
    report.unlink(missing_ok=True)  # of a run before
    started = time.monotonic()
    with log.open("w") as output:
        rc = ended(command, output, limit)
    found: dict[str, Any] = {"rc": rc, "seconds": time.monotonic() - started}
    try:
        found["figures"] = part.read(report)
    except Exception as error:  # it may be half written, or not at all
        found |= {"state": "failed", "why": f"no figures: {type(error).__name__}: {error}"}
    if rc is None:
        found |= {"state": "failed", "why": f"it was not done after {limit:.0f} seconds"}
    elif rc:
        lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
        found |= {"state": "failed", "why": "\n".join(lines[-5:])}
    return {"state": "good", **found}


def ended(command: Sequence[str], output: Any, limit: float) -> int | None:
    """The exit code; None where the time was up, and nothing that was started goes on."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        [sys.executable, *command], cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=output,
        stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip
    try:
        return process.wait(limit)
    except subprocess.TimeoutExpired:
        return None
    finally:
        if process.poll() is None:  # also after Ctrl-C
            if hasattr(os, "killpg"):
                os.killpg(process.pid, signal.SIGKILL)
            process.kill()
            process.wait()
