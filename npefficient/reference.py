"""The whole network in NumPy: every layer a pure function, with the shapes it maps beside it.

This is the page to read first, and the oracle that everything faster is held against. It runs in the dtype of its
input (float32 or float64), on any height and width down to 1 x 1, and takes the parameters under timm's own names.

Letters: N batch, H W input rows and columns, C input channels, M output channels, K kernel, S stride, Q R output rows
and columns. Arrays are NHWC; weights are (M, C, K, K), as in the checkpoint.
"""
import numpy as np

from .architecture import BN_EPS, Architecture, Block, Conv, same_padding

# --- the layers ------------------------------------------------------------------------------------------------------


def pad_same(x, kernel: int, stride: int):
    """(N, H, W, C) -> (N, H + .., W + .., C): zeros around the picture, so that Q = ceil(H / S) and R = ceil(W / S)."""
    rows, columns = (same_padding(size, kernel, stride) for size in x.shape[1:3])
    return np.pad(x, ((0, 0), rows, columns, (0, 0)))


def taps(x, kernel: int, stride: int):
    """Yield (i, j, view): for each of the K x K taps, the padded pixel it meets at every output position (N, Q, R, C).

    A convolution is the sum over taps of these views, each times the weights of its tap.
    """
    padded = pad_same(x, kernel, stride)
    q, r = (-(-size // stride) for size in x.shape[1:3])
    for i in range(kernel):
        for j in range(kernel):
            yield i, j, padded[:, i : i + (q - 1) * stride + 1 : stride, j : j + (r - 1) * stride + 1 : stride]


def dense_conv(x, weight, stride: int):
    """(N, H, W, C), (M, C, K, K) -> (N, Q, R, M): every output channel looks at every input channel."""
    return sum(view @ weight[:, :, i, j].T for i, j, view in taps(x, weight.shape[-1], stride))


def depthwise_conv(x, weight, stride: int):
    """(N, H, W, C), (C, 1, K, K) -> (N, Q, R, C): every channel looks at itself alone."""
    return sum(view * weight[:, 0, i, j] for i, j, view in taps(x, weight.shape[-1], stride))


def pointwise_conv(x, weight):
    """(N, H, W, C), (M, C, 1, 1) -> (N, H, W, M): a matrix product at every pixel."""
    return x @ weight[:, :, 0, 0].T


def batch_norm(x, weight, bias, mean, var):
    """(.., C) -> (.., C): at inference an affine map per channel."""
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


# --- batch norm folded away ------------------------------------------------------------------------------------------


def fold_batch_norm(conv_weight, weight, bias, mean, var):
    """(M, C, K, K) and the batch norm behind it -> (M, C, K, K), (M,): one convolution with a bias, float64.

    (conv(x) - mean) / sqrt(var + eps) * weight + bias = conv(x) * scale + (bias - mean * scale); the scale of an output
    channel can be multiplied into its weights beforehand, because a convolution is linear in them.
    """
    scale = weight.astype(np.float64) / np.sqrt(var.astype(np.float64) + BN_EPS)
    return conv_weight * scale[:, None, None, None], bias - mean * scale


def fold(conv: Conv, parameters: dict):
    """One convolution of the network with the batch norm behind it -> weight (M, C, K, K), bias (M,), float64."""
    return fold_batch_norm(parameters[f"{conv.name}.weight"], *bn_parameters(conv, parameters))


def bn_parameters(conv: Conv, parameters: dict):
    """The weight, bias, running mean and running variance of the batch norm behind a convolution, each (M,)."""
    return (parameters[f"{conv.bn}.{leaf}"] for leaf in ("weight", "bias", "running_mean", "running_var"))


# --- the network -----------------------------------------------------------------------------------------------------


class Network:
    """The parameters in one dtype, and the forward pass. `folded` chooses which of the two equal networks runs."""

    def __init__(self, network: Architecture, parameters: dict, dtype=np.float32, folded: bool = False):
        self.architecture = network
        self.parameters = {name: np.asarray(array, dtype) for name, array in parameters.items()}
        self.folded = None
        if folded:
            self.folded = {conv.name: [array.astype(dtype) for array in fold(conv, parameters)]
                           for conv in network.convs}

    def conv(self, x, conv: Conv):
        """(N, H, W, C) -> (N, Q, R, M): convolution, batch norm and, except after a block's last, ReLU6."""
        weight, bias = self.folded[conv.name] if self.folded else (self.parameters[f"{conv.name}.weight"], None)
        if conv.op == "stem":
            x = dense_conv(x, weight, conv.stride)
        elif conv.op == "depthwise":
            x = depthwise_conv(x, weight, conv.stride)
        else:
            x = pointwise_conv(x, weight)
        x = x + bias if self.folded else batch_norm(x, *bn_parameters(conv, self.parameters))
        return relu6(x) if conv.relu6 else x

    def block(self, x, block: Block):
        """(N, H, W, C) -> (N, Q, R, M): expand 1x1, depthwise KxK, project 1x1 (linear), and the skip."""
        shortcut = x
        for conv in block.convs:
            x = self.conv(x, conv)
        return x + shortcut if block.skip else x

    def __call__(self, x):
        """(N, H, W, C) -> (N, num_classes) logits."""
        x = self.conv(x, self.architecture.stem)  # (N, H/2, W/2, 32)
        for block in self.architecture.blocks:
            x = self.block(x, block)  # ... (N, H/32, W/32, 320) for lite0
        x = self.conv(x, self.architecture.head)  # (N, H/32, W/32, 1280)
        x = global_average_pool(x)  # (N, 1280)
        return linear(x, self.parameters["classifier.weight"], self.parameters["classifier.bias"])
