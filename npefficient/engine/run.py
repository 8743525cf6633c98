"""The driver: the one compiled function that walks a plan's steps, in as many threads as call it."""
from numba import from_dtype
from numba.core import types
from numba.extending import intrinsic

from ..kernels.depthwise import depthwise_row
from ..kernels.lanes import routine
from ..kernels.layout import FLOAT, LANES
from ..kernels.pointwise import pointwise
from ..kernels.pool import POOL
from ..kernels.stem import stem_row
from .atomics import atomic_add, claim, finished
from .counters import COUNTERS_SIZE, DONE, STALE
from .plan import DEPTHWISE, POINTWISE, STEM, STEP

STEP_SIZE = STEP.itemsize
PATIENCE = 1 << 16  # looks at a counter before the thread gives way to others


@intrinsic
def step_at(typing_context, address):
    """The step at an address, with its fields; a NumPy array of them would bring reference counts along."""

    def generate(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return from_dtype(STEP)(types.int64), generate


@routine
def run_rows(step, first, last, weights, constants, arena, images):
    """Stem or depthwise: output rows `first` to `last`, counted through all pictures."""
    weight, bias, bounds = weights + step.weight, weights + step.bias, constants + step.constants
    picture = step.height * step.width * step.in_channels * FLOAT
    row_size = step.out_width * step.out_channels * FLOAT
    for row in range(first, last):
        n, q = row // step.out_height, row % step.out_height
        out = arena + step.out + row * row_size
        if step.op == STEM:
            stem_row(images + n * picture, step.height, step.width, step.in_channels, weight, bias, bounds, out, q,
                     step.out_width, step.kernel, step.stride, step.top, step.left)
        else:
            depthwise_row(arena + step.x + n * picture, step.height, step.width, step.in_channels, weight, bias, bounds,
                          out, q, step.out_width, step.kernel, step.stride, step.top, step.left)


@routine
def run_pixels(step, first, last, panel, weights, constants, arena):
    """Pointwise: pixels `first` to `last`, counted through all pictures, from `panel` on."""
    out_pixel = first * step.out_channels * FLOAT
    pointwise(arena + step.x + first * step.in_channels * FLOAT, step.in_channels, weights + step.weight,
              weights + step.bias, constants + step.constants, step.has_residual, arena + step.residual + out_pixel,
              arena + step.out + out_pixel, step.out_channels, last - first, panel,
              min(panel + step.panels_per_chunk, step.panels))


@routine
def run_pool(step, first, last, constants, arena):
    """Pool: pictures `first` to `last`."""
    pixel = step.in_channels * FLOAT
    pixels = step.height * step.width
    for n in range(first, last):
        POOL(arena + step.x + n * pixels * pixel, pixel, pixels, constants + step.constants,
             arena + step.out + n * pixel, step.in_channels // LANES)


@routine
def run_chunk(step, chunk, weights, constants, arena, images):
    """One chunk of one step."""
    parts = (step.items + step.items_per_chunk - 1) // step.items_per_chunk
    first = chunk % parts * step.items_per_chunk
    last = min(first + step.items_per_chunk, step.items)
    if step.op == POINTWISE:
        run_pixels(step, first, last, chunk // parts * step.panels_per_chunk, weights, constants, arena)
    elif step.op == STEM or step.op == DEPTHWISE:
        run_rows(step, first, last, weights, constants, arena, images)
    else:
        run_pool(step, first, last, constants, arena)


def run(steps, count, start, counters, epoch, weights, constants, arena, images):
    """Walk the steps from `start` on, claiming chunks, until all are done or this run (`epoch`) is over.

    All arguments are int64: steps is the address of `count` of them, counters of COUNTERS_SIZE bytes per step; weights,
    constants, arena and images are addresses. Returns `count` when all is done, STALE when the run was over, or the
    step whose last chunks other threads still compute: then call again with it as `start`, after giving way.
    """
    for i in range(start, count):
        step = step_at(steps + i * STEP_SIZE)
        claimed = counters + i * COUNTERS_SIZE
        while True:
            chunk = claim(claimed, epoch, step.chunks)
            if chunk == STALE:
                return STALE
            if chunk == step.chunks:
                break
            run_chunk(step, chunk, weights, constants, arena, images)
            atomic_add(claimed + DONE, 1)
        patience = PATIENCE
        while not finished(claimed + DONE, epoch, step.chunks):
            patience -= 1
            if patience == 0:
                return i
    return count
