"""What optimizers and the driver know of several processes: ranks that exchange a few numbers, and arrays."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from gpuprop.distributed.parts import Parts


class Communicator(ABC):
    """Ranks that all call the same methods in the same order: each call is collective.

    Where the host takes part in a call, ranks that are in different ones all raise a RuntimeError.

    Attributes
    ----------
    rank : int
        Of this process, from 0.
    size : int
        How many ranks there are.
    """

    rank: int
    size: int

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.size} ranks>"  # alike on all, as what is told of it

    @abstractmethod
    def gather(self, numbers: Any) -> Any:
        """The few float64 `numbers` of every rank: of shape ``(size, len(numbers))``, on every rank.

        An array on a GPU gives one there, which is good until the next call; where the transport is NCCL,
        the host does not wait for it.
        """

    @abstractmethod
    def exchange(self, value: Any) -> list[Any]:
        """The small objects of all ranks, in their order; they travel by pickle."""

    @abstractmethod
    def reduce_scatter(self, whole: Any, part: Any, average: bool = False) -> None:
        """Write into `part` this rank's part of the sum (or average) over all ranks of `whole`.

        Both are contiguous vectors of one dtype and device; the parts are cut as `cut` says. Nothing else
        is written. By MPI a sum goes in the order of the ranks, and of 16 bits it is rounded once; NCCL has
        an order of its own, and rounds each addition.
        """

    @abstractmethod
    def all_gather(self, whole: Any) -> None:
        """Complete `whole`, of which each rank has its own part: in place, a contiguous vector."""

    @abstractmethod
    def barrier(self) -> None:
        """Wait until all ranks are here."""

    @abstractmethod
    def device_of_rank(self) -> int:
        """The CUDA device for this rank: its number on its machine, modulo the devices there."""

    def broadcast(self, value: Any) -> Any:
        """What rank 0 has: any small object that can be pickled."""
        return self.exchange(value if self.rank == 0 else None)[0]

    def over(self, backend: Any) -> Any:
        """The backend for arrays each of which is a part, its rank's, of one over all ranks."""
        return Parts.of(backend, self)

    def sum(self, numbers: Sequence[float]) -> list[float]:
        """Each of the numbers summed over the ranks, in their order: the same bits on every rank."""
        return self.together(numbers, ())

    def maximum(self, numbers: Sequence[float]) -> list[float]:
        """The largest over the ranks of each of the numbers; NaN where a rank has one."""
        return self.together((), numbers)

    def together(self, sums: Sequence[float], largest: Sequence[float]) -> list[float]:
        """The `sum` of some numbers, and the `maximum` of others."""
        rows, n = self.gather([*sums, *largest]), len(sums)
        with np.errstate(invalid="ignore", over="ignore"):
            return [*rows[:, :n].cumsum(axis=0)[-1].tolist(), *rows[:, n:].max(axis=0).tolist()]

    def cut(self, length: int, rank: int | None = None) -> slice:
        """Which of so many elements are a rank's, by default this one's: as `numpy.array_split` cuts."""
        rank = self.rank if rank is None else rank
        each, more = divmod(length, self.size)
        start = rank * each + min(rank, more)
        return slice(start, start + each + (rank < more))

    def cuts(self, length: int) -> list[slice]:
        """Those of all ranks."""
        return [self.cut(length, rank) for rank in range(self.size)]
