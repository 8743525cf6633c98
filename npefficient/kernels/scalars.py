"""Single numbers in memory, for Numba code: addresses in bytes."""
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from .layout import FLOAT

DOUBLE = 8  # bytes of a float64


def _loader(size, kind, number):
    """A function from an address to the number there."""

    @intrinsic
    def load(typing_context, address):
        def generate(context, builder, signature, arguments):
            return builder.load(builder.inttoptr(arguments[0], number.as_pointer()), align=size)

        return kind(types.int64), generate

    return load


load_float = _loader(FLOAT, types.float32, ir.FloatType())
load_double = _loader(DOUBLE, types.float64, ir.DoubleType())


@intrinsic
def square_root(typing_context, value):
    """Of a float64, by the processor: for `math.sqrt`, some versions of Numba call a C library."""

    def generate(context, builder, signature, arguments):
        return builder.call(builder.module.declare_intrinsic("llvm.sqrt", [ir.DoubleType()]), arguments)

    return types.float64(types.float64), generate


@intrinsic
def store_double(typing_context, value, address):
    def generate(context, builder, signature, arguments):
        pointer = builder.inttoptr(arguments[1], ir.DoubleType().as_pointer())
        builder.store(arguments[0], pointer, align=DOUBLE)
        return context.get_dummy_value()

    return types.void(types.float64, types.int64), generate


@intrinsic
def store_float(typing_context, value, address):
    """Store a float64, rounded to float32."""

    def generate(context, builder, signature, arguments):
        rounded = builder.fptrunc(arguments[0], ir.FloatType())
        builder.store(rounded, builder.inttoptr(arguments[1], ir.FloatType().as_pointer()), align=FLOAT)
        return context.get_dummy_value()

    return types.void(types.float64, types.int64), generate
