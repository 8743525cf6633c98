"""1x1 convolution in 8 bits, from NumPy to what the engine runs:

    total[p, m] = start[m] + sum over k of x[p, k] * weight[m, k]
    y[p, m] = float(total[p, m]) * (scale[p] * factor[m]) + bias[m]     one product, one fused multiply-add
    out[p, m] = rint(min(max(y, 0), 255)), or y + residual[p, m]

    x (P, K) uint8, weight (M, K) int8, start (M,) and total int32; scale (P,), factor and bias (M,), residual (P, M) or
    (0, M) for none, float32; out (P, M) uint8 or float32; P pixels
    operations 2 P K M: a multiplication and an addition for each pixel and weight
    bytes at least P K + K M + P M: each value read or written once

A sum of integers has no order and no rounding, so every rung gives the same bits. All but the last write the sums to
memory and then call `finish`. A lane has 32 bits, which a product of two bytes does not need: the rungs differ in how
many products a lane adds up in one instruction.

x86 has a third such instruction, vpmaddubsw. It adds two products of bytes in 16 bits, where what exceeds 32767 becomes
32767: wrong sums, as two products may reach 2 * 255 * 127 = 64770.
"""
import numpy as np
from numba import njit, types
from numba.extending import intrinsic

from ..errors import ArgumentError
from ..kernels.lanes import family
from ..kernels.layout import FLOAT, INT8, ZERO, Layout
from ..kernels.packing import pack_weight, packed_size
from ..kernels.pointwise_int8 import pointwise_int8_kernel
from ..kernels.processor import has_dot_products, vector_unit
from ..network.quantized_reference import clamp, fma
from .arrays import address, blocks, in_blocks, out_of_blocks, placed, planes_of, zeros
from .case import Prepared, QuantizedCase, Rung

PAIRS = Layout(*vector_unit(), item=2)
FOURS = Layout(*vector_unit(), item=1)
LACKING = None if has_dot_products() else "VNNI"
LEVELS = np.float32(255)

# --- NumPy: the formula ----------------------------------------------------------------------------------------------


def numpy_integers(x, weight, start, total, end):
    """weight (M, K); end: what `finish` takes after the sums."""
    scale, factor, bias, relu6, residual, out = end
    total[:] = x.astype(np.int32) @ weight.T.astype(np.int32) + start
    y = fma(total.astype(np.float32), scale[:, None] * factor, bias)
    out[:] = clamp(y) if relu6 else y + residual if len(residual) else y


# --- compiled loops --------------------------------------------------------------------------------------------------


@intrinsic
def multiply_add(typing_context, a, b, c):
    """a * b + c for float32 numbers, rounded once."""
    one = types.float32
    return one(one, one, one), lambda context, builder, signature, arguments: builder.fma(*arguments)


@njit
def finish(total, scale, factor, bias, relu6, residual, out):
    """From sums to results; total (P, M or more)."""
    for p in range(out.shape[0]):
        for m in range(out.shape[1]):
            y = multiply_add(np.float32(total[p, m]), scale[p] * factor[m], bias[m])
            if relu6:
                y = np.rint(min(max(y, np.float32(0)), LEVELS))
            if len(residual):
                y += residual[p, m]
            out[p, m] = y


@njit
def compiled_loops(x, weight, start, total, end):
    """weight (M, K). For each vector of products 2 loads (pixel, weight), each of which widens bytes to 32 bits."""
    for p in range(x.shape[0]):
        for m in range(weight.shape[0]):
            one = start[m]
            for k in range(x.shape[1]):
                one = np.int32(one + x[p, k] * weight[m, k])  # Numba would add in 64 bits
            total[p, m] = one
    finish(total, *end)


# --- register block: two pixels by two channels ----------------------------------------------------------------------


@njit
def register_block(x, weight, start, total, end):
    """As before, but 4 sums at a time: 4 loads for 4 vectors of products. A single pixel or channel at the end is taken
    twice."""
    for m in range(0, weight.shape[0], 2):
        n = min(m + 1, weight.shape[0] - 1)
        for p in range(0, x.shape[0], 2):
            q = min(p + 1, x.shape[0] - 1)
            pm, pn, qm, qn = start[m], start[n], start[m], start[n]
            for k in range(x.shape[1]):
                pm = np.int32(pm + x[p, k] * weight[m, k])
                pn = np.int32(pn + x[p, k] * weight[n, k])
                qm = np.int32(qm + x[q, k] * weight[m, k])
                qn = np.int32(qn + x[q, k] * weight[n, k])
            total[p, m], total[p, n], total[q, m], total[q, n] = pm, pn, qm, qn
    finish(total, *end)


# --- pairs of 16 bits, fours of 8 bits: a group of products in each lane ---------------------------------------------


def dot_tile(t, x, x_pixel, weight, weight_row, start, total, total_pixel, steps, tiles, *, PIXELS, VECTORS):
    """`tiles` tiles of PIXELS pixels by VECTORS vectors of output channels; addresses and distances in bytes, `steps`
    groups of input channels."""
    places = [(p, v) for p in range(PIXELS) for v in range(VECTORS)]
    floats = t.layout.floats

    def tile(i, x, total):
        def add_products(k, x, weight, *acc):
            weights = [t.integers(weight + v * floats) for v in range(VECTORS)]
            pixels = [t.group(x + x_pixel * p) for p in range(PIXELS)]
            acc = [t.dot(pixels[p], weights[v], a) for a, (p, v) in zip(acc, places)]
            return [x + FLOAT, weight + weight_row, *acc]

        _, _, *acc = t.loop(steps, add_products, x, weight, *(t.integers(start + v * floats) for _, v in places))
        for a, (p, v) in zip(acc, places):
            t.store(a, total + total_pixel * p + v * floats)
        return x + x_pixel * PIXELS, total + total_pixel * PIXELS

    t.loop(tiles, tile, x, total)


TILE = 4  # pixels, as on the float ladder: 4 x 3 sums


def groups_of(layout):
    """Return the rung for one layout: x (P, K), weight (K / group, M, group), M a multiple of the lanes, K of a group.

    For each vector of products, of which a lane has a whole group, 7/12 loads: three vectors of weights and four groups
    of pixels for 12 sums.
    """
    TILES = family(dot_tile, layout, PIXELS=(1, TILE), VECTORS=range(1, layout.panel + 1))
    lanes, group = layout.lanes, layout.group

    @njit
    def groups(x, weight, start, sizes, total, end):
        m, rest = 0, len(x) // TILE * TILE
        for count in sizes:
            for pixels, p in ((TILE, 0), (1, rest)):
                TILES(pixels, count, x[p:].ctypes.data, x.strides[0], weight[:, m:].ctypes.data, weight.strides[0],
                      start[m:].ctypes.data, total[p:, m:].ctypes.data, total.strides[0], x.shape[1] // group,
                      (len(x) - p) // pixels)
            m += count * lanes
        finish(total, *end)

    return groups


# --- sums in registers: what the engine runs -------------------------------------------------------------------------


VECTOR, FLOATS, UNROLL = INT8.vector, INT8.floats, INT8.unroll
pointwise = pointwise_int8_kernel(INT8)


@njit
def sums_in_registers(x, x_plane, has_scale, scale, weight, bias, sizes, channels, half, relu6, has_residual, residual,
                      out, out_plane, pixels, width):
    """x [K / lanes][P][lanes], weight [panel][K / group][vectors][lanes][group], bias [M / lanes][3][lanes], out and
    residual [M / lanes][P][lanes]: addresses, and bytes from plane to plane; `half`: the last vector is a half one;
    `width`: the pixels of one scale."""
    first = 0
    for i in range(len(sizes)):
        for row in range(pixels // width):
            at = first * out_plane + row * width * (VECTOR if relu6 else FLOATS)
            pointwise(x + row * width * VECTOR, x_plane, has_scale, scale + row * FLOAT,
                      weight + first * VECTOR * channels, weight + (first + sizes[i]) * VECTOR * channels,
                      bias + first * 3 * FLOATS, relu6, has_residual, residual + at, out + at, out_plane,
                      channels // UNROLL, width, sizes[i], half if i == len(sizes) - 1 else 0, row)
        first += sizes[i]


# --- the ladder ------------------------------------------------------------------------------------------------------


def end_of(case: QuantizedCase) -> tuple:
    """What `finish` takes after the sums; its last one is for the result, (P, M)."""
    q, r, m = case.out_shape
    residual = zeros(0, m) if case.residual is None else placed(case.residual.reshape(-1, m))
    scale = placed(np.repeat(np.ones(q, np.float32) if case.scale is None else case.scale, r))
    out = zeros(q * r, m, kind=case.kind)
    return scale, placed(case.layer.scale), placed(case.layer.bias), case.relu6, residual, out


def matrices_of(case: QuantizedCase):
    """x (P, K), weight (M, K) and start (M,)."""
    weight = case.layer.weight[:, :, 0, 0]
    start = (0 if case.scale is None else -ZERO) * weight.sum(1, dtype=np.int32)
    return placed(case.x.reshape(-1, weight.shape[1])), placed(weight), placed(start)


def _loops(function):
    """Return a `prepare` for loops over the arrays of the formula."""

    def prepare(case: QuantizedCase) -> Prepared:
        (x, weight, start), end = matrices_of(case), end_of(case)
        total = zeros(len(x), len(weight), kind=np.int32)
        return Prepared(function, (x, weight, start, total, end), lambda: end[-1].reshape(case.out_shape).copy())

    return prepare


def _groups(layout: Layout):
    """Return a `prepare` for groups of input channels and whole vectors of output channels."""
    function, group = groups_of(layout), layout.group

    def prepare(case: QuantizedCase) -> Prepared:
        if layout == FOURS and LACKING:
            raise ArgumentError(f"this processor lacks {LACKING}: there is no instruction for four products of bytes")
        (x, weight, start), end = matrices_of(case), end_of(case)
        x = placed(x.astype(f"u{layout.item}"), group)
        weight = placed(placed(weight.astype(f"i{layout.item}"), group), layout.lanes, axis=0)
        grouped = placed(weight.reshape(len(weight), -1, group).transpose(1, 0, 2))
        total = zeros(len(x), len(weight), kind=np.int32)
        sizes = np.array(layout.panel_sizes(len(weight) // layout.lanes))
        return Prepared(function, (x, grouped, placed(start, layout.lanes), sizes, total, end),
                        lambda: end[-1].reshape(case.out_shape).copy())

    return prepare


def _registers(case: QuantizedCase) -> Prepared:
    (_, weight, start), (_, factor, bias, *_), (q, r, m) = matrices_of(case), end_of(case), case.out_shape
    scale = placed(np.ones(1, np.float32) if case.scale is None else case.scale)
    weight = placed(weight, UNROLL)[:, :, None, None]  # the kernel takes `unroll` input channels at a time
    packed = zeros(packed_size(INT8, "pointwise", weight.shape), kind=np.uint8)
    pack_weight(INT8, "pointwise", weight, packed)
    biases = placed(np.stack([start.view(np.float32), factor, bias]), INT8.lanes)
    biases = placed(biases.reshape(3, -1, INT8.lanes).transpose(1, 0, 2))
    x, out = in_blocks(case.x, INT8.item), blocks(q, r, m, INT8.item if case.relu6 else FLOAT)
    residual = out if case.residual is None else in_blocks(case.residual)
    arguments = (*planes_of(x)[:2], int(case.scale is not None), *map(address, (scale, packed, biases)),
                 np.array(INT8.panel_sizes(len(biases))), weight.shape[1], int(INT8.is_half(m)), int(case.relu6),
                 int(residual is not out), address(residual), *planes_of(out)[:2], q * r,
                 q * r if case.scale is None else r)
    return Prepared(sums_in_registers, arguments, lambda: out_of_blocks(out, m).astype(case.kind),
                    (x, scale, packed, biases, residual))


RUNGS = (
    Rung("pointwise-int8", "NumPy integers", "the formula as it stands", _loops(numpy_integers)),
    Rung("pointwise-int8", "compiled loops", "limited by NumPy's loops, one product at a time, as its fast matrix "
         "products are of floats alone: Numba compiles loops, and LLVM adds up in many lanes unasked, for a sum of "
         "integers has no order", _loops(compiled_loops)),
    Rung("pointwise-int8", "register block", "limited by loads, two for each vector of products, which also widen the "
         "bytes: two pixels share the weights of two channels", _loops(register_block)),
    Rung("pointwise-int8", "pairs of 16 bits", "limited by lanes of 32 bits with one product in each, and by lanes "
         "that have to be added up at the end of every sum: values are widened to 16 bits beforehand, an instruction "
         "(vpmaddwd on x86) adds two products to a lane, and each lane is a sum of its own", _groups(PAIRS)),
    Rung("pointwise-int8", "fours of 8 bits", "limited by 16 bits for values of 8: another instruction (vpdpbusd) adds "
         "four products to a lane", _groups(FOURS), LACKING),
    Rung("pointwise-int8", "sums in registers", "limited by sums in memory, 4 bytes to write and to read again for "
         "each result: they become results before they leave the registers; weights are in the order of their use, "
         "tiles as equal as can be; this is the engine's kernel", _registers),
)
