"""What the tests of parts in files run on each rank, and in one process: the same steps, the same numbers."""

from __future__ import annotations

import math
import tracemalloc
from pathlib import Path

import numpy as np

import gpuprop
from gpuprop import SGD, Adam, Groups, RMSProp, load_state, schedules

STEPS = 3
FIRST = {
    "everything": ((11, 3), "float64", "C"),
    "another order": ((9, 5), "complex64", "F"),
    "half": ((13,), "float16", "C"),
    "bfloat16": ((13,), "bfloat16", "C"),
    "no array": ((10,), "float64", "C"),
    "few rows": ((2, 40), "float32", "C"),
    "cut otherwise": ((12, 2), "float64", "F"),
    "code": ((6,), "float64", "C"),
    "groups": ((9,), "float32", "C"),
}
CASES = list(FIRST)


def world():
    """What a rank knows of the others."""
    from mpi4py import MPI

    from gpuprop.distributed import communicator

    return communicator(MPI.COMM_WORLD)


def start(case):
    """The parameters of the whole, by the names of the extras that they become."""
    shape, dtype, order = FIRST[case]
    random = np.random.default_rng(CASES.index(case))
    values = random.normal(size=shape) + (1j * random.normal(size=shape) if dtype.startswith("c") else 0)
    if dtype == "bfloat16":
        import ml_dtypes

        dtype = ml_dtypes.bfloat16
    x = np.zeros(shape) if case == "no array" else np.asarray(values.astype(dtype), order=order)
    return {"a": x, "b": np.arange(10.0).reshape(2, 5)} if case == "groups" else {"x": x}


def rows_of(case, comm, length):
    """Which rows are this rank's."""
    if comm is None:
        return slice(0, length)
    if case == "cut otherwise":  # none for rank 0, all but two for the last one
        low, high = max(comm.rank - 1, 0), comm.rank
        return slice(low, length if comm.rank == comm.size - 1 else high)
    return comm.cut(length)


def optimizer_for(case, parts):
    if case == "groups":
        skipping = RMSProp(0.1, momentum=0.5, nonfinite="skip")
        return Groups(a=skipping, b=Adam(schedules.exponential_decay(0.05, 3, 0.9), nonfinite="skip"))
    x = parts["x"]
    return {
        "everything": lambda: RMSProp(
            schedules.warmup_cosine_decay_schedule(0.0, 0.1, 5, 15, end_value=0.01), 0.87, momentum=0.7,
            nesterov=True, centered=True, weight_decay=0.01, bounds=(x * 0 - 0.6, math.inf), nonfinite="skip",
        ),
        "another order": lambda: Adam(0.05),
        "no array": lambda: SGD(0.05),
        "code": lambda: RMSProp(lambda step: 0.1 / (1 + step)),
    }.get(case, lambda: RMSProp(0.05, momentum=0.9))()  # fmt: skip


def go_on(optimizer, state, parts, whole, rows, steps):
    """Steps with a gradient in which every element of the whole has its own numbers."""
    for step in steps:
        assert state.step == step
        gradients = {}
        for name, x in parts.items():
            of_all = np.random.default_rng([step, len(name)]).normal(size=whole[name].shape)
            if name == "a" or getattr(optimizer, "nonfinite", None) == "skip":
                of_all[step % len(of_all)] = math.nan
            gradients[name] = (x + of_all[rows[name]].astype(x.dtype)).astype(x.dtype)
        if isinstance(optimizer, Groups):
            optimizer.step(parts, gradients, state)
        else:
            optimizer.step(parts["x"], gradients["x"], state)


def begun(case, comm):
    """A state after some steps, and its parameters."""
    whole = start(case)
    rows = {name: rows_of(case, comm, len(x)) for name, x in whole.items()}
    parts = {name: x[rows[name]].copy(order="K") for name, x in whole.items()}
    optimizer = optimizer_for(case, parts)
    of = parts if case == "groups" else parts["x"]
    state = optimizer.init(of, backend=gpuprop.select_backend("numpy"), comm=comm)
    go_on(optimizer, state, parts, whole, rows, range(STEPS))
    return state, parts


EXTRAS = {"losses": np.arange(7.0), "seed": np.array(5)}


def save_all(folder):
    """One file, or index, of each case; twice, so that the second one takes the place of the first."""
    comm = world()
    for case in CASES:
        state, parts = begun(case, comm)
        for _ in range(2):
            state.save(Path(folder, f"{case}-{comm.size}"), **parts, **EXTRAS)


def loaded(path, case, comm=None):
    """What a rank has of a file, and what its steps come to from there, with the rows of each."""
    whole = start(case)
    rows = {name: rows_of(case, comm, len(x)) for name, x in whole.items()}
    part = rows["x"] if case == "cut otherwise" else None
    state = load_state(path, comm=comm, part=part)
    return (rows, *continued(state, {name: state.extras.pop(name) for name in whole}, case, rows))


def continued(state, parts, case, rows):
    optimizer = state.optimizer or optimizer_for(case, parts)
    before = {**arrays_of(state), **{name: x.copy() for name, x in parts.items()}}
    skipped = [each.skipped for each in states_of(state)]
    go_on(optimizer, state, parts, start(case), rows, range(STEPS, 2 * STEPS))
    return before, skipped, parts, dict(state.extras)


def states_of(state):
    return list(state.values()) if isinstance(state, gpuprop.GroupsState) else [state]


def arrays_of(state):
    return {
        f"{number}.{name}": array.copy()
        for number, each in enumerate(states_of(state))
        for name, array in each.arrays.items()
    }


def load_all(folder, sizes):
    comm = world()
    return {(case, p): loaded(Path(folder, f"{case}-{p}"), case, comm) for case in CASES for p in sizes}


def memory_of_loading(paths):
    """The most bytes that a rank held while it loaded each file, and those that it read."""
    comm, found = world(), []
    for path in paths:
        before, _ = bytes_read(), tracemalloc.start()
        state = load_state(path, comm=comm)
        found.append((tracemalloc.get_traced_memory()[1], bytes_read() - before))
        tracemalloc.stop()
        del state
    return found


def bytes_read():
    return int(Path("/proc/self/io").read_text().split()[1])


def save_large(folder, shape):
    comm = world()
    x = np.ones((comm.cut(shape[0]).stop - comm.cut(shape[0]).start, *shape[1:]))
    RMSProp().init(x, backend=gpuprop.select_backend("numpy"), comm=comm).save(Path(folder, "parts"), x=x)


def on_gpu(folder):
    """Saved from a GPU, and loaded to it and to the host."""
    import cupy

    comm = world()
    x = cupy.arange(7.0 + comm.rank, dtype="float32").reshape(-1, 1) * cupy.ones(5, "float32")
    state = Adam(0.1).init(x, comm=comm)
    Adam(0.1).step(x, x.copy(), state)
    state.save(Path(folder, "state"), x=x)
    rows = slice(0, 7) if comm.rank == 0 else slice(7, 15)
    again = load_state(Path(folder, "state"), comm=comm, part=rows)
    assert again.backend.name == "gpu"
    assert again.comm is not None
    for one, two in ((again.extras["x"], x), *zip(again.arrays.values(), state.arrays.values(), strict=True)):
        assert type(one) is cupy.ndarray
        assert (one.get().tobytes(), one.shape) == (two.get().tobytes(), two.shape)
    for each in (state, again):
        Adam(0.1).step(x, x.copy(), each)
    host = load_state(Path(folder, "state"), comm=comm, backend=gpuprop.select_backend("numpy"))
    return host.extras["x"], host.step
