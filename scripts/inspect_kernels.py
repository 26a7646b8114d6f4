"""Compile every GPU kernel with NVIDIA's compiler and print what it costs; no GPU is needed.

The machine code is read where ``nvdisasm`` is installed (``pip install nvidia-cuda-nvdisasm``) and
knows the architecture, PTX elsewhere.
"""

from __future__ import annotations

from command_line import Parser, say, start, tell

if __name__ == "__main__":
    start()  # before the imports that take long

import argparse
import sys
from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

import numpy as np

import gpuprop
from gpuprop.backends import checks
from gpuprop.measure import bandwidth

#: Memory bandwidth in bytes per second, from NVIDIA's data sheets: "H100 Tensor Core GPU" (SXM),
#: "A100 80GB" (SXM), "Ada GPU Architecture" (GeForce RTX 4090, 384 bits of GDDR6X at 21 Gb/s).
CARDS = {"H100": 3.35e12, "A100": 2.039e12, "RTX 4090": 1.008e12}

RULES = {
    "rmsprop": gpuprop.RMSProp().rule,
    "rmsprop_momentum": gpuprop.RMSProp(momentum=0.9).rule,
    "rmsprop_momentum_centered": gpuprop.RMSProp(momentum=0.9, centered=True).rule,
    "sgd": gpuprop.SGD().rule,
    "sgd_momentum": gpuprop.SGD(momentum=0.9).rule,
    "adagrad": gpuprop.AdaGrad().rule,
    "adam": gpuprop.Adam().rule,
    "adamw": gpuprop.AdamW().rule,
}


class Operation(NamedTuple):
    """One whole-array operation: how many arrays it reads and how many it writes."""

    text: str
    reads: int
    writes: int = 1


#: What RMSProp moves where each operation is a kernel of its own. An argument given twice counts
#: once: its second load comes from a cache.
UNFUSED = {
    "chain of array operations (the article's lines in CuPy)": [
        Operation("a = rho * s", 1),
        Operation("b = grad ** 2", 1),
        Operation("b = (1 - rho) * b", 1),
        Operation("s = a + b", 2),
        Operation("a = learning_rate * grad", 1),
        Operation("b = sqrt(s)", 1),
        Operation("b = b + epsilon", 1),
        Operation("a = a / b", 2),
        Operation("x = x - a", 2),
    ],
    # torch 2.13, torch/optim/rmsprop.py, _multi_tensor_rmsprop
    "torch.optim.RMSprop(foreach=True)": [
        Operation("_foreach_mul_(square_avg, alpha)", 1),
        Operation("_foreach_addcmul_(square_avg, grad, grad)", 2),
        Operation("avg = _foreach_sqrt(square_avg)", 1),
        Operation("_foreach_add_(avg, eps)", 1),
        Operation("_foreach_addcdiv_(param, grad, avg)", 3),
    ],
}


def milliseconds(bytes_per_parameter: float) -> str:
    """For 10^9 parameters, on each card at its data sheet's bandwidth."""
    return " | ".join(f"{bytes_per_parameter * 1e9 / rate * 1e3:.1f}" for rate in CARDS.values())


def kernel_rows(names: list[str], dtypes: list[str], architectures: list[int]) -> Iterator[str]:
    from gpuprop.backends.gpu.kernels import compiler
    from gpuprop.backends.gpu.kernels.wide import BYTES, elements_a_thread, wide_source

    cases = list(product(names, dtypes))
    sources = {f"{name}_{dtype}": wide_source(f"{name}_{dtype}", RULES[name], dtype) for name, dtype in cases}
    compiled = {
        architecture: compiler.compile_sources(sources, architecture) for architecture in architectures
    }
    for (name, dtype), architecture in product(cases, architectures):
        kernel = compiled[architecture][f"{name}_{dtype}"]
        # Narrower ones are of the last few elements, which go one by one.
        count = {access: n for access, n in kernel.accesses().items() if access[1] == 8 * BYTES}
        moved = sum(bits // 8 * n for (_, bits), n in count.items()) // elements_a_thread(dtype)
        least = bandwidth.bytes_per_parameter(RULES[name], np.dtype(dtype).itemsize)
        cells = [name, dtype, f"sm_{architecture}", "SASS" if kernel.is_machine_code else "PTX"]
        cells += [
            " + ".join(f"{n} x {bits}" for (k, bits), n in sorted(count.items()) if k == kind)
            for kind in ("ld", "st")
        ]
        cells += [f"{moved} / {least}", kernel.registers, kernel.local_bytes, len(kernel.float64())]
        cells += [len(kernel.special_functions()), len(kernel.slow_paths()), milliseconds(moved)]
        yield f"| {' | '.join(map(str, cells))} |"


def print_kernels(names: list[str], dtypes: list[str], architectures: list[int]) -> None:
    cards = " | ".join(f"{card}, ms" for card in CARDS)
    say(
        "| rule | dtype | architecture | read from | loads, bits | stores, bits | bytes moved / least | "
        f"registers | local bytes | float64 ops | special functions | slow-path calls | {cards} |"
    )
    say("| --- " * 4 + "| ---: " * (8 + len(CARDS)) + "|")
    for row in kernel_rows(names, dtypes, architectures):
        say(row)


def print_unfused(dtype: str) -> None:
    itemsize = np.dtype(dtype).itemsize
    for title, operations in UNFUSED.items():
        say(f"\n{title}, {dtype}:\n")
        say(f"| operation | reads | writes | bytes a parameter | {', ms | '.join(CARDS)}, ms |")
        say("| --- " + "| ---: " * (3 + len(CARDS)) + "|")
        for text, reads, writes in operations:
            moved = (reads + writes) * itemsize
            say(f"| `{text}` | {reads} | {writes} | {moved} | {milliseconds(moved)} |")
        reads, writes = (sum(o[k] for o in operations) for k in (1, 2))
        moved = (reads + writes) * itemsize
        fused = bandwidth.bytes_per_parameter(RULES["rmsprop"], itemsize)
        say(f"| all, {moved / fused:.1f} x fused | {reads} | {writes} | {moved} | {milliseconds(moved)} |")


def main(arguments: list[str] | None = None) -> int:
    dtypes = [dtype.name for dtype in checks.COMPUTE_DTYPE]
    parser = Parser(__doc__)
    option = parser.add_argument
    option("--rules", choices=RULES, nargs="+", default=list(RULES), metavar="NAME")
    option("--dtypes", choices=dtypes, nargs="+", default=dtypes)
    option("--architectures", type=architecture_number, nargs="+", metavar="sm_NN")
    options = parser.parse_args(arguments)
    try:
        from gpuprop.backends.gpu.kernels import compiler

        known = compiler.known_architectures()
    except (ImportError, RuntimeError) as error:
        parser.error(f'{error}; CuPy and NVRTC are needed: python -m pip install "gpuprop[cuda12]"')
    chosen = options.architectures or known
    for architecture in chosen:
        if architecture not in known:
            parser.error(f"this NVRTC knows {', '.join(map(str, known))} of ours, not {architecture}")
    kernels = len(options.rules) * len(options.dtypes)
    tell(f"compiling for each of {len(chosen)} architectures: {kernels} kernels")
    print_kernels(options.rules, options.dtypes, chosen)
    say("\nTimes are for 10^9 parameters at the bandwidth of the card's data sheet.")
    print_unfused("float32")
    return 0


def architecture_number(text: str) -> int:
    digits = text.removeprefix("sm_")
    if not digits.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not an architecture such as sm_90")
    return int(digits)


if __name__ == "__main__":
    sys.exit(main())
