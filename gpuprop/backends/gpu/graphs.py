"""Steps in a CUDA graph, each replay of which is the next step: counted on the device, and by scalars there.

A kernel of a graph has the numbers that it was captured with. Those that change from step to step are
therefore read from a table of the next `STEPS` steps, made on the host by what eager steps use: one kernel
fetches those of the step that is due, and the one that writes x counts it. Past the table nothing is written.

What is made for a graph is made while a stream captures, and must not become part of that: a stream aside
does it, in a mode in which memory can be asked for.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import Any, Literal, NamedTuple

import numpy as np

from gpuprop.backends.gpu.kernels.elementwise import COMPILER_OPTIONS

#: How many steps a table has.
STEPS = 2**16
#: A kernel that counts its launches on the device; and one that does nothing where no scalars are known.
Counting = Literal["counts", "is stopped"]
#: What a clock on the device has: steps done, the number of a table that has come to its end, and whether
#: the scalars of the step that is due are known.
DONE, ENDED, GOES = 0, 1, 2

TICK = """
extern "C" __global__ void gpuprop_tick(unsigned long long *clock, long long steps) { *clock += steps; }
"""


class Table(NamedTuple):
    """Scalars of steps from the one after `start` others on."""

    key: Any
    start: int
    rows: Any
    now: Any
    #: The scalars of the step that is due, an array each.
    scalars: list[Any]
    #: Why there are no more, where that is not their number.
    error: Exception | None


class DeviceClock:
    """The clock of a state that has been captured, in place of two numbers on the host.

    To ask waits for the device. It lives as long as its state, and so do the arrays that graphs read.
    """

    def __init__(self, x: Any, steps: int, captures: Callable[[], bool]) -> None:
        import cupy

        self._device, self._synchronize = x.device, cupy.cuda.runtime.deviceSynchronize
        self._captures = captures
        self.cells = cupy.asarray(np.array([steps, 0, 1], np.uint64))
        self._known = np.array([steps, steps])
        self._tables: list[Table] = []
        self._kept: list[Any] = []
        function = cupy.RawKernel(TICK, "gpuprop_tick", options=COMPILER_OPTIONS).kernel
        self._add = partial(function, (1,), (1,))
        #: Counts a step that another kernel has made.
        self.tick = self.counting(1)

    def counting(self, steps: int) -> partial[Any]:
        """What counts so many steps that another kernel has made."""
        return partial(self._add, (self.cells, steps))

    def item(self, place: int) -> int:
        """Steps begun or done; what is being captured meanwhile is none.

        Raises
        ------
        RuntimeError
            Replays since the last time have found no scalars.
        """
        with self._device:
            if not self._captures():
                self._synchronize()
                self._take(self.cells.get())
        return self._known.item(place)

    def tolist(self) -> list[int]:
        return [self.item(1)] * 2

    def __getitem__(self, place: int) -> int:
        return self._known.item(place)

    def __setitem__(self, place: Any, steps: int) -> None:
        self._known[place] = steps
        if place != 0:  # or it is only begun
            with self._device:
                self._synchronize()
                self.cells[DONE] = steps
                self._synchronize()

    def _take(self, cells: np.ndarray) -> None:
        self._known[:] = cells[DONE]
        if cells[ENDED]:
            table = self._tables[int(cells[ENDED]) - 1]
            self.cells[ENDED] = 0
            raise RuntimeError(
                f"a CUDA graph was replayed outside of steps {table.start + 1} to "
                f"{table.start + len(table.rows)}, for which its scalars were computed when it was captured; "
                f"since then nothing has been updated, and {self._known[1]} steps are done: capture it anew"
            ) from table.error

    def table(self, key: Any, dtype: Any, make: Callable[[int, int], tuple[list[Any], Any]]) -> Table:
        """That of `key`, with the scalars of `dtype` that `make` gives for steps from one on; made aside."""
        import cupy

        start = int(self.cells.get()[DONE])  # or more, if replays are under way
        for table in self._tables:
            left = len(table.rows) - (start - table.start)
            if table.key == key and (start == table.start or STEPS // 2 <= left <= STEPS):
                return table
        numbers, error = make(start, STEPS)
        with np.errstate(all="ignore"):  # what float32 cannot hold is infinite, or 0
            rows = cupy.asarray(np.array(numbers, np.float64).astype(dtype))
        now = cupy.zeros(rows.shape[1], dtype)
        scalars = [now[i : i + 1] for i in range(now.size)]
        self._tables.append(Table(key, start, rows, now, scalars, error))
        return self._tables[-1]

    def recording(self, table: Table | None, rows: Any) -> Recording:
        """What stands for this clock in a step that is captured, with scalars of `table`."""
        if rows is not None:
            self._kept.append(rows)
        if table is not None:
            number = self._tables.index(table) + 1
            with unrestricted():
                fetch_kernel(table.rows.dtype.name)(
                    table.rows, table.start, len(table.rows), number, table.now, self.cells
                )
        counting: Counting = "counts" if table is None else "is stopped"
        return Recording(self.cells, counting, self.tick, self._kept)


class Recording(NamedTuple):
    """The clock of a step that is captured."""

    cells: Any
    counting: Counting
    tick: Callable[[], None]
    #: Arrays that live as long as the state.
    kept: list[Any]

    def item(self, place: int) -> Any:
        """Steps done, on the device."""
        return self.cells


@cache
def fetch_kernel(dtype: str) -> Any:
    """(table, its start, its length, its number) to the scalars of the step that is due, if it has them."""
    import cupy

    return cupy.ElementwiseKernel(
        f"raw {dtype} table, int64 start, int64 length, uint64 number",
        f"{dtype} now, raw uint64 clock",
        f"""
        const ptrdiff_t row = (ptrdiff_t)clock[{DONE}] - start;
        const bool goes = row >= 0 && row < length;
        if (goes) now = table[row * _ind.size() + i];
        if (i == 0) {{
            clock[{GOES}] = goes;
            if (!goes) clock[{ENDED}] = number;
        }}
        """,
        f"gpuprop_fetch_{dtype}",
        no_return=True,
        options=COMPILER_OPTIONS,
    )


@contextmanager
def aside() -> Iterator[None]:
    """Makes a stream current which has nothing to do with a capture, and waits for it at last."""
    import cupy

    stream = _stream_aside(cupy.cuda.runtime.getDevice())
    before = cupy.cuda.get_current_stream()
    with unrestricted():
        stream.use()  # by `with` it would end in another stream than began, where that was made current so
        try:
            yield
            stream.synchronize()
        finally:
            before.use()


@cache
def _stream_aside(device: int) -> Any:
    import cupy

    return cupy.cuda.Stream(non_blocking=True)


@contextmanager
def unrestricted() -> Iterator[None]:
    """Lets this thread ask for memory and load kernels while a stream captures, whatever mode began that.

    CuPy begins captures so by default; other libraries, and CUDA itself, do not.
    """
    exchange, mode = _exchange_mode(), ctypes.c_int(2)  # CU_STREAM_CAPTURE_MODE_RELAXED
    exchange(ctypes.byref(mode))
    try:
        yield
    finally:
        exchange(ctypes.byref(mode))


@cache
def _exchange_mode() -> Callable[[Any], int]:
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
        return driver.cuThreadExchangeStreamCaptureMode
    except (OSError, AttributeError):
        return lambda mode: 0
