"""Time one RMSProp step of every contender, side by side, against the memory floor.

All contenders take turns on the same arrays, as `timing.py` says.
"""

from __future__ import annotations

from command_line import (
    Parser,
    choose_backend,
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
import gc
import os
import sys
import time
import warnings
from importlib.util import find_spec
from itertools import product
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import timing
from contenders import CONTENDERS, OF_FUSED, WITH_FUSED, Absent
from timing import cpus
from workloads import COMPLEX, DTYPES, VARIANTS, Problem, element_of, problem_of, rule_and_bytes

import gpuprop
from gpuprop.measure import bandwidth

SIZES = [2, 10**2, 10**3, 10**4, 10**5, 10**6, 10**7, 2 * 10**7, 10**8]
#: Arrays alive at the worst moment: the shared three, optax's own, and whole-array temporaries.
ARRAYS_AT_ONCE = 11


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = Parser(__doc__)
    option = parser.add_argument
    option("--device", choices=("auto", "gpu", "cpu"), default="auto")
    option("--sizes", type=lambda t: t if t == "fit" else whole(t, 1), nargs="+", default=SIZES, metavar="N",
           help="or fit: what fits into the memory of a GPU")  # fmt: skip
    option("--dtypes", choices=DTYPES, nargs="+", default=DTYPES[:2], metavar="DTYPE", help=", ".join(DTYPES))
    option("--variants", choices=VARIANTS, nargs="+", default=["plain"], metavar="NAME",
           help=f"of RMSProp: {', '.join(VARIANTS)} (which makes the gradient, 2 x, itself)")  # fmt: skip
    option("--contenders", choices=CONTENDERS, nargs="+", default=list(CONTENDERS), metavar="NAME")
    option("--rounds", type=lambda t: whole(t, 1), default=15, metavar="N")
    option("--seconds", type=float, default=inf, metavar="X", help="begin nothing that would end later")
    option("--threads", type=lambda t: whole(t, 1), metavar="N", help="CPUs to run on (default: all)")
    option("--json", type=writable_file, metavar="FILE")
    parser.add_plot("time per parameter against size")
    options = parser.parse_args(arguments)
    if options.threads and options.threads > cpus():
        parser.error(f"--threads is {options.threads}, and there are {cpus()} CPUs here to run on")
    if "bfloat16" in options.dtypes and find_spec("ml_dtypes") is None:
        parser.error("--dtypes bfloat16 needs ml_dtypes: python -m pip install ml_dtypes")
    if COMPLEX & set(options.variants) and set(options.dtypes) - {"float32", "float64"}:
        parser.error("--variants modulus is of complex numbers, whose parts are float32 or float64")
    parser.check_files(options.plot, options.json)
    return options


def use_cpus(count: int) -> None:
    """Confine the whole process, so that every library sees the same number of CPUs."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:count])
    gpuprop.set_num_threads(count)


def available_bytes(backend: gpuprop.Backend) -> int:
    if backend.name == "gpu":
        gc.collect()
        backend.xp.get_default_memory_pool().free_all_blocks()
        if "torch" in sys.modules and sys.modules["torch"].cuda.is_available():
            sys.modules["torch"].cuda.empty_cache()
        return backend.xp.cuda.runtime.memGetInfo()[0] - 2**26  # for the pieces of which arrays are made
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return 8 * 2**30


def size_of(size: Any, backend: gpuprop.Backend, variant: str, element: np.dtype, names: list[str]) -> int:
    """`size`, 0 where it does not fit; of ``"fit"`` the largest that does, in two digits."""
    alone = set(names) <= {"gpuprop", "floor"}
    arrays = len(rule_and_bytes(variant, element)[0].arrays) if alone else ARRAYS_AT_ONCE
    most = int(0.95 * available_bytes(backend)) // (arrays * element.itemsize)
    if size == "fit":
        return max(1, most - most % 10 ** max(0, len(str(most)) - 2))
    return size if size <= most else 0


def measure(problem: Problem, names: list[str], rounds: int) -> tuple[dict[str, list[float]], dict[str, str]]:
    """Seconds of a step in each round by contender, and why others are absent."""
    steps, absent = {}, {}
    for name in names:
        if problem.fused and name not in WITH_FUSED:
            absent[name] = "its step takes an array of gradients"
            continue
        if name in OF_FUSED and not problem.fused:
            continue
        problem.start()
        try:
            step = CONTENDERS[name](problem)
            for _ in range(3):
                step()  # compiles, and fills the allocators
        except Absent as reason:
            absent[name] = str(reason)
        except Exception as error:  # a peer that fails here, as without a C++ compiler
            absent[name] = " ".join([f"{type(error).__name__}:", *str(error).strip().splitlines()[:1]])
        else:
            steps[name] = step
    what = f"{problem.x.size:,} parameters"
    return timing.take_turns(problem.backend, steps, rounds, what, problem.start), absent


def print_table(row: dict[str, Any], peak: float | None) -> None:
    medians = row["seconds_per_step"]
    say(f"\n{row['size']:,} parameters, {row['dtype']}, {row['variant']}")
    titles = f"{'':15}{'a step':>12}{'a parameter':>14}{'':>4}{'GB/s':>7}{'of floor':>10}{'of gpuprop':>12}"
    say(titles + (f"{'of peak':>9}" if peak else ""))
    for name, median in sorted(medians.items(), key=lambda item: item[1]):
        moved = row["bytes_per_step"] / median
        line = f"{name:15}{median * 1e6:10.2f}us{median / row['size'] * 1e9:12.3f}ns{'':>4}{moved / 1e9:7.1f}"
        for ratio, width in (("ratio_to_floor", 9), ("ratio_to_gpuprop", 11)):
            line += f"{row[ratio][name]:{width}.2f}x" if row[ratio] else " " * (width + 1)
        say(line + (f"{moved / peak:9.0%}" if peak else ""))


def main(arguments: list[str] | None = None) -> int:
    options = parse_arguments(arguments)
    if options.threads:
        use_cpus(options.threads)
    warnings.filterwarnings("ignore", category=UserWarning, module=r"torch\..*")
    try:
        backend = choose_backend(options.device, fallback=False)
        description = backend.describe()
    except (gpuprop.DeviceUnavailableError, ValueError) as error:
        tell(str(error))
        return 2
    if backend.name == "numpy":
        tell("the CPU backend needs Numba: python -m pip install numba")
        return 2
    if "fit" in options.sizes and backend.name != "gpu":
        tell("--sizes fit is of the memory of a GPU; give a number of parameters")
        return 2
    peak = bandwidth.peak_bandwidth(backend)
    say(f"{description}; {options.rounds} interleaved rounds: medians of times, medians of ratios")
    rows, left_out, absent = [], {}, {}
    ends, longest = time.monotonic() + options.seconds, 0.0
    for variant, dtype, asked in product(options.variants, options.dtypes, options.sizes):
        started = time.monotonic()
        element = element_of(variant, dtype)
        size = size_of(asked, backend, variant, element, options.contenders)
        what = f"{size or asked:,} parameters, {dtype}" + f", {variant}" * (len(options.variants) > 1)
        if not size or started + longest > ends:
            left_out[what] = "the time is up" if size else "would not fit in memory"
            say(f"\n{what}: left out, {left_out[what]}")
            continue
        try:
            times, reasons = measure(
                problem_of(backend, variant, size, element), options.contenders, options.rounds
            )
        except MemoryError as error:  # of a GPU's memory others may take a part meanwhile
            left_out[what] = f"{type(error).__name__}: {error}"
            say(f"\n{what}: left out, {left_out[what]}")
            continue
        for each in reasons.items():
            absent.setdefault(each, {})[dtype] = True
        row = {
            "variant": variant,
            "size": size,
            "dtype": dtype,
            "bytes_per_step": size * rule_and_bytes(variant, element)[1],
            "seconds_per_step": timing.medians(times),
            "ratio_to_floor": timing.ratios(times, "floor"),
            "ratio_to_gpuprop": timing.ratios(times, "gpuprop"),
        }
        rows.append(row)
        print_table(row, peak)
        longest = max(longest, time.monotonic() - started)
    for (name, why), of in absent.items():
        what = name if len(of) == len(options.dtypes) else f"{name}, {', '.join(of)}"
        left_out[what] = why
        say(f"\nleft out: {what} ({why})")
    if not rows:
        tell("nothing could be timed")
        return 2
    report = {"device": description, "versions": versions(), "rounds": options.rounds}
    report |= {"peak_bytes_per_second": peak, "left_out": left_out, "rows": rows}

    def draw(file: Path) -> None:
        from figures import plot_benchmark

        plot_benchmark(file, report)

    return write_files((options.json, lambda file: write_json(file, report)), (options.plot, draw))


if __name__ == "__main__":
    sys.exit(main())
