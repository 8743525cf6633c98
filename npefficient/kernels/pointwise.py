"""1x1 convolution: out[p, m] = bias[m] + sum over k of x[p, k] * weight[k, m], then ReLU6 or + residual[p, m].

    x (P, K), weight (K, M), bias (M,), residual and out (P, M); P pixels, all float32; activations in blocks of
    channels (`layout.py`)
    FLOPs 2 P K M; bytes at least 4 (P K + K M + P M)
    registers: PIXELS * VECTORS accumulators + VECTORS weights + 1 splat; 8 * 3 + 3 + 1 = 28 of AVX-512's 32,
    4 * 3 + 3 + 1 = 16 of AVX2's 16
    loads per FMA: (PIXELS + VECTORS) / (PIXELS * VECTORS) = 11 / 24 and 7 / 12

Weights are packed in panels of 3 or 2 vectors of output channels, [panel][K][VECTORS * LANES], in the order in which a
tile reads them. Each output is one chain of FMAs over k in order that starts at the bias, so its bits do not depend on
the tile that computed it. Source of the scheme: Goto & van de Geijn 2008 (doi 10.1145/1356052.1356053).
"""
from . import layout
from .lanes import arithmetic, cut, family, routine
from .layout import FLOAT, LANES, LARGEST, PANEL, UNROLL, VECTOR

largest_tile = arithmetic(layout.largest_tile)


def pointwise_tile(t, x, x_plane, weight, bias, relu6, has_residual, residual, out, out_plane, steps, tiles,
                   *, VECTORS, HALF, PIXELS):
    """`tiles` tiles of PIXELS neighbouring pixels by VECTORS vectors of output channels, the last a HALF one or whole.

    Addresses and planes in bytes; `steps` are K / UNROLL.
    """
    lanes = [LANES] * (VECTORS - HALF) + [LANES // 2] * HALF
    whole = VECTORS - HALF
    row = sum(lanes) * FLOAT  # bytes of weights for one k
    # From one turn's inputs to the next turn's: along the channels of a block, then on to the next plane; in rotation.
    to_the_next_k = [t.constant(UNROLL * FLOAT)] * (LANES // UNROLL - 1) + [x_plane - (LANES - UNROLL) * FLOAT]

    def tile(i, x, residual, out):
        def multiply_add(s, x, weight, *carried):
            acc, strides = list(carried[: PIXELS * VECTORS]), carried[PIXELS * VECTORS :]
            again = x.hidden() if HALF else x  # or LLVM makes a whole vector of the half one, which takes longer
            for k in range(UNROLL):
                weights = [t.load(weight + k * row + v * VECTOR, lanes[v]) for v in range(VECTORS)]
                for p in range(PIXELS):
                    for v in range(VECTORS):
                        pixel = t.splat((x if v < whole else again) + p * VECTOR + k * FLOAT, lanes[v])
                        acc[p * VECTORS + v] = t.fma(pixel, weights[v], acc[p * VECTORS + v])
            return [x + strides[0], weight + UNROLL * row, *acc, *strides[1:], strides[0]]

        def add_residual(*acc):
            return [a + t.load(residual + v * out_plane + p * VECTOR) for a, (p, v) in zip(acc, places)]

        places = [(p, v) for p in range(PIXELS) for v in range(VECTORS)]
        acc = [t.load(bias + v * VECTOR, lanes[v]) for p, v in places]
        _, _, *acc = t.loop(steps, multiply_add, x, weight, *acc, *to_the_next_k)
        acc = [a.widen(LANES) for a in acc[: len(places)]]
        acc = t.when(relu6, lambda *acc: [a.relu6() for a in acc], *acc)
        acc = t.when(has_residual, add_residual, *acc)
        for a, (p, v) in zip(acc, places):
            t.store(a, out + v * out_plane + p * VECTOR)
        return x + PIXELS * VECTOR, residual + PIXELS * VECTOR, out + PIXELS * VECTOR

    t.loop(tiles, tile, x, residual, out)


def _exists(VECTORS, HALF, PIXELS):
    """False for a tile that does not fit the registers, and for a panel that no layer has."""
    return PIXELS <= layout.largest_tile(VECTORS) and (not HALF or LANES > 8 and VECTORS > 1)


TILES = family(pointwise_tile, _exists, VECTORS=range(1, PANEL + 1), HALF=(0, 1), PIXELS=range(1, LARGEST + 1))


@routine
def pointwise(x, x_plane, weight, bias, relu6, has_residual, residual, out, out_plane, steps, pixels, vectors, half):
    """`pixels` pixels by one panel of `vectors` vectors, the last of them a `half` one or whole."""
    largest = largest_tile(vectors)
    while pixels > 0:
        size, count = cut(pixels, largest)
        TILES(vectors, half, size, x, x_plane, weight, bias, relu6, has_residual, residual, out, out_plane, steps,
              count)
        done = count * size * VECTOR
        x, residual, out, pixels = x + done, residual + done, out + done, pixels - count * size
