"""`Rule` to Numba functions: the loop over elements, serial and in parallel, with its guard."""

from __future__ import annotations

import math
import platform
from collections.abc import Callable, Sequence
from functools import cache, cached_property, partial
from itertools import combinations, pairwise
from typing import Any

import llvmlite.binding
import numba
import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from gpuprop.arithmetic import PREFIX
from gpuprop.backends import threads
from gpuprop.backends.checks import COMPUTE_DTYPE
from gpuprop.rules import Rule

#: Bytes of one array up to which one thread is used: waking a sleeping second one, which takes tens
#: of microseconds, costs about as much as these.
SERIAL_BYTES = 2**21

_MAX_THREADS: int = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]


class Loops:
    """The compiled functions of one rule and dtype, for `ndim` strided axes or 0: contiguous."""

    def __init__(self, rule: Rule, dtype: str, ndim: int) -> None:
        self._rule, self._ndim, self._half = rule, ndim, dtype == "e"
        self._real: Any = numba.from_dtype(COMPUTE_DTYPE[np.dtype(dtype)])
        element: Any = types.uint16 if self._half else self._real
        layout: Any = "A" if ndim else "C"
        axes = max(ndim, 1)
        # Every name of the rule gets a prefix, so that none can meet a name of these lines.
        self._arrays = tuple(f"array_{name}" for name in rule.arrays)
        self._x = f"array_{rule.writes[0]}"
        self._scalars = tuple(f"scalar_{name}" for name in rule.scalars)
        self._types = (
            *(types.Array(element, axes, layout, readonly=name in rule.reads) for name in rule.arrays),
            *(types.float64 for _ in rule.scalars),
        )

    def run(self, arrays: Sequence[Any], scalars: Sequence[float]) -> bool:
        """Update, or write nothing and return False: the arrays need the full checks."""
        if arrays[-1].nbytes <= SERIAL_BYTES:
            return self.serial(*arrays, *scalars)
        length = len(arrays[-1])
        chunks = min(threads.get_num_threads(), length)
        if chunks == 1:
            return self.serial(*arrays, *scalars)
        if threads.parallel_layer_is_safe():
            return self.parallel(*arrays, *scalars, chunks, min(chunks, _MAX_THREADS))
        if not self.guard(*arrays, *scalars):
            return False
        edges = [length * chunk // chunks for chunk in range(chunks + 1)]
        threads.run_in_pool(
            [
                partial(self.loop, *(array[start:stop] for array in arrays), *scalars)
                for start, stop in pairwise(edges)
            ]
        )
        return True

    @cached_property
    def guard(self) -> Callable[..., bool]:
        """Whether the arrays are known to be right, in nanoseconds; else Python's checks decide."""
        return self._compile("guard", [*self._guard_lines(), "return True"], returns=types.boolean)

    @cached_property
    def serial(self) -> Callable[..., bool]:
        """The guard and the loop in one call: for a small vector, calls are what costs."""
        lines = [*self._guard_lines(), *self._loop_lines(), "return True"]
        return self._compile("serial", lines, returns=types.boolean)

    @cached_property
    def parallel(self) -> Callable[..., bool]:
        """The guard, and the loop over `chunks` slices of the first axis on `threads` threads."""
        slices = [f"{array}[start:stop]" for array in self._arrays]
        lines = [
            *self._guard_lines(),
            f"length = {self._x}.shape[0]",
            "before = get_num_threads()",
            "set_num_threads(threads)",
            "for chunk in prange(chunks):",
            "    start, stop = chunk * length // chunks, (chunk + 1) * length // chunks",
            f"    loop({', '.join([*slices, *self._scalars])})",
            "set_num_threads(before)",
            "return True",
        ]
        return self._compile("parallel", lines, returns=types.boolean)

    @cached_property
    def loop(self) -> Callable[..., None]:
        """The update of each element."""
        return self._compile("loop", self._loop_lines(), returns=types.void)

    def _guard_lines(self) -> list[str]:
        if self._ndim:  # strided arrays come checked
            return []
        rule, x = self._rule, self._x
        lines = [f"at_{array} = address({array})" for array in self._arrays]
        lines += [f"nbytes = {x}.size * {x}.itemsize"]
        doubts = [f"{array}.size != {x}.size" for array in self._arrays if array != x]
        doubts += [f"at_{array} % {x}.itemsize != 0" for array in self._arrays]
        for a, b in combinations(rule.arrays, 2):
            if b in rule.writes:
                may_be_same = a not in rule.writes and b == rule.writes[0]
                least = "0 <" if may_be_same else "0 <="
                doubts.append(f"{least} abs(at_array_{a} - at_array_{b}) < nbytes")
        return [*lines, f"if {' or '.join(doubts)}:", "    return False"] if doubts else []

    def _loop_lines(self) -> list[str]:
        rule, axes = self._rule, range(max(self._ndim, 1))
        at = f"[{', '.join(f'i{axis}' for axis in axes)}]"
        load, store = ("load_half({})", "store_half({})") if self._half else ("{}", "{}")
        # Scalars arrive as float64 and are rounded here, once: in Numba, float32 arithmetic that
        # meets a float64 or an integer goes on in float64.
        lines = [f"{PREFIX}{name} = real(scalar_{name})" for name in rule.scalars]
        lines += ["    " * axis + f"for i{axis} in range({self._x}.shape[{axis}]):" for axis in axes]
        each = [f"{PREFIX}{name} = {load.format(f'array_{name}{at}')}" for name in rule.arrays]
        each += [f"{target} = {value}" for target, value, _ in rule.assignments]
        each += [f"array_{name}{at} = {store.format(PREFIX + name)}" for name in rule.writes]
        return lines + ["    " * len(axes) + line for line in each]

    def _compile(self, name: str, lines: Sequence[str], *, returns: Any) -> Callable[..., Any]:
        parallel = name == "parallel"
        arguments, argument_types = (*self._arrays, *self._scalars), self._types
        if parallel:
            arguments, argument_types = (
                (*arguments, "chunks", "threads"),
                (*argument_types, types.int64, types.int64),
            )
        source = "\n    ".join([f"def {name}({', '.join(arguments)}):", *lines])
        namespace = {**_FUNCTIONS, "real": self._real, "loop": self.loop if parallel else None}
        exec(compile(source, f"<gpuprop {self._rule.name} {self._real}>", "exec"), namespace)
        # Numba's default error model tests every divisor, which stops vectorisation.
        options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "no_cfunc_wrapper": True}
        return njit(returns(*argument_types), parallel=parallel, **options)(namespace[name])


@cache
def converts_half() -> bool:
    """Whether the processor that Numba compiles for has instructions for it: without, LLVM would
    call functions that are not there."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return True
    config: Any = numba.config
    if config.CPU_NAME:
        return "+f16c" in (config.CPU_FEATURES or "")
    return bool(llvmlite.binding.get_host_cpu_features().get("f16c"))


@intrinsic
def load_half(context, bits):
    """The float32 of the 16 bits of a float16."""

    def generate(context, builder, signature, args):
        return builder.fpext(builder.bitcast(args[0], ir.HalfType()), ir.FloatType())

    return types.float32(types.uint16), generate


@intrinsic
def store_half(context, value):
    """The 16 bits of a float32 rounded to float16."""

    def generate(context, builder, signature, args):
        return builder.bitcast(builder.fptrunc(args[0], ir.HalfType()), ir.IntType(16))

    return types.uint16(types.float32), generate


@intrinsic
def address(context, array):
    """Where the first element is; compiles faster than ``array.ctypes.data``."""

    def generate(context, builder, signature, args):
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        return builder.ptrtoint(data, ir.IntType(64))

    return types.int64(array), generate


@njit
def minimum(a, b):
    return a if a < b or a != a else b


@njit
def maximum(a, b):
    return a if a > b or a != a else b


@njit
def where(condition, a, b):
    return a if condition else b


#: What the generated lines may name.
_FUNCTIONS = {
    "sqrt": math.sqrt,
    "fabs": math.fabs,
    "minimum": minimum,
    "maximum": maximum,
    "where": where,
    "address": address,
    "load_half": load_half,
    "store_half": store_half,
    "prange": numba.prange,
    "get_num_threads": numba.get_num_threads,
    "set_num_threads": numba.set_num_threads,
}
