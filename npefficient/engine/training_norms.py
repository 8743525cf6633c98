"""The chunks of a training step that turn a batch's sums into the vectors of its batch norm, in float64.

What `kernels/normalise.py` reads comes from here: for each channel, from its moments in each strip,

    mean = sum of pixels * mean of a strip / N
    variance = sum of (squares of a strip + pixels * (mean of a strip - mean)^2) / N
    deviation = sqrt(variance + eps), scale = gamma / deviation, shift = beta - mean scale

and backward, from its two sums in each strip,

    dbeta = sum of du, dgamma = sum of du (x - mean) / deviation
    slope = -scale dgamma / (deviation N), constant = -scale dbeta / N; with running statistics, 0

N is the number of values in the batch. A variance is a sum of squares of distances: no digits cancel out in it.
"""
import functools

from ..kernels.lanes import arithmetic, routine
from ..kernels.layout import FLOAT, Layout
from ..kernels.scalars import DOUBLE, load_double, load_float, square_root, store_double, store_float
from ..network.architecture import BN_EPS
from .training_steps import (
    BATCH_MEAN,
    BATCH_VARIANCE,
    BETA,
    CONSTANT,
    COUNT,
    DBETA,
    DEVIATION,
    DGAMMA,
    EXACT_SCALE,
    GAMMA,
    MEAN,
    MOMENTS,
    RUNNING_MEAN,
    RUNNING_VARIANCE,
    SCALE,
    SHIFT,
    SLOPE,
)


@functools.cache
def make_norm_chunks(layout: Layout):
    """The routines `forward_norm` and `backward_norm` for one layout: a step's vectors for one block of channels."""
    lanes, vector = layout.lanes, layout.vector

    @arithmetic
    def moments_of(step, channel):
        """(address of the channel's first number in the first strip, bytes to the same in the next one)."""
        block, lane = channel // lanes, channel % lanes
        return step.gathered + block * MOMENTS * vector + lane * FLOAT, step.z_vectors * MOMENTS * vector

    @routine
    def get(step, row, channel):
        return load_double(step.exact + row * step.exact_size + channel * DOUBLE)

    @routine
    def keep(step, row, channel, value):
        store_double(value, step.exact + row * step.exact_size + channel * DOUBLE)

    @routine
    def put(step, row, channel, value):
        """Store a number where the kernels read it."""
        store_float(value, step.norm + row * step.norm_size + channel * FLOAT)

    @routine
    def forward_channel(step, channel):
        first, distance = moments_of(step, channel)
        slots = step.pictures * step.strips
        count, total = 0.0, 0.0
        for slot in range(slots):
            pixels = load_double(step.pixels + slot % step.strips * DOUBLE)
            count += pixels
            total += load_float(first + slot * distance) * pixels
        mean = total / count
        total = 0.0
        for slot in range(slots):
            apart = load_float(first + slot * distance) - mean
            total += load_float(first + slot * distance + vector) + apart * apart * load_double(
                step.pixels + slot % step.strips * DOUBLE)
        variance = total / count
        keep(step, COUNT, channel, count)
        keep(step, BATCH_MEAN, channel, mean)
        keep(step, BATCH_VARIANCE, channel, variance)
        if not step.by_batch:
            mean, variance = get(step, RUNNING_MEAN, channel), get(step, RUNNING_VARIANCE, channel)
        deviation = square_root(variance + BN_EPS)
        scale = get(step, GAMMA, channel) / deviation
        keep(step, DEVIATION, channel, deviation)
        keep(step, EXACT_SCALE, channel, scale)
        put(step, SCALE, channel, scale)
        put(step, SHIFT, channel, get(step, BETA, channel) - mean * scale)
        put(step, MEAN, channel, mean)

    @routine
    def backward_channel(step, channel):
        first, distance = moments_of(step, channel)
        dbeta, dcentred = 0.0, 0.0
        for slot in range(step.pictures * step.strips):
            dbeta += load_float(first + slot * distance)
            dcentred += load_float(first + slot * distance + vector)
        deviation, by_statistics = get(step, DEVIATION, channel), 0.0
        if step.by_batch:
            by_statistics = -get(step, EXACT_SCALE, channel) / get(step, COUNT, channel)
        keep(step, DBETA, channel, dbeta)
        keep(step, DGAMMA, channel, dcentred / deviation)
        put(step, SLOPE, channel, by_statistics * dcentred / (deviation * deviation))
        put(step, CONSTANT, channel, by_statistics * dbeta)

    @routine
    def forward_norm(step, block):
        for channel in range(block * lanes, (block + 1) * lanes):
            forward_channel(step, channel)

    @routine
    def backward_norm(step, block):
        for channel in range(block * lanes, (block + 1) * lanes):
            backward_channel(step, channel)

    return forward_norm, backward_norm
