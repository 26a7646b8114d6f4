"""Measure gpuprop.minimize beside SciPy's L-BFGS-B, for the page "When not to use this".

    OMP_NUM_THREADS=1 python docs/pictures/when_not.py

prints the page's numbers: evaluations, and seconds of processor time on one thread. Both methods are given
the function and its gradient in one call, with nothing chosen, and are stopped at the first point whose f is
within the target of the minimum, or after 10,000 evaluations. Those with which the default method of
gpuprop.minimize finds its first rate count.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import scipy.optimize

import gpuprop

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
MOST, ROUNDS, DRAWS = 10_000, 3, 11
DEFAULT = "gpuprop.minimize, default"


@dataclass
class Problem:
    name: str
    fun: Callable[[np.ndarray], tuple[float, np.ndarray]]
    x0: np.ndarray
    target: float
    bounds: Any = None


class Stopped(Exception):
    pass


class Watch:
    """The function of a problem, counted and timed until its target, or the most calls, are reached."""

    def __init__(self, problem: Problem) -> None:
        self.problem, self.calls, self.least, self.start = problem, 0, np.inf, time.process_time()
        self.seconds = np.nan  # stopped by itself

    def __call__(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = self.problem.fun(x)
        self.calls += 1
        self.least = min(self.least, value)
        if value <= self.problem.target or self.calls == MOST:
            self.seconds = time.process_time() - self.start
            raise Stopped
        return value, gradient


def lbfgs(problem: Problem) -> Watch:
    watch = Watch(problem)
    options = {"maxiter": MOST, "maxfun": MOST, "ftol": 0, "gtol": 0}
    with suppress(Stopped):
        scipy.optimize.minimize(
            watch, problem.x0, jac=True, method="L-BFGS-B", bounds=problem.bounds, options=options
        )
    return watch


def ours(problem: Problem, method: Any = None, maxiter: int = MOST) -> Watch:
    watch = Watch(problem)
    options = {"maxiter": maxiter, "gtol": None}
    with suppress(Stopped):
        gpuprop.minimize(watch, problem.x0, jac=True, method=method, bounds=problem.bounds, options=options)
    return watch


def rosenbrock(n: int) -> Problem:
    def fun(x: np.ndarray) -> tuple[float, np.ndarray]:
        return scipy.optimize.rosen(x), scipy.optimize.rosen_der(x)

    return Problem(f"Rosenbrock, {n} parameters", fun, np.tile([-1.2, 1.0], n // 2), 1e-6)


def pairs(n: int = 100_000) -> Problem:
    """Rosenbrock's function of each pair of parameters (Moré, Garbow and Hillstrom, 1981, problem 21)."""
    x0 = np.random.default_rng(0).normal([-1.2, 1.0], 0.5, (n // 2, 2)).ravel()

    def fun(x: np.ndarray) -> tuple[float, np.ndarray]:
        a, b = x[::2], x[1::2]
        off, gradient = b - a * a, np.empty_like(x)
        gradient[::2] = 2 * (a - 1) - 400 * a * off
        gradient[1::2] = 200 * off
        return np.sum(100 * off * off + (1 - a) ** 2), gradient

    return Problem(f"Rosenbrock, {n // 2:,} pairs", fun, x0, 1e-6)


def quadratic(n: int = 1000) -> Problem:
    curvature = np.logspace(0, 6, n)

    def fun(x: np.ndarray) -> tuple[float, np.ndarray]:
        gradient = curvature * x
        return x @ gradient / 2, gradient

    return Problem(f"quadratic, {n:,}, curvatures 1 to 10⁶", fun, np.ones(n), 1e-6)


def turned(n: int = 1000) -> Problem:
    axes, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(n, n)))
    matrix = (axes * np.logspace(0, 4, n)) @ axes.T

    def fun(x: np.ndarray) -> tuple[float, np.ndarray]:
        gradient = matrix @ x
        return x @ gradient / 2, gradient

    return Problem(f"quadratic, {n:,}, curvatures 1 to 10⁴, turned", fun, np.ones(n), 1e-6)


def least_squares(rows: int = 2000, n: int = 500) -> Problem:
    random = np.random.default_rng(0)
    matrix = random.normal(size=(rows, n))
    measured = matrix @ random.normal(size=n) + 0.1 * random.normal(size=rows)
    least = np.sum((matrix @ np.linalg.lstsq(matrix, measured)[0] - measured) ** 2) / 2

    def fun(x: np.ndarray) -> tuple[float, np.ndarray]:
        misfit = matrix @ x - measured
        return misfit @ misfit / 2 - least, matrix.T @ misfit

    return Problem(f"least squares, {rows:,} x {n}", fun, np.zeros(n), 1e-6)


def photograph() -> Problem:
    import deblur

    truth = deblur.photograph()
    spectrum = deblur.blur_spectrum(truth.shape)
    noise = deblur.NOISE * np.random.default_rng(1).normal(size=truth.shape)
    measured = deblur.convolved(truth, spectrum) + noise

    def fun(x: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = deblur.objective(x.reshape(truth.shape), spectrum, measured)
        return value, gradient.ravel()

    problem = Problem(
        "photograph, 102,400, bounds", fun, np.clip(measured, 0, 1).ravel(), 0.0, scipy.optimize.Bounds(0, 1)
    )
    best = scipy.optimize.minimize(
        fun, problem.x0, jac=True, method="L-BFGS-B", bounds=problem.bounds,
        options={"maxiter": 2000, "maxfun": 2000, "ftol": 0, "gtol": 1e-7},
    )  # fmt: skip
    print(f"photograph: f = {best.fun} after {best.nfev} evaluations of L-BFGS-B", file=sys.stderr)
    problem.target = 1.001 * best.fun
    return problem


def descents() -> None:
    print("| f, until within | L-BFGS-B: evaluations | seconds | gpuprop: evaluations | seconds |")
    print("| --- | ---: | ---: | ---: | ---: |")
    gpuprop.minimize(scipy.optimize.rosen, [0.0, 0.0], jac=scipy.optimize.rosen_der, options={"maxiter": 9})
    for make in (
        lambda: rosenbrock(2),
        lambda: rosenbrock(100),
        pairs,
        quadratic,
        turned,
        least_squares,
        photograph,
    ):
        problem = make()
        runs = [(lbfgs(problem), ours(problem)) for _ in range(ROUNDS)]
        cells = [problem.name]
        for first, *others in zip(*runs, strict=True):
            seconds = statistics.median(watch.seconds for watch in (first, *others))
            arrives = first.least <= problem.target
            cells += [f"{first.calls}" if arrives else f"f is {first.least:.3g} after {first.calls}"]
            cells += [f"{seconds:.2g}"]
        print("| " + " | ".join(cells) + " |", flush=True)


def valleys() -> None:
    """What becomes of many pairs by the default, and by rates that are given."""
    problem = pairs()
    options = {"maxiter": MOST, "gtol": None}
    a, b = gpuprop.minimize(problem.fun, problem.x0, jac=True, options=options).x.reshape(-1, 2).T
    above = np.sum(100 * (b - a * a) ** 2 + (1 - a) ** 2 > 1e-9)
    print(f"pairs, default: {above} of {len(a):,} are above 1e-9 after {MOST:,} steps")
    make = partial(gpuprop.RMSProp, rho=0.97, momentum=0.9, bias_correction=True)
    for rate in (1e-4, 3e-4, 1e-3, 3e-3, 1e-2):
        watch = ours(problem, make(rate))
        print(f"pairs, constant rate of {rate}: f is {watch.least:.3g} after {watch.calls:,} evaluations")
    for rate in (0.01, 0.03):
        falling = gpuprop.schedules.cosine_decay_schedule(rate, 3000)
        watch = ours(problem, make(falling), 3000)
        print(f"pairs, cosine decay from {rate}: f is {watch.least:.3g} after {watch.calls:,} evaluations")
    chained = rosenbrock(100_000)
    watch = ours(chained, maxiter=3000)
    print(f"{chained.name}, default: f is {watch.least:.6g} after {watch.calls:,} evaluations")


def large(method: str, n: int = 10**7, steps: int = 20) -> None:
    """Bytes a parameter that a run of `method` allocates, and its seconds a step outside of the function."""
    x0, curvature = np.ones(n, "float32"), np.linspace(1, 1000, n, dtype="float32")
    inside: list[float] = []

    def fun(x: np.ndarray) -> tuple[float, np.ndarray]:
        start = time.process_time()
        gradient = curvature * x
        value = float(x @ gradient) / 2
        inside.append(time.process_time() - start)
        return value, gradient

    def run(x0: np.ndarray) -> None:
        if method == "L-BFGS-B":
            options = {"maxiter": steps, "ftol": 0, "gtol": 0}
            scipy.optimize.minimize(fun, x0, jac=True, method=method, options=options)
        else:
            options = {"maxiter": steps, "gtol": None}
            optimizer = None if method == DEFAULT else gpuprop.RMSProp(1e-3)
            gpuprop.minimize(fun, x0, jac=True, method=optimizer, options=options)

    whole, curvature = curvature, curvature[:10]
    run(x0[:10])  # compiled beforehand
    curvature = whole
    inside.clear()
    tracemalloc.start()
    start = time.process_time()
    run(x0)
    seconds = (time.process_time() - start - sum(inside)) / len(inside)
    print(f"| {method} | {tracemalloc.get_traced_memory()[1] / n:.0f} | {seconds * 1e3:.0f} |")


def noisy() -> None:
    """A regression whose every gradient is of other rows, 200 of 200,000."""
    random = np.random.default_rng(0)
    rows, n, batch = 200_000, 50, 200
    matrix = random.normal(size=(rows, n))
    measured = matrix @ random.normal(size=n) + random.normal(size=rows)

    def loss(x: np.ndarray, some: Any = slice(None)) -> tuple[float, np.ndarray]:
        misfit = matrix[some] @ x - measured[some]
        return misfit @ misfit / (2 * misfit.size), matrix[some].T @ misfit / misfit.size

    def drawn(x: np.ndarray) -> tuple[float, np.ndarray]:
        return loss(x, random.integers(0, rows, batch))

    least = loss(np.linalg.lstsq(matrix, measured)[0])[0]
    whole = lbfgs(Problem("whole", loss, np.zeros(n), 1.001 * least))
    print(f"L-BFGS-B, all rows: within 0.1 % after {whole.calls} evaluations, {whole.calls * rows:,} rows")
    result = scipy.optimize.minimize(drawn, np.zeros(n), jac=True, method="L-BFGS-B")
    above = loss(result.x)[0] / least - 1
    print(f"L-BFGS-B, 200 rows: {above:.2%} above the least, {result.nfev} evaluations, {result.message}")
    for steps in (300, 1000, 3000):
        rate = gpuprop.schedules.cosine_decay_schedule(0.05, steps)
        falling = gpuprop.RMSProp(rate, rho=0.99, bias_correction=True)
        for name, method in (("a rate that falls", falling), ("default", None)):
            above = []
            for seed in range(DRAWS):  # the same for both
                random = np.random.default_rng([1, seed])
                options = {"maxiter": steps, "gtol": None}
                result = gpuprop.minimize(drawn, np.zeros(n), jac=True, method=method, options=options)
                above.append(loss(result.x)[0] / least - 1)
            print(
                f"gpuprop, {name}, 200 rows: {statistics.median(above):.2%} above the least "
                f"({min(above):.2%} to {max(above):.2%}), {steps} steps, {steps * batch:,} rows"
            )


def main() -> None:
    gpuprop.set_num_threads(1)
    if sys.argv[1:]:
        large(sys.argv[1])
        return
    descents()
    valleys()
    print("\n| 10⁷ parameters in float32 | bytes a parameter | ms a step outside of fun |")
    print("| --- | ---: | ---: |", flush=True)
    for method in ("L-BFGS-B", "gpuprop.RMSProp", DEFAULT):
        subprocess.run([sys.executable, __file__, method], check=True)
    noisy()


if __name__ == "__main__":
    main()
