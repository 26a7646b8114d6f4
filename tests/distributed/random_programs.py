"""Random programs of several ranks, each drawn alike on all of them: none may hang, and all must agree.

A program exchanges, steps, saves, reads, minimises, and runs into errors, while single ranks are late.
Whatever comes of an operation, a value or an exception, goes into its record, and the records of all ranks
must be the same.
"""

from __future__ import annotations

import random
import time
from pathlib import Path

import numpy as np
from collectives import own_device
from mpi4py import MPI

import gpuprop
from gpuprop import SGD, Adam, RMSProp
from gpuprop.distributed import Sharded, communicator

OPTIMIZERS = (
    RMSProp(),
    RMSProp(momentum=0.5, clip_norm=0.1),
    Adam(nonfinite="raise"),
    SGD(nonfinite="skip"),
    RMSProp(learning_rate="auto"),
)
DTYPES = "float16", "float32", "float64", "complex64"


class Program:
    """Its `draw` is the same on every rank, and `own` is this rank's."""

    def __init__(self, comm, xp, seed, folder):
        self.comm, self.xp = comm, xp
        self.draw, self.own = random.Random(seed), random.Random(f"{seed} {comm.rank}")
        self.path = Path(folder, "state")
        self.optimizer = self.draw.choice(OPTIMIZERS)
        #: The whole vector, alike on all ranks, and this rank's part.
        rng = np.random.default_rng(self.draw.randrange(1000))
        self.whole = xp.asarray(rng.standard_normal(self.draw.randrange(20)))
        self.part = self.whole[comm.cut(self.whole.size)].copy()
        self.state = self.optimizer.init(self.part, comm=comm)
        self.sharded = Sharded(self.optimizer, comm)
        self.of_sharded = self.sharded.init(self.whole)

    def run(self):
        """The record: of each operation its name, and what came of it."""
        operations = [getattr(Program, name) for name in vars(Program) if name.startswith("do_")]
        record = []
        for _ in range(self.draw.randrange(1, 12)):
            operation = self.draw.choice(operations)
            if self.draw.random() < 0.2 and self.draw.randrange(self.comm.size) == self.comm.rank:
                time.sleep(self.own.choice([0.0, 1e-4, 2e-3]))
            try:
                record.append((operation.__name__, repr(operation(self))))
            except (FloatingPointError, ValueError, OSError) as error:
                record.append((operation.__name__, f"{type(error).__name__}: {error}"))
        return record

    def do_sum(self):
        return self.comm.sum([self.own.random() for _ in range(self.draw.randrange(4))])

    def do_maximum(self):
        return self.comm.maximum([self.own.random(), -self.own.random()])

    def do_exchange(self):
        return self.comm.exchange(b"?" * self.own.randrange(5000))

    def do_broadcast(self):
        return self.comm.broadcast(self.own.random())

    def do_barrier(self):
        self.comm.barrier()

    def do_arrays(self):
        size, dtype = self.draw.randrange(50), self.draw.choice(DTYPES)
        whole = self.xp.full(size, self.own.randrange(9), dtype)
        part = self.xp.empty_like(whole[self.comm.cut(size)])
        self.comm.reduce_scatter(whole, part, average=self.draw.random() < 0.5)
        whole[self.comm.cut(size)] = part
        self.comm.all_gather(whole)
        return whole.tobytes()

    def do_step(self):
        """Of parts; sometimes one rank's gradient is not finite, which some optimizers raise on all."""
        self.optimizer.step(self.part, self.gradient(self.part), self.state)
        return self.state.step, self.state.skipped, self.comm.exchange(self.part.tobytes())

    def do_sharded_step(self):
        self.sharded.step(self.whole, self.gradient(self.whole), self.of_sharded)
        return self.of_sharded.step, self.whole.tobytes()

    def gradient(self, x):
        grad = x + self.own.random()
        if self.draw.random() < 0.4 and self.draw.randrange(self.comm.size) == self.comm.rank:
            grad[:1] = np.nan
        return grad

    def do_save(self):
        self.state.save(self.path, x=self.part)

    def do_load(self):
        """The last that was saved, which may be of none."""
        state = gpuprop.load_state(self.path, comm=self.comm)
        self.part, self.state = state.extras.pop("x"), state
        return state.step, self.comm.exchange(self.part.tobytes())

    def do_minimise(self):
        """It stops by its own tests, by a callback of one rank, or by a value that is not finite."""
        stop, bad = (self.draw.choice([None, 1, 3]) for _ in range(2))
        chosen, calls = self.draw.randrange(self.comm.size), iter(range(1000))
        center = self.own.random()

        def share(x):
            call = next(calls)
            away = x - center
            return (
                np.nan
                if bad is not None and call >= bad and self.comm.rank == chosen
                else (away * away).sum(),
                2 * away,
            )

        def callback(intermediate_result):
            if intermediate_result.nit == stop and self.comm.rank == chosen:
                raise StopIteration

        x0 = self.xp.full(self.comm.cut(self.whole.size).stop - self.comm.cut(self.whole.size).start, 3.0)
        found = gpuprop.minimize(
            share,
            x0,
            jac=True,
            method=RMSProp(learning_rate=0.1),
            comm=self.comm,
            callback=callback,
            options={"maxiter": 8},
        )
        return found.status, found.message, found.nit, found.fun, self.comm.exchange(found.x.tobytes())


def programs(seed, count, folder, transport=None, timeout=60.0):
    """How many operations went, and which kinds of ends they had, over all programs.

    On GPUs where a `transport` is named.
    """
    comm = communicator(MPI.COMM_WORLD, transport or "auto", timeout=timeout)
    xp = np if transport is None else own_device(comm)
    ends = {}
    for number in range(count):
        here = Path(folder, str(number))
        if comm.rank == 0:
            here.mkdir()
        comm.barrier()
        record = Program(comm, xp, f"{seed} {number}", here).run()
        for rank, other in enumerate(comm.exchange(record)):
            assert other == record, f"program {seed} {number}: rank {rank} has\n{other}\nnot\n{record}"
        for name, what in record:
            end = what.split(":")[0] if "Error" in what else "done"
            ends[name, end] = ends.get((name, end), 0) + 1
    return ends
