"""Convert a checkpoint to a weight file."""
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
    naming: str  # the project whose names the checkpoint has: naming.TIMM or naming.EFFICIENTNET_PYTORCH
    source_size: int  # bytes
    wrapper: str  # key in the checkpoint's dictionary; "" if the whole object was the state_dict
    target: Path
    target_size: int  # bytes
    warnings: tuple[str, ...]
    source: Path  # the checkpoint file; if a folder was given, the file in it
    prefix: str  # removed from the names of the network's tensors
    config: str  # where timm's config came from, "config.json" or "its metadata"; "" if there was none


def convert(source: StrPath, target: StrPath | None = None, *, variant: str | None = None,
            preprocessing: Preprocessing | dict | None = None, labels: StrPath | None = None,
            global_pool: str | None = None, key: str | None = None, prefix: str | None = None,
            force: bool = False) -> Conversion:
    """Convert a `.pth` or `.safetensors` checkpoint, or the one in a timm hub folder, to a weight file (.h5).

    target: default the checkpoint's name with `.h5`; an existing file is overwritten only with `force`
    variant: overrides the one deduced from the shapes
    preprocessing: all settings, or a dictionary of single ones, such as `{"input_size": (64, 64)}`
    labels: a text file with one class name per line
    global_pool: the pool before the classifier, which the shapes do not always determine (default "avg")
    key, prefix: where the weights are in the checkpoint, see `read_checkpoint`

    Preprocessing, class names and pool come from timm's config.json beside the checkpoint, if there is one; arguments
    override it. A crash or a full disk leaves the old target or none. Raises WeightsError, ArgumentError, or OSError if
    the target can't be written.
    """
    source = find_checkpoint(source)
    target = weight_target(source.with_suffix(".h5") if target is None else target)
    weights, checkpoint, warnings = load(source, variant=variant, preprocessing=preprocessing, labels=labels,
                                         global_pool=global_pool, key=key, prefix=prefix)
    if target.exists() and target.samefile(source):
        raise ArgumentError(f"the target {str(target)!r} is the checkpoint itself: name a different file")
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
    # Both share the same arrays, since the checkpoint's own may be larger (float64).
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
