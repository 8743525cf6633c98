"""A weight file in float32, or a checkpoint, to a file of int8 weights."""
from dataclasses import dataclass
from pathlib import Path

from ..common.checks import path_of
from ..common.paths import StrPath, check_target, is_same
from ..errors import ArgumentError
from ..model.loading import load_weights
from ..network import quantization
from ..network.quantization import QuantizedWeights


@dataclass(frozen=True)
class Quantization:
    """What was written."""

    weights: QuantizedWeights
    target: Path
    target_size: int  # bytes

    def __repr__(self) -> str:
        return f"Quantization({self.weights.architecture.name}, {str(self.target)!r}, {self.target_size:,} bytes)"


def quantize(source: StrPath, target: StrPath, *, force: bool = False) -> Quantization:
    """Write the int8 weights of a weight file (.h5) or a checkpoint to a file (.h5) of about a quarter of its size.

    A model of `target` equals to the bit one that `create_model(checkpoint_path=source, precision="int8")` makes, and
    needs no precision to be given. The float32 weights can't be recovered from `target`: keep `source` to export it or
    to train another classifier. An existing file is overwritten only with `force`; a crash or a full disk leaves the
    old one or none. Raises WeightsError for a source that can't be read or holds int8 weights already, ArgumentError
    for a target that exists, is the source itself or has a different suffix, OSError if it can't be written.
    """
    from ..weights.quantized_file import write_quantized
    from ..weights.weight_file import weight_target

    source, target = path_of("source", source), weight_target(target)
    check_target(target, force=force)
    weights = quantization.quantize(load_weights(source))
    if is_same(target, source):
        raise ArgumentError(f"the target {str(target)!r} is the source itself, and its float32 weights would be lost: "
                            "name a different file")
    write_quantized(target, weights, force=force)
    return Quantization(weights, target, target.stat().st_size)
