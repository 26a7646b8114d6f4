"""Ranks that work until something ends one of them."""

from __future__ import annotations

import sys
import time

import numpy as np
from launch import tell
from mpi4py import MPI

from gpuprop.distributed import communicator


def work(way="numbers", timeout=60.0, raises=None, transport="auto"):
    """Exchange for ever by one of the ways; a rank may raise on its own."""
    comm = communicator(MPI.COMM_WORLD, transport, timeout=timeout)
    whole = np.ones(1003, "float32")
    if way == "gpu":
        import cupy

        cupy.cuda.Device(comm.device_of_rank()).use()
        whole = cupy.asarray(whole)
    own = comm.cut(whole.size)
    part = whole[own].copy()
    for turn in range(1_000_000):
        if turn == 10:
            tell(f"at work {comm.rank}")
            if comm.rank == raises:
                raise ArithmeticError("of one rank alone")
        if way == "numbers":
            assert comm.sum([1.0]) == [comm.size]
        elif way == "exchange":
            assert comm.exchange(comm.rank) == list(range(comm.size))
        elif way == "barrier":
            comm.barrier()
        else:
            comm.reduce_scatter(whole, part, average=True)
            comm.all_gather(whole)


def away_from_collectives():
    """A rank computes alone while the others wait for it."""
    comm = communicator(MPI.COMM_WORLD, timeout=60)
    tell(f"at work {comm.rank}")
    while comm.rank == 0:
        time.sleep(0.01)
    comm.barrier()


def hooks():
    """A rank alone sets none; two communicators set one, which calls the one that was there."""
    before = sys.excepthook
    communicator(MPI.COMM_SELF)
    assert sys.excepthook is before
    sys.excepthook = lambda kind, value, trace: print(f"user's own: {value}", file=sys.stderr)
    comm = communicator(MPI.COMM_WORLD)
    hook = sys.excepthook
    communicator(MPI.COMM_WORLD)
    assert sys.excepthook is hook
    if comm.rank == 1:
        raise ArithmeticError("of one rank alone")
    comm.barrier()


def caught():
    """What is caught ends nothing."""
    comm = communicator(MPI.COMM_WORLD, timeout=60)
    try:
        raise ArithmeticError
    except ArithmeticError:
        return comm.sum([1.0])
