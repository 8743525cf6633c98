"""Global pooling: out[c] = (sum over p of x[p, c]) / P, or max over p of x[p, c], or the mean of both.

    x (P, C) in blocks of channels, out (C,); P pixels, float32
    bytes 4 (P C + C); one load per addition or comparison

The average adds its pixels in order, then multiplies once by the float32 nearest to 1 / P.
"""
from .lanes import family
from .layout import AVERAGE, AVERAGE_AND_MAXIMUM, MAXIMUM


def global_pool(t, x, plane, pixels, out, out_plane, vectors, *, HOW):
    """`vectors` blocks of channels over `pixels` pixels; planes in bytes."""
    share = t.number(1.0) / t.float(pixels)

    def block(v, x, out):
        def take_in(p, address, total, largest):
            value = t.load(address)
            return address + t.layout.vector, total + value, t.maximum(largest, value)

        _, total, largest = t.loop(pixels, take_in, x, t.number(0.0), t.number(float("-inf")))
        average = total * share
        pooled = (average, largest, average * t.number(0.5) + largest * t.number(0.5))
        t.store(pooled[HOW], out)
        return x + plane, out + out_plane

    t.loop(vectors, block, x, out)


def pool_kernel(layout):
    """POOL(HOW, x, plane, ..), for compiled code."""
    return family(global_pool, layout, HOW=(AVERAGE, MAXIMUM, AVERAGE_AND_MAXIMUM))
