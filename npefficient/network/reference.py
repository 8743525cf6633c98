"""The whole network in NumPy: every layer is a pure function, with its shapes in the docstring.

Read this page first. It is the oracle for everything faster. It runs in the dtype of its input (float32 or float64),
on any height and width down to 1 x 1, and takes the parameters under timm's names.

`notebooks/lite0.py` is the same for lite0 alone, with its weight file and its preprocessing, as a program of one file.

Letters: N batch, H W input rows and columns, C input channels, M output channels, K kernel, S stride, Q R output rows
and columns. Arrays are NHWC; weights are (M, C, K, K), as in the checkpoint.
"""
import numpy as np

from .architecture import BN_EPS, Architecture, Conv, same_padding
from .folding import bn_parameters

# --- the layers ------------------------------------------------------------------------------------------------------


def pad_same(x, kernel: int, stride: int):
    """(N, H, W, C) -> (N, H + .., W + .., C): zeros around the picture, so that Q = ceil(H / S) and R = ceil(W / S)."""
    rows, columns = (same_padding(size, kernel, stride) for size in x.shape[1:3])
    return np.pad(x, ((0, 0), rows, columns, (0, 0)))


def taps(x, kernel: int, stride: int):
    """Yield (i, j, view) for each of the K x K taps: the padded input pixel of each output, (N, Q, R, C).

    A convolution is the sum over taps of these views, each multiplied by the weights of its tap. Side by side, they
    would be the matrix of im2col, (N Q R, K K C); as views, they take no memory.
    """
    padded = pad_same(x, kernel, stride)
    q, r = (-(-size // stride) for size in x.shape[1:3])
    for i in range(kernel):
        for j in range(kernel):
            yield i, j, padded[:, i : i + (q - 1) * stride + 1 : stride, j : j + (r - 1) * stride + 1 : stride]


def dense_conv(x, weight, stride: int):
    """(N, H, W, C), (M, C, K, K) -> (N, Q, R, M): every output channel depends on every input channel."""
    return sum(view @ weight[:, :, i, j].T for i, j, view in taps(x, weight.shape[-1], stride))


def depthwise_conv(x, weight, stride: int):
    """(N, H, W, C), (C, 1, K, K) -> (N, Q, R, C): each channel is convolved separately."""
    return sum(view * weight[:, 0, i, j] for i, j, view in taps(x, weight.shape[-1], stride))


def pointwise_conv(x, weight):
    """(N, H, W, C), (M, C, 1, 1) -> (N, H, W, M): a matrix product at every pixel."""
    return x @ weight[:, :, 0, 0].T


def convolution(x, conv: Conv, weight):
    """(N, H, W, C) -> (N, Q, R, M): the one of these three that the architecture asks for."""
    if conv.op == "stem":
        return dense_conv(x, weight, conv.stride)
    if conv.op == "depthwise":
        return depthwise_conv(x, weight, conv.stride)
    return pointwise_conv(x, weight)


def batch_norm(x, weight, bias, mean, var):
    """(.., C) -> (.., C): at inference, an affine map per channel."""
    return (x - mean) / np.sqrt(var + x.dtype.type(BN_EPS)) * weight + bias


def relu6(x):
    """(..) -> (..): clamp to 0..6."""
    return np.clip(x, 0, 6)


def global_average_pool(x):
    """(N, H, W, C) -> (N, C)."""
    return x.mean(axis=(1, 2))


def linear(x, weight, bias):
    """(N, C), (M, C), (M,) -> (N, M)."""
    return x @ weight.T + bias


def global_pool(x, how: str):
    """(N, H, W, C) -> (N, C), or (N, 2 C) for "catavgmax": one of timm's pools; the official weights have "avg"."""
    if how == "avg":
        return global_average_pool(x)
    largest = x.max(axis=(1, 2))
    if how == "max":
        return largest
    average, half = global_average_pool(x), x.dtype.type(0.5)
    return average * half + largest * half if how == "avgmax" else np.concatenate([average, largest], axis=1)


# --- the network -----------------------------------------------------------------------------------------------------


class Network:
    """The parameters in one dtype, and the forward pass."""

    def __init__(self, network: Architecture, parameters: dict, dtype=np.float32):
        self.architecture = network
        self.parameters = {name: np.asarray(array, dtype) for name, array in parameters.items()}

    def convolution(self, x, conv: Conv):
        """(N, H, W, C) -> (N, Q, R, M): the convolution alone."""
        return convolution(x, conv, self.parameters[f"{conv.name}.weight"])

    def conv(self, x, conv: Conv):
        """(N, H, W, C) -> (N, Q, R, M): convolution, batch norm and, except for a block's last one, ReLU6."""
        x = batch_norm(self.convolution(x, conv), *bn_parameters(conv, self.parameters))
        return relu6(x) if conv.relu6 else x

    def layers(self, x):
        """(N, H, W, C) -> yield the name and the output of every layer in order; names as in `architecture.layers`.

        A block expands 1x1, convolves each channel KxK and projects 1x1; the output of its last layer includes the
        shortcut.
        """
        x = self.conv(x, self.architecture.stem)  # (N, H/2, W/2, 32)
        yield self.architecture.stem.name, x
        for block in self.architecture.blocks:
            shortcut = x
            for conv in block.convs:
                x = self.conv(x, conv)
                if block.skip and conv == block.convs[-1]:
                    x = x + shortcut
                yield conv.name, x  # ... (N, H/32, W/32, 320) for lite0
        x = self.conv(x, self.architecture.head)  # (N, H/32, W/32, 1280)
        yield self.architecture.head.name, x
        yield from self.head_layers(x)

    def head_layers(self, x):
        """The last feature map (N, H, W, C) -> the same for the layers after it."""
        if self.architecture.global_pool:
            x = global_pool(x, self.architecture.global_pool)  # (N, 1280)
            yield "global_pool", x
        if self.architecture.num_classes:
            yield "classifier", self.logits(x)

    def logits(self, pooled):
        """The output of the global pool (N, C) -> (N, num_classes)."""
        return linear(pooled, self.parameters["classifier.weight"], self.parameters["classifier.bias"])

    def __call__(self, x):
        """(N, H, W, C) -> logits (N, num_classes), or the output of the last layer if there is no classifier."""
        for _, output in self.layers(x):  # noqa: B007 (each replaces the one before it, and the last one stays)
            pass
        return output

    def outputs(self, x, layers) -> dict:
        """(N, H, W, C) -> the outputs of these layers, by name."""
        return {name: y for name, y in self.layers(x) if name in layers}

    def head_outputs(self, features, layers) -> dict:
        """The last feature map (N, H, W, C) -> the outputs of the global pool and the classifier."""
        return {name: y for name, y in self.head_layers(features) if name in layers}
