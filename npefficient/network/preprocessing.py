"""The settings that turn a photo into the network's input; `image.transform` applies them."""
import math
import numbers
from dataclasses import dataclass
from typing import Any, NoReturn

from ..common.text import shown
from ..errors import ArgumentError

FILTERS = ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos")
CROP_MODES = ("center", "squash", "border")
# timm's defaults for settings that are not given.
IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
DEFAULT_CROP_PCT, DEFAULT_CROP_MODE = 0.875, "center"
DEFAULTS = {"interpolation": "bicubic", "mean": IMAGENET_DEFAULT_MEAN, "std": IMAGENET_DEFAULT_STD,
            "crop_pct": DEFAULT_CROP_PCT, "crop_mode": DEFAULT_CROP_MODE}
MAX_INPUT = 2**26  # pixels of the network's input, 8192 x 8192


@dataclass(frozen=True)
class Preprocessing:
    """The settings of timm's evaluation transform, under its names."""

    input_size: tuple[int, int] = (224, 224)  # rows, columns
    crop_pct: float = 0.875  # fraction of the resized photo that is kept
    interpolation: str = "bicubic"
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)  # subtracted from pixels in 0..1
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    crop_mode: str = "center"


def check_preprocessing(preprocessing: Preprocessing) -> None:
    """Raise ArgumentError, with the field and its rule, unless every field of `preprocessing` is usable."""
    p = preprocessing
    if not isinstance(p, Preprocessing):
        raise ArgumentError(f"preprocessing of type {type(p).__name__}: it must be a npefficient.Preprocessing, such "
                            "as model.preprocessing")

    def refuse(field: str, rule: str) -> NoReturn:
        raise ArgumentError(f"preprocessing {field}={shown(getattr(p, field))}: it must be {rule}")

    if not _numbers(p.input_size, 2, numbers.Integral) or min(p.input_size) < 1 \
            or math.prod(map(int, p.input_size)) > MAX_INPUT:  # NumPy's own numbers would wrap around
        refuse("input_size", f"two whole numbers of at least 1, rows and columns, of at most {MAX_INPUT} pixels")
    if not isinstance(p.interpolation, str) or p.interpolation not in FILTERS:
        refuse("interpolation", f"one of {', '.join(FILTERS)}")
    if not isinstance(p.crop_mode, str) or p.crop_mode not in CROP_MODES:
        refuse("crop_mode", f"one of {', '.join(CROP_MODES)}")
    if not _numbers((p.crop_pct,), 1) or not 0.01 <= p.crop_pct <= min(p.input_size):
        refuse("crop_pct", "a share such as 0.875, at least 0.01 and at most the input's shorter side")
    if not _numbers(p.mean, 3):
        refuse("mean", "three finite numbers, for values in 0..1")
    if not _numbers(p.std, 3) or min(map(abs, p.std)) < 1e-30:
        refuse("std", "three finite numbers other than 0, for values in 0..1")


def _numbers(values: Any, count: int, kind: Any = numbers.Real) -> bool:
    """True for a tuple or list of `count` numbers within float32's range; NaN fails the comparison."""
    return (isinstance(values, (tuple, list)) and len(values) == count
            and all(isinstance(v, kind) and not isinstance(v, bool) and abs(v) < 1e30 for v in values))
