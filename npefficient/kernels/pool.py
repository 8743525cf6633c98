"""Global average pool: out[c] = (sum over p of x[p, c]) / P.

    x (P, C) in blocks of channels, out (C,); P pixels, float32
    bytes 4 (P C + C); one load per addition

Each output adds its pixels in order and divides once, by multiplying with the float32 nearest to 1 / P.
"""
from .lanes import kernel
from .layout import VECTOR


def average_pool(t, x, plane, pixels, out, out_plane, vectors):
    """`vectors` blocks of channels over `pixels` pixels; planes in bytes."""
    share = t.number(1.0) / t.float(pixels)

    def block(v, x, out):
        def add(p, address, total):
            return address + VECTOR, total + t.load(address)

        _, total = t.loop(pixels, add, x, t.number(0.0))
        t.store(total * share, out)
        return x + plane, out + out_plane

    t.loop(vectors, block, x, out)


POOL = kernel(average_pool)
