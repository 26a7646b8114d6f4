"""The method of a run: the default one, that of a state, and what a projection needs of it."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import Any

from gpuprop.driver.options import DriverOptions
from gpuprop.optimizers import Groups, GroupsState, Optimizer, RMSProp


def method_of(state: Any, options: DriverOptions, x0: Any) -> Optimizer | Groups:
    """The optimizer of a state, or else the default one; of a dictionary, for each of its arrays."""
    if isinstance(x0, Mapping) and not isinstance(state, GroupsState):
        return Groups({name: _default_method(array) for name, array in x0.items()})
    if state is None:
        return _default_method(x0)
    if state.optimizer is None:
        whose = "state" if options.resume is None else f"the run in {os.fsdecode(options.resume)}"
        raise ValueError(f"{whose} has no optimizer, as it was code when it was saved; pass method=")
    return state.optimizer


def check_method(method: Any, x0: Any) -> None:
    """Refuse what makes no steps of such a start.

    Raises
    ------
    TypeError
    """
    if isinstance(method, Groups) != isinstance(x0, Mapping):
        mend = "a dictionary as x0" if isinstance(method, Groups) else "method=gpuprop.Groups({...})"
        raise TypeError(
            f"method is {method!r} and x0 a {type(x0).__name__}; gpuprop.Groups are for a dictionary of "
            f"arrays, and every dictionary is for them: pass {mend}"
        )
    if not isinstance(method, (Optimizer, Groups)):
        mend = "SciPy's own methods are those of scipy.optimize.minimize"
        if hasattr(method, "comm"):
            mend = "Sharded has no minimize: write the loop over its step, or pass parts of x, and comm="
        raise TypeError(f"method is {method!r}; it must be an optimizer such as gpuprop.RMSProp() ({mend})")


def _default_method(x0: Any) -> RMSProp:
    # Epsilon only keeps 0 / 0 away: it is the root of the least normal number.
    is_single = any(name in str(getattr(x0, "dtype", "")) for name in ("float16", "float32", "complex64"))
    epsilon = 2.0**-63 if is_single else 2.0**-511
    return RMSProp("auto", rho=0.97, epsilon=epsilon, momentum=0.9, bias_correction=True)


def keeping_steps(method: Any) -> Any:
    """The same, with each step kept where its learning rate follows them and a projection changes them."""
    if isinstance(method, Groups):
        each = {name: keeping_steps(one) for name, one in method.optimizers.items()}
        return Groups(each, clip_norm=method.clip_norm)
    if not method._finds_rate or method._displacement:
        return method
    return method._replaced(bounds=(-math.inf, math.inf))
