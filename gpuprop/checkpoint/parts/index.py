"""The index: which files are parts of one state, and how the arrays are cut."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from gpuprop.checkpoint.container import INDEX, header_of, index_at, read
from gpuprop.checkpoint.contents import check_layout, contents_of, described, understanding
from gpuprop.checkpoint.parts.cutting import whole_of
from gpuprop.checkpoint.replacement import BEGIN, END, replacing

#: How a part's name ends, after that of its index: the generation, which is of one save alone, and the rank.
_PART = re.compile(r"(\.[0-9a-f]{16})\.rank\d+\Z")


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


def write(path: str, generation: str, marks: list[str], whole: Mapping[str, Any]) -> None:
    """Put an index in the place of the former one."""
    missing = [r for r in range(len(marks)) if not os.path.exists(f"{path}.{generation}.rank{r}")]
    if missing:
        raise OSError(
            f"rank 0 does not find {path}.{generation}.rank{missing[0]}, which another rank has written; all "
            "ranks must save to one file system, which all of them see"
        )
    prefix = f"{os.path.basename(path)}.{generation}"
    description = {**whole, "prefix": prefix, "parts": marks}
    with replacing(path) as file:
        file.write(header_of(description, {}, INDEX))


def remove_parts(path: str) -> None:
    """Delete the parts beside `path` that no index in the folder names: of former saves, and of killed ones.

    An index that was renamed keeps its own. Where reading the folder, or an index, fails, all stay; a file
    that this user may not read is taken for no index.
    """
    folder, name = os.path.split(path)
    with suppress(OSError):
        own = index_at(path)  # before the folder, where it may have another name by then
        with os.scandir(folder) as entries:
            others = list(entries)
        beside = (each for each in others if each.name.startswith(name))
        ends = {each.path: _PART.fullmatch(each.name, len(name)) for each in beside}
        parts = {part: end[1].encode() for part, end in ends.items() if end}
        unnamed = {generation for generation in parts.values() if generation not in own}
        for other in others if unnamed else ():
            # A link is to an index that is here, too, or has its parts elsewhere; and one that a kill has
            # kept from its place is the index of nothing.
            is_temporary = other.name.startswith(BEGIN) and other.name.endswith(END)
            if not (is_temporary or _PART.search(other.name)) and other.is_file(follow_symlinks=False):
                named = index_at(other.path) if os.access(other, os.R_OK) else b""
                unnamed = {generation for generation in unnamed if generation not in named}
        for part, generation in parts.items():
            if generation in unnamed:
                unlink(part)


def unlink(path: str) -> None:
    with suppress(OSError):
        os.unlink(path)


def _check(description: Mapping[str, Any]) -> None:
    marks, prefix = description["parts"], description["prefix"]
    if not isinstance(marks, list) or not marks or not all(isinstance(mark, str) for mark in marks):
        raise ValueError(f"parts are {marks!r:.80}")
    if not re.fullmatch(r"[^/\\]*\.[0-9a-f]{16}", prefix):
        raise ValueError(f"its parts are called {prefix!r:.80}")
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
