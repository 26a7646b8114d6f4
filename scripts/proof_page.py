"""The page that is made of a `proof.json`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

#: Titles on the page, by picture.
PICTURES = {
    "shares.png": "Share of the memory's peak that a step reaches",
    "peers.png": "Time per parameter against the number of parameters",
    "launches.png": "Time of a step against the number of parameters",
}
FULL_NAMES = {
    "gpuprop": "**gpuprop**",
    "article": "the article's lines in CuPy",
    "cupy.fuse": "the same by `cupy.fuse`",
    "torch.compile": "torch `RMSprop`, `torch.compile`",
    "torch foreach": "torch `RMSprop`, foreach",
    "torch single": "torch `RMSprop`, single",
    "optax jit": "optax `rmsprop`, jitted, donated",
    "bitsandbytes": "bitsandbytes `RMSprop32bit`, which waits for each step",
}


def page(proof: dict[str, Any], folder: Path) -> str:
    """Markdown, to lie beside the pictures.

    Parameters
    ----------
    proof : dict
        What ``prove_on_gpu.py`` writes.
    folder : Path
        Where it has its pictures, if any.
    """
    pictures = [name for name in PICTURES if (folder / name).exists()]
    figures = {row["name"]: row["figures"] for row in proof["parts"]}
    sections = [
        head(proof),
        sizes(figures.get("sizes", {}), proof["card"]["peak_bytes_per_second"]),
        picture("shares.png", pictures),
        peers(figures.get("peers", {})),
        picture("peers.png", pictures),
        by_dtype(figures.get("peers by dtype", {})),
        launches(figures.get("launches", {})),
        picture("launches.png", pictures),
        left_out(proof["left_out"]),
    ]
    return "\n\n".join(filter(None, sections)) + "\n"


def head(proof: dict[str, Any]) -> str:
    card, versions = proof["card"], dict(proof["versions"])
    driver = f"driver {card['driver']}, " if card["driver"] else ""
    peak = card["peak_bytes_per_second"]
    known = ", ".join(f"{name} {version}" for name, version in versions.items())
    rows = [
        (row["name"], row["about"], row["state"] + outcome(row), f"{row['seconds']:.0f}")
        for row in proof["parts"]
    ]
    commands = "\n".join(row["command"] for row in proof["parts"])
    failed = [
        f"{row['name']} failed:\n\n```text\n{row['why']}\n```"
        for row in proof["parts"]
        if row["state"] == "failed"
    ]
    about = f"{card['name']}, compute capability {card['compute_capability']}, "
    about += f"{card['memory_bytes'] / 2**30:.0f} GiB" + (f" at {peak / 1e12:.2f} TB/s" if peak else "")
    about += f"; {driver}CUDA {card['cuda']} (the driver's: {card['cuda_of_the_driver']}); {known}."
    written = f"wrote this page on {proof['date'][:10]}, in {proof['seconds']:.0f} s."
    return "\n\n".join([
        f"# On an {card['name']}" if card["name"].startswith("NVIDIA") else f"# On {card['name']}",
        f"`python scripts/prove_on_gpu.py --out FOLDER` {written}",
        about,
        table(("part", "what it shows", "", "s"), rows, "lllr"),
        f"```sh\n{commands}\n```",
        *failed,
    ])  # fmt: skip


def outcome(row: dict[str, Any]) -> str:
    """What there is to say of it in a few words."""
    if row["name"] != "tests" or not row["figures"]:
        return ""
    counts = {k: n for k, n in row["figures"].items() if k != "failed"}
    return ": " + ", ".join(f"{n} {k}" for k, n in counts.items())


def sizes(report: dict[str, Any], peak: float | None) -> str:
    """Shares of the peak, or GB/s where that is not known."""
    rows = report.get("rows", [])
    if not rows:
        return ""
    dtypes = list(dict.fromkeys(row["dtype"] for row in rows))
    cells = {(row["size"], row["dtype"]): rate(row, "gpuprop", peak) for row in rows}
    floors = {(row["size"], row["dtype"]): rate(row, "floor", peak) for row in rows}
    body = [
        (
            power(size),
            *(f"{cells[size, d]} ({floors[size, d]})" if (size, d) in cells else "" for d in dtypes),
        )
        for size in sorted({row["size"] for row in rows})
    ]
    unit = "shares of the memory's peak" if peak else "GB/s"
    return "\n\n".join((
        "## Every dtype and size",
        f"Of one step: {unit}, and in brackets those of a kernel that only reads and writes the same arrays. "
        f"Medians of {report['rounds']} rounds, in which both took turns. "
        "A last size that is no power of ten is the largest that fits into the card's memory.",
        table(("parameters", *dtypes), body, "r" * (1 + len(dtypes))),
    ))  # fmt: skip


def rate(row: dict[str, Any], name: str, peak: float | None) -> str:
    if name not in row["seconds_per_step"]:
        return ""
    moved = row["bytes_per_step"] / row["seconds_per_step"][name]
    if not peak:
        return f"{moved / 1e9:.3g}"
    share = 100 * moved / peak
    return f"{share:.0f}%" if share >= 10 else f"{share:.1g}%"


def peers(report: dict[str, Any]) -> str:
    rows = report.get("rows", [])
    return rows and "\n\n".join((
        "## Against other libraries",
        "One float32 step on the same arrays, in steps of gpuprop: medians of the ratios of "
        f"{report['rounds']} rounds. The floor is a kernel that only reads and writes those arrays.",
        compared(rows, [power(row["size"]) for row in rows]),
    ))  # fmt: skip


def by_dtype(report: dict[str, Any]) -> str:
    rows = report.get("rows", [])
    sizes = " and ".join(dict.fromkeys(power(row["size"]) for row in rows))
    return rows and f"Of {sizes} parameters in other dtypes:\n\n" + compared(rows, [r["dtype"] for r in rows])


def compared(rows: list[dict[str, Any]], titles: list[str]) -> str:
    names = dict.fromkeys(name for row in rows for name in row["seconds_per_step"])
    order = sorted(names, key=lambda name: max(row["ratio_to_gpuprop"].get(name, 0) for row in rows))
    body = [
        (FULL_NAMES.get(name, name), *(ratio(row["ratio_to_gpuprop"].get(name)) for row in rows))
        for name in order
    ]
    body += [("gpuprop, µs a step", *(microseconds(row["seconds_per_step"]["gpuprop"]) for row in rows))]
    return table(("", *titles), body, "l" + "r" * len(rows))


def launches(report: dict[str, Any]) -> str:
    if not report:
        return ""
    host = [(name, microseconds(s)) for name, s in report["host_seconds"].items()]
    text = [
        "## Launches",
        "What the host does for a step of two parameters, which is more than the card does:",
        table(("", "µs a step"), host, "lr"),
    ]
    for title, key in (
        ("A float32 step in a CUDA graph of so many, in µs, to the same bits:", "graphs"),
        ("A float32 step with its gradient 2x, in µs, so many steps in one pass over memory:", "passes"),
    ):
        if rows := report[key]:
            names = list(rows[0]["seconds_per_step"])
            body = [(name, *(microseconds(row["seconds_per_step"][name]) for row in rows)) for name in names]
            text += [title, table(("", *(power(row["size"]) for row in rows)), body, "l" + "r" * len(rows))]
    return "\n\n".join(text)


def left_out(reasons: dict[str, str]) -> str:
    lines = [f"- {what}: {' '.join(why.split())}" for what, why in reasons.items()]
    return "\n\n".join(("## Left out", "\n".join(lines))) if lines else ""


def picture(name: str, pictures: Sequence[str]) -> str:
    return f"![{PICTURES[name]}]({name})" if name in pictures else ""


def table(titles: Iterable[str], rows: Iterable[Iterable[str]], sides: str) -> str:
    line = ["---:" if side == "r" else "---" for side in sides]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (titles, line, *rows))


def power(n: int) -> str:
    """10⁶ for powers of ten, and else all digits."""
    exponent = len(str(n)) - 1
    if n != 10**exponent or exponent < 3:
        return f"{n:,}"
    return "10" + str(exponent).translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))


def ratio(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}" if value >= 10 else f"{value:.2f}"


def microseconds(seconds: float) -> str:
    return f"{seconds * 1e6:.3g}" if seconds < 1e-3 else f"{seconds * 1e6:,.0f}"
