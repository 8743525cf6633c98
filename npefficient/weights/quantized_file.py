"""The HDF5 file with the int8 weights of one network, about a quarter of the size of a file in float32.

Layout, version 1, as in `weight_file.py` except for:

    /<layer>.weight        int8, -127 to 127; of the stem and of the depthwise convolution after it, float32
    /<layer>.scale         float32, positive: one for each output channel; not for these two layers
    /<layer>.bias          float32: one for each output channel
    format                 "npefficient int8 weights"
    checksums              in the order of execution
    bn_eps, num_batches_tracked    do not exist

The layers are those of `quantization.QuantizedWeights`, with batch norm folded in: the float32 weights can't be
recovered from them. A file with a number that quantisation never gives is refused.
"""
from dataclasses import fields

import numpy as np

from ..network.architecture import Architecture
from ..network.parameters import Weights
from ..network.quantization import (
    FloatLayer,
    QuantizedLayer,
    QuantizedWeights,
    check_quantized,
    expected_arrays,
    float_convs,
)
from .network_file import FLOATS, INT8, read_checked, read_file, read_header, write_file
from .weight_file import read_open, weight_target


def write_quantized(path, weights: QuantizedWeights, *, force: bool = False) -> None:
    """Write a file of int8 weights, read it back, compare everything, and only then move it to its final name.

    Raises as `write_weights` does.
    """
    path = weight_target(path)
    check_quantized(weights)
    write_file(path, INT8, weights, weights.parameters, {}, read=read_stored, force=force)


def read_stored(path) -> Weights | QuantizedWeights:
    """Read and verify a weight file: one in float32, or one of int8 weights.

    Raises WeightsError naming the file unless it is a complete, unaltered file of one of the two formats.
    """
    return read_file(path, {FLOATS: read_open, INT8: _read})


def _read(file_id, size: int) -> QuantizedWeights:
    header = read_header(file_id, size, INT8, lambda network: {"checksums": len(expected_arrays(network))})
    network = header.architecture
    expected = {name: ((np.dtype(dtype).name,), shape) for name, (dtype, shape) in expected_arrays(network).items()}
    weights = QuantizedWeights(network, *_layers(network, read_checked(file_id, size, header, expected)),
                               header.preprocessing, header.labels, header.source)
    check_quantized(weights)
    return weights


def _layers(network: Architecture, arrays: dict) -> tuple[dict[str, FloatLayer], dict[str, QuantizedLayer]]:
    """The layers in float32 and those in int8, by name, from arrays by name."""
    def made(kind, name):
        return kind(*(arrays[f"{name}.{field.name}"] for field in fields(kind)))

    floats = [conv.name for conv in float_convs(network)]
    others = [name.removesuffix(".scale") for name in arrays if name.endswith(".scale")]
    return {name: made(FloatLayer, name) for name in floats}, {name: made(QuantizedLayer, name) for name in others}
