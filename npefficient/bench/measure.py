"""Time a call: warm up, then repeat it for a given time."""
import time
from dataclasses import dataclass

import numpy as np

WARM_UP = 0.25  # as a fraction of the measured time: caches, branch predictors and the clock frequency settle
FEWEST = 5  # runs at least, even if they take longer


@dataclass(frozen=True)
class Timing:
    """Seconds per call over `runs` calls."""

    runs: int
    minimum: float
    median: float
    p90: float
    p99: float


def summary(seconds) -> Timing:
    """The seconds of every call -> their minimum, median and percentiles."""
    median, p90, p99 = np.percentile(seconds, [50, 90, 99])
    return Timing(len(seconds), float(min(seconds)), float(median), float(p90), float(p99))


def measure(call, seconds: float, clock=time.perf_counter) -> Timing:
    """Repeat `call()` for about `seconds`, at least FEWEST times, after a warm-up; `clock()` returns seconds."""
    start = clock()
    while True:
        call()
        if clock() - start >= seconds * WARM_UP:
            break
    taken, start = [], clock()
    while len(taken) < FEWEST or clock() - start < seconds:
        before = clock()
        call()
        taken.append(clock() - before)
    return summary(taken)


def repeats_for(call, seconds: float, clock=time.perf_counter) -> int:
    """The number of repeats with which `call(repeats)` takes about `seconds`. Work that is shorter than the cost of the
    clock and the call must be repeated inside the call."""
    call(1)  # the first call may compile
    repeats = 1

    def once():
        before = clock()
        call(repeats)
        return clock() - before

    while True:
        taken = min(once() for _ in range(3))  # on a busy machine, one may be interrupted for longer than it takes
        if taken >= seconds / 4:
            return max(1, round(repeats * seconds / taken))
        repeats *= 4
