"""What a training step is for compiled code. Nothing here needs Numba.

Between a convolution and the next one there is the batch norm of the first, whose mean and deviation need the whole
batch. So what is stored is each convolution's own output z. Batch norm and ReLU6 are applied as the next convolution
reads it, and the moments that its batch norm needs are gathered as z is stored:

    forward     z before -> activate -> convolution -> z, and its moments

Backward, a step gets dy, the gradient of what its own activation gave, with ReLU6 already taken into account:

    backward    dy, z -> normalise_gradient -> dz
                x, dz -> gradient of the weights
                dz -> gradient of the input -> activate_gradient -> dy of the layer before, and its sums

A step is all of a batch. Its chunks are one picture's *strips* of pixels or rows, or *parts*, some pictures each, where
a chunk adds up a gradient. Neither depends on the number of threads, so no bit of the result does.
"""
import numpy as np

from ..kernels.layout import Layout
from ..kernels.memory import ALIGNMENT, aligned
from .records import COUNTERS_SIZE, EPOCH_BITS

FORWARD_STEM, FORWARD_DEPTHWISE, FORWARD_POINTWISE, ACTIVATE = range(4)  # what a step does
BACKWARD_STEM, BACKWARD_DEPTHWISE, BACKWARD_POINTWISE, SUMS = range(4, 8)
AS_IT_IS, RELU6, LINEAR = range(3)  # how x becomes the input: LINEAR is + residual, and is kept at y
SCALE, SHIFT, MEAN, SLOPE, CONSTANT = range(5)  # of a norm, see `kernels/normalise.py`
MOMENTS = 2  # vectors for each block of channels and strip: mean and squares, or two sums

# One step: addresses, and sizes and distances in bytes. `norm` is five vectors over channels, `norm_size` apart.
STEP = np.dtype([(name, np.int64) for name in (
    "op", "chunks", "pictures", "strips", "parts",
    # the layer before, or what is read as it is
    "x", "x_picture", "x_plane", "x_vectors", "x_kind", "x_norm", "x_norm_size", "x_factors", "residual", "y", "x_dy",
    "skip", "x_panels", "x_wide_panels", "x_half", "height", "width",
    # this layer
    "z", "z_picture", "z_plane", "z_vectors", "norm", "norm_size", "factors", "dy", "panels", "wide_panels", "half",
    "out_height", "out_width", "in_channels", "out_channels", "kernel", "stride", "top", "left",
    "weight", "turned", "dweight", "dweight_size", "zeros", "gathered", "shares", "scratch_dz",
)])  # fmt: skip


Fields = dict[str, int | np.ndarray | None]  # of a step: an array stands for its address, None for 0


class Pass:
    """One step over a batch, as `workers` take it: a run with a plan of one step.

    It keeps the arrays alive that its step points into, as a worker may outlive an interrupted caller.
    """

    def __init__(self, layout: Layout, scratch_size: int, fields: Fields):
        self.packed = self.plan = self
        self.layout, self.scratch_size, self.holds = layout, scratch_size, fields
        given = (fields.get(name) for name in STEP.names)
        self.steps = np.array([value.ctypes.data if isinstance(value, np.ndarray) else value or 0 for value in given],
                              np.int64).view(STEP)
        self.counters = aligned(COUNTERS_SIZE).view(np.int64)
        self.counters[:: ALIGNMENT // 8] = 1 << EPOCH_BITS
        self.fields = {"layout": layout.number, "steps": self.steps.ctypes.data, "count": 1, "epoch": 1,
                       "counters": self.counters.ctypes.data, "weights": 0, "arena": 0, "picture": 0}
