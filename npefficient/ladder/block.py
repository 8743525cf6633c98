"""The inverted residual block, from plain loops to what the engine runs:

    wide = relu6(x W1 + b1)                 1x1, (H, W, C) -> (H, W, E), mostly E = 6 C
    narrow = relu6(depthwise(wide) + b2)    K x K, (H, W, E) -> (Q, R, E)
    out = narrow W3 + b3 [+ x]              1x1, linear, (Q, R, E) -> (Q, R, M); + x if the shapes are equal

    FLOPs 2 (H W C E + Q R E K K + Q R E M)
    bytes at least 4 (H W C + Q R M + C E + E K K + E M); plus 8 (H W E + Q R E) to write and read the activations
    between the layers, if they do not fit a cache

Up to `packed weights` the rungs are those of `pointwise` and `depthwise`, one layer after the other. The last one fuses
the expansion with the depthwise convolution. Source of the block: Sandler et al. 2018 (arXiv:1801.04381).
"""
import numpy as np
from numba import njit

from ..kernels.lanes import routine
from ..kernels.memory import SCRATCH
from ..kernels.rows import copy_kernel, zero_kernel
from . import depthwise, pointwise
from .arrays import (
    LANES,
    LAYOUT,
    UNROLL,
    VECTOR,
    address,
    blocks,
    bordered,
    in_blocks,
    out_of_blocks,
    padding,
    placed,
    planes_of,
    zeros,
)
from .case import Case, Prepared, Rung
from .pointwise import flat, residual_of

pointwise_panel, depthwise_plane = pointwise.pointwise, depthwise.depthwise
COPY, ZERO = copy_kernel(LAYOUT), zero_kernel(LAYOUT)


# --- plain loops, compiled loops, lanes over channels: layer by layer ------------------------------------------------


def _loops(pointwise_loops, depthwise_loops, channels_last: bool):
    """Return a `prepare` for the loops of both operators, one layer after the other."""

    def prepare(case: Case) -> Prepared:
        expand, middle, project = case.convs
        (h, w, _), (q, r, m), e = case.x.shape, case.out_shape, len(expand.bias)
        wide, narrow, out = zeros(h, w, e), zeros(q, r, e), zeros(q, r, m)
        x, residual, nothing = flat(placed(case.x)), residual_of(case), zeros(0, e)
        weights = [pointwise.matrix_of(conv, channels_last) for conv in (expand, project)]
        expand_bias, middle_bias, project_bias = (placed(conv.bias) for conv in case.convs)
        taps, ((top, _), (left, _)) = depthwise.taps_of(middle, channels_last), padding(h, w, middle)

        def block():
            pointwise_loops(x, weights[0], expand_bias, True, nothing, flat(wide))
            depthwise_loops(wide, taps, middle_bias, middle.stride, top, left, narrow)
            pointwise_loops(flat(narrow), weights[1], project_bias, False, residual, flat(out))

        return Prepared(block, (), out.copy)

    return prepare


# --- explicit vectors, tiled in registers: the expansion writes between zeros ----------------------------------------


def _vectors(pointwise_vectors, depthwise_vectors):
    """Return a `prepare` for both operators over whole vectors, one layer after the other."""

    def prepare(case: Case) -> Prepared:
        (expand, middle, project), (q, r, m) = case.convs, case.out_shape
        weight, bias, sizes = pointwise.panels_of(expand)
        last_weight, last_bias, last_sizes = pointwise.panels_of(project)
        last_weight = placed(last_weight, LANES, axis=0)  # its input has whole vectors of channels
        wide, inside = bordered(zeros, *case.x.shape[:2], len(bias), middle)
        narrow, out = zeros(q, r, len(bias)), zeros(q, r, len(last_bias))
        x, taps, residual = placed(case.x), depthwise.vectors_of(middle), residual_of(case, LANES)[None]

        def block():
            pointwise_vectors(x, weight, bias, True, inside[:, :0], inside, sizes)
            depthwise_vectors(wide, *taps, middle.stride, narrow)
            pointwise_vectors(flat(narrow)[None], last_weight, last_bias, False, residual, flat(out)[None], last_sizes)

        return Prepared(block, (), lambda: out[:, :, :m].copy())

    return prepare


# --- packed weights: the engine's kernels, layer by layer ------------------------------------------------------------


def _in_blocks(make_first):
    """Return a `prepare` for the engine's kernels. `make_first(case, x, panels, taps, narrow)` returns a call that does
    the first two layers, and the arrays to keep alive; x, narrow: (address, plane, row), taps: (weight, bias, K, S)."""

    def prepare(case: Case) -> Prepared:
        (expand, middle, project), (q, r, m) = case.convs, case.out_shape
        (panels, arrays), (last, last_arrays) = (pointwise.packed_panels(conv) for conv in (expand, project))
        weight, bias = depthwise.packed_taps(middle)
        x, narrow, out = in_blocks(case.x), blocks(q, r, len(expand.bias)), blocks(q, r, m)
        residual = out if case.residual is None else in_blocks(case.residual)
        taps = address(weight), address(bias), weight.shape[1], middle.stride
        first, held = make_first(case, planes_of(x), panels, taps, planes_of(narrow))
        end = (*planes_of(narrow), *last, 0, int(residual is not out), address(residual), *planes_of(out), 1, q * r)

        def block():
            first()
            pointwise.packed_weights(*end)

        return Prepared(block, (), lambda: out_of_blocks(out, m),
                        (x, narrow, residual, weight, bias, *arrays, *last_arrays, held))

    return prepare


def _layer_by_layer(case: Case, x, panels, taps, narrow):
    """Compute the whole wide activation, then the depthwise convolution."""
    (h, w, _), (q, r, _), e = case.x.shape, case.out_shape, len(case.convs[0].bias)
    wide, inside = bordered(blocks, h, w, e, case.convs[1])
    expand = (*x, *panels, 1, 0, 0, *planes_of(inside), h, w)
    convolve = (*planes_of(wide), *taps, *narrow[:2], len(wide), q, r)

    def first():
        pointwise.packed_weights(*expand)
        depthwise.packed_weights(*convolve)

    return first, wide


# --- fused: expansion and depthwise convolution panel by panel, through scratch memory -------------------------------

# The argument of `fused`, distances in bytes: x in blocks and the expansion's weights, the depthwise weights, the
# output, scratch memory for the input rows of `rows_at_once` output rows of one panel of channels, and sizes in pixels.
FUSED = np.dtype([(name, np.int64) for name in (
    "x", "x_plane", "x_row", "weight", "bias", "channels", "half", "taps", "taps_bias", "kernel", "stride",
    "narrow", "narrow_plane", "narrow_row", "scratch", "scratch_plane", "scratch_row",
    "height", "width", "q", "r", "top", "left", "rows_at_once")])  # fmt: skip


@njit
def fused(steps, sizes):
    """steps: one FUSED; sizes: vectors of each panel of the expansion.

    Saves 8 H W E bytes of reads and writes beyond the second-level cache; the FLOPs are the same. That gains little
    for a block that is timed alone, again and again: a larger cache then holds the wide activation.
    """
    step, first = steps[0], 0
    for i in range(len(sizes)):
        half = step.half if i == len(sizes) - 1 else 0
        ZERO(step.scratch, sizes[i] * step.scratch_plane // VECTOR)  # for the padding; the rest is overwritten
        held, ready = -step.top, 0  # the row at the start of scratch memory, and the first row not yet in it
        for done in range(0, step.q, step.rows_at_once):
            rows = min(step.rows_at_once, step.q - done)
            above = done * step.stride - step.top
            below = above + (rows - 1) * step.stride + step.kernel
            for v in range(sizes[i]):  # the rows that these outputs share with the previous ones
                plane = step.scratch + v * step.scratch_plane
                COPY(plane + (above - held) * step.scratch_row, plane, (ready - above) * step.scratch_row // VECTOR)
            for row in range(ready, below):
                fill_row(step, row, first, sizes[i], half, step.scratch + (row - above) * step.scratch_row)
            held, ready = above, below
            for v in range(sizes[i]):
                depthwise_plane(x=step.scratch + v * step.scratch_plane, x_row=step.scratch_row,
                                weight=step.taps + (first + v) * step.kernel * step.kernel * VECTOR,
                                bias=step.taps_bias + (first + v) * VECTOR,
                                out=step.narrow + (first + v) * step.narrow_plane + done * step.narrow_row, rows=rows,
                                columns=step.r, kernel=step.kernel, stride=step.stride)
        first += sizes[i]


@routine
def fill_row(step, row, first, count, half, out):
    """Compute a row of the wide activation, or zeros below the picture: `count` vectors from `first` on."""
    if row < step.height:
        pointwise_panel(x=step.x + row * step.x_row, x_plane=step.x_plane,
                        weight=step.weight + first * VECTOR * step.channels,
                        next_weight=step.weight + (first + count) * VECTOR * step.channels,
                        bias=step.bias + first * VECTOR, relu6=1, has_residual=0, residual=0,
                        out=out + step.left * VECTOR, out_plane=step.scratch_plane, steps=step.channels // UNROLL,
                        pixels=step.width, vectors=count, half=half, calls_before=row)
    else:
        for v in range(count):
            ZERO(out + v * step.scratch_plane, step.scratch_row // VECTOR)


def _panel_by_panel(case: Case, x, panels, taps, narrow):
    """Fuse the two, with as many output rows at a time as fit SCRATCH."""
    (h, w, _), (q, r, _), kernel, stride = case.x.shape, case.out_shape, *taps[2:]
    (top, _), (left, right) = padding(h, w, case.convs[1])
    columns = left + w + right
    most = max(1, (SCRATCH // (LAYOUT.panel * columns * VECTOR) - kernel) // stride + 1)
    at_once = -(-q // -(-q // most))  # the same each time, except possibly the last
    scratch = blocks((at_once - 1) * stride + kernel, columns, LAYOUT.panel * LANES)
    weight, bias, sizes, channels, half = panels
    step = np.array([(*x, weight, bias, channels, half, *taps, *narrow, *planes_of(scratch), h, w, q, r, top, left,
                      at_once)], FUSED)
    return lambda: fused(step, sizes), scratch


# --- the ladder ------------------------------------------------------------------------------------------------------

RUNGS = (
    Rung("block", "plain loops", "three formulas, one after the other",
         _loops(pointwise.plain_loops, depthwise.plain_loops, False)),
    Rung("block", "compiled loops", "limited by the interpreter: Numba compiles the same loops",
         _loops(pointwise.compiled_loops, depthwise.compiled_loops, False)),
    Rung("block", "fused multiply-adds", "limited by the latency of additions: a multiplication and an addition become "
         "one instruction, which is no help", _loops(pointwise.fused_multiply_adds, depthwise.fused_multiply_adds,
                                                     False)),
    Rung("block", "lanes over channels", "limited by latency still: channels go innermost, and the compiler makes "
         "vectors of them", _loops(pointwise.lanes_over_channels, depthwise.lanes_over_channels, True)),
    Rung("block", "explicit vectors", "limited by loads and stores: sums stay in registers, and the expansion writes "
         "between zeros", _vectors(pointwise.explicit_vectors, depthwise.explicit_vectors)),
    Rung("block", "tiled in registers", "limited by loads, and by the latency of additions again: four pixels "
         "at a time",
         _vectors(pointwise.tiled_in_registers, depthwise.tiled_in_registers)),
    Rung("block", "packed weights", "limited by the caches, as neighbours lie far apart: blocks of channels, weights "
         "in the order of their use; these are the engine's kernels", _in_blocks(_layer_by_layer)),
    Rung("block", "fused", "limited by the caches, too small for the wide activation: each panel of channels goes from "
         "the expansion to the depthwise convolution while it is still there; this is the engine's way",
         _in_blocks(_panel_by_panel)),
)
