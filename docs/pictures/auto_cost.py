"""Measure a step with "auto" beside one with a given rate, for the page "Choose a learning rate".

    python docs/pictures/auto_cost.py

prints microseconds a step, medians of rounds in which all take turns, and their ratio.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

import gpuprop

METHODS: dict[str, Callable[..., Any]] = {
    "RMSProp, momentum": partial(gpuprop.RMSProp, momentum=0.9),
    "Adam": gpuprop.Adam,
    "RMSProp, none": gpuprop.RMSProp,
}
ROUNDS = 11


def seconds(n: int, dtype: str) -> dict[tuple[str, Any], float]:
    """The median step of each method, with a given rate and without."""
    gradient = np.random.default_rng(0).normal(size=n).astype(dtype)
    runs: dict[tuple[str, Any], Any] = {}
    for name, make in METHODS.items():
        for rate in (1e-9, "auto"):
            optimizer, x = make(rate), np.ones(n, dtype)
            runs[name, rate] = partial(optimizer.step, x, gradient, optimizer.init(x))
    times: dict[tuple[str, Any], list[float]] = {key: [] for key in runs}
    steps = min(200, max(1, 10**6 // n))
    for _ in range(ROUNDS):
        for key, step in runs.items():
            begin = time.perf_counter()
            for _ in range(steps):
                step()
            times[key].append((time.perf_counter() - begin) / steps)
    return {key: statistics.median(rounds[1:]) for key, rounds in times.items()}


def main() -> None:
    for n, dtype in ((2, "f8"), (10**4, "f4"), (10**6, "f4"), (2 * 10**7, "f4")):
        found = seconds(n, dtype)
        for name in METHODS:
            given, auto = (1e6 * found[name, rate] for rate in (1e-9, "auto"))
            print(f"{n:11,} {dtype} {name:18}{given:11.1f}{auto:11.1f}{auto / given:7.2f}", flush=True)


if __name__ == "__main__":
    main()
