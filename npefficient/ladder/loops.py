"""1x1 convolution as loops in Python and in plain Numba: the lower rungs of `pointwise`, which has the formula.

Every function takes x (P, K), weight (M, K) unless it says otherwise, bias (M,), relu6 (bool), residual (P, M) or
(0, M) for none, and writes out (P, M); all float32.
"""
import numpy as np
from numba import njit

ZERO, SIX = np.float32(0), np.float32(6)  # Numba would turn Python ints into float64


# --- plain loops: the formula ----------------------------------------------------------------------------------------


def plain_loops(x, weight, bias, relu6, residual, out):
    """One sum at a time, whose products are added in order."""
    for p in range(x.shape[0]):
        for m in range(weight.shape[0]):
            total = bias[m]
            for k in range(x.shape[1]):
                total += x[p, k] * weight[m, k]
            if relu6:
                total = min(max(total, ZERO), SIX)
            if len(residual):
                total += residual[p, m]
            out[p, m] = total


# --- compiled loops, fused multiply-adds: the same function as machine code, without and with FMA --------------------

compiled_loops = njit(plain_loops)
fused_multiply_adds = njit(fastmath={"contract"})(plain_loops)  # a multiplication and an addition may become one FMA


# --- four sums: four output channels at a time -----------------------------------------------------------------------


@njit
def finish(total, p, m, relu6, residual, out):
    """Store one sum, as the formula says."""
    if relu6:
        total = min(max(total, ZERO), SIX)
    if len(residual):
        total += residual[p, m]
    out[p, m] = total


@njit(fastmath={"contract"})
def four_sums(x, weight, bias, relu6, residual, out):
    """5 loads for 4 FMAs. Beyond the last channel, it is taken again."""
    last = weight.shape[0] - 1
    for p in range(x.shape[0]):
        for m in range(0, weight.shape[0], 4):
            m1, m2, m3 = min(m + 1, last), min(m + 2, last), min(m + 3, last)
            a, b, c, d = bias[m], bias[m1], bias[m2], bias[m3]
            for k in range(x.shape[1]):
                a += x[p, k] * weight[m, k]
                b += x[p, k] * weight[m1, k]
                c += x[p, k] * weight[m2, k]
                d += x[p, k] * weight[m3, k]
            finish(a, p, m, relu6, residual, out)
            finish(b, p, m1, relu6, residual, out)
            finish(c, p, m2, relu6, residual, out)
            finish(d, p, m3, relu6, residual, out)


# --- register block: two pixels by four output channels --------------------------------------------------------------


@njit(fastmath={"contract"})
def register_block(x, weight, bias, relu6, residual, out):
    """6 loads for 8 FMAs. Beyond the last pixel, too, it is taken again."""
    last = weight.shape[0] - 1
    for p in range(0, x.shape[0], 2):
        q = min(p + 1, x.shape[0] - 1)
        for m in range(0, weight.shape[0], 4):
            m1, m2, m3 = min(m + 1, last), min(m + 2, last), min(m + 3, last)
            a, b, c, d = bias[m], bias[m1], bias[m2], bias[m3]
            e, f, g, h = a, b, c, d
            for k in range(x.shape[1]):
                a += x[p, k] * weight[m, k]
                b += x[p, k] * weight[m1, k]
                c += x[p, k] * weight[m2, k]
                d += x[p, k] * weight[m3, k]
                e += x[q, k] * weight[m, k]
                f += x[q, k] * weight[m1, k]
                g += x[q, k] * weight[m2, k]
                h += x[q, k] * weight[m3, k]
            finish(a, p, m, relu6, residual, out)
            finish(b, p, m1, relu6, residual, out)
            finish(c, p, m2, relu6, residual, out)
            finish(d, p, m3, relu6, residual, out)
            finish(e, q, m, relu6, residual, out)
            finish(f, q, m1, relu6, residual, out)
            finish(g, q, m2, relu6, residual, out)
            finish(h, q, m3, relu6, residual, out)


# --- lanes over channels: output channels innermost ------------------------------------------------------------------


@njit(fastmath={"contract"})
def lanes_over_channels(x, weight, bias, relu6, residual, out):
    """weight (K, M). For each vector FMA 2 loads (weight, sum) and 1 store (sum)."""
    for p in range(x.shape[0]):
        out[p] = bias
        for k in range(x.shape[1]):
            for m in range(weight.shape[1]):
                out[p, m] += x[p, k] * weight[k, m]
        for m in range(weight.shape[1]):
            if relu6:
                out[p, m] = min(max(out[p, m], ZERO), SIX)
            if len(residual):
                out[p, m] += residual[p, m]
