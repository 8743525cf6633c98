"""Floats to integers, each pixel with a scale of its own:

    largest[p] = max over c of |x[p, c]|, at least 2**-100
    scale[p] = largest[p] * (1 / 127)
    out[p, c] = rint(x[p, c] * (127 / largest[p])) + 128    rint to nearest, ties to even; from 1 to 255

    x (P, C) float32, scale (P,) float32, out (P, C) uint8, in blocks of channels; every operation is a single one of
    float32; bytes 5 P C

So 0 is exactly 128, and a 1x1 convolution of `out` starts its sums at -128 times the sum of its weights. The least
`largest` keeps 127 / largest finite.
"""
from .lanes import kernel
from .layout import FLOAT, ZERO

LEAST = 2.0**-100
LEVELS = 127.0


def quantize(t, x, x_plane, scale, out, out_plane, pixels, vectors):
    """`pixels` pixels of `vectors` blocks of channels; unused lanes of x are zero. Planes in bytes."""

    def pixel(p, x, scale, out):
        def take_in(v, x, largest):
            return x + x_plane, largest.at_least(t.load(x).magnitude())

        def round_off(v, x, out):
            t.store_integers(t.load(x) * factor, out, ZERO)
            return x + x_plane, out + out_plane

        _, largest = t.loop(vectors, take_in, x, t.number(LEAST))
        largest = largest.largest()  # one lane, so that the division is of one number
        factor = (t.number(LEVELS, 1) / largest).splat(lanes=t.lanes)
        t.store(largest * t.number(1.0 / LEVELS, 1), scale)
        t.loop(vectors, round_off, x, out)
        return x + t.layout.floats, scale + FLOAT, out + t.layout.vector

    t.loop(pixels, pixel, x, scale, out)


def quantize_kernel(layout):
    """QUANTIZE(x, x_plane, scale, out, out_plane, pixels, vectors), for compiled code."""
    return kernel(quantize, layout)
