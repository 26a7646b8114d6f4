"""Beyond one device: steps of vectors whose parts, or whose gradients, are spread over processes.

Start with ``communicator.py``, which says what ranks exchange; ``mpi.py`` is how, ``buffers.py`` sums arrays,
``staged.py`` and ``nccl.py`` see to those on GPUs, and ``endings.py`` ends a job of which one rank cannot go
on. ``sharded.py`` divides the state of a vector that all ranks hold, which ``vectors.py`` lays flat. This
room may import ``checkpoint``, ``optimizers``, ``backends``, that of the CPU, whose threads ranks share, and
that of the GPU, whose captures nobody may disturb.
"""

from __future__ import annotations

from typing import Any

from gpuprop.distributed.communicator import Communicator
from gpuprop.distributed.sharded import Sharded

__all__ = ["Communicator", "Sharded", "communicator"]


def communicator(
    comm: Any, transport: str = "auto", *, cuda_aware: bool | None = None, timeout: float = 300.0
) -> Communicator:
    """Let the ranks of an MPI communicator take steps together.

    Every rank calls this, and whatever uses what it returns, in the same order: ranks that meet in different
    calls all raise a RuntimeError that names them. NumPy arrays go by MPI. Where ranks share the CPUs of a
    machine, each one's steps use its share of them by default. With more than one rank an exception that
    nobody catches ends the whole job with its message (by ``sys.excepthook``, which prints as before),
    because the other ranks would wait for this one for ever. The end of a program is a call, too: a rank
    that is in another one raises. ``python -m mpi4py`` ends the job itself where a status is not 0.

    Parameters
    ----------
    comm : mpi4py.MPI.Intracomm
        Such as ``MPI.COMM_WORLD``. Messages go by a duplicate of it, and never meet yours. It is made once,
        and freed with `comm`: two threads that exchange at a time need a `comm` each.
    transport : {"auto", "mpi", "nccl"}
        How CuPy arrays go. "auto" is NCCL, on CuPy's current stream, where CuPy has it and each rank has
        a device of its own; else MPI. It is found out when the first CuPy array comes.
    cuda_aware : bool, optional
        Whether MPI reads the memory of GPUs. By default it is asked; where it does not say so, CuPy
        arrays go through memory of the host.
    timeout : float
        Seconds for which a rank waits for another one, before it ends the job.

    Returns
    -------
    Communicator
        What `comm` is wherever an optimizer or `gpuprop.minimize` takes one. One rank alone behaves as no
        `comm`.

    Raises
    ------
    TypeError, ValueError
        An argument is none of these.
    ImportError
        mpi4py is not installed, or finds no MPI.
    """
    if transport not in ("auto", "mpi", "nccl"):
        raise ValueError(f"transport is {transport!r}; it must be 'auto', 'mpi' or 'nccl'")
    if not isinstance(timeout, (int, float)) or not timeout > 0:
        raise ValueError(f"timeout is {timeout!r}; it must be a number of seconds, above 0")
    try:
        from gpuprop.distributed.mpi import MPICommunicator
    except ModuleNotFoundError as error:
        if error.name != "mpi4py":
            raise
        raise ImportError('mpi4py is not installed; mend: python -m pip install "gpuprop[mpi]"') from None
    except RuntimeError as error:  # of mpi4py, which lists where it has looked
        why, *_ = str(error).splitlines()
        raise ImportError(
            f"mpi4py says: {why}; mend: load your cluster's MPI, or python -m pip install mpich"
        ) from error
    return MPICommunicator(comm, transport, cuda_aware, timeout)
