"""Weights from any source: a weight file, a checkpoint, the official ones, arrays in memory, or random ones.

A model does not keep its weights but a call that loads them again: a function of this file, with plain arguments. Such
a call can be pickled, and so can the model (`Model.__reduce__`).
"""
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias, cast

import numpy as np
from numpy.typing import ArrayLike

from ..common.checks import path_of, plain_array, real_array
from ..common.paths import StrPath
from ..common.text import quoted, shown
from ..errors import ArgumentError, WeightsError
from ..images.photo_file import check_in_chans
from ..network.architecture import build
from ..network.parameters import Source, Weights, random_weights
from ..network.quantization import QuantizedWeights, quantize
from ..network.variants import LOCAL, TAG, canonical_name, is_model_pretrained
from ..weights.adapt import adapt, adapt_quantized, with_classifier
from .data_config import create_transform, model_cfg, resolve_data_config

AnyWeights: TypeAlias = Weights | QuantizedWeights
SETTINGS = ("input_size", "interpolation", "mean", "std", "crop_pct", "crop_mode")


def wanted_weights(name: str | None, pretrained: bool, checkpoint_path: Path | None, num_classes: int | None,
                   in_chans: int | None, global_pool: str | None) -> AnyWeights:
    """Load the weights that `create_model` was asked for; they are the same every time unless the file changes.

    With `pretrained`, `checkpoint_path` takes the place of the official weights and is adapted in the same way.
    """
    if checkpoint_path is not None:
        weights = load_stored(checkpoint_path, name)
        _check_wish(weights, checkpoint_path, name, *(None, None) if pretrained else (num_classes, in_chans))
    elif pretrained:
        from ..hub import pretrained as fetch

        weights = load_weights(fetch(cast(str, name)))
    else:
        wishes: dict[str, Any] = {"num_classes": num_classes, "in_chans": in_chans, "global_pool": global_pool}
        return random_weights(build(cast(str, name), **{k: v for k, v in wishes.items() if v is not None}))
    if isinstance(weights, QuantizedWeights):
        return adapt_quantized(weights, num_classes=num_classes, in_chans=in_chans, global_pool=global_pool)
    return adapt(weights, num_classes=num_classes, in_chans=in_chans, global_pool=global_pool)


def wanted(model_name: str | None, pretrained: bool, checkpoint_path: StrPath | None, pretrained_cfg: str | None,
           overlay: Mapping[str, Any] | None) -> tuple[str | None, Path | None, dict[str, Any]]:
    """Check what `create_model` was asked for; returns (canonical name or None, file or None, preprocessing settings).

    There may be a file with `pretrained` as well: it then takes the place of the official weights.
    """
    if not (pretrained_cfg is None or isinstance(pretrained_cfg, str) and pretrained_cfg in ("", TAG)):
        raise ArgumentError(f"pretrained_cfg {shown(pretrained_cfg)}: it must be {TAG!r}, the tag of the official "
                            "weights; pretrained_cfg_overlay={..} changes single settings")
    if not isinstance(overlay, (Mapping, type(None))):
        raise ArgumentError(f"pretrained_cfg_overlay {shown(overlay)}: it must be a dictionary, such as "
                            "{'input_size': (3, 64, 64)}")
    settings, name, file = dict(overlay or {}), model_name, checkpoint_path
    places: dict[str, Any] = {}  # what gave a file to use with `pretrained` -> that file
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
        raise ArgumentError(f"pretrained_cfg_overlay with {unknown[0]!r}: it may have file, {', '.join(SETTINGS)}; "
                            "everything else follows from the weights")
    if name is None and file is None:
        raise ArgumentError("no model_name and no checkpoint_path: name a model (lite0 to lite4) or a weight file")
    name = None if name is None else canonical_name(name)
    return name, None if file is None else _place(file), settings


def _place(file: StrPath) -> Path:
    """The absolute path of a file or a "local-dir:" folder, which stays valid if the working directory changes."""
    path = path_of("checkpoint_path", file)
    if str(path).startswith(LOCAL):
        from weights_convert.hub_folder import local_folder

        path = local_folder(path)
    return path.absolute()


def in_precision(weights: AnyWeights, precision: str) -> AnyWeights:
    """The weights as a network of this precision takes them; for "float32" they must be of float32."""
    return quantize(weights) if precision == "int8" and isinstance(weights, Weights) else weights


def held(weights: AnyWeights) -> AnyWeights:
    """Return weights that are in memory."""
    return weights


def adapted(load: Callable[[], AnyWeights], *, num_classes: int, global_pool: str) -> AnyWeights:
    """Load weights, then replace the classifier by one with random weights; 0 classes leave it out."""
    weights = load()
    if isinstance(weights, QuantizedWeights):
        return adapt_quantized(weights, num_classes=num_classes, global_pool=global_pool)
    return adapt(weights, num_classes=num_classes, global_pool=global_pool, new_classifier=True)


def file_of(load: Any, weights: AnyWeights) -> str:
    """What such a call reads, for messages: the file if it is one that was named, or where its weights come from."""
    while (called := getattr(load, "func", None)) not in (None, wanted_weights):
        load = load.args[0]
    return str(load.args[2]) if called and load.args[2] is not None else weights.source.name


def prepared(load: Callable[[], AnyWeights], settings: dict[str, Any]) -> AnyWeights:
    """Load weights, then change settings of their preprocessing, given by timm's names."""
    weights = load()
    config = resolve_data_config(settings, model_cfg(weights))
    return replace(weights, preprocessing=create_transform(**config).preprocessing)


def reclassified(load: Callable[[], Weights], weight: np.ndarray, bias: np.ndarray,
                 labels: tuple[str, ...] | None) -> Weights:
    """Load weights, then replace their classifier."""
    return with_classifier(load(), weight, bias, labels)


def weights_of(arrays: Mapping[str, ArrayLike], like: Weights) -> Weights:
    """Weights of the same network as `like` from a state_dict, a mapping of timm's names to arrays.

    An array may have any dtype that a checkpoint may have; anything that np.asarray accepts, such as a CPU tensor, will
    do. Raises ArgumentError for other values, WeightsError for names or shapes that are not the network's.
    """
    from weights_convert.checkpoint import Checkpoint
    from weights_convert.names import identify

    source, network = Source("state_dict", "", "memory"), like.architecture
    found = identify(Checkpoint(_arrays(arrays), source, {}, "", 0), path=None, variant=network.name,
                     global_pool=network.global_pool)
    if found.architecture != network:
        got = found.architecture
        raise WeightsError(f"these weights are for {got.num_classes} classes and {got.in_chans} input channels, but "
                           f"the model has {network.num_classes} and {network.in_chans}: create it with num_classes= "
                           "and in_chans=, or call reset_classifier first")
    return replace(like, parameters=found.parameters, source=source)


def _arrays(given: Mapping[str, ArrayLike]) -> dict[str, np.ndarray]:
    """Name -> a copy of the array, contiguous."""
    if not isinstance(given, Mapping) or not all(isinstance(name, str) for name in given):
        raise ArgumentError(f"state_dict of type {type(given).__name__}: it must be a dictionary, timm's name -> "
                            "array, such as model.state_dict() returns")
    arrays: dict[str, np.ndarray] = {}
    for name, value in given.items():
        what = f"state_dict[{quoted(name)}]"
        if isinstance(value, np.ndarray):
            plain_array(what, value)
        try:
            array = np.asarray(value)
            # A copy, as a change of the caller's array must not change the model, in this machine's byte order.
            arrays[name] = array.astype(array.dtype.newbyteorder("="), order="C")
        except Exception as problem:  # tensors on another device, with a gradient or of bfloat16 raise various errors
            raise ArgumentError(f"{what} of type {type(value).__name__} is not an array ({problem}): pass "
                                "tensor.detach().cpu().float().numpy()") from problem
        real_array(what, arrays[name])
    return arrays


def load_weights(path: StrPath, name: str | None = None) -> Weights:
    """Read a weight file (.h5), or a checkpoint (.pth, .safetensors, a timm hub folder) as `weights_convert` does.

    `name` is the variant, for checkpoints whose shapes leave it open. Warnings about a checkpoint are UserWarnings.
    Raises WeightsError for a file of int8 weights, which `create_model` takes.
    """
    from ..weights.weight_file import is_hdf5, read_weights

    return read_weights(path) if is_hdf5(path) else _converted(path, name)


def load_stored(path: StrPath, name: str | None = None) -> AnyWeights:
    """`load_weights` for whatever can run float32 and int8 weights: a file of int8 weights is read as well."""
    from ..weights.quantized_file import read_stored
    from ..weights.weight_file import is_hdf5

    return read_stored(path) if is_hdf5(path) else _converted(path, name)


def weights_to_train(model: str | None, weights: Weights | StrPath | None) -> Weights:
    """The trained weights that `train` and `finetune` start from: of a network that takes photos and has a pool.

    model: the variant; None for that of the weights, or lite0
    weights: a weight file, a checkpoint or `parameters.Weights`; the name of a variant, for its official weights; None
        for the official weights of `model`

    Raises ArgumentError for a model that the weights are not of, and for weights of a network without a pool or with
    neither 1 nor 3 input channels; WeightsError for a file that can't be used.
    """
    from ..hub import pretrained

    name = None if model is None else canonical_name(model)
    if weights is None:
        base = load_weights(pretrained(name or canonical_name("lite0")))
    elif isinstance(weights, str) and is_model_pretrained(weights):
        base = load_weights(pretrained(canonical_name(weights)))
    else:
        base = weights if isinstance(weights, Weights) else load_weights(weights, name)
    network = base.architecture
    check_in_chans(network.in_chans)
    if name not in (None, network.name):
        raise ArgumentError(f"model {model!r} from {base.source.name!r}, which is {network.name}: leave the model out, "
                            "or start from other weights")
    if not network.global_pool:
        raise ArgumentError(f"weights {base.source.name!r} with the pool '': a classifier needs pooled features; use "
                            "weights with one of timm's pools, such as 'avg'")
    return base


def _converted(path: StrPath, name: str | None) -> Weights:
    from weights_convert import load

    weights, _, found = load(path, variant=name)
    for warning in found:
        warnings.warn(f"{str(path)!r}: {warning}", stacklevel=5)
    return weights


def _check_wish(weights: AnyWeights, file: Path, name: str | None, num_classes: int | None,
                in_chans: int | None) -> None:
    network = weights.architecture
    wishes: tuple[tuple[str, Any, Any], ...] = (
        ("name", name, network.name), ("num_classes", num_classes or None, network.num_classes),
        ("in_chans", in_chans, network.in_chans))
    for what, wish, found in wishes:
        if wish is not None and wish != found:
            raise ArgumentError(f"{what} {wish!r}: these weights have {found!r} ({str(file)!r}); omit {what} to use it")
