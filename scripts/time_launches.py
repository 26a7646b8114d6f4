"""Time what a step costs a GPU beside its memory: the host's work, replays of CUDA graphs, steps a pass.

Contenders take turns, as `timing.py` says. What is fast must also be right: the same bits as plain steps
give are part of the result, and the exit code is 1 where they differ.
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
import sys
from typing import Any

import timing

import gpuprop
from gpuprop.measure import bandwidth

SIZES = [2, 10**4, 10**6, 10**7]
#: Steps in a graph, and in a pass over memory.
MANY = (1, 10, 100)
BARE = "s = rho * s + (1 - rho) * g * g; x = x - rate * g / (sqrt(s) + epsilon)"


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = Parser(__doc__)
    option = parser.add_argument
    option("--sizes", type=lambda t: whole(t, 1), nargs="+", default=SIZES, metavar="N")
    option("--rounds", type=lambda t: whole(t, 1), default=9, metavar="N")
    option("--json", type=writable_file, metavar="FILE")
    return parser.parse_args(arguments)


def arrays(backend: gpuprop.Backend, optimizer: gpuprop.Optimizer, size: int) -> tuple[Any, Any, Any]:
    x, grad = (backend.xp.ones(size, "float32") for _ in range(2))
    return x, grad, optimizer.init(x, backend=backend)


def host(backend: gpuprop.Backend, rounds: int) -> dict[str, float]:
    """Seconds of a step of two parameters, which the GPU makes while the host is at the next launch."""
    xp = backend.xp
    steps = {}
    for name, optimizer in {
        "RMSProp": gpuprop.RMSProp(1e-3),
        "RMSProp, momentum": gpuprop.RMSProp(1e-3, momentum=0.9),
        "Adam": gpuprop.Adam(1e-3),
    }.items():
        x, grad, state = arrays(backend, optimizer, 2)
        steps[name] = lambda o=optimizer, x=x, grad=grad, state=state: o.step(x, grad, state)
    bare = xp.ElementwiseKernel("T g, T rate, T rho, T epsilon", "T x, T s", BARE, "bare", no_return=True)
    g, w, s = (xp.ones(2, "float32") for _ in range(3))
    steps["a bare ElementwiseKernel"] = lambda: bare(g, 1e-3, 0.9, 1e-7, w, s)

    def chain() -> None:
        new = 0.9 * s + 0.1 * g**2
        w - 1e-3 * g / (xp.sqrt(new) + 1e-7)

    steps["the article's lines in CuPy"] = chain
    for _ in range(3):
        for step in steps.values():
            step()  # compiles
    return timing.medians(timing.take_turns(backend, steps, rounds, "2 parameters"))


def graphs(backend: gpuprop.Backend, size: int, rounds: int) -> dict[str, Any]:
    """Seconds of a step by plain launches, and in graphs of some steps."""
    optimizer = gpuprop.RMSProp(1e-3)
    stream = backend.xp.cuda.Stream(non_blocking=True)
    with stream:
        x, grad, state = arrays(backend, optimizer, size)
        plain, _, state_of_plain = arrays(backend, optimizer, size)

        def step() -> None:
            optimizer.step(x, grad, state)

        step()  # compiles, which a capture forbids
        steps, each = {"launches": step}, {"launches": 1}
        for many in MANY:
            name = f"graphs of {many}"
            stream.begin_capture()
            for _ in range(many):
                step()
            graph = stream.end_capture()
            graph.launch(stream)
            steps[name], each[name] = (lambda graph=graph: graph.launch(stream)), many
        for _ in range(1 + sum(MANY)):
            optimizer.step(plain, grad, state_of_plain)
        same = bool((plain == x).all())
        times = timing.take_turns(backend, steps, rounds, f"{size:,} parameters")
    return row(size, times, each, same, bandwidth.bytes_per_parameter(optimizer.rule, 4))


def passes(backend: gpuprop.Backend, size: int, rounds: int) -> dict[str, Any]:
    """Seconds of a step with its gradient ``2 * x``, in two launches, and in passes of some steps."""
    optimizer: Any = gpuprop.RMSProp(1e-3)
    fused = optimizer.fuse(before="grad = 2 * x")
    x, grad, state = arrays(backend, optimizer, size)
    plain, _, state_of_plain = arrays(backend, optimizer, size)

    def launches() -> None:
        backend.xp.multiply(plain, 2, out=grad)
        optimizer.step(plain, grad, state_of_plain)

    def begin() -> None:
        x[...], plain[...] = 1, 1

    steps, each = {"gradient, then step": launches}, {"gradient, then step": 1}
    for many in MANY:
        name = f"passes of {many}"
        steps[name], each[name] = (lambda many=many: fused.run(x, (), state, steps=many)), many
        steps[name]()
    for _ in range(sum(MANY)):
        launches()
    same = bool((plain == x).all())
    times = timing.take_turns(backend, steps, rounds, f"{size:,} parameters", begin)
    return row(size, times, each, same, 4 * 4)  # x and s are read and written, and there is no gradient


def row(
    size: int, times: dict[str, list[float]], each: dict[str, int], same: bool, moved: int
) -> dict[str, Any]:
    """Of one step, where a call makes some."""
    times = {name: [t / each[name] for t in of_calls] for name, of_calls in times.items()}
    seconds = timing.medians(times)
    say(f"\n{size:,} parameters, float32: " + ("the same bits" if same else "NOT the same bits"))
    for name, median in seconds.items():
        say(f"{name:28}{median * 1e6:10.2f}us a step")
    speedup = {name: 1 / ratio for name, ratio in timing.ratios(times, next(iter(times))).items()}
    return {
        "size": size,
        "same_bits": same,
        "bytes": moved * size,
        "seconds_per_step": seconds,
        "times_as_fast": speedup,
    }


def main(arguments: list[str] | None = None) -> int:
    options = parse_arguments(arguments)
    try:
        backend = choose_backend("gpu", fallback=False)
    except gpuprop.DeviceUnavailableError as error:
        tell(str(error))
        return 2
    description = backend.describe()
    say(f"{description}; {options.rounds} interleaved rounds: medians")
    seconds = host(backend, options.rounds)
    say("\nthe host's work, by two parameters")
    for name, median in seconds.items():
        say(f"{name:28}{median * 1e6:10.2f}us a step")
    report: dict[str, Any] = {"device": description, "versions": versions(), "rounds": options.rounds}
    report |= {"host_seconds": seconds, "left_out": {}, "passes": []}
    failed = ""
    report["graphs"] = [graphs(backend, size, options.rounds) for size in options.sizes]
    why = "" if hasattr(gpuprop.RMSProp(), "fuse") else "this version of gpuprop has no fuse"
    try:
        report["passes"] += [passes(backend, size, options.rounds) for size in options.sizes if not why]
    except Exception as error:  # what has been measured before is not to be lost
        why = failed = f"{type(error).__name__}: {error}"
    if why:
        report["left_out"]["steps a pass"] = why
        say(f"\nleft out: steps a pass ({why})")
    code = write_files((options.json, lambda file: write_json(file, report)))
    wrong = [each["size"] for each in report["graphs"] + report["passes"] if not each["same_bits"]]
    if wrong:
        tell(f"with {', '.join(map(str, wrong))} parameters the bits are not those of plain steps")
    return code or int(bool(wrong or failed))


if __name__ == "__main__":
    sys.exit(main())
