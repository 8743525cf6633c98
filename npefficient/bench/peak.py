"""The peak of one core: multiply-adds per second, its clock, and bytes read per second from each level of memory.

Multiply-adds are fused ones of float32, or dot products of small integers by the instructions of the int8 kernels. Each
is two operations. Every share of the peak that a benchmark prints is relative to the figure of its precision, measured
in the same run, times the number of cores in use.
"""
import os
from dataclasses import dataclass

import numpy as np

from ..kernels.layout import FLOAT, Layout
from ..kernels.processor import has_dot_products, vector_units
from .machine import cache_sizes
from .measure import measure, repeats_for
from .verify import verify

SECONDS = 0.2  # duration of a measurement
CALL = 2e-3  # seconds of one timed call: far above the clock's resolution, below a time slice
CHAIN = 1 << 20  # additions of one timed call: 0.2 to 1 ms, so that on a busy machine some calls are not interrupted
LARGEST = 1 << 30  # bytes to measure memory with
UNITS = {"float32": "GFLOP/s", "int8": "GOP/s"}  # 1e9 operations per second
TITLES = {"float32": "FMA peak of one core, float32", "int8": "peak of one core in dot products of integers"}
VALUES = {1: "8 bits", 2: "16 bits", FLOAT: "float32"}
LEGENDS = {"float32": """\
in flight: the peak over that of a single chain, so many accumulators a tile needs at least; GHz: the clock, measured
with a chain of integer additions right after the peak; FLOP/cycle: the peak over the clock. An FMA of n lanes is 2 n
FLOPs: with 16 lanes, 64 per cycle means two units of that width, and 32 one, or two of half the width.""", "int8": """\
A dot product of n lanes is 4 n operations with values of 16 bits, and 8 n with values of 8 bits. On x86, VNNI has an
instruction for each (vpdpwssd, vpdpbusd). Without it, 16 bits take two (vpmaddwd, vpaddd), and 8 bits are not used."""}


@dataclass(frozen=True)
class Width:
    """One vector width of this machine, and what it multiplies."""

    name: str
    lanes: int
    registers: int
    item: int = FLOAT  # bytes of a value: of a float32, or of an integer as in `kernels/integers.py`

    @property
    def chains(self) -> int:
        """Accumulators that fit the registers next to two operands, a multiple of 4."""
        return (self.registers - 2) // 4 * 4 if self.registers < 32 else 24

    @property
    def layout(self) -> Layout:
        return Layout(self.lanes, self.registers, self.item)


def widths(precision: str = "float32") -> list[Width]:
    """The vector widths of this machine, the widest last; an engine may use the narrower ones, never more.

    "int8": first with values of 16 bits, then those that the processor has dot products of bytes for.
    """
    if precision == "float32":
        return [Width(*unit) for unit in vector_units()]
    bytes_too = [unit for unit in vector_units() if has_dot_products(unit[1])]
    return [Width(*unit, item) for item, units in ((2, vector_units()), (1, bytes_too)) for unit in units]


def width_peak(width: Width, seconds: float, chains: int | None = None) -> float:
    """Operations per second of one core with vectors of one width, in the best of many short calls."""
    from .probes import ROUNDS

    chains = chains or width.chains
    call = (multiply_adds if width.item == FLOAT else dot_products)(width, chains)
    turns = repeats_for(call, CALL)
    timing = measure(lambda: call(turns), seconds)
    return 2.0 * width.lanes * width.layout.group * chains * ROUNDS * turns / timing.minimum


def multiply_adds(width: Width, chains: int):
    """call(turns) of the probe for float32, checked against NumPy."""
    from .probes import ROUNDS, multiply_adder

    call = multiply_adder(width.layout, chains)
    acc = np.linspace(-4, 4, chains * width.lanes, dtype=np.float32)
    constants = np.array([0.9, 0.75], np.float32)  # converges to 7.5: no overflow, no subnormals
    expected = acc.astype(np.float64)
    for _ in range(3 * ROUNDS):
        expected = expected * constants[0] + constants[1]
    call(acc.ctypes.data, constants.ctypes.data, constants.ctypes.data + FLOAT, 3)
    verify(f"multiply-add of {width.name}", acc, expected, 3 * ROUNDS)
    return lambda turns: call(acc.ctypes.data, constants.ctypes.data, constants.ctypes.data + FLOAT, turns)


def dot_products(width: Width, chains: int):
    """call(turns) of the probe for integers, checked against NumPy: int32 sums wrap around in both."""
    from .probes import ROUNDS, dot_adder

    call, rng = dot_adder(width.layout, chains), np.random.default_rng(0)
    acc, weight = (rng.integers(-2**31, 2**31, size, np.int32) for size in ((chains, width.lanes), width.lanes))
    unsigned, signed = {1: (np.uint8, np.int8), 2: (np.int16, np.int16)}[width.item]
    groups, expected = weight.view(signed).reshape(width.lanes, -1), acc.copy()
    for _ in range(3 * ROUNDS):
        values = expected.view(unsigned).reshape(chains, *groups.shape)
        expected += (values.astype(np.int32) * groups).sum(-1, dtype=np.int32)
    call(acc.ctypes.data, weight.ctypes.data, 3)
    verify(f"dot product of {VALUES[width.item]}, {width.name}", acc, expected, 0)
    return lambda turns: call(acc.ctypes.data, weight.ctypes.data, turns)


def core_peak(seconds: float = SECONDS, precision: str = "float32") -> float:
    """Operations per second of one core with its best vector width."""
    return max(width_peak(width, seconds) for width in widths(precision)[-2:])


def cores_of(threads: int) -> int:
    """The cores in use by this number of threads: no more than this process may use."""
    from ..engine.cpus import available_threads

    return min(threads, available_threads())


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
    """What one core did at some time: its peak in operations per second and its clock in Hz."""

    peak: float
    clock: float


def core_now(precision: str) -> Core:
    """Measure both, one right after the other."""
    return Core(core_peak(SECONDS, precision), clock_rate(SECONDS))


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


def read_bandwidth(size: int, lanes: int, seconds: float, best: bool = False) -> float:
    """Bytes per second that one core reads from a working set of `size` bytes, the median or the best of many calls;
    checked against NumPy."""
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
    timing = measure(lambda: read(repeats), seconds)
    return x.nbytes * repeats / (timing.minimum if best else timing.median)


def run(report, seconds: float = 0.5, precisions=("float32",)) -> None:
    """Print a table for each precision, and one of reads."""
    for precision in precisions:
        peaks(report, precision, seconds)
    reads(report, seconds)


def peaks(report, precision: str, seconds: float) -> None:
    """The table of one precision: the peak with each vector width."""
    unit, values = UNITS[precision], {} if precision == "float32" else {"values": "<8"}
    per_cycle = f"{unit[1:-2]}/cycle"
    table = report.table(TITLES[precision], {
        "vectors": "<11", **values, "lanes": ">6", "chains": ">7", unit: ">9.1f", "in flight": ">10.1f",
        "GHz": ">6.2f", per_cycle: ">11.1f"}, "fma" if precision == "float32" else "dot")
    for width in widths(precision):
        peak, clock, alone = width_peak(width, seconds), clock_rate(seconds), width_peak(width, seconds, chains=1)
        table.add(vectors=width.name, values=VALUES[width.item], lanes=width.lanes, chains=width.chains,
                  **{unit: peak / 1e9, "in flight": peak / alone, "GHz": clock / 1e9, per_cycle: peak / clock})
    print(LEGENDS[precision])


def reads(report, seconds: float, most: int | None = None) -> dict[str, float]:
    """The table of bytes per second that one core reads from each level of memory; no level beyond the first one that
    holds `most` bytes."""
    sets, found = working_sets(cache_sizes()), bandwidths(seconds, most)
    table = report.table("reads of one core", {"level": "<11", "KiB": ">12,", "GB/s": ">9.1f"}, "reads")
    for level, speed in found.items():
        table.add(level=level, KiB=sets[level] >> 10, **{"GB/s": speed / 1e9})
    for level in disturbed(found):
        print(f"{level} came out slower than a level beyond it, twice: it was disturbed, and its figure is too low")
    return found


def bandwidths(seconds: float, most: int | None = None, best: bool = False) -> dict[str, float]:
    """Bytes per second that one core reads from each level of memory; levels as in `reads`.

    best: the most in many short calls, not the median
    """
    found: dict[str, float] = {}
    lanes, sets = widths()[-1].lanes, working_sets(cache_sizes())
    for level, size in sets.items():
        if size > _free_memory() // 2 or most is not None and any(sets[one] >= most for one in found):
            continue
        found[level] = read_bandwidth(size, lanes, seconds, best)
    for level in disturbed(found):  # other work can only have made it slower
        found[level] = max(found[level], read_bandwidth(sets[level], lanes, seconds, best))
    return found


def disturbed(bandwidths: dict[str, float]) -> list[str]:
    """The levels of memory that came out slower than one farther away, which can't be."""
    speeds = list(bandwidths.values())
    return [level for i, level in enumerate(bandwidths) if speeds[i] < max(speeds[i:])]


def limit(operations: float, size: float, peak: float, bandwidths: dict[str, float]) -> float:
    """The roofline as a share of one core's peak: for work on `size` bytes, if they are read from the smallest level of
    memory that holds them; bandwidths: what `reads` returns."""
    return min(1.0, bandwidths[level_of(size, bandwidths)] * operations / size / peak)


def level_of(size: float, bandwidths: dict[str, float]) -> str:
    """The smallest level of memory that holds `size` bytes, or the last one measured."""
    sets = working_sets(cache_sizes())
    return next((level for level in bandwidths if size <= sets[level]), list(bandwidths)[-1])


def _free_memory() -> int:
    """Bytes of free physical memory; 1 GiB if the system does not tell."""
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 1 << 30
