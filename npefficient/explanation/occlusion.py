"""Occlusion: what the answer can't do without.

A square patch of the input is set to 0, which is the grey (or the colour) of the preprocessing's mean, and the whole
network runs again. The fall of a logit is what the patch was worth for that class. One pass gives the fall of every
logit, and the fall of a difference of logits is the difference of their falls. Source: Zeiler & Fergus 2014
(arXiv:1311.2901), section 4.2.

Nothing is known of how far a network may be trusted on a photo with a grey square in it, which it has never been
trained on.
"""
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

PATCHES = 7  # along the longer side of the input, by default: 49 passes, about as fine as the class activation map
AT_ONCE = 16  # pictures in a batch: it bounds the memory, and progress is told after each

Progress = Callable[[int, int], object]  # (passes done, passes in all)


def usual_patch(height: int, width: int) -> int:
    """Rows and columns of a patch unless another size is wished."""
    return math.ceil(max(height, width) / PATCHES)


def falls(model, x: np.ndarray, logits: np.ndarray, patch: int, progress: Progress | None = None) -> np.ndarray:
    """How far each logit falls when a patch is covered: float32 (rows, columns, num_classes), rows and columns of
    patches.

    x (H, W, C), logits (num_classes,) of it as it is; the last row and column of patches may be cut off by the border
    """
    height, width, _ = x.shape
    grid = math.ceil(height / patch), math.ceil(width / patch)
    places, found, step = list(np.ndindex(*grid)), [], max(AT_ONCE, model.num_threads or 1)
    for first in range(0, len(places), step):
        some = places[first : first + step]
        covered = np.repeat(x[None], len(some), axis=0)
        for picture, (row, column) in zip(covered, some):
            picture[row * patch : (row + 1) * patch, column * patch : (column + 1) * patch] = 0
        found.append(logits - model(covered))
        if progress is not None:
            progress(first + len(some), len(places))
    return np.concatenate(found).reshape(*grid, -1)


def over_pixels(falls: np.ndarray, patch: int, size: tuple[int, int]) -> np.ndarray:
    """(rows, columns) of patches -> (H, W): for each pixel of the input the value of its patch."""
    return falls.repeat(patch, axis=0).repeat(patch, axis=1)[: size[0], : size[1]]


@dataclass(frozen=True)
class Agreement:
    """How a class activation map and occlusion compare."""

    correlation: float | None  # Pearson's, over the pixels of the input; None where one of the two is the same all over
    same: bool  # the centre of the patch of the largest fall lies in the map's strongest cell


def agreement(cells: np.ndarray, falls: np.ndarray, patch: int, size: tuple[int, int]) -> Agreement:
    """Compare a map (h, w), whose cells divide the input (H, W) evenly, with the falls (rows, columns) of patches."""
    own = [np.arange(length) * count // length for length, count in zip(size, cells.shape)]  # each pixel's cell
    pixels = cells[np.ix_(*own)].astype(np.float64).ravel(), over_pixels(falls, patch, size).astype(np.float64).ravel()
    strongest = np.unravel_index(cells.argmax(), cells.shape)
    corner = [int(place) * patch for place in np.unravel_index(falls.argmax(), falls.shape)]
    centre = [(first + min(first + patch, length)) // 2 for first, length in zip(corner, size)]
    same = all(own[axis][centre[axis]] == strongest[axis] for axis in (0, 1))
    vary = all(np.ptp(values) > 0 for values in pixels)
    return Agreement(float(np.corrcoef(*pixels)[0, 1]) if vary else None, same)
