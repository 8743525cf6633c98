"""Threads that help a caller with its run.

They are ordinary Python threads inside compiled code that has let go of the interpreter, so calls from many threads at
once are safe on every platform. A caller asks for help and computes on its own meanwhile; a helper that comes late
finds nothing left to claim. So a busy machine costs parallelism, and never blocks.
"""
import atexit
import math
import os
import queue
import threading
import time
from pathlib import Path

from ..errors import ArgumentError


LOOKOUT = 0.002  # seconds that a helper looks for the next job before it goes to sleep


class Workers:
    """Helper threads of this process, started on demand and shared by all models."""

    def __init__(self):
        self._lock = threading.Lock()
        self._jobs = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []

    def ask(self, count: int, job) -> None:
        """Let up to `count` helpers call job() in parallel to the caller."""
        if count > len(self._threads):
            self._start(count)
        for _ in range(min(count, len(self._threads))):
            self._jobs.put(job)

    def _start(self, count: int) -> None:
        with self._lock:
            while count > len(self._threads):
                thread = threading.Thread(target=self._serve, name="npefficient", daemon=True)
                try:
                    thread.start()
                except RuntimeError:  # a limit on threads, or the interpreter is shutting down: go on with fewer
                    return
                self._threads.append(thread)

    def _serve(self) -> None:
        while (job := self._next()) is not None:
            job()
            del job  # let go of its arrays while waiting

    def _next(self):
        """The next job. Look for it a moment before going to sleep: a thread that is woken comes late, and on a busy CPU."""
        deadline = time.perf_counter() + LOOKOUT
        while time.perf_counter() < deadline:
            try:
                return self._jobs.get_nowait()
            except queue.Empty:
                time.sleep(0)  # lets go of the interpreter
        return self._jobs.get()

    def stop(self) -> None:
        """End all helpers, so that none is inside compiled code while the interpreter shuts down."""
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()
        self._threads = []


workers = Workers()
atexit.register(lambda: workers.stop())


def _start_anew() -> None:
    """A forked child has none of its parent's threads: it starts with workers of its own."""
    global workers
    workers = Workers()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_anew)


def ask(count: int, job) -> None:
    """Let up to `count` helpers of this process call job() in parallel to the caller."""
    workers.ask(count, job)


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
    """The number of threads to use: as given, or as many as the environment allows."""
    if num_threads is None:
        return available_threads()
    if isinstance(num_threads, bool) or not isinstance(num_threads, int) or num_threads < 1:
        raise ArgumentError(f"num_threads {num_threads!r}: it must be a whole number of at least 1, or None for all "
                            f"{available_threads()} that this process may use")
    return num_threads
