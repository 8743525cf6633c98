"""Every kernel on every distinct layer shape, hot: the same step again and again, verified against NumPy first."""
import fnmatch
import tempfile

from ..errors import ArgumentError
from ..weights import read_weights
from .layers import figures
from .measure import measure
from .peak import core_peak
from .steps import Steps
from .subject import make_subject

COLUMNS = {"op": "<11", "input": "<14", "k": ">2", "s": ">3", "out": ">6", "end": ">10", "us": ">9.1f", "best": ">9.1f",
           "GFLOP/s": ">9.1f", "of peak": ">8.1%", "GB/s": ">7.1f", "layers": ">7", "first": ">21", "differs": ">9.1e"}
CALL = 5e-4  # seconds of one call of the driver, filled with repeats


def run(report, name: str, op: str | None = None, layer: str | None = None, size=None, seconds: float = 0.2) -> None:
    """Measure the chosen shapes in the order in which they first occur; `layer` may have wildcards."""
    with tempfile.TemporaryDirectory() as directory:
        subject = make_subject(name, directory, size)
        steps = Steps(read_weights(subject.weights), subject.input(1))
    chosen = choose(steps, op, layer)
    peak = core_peak()
    table = report.table(f"{subject.title}, one core, each shape alone and hot; us is the median; peak "
                         f"{peak / 1e9:.1f} GFLOP/s", COLUMNS, "kernels")
    for i, step in enumerate(steps.steps):
        if i not in chosen:
            steps.calls[i]()  # the next ones want its output
            continue
        differs = steps.run_verified(i)
        timing, repeats = time_step(steps, i, seconds)
        one, each = step.layer, timing.median / repeats
        table.add(op=one.op, input=f"{one.height}x{one.width}x{one.in_channels}", k=one.kernel or None, s=one.stride,
                  out=one.out_channels, end="relu6" if step.relu6 else "+residual" if step.residual else "linear",
                  **figures(each, step.flops(1), peak), **{
                      "best": timing.minimum / repeats * 1e6, "GB/s": step.bytes(1) / each / 1e9,
                      "layers": chosen[i], "first": one.name, "differs": differs})


def choose(steps: Steps, op: str | None, layer: str | None) -> dict[int, int]:
    """The first step of each distinct shape -> how many have that shape; only of one op or layer where asked for."""
    first, counts = {}, {}
    for i, step in enumerate(steps.steps):
        if op in (None, step.layer.op) and (layer is None or fnmatch.fnmatchcase(step.layer.name, layer)):
            at = first.setdefault(step.shape, i)
            counts[at] = counts.get(at, 0) + 1
    if not counts:
        raise ArgumentError(f"no layer matches --op {op!r} --layer {layer!r}: 'npefficient info lite0 --layers' names "
                            "them all")
    return counts


def time_step(steps: Steps, i: int, seconds: float):
    """Return the Timing of a call that repeats step i, and how often it does."""
    single = measure(steps.calls[i], CALL)
    repeats = max(1, min(1000, round(CALL / single.minimum)))
    return measure(steps.repeated(i, repeats), seconds), repeats
