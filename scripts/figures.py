"""The pictures that the scripts draw."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np


def format_of(file: Path) -> str:
    """What the extension says; a PNG without one."""
    return file.suffix[1:].lower() or "png"


def check_format(file: Path) -> None:
    """Raise what matplotlib would, of the format of `file`, by writing a letter to memory."""
    figure = plt.figure(figsize=(1, 1))
    figure.text(0, 0, "x")
    try:
        figure.savefig(io.BytesIO(), format=format_of(file))
    finally:
        plt.close(figure)


def save(figure: Any, file: Path, dpi: int = 130) -> None:
    """By way of memory, so that only what is whole is written and only the system's errors remain."""
    picture = io.BytesIO()
    figure.savefig(picture, dpi=dpi, format=format_of(file))
    plt.close(figure)
    file.write_bytes(picture.getvalue())


def plot_descent(file: Path, path: np.ndarray, optimizer: Any) -> None:
    """The path over the contours of x^2 + y^2, and the distance to the minimum by epoch.

    Parameters
    ----------
    file : Path
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
    save(figure, file)


def plot_benchmark(file: Path, report: dict[str, Any]) -> None:
    """Time per parameter against the number of parameters, one panel a dtype.

    Parameters
    ----------
    file : Path
    report : dict
        What ``benchmark.py --json`` writes.
    """
    dtypes = list(dict.fromkeys(row["dtype"] for row in report["rows"]))
    names = list(dict.fromkeys(name for row in report["rows"] for name in row["seconds_per_step"]))
    figure, panels = plt.subplots(
        1, len(dtypes), figsize=(5.8 * len(dtypes), 4.8), layout="constrained", sharey=True, squeeze=False
    )
    figure.suptitle("One RMSProp step:" + (" " if len(dtypes) > 1 else "\n") + report["device"])
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
    panels[0][-1].legend(loc="best")
    save(figure, file)


#: A colour for each family, which everyone can tell apart (Okabe and Ito's), a line for each member.
METHOD_STYLES = {
    "SGD, full batch": ("black", "-"),
    "SGD, mini-batch": ("black", "--"),
    "momentum": ("#0072b2", "-"),
    "Nesterov": ("#0072b2", "--"),
    "AdaGrad": ("#e69f00", "-"),
    "Adam": ("#009e73", "-"),
    "AdamW": ("#009e73", "--"),
    "RMSProp": ("#b3361b", "-"),
    "RMSProp, momentum": ("#b3361b", "--"),
    "RMSProp, centred": ("#b3361b", ":"),
}
#: Whose paths are drawn: few enough to follow.
IN_THE_PLANE = ("SGD, full batch", "momentum", "Adam", "RMSProp")


def plot_comparison(file: Path, report: dict[str, Any], objectives: dict[str, Any]) -> None:
    """How far above its least value f will yet be, by step, and paths over the contours.

    Parameters
    ----------
    file : Path
    report : dict
        What ``compare_optimizers.py --json`` writes.
    objectives : dict
        The objective of each problem.
    """
    problems = report["problems"]
    figure, panels = plt.subplots(
        len(problems), 2, figsize=(11, 2.8 * len(problems) + 0.5), layout="constrained", squeeze=False,
        width_ratios=(2, 1),
    )  # fmt: skip
    figure.suptitle("Each optimizer at its best learning rate: the median run, and the first run's path")
    lines: dict[str, Any] = {}
    for (left, right), (name, problem) in zip(panels, problems.items(), strict=True):
        lines |= draw_curves(left, problem)
        right.axis("off")
        if "path" in problem["rows"]["RMSProp"]:
            right.axis("on")
            draw_paths(right, problem, objectives[name].value)
    handles = [lines[name] for name in METHOD_STYLES if name in lines]
    if panels[-1, 1].axison:
        figure.legend(handles=handles, loc="outside lower center", ncols=5)
    else:
        panels[-1, 1].legend(handles=handles, loc="center")
    save(figure, file)


def draw_curves(panel: Any, problem: dict[str, Any]) -> dict[str, Any]:
    """A line for each optimizer; returns them by name."""
    lines: dict[str, Any] = {}
    target, seen = problem["target"], []
    for name, row in problem["rows"].items():
        color, dashes = METHOD_STYLES[name]
        curve = np.array(row["worst_to_come"])
        width = 2.4 if name == "RMSProp" else 1.4
        (lines[name],) = panel.loglog(curve, label=name, color=color, linestyle=dashes, linewidth=width)
        seen.append(curve[1:][np.isfinite(curve[1:])])
    heights = np.concatenate([[target], *seen])
    panel.axhline(target, color="grey", linewidth=0.8)
    below = {"textcoords": "offset points", "va": "top", "color": "grey"}
    panel.annotate(f"target {target:g}", (1, target), (4, -3), **below)
    panel.set(xlim=(1, max(2, problem["steps"])), xlabel=problem["unit"])
    panel.set(ylim=(max(target / 100, heights.min() / 2), 2 * heights.max()))
    panel.set(ylabel="largest f - f* to come", title=f"{problem['title']}: {problem['formula']}")
    panel.grid(True, which="major", alpha=0.3)
    return lines


def draw_paths(panel: Any, problem: dict[str, Any], value: Any) -> None:
    """The first run of some optimizers, in the window of RMSProp's."""
    paths = {name: np.array(problem["rows"][name]["path"]) for name in IN_THE_PLANE}
    low, high = paths["RMSProp"].min(axis=0), paths["RMSProp"].max(axis=0)
    margin = 0.15 * (high - low)
    x, y = (np.linspace(low[k] - margin[k], high[k] + margin[k], 200) for k in (0, 1))
    height = value(np.stack(np.meshgrid(x, y), axis=-1)) - problem["minimum"]
    panel.contourf(x, y, np.log(height + 1e-2), levels=12, cmap="Blues", alpha=0.6)
    for name, path in paths.items():
        color, dashes = METHOD_STYLES[name]
        path = np.where(np.abs(path) < 1e6, path, np.nan)  # what diverges has left the window
        panel.plot(*path.T, marker=".", color=color, linestyle=dashes, markersize=2.5, linewidth=0.8)
    start = paths["RMSProp"][0]
    panel.plot(*start, "o", color="black", markersize=6)
    panel.set(xlim=x[[0, -1]], ylim=y[[0, -1]], title=f"from ({start[0]:g}, {start[1]:g})")


def plot_restoration(file: Path, images: dict[str, np.ndarray], history: np.ndarray) -> None:
    """Images by title, and the descent beside them.

    Parameters
    ----------
    file : Path
    images : dict of str to ndarray
        Three, of grey values in [0, 1].
    history : ndarray, shape (steps, 2)
        f and the largest component of its gradient.
    """
    figure, axes = plt.subplots(1, 4, figsize=(13, 3.6), width_ratios=[1, 1, 1, 1.1], layout="constrained")
    for axis, (title, image) in zip(axes, images.items(), strict=False):
        axis.imshow(image, cmap="gray", vmin=0, vmax=1)
        axis.set_title(title, fontsize=11)
        axis.axis("off")
    curves, steps = axes[3], np.arange(1, len(history) + 1)
    curves.semilogy(steps, history[:, 0] - history[:, 0].min(), color="#0072b2", label="f above its least")
    curves.semilogy(steps, history[:, 1], color="#b3361b", label="largest component\nof the gradient")
    curves.set(xlabel="step", ylim=(1e-7, None))
    curves.set_title("the descent", fontsize=11)
    curves.legend(frameon=False, fontsize=9)
    curves.grid(True, which="major", alpha=0.3)
    save(figure, file, dpi=110)
