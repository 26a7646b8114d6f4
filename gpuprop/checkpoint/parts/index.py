"""The index: which files are parts of one state, and how the arrays are cut."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from gpuprop.checkpoint.container import INDEX, header_of, is_index, read
from gpuprop.checkpoint.contents import check_layout, contents_of, described, understanding
from gpuprop.checkpoint.parts.cutting import whole_of
from gpuprop.checkpoint.replacement import BEGIN, END, replacing


@dataclass(frozen=True)
class Index:
    """What one file, or the index of several, says of a state.

    Attributes
    ----------
    path : str
    files, marks : list of str
        The files with arrays, and what tells each from others.
    metadata : dict
    description : dict
        Of the whole: of each array the ``shape``, and the ``rows`` in each file; None of one that is whole in
        the first.
    """

    path: str
    files: list[str]
    marks: list[str]
    metadata: dict[str, str]
    description: dict[str, Any]

    @classmethod
    def read(cls, path: str) -> Index:
        """
        Raises
        ------
        OSError, ValueError
            As `load_state`.
        """
        metadata, tensors = read(path)
        if metadata["gpuprop.format"] != str(INDEX):
            with understanding(path, metadata, "a description"):
                description = whole_of([contents_of(metadata, tensors)])
            return cls(path, [path], [metadata["gpuprop.crc32"]], metadata, description)
        with understanding(path, metadata, "an index"):
            description = described(metadata)
            _check(description)
        beside = os.path.join(os.path.dirname(os.path.realpath(path)), description["prefix"])
        files = [f"{beside}.rank{rank}" for rank in range(len(description["parts"]))]
        return cls(path, files, description["parts"], metadata, description)


def write(path: str, generation: str, since: str, marks: list[str], whole: Mapping[str, Any]) -> None:
    """Put an index in the place of the former one."""
    missing = [r for r in range(len(marks)) if not os.path.exists(f"{path}.{generation}.rank{r}")]
    if missing:
        raise OSError(
            f"rank 0 does not find {path}.{generation}.rank{missing[0]}, which another rank has written; all "
            "ranks must save to one file system, which all of them see"
        )
    prefix = f"{os.path.basename(path)}.{generation}"
    description = {**whole, "prefix": prefix, "since": since, "parts": marks}
    with replacing(path) as file:
        file.write(header_of(description, {}, INDEX))


def begin(path: str) -> tuple[str, str]:
    """The generation of the parts to come, larger than any before, and that of the first ones.

    What killed saves have left is removed.
    """
    first, last = former(path)
    if first:
        remove(path, first, keep=last)
    now = max(f"{time.time_ns():016x}", f"{int(last or '0', 16) + 1:016x}")
    return now, first or now


def former(path: str) -> tuple[str, str]:
    """The generations of the first parts that a file was an index of, and of its own; or two empty texts."""
    if is_index(path):
        with suppress(OSError, ValueError):  # a damaged one
            description = Index.read(path).description
            return description["since"], description["prefix"].rpartition(".")[2]
    return "", ""


def remove(path: str, since: str, keep: str = "") -> None:
    """Delete the parts beside an index but for one generation, and those of indexes that were moved away.

    All older ones than `since` are of such.
    """
    folder, name = os.path.split(path)
    pattern = re.compile(re.escape(name) + r"\.([0-9a-f]{16})\.rank\d+")
    others = os.listdir(folder)
    parts = [(other, found[1]) for other in others if (found := pattern.fullmatch(other))]
    parts = [(part, generation) for part, generation in parts if since <= generation != keep]
    if parts:
        # One that a kill has kept from its place is the index of nothing.
        named = [other for other in others if not (other.startswith(BEGIN) and other.endswith(END))]
        indexes = [os.path.join(folder, other) for other in named if other != name]
        moved = {former(index)[1] for index in indexes if is_index(index)}
        for part, generation in parts:
            if generation not in moved:
                unlink(os.path.join(folder, part))


def unlink(path: str) -> None:
    with suppress(OSError):
        os.unlink(path)


def _check(description: Mapping[str, Any]) -> None:
    marks, prefix, since = (description[key] for key in ("parts", "prefix", "since"))
    if not isinstance(marks, list) or not marks or not all(isinstance(mark, str) for mark in marks):
        raise ValueError(f"parts are {marks!r:.80}")
    if not re.fullmatch(r"[^/\\]*\.[0-9a-f]{16}", prefix) or not re.fullmatch("[0-9a-f]{16}", since):
        raise ValueError(f"its parts are called {prefix!r:.80}, since {since!r:.80}")
    for name, layout in description["arrays"].items():
        check_layout(name, layout, description)
        shape, rows = layout["shape"], layout["rows"]
        numbers = [shape, *([] if rows is None else [rows])]
        if not all(isinstance(n, list) and all(type(k) is int and k >= 0 for k in n) for n in numbers):
            raise ValueError(f"{name} has shape {shape!r:.80} and rows {rows!r:.80}")
        if len(shape) != len(layout["axes"]) or (
            rows is not None and (len(rows) != len(marks) or [sum(rows)] != shape[:1])
        ):
            raise ValueError(f"{name} of shape {shape!r:.80} has rows {rows!r:.80} in its parts")
