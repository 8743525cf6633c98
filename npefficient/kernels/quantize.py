"""Floats to integers, one row of the map, which has a scale of its own:

    largest = max over p, c of |x[p, c]|, at least 2**-100
    scale = largest * (1 / 127)
    out[p, c] = rint(x[p, c] * (127 / largest)) + 128    rint to nearest, ties to even; from 1 to 255

    x (P, C) float32, scale (1,) float32, out (P, C) uint8, in blocks of channels; every operation is a single one of
    float32; P pixels; bytes 5 P C

So 0 is exactly 128, and a 1x1 convolution of `out` starts its sums at -128 times the sum of its weights. The least
`largest` keeps 127 / largest finite. Pixels are taken in groups: each has a maximum of its own, so that none waits for
the one before, and their integers fill a vector.
"""
import functools

from .lanes import kernel
from .trace import Vector

LEAST = 2.0**-100
LEVELS = 127.0


def quantize(t, x, x_plane, scale, out, out_plane, pixels, vectors):
    """`pixels` pixels of `vectors` blocks of channels; unused lanes of x are zero. Planes in bytes."""
    together, floats, vector = t.layout.group, t.layout.floats, t.layout.vector
    groups = pixels // together
    rest = pixels - groups * together

    def take_in(v, plane, *largest):
        def taking(count):
            def pixel(i, x, *largest):
                return [x + count * floats,
                        *(one.at_least(t.load(x + p * floats).magnitude()) for p, one in enumerate(largest))]
            return pixel

        x, *largest = t.loop(groups, taking(together), plane, *largest)
        _, first = t.loop(rest, taking(1), x, largest[0])
        return [plane + x_plane, first, *largest[1:]]

    _, *largest = t.loop(vectors, take_in, x, *[t.number(LEAST)] * together)
    largest = functools.reduce(Vector.at_least, largest).largest()  # one lane, so that the division is of one number
    factor = (t.number(LEVELS, 1) / largest).splat(lanes=t.lanes)
    t.store(largest * t.number(1.0 / LEVELS, 1), scale)

    def round_off(v, plane, out_of):
        def rounding(count):
            def pixel(i, x, out):
                t.store_signed([t.load(x + p * floats) * factor for p in range(count)], out)
                return x + count * floats, out + count * vector
            return pixel

        t.loop(rest, rounding(1), *t.loop(groups, rounding(together), plane, out_of))
        return plane + x_plane, out_of + out_plane

    t.loop(vectors, round_off, x, out)


def quantize_kernel(layout):
    """QUANTIZE(x, x_plane, scale, out, out_plane, pixels, vectors), for compiled code."""
    return kernel(quantize, layout)
