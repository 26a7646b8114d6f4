"""`Rule` to Numba functions: the loop over elements, serial and in parallel, with its guard."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, cached_property, partial
from itertools import pairwise
from typing import Any

import numba
import numpy as np
from numba import njit, types

from gpuprop.backends.base import Mode
from gpuprop.backends.checks import compute_dtype
from gpuprop.backends.cpu import threads
from gpuprop.backends.cpu.intrinsics import FUNCTIONS
from gpuprop.backends.cpu.lines import VECTOR, Layout, element_lines, strided_lines
from gpuprop.backends.cpu.pool import run_in_pool
from gpuprop.rules import Rule

#: Bytes of one array up to which one thread is used: waking a sleeping second one, which takes tens
#: of microseconds, costs about as much as these.
SERIAL_BYTES = 2**21
#: Of rows that lie anywhere, which take their time to come.
SERIAL_BYTES_OF_ROWS = 2**18

#: Elements of which a loop can count all in 32 bits.
MOST_COUNTED = 2**30

MOST_THREADS: int = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]


class Loops:
    """The compiled functions of one rule and (real) dtype, for arrays of one layout.

    They advance the clock, an array of two numbers, before and after they write: a call of one is all
    or nothing to whatever interrupts. Those of a `mode` that counts add to one number more.
    """

    def __init__(self, rule: Rule, dtype: np.dtype, mode: Mode, layout: Layout = VECTOR) -> None:
        #: Of the arrays that it is given.
        self.given = np.dtype(f"c{2 * dtype.itemsize}") if layout.is_complex else dtype
        self._rule, self._layout, self._mode, self._part_dtype = rule, layout, mode, dtype
        self._real: Any = numba.from_dtype(compute_dtype(dtype))  # type: ignore[arg-type]
        self._format = {"float16": "_half", "bfloat16": "_brain"}.get(dtype.name, "")
        self._item: Any = types.uint16 if dtype.itemsize == 2 else numba.from_dtype(self.given)
        # Complex numbers, where their parts go together, are elements to the loops; else, pairs of reals.
        self._couples = layout.is_complex and rule.couples
        order: Any = "A" if layout.axes else "C"
        axes = max(layout.axes, 1)
        # Every name of the rule gets a prefix, so that none can meet a name of these lines.
        self._arrays = tuple(f"array_{name}" for name in rule.arrays)
        scalars = tuple(f"scalar_{name}" for name in rule.scalars)
        counter = () if mode == "plain" else ("counter",)
        numbers: Any = types.Array(types.int64, 1, "C")
        #: What all functions take, to the type of each.
        self._arguments: dict[str, Any] = {
            f"array_{n}": types.Array(
                self._real if self._couples and n in rule.reals else self._item,
                axes, order, readonly=n in rule.reads,
            )
            for n in rule.arrays
        }  # fmt: skip
        self._arguments |= dict.fromkeys(scalars, types.float64) | dict.fromkeys(counter, numbers)
        if layout.is_gathered:
            self._arguments["rows"] = types.Array(types.int64, 1, "C", readonly=True)
        self._goes_by_vectors = bool(layout.axes) and not layout.one_by_one
        self._is_pairs = layout.is_complex and not layout.axes and not self._couples
        self._clock = {"clock": numbers}
        self._checked = {"checked": types.boolean} if layout.axes else {}

    def run(
        self,
        arrays: Sequence[Any],
        scalars: Sequence[Any],
        clock: Any,
        counter: Any = None,
        checked: bool = False,
        rows: Any = None,
    ) -> bool:
        """Do it, or write nothing and return False: the arrays need the full checks.

        Strided arrays that are `checked` are not looked at again.
        """
        if counter is not None:
            scalars = (*scalars, counter)
        most = SERIAL_BYTES
        if rows is not None:
            scalars, most = (*scalars, rows), SERIAL_BYTES_OF_ROWS
        checks = (checked,) if self._layout.axes else ()
        if arrays[0].nbytes <= most:
            return self.serial(*arrays, *scalars, *checks, clock)
        arguments = (*arrays, *scalars)
        length = len(arrays[0]) * (2 if self._is_pairs else 1)
        workers = chunks = min(threads.get_num_threads(), length)
        if self._mode != "plain":
            chunks = max(workers, -(-length // MOST_COUNTED))
        if chunks == 1:
            return self.serial(*arguments, *checks, clock)
        if threads.parallel_layer_is_safe():
            return self.parallel(*arguments, *checks, clock, chunks, min(workers, MOST_THREADS))
        if not self.guard(*arguments, *checks):
            return False
        edges = [length * chunk // chunks for chunk in range(chunks + 1)]
        run_in_pool([partial(self.part, *arguments, *edge) for edge in pairwise(edges)], clock, workers)
        return True

    @cached_property
    def guard(self) -> Callable[..., bool]:
        """Whether the arrays are known to be right, in nanoseconds; else Python's checks decide."""
        lines = [*self._guard_lines(), "return True"]
        return self._compile("guard", lines, self._checked, returns=types.boolean)

    @cached_property
    def serial(self) -> Callable[..., bool]:
        """The guard and the loop in one call: for a small vector, calls are what costs."""
        loop = self._loop_lines() if self._mode == "plain" else [self._call_of_loop()]
        lines = [*self._guard_lines(), "advance(clock, 0, 1)", *loop, "advance(clock, 1, 1)", "return True"]
        return self._compile("serial", lines, self._checked | self._clock, returns=types.boolean)

    @cached_property
    def parallel(self) -> Callable[..., bool]:
        """The guard, and the loop over `chunks` slices of the first axis on `threads` threads."""
        lines = [
            *self._guard_lines(),
            f"length = {self._arrays[0]}.shape[0]",
            "advance(clock, 0, 1)",
            "before = get_num_threads()",
            "set_num_threads(threads)",
            "for chunk in prange(chunks):",
            "    start, stop = chunk * length // chunks, (chunk + 1) * length // chunks",
            f"    {self._call_of_loop('[start:stop]')}",
            "set_num_threads(before)",
            "advance(clock, 1, 1)",
            "return True",
        ]
        more = self._checked | self._clock | dict.fromkeys(("chunks", "threads"), types.int64)
        return self._compile("parallel", lines, more, returns=types.boolean)

    @cached_property
    def part(self) -> Callable[..., None]:
        """The loop over a part of the first axis."""
        lines = [self._call_of_loop("[start:stop]")]
        more = dict.fromkeys(("start", "stop"), types.int64)
        return self._compile("part", lines, more, returns=types.void)

    @cached_property
    def loop(self) -> Callable[..., Any]:
        """The update of each element; in a mode that counts, how many results are not finite."""
        if self._is_pairs:  # of which the other functions have made vectors
            return self._vector.loop
        returns = types.void if self._mode == "plain" else types.int64
        return self._compile("loop", self._loop_lines(), returns=returns)

    @property
    def _vector(self) -> Loops:
        layout = Layout(is_complex=True) if self._couples else VECTOR
        return self._alike(self._rule, self._part_dtype, self._mode, layout)

    @property
    def _alike(self) -> Callable[..., Loops]:
        return loops

    def _call_of_loop(self, part: str = "") -> str:
        # Of gathered arrays, `rows` says what is taken.
        parted = ("rows", self._arrays[0]) if self._layout.is_gathered else self._arrays
        arguments = [name + part if name in parted else name for name in self._arguments]
        call = f"loop({', '.join(arguments)})"
        return call if self._mode == "plain" else f"advance(counter, 0, {call})"

    def _guard_lines(self) -> list[str]:
        if self._layout.axes:
            spans = ", ".join(f"span({array})" for array in self._arrays)
            numbers = f"{len(self._rule.reads)}, {self._part_dtype.itemsize}"
            return [f"if not checked and not spans_are_apart(({spans},), {numbers}):", "    return False"]
        addresses = ", ".join(f"address({array})" for array in self._arrays)
        sizes, itemsizes = (", ".join(f"{a}.{what}" for a in self._arrays) for what in ("size", "itemsize"))
        numbers = f"{self._part_dtype.itemsize}, {len(self._rule.reads)}"
        call = f"are_apart(({addresses},), ({sizes},), ({itemsizes},), {numbers})"
        return [f"if not {call}:", "    return False"]

    def _loop_lines(self) -> list[str]:
        if self._goes_by_vectors:
            return strided_lines(self._rule, self._mode, self._layout, self._arguments)
        return element_lines(self._rule, self._mode, self._format, self._layout)

    def _arguments_of(self, name: str) -> dict[str, Any]:
        return self._arguments

    def _compile(
        self, name: str, lines: Sequence[str], more: dict[str, Any] | None = None, *, returns: Any
    ) -> Callable[..., Any]:
        arguments = self._arguments_of(name) | (more or {})
        names = list(arguments)
        if self._is_pairs:
            names = [f"pairs_of_{n}" if n in self._arrays else n for n in arguments]
            lines = [*(f"{n} = pairs_of_{n}.view(real)" for n in self._arrays), *lines]
        source = "\n    ".join([f"def {name}({', '.join(names)}):", *lines])
        # Vectorised, to count takes a number as wide as those of the computation.
        whole = np.int32 if self._real == types.float32 and not self._layout.axes else np.int64
        namespace = {**FUNCTIONS, "real": self._real, "whole": whole, "item": self._item, "part": self._real}
        if self._goes_by_vectors:
            namespace["row_loop"] = self._vector.loop
        for called in ("loop", "part_of_pass"):
            if name != called and any(f"{called}(" in line for line in lines):
                namespace[called] = getattr(self, called)
        exec(compile(source, f"<gpuprop {self._rule.name} {self._real}>", "exec"), namespace)
        # Numba's default error model tests every divisor, which stops vectorisation.
        options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "no_cfunc_wrapper": True}
        signature = returns(*arguments.values())
        return njit(signature, parallel=name.startswith("parallel"), **options)(namespace[name])


@cache
def loops(rule: Rule, dtype: np.dtype, mode: Mode, layout: Layout = VECTOR) -> Loops:
    """The same object for the same arguments, so that nothing is compiled twice."""
    return Loops(rule, dtype, mode, layout)
