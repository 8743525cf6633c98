"""One channel of each K x K convolution, with every number that its pixels are made of.

    depthwise   sum over i, j of x[i, j] * w[i, j]            K x K products, of one input channel
    stem        sum over i, j, c of x[i, j, c] * w[i, j, c]   K x K of each of the input's channels

then times `scale`, plus the bias, and ReLU6; the batch norm is folded into weights and bias. In int8, the numbers are
those of `network/quantized_reference.py`: the sum is one of integers, and the output is rounded to a whole number of
steps of 6/255. There, the stem is computed in float32, and so is the depthwise convolution after it.
"""
from dataclasses import dataclass

import numpy as np

from ..network.architecture import Architecture, Conv, same_padding
from ..network.folding import fold
from ..network.parameters import Weights
from ..network.quantization import RELU6_STEP, QuantizedWeights
from ..network.quantized_reference import kept


@dataclass(frozen=True, eq=False)
class ChannelSums:
    """The channel of a convolution's output that varies most over the photo."""

    layer: str  # timm's name, such as "blocks.1.0.conv_dw"
    channel: int
    stride: int
    padding: tuple[int, int]  # rows of zeros above the input, columns to its left
    x: np.ndarray  # (H, W, C) what it reads: float32, or uint8 in int8; C is 1 unless it is the stem
    weight: np.ndarray  # (K, K, C) float32, or int8
    scale: float  # the sum's factor, 1 unless the sum is one of integers
    bias: float
    step: float  # of the output: a whole number of steps in int8, 0 where it is not rounded
    out: np.ndarray  # float32 (Q, R), the model's own

    def __repr__(self) -> str:
        return f"ChannelSums({self.layer}, channel {self.channel}, {self.x.shape} -> {self.out.shape})"

    @property
    def kernel(self) -> int:
        return len(self.weight)


def summed(network: Architecture) -> list[tuple[Conv, Conv | None]]:
    """The K x K convolutions, each with the one before it, None before the stem."""
    convs = network.convs
    return [(conv, before) for conv, before in zip(convs, (None, *convs)) if conv.kernel > 1]


def output_names(network: Architecture) -> list[str]:
    """What `channel_sums` needs of `Model.activations`."""
    return list(dict.fromkeys(one.bn for pair in summed(network) for one in pair if one))


def channel_sums(network: Architecture, weights: Weights | QuantizedWeights, x: np.ndarray,
                 activations: dict[str, np.ndarray]) -> tuple[ChannelSums, ...]:
    """One channel of each; x (H, W, C) the network's input, activations by the names of `output_names`, (1, h, w, c)
    each."""
    found = []
    for conv, before in summed(network):
        out = activations[conv.bn][0]
        channel = int(out.std(axis=(0, 1)).argmax())
        weight, scale, bias = _weights(weights, conv, channel)
        read = x if before is None else activations[before.bn][0][..., channel : channel + 1]
        integers = weight.dtype == np.int8
        rounded = isinstance(weights, QuantizedWeights) and before is not None
        rows, columns = (same_padding(size, conv.kernel, conv.stride)[0] for size in read.shape[:2])
        found.append(ChannelSums(conv.name, channel, conv.stride, (rows, columns),
                                 np.ascontiguousarray(kept(read) if integers else read), weight, scale, bias,
                                 RELU6_STEP if rounded else 0.0, np.ascontiguousarray(out[..., channel])))
    return tuple(found)


def _weights(weights: Weights | QuantizedWeights, conv: Conv, channel: int) -> tuple[np.ndarray, float, float]:
    """Weights (K, K, C), scale and bias of one output channel."""
    scale = 1.0
    if not isinstance(weights, QuantizedWeights):
        weight, bias = (array.astype(np.float32) for array in fold(conv, weights.parameters))
    elif conv.name in weights.float_layers:
        weight, bias = vars(weights.float_layers[conv.name]).values()
    else:
        layer = weights.layers[conv.name]
        weight, bias, scale = layer.weight, layer.bias, float(layer.scale[channel])
    return np.ascontiguousarray(weight[channel].transpose(1, 2, 0)), scale, float(bias[channel])
