"""From logits to an answer."""
import numpy as np
from numpy.typing import ArrayLike

from .errors import ArgumentError


def softmax(logits: ArrayLike) -> np.ndarray:
    """(.., classes) -> (.., classes): probabilities that sum to 1, in the dtype of the logits."""
    logits = np.asarray(logits)
    shifted: np.ndarray = np.exp(logits - logits.max(axis=-1, keepdims=True))
    shifted /= shifted.sum(axis=-1, keepdims=True)
    return shifted


def top_k(scores: ArrayLike, k: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """The k largest values along the last axis, largest first; among equals the lower class comes first.

    scores (.., classes); returns (values (.., k), classes int64 (.., k)). A k above the number of classes gives all.
    """
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or k < 1:
        raise ArgumentError(f"k {k!r}: it must be a whole number of at least 1")
    scores = np.asarray(scores)
    # Sorted upwards from the last class to the first, then read backwards: a minus sign would wrap unsigned numbers.
    backwards = np.argsort(scores[..., ::-1], axis=-1, kind="stable")[..., ::-1]
    classes = scores.shape[-1] - 1 - backwards[..., :k]
    return np.take_along_axis(scores, classes, axis=-1), classes
