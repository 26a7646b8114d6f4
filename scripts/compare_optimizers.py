"""Compare RMSProp with its neighbours on four small problems, each at its own best learning rate.

An optimizer's best learning rate is that with which the median run is soonest within the target to
stay there. All try equally many, on the same runs; the table is of other runs.
"""

from __future__ import annotations

from command_line import (
    Parser,
    choose_backend,
    progress,
    say,
    start,
    tell,
    versions,
    whole,
    writable_file,
    write_files,
    write_json,
)

if __name__ == "__main__":
    start()  # before the imports that take long

import argparse
import math
import sys
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from objectives import OBJECTIVES, Objective

import gpuprop

#: Every optimizer tries these, and then the best of them times and divided by `FINER`.
RATES = [10 ** (k / 2) for k in range(-6, 2)]
FINER = 10**0.25


class Method(NamedTuple):
    make: Callable[..., Any]
    batches: bool = True  # mini-batches where the objective has them
    only_stochastic: bool = False
    decoupled: bool = False  # decays by itself, apart from the gradient


METHODS = {
    "SGD, full batch": Method(gpuprop.SGD, batches=False),
    "SGD, mini-batch": Method(gpuprop.SGD, only_stochastic=True),
    "momentum": Method(partial(gpuprop.SGD, momentum=0.9)),
    "Nesterov": Method(partial(gpuprop.SGD, momentum=0.9, nesterov=True)),
    "AdaGrad": Method(gpuprop.AdaGrad),
    "RMSProp": Method(gpuprop.RMSProp),
    "RMSProp, momentum": Method(partial(gpuprop.RMSProp, momentum=0.9)),
    "RMSProp, centred": Method(partial(gpuprop.RMSProp, centered=True)),
    "Adam": Method(gpuprop.Adam),
    "AdamW": Method(gpuprop.AdamW, only_stochastic=True, decoupled=True),  # without decay it is Adam
}


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = Parser(__doc__)
    option = parser.add_argument
    option("--device", choices=("auto", "gpu", "cpu", "numpy"), default="auto", help="(default: auto)")
    option("--no-fallback", action="store_true", help="fail where the device is not available")
    names = list(OBJECTIVES)
    option("--problems", choices=names, nargs="+", default=names, metavar="NAME", help=", ".join(names))
    option("--steps", type=lambda t: whole(t, 1), metavar="N", help="(default: 1000, or 20 passes over data)")
    option("--seed", type=lambda t: whole(t, 0), default=0, metavar="N", help="of starts and batches")
    parser.add_plot("f - f* against steps")
    option("--json", type=writable_file, metavar="FILE", help="write every number")
    options = parser.parse_args(arguments)
    parser.check_files(options.plot, options.json)
    return options


def run(objective: Objective, method: Method, rate: float, steps: int, seed: int, trial: bool) -> np.ndarray:
    """The points of all runs, of shape (steps + 1, runs, n); trials are other runs."""
    backend, random = objective.backend, np.random.default_rng([seed, trial])
    starts = objective.starts(random)
    if not trial:
        starts[0] = objective.start  # of the path that is drawn
    x = backend.asarray(starts)
    decay = objective.weight_decay if method.decoupled else 0.0
    optimizer = method.make(learning_rate=rate, weight_decay=decay)
    state = optimizer.init(x, backend=backend)
    points = backend.xp.empty((steps + 1, *x.shape))
    points[0] = x
    for k in range(steps):
        for gradient in objective.gradients(random) if method.batches else [objective.gradient]:
            grad = gradient(x)
            optimizer.step(x, grad - decay * x if decay else grad, state)
        points[k + 1] = x
    return backend.to_host(points)


def worst_to_come(objective: Objective, points: np.ndarray) -> np.ndarray:
    """The largest f - f* from each step on, of shape (steps + 1, runs)."""
    gaps = objective.value(points) - objective.minimum
    gaps = np.where(np.isnan(gaps), math.inf, gaps)
    return np.maximum.accumulate(gaps[::-1])[::-1]


@np.errstate(all="ignore")  # rates that are too large leave the numbers, as they may
def compete(objective: Objective, method: Method, steps: int, seed: int) -> dict[str, Any]:
    """A row of the table: the method at its best learning rate."""

    def judge(gaps: np.ndarray) -> tuple[float, float]:
        median = np.median(gaps, axis=1)
        within = median <= objective.target
        return int(np.argmax(within)) if within[-1] else math.inf, float(median[-1])

    @cache
    def trial(rate: float) -> tuple[float, float]:
        return judge(worst_to_come(objective, run(objective, method, rate, steps, seed, True)))

    coarse = min(RATES, key=trial)
    rate = min([coarse, coarse / FINER, coarse * FINER], key=trial)
    points = run(objective, method, rate, steps, seed, False)
    gaps = worst_to_come(objective, points)
    reached, final = judge(gaps)
    row = {"learning_rate": rate, "steps_to_target": reached, "final": final}
    row["runs_within"] = int((gaps[-1] <= objective.target).sum())
    row["worst_to_come"] = np.median(gaps, axis=1).tolist()
    return row | ({"path": points[:, 0].tolist()} if points.shape[2] == 2 else {})


def compare(objective: Objective, steps: int, seed: int) -> dict[str, Any]:
    rows = {}
    methods = {k: m for k, m in METHODS.items() if objective.stochastic or not m.only_stochastic}
    for name in progress(methods, len(methods), objective.title):
        rows[name] = compete(objective, methods[name], steps, seed)
    about = ("title", "formula", "target", "minimum", "unit", "runs")
    return {key: getattr(objective, key) for key in about} | {"steps": steps, "rows": rows}


def print_table(problem: dict[str, Any]) -> None:
    length, goal = f"{problem['steps']} {problem['unit']}", f"{problem['unit']} to {problem['target']:g}"
    say(f"\n{problem['title']}, f = {problem['formula']}: {length}, medians of {problem['runs']} runs")
    say(f"{'':20}{'learning rate':>13}{goal:>19}{'runs within':>14}{'f - f* at the end':>20}")
    rows = problem["rows"].items()
    for name, row in sorted(rows, key=lambda item: (item[1]["steps_to_target"], item[1]["final"])):
        steps = row["steps_to_target"] if row["steps_to_target"] < math.inf else "not reached"
        say(f"{name:20}{row['learning_rate']:13.3g}{steps:>19}{row['runs_within']:14}{row['final']:20.1e}")


def main(arguments: list[str] | None = None) -> int:
    options = parse_arguments(arguments)
    try:
        backend = choose_backend(options.device, not options.no_fallback)
    except (gpuprop.DeviceUnavailableError, ValueError) as error:
        tell(str(error))
        return 2
    tell(f"running on {backend.name}: {backend.describe()}")
    say(
        f"Learning rates: each optimizer's best of {len(RATES) + 2}, found on other runs than those below: "
        f"{RATES[0]:.3g} to {RATES[-1]:.3g} by\nfactors of {RATES[1] / RATES[0]:.3g}, then {FINER:.3g} times "
        "more and less than the best. A run is at the target from where it stays there."
    )
    objectives, problems, absent = {}, {}, {}
    for name in dict.fromkeys(options.problems):
        steps = options.steps or OBJECTIVES[name].steps
        try:
            objective = OBJECTIVES[name](backend)
            problem = compare(objective, steps, options.seed)
        except ImportError as error:
            absent[name] = f'{error}; mend: python -m pip install "gpuprop[compare]"'
            say(f"\nleft out: {OBJECTIVES[name].title} ({absent[name]})")
        except MemoryError:
            tell(f"not enough memory for {steps} steps; choose fewer with --steps")
            return 2
        else:
            objectives[name], problems[name] = objective, problem
            print_table(problem)
    if not problems:
        tell("nothing could be compared")
        return 2
    report: dict[str, Any] = {"device": backend.name, "device_description": backend.describe()}
    report |= {"versions": versions(), "seed": options.seed, "learning_rates": RATES, "finer": FINER}
    report |= {"problems": problems, "left_out": absent}

    def draw(file: Path) -> None:
        from figures import plot_comparison

        plot_comparison(file, report, objectives)

    return write_files((options.json, lambda file: write_json(file, report)), (options.plot, draw))


if __name__ == "__main__":
    sys.exit(main())
