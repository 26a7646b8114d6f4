"""Steps that take turns: round after round, in an order that is drawn anew for each.

Whoever comes next also pays for writing back what the one before left in the caches, and a change of the
machine's speed meets all alike: a ratio is the median of the rounds' ratios.
"""

from __future__ import annotations

import os
import random
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

from command_line import progress

import gpuprop

#: Seconds of one contender in a round: on a GPU so long that the first launch, and the wait, do not count.
ROUND = {"cpu": 2e-3, "gpu": 2e-2}

Step = Callable[[], Any]


def cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def seconds(backend: gpuprop.Backend, step: Step, calls: int) -> float:
    """By the host's clock, as events of CuPy see nothing of a library with a stream of its own."""
    backend.synchronize()
    started = time.perf_counter()
    for _ in range(calls):
        done = step()
    for array in done if isinstance(done, tuple) else ():
        if hasattr(array, "block_until_ready"):  # JAX has threads of its own, which may not have launched yet
            array.block_until_ready()
    backend.synchronize()
    return (time.perf_counter() - started) / calls / getattr(step, "steps", 1)


def take_turns(
    backend: gpuprop.Backend,
    steps: Mapping[str, Step],
    rounds: int,
    what: str,
    begin: Callable[[], None] = lambda: None,
) -> dict[str, list[float]]:
    """Seconds of one call in each round, by name; `begin` comes before each turn, and is not timed."""
    calls = {}
    for name, step in steps.items():
        begin()
        calls[name] = max(1, min(2000, int(ROUND[backend.name] / seconds(backend, step, 3))))
    times: dict[str, list[float]] = {name: [] for name in steps}
    order = random.Random(what)
    for _ in progress(range(rounds), rounds, f"rounds with {what}"):
        for name in order.sample(list(steps), len(steps)):
            begin()
            times[name].append(seconds(backend, steps[name], calls[name]))
    return times


def medians(times: Mapping[str, list[float]]) -> dict[str, float]:
    return {name: statistics.median(t) for name, t in times.items()}


def ratios(times: Mapping[str, list[float]], base: str) -> dict[str, float]:
    """Medians of the rounds' ratios to `base`; none where it did not take part."""
    if base not in times:
        return {}
    pairs = {name: zip(t, times[base], strict=True) for name, t in times.items()}
    return {name: statistics.median(a / b for a, b in pair) for name, pair in pairs.items()}
