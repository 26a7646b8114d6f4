"""What the generated loops call: conversions of 16-bit floats, and the functions of a rule's body."""

from __future__ import annotations

import math

from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from gpuprop.backends.cpu.kernels import memory


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
def minimum(a, b):
    return a if a < b or a != a else b


@njit
def maximum(a, b):
    return a if a > b or a != a else b


@njit
def where(condition, a, b):
    return a if condition else b


@njit
def square(a):
    return a * a


#: What the generated lines may name, of these and of ``memory.py``.
FUNCTIONS = memory.FUNCTIONS | {
    "sqrt": math.sqrt,
    "fabs": math.fabs,
    "isfinite": math.isfinite,
    "float64": types.float64,
    "int64": types.int64,
    "uint64": types.uint64,
    "minimum": minimum,
    "maximum": maximum,
    "where": where,
    "square": square,
    "complex": complex,
    "advance": advance,
    "load": load,
    "load_half": load_half,
    "store_half": store_half,
    "load_brain": load_brain,
    "store_brain": store_brain,
}
