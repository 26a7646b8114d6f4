"""Of whole arrays on the CPU: sums in float64, the same bits for any number of threads; and what rows are."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache, partial
from itertools import pairwise
from typing import Any

import numba
import numpy as np
from numba import njit, types

from gpuprop.backends.cpu import threads
from gpuprop.backends.cpu.intrinsics import FUNCTIONS, as_it_is, from_brain, from_half
from gpuprop.backends.cpu.loops import SERIAL_BYTES
from gpuprop.backends.cpu.pool import run_in_pool
from gpuprop.rules import LAW
from gpuprop.rules.arithmetic import PREFIX

#: Elements that are summed one after the other, always in the same order; the blocks' sums are then
#: added exactly.
BLOCK = 2**12


def sum_of_squares(array: np.ndarray, finite_only: bool = False) -> float:
    return _sums(_finite_square if finite_only else _square, (array,))[0]


def sums_of_products(one: np.ndarray, other: np.ndarray) -> tuple[float, ...]:
    """Of two arrays: of their elements' products, of the moduli of such, and of the squares of the first.

    What is not finite is left out.
    """
    sums = _sums(_products, (one, other))
    return sums if all(map(math.isfinite, sums)) else _sums(_finite_products, (one, other))


def _sums(terms: Any, arrays: tuple[np.ndarray, ...]) -> tuple[float, ...]:
    first = arrays[0]
    kind = first.dtype.name if first.dtype.itemsize == 2 else ""
    one, blocks, parallel, strided = _compiled(terms, kind)
    views = [array.view(np.ndarray) for array in arrays]
    views = [view.view(np.uint16) for view in views] if kind else views
    if all(view.flags.f_contiguous for view in views):
        views = [view.T for view in views]
    if not all(view.flags.c_contiguous for view in views):
        if len(views) == 1:
            return strided(*views)
        views = [np.ascontiguousarray(view) for view in views]
    vectors = tuple(view.reshape(-1) for view in views)
    count = -(-first.size // BLOCK)
    if count <= 1:
        return one(vectors)
    sums = np.empty((count, len(one(tuple(vector[:0] for vector in vectors)))))
    workers = min(threads.get_num_threads(), count)
    if workers == 1 or first.nbytes <= SERIAL_BYTES:
        blocks(vectors, sums, 0, count)
    elif threads.parallel_layer_is_safe():
        parallel(vectors, sums, min(workers, numba.config.NUMBA_NUM_THREADS))  # type: ignore[attr-defined]
    else:
        edges = [count * worker // workers for worker in range(workers + 1)]
        run_in_pool([partial(blocks, vectors, sums, *part) for part in pairwise(edges)])
    return tuple(map(exact_sum, sums.T))


def exact_sum(sums: np.ndarray) -> float:
    """Rounded once, if it can be."""
    try:
        return math.fsum(sums)
    except (OverflowError, ValueError):  # it ends beyond all numbers, or an infinity meets another
        with np.errstate(over="ignore", invalid="ignore"):
            return float(np.sum(sums))


@cache
def _compiled(terms: Any, kind: str) -> tuple[Callable[..., Any], ...]:
    """Sums of one block, of some, of all in parallel, and of a strided array."""
    load = {"float16": from_half, "bfloat16": from_brain}.get(kind, as_it_is)
    pairs = terms in (_products, _finite_products)

    # Free to add in any order, and so to vectorise; the order is that of the one compiled code.
    if pairs:

        @njit(nogil=True, fastmath={"reassoc"})
        def one(arrays):
            a, b = arrays
            products, sizes, squares = 0.0, 0.0, 0.0
            for i in range(a.size):
                product, size, square = terms(np.float64(load(a[i])), np.float64(load(b[i])))
                products += product
                sizes += size
                squares += square
            return products, sizes, squares

    else:

        @njit(nogil=True, fastmath={"reassoc"})
        def one(arrays):
            (a,) = arrays
            total = 0.0
            for i in range(a.size):
                total += terms(np.float64(load(a[i])))
            return (total,)

    @njit(nogil=True)
    def blocks(arrays, sums, start, stop):
        for b in range(start, stop):
            begin, end = b * BLOCK, (b + 1) * BLOCK
            if pairs:
                part = one((arrays[0][begin:end], arrays[1][begin:end]))
            else:
                part = one((arrays[0][begin:end],))
            for i in range(len(part)):
                sums[b, i] = part[i]

    @njit(nogil=True, parallel=True)
    def parallel(arrays, sums, workers):
        before = numba.get_num_threads()
        numba.set_num_threads(workers)
        for b in numba.prange(len(sums)):
            blocks(arrays, sums, b, b + 1)
        numba.set_num_threads(before)

    @njit(nogil=True)
    def strided(values):
        total, block, left = 0.0, 0.0, BLOCK
        for value in values.flat:
            block += terms(np.float64(load(value)))
            left -= 1
            if left == 0:
                total, block, left = total + block, 0.0, BLOCK
        return (total + block,)

    return one, blocks, parallel, strided


@njit
def _square(v):
    return v * v


@njit
def _finite_square(v):
    return v * v if v - v == v - v else 0.0


@njit
def _products(a, b):
    return a * b, abs(a * b), a * a


@njit
def _finite_products(a, b):
    product, square = a * b, a * a
    product = product if product - product == 0.0 else 0.0
    return product, abs(product), square if square - square == 0.0 else 0.0


@cache
def law() -> Callable[..., tuple[float, float]]:
    """`LAW` of sums, the two rows of a tuning, which of them counts, the sign of products, and scalars."""
    lines = [f"{PREFIX}{name} = {name}" for name in (*LAW.reads[:3], *LAW.scalars)]
    lines += [f"{PREFIX}{name} = tuning[row, {i}]" for i, name in enumerate(LAW.reads[3:])]
    lines += [f"{target} = {value}" for target, value, _ in LAW.assignments]
    lines += [f"tuning[1 - row, {i}] = {PREFIX}{name}" for i, name in enumerate(LAW.writes[:3])]
    head = f"def law({', '.join(LAW.reads[:3])}, tuning, row, sign, {', '.join(LAW.scalars)}):"
    head += "\n    products = sign * products"
    source = "\n    ".join([head, *lines, f"return {', '.join(PREFIX + n for n in LAW.writes[3:])}"])
    namespace = {**FUNCTIONS, "real": types.float64}
    exec(compile(source, "<gpuprop law>", "exec"), namespace)
    numbers: Any = types.Array(types.float64, 2, "C")
    scalars = [types.float64] * len(LAW.scalars)
    arguments = [*[types.float64] * 3, numbers, types.int64, types.float64, *scalars]
    signature = types.UniTuple(types.float64, 2)(*arguments)
    return njit(signature, nogil=True, error_model="numpy")(namespace["law"])


@cache
def find_at_once() -> Callable[..., tuple[float, float]]:
    """The sums of products of two vectors and the law in one call, on one thread; for the rest as `law`."""
    one, finite, law_of = _compiled(_products, "")[0], _compiled(_finite_products, "")[0], law()

    def find(grad, last, tuning, row, sign, count, share, momentum, per_gradient):
        products, sizes, squares = 0.0, 0.0, 0.0
        for start in range(0, len(grad), BLOCK):
            vectors = grad[start : start + BLOCK], last[start : start + BLOCK]
            product, size, square = one(vectors)
            if not (math.isfinite(size) and math.isfinite(square)):
                product, size, square = finite(vectors)
            products, sizes, squares = products + product, sizes + size, squares + square
        return law_of(products, sizes, squares, tuning, row, sign, count, share, momentum, per_gradient)

    numbers: Any = types.Array(types.float64, 2, "C")
    scalars = [numbers, types.int64, *[types.float64] * 5]
    vectors = [types.Array(real, 1, "C", readonly=True) for real in (types.float32, types.float64)]
    returns = types.UniTuple(types.float64, 2)
    return njit([returns(vector, vector, *scalars) for vector in vectors], nogil=True)(find)


@cache
def survey_of_rows() -> Callable[..., tuple[int, int, int]]:
    """The place of one that is there twice, or -1, beside the least and the most."""
    rows: Any = types.Array(types.int64, 1, "C", readonly=True)
    return njit(types.UniTuple(types.int64, 3)(rows), nogil=True)(_survey)


def _survey(rows):
    least = most = rows[0]
    is_ascending = True
    for i in range(1, len(rows)):
        is_ascending = is_ascending and rows[i] > rows[i - 1]
        least, most = min(least, rows[i]), max(most, rows[i])
    if is_ascending:
        return least, most, -1
    # Places by the hash of what is there, 0 for none; by the multiplier of Fibonacci hashing.
    bits = 4
    while (1 << bits) < 2 * len(rows):
        bits += 1
    places, last = np.zeros(1 << bits, np.int64), (1 << bits) - 1
    for i in range(len(rows)):
        at = np.int64((np.uint64(rows[i]) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(64 - bits))
        while places[at]:
            if rows[places[at] - 1] == rows[i]:
                return least, most, i
            at = (at + 1) & last
        places[at] = i + 1
    return least, most, -1
