"""A random part of a photo, resized to the network's input: the crop of Inception-style training.

Source: timm 1.0 `data/transforms.py` (RandomResizedCropAndInterpolation), after Szegedy et al., "Going deeper with
convolutions", https://arxiv.org/abs/1409.4842, section 6; torchvision 0.28 `transforms/functional.py` (resized_crop).
"""
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image

ATTEMPTS = 10  # to draw a rectangle that fits into the photo


@dataclass(frozen=True)
class Crop:
    """A rectangle of a photo, in pixels, and the filter that resizes it."""

    top: int
    left: int
    rows: int
    columns: int
    interpolation: str


def draw_crop(rng: np.random.Generator, size: tuple[int, int], scale: tuple[float, float], ratio: tuple[float, float],
              filters: tuple[str, ...]) -> Crop:
    """Draw a rectangle of a photo of `size` (rows, columns).

    scale: range of its share of the photo's area, uniform
    ratio: range of width / height, uniform in the logarithm
    filters: Pillow's names of filters, of which one is drawn; a single one is taken without a draw

    Where no rectangle in ATTEMPTS fits, it is the largest centred one with a ratio in the range. A rectangle without a
    pixel, which timm would then fail to resize, counts as one that does not fit.
    """
    top, left, rows, columns = _draw_rectangle(rng, size, scale, ratio) or _central(size, ratio)
    interpolation = filters[rng.integers(len(filters))] if len(filters) > 1 else filters[0]
    return Crop(top, left, rows, columns, interpolation)


def _draw_rectangle(rng: np.random.Generator, size: tuple[int, int], scale: tuple[float, float],
                    ratio: tuple[float, float]) -> tuple[int, int, int, int] | None:
    area, log_ratio = size[0] * size[1], (math.log(ratio[0]), math.log(ratio[1]))
    for _ in range(ATTEMPTS):
        target = rng.uniform(*scale) * area
        aspect = math.exp(rng.uniform(*log_ratio))
        columns, rows = round(math.sqrt(target * aspect)), round(math.sqrt(target / aspect))
        if 0 < rows <= size[0] and 0 < columns <= size[1]:
            top = int(rng.integers(size[0] - rows, endpoint=True))
            return top, int(rng.integers(size[1] - columns, endpoint=True)), rows, columns
    return None


def _central(size: tuple[int, int], ratio: tuple[float, float]) -> tuple[int, int, int, int]:
    rows, columns = size
    if columns / rows < ratio[0]:
        rows = max(1, round(columns / ratio[0]))
    elif columns / rows > ratio[1]:
        columns = max(1, round(rows * ratio[1]))
    return (size[0] - rows) // 2, (size[1] - columns) // 2, rows, columns


def resized_crop(image: "Image", crop: Crop, size: tuple[int, int]) -> "Image":
    """Cut the rectangle out of a PIL image and resize it to `size` (rows, columns)."""
    from PIL import Image

    cut = image.crop((crop.left, crop.top, crop.left + crop.columns, crop.top + crop.rows))
    return cut.resize((size[1], size[0]), Image.Resampling[crop.interpolation.upper()])
