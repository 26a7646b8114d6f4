"""What each rank does in the tests of `Sharded`."""

from __future__ import annotations

import tracemalloc
from zlib import crc32

import ml_dtypes
import numpy as np
from mpi4py import MPI
from variants import variants

import gpuprop
from gpuprop.distributed import Sharded, communicator

TYPES = [np.float16, ml_dtypes.bfloat16, np.float32, np.float64, np.complex64, np.complex128]
NO_NUMBERS = np.array([np.nan, np.inf, -np.inf])


def random(rng, shape, dtype):
    values = rng.normal(size=shape)
    if np.dtype(dtype).kind == "c":
        values = values + 1j * rng.normal(size=shape)
    return np.asarray(values).astype(dtype)


def shares(rng, grad, comm):
    """Each element of the gradient is one rank's; the others have 0 there, so that the sum is exact."""
    owners = rng.integers(comm.size, size=grad.shape)
    return np.where(owners == comm.rank, grad, np.zeros((), grad.dtype))


def optimizers_for(rng, shape, dtype):
    """All variants, with arrays among their options of this shape."""
    # Options are numbers, or arrays with an axis.
    bound, rates = (np.abs(rng.normal(size=shape or 1)) for _ in range(2))
    real = np.zeros((), dtype).real.dtype
    return variants((-bound).astype(dtype), bound.astype(dtype), rates.astype(real))


def is_of_the_whole(optimizer):
    """Whether sums over all elements decide about each, which are rounded otherwise when they are parted."""
    return optimizer.clip_norm is not None or optimizer._finds_rate


def compare(device, transport, names, dtype, shapes):
    """Where the points differ from those of one process, or between ranks: a list that ought to be empty."""
    comm, backend = communicator(MPI.COMM_WORLD, transport), gpuprop.select_backend(device)
    wrong = []
    if device == "gpu":
        backend.xp.cuda.Device(comm.device_of_rank()).use()
    for shape in shapes:
        for name in names:
            rng = np.random.default_rng([7, *np.atleast_1d(shape)])
            kept = optimizers_for(rng, shape, dtype)[name]
            optimizer = on_device(backend, kept)
            start = random(rng, shape, dtype)
            ours, one = (backend.xp.array(start) for _ in range(2))
            sharded = Sharded(optimizer, comm, average=False)
            state, state_of_one = sharded.init(ours, backend=backend), optimizer.init(one, backend=backend)
            # A rate that is found begins far below the scale of x, and is multiplied by 8 a few times.
            seen, steps = 0, 12 if optimizer._finds_rate else 4
            for step in range(steps):
                grad = random(rng, shape, dtype)
                if kept.nonfinite == "skip" and step == 1 and grad.size > 1:
                    grad.ravel()[:3] = NO_NUMBERS[: grad.size].astype(dtype)
                share = shares(rng, grad, comm)
                given = backend.xp.array(share)
                optimizer.step(one, backend.xp.array(grad), state_of_one)
                sharded.step(ours, given, state)
                here, there = backend.to_host(ours), backend.to_host(one)
                if backend.to_host(given).tobytes() != share.tobytes():
                    wrong.append((name, shape, step, "the gradient was written"))
                if is_of_the_whole(optimizer):
                    close = 1e-10 if here.real.dtype == np.float64 else 1e-4
                    same = np.allclose(
                        here.astype(complex), there.astype(complex), rtol=close, equal_nan=True
                    )
                else:
                    same = here.tobytes() == there.tobytes()
                if not same:
                    wrong.append((name, shape, step, here.tolist(), there.tolist()))
                seen = crc32(here.tobytes(), seen)
            if np.ptp(comm.gather(np.array([seen], float))):
                wrong.append((name, shape, "ranks differ"))
            if state.step != steps or state.skipped != state_of_one.skipped:
                wrong.append((name, shape, state.step, state.skipped, state_of_one.skipped))
            size, most = int(np.prod(shape)), -(-int(np.prod(shape)) // comm.size)
            if any(array.size > most for array in state.arrays.values()) or (size and ours.size != size):
                wrong.append((name, shape, "the state is too large"))
    return wrong


def on_device(backend, optimizer):
    """The optimizer with its arrays where the backend's are."""
    from gpuprop.distributed.vectors import with_arrays

    return with_arrays(optimizer, backend.asarray) if optimizer._reads else optimizer


def averages():
    """The step is by the mean of the gradients, rounded once: those of ranks are small whole numbers."""
    comm, found = communicator(MPI.COMM_WORLD), []
    for dtype in TYPES:
        x, one = np.ones(7, dtype), np.ones(7, dtype)
        every = [(np.arange(7) * (rank + 1) - 3 * rank).astype(dtype) for rank in range(comm.size)]
        wide = np.complex128 if np.dtype(dtype).kind == "c" else np.float64
        mean = np.mean(np.asarray(every, wide), axis=0)
        mean = mean.astype(np.float32).astype(dtype) if x.itemsize == 2 else mean.astype(dtype)
        optimizer = gpuprop.SGD(0.5)
        sharded = Sharded(optimizer, comm)
        sharded.step(x, every[comm.rank], sharded.init(x))
        optimizer.step(one, mean, optimizer.init(one))
        found.append((np.dtype(dtype).name, x.astype(complex).tolist(), one.astype(complex).tolist()))
    return found


def layouts():
    """Every order of axes without gaps: where the points differ from those of one process."""
    comm, wrong, rng = communicator(MPI.COMM_WORLD), [], np.random.default_rng(3)
    rates = rng.uniform(size=(3, 4, 5))
    optimizer = gpuprop.RMSProp(rates, momentum=0.9, bounds=(-rates[::-1], 1.0))
    for order in ((0, 1, 2), (2, 1, 0), (1, 2, 0), (2, 0, 1)):
        places = np.argsort(order)
        ours = np.ascontiguousarray(np.ones((3, 4, 5)).transpose(order)).transpose(places)
        one, sharded = np.ones((3, 4, 5)), Sharded(optimizer, comm, average=False)
        state, state_of_one = sharded.init(ours), optimizer.init(one)
        for _ in range(3):
            grad = rng.normal(size=(3, 4, 5))
            share = np.empty_like(ours)
            share[...] = shares(rng, grad, comm)
            sharded.step(ours, share, state)
            optimizer.step(one, grad, state_of_one)
        if not np.array_equal(ours, one):
            wrong.append(order)
    return wrong


def is_its_own_gradient():
    """The points where x itself is given as its gradient."""
    x, comm = np.array([5.0, 4.0, 3.0]), communicator(MPI.COMM_WORLD)
    sharded = Sharded(gpuprop.SGD(0.25), comm, average=False)
    sharded.step(x, x, sharded.init(x))
    return x


def refusals():
    """What errors say on this rank; and x behind them."""
    comm, x, said = communicator(MPI.COMM_WORLD), np.arange(12.0).reshape(3, 4), []
    sharded = Sharded(gpuprop.RMSProp(bounds=(np.zeros((3, 4)), 9.0)), comm)
    state, wrong = sharded.init(x), np.full((3, 4), np.nan)
    for call in (
        lambda: Sharded(gpuprop.RMSProp().fuse(before="grad = x"), comm),
        lambda: Sharded(gpuprop.RMSProp(), MPI.COMM_WORLD),
        lambda: Sharded(gpuprop.RMSProp(), comm, average=1),
        lambda: sharded.init(x[:, ::2]),
        lambda: sharded.init(np.ones(5)),
        lambda: sharded.init(np.ones(3 + comm.rank)),
        lambda: sharded.init(np.ones(3, ["f4", "f8"][comm.rank % 2])),
        lambda: Sharded(gpuprop.SGD(), comm, average=comm.rank == 0).init(x),
        lambda: Sharded(gpuprop.SGD(0.1 + comm.rank), comm).init(x),
        lambda: gpuprop.minimize(None, x, method=Sharded(gpuprop.SGD(), comm), jac=lambda x: x),
        lambda: sharded.step(x, wrong.T.copy().T, state),
        lambda: sharded.step(x, wrong[:2], state),
        lambda: sharded.step(x, wrong.astype("f4"), state),
        lambda: sharded.step(x, wrong.astype(complex), state),
        lambda: sharded.step(x, wrong.ravel(), state),
        lambda: sharded.step(x, wrong.tolist(), state),
        lambda: sharded.step(x, wrong, None),
        lambda: sharded.step(np.ones(40), np.ones(40), state),
        lambda: Sharded(gpuprop.RMSProp(nonfinite="raise"), comm).step(x, wrong, state),
    ):
        try:
            call()
        except (TypeError, ValueError, FloatingPointError) as error:
            said.append(f"{type(error).__name__}: {error}")
        else:
            said.append("nothing")
    return said, x


def starts(device, dtypes):
    """What is said of each x that is another on the last rank: where one bit is, or the order of its rows."""
    comm, backend = communicator(MPI.COMM_WORLD), gpuprop.select_backend(device)
    if device == "gpu":
        backend.xp.cuda.Device(comm.device_of_rank()).use()
    sharded, said = Sharded(gpuprop.SGD(), comm), []
    for dtype in dtypes:
        for size in (1, 5, 1021, 3 * 1021 + 7, 90_000):
            kept = random(np.random.default_rng(size), size, dtype)
            for change in (None, 0, size // 2, size - 1, "reverse"):
                if change == "reverse" and size == 1:
                    continue
                x = kept.copy()
                if comm.rank == comm.size - 1 and change == "reverse":
                    x = x[::-1].copy()
                elif comm.rank == comm.size - 1 and change is not None:
                    x.view("u1")[change * x.itemsize] ^= 1
                try:
                    sharded.init(backend.asarray(x), backend=backend)
                    said.append(None if change is None else (dtype, size, change))
                except ValueError as error:
                    said.append(str(error) if change is not None else (dtype, size))
    return said


def memory_of_options(shape):
    """Of arrays among the options that lie as x does and otherwise: how much of each is new, and is kept."""
    comm, x = communicator(MPI.COMM_WORLD), np.zeros(shape, order="F")
    found = []
    for order in "FC":
        sharded = Sharded(gpuprop.RMSProp(np.ones(shape, order=order)), comm)
        sharded.init(x)
        part = kept = sharded._own.learning_rate
        while kept.base is not None:
            kept = kept.base
        found.append(
            (part.nbytes, 0 if np.may_share_memory(part, sharded.optimizer.learning_rate) else kept.nbytes)
        )
    return found


def memory(size):
    """Of a state with all that belongs to it, and the most that steps ask for."""
    comm, x = communicator(MPI.COMM_WORLD), np.ones(size, np.float32)
    optimizer = gpuprop.Adam(0.1, clip_norm=1.0, nonfinite="skip")
    sharded, grad = Sharded(optimizer, comm), np.ones(size, np.float32)
    sharded.step(x, grad, sharded.init(x))  # what is compiled, stays
    tracemalloc.start()
    state = sharded.init(x)
    made, _ = tracemalloc.get_traced_memory()
    for _ in range(2):
        sharded.step(x, grad, state)
    before, _ = tracemalloc.get_traced_memory()
    tracemalloc.reset_peak()
    for _ in range(5):
        sharded.step(x, grad, state)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return sum(array.nbytes for array in state.arrays.values()), made, most - before


def saved_and_resumed(folder, saves):
    """The points of 3 steps, a save or a load, and 3 steps more; `saves` for the first run, and the whole."""
    comm = communicator(MPI.COMM_WORLD)
    sharded, points = Sharded(gpuprop.RMSProp(0.01, momentum=0.9), comm, average=False), []
    for shape in ((7,), (3, 4)):
        path = folder / f"state-{len(shape)}"
        x = np.asfortranarray(np.linspace(1, 2, int(np.prod(shape))).reshape(shape))
        share = np.empty_like(x)
        if saves:
            state = sharded.init(x)
            some_steps(sharded, x, share, state)
            sharded.save(path, x, state)
        else:
            x[...] = np.nan
            state = sharded.load(path, x)
        some_steps(sharded, x, share, state)
        points.append(x)
    return points


def some_steps(sharded, x, share, state):
    for _ in range(3):
        share[...] = shares(np.random.default_rng(1), 2 * x, sharded.comm)
        sharded.step(x, share, state)


def loads(path):
    """What errors say of files that have no such x."""
    comm, said = communicator(MPI.COMM_WORLD), []
    sharded, x = Sharded(gpuprop.SGD(), comm), np.ones(8)
    state = sharded.init(x)
    sharded.save(path, x, state)
    state.save(path.with_suffix(".alone"))
    wrong = np.ones(9), np.ones(8, "f4"), np.ones((2, 4))
    for file, other in (*((path, each) for each in wrong), (path.with_suffix(".alone"), x)):
        try:
            sharded.load(file, other)
        except ValueError as error:
            said.append(str(error))
    return said, x
