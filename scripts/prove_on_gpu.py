"""Run on an NVIDIA card, in under eight minutes, all tests that need one, and measure bits and speed.

Every part is a program of its own, the most important first, and those for which no time is left are cut.
The folder then has `proof.json` with all that was found, a page made of it, pictures, and the parts' logs.
The exit code is 0; 1 where a part has failed; 2, with the list of parts, where there is no device.
"""

from __future__ import annotations

from command_line import Parser, leave, say, start, tell, versions, whole, write_files, write_json

if __name__ == "__main__":
    start()  # before the imports that take long

import argparse
import json
import platform
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from datetime import datetime, timezone
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import proof_page
from parts import ROOT, Part, run_all
from timing import cpus
from workloads import DTYPES

import gpuprop
from gpuprop.backends.gpu.cuda import cuda_version
from gpuprop.measure import bandwidth

SIZES = [10**k for k in range(3, 10)]
PEERS = [
    "gpuprop", "floor", "article", "cupy.fuse", "torch.compile", "bitsandbytes", "optax jit", "torch foreach",
    "torch single",
]  # fmt: skip
NAMES = "main job", "selfcheck", "tests", "sizes", "peers", "launches", "peers by dtype"


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = Parser(__doc__)
    option = parser.add_argument
    option("--out", type=Path, metavar="FOLDER", help="where the results go; made where it is not there")
    option("--page", type=Path, metavar="FILE", help="of a proof.json: print its page, and run nothing")
    option("--budget", type=lambda t: whole(t, 1), default=480, metavar="SECONDS", help="(default: 480)")
    option("--parts", choices=NAMES, nargs="+", default=NAMES, metavar="NAME", help=", ".join(NAMES))
    option("--sizes", type=lambda t: whole(t, 1), nargs="+", metavar="N",
           help="instead of powers of ten up to what fits into the card's memory")  # fmt: skip
    option("--rounds", type=lambda t: whole(t, 1), default=9, metavar="N")
    option("--tests", nargs="+", default=["tests"], metavar="PATH", help="which of those marked gpu")
    option("--workers", type=lambda t: whole(t, 1), default=min(14, cpus()), metavar="N", help="of the tests")
    options = parser.parse_args(arguments)
    if (options.out is None) == (options.page is None):
        parser.error("give either --out FOLDER, to run the parts, or --page FILE, to print a page")
    return options


def parts_of(options: argparse.Namespace) -> list[Part]:
    """All that were asked for, in the order of their importance."""
    sizes = [*map(str, options.sizes or SIZES), *([] if options.sizes else ["fit"])]
    some = [str(n) for n in options.sizes or (10**3, 10**5, 10**6, 10**7, 10**8)]
    dtypes = [dtype for dtype in DTYPES if dtype != "bfloat16" or find_spec("ml_dtypes")]
    benchmark = ("scripts/benchmark.py", "--device", "gpu", "--rounds", str(options.rounds))
    missing = "pytest is not installed" if find_spec("pytest") is None else ""
    if not all((ROOT / path.partition("::")[0]).exists() for path in options.tests):
        missing = f"there is no {' '.join(options.tests)}"
    parts = [
        Part("main job", "the article's experiment, every line as NumPy prints it",
             ("scripts/run_quadratic.py", "--device", "gpu", "--no-fallback", "--json", "{folder}/main.json"),
             60, "main.json", main_job),
        Part("selfcheck", "every rule in every dtype, to the last bit of the NumPy reference",
             ("-m", "gpuprop", "selfcheck", "--json", "{folder}/selfcheck.json"), 120, "selfcheck.json"),
        # pytest-benchmark, where it is installed, warns of xdist, and a warning is an error.
        Part("tests", "those that need a device",
             ("-m", "pytest", *options.tests, "-m", "gpu", "-q", "-n", str(options.workers), "--dist", "load",
              "-p", "no:cacheprovider", "-p", "no:benchmark", "--junitxml", "{folder}/tests.xml"),
             150, "tests.xml", tests, missing=missing),
        Part("sizes", "a step in every dtype, from a thousand parameters to what fits into the memory",
             (*benchmark, "--contenders", "gpuprop", "floor", "--dtypes", *dtypes, "--sizes", *sizes,
              "--json", "{folder}/sizes.json"), 100, "sizes.json", stops_itself=True),
        Part("peers", "a step of other libraries on the same arrays, float32",
             (*benchmark, "--contenders", *PEERS, "--dtypes", "float32", "--sizes", *some,
              "--json", "{folder}/peers.json"), 130, "peers.json", stops_itself=True),
        Part("launches", "what the host does for a step, CUDA graphs, several steps a pass",
             ("scripts/time_launches.py", "--rounds", str(options.rounds),
              *(["--sizes", *some] if options.sizes else []), "--json", "{folder}/launches.json"),
             60, "launches.json"),
        Part("peers by dtype", "a large step of other libraries in the other dtypes",
             (*benchmark, "--contenders", *PEERS, "--dtypes", *dtypes[1:], "--sizes", some[-1],
              "--json", "{folder}/peers_by_dtype.json"), 130, "peers_by_dtype.json", stops_itself=True),
    ]  # fmt: skip
    return [part for part in parts if part.name in options.parts]


def main_job(file: Path) -> dict[str, Any]:
    """The last lines that it printed, held against the article's function in NumPy."""
    found = json.loads(file.read_text())
    x, s, points = np.array([5.0, 4.0]), np.zeros(2), []
    for _ in found["trajectory"][1:]:
        updates, s = gpuprop.reference.rmsprop(0.1, 0.9, 1e-6, 2 * x, s)
        x = x - updates
        points.append(x)
    lines = {k: str(np.array(point)) for k, point in enumerate(found["trajectory"][1:]) if k % 20 == 0}
    wrong = [k for k, line in lines.items() if line != str(points[k])]
    if wrong:
        raise ValueError(f"epoch {wrong[0]} is {lines[wrong[0]]}, and in NumPy {points[wrong[0]]}")
    return {"device": found["device_description"], "lines": lines}


def tests(file: Path) -> dict[str, Any]:
    """Counts, and who failed."""
    count: Counter[str] = Counter()
    failed = []
    for case in ElementTree.parse(file).iter("testcase"):
        kinds = {child.tag for child in case} & {"failure", "error", "skipped"}
        count[next(iter(sorted(kinds)), "passed")] += 1
        failed += [f"{case.get('classname')}::{case.get('name')}"] if kinds & {"failure", "error"} else []
    return {**count, "failed": failed}


def card(backend: gpuprop.Backend) -> dict[str, Any]:
    """Of the current device."""
    runtime, device = backend.xp.cuda.runtime, backend.xp.cuda.Device()
    found = {
        "name": runtime.getDeviceProperties(device.id)["name"].decode(),
        "compute_capability": f"{device.compute_capability[:-1]}.{device.compute_capability[-1:]}",
        "memory_bytes": runtime.memGetInfo()[1],
        "peak_bytes_per_second": bandwidth.peak_bandwidth(backend),
        "cuda_of_the_driver": cuda_version(runtime.driverGetVersion()),
        "cuda": cuda_version(runtime.runtimeGetVersion()),
        "cupy": backend.xp.__version__,
        "driver": None,
    }
    with suppress(OSError, subprocess.SubprocessError):  # CUDA does not tell it
        command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        found["driver"] = subprocess.check_output(command, text=True, timeout=10).split("\n")[0].strip()
    return found


def left_out(rows: list[dict[str, Any]]) -> dict[str, str]:
    """What was not run, or not in all parts, and why."""
    found = {row["name"]: row["why"] for row in rows if row["state"] in ("cut", "left out")}
    for row in rows:
        for what, why in row["figures"].get("left_out", {}).items():
            if found.setdefault(what, why) != why:  # in another part it was for another reason
                found[f"{row['name']}: {what}"] = why
    if find_spec("ml_dtypes") is None:
        found["bfloat16"] = "ml_dtypes is not installed"
    return found


def main(arguments: list[str] | None = None) -> int:
    options = parse_arguments(arguments)
    if options.page:
        try:
            say(proof_page.page(json.loads(options.page.read_text()), options.page.parent).rstrip())
        except (OSError, ValueError, KeyError, TypeError) as error:
            tell(f"{str(options.page)!r} is no proof.json: {type(error).__name__}: {error}")
            return 2
        return 0
    parts = parts_of(options)
    try:
        backend = gpuprop.select_backend("gpu")
    except gpuprop.DeviceUnavailableError as error:
        tell(str(error))
        say("with a device it would run, the most important first:")
        for part in parts:
            say(f"\n{part.name}: {part.about}" + (f" (left out: {part.missing})" if part.missing else ""))
            say(f"  {part.shown()}")
        return 2
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        tell(f"cannot make the folder {str(options.out)!r}: {error.strerror}")
        return 2
    return prove(parts, options.out.resolve(), options.budget, card(backend))


def prove(parts: list[Part], folder: Path, budget: float, about: dict[str, Any]) -> int:
    signal.signal(signal.SIGTERM, leave)  # so that the part that runs is ended, too
    began, started = datetime.now(timezone.utc), time.monotonic()
    rows: list[dict[str, Any]] = []
    proof: dict[str, Any] = {"date": began.isoformat(timespec="seconds"), "budget": budget, "card": about}
    proof |= {"platform": platform.platform(), "versions": versions(), "parts": rows}
    for row in run_all(parts, folder, budget):
        rows.append(row)
        say(f"{row['name']}: {row['state']}, {row['seconds']:.1f} s" + f" ({row['why']})" * bool(row["why"]))
        proof["seconds"] = time.monotonic() - started
        proof["left_out"] = left_out(rows)
        proof["good"] = not any(row["state"] == "failed" for row in rows) and rows[0]["state"] == "good"
        code = write_files((folder / "proof.json", lambda file: write_json(file, proof)))
    for what, why in proof["left_out"].items():
        say(f"left out: {what} ({why})")
    if find_spec("matplotlib"):
        import gpu_figures

        code |= gpu_figures.draw_all(folder, proof)
    else:
        say("left out: pictures (matplotlib is not installed)")
    text = proof_page.page(proof, folder)
    code |= write_files((folder / "proof.md", lambda file: file.write_text(text, encoding="utf-8")))
    say(f"{'good' if proof['good'] else 'NOT good'}, {proof['seconds']:.0f} s: {folder}")
    return code or int(not proof["good"])


if __name__ == "__main__":
    sys.exit(main())
