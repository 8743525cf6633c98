"""The gradient of a 1x1 convolution's weights: out[k, m] += sum over p of x[p, k] * dy[p, m].

    x (P, K), the convolution's input, and dy (P, M), the gradient of its output, in blocks of channels (`layout.py`);
    out (K, M) in panels of 3 or 2 vectors, [panel][K][VECTORS * lanes]; all float32
    FLOPs 2 P K M; bytes at least 4 (P K + P M + 2 K M)
    registers and loads: as in the kernel of the convolution itself (`pointwise.py`), with input channels in the place
    of pixels, and pixels in the place of input channels

So it is the same kernel turned around: a tile adds up ROWS input channels by VECTORS vectors of output channels, over
all pixels. Each sum is one chain of FMAs over the pixels in order, which starts at what `out` holds.

The gradient of the input is a 1x1 convolution of dy with the transposed weights, by the kernel of `pointwise.py`.
"""
import functools

from .lanes import family, routine
from .layout import FLOAT


def pointwise_gradient_tile(t, x, dy, dy_plane, out, pixels, *, VECTORS, ROWS):
    """ROWS neighbouring input channels of one block by VECTORS vectors of output channels; addresses in bytes."""
    vector = t.layout.vector
    places = [(k, v) for k in range(ROWS) for v in range(VECTORS)]

    def pixel(p, x, dy, *acc):
        inputs = [t.splat(x + k * FLOAT) for k in range(ROWS)]
        gradients = [t.load(dy + v * dy_plane) for v in range(VECTORS)]
        acc = [t.fma(inputs[k], gradients[v], a) for a, (k, v) in zip(acc, places)]
        return [x + vector, dy + vector, *acc]

    acc = [t.load(out + (k * VECTORS + v) * vector) for k, v in places]
    _, _, *acc = t.loop(pixels, pixel, x, dy, *acc)
    for a, (k, v) in zip(acc, places):
        t.store(a, out + (k * VECTORS + v) * vector)


@functools.cache
def pointwise_gradient_kernel(layout):
    """The routine `pointwise_gradient` for one layout."""
    vector, lanes = layout.vector, layout.lanes
    rows = 1 << min(layout.largest_tile(layout.panel), lanes).bit_length() - 1  # a power of two: it divides the lanes
    TILE = family(pointwise_gradient_tile, layout, VECTORS=range(1, layout.panel + 1), ROWS=(rows,))

    @routine
    def pointwise_gradient(x, x_plane, dy, dy_plane, out, in_channels, pixels, vectors):
        """`in_channels` input channels, a multiple of 8, by one panel of `vectors` vectors, over `pixels` pixels."""
        for k in range(0, in_channels, rows):
            TILE(vectors, rows, x + k // lanes * x_plane + k % lanes * FLOAT, dy, dy_plane, out + k * vectors * vector,
                 pixels)

    return pointwise_gradient
