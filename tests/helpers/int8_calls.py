"""The kernels of integers, called on arrays as a learner would write them, and what they have to give.

Nothing of the package packs or computes here: weights are laid out by the formats that the kernels' docstrings state.
"""
import functools

import naive
import numpy as np
from numba import njit

from npefficient.kernels.depthwise_int8 import depthwise_int8_kernel
from npefficient.kernels.layout import AVERAGE, AVERAGE_AND_MAXIMUM, INT8, MAXIMUM, Layout
from npefficient.kernels.pointwise_int8 import pointwise_int8_kernel
from npefficient.kernels.pool_int8 import pool_int8_kernel
from npefficient.kernels.quantize import quantize_kernel

# This processor's own, and those of processors with the same vectors, or shorter ones, without dot products of bytes.
OTHERS = {"avx512": Layout(16, 32, item=2), "avx2": Layout(8, 16, item=2), "sse": Layout(4, 16, item=2)}
LAYOUTS = {"own": INT8} | {name: layout for name, layout in OTHERS.items() if layout.lanes <= INT8.lanes}
if INT8.item == 1:
    LAYOUTS["vnni"] = Layout(8, 16, item=1)  # that of AVX-VNNI; AVX-512 has the same instructions
VALUE = {1: np.uint8, 2: np.uint16}
WEIGHT = {1: np.int8, 2: np.int16}
GAP = 3  # pixels between two planes
UNTOUCHED = 0xA5  # each byte that a kernel has no business with


def blocks(x, layout, kind, gap=GAP):
    """(P, C) -> [vectors][P + gap][lanes] of a dtype; unused lanes are zero."""
    p, c = x.shape
    planes = np.zeros((layout.vectors(c), p + gap, layout.lanes), kind)
    for i in range(c):
        planes[i // layout.lanes, :p, i % layout.lanes] = x[:, i]
    return planes


def unwritten(p, c, layout, kind, gap=GAP):
    shape = layout.vectors(c), p + gap, layout.lanes
    return np.full(np.prod(shape) * np.dtype(kind).itemsize, UNTOUCHED, np.uint8).view(kind).reshape(shape)


def channels(planes, p, c):
    """The (P, C) in blocks, after a look at what lies between them and in unused lanes."""
    assert (planes[:, p:].view(np.uint8) == UNTOUCHED).all(), "a kernel wrote between two planes"
    every = planes[:, :p].transpose(1, 0, 2).reshape(p, -1)
    assert not every[:, c:].any(), "unused lanes are not zero"
    return every[:, :c].copy()


def bias_vectors(layout, count, *values):
    """Start, factor and bias of each channel -> [vectors][3][lanes]."""
    rows = np.zeros((3, layout.padded(count)), np.float32)
    for row, value in zip(rows, values, strict=True):
        row[:count] = value.view(np.float32) if value.dtype == np.int32 else value
    return rows.reshape(3, -1, layout.lanes).transpose(1, 0, 2).copy()


@functools.cache
def pointwise_caller(layout):
    pointwise = pointwise_int8_kernel(layout)

    @njit
    def call(x, x_plane, has_scale, scale, weight, next_weight, bias, relu6, has_residual, residual, out,
             out_plane, steps, pixels, vectors, half):
        pointwise(x, x_plane, has_scale, scale, weight, next_weight, bias, relu6, has_residual, residual, out,
                  out_plane, steps, pixels, vectors, half, 0)

    return call


def call_pointwise(layout, x, weight, start, factor, bias, scale=None, relu6=True, residual=None):
    """x (P, K) uint8, weight (M, K) int8, start (M,) int32 .. -> (P, M) uint8, or float32 without `relu6`."""
    (p, k), m, group = x.shape, len(weight), layout.group
    held = blocks(x, layout, VALUE[layout.item])
    kind = VALUE[layout.item] if relu6 else np.float32
    out, more = unwritten(p, m, layout, kind), None if residual is None else blocks(residual, layout, np.float32)
    biases, scales = bias_vectors(layout, m, start, factor, bias), np.array([1 if scale is None else scale], "f4")
    first = 0
    sizes = layout.panel_sizes(layout.vectors(m))
    for i, size in enumerate(sizes):
        half = int(i == len(sizes) - 1 and layout.is_half(m))
        width = size * layout.lanes - half * layout.lanes // 2
        panel = np.zeros((width, k), np.int8)
        some = weight[first * layout.lanes : first * layout.lanes + width]
        panel[: len(some)] = some
        packed = panel.reshape(width, k // group, group).transpose(1, 0, 2).astype(WEIGHT[layout.item]).copy()
        pointwise_caller(layout)(
            held.ctypes.data, held[0].nbytes, int(scale is not None), scales.ctypes.data, packed.ctypes.data,
            packed.ctypes.data, biases[first:].ctypes.data, int(relu6), int(residual is not None),
            0 if more is None else more[first:].ctypes.data, out[first:].ctypes.data, out[0].nbytes,
            k // layout.unroll, p, size, half)
        first += size
    return channels(out, p, m)


def expected_pointwise(x, weight, start, factor, bias, scale=None, relu6=True, residual=None):
    total = x.astype(np.int64) @ weight.T.astype(np.int64) + start
    assert abs(total).max() < 2**31
    y = total.astype(np.float32)
    y = naive.fused(y, factor if scale is None else scale * factor, bias)
    return level(y) if relu6 else y if residual is None else y + residual


def level(y):
    return np.rint(np.clip(y, np.float32(0), np.float32(255)))


@functools.cache
def depthwise_caller(layout):
    depthwise = depthwise_int8_kernel(layout)

    @njit
    def call(x, x_row, weight, bias, out, rows, columns, kernel, stride):
        depthwise(x, x_row, weight, bias, out, rows, columns, kernel, stride)

    return call


def call_depthwise(layout, x, weight, factor, bias, stride):
    """One block: x (H, W, lanes) uint8 with its padding, weight (lanes, K, K) int8 -> (Q, R, lanes) uint8."""
    kernel, group = weight.shape[-1], layout.group
    q, r = ((size - kernel) // stride + 1 for size in x.shape[:2])
    held = np.concatenate([x.astype(VALUE[layout.item]).ravel(), np.full((group - 1) * layout.lanes, 77, np.uint8)])
    apart = sorted({first - p * stride for p in range(4) for first in taken(group, kernel, p * stride)})
    packed = np.zeros((kernel, len(apart), layout.lanes, group), WEIGHT[layout.item])
    for i, distance in enumerate(apart):
        for pixel in range(group):
            if 0 <= distance + pixel < kernel:
                packed[:, i, :, pixel] = weight[:, :, distance + pixel].T
    biases = bias_vectors(layout, layout.lanes, np.zeros(layout.lanes, np.int32), factor, bias)
    out = np.full((q, r, layout.lanes), UNTOUCHED, VALUE[layout.item])
    held = held.astype(VALUE[layout.item])
    depthwise_caller(layout)(held.ctypes.data, x.shape[1] * layout.vector, packed.ctypes.data, biases.ctypes.data,
                             out.ctypes.data, q, r, kernel, stride)
    return out


def taken(group, kernel, start):
    """The first pixels of the groups that cover a window: every 2 pixels where one group is enough, else in a row."""
    step = 2 if kernel < group else group
    return range(start // step * step, start + kernel, group)


def expected_depthwise(x, weight, factor, bias, stride):
    kernel = weight.shape[-1]
    q, r = ((size - kernel) // stride + 1 for size in x.shape[:2])
    total = sum(x[i : i + (q - 1) * stride + 1 : stride, j : j + (r - 1) * stride + 1 : stride].astype(np.int64)
                * weight[:, i, j] for i in range(kernel) for j in range(kernel))
    return level(naive.fused(total.astype(np.float32), factor, bias))


@functools.cache
def quantize_caller(layout):
    quantize = quantize_kernel(layout)

    @njit
    def call(x, x_plane, scale, out, out_plane, pixels, vectors):
        quantize(x, x_plane, scale, out, out_plane, pixels, vectors)

    return call


def call_quantize(layout, x):
    """(P, C) float32 -> (P, C) uint8, and the scale, float32."""
    p, c = x.shape
    held, out, scale = blocks(x, layout, np.float32), unwritten(p, c, layout, VALUE[layout.item]), np.zeros(1, "f4")
    quantize_caller(layout)(held.ctypes.data, held[0].nbytes, scale.ctypes.data, out.ctypes.data, out[0].nbytes, p,
                            layout.vectors(c))
    every = out[:, :p].transpose(1, 0, 2).reshape(p, -1)
    assert (every[:, c:] == 128).all(), "unused lanes are not 0"
    return every[:, :c], scale[0]


def expected_quantize(x):
    f = np.float32
    largest = np.maximum(np.abs(x).max(), f(2.0**-100))
    return np.rint(x * (f(127) / largest)) + 128, largest * f(1 / 127)


@functools.cache
def pool_caller(layout):
    pool = pool_int8_kernel(layout)

    @njit
    def call(how, x, plane, pixels, out, out_plane, vectors):
        pool(how, x, plane, pixels, out, out_plane, vectors)

    return call


def call_pool(layout, how, x):
    """(P, C) uint8 -> (C,) float32."""
    p, c = x.shape
    held, out = blocks(x, layout, VALUE[layout.item]), np.zeros(layout.padded(c), np.float32)
    pool_caller(layout)(how, held.ctypes.data, held[0].nbytes, p, out.ctypes.data, layout.floats, layout.vectors(c))
    assert not out[c:].any()
    return out[:c]


def expected_pool(how, x):
    f = np.float32
    average = x.sum(0, dtype=np.int64).astype(f) * (f(6 / 255) / f(len(x)))
    largest = x.max(0).astype(f) * f(6 / 255)
    return {AVERAGE: average, MAXIMUM: largest, AVERAGE_AND_MAXIMUM: average * f(0.5) + largest * f(0.5)}[how]
