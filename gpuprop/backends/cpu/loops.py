"""`Rule` to kernels: the loop over elements, and in how many parts and on how many threads it runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, cached_property, partial
from typing import Any

import numpy as np

from gpuprop.backends.base import Mode
from gpuprop.backends.checks import compute_dtype
from gpuprop.backends.cpu.kernels.kernel import Array, Function, Kernel, function_of
from gpuprop.backends.cpu.lines import VECTOR, Layout, element_lines, form_of, strided_lines
from gpuprop.backends.cpu.pool import SERIAL_BYTES, chunks_for, prepare, run_in_chunks
from gpuprop.rules import Rule

#: Rows that lie anywhere take their time to come: so many times their bytes.
ROWS_COUNT = 8
#: Elements of which a loop can count all in 32 bits.
MOST_COUNTED = 2**30


class Loops:
    """The kernel of one rule and (real) dtype, for arrays of one layout.

    It advances the clock, an array of two numbers, before and after it writes: a call is all or nothing to
    whatever interrupts. That of a `mode` that counts adds to one number more.
    """

    def __init__(self, rule: Rule, dtype: np.dtype, mode: Mode, layout: Layout = VECTOR) -> None:
        #: Of the arrays that it is given.
        self.given = np.dtype(f"c{2 * dtype.itemsize}") if layout.is_complex else dtype
        self._rule, self._layout, self._mode, self._part_dtype = rule, layout, mode, dtype
        # Complex numbers, where their parts go together, are elements to the loops; else, pairs of reals.
        self._couples = layout.is_complex and rule.couples
        self._is_pairs = layout.is_complex and not layout.axes and not self._couples

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
        nbytes = arrays[0].nbytes
        if rows is not None:
            scalars, nbytes = (*scalars, rows), ROWS_COUNT * nbytes
        checked = checked and self._layout.axes > 0
        if nbytes <= SERIAL_BYTES:
            if checked:
                return self.kernel(*arrays, *scalars, clock, True, 0, 1, 0)
            return self.kernel(*arrays, *scalars, clock)
        length = len(arrays[0]) * (2 if self._is_pairs else 1)
        chunks, workers = chunks_for(nbytes, length)
        if self._mode != "plain":
            chunks = max(chunks, -(-length // MOST_COUNTED))
        call = partial(self.kernel, *arrays, *scalars, clock)
        return run_in_chunks(call, checked, chunks, workers, clock)

    def compile(self, nbytes: int) -> None:
        """Have ready what `run` needs for arrays of so many bytes."""
        _ = self.kernel
        if nbytes > SERIAL_BYTES:
            prepare()

    @cached_property
    def kernel(self) -> Callable[..., bool]:
        return function_of(self.source)

    @cached_property
    def source(self) -> Kernel:
        """The kernel as lines."""
        rule, layout = self._rule, self._layout
        goes_by_vectors = bool(layout.axes) and not layout.one_by_one
        real = str(compute_dtype(self._part_dtype))
        item = "uint16" if self._part_dtype.itemsize == 2 else self.given.name
        # Every name of the rule gets a prefix, so that none can meet a name of these lines.
        arrays = tuple(
            (f"array_{n}", Array(real if self._couples and n in rule.reals else item, max(layout.axes, 1),
                                 not layout.axes, n in rule.reads))
            for n in rule.arrays
        )  # fmt: skip
        numbers = Array("int64")
        more: dict[str, Any] = {f"scalar_{name}": "float64" for name in rule.scalars}
        more |= {} if self._mode == "plain" else {"counter": numbers}
        more |= {"rows": Array("int64", is_read=True)} if layout.is_gathered else {}
        functions: tuple[Function, ...] = ()
        if goes_by_vectors:
            names = [name for name, _ in arrays]
            lines = tuple(strided_lines(rule, self._mode, layout, [*names, *more]))
            given = [name for name in (*names, *more) if name != "rows"]
            functions = (Function("row_loop", tuple(given), self._vector_lines(returns=True)),)
        else:
            lines = self._vector_lines(returns=False)
        if self._mode != "plain":
            lines = (*lines, "advance(counter, 0, count)")
        parted = [name for name, _ in arrays]
        return Kernel(
            rule.name,
            (*arrays, *more.items(), ("clock", numbers)),
            lines,
            apart=len(arrays),
            reads=len(rule.reads),
            # Of gathered arrays, `rows` says what is taken.
            parted=(parted[0], "rows") if layout.is_gathered else tuple(parted),
            pairs=self._is_pairs,
            real=real,
            # Vectorised, to count takes a number as wide as those of the computation.
            whole="int32" if real == "float32" and not layout.one_by_one else "int64",
            item=item,
            functions=functions,
        )

    def _vector_lines(self, returns: bool) -> tuple[str, ...]:
        by_vectors = returns or self._is_pairs
        layout = Layout(is_complex=self._couples) if by_vectors else self._layout
        lines = element_lines(self._rule, self._mode, form_of(self._part_dtype), layout)
        return (*lines, "return count") if returns and self._mode != "plain" else tuple(lines)


@cache
def loops(rule: Rule, dtype: np.dtype, mode: Mode, layout: Layout = VECTOR) -> Loops:
    """The same object for the same arguments, so that nothing is compiled twice."""
    return Loops(rule, dtype, mode, layout)
