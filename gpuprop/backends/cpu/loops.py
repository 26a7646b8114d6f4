"""`Rule` to Numba functions: the loop over elements, serial and in parallel, with its guard."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property, partial
from itertools import pairwise
from typing import Any

import numba
import numpy as np
from numba import njit, types

from gpuprop.backends.base import Mode
from gpuprop.backends.checks import compute_dtype
from gpuprop.backends.cpu import threads
from gpuprop.backends.cpu.intrinsics import FUNCTIONS
from gpuprop.backends.cpu.pool import run_in_pool
from gpuprop.rules import Rule
from gpuprop.rules.arithmetic import PREFIX

#: Bytes of one array up to which one thread is used: waking a sleeping second one, which takes tens
#: of microseconds, costs about as much as these.
SERIAL_BYTES = 2**21

#: Elements of which a loop can count all in 32 bits.
MOST_COUNTED = 2**30

_MAX_THREADS: int = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]


class Loops:
    """The compiled functions of one rule and dtype, for `ndim` strided axes or 0: contiguous.

    They advance the clock, an array of two numbers, before and after they write: a call of one is all
    or nothing to whatever interrupts. Those of a `mode` that counts add to one number more.
    """

    def __init__(self, rule: Rule, dtype: np.dtype, ndim: int, mode: Mode) -> None:
        self.dtype = dtype
        self._rule, self._ndim, self._mode = rule, ndim, mode
        self._real: Any = numba.from_dtype(compute_dtype(dtype))  # type: ignore[arg-type]
        self._format = {"float16": "_half", "bfloat16": "_brain"}.get(dtype.name, "")
        element: Any = types.uint16 if dtype.itemsize == 2 else self._real
        layout: Any = "A" if ndim else "C"
        axes = max(ndim, 1)
        # Every name of the rule gets a prefix, so that none can meet a name of these lines.
        self._arrays = tuple(f"array_{name}" for name in rule.arrays)
        self._x = f"array_{rule.writes[0]}"
        scalars = tuple(f"scalar_{name}" for name in rule.scalars)
        counter = () if mode == "plain" else ("counter",)
        numbers: Any = types.Array(types.int64, 1, "C")
        array_types = [types.Array(element, axes, layout, readonly=n in rule.reads) for n in rule.arrays]
        #: What all functions take, to the type of each.
        self._arguments: dict[str, Any] = dict(zip(self._arrays, array_types, strict=True))
        self._arguments |= dict.fromkeys(scalars, types.float64) | dict.fromkeys(counter, numbers)
        self._clock = {"clock": numbers}

    def run(self, arrays: Sequence[Any], scalars: Sequence[Any], clock: Any, counter: Any = None) -> bool:
        """Do it, or write nothing and return False: the arrays need the full checks."""
        if counter is not None:
            scalars = (*scalars, counter)
        if arrays[-1].nbytes <= SERIAL_BYTES:
            return self.serial(*arrays, *scalars, clock)
        arguments = (*arrays, *scalars)
        length = len(arrays[-1])
        workers = chunks = min(threads.get_num_threads(), length)
        if self._mode != "plain":
            chunks = max(workers, -(-length // MOST_COUNTED))
        if chunks == 1:
            return self.serial(*arguments, clock)
        if threads.parallel_layer_is_safe():
            return self.parallel(*arguments, clock, chunks, min(workers, _MAX_THREADS))
        if not self.guard(*arguments):
            return False
        edges = [length * chunk // chunks for chunk in range(chunks + 1)]
        run_in_pool([partial(self.part, *arguments, *edge) for edge in pairwise(edges)], clock, workers)
        return True

    @cached_property
    def guard(self) -> Callable[..., bool]:
        """Whether the arrays are known to be right, in nanoseconds; else Python's checks decide."""
        return self._compile("guard", [*self._guard_lines(), "return True"], returns=types.boolean)

    @cached_property
    def serial(self) -> Callable[..., bool]:
        """The guard and the loop in one call: for a small vector, calls are what costs."""
        loop = self._loop_lines() if self._mode == "plain" else [self._call_of_loop()]
        lines = [*self._guard_lines(), "advance(clock, 0, 1)", *loop, "advance(clock, 1, 1)", "return True"]
        return self._compile("serial", lines, self._clock, returns=types.boolean)

    @cached_property
    def parallel(self) -> Callable[..., bool]:
        """The guard, and the loop over `chunks` slices of the first axis on `threads` threads."""
        lines = [
            *self._guard_lines(),
            f"length = {self._x}.shape[0]",
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
        more = self._clock | dict.fromkeys(("chunks", "threads"), types.int64)
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
        returns = types.void if self._mode == "plain" else types.int64
        return self._compile("loop", self._loop_lines(), returns=returns)

    def _call_of_loop(self, part: str = "") -> str:
        arguments = [name + part if name in self._arrays else name for name in self._arguments]
        call = f"loop({', '.join(arguments)})"
        return call if self._mode == "plain" else f"advance(counter, 0, {call})"

    def _guard_lines(self) -> list[str]:
        if self._ndim:  # strided arrays come checked
            return []
        addresses = ", ".join(f"address({array})" for array in self._arrays)
        sizes = ", ".join(f"{array}.size" for array in self._arrays)
        numbers = f"{self._x}.itemsize, {len(self._rule.reads)}"
        return [f"if not are_apart(({addresses},), ({sizes},), {numbers}):", "    return False"]

    def _loop_lines(self) -> list[str]:
        rule, axes, counts = self._rule, range(max(self._ndim, 1)), self._mode != "plain"
        at = f"[{', '.join(f'i{axis}' for axis in axes)}]"
        load, store = (f"{way}{self._format}({{}})" if self._format else "{}" for way in ("load", "store"))
        # Scalars arrive as float64 and are rounded here, once: in Numba, float32 arithmetic that
        # meets a float64 or an integer goes on in float64.
        before = [f"{PREFIX}{name} = real(scalar_{name})" for name in rule.scalars]
        each = [f"{PREFIX}{name} = {load.format(f'array_{name}{at}')}" for name in rule.arrays]
        if counts:
            each += [f"old_{name} = {PREFIX}{name}" for name in rule.arrays]
            before += ["count = whole(0)"]
        each += [f"{target} = {value}" for target, value, _ in rule.assignments]
        if counts:
            # Of numbers that are finite, and of no others, the difference from themselves is zero.
            kept = [f"old_{rule.arrays[0]}", *(self._as_kept(PREFIX + name) for name in rule.writes)]
            each += [f"finite = {' + '.join(f'({v} - {v})' for v in kept)} == real(0)"]
            each += ["count = whole(count + whole(not finite))"]
        if self._mode == "skip":
            each += [f"{PREFIX}{name} = where(finite, {PREFIX}{name}, old_{name})" for name in rule.writes]
        if self._mode != "count":
            each += [f"array_{name}{at} = {store.format(PREFIX + name)}" for name in rule.writes]
        loops = ["    " * axis + f"for i{axis} in range({self._x}.shape[{axis}]):" for axis in axes]
        after = ["return count"] if counts else []
        return [*before, *loops, *("    " * len(axes) + line for line in each), *after]

    def _as_kept(self, value: str) -> str:
        """A result as the array will hold it: 16 bits may make an infinity of it."""
        return f"load{self._format}(store{self._format}({value}))" if self._format else value

    def _compile(
        self, name: str, lines: Sequence[str], more: dict[str, Any] | None = None, *, returns: Any
    ) -> Callable[..., Any]:
        arguments = self._arguments | (more or {})
        source = "\n    ".join([f"def {name}({', '.join(arguments)}):", *lines])
        # Vectorised, to count takes a number as wide as those of the computation.
        whole = np.int32 if self._real == types.float32 and not self._ndim else np.int64
        namespace = {**FUNCTIONS, "real": self._real, "whole": whole}
        if any("loop(" in line for line in lines):
            namespace["loop"] = self.loop
        exec(compile(source, f"<gpuprop {self._rule.name} {self._real}>", "exec"), namespace)
        # Numba's default error model tests every divisor, which stops vectorisation.
        options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "no_cfunc_wrapper": True}
        signature = returns(*arguments.values())
        return njit(signature, parallel=name == "parallel", **options)(namespace[name])
