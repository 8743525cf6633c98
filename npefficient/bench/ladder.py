"""One layer, or one block, on every rung of its ladder: verified against NumPy, then timed."""
import math
import textwrap
import time

import numpy as np

from ..errors import ArgumentError
from ..ladder.case import Case, Folded, Rung
from ..ladder.registry import LADDERS
from ..network import reference
from ..network.architecture import Architecture, Conv
from ..network.folding import fold
from ..network.parameters import Weights
from .layers import figures
from .measure import measure
from .verify import verify

COLUMNS = {"rung": "<19", "us": ">11.1f", "best": ">11.1f", "GFLOP/s": ">8.3g", "of peak": ">8.2%", "GB/s": ">8.3g",
           "x before": ">8.3g", "rows": ">7", "differs": ">8.1e"}
LEGEND = """\
us: the median, best: the shortest, both with the cost of calling a compiled function, a microsecond or two; GB/s: for
the least bytes to read and write; x before: the speed relative to the rung before; rows: the rows of the picture that
were timed, if all of them take too long: the time is scaled up. Packing and layouts are not timed."""
LONGEST = 0.5  # seconds of one call


def wanted(network: Architecture, op: str | None, layer: str | None) -> str | None:
    """The operator whose ladder is requested by naming one layer or block; None if it is not exactly one.

    Raises ArgumentError for an unknown block.
    """
    ops = {conv.name: conv.op for conv in network.convs}
    ops |= {block.name: "block" for block in network.blocks if block.kind == "ir"}
    found = ops.get(layer)
    if op == "block" and found != "block":
        raise ArgumentError(f"--op block --layer {layer!r}: name one inverted residual block, such as "
                            f"{network.blocks[1].name}")
    return found if found in LADDERS and op in (None, found) else None


def case_of(weights: Weights, op: str, layer: str, height: int, width: int, seed: int = 0) -> Case:
    """A layer or block of a network for pictures (height, width), on seeded random input; a block's shortcut is added.

    A pointwise layer at the end of a block with a shortcut gets random values to add.
    """
    network, rng = weights.architecture, np.random.default_rng(seed)
    block = next((block for block in network.blocks if layer.startswith(f"{block.name}.") or layer == block.name), None)
    convs = block.convs if op == "block" else [conv for conv in network.convs if conv.name == layer]
    sizes = {one.name: (one.height, one.width) for one in network.layers(height, width)}
    x = rng.uniform(-1, 1, (*sizes[convs[0].name], convs[0].in_channels)).astype(np.float32)
    folded = tuple(folded_conv(weights, conv) for conv in convs)
    case = Case(op, x, folded)
    if block is None or not block.skip or convs[-1] != block.convs[-1]:
        return case
    return Case(op, x, folded, x if op == "block" else rng.uniform(-1, 1, case.out_shape).astype(np.float32))


def folded_conv(weights: Weights, conv: Conv) -> Folded:
    """A convolution with its batch norm folded in, rounded to float32."""
    weight, bias = (array.astype(np.float32) for array in fold(conv, weights.parameters))
    return Folded(weight, bias, conv.stride, conv.relu6)


def expected(case: Case) -> np.ndarray:
    """NumPy's result in float64: (Q, R, M)."""
    x = case.x[None].astype(np.float64)
    for conv in case.convs:
        weight = conv.weight.astype(np.float64)
        depthwise = weight.shape[-1] > 1
        x = reference.depthwise_conv(x, weight, conv.stride) if depthwise else reference.pointwise_conv(x, weight)
        x = reference.relu6(x + conv.bias) if conv.relu6 else x + conv.bias
    return x[0] if case.residual is None else x[0] + case.residual


def run(report, title: str, case: Case, peak: float, seconds: float) -> list[dict]:
    """Print the ladder of a case; returns its rows."""
    rungs, (h, w, c), (q, r, m) = LADDERS[case.op], case.x.shape, case.out_shape
    table = report.table(f"{title}: {case.op}, {h}x{w}x{c} to {q}x{r}x{m}, {case.flops / 1e6:.2f} MFLOPs, "
                         f"{case.bytes / 1024:,.0f} KiB at least; peak {peak / 1e9:.1f} GFLOP/s", COLUMNS, "ladder")
    before = None
    for rung in rungs:
        part = portion(rung, case)
        prepared = rung.prepare(part)
        prepared.call()
        differs = verify(f"{title}, {rung.name}", prepared.result(), expected(part), sum_length(case))
        timing = measure(prepared.call, seconds)
        each, best = (taken * case.flops / part.flops for taken in (timing.median, timing.minimum))
        rows = None if part is case else f"{len(part.x)}/{h}"
        table.add(rung=rung.name, **figures(each, case.flops, peak), **{
            "best": best * 1e6, "GB/s": case.bytes / each / 1e9, "x before": before and before / each, "rows": rows,
            "differs": differs, "reason": rung.reason})
        before = each
    print(LEGEND)
    for rung in rungs:
        print(textwrap.fill(f"{rung.name}: {rung.reason}.", 120, initial_indent="- ", subsequent_indent="  "))
    return table.rows


def portion(rung: Rung, case: Case, clock=time.perf_counter) -> Case:
    """The case, or its first rows, as many as take about LONGEST seconds."""
    prepared = rung.prepare(case.top(1))
    prepared.call()  # it may compile
    before = clock()
    prepared.call()
    rows = math.floor(LONGEST / max(clock() - before, 1e-9))
    return case if rows >= len(case.x) else case.top(max(1, rows))


def sum_length(case: Case) -> int:
    """The products per sum, added up over its layers."""
    return sum(conv.weight[0].size + 2 for conv in case.convs)
