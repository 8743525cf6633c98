"""From logits to an answer."""
import numpy as np
from numpy.typing import ArrayLike

from .common.checks import real_array, whole
from .errors import ArgumentError


def softmax(logits: ArrayLike) -> np.ndarray:
    """(.., classes) -> (.., classes): probabilities that sum to 1, in the dtype of the logits."""
    logits = _scores("logits", logits, "fiu")
    shifted: np.ndarray = np.exp(logits - logits.max(axis=-1, keepdims=True))
    shifted /= shifted.sum(axis=-1, keepdims=True)
    return shifted


def top_k(scores: ArrayLike, k: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """The k largest values along the last axis, largest first; among equals the lower class comes first.

    scores (.., classes); returns (values (.., k), classes int64 (.., k)). A k above the number of classes gives all.
    """
    k, scores = whole("k", k, 1), _scores("scores", scores, "fiub")
    # Sorted upwards from the last class to the first, then read backwards: a minus sign would wrap unsigned numbers.
    backwards = np.argsort(scores[..., ::-1], axis=-1, kind="stable")[..., ::-1]
    classes = scores.shape[-1] - 1 - backwards[..., :k]
    return np.take_along_axis(scores, classes, axis=-1), classes


def _scores(what: str, values: ArrayLike, kinds: str) -> np.ndarray:
    """An array of real numbers with a last axis, of one class at least; lists of numbers may stand for it."""
    if not isinstance(values, np.ndarray):
        try:
            values = np.asarray(values)
        except ValueError as problem:  # lists of several lengths
            raise ArgumentError(f"{what}: they must be an array of real numbers ({problem})") from problem
    array = real_array(what, values, kinds)
    if not array.ndim or not array.shape[-1]:
        raise ArgumentError(f"{what} of shape {array.shape}: they must be (.., classes), of one class at least")
    return array
