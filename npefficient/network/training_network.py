"""The whole network in training mode, in NumPy: a forward pass that keeps what the backward pass needs, and that pass.

The layers and their formulas are in `backward.py`. Forward, the order is that of `reference.py`; backward, it is the
reverse, and each layer hands the gradient for its input to the layer before it.
"""
from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np

from .architecture import Architecture, Conv
from .backward import (
    batch_norm_backward,
    batch_statistics,
    dense_conv_backward,
    depthwise_conv_backward,
    drop,
    frozen_batch_norm_backward,
    global_pool_backward,
    keep_mask,
    linear_backward,
    new_running_statistics,
    normalise,
    pixels,
    pointwise_conv_backward,
    relu6_backward,
)
from .folding import bn_parameters
from .parameters import TRACKED
from .reference import Network, global_pool, linear, relu6


@dataclass
class Kept:
    """What a forward pass keeps."""

    layers: dict = field(default_factory=dict)  # layer's name -> the arrays for its backward function
    masks: dict = field(default_factory=dict)  # as given to `forward`
    running: dict = field(default_factory=dict)  # timm's name -> running statistics after this batch


class TrainingNetwork(Network):
    """The parameters in one dtype, the forward pass in training mode, and the backward pass.

    train_batch_norm: normalise by the batch's mean and variance, as in training mode; False: by the running ones, as
        constants ("frozen"). Weight and bias of a batch norm have gradients in both cases
    frozen_norms: timm's names of batch norms that are frozen also with `train_batch_norm`, as in stages that are not
        trained
    """

    def __init__(self, network: Architecture, parameters: dict, dtype=np.float32, train_batch_norm: bool = True,
                 frozen_norms: Collection[str] = ()):
        super().__init__(network, parameters, dtype)
        self.counts = {name: array for name, array in parameters.items() if name.endswith(TRACKED)}
        self.by_batch = {conv.bn: train_batch_norm and conv.bn not in frozen_norms for conv in network.convs}

    def forward(self, x, masks=None) -> tuple:
        """(N, H, W, C) -> logits (N, num_classes), or the output of the last layer, and what was kept of all.

        masks: name -> factors for `drop`: of a block with a shortcut (N, 1, 1, 1), of the "classifier" (N, features);
            what has none is not dropped. See `random_masks`.

        With `train_batch_norm`, N times the pixels of the last feature map must be at least 2.
        """
        kept = Kept(masks=masks or {})
        x = self.conv_forward(x, self.architecture.stem, kept)
        for block in self.architecture.blocks:
            shortcut = x
            for conv in block.convs:
                x = self.conv_forward(x, conv, kept)
            if block.skip:
                x = drop(x, kept.masks.get(block.name, 1)) + shortcut
        x = self.conv_forward(x, self.architecture.head, kept)
        if self.architecture.global_pool:
            kept.layers["global_pool"] = x
            x = global_pool(x, self.architecture.global_pool)
        if self.architecture.num_classes:
            x = kept.layers["classifier"] = drop(x, kept.masks.get("classifier", 1))
            x = linear(x, self.parameters["classifier.weight"], self.parameters["classifier.bias"])
        return x, kept

    def conv_forward(self, x, conv: Conv, kept: Kept):
        """(N, H, W, C) -> (N, Q, R, M): convolution, batch norm and, except for a block's last one, ReLU6."""
        z = self.convolution(x, conv)
        weight, bias, mean, var = bn_parameters(conv, self.parameters)
        if self.by_batch[conv.bn]:
            running, (mean, var) = (mean, var), batch_statistics(z)
            new = new_running_statistics(*running, mean, var, len(pixels(z)))
            kept.running |= dict(zip((f"{conv.bn}.running_mean", f"{conv.bn}.running_var"), new))
            kept.running[f"{conv.bn}.{TRACKED}"] = self.counts[f"{conv.bn}.{TRACKED}"] + 1
        normalised, scale = normalise(z, mean, var)
        y = normalised * weight + bias
        y = relu6(y) if conv.relu6 else y
        kept.layers[conv.name] = x, normalised, scale, y
        return y

    def backward(self, dy, kept: Kept):
        """The gradient for the output of `forward` -> {timm's name: gradient}, dx (N, H, W, C).

        The gradients have the names and shapes of the parameters; running statistics have none. The arrays in
        `kept.layers` are let go on the way, so that each forward pass has one backward pass.
        """
        gradients: dict = {}
        if self.architecture.num_classes:
            dy, gradients["classifier.weight"], gradients["classifier.bias"] = linear_backward(
                dy, kept.layers.pop("classifier"), self.parameters["classifier.weight"])
            dy = drop(dy, kept.masks.get("classifier", 1))
        if self.architecture.global_pool:
            dy = global_pool_backward(dy, kept.layers.pop("global_pool"), self.architecture.global_pool)
        dy = self.conv_backward(dy, self.architecture.head, kept, gradients)
        for block in reversed(self.architecture.blocks):
            dshortcut = dy
            if block.skip:
                dy = drop(dy, kept.masks.get(block.name, 1))
            for conv in reversed(block.convs):
                dy = self.conv_backward(dy, conv, kept, gradients)
            if block.skip:
                dy = dy + dshortcut
        return gradients, self.conv_backward(dy, self.architecture.stem, kept, gradients)

    def conv_backward(self, dy, conv: Conv, kept: Kept, gradients: dict):
        """dy (N, Q, R, M) -> dx (N, H, W, C); adds three gradients: of the convolution, and of its batch norm's two."""
        x, normalised, scale, y = kept.layers.pop(conv.name)
        if conv.relu6:
            dy = relu6_backward(dy, y)
        norm_backward = batch_norm_backward if self.by_batch[conv.bn] else frozen_batch_norm_backward
        dy, gradients[f"{conv.bn}.weight"], gradients[f"{conv.bn}.bias"] = norm_backward(
            dy, normalised, scale, self.parameters[f"{conv.bn}.weight"])
        weight = self.parameters[f"{conv.name}.weight"]
        if conv.op == "stem":
            dx, dweight = dense_conv_backward(dy, x, weight, conv.stride)
        elif conv.op == "depthwise":
            dx, dweight = depthwise_conv_backward(dy, x, weight, conv.stride)
        else:
            dx, dweight = pointwise_conv_backward(dy, x, weight)
        gradients[f"{conv.name}.weight"] = dweight
        return dx


def random_masks(network: Architecture, rng: np.random.Generator, batch: int, drop_path_rate: float = 0.0,
                 drop_rate: float = 0.0, dtype=np.float32) -> dict:
    """Masks for `TrainingNetwork.forward`, as timm draws them with these two rates, from 0 to below 1.

    drop_path_rate: of stochastic depth. The probability to drop a block of a picture grows linearly with depth: block i
        of n has drop_path_rate * i / n
    drop_rate: of dropout before the classifier
    """
    count = len(network.blocks)
    masks = {block.name: keep_mask(rng, (batch, 1, 1, 1), drop_path_rate * i / count, dtype)
             for i, block in enumerate(network.blocks) if block.skip}
    return masks | {"classifier": keep_mask(rng, (batch, network.head_hidden_size), drop_rate, dtype)}
