"""The stem, a dense 3x3 convolution at stride 2 from the picture to 32 channels, with ReLU6.

    out[q, r, m] = relu6(bias[m] + sum over i, j, c of x[q S + i - top, r S + j - left, c] * weight[i, j, c, m])

    x (H, W, C) as the user passes it, weight (K, K, C, M) of one panel, bias (M,), out (Q, R, M) in blocks of
    channels; all float32, whatever the layout's values are; C is 3 for colour
    FLOPs 2 Q R M K K C; registers as in a pointwise tile; loads per FMA: (PIXELS + VECTORS) / (PIXELS * VECTORS)

In the picture, the taps of one kernel row are K * C contiguous floats, and their weights are contiguous too. So a tile
has one loop over these floats, not one over columns and one over channels. Zero padding is never stored: outputs at the
border sum over the taps inside the picture, one pixel at a time. Each output is one chain of FMAs over the taps in
order that starts at the bias.
"""
import functools

from .lanes import arithmetic, family, routine
from .layout import CACHE_LINE, FLOAT
from .tiles import cut, largest_tile

KERNEL, STRIDE, CHANNELS = 3, 2, 32
FETCHED = 3  # cache lines of a picture row for a tile of 8 outputs: 8 * STRIDE colour pixels of 12 bytes are 192 bytes


def stem_tile(t, x, x_row, x_pixel, weight, weight_row, bias, out, out_plane, rows, taps, tiles,
              *, VECTORS, PIXELS):
    """`tiles` tiles of PIXELS outputs by VECTORS vectors of channels, over `rows` rows of `taps` floats of the picture.

    Addresses and distances in bytes; x_pixel is the distance in the picture from one output to the next.
    """
    vector = t.layout.floats
    places = [(p, v) for p in range(PIXELS) for v in range(VECTORS)]

    def tile(i, x, out):
        def tap_row(i, x, weight, *acc):
            # Prefetch what the next row of outputs reads with this tap row. Single outputs at the border do without.
            for line in range(FETCHED if PIXELS > 1 else 0):
                t.prefetch(x + x_row * STRIDE + line * CACHE_LINE)

            def tap(j, pixel, weight, *acc):
                weights = [t.load(weight + v * vector) for v in range(VECTORS)]
                pixels = [t.splat(pixel + x_pixel * p) for p in range(PIXELS)]
                return [pixel + FLOAT, weight + VECTORS * vector,
                        *(t.fma(pixels[p], weights[v], a) for a, (p, v) in zip(acc, places))]

            _, _, *acc = t.loop(taps, tap, x, weight, *acc)
            return [x + x_row, weight + weight_row, *acc]

        _, _, *acc = t.loop(rows, tap_row, x, weight, *(t.load(bias + v * vector) for _, v in places))
        for a, (p, v) in zip(acc, places):
            t.store(a if t.layout.training else a.relu6(), out + v * out_plane + p * vector)
        return x + x_pixel * PIXELS, out + PIXELS * vector

    t.loop(tiles, tile, x, out)


@arithmetic
def inside(first, size, kernel):
    """The taps of one axis that are inside the picture, as (skipped, count); tap 0 is at index `first`."""
    skipped = max(-first, 0)
    return skipped, min(kernel, size - first) - skipped


@functools.cache
def stem_kernel(layout):
    """The routine `stem_row` for one layout."""
    vector, longest = layout.floats, layout.longest_tile
    registers, inputs_kept = layout.registers, layout.inputs_kept

    def exists(VECTORS, PIXELS):
        """False for a tile that does not fit the registers, or if no panel of the stem is so wide."""
        return PIXELS <= layout.largest_tile(VECTORS) and VECTORS in layout.panel_sizes(layout.vectors(CHANNELS))

    TILES = family(stem_tile, layout, exists, VECTORS=range(1, layout.panel + 1), PIXELS=range(1, longest + 1))

    @routine
    def stem_row(x, height, width, channels, weight, bias, out, out_plane, q, columns, top, left, vectors):
        """Row `q` of one panel of `vectors` vectors; x, weight, bias and out (of the row) are addresses."""
        x_pixel, tap = channels * FLOAT, channels * vectors * vector  # bytes per pixel, and of the weights of one tap
        row, weight_row = width * x_pixel, KERNEL * tap
        largest = largest_tile(vectors, registers, inputs_kept, longest)
        i, rows = inside(q * STRIDE - top, height, KERNEL)
        x += (q * STRIDE - top + i) * row
        weight += i * weight_row

        # From output `first` up to `last`, all columns are inside: at S - left >= 0 and at S - left + KERNEL <= width.
        first = (left + STRIDE - 1) // STRIDE
        last = max(first, (width + left - KERNEL) // STRIDE + 1)
        at = first
        while at < last:
            size, count = cut(last - at, largest)
            TILES(vectors, size, x + (at * STRIDE - left) * x_pixel, row, STRIDE * x_pixel, weight, weight_row, bias,
                  out + at * vector, out_plane, rows, KERNEL * channels, count)
            at += count * size
        # The outputs before and after these, one at a time, with fewer columns.
        for r in range(columns - (last - first)):
            at = r if r < first else r + last - first
            j, inner = inside(at * STRIDE - left, width, KERNEL)
            TILES(vectors, 1, x + (at * STRIDE - left + j) * x_pixel, row, x_pixel, weight + j * tap, weight_row, bias,
                  out + at * vector, out_plane, rows, inner * channels, 1)

    return stem_row
