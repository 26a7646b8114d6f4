"""MPI, by mpi4py: the only file that imports it."""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy as np

from gpuprop.distributed.communicator import Communicator


class MPICommunicator(Communicator):
    """Arrays on the host by buffers; nothing blocks in C, so that Ctrl-C and time-outs are noticed."""

    def __init__(self, comm: Any, timeout: float = 300.0) -> None:
        from mpi4py import MPI

        self._mpi, self._comm, self._timeout = MPI, comm, timeout
        self.rank, self.size = comm.Get_rank(), comm.Get_size()

    def gather(self, numbers: Any) -> Any:
        numbers = np.ascontiguousarray(numbers, np.float64)
        found = np.empty((self.size, numbers.size))
        self._finish(self._comm.Iallgather(numbers, found))
        return found

    def broadcast(self, value: Any) -> Any:
        return self._comm.bcast(value)

    def reduce_scatter(self, whole: Any, part: Any, average: bool = False) -> None:
        counts = [self._count(whole, rank) for rank in range(self.size)]
        self._finish(self._comm.Ireduce_scatter(whole, part, counts))
        if average:
            part /= self.size

    def all_gather(self, whole: Any) -> None:
        counts = [self._count(whole, rank) for rank in range(self.size)]
        self._finish(self._comm.Iallgatherv(self._mpi.IN_PLACE, [whole, counts]))

    def _count(self, whole: Any, rank: int) -> int:
        part = self.cut(whole.size, rank)
        return part.stop - part.start

    def barrier(self) -> None:
        self._finish(self._comm.Ibarrier())

    def _finish(self, request: Any) -> None:
        """Wait, and end the job if another rank does not come: a collective call cannot be taken back."""
        end = time.monotonic() + self._timeout
        while not request.Test():
            if time.monotonic() > end:
                print(
                    f"rank {self.rank} has waited {self._timeout:g} s for another rank, which has ended, "
                    "hangs or is stopped; the job ends",
                    file=sys.stderr,
                    flush=True,
                )
                self._comm.Abort(1)
            time.sleep(5e-5)
