"""Folded weights in one buffer, in the order in which the kernels read them.

    stem        (M, C, K, K) -> [K][K][C][M]
    depthwise   (C, 1, K, K) -> [K][K][C]
    pointwise   (M, C, 1, 1) -> [panel][C][16]; where M is an odd multiple of 8 the last panel has 8
    classifier  as pointwise, with zero rows up to a multiple of 8 classes

The bias (M,) stands behind each. Everything is float32; batch norm is folded in float64 and rounded once.
"""
import math
from dataclasses import dataclass

import numpy as np

from ..architecture import HEAD_CHANNELS
from ..kernels.layout import FLOAT, LANES, PANEL
from ..parameters import Weights
from ..reference import fold


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
    return -(-channels // LANES) * LANES


def pack_pointwise(weight, out) -> None:
    """(M, C) -> out, 1-D: panels of 16 output channels, the last of 8 where M is an odd multiple of 8."""
    (m, c), width = weight.shape, PANEL * LANES
    whole = m // width * width
    out[: whole * c].reshape(-1, c, width)[...] = weight[:whole].reshape(-1, width, c).transpose(0, 2, 1)
    out[whole * c :].reshape(c, m - whole)[...] = weight[whole:].T


def pack_weight(op: str, weight, out) -> None:
    """(M, C, K, K) -> out, 1-D, in the order of the operator's kernel."""
    if op == "pointwise":
        pack_pointwise(weight[:, :, 0, 0], out)
    else:
        ordered = weight.transpose(2, 3, 1, 0)
        out.reshape(ordered.shape)[...] = ordered


def pack(weights: Weights) -> Packed:
    """Fold every batch norm and lay all weights out one behind the other, in the order of execution."""
    network = weights.architecture
    rows = padded_channels(network.num_classes)
    shapes = [conv.weight_shape for conv in network.convs] + [(rows, HEAD_CHANNELS, 1, 1)]
    buffer, offsets, start = np.empty(sum(math.prod(shape) + shape[0] for shape in shapes), np.float32), {}, 0
    for name, op, weight, bias in _folded(weights, rows):  # one layer at a time: no second copy of them all
        middle, end = start + weight.size, start + weight.size + bias.size
        pack_weight(op, weight, buffer[start:middle])
        buffer[middle:end] = bias
        offsets[name], start = (FLOAT * start, FLOAT * middle), end
    return Packed(buffer, offsets)


def _folded(weights: Weights, rows: int):
    """(layer, operator, weight (M, C, K, K), bias (M,)) in the order of execution; `rows` classes, zeros at the end."""
    parameters = weights.parameters
    for conv in weights.architecture.convs:
        yield conv.name, conv.op, *fold(conv, parameters)
    weight, bias = parameters["classifier.weight"], parameters["classifier.bias"]
    if more := rows - len(bias):
        weight, bias = np.pad(weight, ((0, more), (0, 0))), np.pad(bias, (0, more))
    yield "classifier", "pointwise", weight[:, :, None, None], bias
