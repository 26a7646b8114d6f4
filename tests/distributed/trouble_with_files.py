"""What the tests of files that cannot be saved or loaded, and of kills amidst saving, run on each rank."""

from __future__ import annotations

import errno
import os
from contextlib import nullcontext
from pathlib import Path
from unittest import mock

import numpy as np
from launch import tell
from parts_in_files import world

import gpuprop
from gpuprop import RMSProp, load_state

NUMPY = gpuprop.select_backend("numpy")


def state_of(step, comm, size):
    """A state and parameters of which every element tells the step; of another length on each rank."""
    x = np.full((size + comm.rank, 3), step, "float32")
    state = RMSProp(momentum=0.5).init(x, backend=NUMPY, comm=comm)
    state.step = step
    for array in state.arrays.values():
        array[...] = step
    return state, x


def told(work):
    """The error, which every rank is to raise alike."""
    try:
        work()
    except Exception as error:
        return type(error).__name__, str(error)
    return None


def trouble_with_saving(folder):
    """What is raised where rank 1 has something else than rank 0; and what is in the file afterwards."""
    comm, path = world(), Path(folder, "state")
    second = comm.rank == 1
    state, x = state_of(1, comm, 5)
    state.save(path, x=x)
    ahead, _ = state_of(2 + second, comm, 5)
    other = RMSProp(0.1, momentum=0.5).init(x, backend=NUMPY, comm=comm)
    other.optimizer = RMSProp(0.2 if second else 0.1, momentum=0.5)
    begun, _ = state_of(2, comm, 5)
    if second:
        begun._clock[0] += 1
    found = {
        "step": told(lambda: ahead.save(path, x=x)),
        "optimizer": told(lambda: other.save(path, x=x)),
        "under way": told(lambda: begun.save(path, x=x)),
        "names": told(lambda: state.save(path, **{"y" if second else "x": x})),
        "path": told(lambda: state.save(f"{path}{comm.rank}", x=x)),
        "columns": told(lambda: state.save(path, x=x, y=np.ones((4, 3 + comm.rank)))),
        "number": told(lambda: state.save(path, x=x, seed=np.array(comm.rank))),
        "type": told(lambda: state.save(path, x=x, y=np.array([None]) if second else np.array([1.0]))),
        "folder": told(lambda: state.save(Path(folder, "nowhere", "state"), x=x)),
        "no file": told(lambda: state.save(folder, x=x)),
    }
    with mock.patch("os.fsync", is_full) if second else nullcontext():
        found["disk"] = told(lambda: state.save(path, x=x))
    comm.barrier()  # each rank removes its own part
    names = [sorted(os.listdir(folder))]
    with mock.patch("os.replace", is_full) if comm.rank == 0 else nullcontext():
        found["index"] = told(lambda: state.save(path, x=x))
    step = load_state(path, comm=comm).step
    state.save(path, x=x)
    names.append(sorted(os.listdir(folder)))
    state.save(path, x=x, seed=np.array([comm.rank]))
    return found, step, names, load_state(path, comm=comm).extras["seed"].tolist()


def is_full(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def save_once(folder, step=1):
    comm = world()
    state, x = state_of(step, comm, 5)
    state.save(Path(folder, "state"), x=x)


def trouble_with_loading(paths):
    comm = world()
    return [told(lambda path=path: load_state(path, comm=comm)) for path in paths]


#: What two ranks take of 18 rows: not one after the other, or not all.
NOT_THE_WHOLE = [
    (slice(0, 9), slice(10, 18)),
    (slice(0, 10), slice(9, 18)),
    (slice(9, 18), slice(0, 9)),
    (slice(0, 9), slice(9, 17)),
    (slice(0, 18), None),
]


def trouble_with_parts(path):
    comm = world()
    found = [
        told(lambda part=parts: load_state(path, comm=comm, part=part[comm.rank])) for parts in NOT_THE_WHOLE
    ]
    state = load_state(path, comm=comm, part=slice(0, 18) if comm.rank else slice(5, 5))
    return found, state.extras["x"].shape


def save_for_ever(folder, step, size):
    """Rank 0 acknowledges each save."""
    comm = world()
    if comm.rank == 0:
        tell("saving")
    acknowledged = os.open(Path(folder, "acknowledged"), os.O_WRONLY | os.O_APPEND)
    while True:
        step += 1
        state, x = state_of(step, comm, size)
        state.save(Path(folder, "run", "state"), x=x)
        if comm.rank == 0:
            os.write(acknowledged, step.to_bytes(8, "little"))
