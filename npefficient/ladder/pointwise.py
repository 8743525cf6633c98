"""1x1 convolution, from plain loops to what the engine runs:

    out[p, m] = bias[m] + sum over k of x[p, k] * weight[m, k], then ReLU6, or + residual[p, m]

    x (P, K), weight (M, K), bias (M,), out and residual (P, M), or (0, M) for none; P pixels, all float32
    FLOPs 2 P K M: a multiplication and an addition for each pixel and weight
    bytes at least 4 (P K + K M + P M): each value read or written once

Every rung computes the same sums. They differ in where the values are kept, which the comments count in loads and
stores for each fused multiply-add (FMA), and in how many sums are in flight. A core starts one or two vector FMAs per
cycle, and as many loads, and an FMA's latency is about four cycles: `npefficient bench kernels` measures this, and
predicts each rung from its `Cost`. Source of the scheme: Goto & van de Geijn 2008 (doi 10.1145/1356052.1356053).

The rungs up to `lanes over channels` are in `loops.py`.
"""
from typing import NamedTuple

import numpy as np
from numba import njit

from ..kernels.lanes import family
from ..kernels.pointwise import pointwise_kernel, pointwise_tile
from .arrays import (
    LANES,
    LAYOUT,
    UNROLL,
    VECTOR,
    address,
    blocks,
    in_blocks,
    out_of_blocks,
    packed,
    placed,
    planes_of,
    zeros,
)
from .case import Case, Cost, Folded, Prepared, Rung
from .loops import compiled_loops, four_sums, fused_multiply_adds, lanes_over_channels, plain_loops, register_block

# --- explicit vectors: sums in registers -----------------------------------------------------------------------------


def vector_tile(t, x, x_pixel, weight, weight_row, bias, relu6, has_residual, residual, out, out_pixel, steps, tiles,
                *, PIXELS, VECTORS):
    """`tiles` tiles of PIXELS pixels by VECTORS vectors of output channels; addresses and distances in bytes."""
    places = [(p, v) for p in range(PIXELS) for v in range(VECTORS)]

    def tile(i, x, residual, out):
        def multiply_add(k, x, weight, *acc):
            weights = [t.load(weight + v * VECTOR) for v in range(VECTORS)]
            pixels = [t.splat(x + x_pixel * p) for p in range(PIXELS)]
            acc = [t.fma(pixels[p], weights[v], a) for a, (p, v) in zip(acc, places)]
            return [x + t.layout.item, weight + weight_row, *acc]

        def add_residual(*acc):
            return [a + t.load(residual + out_pixel * p + v * VECTOR) for a, (p, v) in zip(acc, places)]

        _, _, *acc = t.loop(steps, multiply_add, x, weight, *(t.load(bias + v * VECTOR) for _, v in places))
        acc = t.when(relu6, lambda *acc: [a.relu6() for a in acc], *acc)
        acc = t.when(has_residual, add_residual, *acc)
        for a, (p, v) in zip(acc, places):
            t.store(a, out + out_pixel * p + v * VECTOR)
        return x + x_pixel * PIXELS, residual + out_pixel * PIXELS, out + out_pixel * PIXELS

    t.loop(tiles, tile, x, residual, out)


TILE = 4  # pixels: 4 x 3 sums, 3 weights and a pixel fill 16 registers, which every processor has
TILES = family(vector_tile, LAYOUT, PIXELS=(1, TILE), VECTORS=range(1, LAYOUT.panel + 1))


@njit
def panel_of_tiles(pixels, count, x, weight, bias, relu6, residual, out):
    """The pixels of `x` that whole tiles of `pixels` pixels cover, by the first `count` vectors of output channels."""
    TILES(pixels, count, x.ctypes.data, x.strides[0], weight.ctypes.data, weight.strides[0],
          bias.ctypes.data, int(relu6), len(residual), residual.ctypes.data, out.ctypes.data, out.strides[0],
          x.shape[1], len(x) // pixels)


@njit
def explicit_vectors(x, weight, bias, relu6, residual, out, sizes):
    """x (rows, P, K), so that there may be zeros between the rows of out; weight (K, M), M a multiple of LANES, in
    panels of `sizes` vectors.

    3 sums at a time stay in registers: 4 loads (3 weights, the pixel) for 3 FMAs, no store.
    """
    for row in range(len(x)):
        m = 0
        for count in sizes:
            panel_of_tiles(1, count, x[row], weight[:, m:], bias[m:], relu6, residual[row, :, m:], out[row, :, m:])
            m += count * LANES


# --- tiled in registers: several pixels per weight -------------------------------------------------------------------


@njit
def tiled_in_registers(x, weight, bias, relu6, residual, out, sizes):
    """As before, but 12 sums of 4 pixels: 7 loads for 12 FMAs, and enough independent sums to hide the latency."""
    for row in range(len(x)):
        m, rest = 0, x.shape[1] // TILE * TILE
        for count in sizes:
            for pixels, p in ((TILE, 0), (1, rest)):
                panel_of_tiles(pixels, count, x[row, p:], weight[:, m:], bias[m:], relu6, residual[row, p:, m:],
                               out[row, p:, m:])
            m += count * LANES


# --- packed weights: what the engine runs ----------------------------------------------------------------------------


pointwise = pointwise_kernel(LAYOUT)


@njit
def packed_weights(x, x_plane, x_row, weight, bias, sizes, channels, half, relu6, has_residual, residual,
                   out, out_plane, out_row, rows, columns):
    """`rows` rows of `columns` pixels of x [K / LANES][..][LANES], weight [panel][K][vectors][LANES], out and residual
    [M / LANES][..][LANES]: addresses, and bytes from plane to plane and from row to row. `sizes`: vectors of each
    panel; `half`: the last vector is a half one.

    A tile reads its weights sequentially, and its pixels at constant distances from one address. It has as many pixels
    as the registers allow: with 32 of them, 11 loads for 24 FMAs.
    """
    for row in range(rows):
        first = 0
        for i in range(len(sizes)):
            at = row * out_row + first * out_plane
            pointwise(x=x + row * x_row, x_plane=x_plane, weight=weight + first * VECTOR * channels,
                      next_weight=weight + (first + sizes[i]) * VECTOR * channels, bias=bias + first * VECTOR,
                      relu6=relu6, has_residual=has_residual, residual=residual + at, out=out + at,
                      out_plane=out_plane, steps=channels // UNROLL, pixels=columns, vectors=sizes[i],
                      half=half if i == len(sizes) - 1 else 0, calls_before=0)
            first += sizes[i]


# --- the ladder ------------------------------------------------------------------------------------------------------


def flat(picture):
    """(H, W, C) -> (P, C), the same memory."""
    return picture.reshape(-1, picture.shape[2])


def residual_of(case: Case, multiple: int = 1):
    """(P, M), M padded to a multiple, or (0, M) for none."""
    return placed(zeros(0, case.out_shape[2]) if case.residual is None else flat(case.residual), multiple)


def matrix_of(conv: Folded, transposed: bool):
    """(M, K), or (K, M)."""
    weight = conv.weight[:, :, 0, 0]
    return placed(weight.T if transposed else weight)


def panels_of(conv: Folded):
    """Weight (K, M) and bias (M,) for whole vectors, M a multiple of LANES, and the vectors of each panel."""
    sizes = np.array(LAYOUT.panel_sizes(LAYOUT.vectors(len(conv.bias))))
    return placed(matrix_of(conv, True), LANES), placed(conv.bias, LANES), sizes


class Panels(NamedTuple):
    """Packed weights as `packed_weights` takes them."""

    weight: int  # address of [panel][K][vectors of the panel][LANES], a half vector with LANES / 2
    bias: int  # address of [M / LANES][LANES]
    sizes: np.ndarray  # vectors of each panel
    channels: int  # K
    half: int  # 1 if the last vector is a half one


def packed_panels(conv: Folded):
    """(Panels, the arrays that they point to)."""
    _, bias, sizes = panels_of(conv)
    weight = placed(matrix_of(conv, True), UNROLL, axis=0)  # the kernel takes UNROLL input channels at a time
    arrays = packed(weight), bias
    return Panels(*map(address, arrays), sizes, len(weight), int(LAYOUT.is_half(len(conv.bias)))), arrays


def _loops(function, transposed: bool):
    """Return a `prepare` for loops over the arrays of the formula."""

    def prepare(case: Case) -> Prepared:
        (conv,), out = case.convs, zeros(*case.out_shape)
        x, weight, bias = flat(placed(case.x)), matrix_of(conv, transposed), placed(conv.bias)
        return Prepared(function, (x, weight, bias, conv.relu6, residual_of(case), flat(out)), out.copy)

    return prepare


def _vectors(function):
    """Return a `prepare` for whole vectors of output channels."""

    def prepare(case: Case) -> Prepared:
        (conv,), (q, r, channels) = case.convs, case.out_shape
        weight, bias, sizes = panels_of(conv)
        out = zeros(q, r, len(bias))
        x, residual, pixels = (array[None] for array in (flat(placed(case.x)), residual_of(case, LANES), flat(out)))
        return Prepared(function, (x, weight, bias, conv.relu6, residual, pixels, sizes),
                        lambda: out[:, :, :channels].copy())

    return prepare


def _packed(case: Case) -> Prepared:
    (conv,), (q, r, channels) = case.convs, case.out_shape
    panels, arrays = packed_panels(conv)
    x, out = in_blocks(case.x), blocks(q, r, channels)
    residual = out if case.residual is None else in_blocks(case.residual)
    arguments = (*planes_of(x), *panels, int(conv.relu6), int(residual is not out), address(residual), *planes_of(out),
                 1, q * r)
    return Prepared(packed_weights, arguments, lambda: out_of_blocks(out, channels), (x, residual, *arrays))


PANEL = LAYOUT.panel
PIXELS = LAYOUT.largest_tile(PANEL)
PER_LOAD = UNROLL if LAYOUT.inputs_kept else 1  # NEON loads four values of a pixel at once, and multiplies by a lane
KERNELS = {pixels: f"npefficient_vector_tile_x{LANES}_{pixels}_{PANEL}" for pixels in (1, TILE)}

RUNGS = (
    Rung("pointwise", "plain loops", "the formula as it stands", _loops(plain_loops, False), code=(plain_loops,)),
    Rung("pointwise", "compiled loops", "limited by the interpreter, which makes Python objects of two numbers for "
         "each product: Numba compiles the same loops", _loops(compiled_loops, False), code=(compiled_loops,),
         cost=Cost(lanes=1, sums=1, loads=2, fused=False)),
    Rung("pointwise", "fused multiply-adds", "limited by the latency of additions, each of which waits for the one "
         "before, and the compiler must not change the order of a sum of floats: a multiplication and an addition "
         "become one instruction, which is no help, since its latency is not shorter",
         _loops(fused_multiply_adds, False), code=(fused_multiply_adds,), cost=Cost(lanes=1, sums=1, loads=2)),
    Rung("pointwise", "four sums", "limited by latency still: four output channels at a time, whose sums do not wait "
         "for each other", _loops(four_sums, False), code=(four_sums,), cost=Cost(lanes=1, sums=4, loads=5 / 4)),
    Rung("pointwise", "register block", "limited by latency still, and by loads: two pixels share the weights of four "
         "channels, and eight sums are in flight", _loops(register_block, False), code=(register_block,),
         cost=Cost(lanes=1, sums=8, loads=6 / 8)),
    Rung("pointwise", "lanes over channels", "limited by the number of instructions, each of which computes a single "
         "product: output channels go innermost, where the order of a sum does not matter, and the compiler makes "
         "vectors of them", _loops(lanes_over_channels, True), code=(lanes_over_channels,),
         cost=Cost(lanes=LANES, sums=None, loads=2, stores=1)),
    Rung("pointwise", "explicit vectors", "limited by loads and stores, three for each vector FMA: the sums stay in "
         "registers", _vectors(explicit_vectors), code=(vector_tile, panel_of_tiles, explicit_vectors),
         cost=Cost(lanes=LANES, sums=PANEL, loads=(PANEL + 1) / PANEL, kernel=KERNELS[1])),
    Rung("pointwise", "tiled in registers", "limited by the latency of three sums, and by more than one load for each "
         "FMA: four pixels at a time share every weight", _vectors(tiled_in_registers),
         code=(vector_tile, panel_of_tiles, tiled_in_registers),
         cost=Cost(lanes=LANES, sums=TILE * PANEL, loads=(PANEL + TILE) / (PANEL * TILE), kernel=KERNELS[TILE])),
    Rung("pointwise", "packed weights", "limited by rows that lie far apart, and by remainders of tiles and halves of "
         "vectors, which cost as much as whole ones: weights in the order of their use, tiles as equal as can be; this "
         "is the engine's kernel", _packed, code=(pointwise_tile, packed_weights),
         cost=Cost(lanes=LANES, sums=PIXELS * PANEL, loads=(PANEL + PIXELS / PER_LOAD) / (PANEL * PIXELS),
                   kernel=f"npefficient_pointwise_tile_x{LANES}_{PANEL}_0_{PIXELS}")),
)
