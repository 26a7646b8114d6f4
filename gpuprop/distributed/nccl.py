"""NCCL, by CuPy: the only file that imports it here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gpuprop.distributed.mpi import MPICommunicator


class NCCL:
    """What `Communicator` promises of arrays, for CuPy's: on its stream, and the host does not wait."""

    def __init__(self, ranks: MPICommunicator, xp: Any, device: int) -> None:
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
        self._comm = nccl.NcclCommunicator(ranks.size, unique, ranks.rank)

    def gather(self, numbers: Any) -> Any:
        stream = self._stream(numbers)
        if numbers.size not in self._gathered:
            self._gathered[numbers.size] = self._xp.empty((self._ranks.size, numbers.size))
        found = self._gathered[numbers.size]
        kind, _ = self._types["float64"]
        self._comm.allGather(numbers.data.ptr, found.data.ptr, numbers.size, kind, stream)
        return found

    def reduce_scatter(self, whole: Any, part: Any, average: bool) -> None:
        stream, (kind, each) = self._stream(whole), self._types[whole.dtype.name]
        operation = self._nccl.NCCL_AVG if average else self._nccl.NCCL_SUM
        if whole.size % self._ranks.size == 0:
            count = part.size * each
            self._comm.reduceScatter(whole.data.ptr, part.data.ptr, count, kind, operation, stream)
            return
        with self._group():  # parts of unlike lengths
            for rank, start, count in self._parts(whole):
                to = part.data.ptr if rank == self._ranks.rank else 0
                self._comm.reduce(start, to, count * each, kind, operation, rank, stream)

    def all_gather(self, whole: Any) -> None:
        stream, (kind, each) = self._stream(whole), self._types[whole.dtype.name]
        if whole.size % self._ranks.size == 0:
            count = whole.size // self._ranks.size * each
            own = whole.data.ptr + whole.nbytes // self._ranks.size * self._ranks.rank
            self._comm.allGather(own, whole.data.ptr, count, kind, stream)
            return
        with self._group():
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
