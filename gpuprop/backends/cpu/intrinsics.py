"""What the generated loops call: conversions of 16-bit floats, and the functions of a rule's body."""

from __future__ import annotations

import math
import platform
from functools import cache
from typing import Any

import llvmlite.binding
import numba
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np import arrayobj


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
def load_brain(context, bits):
    """The float32 of the 16 bits of a bfloat16: its upper half."""

    def generate(context, builder, signature, args):
        wide = builder.zext(args[0], ir.IntType(32))
        return builder.bitcast(builder.shl(wide, ir.IntType(32)(16)), ir.FloatType())

    return types.float32(types.uint16), generate


@intrinsic
def store_brain(context, value):
    """The 16 bits of a float32 rounded to bfloat16, to nearest and ties to even."""

    def generate(context, builder, signature, args):
        number = ir.IntType(32)
        bits = builder.bitcast(args[0], number)
        # Adding just under half of the last place that stays carries into it where it must.
        odd = builder.and_(builder.lshr(bits, number(16)), number(1))
        rounded = builder.add(bits, builder.add(odd, number(0x7FFF)))
        quiet = builder.or_(bits, number(0x400000))  # a NaN must not be carried into an infinity
        chosen = builder.select(builder.fcmp_unordered("uno", args[0], args[0]), quiet, rounded)
        return builder.trunc(builder.lshr(chosen, number(16)), ir.IntType(16))

    return types.uint16(types.float32), generate


@intrinsic
def address(context, array):
    """Where the first element is; compiles faster than ``array.ctypes.data``."""

    def generate(context, builder, signature, args):
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        return builder.ptrtoint(data, ir.IntType(64))

    return types.int64(array), generate


@intrinsic
def advance(context, numbers, place, by):
    """Add to one of an array of integers, at once and in order with all other memory."""

    def generate(context, builder, signature, args):
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        return builder.atomic_rmw("add", builder.gep(data, [args[1]]), args[2], "seq_cst")

    return types.int64(numbers, types.int64, types.int64), generate


@intrinsic
def load(context, numbers):
    """The first of an array of integers, as other threads have left it."""

    def generate(context, builder, signature, args):
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        return builder.load_atomic(data, "acquire", 8)

    return types.int64(numbers), generate


@njit
def are_apart(addresses, sizes, itemsize, reads):
    """Whether contiguous arrays, of which the first `reads` are only read, are known to be right.

    They are of one size, aligned, and apart; but the first that is written may be the very first.
    """
    nbytes = sizes[reads] * itemsize
    for i in range(len(addresses)):
        if sizes[i] != sizes[reads] or addresses[i] % itemsize != 0:
            return False
        for j in range(max(i + 1, reads), len(addresses)):
            may_be_same = i == 0 and j == reads
            distance = abs(addresses[i] - addresses[j])
            if distance < nbytes and not (may_be_same and distance == 0):
                return False
    return True


@intrinsic
def pointer(context, array, offset):
    """To what is `offset` bytes behind the first element."""

    def generate(context, builder, signature, args):
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        return builder.gep(builder.bitcast(data, ir.IntType(8).as_pointer()), [args[1]])

    return types.voidptr(array, types.int64), generate


@intrinsic
def element_at(context, array, offset):
    """The element `offset` bytes behind the first: a slice, or an index of several, takes long to compile."""

    def generate(context, builder, signature, args):
        place = _place(context, builder, signature, args)
        return arrayobj.load_item(context, builder, signature.args[0], place)

    return array.dtype(array, types.int64), generate


@intrinsic
def put_at(context, array, offset, value):
    """Store an element there."""

    def generate(context, builder, signature, args):
        place = _place(context, builder, signature, args)
        arrayobj.store_item(context, builder, signature.args[0], args[2], place)
        return context.get_dummy_value()

    return types.void(array, types.int64, array.dtype), generate


def _place(context, builder, signature, args):
    data = context.make_array(signature.args[0])(context, builder, args[0]).data
    bytes_ = builder.bitcast(data, ir.IntType(8).as_pointer())
    return builder.bitcast(builder.gep(bytes_, [args[1]]), data.type)


@intrinsic
def memory_on_the_stack(context):
    """For a block of the widest numbers, until the function returns."""

    def generate(context, builder, signature, args):
        block = ir.ArrayType(ir.IntType(8), 64 * 16)
        return builder.bitcast(cgutils.alloca_once(builder, block), ir.IntType(8).as_pointer())

    return types.voidptr(), generate


@njit
def span(array):
    """The address of the first byte, and that behind the last, for strides of any sign."""
    low = address(array)  # type: ignore
    high = low + array.itemsize
    for axis in range(array.ndim):
        reach = (array.shape[axis] - 1) * array.strides[axis]
        if reach < 0:
            low += reach
        else:
            high += reach
    return low, high


@njit
def spans_are_apart(spans, reads, itemsize):
    """Whether strided arrays, of which the first `reads` are only read, are known to share no memory."""
    for i in range(len(spans)):
        if spans[i][0] % itemsize != 0:
            return False
        for j in range(max(i + 1, reads), len(spans)):
            if spans[i][0] < spans[j][1] and spans[j][0] < spans[i][1]:
                return False
    return True


@njit
def minimum(a, b):
    return a if a < b or a != a else b


@njit
def maximum(a, b):
    return a if a > b or a != a else b


@njit
def where(condition, a, b):
    return a if condition else b


as_it_is = njit(lambda value: value)
from_half = njit(lambda bits: load_half(bits))  # type: ignore[call-arg]
from_brain = njit(lambda bits: load_brain(bits))  # type: ignore[call-arg]

#: What the generated lines may name.
FUNCTIONS = {
    "sqrt": math.sqrt,
    "fabs": math.fabs,
    "minimum": minimum,
    "maximum": maximum,
    "where": where,
    "advance": advance,
    "address": address,
    "are_apart": are_apart,
    "span": span,
    "spans_are_apart": spans_are_apart,
    "pointer": pointer,
    "memory_on_the_stack": memory_on_the_stack,
    "element_at": element_at,
    "put_at": put_at,
    "carray": numba.carray,
    "load_half": load_half,
    "store_half": store_half,
    "load_brain": load_brain,
    "store_brain": store_brain,
    "prange": numba.prange,
    "get_num_threads": numba.get_num_threads,
    "set_num_threads": numba.set_num_threads,
}
