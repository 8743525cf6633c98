"""Depthwise convolution of integers, each channel separately, then back to integers.

    total[q, r, c] = sum over i, j of x[q S + i, r S + j, c] * weight[i, j, c]
    out[q, r, c] = round(clamp(float(total) * factor[c] + bias[c], 0, 255))    one fused multiply-add

    x (H, W, C) uint8 with its padding, weight (K, K, C) int8, total int32, factor and bias (C,) float32,
    out (Q, R, C) uint8, one block of channels at a time; K is 3 or 5, S is 1 or 2
    operations 2 Q R C K K; bytes at least H W C + Q R C

A dot product takes a group of neighbouring pixels at a time (`integers.py`), so a kernel row is one or a few groups,
and taps that lie outside the window have weight zero. Windows of 3 in groups of 4 pixels, one group every 2 pixels:

    pixels       0  1  2  3  4  5
    group 0      0  1  2  3           output 0: a b c .    output 1: . a b c
    group 2            2  3  4  5     output 2: a b c .    output 3: . a b c

So the weights are stored once for each distance from a group to a window that meets it (`packing.distances`):
[row][distance][lanes][group]. The last group of a row may read up to group - 1 pixels past the window's end; their
weights are zero, but there has to be memory.
"""
import functools

from .depthwise import in_strips
from .lanes import family
from .packing import distances, groups


def depthwise_int8_tile(t, x, x_row, weight, bias, out, out_row, rows, tiles, *, KERNEL, STRIDE, PIXELS):
    """`rows` rows of `tiles` tiles of PIXELS neighbouring outputs; addresses and rows in bytes.

    At `bias` are start (zero here, and not read), factor and bias of the block's channels.
    """
    layout, floats = t.layout, t.layout.floats
    apart = distances(layout, KERNEL, STRIDE)
    wanted = {}  # group -> the outputs that take it
    for p in range(PIXELS):
        for first in groups(layout, KERNEL, p * STRIDE):
            wanted.setdefault(first, []).append(p)
    factor, start = t.load(bias + floats), t.load(bias + 2 * floats)

    def row(q, x, out):
        def tile(i, x, out):
            total = [t.no_integers()] * PIXELS
            for i in range(KERNEL):
                for first, outputs in wanted.items():
                    pixels = t.neighbours(x + x_row * i + first * layout.vector)
                    for p in outputs:
                        at = i * len(apart) + apart.index(first - p * STRIDE)
                        total[p] = t.dot(pixels, t.integers(weight + at * floats), total[p])
            t.store_relu6([t.fma(t.float(one), factor, start) for one in total], out)
            return x + PIXELS * STRIDE * layout.vector, out + PIXELS * layout.vector

        t.loop(tiles, tile, x, out)
        return x + x_row * STRIDE, out + out_row

    t.loop(rows, row, x, out)


@functools.cache
def depthwise_int8_kernel(layout):
    """The routine `depthwise` for one layout."""
    longest = layout.longest_tile
    TILES = family(depthwise_int8_tile, layout, KERNEL=(3, 5), STRIDE=(1, 2), PIXELS=range(1, longest + 1))
    return in_strips(TILES, layout.vector, layout.vector, longest)
