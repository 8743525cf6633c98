"""Whole models, as users run them: from the file to the first result, then repeated calls.

Each combination of model, batch and threads runs in its own process. The core's peak and its clock are measured before
and after it: on a shared machine they change.
"""
import itertools
import tempfile
import time
from pathlib import Path

from ..common.text import counted
from ..kernels.layout import layout_of
from .machine import resident_peak
from .measure import measure
from .peak import core_now, cores_of
from .process import isolated
from .subject import Subject, make_subject
from .verify import LOGITS, verify

WHICH = {"model": "<15", "precision": "<9", "batch": ">5", "threads": ">7"}
COLUMNS = {**WHICH, "min ms": ">8.2f", "p50": ">8.2f", "p90": ">8.2f", "p99": ">8.2f",
           "images/s": ">9.1f", "x float32": ">9.2f", "GOP/s": ">8.1f", "of peak": ">7.1%", "best": ">7.1%",
           "peak 1": ">7.1f", "peak 2": ">7.1f", "GHz 1": ">5.2f", "GHz 2": ">5.2f"}
START = {**WHICH, "load ms": ">8.1f", "pack": ">7.1f", "plan": ">6.1f",
         "code": ">8.1f", "from": ">5", "first call": ">10.1f", "arenas MB": ">9.1f", "scratch": ">7.1f",
         "peak MB": ">7.1f", "differs": ">8.1e"}
STEADY = 0.05  # of the peak: the change that is taken for noise
SPEED_LEGEND = """\
x float32: how many times as fast as float32 in the same run, by the medians. GOP/s: two operations for each
multiply-add. peak 1, GHz 1: the peak in GOP/s and the clock of one core just before the combination; peak 2, GHz 2:
just after it. 'of peak' and 'best' are shares of the mean of both peaks, which are those of FMAs for float32, and those
of dot products of integers for int8, although its first two layers compute with floats."""
LEGEND = """\
load: read the weight file; pack: fold and lay out the weights; code: get the compiled driver, from the cache or by
compiling it with Numba; first call: one batch after that. arenas: the activations of all pictures that are computed at
the same time; scratch: of all threads; peak: resident memory of the process. differs: largest difference from the plain
network's logits; none is allowed with int8."""


def run(report, names, batches, threads, size=None, seconds: float = 3.0, precisions=("float32",)) -> None:
    """Measure every combination; print two tables, speed and start."""
    rows = []
    table = report.table("speed, in ms for a batch: 'of peak' is the median's share of the peak of the cores in use, "
                         "'best' the fastest call's", COLUMNS, "speed")
    for name in names:
        with tempfile.TemporaryDirectory() as directory:
            subject = make_subject(name, directory, size, precisions)
            # float32 before int8, which is compared with it
            for batch, count, precision in itertools.product(batches, threads, sorted(precisions)):
                rows.append(_combination(table, subject, precision, batch, count, seconds))
    print(SPEED_LEGEND)
    for warning in filter(None, map(unsteady, table.rows)):
        print(warning)
    start = report.table("start, in ms, and memory, in MB", START, "start")
    for row in rows:
        start.add(**row)
    print(LEGEND)


def _combination(table, subject: Subject, precision: str, batch: int, threads: int, seconds: float) -> dict:
    """Add the row of one combination to the speed table; returns its row of the start table."""
    from ..engine.compiled import found

    before, source = core_now(precision), "cache" if found(layout_of(precision)) else "Numba"
    got = isolated(__name__, "child", name=subject.name, height=subject.height, width=subject.width,
                   directory=str(subject.directory), precision=precision, batch=batch, threads=threads, seconds=seconds)
    after = core_now(precision)
    peak = (before.peak + after.peak) / 2 * cores_of(threads)
    timing, flops = got["timing"], 2.0 * subject.macs() * batch
    which = {"model": subject.title, "precision": precision, "batch": batch, "threads": threads}
    floats = [row["p50"] for row in table.rows if {**which, "precision": "float32"}.items() <= row.items()]
    table.add(**which, **{
        "min ms": timing["minimum"] * 1e3, "p50": timing["median"] * 1e3, "p90": timing["p90"] * 1e3,
        "p99": timing["p99"] * 1e3, "images/s": batch / timing["median"],
        "x float32": floats[0] / timing["median"] / 1e3 if floats else None, "GOP/s": flops / timing["median"] / 1e9,
        "of peak": flops / timing["median"] / peak, "best": flops / timing["minimum"] / peak,
        "peak 1": before.peak / 1e9, "peak 2": after.peak / 1e9, "GHz 1": before.clock / 1e9,
        "GHz 2": after.clock / 1e9, "runs": timing["runs"], "peak GOP/s": peak / 1e9})
    return {**which, "from": source, **got["start"]}


def unsteady(row: dict) -> str | None:
    """A warning if the peak changed by more than STEADY of its mean during a combination."""
    low, high = sorted((row["peak 1"], row["peak 2"]))
    change = 2 * (high - low) / (high + low)
    if change <= STEADY:
        return None
    what = f"{row['model']}, {row['precision']}, batch {row['batch']}, {counted(row['threads'], 'thread')}"
    return f"WARNING: the peak changed by {change:.0%} while {what} was measured: its shares of the peak are uncertain"


def child(name, height, width, directory, precision, batch, threads, seconds) -> dict:
    """Measure one combination in a fresh process."""
    subject = Subject(name, height, width, Path(directory))
    x, clock = subject.input(batch), Stages()

    from ..engine.compiled import driver
    from ..model.model import Model
    from ..weights.weight_file import read_weights

    weights = clock.stage("load ms", lambda: read_weights(subject.weights))
    model = clock.stage("pack", lambda: Model(weights, num_threads=threads, precision=precision))
    engine = model._network
    apart = threads > 1 and batch >= threads  # as many pictures at once as threads, one on each
    clock.stage("plan", lambda: engine.plan(height, width, 1 if apart else threads))
    clock.stage("code", lambda: driver(layout_of(precision)))
    logits = clock.stage("first call", lambda: model(x))
    what = f"{subject.title}, {precision}, batch {batch}, {counted(threads, 'thread')}"
    differs = verify(what, logits, subject.logits(batch, precision), LOGITS if precision == "float32" else 0)
    timing = measure(lambda: model(x), seconds)
    resident = resident_peak()
    from .steps import memory_held  # only now, as the import adds to resident memory

    arenas, scratch = memory_held(engine)
    return {"timing": vars(timing), "start": {**clock.taken, "arenas MB": arenas / 1e6, "scratch": scratch / 1e6,
                                              "peak MB": resident and resident / 1e6, "differs": differs}}


class Stages:
    """Milliseconds of consecutive stages."""

    def __init__(self):
        self.taken: dict[str, float] = {}

    def stage(self, name: str, call):
        start = time.perf_counter()
        result = call()
        self.taken[name] = (time.perf_counter() - start) * 1e3
        return result
