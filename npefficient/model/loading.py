"""Weights from wherever they are: a weight file, a checkpoint, the official ones, arrays at hand, or random ones.

A model keeps not its weights but how to get them once more. Everything here that is called for that is a function of
this file, and its arguments are plain: so it can be pickled, and a model with it (`Model.__reduce__`).
"""
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from ..common.checks import path_of, plain_array, real_array
from ..common.paths import StrPath
from ..common.text import quoted, shown
from ..errors import ArgumentError, WeightsError
from ..network.architecture import build
from ..network.parameters import Source, Weights, random_weights
from ..network.variants import TAG, canonical_name
from ..weights.adapt import adapt, with_classifier
from .data_config import create_transform, model_cfg, resolve_data_config

LOCAL = "local-dir:"  # timm's word before a folder that its `save_for_hf` wrote
SETTINGS = ("input_size", "interpolation", "mean", "std", "crop_pct", "crop_mode")


def wanted_weights(name, pretrained, checkpoint_path, num_classes, in_chans, global_pool) -> Weights:
    """The weights that `create_model` is asked for; the same each time, as long as the file is.

    With both, `checkpoint_path` stands for the official weights, and is adapted as they are.
    """
    if checkpoint_path is not None:
        weights = load_weights(checkpoint_path, name)
        _check_wish(weights, name, *(None, None) if pretrained else (num_classes, in_chans))
    elif pretrained:
        from ..hub import pretrained as fetch

        weights = load_weights(fetch(name))
    else:
        wishes = {"num_classes": num_classes, "in_chans": in_chans, "global_pool": global_pool}
        return random_weights(build(name, **{k: v for k, v in wishes.items() if v is not None}))
    return adapt(weights, num_classes=num_classes, in_chans=in_chans, global_pool=global_pool)


def wanted(model_name, pretrained, checkpoint_path, pretrained_cfg, overlay) -> tuple:
    """What `create_model` is asked for as (canonical name, file, settings of the preprocessing); None for the first two
    where there is none. The file is there with `pretrained`, too, where it stands for the official weights.
    """
    if not (pretrained_cfg is None or isinstance(pretrained_cfg, str) and pretrained_cfg in ("", TAG)):
        raise ArgumentError(f"pretrained_cfg {shown(pretrained_cfg)}: it must be {TAG!r}, the tag of the weights there "
                            "are; pretrained_cfg_overlay={..} changes single settings")
    if not isinstance(overlay, (Mapping, type(None))):
        raise ArgumentError(f"pretrained_cfg_overlay {shown(overlay)}: it must be a dictionary, such as "
                            "{'input_size': (3, 64, 64)}")
    settings, name, file, places = dict(overlay or {}), model_name, checkpoint_path, {}
    if file is not None:
        path_of("checkpoint_path", file)
    if pretrained and file is not None:
        raise ArgumentError(f"pretrained=True and checkpoint_path={str(file)!r}: give one of them")
    if isinstance(name, str) and name.lower().startswith(LOCAL):
        places[f"model_name={name!r}"], name = LOCAL + name[len(LOCAL):], None
    if "file" in settings:
        places["pretrained_cfg_overlay={'file': ..}"] = settings.pop("file")
    for what, named in places.items():
        if not pretrained:
            raise ArgumentError(f"{what} without pretrained=True: the weights would be random; add it")
        file = named
    unknown = sorted(map(str, settings.keys() - set(SETTINGS)))
    if unknown:
        raise ArgumentError(f"pretrained_cfg_overlay with {unknown[0]!r}: it may have file, {', '.join(SETTINGS)}; the "
                            "weights themselves tell the rest")
    if name is None and file is None:
        raise ArgumentError("no model_name and no checkpoint_path: name a model (lite0 to lite4) or a weight file")
    name = None if name is None else canonical_name(name)
    return name, None if file is None else _place(file), settings


def _place(file) -> Path:
    """The path of a file or of a "local-dir:" folder, wherever this process goes."""
    path = path_of("checkpoint_path", file)
    if str(path).startswith(LOCAL):
        from weights_convert.hub_folder import local_folder

        path = local_folder(path)
    return path.absolute()


def held(weights: Weights) -> Weights:
    """Weights that are in memory."""
    return weights


def adapted(load, **changes) -> Weights:
    """What `load` gives, as `adapt` changes it."""
    return adapt(load(), **changes)


def prepared(load, settings: dict) -> Weights:
    """What `load` gives, with other settings of its preprocessing, by timm's names."""
    weights = load()
    config = resolve_data_config(settings, model_cfg(weights))
    return replace(weights, preprocessing=create_transform(**config).preprocessing)


def reclassified(load, weight, bias, labels) -> Weights:
    """What `load` gives, with another classifier."""
    return with_classifier(load(), weight, bias, labels)


def weights_of(arrays, like: Weights) -> Weights:
    """Weights of the same network from a dictionary timm's name -> array, as a state_dict is.

    Arrays may be of any kind that a checkpoint holds; what can become one, such as a tensor on the processor, may stand
    for it. Raises ArgumentError for anything else, WeightsError where a name or a shape is not the network's.
    """
    from weights_convert.checkpoint import Checkpoint
    from weights_convert.names import identify

    source, network = Source("state_dict", "", "memory"), like.architecture
    found = identify(Checkpoint(_arrays(arrays), source, {}, "", 0), path=None, variant=network.name,
                     global_pool=network.global_pool)
    if found.architecture != network:
        got = found.architecture
        raise WeightsError(f"these are weights for {got.num_classes} classes and {got.in_chans} input channels, the "
                           f"model has {network.num_classes} and {network.in_chans}: make it with num_classes= and "
                           "in_chans=, or see reset_classifier")
    return replace(like, parameters=found.parameters, source=source)


def _arrays(given) -> dict:
    """Name -> a contiguous array of one's own."""
    import numpy as np

    if not isinstance(given, Mapping) or not all(isinstance(name, str) for name in given):
        raise ArgumentError(f"state_dict of type {type(given).__name__}: it must be a dictionary, timm's name -> "
                            "array, such as model.state_dict() gives")
    arrays = {}
    for name, value in given.items():
        what = f"state_dict[{quoted(name)}]"
        if isinstance(value, np.ndarray):
            plain_array(what, value)
        try:
            arrays[name] = np.asarray(value).copy()  # whoever changes theirs changes no model
        except Exception as problem:  # whatever a foreign tensor raises: on another device, with a gradient, bfloat16
            raise ArgumentError(f"{what} of type {type(value).__name__} is no array ({problem}): give "
                                "tensor.detach().cpu().float().numpy()") from problem
        real_array(what, arrays[name])
    return arrays


def load_weights(path: StrPath, name: str | None = None) -> Weights:
    """Read a weight file (.h5), or a checkpoint (.pth, .safetensors, a folder of timm's hub) as `weights_convert` does.

    `name` settles what a checkpoint's shapes leave open; what is doubtful about a checkpoint becomes a UserWarning.
    """
    from ..weights.weight_file import is_hdf5, read_weights

    if is_hdf5(path):
        return read_weights(path)
    from weights_convert import load

    weights, _, found = load(path, variant=name)
    for warning in found:
        warnings.warn(f"{str(path)!r}: {warning}", stacklevel=4)
    return weights


def _check_wish(weights: Weights, name, num_classes, in_chans) -> None:
    network = weights.architecture
    for what, wish, found in (("name", name, network.name), ("num_classes", num_classes or None, network.num_classes),
                              ("in_chans", in_chans, network.in_chans)):
        if wish is not None and wish != found:
            raise ArgumentError(f"{what} {wish!r}: these weights have {found!r} ({weights.source.name}); leave {what} "
                                "out to take what they have")
