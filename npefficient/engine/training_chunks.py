"""One chunk of a training step (`training_steps.py`): the kernels that do it, and the addresses of what they read and
write.
"""
import functools

from ..kernels.formats import training_kernels
from ..kernels.lanes import arithmetic, routine
from ..kernels.layout import FLOAT, Layout
from ..kernels.normalise import SIDE_BY_SIDE
from ..kernels.scalars import load_float, store_float
from ..kernels.tiles import make_panel_at
from .training_norms import make_norm_chunks
from .training_steps import (
    ACTIVATE,
    ADD_UP,
    AS_IT_IS,
    BACKWARD_DEPTHWISE,
    BACKWARD_NORM,
    BACKWARD_POINTWISE,
    BACKWARD_STEM,
    CONSTANT,
    FORWARD_DEPTHWISE,
    FORWARD_NORM,
    FORWARD_POINTWISE,
    FORWARD_STEM,
    MEAN,
    MOMENTS,
    PACK,
    RELU6,
    SCALE,
    SHIFT,
    SLOPE,
)
from .training_weights import make_weight_chunks


@functools.cache
def make_training_chunk(layout: Layout):
    """The routine `run_chunk` for one layout."""
    kernels = training_kernels(layout)
    pointwise, pointwise_gradient = kernels.pointwise, kernels.pointwise_gradient
    depthwise, depthwise_gradient, zero = kernels.depthwise, kernels.depthwise_gradient, kernels.zero
    stem_row, stem_gradient, moments = kernels.stem_row, kernels.stem_gradient, kernels.moments
    activate, activate_gradient = kernels.activate, kernels.activate_gradient
    normalise_gradient = kernels.normalise_gradient
    forward_norm, backward_norm = make_norm_chunks(layout)
    vector, unroll = layout.vector, layout.unroll

    @arithmetic
    def cut_at(size, i, count):
        """Where the i-th of `count` equal parts begins, of pixels, rows or pictures."""
        return i * size // count

    panel_at = make_panel_at(layout)
    pack, add_up = make_weight_chunks(layout)

    @routine
    def activated(step, n, at, pixels, scratch):
        """The input of some pixels of picture n, all channels: (address, bytes from one block to the next).

        `at` is where these pixels begin in x, in bytes.
        """
        if step.x_kind == AS_IT_IS:
            return step.x + at, step.x_plane
        out, plane = scratch, (pixels + 1) * vector
        if step.y:
            out, plane = step.y + at, step.x_plane
        for v in range(step.x_vectors):
            norm, here = step.x_norm + v * vector, at + v * step.x_plane
            activate(int(step.x_kind == RELU6), step.x + here, norm + SCALE * step.x_norm_size,
                     norm + SHIFT * step.x_norm_size, step.x_factors + n * FLOAT, int(step.residual != 0),
                     step.residual + here, out + v * plane, pixels)
        return out, plane

    @routine
    def gather_moments(step, v, slot, strip, z, pixels):
        """The moments of one block of channels of one strip of z, stored at their place, `slot`."""
        gathered = step.gathered + (slot * step.z_vectors + v) * MOMENTS * vector
        moments(z, step.shares + strip * FLOAT, gathered, gathered + vector, pixels // SIDE_BY_SIDE,
                pixels % SIDE_BY_SIDE)

    @routine
    def gather_sums(step, n, v, slot, at, pixels, dy):
        """Turn the gradient after ReLU6, dy, into that before it, and store its sums at their place, `slot`."""
        gathered = step.gathered + (slot * step.x_vectors + v) * MOMENTS * vector
        norm, size, here = step.x_norm + v * vector, step.x_norm_size, at + v * step.x_plane
        activate_gradient(int(step.x_kind == RELU6), step.x + here, norm + SCALE * size, norm + SHIFT * size,
                          norm + MEAN * size, step.x_factors + n * FLOAT, dy, int(step.skip != 0), step.skip + here,
                          step.x_dy + here, gathered, gathered + vector, pixels // SIDE_BY_SIDE, pixels % SIDE_BY_SIDE)

    @routine
    def normalised(step, n, v, at, pixels, out, out_pixel):
        """dz of one block of channels of picture n, from dy and z at an offset."""
        norm, size = step.norm + v * vector, step.norm_size
        normalise_gradient(step.z + at, norm + MEAN * size, norm + SCALE * size, norm + SLOPE * size,
                           norm + CONSTANT * size, step.factors + n * FLOAT, step.dy + at, out, out_pixel, pixels)

    # --- forward

    @routine
    def forward_stem(step, chunk):
        n, strip = chunk // step.strips, chunk % step.strips
        q, end = cut_at(step.out_height, strip, step.strips), cut_at(step.out_height, strip + 1, step.strips)
        z = step.z + n * step.z_picture
        for panel in range(step.panels):
            first, vectors = panel_at(panel, step.wide_panels, step.z_vectors)
            weight = step.weight + first * vector * step.in_channels * step.kernel * step.kernel
            for row in range(q, end):
                stem_row(x=step.x + n * step.x_picture, height=step.height, width=step.width,
                         channels=step.in_channels, weight=weight, bias=step.zeros,
                         out=z + first * step.z_plane + row * step.out_width * vector, out_plane=step.z_plane, q=row,
                         columns=step.out_width, top=step.top, left=step.left, vectors=vectors)
        for v in range(step.z_vectors):
            gather_moments(step, v, chunk, strip, z + v * step.z_plane + q * step.out_width * vector,
                           (end - q) * step.out_width)

    @routine
    def forward_pointwise(step, chunk, scratch):
        n, strip, size = chunk // step.strips, chunk % step.strips, step.out_height * step.out_width
        p = cut_at(size, strip, step.strips)
        pixels = cut_at(size, strip + 1, step.strips) - p
        x, x_plane = activated(step, n, n * step.x_picture + p * vector, pixels, scratch)
        z = step.z + n * step.z_picture + p * vector
        for panel in range(step.panels):
            first, vectors = panel_at(panel, step.wide_panels, step.z_vectors)
            weight = step.weight + first * vector * step.in_channels
            pointwise(x=x, x_plane=x_plane, weight=weight,
                      next_weight=weight + vectors * vector * step.in_channels, bias=step.zeros, relu6=0,
                      has_residual=0, residual=0, out=z + first * step.z_plane, out_plane=step.z_plane,
                      steps=step.in_channels // unroll, pixels=pixels, vectors=vectors,
                      half=step.half if first + vectors == step.z_vectors else 0, calls_before=0)
        if step.norm:
            for v in range(step.z_vectors):
                gather_moments(step, v, chunk, strip, z + v * step.z_plane, pixels)

    @routine
    def padded_rows(step, n, v, row, rows, out):
        """Rows of one block of the input, from `row` on, between zeros; returns the bytes of a row."""
        norm, scratch_row = step.x_norm + v * vector, (step.width + step.kernel - 1) * vector
        zero(out, rows * scratch_row // vector)
        for r in range(max(row, 0), min(row + rows, step.height)):
            here = n * step.x_picture + v * step.x_plane + r * step.width * vector
            activate(1, step.x + here, norm + SCALE * step.x_norm_size, norm + SHIFT * step.x_norm_size, 0, 0, 0,
                     out + (r - row) * scratch_row + step.left * vector, step.width)
        return scratch_row

    @routine
    def forward_depthwise(step, chunk, scratch):
        n, v = chunk // step.z_vectors, chunk % step.z_vectors
        for strip in range(step.strips):
            q, end = cut_at(step.out_height, strip, step.strips), cut_at(step.out_height, strip + 1, step.strips)
            row = padded_rows(step, n, v, q * step.stride - step.top, (end - q - 1) * step.stride + step.kernel,
                              scratch)
            z = step.z + n * step.z_picture + v * step.z_plane + q * step.out_width * vector
            depthwise(x=scratch, x_row=row, weight=step.weight + v * step.kernel * step.kernel * vector,
                      bias=step.zeros, out=z, rows=end - q, columns=step.out_width, kernel=step.kernel,
                      stride=step.stride)
            gather_moments(step, v, n * step.strips + strip, strip, z, (end - q) * step.out_width)

    # --- backward

    @routine
    def sums_alone(step, n):
        """The sums of a gradient that no convolution led back: of the last one's output."""
        at = n * step.x_picture
        for v in range(step.x_vectors):
            gather_sums(step, n, v, n, at, step.height * step.width, step.x_dy + at + v * step.x_plane)

    @routine
    def gradient_of_input(step, n, strip, x_at, pixels, dz, plane, scratch):
        """Of a pointwise convolution, for some pixels of picture n."""
        dx, dx_plane = step.x_dy + x_at, step.x_plane
        if step.x_norm:
            dx, dx_plane = scratch, (pixels + 1) * vector
        for panel in range(step.x_panels):
            first, vectors = panel_at(panel, step.x_wide_panels, step.x_vectors)
            weight = step.turned + first * vector * step.out_channels
            pointwise(x=dz, x_plane=plane, weight=weight,
                      next_weight=weight + vectors * vector * step.out_channels, bias=step.zeros, relu6=0,
                      has_residual=0, residual=0, out=dx + first * dx_plane, out_plane=dx_plane,
                      steps=step.out_channels // unroll, pixels=pixels, vectors=vectors,
                      half=step.x_half if first + vectors == step.x_vectors else 0, calls_before=0)
        if step.x_norm:
            for v in range(step.x_vectors):
                gather_sums(step, n, v, n * step.strips + strip, x_at, pixels, dx + v * dx_plane)

    @routine
    def backward_pointwise(step, part, scratch):
        """The gradients of weights, summed over one part of the pictures, and of the input, if it has a place."""
        size, dweight = step.out_height * step.out_width, step.dweight + part * step.dweight_size
        zero(dweight, step.dweight_size // vector)
        for n in range(cut_at(step.pictures, part, step.parts), cut_at(step.pictures, part + 1, step.parts)):
            for strip in range(step.strips):
                p = cut_at(size, strip, step.strips)
                pixels = cut_at(size, strip + 1, step.strips) - p
                at, x_at = n * step.z_picture + p * vector, n * step.x_picture + p * vector
                dz, plane = step.dy + at, step.z_plane
                if step.norm:
                    dz, plane = scratch + step.scratch_dz, (pixels + 1) * vector
                    for v in range(step.z_vectors):
                        normalised(step, n, v, at + v * step.z_plane, pixels, dz + v * plane, vector)
                x, x_plane = activated(step, n, x_at, pixels, scratch)
                for panel in range(step.panels):
                    first, vectors = panel_at(panel, step.wide_panels, step.z_vectors)
                    pointwise_gradient(x=x, x_plane=x_plane, dy=dz + first * plane, dy_plane=plane,
                                       out=dweight + first * vector * step.in_channels, in_channels=step.in_channels,
                                       pixels=pixels, vectors=vectors)
                if step.x_dy:
                    gradient_of_input(step, n, strip, x_at, pixels, dz, plane, scratch)

    @routine
    def backward_depthwise(step, chunk, scratch):
        """The same for one block of channels, whose input and dz are copied between zeros, dz `stride` pixels apart."""
        part, v = chunk // step.z_vectors, chunk % step.z_vectors
        taps = step.kernel * step.kernel * vector
        dweight = step.dweight + part * step.dweight_size + v * taps
        zero(dweight, step.kernel * step.kernel)
        x_rows, dz_rows = scratch, scratch + step.scratch_dz
        dz_row = (step.width + step.kernel - 1) * vector
        above, before = step.kernel - 1 - step.top, step.kernel - 1 - step.left  # padding of dz
        for n in range(cut_at(step.pictures, part, step.parts), cut_at(step.pictures, part + 1, step.parts)):
            for strip in range(step.strips):
                q, end = cut_at(step.out_height, strip, step.strips), cut_at(step.out_height, strip + 1, step.strips)
                h, h_end = q * step.stride, min(end * step.stride, step.height)
                x_row = padded_rows(step, n, v, h - step.top, (end - q - 1) * step.stride + step.kernel, x_rows)
                rows = h_end - h + step.kernel - 1
                zero(dz_rows, rows * dz_row // vector)
                top = h - above  # the row of the input at which the first row of dz_rows is
                last = min(step.out_height - 1, (top + rows - 1) // step.stride)
                for row in range(max(0, -(-top // step.stride)), last + 1):
                    normalised(step, n, v, n * step.z_picture + v * step.z_plane + row * step.out_width * vector,
                               step.out_width, dz_rows + (row * step.stride - top) * dz_row + before * vector,
                               step.stride * vector)
                depthwise_gradient(step.kernel, step.stride, x_rows, x_row, dz_rows + above * dz_row + before * vector,
                                   step.stride * dz_row, dweight, end - q, step.out_width)
                if step.x_dy:
                    at = n * step.x_picture + h * step.width * vector
                    depthwise(x=dz_rows, x_row=dz_row, weight=step.turned + v * taps, bias=step.zeros,
                              out=x_rows, rows=h_end - h, columns=step.width, kernel=step.kernel, stride=1)
                    gather_sums(step, n, v, n * step.strips + strip, at, (h_end - h) * step.width, x_rows)

    @routine
    def backward_stem(step, part, scratch):
        """The gradient of the weights alone. The input is copied between zeros."""
        dweight = step.dweight + part * step.dweight_size
        zero(dweight, step.dweight_size // vector)
        x_pixel, dz_rows = step.in_channels * FLOAT, scratch + step.scratch_dz
        line, x_row = step.width * x_pixel, ((step.out_width - 1) * step.stride + step.kernel) * x_pixel
        for n in range(cut_at(step.pictures, part, step.parts), cut_at(step.pictures, part + 1, step.parts)):
            for strip in range(step.strips):
                q, end = cut_at(step.out_height, strip, step.strips), cut_at(step.out_height, strip + 1, step.strips)
                pixels, h = (end - q) * step.out_width, q * step.stride - step.top
                zero(scratch, step.scratch_dz // vector)
                for row in range(max(h, 0), min(h + (end - q - 1) * step.stride + step.kernel, step.height)):
                    x, place = step.x + n * step.x_picture + row * line, (row - h) * x_row + step.left * x_pixel
                    for at in range(0, line, FLOAT):
                        store_float(load_float(x + at), scratch + place + at)
                for v in range(step.z_vectors):
                    normalised(step, n, v, n * step.z_picture + v * step.z_plane + q * step.out_width * vector, pixels,
                               dz_rows + v * pixels * vector, vector)
                for panel in range(step.panels):
                    first, vectors = panel_at(panel, step.wide_panels, step.z_vectors)
                    stem_gradient(x=scratch, x_row=x_row, channels=step.in_channels,
                                  dy=dz_rows + first * pixels * vector, dy_plane=pixels * vector,
                                  out=dweight + first * vector * step.in_channels * step.kernel * step.kernel,
                                  rows=end - q, columns=step.out_width, vectors=vectors)

    @routine
    def run_chunk(step, chunk, weights, arena, picture, scratch):
        """One chunk of one step."""
        if step.op == FORWARD_POINTWISE:
            forward_pointwise(step, chunk, scratch)
        elif step.op == FORWARD_DEPTHWISE:
            forward_depthwise(step, chunk, scratch)
        elif step.op == FORWARD_STEM:
            forward_stem(step, chunk)
        elif step.op == FORWARD_NORM:
            forward_norm(step, chunk)
        elif step.op == BACKWARD_NORM:
            backward_norm(step, chunk)
        elif step.op == PACK:
            pack(step, chunk)
        elif step.op == ADD_UP:
            add_up(step, chunk)
        elif step.op == ACTIVATE:
            activated(step, chunk, chunk * step.x_picture, step.height * step.width, scratch)
        elif step.op == BACKWARD_POINTWISE:
            backward_pointwise(step, chunk, scratch)
        elif step.op == BACKWARD_DEPTHWISE:
            backward_depthwise(step, chunk, scratch)
        elif step.op == BACKWARD_STEM:
            backward_stem(step, chunk, scratch)
        else:
            sums_alone(step, chunk)

    return run_chunk
