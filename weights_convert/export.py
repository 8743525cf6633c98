"""A weight file back to timm: a safetensors file that loads with `strict=True`."""
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from npefficient.errors import ArgumentError, WeightsError
from npefficient.parameters import Weights
from npefficient.paths import replacing
from npefficient.weights import read_weights

from .safetensors import read_safetensors, safetensors_bytes


@dataclass(frozen=True)
class Export:
    """What was read and what was written."""

    weights: Weights
    target: Path
    target_size: int  # bytes


def export(source_h5, target, *, force: bool = False) -> Export:
    """Write the parameters of a weight file as safetensors under timm's names.

    The file is written beside the target, read back and compared, and only then renamed. Raises WeightsError for a
    broken weight file, ArgumentError for a target that exists (without `force`) or is the weight file itself, OSError
    where the target can't be written.
    """
    source_h5, target = Path(source_h5), Path(target)
    weights = read_weights(source_h5)
    if target.exists() and target.samefile(source_h5):
        raise ArgumentError(f"the target {str(target)!r} is the weight file itself: name another file")
    data = safetensors_bytes(weights.parameters, _metadata(weights))
    with replacing(target, force=force) as part:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        _compare(part.read_bytes(), weights.parameters, target)
    return Export(weights, target, len(data))


def _metadata(weights: Weights) -> dict[str, str]:
    network, source = weights.architecture, weights.source
    return {"format": "pt", "variant": network.name, "num_classes": str(network.num_classes),
            "in_chans": str(network.in_chans), "global_pool": network.global_pool, "source_name": source.name,
            "source_sha256": source.sha256}


def _compare(data: bytes, parameters: dict[str, np.ndarray], target: Path):
    back, _ = read_safetensors(data)
    for name, array in parameters.items():
        if back[name].dtype != array.dtype or back[name].tobytes() != array.tobytes():
            raise WeightsError(f"{name!r} read back from {str(target)!r} differs from what was written: check the disk")
