"""The pictures that the scripts draw."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np


def plot_descent(file: Path, path: np.ndarray, optimizer: Any) -> None:
    """The path over the contours of x^2 + y^2, and the distance to the minimum by epoch.

    Parameters
    ----------
    file : Path
        Of the PNG.
    path : ndarray, shape (epochs + 2, 1 or 2)
        From the start on. A path of one parameter lies on y = 0.
    """
    path = np.pad(np.asarray(path, dtype=float), ((0, 0), (0, 2 - path.shape[1])))
    figure, (plane, decay) = plt.subplots(1, 2, figsize=(11, 4.6), layout="constrained")
    figure.suptitle(
        f"RMSProp on f(x, y) = x² + y²: learning rate {optimizer.learning_rate:g}, "
        f"rho {optimizer.rho:g}, epsilon {optimizer.epsilon:g}"
    )
    drawable = (np.abs(path) < 1e100).all(axis=1)  # squares beyond that are no floats
    path = np.where(drawable[:, None], path, np.nan)
    finite = path[drawable]
    low, high = finite.min(axis=0).clip(max=0), finite.max(axis=0).clip(min=0)
    margin = 0.12 * max(high - low)
    x, y = (np.linspace(low[k] - margin, high[k] + margin, 200) for k in (0, 1))
    levels = np.linspace(0, np.hypot(high[0] + margin, high[1] + margin), 12) ** 2
    height = x[None, :] ** 2 + y[:, None] ** 2
    plane.contourf(x, y, height, levels=levels, cmap="Blues", alpha=0.6)
    plane.contour(x, y, height, levels=levels, colors="white", linewidths=0.6)
    plane.plot(*path.T, "o-", color="#b3361b", markersize=3, linewidth=1, label="after each epoch")
    plane.plot(*path[0], "o", color="black", markersize=6, label=f"start ({path[0][0]:g}, {path[0][1]:g})")
    plane.plot(0, 0, "*", color="black", markersize=11, label="minimum")
    plane.set(xlabel="x", ylabel="y", title="Path", aspect="equal")
    plane.legend(loc="upper left", framealpha=0.9)

    distance = np.linalg.norm(path, axis=1)
    decay.semilogy(np.arange(-1, len(path) - 1), distance, color="#b3361b")
    decay.set(xlabel="epoch", ylabel="distance to the minimum", title="Convergence")
    decay.grid(True, which="major", alpha=0.3)
    figure.savefig(file, dpi=130, format="png")
    plt.close(figure)


def plot_benchmark(file: Path, report: dict[str, Any]) -> None:
    """Time per parameter against the number of parameters, one panel a dtype.

    Parameters
    ----------
    file : Path
        Of the PNG.
    report : dict
        What ``benchmark.py --json`` writes.
    """
    dtypes = list(dict.fromkeys(row["dtype"] for row in report["rows"]))
    names = list(dict.fromkeys(name for row in report["rows"] for name in row["seconds_per_step"]))
    figure, panels = plt.subplots(
        1, len(dtypes), figsize=(5.8 * len(dtypes), 4.8), layout="constrained", sharey=True, squeeze=False
    )
    figure.suptitle(f"One RMSProp step: {report['device']}")
    for panel, dtype in zip(panels[0], dtypes, strict=True):
        rows = [row for row in report["rows"] if row["dtype"] == dtype]
        for k, name in enumerate(names):
            points = [
                (row["size"], row["seconds_per_step"][name] / row["size"] * 1e9)
                for row in rows
                if name in row["seconds_per_step"]
            ]
            ours, floor = name == "gpuprop", name == "floor"
            style = {"color": "#b3361b" if ours else "black" if floor else f"C{k}"}
            style |= {"linewidth": 2.4 if ours else 1.3, "linestyle": "--" if floor else "-"}
            panel.loglog(*zip(*points, strict=True), marker="o", markersize=3, label=name, **style)
        panel.set(xlabel="parameters", title=dtype)
        panel.grid(True, which="major", alpha=0.3)
    panels[0][0].set_ylabel("time per parameter in ns")
    panels[0][-1].legend(loc="upper right")
    figure.savefig(file, dpi=130, format="png")
    plt.close(figure)
