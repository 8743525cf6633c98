"""Global average pool: out[c] = (sum over p of x[p, c]) / P.

    x (P, C), out (C,); P pixels, float32, NHWC
    bytes 4 (P C + C); one load per addition

Each output adds its pixels in order and divides once, by multiplying with the float32 nearest to 1 / P.
"""
from .lanes import kernel
from .layout import VECTOR


def average_pool(t, x, pixel, pixels, share, out, vectors):
    """`vectors` vectors of channels over `pixels` pixels that lie `pixel` bytes apart; `share` holds 1 / P."""
    factor = t.splat(share)

    def channels(v, x, out):
        def add(p, address, total):
            return address + pixel, total + t.load(address)

        _, total = t.loop(pixels, add, x, t.zero())
        t.store(total * factor, out)
        return x + VECTOR, out + VECTOR

    t.loop(vectors, channels, x, out)


POOL = kernel(average_pool)
