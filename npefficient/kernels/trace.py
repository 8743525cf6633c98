"""What a kernel is written with: integers, vectors, loads, stores and loops that become LLVM instructions.

`lanes.py` has an example, and makes kernels callable. Nothing is checked here: the plan guarantees what is at an
address.
"""
from llvmlite import ir
from numba.core import cgutils

from .integers import Integers, IntegerTrace, Register
from .layout import FLOAT, Layout

_F32, _I8, _I32, _I64 = ir.FloatType(), ir.IntType(8), ir.IntType(32), ir.IntType(64)


class Int:
    """An int64 in the machine code: an address, an offset or a count; `+`, `-`, `*` and `//` also take Python ints."""

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

    __rmul__ = __mul__

    def __floordiv__(self, other):
        """A count divided by a count; nothing negative."""
        return self._apply("udiv", other)

    def at_most(self, bound: int):
        """The smaller of this number and `bound`."""
        less = self.builder.icmp_signed("<", self.value, _I64(bound))
        return Int(self.builder, self.builder.select(less, self.value, _I64(bound)))

    def hidden(self):
        """The same number by an opaque copy: LLVM can't merge loads through it with loads through the original."""
        kind = ir.FunctionType(_I64, [_I64])
        return Int(self.builder, self.builder.asm(kind, "", "=r,0", [self.value], False))


class Vector(Register):
    """A register of float32 values."""

    def __add__(self, other):
        return Vector(self.builder, self.builder.fadd(self.value, other.value))

    def __sub__(self, other):
        return Vector(self.builder, self.builder.fsub(self.value, other.value))

    def __mul__(self, other):
        return Vector(self.builder, self.builder.fmul(self.value, other.value))

    def __truediv__(self, other):
        return Vector(self.builder, self.builder.fdiv(self.value, other.value))

    def splat(self, lane: int = 0, lanes=None):
        """One of its values in every lane of a vector; ARM64 multiplies by it without a register for the copies."""
        return self._part([lane] * (lanes or self.lanes))

    def relu6(self):
        return self.clamp(6.0)

    def clamp(self, most):
        """min(max(self, 0), most); NaN stays NaN, so that an earlier error does not look like a valid result."""
        return self._replace("<", 0.0)._replace(">", most)

    def where_inside(self, other, most):
        """This value where 0 < other < most, else 0."""
        b, zero = self.builder, ir.Constant(self.value.type, [0.0] * self.lanes)
        inside = b.and_(b.fcmp_ordered(">", other.value, zero),
                        b.fcmp_ordered("<", other.value, ir.Constant(self.value.type, [most] * self.lanes)))
        return Vector(b, b.select(inside, self.value, zero))

    def at_least(self, other):
        """The larger value of each lane; there is no NaN."""
        larger = self.builder.fcmp_ordered(">", self.value, other.value)
        return Vector(self.builder, self.builder.select(larger, self.value, other.value))

    def magnitude(self):
        """|self|"""
        return _by_intrinsic("fabs", self)

    def largest(self):
        """The largest of all lanes, as a vector of one lane; there is no NaN."""
        found = self
        while found.lanes > 1:
            half = found.lanes // 2
            low, high = (found._part(range(start, start + half)) for start in (0, half))
            found = low.at_least(high)
        return found

    def _part(self, lanes):
        places = ir.Constant(ir.VectorType(_I32, len(lanes)), list(lanes))
        return Vector(self.builder, self.builder.shuffle_vector(self.value, self.value, places))

    def _replace(self, comparison, bound):
        bounds = ir.Constant(self.value.type, [bound] * self.lanes)
        beyond = self.builder.fcmp_ordered(comparison, self.value, bounds)
        return Vector(self.builder, self.builder.select(beyond, bounds, self.value))


def _by_intrinsic(name, *vectors) -> Vector:
    builder, kind = vectors[0].builder, vectors[0].value.type
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(kind, [kind] * len(vectors)), f"llvm.{name}.v{vectors[0].lanes}f32")
    return Vector(builder, builder.call(function, [vector.value for vector in vectors]))


class Trace(IntegerTrace):
    """Emits one kernel's code, for vectors and memory of one layout."""

    def __init__(self, builder, layout: Layout):
        self.builder, self.layout, self.lanes = builder, layout, layout.lanes

    def _pointer(self, address, kind):
        return self.builder.inttoptr(address.value, kind.as_pointer())

    def constant(self, value) -> Int:
        return Int(self.builder, _I64(value))

    def load(self, address, lanes=None) -> Vector:
        """The `lanes` floats at an address; by default a whole vector."""
        kind = ir.VectorType(_F32, lanes or self.lanes)
        return Vector(self.builder, self.builder.load(self._pointer(address, kind), align=self.layout.item))

    def store(self, vector, address) -> None:
        self.builder.store(vector.value, self._pointer(address, vector.value.type), align=self.layout.item)

    def stream(self, vector, address) -> None:
        """Store a whole vector past the caches, at a multiple of its size. An atomic operation that counts it done
        makes it visible, as it does other stores."""
        written = self.builder.store(vector.value, self._pointer(address, vector.value.type), align=self.layout.vector)
        written.set_metadata("nontemporal", self.builder.module.add_metadata([_I32(1)]))

    def store_relu6(self, pixels, address) -> None:
        """Store ReLU6 of neighbouring pixels, a vector each, as values of the layout; in training, the pixels as they
        are.

        Integers count in steps of 6 / 255, and so do the vectors then.
        """
        if self.layout.item != FLOAT:
            self.store_clamped(pixels, address)
            return
        for p, vector in enumerate(pixels):
            self.store(vector if self.layout.training else vector.relu6(), address + p * self.layout.vector)

    def prefetch(self, address) -> None:
        """Start fetching the cache line at an address into the first-level cache; the address may be invalid."""
        kind = ir.FunctionType(ir.VoidType(), [_I8.as_pointer(), _I32, _I32, _I32])
        function = cgutils.get_or_insert_function(self.builder.module, kind, "llvm.prefetch.p0")
        self.builder.call(function, [self._pointer(address, _I8), *map(_I32, (0, 3, 1))])  # to read, soon, as data

    def splat(self, address, lanes=None) -> Vector:
        """The float at an address, in every lane."""
        one = self.builder.load(self._pointer(address, _F32), align=self.layout.item)
        return self._everywhere(one, lanes or self.lanes)

    def float(self, count) -> Vector:
        """An Int as a float, in every lane; or Integers, lane by lane, rounded to nearest, ties to even."""
        if isinstance(count, Integers):
            return Vector(self.builder, self.builder.sitofp(count.value, ir.VectorType(_F32, count.lanes)))
        return self._everywhere(self.builder.sitofp(count.value, _F32), self.lanes)

    def _everywhere(self, one, lanes) -> Vector:
        undefined = ir.Constant(ir.VectorType(_F32, lanes), ir.Undefined)
        first = self.builder.insert_element(undefined, one, _I32(0))
        everywhere = ir.Constant(ir.VectorType(_I32, lanes), [0] * lanes)
        return Vector(self.builder, self.builder.shuffle_vector(first, undefined, everywhere))

    def number(self, value, lanes=None) -> Vector:
        """A constant in every lane."""
        lanes = lanes or self.lanes
        return Vector(self.builder, ir.Constant(ir.VectorType(_F32, lanes), [value] * lanes))

    def fma(self, a, b, c) -> Vector:
        """a * b + c, rounded once, on every processor: results do not depend on what a compiler contracts."""
        return _by_intrinsic("fma", a, b, c)  # llvmlite's own `fma` refuses vectors

    def maximum(self, a, b) -> Vector:
        """The elementwise maximum; NaN where either value is NaN."""
        return _by_intrinsic("maximum", a, b)

    def loop(self, count, body, *carried):
        """for i in range(count): carried = body(i, *carried); return carried.

        `count` is an Int; the carried values are Ints or Vectors, and `body` returns as many (None if there are none).
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
        b.cbranch(b.icmp_signed("!=", following.value, count.value), inside, after)
        b.position_at_end(after)
        results = [self._phi(value, before) for value in carried]
        for result, new in zip(results, left):
            result.value.add_incoming(new.value, end)
        return results

    def when(self, flag, body, *carried):
        """if flag != 0: carried = body(*carried); return carried."""
        b, before = self.builder, self.builder.block
        inside, after = b.append_basic_block("then"), b.append_basic_block("done")
        b.cbranch(b.icmp_signed("!=", flag.value, _I64(0)), inside, after)
        b.position_at_end(inside)
        changed, end = body(*carried), b.block
        b.branch(after)
        b.position_at_end(after)
        results = [self._phi(value, before) for value in carried]
        for result, new in zip(results, changed, strict=True):
            result.value.add_incoming(new.value, end)
        return results

    def _phi(self, value, block):
        merged = self.builder.phi(value.value.type)
        merged.add_incoming(value.value, block)
        return type(value)(self.builder, merged)
