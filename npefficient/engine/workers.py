"""Worker threads that take part in a caller's runs.

    caller                                         worker (a thread of its own, one job record)
    ------                                         --------------------------------------------
    ask:     fill the record, posted += 1  ----->  sees posted != done, walks the steps of the run:
    finish:  walks the same steps, claims  <---->  claims a chunk, computes it, counts it done,
             chunks, waits at each step            waits until the step is done, goes on
             until all its chunks are done         |
             |                                     nothing left to claim: done += 1
    release: drops the run's arrays                spins for 2 ms: is there a next job?
                                                   sleeps until `_wake` is released by the next `post`

             if a step makes no progress for 1 ms:
    cancel:  epoch = CANCELLED             ----->  once its chunk is computed, finds every counter stale:
             no workers for 5 to 100 ms            leaves, done += 1

Workers are ordinary Python threads in compiled code that has released the interpreter's lock, so calls from many
threads at once are safe on every platform. The caller computes too and can do all of the work alone: a late worker
finds nothing left to claim. So a busy machine only costs parallelism. The caller waits for nothing except chunks that a
worker has claimed. It can't compute such a chunk again, because a chunk may add to what it overwrites.

Interruptions:
- An exception, such as Ctrl-C, can end the caller's part between any two lines. Its workers finish that run; their jobs
  keep its arrays alive until then (`Job.post`), and no other run gets them.
- A forked child has one thread, no workers, and locks that may be held forever: it starts with a new pool.
- When the process ends, no worker may be in compiled code (`WorkerPool.stop`).
"""
import atexit
import math
import os
import threading
import time

from ..kernels.layout import FLOAT32, Layout
from ..kernels.memory import aligned
from . import cpus
from .compiled import driver
from .records import CANCELLED, IDLE, JOB, YIELD

# Seconds for which a worker spins for its next job before it sleeps. Waking it costs the call 0.7 to 1.2 ms (measured
# with lite0 on two cores of a Zen 4: 1.7 ms if the worker spins, 2.4 to 2.9 ms if it sleeps). Spinning for about as
# long as waking takes is near the best choice, whenever the next call comes: Karlin et al. 1991, "Empirical studies of
# competitive spinning for a shared-memory multiprocessor", SOSP, pages 41-55.
SPIN_SECONDS = 0.002

# Seconds without progress after which workers count as stuck: other programs use their processors. A chunk takes about
# 0.05 ms in lite0 and 0.5 ms in lite4 at their own sizes (at most 11 and 53 MFLOP, on two threads at 100 GFLOP/s each);
# a worker that has lost its processor is away for a time slice of the system, some milliseconds. A chunk of a training
# step takes milliseconds itself: there, a worker is waited for, and if it is away, it gets no part in the next step.
STUCK = 0.001

# Seconds without workers after that, doubled up to the maximum. The next attempt may waste STUCK again: a sixth of the
# time with the first value, 1 % with the second.
BACKOFF, MAX_BACKOFF = 0.005, 0.1

TRIAL_SPINS = 1 << 10  # to measure how long one takes: 10 to 100 us in all


class Job:
    """One thread's record, and a reference that keeps the arrays alive that it points into."""

    def __init__(self, layout: Layout = FLOAT32):
        self.record = aligned(JOB.itemsize).view(JOB)[0:1]
        self.address = self.record.ctypes.data
        self.scratch = aligned(0)
        self.layout = layout  # of the last run, which tells the driver for it
        self.holds = None

    def fill(self, run) -> None:
        """Write the record for a run (`engine.Run`), from its first step on."""
        if len(self.scratch) < run.plan.scratch_size:
            self.scratch = aligned(run.plan.scratch_size)
        one = self.record[0]
        for field, value in run.fields.items():
            one[field] = value
        one["start"], one["scratch"] = 0, self.scratch.ctypes.data
        self.layout = run.packed.layout

    def post(self, run) -> None:
        """Hand over the filled record, and keep the run's arrays alive from now on.

        `fill` can't do that: a job counts as free until it is posted, and `release` would drop the arrays.
        """
        self.holds = run
        self.record["posted"] += 1

    def cancel(self) -> None:
        """Make the thread leave after its current chunk: it reads the epoch again for each claim and each wait."""
        self.record["epoch"] = CANCELLED

    def start(self) -> int:
        """The step to continue from."""
        return int(self.record["start"][0])

    def is_free(self) -> bool:
        """True if the thread has left the last job."""
        return bool(self.record["posted"][0] == self.record["done"][0])

    def release(self) -> None:
        """Drop the last job's arrays, if the thread has left it."""
        if self.is_free():
            self.holds = None


class _Worker:
    """One thread and its job.

    `_lock` is held for a few lines at a time, by callers and by the thread, never while it computes or sleeps. The
    thread sleeps by acquiring `_wake`; a caller that finds `_asleep` set releases it.
    """

    def __init__(self, layout: Layout):
        """layout: of the first run, to have its driver at hand."""
        self.job, self.ended = Job(layout), False
        self._lock, self._asleep, self._wake = threading.Lock(), False, threading.Lock()
        self._wake.acquire()
        self.thread = threading.Thread(target=self._serve, name="npefficient", daemon=True)
        self.thread.start()

    def post(self, run) -> None:
        """Give a run to the thread, which must be free."""
        with self._lock:
            self.job.fill(run)
        # NumPy's stores are plain ones, which a weakly ordered processor (ARM) may make visible in any order: the
        # thread could see the new `posted` beside old fields. Releasing the lock and taking it again keeps the stores
        # above before those below; the thread reads `posted` with acquire order (`atomics.atomic_load`).
        with self._lock:
            if self._asleep:
                cpus.avoid_current(self.thread.native_id)
                self._wake_up()
            self.job.post(run)  # last: an interrupt before this line has only woken the thread for nothing

    def release(self) -> None:
        """Drop the last run's arrays, if the thread has left it."""
        with self._lock:
            self.job.release()

    def end(self) -> None:
        """Make the thread end as soon as it has left its job, even if the caller that was to wake it was interrupted.
        """
        self.ended = True
        with self._lock:
            self._wake_up()

    def _wake_up(self) -> None:
        if self._wake.locked():  # waking it once too often is harmless: it finds nothing to do and sleeps again
            self._wake.release()
        self._asleep = False  # last, in case of an interrupt: the next `post` then wakes it once more

    def _serve(self) -> None:
        spins = self._spins()
        while not self.ended:
            why = driver(self.job.layout)(self.job.address, spins)
            if why == YIELD:
                yield_processor()
            elif why == IDLE:
                self._sleep()

    def _spins(self) -> int:
        """The number of spins that take SPIN_SECONDS.

        It has to be measured: x86's PAUSE takes 10 cycles before Skylake and 140 since (Intel's optimization manual),
        and other processors may have no such instruction (`atomics.relax`).
        """
        work, nothing, shortest = driver(self.job.layout), Job(), math.inf
        for _ in range(3):  # a trial that is preempted takes too long
            start = time.perf_counter()
            work(nothing.address, TRIAL_SPINS)
            shortest = min(shortest, time.perf_counter() - start)
        return max(1, int(TRIAL_SPINS * SPIN_SECONDS / shortest))

    def _sleep(self) -> None:
        allowed = cpus.affinity()  # before a caller can find the thread asleep and take a processor from the set
        with self._lock:  # jobs are posted under this lock: either this thread sees the job, or its caller `_asleep`
            self.job.release()
            sleeps = self._asleep = self.job.is_free() and not self.ended
        if sleeps:
            self._wake.acquire()
            cpus.set_affinity(threading.get_native_id(), allowed)  # undo `cpus.avoid_current`


class WorkerPool:
    """The workers of this process, started on demand and shared by all models."""

    def __init__(self):
        self._lock = threading.Lock()
        self._workers: list[_Worker] = []
        self._backoff, self._resume, self._stopped = BACKOFF, 0.0, False

    def ask(self, runs) -> list[_Worker]:
        """Give each of these runs to a free worker, as far as there are any; returns those workers."""
        if self._stopped or time.perf_counter() < self._resume:
            return []
        with self._lock:  # else two callers could choose the same worker
            while len(self._workers) < len(runs) and not self._stopped and self._start(runs[0].packed.layout):
                pass
            free = [worker for worker in self._workers if worker.job.is_free()][: len(runs)]
            for worker, run in zip(free, runs):
                worker.post(run)
        return free

    def cancel(self, workers: list[_Worker]) -> None:
        """Cancel these workers, which are stuck, and do without any for a while (exponential backoff).

        The time doubles if workers are stuck again within ten times the last backoff, else it starts from BACKOFF.
        """
        for worker in workers:
            worker.job.cancel()
        now = time.perf_counter()
        too_short = now - self._resume < 10 * self._backoff
        self._backoff = min(2 * self._backoff, MAX_BACKOFF) if too_short else BACKOFF
        self._resume = now + self._backoff

    def _start(self, layout: Layout) -> bool:
        try:
            self._workers.append(_Worker(layout))
        except RuntimeError:  # a limit on threads: go on with fewer
            return False
        return True

    def stop(self) -> None:
        """End all workers, so that none is in compiled code while the interpreter shuts down, and start no more.

        A thread that is started while the interpreter shuts down never runs: its starter would wait forever.
        """
        with self._lock:
            self._stopped = True
            workers, self._workers = self._workers, []
        for worker in workers:
            worker.end()
        for worker in workers:
            worker.thread.join()


pool = WorkerPool()
atexit.register(lambda: pool.stop())  # looks `pool` up at exit: a forked child has a new one


def _start_anew() -> None:
    """In a forked child, where the old pool's threads are gone."""
    global pool
    pool = WorkerPool()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_anew)


def ask(runs) -> list[_Worker]:
    """Ask workers of this process to take part in these runs, one in each; returns those that do."""
    return pool.ask(runs)


def finish(work, job: Job, workers: list[_Worker]) -> list[_Worker]:
    """Do a posted job in this thread with `work` (the driver); returns the workers that are not cancelled.

    They are cancelled if the job stays at one step for longer than STUCK. The driver spins for a fraction of a
    millisecond before it returns: `run.SPINS`.
    """
    stuck = math.inf if job.layout.training else STUCK
    step, since = None, 0.0
    while work(job.address, 0) == YIELD:  # a worker still has a chunk of the step
        if job.start() != step:
            step, since = job.start(), time.perf_counter()
        elif workers and time.perf_counter() - since > stuck:
            pool.cancel(workers)
            workers = []  # cancel only once; the loop still waits for their current chunks
        yield_processor()
    return workers


def yield_processor() -> None:
    """Yield to threads that wait for the interpreter's lock, and to those that wait for this processor.

    Under Linux it sleeps for the system's timer slack, 50 us (78 us were measured); before Python 3.11 it only releases
    the lock.
    """
    time.sleep(0)
