"""The picture that `compare_rates.py` draws."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from figures import save
from matplotlib.lines import Line2D

#: Of numbers of gradients, from few to many; as in the other pictures, Okabe and Ito's.
COLOURS = ("#e69f00", "#0072b2", "#009e73", "black")
TOP = 30.0  # in first gaps: what is above has gone astray


def plot_rates(file: Path, report: dict[str, Any]) -> None:
    """f - f* of each constant rate in parts of the first, a panel a problem, and that of the automatic rate.

    Parameters
    ----------
    file : Path
    report : dict
        What ``compare_rates.py --json`` writes.
    """
    problems, counts, columns = (
        report["problems"].values(),
        report["gradients"],
        min(5, len(report["problems"])),
    )
    methods = list(next(iter(problems))["methods"])
    deep = math.ceil(len(problems) / columns)
    figure = plt.figure(
        figsize=(2.5 * columns + 0.6, (2.15 * deep + 0.75) * len(methods)), layout="constrained"
    )
    for block, method in zip(figure.subfigures(len(methods), 1, squeeze=False)[:, 0], methods, strict=True):
        panels = block.subplots(deep, columns, sharex=True, sharey=True, squeeze=False).ravel()
        for panel in panels[len(problems) :]:
            panel.axis("off")
        for panel, problem in zip(panels, problems, strict=False):
            draw_problem(panel, problem, method, report["rates"])
        block.supxlabel("learning rate", fontsize=10)
        block.supylabel("(f - f*) / (f at the start - f*)", fontsize=10)
        handles = [
            Line2D(
                [], [], color=colour, linestyle=line, linewidth=width, label=f"{what}, {count:,} gradients"
            )
            for line, width, what in (("-", 1.3, f"{method}, constant rate"), ("--", 2.0, '"auto"'))
            for count, colour in zip(counts, COLOURS, strict=False)
        ]
        block.legend(handles=handles, loc="outside upper center", ncols=4, fontsize=9)
    save(figure, file, dpi=110)


def draw_problem(panel: Any, problem: dict[str, Any], method: str, rates: list[float]) -> None:
    """A curve and a level for each number of gradients."""
    first = problem["start"] - problem["minimum"]

    def height(f: float | None) -> float:
        """In parts of the first gap, no less than a rounding error of it."""
        return np.nan if f is None else max((f - problem["minimum"]) / first, 1e-9)

    for k, (row, colour) in enumerate(zip(problem["methods"][method]["f"], COLOURS, strict=False)):
        curve = np.array([height(f) for f in row["constant"]])
        panel.loglog(
            rates, np.where(curve < TOP, curve, np.nan), ".-", color=colour, linewidth=1.3, markersize=4
        )
        level = height(row["automatic"])
        if level < TOP:
            panel.axhline(level, color=colour, linestyle=(3.5 * k, (3, 4)), linewidth=2.0)
    panel.axhline(1, color="grey", linewidth=0.8)
    panel.set_title(problem["title"], fontsize=10)
    panel.set(ylim=(4e-10, TOP))
    panel.grid(alpha=0.3)
