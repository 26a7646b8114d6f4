"""How many threads a CPU step uses, and which kind is safe here."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from operator import index

#: Numba's names for what lets us use OpenMP.
_LAYERS = ("default", "omp", "threadsafe", "safe", "forksafe", "tbb")
_VARIABLE = "GPUPROP_NUM_THREADS"
_chosen: int | None = None
_PROCESS = os.getpid()  # another one has been forked from this, by whatever means
#: Whether another user of Numba had loaded its layer before this package was imported: then this process
#: may have been forked since, by whatever means, and nothing tells.
_LOADED_BEFORE: bool = getattr(sys.modules.get("numba.np.ufunc.parallel"), "_is_initialized", False)


def set_num_threads(n: int | None) -> None:
    """Set how many threads a step on the CPU uses; results are the same bits for any number.

    Parameters
    ----------
    n : int or None
        At least 1. None goes back to the default: the environment variable
        ``GPUPROP_NUM_THREADS``, else the CPUs that this process may run on.

    Raises
    ------
    TypeError, ValueError
        `n` is not a whole number of at least 1.
    """
    global _chosen
    if n is not None and (not hasattr(n, "__index__") or isinstance(n, bool)):
        raise TypeError(f"n is {n!r}; the number of threads must be a whole number, or None")
    if n is not None and index(n) < 1:
        raise ValueError(f"n is {n}; the number of threads must be at least 1")
    _chosen = None if n is None else index(n)


def get_num_threads() -> int:
    """How many threads a step on the CPU uses.

    Returns
    -------
    int
        What `set_num_threads` set, or else its default.

    Raises
    ------
    ValueError
        ``GPUPROP_NUM_THREADS`` is not a whole number of at least 1.
    """
    return _chosen or _number_in_environment() or available_cpus()


@cache
def _number_in_environment() -> int | None:
    text = os.environ.get(_VARIABLE)
    if text and (not text.isdecimal() or int(text) < 1):
        raise ValueError(f"{_VARIABLE} is {text!r}; it must be a whole number of at least 1")
    return int(text) if text else None


def available_cpus() -> int:
    """The CPUs in this process's affinity mask."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def parallel_layer_is_safe() -> bool:
    """Whether loops may run on OpenMP's threads in this process.

    GNU OpenMP ends or blocks a forked child that enters it, so that goes to a pool of threads.
    """
    return os.getpid() == _PROCESS and _openmp()


@cache
def _openmp() -> bool:
    """Load GNU OpenMP; False where it is not there, or not wanted."""
    if _LOADED_BEFORE or os.environ.get("NUMBA_THREADING_LAYER", "default") not in _LAYERS:
        return False
    with _passive_waiting():
        try:
            library = ctypes.CDLL("libgomp.so.1")
        except OSError:
            return False
    from gpuprop.backends.cpu.kernels.kernel import openmp  # not as the package is imported

    names = ("GOMP_parallel", "omp_get_thread_num", "omp_get_num_threads")
    openmp[:] = [ctypes.cast(getattr(library, name), ctypes.c_void_p).value or 0 for name in names]
    return True


@contextmanager
def _passive_waiting() -> Iterator[None]:
    """Have OpenMP, if it is loaded in here, let idle threads sleep.

    By default GNU OpenMP's threads spin for milliseconds after each loop, on the very CPUs that the
    threads of a BLAS need for the next gradient: steps between matrix products took 25 times as
    long. OpenMP reads these variables once, when it is loaded; the user's own choice stands.
    """
    if any(name in os.environ for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")):
        yield
        return
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    try:
        yield
    finally:
        del os.environ["OMP_WAIT_POLICY"]
