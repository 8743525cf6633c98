"""The folded network as a TFLite flatbuffer in float32, for LiteRT."""
from pathlib import Path

import numpy as np

from ...weights.weight_file import read_weights
from .graph import INPUT, OUTPUT, nodes
from .tflite_writer import Writer, shape_of, weight_of


def make(weights: str, target: str, batch: int, height: int, width: int) -> None:
    """Write a weight file's network for one input shape."""
    loaded = read_weights(Path(weights))
    writer = Writer()
    writer.value(INPUT, (batch, height, width, loaded.architecture.in_chans))
    for node in nodes(loaded, height, width):
        if node.weight is not None:
            writer.constant(f"{node.name}.weight", weight_of(node, node.weight))
            writer.constant(f"{node.name}.bias", node.bias)
        if node.op == "pool":
            writer.constant(f"{node.name}.axes", np.array([1, 2], np.int32))
        writer.value(node.name, shape_of(node, batch))
        writer.node(node)
    writer.write(target, INPUT, OUTPUT)
