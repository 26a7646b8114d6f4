"""What brings vectors to a norm, in Python's numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence


def clip_factor(norm: float, clip_norm: float) -> float:
    """What brings a vector of this norm to at most `clip_norm`; NaN for a NaN."""
    return 1.0 if norm <= clip_norm else clip_norm / norm


def joint_factor(norms: Sequence[tuple[float, float]], clip_norm: float) -> float:
    """What brings vectors of these norms, by `Backend.norm`, together to at most `clip_norm`."""
    largest = max(unit for _, unit in norms)
    norm = math.hypot(*(norm * (unit / largest) for norm, unit in norms))
    return clip_factor(norm, clip_norm / largest)
