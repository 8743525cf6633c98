"""Weights of one network in one buffer, in the order in which the kernels read them.

`kernels/packing.py` defines the order of each operator's weights; the classifier is a pointwise convolution, padded
with zero rows to whole vectors of classes. A layer's bias comes after its weight, zero-padded to whole vectors.

In float32, batch norm is folded in float64 and rounded once. Subnormal values become zero. With weights of 8 bits, a
bias is three vectors for each vector of channels: what their sums start at, their scale, and their bias.
"""
from dataclasses import dataclass

import numpy as np

from ..kernels.layout import FLOAT, FLOAT32, INT8, ZERO, Layout
from ..kernels.memory import aligned
from ..kernels.packing import pack_weight, packed_size
from ..network.folding import fold
from ..network.parameters import Weights
from ..network.quantization import TINY, QuantizedWeights, float_convs, reads_floats
from .computable import check_network


@dataclass(frozen=True)
class Packed:
    """All weights of one network; offsets in bytes from the buffer's start."""

    layout: Layout
    buffer: np.ndarray  # float32, 1-D; bytes of integers among them
    offsets: dict[str, tuple[int, int]]  # layer -> (weight, bias)

    @property
    def address(self) -> int:
        return self.buffer.ctypes.data


def pack(weights: Weights | QuantizedWeights, layout: Layout | None = None) -> Packed:
    """Store all weights in the order of execution; those in float32 are folded first.

    Raises ArgumentError for a network that compiled kernels can't compute.
    """
    check_network(weights.architecture)
    floats = isinstance(weights, Weights)
    layout, network = layout or (FLOAT32 if floats else INT8), weights.architecture
    in_floats = float_convs(network)
    layers = [(conv.op, conv.weight_shape, conv.stride, FLOAT if conv in in_floats else layout.item)
              for conv in network.convs]
    if network.num_classes:
        shape = layout.padded(network.num_classes), network.head_hidden_size, 1, 1
        layers.append(("pointwise", shape, 1, layout.item))
    sizes = [packed_size(layout, *layer) + _bias_size(layout, *layer) for layer in layers]
    sizes = [-(-size // layout.floats) * layout.floats for size in sizes]
    buffer, offsets, start = aligned(sum(sizes)), {}, 0
    made = _folded(weights, layout) if floats else _quantized(weights, layout)
    # One by one: no second copy of all weights.
    for (op, shape, stride, item), size, (name, weight, bias) in zip(layers, sizes, made, strict=True):
        middle = start + packed_size(layout, op, shape, stride, item)
        pack_weight(layout, op, weight, buffer[start:middle], stride, item)
        buffer[middle : middle + bias.nbytes] = bias.view(np.uint8)
        offsets[name], start = (start, middle), start + size
    return Packed(layout, buffer.view(np.float32), offsets)


def _bias_size(layout: Layout, op: str, shape, stride: int, item: int) -> int:
    return layout.vectors(shape[0]) * (1 if item == FLOAT else 3) * layout.floats


def _folded(weights: Weights, layout: Layout):
    """(layer, weight (M, C, K, K), bias (M,)), both float32, in the order of execution; the classifier is padded."""
    parameters = weights.parameters
    for conv in weights.architecture.convs:
        yield conv.name, *map(_rounded, fold(conv, parameters))
    if weights.architecture.num_classes:
        weight, bias = (_padded(parameters[f"classifier.{leaf}"], layout) for leaf in ("weight", "bias"))
        yield "classifier", _rounded(weight)[:, :, None, None], _rounded(bias)


def _rounded(array: np.ndarray) -> np.ndarray:
    """Any floats -> float32, with zero for magnitudes below TINY."""
    rounded = array.astype(np.float32)
    rounded[np.abs(rounded) < TINY] = 0
    return rounded


def _padded(array: np.ndarray, layout: Layout) -> np.ndarray:
    """(M, ..) with zeros up to whole vectors."""
    more = layout.padded(len(array)) - len(array)
    return np.pad(array, [(0, more)] + [(0, 0)] * (array.ndim - 1))


def _quantized(weights: QuantizedWeights, layout: Layout):
    """(layer, weight (M, C, K, K), bias): float32 in the first two layers, then int8 and float32 (vectors, 3, lanes).
    """
    for name, layer in weights.float_layers.items():
        yield name, layer.weight, layer.bias
    floats = {conv.name for conv in weights.architecture.convs if reads_floats(conv)} | {"classifier"}
    for name, layer in weights.layers.items():
        weight, scale, bias = (_padded(array, layout) for array in (layer.weight, layer.scale, layer.bias))
        start = -ZERO * weight.sum((1, 2, 3), dtype=np.int32) if name in floats else np.zeros(len(bias), np.int32)
        channels = np.stack([start.view(np.float32), scale, bias]).reshape(3, -1, layout.lanes)
        yield name, weight if name == "classifier" else layer.weight, channels.transpose(1, 0, 2).ravel()
