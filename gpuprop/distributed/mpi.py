"""MPI, by mpi4py: the only file that imports it."""

from __future__ import annotations

import ctypes
import os
import pickle
import platform
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from mpi4py import MPI

from gpuprop.backends import backend_of
from gpuprop.backends.cpu import threads
from gpuprop.distributed import endings
from gpuprop.distributed.buffers import Buffers
from gpuprop.distributed.communicator import Communicator
from gpuprop.distributed.staged import Staged

ON_HOST = (np.ndarray, list)
#: How often a rank asks at once whether a message has come, before it naps: a few where ranks outnumber CPUs.
TESTS, TESTS_OF_MANY = 1000, 20
#: Seconds of a nap, and those in which a byte is expected at the latest.
NAP, SLOWEST = 5e-5, 1e-8


class MPICommunicator(Communicator):
    """Ranks of MPI; nothing blocks in C, so that Ctrl-C and time-outs are noticed.

    The parameters are those of `gpuprop.distributed.communicator`.
    """

    def __init__(self, comm: Any, transport: str, cuda_aware: bool | None, timeout: float) -> None:
        if not isinstance(comm, MPI.Intracomm) or comm == MPI.COMM_NULL:
            raise TypeError(f"comm is {comm!r}; it must be a communicator of mpi4py, such as MPI.COMM_WORLD")
        self.rank, self.size = comm.Get_rank(), comm.Get_size()
        self._transport, self._cuda_aware, self._timeout = transport, cuda_aware, timeout
        self._tests = TESTS_OF_MANY
        self._host, self._device = Buffers(self, np), None
        if self.size > 1:
            endings.end_all_with_one(MPI.COMM_WORLD.Abort)
        self.messages, request = comm.Idup()
        self.finish(request)
        self.node = f"{platform.node()} {_boot()}"
        cpus = _cpus()
        self.check_alike(f"transport={transport!r}")
        told = self.exchange((self.node, cpus))
        self._node_rank = [node for node, _ in told[: self.rank]].count(self.node)
        among = sum(node == self.node and not cpus.isdisjoint(theirs) for node, theirs in told)
        if self.size > 1:
            threads.share_cpus(among)
        if among <= len(cpus):
            self._tests = TESTS

    def gather(self, numbers: Any) -> Any:
        with _device_of(numbers):
            return self._way(numbers).gather(numbers)

    def exchange(self, value: Any) -> list[Any]:
        own = np.frombuffer(pickle.dumps(value), np.uint8)
        lengths = [int(n) for n in self._host.gather([own.size])[:, 0]]
        found = np.empty(sum(lengths), np.uint8)
        self.finish(self.messages.Iallgatherv(own, [found, lengths]))
        return [pickle.loads(each.tobytes()) for each in np.split(found, np.cumsum(lengths[:-1]))]

    def reduce_scatter(self, whole: Any, part: Any, average: bool = False) -> None:
        with _device_of(whole):
            self._way(whole).reduce_scatter(whole, part, average)

    def all_gather(self, whole: Any) -> None:
        with _device_of(whole):
            self._way(whole).all_gather(whole)

    def barrier(self) -> None:
        self.finish(self.messages.Ibarrier())

    def device_of_rank(self) -> int:
        from gpuprop.distributed.nccl import number_of_devices

        return self._node_rank % number_of_devices()

    def gather_in_place(self, whole: Any, counts: list[int]) -> Any:
        return self.messages.Iallgatherv(MPI.IN_PLACE, [whole, counts])

    def finish(self, request: Any, nbytes: int = 0) -> None:
        """Wait, and end the job if another rank does not come: a collective call cannot be taken back.

        A large message moves on in tests only, a small piece in each: so many bytes are worth many.
        """
        tests, begin = TESTS if nbytes else self._tests, time.monotonic()
        while True:
            for _ in range(tests):
                if request.Test():
                    return
            waited = time.monotonic() - begin
            if waited > self._timeout:
                endings.end_the_job(
                    f"rank {self.rank} has waited {self._timeout:g} s for another rank, which has ended, "
                    "hangs, is stopped or computes for longer; the job ends (communicator takes another "
                    "timeout)",
                    MPI.COMM_WORLD.Abort,
                )
            if waited > SLOWEST * nbytes:
                tests = 1
            time.sleep(NAP)

    def _way(self, array: Any) -> Any:
        """What moves this array."""
        if isinstance(array, ON_HOST):
            return self._host
        if self._device is None:
            self._device = self._way_of_devices(array)
        return self._device

    def _way_of_devices(self, array: Any) -> Any:
        """What moves arrays on GPUs: all ranks decide it together."""
        xp = backend_of(array).xp
        if self._transport != "mpi":
            from gpuprop.distributed import nccl

            obstacle = nccl.obstacle(self, array)
            if obstacle is None:
                return nccl.NCCL(self, xp, array.device.id, self._timeout, MPI.COMM_WORLD.Abort)
            if self._transport == "nccl":
                raise RuntimeError(f"transport is 'nccl', and {obstacle}")
        aware = reads_gpus() if self._cuda_aware is None else self._cuda_aware
        return Buffers(self, xp) if aware else Staged(self._host, xp)


def _device_of(array: Any) -> AbstractContextManager[Any]:
    """Makes the array's device the current one, whose streams and memory are meant."""
    return nullcontext() if isinstance(array, ON_HOST) else array.device


def reads_gpus() -> bool:
    """Whether this MPI says that it reads the memory of GPUs."""
    kinds = MPI.COMM_WORLD.Get_info().get("mpi_memory_alloc_kinds") or ""  # MPI 4.1
    if any(kind.split(":")[0] == "cuda" for kind in kinds.split(",")):
        return True
    try:  # what Open MPI and MPICH add; mpi4py has loaded the library where no search by name finds it
        mapped = Path("/proc/self/maps").read_text().splitlines()
        path = next(line.split()[-1] for line in mapped if "libmpi" in line)
        return bool(ctypes.CDLL(path).MPIX_Query_cuda_support())
    except (OSError, StopIteration, AttributeError):
        return False


def _boot() -> str:
    """What tells machines of one name apart, on Linux."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _cpus() -> set[int]:
    """The CPUs that this process may run on: disjoint from those of others where the launcher binds ranks."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
