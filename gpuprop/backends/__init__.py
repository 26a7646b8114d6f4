"""Where rules run. Here is the selector: a device's name, or an array, to the backend that updates it.

Start with ``base.py``, which says what a backend is; ``checks.py`` refuses arrays, and ``together.py``
those of several steps, ``foreign.py`` shares those of other libraries, ``numpy.py`` is the reference, and
each device has a room of its own, ``cpu/`` and ``gpu/``. This room may import ``rules`` and
``arguments``, and of the devices' rooms only the selector knows.
"""

from __future__ import annotations

import os
import sys
import warnings
from functools import cache
from typing import Any

import numpy as np

from gpuprop.backends.base import Backend, DeviceUnavailableError

__all__ = ["Backend", "DeviceUnavailableError", "backend_of", "select_backend"]

#: From the fastest down: what "auto" tries, and where a fallback goes on.
NAMES = ("gpu", "cpu", "numpy")

#: What DLPack calls CUDA's memory: on the device, and managed. (Pinned host memory is not among them.)
_CUDA_DEVICES = (2, 13)


def select_backend(device: str = "auto", *, fallback: bool = False) -> Backend:
    """Choose where updates run.

    Parameters
    ----------
    device : {"auto", "gpu", "cpu", "numpy"}
        ``"gpu"`` is CuPy, ``"cpu"`` is Numba, ``"numpy"`` is the plain reference. ``"auto"`` is
        what the environment variable ``GPUPROP_DEVICE`` says, or else the first of the three that
        works here; where that is the third, it says why.
    fallback : bool
        Where `device` is not available, warn and take the next one that is.

    Returns
    -------
    Backend
        With ``name``, ``xp`` (the array module), ``asarray``, ``to_host`` and ``synchronize``.

    Raises
    ------
    ValueError
        `device` is none of these names.
    DeviceUnavailableError
        `device` is not available; the message says why and what mends it.
    """
    if device == "auto":
        device = _auto()
    elif device not in NAMES:
        raise ValueError(f"device is {device!r}; it must be one of auto, {', '.join(NAMES)}")
    if device != "auto" and not fallback:
        return _backend(device)
    start = 0 if device == "auto" else NAMES.index(device)
    for name in NAMES[start:]:
        try:
            return _backend(name)
        except DeviceUnavailableError as error:
            if device != "auto" or name == "cpu":  # the reference is slow
                warnings.warn(f"falling back from {name}: {error}", RuntimeWarning, stacklevel=2)
    raise AssertionError("unreachable: the numpy backend is always available")


def backend_of(array: Any) -> Backend:
    """The backend for arrays of this type.

    Raises
    ------
    TypeError
        It is neither a NumPy nor a CuPy array, nor one to be shared through DLPack.
    ValueError
        ``GPUPROP_DEVICE`` names no device.
    """
    if isinstance(array, np.ndarray):
        return _host_backend(_auto() == "numpy")
    cupy = sys.modules.get("cupy")
    if cupy is not None and isinstance(array, cupy.ndarray):
        return _backend("gpu")
    if hasattr(array, "__dlpack_device__"):
        try:
            device = int(array.__dlpack_device__()[0])
        except (ValueError, RuntimeError, TypeError, BufferError):  # it is on none that can be shared
            device = None
        if device in _CUDA_DEVICES:
            return _backend("gpu")
        if device == 1:
            return _host_backend(_auto() == "numpy")
    raise TypeError(
        f"x is a {type(array).__name__}; it must be one NumPy or CuPy array of floats, or an array on the "
        "CPU or a CUDA device that can be shared through DLPack"
    )


def _auto() -> str:
    """What the environment says "auto" is."""
    device = os.environ.get("GPUPROP_DEVICE") or "auto"
    if device not in ("auto", *NAMES):
        raise ValueError(f"GPUPROP_DEVICE is {device!r}; it must be one of auto, {', '.join(NAMES)}")
    return device


@cache
def _host_backend(plain: bool) -> Backend:
    return _backend("numpy") if plain else select_backend("cpu", fallback=True)


@cache
def _backend(name: str) -> Backend:
    # Numba and CuPy are heavy: each is imported when its backend is first asked for.
    if name == "gpu":
        from gpuprop.backends.gpu.backend import GPUBackend

        return GPUBackend()
    if name == "cpu":
        from gpuprop.backends.cpu.backend import CPUBackend

        return CPUBackend()
    from gpuprop.backends.numpy import NumPyBackend

    return NumPyBackend()
