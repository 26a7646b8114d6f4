"""
Share a seismic section among processes
=======================================

Echoes of the sea bed are taken out of 120 traces, with a penalty on jumps between neighbours. pylops-mpi
shares the traces among ranks: here one, and ``mpiexec -n 2 python -m mpi4py processes.py`` draws the same.
"""

import matplotlib.pyplot as plt
import numpy as np
import pylops
import pylops_mpi as mpi
from mpi4py.MPI import COMM_WORLD as WORLD

import gpuprop
from gpuprop.distributed import communicator

TRACES, SAMPLES, random, comm = 120, 90, np.random.default_rng(1), communicator(WORLD)
trace, time = np.mgrid[:TRACES, :SAMPLES]
truth, wave = np.zeros((TRACES, SAMPLES)), np.zeros(50)
for size, depth in ((1, 12 + 4 * np.sin(trace / 20)), (-0.7, 30 + trace / 8), (0.5, 66 - trace / 10)):
    truth += size * (abs(time - depth) <= 1)
noise = random.normal(0, 0.1, truth.shape) * np.where(random.random((TRACES, 1)) < 0.15, 20, 1)
wave[::7] = (-0.6) ** np.arange(8)
mine = comm.cut(TRACES)
shapes = WORLD.allgather(truth[mine].size)


def shared(local):
    array = mpi.DistributedArray(truth.size, local_shapes=shapes)
    array[:] = np.ravel(local)
    return array


echo = mpi.MPIBlockDiag([pylops.signalprocessing.Convolve1D(truth[mine].shape, wave, axis=1)])
jump = mpi.MPIFirstDerivative(truth.shape, kind="forward")  # from rank to rank, too
data = (echo @ shared(truth[mine])).local_array + noise[mine].ravel()


def objective(x, limit):  # this rank's share of f, and its part of the gradient
    residual, jumps = (echo @ shared(x)).local_array - data, jump @ shared(x)
    pull = np.clip(residual, -limit, limit)
    share = np.sum(pull * (residual - pull / 2)) + np.sum(jumps.local_array**2) / 2
    return share, (echo.H @ shared(pull)).local_array + (jump.H @ jumps).local_array


parts, start = {"truth": truth[mine], "measured": data}, np.zeros(data.size)
for name, limit in {"least squares": np.inf, "bad traces pull less": 0.2}.items():
    parts[name] = gpuprop.minimize(objective, start, (limit,), jac=True, comm=comm).x
sections = {name: shared(part).asarray().reshape(truth.shape) for name, part in parts.items()}
both, right = mpi.MPIStackedVStack([echo, jump]), mpi.StackedDistributedArray([shared(data), shared(0)])
cgls = mpi.cgls(both, right, shared(0), niter=100, tol=1e-16)[0].asarray().reshape(truth.shape)
if comm.rank == 0:
    print(f"From CGLS of pylops-mpi it is {abs(sections['least squares'] - cgls).max():.0e} away at most.")
    figure, axes = plt.subplots(2, 2, figsize=(5.2, 5), layout="constrained")
    for axis, (name, section) in zip(axes.flat, sections.items(), strict=True):
        axis.set(title=name, xticks=[], yticks=[])
        axis.imshow(section.T, cmap="gray", vmin=-1, vmax=1, aspect="auto")
    plt.show()
