"""The gradient of the stem's weights:

    out[i, j, c, m] += sum over q, r of x[q S + i, r S + j, c] * dy[q, r, m]

    x (H, W, C), the picture with its padding, dy (Q, R, M) in blocks of channels, out (K, K, C, M) of one panel, all
    float32; S is 2
    FLOPs 2 Q R M K K C; registers: TAPS * VECTORS accumulators + VECTORS for dy + 1 splat

As in the stem itself, the taps of one kernel row are K * C contiguous floats of the picture. A tile adds up TAPS of
them, over all pixels; each sum is one chain of FMAs over the pixels in order, which starts at what `out` holds.
"""
import functools

from .lanes import family, routine
from .layout import FLOAT
from .stem import CHANNELS, KERNEL, STRIDE


def stem_gradient_tile(t, x, x_row, x_pixel, dy, dy_row, dy_plane, out, rows, columns, *, VECTORS, TAPS):
    """TAPS floats of one kernel row by VECTORS vectors of channels, over `rows` rows of `columns` pixels."""
    vector = t.layout.vector
    places = [(tap, v) for tap in range(TAPS) for v in range(VECTORS)]

    def row(q, x, dy, *acc):
        def pixel(r, x, dy, *acc):
            inputs = [t.splat(x + tap * FLOAT) for tap in range(TAPS)]
            gradients = [t.load(dy + v * dy_plane) for v in range(VECTORS)]
            acc = [t.fma(inputs[tap], gradients[v], a) for a, (tap, v) in zip(acc, places)]
            return [x + x_pixel, dy + vector, *acc]

        _, _, *acc = t.loop(columns, pixel, x, dy, *acc)
        return [x + x_row, dy + dy_row, *acc]

    acc = [t.load(out + (tap * VECTORS + v) * vector) for tap, v in places]
    _, _, *acc = t.loop(rows, row, x, dy, *acc)
    for a, (tap, v) in zip(acc, places):
        t.store(a, out + (tap * VECTORS + v) * vector)


@functools.cache
def stem_gradient_kernel(layout):
    """The routine `stem_gradient` for one layout."""
    vector, sizes = layout.vector, sorted(set(layout.panel_sizes(layout.vectors(CHANNELS))))
    TILE = family(stem_gradient_tile, layout, VECTORS=range(sizes[0], sizes[-1] + 1), TAPS=(KERNEL,))

    @routine
    def stem_gradient(x, x_row, channels, dy, dy_plane, out, rows, columns, vectors):
        """`rows` rows of `columns` pixels of dy by one panel of `vectors` vectors; addresses and rows in bytes."""
        taps = KERNEL * channels
        for i in range(KERNEL):
            for tap in range(0, taps, KERNEL):
                TILE(vectors, KERNEL, x + i * x_row + tap * FLOAT, STRIDE * x_row, STRIDE * channels * FLOAT, dy,
                     columns * vector, dy_plane, out + (i * taps + tap) * vectors * vector, rows, columns)

    return stem_gradient
