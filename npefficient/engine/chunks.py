"""One chunk of a step: the addresses of what it reads and writes, and the kernels that do it.

    run_chunk   a panel of output channels, or several, over some rows or pixels
      run_pointwise, run_depthwise, run_stem, run_quantize
        pointwise, depthwise, stem_row, quantize      kernels: rows and pixels cut into tiles (`kernels/`)
"""
import functools

from ..kernels.formats import kernels_for
from ..kernels.lanes import arithmetic, routine
from ..kernels.layout import FLOAT, Layout
from ..kernels.stem import KERNEL
from ..kernels.tiles import make_panel_at
from .plan import DEPTHWISE, EXPANDED, FROM_PICTURE, POINTWISE, QUANTIZE, STEM


@functools.cache
def make_run_chunk(layout: Layout):
    """The routine `run_chunk` for one layout; the plan and the packed weights must have the same."""
    kernels = kernels_for(layout)
    pointwise, depthwise, first_depthwise = kernels.pointwise, kernels.depthwise, kernels.first_depthwise
    stem_row, pool, quantize = kernels.stem_row, kernels.pool, kernels.quantize
    zero, zero_columns, copy = kernels.zero, kernels.zero_columns, kernels.copy
    panel_at = make_panel_at(layout)
    vector, floats, unroll = layout.vector, layout.floats, layout.unroll  # the first two in bytes
    bias_size = floats if layout.item == FLOAT else 3 * floats

    @arithmetic
    def panel_weight(step, panel, weights):
        """Address of a panel's pointwise weights; past the last panel, of what follows in the weights (to prefetch)."""
        return weights + step.weight + panel_at(panel, step.wide_panels, step.vectors)[0] * vector * step.in_channels

    @routine
    def run_stem_row(step, row, first, count, weights, picture, out, out_plane):
        """Row `row` of the stem's output, `count` vectors of channels from `first` on."""
        stem_row(x=picture, height=step.picture_height, width=step.picture_width, channels=step.in_channels,
                 weight=weights + step.weight + first * floats * step.in_channels * KERNEL * KERNEL,
                 bias=weights + step.bias + first * floats, out=out, out_plane=out_plane, q=row, columns=step.columns,
                 top=step.picture_top, left=step.picture_left, vectors=count)

    @routine
    def run_stem(step, panel, part, weights, arena, picture):
        """Output rows of one panel of channels."""
        first, count = panel_at(panel, step.wide_panels, step.vectors)
        out = arena + step.out + first * step.out_plane
        for row in range(part * step.rows // step.parts, (part + 1) * step.rows // step.parts):
            run_stem_row(step, row, first, count, weights, picture, out + row * step.columns * floats,
                         step.out_plane)

    @routine
    def fill_row(step, row, panel, rows_before, weights, x, scale, out):
        """Row `row` of a depthwise step's input, one panel of channels, between its padding in scratch memory.

        rows_before: rows of this chunk that were filled before it
        """
        first, count = panel_at(panel, step.wide_panels, step.vectors)
        size = step.width * (floats if step.floats else vector)  # bytes
        if row >= step.height:  # padding below the picture; scratch holds old rows there
            for v in range(count):
                zero(out + v * step.scratch_plane, size // vector)
        elif step.source == EXPANDED:
            pointwise(x=x + row * step.width * vector, x_plane=step.x_plane, has_scale=1,
                      scale=scale + row * FLOAT,
                      weight=panel_weight(step, panel, weights),
                      next_weight=panel_weight(step, panel + step.panels_to_next, weights),
                      bias=weights + step.bias + first * bias_size, relu6=1, has_residual=0, residual=0, out=out,
                      out_plane=step.scratch_plane, steps=step.in_channels // unroll, pixels=step.width, vectors=count,
                      half=0, calls_before=rows_before)
        elif step.source == FROM_PICTURE:
            run_stem_row(step, row, first, count, weights, x, out, step.scratch_plane)
        else:
            for v in range(count):
                copy(x + (first + v) * step.x_plane + row * size, out + v * step.scratch_plane, size // vector)

    @routine
    def run_depthwise(step, panel, part, weights, arena, picture, scratch):
        """Output rows of one panel of channels. Scratch memory is a sliding window over their input rows.

        A 3x3 kernel at stride 1, three output rows at once; input row -1 is the padding above the picture:

            output rows 0 1 2    need input rows  -1 0 1 2 3
            output rows 3 4 5    need input rows         2 3 4 5 6

        Between the two, rows 2 and 3 move to the front (`top` becomes 2) and rows 4 to 6 are filled in (`ready` was 4).
        So each chunk computes an input row once. Two neighbouring chunks both compute the rows that they share.
        """
        first, count = panel_at(panel, step.wide_panels, step.vectors)
        x = picture if step.source == FROM_PICTURE else arena + step.x
        q, end = part * step.out_height // step.parts, (part + 1) * step.out_height // step.parts
        top = q * step.stride - step.top  # the input row at the start of scratch memory; negative in the padding
        ready = max(top, 0)  # the first input row not yet in scratch; padding rows are zeroed below
        filled = ready  # the first row that this chunk fills
        held = (step.rows_at_once - 1) * step.stride + step.kernel  # rows in scratch
        pixel = floats if step.floats else vector  # bytes of a vector in scratch memory
        left, right = step.left * pixel, (step.left + step.width) * pixel
        for v in range(count):  # padding above, left and right; the rest is written before it is read
            plane = scratch + v * step.scratch_plane
            zero(plane, (ready - top) * step.scratch_row // vector)
            zero_columns(plane, step.scratch_row, held, left // vector)
            zero_columns(plane + right, step.scratch_row, held, (step.scratch_row - right) // vector)
        while q < end:
            rows = min(step.rows_at_once, end - q)
            above = q * step.stride - step.top
            for v in range(count):  # the rows that the last outputs and the next ones both need
                plane = scratch + v * step.scratch_plane
                copy(plane + (above - top) * step.scratch_row, plane, (ready - above) * step.scratch_row // vector)
            top = above
            below = above + (rows - 1) * step.stride + step.kernel
            for row in range(ready, below):
                fill_row(step, row, panel, row - filled, weights, x, arena + step.scale,
                         scratch + (row - top) * step.scratch_row + left)
            ready = below
            for v in range(first, first + count):
                plane = scratch + (v - first) * step.scratch_plane
                weight = weights + step.depthwise_weight + v * step.depthwise_size
                out = arena + step.out + v * step.out_plane + q * step.out_width * vector
                if step.floats:
                    first_depthwise(x=plane, x_row=step.scratch_row, weight=weight,
                                    bias=weights + step.depthwise_bias + v * floats, out=out, rows=rows,
                                    columns=step.out_width, kernel=step.kernel, stride=step.stride)
                else:
                    depthwise(x=plane, x_row=step.scratch_row, weight=weight,
                              bias=weights + step.depthwise_bias + v * bias_size, out=out, rows=rows,
                              columns=step.out_width, kernel=step.kernel, stride=step.stride)
            q += rows

    @routine
    def run_pointwise(step, panel, part, weights, arena):
        """Pixels of some panels of output channels, panel after panel; those that share a scale in one call."""
        start, end = part * step.pixels // step.parts, (part + 1) * step.pixels // step.parts
        pixel = vector if step.relu6 else floats  # bytes of an output
        for one in range(panel, min(panel + step.panels_per_chunk, step.panels)):
            first, count = panel_at(one, step.wide_panels, step.vectors)
            half = step.half if first + count == step.vectors else 0
            p, row = start, start // step.width
            while p < end:
                stop = min(end, (row + 1) * step.width)
                out = arena + step.out + first * step.out_plane + p * pixel
                pointwise(x=arena + step.x + p * vector, x_plane=step.x_plane, has_scale=step.has_scale,
                          scale=arena + step.scale + row * FLOAT,
                          weight=panel_weight(step, one, weights),
                          next_weight=panel_weight(step, one + step.panels_to_next, weights),
                          bias=weights + step.bias + first * bias_size, relu6=step.relu6,
                          has_residual=step.has_residual, residual=out + step.residual, out=out,
                          out_plane=step.out_plane, steps=step.in_channels // unroll, pixels=stop - p, vectors=count,
                          half=half, calls_before=row - start // step.width)
                p, row = stop, row + 1

    @routine
    def run_quantize(step, part, arena):
        """Some rows; a plan of floats has no such step."""
        for row in range(part * step.height // step.parts, (part + 1) * step.height // step.parts):
            p = row * step.width
            quantize(arena + step.x + p * floats, step.x_plane, arena + step.scale + row * FLOAT,
                     arena + step.out + p * vector, step.out_plane, step.width, step.vectors)

    @routine
    def run_chunk(step, chunk, weights, arena, picture, scratch):
        """One chunk of one step."""
        part, panel = chunk % step.parts, chunk // step.parts * step.panels_per_chunk
        if step.op == POINTWISE:
            run_pointwise(step, panel, part, weights, arena)
        elif step.op == DEPTHWISE:
            run_depthwise(step, panel, part, weights, arena, picture, scratch)
        elif step.op == STEM:
            run_stem(step, panel, part, weights, arena, picture)
        elif step.op == QUANTIZE:
            run_quantize(step, part, arena)
        else:
            pool(step.pool, arena + step.x, step.x_plane, step.pixels, arena + step.out, step.out_plane, step.vectors)

    return run_chunk
