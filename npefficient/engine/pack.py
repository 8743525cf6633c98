"""Folded weights in one buffer, in the order in which the kernels read them.

    stem        (M, C, K, K) -> [K][K][C][M]
    depthwise   (C, 1, K, K) -> [K][K][C]
    pointwise   (M, C, 1, 1) -> [panel][C][16]; where M is an odd multiple of 8 the last panel has 8
    classifier  as pointwise, with zero rows up to a multiple of 8 classes

The bias (M,) stands behind each. Everything is float32; batch norm is folded in float64 and rounded once.
"""
from dataclasses import dataclass

import numpy as np

from ..kernels.layout import LANES, PANEL
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


def pack_pointwise(weight):
    """(M, C) -> 1-D: panels of 16 output channels, the last of 8 where M is an odd multiple of 8."""
    width = PANEL * LANES
    return np.concatenate([weight[m : m + width].T.ravel() for m in range(0, len(weight), width)])


def pack_weight(op: str, weight):
    """(M, C, K, K) -> 1-D, in the order of the operator's kernel."""
    return pack_pointwise(weight[:, :, 0, 0]) if op == "pointwise" else weight.transpose(2, 3, 1, 0).ravel()


def pack(weights: Weights) -> Packed:
    """Fold every batch norm and lay all weights out one behind the other, in the order of execution."""
    network, parameters = weights.architecture, weights.parameters
    layers = [(conv.name, conv.op, *fold(conv, parameters)) for conv in network.convs]
    rows = padded_channels(network.num_classes) - network.num_classes
    weight = np.pad(parameters["classifier.weight"], ((0, rows), (0, 0)))[:, :, None, None]
    layers.append(("classifier", "pointwise", weight, np.pad(parameters["classifier.bias"], (0, rows))))

    pieces, offsets, end = [], {}, 0
    for name, op, weight, bias in layers:
        pieces += [pack_weight(op, weight).astype(np.float32), bias.astype(np.float32)]
        offsets[name] = end, end + pieces[-2].nbytes
        end += pieces[-2].nbytes + pieces[-1].nbytes
    return Packed(np.concatenate(pieces), offsets)
