"""Compare a result with the expected one, before anything is timed."""
import numpy as np

from ..errors import NpefficientError

# The `length` to use for a whole network: it gives a tolerance of 2e-5 * max(1, largest logit).
LOGITS = 1758


def tolerance(length: int, largest: float) -> float:
    """The error allowed to float32 sums of `length` products whose largest result is `largest`.

    4 eps sqrt(length) max(1, largest): roundings add up like sqrt(n) (Higham & Mary 2019, doi 10.1137/18M1226312).
    """
    return 4.0 * float(np.finfo(np.float32).eps) * length**0.5 * max(1.0, largest)


def verify(what: str, got, expected, length: int, slack: float = 1.0) -> float:
    """Return the largest difference; raises NpefficientError if it exceeds `slack` tolerances, or is NaN."""
    got, expected = np.asarray(got), np.asarray(expected)
    if got.shape != expected.shape:
        raise NpefficientError(f"{what}: WRONG RESULT, shape {got.shape} instead of {expected.shape}; nothing is timed")
    difference = float(np.abs(got.astype(np.float64) - expected).max())
    allowed = slack * tolerance(length, float(np.abs(expected).max()))
    if not difference <= allowed:  # NaN compares false
        raise NpefficientError(f"{what}: WRONG RESULT, it differs by {difference:.3g} where {allowed:.3g} is allowed; "
                               "nothing is timed")
    return difference
