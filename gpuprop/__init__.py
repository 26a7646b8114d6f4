"""RMSProp for large parameter vectors in NumPy and CuPy arrays."""

from __future__ import annotations

from gpuprop import reference
from gpuprop.backends import Backend, DeviceUnavailableError, select_backend
from gpuprop.backends.threads import get_num_threads, set_num_threads
from gpuprop.optimizers import RMSProp, State
from gpuprop.rules import Rule

__version__ = "0.1.0"

__all__ = [
    "Backend",
    "DeviceUnavailableError",
    "RMSProp",
    "Rule",
    "State",
    "get_num_threads",
    "reference",
    "select_backend",
    "set_num_threads",
]
