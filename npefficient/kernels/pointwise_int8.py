"""1x1 convolution of integers: total[p, m] = start[m] + sum over k of x[p, k] * weight[k, m], then back to floats,

    y[p, m] = float(total[p, m]) * (scale * factor[m]) + bias[m]

as one fused multiply-add. Then either ReLU6 and rounding to an integer from 0 to 255, or + residual.

    x (P, K) uint8, weight (K, M) int8, start (M,) and total int32; scale (1,), factor and bias (M,), residual float32;
    out (P, M) uint8 or float32; P pixels, of one row if it has a scale, in blocks of channels (`layout.py`)
    operations 2 P K M; bytes at least P K + K M + P M
    registers and loads: as in the float kernel (`pointwise.py`), with a group of channels in place of one

The loop adds whole groups of channels (`integers.py`), 4 or 2 for each lane. Weights are packed in panels as for the
float kernel, [panel][K / group][VECTORS][lanes][group].
"""
import functools

from .lanes import family, routine
from .layout import CACHE_LINE, FLOAT
from .pointwise import FETCHING_TILES
from .tiles import cut, largest_tile


def pointwise_int8_tile(t, x, x_plane, has_scale, scale, weight, next_weight, bias, relu6, has_residual, residual, out,
                        out_plane, out_pixel, steps, tiles_before, tiles, *, VECTORS, HALF, PIXELS):
    """`tiles` tiles of PIXELS neighbouring pixels by VECTORS vectors of output channels, the last one HALF or whole.

    Addresses, planes and pixels in bytes; `steps` is K / unroll. At `bias` are start, factor and bias of each vector of
    channels, one after the other. Without `has_scale`, the scale is 1.
    """
    layout = t.layout
    vector, unroll, floats = layout.vector, layout.unroll, layout.floats
    lanes = [layout.lanes] * (VECTORS - HALF) + [layout.lanes // 2] * HALF
    whole = VECTORS - HALF
    row = sum(lanes) * FLOAT  # bytes of weights for one group
    groups = unroll // layout.group  # per iteration
    fetched = -(-groups * row // (FETCHING_TILES * CACHE_LINE))  # cache lines per iteration
    places = [(p, v) for p in range(PIXELS) for v in range(VECTORS)]

    turns = layout.lanes // unroll  # iterations per block of channels, see the float kernel
    distances = [t.constant(unroll * layout.item)] * (turns - 1) + [x_plane - (turns - 1) * unroll * layout.item]

    def apply_scale(*factors):
        return [one * t.splat(scale) for one in factors]

    factors = t.when(has_scale, apply_scale, *(t.load(bias + (3 * v + 1) * floats) for v in range(VECTORS)))

    def tile(i, x, residual, out):
        part = next_weight + (tiles_before + i).at_most(FETCHING_TILES) * steps * (fetched * CACHE_LINE)

        def multiply_add(s, x, weight, *carried):
            total, distances = list(carried[: len(places)]), carried[len(places) :]
            for line in range(fetched):
                t.prefetch(part + s * (fetched * CACHE_LINE) + line * CACHE_LINE)
            again = x.hidden() if HALF else x
            for k in range(groups):
                weights = [t.integers(weight + k * row + v * floats, lanes[v]) for v in range(VECTORS)]
                for p in range(PIXELS):
                    for v in range(VECTORS):
                        pixel = t.group((x if v < whole else again) + p * vector + k * FLOAT, lanes[v])
                        total[p * VECTORS + v] = t.dot(pixel, weights[v], total[p * VECTORS + v])
            return [x + distances[0], weight + groups * row, *total, *distances[1:], distances[0]]

        def add_residual(*y):
            return [one + t.load(residual + v * out_plane + p * floats) for one, (p, v) in zip(y, places)]

        def store_integers():
            for v in range(VECTORS):
                t.store_relu6(y[v::VECTORS], out + v * out_plane)
            return []

        def store_floats():
            for one, (p, v) in zip(t.when(has_residual, add_residual, *y), places):
                t.store(one, out + v * out_plane + p * floats)
            return []

        total = [t.integers(bias + 3 * v * floats, lanes[v]) for p, v in places]
        _, _, *total = t.loop(steps, multiply_add, x, weight, *total, *distances)
        biases = [t.load(bias + (3 * v + 2) * floats) for v in range(VECTORS)]
        y = [t.fma(t.float(one.widen(layout.lanes)), factors[v], biases[v]) for one, (p, v) in zip(total, places)]
        t.when(relu6, store_integers)
        t.when(t.constant(1) - relu6, store_floats)
        return x + PIXELS * vector, residual + PIXELS * floats, out + out_pixel * PIXELS

    t.loop(tiles, tile, x, residual, out)


@functools.cache
def pointwise_int8_kernel(layout):
    """The routine `pointwise_int8` for one layout."""
    panel, longest = layout.panel, layout.longest_tile
    vector, floats, registers, inputs_kept = layout.vector, layout.floats, layout.registers, layout.inputs_kept

    TILES = family(pointwise_int8_tile, layout, layout.has_tile, VECTORS=range(1, panel + 1), HALF=(0, 1),
                   PIXELS=range(1, longest + 1))

    @routine
    def pointwise(x, x_plane, has_scale, scale, weight, next_weight, bias, relu6, has_residual, residual, out,
                  out_plane, steps, pixels, vectors, half, calls_before):
        """`pixels` pixels by one panel of `vectors` vectors, the last one `half` or whole, as in the float kernel."""
        largest = largest_tile(vectors, registers, inputs_kept, longest)
        tiles_before = calls_before * ((pixels + largest - 1) // largest)
        out_pixel = vector if relu6 else floats
        while pixels > 0:
            size, count = cut(pixels, largest)
            TILES(vectors, half, size, x, x_plane, has_scale, scale, weight, next_weight, bias, relu6, has_residual,
                  residual, out, out_plane, out_pixel, steps, tiles_before, count)
            tiles_before += count
            done = count * size
            x, out, pixels = x + done * vector, out + done * out_pixel, pixels - done
            residual += done * floats

    return pointwise
