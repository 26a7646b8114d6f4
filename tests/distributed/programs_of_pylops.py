"""Least squares on the arrays of pylops-mpi."""

from __future__ import annotations

import numpy as np

import gpuprop
from gpuprop.distributed import communicator

N = 21


def least_squares():
    """Blocks of measurements, one a rank, with a penalty on jumps, which ranks share: by both libraries."""
    import pylops  # with the environment of ranks
    import pylops_mpi
    from mpi4py import MPI

    comm = communicator(MPI.COMM_WORLD)
    cut, random = comm.cut(N), np.random.default_rng(comm.rank)
    n = cut.stop - cut.start
    blocks = pylops_mpi.MPIBlockDiag([pylops.MatrixMult(random.standard_normal((n + 30, n)))])
    jumps = 2 * pylops_mpi.MPIFirstDerivative(N, kind="forward")
    shapes = MPI.COMM_WORLD.allgather((n,))
    x = pylops_mpi.DistributedArray(N, local_shapes=shapes, partition=pylops_mpi.Partition.SCATTER)
    x[:] = random.standard_normal(n)
    right = blocks @ x
    right[:] = right.local_array + random.standard_normal(n + 30)

    def fun(part):
        x[:] = part
        residual, slopes = blocks @ x - right, jumps @ x
        squares = np.sum(residual.local_array**2) + np.sum(slopes.local_array**2)
        return squares / 2, (blocks.H @ residual + jumps.H @ slopes).local_array

    x[:] = 0
    both = pylops_mpi.MPIStackedVStack([blocks, jumps])
    stacked = pylops_mpi.StackedDistributedArray([right, x.copy()])
    theirs, *_, cost = pylops_mpi.cgls(both, stacked, x.copy(), niter=100, tol=1e-24)
    x[:] = 1  # minimize writes to its own copy of the part, and to nothing else
    ours = gpuprop.minimize(fun, x.local_array, jac=True, comm=comm, options={"gtol": 1e-9})
    return {
        "status": ours.status,
        "nit": ours.nit,
        "f": (ours.fun, cost[-1] ** 2 / 2),
        "x": (ours.x, theirs.local_array),
        "coupled": abs((jumps @ theirs).local_array).max(),
    }
