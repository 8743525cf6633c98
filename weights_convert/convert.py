"""A checkpoint in, a weight file out."""
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from npefficient.common.paths import StrPath
from npefficient.common.text import quoted
from npefficient.common.text_files import read_labels
from npefficient.errors import ArgumentError, WeightsError
from npefficient.network.parameters import Weights, check_labels
from npefficient.network.preprocessing import Preprocessing, check_preprocessing
from npefficient.weights.weight_file import weight_target, write_weights

from .checkpoint import Checkpoint, read_checkpoint
from .hub_folder import find_checkpoint
from .names import identify


@dataclass(frozen=True)
class Conversion:
    """What was read and what was written."""

    weights: Weights
    naming: str  # whose names the checkpoint has: naming.TIMM or naming.EFFICIENTNET_PYTORCH
    source_size: int  # bytes
    wrapper: str  # key of the checkpoint's dictionary; "" where it was the whole object
    target: Path
    target_size: int  # bytes
    warnings: tuple[str, ...]
    source: Path  # the checkpoint; where a folder was given, the file in it
    prefix: str  # what came before the names of the network's tensors
    config: str  # where timm's config was, "config.json" or "its metadata"; "" where there was none


def convert(source: StrPath, target: StrPath | None = None, *, variant: str | None = None,
            preprocessing: Preprocessing | dict | None = None, labels: StrPath | None = None,
            global_pool: str | None = None, key: str | None = None, prefix: str | None = None,
            force: bool = False) -> Conversion:
    """Convert a `.pth` or `.safetensors` checkpoint, or a folder of timm's hub with one, to a weight file (.h5).

    `target` is the checkpoint's name with `.h5` where it is not given; an existing one is overwritten only with
    `force`. What timm's config.json beside the checkpoint says of preprocessing, class names and pool is taken, and
    each of these arguments counts before it: `variant` for the one that the shapes tell; `preprocessing` for fields of
    the variant's (`{"input_size": (64, 64)}`); `labels`, a text file with one class name a line; `global_pool`, which
    the shapes can't tell ("avg" where they leave it open). `key` and `prefix` are those of `read_checkpoint`. A crash
    or a full disk leaves the old target or none. Raises WeightsError, ArgumentError, or OSError where the target can't
    be written.
    """
    source = find_checkpoint(source)
    target = weight_target(source.with_suffix(".h5") if target is None else target)
    weights, checkpoint, warnings = load(source, variant=variant, preprocessing=preprocessing, labels=labels,
                                         global_pool=global_pool, key=key, prefix=prefix)
    if target.exists() and target.samefile(source):
        raise ArgumentError(f"the target {str(target)!r} is the checkpoint itself: name another file")
    write_weights(target, weights, force=force)
    return Conversion(weights, checkpoint.naming, checkpoint.size, checkpoint.wrapper, target,
                      target.stat().st_size, warnings, source, checkpoint.prefix,
                      checkpoint.config.where if checkpoint.config else "")


def load(source: StrPath, *, variant: str | None = None, preprocessing: Preprocessing | dict | None = None,
         labels: StrPath | None = None, global_pool: str | None = None, key: str | None = None,
         prefix: str | None = None) -> tuple[Weights, Checkpoint, tuple[str, ...]]:
    """Read a checkpoint as weights, without a weight file; returns (weights, checkpoint, warnings)."""
    source = find_checkpoint(source)
    checkpoint = read_checkpoint(source, key=key, prefix=prefix)
    config = checkpoint.config
    try:
        found = identify(checkpoint, path=source.absolute(), variant=variant, global_pool=global_pool)
        network = found.architecture
        names = check_labels(config.labels, network.num_classes) if config and labels is None else None
    except WeightsError as error:
        raise WeightsError(f"checkpoint {str(source)!r}: {error}") from None
    if labels is not None:
        names = check_labels(read_labels(labels, network.num_classes), network.num_classes)
    given = asdict(preprocessing) if isinstance(preprocessing, Preprocessing) else preprocessing or {}
    how = _preprocessing(config.preprocessing if config else network.variant.preprocessing, given)
    weights = Weights(network, found.parameters, how, names, checkpoint.source)
    # The same arrays in both: the checkpoint's own are larger where they were float64.
    return weights, replace(checkpoint, tensors=found.parameters), checkpoint.warnings + found.warnings


def _preprocessing(usual: Preprocessing, given: dict) -> Preprocessing:
    unknown = sorted(given.keys() - Preprocessing.__dataclass_fields__.keys())
    if unknown:
        raise ArgumentError(f"preprocessing has no {quoted(unknown[0])}: it has "
                            f"{', '.join(Preprocessing.__dataclass_fields__)}")
    changes: dict[str, Any] = {k: tuple(value) if isinstance(value, list) else value for k, value in given.items()}
    made = replace(usual, **changes)
    check_preprocessing(made)
    return made
