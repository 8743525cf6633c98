"""The counters beside the table of steps: what Python prepares and the compiled driver counts in (`atomics.py`).

Each step has two of them, int64 words of chunks claimed and chunks done, each on a cache line of its own. Above the
lowest EPOCH_BITS bits stands the number of the run.
"""
COUNTERS_SIZE = 128  # bytes per step
DONE = 64  # bytes from a step's first counter to its second
EPOCH_BITS = 24  # 16 million chunks a step, and 2**39 runs: an endless server at 1 ms a run takes 17 years
STALE = -1  # instead of a chunk: the run is over
