"""`Rule` to machine code for the CPU: one fused, vectorised pass, threaded, by Numba."""

from __future__ import annotations

import math
import platform
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from itertools import combinations, pairwise
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from gpuprop.arithmetic import PREFIX
from gpuprop.backends import threads
from gpuprop.backends.base import COMPUTE_DTYPE, Backend
from gpuprop.rules import Rule

#: Elements up to which one thread is used: waking a second one costs about as much as these.
SERIAL_SIZE = 32_768


class CPUBackend(Backend):
    name = "cpu"
    xp = np

    def __init__(self) -> None:
        self._kernels: dict[tuple[Rule, str, int], _Kernels] = {}
        self._entries: dict[tuple[Rule, str], Callable[..., bool]] = {}

    def describe(self) -> str:
        n = threads.get_num_threads()
        return f"{_cpu_name()}, {n} thread{'s' * (n > 1)}, Numba {numba.__version__}"

    def update(self, rule: Rule, arrays: Sequence[Any], scalars: Sequence[float]) -> None:
        try:
            if self._entries[rule, arrays[-1].dtype.char](*arrays, *scalars):
                return
        except (KeyError, TypeError, AttributeError):
            pass  # not compiled yet, or not plain arrays of that dtype: the checks below will tell
        self._check(rule, arrays)
        size, dtype = arrays[0].size, arrays[0].dtype
        if size == 0:
            return
        views, ndim = _simplest_views(arrays, arrays[len(rule.reads)])
        kernels = self._kernels.get((rule, dtype.char, ndim))
        if kernels is None:
            kernels = self._kernels[rule, dtype.char, ndim] = _Kernels(rule, dtype, ndim)
        chunks = min(threads.get_num_threads(), len(views[0]))
        if size <= SERIAL_SIZE and kernels.has_entry:
            self._entries[rule, dtype.char] = kernels.entry
            kernels.entry(*views, *scalars)
        elif size <= SERIAL_SIZE or chunks == 1:
            kernels.loop(*views, *scalars)
        elif threads.parallel_layer_is_safe():
            with threads.numba_threads(chunks):
                kernels.parallel(*views, *scalars, chunks)
        else:
            edges = [len(views[0]) * chunk // chunks for chunk in range(chunks + 1)]
            threads.run_in_pool(
                [
                    partial(kernels.loop, *(view[start:stop] for view in views), *scalars)
                    for start, stop in pairwise(edges)
                ]
            )


class _Kernels:
    """The compiled functions of one rule and dtype, for `ndim` strided axes or 0: contiguous."""

    def __init__(self, rule: Rule, dtype: np.dtype, ndim: int) -> None:
        self._rule, self._ndim, self._half = rule, ndim, dtype == np.float16
        self.has_entry = ndim == 0 and not self._half
        self._real: Any = numba.from_dtype(np.dtype(COMPUTE_DTYPE[dtype.name]))
        element: Any = types.uint16 if self._half else self._real
        layout: Any = "A" if ndim else "C"
        axes = max(ndim, 1)
        self._arguments = (*rule.arrays, *rule.scalars)
        self._types = (
            *(types.Array(element, axes, layout, readonly=name in rule.reads) for name in rule.arrays),
            *(types.float64 for _ in rule.scalars),
        )

    @cached_property
    def loop(self) -> Callable[..., None]:
        """The update of each element."""
        return self._compile("loop", self._loop_lines(), returns=types.void)

    def _loop_lines(self) -> list[str]:
        rule, axes = self._rule, range(max(self._ndim, 1))
        at = f"[{', '.join(f'i{axis}' for axis in axes)}]"
        load, store = ("load_half({})", "store_half({})") if self._half else ("{}", "{}")
        # Scalars arrive as float64 and are rounded here, once: in Numba, float32 arithmetic that
        # meets a float64 or an integer goes on in float64.
        lines = [f"{PREFIX}{name} = real({name})" for name in rule.scalars]
        lines += ["    " * axis + f"for i{axis} in range({rule.writes[0]}.shape[{axis}]):" for axis in axes]
        each = [f"{PREFIX}{name} = {load.format(name + at)}" for name in rule.arrays]
        each += [f"{target} = {value}" for target, value, _ in rule.assignments]
        each += [f"{name}{at} = {store.format(PREFIX + name)}" for name in rule.writes]
        return lines + ["    " * len(axes) + line for line in each]

    @cached_property
    def entry(self) -> Callable[..., bool]:
        """The same loop behind the checks that a small vector can afford.

        It returns False, with nothing written, for whatever it does not know to be right; the full
        checks in Python then find the words.
        """
        rule, x = self._rule, self._rule.writes[0]
        lines = [f"at_{name} = address({name})" for name in rule.arrays]
        lines += [f"nbytes = {x}.size * {x}.itemsize"]
        doubts = [f"{x}.size > {SERIAL_SIZE}"]
        doubts += [f"{name}.size != {x}.size" for name in rule.arrays if name != x]
        for a, b in combinations(rule.arrays, 2):
            if b in rule.writes:
                least = "0 <=" if a in rule.writes else "0 <"  # x and grad may be one array
                doubts.append(f"{least} abs(at_{a} - at_{b}) < nbytes")
        lines += [f"if {' or '.join(doubts)}:", "    return False", *self._loop_lines(), "return True"]
        return self._compile("entry", lines, returns=types.boolean)

    @cached_property
    def parallel(self) -> Callable[..., None]:
        """`loop` over `chunks` slices of the first axis at once."""
        rule = self._rule
        slices = [f"{name}[start:stop]" for name in rule.arrays]
        lines = [
            f"length = {rule.writes[0]}.shape[0]",
            "for chunk in prange(chunks):",
            "    start, stop = chunk * length // chunks, (chunk + 1) * length // chunks",
            f"    loop({', '.join([*slices, *rule.scalars])})",
        ]
        return self._compile("parallel", lines, returns=types.void, parallel=True)

    def _compile(
        self, name: str, lines: Sequence[str], *, returns: Any, parallel: bool = False
    ) -> Callable[..., Any]:
        extra = {"chunks": types.int64} if parallel else {}
        source = "\n    ".join([f"def {name}({', '.join([*self._arguments, *extra])}):", *lines])
        namespace = {**_FUNCTIONS, "real": self._real, "loop": self.loop if parallel else None}
        exec(compile(source, f"<gpuprop {self._rule.name} {self._real}>", "exec"), namespace)
        signature = returns(*self._types, *extra.values())
        # Numba's default error model tests every divisor, which stops vectorisation.
        options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "no_cfunc_wrapper": True}
        return njit(signature, parallel=parallel, **options)(namespace[name])


def _simplest_views(arrays: Sequence[np.ndarray], x: np.ndarray) -> tuple[list[np.ndarray], int]:
    """Views of the same elements, contiguous where they can be, and the number of strided axes."""
    if x.dtype == np.float16:  # Numba has no arithmetic in it, but can move its 16 bits
        arrays = [array.view(np.uint16) for array in arrays]
    plain = [array.view(np.ndarray) for array in arrays]
    outermost_first = sorted(range(x.ndim), key=lambda axis: -abs(x.strides[axis]))
    views = [array.transpose(outermost_first) for array in plain]
    if all(view.flags.c_contiguous for view in views):
        return [view.reshape(-1) for view in views], 0
    views = [view.squeeze() for view in views]
    return views, views[0].ndim


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
}


def _cpu_name() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()
