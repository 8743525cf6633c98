"""Processors: how many this process may use, and which of them a thread may run on."""
import contextlib
import ctypes
import math
import os
import sys
import warnings
from pathlib import Path

from ..common.checks import whole
from ..common.text import counted

MOST_THREADS = 1 << 16  # more than any system gives a process
# Where threads can be bound to processors by their ids: under Linux, unless Python was built without these calls.
BINDING = sys.platform == "linux" and hasattr(os, "sched_setaffinity")
sched_getcpu = getattr(ctypes.CDLL(None), "sched_getcpu", None) if BINDING else None


# --- how many --------------------------------------------------------------------------------------------------------


def check_threads(num_threads: int | None) -> int:
    """The number of threads to use: `num_threads`, with a warning if it exceeds `available_threads`, the default."""
    available = available_threads()
    if num_threads is None:
        return available
    num_threads = whole("num_threads", num_threads, 1, MOST_THREADS,
                        more=f", or None for all {available} that this process may use")
    if num_threads > available:
        warnings.warn(f"{num_threads} threads: this process may use {counted(available, 'processor')}, so they take "
                      f"turns, which is slower; use {available}" + " or fewer" * (available > 1), stacklevel=4)
    return num_threads


def available_threads() -> int:
    """Processors this process may use: its affinity, and the CPU quota of its control group.

    A quota counts although it does not limit the number of processors: with a quota of 2 on 64 processors, 64 threads
    use up their share of a period (usually 100 ms) in its first 3 ms, and are all stopped for the rest of it.
    """
    quota = _cgroup_quota() if sys.platform == "linux" else math.inf
    return max(1, math.ceil(min(_allowed(), quota)))


def _allowed() -> int:
    """Processors in this process's affinity; all of the machine's on systems without one, such as macOS."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    every = os.cpu_count() or 1
    return _windows_affinity() or every if sys.platform == "win32" else every


def _windows_affinity() -> int:
    """Processors in this process's affinity mask; 0 if Windows has no mask for it.

    A mask covers one group of up to 64 processors. A process that uses several groups has none, and may use them all.
    """
    kernel, process, system = ctypes.WinDLL("kernel32"), ctypes.c_size_t(), ctypes.c_size_t()
    kernel.GetCurrentProcess.restype = ctypes.c_void_p
    kernel.GetProcessAffinityMask.argtypes = [ctypes.c_void_p, *[ctypes.POINTER(ctypes.c_size_t)] * 2]
    kernel.GetProcessAffinityMask(kernel.GetCurrentProcess(), ctypes.byref(process), ctypes.byref(system))
    return process.value.bit_count()


def _cgroup_quota(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> float:
    """CPUs that the control groups of this process grant it, v2 or v1; infinite if there is no limit.

    The files are specified in the kernel's Documentation/admin-guide/cgroup-v2.rst and scheduler/sched-bwc.rst.
    """
    quota = math.inf
    for line in _read(own).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":  # v2: "max 100000" or "quota period", in microseconds
            names, base = ("cpu.max",), root
        elif "cpu" in controllers.split(","):  # v1: a file for each, -1 for no limit
            names, base = ("cpu.cfs_quota_us", "cpu.cfs_period_us"), root / "cpu"
        else:
            continue
        group = base / path.lstrip("/")
        for directory in (group, *group.parents):  # a limit further up also applies
            words = " ".join(_read(directory / name) for name in names).split()
            if len(words) == 2 and words[0] not in ("max", "-1"):
                quota = min(quota, int(words[0]) / int(words[1]))
            if directory == base:
                break
    return quota


def _read(path: Path) -> str:
    """The text of a kernel file; empty if it does not exist (on other systems or kernel versions)."""
    try:
        return path.read_text()
    except OSError:
        return ""


# --- on which --------------------------------------------------------------------------------------------------------


def avoid_current(thread: int) -> None:
    """Make a sleeping thread wake up on a different processor than this one.

    Linux tends to wake a thread on the processor of its waker (60 of 60 times on two cores of a Zen 4), where it waits
    until the waker's time slice is over. After a pause of 50 ms, lite0 took 3.8 to 4.2 ms on two threads, as on one;
    with the worker kept off the caller's processor, 2.4 to 2.9 ms.
    """
    if sched_getcpu:
        set_affinity(thread, affinity(thread) - {sched_getcpu()})


def affinity(thread: int = 0) -> set[int]:
    """The processors that a thread may run on; empty if the system does not tell."""
    try:
        return os.sched_getaffinity(thread) if sched_getcpu else set()
    except OSError:  # the thread has just ended
        return set()


def set_affinity(thread: int, processors: set[int]) -> None:
    """Restrict a thread to these processors; an empty set changes nothing."""
    if processors:
        with contextlib.suppress(OSError):  # only a hint: the thread has ended, or may no longer run there
            os.sched_setaffinity(thread, processors)
