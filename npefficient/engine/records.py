"""Records that Python and compiled code share: the counters of each step, the job of each thread.

    counters, one pair per step                      job, one per thread
       0  chunks claimed     (atomics.claim)            0  posted    incremented by the caller that posts a job
      64  chunks done        (atomics.finished)        64  done      incremented by the thread when it has left it
     128  the next step's                             128  addresses, counts and the run's number, 8 bytes each

Words that different threads write are a cache line (64 bytes) apart to avoid false sharing: a write to one would
invalidate the line for those that read the other.
"""
import numpy as np

from ..kernels.layout import CACHE_LINE

ARGUMENTS = 2  # of what `run.make_work` makes, both int64

# A counter is an int64: the lowest EPOCH_BITS bits count chunks, those above are the run's number ("epoch"). So a
# thread that is late by a whole run sees a different epoch, in the same atomic read as the count.
COUNTERS_SIZE = 2 * CACHE_LINE  # bytes per step
DONE = CACHE_LINE  # bytes from a step's first counter to its second
EPOCH_BITS = 24  # 16 million chunks per step and 2**39 runs: 17 years at 1 ms per run
STALE = -1  # instead of a chunk: the run is over
CANCELLED = -1  # instead of a job's epoch: no run has this number, so its thread finds every counter stale

_FIELDS = ("layout", "steps", "count", "start", "counters", "epoch", "weights", "arena", "picture", "scratch")

# A thread has work while posted != done. Once it has incremented `done`, it does not touch the job any more.
JOB = np.dtype({
    "names": ["posted", "done", *_FIELDS],
    "formats": [np.int64] * (2 + len(_FIELDS)),
    "offsets": [0, CACHE_LINE, *range(2 * CACHE_LINE, 2 * CACHE_LINE + 8 * len(_FIELDS), 8)],
    "itemsize": 4 * CACHE_LINE,
})
POSTED, DONE_JOBS = JOB.fields["posted"][1], JOB.fields["done"][1]

# Why the driver returns: no job was posted for a while, it waits for another thread, or the job is for the
# driver of a different layout.
IDLE, YIELD, FOREIGN = range(3)
