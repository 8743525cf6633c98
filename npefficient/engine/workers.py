"""Worker threads that take part in a caller's runs.

    caller                                         worker (a thread of its own, one job record)
    ------                                         --------------------------------------------
    ask:     fill the record, posted += 1  ----->  sees posted != done, walks the steps of the run:
    finish:  walks the same steps, claims  <---->  claims a chunk, computes it, counts it done,
             chunks, waits at each step            waits until the step is done, goes on
             until all its chunks are done         |
             |                                     nothing left to claim: done += 1
    release: drops the run's arrays                spins for 2 ms: is there another job?
                                                   sleeps until `_wake` is released by the next `post`

             where a step is not done for 1 ms:
    cancel:  epoch = CANCELLED             ----->  finds every counter stale, once its chunk is computed:
             no workers for 5 to 100 ms            leaves, done += 1

Workers are ordinary Python threads inside compiled code that has released the interpreter's lock, so calls from many
threads at once are safe on every platform. The caller computes too and can do all of the work alone: a worker that
comes late finds nothing left to claim. So a busy machine costs parallelism; the caller waits for one thing alone, a
chunk that a worker has claimed. That chunk can't be done twice, as it may add to what it overwrites.

What may come in between:
- An exception, such as Ctrl-C, ends the caller's part between any two lines. Its workers compute that run to its end;
  their jobs keep its arrays alive until then (`Job.post`), and no other run gets them.
- A fork gives the child one thread, no workers, and locks that may be held for ever: it starts with a new pool.
- At the end of the process no worker may be in compiled code (`WorkerPool.stop`).
"""
import atexit
import math
import os
import threading
import time

from ..kernels.memory import aligned
from . import cpus
from .compiled import driver
from .records import CANCELLED, JOB, YIELD

# Seconds for which a worker spins for its next job before it sleeps. To wake it costs the call 0.7 to 1.2 ms (measured
# with lite0 on two cores of a Zen 4: 1.7 ms beside a worker that spins, 2.4 to 2.9 ms beside one that sleeps). To spin
# for about as long as that costs little more than the best choice, whenever the next call comes: Karlin et al. 1991,
# "Empirical studies of competitive spinning for a shared-memory multiprocessor", SOSP, pages 41-55.
SPIN_SECONDS = 0.002

# Seconds without progress after which workers count as stuck: other programs want their processors. A chunk takes some
# 0.05 ms of lite0 and 0.5 ms of lite4 at their own sizes (at most 11 and 53 MFLOP, on two threads at 100 GFLOP/s each);
# a worker that has lost its processor is away for a time slice of the system's, some milliseconds.
STUCK = 0.001

# Seconds without workers after that, doubled up to the maximum. The next attempt may cost STUCK in vain: a sixth of the
# time with the first of them, 1 % with the second.
BACKOFF, MAX_BACKOFF = 0.005, 0.1

TRIAL_SPINS = 1 << 10  # to find out how long one takes: some 10 to 100 us in all


class Job:
    """One thread's record, and what keeps alive the arrays that it points into."""

    def __init__(self):
        self.record = aligned(JOB.itemsize).view(JOB)[0:1]
        self.address = self.record.ctypes.data
        self.scratch = aligned(0)
        self.holds = None

    def fill(self, run) -> None:
        """Take part in a run (`engine.Run`) from its first step on."""
        if len(self.scratch) < run.plan.scratch_size:
            self.scratch = aligned(run.plan.scratch_size)
        one = self.record[0]
        for field, value in run.fields.items():
            one[field] = value
        one["start"], one["scratch"] = 0, self.scratch.ctypes.data

    def post(self, run) -> None:
        """Hand over what `fill` has written, and keep the run's arrays alive from now on.

        Not from `fill` on: until the job is posted it counts as free, and `release` would drop them.
        """
        self.holds = run
        self.record["posted"] += 1

    def cancel(self) -> None:
        """Let the thread leave after the chunk that it is in: it reads the epoch again for each claim and each wait."""
        self.record["epoch"] = CANCELLED

    def start(self) -> int:
        """The step to go on with."""
        return int(self.record["start"][0])

    def is_free(self) -> bool:
        """True where the thread has left the last job."""
        return bool(self.record["posted"][0] == self.record["done"][0])

    def release(self) -> None:
        """Drop the last job's arrays, if the thread has left it."""
        if self.is_free():
            self.holds = None


class _Worker:
    """One thread and its job.

    `_lock` is held for a few lines at a time, by callers and by the thread, never while it computes or sleeps. The
    thread sleeps in `_wake`, which is released by whoever finds `_asleep` set.
    """

    def __init__(self):
        self.job, self.ended = Job(), False
        self._lock, self._asleep, self._wake = threading.Lock(), False, threading.Lock()
        self._wake.acquire()
        self.thread = threading.Thread(target=self._serve, name="npefficient", daemon=True)
        self.thread.start()

    def post(self, run) -> None:
        """Let the thread take part in a run; it must have nothing to do."""
        with self._lock:
            self.job.fill(run)
        # NumPy's stores are plain ones, which a weakly ordered processor (ARM) may make visible in any order: the
        # thread could see the new `posted` beside old fields. Releasing the lock and taking it again keeps the stores
        # above before those below; the thread reads `posted` with acquire order (`atomics.atomic_load`).
        with self._lock:
            if self._asleep:
                cpus.avoid_current(self.thread.native_id)
                self._wake_up()
            self.job.post(run)  # last: an interrupt before it has woken the thread for nothing, no more

    def release(self) -> None:
        """Drop the last run's arrays, if the thread has left it."""
        with self._lock:
            self.job.release()

    def end(self) -> None:
        """Let the thread end as soon as it has left its job, even if whoever was to wake it was interrupted."""
        self.ended = True
        with self._lock:
            self._wake_up()

    def _wake_up(self) -> None:
        if self._wake.locked():  # once too often does no harm: the thread finds nothing to do and sleeps again
            self._wake.release()
        self._asleep = False  # last, in case of an interrupt: the next `post` then wakes it once more

    def _serve(self) -> None:
        work, spins = driver(), self._spins()
        while not self.ended:
            if work(self.job.address, spins) == YIELD:
                yield_processor()
            else:
                self._sleep()

    def _spins(self) -> int:
        """How many spins take SPIN_SECONDS.

        It has to be measured: x86's PAUSE alone takes 10 cycles before Skylake and 140 since (Intel's optimization
        manual), and other processors have none (`atomics.relax`).
        """
        work, nothing, shortest = driver(), Job(), math.inf
        for _ in range(3):  # a trial that is preempted takes too long
            start = time.perf_counter()
            work(nothing.address, TRIAL_SPINS)
            shortest = min(shortest, time.perf_counter() - start)
        return max(1, int(TRIAL_SPINS * SPIN_SECONDS / shortest))

    def _sleep(self) -> None:
        allowed = cpus.affinity()  # looked up before anyone can find it asleep and take one away
        with self._lock:  # a job is posted under it as well: either it is seen here, or its caller sees `_asleep`
            self.job.release()
            sleeps = self._asleep = self.job.is_free() and not self.ended
        if sleeps:
            self._wake.acquire()
            cpus.set_affinity(threading.get_native_id(), allowed)  # it may run again wherever it could before


class WorkerPool:
    """The workers of this process, started on demand and shared by all models."""

    def __init__(self):
        self._lock = threading.Lock()
        self._workers: list[_Worker] = []
        self._backoff, self._resume, self._stopped = BACKOFF, 0.0, False

    def ask(self, runs) -> list[_Worker]:
        """Let a worker take part in each of these runs, as far as there are workers with nothing to do."""
        if self._stopped or time.perf_counter() < self._resume:
            return []
        with self._lock:  # else two callers could choose the same worker
            while len(self._workers) < len(runs) and not self._stopped and self._start():
                pass
            free = [worker for worker in self._workers if worker.job.is_free()][: len(runs)]
            for worker, run in zip(free, runs):
                worker.post(run)
        return free

    def cancel(self, workers: list[_Worker]) -> None:
        """Do without these, which are stuck, and without any for a while: twice as long where the last while was too
        short, as long as at first where all has been well for ten times as long as it lasted."""
        for worker in workers:
            worker.job.cancel()
        now = time.perf_counter()
        too_short = now - self._resume < 10 * self._backoff
        self._backoff = min(2 * self._backoff, MAX_BACKOFF) if too_short else BACKOFF
        self._resume = now + self._backoff

    def _start(self) -> bool:
        try:
            self._workers.append(_Worker())
        except RuntimeError:  # a limit on threads: go on with fewer
            return False
        return True

    def stop(self) -> None:
        """End all workers, so that none is inside compiled code while the interpreter shuts down, and start none more.

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
atexit.register(lambda: pool.stop())  # the pool of that moment: a forked child has a new one


def _start_anew() -> None:
    """In a forked child, where the old pool's threads are gone."""
    global pool
    pool = WorkerPool()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_anew)


def ask(runs) -> list[_Worker]:
    """Let workers of this process take part in these runs, one in each; returns those that do."""
    return pool.ask(runs)


def cancel(workers: list[_Worker]) -> None:
    """Do without these workers, which are stuck, and without any for a while."""
    pool.cancel(workers)


def finish(work, job: Job, workers: list[_Worker]) -> list[_Worker]:
    """Do a posted job in this thread by `work` (the driver); returns the workers that are still asked.

    Those are cancelled when the job stays at one step for longer than STUCK. The driver has spun for a fraction of a
    millisecond before it returns the first time: `run.SPINS`.
    """
    step, since = None, 0.0
    while work(job.address, 0) == YIELD:  # a worker still has a chunk of the step
        if job.start() != step:
            step, since = job.start(), time.perf_counter()
        elif workers and time.perf_counter() - since > STUCK:
            cancel(workers)
            workers = []  # once: the chunk that they have is still waited for
        yield_processor()
    return workers


def yield_processor() -> None:
    """Let others run: threads that wait for the interpreter's lock, and those that wait for this processor.

    Under Linux it sleeps for the slack of the system's timers, 50 us (78 us were measured); before Python 3.11 it does
    no more than release the lock.
    """
    time.sleep(0)
