"""Where the time for one photo goes: reading it, preparing it, each step of the network, naming the classes."""
import numpy as np

from ..common.figure_files import write_json
from ..common.text import plain
from ..images.image import open_image, transform
from ..model.loading import AnyWeights
from ..model.model import plain_network
from ..scores import softmax, top_k
from .layers import BEFORE, Passes, check, print_steps
from .measure import measure
from .peak import UNITS
from .steps import Steps

STAGES = {"stage": "<28", "ms": ">9.3f", "best": ">9.3f", "of time": ">7.1%"}
PARTS = READ, PREPARE, COMPUTE, NAME = ("read and decode the photo", "resize, crop, normalise", "the network",
                                        "softmax and top 5")


def run(report, weights: AnyWeights, photo, threads: int, seconds: float, trace=None, **how) -> None:
    """Print the stages of a photo (path, or None for random pixels), then the steps of the network; write the trace.

    weights: in the precision to compute in
    how: exif and max_pixels of `open_image`
    """
    in_chans = weights.architecture.in_chans

    def read():
        return open_image(photo, in_chans=in_chans, **how)

    def prepare(image):
        return transform(image, weights.preprocessing, in_chans)

    x = np.random.default_rng(0).uniform(-1, 1, (*weights.preprocessing.input_size, in_chans))
    x = x.astype(np.float32) if photo is None else prepare(read())
    steps = Steps(weights, x[None], threads)
    title = (f"{weights.architecture.variant.short_name} {x.shape[0]}x{x.shape[1]}" +
             f" {steps.precision}" * (steps.precision != "float32"))
    check(steps, title, plain_network(weights)(x[None]))
    stages = {} if photo is None else _stages(report, photo, read, prepare, steps, seconds / 4)
    passes = print_steps(report, title, steps, seconds)
    if trace is not None:
        events = _events(stages, steps, passes)
        figures = {"traceEvents": events, "displayTimeUnit": "ms", "otherData": report.environment}
        write_json(trace, figures, force=True, indent=None)
        print(f"wrote {plain(trace)}: the trace, to open it in ui.perfetto.dev or chrome://tracing")


def _stages(report, photo, read, prepare, steps: Steps, seconds: float) -> dict[str, float]:
    """Time each stage; returns the best seconds of each."""
    image = read()
    steps.whole()
    logits = steps.logits()
    calls = {READ: read, PREPARE: lambda: prepare(image), COMPUTE: steps.whole, NAME: lambda: top_k(softmax(logits)[0])}
    timings = {stage: measure(call, seconds) for stage, call in calls.items()}
    table = report.table(f"{plain(photo)}, {image.width} x {image.height} pixels", STAGES, "stages")
    total = sum(timing.median for timing in timings.values())
    for stage, timing in timings.items():
        table.add(stage=stage, ms=timing.median * 1e3, best=timing.minimum * 1e3, **{"of time": timing.median / total})
    table.add(stage="together", ms=total * 1e3, best=sum(timing.minimum for timing in timings.values()) * 1e3,
              **{"of time": 1.0})
    return {stage: timing.minimum for stage, timing in timings.items()}


def _events(stages: dict[str, float], steps: Steps, passes: Passes) -> list[dict]:
    """Chrome's trace events, in microseconds: the stages on line 1, the steps of the quickest pass on line 2."""
    events, now = [], 0.0

    def add(name, seconds, line, **details):
        events.append({"name": name, "ph": "X", "ts": now * 1e6, "dur": seconds * 1e6, "pid": 1, "tid": line,
                       "args": details})

    for stage in (READ, PREPARE):
        if stage in stages:
            add(stage, stages[stage], 1)
            now += stages[stage]
    add(COMPUTE, passes.best.sum(), 1)
    add(BEFORE, passes.best[0], 2)
    now += passes.best[0]
    for step, seconds in zip(steps.steps, passes.best[1:], strict=True):
        add(step.name, seconds, 2, MMACs=step.macs / 1e6, KiB=step.bytes() / 1024,
            **{UNITS[steps.precision]: step.flops() / seconds / 1e9}, **step.describe())
        now += seconds
    if NAME in stages:
        add(NAME, stages[NAME], 1)
    names = {1: "photo", 2: "network"}
    return events + [{"name": "thread_name", "ph": "M", "pid": 1, "tid": line, "args": {"name": name}}
                     for line, name in names.items()]
