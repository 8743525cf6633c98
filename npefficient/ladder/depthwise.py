"""Depthwise convolution, from plain loops to what the engine runs:

    out[q, r, c] = relu6(bias[c] + sum over i, j of x[q S + i - top, r S + j - left, c] * weight[c, i, j])

    x (H, W, C), weight (C, K, K), bias (C,), out (Q, R, C), all float32; K is 3 or 5, S 1 or 2; pixels outside the
    picture are zero, Q = ceil(H / S) and R = ceil(W / S)
    FLOPs 2 Q R C K K: a multiplication and an addition for each output and tap
    bytes at least 4 (H W C + Q R C + C K K): each value read or written once

A pointwise convolution uses each input M times, this one at most K K times. So its speed is limited by memory, or at
best by the caches, and a rung is better the closer it comes to loading each pixel once.
"""
from numba import njit

from ..kernels.depthwise import depthwise_kernel
from ..kernels.lanes import family
from ..kernels.memory import write_blocks
from .arrays import LANES, LAYOUT, VECTOR, address, blocks, bordered, out_of_blocks, padding, placed, planes_of, zeros
from .case import Case, Folded, Prepared, Rung
from .loops import SIX, ZERO

# --- plain loops: the formula ----------------------------------------------------------------------------------------


def plain_loops(x, weight, bias, stride, top, left, out):
    """weight (C, K, K); `top` and `left` pixels of padding."""
    height, width, channels = x.shape
    for q in range(out.shape[0]):
        for r in range(out.shape[1]):
            for c in range(channels):
                total = bias[c]
                for i in range(weight.shape[1]):
                    for j in range(weight.shape[2]):
                        row, column = q * stride + i - top, r * stride + j - left
                        if 0 <= row < height and 0 <= column < width:
                            total += x[row, column, c] * weight[c, i, j]
                out[q, r, c] = min(max(total, ZERO), SIX)


# --- compiled loops, fused multiply-adds: the same function as machine code, without and with FMA --------------------

compiled_loops = njit(plain_loops)
fused_multiply_adds = njit(fastmath={"contract"})(plain_loops)  # a multiplication and an addition may become one FMA


# --- lanes over channels: channels innermost -------------------------------------------------------------------------


@njit(fastmath={"contract"})
def lanes_over_channels(x, weight, bias, stride, top, left, out):
    """weight (K, K, C). For each vector FMA 3 loads (pixel, weight, sum) and 1 store (sum)."""
    height, width, channels = x.shape
    for q in range(out.shape[0]):
        for r in range(out.shape[1]):
            out[q, r] = bias
            for i in range(weight.shape[0]):
                for j in range(weight.shape[1]):
                    row, column = q * stride + i - top, r * stride + j - left
                    if 0 <= row < height and 0 <= column < width:
                        for c in range(channels):
                            out[q, r, c] += x[row, column, c] * weight[i, j, c]
            for c in range(channels):
                out[q, r, c] = min(max(out[q, r, c], ZERO), SIX)


# --- explicit vectors: sums in registers, zeros around the picture ---------------------------------------------------


def tap_tile(t, x, x_row, x_pixel, weight, weight_tap, bias, out, out_row, out_pixel, rows, tiles,
             *, KERNEL, STRIDE, PIXELS):
    """`rows` rows of `tiles` tiles of PIXELS neighbouring outputs of one vector of channels; all in bytes."""
    start = t.load(bias)

    def row(q, x, out):
        def tile(i, x, out):
            acc = [start] * PIXELS
            for i in range(KERNEL):
                taps = [t.load(weight + weight_tap * (i * KERNEL + j)) for j in range(KERNEL)]
                for column in range((PIXELS - 1) * STRIDE + KERNEL):
                    pixel = t.load(x + x_row * i + x_pixel * column)
                    for p in range(PIXELS):
                        if 0 <= column - p * STRIDE < KERNEL:
                            acc[p] = t.fma(pixel, taps[column - p * STRIDE], acc[p])
            for p, a in enumerate(acc):
                t.store(a.relu6(), out + out_pixel * p)
            return x + x_pixel * (PIXELS * STRIDE), out + out_pixel * PIXELS

        t.loop(tiles, tile, x, out)
        return x + x_row * STRIDE, out + out_row

    t.loop(rows, row, x, out)


TILE = 4  # pixels: each input is loaded once for all of them that use it
TILES = family(tap_tile, LAYOUT, KERNEL=(3, 5), STRIDE=(1, 2), PIXELS=(1, TILE))


@njit
def tiles_of(pixels, x, weight, bias, stride, out):
    """The part of `out` that whole tiles of `pixels` pixels cover, one vector of channels at a time."""
    for c in range(0, x.shape[2], LANES):
        TILES(weight.shape[0], stride, pixels, x[:, :, c:].ctypes.data, x.strides[0], x.strides[1],
              weight[:, :, c:].ctypes.data, weight.strides[1], bias[c:].ctypes.data, out[:, :, c:].ctypes.data,
              out.strides[0], out.strides[1], out.shape[0], out.shape[1] // pixels)


@njit
def explicit_vectors(x, weight, bias, stride, out):
    """x with its padding, weight (K, K, C), C a multiple of LANES.

    The sum stays in a register: for each FMA 2 loads (pixel, weight), no store, and no test for the border.
    """
    tiles_of(1, x, weight, bias, stride, out)


# --- tiled in registers: several outputs per pixel -------------------------------------------------------------------


@njit
def tiled_in_registers(x, weight, bias, stride, out):
    """As before, but 4 outputs share a row of taps and their pixels: at stride 1 and K = 3, 9 loads for 12 FMAs, and
    four independent chains of FMAs."""
    done = out.shape[1] // TILE * TILE
    tiles_of(TILE, x, weight, bias, stride, out)
    tiles_of(1, x[:, done * stride :], weight, bias, stride, out[:, done:])


# --- packed weights: what the engine runs ----------------------------------------------------------------------------


depthwise = depthwise_kernel(LAYOUT)


@njit
def packed_weights(x, x_plane, x_row, weight, bias, kernel, stride, out, out_plane, count, rows, columns):
    """`count` planes of x [..][LANES] with its padding, weight [C / LANES][K][K][LANES], `rows` rows of `columns`
    outputs: addresses, and distances in bytes.

    Neighbouring pixels are neighbouring vectors, and the rows that an output needs fit the first-level cache. A tile
    has 8 outputs: at stride 1 and K = 3, 13 loads for 24 FMAs.
    """
    for v in range(count):
        depthwise(x + v * x_plane, x_row, weight + v * kernel * kernel * VECTOR, bias + v * VECTOR, out + v * out_plane,
                  rows, columns, kernel, stride)


# --- the ladder ------------------------------------------------------------------------------------------------------


def taps_of(conv: Folded, channels_last: bool):
    """(C, K, K), or (K, K, C)."""
    weight = conv.weight[:, 0]
    return placed(weight.transpose(1, 2, 0) if channels_last else weight)


def vectors_of(conv: Folded):
    """Weight (K, K, C) and bias (C,), C padded to a multiple of LANES."""
    return placed(taps_of(conv, True), LANES), placed(conv.bias, LANES)


def packed_taps(conv: Folded):
    """Weight (C / LANES, K, K, LANES), and the bias as above."""
    weight, bias = vectors_of(conv)
    return placed(weight.reshape(*weight.shape[:2], -1, LANES).transpose(2, 0, 1, 3)), bias


def _loops(function, channels_last: bool):
    """Return a `prepare` for loops over the arrays of the formula."""

    def prepare(case: Case) -> Prepared:
        (conv,), out = case.convs, zeros(*case.out_shape)
        (top, _), (left, _) = padding(*case.x.shape[:2], conv)
        arguments = placed(case.x), taps_of(conv, channels_last), placed(conv.bias), conv.stride, top, left, out
        return Prepared(function, arguments, out.copy)

    return prepare


def _vectors(function):
    """Return a `prepare` for whole vectors of channels, with stored zero padding."""

    def prepare(case: Case) -> Prepared:
        (conv,), (q, r, channels) = case.convs, case.out_shape
        weight, bias = vectors_of(conv)
        x, inside = bordered(zeros, *case.x.shape[:2], len(bias), conv)
        inside[:, :, :channels] = case.x
        out = zeros(q, r, len(bias))
        return Prepared(function, (x, weight, bias, conv.stride, out), lambda: out[:, :, :channels].copy())

    return prepare


def _packed(case: Case) -> Prepared:
    (conv,), (q, r, channels) = case.convs, case.out_shape
    weight, bias = packed_taps(conv)
    x, inside = bordered(blocks, *case.x.shape, conv)
    write_blocks(inside, case.x)
    out = blocks(q, r, channels)
    arguments = (*planes_of(x), address(weight), address(bias), weight.shape[1], conv.stride, *planes_of(out)[:2],
                 len(out), q, r)
    return Prepared(packed_weights, arguments, lambda: out_of_blocks(out, channels), (x, weight, bias))


RUNGS = (
    Rung("depthwise", "plain loops", "the formula as it stands", _loops(plain_loops, False)),
    Rung("depthwise", "compiled loops", "limited by the interpreter, which makes Python objects of two numbers for "
         "each product: Numba compiles the same loops", _loops(compiled_loops, False)),
    Rung("depthwise", "fused multiply-adds", "limited by the latency of additions, each of which waits for the one "
         "before, and by the test whether a tap lies inside the picture, made for each product: a multiplication and "
         "an addition become one instruction, which is no help with either", _loops(fused_multiply_adds, False)),
    Rung("depthwise", "lanes over channels", "limited by the same still: channels go innermost, the compiler makes "
         "vectors of them, and one test serves them all", _loops(lanes_over_channels, True)),
    Rung("depthwise", "explicit vectors", "limited by loads and stores, four for each vector FMA: the sum stays in a "
         "register, and zeros around the picture make the tests unnecessary", _vectors(explicit_vectors)),
    Rung("depthwise", "tiled in registers", "limited by loads still, and by the latency of additions again: four "
         "outputs at a time share weights and pixels", _vectors(tiled_in_registers)),
    Rung("depthwise", "packed weights", "limited by the first cache, as pixels lie all channels apart: blocks of "
         "channels make them neighbours, tiles are as equal as can be; this is the engine's kernel", _packed),
)
