"""The kernels of a number format: float32, or integers of 8 bits. Both have the same interface, for one driver."""
import functools
from dataclasses import dataclass
from typing import Any

from .depthwise import depthwise_kernel
from .depthwise_gradient import depthwise_gradient_kernel
from .depthwise_int8 import depthwise_int8_kernel
from .lanes import routine
from .layout import FLOAT, Layout
from .normalise import activate_gradient_kernel, activate_kernel, moments_kernel, normalise_gradient_kernel
from .pointwise import pointwise_kernel
from .pointwise_gradient import pointwise_gradient_kernel
from .pointwise_int8 import pointwise_int8_kernel
from .pool import pool_kernel
from .pool_int8 import pool_int8_kernel
from .quantize import quantize_kernel
from .rows import copy_kernel, zero_columns_kernel, zero_kernel
from .stem import stem_kernel
from .stem_gradient import stem_gradient_kernel


@dataclass(frozen=True)
class Kernels:
    """Callable from compiled code; each is described in the file that makes it."""

    pointwise: Any
    depthwise: Any
    first_depthwise: Any  # of the layer after the stem, which reads floats
    stem_row: Any
    pool: Any
    quantize: Any  # integers only: never called with floats
    zero: Any
    zero_columns: Any
    copy: Any


def without_scale(pointwise):
    """Give the kernel for floats the interface of that for integers."""

    @routine
    def pointwise_floats(x, x_plane, has_scale, scale, weight, next_weight, bias, relu6, has_residual, residual, out,
                         out_plane, steps, pixels, vectors, half, calls_before):
        pointwise(x, x_plane, weight, next_weight, bias, relu6, has_residual, residual, out, out_plane, steps, pixels,
                  vectors, half, calls_before)

    return pointwise_floats


@functools.cache
def kernels_for(layout: Layout) -> Kernels:
    """The kernels for one layout; the size of its values tells the format."""
    floats = layout.item == FLOAT
    return Kernels(
        pointwise=without_scale(pointwise_kernel(layout)) if floats else pointwise_int8_kernel(layout),
        depthwise=depthwise_kernel(layout) if floats else depthwise_int8_kernel(layout),
        first_depthwise=depthwise_kernel(layout),
        stem_row=stem_kernel(layout),
        pool=pool_kernel(layout) if floats else pool_int8_kernel(layout),
        quantize=quantize_kernel(layout),
        zero=zero_kernel(layout), zero_columns=zero_columns_kernel(layout), copy=copy_kernel(layout),
    )


@dataclass(frozen=True)
class TrainingKernels:
    """The same for training, in float32."""

    pointwise: Any
    pointwise_gradient: Any
    depthwise: Any
    depthwise_gradient: Any
    stem_row: Any
    stem_gradient: Any
    activate: Any
    activate_gradient: Any
    moments: Any
    normalise_gradient: Any
    zero: Any


@functools.cache
def training_kernels(layout: Layout) -> TrainingKernels:
    """The kernels of training for one layout."""
    return TrainingKernels(
        pointwise=pointwise_kernel(layout), pointwise_gradient=pointwise_gradient_kernel(layout),
        depthwise=depthwise_kernel(layout), depthwise_gradient=depthwise_gradient_kernel(layout),
        stem_row=stem_kernel(layout), stem_gradient=stem_gradient_kernel(layout),
        activate=activate_kernel(layout), activate_gradient=activate_gradient_kernel(layout),
        moments=moments_kernel(layout), normalise_gradient=normalise_gradient_kernel(layout), zero=zero_kernel(layout),
    )


def all_kernels(layout: Layout) -> Kernels | TrainingKernels:
    """All that the driver for a layout calls."""
    return training_kernels(layout) if layout.training else kernels_for(layout)
