"""Files of int8 weights for tests to damage them, after the format's specification, not after our code."""
import functools
import hashlib

import h5py
import numpy as np
from weight_files import set_attribute, small_weights

from npefficient.network import architecture
from npefficient.network.quantization import QuantizedWeights, quantize

FLOATS = ("conv_stem", "blocks.0.0.conv_dw")


@functools.cache
def small_quantized() -> QuantizedWeights:
    """int8 weights of `small_weights`: a file of 3.6 MB."""
    return quantize(small_weights())


def array_names(network) -> list[str]:
    """The names of all datasets with weights, in the order of the checksums."""
    layers = [conv.name for conv in network.convs] + ["classifier"] * (network.num_classes > 0)
    return [f"{layer}.{leaf}" for layer in layers
            for leaf in (("weight", "bias") if layer in FLOATS else ("weight", "scale", "bias"))]


def checksum_row(file: h5py.File, name: str) -> None:
    """Put the right row into `checksums` for a dataset that was edited."""
    rows = file.attrs["checksums"].copy()
    row = array_names(architecture.build("lite0", 10)).index(name)
    rows[row] = np.frombuffer(hashlib.sha256(file[name][()].tobytes()).digest(), np.uint8)
    set_attribute(file, "checksums", rows)
