"""Rows of arrays, from the files that they are in."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from typing import IO, Any

import numpy as np

from gpuprop.checkpoint.container import UNKNOWN, checksum, data_of, read
from gpuprop.checkpoint.contents import contents_of, understanding
from gpuprop.checkpoint.layout import complex_of, in_order
from gpuprop.checkpoint.parts.index import Index

#: Bytes that are read at a time, where they are not those that are wanted.
BLOCK = 2**20


class PartLost(ValueError):
    """A part is not, or no longer, that of the index."""


class Reader:
    """Reads the arrays of a state, and opens what files it needs for them.

    Parameters
    ----------
    index : Index
    rank : int
        This one.
    rows_of : callable
        Of an array's name, the rows that each rank reads, as slices in the order of ranks. Each file's share
        of an array is checked to the last bit by one of those that read of it.
    """

    def __init__(self, index: Index, rank: int, rows_of: Callable[[str], Sequence[slice]]) -> None:
        self.index, self._rank, self._rows_of = index, rank, rows_of
        self._opened: dict[int, tuple[Any, dict[str, Any]]] = {}

    def array(self, name: str) -> tuple[np.ndarray, dict[str, Any]]:
        """This rank's rows of an array, in the order of memory, and their layout."""
        layout = self.index.description["arrays"][name]
        if layout["rows"] is None:
            return self._whole(0, name)
        wanted, pieces, end = self._rows_of(name)[self._rank], [], 0
        for number, length in enumerate(layout["rows"]):
            begin, end = end, end + length
            if wanted.start <= begin and wanted.stop >= end and length:
                pieces.append(self._whole(number, name))
            elif max(wanted.start, begin) < min(wanted.stop, end):
                pieces.append(self._rows(number, name, begin, end))
        if len(pieces) == 1:
            return pieces[0]
        shape = [wanted.stop - wanted.start, *layout["shape"][1:]]
        array = np.empty([shape[axis] for axis in layout["axes"]], np.dtype(layout["dtype"]))
        ordered, done = in_order(array, layout), 0
        for piece, own in pieces:  # each may have an order of axes of its own
            rows = in_order(piece, own)
            ordered[done : done + len(rows)] = rows
            done += len(rows)
        return array, layout

    def _whole(self, number: int, name: str) -> tuple[np.ndarray, dict[str, Any]]:
        tensors, layout = self._open(number, name)
        tensor = tensors.get_tensor(name)
        if checksum(tensor.reshape(-1).view(np.uint8)) != layout["crc32"]:
            raise self._damaged(number, name)
        return complex_of(tensor, layout), layout

    def _rows(self, number: int, name: str, begin: int, end: int) -> tuple[np.ndarray, dict[str, Any]]:
        """Those of this rank among a file's, which are from `begin` to `end` of the whole."""
        _, layout = self._open(number, name)
        everyone = self._rows_of(name)
        mine = everyone[self._rank]
        low, high = max(mine.start, begin) - begin, min(mine.stop, end) - begin
        shape = [layout["shape"][each] for each in layout["axes"]]
        axis, dtype = layout["axes"].index(0), np.dtype(layout["dtype"])
        outer, inner = math.prod(shape[:axis]), math.prod(shape[axis + 1 :])
        found = np.empty((outer, high - low, inner), dtype)
        size = (end - begin) * inner * dtype.itemsize
        at_once = max(1, BLOCK // max(size, 1))
        with data_of(self.index.files[number], self.index.marks[number]) as (file, places):
            for first in range(0, outer, at_once):
                file.seek(places[name] + first * size + (at_once == 1) * low * inner * dtype.itemsize)
                if at_once == 1:
                    self._fill(file, found[first], number)
                else:  # one read of all rows, where one of each would be small
                    rows = np.empty((len(found[first : first + at_once]), end - begin, inner), dtype)
                    self._fill(file, rows, number)
                    found[first : first + at_once] = rows[:, low:high]
            readers = [r for r, rows in enumerate(everyone) if max(rows.start, begin) < min(rows.stop, end)]
            is_checked = any(everyone[r].start <= begin and everyone[r].stop >= end for r in readers)
            turn = number + list(self.index.description["arrays"]).index(name)
            if not is_checked and readers[turn % len(readers)] == self._rank:
                file.seek(places[name])
                self._check(file, size * outer, number, name)
        shape[axis] = high - low
        if sys.byteorder == "big":
            found.byteswap(inplace=True)
        return found.reshape(shape), layout

    def _fill(self, file: IO[bytes], array: np.ndarray, number: int) -> None:
        data = array.reshape(-1).view(np.uint8)
        if file.readinto(data) != data.size:  # type: ignore[attr-defined]
            raise ValueError(f"{self.index.files[number]} was truncated while it was read; load another copy")

    def _check(self, file: IO[bytes], size: int, number: int, name: str) -> None:
        found = UNKNOWN
        for begin in range(0, size, BLOCK):
            found = checksum(file.read(min(BLOCK, size - begin)), found)
        if found != self._open(number, name)[1]["crc32"]:
            raise self._damaged(number, name)

    def _damaged(self, number: int, name: str) -> ValueError:
        return ValueError(f"{self.index.files[number]} is damaged in {name}; load another copy")

    def _open(self, number: int, name: str) -> tuple[Any, dict[str, Any]]:
        """A file, and what it says of an array."""
        path, mark = self.index.files[number], self.index.marks[number]
        if number not in self._opened:
            try:
                metadata, tensors = read(path)
            except FileNotFoundError:
                raise PartLost(
                    f"{path} is missing, part {number} of {len(self.index.files)} of {self.index.path}; "
                    "an index and its parts are copied, and moved to another folder, together"
                ) from None
            if metadata["gpuprop.crc32"] != mark:
                raise PartLost(
                    f"{path} is not the part of {self.index.path} that was saved with it; load another copy"
                )
            with understanding(path, metadata, "a description"):
                self._opened[number] = tensors, contents_of(metadata, tensors)["arrays"]
        tensors, layouts = self._opened[number]
        layout, whole = layouts.get(name), self.index.description["arrays"][name]
        first = [] if whole["rows"] is None else [whole["rows"][number]]
        kind = (whole["dtype"], first + whole["shape"][len(first) :])
        if layout is None or (layout["dtype"], layout["shape"]) != kind:
            raise ValueError(
                f"{path} has no {name} like that of {self.index.path}: it is damaged; load another copy"
            )
        return tensors, layout
