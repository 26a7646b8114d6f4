"""Where arrays lie, for the generated loops: addresses, elements by address, and whether arrays are apart."""

from __future__ import annotations

import numba
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np import arrayobj

from gpuprop.backends.cpu.lines import BLOCK


@intrinsic
def address(context, array):
    """Where the first element is; compiles faster than ``array.ctypes.data``."""

    def generate(context, builder, signature, args):
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        return builder.ptrtoint(data, ir.IntType(64))

    return types.int64(array), generate


@njit
def are_apart(addresses, sizes, itemsizes, alignment, reads):
    """Whether contiguous arrays, of which the first `reads` are only read, are known to be right.

    They are of one size, aligned, and apart; but the first that is written may be the very first.
    """
    for i in range(len(addresses)):
        if sizes[i] != sizes[reads] or addresses[i] % alignment != 0:
            return False
        for j in range(max(i + 1, reads), len(addresses)):
            may_be_same = i == 0 and j == reads
            distance = addresses[j] - addresses[i]
            is_apart = distance >= sizes[i] * itemsizes[i] or -distance >= sizes[j] * itemsizes[j]
            if not is_apart and not (may_be_same and distance == 0):
                return False
    return True


def _place(context, builder, signature, args):
    """Of the element that many bytes behind the first."""
    data = context.make_array(signature.args[0])(context, builder, args[0]).data
    as_bytes = builder.bitcast(data, ir.IntType(8).as_pointer())
    return builder.bitcast(builder.gep(as_bytes, [args[1]]), data.type)


@intrinsic
def pointer(context, array, offset):
    """To what is `offset` bytes behind the first element."""

    def generate(context, builder, *signature_and_args):
        place = _place(context, builder, *signature_and_args)
        return builder.bitcast(place, ir.IntType(8).as_pointer())

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


@intrinsic
def prefetch(context, array, offset):
    """Have the cache line there fetched, while others are worked on."""

    def generate(context, builder, signature, args):
        place = _place(context, builder, signature, args)
        byte, word = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte, word, word, word])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
        builder.call(function, [builder.bitcast(place, byte), word(1), word(3), word(1)])
        return context.get_dummy_value()

    return types.void(array, types.int64), generate


@intrinsic
def memory_on_the_stack(context):
    """For a block of the widest numbers, until the function returns."""

    def generate(context, builder, signature, args):
        block = ir.ArrayType(ir.IntType(8), BLOCK * 16)
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
def spans_are_apart(spans, reads, alignment):
    """Whether strided arrays, of which the first `reads` are only read, are known to share no memory."""
    for i in range(len(spans)):
        if spans[i][0] % alignment != 0:
            return False
        for j in range(max(i + 1, reads), len(spans)):
            if spans[i][0] < spans[j][1] and spans[j][0] < spans[i][1]:
                return False
    return True


FUNCTIONS = {
    "address": address,
    "are_apart": are_apart,
    "span": span,
    "spans_are_apart": spans_are_apart,
    "pointer": pointer,
    "element_at": element_at,
    "put_at": put_at,
    "prefetch": prefetch,
    "memory_on_the_stack": memory_on_the_stack,
    "carray": numba.carray,
}
