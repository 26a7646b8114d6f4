"""RMSProp, and the optimizers around it, for large parameter vectors in NumPy and CuPy arrays."""

from __future__ import annotations

from gpuprop import reference, schedules
from gpuprop.backends import Backend, DeviceUnavailableError, select_backend
from gpuprop.backends.cpu.threads import get_num_threads, set_num_threads
from gpuprop.checkpoint import load_state
from gpuprop.driver import check_gradient, minimize
from gpuprop.optimizers import (
    SGD,
    AdaGrad,
    Adam,
    AdamW,
    Fused,
    Groups,
    GroupsState,
    Optimizer,
    RMSProp,
    RuleOptimizer,
    State,
)
from gpuprop.optimizers.packing import pack
from gpuprop.rules import Rule
from gpuprop.version import __version__

__all__ = [
    "SGD",
    "AdaGrad",
    "Adam",
    "AdamW",
    "Backend",
    "DeviceUnavailableError",
    "Fused",
    "Groups",
    "GroupsState",
    "Optimizer",
    "RMSProp",
    "Rule",
    "RuleOptimizer",
    "State",
    "__version__",
    "check_gradient",
    "get_num_threads",
    "load_state",
    "minimize",
    "pack",
    "reference",
    "schedules",
    "select_backend",
    "set_num_threads",
]
