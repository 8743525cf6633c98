"""What a training step is for compiled code. Nothing here needs Numba.

Between a convolution and the next one there is the batch norm of the first, whose mean and deviation need the whole
batch. So what is stored is each convolution's own output z. Batch norm and ReLU6 are applied as the next convolution
reads it, and the moments that its batch norm needs are gathered as z is stored:

    forward     z before -> activate -> convolution -> z, and its moments

Backward, a step gets dy, the gradient of what its own activation gave, with ReLU6 already taken into account:

    backward    dy, z -> normalise_gradient -> dz
                x, dz -> gradient of the weights
                dz -> gradient of the input -> activate_gradient -> dy of the layer before, and its sums

Between two convolutions, a step of its own makes the vectors of a batch norm from its moments or sums, in float64:
these are a few numbers for each channel (`training_norms.py`). One more packs the weights before a convolution, and one
adds up the parts of their gradient and unpacks it (`training_weights.py`).

A step is all of a batch. Its chunks are one picture's *strips* of pixels or rows, or *parts*, some pictures each, where
a chunk adds up a gradient. Neither depends on the number of threads, so no bit of the result does.
"""
from collections.abc import Sequence

import numpy as np

from ..kernels.layout import Layout
from ..kernels.memory import ALIGNMENT, aligned
from .records import COUNTERS_SIZE, EPOCH_BITS

FORWARD_STEM, FORWARD_DEPTHWISE, FORWARD_POINTWISE, FORWARD_NORM, ACTIVATE = range(5)  # what a step does
BACKWARD_STEM, BACKWARD_DEPTHWISE, BACKWARD_POINTWISE, BACKWARD_NORM, SUMS = range(5, 10)
PACK, ADD_UP = range(10, 12)
AS_IT_IS, RELU6, LINEAR = range(3)  # how x becomes the input: LINEAR is + residual, and is kept at y
MOMENTS = 2  # vectors for each block of channels and strip: mean and squares, or two sums

NORM_ROWS = 5  # vectors of a batch norm in float32, see `kernels/normalise.py`
SCALE, SHIFT, MEAN, SLOPE, CONSTANT = range(NORM_ROWS)
EXACT_ROWS = 11  # and in float64: what they are made of, and what comes of it besides, see `training_norms.py`
(GAMMA, BETA, RUNNING_MEAN, RUNNING_VARIANCE, COUNT, BATCH_MEAN, BATCH_VARIANCE, DEVIATION, EXACT_SCALE, DBETA,
 DGAMMA) = range(EXACT_ROWS)  # fmt: skip

NORM_OF = (GAMMA, BETA, RUNNING_MEAN, RUNNING_VARIANCE)  # as `bn_parameters` returns them

# One step: addresses, and sizes and distances in bytes. `norm` and `exact` are rows over channels, `norm_size` and
# `exact_size` apart; `shares` and `pixels` are 1 / the pixels of each strip, and the pixels.
STEP = np.dtype([(name, np.int64) for name in (
    "op", "chunks", "pictures", "strips", "parts",
    # the layer before, or what is read as it is
    "x", "x_picture", "x_plane", "x_vectors", "x_kind", "x_norm", "x_norm_size", "x_factors", "residual", "y", "x_dy",
    "skip", "x_panels", "x_wide_panels", "x_half", "height", "width",
    # this layer
    "z", "z_picture", "z_plane", "z_vectors", "norm", "norm_size", "exact", "exact_size", "by_batch", "factors", "dy",
    "panels", "wide_panels", "half", "out_height", "out_width", "in_channels", "out_channels", "kernel", "stride",
    "top", "left", "weight", "turned", "dweight", "dweight_size", "zeros", "gathered", "shares", "pixels",
    "scratch_dz",
    # weights as they are outside, (M, C, K, K), and the distances of their axes; of packed ones, M, C and K as above,
    # and `panel_rows`, the vectors K K C of each block
    "plain", "plain_lane", "plain_channel", "plain_tap", "panel_rows", "by_block",
)])  # fmt: skip


Fields = dict[str, int | np.ndarray | None]  # of a step: an array stands for its address, None for 0


class Pass:
    """Some steps over a batch, as `workers` take them: a run with a plan of these steps, each of another kind. It can
    be run many times.

    It keeps the arrays alive that its steps point into, as a worker may outlive an interrupted caller.
    """

    def __init__(self, layout: Layout, scratch_size: int, steps: Sequence[Fields]):
        self.packed = self.plan = self
        self.layout, self.scratch_size = layout, scratch_size
        self.steps, self.holds = np.zeros(len(steps), STEP), [Fields() for _ in steps]
        self.counters = aligned(len(steps) * COUNTERS_SIZE).view(np.int64)
        self.places = {fields["op"]: i for i, fields in enumerate(steps)}
        self.steps["op"] = list(self.places)
        for fields in steps:
            self.set(**fields)
        self.fields = {"layout": layout.number, "steps": self.steps.ctypes.data, "count": len(steps), "epoch": 0,
                       "counters": self.counters.ctypes.data, "weights": 0, "arena": 0, "picture": 0}

    def set(self, op: int, **fields: int | np.ndarray | None) -> None:
        """Change some fields of the step that does `op`."""
        i = self.places[op]
        for name, value in fields.items():
            self.steps[i][name] = value.ctypes.data if isinstance(value, np.ndarray) else value or 0
        self.holds[i] |= fields

    def begin(self) -> None:
        """Before each run: no chunk is claimed. A worker that is late from the last run finds another epoch."""
        self.fields["epoch"] += 1
        self.counters[:: ALIGNMENT // 8] = self.fields["epoch"] << EPOCH_BITS
