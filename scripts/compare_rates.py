"""Compare the automatic learning rate with the best of 13 constant rates, and of their cosine decays.

All runs of a row have the same start, the same optimizer but for its rate, and equally many gradients:
those with which `minimize` finds its first rate count. The score of a row is the decades by which the
best of the 26 tries brings f - f* down over those of the automatic rate: 1 is as far, 2 half as many,
and a run that ends above its start, or not finite, is lost. Gaps below 1e-9 of the first count as that.
f* is the least that any run, or L-BFGS, has found.
"""

from __future__ import annotations

from command_line import (
    Parser,
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
import statistics
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from problems import PROBLEMS, Problem

import gpuprop
from gpuprop.schedules import cosine_decay_schedule

RATES = [10 ** (k / 2) for k in range(-8, 5)]
#: Gaps f - f* that are smaller parts of the first one count as this: it is close to rounding.
LEAST = 1e-9
tiny = float(np.finfo(float).tiny)
METHODS: dict[str, Callable[..., Any]] = {
    "RMSProp": partial(gpuprop.RMSProp, rho=0.97, momentum=0.9, bias_correction=True, epsilon=tiny),
    "Adam": partial(gpuprop.Adam, epsilon=tiny),
    "SGD": partial(gpuprop.SGD, momentum=0.9),
    "RMSProp-plain": partial(gpuprop.RMSProp, rho=0.97, bias_correction=True, epsilon=tiny),
    "SGD-plain": gpuprop.SGD,
    "AdaGrad": partial(gpuprop.AdaGrad, epsilon=tiny),
}
WITH_MOMENTUM = ("RMSProp", "Adam", "SGD")


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = Parser(__doc__)
    option = parser.add_argument
    names, methods = list(PROBLEMS), list(METHODS)
    option("--problems", choices=names, nargs="+", default=names, metavar="NAME", help=", ".join(names))
    option(
        "--methods", choices=methods, nargs="+", default=WITH_MOMENTUM, metavar="NAME",
        help=f"{', '.join(methods)} (default: the first three, which have momentum)",
    )  # fmt: skip
    option(
        "--steps", type=lambda t: whole(t, 1), nargs="+", default=[100, 1000], metavar="N",
        help="gradients of a run (default: 100 1000)",
    )  # fmt: skip
    option(
        "--seed", type=lambda t: whole(t, 0), default=0, metavar="N",
        help="of batches, and of starts that are moved by 2%% (default: 0, with each problem's own start)",
    )  # fmt: skip
    parser.add_plot("f - f* against the rate")
    option("--json", type=writable_file, metavar="FILE", help="write every number")
    options = parser.parse_args(arguments)
    parser.check_files(options.plot, options.json)
    return options


def by_hand(problem: Problem, optimizer: Any, counts: list[int], seed: int) -> list[float]:
    """f after so many steps of an optimizer whose rate is given."""
    x, gradient, values = problem.start_of_a_run(seed), problem.gradient_of_a_run(seed), {}
    state = optimizer.init(x)
    for k in range(1, max(counts) + 1):
        grad = gradient(x)
        if not np.isfinite(grad).all():
            break
        optimizer.step(x, grad, state)
        if k in counts:
            values[k] = float(problem.value(x))
    return [finite(values.get(k)) for k in counts]


def automatic(problem: Problem, optimizer: Any, counts: list[int], seed: int) -> tuple[list[float], int]:
    """f of `minimize` after so many gradients, and how many of them went into the first rate."""
    gradient, values, calls = problem.gradient_of_a_run(seed), {}, 0

    def jac(x: np.ndarray) -> np.ndarray:
        nonlocal calls
        if calls in counts:  # here the gradients so far have led
            values[calls] = float(problem.value(x))
        calls += 1
        return gradient(x)

    options = {"maxiter": max(counts), "gtol": None}
    result = gpuprop.minimize(
        problem.value, problem.start_of_a_run(seed), jac=jac, method=optimizer, options=options
    )
    return [finite(values.get(k)) for k in counts], calls - result.nit - 1


def finite(value: float | None) -> float:
    return value if value is not None and math.isfinite(value) else math.inf


@np.errstate(all="ignore")  # rates that are too large leave the numbers, as they may
def compete(
    problem: Problem, make: Callable[..., Any], counts: list[int], seed: int, rates: list[float]
) -> dict[str, Any]:
    """f of all tries, by number of gradients."""
    constant = [by_hand(problem, make(rate), counts, seed) for rate in rates]
    cosine = [
        [by_hand(problem, make(cosine_decay_schedule(rate, n)), [n], seed)[0] for n in counts]
        for rate in rates
    ]
    values, first = automatic(problem, make("auto"), counts, seed)
    rows = zip(zip(*constant, strict=True), zip(*cosine, strict=True), values, strict=True)
    keys = ("constant", "cosine", "automatic")
    return {"first": first, "f": [dict(zip(keys, row, strict=True)) for row in rows]}


def decades(f: float, f0: float, minimum: float) -> float:
    """By how many f - f* is down; negative where it is up."""
    if f == math.inf:
        return -math.inf
    return -math.log10(max((f - minimum) / (f0 - minimum), LEAST))


def score(row: dict[str, Any], f0: float, minimum: float) -> float:
    """The decades of the best try over those of the automatic rate; infinite where it has none."""
    best, ours = (decades(f, f0, minimum) for f in (min(*row["constant"], *row["cosine"]), row["automatic"]))
    return max(best, 0.0) / ours if ours > 0 else math.inf


def compare(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """All about one problem."""
    problem = PROBLEMS[name]()
    counts, rows = sorted(set(options.steps)), {}
    methods = list(dict.fromkeys(options.methods))
    for method in progress(methods, len(methods), problem.title):
        rows[method] = compete(problem, METHODS[method], counts, options.seed, RATES)
    f0 = float(problem.value(problem.start_of_a_run(options.seed)))
    every = [f for run in rows.values() for row in run["f"] for f in
             (*row["constant"], *row["cosine"], row["automatic"])]  # fmt: skip
    minimum = min(problem.minimum(), *every)
    for run in rows.values():
        for row in run["f"]:
            row["score"] = score(row, f0, minimum)
            row["lost"] = row["automatic"] > f0
    return {"title": problem.title, "start": f0, "minimum": minimum, "methods": rows}


def print_table(method: str, k: int, count: int, problems: dict[str, Any]) -> None:
    """A row a problem, for the `k`-th number of gradients."""

    def best(values: list[float]) -> str:
        place = int(np.argmin(values))
        return f"{values[place]:.4g} at {RATES[place]:.2g}"

    def line(*cells: object) -> None:
        say("{:24}{:>11}{:>22}{:>22}{:>11}{:>11}{:>8}".format(*cells))

    say(f"\n{method}: f after {count:,} gradients")
    line("", "start", "best constant", "best cosine", "auto", "first rate", "score")
    scores, lost = [], 0
    for problem in problems.values():
        run = problem["methods"][method]
        row = run["f"][k]
        outcome = "lost" if row["lost"] else f"{row['score']:.2f}"
        line(
            problem["title"], f"{problem['start']:.4g}", best(row["constant"]), best(row["cosine"]),
            f"{row['automatic']:.4g}", run["first"], outcome,
        )  # fmt: skip
        scores.append(row["score"])
        lost += row["lost"]
    line("median", *[""] * 5, f"{statistics.median(scores):.2f}")
    if lost:
        say(f"{lost} of {len(problems)} lost")


def main(arguments: list[str] | None = None) -> int:
    options = parse_arguments(arguments)
    problems, absent = {}, {}
    for name in dict.fromkeys(options.problems):
        try:
            problems[name] = compare(name, options)
        except (ImportError, OSError) as error:  # of a data set
            absent[name] = f'{error}; mend: python -m pip install "gpuprop[compare,plot]"'
            say(f"left out: {name} ({absent[name]})")
    if not problems:
        tell("nothing could be compared")
        return 2
    counts = sorted(set(options.steps))
    for method in dict.fromkeys(options.methods):
        for k, count in enumerate(counts):
            print_table(method, k, count, problems)
    report = {"versions": versions(), "seed": options.seed, "rates": RATES, "gradients": counts}
    report |= {"problems": problems, "left_out": absent}

    def draw(file: Path) -> None:
        from rate_figures import plot_rates

        plot_rates(file, report)

    return write_files((options.json, lambda file: write_json(file, report)), (options.plot, draw))


if __name__ == "__main__":
    sys.exit(main())
