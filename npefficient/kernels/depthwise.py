"""Depthwise convolution, each channel by itself, with ReLU6.

    out[q, r, c] = relu6(bias[c] + sum over i, j of x[q S + i - top, r S + j - left, c] * weight[i, j, c])

    x (H, W, C), weight (K, K, C), bias (C,), out (Q, R, C); all float32, NHWC; K is 3 or 5, S is 1 or 2
    FLOPs 2 Q R C K K; bytes at least 4 (H W C + Q R C)
    tile: PIXELS neighbouring outputs of one vector of channels; PIXELS accumulators + K weights + 1 pixel <= 16
    registers; a pixel is loaded once for all outputs that it meets, (2 K + PIXELS - 1) loads for PIXELS K FMAs at S = 1
    pixel: one output of VECTORS vectors of channels, at the borders; 2 loads per FMA

Zero padding is never stored: an output at the border sums over the taps that lie inside the picture. Lanes run over
channels. Each output is one chain of FMAs over the taps in order that starts at the bias, in a tile or alone.
"""
from .lanes import kernel, routine
from .layout import FLOAT, LANES, VECTOR


def depthwise_tile(t, x, x_row, x_column, weight, weight_row, bias, bounds, out, rows, blocks,
                   *, KERNEL, STRIDE, PIXELS):
    """PIXELS outputs side by side, all columns of whose taps lie inside; `blocks` vectors of channels one by one."""
    low, high = t.splat(bounds), t.splat(bounds + FLOAT)

    def channels(b, x, weight, bias, out):
        def tap_row(i, x, weight, *acc):
            acc, pixel = list(acc), x
            taps = [t.load(weight + x_column * j) for j in range(KERNEL)]
            for column in range((PIXELS - 1) * STRIDE + KERNEL):
                value = t.load(pixel)
                for p in range(PIXELS):
                    j = column - p * STRIDE
                    if 0 <= j < KERNEL:
                        acc[p] = t.fma(value, taps[j], acc[p])
                pixel = pixel + x_column
            return [x + x_row, weight + weight_row, *acc]

        start = t.load(bias)
        _, _, *acc = t.loop(rows, tap_row, x, weight, *[start] * PIXELS)
        for p, a in enumerate(acc):
            t.store(a.clamp(low, high), out + x_column * p)
        return x + VECTOR, weight + VECTOR, bias + VECTOR, out + VECTOR

    t.loop(blocks, channels, x, weight, bias, out)


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


TILE_K3S1_8 = kernel(depthwise_tile, KERNEL=3, STRIDE=1, PIXELS=8)
TILE_K3S1_4 = kernel(depthwise_tile, KERNEL=3, STRIDE=1, PIXELS=4)
TILE_K3S2_8 = kernel(depthwise_tile, KERNEL=3, STRIDE=2, PIXELS=8)
TILE_K3S2_4 = kernel(depthwise_tile, KERNEL=3, STRIDE=2, PIXELS=4)
TILE_K5S1_8 = kernel(depthwise_tile, KERNEL=5, STRIDE=1, PIXELS=8)
TILE_K5S1_4 = kernel(depthwise_tile, KERNEL=5, STRIDE=1, PIXELS=4)
TILE_K5S2_8 = kernel(depthwise_tile, KERNEL=5, STRIDE=2, PIXELS=8)
TILE_K5S2_4 = kernel(depthwise_tile, KERNEL=5, STRIDE=2, PIXELS=4)
PIXEL_4 = kernel(depthwise_pixel, VECTORS=4)
PIXEL_1 = kernel(depthwise_pixel, VECTORS=1)


@routine
def inside(first, size, kernel):
    """The taps of one axis that lie inside the picture, as (skipped, count); tap 0 lies at index `first`."""
    skipped = max(-first, 0)
    return skipped, min(kernel, size - first) - skipped


@routine
def tile(x, row, column, weight, bias, bounds, out, rows, blocks, kernel, stride, pixels):
    """The tile of this kernel, stride and number of pixels (8 or 4)."""
    weight_row = kernel * column
    if kernel == 3 and stride == 1 and pixels == 8:
        TILE_K3S1_8(x, row, column, weight, weight_row, bias, bounds, out, rows, blocks)
    elif kernel == 3 and stride == 1:
        TILE_K3S1_4(x, row, column, weight, weight_row, bias, bounds, out, rows, blocks)
    elif kernel == 3 and pixels == 8:
        TILE_K3S2_8(x, row, column, weight, weight_row, bias, bounds, out, rows, blocks)
    elif kernel == 3:
        TILE_K3S2_4(x, row, column, weight, weight_row, bias, bounds, out, rows, blocks)
    elif stride == 1 and pixels == 8:
        TILE_K5S1_8(x, row, column, weight, weight_row, bias, bounds, out, rows, blocks)
    elif stride == 1:
        TILE_K5S1_4(x, row, column, weight, weight_row, bias, bounds, out, rows, blocks)
    elif pixels == 8:
        TILE_K5S2_8(x, row, column, weight, weight_row, bias, bounds, out, rows, blocks)
    else:
        TILE_K5S2_4(x, row, column, weight, weight_row, bias, bounds, out, rows, blocks)


@routine
def depthwise_row(x, height, width, channels, weight, bias, bounds, out, q, out_width, kernel, stride, top, left):
    """Row `q` of one picture's output; x, weight, bias, bounds and out (of the row) are addresses."""
    column = channels * FLOAT
    row = width * column
    i, rows = inside(q * stride - top, height, kernel)
    x += (q * stride - top + i) * row
    weight += i * kernel * column

    # Outputs `first` to `last` see all their columns. Tiles cover them, the last one moved back to fit: what it
    # computes once more has the same bits.
    first, last = (left + stride - 1) // stride, (width + left - kernel) // stride + 1
    pixels = 8 if last - first >= 8 else 4
    if last - first < pixels:
        first = last = out_width
    for r in range(first, last, pixels):
        at = min(r, last - pixels)
        tile(x + (at * stride - left) * column, row, column, weight, bias, bounds, out + at * column, rows,
             channels // LANES, kernel, stride, pixels)

    wide = channels // (4 * LANES)
    done = wide * 4 * VECTOR
    narrow = (channels - wide * 4 * LANES) // LANES
    for r in range(out_width - (last - first)):
        at = r if r < first else r + last - first
        j, columns = inside(at * stride - left, width, kernel)
        pixel, taps, o = x + (at * stride - left + j) * column, weight + j * column, out + at * column
        PIXEL_4(pixel, row, column, taps, kernel * column, bias, bounds, o, rows, columns, wide)
        PIXEL_1(pixel + done, row, column, taps + done, kernel * column, bias + done, bounds, o + done, rows, columns,
                narrow)
