"""timm's functions for a model's preprocessing: `resolve_data_config`, `create_transform`, `get_pretrained_cfg`.

Source: timm 1.0 `data/config.py`, `data/transforms_factory.py`, `models/_pretrained.py`. As in timm, `input_size` is
(channels, rows, columns) here; `Preprocessing.input_size` is (rows, columns).
"""
import numbers
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..common.checks import is_whole
from ..common.text import shown
from ..errors import ArgumentError, WeightsError
from ..network.architecture import IMAGENET_CLASSES
from ..network.parameters import Weights
from ..network.preprocessing import (
    DEFAULT_CROP_MODE,
    DEFAULT_CROP_PCT,
    DEFAULTS,
    IMAGENET_DEFAULT_MEAN,
    IMAGENET_DEFAULT_STD,
    Preprocessing,
    check_preprocessing,
)
from ..network.quantization import QuantizedWeights
from ..network.variants import TAG, VARIANTS, Variant, canonical_name
from .timm_names import TimmModule, check_options

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class PretrainedCfg:
    """What timm records about a model's weights, under timm's names."""

    architecture: str
    url: str | None
    file: str | None  # the weights on this machine, in the cache or in a package; None: they come from `url`
    hf_hub_id: str | None
    tag: str | None
    input_size: tuple[int, int, int]
    interpolation: str
    crop_pct: float
    crop_mode: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    num_classes: int
    pool_size: tuple[int, int]
    first_conv: str = "conv_stem"
    classifier: str = "classifier"
    license: str = "apache-2.0"

    def to_dict(self) -> dict:
        """The fields as a dictionary, the form of `model.pretrained_cfg`."""
        return asdict(self)


def get_pretrained_cfg(model_name: str) -> PretrainedCfg:
    """Return what is known about a variant's official weights, such as where `create_model(.., pretrained=True)` gets
    them (from `file`, else from `url`); raises ArgumentError for an unknown name.
    """
    variant = VARIANTS[canonical_name(model_name)]
    return _cfg(variant, variant.preprocessing, IMAGENET_CLASSES, official=True)


def model_cfg(weights: Weights | QuantizedWeights) -> dict:
    """The same for any weights, with their preprocessing, classes and input channels.

    Only official weights have a `url` and a `file`, where `create_model(.., pretrained=True)` gets them.
    """
    network, source = weights.architecture, weights.source
    official = network.variant.is_official(source.sha256)
    return _cfg(network.variant, weights.preprocessing, network.num_classes, official, network.in_chans).to_dict()


def _cfg(variant: Variant, preprocessing: Preprocessing, num_classes: int, official: bool,
         in_chans: int = 3) -> PretrainedCfg:
    p, (rows, columns) = preprocessing, preprocessing.input_size
    return PretrainedCfg(
        architecture=variant.name, url=variant.url if official else None, file=_place(variant) if official else None,
        hf_hub_id=f"timm/{variant.name}.{TAG}" if official else None, tag=TAG if official else None,
        input_size=(in_chans, rows, columns), interpolation=p.interpolation, crop_pct=p.crop_pct,
        crop_mode=p.crop_mode, mean=p.mean, std=p.std, num_classes=num_classes,
        pool_size=(-(-rows // 32), -(-columns // 32)))


def _place(variant: Variant) -> str | None:
    """Where the official weights are on this machine; None if they would be downloaded."""
    from ..hub import origin

    try:
        found = origin(variant.name)
    except WeightsError:  # a package without its file; loading the weights raises the same error
        return None
    return None if found.kind == "download" else found.place


def resolve_data_config(args: dict | None = None, pretrained_cfg: dict | PretrainedCfg | None = None,
                        model: TimmModule | None = None, use_test_size: bool = False,
                        verbose: bool = False) -> dict:
    """Return the settings of the evaluation transform: from `args`, else from the model, else timm's defaults.

    args: any of input_size (channels, rows, columns), img_size, in_chans, interpolation, mean, std, crop_pct,
        crop_mode; other names are ignored, and so are None, "" and 0, by which argument parsers mean "not given"
    use_test_size: prefer `test_input_size` and `test_crop_pct` if the configuration has them (ours have none)
    verbose: has no effect

    Raises ArgumentError if all three of args, pretrained_cfg and model are missing, or for an unusable setting.
    """
    if isinstance(pretrained_cfg, PretrainedCfg):
        pretrained_cfg = pretrained_cfg.to_dict()
    given, known = _given(args, "args"), _given(pretrained_cfg, "pretrained_cfg")
    if not (args or pretrained_cfg or model is not None):
        raise ArgumentError("resolve_data_config() without args, pretrained_cfg or model: give at least one of them")
    if not pretrained_cfg and model is not None:
        if not hasattr(model, "pretrained_cfg"):
            raise ArgumentError(f"model {shown(model)}: it must be what create_model returns")
        known = _given(model.pretrained_cfg, "pretrained_cfg")
    if use_test_size:
        known |= {name: known[f"test_{name}"] for name in ("input_size", "crop_pct") if f"test_{name}" in known}
    channels = given.get("in_chans", given.get("chans", 3))
    if "input_size" not in given and "img_size" in given:
        given["input_size"] = (channels, given["img_size"], given["img_size"])
    defaults = {"input_size": (channels, 224, 224), **DEFAULTS}
    config = {name: _as_tuple(given.get(name, known.get(name, default))) for name, default in defaults.items()}
    size = config["input_size"]
    if not isinstance(size, tuple) or len(size) != 3:
        raise ArgumentError(f"input_size {shown(size)}: it must be (channels, rows, columns); img_size is one number "
                            "for both")
    for name in ("mean", "std"):
        if isinstance(config[name], numbers.Real):
            config[name] = (config[name],)
        if isinstance(config[name], tuple) and len(config[name]) == 1:
            config[name] *= size[0]
    _transform(**config)  # checks the settings
    return config


def _given(settings: Any, what: str) -> dict[str, Any]:
    """The settings whose values do not stand for "not given"."""
    if not isinstance(settings, (Mapping, type(None))):
        raise ArgumentError(f"{what} {shown(settings)}: it must be a dictionary, such as {{'crop_pct': 0.9}}")
    return {name: value for name, value in (settings or {}).items()
            if not _left_out(value) or value is not None and name not in ("interpolation", "crop_pct", "crop_mode")}


def _left_out(value: Any) -> bool:
    """True for values that stand for "not given", as in timm's `value or default`: None, "" and 0."""
    return value is None or isinstance(value, (str, numbers.Number)) and not value


def _as_tuple(value: Any) -> Any:
    """Lists and arrays as tuples, anything else as it is."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    return tuple(value) if isinstance(value, list) else value


def resolve_model_data_config(model: TimmModule, args: dict | None = None,
                              pretrained_cfg: dict | PretrainedCfg | None = None, use_test_size: bool = False,
                              verbose: bool = False) -> dict:
    """Return `resolve_data_config(args, pretrained_cfg, model, ..)`."""
    return resolve_data_config(args, pretrained_cfg, model, use_test_size, verbose)


@dataclass(frozen=True)
class Transform:
    """A photo (PIL image, or array (h, w, 3)) -> float32 (H, W, in_chans): `image.transform` with these settings."""

    preprocessing: Preprocessing
    in_chans: int = 3

    def __call__(self, image: "Image | np.ndarray") -> np.ndarray:
        from ..images.image import transform

        return transform(image, self.preprocessing, in_chans=self.in_chans)


def create_transform(input_size: int | Sequence[int] = 224, is_training: bool = False, *,
                     interpolation: str = "bilinear", mean: float | Sequence[float] = IMAGENET_DEFAULT_MEAN,
                     std: float | Sequence[float] = IMAGENET_DEFAULT_STD, crop_pct: float | None = None,
                     crop_mode: str | None = None, **timms: Any) -> Transform:
    """Return timm's evaluation transform, as in `create_transform(**resolve_data_config(model=model))`.

    input_size: (channels, rows, columns), (rows, columns), or one number for both; one channel makes photos grey
    mean, std: one number per channel, or one for all channels
    timms: timm's other arguments; those for training have no effect (`timm_names.NO_EFFECT`)

    Raises ArgumentError for an unusable setting, and for `is_training`: `npefficient.train` has augmentation.
    """
    if is_training:
        raise ArgumentError("is_training=True: this is the evaluation transform; npefficient.train augments photos "
                            "as its recipe says")
    check_options("create_transform", timms)
    return _transform(input_size, interpolation, mean, std, crop_pct, crop_mode)


def _transform(input_size: Any, interpolation: Any, mean: Any, std: Any, crop_pct: Any, crop_mode: Any) -> Transform:
    """Make a transform from settings in timm's forms; raises ArgumentError for an unusable one."""
    size, channels = _as_tuple(input_size), 3
    if not isinstance(size, tuple):
        size = (size, size)
    if len(size) == 3:
        channels, *size = size
    preprocessing = Preprocessing(tuple(size), DEFAULT_CROP_PCT if _left_out(crop_pct) else crop_pct, interpolation,
                                  _per_channel(mean), _per_channel(std),
                                  DEFAULT_CROP_MODE if _left_out(crop_mode) else crop_mode)
    check_preprocessing(preprocessing)
    if not is_whole(channels) or channels < 1:
        raise ArgumentError(f"input_size {shown(input_size)}: the first number is the channels, a whole number of at "
                            "least 1")
    return Transform(preprocessing, channels)


def _per_channel(value: Any) -> Any:
    """A mean or std of three channels; one number stands for all three."""
    value = _as_tuple(value)
    if isinstance(value, numbers.Real):
        return (value,) * 3
    return value * 3 if isinstance(value, tuple) and len(value) == 1 else value
