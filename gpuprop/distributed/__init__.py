"""Beyond one device: steps of vectors whose parts, or whose gradients, are spread over processes."""

from gpuprop.distributed.communicator import Communicator

__all__ = ["Communicator", "communicator"]


def communicator(comm: object, transport: str = "auto") -> Communicator:
    from gpuprop.distributed.mpi import MPICommunicator

    return MPICommunicator(comm)
