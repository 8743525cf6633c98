"""A photo becomes a training example as timm's `create_transform(is_training=True)` makes it.

    RGB (h, w) ── random crop ──► (H, W) ── flip ── RandAugment or colour jitter ──► uint8 ── normalise ── erase ──►
    float32 (H, W, C)

Drawing the parameters is separate from applying them. For the same parameters the pixels are timm's, bit for bit.
Source: timm 1.0 `data/transforms_factory.py` (transforms_imagenet_train) without its prefetcher, which normalises in
other units and so rounds differently. The file of each step names its own source.
"""
import numbers
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from ..common.checks import is_whole
from ..common.text import shown
from ..errors import ArgumentError
from ..images.image import mean_colour, normalise
from ..images.photo_file import MODES, check_in_chans
from ..network.preprocessing import Preprocessing, check_preprocessing
from .color_jitter import Jitter, draw_jitter, jittered
from .operations import Operation, operated
from .rand_augment import RandAugment, parse_rand_augment
from .random_crop import Crop, draw_crop, resized_crop
from .random_erasing import MODES as ERASING_MODES
from .random_erasing import Erasure, draw_erasures, erase

if TYPE_CHECKING:
    from PIL.Image import Image

FILTERS = {"random": ("bilinear", "bicubic"), "bilinear": ("bilinear",), "bicubic": ("bicubic",)}


@dataclass(frozen=True)
class Augmentation:
    """The settings of timm's training transform, under the names of `create_transform`; defaults of timm's train.py."""

    scale: tuple[float, float] = (0.08, 1.0)  # share of the photo's area that is cut out
    ratio: tuple[float, float] = (3 / 4, 4 / 3)  # width / height of what is cut out
    hflip: float = 0.5  # probability
    color_jitter: float | tuple[float, ...] | None = 0.4  # of brightness, contrast, saturation; or for each, and hue
    auto_augment: str | None = None  # RandAugment, such as "rand-m9-mstd0.5"
    re_prob: float = 0.0  # probability of random erasing
    re_mode: str = "pixel"
    re_count: int = 1  # the most rectangles that are erased
    interpolation: str = "random"  # bilinear or bicubic, drawn for each use; or one of the two


@dataclass(frozen=True, eq=False)
class Parameters:
    """What was drawn for one photo; photos of another size need their own."""

    crop: Crop
    flip: bool
    operations: tuple[Operation, ...]
    jitter: Jitter
    erasures: tuple[Erasure, ...]


class TrainingTransform:
    """timm's training transform for one network: `draw` parameters for a photo, `apply` them.

    augmentation: its settings
    preprocessing: the network's input size, mean and std
    in_chans: its input channels, 3 or 1. With 1, photos are grey, and mean and std are the means of the three, as when
        timm is given these.

    Raises ArgumentError for a setting that can't be used. With `auto_augment` there is no colour jitter, except for the
    sets of operations "3a" and "3aw", as with timm.
    """

    def __init__(self, augmentation: Augmentation, preprocessing: Preprocessing, in_chans: int = 3):
        check_augmentation(augmentation)
        check_preprocessing(preprocessing)
        check_in_chans(in_chans)
        self.augmentation, self.preprocessing, self.in_chans = augmentation, preprocessing, in_chans
        self.filters = FILTERS[augmentation.interpolation]
        self.fill = mean_colour(preprocessing, in_chans)
        text, jitter = augmentation.auto_augment, augmentation.color_jitter
        self.rand_augment: RandAugment | None = parse_rand_augment(text) if text else None
        self.jitter: tuple[float, ...] = ()
        if jitter is not None and (self.rand_augment is None or "3a" in self.rand_augment.t):
            self.jitter = tuple(jitter) if isinstance(jitter, (tuple, list)) else (jitter,) * 3

    @property
    def shape(self) -> tuple[int, int, int]:
        """(H, W, C) of what `apply` returns."""
        return *self.preprocessing.input_size, self.in_chans

    def draw(self, rng: np.random.Generator, size: tuple[int, int]) -> Parameters:
        """Draw the parameters for a photo of `size` (rows, columns)."""
        a = self.augmentation
        crop = draw_crop(rng, size, a.scale, a.ratio, self.filters)
        flip = bool(a.hflip and rng.random() < a.hflip)
        operations = self.rand_augment.draw(rng, self.filters) if self.rand_augment else ()
        jitter = draw_jitter(rng, self.jitter) if self.jitter else ()
        erasures = draw_erasures(rng, self.shape, a.re_prob, a.re_mode, a.re_count) if a.re_prob else ()
        return Parameters(crop, flip, operations, jitter, erasures)

    def apply(self, image: "Image", parameters: Parameters) -> np.ndarray:
        """Augment and normalise one photo: a PIL image as `pixels` takes it -> float32 (H, W, C), contiguous."""
        x = normalise(self.pixels(image, parameters), self.preprocessing)
        erase(x, parameters.erasures)
        return x

    def pixels(self, image: "Image", parameters: Parameters) -> np.ndarray:
        """Take all steps of `apply` on 8 bits: a PIL image -> uint8 (H, W, C).

        image: RGB, or grey ("L") with `in_chans=1`, as `open_image` returns it. Raises ArgumentError for another mode.
        """
        from PIL import Image

        if image.mode != MODES[self.in_chans]:
            raise ArgumentError(f"image of mode {image.mode!r}: a network with {self.in_chans} input channels takes "
                                f"{MODES[self.in_chans]!r}; use image.convert, or npefficient.open_image with in_chans")
        image = resized_crop(image, parameters.crop, self.preprocessing.input_size)
        if parameters.flip:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        for operation in parameters.operations:
            image = operated(image, operation, self.fill)
        return np.asarray(jittered(image, parameters.jitter)).reshape(self.shape)


def check_augmentation(augmentation: Augmentation) -> None:
    """Raise ArgumentError, with the field and its rule, unless every field of `augmentation` is usable."""
    a = augmentation
    if not isinstance(a, Augmentation):
        raise ArgumentError(f"augmentation of type {type(a).__name__}: it must be an Augmentation")

    def refuse(field: str, rule: str) -> NoReturn:
        raise ArgumentError(f"augmentation {field}={shown(getattr(a, field))}: it must be {rule}")

    if not _range(a.scale) or a.scale[1] > 1:
        refuse("scale", "two numbers, the least and the largest share of the area, of at least 1e-06 and at most 1")
    if not _range(a.ratio):
        refuse("ratio", "two numbers from 1e-06 to 1e+06, the least and the largest width / height")
    for field in ("hflip", "re_prob"):
        if not _number(getattr(a, field), 0, 1):
            refuse(field, "a probability from 0 to 1")
    if not _jitter(a.color_jitter):
        refuse("color_jitter", "a strength of at least 0, or three for brightness, contrast and saturation, or these "
               "and one for hue of at most 0.5, or None")
    if a.auto_augment is not None and not isinstance(a.auto_augment, str):
        refuse("auto_augment", "a text such as 'rand-m9-mstd0.5', or None")
    if a.re_mode not in ERASING_MODES:
        refuse("re_mode", f"one of {', '.join(ERASING_MODES)}")
    if not is_whole(a.re_count) or a.re_count < 1:
        refuse("re_count", "a whole number of at least 1")
    if not isinstance(a.interpolation, str) or a.interpolation not in FILTERS:
        refuse("interpolation", f"one of {', '.join(FILTERS)}")


def _number(value: Any, low: float, high: float) -> bool:
    """True for a real number from `low` to `high`; NaN fails the comparison."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and low <= float(value) <= high


def _range(values: Any) -> bool:
    """True for two positive numbers in ascending order."""
    return (isinstance(values, (tuple, list)) and len(values) == 2 and all(_number(v, 1e-6, 1e6) for v in values)
            and values[0] <= values[1])


def _jitter(strengths: Any) -> bool:
    if isinstance(strengths, (tuple, list)):
        limits = (1e6, 1e6, 1e6, 0.5)
        return len(strengths) in (3, 4) and all(_number(s, 0, most) for s, most in zip(strengths, limits))
    return strengths is None or _number(strengths, 0, 1e6)
