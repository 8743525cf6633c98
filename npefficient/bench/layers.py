"""The steps of a plan one by one, timed within the forward pass, and their sum compared with the whole pass."""
import tempfile
import time
from dataclasses import dataclass

import numpy as np

from ..common.text import counted
from .measure import Timing, summary
from .peak import UNITS, core_peak, cores_of, limit, reads
from .steps import Steps
from .subject import make_subject
from .verify import verify

COLUMNS = {"layer": "<28", "op": "<21", "input": "<11", "k": ">1", "s": ">1", "out": ">4", "us": ">8.1f",
           "of time": ">7.1%", "best": ">8.1f", "MMACs": ">7.2f", "KiB": ">6,.0f"}
BEFORE = "before the first step"
LEGEND = """\
us: the median; best: in the quickest pass; KiB: the least to read and write; limit: the roofline's share of the peak,
if each core reads its part of these from the smallest level of memory that holds it; the peak of int8 is that of
integers, also for the first two layers, which compute with floats. Two kinds of passes alternate. One reads the clock
after each step's last chunk; that costs {look:.1f} us, which are part of the step's figure. The whole pass runs as
usual, without these readings. The difference comes from the readings, and from medians: those of the steps do not add
up to that of the pass, even less so on a busy machine: then use the best."""
FEWEST = 5  # rounds
READING = 0.1  # seconds, for each level of memory


def run(report, name: str, threads: int = 1, size=None, seconds: float = 3.0, precision: str = "float32") -> None:
    """Time in rounds: a whole pass, then one that reads the clock after each step."""
    with tempfile.TemporaryDirectory() as directory:
        subject = make_subject(name, directory, size, precisions=())
        steps, title = Steps(subject.read(precision), subject.input(1), threads), subject.titled(precision)
    check(steps, title, steps.network(steps.x))
    for i in range(len(steps.steps)):
        steps.run_verified(i)
    print_steps(report, title, steps, seconds)


@dataclass(frozen=True)
class Passes:
    """The measurements, in seconds."""

    median: np.ndarray  # (1 + steps,): the time before the first step, and of each step
    best: np.ndarray  # the same, of the quickest pass
    whole: Timing  # of the pass that does not read the clock in between


def print_steps(report, title: str, steps: Steps, seconds: float) -> Passes:
    """Time the steps, which are already verified, and print them with their sum and the whole pass."""
    threads = steps.engine.num_threads
    cores, unit = cores_of(threads), UNITS[steps.precision]
    bandwidths = reads(report, READING, max(step.bytes() for step in steps.steps) // cores)
    core = core_peak(precision=steps.precision)
    peak = core * cores
    taken, whole, look = time_rounds(steps, seconds)
    # Not each step's shortest time: on a busy machine, a worker can finish whole steps while this thread sleeps, and
    # they would seem to take no time.
    median, best = np.median(taken, axis=0), taken[taken.sum(axis=1).argmin()]
    columns = {**COLUMNS, unit: ">7.1f", "of peak": ">7.1%", "limit": ">7.1%"}
    table = report.table(f"{title}, {counted(threads, 'thread')}, every step in its place; peak "
                         f"{peak / 1e9:.1f} {unit}", columns, "layers")
    table.add(layer=BEFORE, us=median[0] * 1e6, best=best[0] * 1e6, **{"of time": median[0] / median.sum()})
    for step, seconds_taken, quickest in zip(steps.steps, median[1:], best[1:], strict=True):
        table.add(layer=step.name, **step.describe(), **figures(seconds_taken, step.flops(), peak, unit), **{
            "of time": seconds_taken / median.sum(), "best": quickest * 1e6, "MMACs": step.macs / 1e6,
            "KiB": step.bytes() / 1024, "limit": limit(step.flops() / cores, step.bytes() / cores, core, bandwidths)})
    flops = sum(step.flops() for step in steps.steps)
    sums = {"sum of the steps": (median.sum(), best.sum()), "whole pass": (whole.median, whole.minimum)}
    for label, (middle, quickest) in sums.items():
        table.add(layer=label, best=quickest * 1e6, **figures(middle, flops, peak, unit),
                  **{"of time": middle / median.sum()})
    table.add(layer="difference", us=(whole.median - median.sum()) * 1e6, best=(whole.minimum - best.sum()) * 1e6,
              **{"of time": whole.median / median.sum() - 1, "look us": look * 1e6, "rounds": len(taken)})
    print(LEGEND.format(look=look * 1e6))
    return Passes(median, best, whole)


def figures(seconds: float, flops: int, peak: float, unit: str = UNITS["float32"]) -> dict:
    """The columns that are computed from a time."""
    return {"us": seconds * 1e6, unit: flops / seconds / 1e9, "of peak": flops / seconds / peak}


def check(steps: Steps, title: str, expected) -> None:
    """Verify that the whole pass gives the plain network's logits, and every other way to run the steps the same bits.
    """
    steps.whole()
    whole = steps.logits()
    steps.check_logits(f"{title}, the whole pass", expected)
    steps.in_place()
    verify(f"{title}, with a look after each step", steps.logits(), whole, 0)
    for call in steps.calls:
        call()
    verify(f"{title}, step by step", steps.logits(), whole, 0)


def time_rounds(steps: Steps, seconds: float, clock=time.perf_counter):
    """Return the seconds of each step (rounds, 1 + steps), with the time before the first step in front; the Timing of
    the whole pass; and the seconds that one reading of the clock costs."""
    rounds, whole = [], []
    steps.whole()
    end = clock() + seconds
    while len(rounds) < FEWEST or clock() < end:
        before = clock()
        steps.whole()
        whole.append(clock() - before)
        rounds.append(steps.in_place(clock))
    looks = [steps.looks(clock) for _ in range(FEWEST)]  # not between rounds: late workers would disturb them
    return np.array(rounds), summary(whole), float(np.median(looks))
