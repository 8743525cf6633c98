"""Random erasing: rectangles of a normalised picture are overwritten with zeros or noise.

Source: timm 1.0 `data/random_erasing.py`, after Zhong et al., "Random Erasing Data Augmentation",
https://arxiv.org/abs/1708.04896. Zero is the mean colour, since the picture is normalised.
"""
import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

MODES = ("pixel", "rand", "const")  # a normal number for each channel of each pixel; one for each channel; zeros
AREA = (0.02, 1 / 3)  # range of the erased share of the picture, of all rectangles together
LOG_ASPECT = (math.log(0.3), math.log(1 / 0.3))  # range of the logarithm of height / width
ATTEMPTS = 10  # to draw a rectangle that fits into the picture


@dataclass(frozen=True, eq=False)
class Erasure:
    """A rectangle of the picture, in pixels, and what it is overwritten with."""

    top: int
    left: int
    rows: int
    columns: int
    values: np.ndarray  # float32, (rows, columns, C) or what broadcasts to it


def draw_erasures(rng: np.random.Generator, shape: tuple[int, int, int], probability: float, mode: str,
                  most: int) -> tuple[Erasure, ...]:
    """Draw the rectangles to erase in a picture of `shape` (H, W, C): none, or from 1 to `most` (AREA / number each).

    A rectangle that does not fit in ATTEMPTS draws is left out.
    """
    if rng.random() > probability:
        return ()
    count = 1 if most == 1 else int(rng.integers(1, most, endpoint=True))
    drawn = (_draw_erasure(rng, shape, mode, count) for _ in range(count))
    return tuple(erasure for erasure in drawn if erasure is not None)


def _draw_erasure(rng: np.random.Generator, shape: tuple[int, int, int], mode: str, count: int) -> Erasure | None:
    H, W, C = shape
    for _ in range(ATTEMPTS):
        target = rng.uniform(*AREA) * (H * W) / count
        aspect = math.exp(rng.uniform(*LOG_ASPECT))
        rows, columns = round(math.sqrt(target * aspect)), round(math.sqrt(target / aspect))
        if columns < W and rows < H:
            top, left = (int(rng.integers(own - part, endpoint=True)) for own, part in ((H, rows), (W, columns)))
            return Erasure(top, left, rows, columns, _draw_values(rng, (rows, columns, C), mode))
    return None


def _draw_values(rng: np.random.Generator, shape: tuple[int, int, int], mode: str) -> np.ndarray:
    if mode == "const":
        return np.zeros((1, 1, shape[2]), np.float32)
    return rng.standard_normal(shape if mode == "pixel" else (1, 1, shape[2]), np.float32)


def erase(x: np.ndarray, erasures: Iterable[Erasure]) -> None:
    """Overwrite the rectangles of a normalised picture, float32 (H, W, C), in place and in their order."""
    for e in erasures:
        x[e.top:e.top + e.rows, e.left:e.left + e.columns] = e.values
