"""The kernels of training, called on arrays as a learner would write them.

Nothing of the package packs or computes here: arrays are laid out by the formats that the kernels' docstrings state.
"""
import functools

import numpy as np
from numba import njit

from npefficient.kernels.formats import training_kernels
from npefficient.kernels.layout import FLOAT32, Layout
from npefficient.kernels.memory import aligned
from npefficient.kernels.normalise import SIDE_BY_SIDE

# This processor's own vectors, and those of processors with shorter ones and fewer registers.
OTHERS = {"avx512": Layout(16, 32, training=True), "avx2": Layout(8, 16, training=True),
          "sse": Layout(4, 16, training=True)}
LAYOUTS = {name: layout for name, layout in OTHERS.items() if layout.lanes <= FLOAT32.lanes}
GAP = 3  # vectors between two planes
UNTOUCHED = np.float32(-12345.0)  # what a kernel has no business with


def blocks(x, layout):
    """(P, C) -> [vectors][P + GAP][lanes]; unused lanes are zero."""
    p, c = x.shape
    planes = np.full((layout.vectors(c), p + GAP, layout.lanes), UNTOUCHED)
    padded = np.zeros((p, layout.padded(c)), np.float32)
    padded[:, :c] = x
    planes[:, :p] = padded.reshape(p, -1, layout.lanes).transpose(1, 0, 2)
    return planes


def address(array):
    return array.ctypes.data


def times_and_rest(pixels):
    return divmod(pixels, SIDE_BY_SIDE)


@functools.cache
def pointwise_gradient_caller(layout):
    kernel = training_kernels(layout).pointwise_gradient

    @njit
    def call(x, x_plane, dy, dy_plane, out, in_channels, pixels, vectors):
        kernel(x, x_plane, dy, dy_plane, out, in_channels, pixels, vectors)

    return call


def call_pointwise_gradient(layout, x, dy, out):
    """x (P, K), dy (P, M), out (K, M) as it is before -> (K, M) after."""
    (p, k), m = x.shape, dy.shape[1]
    inputs, gradients = blocks(x, layout), blocks(dy, layout)
    padded = np.zeros((k, layout.padded(m)), np.float32)
    padded[:, :m] = out
    first, parts = 0, []
    for size in layout.panel_sizes(layout.vectors(m)):
        end = first + size * layout.lanes
        panel = np.ascontiguousarray(padded[:, first:end])
        pointwise_gradient_caller(layout)(
            address(inputs), inputs[0].nbytes, address(gradients[first // layout.lanes :]), gradients[0].nbytes,
            address(panel), k, p, size)
        parts.append(panel)
        first = end
    every = np.concatenate(parts, 1)
    assert not every[:, m:].any(), "unused lanes are not zero"
    return every[:, :m]


@functools.cache
def depthwise_gradient_caller(layout, kernel_size, stride):
    kernel = training_kernels(layout).depthwise_gradient

    @njit
    def call(x, x_row, dy, dy_row, out, rows, columns):
        kernel(kernel_size, stride, x, x_row, dy, dy_row, out, rows, columns)

    return call


def call_depthwise_gradient(layout, x, dy, out, stride):
    """One block: x (H, W, lanes) with its padding, dy (Q, R, lanes), out (K, K, lanes) as it is before -> after."""
    (q, r, _), apart = dy.shape, np.full((dy.shape[0], dy.shape[1] * stride, dy.shape[2]), np.nan, np.float32)
    apart[:, ::stride] = dy
    after = out.copy()
    depthwise_gradient_caller(layout, len(out), stride)(address(x), x[0].nbytes, address(apart), apart[0].nbytes,
                                                        address(after), q, r)
    return after


@functools.cache
def stem_gradient_caller(layout):
    kernel = training_kernels(layout).stem_gradient

    @njit
    def call(x, x_row, channels, dy, dy_plane, out, rows, columns, vectors):
        kernel(x, x_row, channels, dy, dy_plane, out, rows, columns, vectors)

    return call


def call_stem_gradient(layout, x, dy):
    """x (H, W, C) with its padding, dy (Q, R, M) -> (3, 3, C, M)."""
    q, r, m = dy.shape
    gradients, parts, first = blocks(dy.reshape(-1, m), layout), [], 0
    for size in layout.panel_sizes(layout.vectors(m)):
        out = np.zeros((3, 3, x.shape[2], size * layout.lanes), np.float32)
        stem_gradient_caller(layout)(address(x), x[0].nbytes, x.shape[2], address(gradients[first:]),
                                     gradients[0].nbytes, address(out), q, r, size)
        parts.append(out)
        first += size
    return np.concatenate(parts, -1)[..., :m]


@functools.cache
def activate_caller(layout, relu6):
    kernel = training_kernels(layout).activate

    @njit
    def call(x, scale, shift, factor, has_residual, residual, y, pixels):
        kernel(relu6, x, scale, shift, factor, has_residual, residual, y, pixels)

    return call


def call_activate(layout, relu6, x, scale, shift, factor=1.0, residual=None):
    """x (P, lanes), scale and shift (lanes,) -> y (P, lanes)."""
    y, factor = np.full((len(x) + GAP, layout.lanes), UNTOUCHED), np.array([factor], np.float32)
    activate_caller(layout, relu6)(address(x), address(scale), address(shift), address(factor),
                                   int(residual is not None), 0 if residual is None else address(residual), address(y),
                                   len(x))
    assert (y[len(x) :] == UNTOUCHED).all(), "a kernel wrote past the last pixel"
    return y[: len(x)]


@functools.cache
def moments_caller(layout):
    kernel = training_kernels(layout).moments

    @njit
    def call(x, share, mean, squares, times, rest):
        kernel(x, share, mean, squares, times, rest)

    return call


def call_moments(layout, x):
    """x (P, lanes) -> mean and sum of squared distances, (2, lanes)."""
    out, share = np.full((2, layout.lanes), UNTOUCHED), np.array([1 / len(x)], np.float32)
    moments_caller(layout)(address(x), address(share), address(out[0]), address(out[1]), *times_and_rest(len(x)))
    return out


@functools.cache
def activate_gradient_caller(layout, relu6):
    kernel = training_kernels(layout).activate_gradient

    @njit
    def call(x, scale, shift, mean, factor, dy, has_skip, skip, out, dbeta, dcentred, times, rest):
        kernel(relu6, x, scale, shift, mean, factor, dy, has_skip, skip, out, dbeta, dcentred, times, rest)

    return call


def call_activate_gradient(layout, relu6, x, scale, shift, mean, dy, factor=1.0, skip=None):
    """x, dy and skip (P, lanes) -> what dy becomes (P, lanes), and the two sums (2, lanes)."""
    sums, factor = np.full((2, layout.lanes), UNTOUCHED), np.array([factor], np.float32)
    out = aligned((len(x) + GAP) * layout.vector).view(np.float32).reshape(-1, layout.lanes)  # it is streamed
    out[:] = UNTOUCHED
    activate_gradient_caller(layout, relu6)(address(x), address(scale), address(shift), address(mean), address(factor),
                                            address(dy), int(skip is not None), 0 if skip is None else address(skip),
                                            address(out), address(sums[0]), address(sums[1]), *times_and_rest(len(x)))
    assert (out[len(x) :] == UNTOUCHED).all(), "a kernel wrote past the last pixel"
    return out[: len(x)], sums


@functools.cache
def normalise_gradient_caller(layout):
    kernel = training_kernels(layout).normalise_gradient

    @njit
    def call(x, mean, scale, slope, constant, factor, dy, dx, dx_pixel, pixels):
        kernel(x, mean, scale, slope, constant, factor, dy, dx, dx_pixel, pixels)

    return call


def call_normalise_gradient(layout, x, mean, scale, slope, constant, dy, factor=1.0, apart=1):
    """x and dy (P, lanes) -> dx (P, lanes), written `apart` vectors apart."""
    dx, factor = np.full((len(x) * apart, layout.lanes), UNTOUCHED), np.array([factor], np.float32)
    normalise_gradient_caller(layout)(address(x), address(mean), address(scale), address(slope), address(constant),
                                      address(factor), address(dy), address(dx), apart * layout.vector, len(x))
    assert (dx.reshape(-1, apart, layout.lanes)[:, 1:] == UNTOUCHED).all(), "a kernel wrote between two pixels"
    return dx[::apart]
