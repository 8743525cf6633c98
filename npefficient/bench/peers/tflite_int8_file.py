"""The folded network as a full-integer TFLite flatbuffer, for LiteRT. Pictures and logits stay float32: the first
operator quantises and the last one dequantises."""
from pathlib import Path

import numpy as np

from ...engine.engine import Engine
from ...weights.weight_file import read_weights
from .graph import INPUT, OUTPUT, nodes
from .photographs import batches
from .static_int8 import calibrate, integers
from .tflite_writer import Writer, shape_of, weight_of

FIRST, LAST = "pictures", "logits"  # float32, before INPUT and after OUTPUT, which are int8


def make(weights: str, target: str, batch: int, height: int, width: int, calibration: str) -> None:
    """Write a weight file's network for one input shape, with the ranges of the pictures of `calibration`."""
    loaded = read_weights(Path(weights))
    network = nodes(loaded, height, width)
    ranges = calibrate(Engine(loaded, num_threads=1), network, batches(calibration, 1))
    writer = Writer()
    ops, shape = writer.schema.BuiltinOperator, (batch, height, width, loaded.architecture.in_chans)
    writer.value(FIRST, shape)
    writer.value(INPUT, shape, np.int8, **vars(ranges[INPUT]))
    writer.operator(ops.QUANTIZE, [FIRST], INPUT, writer.schema.QuantizeOptionsT())
    for node in network:
        if node.weight is not None:
            layer = integers(node, ranges[node.inputs[0]].scale)
            axis = 3 if node.op == "depthwise" else 0
            writer.constant(f"{node.name}.weight", weight_of(node, layer.weight), layer.scale, axis)
            writer.constant(f"{node.name}.bias", layer.bias, layer.bias_scale)
        if node.op == "pool":
            writer.constant(f"{node.name}.axes", np.array([1, 2], np.int32))
        writer.value(node.name, shape_of(node, batch), np.int8, **vars(ranges[node.name]))
        writer.node(node)
    writer.value(LAST, shape_of(node, batch))
    writer.operator(ops.DEQUANTIZE, [OUTPUT], LAST, writer.schema.DequantizeOptionsT())
    writer.write(target, FIRST, LAST)
