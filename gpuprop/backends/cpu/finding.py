"""The law by which a learning rate is found, on the CPU: with the sums before it, in one call or two."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from gpuprop.backends.cpu.kernels.kernel import Arguments, Array, Kernel, function_of
from gpuprop.backends.cpu.pool import SERIAL_BYTES
from gpuprop.backends.cpu.reductions import (
    BLOCK,
    FINITE_PRODUCTS,
    PRODUCTS,
    SIZE,
    block_function,
    call_of_block,
    names_of,
    sums_of_products,
)
from gpuprop.rules import LAW
from gpuprop.rules.arithmetic import PREFIX


def find_rate(
    backend: Any, grad: Any, last: Any, tuning: Any, step: int, sign: float, whole: int, momentum: float,
    per_gradient: bool,
) -> tuple[float, float]:  # fmt: skip
    """As `Backend.find_rate`."""
    share = grad.size / max(whole, 1)
    found = backend.find_at_once(grad, last, tuning, step, sign, share, momentum, per_gradient)
    if found is not None:
        return found
    *sums, count, whole = backend.sums_for_rate(grad, last, whole)
    share = count / max(whole, 1)
    return law()(*sums, tuning, step % 2, sign, max(count, 1), share, momentum, per_gradient)


def sums_for_rate(grad: Any, last: Any, whole: int) -> tuple[float, ...]:
    """The three sums that `LAW` reads, and how many elements are stepped, of how many."""
    return *sums_of_products(grad, last), grad.size, whole


def find_at_once(
    grad: Any, last: Any, tuning: Any, step: int, sign: float, share: float, momentum: float,
    per_gradient: bool,
) -> tuple[float, float] | None:  # fmt: skip
    """As `Backend.find_rate`, of short vectors in one compiled call; None of all else.

    `share` is how large a part of the parameters is stepped.
    """
    if not (
        type(grad) is type(last) is np.ndarray
        and grad.dtype is last.dtype
        and grad.shape == last.shape
        and 0 < grad.nbytes <= SERIAL_BYTES
        and grad.dtype.char in "fd"
    ):
        return None
    if grad.ndim != 1:
        if not (grad.flags.c_contiguous and last.flags.c_contiguous):
            return None
        grad, last = grad.reshape(-1), last.reshape(-1)
    scalars = (sign, grad.size, share, momentum, per_gradient)
    return _sums_and_law(grad.dtype.char)(grad, last, tuning, step & 1, *scalars) or None


_LAW_ARGUMENTS: Arguments = (
    ("tuning", Array("float64", 2)), ("row", "int64"), ("sign", "float64"),
    *((name, "float64") for name in LAW.scalars),
)  # fmt: skip


def _lines_of_law() -> list[str]:
    """`LAW` of sums, the two rows of a tuning, which of them counts, the sign of products, and scalars."""
    products = LAW.reads[0]
    lines = [f"{products} = sign * {products}"]
    lines += [f"{PREFIX}{name} = {name}" for name in (*LAW.reads[:3], *LAW.scalars)]
    lines += [f"{PREFIX}{name} = tuning[row, {i}]" for i, name in enumerate(LAW.reads[3:])]
    lines += [f"{target} = {value}" for target, value, _ in LAW.assignments]
    lines += [f"tuning[1 - row, {i}] = {PREFIX}{name}" for i, name in enumerate(LAW.writes[:3])]
    return lines + [f"result({i}, {PREFIX}{name})" for i, name in enumerate(LAW.writes[3:])]


@cache
def law() -> Callable[..., tuple[float, float]]:
    """Of sums, a tuning, its row that counts, the sign of products, and the scalars of `LAW`."""
    sums: Arguments = tuple((name, "float64") for name in LAW.reads[:3])
    return function_of(Kernel("law", (*sums, *_LAW_ARGUMENTS), tuple(_lines_of_law()), results=2))


@cache
def _sums_and_law(char: str) -> Callable[..., Any]:
    """The sums of products of two vectors and the law in one call, on one thread; for the rest as `law`."""
    dtype = np.dtype(char).name
    array, names, sums = Array(dtype, is_read=True), names_of(PRODUCTS), LAW.reads[:3]
    terms = {"sums_of_block": PRODUCTS, "sums_of_finite": FINITE_PRODUCTS}
    lines = [
        *(f"{name} = 0.0" for name in sums),
        f"for begin in range(0, one.size, {BLOCK}):",
        f"    {SIZE}",
        f"    {call_of_block('sums_of_block', names)}",
        "    if not (isfinite(sums_of[1]) and isfinite(sums_of[2])):",
        f"        {call_of_block('sums_of_finite', names)}",
        *(f"    {name} += sums_of[{i}]" for i, name in enumerate(sums)),
        *_lines_of_law(),
    ]
    functions = tuple(block_function(name, each, dtype) for name, each in terms.items())
    arguments: Arguments = (*((name, array) for name in names), *_LAW_ARGUMENTS)
    return function_of(Kernel("find", arguments, tuple(lines), results=2, item=dtype, functions=functions))
