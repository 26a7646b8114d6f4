"""Time one RMSProp step of every contender, side by side, against the memory floor.

All contenders take turns on the same arrays, round after round, in an order that is drawn anew for
each: whoever comes next also pays for writing back what the one before left in the caches. A ratio
is the median of the rounds' ratios, so that a change of the machine's speed meets both sides alike.
"""

from __future__ import annotations

from command_line import (
    Parser,
    choose_backend,
    progress,
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
import os
import random
import statistics
import sys
import time
import warnings
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from contenders import CONTENDERS, Absent, Problem, Step

import gpuprop
from gpuprop.measure import bandwidth

SIZES = [2, 10**2, 10**3, 10**4, 10**5, 10**6, 10**7, 2 * 10**7, 10**8]
#: Arrays alive at the worst moment: the shared three, optax's own, and whole-array temporaries.
ARRAYS_AT_ONCE = 11
#: Seconds of one contender in a round: on a GPU so long that the first launch, and the wait, do not count.
ROUND = {"cpu": 2e-3, "gpu": 2e-2}
#: Of an array of rates.
VARIANTS = {
    "plain": lambda rates: gpuprop.RMSProp(),
    "momentum": lambda rates: gpuprop.RMSProp(momentum=0.9),
    # A constant gradient has no variance: so slow an average has not forgotten its start by then.
    "centered": lambda rates: gpuprop.RMSProp(rho=0.9999, centered=True),
    "momentum+centered": lambda rates: gpuprop.RMSProp(rho=0.9999, momentum=0.9, centered=True),
    "modulus": lambda rates: gpuprop.RMSProp(second_moment="modulus"),
    "rates": lambda rates: gpuprop.RMSProp(rates),
    "found": lambda rates: gpuprop.RMSProp("auto", momentum=0.9),
    "average": lambda rates: gpuprop.RMSProp(parameter_average=0.999),
}
#: Those of complex parameters, whose parts have the dtype.
COMPLEX = {"modulus"}


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = Parser(__doc__)
    option = parser.add_argument
    option("--device", choices=("auto", "gpu", "cpu"), default="auto")
    option("--sizes", type=lambda t: whole(t, 1), nargs="+", default=SIZES, metavar="N")
    option("--dtypes", choices=("float32", "float64"), nargs="+", default=["float32", "float64"])
    option("--variants", choices=VARIANTS, nargs="+", default=["plain"], metavar="NAME",
           help="of RMSProp: " + ", ".join(VARIANTS))  # fmt: skip
    option("--contenders", choices=CONTENDERS, nargs="+", default=list(CONTENDERS), metavar="NAME")
    option("--rounds", type=lambda t: whole(t, 1), default=15, metavar="N")
    option("--threads", type=lambda t: whole(t, 1), metavar="N", help="CPUs to run on (default: all)")
    option("--json", type=writable_file, metavar="FILE")
    parser.add_plot("time per parameter against size")
    options = parser.parse_args(arguments)
    if options.threads and options.threads > cpus():
        parser.error(f"--threads is {options.threads}, and there are {cpus()} CPUs here to run on")
    parser.check_files(options.plot, options.json)
    return options


def cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def use_cpus(count: int) -> None:
    """Confine the whole process, so that every library sees the same number of CPUs."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:count])
    gpuprop.set_num_threads(count)


def available_bytes(backend: gpuprop.Backend) -> int:
    if backend.name == "gpu":
        return backend.xp.cuda.runtime.memGetInfo()[0]
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return 8 * 2**30


def seconds(backend: gpuprop.Backend, step: Step, calls: int) -> float:
    """By the host's clock, as events of CuPy see nothing of a library with a stream of its own."""
    backend.synchronize()
    started = time.perf_counter()
    for _ in range(calls):
        done = step()
    for array in done if isinstance(done, tuple) else ():
        if hasattr(array, "block_until_ready"):  # JAX has threads of its own, which may not have launched yet
            array.block_until_ready()
    backend.synchronize()
    return (time.perf_counter() - started) / calls


def measure(
    backend: gpuprop.Backend, variant: str, size: int, dtype: str, names: list[str], rounds: int
) -> tuple[dict[str, list[float]], dict[str, str]]:
    """Seconds of a step in each round by contender, and why others are absent."""
    xp = backend.xp
    # Gradients away from zero keep every contender's numbers ordinary: no denormals, no NaN.
    rates = xp.linspace(0.5, 1.5, size, dtype=dtype)
    grad = rates * np.result_type(dtype, "complex64").type(1 + 1j) if variant in COMPLEX else rates.copy()
    optimizer = VARIANTS[variant](0.1 * rates)
    reals = optimizer.rule.reals
    state = {name: xp.empty_like(rates if name in reals else grad) for name in optimizer.rule.writes[1:]}
    problem = Problem(backend, optimizer, grad, xp.empty_like(grad), state)
    steps, absent, calls = {}, {}, {}
    for name in names:
        problem.start()
        try:
            step = CONTENDERS[name](problem)
            for _ in range(3):
                step()  # compiles, and fills the allocators
        except Absent as reason:
            absent[name] = str(reason)
        except Exception as error:  # a peer that fails here, as without a C++ compiler
            absent[name] = f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
        else:
            steps[name] = step
            calls[name] = max(1, min(2000, int(ROUND[backend.name] / seconds(backend, step, 3))))
    times: dict[str, list[float]] = {name: [] for name in steps}
    order = random.Random(size)
    for _ in progress(range(rounds), rounds, f"rounds with {size:,} parameters"):
        for name in order.sample(list(steps), len(steps)):
            problem.start()
            times[name].append(seconds(backend, steps[name], calls[name]))
    return times, absent


def summary(times: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    """Medians of the times, and of the ratios of rounds to the floor and to gpuprop."""

    def ratios(base: str) -> dict[str, float]:
        if base not in times:
            return {}
        pairs = {name: zip(t, times[base], strict=True) for name, t in times.items()}
        return {name: statistics.median(a / b for a, b in pair) for name, pair in pairs.items()}

    return {
        "seconds_per_step": {name: statistics.median(t) for name, t in times.items()},
        "ratio_to_floor": ratios("floor"),
        "ratio_to_gpuprop": ratios("gpuprop"),
    }


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
    peak = bandwidth.peak_bandwidth(backend)
    say(f"{description}; {options.rounds} interleaved rounds: medians of times, medians of ratios")
    rows, absent = [], {}
    for variant, dtype, size in product(options.variants, options.dtypes, options.sizes):
        itemsize = np.dtype(dtype).itemsize
        if ARRAYS_AT_ONCE * itemsize * size > available_bytes(backend):
            say(f"\n{size:,} parameters, {dtype}: left out, would not fit in memory")
            continue
        times, left_out = measure(backend, variant, size, dtype, options.contenders, options.rounds)
        absent |= left_out
        rule = VARIANTS[variant](np.ones(2)).rule
        moved = size * bandwidth.bytes_per_parameter(rule, itemsize, variant in COMPLEX)
        row = {"variant": variant, "size": size, "dtype": dtype, "bytes_per_step": moved, **summary(times)}
        rows.append(row)
        print_table(row, peak)
    for name, reason in absent.items():
        say(f"\nleft out: {name} ({reason})")
    if not rows:
        tell("nothing could be timed")
        return 2
    report = {"device": description, "versions": versions(), "rounds": options.rounds, "rows": rows}

    def draw(file: Path) -> None:
        from figures import plot_benchmark

        plot_benchmark(file, report)

    return write_files((options.json, lambda file: write_json(file, report)), (options.plot, draw))


if __name__ == "__main__":
    sys.exit(main())
