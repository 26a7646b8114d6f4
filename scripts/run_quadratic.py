"""Minimise f(x, y) = x^2 + y^2 with RMSProp, on a GPU, a CPU or in plain NumPy.

Prints the point after the update of every 20th epoch, from (5, 4); other sizes repeat that start. On
several ranks, as `mpiexec -n 4 python scripts/run_quadratic.py --mpi`, every one holds the whole point and
makes the gradient of its share of the terms, and the state is divided among them.
"""

from __future__ import annotations

from command_line import (
    Parser,
    choose_backend,
    progress,
    say,
    start,
    tell,
    versions,
    whole,
    writable_file,
    write_files,
    write_json,
)

if __name__ == "__main__":
    start()  # before the imports that take long

import argparse
import sys
from collections.abc import Iterable
from operator import methodcaller
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ranks import ERRORS, failed, joined, time_transfers, use_own_device

import gpuprop
from gpuprop.distributed import Sharded
from gpuprop.measure import bandwidth

#: Parameters from which one step is worth a line about its speed.
LARGE = 100_000

FUSED = methodcaller("fuse", before="grad = 2 * x")
HYPERPARAMETERS = ("learning_rate", "rho", "epsilon")


def parse_arguments(arguments: list[str] | None = None) -> tuple[argparse.Namespace, gpuprop.RMSProp]:
    parser = Parser(__doc__)
    option = parser.add_argument
    option("--device", choices=("auto", "gpu", "cpu", "numpy"), default="auto", help="(default: auto)")
    option("--no-fallback", action="store_true", help="fail where the device is not available")
    option("--dtype", choices=("float16", "float32", "float64"), default="float64")
    option("--size", type=lambda t: whole(t, 1), default=2, metavar="N", help="parameters: 5, 4, 5, ...")
    option(
        "--epochs",
        type=lambda t: whole(t, 0),
        default=100,
        metavar="N",
        help="the last epoch's number, the first being 0",
    )
    option("--every", type=lambda t: whole(t, 1), default=20, metavar="N", help="print every N-th epoch")
    option("--learning-rate", type=float, default=0.1, metavar="X")
    option("--fused", action="store_true", help="make the gradient inside the step: no array of gradients")
    option("--mpi", action="store_true", help="run on the ranks that mpiexec started")
    option(
        "--transport",
        choices=("auto", "mpi", "nccl"),
        help="how arrays on GPUs go between ranks (with --mpi; default: auto)",
    )
    option("--rho", type=float, default=0.9, metavar="X")
    option("--epsilon", type=float, default=1e-6, metavar="X")
    parser.add_plot("the path")
    option("--json", type=writable_file, metavar="FILE", help="write the trajectory and the speed")
    options = parser.parse_args(arguments)
    if options.transport and not options.mpi:
        parser.error("--transport is of several ranks; give --mpi, too")
    try:
        optimizer = gpuprop.RMSProp(options.learning_rate, options.rho, options.epsilon)
    except ValueError as error:
        parser.error(str(error))
    if options.mpi and options.fused:
        parser.error("--fused makes no array of gradients, which ranks could add: leave it out, or --mpi")
    parser.check_files(options.plot, options.json)
    return options, optimizer


class Run(NamedTuple):
    """What `minimise` has seen."""

    #: The first two parameters at the start and after each epoch: of shape (epochs + 2, min(size, 2)).
    path: np.ndarray
    #: Seconds of each step, and of each gradient that was made before it.
    steps: list[float]
    gradients: list[float]
    #: Seconds of what each step moved between ranks: two transfers a step.
    transfers: list[float]


def minimise(
    options: argparse.Namespace, optimizer: gpuprop.RMSProp, backend: gpuprop.Backend, comm: Any
) -> Run:
    """Run the epochs; rank 0 prints them.

    A fused epoch is one step, not several in a pass over memory: the path has the point after each.
    """
    xp = backend.xp
    x = xp.empty(options.size, options.dtype)
    x[::2], x[1::2] = 5, 4
    stepper: Any = FUSED(optimizer) if options.fused else optimizer
    terms, transfers = slice(None), []
    if comm:
        terms, transfers = comm.cut(options.size), time_transfers(comm, backend)
        stepper = Sharded(optimizer, comm, average=False)
    grad = () if options.fused else xp.zeros_like(x)
    state = stepper.init(x, backend=backend)
    path, steps, gradients = [x[:2].copy()], [], []
    numbers: Iterable[int] = range(options.epochs + 1)
    if is_first(comm):
        numbers = progress(numbers, options.epochs + 1, "epoch")
    for epoch in numbers:
        if not options.fused:
            gradients.append(bandwidth.seconds(backend, lambda: xp.multiply(x[terms], 2, out=grad[terms])))
        steps.append(bandwidth.seconds(backend, lambda: stepper.step(x, grad, state)))
        path.append(x[:2].copy())
        if epoch % options.every == 0 and is_first(comm):
            with np.printoptions(threshold=100):
                say(f"Epoch {epoch}, current state: {backend.to_host(x)}")
    return Run(np.array([backend.to_host(point) for point in path]), steps, gradients, transfers)


def is_first(comm: Any) -> bool:
    """Whether this process speaks for all."""
    return comm is None or comm.rank == 0


def speed(options: argparse.Namespace, backend: gpuprop.Backend, run: Run, comm: Any) -> dict[str, Any]:
    """The median step, against the memory of this machine or with what was transfer."""

    def median(seconds: list[float]) -> float:
        return sorted(seconds)[len(seconds) // 2]

    step = median(run.steps)
    seconds = {"seconds_per_step": step, "seconds_per_gradient": median(run.gradients or [0.0])}
    if comm:  # whose steps wait for others, and not for memory
        both = [sum(pair) for pair in zip(run.transfers[::2], run.transfers[1::2], strict=True)]
        return seconds | {"ranks": comm.size, "seconds_of_transfer_per_step": median(both)}
    rule = FUSED(gpuprop.RMSProp()).rule if options.fused else gpuprop.RMSProp().rule
    moved = options.size * bandwidth.bytes_per_parameter(rule, np.dtype(options.dtype).itemsize)
    try:
        measured = bandwidth.measured_bandwidth(backend, options.dtype)
    except ImportError:  # without Numba there is nothing to measure with
        measured = None
    return {
        **seconds,
        "gigabytes_per_second": moved / step / 1e9,
        "memory_gigabytes_per_second": measured and measured / 1e9,
        "share_of_memory_bandwidth": measured and moved / step / measured,
    }


def main(arguments: list[str] | None = None) -> int:
    options, optimizer = parse_arguments(arguments)
    comm = None
    try:
        comm = joined(options.transport or "auto") if options.mpi else None
        backend = choose_backend(options.device, not options.no_fallback, tells=is_first(comm))
        if comm:
            use_own_device(comm, backend)
        if is_first(comm):
            ranks = f", on {comm.size} rank{'s' * (comm.size > 1)}" if comm else ""
            tell(f"running on {backend.name}: {backend.describe()}{ranks}")
        run = minimise(options, optimizer, backend, comm)
    except (gpuprop.DeviceUnavailableError, ValueError, *ERRORS) as error:
        return failed(comm, str(error))
    except MemoryError:
        itemsize = np.dtype(options.dtype).itemsize
        arrays = 2 if options.fused else 3
        needed = f"{arrays} arrays of {options.size} parameters of {itemsize} bytes"
        return failed(comm, f"not enough memory for {needed}")
    return report(options, optimizer, backend, run, comm) if is_first(comm) else 0


def report(
    options: argparse.Namespace,
    optimizer: gpuprop.RMSProp,
    backend: gpuprop.Backend,
    run: Run,
    comm: Any,
) -> int:
    """The speed of a large run on stderr, and the files asked for; the exit code."""
    measured = speed(options, backend, run, comm) if options.json or options.size >= LARGE else {}
    if options.size >= LARGE and comm:
        transfer = measured["seconds_of_transfer_per_step"]
        tell(
            f"{measured['seconds_per_step'] * 1e3:.3g} ms a step, of which {transfer * 1e3:.3g} ms were "
            "transfer between ranks, and "
            f"{measured['seconds_per_gradient'] * 1e3:.3g} ms the gradient before it"
        )
    elif options.size >= LARGE:
        share = measured["share_of_memory_bandwidth"]
        gradient = f", and {measured['seconds_per_gradient'] * 1e3:.3g} ms the gradient before it"
        tell(
            f"{measured['seconds_per_step'] * 1e3:.3g} ms a step{' with its gradient' * options.fused}, "
            f"{measured['gigabytes_per_second']:.3g} GB/s"
            + (f", {share:.0%} of this machine's memory bandwidth" if share else "")
            + ("" if options.fused else gradient)
        )

    def save(file: Path) -> None:
        about = {"device": backend.name, "device_description": backend.describe(), "versions": versions()}
        about |= {"hyperparameters": {name: getattr(optimizer, name) for name in HYPERPARAMETERS}}
        about |= {"size": options.size, "dtype": options.dtype, "fused": options.fused}
        write_json(file, {**measured, **about, "trajectory": run.path.tolist()})

    def draw(file: Path) -> None:
        from figures import plot_descent

        plot_descent(file, run.path, optimizer)

    return write_files((options.json, save), (options.plot, draw))


if __name__ == "__main__":
    sys.exit(main())
