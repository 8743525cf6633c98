"""Every kernel on every distinct layer shape with warm caches: one step repeated, verified against NumPy first."""
import fnmatch
import math
import tempfile

from ..errors import ArgumentError
from ..network.architecture import build
from . import ladder, plots
from .layers import figures
from .measure import measure
from .peak import UNITS, core_peak, limit, reads
from .steps import Steps
from .subject import make_subject

COLUMNS = {"op": "<10", "input": "<11", "k": ">1", "s": ">1", "out": ">4", "end": ">9", "us": ">8.1f", "best": ">8.1f",
           "rate": ">7.1f", "of peak": ">7.1%", "limit": ">7.1%", "GB/s": ">6.1f", "layers": ">6", "first": "<27",
           "differs": ">7.1e"}
LEGEND = """\
Each shape is repeated alone, so that what fits a cache stays there; us: the median, best: the shortest, both without
the cost of the call. Each layer is a step of its own here. In the network a depthwise layer is fused with the layer
before it (see 'bench layers'); here it first copies its input and pads it with zeros, which is part of its time.
GB/s: for the least bytes to read and write; limit: the roofline's share of the peak, if all of them are read from the
smallest level of memory that they fill to at most a half (L3, which may be shared: to a quarter); layers: how many have
this shape, first: the first of them. The peak of int8 is that of integers, also for the first two layers, which compute
with floats."""
CALL, MOST = 2e-3, 1000  # seconds of one call of the driver, filled with repeats, and the most repeats


def run(report, name: str, op: str | None = None, layer: str | None = None, size=None, seconds: float = 0.2,
        plot=None, precision: str = "float32") -> None:
    """Measure the chosen shapes in the order in which they first occur; `layer` may have wildcards.

    If it names one layer that has a ladder, or a block, print the ladder too. plot: a file for a picture of the ladder,
    or without a ladder, a roofline plot of the shapes.
    """
    of_ladder = ladder.wanted(build(name), op, layer, precision)
    with tempfile.TemporaryDirectory() as directory:
        subject = make_subject(name, directory, size, precisions=())
        weights = subject.read(precision)
        steps = None if of_ladder == "block" else Steps(weights, subject.input(1), fused=False)
    chosen, peak = steps and choose(steps, op, layer), core_peak(precision=precision)
    if steps:
        bandwidths = reads(report, seconds)
        rows = time_chosen(report, subject.titled(precision), steps, chosen, peak, bandwidths, seconds)
    if of_ladder:
        title, size = f"{layer} of {subject.titled(precision)}", (subject.height, subject.width)
        if precision == "int8":
            case = ladder.quantized_case_of(weights, layer, *size)
        else:
            case = ladder.case_of(weights, of_ladder, layer, *size)
        rungs, blas = ladder.run(report, title, case, peak, seconds)
        if plot:
            plots.write(plots.ladder(rungs, title, peak, case.unit, report.about, blas), plot)
    elif plot:
        title = f"{subject.titled(precision)}, layers one by one, data in the caches as far as they fit"
        plots.write(plots.roofline(rows, title, UNITS[precision], peak, bandwidths, report.about), plot)


def time_chosen(report, title: str, steps: Steps, chosen: dict[int, int], peak: float, bandwidths: dict[str, float],
                seconds: float) -> list[dict]:
    """Print the table; returns its rows."""
    idle, unit = measure(steps.nothing(), seconds).minimum, UNITS[steps.precision]
    table = report.table(f"{title}, one core; peak {peak / 1e9:.1f} {unit}",
                         {unit if key == "rate" else key: form for key, form in COLUMNS.items()}, "kernels")
    for i, step in enumerate(steps.steps):
        if i not in chosen:
            steps.calls[i]()  # the next steps need its output
            continue
        differs = steps.run_verified(i)
        timing, repeats = time_step(steps, i, seconds)
        each, best = ((taken - idle) / repeats for taken in (timing.median, timing.minimum))
        table.add(**step.describe(), end=step.end, **figures(each, step.flops(), peak, unit),
                  limit=limit(step.flops(), step.bytes(), peak, bandwidths), **{
                      "best": best * 1e6, "GB/s": step.bytes() / each / 1e9, "layers": chosen[i], "first": step.name,
                      "differs": differs, "operations per byte": step.flops() / step.bytes()})
    print(LEGEND)
    return table.rows


def choose(steps: Steps, op: str | None, layer: str | None) -> dict[int, int]:
    """The first step of each distinct shape -> how many have that shape; only of one op or layer if requested."""
    first, counts = {}, {}
    for i, step in enumerate(steps.steps):
        if op in (None, step.op) and (layer is None or fnmatch.fnmatchcase(step.name, layer)):
            at = first.setdefault(step.shape, i)
            counts[at] = counts.get(at, 0) + 1
    if not counts:
        given = " ".join(f"--{name} {value!r}" for name, value in (("op", op), ("layer", layer)) if value is not None)
        raise ArgumentError(f"no layer matches {given}: 'npefficient info "
                            f"{steps.weights.architecture.variant.short_name} --layers' names them all")
    return counts


def time_step(steps: Steps, i: int, seconds: float):
    """Return the Timing of a call that repeats step i, and the number of repeats."""
    repeats = 1
    while True:
        call = steps.repeated(i, repeats)
        taken = measure(call, CALL).minimum
        if taken >= CALL / 2 or repeats == MOST:
            return measure(call, seconds), repeats
        repeats = min(MOST, math.ceil(repeats * CALL / taken))
