"""Arrays by MPI, from the memory that they are in: the host's, or a GPU's where MPI reads that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from gpuprop.distributed.mpi import MPICommunicator

#: Bytes that one rank sends another at a time, at most and at least, and about those that it keeps for all.
MOST, LEAST, KEPT = 1 << 22, 1 << 16, 1 << 25


class Buffers:
    """What `Communicator` promises of arrays, for those of one library.

    MPI adds in whatever order, and of 16 bits not at all or with a rounding each time. So the ranks only
    exchange, some megabytes at a time, and each adds its part itself, while that is in the cache.
    """

    def __init__(self, ranks: MPICommunicator, xp: Any) -> None:
        self.ranks, self._xp = ranks, xp
        self._kept: dict[str, Any] = {}

    def gather(self, numbers: Any) -> Any:
        self.ranks.meet(f" with {len(numbers)} numbers")
        numbers = self._xp.ascontiguousarray(numbers, np.float64)
        if self._xp is np:
            found = np.empty((self.ranks.size, numbers.size))
        else:
            bytes_ = self._memory("gathered", self.ranks.size * numbers.nbytes)
            found = bytes_.view(np.float64).reshape(self.ranks.size, -1)
        self._wait_for_device()
        self.ranks.finish(self.ranks.messages.Iallgather(numbers, found))
        return found

    def reduce_scatter(self, whole: Any, part: Any, average: bool) -> None:
        ranks, dtype = self.ranks, whole.dtype
        ranks.meet_with(whole, "average" if average else "sum")
        parts = ranks.cuts(whole.size)
        most = min(MOST, max(LEAST, KEPT // ranks.size)) // dtype.itemsize
        self._wait_for_device()
        for begin in range(0, parts[0].stop, most):  # the first is the longest
            counts = [max(0, min(each.stop - each.start - begin, most)) for each in parts]
            own = counts[ranks.rank]
            rows = (
                self._memory("rows", ranks.size * own * dtype.itemsize).view(dtype).reshape(ranks.size, own)
            )
            send = [plain(whole), (counts, [each.start + begin for each in parts])]
            receive = [plain(rows.reshape(-1)), ([own] * ranks.size, [own * k for k in range(ranks.size)])]
            ranks.finish(ranks.messages.Ialltoallv(send, receive), rows.nbytes)
            self._add(rows, part[begin : begin + own], average)
            self._wait_for_device()  # which reads the rows before the next ones come

    def _add(self, rows: Any, part: Any, average: bool) -> None:
        total = part
        if part.dtype.itemsize == 2:
            total = self._memory("total", 4 * part.size).view(np.float32)
        with np.errstate(all="ignore"):  # what is not finite is for the step to see
            total[...] = rows[0]
            for row in rows[1:]:
                total += row
            if average:
                total /= len(rows)
            if total is not part:
                part[...] = total

    def all_gather(self, whole: Any) -> None:
        self.ranks.meet_with(whole, "complete")
        counts = [each.stop - each.start for each in self.ranks.cuts(whole.size)]
        self._wait_for_device()
        self.ranks.finish(self.ranks.gather_in_place(plain(whole), counts), whole.nbytes)

    def _memory(self, name: str, nbytes: int) -> Any:
        """So many bytes, kept from call to call."""
        kept = self._kept.get(name)
        if kept is None or kept.size < nbytes:
            kept = self._kept[name] = self._xp.empty(nbytes, np.uint8)
        return kept[:nbytes]

    def _wait_for_device(self) -> None:
        """MPI knows nothing of streams: what is to be sent must be there."""
        if self._xp is not np:
            self._xp.cuda.get_current_stream().synchronize()


def plain(array: Any) -> Any:
    """An array of a dtype that every MPI has; of others it only moves the bits."""
    return array.view(np.uint16) if array.dtype.itemsize == 2 else array
