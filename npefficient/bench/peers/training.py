"""Time a training step of ours and of torch, in interleaved rounds.

The gradients of our first step are verified at a small size (`training_check.py`). At the size that is timed, the
losses of the first two steps of every engine are compared with ours: the second one depends on the gradients and on the
optimizer.
"""
import itertools
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...common.text import counted
from ...network.architecture import build
from ..machine import resident_peak
from ..measure import measure
from ..model import unsteady
from ..peak import Core, core_now, cores_of
from ..process import isolated
from ..subject import Subject, make_subject
from ..verify import LOGITS, verify
from . import training_engines
from .installed import version
from .peer import OURS, Peer
from .training_check import GRADIENTS, SHAPE, batch_of
from .training_costs import bytes_moved, step_macs
from .turns import in_units, take_turns, usable

PACKAGE = __name__.rpartition(".")[0]
FIRST = 2  # steps whose losses are compared
SLACK = 10  # tolerances that they may differ by: roundings and the corners of ReLU6 change the second one, too
COLUMNS = {"model": "<13", "engine": "<13", "version": "<12", "threads": ">7", "batch": ">5", "min ms": ">8.2f",
           "median": ">8.2f", "images/s": ">8.1f", "/ ours": ">6.2f", "from": ">5.2f", "to": ">5.2f",
           "of peak": ">7.1%", "MB": ">7.1f", "GB/s": ">5.1f", "peak MB": ">7.0f", "differs": ">8.1e"}
LEGEND = f"""\
Each engine runs in its own process, in turns. A step is forward, backward and SGD with momentum in float32. min ms,
median: milliseconds of a step divided by its pictures, of the fastest step, and the median of the rounds' medians.
/ ours: its median divided by ours in the same round: the median over all rounds; from, to: the lowest and the highest.
of peak: the median's share of the FMA peak of the cores in use, measured before and after all rounds; a step counts as
three times the multiply-adds of the forward pass, less one time the stem's, whose input needs no gradient. MB: what our
passes over feature maps and parameters have to read and write for a picture, from the layers' shapes, as if the cache
held only what one chunk of a step uses again; GB/s: the same over the median. peak MB: resident memory. differs:
largest difference of the first two losses from ours. Our first gradients were compared with the plain network's in
float64, for {SHAPE[0]} pictures of {SHAPE[1]}x{SHAPE[2]}: each differs by less than {GRADIENTS:.0%} in norm."""


@dataclass(frozen=True)
class Case:
    """What each engine is to train."""

    subject: Subject
    batch: int
    threads: int

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return self.batch, self.subject.height, self.subject.width, 3

    @property
    def title(self) -> str:
        return f"{self.subject.title}, training, batch {self.batch}, {counted(self.threads, 'thread')}"


@dataclass(frozen=True)
class Timed:
    """All rounds of one case, and one core's peak before and after them."""

    case: Case
    results: dict[Peer, list[dict]]
    before: Core
    after: Core


def run(report, names, peers, threads, batches, rounds: int = 3, seconds: float = 2.0) -> None:
    """Time every model with every batch and number of threads; one row per engine.

    Raises NpefficientError for a wrong loss or gradient.
    """
    there, found = usable(peers, "float32", batches), []
    try:
        for name in names:
            with tempfile.TemporaryDirectory() as directory:
                subject = make_subject(name, directory, precisions=())
                isolated(f"{PACKAGE}.training_check", "check", file=str(subject.weights), threads=threads)
                for batch, count in itertools.product(batches, threads):
                    found.append(run_case(Case(subject, batch, count), there[batch], rounds, seconds))
    finally:  # after an interrupt, still print the results so far: they took minutes
        if found:
            table = report.table(f"training, {counted(rounds, 'round')} of {seconds:g} s", COLUMNS, "training")
            for timed in found:
                add_rows(table, timed)
            print(LEGEND)
            for warning in filter(None, map(unsteady, table.rows)):
                print(warning)


def run_case(case: Case, peers, rounds: int, seconds: float) -> Timed:
    losses, before = first_losses(case), core_now("float32")
    results = take_turns(peers, rounds, case.title, lambda peer: time_peer(peer, case, losses, seconds))
    return Timed(case, results, before, core_now("float32"))


def first_losses(case: Case) -> list[float]:
    """Our losses of the first steps: what all engines' are compared with."""
    return call_child("losses", OURS, case)


def time_peer(peer: Peer, case: Case, losses: list[float], seconds: float) -> dict:
    """Time one engine in a new process."""
    return call_child("child", peer, case, expected=losses, seconds=seconds)


def call_child(function: str, peer: Peer, case: Case, **kwargs):
    subject = case.subject
    return isolated(__name__, function, environment={"TORCHINDUCTOR_CACHE_DIR": str(subject.directory / "inductor")},
                    engine=peer.engine, name=subject.name, height=subject.height, width=subject.width,
                    directory=str(subject.directory), batch=case.batch, threads=case.threads, **kwargs)


def losses(engine, name, height, width, directory, batch, threads) -> list[float]:
    """In the process of one engine: the losses of its first steps."""
    step = make_step(engine, Case(Subject(name, height, width, Path(directory)), batch, threads))
    return [step() for _ in range(FIRST)]


def child(engine, name, height, width, directory, batch, threads, expected, seconds) -> dict:
    """In the process of one engine: the first steps, their verification, the timing; seconds are those of a step."""
    case = Case(Subject(name, height, width, Path(directory)), batch, threads)
    step = make_step(engine, case)
    first = [step() for _ in range(FIRST)]
    differs = verify(f"{engine}, {case.title}, losses of the first steps", first, expected, LOGITS, SLACK)
    timing = measure(step, seconds)
    return {"minimum": timing.minimum, "median": timing.median, "memory": resident_peak(), "differs": differs}


def make_step(engine: str, case: Case):
    return getattr(training_engines, engine)(str(case.subject.weights), *batch_of(case.shape), case.threads)


def add_rows(table, timed: Timed) -> None:
    """One row for each engine, from the rounds' results."""
    case, ours = timed.case, timed.results[OURS]
    subject, network = case.subject, build(case.subject.name)
    flops = 2 * step_macs(network, subject.height, subject.width)
    moved = bytes_moved(network, subject.height, subject.width, case.batch)
    peak = (timed.before.peak + timed.after.peak) / 2 * cores_of(case.threads)
    for peer, rounds in timed.results.items():
        ratios = [one["median"] / own["median"] for one, own in zip(rounds, ours, strict=True)]
        median = float(np.median([one["median"] for one in rounds])) / case.batch
        resident = max((one["memory"] for one in rounds if one["memory"]), default=None)
        own = {"MB": moved / 1e6, "GB/s": moved / median / 1e9} if peer is OURS else {}
        table.add(**{
            "model": subject.title, "engine": peer.engine, "version": version(peer.distribution),
            "threads": case.threads, "batch": case.batch,
            "min ms": min(one["minimum"] for one in rounds) / case.batch * 1e3, "median": median * 1e3,
            "images/s": 1 / median, "/ ours": float(np.median(ratios)), "from": min(ratios), "to": max(ratios),
            "of peak": flops / median / peak, **own, "peak MB": resident and resident / 1e6,
            "differs": max(one["differs"] for one in rounds), "peak 1": timed.before.peak / 1e9,
            "peak 2": timed.after.peak / 1e9, "precision": "float32", "rounds": in_units(rounds, case.batch)})
