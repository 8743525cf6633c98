"""A program: call every kernel and every tile at edge shapes, and compare each bit.

    every_kernel.py sound               between guards, then on buffers that touch forbidden pages, on either side
    every_kernel.py before | behind     one of these a float too far: the fence must end the process

It prints the lanes, what was called and how often.
"""
import itertools
import sys
from collections import Counter

import numpy as np
from guarded import Fenced, Guarded
from kernel_calls import (
    assert_bits,
    call_copy,
    call_depthwise,
    call_pointwise,
    call_pool,
    call_stem,
    call_zero,
    compiled_tiles,
    depthwise,
    depthwise_tiles,
    exact_depthwise,
    exact_pointwise,
    exact_pool,
    exact_stem,
    pointwise,
    pointwise_tiles,
    pool,
    stem_row,
    stem_tiles,
)
from layouts import LANES, VECTOR, largest_tile

FENCES = sys.platform == "linux"  # forbidden pages need its mprotect
RNG = np.random.default_rng(0)


def noise(*shape):
    return RNG.uniform(-4, 4, shape).astype(np.float32)


def every_pointwise(place):
    for p, c, m in [*((p, c, m) for p in (1, 2, 5, 13) for c, m in ((8, 8), (16, 24), (24, 56))),
                    *((p, 16, v * LANES - half * LANES // 2) for v, half, p in pointwise_tiles()),
                    *((largest_tile(v) + 1, 8, v * LANES) for v in (1, 2, 3))]:
        sizes = [-(-m // LANES)] if m <= 3 * LANES else None
        for relu6, residual in ((True, None), (False, None), (False, noise(p, m))):
            arguments = noise(p, c), noise(m, c), noise(m), relu6, residual
            yield "pointwise", call_pointwise(place, *arguments, sizes), exact_pointwise(*arguments)


def every_depthwise(place):
    shapes = [((2, p * s), k, s, LANES) for k, s, p in depthwise_tiles()]
    shapes += itertools.product([(1, 1), (3, 4), (6, 5), (1, 9), (1, 18), (4, 17)], (3, 5), (1, 2), (8, 24))
    for size, k, s, c in shapes:
        arguments = noise(*size, c), noise(c, 1, k, k), noise(c), s
        yield "depthwise", call_depthwise(place, *arguments), exact_depthwise(*arguments)


def every_stem(place):
    widths = [2 * (p + 1) for v, p in stem_tiles()]  # an even one has all taps but the last output's
    for size in [*((3, w) for w in widths), (1, 1), (1, 2), (2, 1), (6, 5), (4, 13), (3, 40)]:
        for c in (1, 3, 4):
            arguments = noise(*size, c), noise(32, c, 3, 3), noise(32)
            yield "stem", call_stem(place, *arguments), exact_stem(*arguments)


def every_kernel(place):
    """Yields (name, got, expected) of every call."""
    yield from every_pointwise(place)
    yield from every_depthwise(place)
    yield from every_stem(place)
    for p, c in ((1, 8), (2, LANES), (49, 24)):
        for how in range(3):
            x = noise(p, c)
            yield "pool", call_pool(place, x, how), exact_pool(x, how)
    for count in (1, 2, 9):
        x = noise(count, LANES)
        yield "copy", call_copy(place, x), x
        yield "zero", call_zero(place, count), np.zeros((count, LANES), np.float32)


def call_all(place):
    """Call and compare all; what was called, and how often."""
    called = Counter()
    for name, got, expected in every_kernel(place):
        called[name] += 1
        assert_bits(got, expected)
    for routine, tiles in ((pointwise, pointwise_tiles()), (depthwise, depthwise_tiles()), (stem_row, stem_tiles())):
        assert compiled_tiles(routine) == tiles, "not every tile was called"
    return " ".join(f"{name} {called[name]}" for name in sorted(called))


def go_too_far(where):
    """Let the pooling kernel read one float before or behind its array."""
    x, out = Fenced(np.ones((5, LANES)), at_end=where == "behind"), Fenced(np.ones(LANES), at_end=True)
    pool(0, x.address, VECTOR, 5, out.address, VECTOR, 1)
    print("about to read too far", flush=True)
    pool(0, x.address + (4 if where == "behind" else -4), VECTOR, 5, out.address, VECTOR, 1)
    sys.exit("the fence did not hold")


def main(how):
    if how == "sound":
        print(LANES, call_all(Guarded))
        for at_end in (True, False) if FENCES else ():
            print(LANES, call_all(lambda array: Fenced(array, at_end)))
    else:
        go_too_far(how)


if __name__ == "__main__":
    main(sys.argv[1])
