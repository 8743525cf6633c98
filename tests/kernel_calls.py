"""Each kernel called on arrays as a learner would write them; `place` decides where in memory they lie.

    place(array) -> an object with .array, .address and .check(), see `guarded`

Weights come in torch's layout and are packed here, by the formats that the kernels' docstrings state. Run as a program,
it calls every kernel on buffers that touch forbidden pages (`sound`), or one of them a float too far (`before`, `behind`).
"""
import sys

import numpy as np
from guarded import Fenced
from numba import njit

from npefficient.kernels.depthwise import depthwise_row
from npefficient.kernels.pointwise import pointwise
from npefficient.kernels.pool import POOL
from npefficient.kernels.stem import stem_row

RELU6, LINEAR = np.float32([0, 6]), np.float32([-np.inf, np.inf])


def poisoned(*shape):
    return np.full(shape, np.nan, np.float32)


def checked(out, *inputs):
    """The result, after a look at the guards and at the inputs, which a kernel leaves alone."""
    for placed, before in inputs:
        placed.check()
        assert placed.array.tobytes() == before.tobytes(), "a kernel changed its input"
    out.check()
    return out.array.copy()


def place_all(place, *arrays):
    return [(place(array), np.asarray(array, np.float32)) for array in arrays]


def panels_of(weight):
    """(M, C) -> 1-D [panel][C][16], the last panel with 8 where M is an odd multiple of 8."""
    return np.concatenate([weight[m : m + 16].T.ravel() for m in range(0, len(weight), 16)])


def call_pointwise(place, x, weight, bias, bounds, residual=None, panels=None):
    """x (P, C), weight (M, C), bias (M,), residual (P, M) or None, panels [(first, last), ..] -> (P, M)."""
    (p, c), m = x.shape, len(weight)
    inputs = place_all(place, x, panels_of(weight), bias, bounds, *([] if residual is None else [residual]))
    out = place(poisoned(p, m))
    addresses = [placed.address for placed, _ in inputs]
    added = addresses[4] if residual is not None else 8  # an address that can't be read
    for first, last in panels or [(0, -(-m // 16))]:
        pointwise(addresses[0], c, *addresses[1:4], int(residual is not None), added, out.address, m, p, first, last)
    return checked(out, *inputs)


def padding_before(size, kernel, stride):
    return max((-(-size // stride) - 1) * stride + kernel - size, 0) // 2


def call_depthwise(place, x, weight, bias, bounds, stride):
    """x (H, W, C), weight (C, 1, K, K), bias (C,) -> (Q, R, C)."""
    (h, w, c), kernel = x.shape, weight.shape[-1]
    return call_rows(depthwise_row, place, x, weight.transpose(2, 3, 1, 0), bias, bounds, h, w, c, c, kernel, stride)


def call_stem(place, x, weight, bias, bounds):
    """x (H, W, C), weight (32, C, 3, 3), bias (32,) -> (Q, R, 32)."""
    return call_rows(stem_row, place, x, weight.transpose(2, 3, 1, 0), bias, bounds, *x.shape, 32, 3, 2)


def call_rows(kernel_row, place, x, weight, bias, bounds, h, w, c, m, kernel, stride):
    q, r = -(-h // stride), -(-w // stride)
    inputs, out = place_all(place, x, weight, bias, bounds), place(poisoned(q, r, m))
    a = [placed.address for placed, _ in inputs]
    top, left = padding_before(h, kernel, stride), padding_before(w, kernel, stride)
    for row in range(q):
        kernel_row(a[0], h, w, c, *a[1:], out.address + row * r * m * 4, row, r, kernel, stride, top, left)
    return checked(out, *inputs)


@njit
def pool(x, pixel, pixels, share, out, vectors):
    POOL(x, pixel, pixels, share, out, vectors)


def call_pool(place, x):
    """x (P, C) -> (C,)."""
    inputs, out = place_all(place, x, np.float32([1 / len(x)])), place(poisoned(x.shape[1]))
    pool(inputs[0][0].address, x.shape[1] * 4, len(x), inputs[1][0].address, out.address, x.shape[1] // 8)
    return checked(out, *inputs)


# --- forbidden pages -------------------------------------------------------------------------------------------------


def every_kernel(place):
    """Call every kernel and every tile at edge shapes; yields what was called."""
    rng = np.random.default_rng(0)

    def noise(*shape):
        return rng.uniform(-1, 1, shape).astype(np.float32)

    for p in (1, 2, 3, 6, 7, 11):
        for c, m in ((8, 8), (16, 24), (24, 16)):
            for residual in (None, noise(p, m)):
                call_pointwise(place, noise(p, c), noise(m, c), noise(m), LINEAR, residual)
                yield "pointwise"
    for size in ((1, 1), (1, 2), (2, 1), (3, 4), (6, 5), (4, 13), (3, 22)):
        for k in (3, 5):
            for stride in (1, 2):
                for c in (8, 40):
                    call_depthwise(place, noise(*size, c), noise(c, 1, k, k), noise(c), RELU6, stride)
                    yield "depthwise"
        for c in (1, 3, 4):
            call_stem(place, noise(*size, c), noise(32, c, 3, 3), noise(32), RELU6)
            yield "stem"
        call_pool(place, noise(size[0] * size[1], 16))
        yield "pool"


def main(how):
    if how != "sound":  # one float more than there is: the fence must end this process
        x, out = Fenced(np.ones((5, 8)), at_end=how == "behind"), Fenced(np.ones(8), at_end=True)
        print("about to read too far", flush=True)
        pool(x.address + (4 if how == "behind" else -4), 32, 5, x.address, out.address, 1)
        sys.exit("the fence did not hold")
    for at_end in (True, False):
        called = list(every_kernel(lambda array: Fenced(array, at_end)))
        print(*(f"{name} {called.count(name)}" for name in sorted(set(called))))


if __name__ == "__main__":
    main(sys.argv[1])
