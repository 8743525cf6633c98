"""A program: run whole plans with all of the engine's memory against pages that may not be touched.

    python tests/helpers/fenced_engine.py sound
    python tests/helpers/fenced_engine.py arena|scratch|weights|picture  with a little less of it than asked for
"""
import sys

import numpy as np
from engines import assert_same_bits, engine, memory_from, pixels, weights
from guarded import Fenced
from layouts import VECTOR

from npefficient.engine.engine import Engine
from npefficient.engine.records import COUNTERS_SIZE, JOB

SIZES = [(1, 1), (1, 37), (41, 2), (33, 47), (64, 64), (97, 75)]


def run(at_end):
    """Run every case between fences, the weights included, which every picture reads whole; yields what was run."""
    def fenced(size):
        return Fenced(np.zeros(size // 4), at_end).array.view(np.uint8) if size else np.zeros(0, np.uint8)

    for variant in ("lite0", "lite2"):
        for threads in (1, 2):
            with memory_from(fenced):
                between = Engine(weights(variant, 10), threads)
                for height, width in SIZES:
                    x = Fenced(pixels(1, height, width, 3), at_end).array
                    yield variant, threads, height, width, between(x)


def too_short(what):
    """Run one picture with less of the arena, the scratch memory, the weights or the picture than there should be."""
    plain = Engine(weights("lite0", 10), 1)
    plan, x = plain.plan(40, 40), pixels(1, 40, 40, 3)
    sizes = {"arena": plan.arena_size, "scratch": plan.scratch_size, "weights": plain.packed.buffer.nbytes}
    assert len({*sizes.values(), JOB.itemsize, len(plan.steps) * COUNTERS_SIZE}) == 5  # each is known by its size

    def fenced(size):
        if size == 0:
            return np.zeros(0, np.uint8)
        less = 4 * VECTOR if size == sizes.get(what) else 0  # there is a gap behind the last plane
        if less and what == "scratch":
            less = size // 128 * 64  # and room for a panel of 3 where all may be of 2
        memory = Fenced(np.zeros((size - less) // 4), at_end=True).array.view(np.uint8)
        return np.lib.stride_tricks.as_strided(memory, (size,))

    with memory_from(fenced):
        e = Engine(weights("lite0", 10), 1) if what != "weights" else plain
        if what == "weights":  # packed by Python, which would meet the fence itself
            shorter = Fenced(plain.packed.buffer[: -4 * VECTOR // 4], at_end=True)
            object.__setattr__(e.packed, "buffer", shorter.array)
        if what == "picture":
            x = np.lib.stride_tricks.as_strided(Fenced(x.ravel()[:-1], at_end=True).array, x.shape, x.strides)
        print("about to run", flush=True)
        e(x)


def main(how):
    if how != "sound":
        too_short(how)
        sys.exit("the fence did not hold")
    count = 0
    for at_end in (True, False):
        for variant, _, height, width, got in run(at_end):
            assert_same_bits(got, engine(variant, 1, 10)(pixels(1, height, width, 3)))
            count += 1
    print(f"{count} runs between fences")


if __name__ == "__main__":
    main(sys.argv[1])
