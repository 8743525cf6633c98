"""Depthwise convolution, each channel separately, with ReLU6.

    out[q, r, c] = relu6(bias[c] + sum over i, j of x[q S + i, r S + j, c] * weight[i, j, c])

    x (H, W, C) with its padding, weight (K, K, C), bias (C,), out (Q, R, C), all float32, one block of channels
    at a time; out may also be uint8 in steps of 6 / 255; K is 3 or 5, S is 1 or 2
    FLOPs 2 Q R C K K; bytes at least 4 (H W C + Q R C)
    registers: PIXELS accumulators + K weights + 1 pixel; 8 + 5 + 1 = 14
    loads per FMA: a pixel is loaded once for all outputs that use it, (K + (PIXELS - 1) S + K) / (PIXELS K) per kernel
    row; 13 / 24 for a 3x3 kernel at stride 1, 24 / 40 for 5x5 at stride 2

Padding is stored as zeros (`engine/chunks.py` writes them), so no output is a special case. Each output is one chain of
FMAs over the taps in order that starts at the bias, in every tile alike.

A tile of three outputs of a 3x3 kernel at stride 1, one row of the kernel. Pixel 2 is loaded once for every tap:

    pixels       0  1  2  3  4
    output 0     a  b  c             acc[0] += pixel 2 * c
    output 1        a  b  c          acc[1] += pixel 2 * b
    output 2           a  b  c       acc[2] += pixel 2 * a
"""
import functools

from .lanes import family, routine
from .tiles import cut


def depthwise_tile(t, x, x_row, weight, bias, out, out_row, rows, tiles, *, KERNEL, STRIDE, PIXELS):
    """`rows` rows of `tiles` tiles of PIXELS neighbouring outputs; addresses and rows in bytes."""
    vector, start = t.layout.floats, t.load(bias)

    def row(q, x, out):
        def tile(i, x, out):
            acc = [start] * PIXELS
            for i in range(KERNEL):
                taps = [t.load(weight + (i * KERNEL + j) * vector) for j in range(KERNEL)]
                for column in range((PIXELS - 1) * STRIDE + KERNEL):
                    pixel = t.load(x + x_row * i + column * vector)
                    for p in range(PIXELS):
                        tap = column - p * STRIDE  # the column of this pixel in the window of output p
                        if 0 <= tap < KERNEL:
                            acc[p] = t.fma(pixel, taps[tap], acc[p])
            t.store_relu6(acc, out)
            return x + PIXELS * STRIDE * vector, out + PIXELS * t.layout.vector

        t.loop(tiles, tile, x, out)
        return x + x_row * STRIDE, out + out_row

    t.loop(rows, row, x, out)


def in_strips(TILES, x_pixel: int, out_pixel: int, largest: int):
    """The routine `depthwise`: strips of equal tiles, as TILES(KERNEL, STRIDE, PIXELS, ..) computes them.

    x_pixel, out_pixel: bytes of a pixel of one block; largest: pixels of a tile
    """

    @routine
    def depthwise(x, x_row, weight, bias, out, rows, columns, kernel, stride):
        """`rows` rows of `columns` outputs of one block of channels."""
        out_row = columns * out_pixel
        while columns > 0:
            size, count = cut(columns, largest)
            TILES(kernel, stride, size, x, x_row, weight, bias, out, out_row, rows, count)
            done = count * size
            x, out, columns = x + done * stride * x_pixel, out + done * out_pixel, columns - done

    return depthwise


@functools.cache
def depthwise_kernel(layout):
    """The routine `depthwise` for one layout."""
    longest = layout.longest_tile
    TILES = family(depthwise_tile, layout, KERNEL=(3, 5), STRIDE=(1, 2), PIXELS=range(1, longest + 1))
    return in_strips(TILES, layout.floats, layout.vector, longest)
