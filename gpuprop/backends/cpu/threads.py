"""How many threads a CPU step uses."""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from functools import cache
from operator import index
from pathlib import Path

_VARIABLE = "GPUPROP_NUM_THREADS"
_chosen: int | None = None
#: How many processes share this one's CPUs.
_among = 1


def set_num_threads(n: int | None) -> None:
    """Set how many threads a step on the CPU uses; results are the same bits for any number.

    Parameters
    ----------
    n : int or None
        At least 1. None goes back to the default: the environment variable
        ``GPUPROP_NUM_THREADS``, else the CPUs that this process may run on, or its share of them
        where several processes take steps together.

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
    return _chosen or _number_in_environment() or max(1, len(available_cpus()) // _among)


def share_cpus(among: int) -> None:
    """Let the default be this process's share of its CPUs, of which so many processes make use."""
    global _among
    _among = among


@cache
def _number_in_environment() -> int | None:
    text = os.environ.get(_VARIABLE)
    if text and (not text.isdecimal() or int(text) < 1):
        raise ValueError(f"{_VARIABLE} is {text!r}; it must be a whole number of at least 1")
    return int(text) if text else None


def available_cpus() -> set[int]:
    """Those that this process may run on: others than its neighbours where a launcher binds ranks."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))


def machine() -> str:
    """What tells this one from others, on Linux those of its name, too."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    with suppress(OSError):
        return f"{platform.node()} {boot.read_text().strip()}"
    return platform.node()
