"""1x1 convolution: out[p, m] = clamp(bias[m] + sum over k of x[p, k] * weight[k, m]) (+ residual[p, m]).

    x (P, K), weight (K, M), bias (M,), residual and out (P, M); P pixels, all float32, NHWC
    FLOPs 2 P K M; bytes at least 4 (P K + K M + P M)
    registers: PIXELS * VECTORS accumulators + VECTORS weights + 1 splat; 6 * 2 + 2 + 1 = 15 of AVX2's 16
    loads per FMA: (PIXELS + VECTORS) / (PIXELS * VECTORS) = 8 / 12

Weights are packed in panels of 16 output channels, [panel][K][16], in the order in which a tile reads them; where M is
an odd multiple of 8, the last panel has 8. Each output is one chain of FMAs over k in order that starts at the bias,
so its bits do not depend on the tile that computed it. Source of the scheme: Goto & van de Geijn 2008
(doi 10.1145/1356052.1356053).
"""
from .lanes import kernel, routine
from .layout import FLOAT, LANES, PANEL, VECTOR

UNROLL = 8  # of the loop over k; every channel count of the network is a multiple of it


def pointwise_tile(t, x, x_row, weight, bias, bounds, has_residual, residual, out, out_row, blocks, tiles,
                   *, PIXELS, VECTORS):
    """`tiles` tiles of PIXELS pixels by VECTORS vectors, going down the pixels; rows and addresses in bytes."""
    low, high = t.splat(bounds), t.splat(bounds + FLOAT)

    def tile(i, x, residual, out):
        def block(b, x, weight, *acc):
            acc = list(acc)
            for k in range(UNROLL):
                weights = [t.load(weight + (k * VECTORS + v) * VECTOR) for v in range(VECTORS)]
                for p in range(PIXELS):
                    pixel = t.splat(x + x_row * p + k * FLOAT)
                    for v in range(VECTORS):
                        acc[p * VECTORS + v] = t.fma(pixel, weights[v], acc[p * VECTORS + v])
            return [x + UNROLL * FLOAT, weight + UNROLL * VECTORS * VECTOR, *acc]

        def add_residual(*acc):
            return [acc[p * VECTORS + v] + t.load(residual + out_row * p + v * VECTOR)
                    for p in range(PIXELS) for v in range(VECTORS)]

        acc = [t.load(bias + v * VECTOR) for _ in range(PIXELS) for v in range(VECTORS)]
        _, _, *acc = t.loop(blocks, block, x, weight, *acc)
        acc = t.when(has_residual, add_residual, *(a.clamp(low, high) for a in acc))
        for p in range(PIXELS):
            for v in range(VECTORS):
                t.store(acc[p * VECTORS + v], out + out_row * p + v * VECTOR)
        return x + x_row * PIXELS, residual + out_row * PIXELS, out + out_row * PIXELS

    t.loop(tiles, tile, x, residual, out)


TILE_6X2 = kernel(pointwise_tile, PIXELS=6, VECTORS=2)
TILE_3X2 = kernel(pointwise_tile, PIXELS=3, VECTORS=2)
TILE_1X2 = kernel(pointwise_tile, PIXELS=1, VECTORS=2)
TILE_6X1 = kernel(pointwise_tile, PIXELS=6, VECTORS=1)
TILE_3X1 = kernel(pointwise_tile, PIXELS=3, VECTORS=1)
TILE_1X1 = kernel(pointwise_tile, PIXELS=1, VECTORS=1)


@routine
def pointwise(x, in_channels, weight, bias, bounds, has_residual, residual, out, out_channels, pixels, first, last):
    """Panels `first` to `last` (exclusive) of `pixels` pixels; everything but `in_channels`, `out_channels`,
    `has_residual` and the counts is an address."""
    x_row, out_row, blocks = in_channels * FLOAT, out_channels * FLOAT, in_channels // UNROLL
    sixes, threes = pixels // 6, pixels % 6 // 3
    ones = pixels - 6 * sixes - 3 * threes
    for panel in range(first, last):
        m = panel * PANEL * LANES
        w, b, r, o = weight + m * x_row, bias + m * FLOAT, residual + m * FLOAT, out + m * FLOAT
        p, q = 6 * sixes, 6 * sixes + 3 * threes
        if out_channels - m >= PANEL * LANES:
            TILE_6X2(x, x_row, w, b, bounds, has_residual, r, o, out_row, blocks, sixes)
            TILE_3X2(x + p * x_row, x_row, w, b, bounds, has_residual, r + p * out_row, o + p * out_row, out_row,
                     blocks, threes)
            TILE_1X2(x + q * x_row, x_row, w, b, bounds, has_residual, r + q * out_row, o + q * out_row, out_row,
                     blocks, ones)
        else:
            TILE_6X1(x, x_row, w, b, bounds, has_residual, r, o, out_row, blocks, sixes)
            TILE_3X1(x + p * x_row, x_row, w, b, bounds, has_residual, r + p * out_row, o + p * out_row, out_row,
                     blocks, threes)
            TILE_1X1(x + q * x_row, x_row, w, b, bounds, has_residual, r + q * out_row, o + q * out_row, out_row,
                     blocks, ones)
