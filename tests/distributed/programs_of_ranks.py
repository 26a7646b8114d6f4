"""What the tests of the harness and of endings run on each rank."""

from __future__ import annotations

import time

import numpy as np
from launch import tell
from mpi4py import MPI


def who(number):
    """The rank, the size, and an argument that came by pickle."""
    return MPI.COMM_WORLD.rank, MPI.COMM_WORLD.size, np.float64(number) / 3


def one_raises_before_all(rank):
    if MPI.COMM_WORLD.rank == rank:
        raise ArithmeticError("of one rank alone")
    MPI.COMM_WORLD.Barrier()


def sleep():
    tell(f"asleep {MPI.COMM_WORLD.rank}")
    time.sleep(100)
