"""Identify the variant of a checkpoint from its tensors, and reject look-alikes.

`efficientnet_lite0` (timm's own training, "ra_in1k") has the names and shapes of `tf_efficientnet_lite0`, but symmetric
padding, a different batch norm epsilon and a different normalisation: loaded as the other, it would silently give wrong
numbers. They are told apart by, in decreasing order of certainty: the sha256 of a known file, timm's config.json beside
the file, the file's metadata, the project whose names its tensors have, the directory of a hub cache, and the file's
name. A config.json that names a different network is always refused.
"""
import re
from dataclasses import dataclass

import numpy as np

from npefficient.common.text import listed, quoted
from npefficient.errors import WeightsError
from npefficient.network.architecture import HEAD_CHANNELS, MAX_CHANNELS, MAX_CLASSES, Architecture, build
from npefficient.network.parameters import TRACKED, check_parameters
from npefficient.network.variants import LOOK_ALIKE, VARIANTS, canonical_name

from .checkpoint import Checkpoint
from .naming import EFFICIENTNET_PYTORCH, naming_of, timm_names
from .timm_config import CONFIG, TimmConfig
from .values import as_stored

_LOOK_ALIKE = re.compile(r"(?<!tf_)(?<!tf-)efficientnet[_-]lite\d", re.IGNORECASE)
_GENUINE = re.compile(r"tf[_-]efficientnet[_-]lite\d", re.IGNORECASE)


@dataclass(frozen=True)
class Identified:
    """The parameters under timm's names, in the architecture's order, and warnings for the user."""

    architecture: Architecture
    parameters: dict[str, np.ndarray]
    warnings: tuple[str, ...]


def identify(checkpoint: Checkpoint, *, path, variant: str | None = None, global_pool: str | None = None) -> Identified:
    """Deduce the variant, the number of classes and the input channels, and check every name and shape.

    `path` is the file's (in a Hugging Face hub cache, its directories name the model). `variant` overrides the one
    deduced from the shapes; `global_pool` sets what they can't determine, such as average or maximum. Raises
    WeightsError if anything does not fit, and for the look-alike.
    """
    squeezing = next((name for name in checkpoint.tensors if ".se." in name or "._se_" in name), None)
    if squeezing:
        raise WeightsError(f"it has squeeze-and-excitation layers ({quoted(squeezing)}): these are the weights of an "
                           "EfficientNet, not of an EfficientNet-Lite, which has none")
    naming, config = naming_of(checkpoint.tensors), checkpoint.config
    confirmed = _refuse_look_alike(checkpoint, path, naming)
    tensors = timm_names(checkpoint.tensors) if naming == EFFICIENTNET_PYTORCH else checkpoint.tensors
    network = _architecture(tensors, variant, config.global_pool if config and global_pool is None else global_pool)
    tensors, warnings = as_stored(tensors, network)
    check_parameters(tensors, network)
    if config:
        _check_config(config, network, variant)
        if config.left_out:
            warnings.append(f"{config.where} does not set {', '.join(config.left_out)}: timm's defaults are used, as "
                            "in timm itself")
    warnings += _network_warnings(network)
    if not confirmed and variant is None:
        warnings.append(f"it is unclear whether these are weights of {network.name} or of timm's look-alike "
                        f"{network.name.removeprefix('tf_')} (same shapes, different padding and normalisation); "
                        f"{network.name} is assumed. 'npefficient convert --variant {network.variant.short_name}', or "
                        "the model's name in Python, confirms it")
    return Identified(network, {name: tensors[name] for name in network.parameters()}, tuple(warnings))


def _network_warnings(network: Architecture) -> list[str]:
    """Warnings about a valid network that is of little use for photos."""
    warnings = []
    if not network.num_classes:
        warnings.append("the file has no classifier: the model returns pooled features and can't name classes")
    if network.num_classes == 1:
        warnings.append("the model has one class: every photo gets 100 %")
    if network.in_chans not in (1, 3):
        warnings.append(f"the model takes {network.in_chans} channels: it can't take photos, only arrays "
                        f"(N, H, W, {network.in_chans})")
    return warnings


def _check_config(config: TimmConfig, network: Architecture, variant: str | None) -> None:
    """Raise WeightsError if a config contradicts `network`, which follows from the tensors' shapes."""
    for what, said, found in (("architecture", config.architecture.split(".")[0], network.name),
                              ("num_classes", config.num_classes, network.num_classes),
                              ("input channels", config.in_chans, network.in_chans)):
        if said not in (None, found) and not (what == "architecture" and variant is not None):
            remedy = f"fix {CONFIG} or move it away" if config.where == CONFIG else "save them without these metadata"
            raise WeightsError(f"{config.where} says {what} {quoted(said)}, but the tensors have {quoted(found)}: it "
                               f"does not belong to these weights; {remedy}")


def _refuse_look_alike(checkpoint: Checkpoint, path, naming: str) -> bool:
    """Raise WeightsError for the look-alike; returns True if there is evidence for the genuine network.

    The most certain evidence decides: a file name can't overrule a sha256 or metadata.
    """
    digest, config = checkpoint.source.sha256, checkpoint.config
    if digest.startswith(LOOK_ALIKE):
        raise _look_alike(f"its sha256 begins with {LOOK_ALIKE!r}")
    if config and not _says_genuine({config.where: config.architecture}):
        raise WeightsError(f"{config.where} says architecture {quoted(config.architecture)}: only "
                           f"{', '.join(VARIANTS)} are supported")
    if any(variant.is_official(digest) for variant in VARIANTS.values()):
        return True
    hub = " ".join(part for part in getattr(path, "parts", ()) if part.startswith("models--"))
    if _says_genuine({f"its metadata {quoted(key)}": text for key, text in checkpoint.metadata.items()}) or config:
        return True
    if naming == EFFICIENTNET_PYTORCH:  # only the port of TensorFlow's weights has ever had these names
        return True
    return _says_genuine({"its directory": hub}) or _says_genuine({"its file name": checkpoint.source.name})


def _says_genuine(texts: dict[str, str]) -> bool:
    """True if one of the texts names the genuine network; raises WeightsError if one names the look-alike."""
    for what, text in texts.items():
        if _LOOK_ALIKE.search(text):
            raise _look_alike(f"{what} says {quoted(text)}")
    return any(_GENUINE.search(text) for text in texts.values())


def _look_alike(clue: str) -> WeightsError:
    return WeightsError(f"{clue}: efficientnet_lite0 (ra_in1k) is timm's own training, with the same shapes as "
                        "tf_efficientnet_lite0 but different padding, batch norm and normalisation, and would give "
                        "wrong numbers here; use tf_efficientnet_lite0, or, if these are weights of "
                        "tf_efficientnet_liteN, save only the weights, in a file with that name")


def _architecture(tensors: dict[str, np.ndarray], variant: str | None, global_pool: str | None) -> Architecture:
    """The variant that fits best; check_parameters then checks whether it fits."""
    shapes = {name: array.shape for name, array in tensors.items()}
    channels = _extent(shapes, "conv_stem.weight", 1, (32, 3, 3, 3))
    classes, features = (_extent(shapes, "classifier.weight", axis, (1000, HEAD_CHANNELS)) for axis in (0, 1))
    if not any(name.startswith("classifier.") for name in shapes):
        classes = 0
    for what, count, most in (("classes", classes, MAX_CLASSES), ("input channels", channels, MAX_CHANNELS)):
        if count > most:
            raise WeightsError(f"its shapes mean {count:,} {what}: the limit is {most:,}")
    if global_pool is None:
        global_pool = "catavgmax" if features == 2 * HEAD_CHANNELS else "avg"
    if variant is not None:
        return build(canonical_name(variant), classes, channels, global_pool)
    networks = [build(name, classes, channels, global_pool) for name in VARIANTS]
    best = min(networks, key=lambda network: _differences(shapes, network))
    expected = best.parameters()
    if len(expected.keys() & shapes.keys()) < len(expected) // 2:
        raise WeightsError(f"these are not the weights of an EfficientNet-Lite: its {len(shapes)} tensors are named "
                           f"{listed(shapes, 4)}; in timm's files they are named {listed(expected, 4)}")
    return best


def _extent(shapes: dict, name: str, axis: int, usual: tuple) -> int:
    """One extent of a tensor; the usual one if the tensor is missing or malformed, which is reported later."""
    shape = shapes.get(name, ())
    return shape[axis] if len(shape) == len(usual) and shape[axis] > 0 else usual[axis]


def _differences(shapes: dict, network: Architecture) -> int:
    expected = network.parameters()
    names = {name for name in shapes.keys() | expected.keys() if not name.endswith(TRACKED)}
    return sum(shapes.get(name) != expected.get(name) for name in names)
