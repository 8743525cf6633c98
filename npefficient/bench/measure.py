"""Time a call: warm up, then repeat it for some seconds."""
import time
from dataclasses import dataclass

import numpy as np

WARM_UP = 0.25  # of the seconds that are measured: caches, branch predictors and the clock frequency settle
FEWEST = 5  # runs, however long one takes


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
    """How often to repeat within `call(repeats)` so that it takes about `seconds`: what is shorter than the clock's and
    the call's own cost has to be repeated inside."""
    call(1)  # the first call may compile
    repeats = 1
    while True:
        before = clock()
        call(repeats)
        taken = clock() - before
        if taken >= seconds / 4:
            return max(1, round(repeats * seconds / taken))
        repeats *= 4
