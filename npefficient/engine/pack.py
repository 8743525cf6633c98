"""Folded weights of one network in one buffer, in the order in which the kernels read them.

`kernels/packing.py` defines the order of each operator's weights; the classifier is a pointwise convolution, padded
with zero rows to whole vectors of classes. A layer's bias comes after its weight, zero-padded to whole vectors.
Everything is float32; batch norm is folded in float64 and rounded once. Subnormal values become zero.
"""
from dataclasses import dataclass

import numpy as np

from ..kernels.layout import FLOAT32, Layout
from ..kernels.memory import aligned
from ..kernels.packing import pack_weight, packed_size
from ..network.folding import fold
from ..network.parameters import Weights

# The smallest normal float32. Subnormal numbers are up to 140 times as slow (*measured*), and no logit shows that they
# are gone: a product with one would only matter in a sum that is as small itself.
TINY = np.finfo(np.float32).tiny


@dataclass(frozen=True)
class Packed:
    """All weights of one network; offsets in bytes from the buffer's start."""

    layout: Layout
    buffer: np.ndarray  # float32, 1-D
    offsets: dict[str, tuple[int, int]]  # layer -> (weight, bias)

    @property
    def address(self) -> int:
        return self.buffer.ctypes.data


def pack(weights: Weights, layout: Layout = FLOAT32) -> Packed:
    """Fold every batch norm and store all weights in the order of execution."""
    network = weights.architecture
    layers = [(conv.op, conv.weight_shape) for conv in network.convs]
    if network.num_classes:
        layers.append(("pointwise", (layout.padded(network.num_classes), network.head_hidden_size, 1, 1)))
    sizes = [layout.padded(packed_size(layout, op, shape) + layout.padded(shape[0])) for op, shape in layers]
    buffer, offsets, start = aligned(layout.item * sum(sizes)).view(np.float32), {}, 0
    for size, (name, op, *folded) in zip(sizes, _folded(weights, layout)):  # one by one: no second copy of all weights
        weight, bias = map(_rounded, folded)
        middle = start + packed_size(layout, op, weight.shape)
        pack_weight(layout, op, weight, buffer[start:middle])
        buffer[middle : middle + bias.size] = bias
        offsets[name], start = (layout.item * start, layout.item * middle), start + size
    return Packed(layout, buffer, offsets)


def _folded(weights: Weights, layout: Layout):
    """(layer, operator, weight (M, C, K, K), bias (M,)) in the order of execution; the classifier is padded."""
    parameters = weights.parameters
    for conv in weights.architecture.convs:
        yield conv.name, conv.op, *fold(conv, parameters)
    if weights.architecture.num_classes:
        weight, bias = parameters["classifier.weight"], parameters["classifier.bias"]
        more = layout.padded(len(bias)) - len(bias)
        yield "classifier", "pointwise", np.pad(weight, ((0, more), (0, 0)))[:, :, None, None], np.pad(bias, (0, more))


def _rounded(array: np.ndarray) -> np.ndarray:
    """Any floats -> float32, with zero for magnitudes below TINY."""
    rounded = array.astype(np.float32)
    rounded[np.abs(rounded) < TINY] = 0
    return rounded
