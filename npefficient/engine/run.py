"""The driver: the one compiled function that walks a plan's steps, in as many threads as call it.

    work            does the jobs that are posted to its thread, and returns when there are no more
      walk          walks the steps of one picture, and claims chunks of each until none is left
        run_chunk   one chunk: a panel of output channels, or several, over some rows or pixels
          run_pointwise, run_depthwise, run_stem      addresses of what the chunk reads and writes
            pointwise, depthwise, stem_row            kernels: rows and pixels cut into tiles (`kernels/`)

Numba compiles all of this into one function: routines are inlined into their callers, so that each kernel is compiled
once.
"""
from numba import from_dtype
from numba.core import types
from numba.extending import intrinsic

from ..kernels.depthwise import depthwise_kernel
from ..kernels.lanes import arithmetic, routine
from ..kernels.layout import FLOAT32
from ..kernels.pointwise import pointwise_kernel
from ..kernels.pool import pool_kernel
from ..kernels.rows import copy_kernel, zero_columns_kernel, zero_kernel
from ..kernels.stem import KERNEL, stem_kernel
from .atomics import atomic_add, atomic_load, claim, finished, relax
from .plan import DEPTHWISE, EXPANDED, FROM_PICTURE, POINTWISE, STEM, STEP
from .records import COUNTERS_SIZE, DONE, DONE_JOBS, IDLE, JOB, POSTED, STALE, YIELD

# The layout that the driver is compiled for; plans and packed weights must have the same.
LAYOUT = FLOAT32
VECTOR, PANEL, UNROLL = LAYOUT.vector, LAYOUT.panel, LAYOUT.unroll
stem_row, depthwise, pointwise = stem_kernel(LAYOUT), depthwise_kernel(LAYOUT), pointwise_kernel(LAYOUT)
POOL, COPY = pool_kernel(LAYOUT), copy_kernel(LAYOUT)
ZERO, ZERO_COLUMNS = zero_kernel(LAYOUT), zero_columns_kernel(LAYOUT)

STEP_SIZE, START = STEP.itemsize, JOB.fields["start"][1]
SPINS = 1 << 14  # until a thread yields: 0.2 to 0.8 ms with 40 to 140 cycles per spin (x86's PAUSE) at 3 GHz


def record_at(dtype):
    """A function from an address to the record there, with its fields; an array would be reference-counted."""
    kind = from_dtype(dtype)

    @intrinsic
    def at(typing_context, address):
        def generate(context, builder, signature, arguments):
            return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

        return kind(types.int64), generate

    return at


step_at, job_at = record_at(STEP), record_at(JOB)


@intrinsic
def set_start(typing_context, address, step):
    """Store the step to continue from in the job at an address."""

    def generate(context, builder, signature, arguments):
        field = builder.add(arguments[0], arguments[0].type(START))
        builder.store(arguments[1], builder.inttoptr(field, arguments[1].type.as_pointer()))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


@arithmetic
def panel_at(step, panel):
    """(first vector, vectors) of a panel: PANEL vectors in each wide one, then 2 each, or a single one at the end."""
    first = PANEL * min(panel, step.wide_panels) + 2 * max(panel - step.wide_panels, 0)
    return first, min(PANEL if panel < step.wide_panels else 2, step.vectors - first)


@arithmetic
def panel_weight(step, panel, weights):
    """Address of a panel's pointwise weights; past the last panel, of what follows in the weights (to prefetch)."""
    return weights + step.weight + panel_at(step, panel)[0] * VECTOR * step.in_channels


@routine
def run_stem_row(step, row, first, count, weights, picture, out, out_plane):
    """Row `row` of the stem's output, `count` vectors of channels from `first` on."""
    stem_row(x=picture, height=step.picture_height, width=step.picture_width, channels=step.in_channels,
             weight=weights + step.weight + first * VECTOR * step.in_channels * KERNEL * KERNEL,
             bias=weights + step.bias + first * VECTOR, out=out, out_plane=out_plane, q=row, columns=step.columns,
             top=step.picture_top, left=step.picture_left, vectors=count)


@routine
def run_stem(step, panel, part, weights, arena, picture):
    """Output rows of one panel of channels."""
    first, count = panel_at(step, panel)
    out = arena + step.out + first * step.out_plane
    for row in range(part * step.rows // step.parts, (part + 1) * step.rows // step.parts):
        run_stem_row(step, row, first, count, weights, picture, out + row * step.columns * VECTOR,
                     step.out_plane)


@routine
def fill_row(step, row, panel, rows_before, weights, x, out):
    """Row `row` of a depthwise step's input, one panel of channels, between its padding in scratch memory.

    rows_before: rows of this chunk that were filled before it
    """
    first, count = panel_at(step, panel)
    if row >= step.height:  # padding below the picture; scratch holds old rows there
        for v in range(count):
            ZERO(out + v * step.scratch_plane, step.width)
    elif step.source == EXPANDED:
        pointwise(x=x + row * step.width * VECTOR, x_plane=step.x_plane,
                  weight=panel_weight(step, panel, weights),
                  next_weight=panel_weight(step, panel + step.panels_to_next, weights),
                  bias=weights + step.bias + first * VECTOR, relu6=1, has_residual=0, residual=0, out=out,
                  out_plane=step.scratch_plane, steps=step.in_channels // UNROLL, pixels=step.width, vectors=count,
                  half=0, calls_before=rows_before)
    elif step.source == FROM_PICTURE:
        run_stem_row(step, row, first, count, weights, x, out, step.scratch_plane)
    else:
        for v in range(count):
            COPY(x + (first + v) * step.x_plane + row * step.width * VECTOR, out + v * step.scratch_plane, step.width)


@routine
def run_depthwise(step, panel, part, weights, arena, picture, scratch):
    """Output rows of one panel of channels. Scratch memory is a sliding window over their input rows.

    A 3x3 kernel at stride 1, three output rows at once; input row -1 is the padding above the picture:

        output rows 0 1 2    need input rows  -1 0 1 2 3
        output rows 3 4 5    need input rows         2 3 4 5 6

    Between the two, rows 2 and 3 move to the front (`top` becomes 2) and rows 4 to 6 are filled in (`ready` was 4).
    So each chunk computes an input row once. Two neighbouring chunks both compute the rows that they share.
    """
    first, count = panel_at(step, panel)
    x = picture if step.source == FROM_PICTURE else arena + step.x
    q, end = part * step.out_height // step.parts, (part + 1) * step.out_height // step.parts
    taps = step.kernel * step.kernel * VECTOR
    top = q * step.stride - step.top  # the input row at the start of scratch memory; negative in the padding
    ready = max(top, 0)  # the first input row not yet in scratch; padding rows are zeroed below
    filled, held = ready, (step.rows_at_once - 1) * step.stride + step.kernel  # the first row filled; rows in scratch
    right = step.left + step.width
    for v in range(count):  # padding above, left and right; the rest is written before it is read
        plane = scratch + v * step.scratch_plane
        ZERO(plane, (ready - top) * step.scratch_row // VECTOR)
        ZERO_COLUMNS(plane, step.scratch_row, held, step.left)
        ZERO_COLUMNS(plane + right * VECTOR, step.scratch_row, held, step.scratch_row // VECTOR - right)
    while q < end:
        rows = min(step.rows_at_once, end - q)
        above = q * step.stride - step.top
        for v in range(count):  # the rows that the last outputs and the next ones both need
            plane = scratch + v * step.scratch_plane
            COPY(plane + (above - top) * step.scratch_row, plane, (ready - above) * step.scratch_row // VECTOR)
        top = above
        below = above + (rows - 1) * step.stride + step.kernel
        for row in range(ready, below):
            fill_row(step, row, panel, row - filled, weights, x,
                     scratch + (row - top) * step.scratch_row + step.left * VECTOR)
        ready = below
        for v in range(count):
            depthwise(x=scratch + v * step.scratch_plane, x_row=step.scratch_row,
                      weight=weights + step.depthwise_weight + (first + v) * taps,
                      bias=weights + step.depthwise_bias + (first + v) * VECTOR,
                      out=arena + step.out + (first + v) * step.out_plane + q * step.out_width * VECTOR,
                      rows=rows, columns=step.out_width, kernel=step.kernel, stride=step.stride)
        q += rows


@routine
def run_pointwise(step, panel, part, weights, arena):
    """Pixels of some panels of output channels, one after the other."""
    p, end = part * step.pixels // step.parts, (part + 1) * step.pixels // step.parts
    for one in range(panel, min(panel + step.panels_per_chunk, step.panels)):
        first, count = panel_at(step, one)
        out = arena + step.out + first * step.out_plane + p * VECTOR
        pointwise(x=arena + step.x + p * VECTOR, x_plane=step.x_plane,
                  weight=panel_weight(step, one, weights),
                  next_weight=panel_weight(step, one + step.panels_to_next, weights),
                  bias=weights + step.bias + first * VECTOR, relu6=step.relu6, has_residual=step.has_residual,
                  residual=out + step.residual, out=out, out_plane=step.out_plane, steps=step.in_channels // UNROLL,
                  pixels=end - p, vectors=count, half=step.half if first + count == step.vectors else 0, calls_before=0)


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
    else:
        POOL(step.pool, arena + step.x, step.x_plane, step.pixels, arena + step.out, step.out_plane, step.vectors)


@routine
def walk(job, weights, arena, picture, scratch):
    """Walk the steps from `start` on, claiming chunks, until all are done or the run is over (or cancelled for this
    job: its `epoch` is read again each time).

    Returns `count` if all steps are done, STALE if the run is over, or the step that other threads have not finished
    after SPINS spins.
    """
    for i in range(job.start, job.count):
        step = step_at(job.steps + i * STEP_SIZE)
        claimed = job.counters + i * COUNTERS_SIZE
        while True:
            chunk = claim(claimed, job.epoch, step.chunks)
            if chunk == STALE:
                return STALE
            if chunk == step.chunks:
                break
            run_chunk(step, chunk, weights, arena, picture, scratch)
            atomic_add(claimed + DONE, 1)
        spins = SPINS
        while not finished(claimed + DONE, job.epoch, step.chunks):
            relax()
            spins -= 1
            if spins == 0:
                return i
    return job.count


def work(address, spins):
    """Do the job at an address, and those posted after it; returns IDLE if none was posted for `spins` spins.

    Returns YIELD if it waits for a thread that does not seem to be running: yield the processor and call again.
    """
    job = job_at(address)
    while True:
        left = spins
        while atomic_load(address + POSTED) == atomic_load(address + DONE_JOBS):
            if left == 0:
                return IDLE
            relax()
            left -= 1
        at = walk(job, job.weights, job.arena, job.picture, job.scratch)
        if 0 <= at < job.count:
            set_start(address, at)
            return YIELD
        atomic_add(address + DONE_JOBS, 1)
