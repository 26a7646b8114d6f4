"""What brings vectors to a norm; norms are in two factors, as they may be beyond float64's numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np


def norm_of(xp: Any, array: Any, finite_only: bool) -> tuple[float, float]:
    """The Euclidean norm of a real array, by whole arrays of a library's, and the unit that it is in."""
    with np.errstate(all="ignore"):
        values = abs(array.ravel().astype(np.float64))
        if finite_only:
            values = values[xp.isfinite(values)]
        largest = float(values.max()) if values.size else 0.0
        unit = largest if largest > 1e150 and math.isfinite(largest) else 1.0
        return float(xp.linalg.norm(values / unit)), unit


def joint_norm(norms: Sequence[Sequence[float]]) -> tuple[float, float]:
    """That of vectors of these norms together."""
    largest = max(unit for _, unit in norms)
    if any(math.isnan(norm) for norm, _ in norms):  # which hypot forgets beside an infinity
        return math.nan, largest
    return math.hypot(*(norm * (unit / largest) for norm, unit in norms)), largest


def joint_factor(norms: Sequence[Sequence[float]], clip_norm: float) -> float:
    """What brings vectors of these norms together to at most `clip_norm`."""
    norm, unit = joint_norm(norms)
    return clip_factor(norm, clip_norm / unit)


def clip_factor(norm: float, clip_norm: float) -> float:
    """What brings a vector of this norm to at most `clip_norm`; NaN for a NaN."""
    return 1.0 if norm <= clip_norm else clip_norm / norm
