"""Folded weights in one buffer, in the order in which the kernels read them.

    stem        (M, C, K, K) -> [panel][K][K][C][vectors of the panel][LANES]
    pointwise   (M, C, 1, 1) -> [panel][C][vectors of the panel][LANES]; a half vector (`layout.py`) has LANES / 2
    classifier  as pointwise, with zero rows up to whole vectors of classes
    depthwise   (C, 1, K, K) -> [C / LANES][K][K][LANES]

The bias stands behind each, with zeros up to whole vectors. All is float32; batch norm is folded in float64 and rounded
once. What is too small for float32's full precision becomes zero.
"""
from dataclasses import dataclass

import numpy as np

from ..kernels.layout import FLOAT, LANES, is_half, panel_sizes, vectors
from ..network.parameters import Weights
from ..network.reference import fold
from .memory import aligned

# The smallest number of full precision. Below it processors take up to 140 times as long (*measured*), and no logit
# shows it: next to such a product, a sum would have to be as small itself.
TINY = np.finfo(np.float32).tiny


@dataclass(frozen=True)
class Packed:
    """All weights of one network; offsets in bytes from the buffer's start."""

    buffer: np.ndarray  # float32, 1-D
    offsets: dict[str, tuple[int, int]]  # layer -> (weight, bias)

    @property
    def address(self) -> int:
        return self.buffer.ctypes.data


def padded_channels(channels: int) -> int:
    """The next multiple of the lanes."""
    return vectors(channels) * LANES


def panel_widths(channels: int) -> list[int]:
    """Output channels of each panel of packed weights, a half vector as such."""
    *sizes, last = panel_sizes(vectors(channels))
    return [*(LANES * size for size in sizes), LANES * last - is_half(channels) * LANES // 2]


def packed_size(op: str, shape) -> int:
    """Floats of a packed weight (M, C, K, K)."""
    m, c, k, _ = shape
    return c * k * k * (padded_channels(m) if op == "depthwise" else sum(panel_widths(m)))


def pack_weight(op: str, weight, out) -> None:
    """(M, C, K, K) -> out, 1-D zeros, in the order of the operator's kernel."""
    ordered = weight.astype(np.float32, copy=False).transpose(0, 2, 3, 1).reshape(len(weight), -1)  # (M, K K C)
    m = start = 0
    for width in [LANES] * vectors(len(weight)) if op == "depthwise" else panel_widths(len(weight)):
        chosen, size = ordered[m : m + width], ordered.shape[1] * width
        out[start : start + size].reshape(-1, width)[:, : len(chosen)] = chosen.T
        m, start = m + width, start + size


def pack(weights: Weights) -> Packed:
    """Fold every batch norm and lay all weights out one behind the other, in the order of execution."""
    network = weights.architecture
    layers = [(conv.op, conv.weight_shape) for conv in network.convs]
    if network.num_classes:
        layers.append(("pointwise", (padded_channels(network.num_classes), network.head_hidden_size, 1, 1)))
    sizes = [packed_size(op, shape) + padded_channels(shape[0]) for op, shape in layers]
    sizes = [-(-size // LANES) * LANES for size in sizes]
    buffer, offsets, start = aligned(FLOAT * sum(sizes)).view(np.float32), {}, 0
    for size, (name, op, *folded) in zip(sizes, _folded(weights)):  # one by one: no second copy of them all
        weight, bias = map(_rounded, folded)
        middle = start + packed_size(op, weight.shape)
        pack_weight(op, weight, buffer[start:middle])
        buffer[middle : middle + bias.size] = bias
        offsets[name], start = (FLOAT * start, FLOAT * middle), start + size
    return Packed(buffer, offsets)


def _folded(weights: Weights):
    """(layer, operator, weight (M, C, K, K), bias (M,)) in the order of execution; whole vectors of classes."""
    parameters = weights.parameters
    for conv in weights.architecture.convs:
        yield conv.name, conv.op, *fold(conv, parameters)
    if weights.architecture.num_classes:
        weight, bias = parameters["classifier.weight"], parameters["classifier.bias"]
        more = padded_channels(len(bias)) - len(bias)
        yield "classifier", "pointwise", np.pad(weight, ((0, more), (0, 0)))[:, :, None, None], np.pad(bias, (0, more))


def _rounded(array: np.ndarray) -> np.ndarray:
    """Any floats -> float32, zero where they are below TINY."""
    rounded = array.astype(np.float32)
    rounded[np.abs(rounded) < TINY] = 0
    return rounded
