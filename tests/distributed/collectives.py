"""Ranks that exchange numbers and arrays, and compare what comes with what they know of one another."""

from __future__ import annotations

import math
import os
import tracemalloc
from contextlib import nullcontext

import ml_dtypes
import numpy as np
from mpi4py import MPI

from gpuprop.distributed import buffers, communicator

DTYPES = ["float16", ml_dtypes.bfloat16, "float32", "float64", "complex64", "complex128"]


def own_device(comm):
    """CuPy, with the rank's device as the current one."""
    import cupy

    cupy.cuda.Device(comm.device_of_rank()).use()
    return cupy


def numbers():
    comm = communicator(MPI.COMM_WORLD, timeout=60)
    rank, size = comm.rank, comm.size
    assert (rank, size) == (MPI.COMM_WORLD.rank, MPI.COMM_WORLD.size)
    # Numbers whose sum depends on the order.
    mine = [0.1 * 3.0**rank, 1e16 if rank == 0 else 1.0, -rank]
    found = comm.gather(np.array(mine))
    assert found.shape == (size, 3)
    assert found[rank].tolist() == mine
    in_order = found[0].copy()
    for row in found[1:]:
        in_order += row
    assert comm.sum(mine) == in_order.tolist()
    assert comm.sum([]) == []
    assert comm.maximum([rank, -rank, -math.inf]) == [size - 1, 0, -math.inf]
    assert math.isnan(comm.maximum([math.nan if rank == size - 1 else 1.0])[0])
    value = {"rank": rank, "text": "x" * (1000 * rank)}
    assert comm.broadcast(value) == {"rank": 0, "text": ""}
    assert comm.exchange(rank if rank % 2 else None) == [k if k % 2 else None for k in range(size)]
    comm.barrier()
    for length in (0, 1, 2, 3, 7, 1003):
        cuts = [comm.cut(length, k) for k in range(size)]
        assert comm.cut(length) == cuts[rank]
        assert [np.arange(length)[cut].tolist() for cut in cuts] == [
            each.tolist() for each in np.array_split(np.arange(length), size)
        ]
    return [value.hex() for value in comm.sum(mine)]


def arrays(way, small=False):
    """Sums and completions of every dtype and many lengths, by "mpi", "nccl", "aware" or on the host."""
    if small:  # many turns of a few elements
        buffers.MOST = buffers.LEAST = 64
    transport = "nccl" if way == "nccl" else "mpi"
    comm = communicator(MPI.COMM_WORLD, transport, cuda_aware=True if way == "aware" else None, timeout=60)
    xp = np if way == "host" else own_device(comm)
    elsewhere = nullcontext()
    if xp is not np:  # the current device need not be that of the arrays
        elsewhere = xp.cuda.Device((comm.device_of_rank() + 1) % xp.cuda.runtime.getDeviceCount())
    for dtype in map(np.dtype, DTYPES):
        for length in (0, 1, comm.size - 1, comm.size, 12, 1003):
            for average in (False, True):
                of_ranks = [some(dtype, length, rank) for rank in range(comm.size)]
                own = comm.cut(length)
                whole = xp.array(of_ranks[comm.rank])
                part = xp.full(own.stop - own.start, 77, dtype)
                with elsewhere:
                    comm.reduce_scatter(whole, part, average)
                np.testing.assert_array_equal(bits(on_host(whole)), bits(of_ranks[comm.rank]))
                expected = in_order(of_ranks, average)[own]
                if way == "nccl":
                    close = {"float16": 2e-3, "bfloat16": 2e-2, "float32": 1e-6}.get(dtype.name, 1e-6)
                    wide = "c16" if dtype.kind == "c" else "f8"
                    np.testing.assert_allclose(
                        on_host(part).astype(wide), expected.astype(wide), rtol=close, atol=close
                    )
                else:
                    np.testing.assert_array_equal(bits(on_host(part)), bits(expected))
                whole[own] = part
                others = [cut for cut in map(comm.cut, [length] * comm.size, range(comm.size)) if cut != own]
                for cut in others:
                    whole[cut] = 55
                with elsewhere:
                    comm.all_gather(whole)
                np.testing.assert_array_equal(bits(on_host(whole[own])), bits(on_host(part)))
                same = comm.exchange(bits(on_host(whole)).tobytes())
                assert len(set(same)) == 1
                if way != "nccl":
                    total = in_order(of_ranks, average)
                    np.testing.assert_array_equal(bits(on_host(whole)), bits(total))
    return True


def some(dtype, length, rank):
    rng = np.random.default_rng([length, rank, dtype.num])
    values = rng.standard_normal(length) * 3.0**rank
    if dtype.kind == "c":
        values = values + 1j * rng.standard_normal(length)
    return values.astype(dtype)


def in_order(of_ranks, average):
    """The sum in the order of the ranks; of 16 bits it is rounded once."""
    wide = np.float32 if of_ranks[0].itemsize == 2 else of_ranks[0].dtype
    total = of_ranks[0].astype(wide)
    for each in of_ranks[1:]:
        total = total + each.astype(wide)
    if average:
        total = total / np.asarray(len(of_ranks), total.real.dtype)
    return total.astype(of_ranks[0].dtype)


def on_host(array):
    return array if isinstance(array, np.ndarray) else array.get()


def bits(array):
    return np.ascontiguousarray(array).view(np.uint8)


def special():
    """What is not finite or overflows goes through as NumPy adds it, and without a warning."""
    comm = communicator(MPI.COMM_WORLD, timeout=60)
    for dtype, large in (("float16", 6e4), ("float32", 3e38)):
        whole = np.array([np.inf, np.nan, large, 1.0] * comm.size, dtype)
        part = np.empty(4, dtype)
        comm.reduce_scatter(whole, part)
        top = np.inf if comm.size > 1 else np.dtype(dtype).type(large)
        np.testing.assert_array_equal(part, np.array([np.inf, np.nan, top, comm.size], dtype))


def memory_of_steps():
    """The most that a sum and a completion allocate on the host, once buffers are there."""
    comm = communicator(MPI.COMM_WORLD, timeout=60)
    most = {}
    for dtype in ("float16", "float32"):
        whole = np.ones(1_000_001, dtype)
        own = comm.cut(whole.size)
        part = np.empty(own.stop - own.start, dtype)
        for turn in range(3):
            if turn == 1:
                tracemalloc.start()
            comm.reduce_scatter(whole, part)
            comm.all_gather(whole)
            comm.sum([1.0, 2.0])
        most[dtype] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return most


def memory_of_steps_on_gpu(transport):
    """How often CuPy is asked for memory by calls after the first."""
    comm = communicator(MPI.COMM_WORLD, transport, timeout=60)
    cupy = own_device(comm)

    class Requests(cupy.cuda.MemoryHook):
        name = "requests"
        count = 0

        def malloc_preprocess(self, **_):
            self.count += 1

    whole, few = cupy.ones(1003, "float32"), cupy.ones(2)
    own = comm.cut(whole.size)
    part = cupy.empty(own.stop - own.start, "float32")
    for turn in range(3):
        with Requests() as requests:
            comm.reduce_scatter(whole, part)
            comm.all_gather(whole)
            gathered = comm.gather(few)
        assert gathered.get().tolist() == [[1.0, 1.0]] * comm.size
        assert turn == 0 or requests.count == 0
    return type(gathered).__module__.split(".")[0]


def stream_of_its_own():
    """NCCL works on CuPy's current stream."""
    comm = communicator(MPI.COMM_WORLD, "nccl", timeout=60)
    cupy = own_device(comm)
    with cupy.cuda.Stream(non_blocking=True) as stream:
        whole = cupy.arange(12.0)
        part = cupy.empty(comm.cut(12).stop - comm.cut(12).start)
        comm.reduce_scatter(whole, part)
        graph_part = cupy.zeros_like(part)
        stream.synchronize()
        stream.begin_capture()
        comm.reduce_scatter(whole, graph_part)
        graph = stream.end_capture()
        graph.launch(stream)
        stream.synchronize()
    return part.get().tolist() == graph_part.get().tolist()


def of_shared_devices(transport):
    """The answer where two ranks use one device."""
    import cupy

    comm = communicator(MPI.COMM_WORLD, transport, timeout=60)
    cupy.cuda.Device(comm.rank % 2).use()
    try:
        found = comm.gather(cupy.full(1, float(comm.rank)))
    except RuntimeError as error:
        return str(error)
    return found.get().tolist()


def of_another_device():
    comm = communicator(MPI.COMM_WORLD, "nccl", timeout=60)
    cupy = own_device(comm)
    comm.gather(cupy.ones(1))
    with cupy.cuda.Device(1 - comm.device_of_rank()):
        try:
            comm.gather(cupy.ones(1))
        except ValueError as error:
            return str(error)


def threads(cpus=None, chosen=None):
    """The default of each rank, after it was bound to these CPUs; rank 0 is asked once more with one rank."""
    import gpuprop

    if cpus is not None:
        os.sched_setaffinity(0, cpus[MPI.COMM_WORLD.rank])
    if chosen is not None:
        gpuprop.set_num_threads(chosen)
    communicator(MPI.COMM_WORLD, timeout=60)
    communicator(MPI.COMM_SELF, timeout=60)
    return gpuprop.get_num_threads()


def user_messages():
    """Messages of the user's, under way meanwhile, are not taken for ours."""
    comm = communicator(MPI.COMM_WORLD, timeout=60)
    theirs = np.full(3, -1.0)
    request = MPI.COMM_WORLD.Iallreduce(np.full(3, comm.rank, "d"), theirs)
    assert comm.sum([1.0]) == [comm.size]
    request.Wait()
    return theirs.tolist()


def bad_arguments():
    """What `communicator` answers."""
    answers = []
    for arguments, options in (
        ((MPI.COMM_WORLD, "gloo"), {}),
        ((MPI.COMM_WORLD,), {"timeout": 0}),
        ((3,), {}),
        ((MPI.COMM_NULL,), {}),
    ):
        try:
            communicator(*arguments, **options)
        except (TypeError, ValueError) as error:
            answers.append(f"{type(error).__name__}: {error}")
    return answers
