"""Runs whose parameters are spread over processes: numbers of all ranks as one, and what ranks must share.

Whatever a run decides, it decides by these numbers, so that all ranks go the same way.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from gpuprop import arguments as check
from gpuprop.driver.functions.callback import takes_a_result
from gpuprop.driver.options import DriverOptions
from gpuprop.optimizers import Groups

#: Options that decide which evaluations, tests and files there are, and when.
_SHARED = (
    "gtol", "xtol", "ftol", "maxiter", "maxfev", "maxtime", "check_every", "return_best", "history",
    "checkpoint", "checkpoint_every", "resume",
)  # fmt: skip


def check_alike(
    comm: Any, options: DriverOptions, fun: Any, x0: Any, jac: Any, callback: Any, bounds: Any, method: Any
) -> None:
    """Refuse arguments by which ranks would wait for each other in different places.

    Raises
    ------
    ValueError
        Those of a rank are not those of rank 0; or the gradient would be one of finite differences.
    """
    if not (callable(jac) or jac is True):
        raise ValueError(
            f"jac is {jac!r} and comm is given; finite differences are for one process, as a rank cannot move"
            " the parameters of others, so pass jac, or jac=True with a fun that gives (f, gradient)"
        )
    ours = {name: getattr(options, name) for name in _SHARED}
    ours |= {n: os.fsdecode(ours[n]) for n in ("checkpoint", "resume") if ours[n] is not None}
    functions = {"fun": fun, "jac": jac, "callback": callback, "project": options.project}
    ours |= {name: "a function" if callable(given) else given for name, given in functions.items()}
    if callback is not None:
        ours["callback"] = "of intermediate_result" if takes_a_result(callback) else "of x"
    ours["x0"] = f"of {', '.join(x0)}" if isinstance(x0, Mapping) else "one array"
    ours["bounds"] = None if bounds is None else "given"
    ours["method"] = None if method is None else type(method).__name__
    ours["state"] = None if options.state is None else f"of step {options.state.step}"
    for group, one in method._stepping.items() if isinstance(method, Groups) else [("method", method)]:
        ours |= {f"{name} of {group}": option for name, option in getattr(one, "_on_all_ranks", {}).items()}
    check.check_alike(comm, ours)


def together(comm: Any, sums: list[float], largest: list[float] | None = None) -> list[float]:
    """Some numbers summed over all ranks, and the largest of others (or NaN): the same bits on each rank."""
    return [*sums, *(largest or [])] if comm is None else comm.together(sums, largest or [])


def of_first(comm: Any, number: float) -> float:
    """This number on rank 0, and 0 elsewhere: for sums that are to be what rank 0 says."""
    return number if comm is None or comm.rank == 0 else 0.0
