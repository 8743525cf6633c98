"""The network in 8 bits as OpenVINO's own pair of files, quantised by NNCF, Intel's tool for it."""
import tempfile

import numpy as np

from . import onnx_file
from .engines import import_openvino
from .photographs import batches


def make(weights: str, target: str, batch: int, height: int, width: int, calibration: str) -> None:
    """Write `target` (.xml) and the .bin beside it; NNCF's defaults, with every picture of `calibration`."""
    ov = import_openvino()
    import nncf

    pictures = [np.ascontiguousarray(x.transpose(0, 3, 1, 2)) for x in batches(calibration, batch)]
    with tempfile.TemporaryDirectory() as directory:
        source = f"{directory}/float32.onnx"
        onnx_file.make(weights, source, batch, height, width)
        quantised = nncf.quantize(ov.Core().read_model(source), nncf.Dataset(pictures), subset_size=len(pictures))
    ov.save_model(quantised, target, compress_to_fp16=False)
