"""What kernels find in the frame of a call: words, and the arrays that they describe."""

from __future__ import annotations

from llvmlite import ir
from numba import types
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
