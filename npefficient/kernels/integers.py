"""The integer half of a trace: dot products of small integers, and the way back to bytes.

A *group* is the 4 bytes of one 32-bit lane: 4 values of 8 bits (`Layout.item` is 1), or 2 values of 16 bits. `dot`
multiplies the groups of two vectors value by value and adds the products to an int32 for each lane. Sums of integers
have no order and no rounding, so every processor gives the same result, whatever its instruction:

    8 bits     x86 with VNNI: vpdpbusd, uint8 times int8, four products per lane
    16 bits    any processor: LLVM selects vpmaddwd and vpaddd on x86, two products per lane, and smull on ARM64
"""
from llvmlite import ir
from numba.core import cgutils

_I8, _I16, _I32 = ir.IntType(8), ir.IntType(16), ir.IntType(32)

# Adding 1.5 * 2**23 to a float from -255 to 255 rounds it to an integer, to nearest, ties to even: floats of that size
# are whole numbers. The integer is in the low bits of the sum, and its next 14 bits are zero.
TO_INTEGER = 1.5 * 2**23


class Integers:
    """A register of int32 values, one for each lane; or of groups."""

    def __init__(self, builder, value):
        self.builder, self.value = builder, value

    @property
    def lanes(self) -> int:
        return self.value.type.count

    def __add__(self, other):
        return Integers(self.builder, self.builder.add(self.value, other.value))

    def at_least(self, other):
        """The larger value of each lane."""
        larger = self.builder.icmp_signed(">", self.value, other.value)
        return Integers(self.builder, self.builder.select(larger, self.value, other.value))

    def widen(self, lanes):
        """This vector with zeros appended, `lanes` in all."""
        if lanes == self.lanes:
            return self
        zero = ir.Constant(self.value.type, [0] * self.lanes)
        places = ir.Constant(ir.VectorType(_I32, lanes), [min(lane, self.lanes) for lane in range(lanes)])
        return Integers(self.builder, self.builder.shuffle_vector(self.value, zero, places))


class IntegerTrace:
    """What `trace.Trace` knows of integers; it has `builder`, `layout`, `lanes` and `_pointer`."""

    def integers(self, address, lanes=None) -> Integers:
        """The int32 values, or the groups, at an address."""
        kind = ir.VectorType(_I32, lanes or self.lanes)
        return Integers(self.builder, self.builder.load(self._pointer(address, kind), align=1))

    def values(self, address) -> Integers:
        """The layout's values at an address, without a sign."""
        kind = ir.VectorType(self._value(), self.lanes)
        narrow = self.builder.load(self._pointer(address, kind), align=1)
        return Integers(self.builder, self.builder.zext(narrow, ir.VectorType(_I32, self.lanes)))

    def group(self, address, lanes=None) -> Integers:
        """The group at an address, in every lane."""
        one = self.builder.load(self._pointer(address, _I32), align=1)
        kind = ir.VectorType(_I32, lanes or self.lanes)
        undefined = ir.Constant(kind, ir.Undefined)
        first = self.builder.insert_element(undefined, one, _I32(0))
        first_lane = ir.Constant(kind, [0] * kind.count)
        return Integers(self.builder, self.builder.shuffle_vector(first, undefined, first_lane))

    def neighbours(self, address) -> Integers:
        """The values of some neighbouring pixels, as many as a group has, with those of one channel in each lane."""
        count = self.layout.group
        kind = ir.VectorType(self._value(), self.lanes * count)
        pixels = self.builder.load(self._pointer(address, kind), align=1)
        order = [pixel * self.lanes + lane for lane in range(self.lanes) for pixel in range(count)]
        places = ir.Constant(ir.VectorType(_I32, len(order)), order)
        by_channel = self.builder.shuffle_vector(pixels, ir.Constant(kind, ir.Undefined), places)
        return Integers(self.builder, self.builder.bitcast(by_channel, ir.VectorType(_I32, self.lanes)))

    def no_integers(self, lanes=None) -> Integers:
        """Zero in every lane."""
        lanes = lanes or self.lanes
        return Integers(self.builder, ir.Constant(ir.VectorType(_I32, lanes), [0] * lanes))

    def dot(self, x, weight, total) -> Integers:
        """total + the sum over each lane's group of x times weight; x is unsigned if it has 8 bits."""
        b, kind = self.builder, total.value.type
        if self.layout.item == 1:
            function = cgutils.get_or_insert_function(b.module, ir.FunctionType(kind, [kind] * 3),
                                                      f"llvm.x86.avx512.vpdpbusd.{32 * total.lanes}")
            return Integers(b, b.call(function, [total.value, x.value, weight.value]))
        narrow, wide = ir.VectorType(_I16, 2 * total.lanes), ir.VectorType(_I32, 2 * total.lanes)
        product = b.mul(*(b.sext(b.bitcast(one.value, narrow), wide) for one in (x, weight)))
        undefined = ir.Constant(wide, ir.Undefined)
        even, odd = (b.shuffle_vector(product, undefined, ir.Constant(kind, list(range(i, 2 * total.lanes, 2))))
                     for i in (0, 1))
        return Integers(b, b.add(b.add(even, odd), total.value))

    def store_integers(self, floats, address, zero: int = 0) -> None:
        """Round floats to integers (to nearest, ties to even) and store them as values of the layout.

        zero: an even number that is added; the sums are 0 to 255
        """
        b, lanes = self.builder, floats.lanes
        bits = b.bitcast((floats + self.number(TO_INTEGER + zero, lanes)).value, ir.VectorType(_I32, lanes))
        kind = ir.VectorType(self._value(), lanes)
        b.store(b.trunc(bits, kind), self._pointer(address, kind), align=1)

    def store_bytes(self, pixels, address) -> None:
        """Clamp floats to 0 .. 255, round them to integers (to nearest, ties to even), and store neighbouring pixels.

        x86 narrows four vectors at a time, with saturation: twice 32 to 16 bits, then 16 to 8.
        """
        b, x86, lanes = self.builder, "llvm.x86.avx512" if self.lanes == 16 else "llvm.x86.avx2", self.lanes
        bits = 32 * lanes
        words, octets = ir.VectorType(_I16, 2 * lanes), ir.VectorType(_I8, 4 * lanes)

        def call(name, result, *values):
            kind = ir.FunctionType(result, [value.type for value in values])
            return b.call(cgutils.get_or_insert_function(b.module, kind, name), values)

        def rounded(vector):
            below = vector.at_most(255.0).value  # beyond 2**31 there is no int32; below 0, any of them is negative
            kind = ir.VectorType(_I32, lanes)
            if lanes == 16:
                return call("llvm.x86.avx512.mask.cvtps2dq.512", kind, below, ir.Constant(kind, ir.Undefined),
                            ir.IntType(16)(0xFFFF), _I32(4))
            return call("llvm.x86.avx.cvt.ps2dq.256", kind, below)

        for first in range(0, len(pixels), 4):
            some = pixels[first : first + 4]
            a, b2, c, d = [rounded(one) for one in some] + [rounded(some[-1])] * (4 - len(some))
            suffix = f".{bits}" if lanes == 16 else ""
            halves = [call(f"{x86}.packssdw{suffix}", words, *pair) for pair in ((a, b2), (c, d))]
            packed = b.bitcast(call(f"{x86}.packuswb{suffix}", octets, *halves), ir.VectorType(_I32, lanes))
            quads = lanes // 4
            order = [quad * 4 + pixel for pixel in range(len(some)) for quad in range(quads)]
            places = ir.Constant(ir.VectorType(_I32, len(order)), order)
            stored = b.shuffle_vector(packed, ir.Constant(packed.type, ir.Undefined), places)
            at = address + first * self.layout.vector
            b.store(stored, self._pointer(at, stored.type), align=1)

    def copy(self, x, out) -> None:
        """Copy a vector of the layout's values, floats or integers."""
        kind = ir.VectorType(self._value(), self.lanes)
        self.builder.store(self.builder.load(self._pointer(x, kind), align=1), self._pointer(out, kind), align=1)

    def clear(self, out) -> None:
        """Store zero in a vector of the layout's values."""
        kind = ir.VectorType(self._value(), self.lanes)
        self.builder.store(ir.Constant(kind, [0] * self.lanes), self._pointer(out, kind), align=1)

    def _value(self):
        return ir.IntType(8 * self.layout.item)
