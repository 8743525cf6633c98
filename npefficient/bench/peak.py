"""The peak of one core: fused multiply-adds per second, its clock, and bytes read per second from each level of memory.

Every share of the peak that a benchmark prints is relative to this figure, measured in the same run, times the number
of cores in use.
"""
import os
from dataclasses import dataclass

import numpy as np

from ..kernels.processor import vector_units
from .machine import cache_sizes
from .measure import measure, repeats_for
from .verify import verify

CALL = 2e-3  # seconds of one timed call: far above the clock's resolution, below a time slice
CHAIN = 1 << 20  # additions of one timed call: 0.2 to 1 ms, so that on a busy machine some calls are not interrupted
FLOAT = 4  # bytes
LARGEST = 1 << 30  # bytes to measure memory with
LEGEND = """\
in flight: the peak over that of a single chain, so many accumulators a tile needs at least; GHz: the clock, measured
with a chain of integer additions right after the peak; FLOP/cycle: the peak over the clock. An FMA of n lanes is 2 n
FLOPs: with 16 lanes, 64 per cycle means two units of that width, and 32 one, or two of half the width."""


@dataclass(frozen=True)
class Width:
    """One vector width of this machine."""

    name: str
    lanes: int
    registers: int

    @property
    def chains(self) -> int:
        """Accumulators that fit the registers next to two operands, a multiple of 4."""
        return (self.registers - 2) // 4 * 4 if self.registers < 32 else 24


def widths() -> list[Width]:
    """The vector widths of this machine, the widest last; an engine may use the narrower ones, never more."""
    return [Width(*unit) for unit in vector_units()]


def fma_peak(width: Width, seconds: float, chains: int | None = None) -> float:
    """FLOP/s of one core with vectors of one width: the best of many short calls, checked against NumPy first."""
    from .probes import ROUNDS, multiply_adder

    chains = chains or width.chains
    call = multiply_adder(width.lanes, chains)
    start = np.linspace(-4, 4, chains * width.lanes, dtype=np.float32)
    acc, constants = start.copy(), np.array([0.9, 0.75], np.float32)  # converges to 7.5: no overflow, no subnormals
    addresses = acc.ctypes.data, constants.ctypes.data, constants.ctypes.data + FLOAT

    expected = start.astype(np.float64)
    for _ in range(3 * ROUNDS):
        expected = expected * constants[0] + constants[1]
    call(*addresses, 3)
    verify(f"multiply-add of {width.name}", acc, expected, 3 * ROUNDS)

    turns = repeats_for(lambda n: call(*addresses, n), CALL)
    timing = measure(lambda: call(*addresses, turns), seconds)
    return 2.0 * width.lanes * chains * ROUNDS * turns / timing.minimum


def core_peak(seconds: float = 0.2) -> float:
    """FLOP/s of one core with its best vector width."""
    return max(fma_peak(width, seconds) for width in widths()[-2:])


def cores_of(threads: int) -> int:
    """The cores in use by this number of threads: no more than this process may use."""
    from ..engine.cpus import available_threads

    return min(threads, available_threads())


def peak_of(threads: int) -> float:
    """FLOP/s of the cores in use by this number of threads."""
    return core_peak() * cores_of(threads)


def clock_rate(seconds: float) -> float:
    """Cycles per second of one core that adds integers, the most in many short calls.

    Some processors have a lower clock for wide vectors.
    """
    from .probes import ADDITIONS, adder

    total, step, call = np.zeros(1, np.int64), 3, adder()
    call(total.ctypes.data, step, 5)
    verify("a chain of additions", total, [5 * ADDITIONS * step], 0)
    turns = CHAIN // ADDITIONS
    return CHAIN / measure(lambda: call(total.ctypes.data, step, turns), seconds).minimum


@dataclass(frozen=True)
class Core:
    """What one core did at some time: its peak in FLOP/s and its clock in Hz."""

    peak: float
    clock: float


def core_now(seconds: float = 0.2) -> Core:
    """Measure both, one right after the other."""
    return Core(core_peak(seconds), clock_rate(seconds))


def working_sets(caches: dict[str, int]) -> dict[str, int]:
    """Bytes to read repeatedly so that they come from one level: half of a cache, and four times the last one.

    A level is omitted if half of it would fit the previous one. The third level may be shared with others: only a
    quarter of it is used.
    """
    sets, before = {}, 0
    for level, size in caches.items():
        share = size // (4 if level == "L3" else 2)
        if share > before:
            sets[level] = share
        before = size
    return {**sets, "memory": min(LARGEST, 4 * before)}


def read_bandwidth(size: int, lanes: int, seconds: float) -> float:
    """Bytes per second that one core reads from a working set of `size` bytes, the median; checked against NumPy."""
    from .probes import STREAMS, reader

    block = STREAMS * lanes
    turns = max(1, size // (block * FLOAT))
    x = np.random.default_rng(0).integers(0, 2, turns * block + block, np.uint8).astype(np.float32)
    x = x[-x.ctypes.data % 64 // FLOAT :][: turns * block]  # aligned to a cache line; zeros and ones make sums exact
    acc, call = np.zeros(block, np.float32), reader(lanes)
    call(x.ctypes.data, turns, acc.ctypes.data, 1)
    verify(f"reading {size:,} bytes", acc, x.reshape(turns, block).sum(0, dtype=np.float64), 1)

    def read(repeats):
        call(x.ctypes.data, turns, acc.ctypes.data, repeats)

    repeats = repeats_for(read, CALL)
    return x.nbytes * repeats / measure(lambda: read(repeats), seconds).median


def run(report, seconds: float = 0.5) -> None:
    """Print both tables."""
    table = report.table("FMA peak of one core, float32", {
        "vectors": "<11", "lanes": ">6", "chains": ">7", "GFLOP/s": ">9.1f", "in flight": ">10.1f", "GHz": ">6.2f",
        "FLOP/cycle": ">11.1f"}, "fma")
    for width in widths():
        peak, clock, alone = fma_peak(width, seconds), clock_rate(seconds), fma_peak(width, seconds, chains=1)
        table.add(vectors=width.name, lanes=width.lanes, chains=width.chains,
                  **{"GFLOP/s": peak / 1e9, "in flight": peak / alone, "GHz": clock / 1e9, "FLOP/cycle": peak / clock})
    print(LEGEND)
    reads(report, seconds)


def reads(report, seconds: float) -> dict[str, float]:
    """The second table: bytes per second that one core reads from each level of memory."""
    found, lanes = {}, widths()[-1].lanes
    table = report.table("reads of one core", {"level": "<11", "KiB": ">12,", "GB/s": ">9.1f"}, "reads")
    for level, size in working_sets(cache_sizes()).items():
        if size > _free_memory() // 2:
            continue
        found[level] = read_bandwidth(size, lanes, seconds)
        table.add(level=level, KiB=size >> 10, **{"GB/s": found[level] / 1e9})
    return found


def _free_memory() -> int:
    """Bytes of free physical memory; 1 GiB if the system does not tell."""
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 1 << 30
