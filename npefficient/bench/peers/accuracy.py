"""How far an engine in 8 bits is from the network in float32, on the photographs: nobody is fast by being wrong."""
import numpy as np

from ...errors import NpefficientError
from ..subject import Subject
from .photographs import PICTURES

LARGEST_ERROR = 0.5  # of the logits' deviation
LEAST_ERROR = 1e-3  # 8 bits can't do better, float32 is at about 1e-6


def logits_of(prepare, infer, subject: Subject, batch: int) -> np.ndarray:
    """The engine's logits for every photograph, (PICTURES, classes), computed in batches as they are timed."""
    count = -(-PICTURES // batch) * batch
    x = subject.input(count)
    found = [np.array(infer(prepare(x[i : i + batch]))) for i in range(0, count, batch)]
    return np.concatenate(found)[:PICTURES]


def accuracy(what: str, got: np.ndarray, expected: np.ndarray) -> dict:
    """The root of the mean squared error over the deviation of the expected logits, and how many classes are kept.

    Raises NpefficientError for logits of another shape, that are not finite, or that are not of 8 bits.
    """
    if got.shape != expected.shape or not np.isfinite(got).all():
        raise NpefficientError(f"{what}: WRONG RESULT, logits of shape {got.shape} where finite ones of shape "
                               f"{expected.shape} are expected; nothing is timed")
    error = float(np.sqrt(np.mean((got.astype(np.float64) - expected) ** 2)) / expected.std())
    if error < LEAST_ERROR:
        raise NpefficientError(f"{what}: WRONG RESULT, an error of {error:.1e} is one of float32, not of 8 bits; "
                               "nothing is timed")
    return {"error": error, "kept": int((got.argmax(1) == expected.argmax(1)).sum())}


def verdict(error: float, kept: int, random: bool) -> str:
    """What is wrong with an engine's logits; "" for nothing. The classes of `random` weights are decided by differences
    smaller than any rounding: they say nothing."""
    if not error <= LARGEST_ERROR:  # NaN compares false
        return "WRONG"
    return "" if random or kept == PICTURES else "class lost"
