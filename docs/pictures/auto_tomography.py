"""Measure the default of gpuprop.minimize on larger tomographies, for the page "Choose a learning rate".

    python docs/pictures/auto_tomography.py 128 64
    python docs/pictures/auto_tomography.py 256 128

The phantom of the gallery in so many pixels each way, from so many views, with its noise and its total
variation: f after 200 steps from the same start, by the default method and by the same one with each of the
13 constant rates of `scripts/compare_rates.py`. The default takes a gradient more, for its first rate.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

import gpuprop

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
from compare_rates import METHODS, RATES
from problems import Tomography

STEPS = 200


def main() -> None:
    size, views = map(int, sys.argv[1:])
    problem = type("Larger", (Tomography,), {"size": size, "bins": 3 * size // 2, "views": views})()
    print(f"| {size}² pixels, {views} views | start | default | gradients | best constant | ratio |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for name, start, bounds in (("no bounds", 0.0, None), ("from 0 to 1", 0.1, (0.0, 1.0))):
        x0 = np.full((size, size), start)
        run = {"jac": problem.gradient, "bounds": bounds, "options": {"maxiter": STEPS, "gtol": None}}
        found = gpuprop.minimize(problem.value, x0, **run)
        values = {}
        for rate in RATES:
            method = METHODS["RMSProp"](rate)
            values[rate] = float(gpuprop.minimize(problem.value, x0, method=method, **run).fun)
        best = min(values, key=values.__getitem__)
        print(
            f"| {name} | {problem.value(x0):.4g} | {found.fun:.6g} | {found.njev} | "
            f"{values[best]:.6g} at {best:.2g} | {found.fun / values[best]:.3f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
