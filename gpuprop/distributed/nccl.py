"""NCCL, by CuPy: the only file that imports it here."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from gpuprop.backends.gpu import graphs
from gpuprop.distributed import endings

if TYPE_CHECKING:
    from gpuprop.distributed.mpi import MPICommunicator

#: How many calls the host may be ahead of the device and all are watched. About 1024 kernels fit into CUDA's
#: queue, which is not promised, and with a call there goes one of a step at least.
AHEAD = 512


class Call(NamedTuple):
    """A collective call, between two events on its stream."""

    name: str
    begin: Any = None
    end: Any = None


class Watch:
    """Ends the job when the device has waited too long in one call, or the host has.

    NCCL itself waits for ever. A thread looks a few times within the time-out; the calls only record events,
    because to ask for one leaves "not ready" as the last CUDA error of the thread that asks.
    """

    def __init__(self, rank: int, timeout: float, abort: Callable[[int], Any], cuda: Any) -> None:
        self._rank, self._timeout, self._abort, self._cuda = rank, timeout, abort, cuda
        #: Those that have returned, the oldest first, and the one that has not.
        self._calls: list[Call] = []
        self._within: Call | None = None
        #: Looks are counted, and no seconds: a job that is suspended as a whole has not waited.
        self._pause = min(1.0, timeout / 10)
        self._seen: Call | None = None
        self._looks = 0

    def start(self, device: int) -> None:
        arguments = weakref.ref(self), self._pause, self._cuda.Device(device)
        threading.Thread(target=_keep_looking, args=arguments, name="gpuprop-nccl", daemon=True).start()

    def over(self, name: str, stream: int | None = None) -> Watch:
        """Watch the call in a ``with`` block, on the device only where no graph captures it."""
        begin = end = None
        if stream is not None and not self._cuda.runtime.streamIsCapturing(stream):
            if len(self._calls) < AHEAD:
                begin, end = (self._cuda.Event(disable_timing=True) for _ in range(2))
            else:
                _, begin, end = self._calls.pop(0)
            begin.record()
        self._within = Call(name, begin, end)
        return self

    def __enter__(self) -> None: ...

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        call = self._within
        try:
            if error is None and call is not None and call.end is not None:
                call.end.record()
                self._calls.append(call)
        finally:
            self._within = None

    def look(self) -> None:
        """Count for how long the same call has waited."""
        waiting = self._waiting()
        self._looks = self._looks + 1 if waiting is self._seen else 0
        self._seen = waiting
        if waiting is not None and self._looks * self._pause >= self._timeout:
            endings.end_the_job(
                f"rank {self._rank} has waited {self._timeout:g} s for another rank in {waiting.name} by "
                "NCCL: it has ended, hangs, is stopped, computes for longer or makes no such call; the job "
                "ends (communicator takes another timeout)",
                self._abort,
            )

    def _waiting(self) -> Call | None:
        """The call in which the device is, else that in which the host is."""
        first = None
        for call in self._calls[::-1]:  # NCCL does those of one communicator in order, on any streams
            if call.end.done:
                break
            first = call
        first = first or self._within
        # Otherwise the device still computes what comes before.
        return first if first is None or first.begin is None or first.begin.done else None


def _keep_looking(watched: weakref.ref[Watch], pause: float, device: Any) -> None:
    """As long as there is somebody whose calls are watched.

    In the mode in which a thread may ask for events while another captures a graph, and on the device that is
    in use, because a new thread would begin to use device 0.
    """
    device.use()
    with graphs.unrestricted():
        while True:
            time.sleep(pause)
            watch = watched()
            if watch is None:
                return
            watch.look()
            del watch


class NCCL:
    """What `Communicator` promises of arrays, for CuPy's: on its stream, and the host does not wait."""

    def __init__(
        self, ranks: MPICommunicator, xp: Any, device: int, timeout: float, abort: Callable[[int], Any]
    ) -> None:
        from cupy.cuda import nccl

        self._ranks, self._xp, self._device, self._nccl = ranks, xp, device, nccl
        half, brain, single, double = (
            nccl.NCCL_FLOAT16, nccl.NCCL_BFLOAT16, nccl.NCCL_FLOAT32, nccl.NCCL_FLOAT64
        )  # fmt: skip
        #: NCCL's number of a type, and how many of it are an element.
        self._types = {
            "float16": (half, 1), "bfloat16": (brain, 1), "float32": (single, 1), "float64": (double, 1),
            "complex64": (single, 2), "complex128": (double, 2),
        }  # fmt: skip
        self._gathered: dict[int, Any] = {}
        unique = ranks.broadcast(nccl.get_unique_id() if ranks.rank == 0 else None)
        self._watch = Watch(ranks.rank, timeout, abort, xp.cuda)
        self._watch.start(device)
        with self._watch.over("the start"):
            self._comm = nccl.NcclCommunicator(ranks.size, unique, ranks.rank)

    def gather(self, numbers: Any) -> Any:
        stream = self._stream(numbers)
        if numbers.size not in self._gathered:
            self._gathered[numbers.size] = self._xp.empty((self._ranks.size, numbers.size))
        found = self._gathered[numbers.size]
        kind, _ = self._types["float64"]
        with self._watch.over("gather", stream):
            self._comm.allGather(numbers.data.ptr, found.data.ptr, numbers.size, kind, stream)
        return found

    def reduce_scatter(self, whole: Any, part: Any, average: bool) -> None:
        stream, (kind, each) = self._stream(whole), self._types[whole.dtype.name]
        operation = self._nccl.NCCL_AVG if average else self._nccl.NCCL_SUM
        if whole.size % self._ranks.size == 0:
            count = part.size * each
            with self._watch.over("reduce_scatter", stream):
                self._comm.reduceScatter(whole.data.ptr, part.data.ptr, count, kind, operation, stream)
            return
        with self._watch.over("reduce_scatter", stream), self._group():  # parts of unlike lengths
            for rank, start, count in self._parts(whole):
                to = part.data.ptr if rank == self._ranks.rank else 0
                self._comm.reduce(start, to, count * each, kind, operation, rank, stream)

    def all_gather(self, whole: Any) -> None:
        stream, (kind, each) = self._stream(whole), self._types[whole.dtype.name]
        if whole.size % self._ranks.size == 0:
            count = whole.size // self._ranks.size * each
            own = whole.data.ptr + whole.nbytes // self._ranks.size * self._ranks.rank
            with self._watch.over("all_gather", stream):
                self._comm.allGather(own, whole.data.ptr, count, kind, stream)
            return
        with self._watch.over("all_gather", stream), self._group():
            for rank, start, count in self._parts(whole):
                self._comm.bcast(start, count * each, kind, rank, stream)

    @contextmanager
    def _group(self) -> Iterator[None]:
        self._nccl.groupStart()
        try:
            yield
        finally:
            self._nccl.groupEnd()

    def _parts(self, whole: Any) -> list[tuple[int, int, int]]:
        """Of each rank that has elements: its number, where its part is, and how long."""
        return [
            (rank, whole.data.ptr + cut.start * whole.itemsize, cut.stop - cut.start)
            for rank, cut in enumerate(self._ranks.cuts(whole.size))
            if cut.stop > cut.start
        ]

    def _stream(self, array: Any) -> int:
        device = array.data.device_id
        if device != self._device:
            raise ValueError(
                f"the array is on device {device}, and the ranks exchange those of device {self._device}; "
                "keep all arrays of a rank on one device, or make another communicator"
            )
        return self._xp.cuda.get_current_stream().ptr


def obstacle(ranks: MPICommunicator, array: Any) -> str | None:
    """Why NCCL cannot move such arrays of all ranks; None where it can."""
    import cupy
    from cupy.cuda import nccl

    reason = None if nccl.available else "this CuPy is built without NCCL"
    device = cupy.cuda.runtime.deviceGetPCIBusId(array.device.id)
    first: dict[tuple[str, str], int] = {}
    for rank, (why, node, name) in enumerate(ranks.exchange((reason, ranks.node, device))):
        other = first.setdefault((node, name), rank)
        if why is not None:
            return f"on rank {rank} {why}; use transport='mpi'"
        if other != rank:
            return (
                f"ranks {other} and {rank} both use the device {name} of {node.split()[0]}, where NCCL needs "
                "one for each; start no more ranks than devices, let each use its own "
                "(cupy.cuda.Device(comm.device_of_rank()).use()), or use transport='mpi'"
            )
    return None


def number_of_devices() -> int:
    """How many CUDA devices this process sees.

    Raises
    ------
    DeviceUnavailableError
        None.
    """
    from gpuprop.backends import select_backend

    return select_backend("gpu").xp.cuda.runtime.getDeviceCount()
