"""Run ``python -m gpuprop.selfcheck`` first on a new machine: is each device right, and how fast?

It prints the versions and the devices, runs the article's experiment on each device in each dtype,
and one with every rule of the family, holds every bit against the NumPy reference, times a large
step, and ends with one line. Progress goes to stderr. The exit code is 0 for good, 1 for not good, and
2 for bad arguments or an stdout that cannot be written.
"""

from __future__ import annotations

import argparse
import io
import os
import platform
import statistics
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NoReturn, TextIO

import numpy as np

import gpuprop
from gpuprop.backends import Backend, DeviceUnavailableError, select_backend
from gpuprop.backends.checks import COMPUTE_DTYPE
from gpuprop.backends.gpu.cuda import cuda_version
from gpuprop.measure import bandwidth

_LARGE = 2**26  # parameters of a timed step: beyond every cache, and 0.8 GB in float32
_EPOCHS = 101

_OPTIONS: dict[str, Any] = {"weight_decay": 0.1, "clip_value": 0.5, "bounds": (-1.0, 1.5)}
#: Between them, every rule and nearly every option.
FAMILY = (
    gpuprop.RMSProp(
        0.05, epsilon=0.01, momentum=0.9, nesterov=True, centered=True, bias_correction=True, **_OPTIONS
    ),
    gpuprop.SGD(0.05, momentum=0.9, maximize=True, **_OPTIONS),
    gpuprop.AdaGrad(epsilon_inside_sqrt=True, initial_square_sum=0.1, **_OPTIONS),
    gpuprop.AdamW(0.05, nonfinite="skip"),
)


def trajectory(backend: Backend, dtype: str) -> np.ndarray:
    """The points of the article's experiment, shape (101, 2)."""
    optimizer = gpuprop.RMSProp(learning_rate=0.1, rho=0.9, epsilon=1e-6)
    x = backend.asarray([5.0, 4.0], dtype)
    state = optimizer.init(x, backend=backend)
    points = []
    for _ in range(_EPOCHS):
        optimizer.step(x, x + x, state)
        points.append(backend.to_host(x).copy())
    return np.array(points)


def walk(optimizer: gpuprop.Optimizer, backend: Backend, dtype: str) -> np.ndarray:
    """Where a hundred parameters are after twenty steps by random gradients."""
    random = np.random.default_rng(0)
    x, *grads = (backend.asarray(values, dtype) for values in random.normal(size=(21, 100)))
    state = optimizer.init(x, backend=backend)
    for grad in grads:
        optimizer.step(x, grad, state)
    return backend.to_host(x)


def differences(backend: Backend) -> Iterator[str]:
    """What is wrong with `backend`, a line each."""
    reference = select_backend("numpy")
    for name in (dtype.name for dtype in COMPUTE_DTYPE):
        _tell(f"{backend.name}: the article's trajectory and the family's in {name}")
        wrong = (trajectory(backend, name) != trajectory(reference, name)).any(axis=1)
        if wrong.any():
            yield f"{name} leaves the reference's trajectory at epoch {wrong.argmax()}"
        for optimizer in FAMILY:
            if (walk(optimizer, backend, name) != walk(optimizer, reference, name)).any():
                yield f"{name}: {optimizer} differs from the reference"


def speed(backend: Backend) -> str:
    """A large step in float32, against the device's memory."""
    n = _LARGE
    free = backend.xp.cuda.runtime.memGetInfo()[0] if backend.name == "gpu" else None
    while free is not None and 4 * 3 * n > free // 2:
        n //= 2
    _tell(f"{backend.name}: timing a step of {n:,} parameters")
    x, grad = (backend.xp.ones(n, "float32") for _ in range(2))
    optimizer = gpuprop.RMSProp(1e-3)
    state = optimizer.init(x, backend=backend)
    optimizer.step(x, grad, state)
    backend.synchronize()
    rounds: list[float] = []
    while len(rounds) < 5 and sum(rounds) < 2:
        rounds.append(bandwidth.seconds(backend, lambda: optimizer.step(x, grad, state)))
    median = statistics.median(rounds)
    moved = n * bandwidth.bytes_per_parameter(gpuprop.RMSProp().rule, 4) / median
    peak = bandwidth.peak_bandwidth(backend)
    of = peak or bandwidth.measured_bandwidth(backend)
    return (
        f"{n:,} parameters, float32: {median * 1e3:.3g} ms a step, {moved / 1e9:.3g} GB/s, "
        f"{moved / of:.0%} of the {'peak' if peak else 'measured'} memory bandwidth"
    )


def devices() -> Iterator[tuple[Backend, AbstractContextManager]]:
    """Every GPU, each with what makes it the current one, and the CPU."""
    try:
        gpu = select_backend("gpu")
    except DeviceUnavailableError as error:
        print(f"no GPU: {error}", flush=True)
    else:
        runtime = gpu.xp.cuda.runtime
        driver, cuda = runtime.driverGetVersion(), runtime.runtimeGetVersion()
        print(f"CuPy {gpu.xp.__version__}, CUDA {cuda_version(cuda)}, driver for CUDA {cuda_version(driver)}")
        for number in range(runtime.getDeviceCount()):
            yield gpu, gpu.xp.cuda.Device(number)
    try:
        yield select_backend("cpu"), nullcontext()
    except DeviceUnavailableError as error:
        print(f"no CPU kernels: {error}", flush=True)
        yield select_backend("numpy"), nullcontext()


def findings(backend: Backend) -> Iterator[tuple[bool, str]]:
    """A line about each thing that is checked, and whether it is good."""
    good = True
    try:
        for line in differences(backend):
            good = False
            yield good, f"WRONG: {line}"
        if good:
            yield good, "the article's trajectory and the family's: every bit"
        yield good, speed(backend)
    except Exception as error:  # whatever it is, it is what the user came to see
        yield False, f"FAILED: {type(error).__name__}: {error}"


def check() -> int:
    """Check and print all; the number of devices that are not good."""
    print(f"gpuprop {gpuprop.__version__}, Python {platform.python_version()}, NumPy {np.__version__}")
    failures = 0
    for backend, current in devices():
        with current:
            print(f"{backend.name}: {backend.describe()}", flush=True)
            all_good = True
            for good, line in findings(backend):
                print(f"  {line}", flush=True)
                all_good &= good
            failures += not all_good
    verdict = f"{failures} device(s) NOT good, see above" if failures else "good"
    print(f"selfcheck: {verdict}", flush=True)
    return failures


def _tell(line: str) -> None:
    """On stderr, which may be closed or full."""
    if sys.stderr is not None:
        try:
            print(f"selfcheck: {line}", file=sys.stderr, flush=True)
        except OSError:
            _discard(sys.stderr)


def _discard(stream: TextIO) -> None:
    """What Python still holds would fail again when it exits, and make the exit code 120."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        _tell(f"{message}; it takes no arguments but --help")
        sys.exit(2)

    def print_help(self, file: Any = None) -> None:
        print(self.format_help(), end="", flush=True)


def main(arguments: Sequence[str] = ()) -> int:
    if sys.stdout is None:
        _tell("stdout is closed; send it to a file, or to /dev/null")
        return 2
    if isinstance(sys.stdout, io.TextIOWrapper):  # and not a notebook's
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        os.getcwd()
    except OSError as error:
        _tell(f"cannot go on in this folder: {error.strerror}; change to another")
        return 2
    description = __doc__ and __doc__.split("\n\n")[1]  # python -OO leaves none
    try:
        _Parser(prog="python -m gpuprop.selfcheck", description=description).parse_args(arguments)
        return 1 if check() else 0
    except KeyboardInterrupt:
        _tell("interrupted")
        return 130
    except OSError as error:
        _discard(sys.stdout)
        if isinstance(error, BrokenPipeError):
            return 1
        _tell(f"cannot write to stdout: {error.strerror}")
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
