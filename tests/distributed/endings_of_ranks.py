"""Ranks that work until something ends one of them."""

from __future__ import annotations

import gc
import multiprocessing
import sys
import threading
import time
import warnings

import numpy as np
from collectives import own_device
from launch import tell
from mpi4py import MPI

from gpuprop import SGD
from gpuprop.distributed import Sharded, communicator


def work(way="numbers", timeout=60.0, raises=None, transport="auto"):
    """Exchange for ever by one of the ways; a rank may raise on its own."""
    comm = communicator(MPI.COMM_WORLD, transport, timeout=timeout)
    whole = np.ones(1003, "float32")
    if "gpu" in way:
        whole = own_device(comm).asarray(whole)
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
        elif way == "numbers on gpu":
            comm.gather(whole[:2].astype(float))
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


def late_for_nccl(timeout):
    """All ranks compute alone for longer than the time-out, then one alone."""
    comm, cupy = by_nccl(timeout)
    whole = cupy.ones(10, "float32")
    comm.all_gather(whole)
    time.sleep(2 * timeout)
    comm.all_gather(whole)
    tell(f"at work {comm.rank}")
    while comm.rank == 1:
        time.sleep(0.01)
    comm.all_gather(whole)


def pauses_by_nccl(timeout):
    """Steps, and what they do beside: none of it is a wait for another rank."""
    threads = watching()
    for seconds in (60, timeout):  # first, kernels are compiled
        pause = 1.5 * timeout if seconds == timeout else 0
        comm, cupy = by_nccl(seconds)
        whole = cupy.ones(1003, "float32")
        steps(comm, whole, cupy.ones(3), pause)
        time.sleep(pause)
        replayed = replays(comm, whole, pause)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python warns of forks beside threads, of which MPI has some
            child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(0.01,))
            child.start()
        child.join(10)
    assert watching() > threads
    del comm
    gc.collect()
    time.sleep(timeout)
    by_nccl(60)[0].all_gather(whole)  # is watched at the end
    return {"left": watching() - threads - 1, "replayed": replayed, "child": child.exitcode}


def steps(comm, x, parameters, seconds):
    """Of copies, and of parts with a norm."""
    sharded, optimizer = Sharded(SGD(0.5), comm), SGD(0.5, clip_norm=1.0)
    state, of_parts = sharded.init(x), optimizer.init(parameters, comm=comm)
    end = time.time() + seconds
    while max(comm.exchange(time.time())) < end or not state.step:
        sharded.step(x, x, state)
        optimizer.step(parameters, parameters, of_parts)


def replays(comm, x, pause):
    """A graph, captured in the mode that others disturb most easily, while calls from before are watched."""
    import cupy

    with cupy.cuda.Stream(non_blocking=True) as stream:
        x[:] = comm.rank
        comm.all_gather(x)
        stream.begin_capture(cupy.cuda.runtime.streamCaptureModeGlobal)
        comm.all_gather(x)
        time.sleep(pause)
        graph = stream.end_capture()
        x[:] = comm.rank
        graph.launch(stream)
        time.sleep(pause)
        return all((x[comm.cut(x.size, rank)] == rank).all() for rank in range(comm.size))


def watching():
    return sum(thread.name == "gpuprop-nccl" for thread in threading.enumerate())


def by_nccl(timeout):
    comm = communicator(MPI.COMM_WORLD, "nccl", timeout=timeout)
    return comm, own_device(comm)


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
