"""1x1 convolution: out[p, m] = bias[m] + sum over k of x[p, k] * weight[k, m], then ReLU6 or + residual[p, m].

    x (P, K), weight (K, M), bias (M,), residual and out (P, M); P pixels, all float32; activations in blocks of
    channels (`layout.py`)
    FLOPs 2 P K M; bytes at least 4 (P K + K M + P M)
    registers: PIXELS * VECTORS accumulators + VECTORS weights + 1 splat; 8 * 3 + 3 + 1 = 28 of AVX-512's 32,
    4 * 3 + 3 + 1 = 16 of AVX2's 16; NEON multiplies by a lane, + PIXELS inputs instead: 7 * 3 + 3 + 7 = 31 of 32
    loads per FMA: (PIXELS + VECTORS) / (PIXELS * VECTORS) = 11 / 24 and 7 / 12; NEON: (7 / 4 + 3) / 21

Weights are packed in panels of 3 or 2 vectors of output channels, [panel][K][VECTORS * lanes], in the order in which a
tile reads them. Every tile reads the whole panel. Where that would have to come from the second-level cache each time
(`Layout.weights_at_once`), all tiles do a part of the input channels before the next part, and `out` holds their sums
in between. Each output is one chain of FMAs over k in order that starts at the bias, so its bits depend neither on the
tile that computes it nor on the parts. Source of the scheme: Goto & van de Geijn 2008 (doi 10.1145/1356052.1356053).
"""
import functools

from .lanes import family, routine
from .layout import ALL_WEIGHTS, CACHE_LINE
from .tiles import cut, largest_tile

# Weights are streamed from the third-level cache or from memory, once per picture. So each iteration of a tile's loop
# prefetches a little of this thread's next panel, in order, and the first FETCHING_TILES tiles together fetch all of
# it. Fewer tiles would ask for more than the caches can deliver; with more, a chunk of few pixels would not fetch it
# all.
FETCHING_TILES = 6


def pointwise_tile(t, x, x_plane, weight, next_weight, start, start_plane, start_pixel, relu6, has_residual, residual,
                   out, out_plane, steps, tiles_before, tiles, *, VECTORS, HALF, PIXELS):
    """`tiles` tiles of PIXELS neighbouring pixels by VECTORS vectors of output channels, the last one HALF or whole.

    Addresses, planes and pixels in bytes; `steps` is the number of input channels / unroll. `start` is what the sums
    start at: the bias, which is the same for all pixels, or the sums over the channels before. `next_weight` is what to
    prefetch, and `tiles_before` counts the tiles that came before these.
    """
    layout = t.layout
    item, vector, unroll = layout.item, layout.vector, layout.unroll
    lanes = [layout.lanes] * (VECTORS - HALF) + [layout.lanes // 2] * HALF
    whole = VECTORS - HALF
    row = sum(lanes) * item  # bytes of weights for one k
    fetched = -(-unroll * row // (FETCHING_TILES * CACHE_LINE))  # cache lines per iteration of the loop
    places = [(p, v) for p in range(PIXELS) for v in range(VECTORS)]

    # Distances to the next `unroll` input channels: adjacent within a block, then in the next plane. Each iteration of
    # the loop uses the first distance and moves it to the end, so none has to test where in a block it is.
    turns = layout.lanes // unroll  # iterations per block
    distances = [t.constant(unroll * item)] * (turns - 1) + [x_plane - (turns - 1) * unroll * item]

    def tile(i, x, start, residual, out):
        part = next_weight + (tiles_before + i).at_most(FETCHING_TILES) * steps * (fetched * CACHE_LINE)

        def multiply_add(s, x, weight, *carried):
            acc, distances = list(carried[: len(places)]), carried[len(places) :]
            for line in range(fetched):
                t.prefetch(part + s * (fetched * CACHE_LINE) + line * CACHE_LINE)
            again = x.hidden() if HALF else x  # else LLVM widens the half vector to a whole one, which is slower
            inputs = [t.load(x + p * vector) for p in range(PIXELS)] if layout.inputs_kept else None
            for k in range(unroll):
                weights = [t.load(weight + k * row + v * vector, lanes[v]) for v in range(VECTORS)]
                for p in range(PIXELS):
                    for v in range(VECTORS):
                        if inputs:
                            pixel = inputs[p].splat(k)
                        else:
                            pixel = t.splat((x if v < whole else again) + p * vector + k * item, lanes[v])
                        acc[p * VECTORS + v] = t.fma(pixel, weights[v], acc[p * VECTORS + v])
            return [x + distances[0], weight + unroll * row, *acc, *distances[1:], distances[0]]

        def add_residual(*acc):
            return [a + t.load(residual + v * out_plane + p * vector) for a, (p, v) in zip(acc, places)]

        acc = [t.load(start + v * start_plane + p * start_pixel, lanes[v]) for p, v in places]
        _, _, *acc = t.loop(steps, multiply_add, x, weight, *acc, *distances)
        acc = [a.widen(layout.lanes) for a in acc[: len(places)]]
        acc = t.when(relu6, lambda *acc: [a.relu6() for a in acc], *acc)
        acc = t.when(has_residual, add_residual, *acc)
        for a, (p, v) in zip(acc, places):
            t.store(a, out + v * out_plane + p * vector)
        return x + PIXELS * vector, start + PIXELS * start_pixel, residual + PIXELS * vector, out + PIXELS * vector

    t.loop(tiles, tile, x, start, residual, out)


@functools.cache
def pointwise_kernel(layout):
    """The routine `pointwise` for one layout."""
    panel, longest = layout.panel, layout.longest_tile
    vector, registers, inputs_kept = layout.vector, layout.registers, layout.inputs_kept
    unroll, turns = layout.unroll, layout.lanes // layout.unroll  # channels of a step, steps of a block
    at_once = layout.weights_at_once

    TILES = family(pointwise_tile, layout, layout.has_tile, VECTORS=range(1, panel + 1), HALF=(0, 1),
                   PIXELS=range(1, longest + 1))

    @routine
    def pointwise(x, x_plane, weight, next_weight, bias, relu6, has_residual, residual, out, out_plane, steps, pixels,
                  vectors, half, calls_before, start_plane=vector, start_pixel=0):
        """`pixels` pixels by one panel of `vectors` vectors, the last one `half` or whole.

        bias: or what else the sums start at, with its distances, see `pointwise_tile`
        next_weight: the panel to prefetch; calls_before: earlier calls for this panel, each with as many pixels
        """
        largest = largest_tile(vectors, registers, inputs_kept, longest)
        tiles_before = calls_before * ((pixels + largest - 1) // largest)
        left, at = pixels, 0
        while left > 0:
            size, count = cut(left, largest)
            TILES(vectors, half, size, x + at, x_plane, weight, next_weight, bias + at // vector * start_pixel,
                  start_plane, start_pixel, relu6, has_residual, residual + at, out + at, out_plane, steps,
                  tiles_before, count)
            tiles_before, at, left = tiles_before + count, at + count * size * vector, left - count * size

    @routine
    def pointwise_in_parts(x, x_plane, weight, next_weight, bias, relu6, has_residual, residual, out, out_plane, steps,
                           pixels, vectors, half, calls_before):
        """The same, a part of the input channels after the other."""
        width = (vectors * vector - half * vector // 2) * unroll  # bytes of weights for a step
        several_tiles = pixels > largest_tile(vectors, registers, inputs_kept, longest)
        parts = (steps * width + at_once - 1) // at_once if several_tiles else 1
        start, start_plane, start_pixel = bias, vector, 0
        while parts > 0:
            blocks = (steps + turns * parts - 1) // (turns * parts)
            taken = min(steps, blocks * turns)
            last = parts == 1
            pointwise(x, x_plane, weight, next_weight if last else weight + taken * width, start, relu6 * last,
                      has_residual * last, residual, out, out_plane, taken, pixels, vectors, half, calls_before,
                      start_plane, start_pixel)
            x, weight, steps, parts = x + blocks * x_plane, weight + taken * width, steps - taken, parts - 1
            start, start_plane, start_pixel = out, out_plane, vector

    return pointwise if at_once == ALL_WEIGHTS else pointwise_in_parts
