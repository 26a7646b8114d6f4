"""The pictures of `prove_on_gpu.py`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from command_line import write_files
from figures import plot_benchmark, plt, save

#: Okabe and Ito's colours, which everyone can tell apart; dashed where one of the others takes as many bytes.
STYLES = {
    "float32": ("#0072b2", "-"),
    "float64": ("#000000", "-"),
    "float16": ("#e69f00", "-"),
    "bfloat16": ("#d55e00", "--"),
    "complex64": ("#56b4e9", "--"),
    "complex128": ("#009e73", "-"),
}


def draw_all(folder: Path, proof: dict[str, Any]) -> int:
    """Those for which there are figures; the exit code."""
    figures = {row["name"]: row["figures"] for row in proof["parts"]}
    code = 0
    for name, draw, part, needed in (
        ("shares.png", plot_shares, "sizes", "rows"),
        ("peers.png", plot_benchmark, "peers", "rows"),
        ("launches.png", plot_launches, "launches", "graphs"),
    ):
        report = figures.get(part, {})
        (folder / name).unlink(missing_ok=True)  # of a run before
        if report.get(needed):
            code |= write_files((folder / name, partial(draw, report=report)))
    return code


def plot_shares(file: Path, report: dict[str, Any]) -> None:
    """What part of the memory's peak a step reaches, by dtype.

    Parameters
    ----------
    file : Path
    report : dict
        What ``benchmark.py --json`` writes, of the contenders gpuprop and floor.
    """
    peak = report["peak_bytes_per_second"]
    unit, of = ("share of the memory's peak", peak / 100) if peak else ("GB/s", 1e9)
    figure, axis = plt.subplots(figsize=(8, 4.8), layout="constrained")
    for dtype in dict.fromkeys(row["dtype"] for row in report["rows"]):
        rows = sorted((row for row in report["rows"] if row["dtype"] == dtype), key=lambda row: row["size"])
        color, line = STYLES[dtype]
        for name, style in (
            ("gpuprop", {"linestyle": line, "marker": "o", "markersize": 3, "label": dtype}),
            ("floor", {"linestyle": ":"}),
        ):
            points = [
                (row["size"], row["bytes_per_step"] / row["seconds_per_step"][name] / of)
                for row in rows
                if name in row["seconds_per_step"]
            ]
            axis.semilogx(*zip(*points, strict=True), color=color, linewidth=1.4, **style)
    axis.plot([], [], color="grey", linestyle=":", label="only reads and writes")
    axis.set(xlabel="parameters", ylabel=unit + (" in %" if peak else ""), ylim=(0, None))
    axis.set_title(f"One RMSProp step: {report['device']}")
    axis.grid(True, which="major", alpha=0.3)
    axis.legend(loc="upper left")
    save(figure, file)


def plot_launches(file: Path, report: dict[str, Any]) -> None:
    """Time of a step in launches, graphs and passes.

    Parameters
    ----------
    file : Path
    report : dict
        What ``time_launches.py --json`` writes.
    """
    titles = {"graphs": "a step in a CUDA graph", "passes": "gradient 2x and step, some in one pass"}
    shown = [key for key in titles if report[key]]
    figure, panels = plt.subplots(
        1, len(shown), figsize=(5.8 * len(shown), 4.6), layout="constrained", sharey=True, squeeze=False
    )
    figure.suptitle(report["device"])
    for panel, key in zip(panels[0], shown, strict=True):
        rows = sorted(report[key], key=lambda row: row["size"])
        for k, name in enumerate(rows[0]["seconds_per_step"]):
            points = [(row["size"], row["seconds_per_step"][name] * 1e6) for row in rows]
            style = {"color": "black", "linestyle": "--"} if k == 0 else {"color": f"C{k}"}
            panel.loglog(*zip(*points, strict=True), marker="o", markersize=3, label=name, **style)
        panel.set(xlabel="parameters", title=titles[key])
        panel.grid(True, which="major", alpha=0.3)
        panel.legend(loc="upper left")
    panels[0][0].set_ylabel("time of a step in µs")
    save(figure, file)
