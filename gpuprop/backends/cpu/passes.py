"""Several steps in one pass over memory, and sums over all elements from the same pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, cached_property, partial
from itertools import pairwise
from typing import Any

import numpy as np
from numba import types

from gpuprop.backends.base import Mode
from gpuprop.backends.cpu import threads
from gpuprop.backends.cpu.lines import VECTOR, Layout, element_lines, steps_lines
from gpuprop.backends.cpu.loops import MOST_THREADS, SERIAL_BYTES, Loops
from gpuprop.backends.cpu.pool import run_in_pool
from gpuprop.rules import Rule

#: Elements that are taken through all steps before others, and summed by themselves: they stay in the cache.
BLOCK = 4096


class Passes(Loops):
    """`Loops` over vectors that have been checked; each block of them goes through all steps.

    Of complex numbers, where their parts go together; others are twice as many reals.
    """

    def run_steps(
        self, arrays: Sequence[Any], table: Any, steps: int, clock: Any, counter: Any
    ) -> np.ndarray:
        """So many steps, each by its row of a table, the last of which is for all behind it.

        What comes back is, for each step, the sums over blocks of what `rule` totals.
        """
        blocks = -(-len(arrays[0]) // BLOCK)
        sums = np.empty((steps, blocks if self._rule.total else 0))
        arguments = (*arrays, *(() if counter is None else (counter,)), table, sums, steps)
        workers = min(threads.get_num_threads(), blocks)
        if workers <= 1 or arrays[0].nbytes * steps <= SERIAL_BYTES:
            self.serial_pass(*arguments, clock, blocks)
        elif threads.parallel_layer_is_safe():
            self.parallel_pass(*arguments, clock, blocks, min(workers, MOST_THREADS))
        else:
            edges = [blocks * worker // workers for worker in range(workers + 1)]
            parts = [partial(self.part_of_pass, *arguments, *edge) for edge in pairwise(edges)]
            run_in_pool(parts, clock, steps=steps)
        return sums

    @cached_property
    def part_of_pass(self) -> Callable[..., None]:
        """All steps of some of the blocks."""
        lines = steps_lines(self._rule, self._mode, self._layout, BLOCK)
        return self._compile_pass("part_of_pass", lines, ("start", "stop"))

    @cached_property
    def serial_pass(self) -> Callable[..., None]:
        lines = ["advance(clock, 0, steps)", self._call_of_part("0, blocks"), "advance(clock, 1, steps)"]
        return self._compile_pass("serial_pass", lines, ("blocks",), self._clock)

    @cached_property
    def parallel_pass(self) -> Callable[..., None]:
        lines = [
            "advance(clock, 0, steps)",
            "before = get_num_threads()",
            "set_num_threads(threads)",
            "for chunk in prange(threads):",
            f"    {self._call_of_part('chunk * blocks // threads, (chunk + 1) * blocks // threads')}",
            "set_num_threads(before)",
            "advance(clock, 1, steps)",
        ]
        return self._compile_pass("parallel_pass", lines, ("blocks", "threads"), self._clock)

    def _call_of_part(self, part: str) -> str:
        return f"part_of_pass({', '.join(self._arguments_of('part_of_pass'))}, {part})"

    def _compile_pass(
        self, name: str, lines: Sequence[str], numbers: tuple[str, ...], more: dict[str, Any] | None = None
    ) -> Callable[..., None]:
        more = (more or {}) | dict.fromkeys(numbers, types.int64)
        return self._compile(name, lines, more, returns=types.void)

    def _arguments_of(self, name: str) -> dict[str, Any]:
        if name == "loop":
            values = {"values": types.Array(self._real, 1, "C")} if self._rule.total else {}
            return self._arguments | values
        kept = {n: kind for n, kind in self._arguments.items() if not n.startswith("scalar_")}
        numbers = types.Array(types.float64, 2, "C")
        return kept | {"table": numbers, "sums": numbers, "steps": types.int64}

    def _loop_lines(self) -> list[str]:
        return element_lines(self._rule, self._mode, self._format, self._layout, sums=bool(self._rule.total))

    @property
    def _alike(self) -> Callable[..., Loops]:
        return passes


@cache
def passes(rule: Rule, dtype: np.dtype, mode: Mode, layout: Layout = VECTOR) -> Passes:
    """The same object for the same arguments, so that nothing is compiled twice."""
    return Passes(rule, dtype, mode, layout)
