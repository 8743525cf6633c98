"""The folded network in 8 bits with fixed ranges, as TFLite's full-integer models have it.

    real = scale * (q - zero)      activations: int8, the range as seen in the calibration, 0 included
    real = scale[m] * q            weights: int8 in -127..127, one scale for each output channel
                                   biases: int32, the scale is that of the input times that of the weights

Source: Google's "LiteRT 8-bit quantization specification". Our own network in 8 bits is another, which needs no
calibration (`npefficient/network/quantization.py`).
"""
from dataclasses import dataclass

import numpy as np

from .graph import INPUT

LARGEST_WEIGHT = 127
LOW, HIGH = -128, 127  # of an activation


@dataclass(frozen=True)
class Affine:
    """real = scale * (q - zero)."""

    scale: float
    zero: int


@dataclass(frozen=True)
class IntegerLayer:
    """The constants of a convolution or of the classifier."""

    weight: np.ndarray  # int8, shaped as the node's
    scale: np.ndarray  # float32 (M,), of the weights
    bias: np.ndarray  # int32 (M,)
    bias_scale: np.ndarray  # float32 (M,)


def calibrate(network, nodes, pictures) -> dict[str, Affine]:
    """Scale and zero of the input and of every node, from their ranges over all pictures (N, H, W, C).

    `network`: in float32, an `Engine` or a `reference.Network`
    """
    ranges: dict[str, tuple[float, float]] = {}
    for x in pictures:
        for name, y in values(network, nodes, x).items():
            low, high = ranges.get(name, (0.0, 0.0))
            ranges[name] = min(low, float(y.min())), max(high, float(y.max()))
    return {name: affine(*limits) for name, limits in ranges.items()}


def values(network, nodes, x) -> dict:
    """The input and the value of every node by name, float32."""
    found = {INPUT: x, **network.outputs(x, [node.name for node in nodes if node.op != "add"])}
    for node in nodes:
        if node.op == "add":  # to the network, the addition is a part of the convolution before it
            conv, shortcut = node.inputs
            found[node.name] = found[conv]
            found[conv] = found[conv] - found[shortcut]
    return found


def affine(low: float, high: float) -> Affine:
    """Spread low..high, which includes 0, over int8; 0 is exact, as padding needs it."""
    scale = (high - low) / (HIGH - LOW) or 1.0  # a value that is always 0 may have any scale
    return Affine(scale, int(np.clip(round(LOW - low / scale), LOW, HIGH)))


def integers(node, scale: float) -> IntegerLayer:
    """The constants of a node whose input has this scale."""
    rows = node.weight.reshape(len(node.weight), -1).astype(np.float64)
    step = np.abs(rows).max(1) / LARGEST_WEIGHT
    step = np.where(step == 0, 1.0, step)
    weight = np.rint(rows / step[:, None]).astype(np.int8).reshape(node.weight.shape)
    limits = np.iinfo(np.int32)
    bias = np.clip(np.rint(node.bias / (step * scale)), limits.min, limits.max).astype(np.int32)
    return IntegerLayer(weight, step.astype(np.float32), bias, (step * scale).astype(np.float32))
