"""Minimise f(x, y) = x^2 + y^2 with RMSProp, on a GPU, a CPU or in plain NumPy.

Prints the point after the update of every 20th epoch, from (5, 4); other sizes repeat that start.
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
from operator import methodcaller
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import gpuprop
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
    option("--rho", type=float, default=0.9, metavar="X")
    option("--epsilon", type=float, default=1e-6, metavar="X")
    parser.add_plot("the path")
    option("--json", type=writable_file, metavar="FILE", help="write the trajectory and the speed")
    options = parser.parse_args(arguments)
    try:
        optimizer = gpuprop.RMSProp(options.learning_rate, options.rho, options.epsilon)
    except ValueError as error:
        parser.error(str(error))
    parser.check_files(options.plot, options.json)
    return options, optimizer


class Run(NamedTuple):
    """What `minimise` has seen."""

    #: The first two parameters at the start and after each epoch: of shape (epochs + 2, min(size, 2)).
    path: np.ndarray
    #: Seconds of each step, and of each gradient that was made before it.
    steps: list[float]
    gradients: list[float]


def minimise(options: argparse.Namespace, optimizer: gpuprop.RMSProp, backend: gpuprop.Backend) -> Run:
    """Run and print the epochs.

    A fused epoch is one step, not several in a pass over memory: the path has the point after each.
    """
    xp = backend.xp
    x = xp.empty(options.size, options.dtype)
    x[::2], x[1::2] = 5, 4
    fused, grad = (FUSED(optimizer), None) if options.fused else (None, xp.empty_like(x))
    state = optimizer.init(x, backend=backend)
    path, steps, gradients = [x[:2].copy()], [], []
    epochs = options.epochs + 1

    def step() -> None:
        if fused:
            fused.step(x, (), state)
        else:
            optimizer.step(x, grad, state)

    for epoch in progress(range(epochs), epochs, "epoch"):
        if not fused:
            gradients.append(bandwidth.seconds(backend, lambda: xp.multiply(x, 2, out=grad)))
        steps.append(bandwidth.seconds(backend, step))
        path.append(x[:2].copy())
        if epoch % options.every == 0:
            with np.printoptions(threshold=100):
                say(f"Epoch {epoch}, current state: {backend.to_host(x)}")
    return Run(np.array([backend.to_host(point) for point in path]), steps, gradients)


def speed(options: argparse.Namespace, backend: gpuprop.Backend, run: Run) -> dict[str, Any]:
    """The median step against the memory of this machine."""

    def median(seconds: list[float]) -> float:
        return sorted(seconds)[len(seconds) // 2]

    step = median(run.steps)
    rule = FUSED(gpuprop.RMSProp()).rule if options.fused else gpuprop.RMSProp().rule
    moved = options.size * bandwidth.bytes_per_parameter(rule, np.dtype(options.dtype).itemsize)
    try:
        measured = bandwidth.measured_bandwidth(backend, options.dtype)
    except ImportError:  # without Numba there is nothing to measure with
        measured = None
    return {
        "seconds_per_step": step,
        "seconds_per_gradient": median(run.gradients) if run.gradients else 0.0,
        "gigabytes_per_second": moved / step / 1e9,
        "memory_gigabytes_per_second": measured and measured / 1e9,
        "share_of_memory_bandwidth": measured and moved / step / measured,
    }


def main(arguments: list[str] | None = None) -> int:
    options, optimizer = parse_arguments(arguments)
    try:
        backend = choose_backend(options.device, not options.no_fallback)
        tell(f"running on {backend.name}: {backend.describe()}")
        run = minimise(options, optimizer, backend)
    except (gpuprop.DeviceUnavailableError, ValueError) as error:
        tell(str(error))
        return 2
    except MemoryError:
        itemsize = np.dtype(options.dtype).itemsize
        arrays = 2 if options.fused else 3
        tell(f"not enough memory for {arrays} arrays of {options.size} parameters of {itemsize} bytes")
        return 2
    return report(options, optimizer, backend, run)


def report(
    options: argparse.Namespace,
    optimizer: gpuprop.RMSProp,
    backend: gpuprop.Backend,
    run: Run,
) -> int:
    """The speed of a large run on stderr, and the files asked for; the exit code."""
    measured = speed(options, backend, run) if options.json or options.size >= LARGE else {}
    if options.size >= LARGE:
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
