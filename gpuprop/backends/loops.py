"""`Rule` to Numba functions: the loop over elements, serial and in parallel, with its guard."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property, partial
from itertools import pairwise
from typing import Any

import numba
import numpy as np
from numba import njit, types

from gpuprop.arithmetic import PREFIX
from gpuprop.backends import threads
from gpuprop.backends.checks import compute_dtype
from gpuprop.backends.intrinsics import FUNCTIONS
from gpuprop.rules import Rule

#: Bytes of one array up to which one thread is used: waking a sleeping second one, which takes tens
#: of microseconds, costs about as much as these.
SERIAL_BYTES = 2**21

#: Elements that stay in the nearest cache, of a few arrays.
BLOCK = 1024

_MAX_THREADS: int = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]


class Loops:
    """The compiled functions of one rule and dtype, for `ndim` strided axes or 0: contiguous.

    With `skip` they leave out elements whose first array is not finite, and take one array more, in
    which each chunk of a parallel loop counts its own. To count and to choose, element by element,
    takes twice as long as to update: so a contiguous vector goes through block by block, each of
    which is read, found to be finite, and updated while it is in the cache.
    """

    def __init__(self, rule: Rule, dtype: np.dtype, ndim: int, skip: bool) -> None:
        self._rule, self._dtype, self._ndim, self._skip = rule, dtype, ndim, skip
        self._real: Any = numba.from_dtype(compute_dtype(dtype))  # type: ignore[arg-type]
        self._format = {"float16": "_half", "bfloat16": "_brain"}.get(dtype.name, "")
        element: Any = types.uint16 if dtype.itemsize == 2 else self._real
        layout: Any = "A" if ndim else "C"
        axes = max(ndim, 1)
        # Every name of the rule gets a prefix, so that none can meet a name of these lines.
        self._arrays = tuple(f"array_{name}" for name in rule.arrays)
        self._x = f"array_{rule.writes[0]}"
        self._scalars = tuple(f"scalar_{name}" for name in rule.scalars)
        self._more = ("skipped",) if skip else ()
        self._types = (
            *(types.Array(element, axes, layout, readonly=name in rule.reads) for name in rule.arrays),
            *(types.float64 for _ in rule.scalars),
            *(types.Array(types.int64, 1, "C") for _ in self._more),
        )

    def run(self, arrays: Sequence[Any], scalars: Sequence[float], skipped: Any = None) -> bool:
        """Update, or write nothing and return False: the arrays need the full checks."""
        length = 1 if arrays[-1].nbytes <= SERIAL_BYTES else len(arrays[-1])
        chunks = 1 if length == 1 else min(threads.get_num_threads(), length)
        if not self._skip:
            return self._run(arrays, scalars, length, chunks)
        counts = np.zeros(chunks, np.int64)
        done = self._run(arrays, (*scalars, counts), length, chunks)
        skipped += counts.sum()
        return done

    def _run(self, arrays: Sequence[Any], scalars: Sequence[Any], length: int, chunks: int) -> bool:
        if chunks == 1:
            return self.serial(*arrays, *scalars)
        if threads.parallel_layer_is_safe():
            return self.parallel(*arrays, *scalars, chunks, min(chunks, _MAX_THREADS))
        if not self.guard(*arrays, *scalars):
            return False
        edges = [length * chunk // chunks for chunk in range(chunks + 1)]
        tasks = []
        for chunk, (start, stop) in enumerate(pairwise(edges)):
            slices = [array[start:stop] for array in arrays]
            more = (*scalars[:-1], scalars[-1][chunk : chunk + 1]) if self._skip else scalars
            tasks.append(partial(self.loop, *slices, *more))
        threads.run_in_pool(tasks)
        return True

    @cached_property
    def guard(self) -> Callable[..., bool]:
        """Whether the arrays are known to be right, in nanoseconds; else Python's checks decide."""
        return self._compile("guard", [*self._guard_lines(), "return True"], returns=types.boolean)

    @cached_property
    def serial(self) -> Callable[..., bool]:
        """The guard and the loop in one call: for a small vector, calls are what costs."""
        lines = [*self._guard_lines(), *self._update_lines(), "return True"]
        return self._compile("serial", lines, returns=types.boolean)

    @cached_property
    def parallel(self) -> Callable[..., bool]:
        """The guard, and the loop over `chunks` slices of the first axis on `threads` threads."""
        slices = [f"{array}[start:stop]" for array in self._arrays]
        counts = [f"{array}[chunk:chunk + 1]" for array in self._more]
        lines = [
            *self._guard_lines(),
            f"length = {self._x}.shape[0]",
            "before = get_num_threads()",
            "set_num_threads(threads)",
            "for chunk in prange(chunks):",
            "    start, stop = chunk * length // chunks, (chunk + 1) * length // chunks",
            f"    loop({', '.join([*slices, *self._scalars, *counts])})",
            "set_num_threads(before)",
            "return True",
        ]
        return self._compile("parallel", lines, returns=types.boolean)

    @cached_property
    def loop(self) -> Callable[..., None]:
        """The update of each element."""
        return self._compile("loop", self._update_lines(), returns=types.void)

    def _guard_lines(self) -> list[str]:
        if self._ndim:  # strided arrays come checked
            return []
        addresses = ", ".join(f"address({array})" for array in self._arrays)
        sizes = ", ".join(f"{array}.size" for array in self._arrays)
        numbers = f"{self._x}.itemsize, {len(self._rule.reads)}"
        return [f"if not are_apart(({addresses},), ({sizes},), {numbers}):", "    return False"]

    def _update_lines(self) -> list[str]:
        if not self._skip or self._ndim:
            return self._loop_lines()
        slices = ", ".join(f"{array}[start:stop]" for array in self._arrays)
        scalars = "".join(f", {scalar}" for scalar in self._scalars)
        return [
            f"for start in range(0, {self._x}.size, {BLOCK}):",
            f"    stop = min(start + {BLOCK}, {self._x}.size)",
            f"    if are_finite{self._format}({self._arrays[0]}[start:stop]):",
            f"        plain({slices}{scalars})",
            "    else:",
            f"        careful({slices}{scalars}, skipped)",
        ]

    def _loop_lines(self) -> list[str]:
        rule, axes = self._rule, range(max(self._ndim, 1))
        at = f"[{', '.join(f'i{axis}' for axis in axes)}]"
        load, store = (f"{way}{self._format}({{}})" if self._format else "{}" for way in ("load", "store"))
        # Scalars arrive as float64 and are rounded here, once: in Numba, float32 arithmetic that
        # meets a float64 or an integer goes on in float64.
        before = [f"{PREFIX}{name} = real(scalar_{name})" for name in rule.scalars]
        each = [f"{PREFIX}{name} = {load.format(f'array_{name}{at}')}" for name in rule.arrays]
        new = PREFIX
        if self._skip:
            first = PREFIX + rule.arrays[0]
            before += ["count = 0"]
            each += [f"finite = {first} - {first} == {first} - {first}", "count += not finite"]
            each += [f"old_{name} = {PREFIX}{name}" for name in rule.writes]
        each += [f"{target} = {value}" for target, value, _ in rule.assignments]
        if self._skip:
            new = "new_"
            each += [f"new_{name} = where(finite, {PREFIX}{name}, old_{name})" for name in rule.writes]
        each += [f"array_{name}{at} = {store.format(new + name)}" for name in rule.writes]
        loops = ["    " * axis + f"for i{axis} in range({self._x}.shape[{axis}]):" for axis in axes]
        after = ["skipped[0] += count"] if self._skip else []
        return [*before, *loops, *("    " * len(axes) + line for line in each), *after]

    def _compile(self, name: str, lines: Sequence[str], *, returns: Any) -> Callable[..., Any]:
        parallel = name == "parallel"
        arguments, argument_types = (*self._arrays, *self._scalars, *self._more), self._types
        if parallel:
            arguments, argument_types = (
                (*arguments, "chunks", "threads"),
                (*argument_types, types.int64, types.int64),
            )
        source = "\n    ".join([f"def {name}({', '.join(arguments)}):", *lines])
        namespace = {**FUNCTIONS, "real": self._real, "loop": self.loop if parallel else None}
        if self._skip and not self._ndim and name in ("serial", "loop"):
            namespace["plain"] = Loops(self._rule, self._dtype, 0, False).loop
            namespace["careful"] = self._compile("careful", self._loop_lines(), returns=types.void)
        exec(compile(source, f"<gpuprop {self._rule.name} {self._real}>", "exec"), namespace)
        # Numba's default error model tests every divisor, which stops vectorisation.
        options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "no_cfunc_wrapper": True}
        return njit(returns(*argument_types), parallel=parallel, **options)(namespace[name])
