"""How a run ended, and what its last checks show of the learning rate."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Any

import numpy as np

#: Checks that say at the end how it went.
RECENT = 8


class Status(IntEnum):
    """Why a run stopped; 1 and 99 are the numbers that SciPy gives them."""

    GRADIENT = 0
    MAXITER = 1
    MAXFEV = 2
    MAXTIME = 3
    STEP = 4
    CHANGE = 5
    NONFINITE = 6
    INTERRUPTED = 7
    CALLBACK = 99

    @property
    def success(self) -> bool:
        return self in (Status.GRADIENT, Status.STEP, Status.CHANGE)


def trend(values: Sequence[float]) -> str:
    """How the values of checks go: "steady" downwards, "to and fro", "still", or "" where that is unclear."""
    if len(values) < 4 or not np.isfinite(values).all():
        return ""
    with np.errstate(all="ignore"):
        changes = np.diff(values)
        sizes = abs(changes)
        total, way = abs(changes.sum()), sizes.sum()
    if not sizes.any():
        return "still"
    if sizes.max() <= 1e-6 * np.max(np.abs(values)):  # which may be rounding
        return ""
    if (changes < 0).all() and sizes[-1] >= sizes[0] / 2:
        return "steady"
    signs = np.sign(changes)
    turns = np.count_nonzero(signs[1:] * signs[:-1] < 0)
    if 2 * turns >= len(changes) and total <= way / 2:
        return "to and fro"
    return ""


def kind_of_rate(optimizer: Any, state: Any) -> str:
    """Of one array, or of groups: "found" where one is, "constant" where all are, or ""."""
    optimizers = getattr(optimizer, "optimizers", {"": optimizer})
    states = state if hasattr(optimizer, "optimizers") else {"": state}
    rates = [getattr(one, "learning_rate", None) for one in optimizers.values()]
    if any(isinstance(rate, str) for rate in rates):
        return "found"
    # A callback that scales a rate, as on a plateau, makes it no constant.
    is_scaled = any(states[name].rate_scale != 1 for name in optimizers)
    is_constant = not is_scaled and not any(rate is None or callable(rate) for rate in rates)
    return "constant" if is_constant else ""


def advice(values: Sequence[float], kind: str, *, by_f: bool, rises: bool) -> str:
    """What the last checks show, and what would lead further; "" where that is unclear.

    Parameters
    ----------
    values : sequence of float
        f, or else the largest component of the gradient, at each check: less is better.
    kind : str
        Of the learning rate, as `kind_of_rate` says.
    by_f : bool
        Whether they are those of f.
    rises : bool
        Whether f is to rise, and `values` are those of -f.
    """
    what, found, is_constant = "f" if by_f else "the gradient", trend(values[-RECENT:]), kind == "constant"
    falling = "one that falls (gpuprop.schedules) lets x settle"
    if found == "still" and by_f:
        said = "f has not changed over the last checks: x may have arrived as far as its digits go"
        if is_constant:  # from one side of the minimum to the other f stays the same, too
            return f"{said}, or go to and fro, as the learning rate is constant, and {falling}"
        return f"{said} (ftol = 0 ends a run there), or its steps have become too short to show"
    if found == "steady":
        larger = "maxiter" if kind == "found" else "learning rate, or maxiter,"
        up = "rising" if rises and by_f else "falling"
        return f"{what} was still {up} at a steady pace: a larger {larger} would lead further"
    if found == "to and fro":
        said = f"{what} went to and fro at the last checks: "
        if kind == "found":
            return said + (
                "if the gradient is noisy, as of mini-batches, parameter_average evens x out, and a learning "
                "rate of your own that falls (gpuprop.schedules) may lead further"
            )
        if is_constant:
            return f"{said}the learning rate is constant and too large, and {falling}"
        return f"{said}the learning rate is too large"
    return f"the learning rate is constant, and {falling}" if is_constant else ""


def gone_wrong(first: Sequence[float], last: Sequence[float], found: str, *, rises: bool) -> str:
    """That f is worse than at the start, by more than may be rounding, and where to look; "" if it is not.

    Parameters
    ----------
    first, last : sequence (step, f, ...)
        Checks.
    found : str
        What `trend` says of the last ones.
    rises : bool
        Whether f is to rise.
    """
    worse = first[1] - last[1] if rises else last[1] - first[1]
    if not worse > 1e-6 * abs(first[1]):
        return ""
    went, other = ("fell", "rise") if rises else ("rose", "fall")
    fact = f"f {went} from {first[1]:.6g} at step {int(first[0])} to {last[1]:.6g} at step {int(last[0])}"
    if found == "steady":  # on its way back, which a wrong sign would not let it
        return f" {fact}."
    return (
        f" {fact}, and is to {other}: check the sign of the gradient (gpuprop.check_gradient), or take a "
        "smaller learning rate."
    )
