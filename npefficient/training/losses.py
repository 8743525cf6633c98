"""Cross-entropy with targets that are probabilities, and its gradient.

N pictures, M classes, logits z and targets y (N, M):

    log p = z - max z - log sum exp(z - max z)
    loss  = -1/N sum_n sum_m y log p
    dz    = 1/N (p sum_m y - y)

One formula for three losses of timm's `train.py`: `LabelSmoothingCrossEntropy` (y smoothed labels,
`network.backward.label_targets`), `SoftTargetCrossEntropy` (y from mixup) and plain cross-entropy (y 1 for the right
class).
"""
import math

import numpy as np

LOWEST = -746.0  # exp is 0 in float64 from here on
# The high part of log 2 ends in 21 zero bits, so that its product with a whole number of 11 bits is exact.
LOG2_HIGH, LOG2_LOW, PER_LOG2 = 0.693147180369123816490, 1.90821492927058770002e-10, 1.4426950408889634
TERMS = 14  # |x| <= log(2) / 2: the first term left out is 4e-18 of the sum


def cross_entropy(logits: np.ndarray, targets: np.ndarray) -> tuple[float, np.ndarray]:
    """Mean loss over the pictures, and its gradient with respect to the logits, in their dtype.

    logits float32 or float64 (N, M), targets (N, M), each row of which usually sums to 1. Computed in float64. The
    gradient has the same bits on every processor; the loss, which nothing depends on, may differ in the last.
    """
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    targets = targets.astype(np.float64)
    exps = exp(shifted)
    total = exps.sum(axis=1, keepdims=True)
    loss = -(targets * (shifted - np.log(total))).sum(axis=1).mean()
    gradient = (exps / total * targets.sum(axis=1, keepdims=True) - targets) / len(logits)
    return float(loss), gradient.astype(logits.dtype)


def exp(x: np.ndarray) -> np.ndarray:
    """e^x for float64 x <= 0 of any shape, within 2 ulp, with the same bits on every processor.

    NumPy's differs between processors in the last bit: it has code of its own for some vector units. Here x is
    n log 2 + r with a whole n, and e^r a Taylor polynomial: additions and multiplications alone.
    """
    x = np.maximum(x, LOWEST)
    n = np.rint(x * PER_LOG2)
    r = x - n * LOG2_HIGH - n * LOG2_LOW
    power = np.full_like(r, 1.0 / math.factorial(TERMS - 1))
    for k in reversed(range(TERMS - 1)):
        power = power * r + 1.0 / math.factorial(k)
    return np.ldexp(power, n.astype(np.int32))
