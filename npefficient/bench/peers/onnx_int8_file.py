"""The network in 8 bits as an ONNX file, quantised by ONNX Runtime's own tool, for ONNX Runtime.

Activations are uint8 and weights int8, one step for each output channel. With int8 activations, lite0 took 1.7 times as
long on a processor with VNNI, whose `vpdpbusd` multiplies uint8 with int8; the error was the same. Processors without
VNNI add the products in 16 bits, which may saturate; the error then shows it.
"""
import tempfile

import numpy as np

from . import onnx_file
from .graph import INPUT
from .photographs import batches


def make(weights: str, target: str, batch: int, height: int, width: int, calibration: str) -> None:
    """Write a file that quantises and dequantises around each operator; ranges from all pictures of `calibration`."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Pictures(CalibrationDataReader):
        def __init__(self):
            self.left = batches(calibration, batch)

        def get_next(self):
            x = next(self.left, None)
            return None if x is None else {INPUT: np.ascontiguousarray(x.transpose(0, 3, 1, 2))}

    with tempfile.TemporaryDirectory() as directory:
        source = f"{directory}/float32.onnx"
        onnx_file.make(weights, source, batch, height, width)
        quantize_static(source, target, Pictures(), quant_format=QuantFormat.QDQ, per_channel=True,
                        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8)
