"""Read and write `config.json`, timm's description of a model in a hub folder.

    {"architecture": "tf_efficientnet_lite0", "num_classes": 2, "num_features": 1280, "global_pool": "max",
     "label_names": ["cat", "dog"], "label_descriptions": {"cat": "small cat", ..},
     "model_args": {"global_pool": "max"},
     "pretrained_cfg": {"num_classes": 2, "input_size": [3, 224, 224], "crop_pct": 0.875, "crop_mode": "center",
                        "interpolation": "bicubic", "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], ..}}

`export` stores the same JSON as `timm_config` in the metadata of a safetensors file. Source: timm 1.0 `models/_hub.py`
(save_config_for_hf, _parse_model_cfg), `models/_pretrained.py` (PretrainedCfg).
"""
import os
from dataclasses import dataclass
from pathlib import Path

from npefficient.common.paths import open_regular
from npefficient.common.text import counted, quoted
from npefficient.errors import ArgumentError, WeightsError
from npefficient.network.architecture import GLOBAL_POOLS
from npefficient.network.parameters import Weights
from npefficient.network.preprocessing import DEFAULTS, Preprocessing, check_preprocessing

from .json_text import read_json

CONFIG = "config.json"
_LIMIT = 1 << 22  # bytes; 21,843 class names with their descriptions have 3 MB
_KINDS = {str: "a string", int: "a whole number", list: "a list", dict: "a dictionary"}
_DEFAULTS = {"input_size": [3, 224, 224], **DEFAULTS}


@dataclass(frozen=True)
class TimmConfig:
    """The content of a config; None for what it does not set."""

    where: str  # "config.json" or "its metadata"
    architecture: str
    num_classes: int | None
    in_chans: int
    global_pool: str | None  # one of GLOBAL_POOLS
    preprocessing: Preprocessing
    labels: tuple[str, ...] | None
    left_out: tuple[str, ...]  # settings of the preprocessing that are missing and have timm's defaults


def config_beside(path: Path) -> TimmConfig | None:
    """Read the `config.json` in a checkpoint's folder; None if there is none, or it is not timm's.

    Raises WeightsError if it can't be read or is invalid.
    """
    place = path.absolute().parent / CONFIG
    if not os.path.lexists(place):
        return None
    try:
        return parse_config(_read(place), CONFIG)
    except WeightsError as error:
        raise WeightsError(f"{error}; fix {CONFIG}, or move it away if it is not for this checkpoint") from None


def _read(place: Path) -> bytes:
    try:
        with open_regular(place) as file:
            raw = file.read(_LIMIT + 1)
    except OSError as error:
        raise WeightsError(f"{CONFIG} beside it can't be read ({error.strerror})") from None
    if len(raw) > _LIMIT:
        raise WeightsError(f"{CONFIG} beside it has more than {_LIMIT} bytes")
    return raw


def parse_config(raw: bytes, where: str) -> TimmConfig | None:
    """Read a config, named `where` in errors; None for JSON that is not a timm config.

    Raises WeightsError for invalid JSON and invalid values.
    """
    config = read_json(raw, where)
    if type(config) is not dict or type(config.get("architecture")) is not str:
        return None
    try:
        return _parsed(config, where)
    except (ArgumentError, WeightsError) as error:
        raise WeightsError(f"{where}: {error}") from None


def _parsed(config: dict, where: str) -> TimmConfig:
    old = "pretrained_cfg" not in config  # one flat dictionary, with "labels"
    pretrained = config if old else _get(config, "pretrained_cfg", dict) or {}
    arguments = _get(config, "model_args", dict) or {}
    given = {name: pretrained[name] for name in _DEFAULTS if pretrained.get(name) is not None}
    settings = _DEFAULTS | given
    size = settings["input_size"]
    if type(size) is not list or len(size) != 3 or type(size[0]) is not int or size[0] < 1:
        raise WeightsError(f"'input_size' is {quoted(size)}: it must be [channels, rows, columns]")
    in_chans = _get(arguments, "in_chans", int) or size[0]
    colours = {name: _three(name, settings[name], in_chans) for name in ("mean", "std")}
    preprocessing = Preprocessing(**settings | colours | {"input_size": tuple(size[1:])})
    check_preprocessing(preprocessing)
    classes = _first("num_classes", int, config, pretrained)
    pool = _first("global_pool", str, config, arguments)
    if pool is not None and pool not in GLOBAL_POOLS:
        raise WeightsError(f"'global_pool' is {quoted(pool)}: it must be one of {', '.join(map(repr, GLOBAL_POOLS))}")
    return TimmConfig(where, config["architecture"], classes, in_chans, pool, preprocessing,
                      _labels(config, pretrained), tuple(sorted(_DEFAULTS.keys() - given.keys())))


def _get(table: dict, name: str, kind: type):
    value = table.get(name)
    if value is not None and type(value) is not kind:
        raise WeightsError(f"{name!r} is {quoted(value)}: it must be {_KINDS[kind]}")
    return value


def _first(name: str, kind: type, *tables: dict):
    """The value in the first of the tables that has one."""
    return next((value for table in tables if (value := _get(table, name, kind)) is not None), None)


def _three(name: str, values, in_chans: int):
    """A mean or standard deviation of three channels, as a weight file stores it.

    One number stands for all three, and so do equal numbers for a network with a different number of channels.
    """
    values = tuple(values) if type(values) in (list, tuple) else (values,)
    if len(values) == 1 or len(values) == in_chans and len(set(map(repr, values))) == 1:
        return values[:1] * 3
    if len(values) != 3:
        raise WeightsError(f"{name!r} has {counted(len(values), 'value')} for {counted(in_chans, 'input channel')}: it "
                           "must be one value, three, or the same value for every channel")
    return values


def _labels(config: dict, pretrained: dict) -> tuple[str, ...] | None:
    """The class names in order, replaced by their descriptions if there are any, as timm shows them."""
    names = next((value for table in (config, pretrained) for key in ("label_names", "labels")
                  if (value := table.get(key)) is not None), None)
    if names is None:
        return None
    if type(names) is dict:  # {"0": name, ..}
        names = [names.get(str(i)) for i in range(len(names))]
    if type(names) is not list or not all(type(name) is str for name in names):
        raise WeightsError("'label_names' must be a list of strings, or a dictionary of them with the keys \"0\", "
                           "\"1\", ... without a gap")
    shown = _first("label_descriptions", dict, config, pretrained) or {}
    return tuple(shown[name] if type(shown.get(name)) is str else name for name in names)


def make_config(weights: Weights) -> dict:
    """The config for weights, in timm's format."""
    network, how = weights.architecture, weights.preprocessing
    config = {"architecture": network.name, "num_classes": network.num_classes,
              "num_features": network.head.out_channels, "global_pool": network.global_pool}
    if weights.labels is not None:
        config["label_names"] = list(weights.labels)
    if network.global_pool != "avg":
        config["model_args"] = {"global_pool": network.global_pool}
    config["pretrained_cfg"] = {
        "num_classes": network.num_classes, "input_size": [network.in_chans, *how.input_size],
        "interpolation": how.interpolation, "crop_pct": how.crop_pct, "crop_mode": how.crop_mode,
        "mean": _per_channel(how.mean, network.in_chans), "std": _per_channel(how.std, network.in_chans),
        "pool_size": [-(-size // 32) for size in how.input_size], "first_conv": network.stem.name,
        "classifier": "classifier"}
    return config


def _per_channel(values, in_chans: int) -> list[float]:
    """Three numbers as in_chans numbers; three different ones only suit three channels, and are kept unchanged."""
    return list(values) if in_chans == 3 or len(set(values)) > 1 else [values[0]] * in_chans
