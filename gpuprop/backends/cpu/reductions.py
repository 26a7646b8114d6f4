"""Of whole arrays on the CPU: sums in float64, the same bits for any number of threads; and what rows are."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

import numpy as np

from gpuprop.backends.base import SHORT
from gpuprop.backends.cpu import pool
from gpuprop.backends.cpu.kernels.kernel import Array, Function, Kernel, function_of

#: Elements that are summed one after the other, always in the same order; the blocks' sums are then
#: added exactly.
BLOCK = SHORT

#: What is added up of an element `v`, or of two, `v` and `w`.
_SQUARE = ("v * v",)
_FINITE_SQUARE = ("v * v if v - v == v - v else 0.0",)
PRODUCTS = ("v * w", "fabs(v * w)", "v * v")
FINITE_PRODUCTS = tuple(f"({term} if {term} - {term} == 0.0 else 0.0)" for term in PRODUCTS)


def sum_of_squares(array: np.ndarray, finite_only: bool = False) -> float:
    return _sums(_FINITE_SQUARE if finite_only else _SQUARE, (array,))[0]


def kernel_of_squares(dtype: str, finite_only: bool) -> Callable[..., bool]:
    """What puts the sum of a vector's squares, of at most `BLOCK` elements, into an array of one float64."""
    return _sums_of_blocks(_FINITE_SQUARE if finite_only else _SQUARE, dtype)


def sums_of_products(one: np.ndarray, other: np.ndarray) -> tuple[float, ...]:
    """Of two arrays: of their elements' products, of the moduli of such, and of the squares of the first.

    What is not finite is left out.
    """
    sums = _sums(PRODUCTS, (one, other))
    return sums if all(map(math.isfinite, sums)) else _sums(FINITE_PRODUCTS, (one, other))


def _sums(terms: tuple[str, ...], arrays: tuple[np.ndarray, ...]) -> tuple[float, ...]:
    first = arrays[0]
    if not all(a.flags.aligned and a.dtype.isnative and a.dtype == first.dtype for a in arrays):
        # As they come before a step is refused for them.
        arrays = tuple(np.array(a, first.dtype.newbyteorder("=")) for a in arrays)
        first = arrays[0]
    is_short = first.dtype.itemsize == 2
    views = [array.view(np.ndarray) for array in arrays]
    views = [view.view(np.uint16) for view in views] if is_short else views
    if all(view.flags.f_contiguous for view in views):
        views = [view.T for view in views]
    if not all(view.flags.c_contiguous for view in views):
        if len(views) == 1:
            sums = np.empty(1)
            _run(_sum_of_strided(terms, first.dtype.name, first.ndim), *views, sums)
            return (float(sums[0]),)
        views = [np.ascontiguousarray(view) for view in views]
    vectors = [view.reshape(-1) for view in views]
    count = max(-(-first.size // BLOCK), 1)
    sums = np.empty(count * len(terms))
    call = partial(_run, _sums_of_blocks(terms, first.dtype.name), *vectors, sums)
    pool.run_in_chunks(call, True, *pool.chunks_for(first.nbytes, count))
    return tuple(map(exact_sum, sums.reshape(-1, len(terms)).T)) if count > 1 else tuple(sums.tolist())


def _run(call: Callable[..., bool], *arguments: Any) -> bool:
    if not call(*arguments):
        raise AssertionError("a reduction ran on nothing: an array is not what the checks have let pass")
    return True


def exact_sum(sums: np.ndarray) -> float:
    """Rounded once, if it can be."""
    try:
        return math.fsum(sums)
    except (OverflowError, ValueError):  # it ends beyond all numbers, or an infinity meets another
        with np.errstate(over="ignore", invalid="ignore"):
            return float(np.sum(sums))


def _item(dtype: str) -> tuple[str, str]:
    """Of elements: what they are to Numba, and how an element `{}` becomes a float64."""
    ways = {"float16": "load_half", "bfloat16": "load_brain"}
    return ("uint16", f"float64({ways[dtype]}({{}}))") if dtype in ways else (dtype, "float64({})")


def block_function(name: str, terms: Sequence[str], dtype: str) -> Function:
    """The sums of terms of one block of a vector, or two.

    They are free to be added in any order, and so to be vectorised; the order is that of the compiled code.
    """
    names, load = names_of(terms), _item(dtype)[1]
    lines = [f"total_{i} = 0.0" for i in range(len(terms))]
    lines.append(f"for i in range({names[0]}.size):")
    lines += [f"    {value} = {load.format(f'{n}[i]')}" for value, n in zip("vw", names, strict=False)]
    lines += [f"    total_{i} += {term}" for i, term in enumerate(terms)]
    totals = "".join(f"total_{i}, " for i in range(len(terms)))
    return Function(name, names, (*lines, f"return ({totals})"), fast=("reassoc",))


def names_of(terms: Sequence[str]) -> tuple[str, ...]:
    return ("one", "other") if len(terms) > 1 else ("one",)


def call_of_block(name: str, names: Sequence[str]) -> str:
    parts = [f"vector(pointer({n}, begin * {n}.itemsize), size, item)" for n in names]
    return f"sums_of = {name}({', '.join(parts)})"


SIZE = f"size = min(one.size - begin, {BLOCK})"


@cache
def _sums_of_blocks(terms: tuple[str, ...], dtype: str) -> Callable[..., Any]:
    names, item = names_of(terms), _item(dtype)[0]
    lines = [
        f"count = sums.size // {len(terms)}",
        "for block in range(chunk * count // chunks, (chunk + 1) * count // chunks):",
        f"    begin = block * {BLOCK}",
        f"    {SIZE}",
        f"    {call_of_block('sums_of_block', names)}",
        *(f"    sums[block * {len(terms)} + {i}] = sums_of[{i}]" for i in range(len(terms))),
    ]
    arrays = [(name, Array(item, is_read=True)) for name in names]
    arguments = (*arrays, ("sums", Array("float64")))
    functions = (block_function("sums_of_block", terms, dtype),)
    return function_of(Kernel("sums", arguments, tuple(lines), item=item, functions=functions))


@cache
def _sum_of_strided(terms: tuple[str, ...], dtype: str, axes: int) -> Callable[..., Any]:
    item, load = _item(dtype)
    lines = (
        f"total, block, left = 0.0, 0.0, {BLOCK}",
        "for value in one.flat:",
        f"    v = {load.format('value')}",
        f"    block += {terms[0]}",
        "    left -= 1",
        "    if left == 0:",
        f"        total, block, left = total + block, 0.0, {BLOCK}",
        "sums[0] = total + block",
    )
    array = Array(item, axes, is_contiguous=False, is_read=True)
    return function_of(Kernel("strided_sum", (("one", array), ("sums", Array("float64"))), lines))


def survey_of_rows(rows: np.ndarray) -> tuple[int, int, int]:
    """The least and the most of some integers, and the place of one that is there twice, or -1."""
    found = np.empty(3, np.int64)
    _run(_ends(), rows, found)
    least, most, is_ascending = found.tolist()
    if is_ascending:
        return least, most, -1
    # Places by the hash of what is there, 0 for none.
    places = np.zeros(1 << max(4, (2 * len(rows) - 1).bit_length()), np.int64)
    return least, most, int(_twice()(rows, places, 64 - (len(places).bit_length() - 1))[0])


_ROWS = ("rows", Array("int64", is_read=True))


@cache
def _ends() -> Callable[..., bool]:
    lines = (
        "least = most = rows[0]",
        "is_ascending = 1",
        "for i in range(1, len(rows)):",
        "    is_ascending = is_ascending if rows[i] > rows[i - 1] else 0",
        "    least, most = min(least, rows[i]), max(most, rows[i])",
        "found[0], found[1], found[2] = least, most, is_ascending",
    )
    return function_of(Kernel("ends", (_ROWS, ("found", Array("int64"))), lines))


@cache
def _twice() -> Callable[..., tuple[float]]:
    lines = (  # by the multiplier of Fibonacci hashing
        "last, found = len(places) - 1, -1",
        "for i in range(len(rows)):",
        "    at = int64((uint64(rows[i]) * uint64(0x9E3779B97F4A7C15)) >> uint64(shift))",
        "    while places[at] and found < 0:",
        "        if rows[places[at] - 1] == rows[i]:",
        "            found = i",
        "        at = (at + 1) & last",
        "    if found >= 0:",
        "        break",
        "    places[at] = i + 1",
        "result(0, float64(found))",
    )
    return function_of(
        Kernel("twice", (_ROWS, ("places", Array("int64")), ("shift", "int64")), lines, results=1)
    )
