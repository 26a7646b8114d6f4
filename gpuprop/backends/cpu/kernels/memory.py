"""Where things lie, for the generated loops: in the frame of a call, and in arrays, by address."""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np import arrayobj

_WORD, _DOUBLE = ir.IntType(64), ir.DoubleType()


def _at(builder, address, kind):
    return builder.inttoptr(address, kind.as_pointer())


@intrinsic
def word(context, address):
    """The integer of 64 bits at an address."""

    def generate(context, builder, signature, args):
        return builder.load(_at(builder, args[0], _WORD))

    return types.int64(types.int64), generate


@intrinsic
def number_at(context, address):
    """The float64 at an address."""

    def generate(context, builder, signature, args):
        return builder.load(_at(builder, args[0], _DOUBLE))

    return types.float64(types.int64), generate


@intrinsic
def put(context, address, value):
    """Store an integer, or a float64, at an address."""
    kind = types.float64 if isinstance(value, types.Float) else types.int64

    def generate(context, builder, signature, args):
        builder.store(args[1], _at(builder, args[0], args[1].type))
        return context.get_dummy_value()

    return types.void(types.int64, kind), generate


@intrinsic
def array_at(context, address, kind, start, stop):
    """The array whose data, shape and strides are at an address, from `start` to `stop` of its first axis."""
    array = kind.instance_type

    def generate(context, builder, signature, args):
        place, _, start, stop = args
        words = [
            builder.load(builder.gep(_at(builder, place, _WORD), [_WORD(i)]))
            for i in range(1 + 2 * array.ndim)
        ]
        data, shape, strides = words[0], words[1 : 1 + array.ndim], words[1 + array.ndim :]
        itemsize = context.get_constant(
            types.intp, context.get_abi_sizeof(context.get_data_type(array.dtype))
        )
        if array.layout == "C":
            strides[-1] = itemsize
        value = context.make_array(array)(context, builder)
        data = builder.add(data, builder.mul(start, strides[0]))
        arrayobj.populate_array(
            value,
            data=builder.inttoptr(data, value.data.type),
            shape=[builder.sub(stop, start), *shape[1:]],
            strides=strides,
            itemsize=itemsize,
            meminfo=None,
        )
        return value._getvalue()

    return array(types.int64, kind, types.int64, types.int64), generate


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
def vector(context, place, size, kind):
    """The array of `size` elements of a kind that begin at a pointer; unlike ``carray``, it cannot fail."""
    array = types.Array(kind.dtype if isinstance(kind, types.NumberClass) else kind.instance_type, 1, "C")

    def generate(context, builder, signature, args):
        itemsize = context.get_constant(
            types.intp, context.get_abi_sizeof(context.get_data_type(array.dtype))
        )
        made = context.make_array(array)(context, builder)
        data = builder.bitcast(args[0], made.data.type)
        shape, strides = [args[1]], [itemsize]
        arrayobj.populate_array(made, data, shape, strides, itemsize, meminfo=None)
        return made._getvalue()

    return array(types.voidptr, types.intp, kind), generate


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


@intrinsic(prefer_literal=True)
def memory_on_the_stack(context, count):
    """For so many of the widest numbers, until the function returns."""

    def generate(context, builder, signature, args):
        block = ir.ArrayType(ir.IntType(8), count.literal_value * 16)
        return builder.bitcast(cgutils.alloca_once(builder, block), ir.IntType(8).as_pointer())

    return types.voidptr(count), generate


FUNCTIONS = {
    "word": word,
    "number_at": number_at,
    "put": put,
    "array_at": array_at,
    "pointer": pointer,
    "element_at": element_at,
    "put_at": put_at,
    "prefetch": prefetch,
    "memory_on_the_stack": memory_on_the_stack,
    "vector": vector,
}
