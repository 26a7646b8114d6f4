"""What a call of a kernel does: from Python's objects to a frame of words, the checks, and the threads.

One function for all kernels, so that it is compiled once and a kernel is its loop alone. It is written in
LLVM's instructions, which are compiled in a thirtieth of the time that Numba takes for the same in Python.
Offsets in objects are those that NumPy's and CPython's headers build into every compiled extension.
"""

from __future__ import annotations

import sys
from typing import Any

from llvmlite import ir
from numba.core import cgutils

from gpuprop.backends.cpu.kernels.kernel import ABOUT, BEGIN, EACH, FRAME, NUMBER, PLACES, WHOLE_NUMBER

WORD, INT, BYTE, BOOL, DOUBLE = (*map(ir.IntType, (64, 32, 8, 1)), ir.DoubleType())
WORDS = WORD.as_pointer()
TYPE, DATA, NDIM, SHAPE, STRIDES, DTYPE, FLAGS, KIND, ITEMSIZE = PLACES
#: What a dtype that names its byte order says where that is this machine's; others say "=".
OWN_ORDER = "<" if sys.byteorder == "little" else ">"


class Lines(ir.IRBuilder):
    """Instructions with words for numbers."""

    def word(self, pointer: Any, index: Any, kind: Any = WORD) -> Any:
        """What is so many words behind an address."""
        place = self.gep(pointer, [index if isinstance(index, ir.Value) else WORD(index)])
        return self.load(place if kind is WORD else self.bitcast(place, kind.as_pointer()))

    def number(self, pointer: Any, index: Any) -> Any:
        """The same of an integer of 32 bits."""
        return self.sext(self.word(pointer, index, INT), WORD)

    def put(self, pointer: Any, index: Any, value: Any) -> None:
        place = self.gep(pointer, [index if isinstance(index, ir.Value) else WORD(index)])
        self.store(value, self.bitcast(place, value.type.as_pointer()))

    def address(self, value: Any) -> Any:
        return self.inttoptr(value, WORDS)

    def call_c(self, name: str, returns: Any, *given: Any) -> Any:
        kind = ir.FunctionType(returns, [value.type for value in given])
        return self.call(cgutils.get_or_insert_function(self.module, kind, name), given)

    def call_at(self, address: Any, returns: Any, *given: Any) -> Any:
        kind = ir.FunctionType(returns, [value.type for value in given])
        return self.call(self.inttoptr(address, kind.as_pointer()), given)

    def run(self, kernel: Any, frame: Any, chunk: Any, chunks: Any) -> None:
        """Call a kernel as Numba calls its functions; it has no way to fail."""
        returned, raised = (cgutils.alloca_once(self, kind) for kind in (WORD, BYTE.as_pointer()))
        self.call_at(kernel, INT, returned, raised, self.ptrtoint(frame, WORD), chunk, chunks)

    def is_(self, value: Any, other: Any) -> Any:
        return self.icmp_signed("==", value, other if isinstance(other, ir.Value) else value.type(other))

    def leave_if(self, condition: Any, block: Any) -> None:
        with self.if_then(condition):
            self.branch(block)

    def refuse(self, condition: Any, answer: int | None = 0) -> None:
        """Return `answer` where a condition holds."""
        with self.if_then(condition, likely=False):
            self.ret(self.function.function_type.return_type(answer))


def define(module: ir.Module, name: str, returns: Any, *kinds: Any, inner: bool = True) -> tuple[Any, ...]:
    function = ir.Function(module, ir.FunctionType(returns, kinds), name)
    if inner:
        function.linkage = "internal"
    return function, Lines(function.append_basic_block()), *function.args


def write(module: ir.Module, name: str, do: Any) -> None:
    """Define a ``_PyCFunctionFast``, whose self is an array of integers as `kernel.py` makes it.

    The function `do` is as `team.py` defines it, or None.
    """
    unpack, are_apart, answer = (each(module) for each in (_unpack, _are_apart, _answer))
    _, b, self, args, given = define(module, name, WORDS, WORDS, WORDS, WORD, inner=False)
    about = b.address(b.word(self, DATA))
    count = b.word(about, 6)
    options = [cgutils.alloca_once_value(b, WORD(default)) for default in (0, 0, 1, 0)]
    has_options = b.is_(given, b.add(count, WORD(4)))
    with b.if_then(has_options):
        for i, option in enumerate(options):
            thing = b.address(b.word(args, b.add(count, WORD(i))))
            b.store(b.call_c("PyLong_AsLongLong", WORD, thing), option)
        b.refuse(b.not_(b.is_(b.ptrtoint(b.call_c("PyErr_Occurred", WORDS), WORD), 0)), None)
    with b.if_then(b.not_(b.or_(has_options, b.is_(given, count))), likely=False):
        b.call_c("PyErr_BadArgument", INT)
        b.ret(WORDS(None))
    checked, first, chunks, threads = map(b.load, options)
    in_team = b.icmp_signed(">", threads, WORD(0))
    if do is None:
        with b.if_then(in_team, likely=False):
            b.call_c("PyErr_BadArgument", INT)  # there is no team here
            b.ret(WORDS(None))
    frame = b.gep(b.alloca(ir.ArrayType(WORD, FRAME)), [WORD(0), WORD(0)])
    filled = b.call(unpack, (about, frame, args))
    b.refuse(b.icmp_signed("<", filled, WORD(0)), None)
    right = cgutils.alloca_once_value(b, b.is_(filled, 1))
    with b.if_then(b.load(right)):
        thread_state = b.call_c("PyEval_SaveThread", WORDS)
        with b.if_then(b.is_(checked, 0)):
            b.store(b.call(are_apart, (about, frame)), right)
        with b.if_then(b.and_(b.load(right), b.icmp_signed(">", chunks, WORD(0)))):
            place = b.word(about, 11)
            has_clock = b.and_(b.icmp_signed(">=", place, WORD(0)), b.or_(in_team, b.is_(chunks, 1)))
            clock = b.address(
                b.select(has_clock, b.word(frame, b.select(has_clock, place, WORD(0))), WORD(0))
            )
            steps = b.word(about, 14)
            has_steps = b.icmp_signed(">=", steps, WORD(0))
            counted = b.word(frame, b.select(has_steps, steps, WORD(0)))
            steps = b.select(has_steps, counted, WORD(1))
            with b.if_then(has_clock):
                b.atomic_rmw("add", clock, steps, "seq_cst")
            with b.if_else(in_team) as (on_threads, alone):
                with on_threads:
                    b.put(frame, 0, b.word(about, 0))
                    b.put(frame, 1, chunks)
                    if do:
                        b.call(do, (b.address(b.word(about, 1)), frame, threads))
                with alone:
                    b.run(b.word(about, 0), frame, first, chunks)
            with b.if_then(has_clock):
                b.atomic_rmw("add", b.gep(clock, [WORD(1)]), steps, "seq_cst")
        b.call_c("PyEval_RestoreThread", ir.VoidType(), thread_state)
    b.ret(b.call(answer, (about, frame, b.load(right))))


def _unpack(module: ir.Module) -> Any:
    """Fill the frame: 1 where it is, 0 where an array is another than said, -1 with an error set."""
    function, b, about, frame, args = define(module, "unpack", WORD, WORDS, WORDS, WORDS)
    at = cgutils.alloca_once_value(b, b.gep(frame, [WORD(BEGIN)]))

    def advance(words: Any) -> None:
        b.store(b.gep(b.load(at), [words]), at)

    with cgutils.for_range(b, b.word(about, 6)) as loop:
        thing = b.address(b.word(args, loop.index))
        each = b.gep(about, [b.add(WORD(ABOUT), b.mul(loop.index, WORD(EACH)))])
        kind, to = b.word(each, 0), b.load(at)
        with b.if_else(b.icmp_signed("<", kind, WORD(0))) as (is_number, is_array):
            with is_number:
                for code, name, of in (
                    (NUMBER, "PyFloat_AsDouble", DOUBLE), (WHOLE_NUMBER, "PyLong_AsLongLong", WORD)
                ):  # fmt: skip
                    with b.if_then(b.is_(kind, code)):
                        value = b.call_c(name, of, thing)
                        b.put(to, 0, value)
                        minus = b.fcmp_ordered("==", value, of(-1.0)) if of is DOUBLE else b.is_(value, -1)
                        with b.if_then(minus, likely=False):
                            error = b.ptrtoint(b.call_c("PyErr_Occurred", WORDS), WORD)
                            b.refuse(b.not_(b.is_(error, 0)), -1)
                advance(WORD(1))
            with is_array:
                b.refuse(b.not_(b.is_(b.word(thing, TYPE), b.word(about, 3))))
                ndim, flags, itemsize = (b.word(each, i) for i in (1, 2, 3))
                b.refuse(b.not_(b.is_(b.number(thing, NDIM), ndim)))
                b.refuse(b.not_(b.is_(b.and_(b.number(thing, FLAGS), flags), flags)))
                dtype = b.address(b.word(thing, DTYPE))
                letters = b.bitcast(b.gep(dtype, [WORD(KIND)]), BYTE.as_pointer())
                letter, order = b.load(letters), b.load(b.gep(letters, [WORD(2)]))
                b.refuse(b.not_(b.is_(b.zext(letter, WORD), kind)))
                is_native = b.or_(b.is_(order, ord("=")), b.is_(order, ord(OWN_ORDER)))
                b.refuse(b.not_(is_native))
                b.refuse(b.not_(b.is_(b.word(dtype, ITEMSIZE), itemsize)))
                b.put(to, 0, b.word(thing, DATA))
                sizes, strides = b.address(b.word(thing, SHAPE)), b.address(b.word(thing, STRIDES))
                with cgutils.for_range(b, ndim) as axes:
                    place = b.add(axes.index, WORD(1))
                    b.put(to, place, b.word(sizes, axes.index))
                    b.put(to, b.add(place, ndim), b.word(strides, axes.index))
                advance(b.add(WORD(1), b.add(ndim, ndim)))
    b.ret(WORD(1))
    return function


def _are_apart(module: ir.Module) -> Any:
    """Whether the arrays that must be are aligned, and share no memory, for strides of any sign."""
    function, b, about, frame = define(module, "are_apart", BOOL, WORDS, WORDS)
    count, reads, alignment, contiguous = (b.word(about, i) for i in (7, 8, 9, 10))
    contiguous = b.is_(contiguous, 1)
    low, high = (b.gep(b.alloca(ir.ArrayType(WORD, FRAME // 3)), [WORD(0), WORD(0)]) for _ in range(2))
    at = cgutils.alloca_once_value(b, b.gep(frame, [WORD(BEGIN)]))
    size = b.word(frame, BEGIN + 1)
    with cgutils.for_range(b, count) as loop:
        each = b.gep(about, [b.add(WORD(ABOUT), b.mul(loop.index, WORD(EACH)))])
        ndim, itemsize, array = b.word(each, 1), b.word(each, 3), b.load(at)
        first = b.word(array, 0)
        b.refuse(b.not_(b.is_(b.and_(first, b.sub(alignment, WORD(1))), 0)))
        b.refuse(b.and_(contiguous, b.not_(b.is_(b.word(array, 1), size))))
        ends = [cgutils.alloca_once_value(b, end) for end in (first, b.add(first, itemsize))]
        with cgutils.for_range(b, ndim) as axes:
            place = b.add(axes.index, WORD(1))
            reach = b.mul(b.sub(b.word(array, place), WORD(1)), b.word(array, b.add(place, ndim)))
            is_back = b.icmp_signed("<", reach, WORD(0))
            for end, here in zip(ends, (is_back, b.not_(is_back)), strict=True):
                b.store(b.add(b.load(end), b.select(here, reach, WORD(0))), end)
        b.put(low, loop.index, b.select(contiguous, first, b.load(ends[0])))
        behind = b.add(first, b.mul(size, itemsize))  # also of none
        b.put(high, loop.index, b.select(contiguous, behind, b.load(ends[1])))
        b.store(b.gep(array, [b.add(WORD(1), b.add(ndim, ndim))]), at)
    with cgutils.for_range(b, count) as outer:
        i = outer.index
        after = b.add(i, WORD(1))
        start = b.select(b.icmp_signed(">", after, reads), after, reads)
        with cgutils.for_range_slice(b, start, count, WORD(1)) as (j, _):
            meet = b.and_(
                b.icmp_signed("<", b.word(low, i), b.word(high, j)),
                b.icmp_signed("<", b.word(low, j), b.word(high, i)),
            )
            # The first that is written may be the very first.
            same = b.and_(b.is_(b.word(low, i), b.word(low, j)), b.and_(b.is_(i, 0), b.is_(j, reads)))
            b.refuse(b.and_(meet, b.not_(b.and_(contiguous, same))))
    b.ret(BOOL(1))
    return function


def _answer(module: ir.Module) -> Any:
    """A new reference to False or True, or to a tuple of the results."""
    function, b, about, frame, right = define(module, "answer", WORDS, WORDS, WORDS, BOOL)
    count = b.word(about, 12)
    with b.if_then(b.or_(b.not_(right), b.is_(count, 0))):
        answer = b.address(b.select(right, b.word(about, 5), b.word(about, 4)))
        b.call_c("Py_IncRef", ir.VoidType(), answer)
        b.ret(answer)
    values = b.call_c("PyTuple_New", WORDS, count)
    with cgutils.for_range(b, count) as loop:
        value = b.word(frame, b.add(b.word(about, 13), loop.index), DOUBLE)
        item = b.call_c("PyFloat_FromDouble", WORDS, value)
        b.call_c("PyTuple_SetItem", INT, values, loop.index, item)
    b.ret(values)
    return function
