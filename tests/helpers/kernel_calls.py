"""Each kernel called on plain NumPy arrays, and the exact bits that it must return.

`place` decides where in memory the arrays lie:

    place(array) -> an object with .array, .address and .check(), see `guarded`

Weights come in torch's layout and are packed here, in the formats that the kernels' docstrings state. Poison fills what
a kernel must not use: the gap between two planes, and the lanes of an input that hold no channel. Every array ends
where the kernel's last access may be.
"""
import itertools
import re

import naive
import numpy as np
from guarded import NAN
from layouts import LANES, LARGEST, UNROLL, VECTOR, largest_tile, panel_sizes, vectors
from numba import njit

from npefficient.kernels.depthwise import depthwise_kernel
from npefficient.kernels.layout import AVERAGE, AVERAGE_AND_MAXIMUM, FLOAT32, MAXIMUM
from npefficient.kernels.pointwise import pointwise_kernel
from npefficient.kernels.pool import pool_kernel
from npefficient.kernels.rows import copy_kernel, zero_kernel
from npefficient.kernels.stem import stem_kernel

pointwise, depthwise, stem_row = pointwise_kernel(FLOAT32), depthwise_kernel(FLOAT32), stem_kernel(FLOAT32)
POOL, COPY, ZERO = pool_kernel(FLOAT32), copy_kernel(FLOAT32), zero_kernel(FLOAT32)

X_GAP, OUT_GAP = 1, 2  # vectors between two planes: not the same, so that a kernel can't take one for the other
UNREADABLE = 8  # an address
HALVES = LANES > 8  # there are tiles whose last vector is a half one


def poisoned(*shape, number=0):
    """NaN with different bits for each number, so that copying one over another shows."""
    return np.full(shape, NAN + number, np.int32).view(np.float32)


def is_poison(values, number=0):
    return (values.view(np.int32) == NAN + number).all()


# --- arrays as they lie in memory ------------------------------------------------------------------------------------


def blocks(x, gap, rest=0.0):
    """(P, C) -> 1-D [vectors][P + gap][LANES] without the last gap; `rest` is in the lanes behind the last channel."""
    p, c = x.shape
    planes = poisoned(vectors(c), p + gap, LANES, number=1)
    planes[:, :p] = rest
    for i in range(c):
        planes[i // LANES, :p, i % LANES] = x[:, i]
    return planes.ravel()[: planes.size - gap * LANES]


def unwritten(p, c, gap):
    """Unwritten memory for the blocks of (P, C)."""
    return poisoned(vectors(c) * (p + gap) * LANES - gap * LANES)


def channels(placed, p, c, gap):
    """The (P, C) in blocks, after a check of the gaps and of the lanes behind the last channel."""
    flat, count = np.append(placed, poisoned(gap, LANES)), vectors(c)
    planes = flat.reshape(count, p + gap, LANES)
    assert is_poison(planes[:, p:]), "a kernel wrote between two planes"
    every = planes[:, :p].transpose(1, 0, 2).reshape(p, count * LANES)
    alone = is_poison(planes[-1, :p])  # the kernel may not have been asked to write the last block
    assert alone or not every[:, c:].view(np.int32).any(), "the lanes behind the last channel are not zero"
    return every[:, :c].copy()


def panels_of(weight, sizes, half):
    """(M, taps, C) -> 1-D [panel][taps][C][vectors of the panel][LANES], the last vector with LANES / 2 if `half`."""
    ends = np.cumsum(sizes) * LANES
    ends[-1] -= half * LANES // 2
    padded = np.pad(weight, ((0, ends[-1] - len(weight)), (0, 0), (0, 0)))
    return np.concatenate([panel.transpose(1, 2, 0).ravel() for panel in np.split(padded, ends[:-1])])


def place_all(place, *arrays):
    return [(place(array), np.asarray(array, np.float32)) for array in arrays]


def checked(out, *inputs):
    """The result, after a check that the guards and the inputs are unchanged."""
    for placed, before in inputs:
        placed.check()
        assert placed.array.tobytes() == before.tobytes(), "a kernel changed its input"
    out.check()
    return out.array.copy()


# --- the calls -------------------------------------------------------------------------------------------------------


def call_pointwise(place, x, weight, bias, relu6=True, residual=None, sizes=None, only=None, kernel=pointwise):
    """x (P, C), weight (M, C), bias (M,), residual (P, M) or None -> (P, M).

    sizes: vectors of each panel; only: the number of the one panel to compute; kernel: of a layout with LANES lanes
    """
    (p, c), m = x.shape, len(weight)
    sizes = sizes or panel_sizes(vectors(m))
    half = int(HALVES and sizes[-1] > 1 and 0 < m % LANES <= LANES // 2)
    width = LANES * sum(sizes) - half * LANES // 2
    inputs = place_all(place, blocks(x, X_GAP, poisoned(1)[0]), panels_of(weight[:, None], sizes, half),
                       np.pad(bias, (0, width - m)), *([] if residual is None else [blocks(residual, OUT_GAP)]))
    out, out_plane = place(unwritten(p, m, OUT_GAP)), (p + OUT_GAP) * VECTOR
    x_at, weight_at, bias_at, *residual_at = (placed.address for placed, _ in inputs)
    for i, size in enumerate(sizes):
        first = sum(sizes[:i])
        if only in (None, i):
            there = first * out_plane
            kernel(x_at, (p + X_GAP) * VECTOR, weight_at + first * VECTOR * c, UNREADABLE, bias_at + first * VECTOR,
                   int(relu6), len(residual_at), residual_at[0] + there if residual_at else UNREADABLE,
                   out.address + there, out_plane, c // UNROLL, p, size, half * (i == len(sizes) - 1), first)
    return channels(checked(out, *inputs), p, m, OUT_GAP)


def padding_before(size, kernel, stride):
    return max((-(-size // stride) - 1) * stride + kernel - size, 0) // 2


def padded_picture(x, kernel, stride):
    """(H, W, C) with zeros around it, as many as the outputs of 'SAME' meet, and (Q, R)."""
    sizes = [-(-size // stride) for size in x.shape[:2]]
    before = [padding_before(size, kernel, stride) for size in x.shape[:2]]
    after = [(out - 1) * stride + kernel - size - zeros for out, size, zeros in zip(sizes, x.shape, before)]
    return np.pad(x, (*zip(before, after), (0, 0))), sizes


def call_depthwise(place, x, weight, bias, stride, at_once=None):
    """x (H, W, C), weight (C, 1, K, K), bias (C,) -> (Q, R, C), `at_once` rows a call."""
    kernel, more = weight.shape[-1], -x.shape[2] % LANES
    x, (q, r) = padded_picture(np.pad(x, ((0, 0), (0, 0), (0, more))), kernel, stride)
    weight, bias = np.pad(weight[:, 0], ((0, more), (0, 0), (0, 0))), np.pad(bias, (0, more))
    results = [call_depthwise_block(place, x[:, :, i : i + LANES], weight[i : i + LANES], bias[i : i + LANES], q, r,
                                    stride, at_once or q) for i in range(0, len(bias), LANES)]
    got = np.concatenate(results, axis=2)
    assert not got[:, :, len(bias) - more :].view(np.int32).any(), "the lanes behind the last channel are not zero"
    return got[:, :, : len(bias) - more]


def call_depthwise_block(place, x, weight, bias, q, r, stride, at_once):
    """One block of channels: x (H, W, LANES) with its padding, weight (LANES, K, K), bias (LANES,) -> (Q, R, LANES)."""
    kernel = weight.shape[-1]
    rows = np.concatenate([x, poisoned(len(x), X_GAP, LANES, number=1)], axis=1)
    row = rows.shape[1] * VECTOR
    inputs = place_all(place, rows.ravel()[: rows.size - X_GAP * LANES], weight.transpose(1, 2, 0), bias)
    out = place(poisoned(q, r, LANES))
    x_at, weight_at, bias_at = (placed.address for placed, _ in inputs)
    for first in range(0, q, at_once):
        depthwise(x_at + first * stride * row, row, weight_at, bias_at, out.address + first * r * VECTOR,
                  min(at_once, q - first), r, kernel, stride)
    return checked(out, *inputs)


def call_stem(place, x, weight, bias, sizes=None, rows=None):
    """x (H, W, C), weight (M, C, 3, 3), bias (M,) -> (Q, R, M); only these rows where told so."""
    (h, w, c), m, (q, r) = x.shape, len(weight), (-(-size // 2) for size in x.shape[:2])
    sizes = sizes or panel_sizes(vectors(m))
    taps = weight.transpose(0, 2, 3, 1).reshape(m, 9, c)
    inputs, out = place_all(place, x, panels_of(taps, sizes, 0), bias), place(unwritten(q * r, m, OUT_GAP))
    x_at, weight_at, bias_at = (placed.address for placed, _ in inputs)
    top, left, out_plane = padding_before(h, 3, 2), padding_before(w, 3, 2), (q * r + OUT_GAP) * VECTOR
    for i, size in enumerate(sizes):
        first = sum(sizes[:i])
        for row in range(q) if rows is None else rows:
            stem_row(x_at, h, w, c, weight_at + first * 9 * c * VECTOR, bias_at + first * VECTOR,
                     out.address + first * out_plane + row * r * VECTOR, out_plane, row, r, top, left, size)
    return channels(checked(out, *inputs), q * r, m, OUT_GAP).reshape(q, r, m)


@njit
def pool(how, x, plane, pixels, out, out_plane, count):
    POOL(how, x, plane, pixels, out, out_plane, count)


@njit
def zero(out, count):
    ZERO(out, count)


@njit
def copy(x, out, count):
    COPY(x, out, count)


def call_pool(place, x, how):
    """x (P, C) -> (C,)."""
    (p, c), inputs = x.shape, place_all(place, blocks(x, X_GAP))
    out = place(unwritten(1, c, OUT_GAP))
    pool(how, inputs[0][0].address, (p + X_GAP) * VECTOR, p, out.address, (1 + OUT_GAP) * VECTOR, vectors(c))
    return channels(checked(out, *inputs), 1, c, OUT_GAP)[0]


def call_zero(place, count):
    """`count` vectors of zeros -> (count, LANES)."""
    out = place(poisoned(max(count, 0), LANES))
    zero(out.address, count)
    return checked(out)


def call_copy(place, x, count=None):
    """x (P, LANES) -> (P, LANES), the first `count` vectors of it."""
    inputs, out = place_all(place, x), place(poisoned(*x.shape))
    copy(inputs[0][0].address, out.address, len(x) if count is None else count)
    return checked(out, *inputs)


# --- exact results ---------------------------------------------------------------------------------------------------


def relu6_of(x):
    return np.where(x < 0, np.float32(0), np.where(x > 6, np.float32(6), x))


def exact_pointwise(x, weight, bias, relu6=True, residual=None):
    start = np.broadcast_to(bias, (len(x), len(bias)))
    result = naive.chain(start, ((x[:, k, None], weight[None, :, k]) for k in range(x.shape[1])))
    result = relu6_of(result) if relu6 else result
    return result if residual is None else result + residual


def exact_depthwise(x, weight, bias, stride):
    return relu6_of(naive.depthwise_chain(x, weight, bias, stride))


def exact_stem(x, weight, bias):
    return relu6_of(naive.dense_chain(x, weight, bias, 2))


def exact_pool(x, how):
    average, largest, half = exact_average(x), x.max(axis=0), np.float32(0.5)
    return {AVERAGE: average, MAXIMUM: largest, AVERAGE_AND_MAXIMUM: average * half + largest * half}[how]


def exact_average(x):
    total = np.zeros(x.shape[1], np.float32)
    for pixel in x:
        total += pixel
    return total * (np.float32(1) / np.float32(len(x)))


def assert_bits(got, expected):
    kinds = [(str(array.dtype), array.shape) for array in (got, expected)]
    assert kinds == 2 * [("float32", expected.shape)], f"got {kinds[0]}, expected {kinds[1]}, both of float32"
    different = np.argwhere(got.view(np.int32) != expected.view(np.int32))
    assert not len(different), f"{len(different)} of {got.size} values have other bits, the first at {different[0]}"


# --- tiles -----------------------------------------------------------------------------------------------------------


def pointwise_tiles():
    """(VECTORS, HALF, PIXELS) of every tile that there is: a panel of one vector is never a half one."""
    return [(v, half, p) for v in (1, 2, 3) for half in ((0, 1) if HALVES and v > 1 else (0,))
            for p in range(1, largest_tile(v) + 1)]


def depthwise_tiles():
    """(KERNEL, STRIDE, PIXELS) of every tile."""
    return list(itertools.product((3, 5), (1, 2), range(1, LARGEST + 1)))


def stem_tiles():
    """(VECTORS, PIXELS) of every tile: the 32 channels are two, four or eight vectors."""
    sizes = {16: [2], 8: [2], 4: [2, 3]}[LANES]
    return [(v, p) for v in sizes for p in range(1, largest_tile(v) + 1)]


def compiled_tiles(routine):
    """The constants of all tiles in the machine code of a kernel that has been called."""
    (text,) = routine.inspect_llvm().values()
    names = re.findall(rf"define [^@]*@npefficient_\w+_tile_x{LANES}_([\d_]+)\(", text)
    return sorted(tuple(map(int, name.split("_"))) for name in names)
