"""Ranks that make different calls: what each is told, and that the communicator is as good as before."""

from __future__ import annotations

import signal
import sys
import time

import numpy as np
from launch import tell
from mpi4py import MPI

import gpuprop
from gpuprop.distributed import Sharded, communicator, mpi


def refusals(path):
    """By the name of a mistake, what rank 0 and the others do; each rank gives what it was told."""
    comm = communicator(MPI.COMM_WORLD, timeout=60)
    other = communicator(MPI.COMM_WORLD, timeout=60)
    x, whole = np.ones(5), np.ones(12)
    optimizer = gpuprop.RMSProp(0.1, clip_norm=1.0, nonfinite="skip")
    state = optimizer.init(x, comm=comm)
    raising = gpuprop.RMSProp(0.1, nonfinite="raise")
    state_of_raising = raising.init(x, comm=comm)
    sharded = Sharded(gpuprop.RMSProp(0.1), comm)
    state_of_sharded = sharded.init(whole)
    part = whole[comm.cut(12)].copy()

    def step():
        optimizer.step(x, x, state)

    mistakes = {
        ("skipped", "step"): (lambda: state.skipped, step),
        ("skipped", "step of one number"): (
            lambda: state.skipped,
            lambda: raising.step(x, x, state_of_raising),
        ),
        ("save", "step"): (lambda: state.save(path, x=x), step),
        ("step", "save"): (step, lambda: state.save(path, x=x)),
        ("init", "step"): (lambda: optimizer.init(x, comm=comm), step),
        ("load_state", "step"): (lambda: gpuprop.load_state(path, comm=comm), step),
        ("minimize", "step"): (lambda: gpuprop.minimize(lambda x: 0.0, x, jac=np.sign, comm=comm), step),
        ("step", "step of a whole"): (step, lambda: sharded.step(whole, whole, state_of_sharded)),
        ("barrier", "sum"): (comm.barrier, lambda: comm.sum([1.0])),
        ("exchange", "gather"): (lambda: comm.exchange(1), lambda: comm.gather([1.0])),
        ("gather", "gather"): (lambda: comm.gather([1.0]), lambda: comm.gather([1.0, 2.0])),
        ("gather", "gather of many"): (lambda: comm.gather([1.0]), lambda: comm.gather([1.0] * 100)),
        ("sum", "maximum"): (lambda: comm.sum([1.0]), lambda: comm.maximum([1.0])),
        ("sum", "sum of the other communicator"): (lambda: comm.sum([1.0]), lambda: other.sum([1.0])),
        ("reduce_scatter", "all_gather"): (
            lambda: comm.reduce_scatter(whole, part),
            lambda: comm.all_gather(whole),
        ),
        ("reduce_scatter", "reduce_scatter of another length"): (
            lambda: comm.reduce_scatter(whole, part),
            lambda: comm.reduce_scatter(np.ones(24), np.ones(24)[comm.cut(24)]),
        ),
        ("all_gather", "all_gather of another dtype"): (
            lambda: comm.all_gather(whole),
            lambda: comm.all_gather(whole.astype("float32")),
        ),
        ("reduce_scatter", "reduce_scatter of an average"): (
            lambda: comm.reduce_scatter(whole, part),
            lambda: comm.reduce_scatter(whole, part, average=True),
        ),
    }
    told, before = {}, [x.copy(), whole.copy(), part.copy()]
    for name, (of_first, of_others) in mistakes.items():
        try:
            of_first() if comm.rank == 0 else of_others()
        except RuntimeError as error:
            told[name] = str(error)
        assert comm.sum([1.0, comm.rank]) == [comm.size, sum(range(comm.size))]
        for now, then in zip([x, whole, part], before, strict=True):
            np.testing.assert_array_equal(now, then)
    step()  # and what was refused has left nothing behind
    assert state.step == 1
    return list(mistakes), told


def on_gpus(transport):
    """What ranks in different calls are told; by MPI they go on as before.

    Steps that the host does not wait for are counted: a rank that had one more would be told.
    """
    import cupy

    comm = communicator(MPI.COMM_WORLD, transport, timeout=60)
    cupy.cuda.Device(comm.device_of_rank()).use()
    x = cupy.ones(5)
    optimizer = gpuprop.RMSProp(0.1, clip_norm=1.0)
    state = optimizer.init(x, comm=comm)
    for _ in range(3):
        optimizer.step(x, x, state)
    assert state.skipped == 0
    by_mpi = transport == "mpi"
    comm._calls_by_nccl += 0 if by_mpi else comm.rank  # a step indeed would have NCCL wait
    try:
        optimizer.step(x, x, state) if comm.rank and by_mpi else comm.barrier()
    except RuntimeError as error:
        return str(error), comm.sum([1.0]) if by_mpi else None


def ends(how):
    """A rank ends by itself, in one way or another, while the others go on."""
    comm = communicator(MPI.COMM_WORLD, timeout=60)
    tell(f"at work {comm.rank}")
    if comm.rank == 1 and how == "exit":
        sys.exit(3)
    try:
        while not (comm.rank == 1 and how in ("return", "caught")):
            comm.sum([1.0])
    except RuntimeError as error:
        if how != "caught":
            raise
        print(error, file=sys.stderr)


def ends_well():
    """Ranks end one after the other, with communicators of some of them, one of which is freed."""
    comm = communicator(MPI.COMM_WORLD, timeout=2.0)
    half = MPI.COMM_WORLD.Split(comm.rank % 2)
    of_half, again = communicator(half, timeout=2.0), communicator(MPI.COMM_WORLD.Split(0), timeout=2.0)
    assert of_half.sum([1.0])[0] + again.sum([0.0])[0] == half.size
    half.Free()
    time.sleep(2.5 * comm.rank)  # longer than the time-out


def ends_within_a_call():
    """A scheduler's signal comes to all ranks, of which one is in a call, and another not yet."""
    comm = communicator(MPI.COMM_WORLD, timeout=60)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    tell(f"at work {comm.rank}")
    while comm.rank == 1:
        time.sleep(0.01)
    comm.sum([1.0])


def finalized_by_hand():
    communicator(MPI.COMM_WORLD).barrier()
    tell(f"at work {MPI.COMM_WORLD.rank}")
    MPI.Finalize()


def many():
    """More communicators than MPI has contexts."""
    for _ in range(2500):
        comm = communicator(MPI.COMM_WORLD, timeout=60)
    own = MPI.COMM_WORLD.Dup()
    theirs = communicator(own, timeout=60)
    for _ in range(2500):
        two = MPI.COMM_WORLD.Split(comm.rank // 2)
        assert communicator(two, timeout=60).sum([1.0]) == [two.size]
        two.Free()
    assert comm.sum([1.0]) == theirs.sum([1.0]) == [comm.size]
    own.Free()
    try:
        theirs.sum([1.0])
    except RuntimeError as error:
        return str(error)


def counted():
    """What an MPI that counts to a few elements only cannot move is refused, and nothing is written."""
    mpi.COUNTED = 10
    comm = communicator(MPI.COMM_WORLD, timeout=60)
    whole, answers = np.ones(11, "complex64"), []
    part = np.full(comm.cut(11).stop - comm.cut(11).start, 7, "complex64")
    for call in (lambda: comm.reduce_scatter(whole, part), lambda: comm.all_gather(whole)):
        try:
            call()
        except OverflowError as error:
            answers.append(str(error))
    assert set(part.tolist()) == {7}
    comm.reduce_scatter(whole[:10], part[: comm.cut(10).stop - comm.cut(10).start])
    return answers
