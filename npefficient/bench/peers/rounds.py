"""Time every engine in interleaved rounds and compare it with ours."""
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...common.text import counted
from ...weights.weight_file import read_weights
from ..machine import resident_peak
from ..measure import measure
from ..process import ProcessFailed, isolated
from ..report import progress
from ..subject import Subject, make_subject
from ..verify import LOGITS, verify
from . import engines
from .accuracy import accuracy, logits_of, verdict
from .installed import installed_size, version
from .peer import OURS, Peer
from .photographs import PICTURES, make_photo_subject
from .turns import in_units, take_turns, usable

PACKAGE = __name__.rpartition(".")[0]
SLACK = 10  # a peer may differ by this many of our tolerances: some transform the weights again
TIMES = {"model": "<13", "engine": "<13", "version": "<12", "threads": ">7", "batch": ">5",
         "min ms": ">8.2f", "median": ">8.2f", "/ ours": ">7.2f", "from": ">6.2f", "to": ">6.2f",
         "min / ours": ">10.2f", "start s": ">7.2f", "peak MB": ">7.0f", "installed MB": ">12.0f"}
COLUMNS = {"float32": {**TIMES, "differs": ">8.1e"},
           "int8": {**TIMES, "weights": ">8", "error": ">6.1%", "kept": ">4", "verdict": "<10"}}
LEGEND = """Each engine runs in its own process, in turns. / ours: its median divided by ours in the same round: the
median over all rounds; from, to: the lowest and the highest. start s: from process start to the first result, the
shortest. peak MB: resident memory. installed MB: with all dependencies."""
LEGENDS = {"float32": "differs: largest difference from the plain network's logits.", "int8": f"""\
error: of the logits of the {PICTURES} photographs that come with npefficient, against those in float32: the root of the
mean square, as a share of their standard deviation. kept: how many of the photographs keep their class. Peers are
calibrated with the same photographs and crops of them, which favours them; ours needs no calibration. WRONG: the error
is more than half of the deviation. With random weights, the classes say nothing."""}


@dataclass(frozen=True)
class Case:
    """What each engine is to run."""

    subject: Subject
    precision: str
    batch: int
    threads: int
    random: bool = True  # the weights are; they are the official ones if not

    def file(self, peer: Peer) -> Path:
        """What an engine reads: its own model file, or else the weight file."""
        made = peer.needs(self.precision).file
        return self.subject.directory / f"{self.subject.name}-{self.batch}.{made[1]}" if made else self.subject.weights

    @property
    def title(self) -> str:
        return f"{self.subject.title}, {self.precision}, batch {self.batch}, {counted(self.threads, 'thread')}"


def run(report, names, peers, threads, batches=(1,), rounds: int = 3, seconds: float = 2.0,
        precision: str = "float32") -> None:
    """Time every model with every batch and number of threads; one row per engine.

    Raises NpefficientError for wrong logits.
    """
    there, found = usable(peers, precision, batches), []
    try:
        for name in names:
            with tempfile.TemporaryDirectory() as directory:
                subject = (make_subject if precision == "float32" else make_photo_subject)(name, directory)
                random = bool(read_weights(subject.weights).source.random)
                for batch in batches:
                    cases = [Case(subject, precision, batch, count, random) for count in threads]
                    ready = [peer for peer in there[batch] if prepared(peer, cases[0])]
                    for case in cases:
                        found.append((case, run_rounds(case, ready, rounds, seconds)))
    finally:  # after an interrupt, still print the results so far: they took minutes
        if found:
            table = report.table(f"{precision}, {counted(rounds, 'round')} of {seconds:g} s, in ms for a batch",
                                 COLUMNS[precision], "peers")
            for case, results in found:
                add_rows(table, case, results)
            print(LEGEND, LEGENDS[precision], sep="\n")


def prepared(peer: Peer, case: Case) -> bool:
    """Make a peer's file; returns False and reports why if that fails."""
    made, target, subject = peer.needs(case.precision).file, case.file(peer), case.subject
    if target.exists():  # shared with another engine, or the weight file
        return True
    calibration = {} if case.precision == "float32" else {"calibration": str(subject.calibration)}
    try:
        isolated(f"{PACKAGE}.{made[0]}", "make", weights=str(subject.weights), batch=case.batch, height=subject.height,
                 width=subject.width, target=str(target), **calibration)
        return True
    except ProcessFailed as failure:
        progress(f"left out: {peer.engine}, {subject.title} (its model can't be made: {failure})")
        return False


def run_rounds(case: Case, peers, rounds: int, seconds: float) -> dict[Peer, list[dict]]:
    """The results of every engine that did not fail, one for each round."""
    return take_turns(peers, rounds, case.title, lambda peer: time_peer(peer, case, seconds))


def time_peer(peer: Peer, case: Case, seconds: float) -> dict:
    """Time one engine in a new process."""
    subject = case.subject
    return isolated(__name__, "child", environment={"TORCHINDUCTOR_CACHE_DIR": str(subject.directory / "inductor")},
                    engine=peer.engine, file=str(case.file(peer)), name=subject.name, height=subject.height,
                    width=subject.width, directory=str(subject.directory), precision=case.precision, batch=case.batch,
                    threads=case.threads, seconds=seconds, started=time.time())


def child(engine, file, name, height, width, directory, precision, batch, threads, seconds, started) -> dict:
    """In the process of one engine: the first answer, its verification, the timing."""
    case = Case(Subject(name, height, width, Path(directory)), precision, batch, threads)
    prepare, infer = getattr(engines, engine)(file, precision, threads)
    x = prepare(case.subject.input(batch))
    first = infer(x)
    start = time.time() - started
    found = verified(engine, case, first, prepare, infer)
    timing = measure(lambda: infer(x), seconds)
    return {"minimum": timing.minimum, "median": timing.median, "start": start, "memory": resident_peak(), **found}


def verified(engine: str, case: Case, first, prepare, infer) -> dict:
    """How far the engine's logits are from the expected ones; raises NpefficientError for wrong ones.

    In 8 bits each peer has a rounding of its own, and is judged by the photographs; ours has to be its definition.
    """
    what, subject = f"{engine}, {case.title}", case.subject
    if case.precision == "float32":
        return {"differs": verify(what, first, subject.logits(case.batch), LOGITS, SLACK)}
    got = logits_of(prepare, infer, subject, case.batch)
    if engine == OURS.engine:
        verify(what, got, subject.logits(PICTURES, "int8"), 0)
    return accuracy(what, got, subject.logits(PICTURES))


def add_rows(table, case: Case, results: dict[Peer, list[dict]]) -> None:
    """One row for each engine, from the rounds' results."""
    ours = results[OURS]
    for peer, rounds in results.items():
        ratios = [one["median"] / own["median"] for one, own in zip(rounds, ours, strict=True)]
        shortest = min(one["minimum"] for one in rounds)
        resident = max((one["memory"] for one in rounds if one["memory"]), default=None)
        table.add(**{
            "model": case.subject.title, "engine": peer.engine, "version": version(peer.distribution),
            "threads": case.threads, "batch": case.batch, "min ms": shortest * 1e3,
            "median": float(np.median([one["median"] for one in rounds])) * 1e3,
            "/ ours": float(np.median(ratios)), "from": min(ratios), "to": max(ratios),
            "min / ours": shortest / min(own["minimum"] for own in ours),
            "start s": min(one["start"] for one in rounds), "peak MB": resident and resident / 1e6,
            "installed MB": installed_size(peer.distribution) / 1e6, "precision": case.precision,
            **distance(case, rounds), "rounds": in_units(rounds)})


def distance(case: Case, rounds: list[dict]) -> dict:
    """How far one engine's logits are from the expected ones: the worst of all rounds."""
    if case.precision == "float32":
        return {"differs": max(one["differs"] for one in rounds)}
    error, kept = max(one["error"] for one in rounds), min(one["kept"] for one in rounds)
    return {"weights": "random" if case.random else "official", "error": error, "kept": None if case.random else kept,
            "verdict": verdict(error, kept, case.random)}
