"""The steps of a plan one by one, in their place in the forward pass, and their sum beside the whole."""
import tempfile
import time

import numpy as np

from ..weights import read_weights
from .measure import summary
from .peak import core_peak
from .steps import Steps
from .subject import make_subject
from .verify import LOGITS, verify

COLUMNS = {"layer": "<22", "op": "<11", "input": "<14", "k": ">2", "s": ">3", "out": ">6", "us": ">9.1f",
           "of time": ">8.1%", "best": ">9.1f", "MMACs": ">8.2f", "KiB": ">8,.0f", "GFLOP/s": ">9.1f",
           "of peak": ">8.1%"}
FEWEST = 5  # rounds


def run(report, name: str, threads: int = 1, size=None, seconds: float = 3.0) -> None:
    """Time in rounds: the whole pass, then its steps in order, each by itself, so that caches are as in a pass."""
    with tempfile.TemporaryDirectory() as directory:
        subject = make_subject(name, directory, size)
        steps = Steps(read_weights(subject.weights), subject.input(1), threads)
        check(steps, subject)
    peak = core_peak() * threads
    taken, whole, idle = time_rounds(steps, seconds)
    median, best = np.median(taken, axis=0) - idle.median, taken.min(axis=0) - idle.minimum
    table = report.table(f"{subject.title}, {threads} threads: us is the median of each step alone, best its shortest, "
                         f"less a call of the\ndriver ({idle.median * 1e6:.1f}, {idle.minimum * 1e6:.1f}); peak "
                         f"{peak / 1e9:.1f} GFLOP/s", COLUMNS, "layers")
    for step, seconds_taken, shortest in zip(steps.steps, median, best):
        one = step.layer
        table.add(layer=one.name, op=one.op, input=f"{one.height}x{one.width}x{one.in_channels}", k=one.kernel or None,
                  s=one.stride, out=one.out_channels, **figures(seconds_taken, step.flops(1), peak), **{
                      "of time": seconds_taken / median.sum(), "best": shortest * 1e6, "MMACs": one.macs / 1e6,
                      "KiB": step.bytes(1) / 1024})
    flops = sum(step.flops(1) for step in steps.steps)
    sums = {"sum of the steps": (median.sum(), best.sum()), "whole pass": (whole.median, whole.minimum)}
    for label, (middle, shortest) in sums.items():
        table.add(layer=label, best=shortest * 1e6, **figures(middle, flops, peak),
                  **{"of time": middle / median.sum()})
    table.add(layer="overhead: the rest", us=(whole.median - median.sum()) * 1e6,
              best=(whole.minimum - best.sum()) * 1e6, **{"of time": whole.median / median.sum() - 1})
    print("A machine with other work lengthens the whole pass more than single steps: then look at the best.")


def figures(seconds: float, flops: int, peak: float) -> dict:
    """The columns that follow from a time."""
    return {"us": seconds * 1e6, "GFLOP/s": flops / seconds / 1e9, "of peak": flops / seconds / peak}


def check(steps: Steps, subject) -> None:
    """The whole pass and the steps one by one both give the plain network's logits, and equal bits."""
    steps.whole()
    whole = steps.logits()
    verify(f"{subject.title}, the whole pass", whole, subject.logits(1), LOGITS)
    for call in steps.calls:
        call()
    verify(f"{subject.title}, step by step", steps.logits(), whole, 0)


def time_rounds(steps: Steps, seconds: float, clock=time.perf_counter):
    """Return the seconds of each step (rounds, steps), and the Timings of the whole pass and of a call without work."""
    nothing, rounds, whole, idle = steps.nothing(), [], [], []
    for call in (steps.whole, *steps.calls, nothing):
        call()
    end = clock() + seconds
    while len(rounds) < FEWEST or clock() < end:
        whole.append(_time(steps.whole, clock))
        rounds.append([_time(call, clock) for call in steps.calls])
        idle.append(_time(nothing, clock))
    return np.array(rounds), summary(whole), summary(idle)


def _time(call, clock) -> float:
    before = clock()
    call()
    return clock() - before
