"""MPI, by mpi4py: the only file that imports it."""

from __future__ import annotations

import atexit
import copy
import ctypes
import functools
import math
import os
import pickle
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NoReturn
from zlib import crc32

import numpy as np
from mpi4py import MPI

from gpuprop.arguments import check_alike
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
#: The name of a dtype, which NumPy makes anew each time, in longer than a message takes.
NAME = functools.cache(str)
#: How many numbers go beside the mark of a call, and the bytes in which a call is named where marks differ.
ROOM, NAMED = 7, 200
#: The mark of a rank whose program ends, which no call has.
LEAVING = -1.0
#: How many elements MPI can count: before version 4.0 by 32 bits.
COUNTED = 2**31 - 1 if MPI.Get_version() < (4, 0) else 2**63 - 1


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
        self._own, self._all = np.zeros(1 + ROOM), np.empty((self.size, 1 + ROOM))
        self._marks = self._all[:, 0]
        self._made = self._calls_by_nccl = 0
        self._first: Any = self  # of those that share their messages
        self._unfinished: Any = None
        if self.size > 1:
            endings.end_all_with_one(MPI.COMM_WORLD.Abort)
        first: Any = comm.Get_attr(DUPLICATE)
        if first is None:
            self.messages, request = comm.Idup()
            self.finish(request)
            first = copy.copy(self)
            first._first = first
            comm.Set_attr(DUPLICATE, first)
            if self.size > 1 and not endings.is_by_mpi4py():
                atexit.register(first._leave, os.getpid())
        first._made += 1
        self.messages, self._made, self._first = first.messages, first._made, first
        self._host, self._device = Buffers(self, np), None
        self.node = threads.machine()
        cpus = threads.available_cpus()
        check_alike(self, {"transport": transport})
        told = self.exchange((self.node, cpus))
        self._node_rank = [node for node, _ in told[: self.rank]].count(self.node)
        among = sum(node == self.node and not cpus.isdisjoint(theirs) for node, theirs in told)
        if self.size > 1:
            threads.share_cpus(among)
        if among <= len(cpus):
            self._tests = TESTS

    def gather(self, numbers: Any) -> Any:
        if isinstance(numbers, ON_HOST) and len(numbers) <= ROOM:
            return self.meet("", numbers)
        with _device_of(numbers):
            return self._way(numbers).gather(numbers)

    def exchange(self, value: Any) -> list[Any]:
        own = np.frombuffer(pickle.dumps(value), np.uint8)
        lengths = [int(n) for n in self.meet(" with an object", [own.size])[:, 0]]
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
        self.meet("")

    def device_of_rank(self) -> int:
        from gpuprop.distributed.nccl import number_of_devices

        return self._node_rank % number_of_devices()

    def gather_in_place(self, whole: Any, counts: list[int]) -> Any:
        return self.messages.Iallgatherv(MPI.IN_PLACE, [whole, counts])

    def meet(self, about: str, numbers: Any = ()) -> np.ndarray:
        """Up to `ROOM` numbers of every rank, after it is seen that all are in the same call.

        Each call that goes by the host is such a message, or begins with one.

        Raises
        ------
        RuntimeError
            Ranks are in different calls, or their communicator is no more; on every rank.
        """
        if not self.messages:
            raise RuntimeError("the MPI communicator has been freed; free it after the ranks' last call")
        name, n = endings.call_of_user()[0], len(numbers)
        mark = f"{name} {n}{about} {self._made} {self._calls_by_nccl}"
        self._own[0], self._own[1 : n + 1] = crc32(mark.encode()), numbers
        self.finish(self.messages.Iallgather(self._own, self._all))
        marks = self._marks.tolist()
        if marks.count(marks[0]) != self.size:
            self._refuse(marks, about or f" with {n} number(s)" * (n > 0))
        return self._all[:, 1 : n + 1].copy()

    def meet_with(self, whole: Any, verb: str) -> None:
        """Before an array's elements go: those of all ranks are alike."""
        self.meet(f" with {whole.size} elements of {NAME(whole.dtype)} to {verb}")
        if whole.size > COUNTED:
            raise OverflowError(
                f"the array has {whole.size} elements, of which this MPI, of version "
                f"{'.'.join(map(str, MPI.Get_version()))}, can count {COUNTED}; take an MPI of version 4.0 "
                "or later, or let each rank have a part of x alone"
            )

    def _refuse(self, marks: list[float], about: str) -> NoReturn:
        """Say who is where."""
        by_nccl = f", after {self._calls_by_nccl} calls by NCCL" if self._calls_by_nccl else ""
        place = f"{endings.place()}{about}{by_nccl}"
        if LEAVING in marks:  # such a rank says no more, nor is it waited for at the end
            atexit.unregister(self._first._leave)
            other = marks.index(LEAVING)
            raise RuntimeError(endings.REFUSAL.format(self.rank, place, other, "the end of its program"))
        own = place.encode()[:NAMED].ljust(NAMED)
        named = np.empty((self.size, NAMED), np.uint8)
        self.finish(self.messages.Iallgather(np.frombuffer(own, np.uint8), named))
        other = next(rank for rank, mark in enumerate(marks) if mark != marks[0])
        one, another = (named[rank].tobytes().decode(errors="replace").strip() for rank in (0, other))
        raise RuntimeError(endings.REFUSAL.format(0, one, other, another))

    def _leave(self, process: int) -> None:
        """The last call of all: a rank whose program ends is known to those that are in another."""
        if os.getpid() == process and not MPI.Is_finalized():
            self._timeout = math.inf  # as MPI itself waits at the end
            if self._unfinished:  # a call that something has interrupted
                of, request = self._unfinished
                self.finish(request)
                if LEAVING in of._marks:
                    return
            self._own[0] = LEAVING
            self.finish(self.messages.Iallgather(self._own, self._all))  # those in another call raise

    def finish(self, request: Any, nbytes: int = 0) -> None:
        """Wait, and end the job if another rank does not come: a collective call cannot be taken back.

        A large message moves on in tests only, a small piece in each: so many bytes are worth many.
        """
        tests, begin = TESTS if nbytes else self._tests, time.monotonic()
        self._first._unfinished = self, request
        while True:
            for _ in range(tests):
                if request.Test():
                    self._first._unfinished = None
                    return
            waited = time.monotonic() - begin
            if waited > self._timeout:
                endings.end_the_job(
                    f"rank {self.rank} has waited {self._timeout:g} s for another rank, in "
                    f"{endings.place()}; that has ended, hangs, is stopped, computes for longer or makes no "
                    "such call; the job ends (communicator takes another timeout)",
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
        self._calls_by_nccl += not isinstance(self._device, (Buffers, Staged))  # in whose calls ranks meet
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


def _free(comm: Any, key: int, first: MPICommunicator) -> None:
    """With the user's communicator its duplicate; those that are there at the end are MPI's own matter."""
    if comm not in (MPI.COMM_WORLD, MPI.COMM_SELF):
        atexit.unregister(first._leave)
        first.messages.Free()


#: By this a communicator of the user's knows its duplicate, as MPI has some 2,000 in all.
DUPLICATE = MPI.Comm.Create_keyval(delete_fn=_free)


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
