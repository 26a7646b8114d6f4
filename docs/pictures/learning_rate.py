"""Draw the picture of the page "Choose a learning rate": python docs/pictures/learning_rate.py"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np

import gpuprop
from gpuprop.schedules import cosine_decay_schedule

STEPS, N = 300, 50
random = np.random.default_rng(0)
MATRIX = random.normal(size=(40 * N, N)) * np.logspace(0, 1, N)  # the columns are in different units
SOLUTION = random.uniform(-1, 1, N)


def fun(x: np.ndarray) -> tuple[float, np.ndarray]:
    misfit = MATRIX @ (x - SOLUTION)
    return misfit @ misfit / 2, MATRIX.T @ misfit


def distances(rate: Any) -> np.ndarray:
    """The largest error of a parameter, before each step and after the last, from x = 0."""
    path = [abs(SOLUTION).max()]
    gpuprop.minimize(
        fun, np.zeros(N), jac=True, method=gpuprop.RMSProp(rate, bias_correction=True),
        callback=lambda x: path.append(abs(x - SOLUTION).max()), options={"maxiter": STEPS, "gtol": None},
    )  # fmt: skip
    return np.array(path)


def main() -> None:
    plt.rcParams["font.size"] = 10
    figure, (by_step, by_rate) = plt.subplots(1, 2, figsize=(8, 3.9), layout="constrained")
    runs = {
        "0.001: too little": (0.001, "tab:blue"),
        "0.03": (0.03, "tab:green"),
        "0.3: too much": (0.3, "tab:red"),
        "from 0.03 down to 0": (cosine_decay_schedule(0.03, STEPS), "black"),
    }
    for label, (rate, colour) in runs.items():
        by_step.semilogy(distances(rate), color=colour, label=label)
    by_step.set(xlabel="step", ylabel="largest error of a parameter")
    by_step.legend(title="learning rate", loc="lower left")
    rates = np.logspace(-4, 1, 41)
    by_rate.loglog(
        rates, [distances(rate)[-50:].max() for rate in rates], color="tab:green", label="constant"
    )
    falling = [distances(cosine_decay_schedule(rate, STEPS))[-1] for rate in rates]
    by_rate.loglog(rates, falling, color="black", label="falling to 0")
    by_rate.loglog([1e-2, 10], [5e-3, 5], ":", color="grey", label="half the rate")
    by_rate.axvline(1 / STEPS, color="grey", linestyle="--", label="distance / steps")
    by_rate.set(xlabel="learning rate", ylabel=f"largest error after {STEPS} steps")
    by_rate.legend(loc="center right", fontsize=9)
    for axes in (by_step, by_rate):
        axes.grid(alpha=0.3)
    figure.savefig(Path(__file__).parents[1] / "images" / "learning_rate.png", dpi=120)


if __name__ == "__main__":
    main()
