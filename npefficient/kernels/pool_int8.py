"""Global pooling of integers: out[c] = float(sum over p of x[p, c]) * (step / P), or the maximum times step, or the
mean of both.

    x (P, C) uint8 in blocks of channels, out (C,) float32; P pixels; step is 6 / 255
    bytes P C + 4 C; one load per addition or comparison

The sum is an int32, rounded once where it becomes a float; every operation on floats is a single one of float32.
"""
from .lanes import family
from .layout import AVERAGE, AVERAGE_AND_MAXIMUM, MAXIMUM, RELU6_STEP


def global_pool_int8(t, x, plane, pixels, out, out_plane, vectors, *, HOW):
    """`vectors` blocks of channels over `pixels` pixels; planes in bytes."""
    share = t.number(RELU6_STEP) / t.float(pixels)

    def block(v, x, out):
        def take_in(p, address, total, largest):
            value = t.values(address)
            return address + t.layout.vector, total + value, largest.at_least(value)

        _, total, largest = t.loop(pixels, take_in, x, t.no_integers(), t.no_integers())
        average, largest = t.float(total) * share, t.float(largest) * t.number(RELU6_STEP)
        pooled = (average, largest, average * t.number(0.5) + largest * t.number(0.5))
        t.store(pooled[HOW], out)
        return x + plane, out + out_plane

    t.loop(vectors, block, x, out)


def pool_int8_kernel(layout):
    """POOL(HOW, x, plane, ..), for compiled code."""
    return family(global_pool_int8, layout, HOW=(AVERAGE, MAXIMUM, AVERAGE_AND_MAXIMUM))
