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
from gpuprop.backends.cpu.intrinsics import as_it_is, from_brain, from_half
from gpuprop.backends.cpu.loops import SERIAL_BYTES
from gpuprop.backends.cpu.pool import run_in_pool

#: Elements that are summed one after the other, always in the same order; the blocks' sums are then
#: added exactly.
BLOCK = 2**12


def sum_of_squares(array: np.ndarray, finite_only: bool = False) -> float:
    return _sum(_finite_square if finite_only else _square, array)


def _sum(term: Any, array: np.ndarray) -> float:
    name = array.dtype.name
    values = array.view(np.ndarray)
    values = values.view(np.uint16) if array.dtype.itemsize == 2 else values
    one, blocks, parallel, strided = _compiled(term, name if array.dtype.itemsize == 2 else "")
    if values.flags.f_contiguous:
        values = values.T
    if not values.flags.c_contiguous:
        return strided(values)
    values = values.reshape(-1)
    count = -(-values.size // BLOCK)
    if count <= 1:
        return one(values)
    sums = np.empty(count)
    workers = min(threads.get_num_threads(), count)
    if workers == 1 or values.nbytes <= SERIAL_BYTES:
        blocks(values, sums, 0, count)
    elif threads.parallel_layer_is_safe():
        parallel(values, sums, min(workers, numba.config.NUMBA_NUM_THREADS))  # type: ignore[attr-defined]
    else:
        edges = [count * worker // workers for worker in range(workers + 1)]
        run_in_pool([partial(blocks, values, sums, *part) for part in pairwise(edges)])
    try:
        return math.fsum(sums)
    except (OverflowError, ValueError):  # it ends beyond all numbers, or an infinity meets another
        with np.errstate(over="ignore", invalid="ignore"):
            return float(np.sum(sums))


@cache
def _compiled(term: Any, kind: str) -> tuple[Callable[..., Any], ...]:
    """Sums of one block, of some, of all in parallel, and of a strided array."""
    load = {"float16": from_half, "bfloat16": from_brain}.get(kind, as_it_is)

    # Free to add in any order, and so to vectorise; the order is that of the one compiled code.
    @njit(nogil=True, fastmath={"reassoc"})
    def one(values):
        total = 0.0
        for i in range(values.size):
            total += term(np.float64(load(values[i])))
        return total

    @njit(nogil=True)
    def blocks(values, sums, start, stop):
        for b in range(start, stop):
            sums[b] = one(values[b * BLOCK : (b + 1) * BLOCK])

    @njit(nogil=True, parallel=True)
    def parallel(values, sums, workers):
        before = numba.get_num_threads()
        numba.set_num_threads(workers)
        for b in numba.prange(sums.size):
            sums[b] = one(values[b * BLOCK : (b + 1) * BLOCK])
        numba.set_num_threads(before)

    @njit(nogil=True)
    def strided(values):
        total, block, left = 0.0, 0.0, BLOCK
        for value in values.flat:
            block += term(np.float64(load(value)))
            left -= 1
            if left == 0:
                total, block, left = total + block, 0.0, BLOCK
        return total + block

    return one, blocks, parallel, strided


@njit
def _square(v):
    return v * v


@njit
def _finite_square(v):
    return v * v if v - v == v - v else 0.0


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
