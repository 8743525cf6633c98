"""Depthwise convolution, each channel by itself, with ReLU6.

    out[q, r, c] = relu6(bias[c] + sum over i, j of x[q S + i - top, r S + j - left, c] * weight[i, j, c])

    x (H, W, C), weight (K, K, C), bias (C,), out (Q, R, C); all float32, NHWC; K is 3 or 5, S is 1 or 2
    FLOPs 2 Q R C K K; bytes at least 4 (H W C + Q R C)
    registers: VECTORS accumulators; loads per FMA: 2

Zero padding is never stored: a pixel sums over the taps that lie inside the picture. Lanes run over channels. Each
output is one chain of FMAs over the taps in order that starts at the bias.
"""
from .lanes import kernel, routine
from .layout import FLOAT, LANES, VECTOR


def depthwise_pixel(t, x, x_row, x_column, weight, weight_row, bias, bounds, out, rows, columns, blocks, *, VECTORS):
    """One output pixel, `blocks` times VECTORS vectors of channels, over rows x columns taps; addresses in bytes."""
    low, high = t.splat(bounds), t.splat(bounds + FLOAT)
    size = VECTORS * VECTOR

    def channels(b, x, weight, bias, out):
        def tap_row(i, x, weight, *acc):
            def tap(j, pixel, taps, *acc):
                acc = [t.fma(t.load(pixel + v * VECTOR), t.load(taps + v * VECTOR), a) for v, a in enumerate(acc)]
                return [pixel + x_column, taps + x_column, *acc]

            _, _, *acc = t.loop(columns, tap, x, weight, *acc)
            return [x + x_row, weight + weight_row, *acc]

        acc = [t.load(bias + v * VECTOR) for v in range(VECTORS)]
        _, _, *acc = t.loop(rows, tap_row, x, weight, *acc)
        for v, a in enumerate(acc):
            t.store(a.clamp(low, high), out + v * VECTOR)
        return x + size, weight + size, bias + size, out + size

    t.loop(blocks, channels, x, weight, bias, out)


PIXEL_4 = kernel(depthwise_pixel, VECTORS=4)
PIXEL_1 = kernel(depthwise_pixel, VECTORS=1)


@routine
def inside(first, size, kernel):
    """The taps of one axis that lie inside the picture, as (skipped, count); tap 0 lies at index `first`."""
    skipped = max(-first, 0)
    return skipped, min(kernel, size - first) - skipped


@routine
def depthwise_row(x, height, width, channels, weight, bias, bounds, out, q, out_width, kernel, stride, top, left):
    """Row `q` of one picture's output; x, weight, bias, bounds and out (of the row) are addresses."""
    column = channels * FLOAT
    row = width * column
    i, rows = inside(q * stride - top, height, kernel)
    wide = channels // (4 * LANES)
    done = wide * 4 * VECTOR
    narrow = (channels - wide * 4 * LANES) // LANES
    for r in range(out_width):
        j, columns = inside(r * stride - left, width, kernel)
        pixel = x + (q * stride - top + i) * row + (r * stride - left + j) * column
        taps = weight + (i * kernel + j) * column
        PIXEL_4(pixel, row, column, taps, kernel * column, bias, bounds, out, rows, columns, wide)
        PIXEL_1(pixel + done, row, column, taps + done, kernel * column, bias + done, bounds, out + done, rows, columns,
                narrow)
        out += column
