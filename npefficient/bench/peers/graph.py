"""The folded network as a list of nodes, from which every peer's file is written."""
from dataclasses import dataclass, field

import numpy as np

from ...network.architecture import same_padding
from ...network.folding import fold
from ...network.parameters import Weights

INPUT, OUTPUT = "x", "classifier"  # names of the first value and the last


@dataclass(frozen=True)
class Node:
    """One operator; its output carries its own name."""

    op: str  # "stem", "depthwise", "pointwise", "add", "pool" or "classifier"
    name: str
    inputs: tuple[str, ...]
    out_size: tuple[int, int, int]  # rows, columns, channels
    weight: np.ndarray | None = field(default=None, repr=False)  # float32 (M, C, K, K), (C, 1, K, K) or (classes, C)
    bias: np.ndarray | None = field(default=None, repr=False)
    relu6: bool = False
    stride: int = 1
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)  # before rows, before columns, after rows, after columns

    @property
    def group(self) -> int:
        """The number of channel groups."""
        return self.out_size[2] if self.op == "depthwise" else 1


def nodes(weights: Weights, height: int, width: int) -> list[Node]:
    """Every operator in order, for inputs of (height, width): convolutions with bias and clamp, and additions."""
    network, made = weights.architecture, []
    sizes = {layer.name: layer for layer in network.layers(height, width)}

    def add(conv, x):
        layer = sizes[conv.name]
        weight, bias = (array.astype(np.float32) for array in fold(conv, weights.parameters))
        rows, columns = (same_padding(size, conv.kernel, conv.stride) for size in (layer.height, layer.width))
        pads = rows[0], columns[0], rows[1], columns[1]
        out_size = layer.out_height, layer.out_width, layer.out_channels
        made.append(Node(conv.op, conv.name, (x,), out_size, weight, bias, conv.relu6, conv.stride, pads))
        return conv.name

    x = add(network.stem, INPUT)
    for block in network.blocks:
        shortcut = x
        for conv in block.convs:
            x = add(conv, x)
        if block.skip:
            made.append(Node("add", f"{block.name}.add", (x, shortcut), made[-1].out_size))
            x = made[-1].name
    x = add(network.head, x)
    made.append(Node("pool", "global_pool", (x,), (1, 1, made[-1].out_size[2])))
    made.append(Node("classifier", OUTPUT, ("global_pool",), (1, 1, network.num_classes),
                     weights.parameters["classifier.weight"], weights.parameters["classifier.bias"]))
    return made
