"""The plain network with batch norm folded in, as the engine computes it."""
import numpy as np

from .architecture import Architecture, Conv
from .folding import fold
from .reference import Network, convolution, relu6


class FoldedNetwork(Network):
    """The same layers, with each batch norm folded into the convolution before it."""

    def __init__(self, network: Architecture, parameters: dict, dtype=np.float32):
        super().__init__(network, parameters, dtype)
        self.folded = {conv.name: [array.astype(dtype) for array in fold(conv, parameters)] for conv in network.convs}

    def conv(self, x, conv: Conv):
        """(N, H, W, C) -> (N, Q, R, M): convolution, bias and, except for a block's last one, ReLU6."""
        weight, bias = self.folded[conv.name]
        x = convolution(x, conv, weight) + bias
        return relu6(x) if conv.relu6 else x
