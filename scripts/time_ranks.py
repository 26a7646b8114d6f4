"""Time steps on several ranks, each on its share of the CPUs: `mpiexec -n 2 python scripts/time_ranks.py`.

Parts: each rank steps its part of the vector; against one process that steps the whole, with the threads of
all. Copies: every rank has the whole, and its state is divided (gpuprop.distributed.Sharded); against a step
of the part, and a reduce-scatter and an all-gather by plain MPI. A step takes as long as its slowest rank.
"""

from __future__ import annotations

from command_line import Parser, progress, say, start, tell, whole

if __name__ == "__main__":
    start()  # before the imports that take long

import random
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from ranks import ERRORS, failed, joined
from timing import cpus, ratios

import gpuprop
from gpuprop.distributed import Sharded


def main(arguments: list[str] | None = None) -> int:
    parser = Parser(__doc__)
    option = parser.add_argument
    option("--size", type=lambda t: whole(t, 1), default=20_000_000, metavar="N", help="(default: 2e7)")
    option("--dtype", choices=("float32", "float64"), default="float32")
    option("--rounds", type=lambda t: whole(t, 1), default=21, metavar="N", help="(default: 21)")
    options = parser.parse_args(arguments)
    comm = None
    try:
        comm = joined("mpi")
        return measure(comm, options.size, options.dtype, options.rounds)
    except (ValueError, *ERRORS) as error:
        return failed(comm, str(error))


def measure(comm: Any, size: int, dtype: str, rounds: int) -> int:
    optimizer, cut, first = gpuprop.RMSProp(), comm.cut(size), comm.rank == 0
    x, grad = (np.ones(size, dtype) for _ in range(2))
    part, gradient_of_part = x[cut].copy(), grad[cut].copy()
    state_of_part, sharded = optimizer.init(part, comm=comm), Sharded(optimizer, comm)
    state_of_copy, alone = sharded.init(x), optimizer.init(x) if first else None
    transfer = plain_transfer(comm, x, grad, part.copy())
    longest = 0.0

    def by_one_process() -> None:
        if first:
            gpuprop.set_num_threads(cpus())
            optimizer.step(x, grad, alone)
            gpuprop.set_num_threads(None)
        else:
            time.sleep(2 * longest)  # and not wait: that would take a CPU now and then

    steps: dict[str, Callable[[], None]] = {
        "part": lambda: optimizer.step(part, gradient_of_part, state_of_part),
        "whole": by_one_process,
        "copies": lambda: sharded.step(x, grad, state_of_copy),
        "transfer": transfer,
    }

    def seconds(name: str) -> float:
        comm.barrier()
        started = time.perf_counter()
        steps[name]()
        taken = time.perf_counter() - started
        return comm.maximum([taken if first or name != "whole" else 0.0])[0]

    for name in steps:
        seconds(name)  # the first may compile
    times: dict[str, list[float]] = {name: [] for name in steps}
    longest = seconds("whole")
    order = random.Random(size)  # the same on all ranks
    numbers = range(rounds)
    for _ in progress(numbers, rounds, "rounds") if first else numbers:
        for name in order.sample(list(steps), len(steps)):
            times[name].append(seconds(name))
    memory = sum(array.nbytes for array in state_of_copy.arrays.values())
    if first:
        tell(f"{size} parameters of {dtype} on {comm.size} ranks, {gpuprop.get_num_threads()} thread(s) each")
        report(times, cpus())
        say(f"state of rank 0: {memory} bytes of {size * x.itemsize}, 1/{size * x.itemsize / memory:.3g}")
    return 0


def plain_transfer(comm: Any, x: Any, grad: Any, part: Any) -> Callable[[], None]:
    """What a step of copies moves, by MPI's own calls."""
    from mpi4py import MPI

    counts = [each.stop - each.start for each in comm.cuts(x.size)]

    def move() -> None:
        MPI.COMM_WORLD.Reduce_scatter(grad, part, counts)
        MPI.COMM_WORLD.Allgatherv(MPI.IN_PLACE, [x, counts])

    return move


def report(times: dict[str, list[float]], threads: int) -> None:
    ms = {name: f"{statistics.median(each) * 1e3:.3g} ms" for name, each in times.items()}
    times["sum"] = [a + b for a, b in zip(times["part"], times["transfer"], strict=True)]
    to_whole, to_sum = ratios(times, "whole")["part"], ratios(times, "sum")["copies"]
    say(f"parts: {ms['part']} a step; the whole by one process, {threads} threads: {ms['whole']}")
    say(f"  parts to whole: {to_whole:.3f}")
    say(f"copies: {ms['copies']} a step; plain MPI's reduce-scatter and all-gather: {ms['transfer']}")
    say(f"  copies to part and plain MPI: {to_sum:.3f}")


if __name__ == "__main__":
    sys.exit(main())
