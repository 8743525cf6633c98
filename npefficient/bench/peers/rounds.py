"""Time every engine in interleaved rounds and compare it with ours."""
import importlib.util
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...common.text import counted
from ...errors import ArgumentError
from ..machine import resident_peak
from ..measure import measure
from ..process import ProcessFailed, isolated
from ..report import progress
from ..subject import Subject, make_subject
from ..verify import LOGITS, verify
from . import engines
from .installed import installed_size, version

PACKAGE = __name__.rpartition(".")[0]
SLACK = 10  # a peer may differ by this many of our tolerances: some transform the weights again
COLUMNS = {"model": "<13", "engine": "<13", "version": "<12", "threads": ">7", "min ms": ">8.2f", "median": ">8.2f",
           "/ ours": ">7.2f", "from": ">6.2f", "to": ">6.2f", "min / ours": ">10.2f", "start s": ">7.2f",
           "peak MB": ">7.0f", "installed MB": ">12.0f", "differs": ">8.1e"}
LEGEND = """Each engine runs in its own process, in turns. / ours: its median divided by ours in the same round: the
median over all rounds; from, to: the lowest and the highest. start s: from process start to the first result, the
shortest. peak MB: resident memory. installed MB: with all dependencies. differs: largest difference from the plain
network's logits."""


@dataclass(frozen=True)
class Peer:
    """One engine: the distribution it comes from, the modules it takes, and the kind of file it reads."""

    engine: str  # a function of `engines`
    distribution: str
    modules: tuple[str, ...] = ()
    file: tuple[str, str] | None = None  # (module that makes it, suffix)
    batches: bool = True

    def missing(self) -> list[str]:
        return [module for module in self.modules if importlib.util.find_spec(module) is None]


OURS = Peer("npefficient", "npefficient")
PEERS = (
    Peer("openvino", "openvino", ("openvino", "onnx"), ("onnx_file", "onnx")),
    Peer("litert", "ai-edge-litert", ("ai_edge_litert", "flatbuffers"), ("tflite_file", "tflite")),
    Peer("onnxruntime", "onnxruntime", ("onnxruntime", "onnx"), ("onnx_file", "onnx")),
    Peer("ncnn", "ncnn", ("ncnn",), ("ncnn_file", "param"), batches=False),
    Peer("torch_compile", "torch", ("torch", "timm")),
    Peer("torch_eager", "torch", ("torch", "timm")),
)


def choose(names: str) -> list[Peer]:
    """"openvino,ncnn" or "all" -> peers."""
    known = {peer.engine: peer for peer in PEERS}
    if names == "all":
        return list(PEERS)
    for name in names.split(","):
        if name not in known:
            raise ArgumentError(f"unknown peer {name!r}: known are {', '.join(known)}")
    return [known[name] for name in names.split(",")]


def run(report, names, peers, threads, batch: int = 1, rounds: int = 3, seconds: float = 2.0) -> None:
    """Time every model with every number of threads; one row per engine. Raises NpefficientError for wrong logits."""
    there = []
    for peer in peers:
        if peer.missing():
            progress(f"left out: {peer.engine} (not installed: {', '.join(peer.missing())})")
        elif batch > 1 and not peer.batches:
            progress(f"left out: {peer.engine} (takes one picture at a time)")
        else:
            there.append(peer)
    found = []
    try:
        for name in names:
            with tempfile.TemporaryDirectory() as directory:
                subject = make_subject(name, directory)
                ready = [peer for peer in there if _prepared(peer, subject, batch)]
                for count in threads:
                    found.append((subject.title, count, run_rounds(subject, ready, batch, count, rounds, seconds)))
    finally:  # after an interrupt, still print the results so far: they took minutes
        if found:
            table = report.table(f"float32, batch {batch}, {counted(rounds, 'round')} of {seconds:g} s", COLUMNS,
                                 "peers")
            for title, count, results in found:
                add_rows(table, title, count, results)
            print(LEGEND)


def _prepared(peer: Peer, subject: Subject, batch: int) -> bool:
    """Make a peer's file; returns False and reports why if that fails."""
    if peer.file is None or Path(engines.model_file(subject, batch, peer.file[1])).exists():
        return True
    try:
        isolated(f"{PACKAGE}.{peer.file[0]}", "make", weights=str(subject.weights), batch=batch, height=subject.height,
                 width=subject.width, target=engines.model_file(subject, batch, peer.file[1]))
        return True
    except ProcessFailed as failure:
        progress(f"left out: {peer.engine}, {subject.title} (its model can't be made: {failure})")
        return False


def run_rounds(subject, peers, batch, threads, rounds, seconds) -> dict[Peer, list[dict]]:
    """Each round runs every engine once, each time starting with the next one; failures are reported and left out."""
    results = {peer: [] for peer in (OURS, *peers)}
    for r in range(rounds):
        order = list(results)
        for peer in order[r % len(order):] + order[: r % len(order)]:
            what = f"{subject.title}, {counted(threads, 'thread')}"
            progress(f"{what}, round {r + 1} of {rounds}: {peer.engine}")
            try:
                results[peer].append(time_peer(peer, subject, batch, threads, seconds))
            except ProcessFailed as failure:
                if peer is OURS:  # nothing to compare with
                    raise
                progress(f"left out: {peer.engine}, {what} ({failure})")
                del results[peer]
    return results


def time_peer(peer: Peer, subject: Subject, batch: int, threads: int, seconds: float) -> dict:
    """Time one engine in a new process."""
    return isolated(__name__, "child", environment={"TORCHINDUCTOR_CACHE_DIR": str(subject.directory / "inductor")},
                    engine=peer.engine, name=subject.name, height=subject.height, width=subject.width,
                    directory=str(subject.directory), batch=batch, threads=threads, seconds=seconds,
                    started=time.time())


def child(engine, name, height, width, directory, batch, threads, seconds, started) -> dict:
    """In the process of one engine: the first answer, its verification, the timing."""
    subject = Subject(name, height, width, Path(directory))
    call = getattr(engines, engine)(subject, batch, threads)
    first = call()
    start = time.time() - started
    what = f"{engine}, {subject.title}, batch {batch}, {counted(threads, 'thread')}"
    differs = verify(what, first, subject.logits(batch), LOGITS, SLACK)
    timing = measure(call, seconds)
    return {"minimum": timing.minimum, "median": timing.median, "start": start, "memory": resident_peak(),
            "differs": differs}


def add_rows(table, title: str, threads: int, results: dict[Peer, list[dict]]) -> None:
    """One row for each engine, from the rounds' results."""
    ours = results[OURS]
    for peer, rounds in results.items():
        ratios = [one["median"] / own["median"] for one, own in zip(rounds, ours, strict=True)]
        shortest = min(one["minimum"] for one in rounds)
        resident = max((one["memory"] for one in rounds if one["memory"]), default=None)
        table.add(**{
            "model": title, "engine": peer.engine, "version": version(peer.distribution), "threads": threads,
            "min ms": shortest * 1e3, "median": float(np.median([one["median"] for one in rounds])) * 1e3,
            "/ ours": float(np.median(ratios)), "from": min(ratios), "to": max(ratios),
            "min / ours": shortest / min(own["minimum"] for own in ours),
            "start s": min(one["start"] for one in rounds), "peak MB": resident and resident / 1e6,
            "installed MB": installed_size(peer.distribution) / 1e6, "differs": max(one["differs"] for one in rounds),
            "rounds": rounds})
