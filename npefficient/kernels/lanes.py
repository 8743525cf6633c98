"""A small tracing layer: a kernel is a Python function over vectors, and running it once writes its machine code.

A kernel takes a `Trace`, then addresses and counts. Its Python loops unroll while it is traced; `Trace.loop` becomes a
loop in the machine code. So a tile of accumulators is a Python list, and its code reads like its formula:

    def scale(t, x, factor, out, vectors):              # out = x * factor, eight floats at a time
        def step(i):
            t.store(t.load(x + i * VECTOR) * t.splat(factor), out + i * VECTOR)
        t.loop(vectors, step)

    SCALE = kernel(scale)                               # callable from Numba code: SCALE(x, factor, out, vectors)

Addresses are int64 bytes, vectors are float32 x LANES (`layout.py`; `kernel` can be asked for others). Every channel
count of the network is a multiple of LANES, so no kernel has a tail of channels; LLVM maps the lanes to whatever
vectors the processor has. Nothing is checked here or in a kernel: the plan guarantees what lies behind an address.
"""
import inspect

from llvmlite import ir
from numba import njit
from numba.core import cgutils, types
from numba.extending import intrinsic

from .layout import FLOAT, LANES

_F32, _I32, _I64 = ir.FloatType(), ir.IntType(32), ir.IntType(64)


class Int:
    """An int64 in the machine code: an address, an offset or a count; `+`, `-` and `*` take Python ints as well."""

    def __init__(self, builder, value):
        self.builder, self.value = builder, value

    def _apply(self, operation, other):
        other = other.value if isinstance(other, Int) else _I64(other)
        return Int(self.builder, getattr(self.builder, operation)(self.value, other))

    def __add__(self, other):
        return self._apply("add", other)

    def __sub__(self, other):
        return self._apply("sub", other)

    def __mul__(self, other):
        return self._apply("mul", other)


class Vector:
    """The trace's lanes of float32 values in a register."""

    def __init__(self, builder, value):
        self.builder, self.value = builder, value

    def __add__(self, other):
        return Vector(self.builder, self.builder.fadd(self.value, other.value))

    def __mul__(self, other):
        return Vector(self.builder, self.builder.fmul(self.value, other.value))

    def clamp(self, low, high):
        """min(max(self, low), high); NaN stays NaN, so that what went wrong before does not look like an answer."""
        return self._replace("<", low)._replace(">", high)

    def _replace(self, comparison, bound):
        beyond = self.builder.fcmp_ordered(comparison, self.value, bound.value)
        return Vector(self.builder, self.builder.select(beyond, bound.value, self.value))


class Trace:
    """Writes one kernel's machine code, with vectors of `lanes` floats."""

    def __init__(self, builder, lanes=LANES):
        self.builder, self.lanes = builder, lanes
        self.vector = ir.VectorType(_F32, lanes)

    def _pointer(self, address, kind):
        return self.builder.inttoptr(address.value, kind.as_pointer())

    def load(self, address) -> Vector:
        """The `lanes` floats at an address."""
        return Vector(self.builder, self.builder.load(self._pointer(address, self.vector), align=FLOAT))

    def store(self, vector, address) -> None:
        self.builder.store(vector.value, self._pointer(address, self.vector), align=FLOAT)

    def splat(self, address) -> Vector:
        """The one float at an address, in every lane."""
        one = self.builder.load(self._pointer(address, _F32), align=FLOAT)
        undefined = ir.Constant(self.vector, ir.Undefined)
        first = self.builder.insert_element(undefined, one, _I32(0))
        everywhere = ir.Constant(ir.VectorType(_I32, self.lanes), [0] * self.lanes)
        return Vector(self.builder, self.builder.shuffle_vector(first, undefined, everywhere))

    def zero(self) -> Vector:
        return Vector(self.builder, ir.Constant(self.vector, [0.0] * self.lanes))

    def fma(self, a, b, c) -> Vector:
        """a * b + c, rounded once: on every processor, so that results do not depend on what a compiler contracts."""
        kind = ir.FunctionType(self.vector, [self.vector] * 3)  # llvmlite's own `fma` refuses vectors
        function = cgutils.get_or_insert_function(self.builder.module, kind, f"llvm.fma.v{self.lanes}f32")
        return Vector(self.builder, self.builder.call(function, [a.value, b.value, c.value]))

    def loop(self, count, body, *carried):
        """for i in range(count): carried = body(i, *carried); return carried.

        `count` is an Int; the carried values are Ints or Vectors, and `body` returns as many (None where none are).
        """
        b, before = self.builder, self.builder.block
        inside, after = b.append_basic_block("loop"), b.append_basic_block("done")
        b.cbranch(b.icmp_signed(">", count.value, _I64(0)), inside, after)
        b.position_at_end(inside)
        first, *arrived = [self._phi(Int(b, _I64(0)), before), *(self._phi(value, before) for value in carried)]
        left = list(body(first, *arrived) or ())
        following, end = first + 1, b.block
        for value, new in zip((first, *arrived), (following, *left), strict=True):
            value.value.add_incoming(new.value, end)
        b.cbranch(b.icmp_signed("<", following.value, count.value), inside, after)
        b.position_at_end(after)
        results = [self._phi(value, before) for value in carried]
        for result, new in zip(results, left):
            result.value.add_incoming(new.value, end)
        return results

    def when(self, flag, body, *carried):
        """carried = body(*carried) where `flag` is 1, unchanged where it is 0: a loop of one turn or none."""
        return self.loop(flag, lambda i, *values: body(*values), *carried)

    def _phi(self, value, block):
        merged = self.builder.phi(value.value.type)
        merged.add_incoming(value.value, block)
        return type(value)(self.builder, merged)


def kernel(function, lanes=LANES, **constants):
    """Make `function(trace, *int64 arguments, **constants)` callable from Numba code; vectors have `lanes` floats."""
    count = function.__code__.co_argcount - 1
    name = "_".join(["npefficient", function.__name__, f"x{lanes}", *map(str, constants.values())])

    def write(module):
        compiled = ir.Function(module, ir.FunctionType(ir.VoidType(), [_I64] * count), name)
        compiled.linkage = "internal"
        compiled.attributes.add("noinline")
        builder = ir.IRBuilder(compiled.append_basic_block("entry"))
        function(Trace(builder, lanes), *(Int(builder, argument) for argument in compiled.args), **constants)
        builder.ret_void()
        return compiled

    def generate(context, builder, signature, arguments):
        compiled = builder.module.globals.get(name) or write(builder.module)
        builder.call(compiled, arguments)
        return context.get_dummy_value()

    def typed(*typing_context_and_arguments):
        return types.void(*[types.int64] * count), generate

    # Numba takes an intrinsic's arguments by name, and no *arguments: show it the kernel's own signature.
    names = ["typing_context", *function.__code__.co_varnames[1 : count + 1]]
    typed.__signature__ = inspect.Signature([inspect.Parameter(n, inspect.Parameter.POSITIONAL_ONLY) for n in names])
    typed.__name__ = name
    return intrinsic(typed)


# Decorates a plain function that calls kernels or other routines. It can't raise (a division by zero gives 0), and
# becomes part of whoever calls it: so the driver's code needs nothing of Numba when it runs, as
# `engine/machine_code.py` asks.
routine = njit(nogil=True, error_model="numpy", forceinline=True)
