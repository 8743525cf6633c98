"""What a thread is to do: one record that Python fills and compiled code reads (`run.py`).

A job is handed over by counting `posted` up; the thread that does it counts `done` up when it has left, and touches
nothing of it from then on. Everything else are addresses, counts and the run's number.
"""
import numpy as np

_LINE = 64  # bytes: two threads look at `posted` and `done`, so each has a cache line of its own
_REST = ("steps", "count", "start", "counters", "epoch", "weights", "arena", "picture", "scratch")

JOB = np.dtype({
    "names": ["posted", "done", *_REST],
    "formats": [np.int64] * (2 + len(_REST)),
    "offsets": [0, _LINE, *range(2 * _LINE, 2 * _LINE + 8 * len(_REST), 8)],
    "itemsize": 4 * _LINE,
})
POSTED, DONE_JOBS = JOB.fields["posted"][1], JOB.fields["done"][1]

IDLE, GIVE_WAY = range(2)  # why a thread comes back: nothing was posted for a while, or it waits for another thread
