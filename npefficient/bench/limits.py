"""What limits a loop of multiply-adds: the latency of a sum, loads, or the units themselves; each is measured alone.

A core has three things to do for each multiply-add of a loop whose data are in the first-level cache, all at once:

    latency   the sum waits for its previous value, but other sums need not: latency / sums in flight
    loads     loads and stores of the operands, of which it can start so many per cycle
    units     the arithmetic itself, of which it can start so many per cycle: the peak

The slowest of the three decides. The experiment varies the number of sums in flight with 0, 1 and 2 loads for each
multiply-add: without loads, only the first and the third act; with many sums, only the second and the third.
"""
from dataclasses import dataclass

import numpy as np

from ..kernels.layout import FLOAT32, Layout
from ..ladder.arrays import zeros
from ..ladder.case import Cost
from .measure import measure, repeats_for
from .peak import CALL, widths
from .verify import verify

SECONDS = 0.02  # duration of each measurement of `measure_limits`
LOADS = (0, 1, 2)
WAYS = {0: "no loads", 1: "1 load per FMA", 2: "2 loads per FMA"}


def seconds_each(layout: Layout, sums: int, loads: int, seconds: float) -> float:
    """Seconds for each multiply-add with `sums` sums in flight and `loads` loads for each, in the best of many calls;
    checked against NumPy."""
    from .probes import ROUNDS, summer

    call, lanes = summer(layout), layout.lanes
    x, acc, turns = zeros(ROUNDS, sums, 2, lanes), zeros(sums, lanes), 3
    x[:] = np.random.default_rng(0).integers(-2, 3, x.shape)  # exact sums
    factors = [x[:, :, i] if i < loads else np.broadcast_to(x[0, 0, i], (ROUNDS, sums, lanes)) for i in range(2)]
    call(sums, loads, acc.ctypes.data, x.ctypes.data, turns)
    verify(f"{sums} sums with {loads} loads", acc, turns * (factors[0] * factors[1]).sum(0, dtype=np.float64), 1)
    x[:] = 0  # sums stay as they are: no overflow

    def run(turns):
        call(sums, loads, acc.ctypes.data, x.ctypes.data, turns)

    turns = repeats_for(run, CALL)
    return measure(lambda: run(turns), seconds).minimum / (turns * ROUNDS * sums)


def seconds_of_an_addition(layout: Layout, seconds: float) -> float:
    """Seconds for each addition of floats that waits for the one before; checked against NumPy."""
    from .probes import ROUNDS, float_adder

    call, x, acc = float_adder(layout), zeros(layout.lanes), zeros(layout.lanes)
    x[:] = 1
    call(acc.ctypes.data, x.ctypes.data, 3)
    verify("a chain of additions of floats", acc, 3.0 * ROUNDS * x, 0)
    turns = repeats_for(lambda turns: call(acc.ctypes.data, x.ctypes.data, turns), CALL)
    return measure(lambda: call(acc.ctypes.data, x.ctypes.data, turns), seconds).minimum / (turns * ROUNDS)


@dataclass(frozen=True)
class Limits:
    """Seconds of one core for each of the three, with vectors of `lanes` floats."""

    lanes: int
    fma: float  # latency of a multiply-add
    addition: float  # latency of an addition
    load: float  # between the starts of two loads
    unit: float  # between the starts of two multiply-adds

    def of(self, cost: Cost) -> dict[str, float]:
        """The seconds for each multiply-add that each of the three takes alone; a store counts as a load."""
        latency = self.fma if cost.fused else self.addition
        return {"latency": latency / cost.sums if cost.sums else 0.0, "loads": (cost.loads + cost.stores) * self.load,
                "units": self.unit}


@dataclass(frozen=True)
class Predicted:
    """What should limit a rung, and how fast that leaves it."""

    limit: str  # "latency", "loads" or "units"
    parts: dict[str, float]  # seconds for each multiply-add that each would take alone
    flops: float  # per second


def predict(cost: Cost, limits: dict[int, Limits]) -> Predicted:
    """The speed of a rung with this cost, without what comes before and after its innermost loop; limits: by lanes.

    Single floats are computed by the vector units, with the rates of the narrowest vectors.
    """
    parts = limits[cost.lanes if cost.lanes in limits else min(limits)].of(cost)
    limit = max(parts, key=parts.__getitem__)
    return Predicted(limit, parts, 2 * cost.lanes / parts[limit])


def limits_of(layout: Layout, grid: dict[tuple[int, int], float], addition: float) -> Limits:
    """The limits that the experiment shows; grid: (sums, loads) -> seconds for each multiply-add."""
    most = max(sums for sums, _ in grid)
    return Limits(layout.lanes, grid[1, 0], addition, grid[most, 2] / 2, grid[most, 0])


def experiment(layout: Layout, seconds: float) -> dict[tuple[int, int], float]:
    """(sums in flight, loads for each multiply-add) -> seconds for each multiply-add."""
    from .probes import IN_FLIGHT

    return {(sums, loads): seconds_each(layout, sums, loads, seconds) for loads in LOADS for sums in IN_FLIGHT}


def measure_limits() -> dict[int, Limits]:
    """The limits of every vector width of this machine, by their lanes."""
    from .probes import IN_FLIGHT

    found, most = {}, max(IN_FLIGHT)
    for layout in (width.layout for width in widths()):
        grid = {key: seconds_each(layout, *key, SECONDS) for key in ((1, 0), (most, 0), (most, 2))}
        found[layout.lanes] = limits_of(layout, grid, seconds_of_an_addition(layout, SECONDS))
    return found


def run(report, seconds: float = 0.05) -> dict[tuple[int, int], float]:
    """Print the experiment with the widest vectors as a table, in GFLOP/s; returns its seconds."""
    grid = experiment(FLOAT32, seconds)
    table = report.table(f"sums in flight, vectors of {FLOAT32.lanes} floats: GFLOP/s of one core",
                         {"sums": ">4", **{way: ">16.1f" for way in WAYS.values()}}, "in flight")
    for sums in sorted({sums for sums, _ in grid}):
        table.add(sums=sums, **{way: 2 * FLOAT32.lanes / grid[sums, loads] / 1e9 for loads, way in WAYS.items()})
    return grid
