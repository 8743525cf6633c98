"""The stem, a dense 3x3 convolution at stride 2 from the picture to 32 channels, with ReLU6.

    out[q, r, m] = relu6(bias[m] + sum over i, j, c of x[q S + i - top, r S + j - left, c] * weight[i, j, c, m])

    x (H, W, C), weight (K, K, C, 32), bias (32,), out (Q, R, 32); all float32, NHWC; C is 3 for colour
    FLOPs 2 Q R 32 K K C; registers: 4 accumulators; loads per FMA: 5 / 4

In NHWC the taps of one row are `columns * C` neighbouring floats, and so are their weights. Zero padding is never
stored. Each output is one chain of FMAs over the taps in order that starts at the bias.
"""
from .depthwise import inside
from .lanes import kernel, routine
from .layout import FLOAT, LANES, VECTOR

CHANNELS = 32


def stem_pixel(t, x, x_row, weight, weight_row, bias, bounds, out, rows, taps, *, VECTORS):
    """One output pixel over `rows` rows of `taps` floats; addresses and rows in bytes."""
    low, high = t.splat(bounds), t.splat(bounds + FLOAT)

    def tap_row(i, x, weight, *acc):
        def tap(j, *acc):
            value = t.splat(x + j * FLOAT)
            return [t.fma(value, t.load(weight + j * (VECTORS * VECTOR) + v * VECTOR), a) for v, a in enumerate(acc)]

        return [x + x_row, weight + weight_row, *t.loop(taps, tap, *acc)]

    acc = [t.load(bias + v * VECTOR) for v in range(VECTORS)]
    _, _, *acc = t.loop(rows, tap_row, x, weight, *acc)
    for v, a in enumerate(acc):
        t.store(a.clamp(low, high), out + v * VECTOR)


PIXEL = kernel(stem_pixel, VECTORS=CHANNELS // LANES)


@routine
def stem_row(x, height, width, channels, weight, bias, bounds, out, q, out_width, kernel, stride, top, left):
    """Row `q` of one picture's output; x, weight, bias, bounds and out (of the row) are addresses."""
    row, weight_column = width * channels * FLOAT, channels * CHANNELS * FLOAT
    i, rows = inside(q * stride - top, height, kernel)
    for r in range(out_width):
        j, columns = inside(r * stride - left, width, kernel)
        pixel = x + (q * stride - top + i) * row + (r * stride - left + j) * channels * FLOAT
        taps = weight + (i * kernel + j) * weight_column
        PIXEL(pixel, row, taps, kernel * weight_column, bias, bounds, out, rows, columns * channels)
        out += CHANNELS * FLOAT
