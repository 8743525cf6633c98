"""Export a weight file to timm: a safetensors file that loads with `strict=True`, or a timm hub folder."""
import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from npefficient.common.checks import path_of
from npefficient.common.paths import StrPath, check_target, named, replacing
from npefficient.errors import WeightsError
from npefficient.network.parameters import Weights
from npefficient.weights.weight_file import read_weights

from .checkpoint import TIMM_CONFIG
from .hub_folder import MODEL
from .safetensors import safetensors_bytes
from .timm_config import CONFIG, make_config

SUFFIX = ".safetensors"


@dataclass(frozen=True)
class Export:
    """What was read and what was written."""

    weights: Weights
    target: Path
    target_size: int  # bytes
    config: Path | None  # the config.json beside it, if the target was a folder


def export(source_h5: StrPath, target: StrPath, *, force: bool = False) -> Export:
    """Write the parameters of a weight file as safetensors under timm's names, with metadata:

        format                      "pt"
        timm_config                 JSON: variant, classes and their names, pool, preprocessing (see `timm_config`)
        source_name, source_sha256  the file that the weight file was made from

    `target` is the file (.safetensors) or a folder (an existing one, or a name ending with "/"), which gets
    `model.safetensors` and `config.json` in timm's hub format. Each file is written under a temporary name, read back
    and compared, and only then renamed. While `force` replaces both, there is no `config.json`: a kill then leaves a
    folder that timm refuses, and whose weights have the same content in their metadata. Raises WeightsError for a
    broken weight file, or one with more class names than fit into the header; ArgumentError for a target that exists
    (without `force`) or has a different suffix; OSError if the target can't be written.
    """
    source_h5 = path_of("source_h5", source_h5)
    target, config = export_target(target)
    weights = read_weights(source_h5)
    text = make_config(weights)
    metadata = {"format": "pt", TIMM_CONFIG: json.dumps(text, separators=(",", ":"), ensure_ascii=False),
                "source_name": weights.source.name, "source_sha256": weights.source.sha256}
    data = safetensors_bytes(weights.parameters, metadata)
    with contextlib.ExitStack() as files:  # the last one takes its place first
        if config:
            config.parent.mkdir(exist_ok=True)
            check_target(target, force=force)
            files.enter_context(_written(config, json.dumps(text, indent=2, ensure_ascii=False).encode(), force))
        files.enter_context(_written(target, data, force))
        if config and force:  # the old class names must never be beside the new weights, even after a kill
            config.unlink(missing_ok=True)
    return Export(weights, target, len(data), config)


def export_target(target: StrPath) -> tuple[Path, Path | None]:
    """The file to write, and the config.json beside it if `target` is a folder; ArgumentError for a wrong suffix."""
    place, config = path_of("target", target), None
    if os.fspath(target).endswith(("/", os.sep)) or os.path.isdir(place):
        place, config = place / MODEL, place / CONFIG
    return named(place, (SUFFIX,), f", as timm expects; '{place}/' makes a folder with config.json"), config


@contextlib.contextmanager
def _written(target: Path, data: bytes, force: bool) -> Iterator[None]:
    """Write a file under a temporary name and read it back; it takes the target's place when the block ends."""
    with replacing(target, force=force) as part:
        part.write_bytes(data)
        if part.read_bytes() != data:
            raise WeightsError(f"what is read back from {str(target)!r} differs from what was written: check the disk")
        yield
