"""Whether each device here is right, and how fast: what ``python -m gpuprop selfcheck`` runs.

The article's experiment on each device in each dtype, and one with every rule of the family, hold every
bit against the NumPy reference; then a large step is timed.
"""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from gpuprop.backends import Backend, DeviceUnavailableError, select_backend
from gpuprop.backends.checks import COMPUTE_DTYPE
from gpuprop.backends.cpu.threads import available_cpus, get_num_threads
from gpuprop.backends.gpu.cuda import cuda_version
from gpuprop.measure import bandwidth
from gpuprop.optimizers import SGD, AdaGrad, AdamW, Optimizer, RMSProp
from gpuprop.version import __version__

#: What takes a line of the result, or of progress.
Tell = Callable[[str], None]

_LARGE = 2**26  # parameters of a timed step: beyond every cache, and 0.8 GB in float32
_EPOCHS = 101

_OPTIONS: dict[str, Any] = {"weight_decay": 0.1, "clip_value": 0.5, "bounds": (-1.0, 1.5)}
_EXPERIMENTS = "the article's trajectory", "the article's trajectory and the family's"

#: Between them, every rule and nearly every option.
FAMILY = (
    RMSProp(0.05, epsilon=0.01, momentum=0.9, nesterov=True, centered=True, bias_correction=True, **_OPTIONS),
    SGD(0.05, momentum=0.9, maximize=True, **_OPTIONS),
    AdaGrad(epsilon_inside_sqrt=True, initial_square_sum=0.1, **_OPTIONS),
    AdamW(0.05, nonfinite="skip"),
)


def trajectory(backend: Backend, dtype: str) -> np.ndarray:
    """The points of the article's experiment, shape (101, 2)."""
    optimizer = RMSProp(learning_rate=0.1, rho=0.9, epsilon=1e-6)
    x = backend.asarray([5.0, 4.0], dtype)
    state = optimizer.init(x, backend=backend)
    points = []
    for _ in range(_EPOCHS):
        optimizer.step(x, x + x, state)
        points.append(backend.to_host(x).copy())
    return np.array(points)


def walk(optimizer: Optimizer, backend: Backend, dtype: str) -> np.ndarray:
    """Where a hundred parameters are after twenty steps by random gradients."""
    random = np.random.default_rng(0)
    x, *grads = (backend.asarray(values, dtype) for values in random.normal(size=(21, 100)))
    state = optimizer.init(x, backend=backend)
    for grad in grads:
        optimizer.step(x, grad, state)
    return backend.to_host(x)


def differences(backend: Backend, tell: Tell, family: Sequence[Optimizer] = FAMILY) -> Iterator[str]:
    """What is wrong with `backend`, a line each."""
    reference = select_backend("numpy")
    for name in (dtype.name for dtype in COMPUTE_DTYPE):
        tell(f"{backend.name}: {_EXPERIMENTS[bool(family)]} in {name}")
        wrong = (trajectory(backend, name) != trajectory(reference, name)).any(axis=1)
        if wrong.any():
            yield f"{name} leaves the reference's trajectory at epoch {wrong.argmax()}"
        for optimizer in family:
            if (walk(optimizer, backend, name) != walk(optimizer, reference, name)).any():
                yield f"{name}: {optimizer} differs from the reference"


def speed(backend: Backend, tell: Tell) -> dict[str, Any]:
    """A large step in float32, against the device's memory."""
    n = _LARGE
    free = backend.xp.cuda.runtime.memGetInfo()[0] if backend.name == "gpu" else None
    while free is not None and 4 * 3 * n > free // 2:
        n //= 2
    tell(f"{backend.name}: timing a step of {n:,} parameters")
    x, grad = (backend.xp.ones(n, "float32") for _ in range(2))
    optimizer = RMSProp(1e-3)
    state = optimizer.init(x, backend=backend)
    optimizer.step(x, grad, state)
    backend.synchronize()
    rounds: list[float] = []
    while len(rounds) < 5 and sum(rounds) < 2:
        calls = 10 if backend.name == "gpu" else 1  # so that the first launch does not count
        rounds.append(bandwidth.seconds(backend, lambda: optimizer.step(x, grad, state), calls))
    median = statistics.median(rounds)
    moved = n * bandwidth.bytes_per_parameter(RMSProp().rule, 4) / median
    peak = bandwidth.peak_bandwidth(backend)
    return {
        "parameters": n,
        "seconds": median,
        "bytes_per_second": moved,
        "share": moved / (peak or bandwidth.measured_bandwidth(backend)),
        "of": "peak" if peak else "measured",
    }


def devices(say: Tell) -> Iterator[tuple[Backend, AbstractContextManager]]:
    """Every GPU, each with what makes it the current one, and the CPU; of what is missing it is said why."""
    try:
        gpu = select_backend("gpu")
    except DeviceUnavailableError as error:
        say(f"no GPU: {error}")
    else:
        runtime = gpu.xp.cuda.runtime
        driver, cuda = runtime.driverGetVersion(), runtime.runtimeGetVersion()
        say(f"CuPy {gpu.xp.__version__}, CUDA {cuda_version(cuda)}, driver for CUDA {cuda_version(driver)}")
        for number in range(runtime.getDeviceCount()):
            yield gpu, gpu.xp.cuda.Device(number)
    try:
        yield select_backend("cpu"), nullcontext()
    except DeviceUnavailableError as error:
        say(f"no CPU kernels: {error}")
        yield select_backend("numpy"), nullcontext()


def checked(backend: Backend, say: Tell, tell: Tell, quick: bool) -> dict[str, Any]:
    """What is found of one device, said line by line."""
    found: dict[str, Any] = {"backend": backend.name, "device": None, "wrong": []}
    family = () if quick else FAMILY
    try:
        found["device"] = backend.describe()
        say(f"{backend.name}: {found['device']}")
        for line in differences(backend, tell, family):
            found["wrong"].append(line)
            say(f"  WRONG: {line}")
        if not found["wrong"]:
            say(f"  {_EXPERIMENTS[bool(family)]}: every bit")
        if not quick:
            timed = found["step"] = speed(backend, tell)
            say(
                f"  {timed['parameters']:,} parameters, float32: {timed['seconds'] * 1e3:.3g} ms a step, "
                f"{timed['bytes_per_second'] / 1e9:.3g} GB/s, {timed['share']:.0%} of the {timed['of']} "
                "memory bandwidth"
            )
    except Exception as error:  # whatever it is, it is what the user came to see
        found["failed"] = f"{type(error).__name__}: {error}"
        say(f"  FAILED: {found['failed']}")
    found["good"] = not found["wrong"] and "failed" not in found
    return found


def check(say: Tell, tell: Tell, *, quick: bool = False) -> dict[str, Any]:
    """Check all that is here.

    Parameters
    ----------
    say, tell : callable
        Take each line of the result, and of progress.
    quick : bool
        The article's experiment alone: no other rules, and no large step.

    Returns
    -------
    dict
        The lines as a report that JSON can hold; ``"good"`` says whether all is.
    """
    report: dict[str, Any] = {
        "gpuprop": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": len(available_cpus()),
        "threads": get_num_threads(),
        "versions": _versions(),
        "environment": {k: v for k, v in sorted(os.environ.items()) if k.startswith(_VARIABLES)},
        "missing": [],
        "devices": [],
    }
    say(f"gpuprop {report['gpuprop']}, Python {report['python']}, NumPy {np.__version__}")

    def say_why(line: str) -> None:
        report["missing"] += [line] if line.startswith("no ") else []
        say(line)

    for backend, current in devices(say_why):
        with current:
            report["devices"].append(checked(backend, say, tell, quick))
    failures = sum(not device["good"] for device in report["devices"])
    report["good"] = not failures
    say(f"selfcheck: {f'{failures} device(s) NOT good, see above' if failures else 'good'}")
    return report


#: What decides where a step runs, and by how many threads.
_VARIABLES = ("GPUPROP_", "NUMBA_", "OMP_", "CUDA_VISIBLE_DEVICES")


def _versions() -> dict[str, str]:
    found = {}
    for name in ("numpy", "numba", "llvmlite", "scipy", "safetensors", "cupy-cuda12x", "cupy-cuda13x"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
