"""What scripts share that run on several ranks, under mpiexec."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any

from command_line import tell

import gpuprop
from gpuprop.measure import bandwidth

#: What ranks raise where one cannot take part: there is no MPI, or a transport does not work here.
ERRORS = (ImportError, RuntimeError)


def joined(transport: str) -> Any:
    """The communicator of all ranks."""
    from gpuprop.distributed import communicator

    try:
        from mpi4py import MPI
    except ERRORS:
        communicator(None)  # says what mends it
        raise
    return communicator(MPI.COMM_WORLD, transport)


def use_own_device(comm: Any, backend: gpuprop.Backend) -> None:
    """Let this rank's arrays be on another GPU than those of the ranks beside it, where there are enough."""
    if backend.name == "gpu":
        backend.xp.cuda.Device(comm.device_of_rank()).use()


def failed(comm: Any, message: str) -> int:
    """Tell it; the exit code. The other ranks, which would wait for this one, end with it."""
    if comm is None or comm.size == 1:
        tell(message)
        return 2
    from mpi4py import MPI

    from gpuprop.distributed import endings

    endings.end_the_job(f"{Path(sys.argv[0]).name}: rank {comm.rank}: {message}", MPI.COMM_WORLD.Abort, 2)


def time_transfers(comm: Any, backend: gpuprop.Backend) -> list[float]:
    """Seconds of each of the communicator's transfers of arrays from now on, waiting for others included."""
    seconds: list[float] = []

    def timed(call: Any, *arguments: Any) -> None:
        seconds.append(bandwidth.seconds(backend, partial(call, *arguments)))

    for name in ("reduce_scatter", "all_gather"):
        setattr(comm, name, partial(timed, getattr(comm, name)))
    return seconds
