"""A checkpoint in, a weight file out."""
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from npefficient.errors import ArgumentError, WeightsError
from npefficient.preprocessing import Preprocessing, check_preprocessing
from npefficient.parameters import Weights, check_labels
from npefficient.text_files import read_labels
from npefficient.weights import write_weights

from .checkpoint import Checkpoint, read_checkpoint
from .messages import quoted
from .names import identify


@dataclass(frozen=True)
class Conversion:
    """What was read and what was written."""

    weights: Weights
    source_size: int  # bytes
    wrapper: str  # key of the checkpoint's dictionary; "" where it was the whole object
    target: Path
    target_size: int  # bytes
    warnings: tuple[str, ...]


def convert(source, target=None, *, variant: str | None = None, preprocessing: Preprocessing | dict | None = None,
            labels=None, global_pool: str | None = None, force: bool = False) -> Conversion:
    """Convert a `.pth` or `.safetensors` checkpoint to a weight file (.h5).

    `target` is the source's name with `.h5` where it is not given; an existing one is overwritten only with `force`.
    `variant` overrides the one that the shapes tell; `preprocessing` overrides fields of the variant's
    (`{"input_size": (64, 64)}`); `labels` is a text file with one class name a line; `global_pool` is what
    the shapes can't tell ("avg" where they leave it open). A crash or a full disk leaves the old target or none. Raises
    WeightsError, ArgumentError, or OSError where the target can't be written.
    """
    source = Path(source)
    weights, checkpoint, warnings = load(source, variant=variant, preprocessing=preprocessing, labels=labels,
                                         global_pool=global_pool)
    target = source.with_suffix(".h5") if target is None else Path(target)
    if target.exists() and target.samefile(source):
        raise ArgumentError(f"the target {str(target)!r} is the checkpoint itself: name another file")
    write_weights(target, weights, force=force)
    return Conversion(weights, checkpoint.size, checkpoint.wrapper, target, target.stat().st_size, warnings)


def load(source, *, variant: str | None = None, preprocessing: Preprocessing | dict | None = None,
         labels=None, global_pool: str | None = None) -> tuple[Weights, Checkpoint, tuple[str, ...]]:
    """Read a checkpoint as weights, without a weight file; returns (weights, checkpoint, warnings)."""
    source = Path(source)
    checkpoint = read_checkpoint(source)
    try:
        found = identify(checkpoint, path=source.absolute(), variant=variant, global_pool=global_pool)
    except WeightsError as error:
        raise WeightsError(f"checkpoint {str(source)!r}: {error}") from None
    network = found.architecture
    names = None if labels is None else check_labels(read_labels(labels, network.num_classes), network.num_classes)
    given = asdict(preprocessing) if isinstance(preprocessing, Preprocessing) else preprocessing or {}
    how = _preprocessing(network.variant.preprocessing, given)
    return Weights(network, found.parameters, how, names, checkpoint.source), checkpoint, found.warnings


def _preprocessing(usual: Preprocessing, given: dict) -> Preprocessing:
    unknown = sorted(given.keys() - Preprocessing.__dataclass_fields__.keys())
    if unknown:
        raise ArgumentError(f"preprocessing has no {quoted(unknown[0])}: it has "
                            f"{', '.join(Preprocessing.__dataclass_fields__)}")
    made = replace(usual, **{name: tuple(value) if isinstance(value, list) else value for name, value in given.items()})
    check_preprocessing(made)
    return made
