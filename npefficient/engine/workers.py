"""Threads that help a caller with its run.

They are ordinary Python threads inside compiled code that has let go of the interpreter, so calls from many threads at
once are safe on every platform. Each has a job record of its own (`job.py`). A caller fills those of helpers that
have nothing to do, and computes on its own meanwhile; a helper that comes late finds nothing left to claim, and one
that gets stuck is called off. So a busy machine costs parallelism, and never blocks. A helper looks for its next job a
moment before it goes to sleep.
"""
import atexit
import contextlib
import ctypes
import math
import os
import sys
import threading
import time
import warnings
from pathlib import Path

from ..common.text import counted
from ..errors import ArgumentError
from ..kernels.memory import aligned
from .compiled import driver
from .job import GIVE_WAY, JOB

LOOKOUT = 0.002  # seconds that a helper looks for the next job before it goes to sleep
STUCK = 0.001  # seconds to wait for a helper until it counts as stuck: other programs want its processor
PAUSE, LONGEST = 0.005, 0.1  # seconds without help after that, doubled each time that it was too short
TRIAL = 1 << 10  # looks to find out how long one takes


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

        Not from `fill` on: until the job is posted it counts as free, and `let_go` would drop them.
        """
        self.holds = run
        self.record["posted"] += 1

    def call_off(self) -> None:
        """Let the thread leave after the chunk that it is in."""
        self.record["epoch"] = -1

    def start(self) -> int:
        """The step to go on with."""
        return int(self.record["start"][0])

    def is_free(self) -> bool:
        """True where the thread has left the last job."""
        return bool(self.record["posted"][0] == self.record["done"][0])

    def let_go(self) -> None:
        """Let go of the last job's arrays, if the thread has left it."""
        if self.is_free():
            self.holds = None


class _Helper:
    """One thread and its job."""

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
        with self._lock:  # what was filled in is in memory by now
            if self._asleep:
                _keep_off(self.thread.native_id)
                self._wake_up()
            self.job.post(run)  # last: an interrupt before it has woken the thread for nothing, no more

    def let_go(self) -> None:
        """Let go of the last run's arrays, if the thread has left it."""
        with self._lock:
            self.job.let_go()

    def end(self) -> None:
        """Let the thread end as soon as it has left its job, even if whoever was to wake it was interrupted."""
        self.ended = True
        with self._lock:
            self._wake_up()

    def _wake_up(self) -> None:
        if self._wake.locked():  # once too often does no harm
            self._wake.release()
        self._asleep = False  # last, in case of an interrupt

    def _serve(self) -> None:
        work, looks = driver(), self._looks()
        while not self.ended:
            if work(self.job.address, looks) == GIVE_WAY:
                time.sleep(0)
            else:
                self._sleep()

    def _looks(self) -> int:
        """How often to look for a job in LOOKOUT seconds: how long a look takes is very different among processors."""
        work, nothing, shortest = driver(), Job(), math.inf
        for _ in range(3):
            start = time.perf_counter()
            work(nothing.address, TRIAL)
            shortest = min(shortest, time.perf_counter() - start)
        return max(1, int(TRIAL * LOOKOUT / shortest))

    def _sleep(self) -> None:
        allowed = _affinity()
        with self._lock:
            self.job.let_go()
            sleeps = self._asleep = self.job.is_free() and not self.ended
        if sleeps:
            self._wake.acquire()
            _set_affinity(threading.get_native_id(), allowed)  # it may run again wherever it could before


class Workers:
    """Helper threads of this process, started on demand and shared by all models."""

    def __init__(self):
        self._lock = threading.Lock()
        self._helpers: list[_Helper] = []
        self._pause, self._resume, self._stopped = PAUSE, 0.0, False

    def ask(self, runs) -> list[_Helper]:
        """Let a helper take part in each of these runs, as far as there are helpers with nothing to do."""
        if self._stopped or time.perf_counter() < self._resume:
            return []
        with self._lock:
            while len(self._helpers) < len(runs) and not self._stopped and self._start():
                pass
            free = [helper for helper in self._helpers if helper.job.is_free()][: len(runs)]
            for helper, run in zip(free, runs):
                helper.post(run)
        return free

    def call_off(self, helpers: list[_Helper]) -> None:
        """Do without these, since they don't get on, and without any for a while."""
        for helper in helpers:
            helper.job.call_off()
        now = time.perf_counter()
        self._pause = min(2 * self._pause, LONGEST) if now - self._resume < 10 * self._pause else PAUSE
        self._resume = now + self._pause

    def _start(self) -> bool:
        try:
            self._helpers.append(_Helper())
        except RuntimeError:  # a limit on threads: go on with fewer
            return False
        return True

    def stop(self) -> None:
        """End all helpers, so that none is inside compiled code while the interpreter shuts down, and start none more.

        A thread that is started while the interpreter shuts down never runs: its starter would wait forever.
        """
        with self._lock:
            self._stopped = True
            helpers, self._helpers = self._helpers, []
        for helper in helpers:
            helper.end()
        for helper in helpers:
            helper.thread.join()


def _keep_off(thread: int) -> None:
    """Let a sleeping thread wake up on another processor than this one.

    Linux likes to wake a thread beside the one that wakes it, and there it waits until the caller's time slice is over.
    """
    if sched_getcpu:
        _set_affinity(thread, _affinity(thread) - {sched_getcpu()})


def _affinity(thread: int = 0) -> set[int]:
    """The processors that a thread may run on; empty where the system does not tell."""
    try:
        return os.sched_getaffinity(thread) if sched_getcpu else set()
    except OSError:  # the thread has just ended
        return set()


def _set_affinity(thread: int, processors: set[int]) -> None:
    if processors:
        with contextlib.suppress(OSError):  # a hint: the thread has ended, or the process may not run there any more
            os.sched_setaffinity(thread, processors)


sched_getcpu = getattr(ctypes.CDLL(None), "sched_getcpu", None) if sys.platform == "linux" else None

workers = Workers()
atexit.register(lambda: workers.stop())


def _start_anew() -> None:
    """A forked child has none of its parent's threads: it starts with workers of its own."""
    global workers
    workers = Workers()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_anew)


def ask(runs) -> list[_Helper]:
    """Let helpers of this process take part in these runs, one in each."""
    return workers.ask(runs)


def call_off(helpers: list[_Helper]) -> None:
    """Do without these helpers, since they don't get on, and without any for a while."""
    workers.call_off(helpers)


def available_threads() -> int:
    """Processors this process may use: its affinity, and the CPU quota of its control group."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(count, _cgroup_quota())))


def _cgroup_quota(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> float:
    """CPUs that the control groups above this process grant it, v2 or v1; infinite where there is no limit."""
    quota = math.inf
    for line in _read(own).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            names, base = ("cpu.max",), root
        elif "cpu" in controllers.split(","):
            names, base = ("cpu.cfs_quota_us", "cpu.cfs_period_us"), root / "cpu"
        else:
            continue
        group = base / path.lstrip("/")
        for directory in (group, *group.parents):  # a limit further up holds as well
            words = " ".join(_read(directory / name) for name in names).split()
            if len(words) == 2 and words[0] not in ("max", "-1"):
                quota = min(quota, int(words[0]) / int(words[1]))
            if directory == base:
                break
    return quota


def _read(path: Path) -> str:
    """The text of a file of the kernel's; empty where there is none (another system, or another version)."""
    try:
        return path.read_text()
    except OSError:
        return ""


def check_threads(num_threads: int | None) -> int:
    """The number of threads to use: as given, with a warning above what the environment allows, or as many as that."""
    available = available_threads()
    if num_threads is None:
        return available
    if isinstance(num_threads, bool) or not isinstance(num_threads, int) or num_threads < 1:
        raise ArgumentError(f"num_threads {num_threads!r}: it must be a whole number of at least 1, or None for all "
                            f"{available} that this process may use")
    if num_threads > available:
        warnings.warn(f"{num_threads} threads: this process may use {counted(available, 'processor')}, so they take "
                      f"turns, which is slower; use {available}" + " or fewer" * (available > 1), stacklevel=4)
    return num_threads
