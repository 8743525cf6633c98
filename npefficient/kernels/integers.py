"""The integer half of a trace: dot products of small integers, and the way back to bytes.

A *group* is the 4 bytes of one 32-bit lane: 4 values of 8 bits (`Layout.item` is 1), or 2 values of 16 bits. `dot`
multiplies the groups of two vectors value by value and adds the products to an int32 for each lane. Sums of integers
have no order and no rounding, so every processor gives the same result, whatever its instruction:

    8 bits     x86 with VNNI: vpdpbusd, uint8 times int8, four products per lane
    16 bits    any processor: LLVM selects vpmaddwd and vpaddd on x86, two products per lane, and smull on ARM64
"""
from llvmlite import ir
from numba.core import cgutils

from .layout import ZERO
from .processor import is_x86

_I16, _I32 = ir.IntType(16), ir.IntType(32)

# Adding 1.5 * 2**23 to a float from -255 to 255 rounds it to an integer, to nearest, ties to even: floats of that size
# are whole numbers. The integer is in the low bits of the sum, and its next 14 bits are zero.
TO_INTEGER = 1.5 * 2**23


class Register:
    """A value for each lane."""

    def __init__(self, builder, value):
        self.builder, self.value = builder, value

    @property
    def lanes(self) -> int:
        return self.value.type.count

    def widen(self, lanes):
        """This vector with zeros appended, `lanes` in all."""
        if lanes == self.lanes:
            return self
        zero = ir.Constant(self.value.type, [0] * self.lanes)
        places = ir.Constant(ir.VectorType(_I32, lanes), [min(lane, self.lanes) for lane in range(lanes)])
        return type(self)(self.builder, self.builder.shuffle_vector(self.value, zero, places))


class Integers(Register):
    """A register of int32 values, or of groups."""

    def __add__(self, other):
        return Integers(self.builder, self.builder.add(self.value, other.value))

    def at_least(self, other):
        """The larger value of each lane."""
        larger = self.builder.icmp_signed(">", self.value, other.value)
        return Integers(self.builder, self.builder.select(larger, self.value, other.value))


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

    def no_integers(self) -> Integers:
        """Zero in every lane."""
        return Integers(self.builder, ir.Constant(ir.VectorType(_I32, self.lanes), [0] * self.lanes))

    def dot(self, x, weight, total) -> Integers:
        """total + the sum over each lane's group of x times weight; x is unsigned if it has 8 bits."""
        b, kind = self.builder, total.value.type
        if self.layout.item == 1:
            dot = self._x86(f"avx512.vpdpbusd.{32 * total.lanes}", kind, total.value, x.value, weight.value)
            return Integers(b, dot)
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

    def store_clamped(self, pixels, address) -> None:
        """Clamp floats to 0 .. 255, round them to integers (to nearest, ties to even), and store neighbouring pixels.

        x86 narrows several vectors into one, with saturation: 32 to 16 bits, and for values of 8 bits once more, which
        clamps them. Each 128 bits of the result have a few lanes of every pixel, which are then put in order.
        """
        if not self._packs():
            for p, pixel in enumerate(pixels):
                self.store_integers(pixel.clamp(255.0), address + p * self.layout.vector)
            return
        together = self.layout.group
        for first in range(0, len(pixels), together):
            some = pixels[first : first + together]
            packed = self._packed(some, {1: "packuswb", 2: "packusdw"})
            if self.layout.item == 2:
                most = ir.Constant(packed.type, [255] * packed.type.count)
                packed = self.builder.select(self.builder.icmp_unsigned("<", packed, most), packed, most)
            self._store_in_order(packed, len(some), address + first * self.layout.vector)

    def store_signed(self, pixels, address) -> None:
        """Round floats from -127 to 127 to integers, add ZERO, and store neighbouring pixels: a group, or one."""
        if len(pixels) == 1 or not self._packs():
            for p, pixel in enumerate(pixels):
                self.store_integers(pixel, address + p * self.layout.vector, ZERO)
            return
        packed = self._packed(pixels, {1: "packsswb", 2: "packssdw"})
        zero = ir.Constant(packed.type, [ZERO] * packed.type.count)
        self._store_in_order(self.builder.add(packed, zero), len(pixels), address)

    def _packs(self) -> bool:
        """Whether there are instructions that narrow several vectors into one."""
        return self.layout.item == 1 or self.lanes >= 8 and is_x86()

    def _packed(self, pixels, last):
        """Floats of at most a group of pixels, rounded and narrowed to values.

        last: the instruction that narrows them at last, by the bytes of a value
        """
        vectors = [self._rounded(pixel) for pixel in pixels]
        vectors += [vectors[-1]] * (self.layout.group - len(pixels))
        if self.layout.item == 1:
            vectors = [self._narrowed("packssdw", one, other) for one, other in zip(vectors[::2], vectors[1::2])]
        return self._narrowed(last[self.layout.item], *vectors)

    def _rounded(self, pixel):
        """Floats as int32; `quantization.check_quantized` keeps them below 2**30."""
        kind = ir.VectorType(_I32, self.lanes)
        if self.lanes == 16:
            return self._x86("avx512.mask.cvtps2dq.512", kind, pixel.value, ir.Constant(kind, ir.Undefined),
                             _I16(0xFFFF), _I32(4))
        return self._x86("avx.cvt.ps2dq.256", kind, pixel.value)

    def _narrowed(self, name, one, other):
        """Two vectors of integers in one of half the bits for each, with saturation."""
        width = one.type.element.width // 2
        kind = ir.VectorType(ir.IntType(width), 2 * one.type.count)
        return self._x86(f"avx512.{name}.512" if self.lanes == 16 else f"avx2.{name}", kind, one, other)

    def _store_in_order(self, packed, pixels, address) -> None:
        """Store the first `pixels` pixels; each 128 bits of `packed` have an equal part of every one."""
        b, together = self.builder, self.layout.group
        part = ir.IntType(128 // together)  # of a pixel, in 128 bits
        parts = b.bitcast(packed, ir.VectorType(part, self.lanes // 4 * together))
        order = [lane * together + pixel for pixel in range(pixels) for lane in range(self.lanes // 4)]
        stored = b.shuffle_vector(parts, ir.Constant(parts.type, ir.Undefined),
                                  ir.Constant(ir.VectorType(_I32, len(order)), order))
        b.store(stored, self._pointer(address, stored.type), align=1)

    def _x86(self, name, result, *values):
        kind = ir.FunctionType(result, [value.type for value in values])
        return self.builder.call(cgutils.get_or_insert_function(self.builder.module, kind, f"llvm.x86.{name}"), values)

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
