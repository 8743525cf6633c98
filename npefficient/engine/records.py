"""What Python writes and compiled code reads and counts in: the counters of each step, the job of each thread.

    counters, one pair a step                        job, one a thread
       0  chunks claimed     (atomics.claim)            0  posted    counted up by who hands the job over
      64  chunks done        (atomics.finished)        64  done      counted up by the thread that has left it
     128  the next step's                             128  addresses, counts and the run's number, 8 bytes each

What different threads write is 64 bytes apart, a cache line: else each write to one would take the line away from who
reads the other.
"""
import numpy as np

LINE = 64  # bytes of a cache line on x86 and on most ARM cores

# A counter is an int64: the run's number ("epoch") above the lowest EPOCH_BITS bits, in which the chunks are counted. A
# thread that is late by a whole run so finds another epoch, in the same word and the same read as the count.
COUNTERS_SIZE = 2 * LINE  # bytes per step
DONE = LINE  # bytes from a step's first counter to its second
EPOCH_BITS = 24  # 16 million chunks a step, and 2**39 runs: an endless server at 1 ms a run takes 17 years
STALE = -1  # instead of a chunk: the run is over
CANCELLED = -1  # instead of a job's epoch: the number of no run, so that its thread finds every counter stale

_FIELDS = ("steps", "count", "start", "counters", "epoch", "weights", "arena", "picture", "scratch")

# A thread has something to do while posted != done. Once it has counted `done` up, it touches nothing of the job.
JOB = np.dtype({
    "names": ["posted", "done", *_FIELDS],
    "formats": [np.int64] * (2 + len(_FIELDS)),
    "offsets": [0, LINE, *range(2 * LINE, 2 * LINE + 8 * len(_FIELDS), 8)],
    "itemsize": 4 * LINE,
})
POSTED, DONE_JOBS = JOB.fields["posted"][1], JOB.fields["done"][1]

IDLE, YIELD = range(2)  # why the driver returns: no job was posted for a while, or it waits for another thread
