"""Mixup and CutMix: each picture of a batch is mixed with the one in the mirrored place, and so are the targets.

    mixup    x_i = lam x_i + (1 - lam) x_j               j = N - 1 - i; Zhang et al. 2018 (arXiv:1710.09412)
    CutMix   a box of x_j in place of that of x_i         Yun et al. 2019 (arXiv:1905.04899)
    both     y_i = lam y_i + (1 - lam) y_j

lam is drawn from the beta distribution B(alpha, alpha), once for the batch. CutMix's box has the share 1 - lam of the
picture; where the border cuts it off, lam becomes the share of what is around it. Source: timm's `Mixup` with the
defaults of its `train.py` (mode "batch", `correct_lam`): the same numbers drawn give the same pixels and targets.
"""
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..errors import ArgumentError
from ..network.backward import label_targets


class Box(NamedTuple):
    """Rows top .. bottom - 1 and columns left .. right - 1."""

    top: int
    bottom: int
    left: int
    right: int


@dataclass(frozen=True)
class Mixup:
    """Mixes batches; call it with one."""

    mixup: float  # alpha of mixup, 0: none
    cutmix: float  # alpha of CutMix, 0: none; with both, each has half of the batches
    num_classes: int
    smoothing: float  # of the labels, before they are mixed

    def __call__(self, x: np.ndarray, classes: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Mixed pictures and their targets, float32 (N, M).

        x: float32 (N, H, W, C), which stays as it is; N is even
        classes: the right class of each picture, whole numbers (N,)

        Raises ArgumentError for an odd number of pictures.
        """
        if len(x) % 2:
            raise ArgumentError(f"a batch of {len(x)} pictures: mixup and CutMix mix pairs; choose an even batch size")
        targets = label_targets(classes, self.num_classes, self.smoothing)
        lam, cut = self.draw(rng)
        if lam == 1.0:
            return x, targets
        if cut:
            box, lam = draw_box(x.shape[1], x.shape[2], lam, rng)
            x = paste(x, box)
        else:
            x = blend(x, lam)
        return x, blend(targets, lam)

    def draw(self, rng: np.random.Generator) -> tuple[float, bool]:
        """(lam, whether it is for CutMix)."""
        rng.random()  # timm compares it with the probability of mixing at all, which is 1 here
        cut = self.cutmix > 0.0 and (self.mixup <= 0.0 or rng.random() < 0.5)
        alpha = self.cutmix if cut else self.mixup
        return float(rng.beta(alpha, alpha)), cut


def blend(values: np.ndarray, lam: float) -> np.ndarray:
    """float32 (N, ..) -> lam times each, and 1 - lam times the one in the mirrored place."""
    return values * np.float32(lam) + values[::-1] * np.float32(1.0 - lam)


def draw_box(height: int, width: int, lam: float, rng: np.random.Generator) -> tuple[Box, float]:
    """A box of the share 1 - lam with its centre anywhere, cut off at the border; (box, share of all around it)."""
    ratio = np.sqrt(1.0 - lam)
    rows, columns = int(height * ratio), int(width * ratio)
    y, x = int(rng.integers(height)), int(rng.integers(width))
    top, bottom = max(y - rows // 2, 0), min(y + (rows + 1) // 2, height)
    left, right = max(x - columns // 2, 0), min(x + (columns + 1) // 2, width)
    return Box(top, bottom, left, right), 1.0 - (bottom - top) * (right - left) / (height * width)


def paste(x: np.ndarray, box: Box) -> np.ndarray:
    """(N, H, W, C) with a box of each picture from the one in the mirrored place."""
    mixed, area = x.copy(), np.s_[:, box.top : box.bottom, box.left : box.right]
    mixed[area] = x[::-1][area]
    return mixed
