"""Accuracy: pure functions of scores, classes and counts."""
import math

import numpy as np

from ..common.checks import whole

Z95 = 1.959963984540054  # the normal distribution's 97.5 % point


def top_k_hits(scores, classes, k: int) -> np.ndarray:
    """Whether the right class is among the k best: scores (N, C), classes int (N,) -> bool (N,).

    Among equal scores the lower class comes first, as in `top_k`. Raises ArgumentError for k below 1.
    """
    k = whole("k", k, 1)
    scores, classes = np.asarray(scores), np.asarray(classes)
    own = np.take_along_axis(scores, classes[:, None], axis=1)
    earlier = np.arange(scores.shape[1]) < classes[:, None]
    return ((scores > own) | ((scores == own) & earlier)).sum(axis=1) < k


def wilson_interval(hits: int, total: int) -> tuple[float, float]:
    """Wilson's score interval of the true share with 95 % confidence, given `hits` of `total`.

    Wilson 1927 (doi 10.1080/01621459.1927.10502953): it stays within 0..1, and is sound for few trials and where all
    or none are hits. Returns (0, 1) without trials.
    """
    if total == 0:
        return 0.0, 1.0
    share, spread = hits / total, Z95**2 / total
    middle = (share + spread / 2) / (1 + spread)
    half = math.sqrt(spread * (share * (1 - share) + spread / 4)) / (1 + spread)
    return max(0.0, middle - half) if hits else 0.0, min(1.0, middle + half) if hits < total else 1.0


def confusion_matrix(classes, predictions, num_classes: int) -> np.ndarray:
    """Right class and prediction, int (N,) each, -> int64 (num_classes, num_classes): a row per right class."""
    cells = np.asarray(classes) * num_classes + np.asarray(predictions)
    return np.bincount(cells.astype(np.int64), minlength=num_classes**2).reshape(num_classes, num_classes)


def describe(hits: int, total: int) -> str:
    """Such as "45 of 50, 90.00% (78.64% to 95.65%)": counts, share and its 95 % interval."""
    low, high = wilson_interval(hits, total)
    share = f"{hits / total:.2%}" if total else "no photo"
    return f"{hits:,} of {total:,}, {share} ({low:.2%} to {high:.2%})"
