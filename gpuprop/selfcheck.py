"""Run ``python -m gpuprop.selfcheck`` first on a new machine: is each device right, and how fast?

It prints the versions and the devices, runs the article's experiment on each device in each dtype,
and one with every rule of the family, holds every bit against the NumPy reference, times a large
step, and ends with one line.
"""

from __future__ import annotations

import platform
import statistics
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

import gpuprop
from gpuprop import bandwidth
from gpuprop.backends import Backend, DeviceUnavailableError, select_backend
from gpuprop.backends.checks import COMPUTE_DTYPE
from gpuprop.backends.cuda import cuda_version

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
        print(f"no GPU: {error}")
    else:
        runtime = gpu.xp.cuda.runtime
        driver, cuda = runtime.driverGetVersion(), runtime.runtimeGetVersion()
        print(f"CuPy {gpu.xp.__version__}, CUDA {cuda_version(cuda)}, driver for CUDA {cuda_version(driver)}")
        for number in range(runtime.getDeviceCount()):
            yield gpu, gpu.xp.cuda.Device(number)
    try:
        yield select_backend("cpu"), nullcontext()
    except DeviceUnavailableError as error:
        print(f"no CPU kernels: {error}")
        yield select_backend("numpy"), nullcontext()


def main() -> int:
    print(f"gpuprop {gpuprop.__version__}, Python {platform.python_version()}, NumPy {np.__version__}")
    failures = 0
    for backend, current in devices():
        with current:
            print(f"{backend.name}: {backend.describe()}")
            try:
                wrong = list(differences(backend))
                print(
                    "\n".join(f"  WRONG: {line}" for line in wrong)
                    or "  the article's trajectory and the family's: every bit"
                )
                print(f"  {speed(backend)}")
            except Exception as error:  # whatever it is, it is what the user came to see
                wrong = [str(error)]
                print(f"  FAILED: {type(error).__name__}: {error}")
            failures += bool(wrong)
    print(f"selfcheck: {failures} device(s) NOT good, see above" if failures else "selfcheck: good")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
