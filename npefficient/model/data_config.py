"""timm's ways to ask how a model takes its photos: `resolve_data_config`, `create_transform`, `get_pretrained_cfg`.

Source: timm 1.0 `data/config.py`, `data/transforms_factory.py`, `models/_pretrained.py`. As there, `input_size` is
(channels, rows, columns) in these; `Preprocessing.input_size` is (rows, columns).
"""
import numbers
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..common.text import shown
from ..errors import ArgumentError, WeightsError
from ..network.architecture import IMAGENET_CLASSES
from ..network.preprocessing import (
    DEFAULT_CROP_MODE,
    DEFAULT_CROP_PCT,
    IMAGENET_DEFAULT_MEAN,
    IMAGENET_DEFAULT_STD,
    Preprocessing,
    check_preprocessing,
)
from ..network.variants import TAG, VARIANTS, canonical_name
from .timm_names import TimmModule, check_options

if TYPE_CHECKING:
    from PIL.Image import Image



@dataclass(frozen=True)
class PretrainedCfg:
    """What timm keeps about a model's weights, under its names."""

    architecture: str
    url: str | None
    file: str | None  # where the weights lie on this machine, kept or in a package; None: they come from `url`
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
        """The fields as a dictionary, as `model.pretrained_cfg` has them."""
        return asdict(self)


def get_pretrained_cfg(model_name: str) -> PretrainedCfg:
    """Return what is known about the official weights of a variant, and where `create_model(.., pretrained=True)` finds
    them (`file`, else `url`); raises ArgumentError for an unknown name.
    """
    variant = VARIANTS[canonical_name(model_name)]
    return _cfg(variant, variant.preprocessing, IMAGENET_CLASSES, official=True)


def model_cfg(weights) -> dict:
    """The same for weights (`parameters.Weights`) with a preprocessing, classes and input channels of their own.

    Only official ones have a `url` and a `file`: where `create_model(.., pretrained=True)` finds them.
    """
    network, source = weights.architecture, weights.source
    official = network.variant.is_official(source.sha256)
    return _cfg(network.variant, weights.preprocessing, network.num_classes, official, network.in_chans).to_dict()


def _cfg(variant, preprocessing, num_classes, official, in_chans=3) -> PretrainedCfg:
    p, file = preprocessing, _place(variant) if official else None
    return PretrainedCfg(
        variant.name, variant.url if official else None, file, f"timm/{variant.name}.{TAG}" if official else None,
        TAG if official else None, (in_chans, *p.input_size), p.interpolation, p.crop_pct, p.crop_mode, p.mean, p.std,
        num_classes, tuple(-(-size // 32) for size in p.input_size))


def _place(variant) -> str | None:
    """Where `create_model(.., pretrained=True)` finds the weights on this machine, if it does."""
    from ..hub import origin

    try:
        found = origin(variant.name)
    except WeightsError:  # a package without its file: whoever asks for its weights is told
        return None
    return None if found.kind == "download" else found.place


def resolve_data_config(args: dict | None = None, pretrained_cfg: dict | PretrainedCfg | None = None,
                        model: TimmModule | None = None, use_test_size: bool = False,
                        verbose: bool = False) -> dict:
    """Return the settings of the evaluation transform: those in `args` first, then the model's, then timm's defaults.

    args: any of input_size (channels, rows, columns), img_size, in_chans, interpolation, mean, std, crop_pct,
        crop_mode; others, and those that an argument parser leaves at None, "" or 0 for "not given", are passed over
    use_test_size: take a configuration's `test_input_size` and `test_crop_pct` where it has them (ours have none)
    verbose: without effect

    Raises ArgumentError where nothing is given at all, or a setting can't be carried out.
    """
    if isinstance(pretrained_cfg, PretrainedCfg):
        pretrained_cfg = pretrained_cfg.to_dict()
    given, known = _given(args, "args"), _given(pretrained_cfg, "pretrained_cfg")
    if not (args or pretrained_cfg or model is not None):
        raise ArgumentError("resolve_data_config() without args, pretrained_cfg and model: give one of them")
    if not pretrained_cfg and model is not None:
        if not hasattr(model, "pretrained_cfg"):
            raise ArgumentError(f"model {shown(model)}: it must be what create_model returns")
        known = _given(model.pretrained_cfg, "pretrained_cfg")
    if use_test_size:
        known |= {name: known[f"test_{name}"] for name in ("input_size", "crop_pct") if f"test_{name}" in known}
    channels = given.get("in_chans", given.get("chans", 3))
    if "input_size" not in given and "img_size" in given:
        given["input_size"] = (channels, given["img_size"], given["img_size"])
    defaults = {"input_size": (channels, 224, 224), "interpolation": "bicubic", "mean": IMAGENET_DEFAULT_MEAN,
                "std": IMAGENET_DEFAULT_STD, "crop_pct": DEFAULT_CROP_PCT, "crop_mode": DEFAULT_CROP_MODE}
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
    _transform(**config)  # checks it
    return config


def _given(settings, what: str) -> dict:
    """Those of the settings that say something."""
    if not isinstance(settings, (Mapping, type(None))):
        raise ArgumentError(f"{what} {shown(settings)}: it must be a dictionary, such as {{'crop_pct': 0.9}}")
    return {name: value for name, value in (settings or {}).items()
            if not _left_out(value) or value is not None and name not in ("interpolation", "crop_pct", "crop_mode")}


def _left_out(value) -> bool:
    """True for what stands for "not given": None, and for a word or a number "" and 0, as timm's `value or default`."""
    return value is None or isinstance(value, (str, numbers.Number)) and not value


def _as_tuple(value):
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
    """A photo (PIL image, or array (h, w, 3)) -> float32 (H, W, in_chans): `image.transform` with its settings."""

    preprocessing: Preprocessing
    in_chans: int = 3

    def __call__(self, image: "Image | np.ndarray") -> np.ndarray:
        from ..images.image import transform

        return transform(image, self.preprocessing, in_chans=self.in_chans)


def create_transform(input_size: int | Sequence[int] = 224, is_training: bool = False, *,
                     interpolation: str = "bilinear", mean: float | Sequence[float] = IMAGENET_DEFAULT_MEAN,
                     std: float | Sequence[float] = IMAGENET_DEFAULT_STD, crop_pct: float | None = None,
                     crop_mode: str | None = None, **timms: Any) -> Transform:
    """Return timm's evaluation transform, `create_transform(**resolve_data_config(model=model))`.

    input_size: (channels, rows, columns), (rows, columns), or one number for both; with one channel photos become grey
    mean, std: of each channel, or one number for all
    timms: timm's other arguments; those for training have no effect (`timm_names.NO_EFFECT`)

    Raises ArgumentError for a setting that can't be carried out, and for `is_training`: there is no training here.
    """
    if is_training:
        raise ArgumentError("is_training=True: npefficient only evaluates; it has timm's evaluation transform alone")
    check_options("create_transform", timms)
    return _transform(input_size, interpolation, mean, std, crop_pct, crop_mode)


def _transform(input_size, interpolation, mean, std, crop_pct, crop_mode) -> Transform:
    """Check everything and make it."""
    size, channels = _as_tuple(input_size), 3
    if not isinstance(size, tuple):
        size = (size, size)
    if len(size) == 3:
        channels, *size = size
    preprocessing = Preprocessing(tuple(size), DEFAULT_CROP_PCT if _left_out(crop_pct) else crop_pct, interpolation,
                                  _per_channel(mean), _per_channel(std),
                                  DEFAULT_CROP_MODE if _left_out(crop_mode) else crop_mode)
    check_preprocessing(preprocessing)
    if not isinstance(channels, numbers.Integral) or isinstance(channels, bool) or channels < 1:
        raise ArgumentError(f"input_size {shown(input_size)}: the channels come first, a whole number of at least 1")
    return Transform(preprocessing, channels)


def _per_channel(value):
    """A mean or std for three channels, from one for all of them."""
    value = _as_tuple(value)
    if isinstance(value, numbers.Real):
        return (value,) * 3
    return value * 3 if isinstance(value, tuple) and len(value) == 1 else value
