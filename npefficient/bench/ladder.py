"""One layer, or one block, on every rung of its ladder: verified against NumPy, in 8 bits to the last bit, then timed.
"""
import math
import textwrap
import time

import numpy as np

from ..errors import ArgumentError
from ..kernels.layout import ZERO
from ..ladder.case import Case, Folded, QuantizedCase, Rung
from ..ladder.registry import LADDERS
from ..network import quantized_reference, reference
from ..network.architecture import Architecture, Conv
from ..network.folding import fold
from ..network.parameters import Weights
from ..network.quantization import QuantizedWeights, reads_floats
from .blas import WAYS, compare
from .limits import measure_limits, predict
from .measure import measure
from .verify import verify

COLUMNS = {"rung": "<19", "us": ">10.1f", "best": ">10.1f", "G{unit}/s": ">8.3g", "of peak": ">8.2%", "GB/s": ">8.3g",
           "x before": ">8.3g", "rows": ">7", "differs": ">8.1e", "predicted": ">9.3g", "limit": ">8"}
LEGEND = """\
us: the median, best: the shortest, both with the cost of calling a compiled function, a microsecond or two; GB/s: for
the least bytes to read and write; x before: the speed relative to the rung before; rows: the rows of the picture that
were timed, if all of them take too long: the time is scaled up. Packing and layouts are not timed. predicted: the
speed that the slowest of three allows, each of which is measured alone: the latency of the sums in flight, the loads
and stores, and the units that multiply; limit: which of them it is. The prediction leaves out what comes before and
after each sum and the caches beyond the first, and a processor may begin a sum before the last one is done."""
LONGEST = 0.5  # seconds of one call


def wanted(network: Architecture, op: str | None, layer: str | None, precision: str = "float32") -> str | None:
    """The ladder that is requested by naming one layer or block; None if it is not exactly one, or if it has none.

    Raises ArgumentError for an unknown block, and for a block in 8 bits.
    """
    ops = {conv.name: conv.op for conv in network.convs}
    ops |= {block.name: "block" for block in network.blocks if block.kind == "ir"}
    found = ops.get(layer)
    if precision == "int8" and "block" in (op, found):
        raise ArgumentError(f"--precision int8 --layer {layer!r}: a block's ladder is in float32; in int8 there is one "
                            f"for each 1x1 convolution, such as {network.blocks[1].convs[0].name}")
    if op == "block" and found != "block":
        raise ArgumentError(f"--op block --layer {layer!r}: name one inverted residual block, such as "
                            f"{network.blocks[1].name}")
    ladder = f"{found}-int8" if precision == "int8" else found
    return ladder if ladder in LADDERS and op in (None, found) else None


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


def quantized_case_of(weights: QuantizedWeights, layer: str, height: int, width: int, seed: int = 0) -> QuantizedCase:
    """A 1x1 convolution of a network in 8 bits, likewise; where it reads floats, each row has a random scale."""
    network, rng = weights.architecture, np.random.default_rng(seed)
    conv = next(conv for conv in network.convs if conv.name == layer)
    size = next((one.height, one.width) for one in network.layers(height, width) if one.name == layer)
    ends = {block.convs[-1].name for block in network.blocks if block.skip}
    return QuantizedCase(
        rng.integers(1, 256, (*size, conv.in_channels), np.uint8), weights.layers[layer],
        rng.uniform(0.01, 0.02, size[0]).astype(np.float32) if reads_floats(conv) else None, conv.relu6,
        rng.uniform(-1, 1, (*size, conv.out_channels)).astype(np.float32) if layer in ends else None)


def folded_conv(weights: Weights, conv: Conv) -> Folded:
    """A convolution with its batch norm folded in, rounded to float32."""
    weight, bias = (array.astype(np.float32) for array in fold(conv, weights.parameters))
    return Folded(weight, bias, conv.stride, conv.relu6)


def expected(case: Case | QuantizedCase) -> np.ndarray:
    """NumPy's result in float64, in 8 bits that of the definition: (Q, R, M)."""
    if isinstance(case, QuantizedCase):
        return expected_in_8_bits(case)
    x = case.x[None].astype(np.float64)
    for conv in case.convs:
        weight = conv.weight.astype(np.float64)
        depthwise = weight.shape[-1] > 1
        x = reference.depthwise_conv(x, weight, conv.stride) if depthwise else reference.pointwise_conv(x, weight)
        x = reference.relu6(x + conv.bias) if conv.relu6 else x + conv.bias
    return x[0] if case.residual is None else x[0] + case.residual


def expected_in_8_bits(case: QuantizedCase) -> np.ndarray:
    """The definition's result for integers that are already there, uint8 or float32."""
    scale, zero = (1, 0) if case.scale is None else (case.scale[:, None, None], ZERO)
    sums = quantized_reference.sums(case.x[None].astype(np.int32) - zero, case.layer)[0]
    y = quantized_reference.fma(sums, scale * case.layer.scale, case.layer.bias)
    return quantized_reference.clamp(y) if case.relu6 else y if case.residual is None else y + case.residual


def run(report, title: str, case: Case | QuantizedCase, peak: float,
        seconds: float) -> tuple[list[dict], dict | None]:
    """Print the ladder of a case -> its rows, and what NumPy's product of matrices reaches, as `plots.ladder` takes it,
    None where it does not compare. peak: of its precision, in operations per second."""
    rungs, (h, w, c), (q, r, m), unit = LADDERS[case.op], case.x.shape, case.out_shape, case.unit
    table = report.table(f"{title}: {case.op}, {h}x{w}x{c} to {q}x{r}x{m}, {case.flops / 1e6:.2f} M{unit}s, "
                         f"{case.bytes / 1024:,.0f} KiB at least; peak {peak / 1e9:.1f} G{unit}/s",
                         {key.format(unit=unit): form for key, form in COLUMNS.items()}, "ladder")
    before, limits = None, measure_limits() if any(rung.cost for rung in rungs) else {}
    for rung in rungs:
        if rung.lacking:
            table.add(rung=rung.name, reason=rung.reason, lacking=rung.lacking)
            continue
        part = portion(rung, case)
        prepared = rung.prepare(part)
        prepared.call()
        differs = verify(f"{title}, {rung.name}", prepared.result(), expected(part), sum_length(case))
        timing = measure(prepared.call, seconds)
        each, best = (taken * case.flops / part.flops for taken in (timing.median, timing.minimum))
        rows = None if part is case else f"{len(part.x)}/{h}"
        predicted = rung.cost and predict(rung.cost, limits)
        table.add(rung=rung.name, us=each * 1e6, best=best * 1e6, rows=rows, differs=differs, reason=rung.reason, **{
            f"G{unit}/s": case.flops / each / 1e9, "of peak": case.flops / each / peak,
            "GB/s": case.bytes / each / 1e9, "x before": before and before / each,
            "predicted": predicted and predicted.flops / 1e9, "limit": predicted and predicted.limit})
        before = each
    print(LEGEND)
    blas = numpy_line(report, case, peak, seconds) if case.op == "pointwise" else None
    for rung in rungs:
        lacking = f"; not measured, as this processor lacks {rung.lacking}" if rung.lacking else ""
        print(textwrap.fill(f"{rung.name}: {rung.reason}{lacking}.", 120, initial_indent="- ", subsequent_indent="  "))
    return table.rows, blas


def numpy_line(report, case: Case, peak: float, seconds: float) -> dict:
    """Print how fast NumPy computes the same layer on one thread -> what `plots.ladder` takes."""
    taken = compare(case, seconds)
    speeds = {way: case.flops / taken[way] for way in WAYS}
    table = report.table(f"the same in NumPy ({taken['library']}), on one thread, in a process of its own",
                         {"way": "<19", "us": ">10.1f", "GFLOP/s": ">19.3g", "of peak": ">8.2%"}, "blas")
    for way, words in WAYS.items():
        table.add(way=words, us=taken[way] * 1e6, **{"GFLOP/s": speeds[way] / 1e9, "of peak": speeds[way] / peak})
    return {"library": taken["library"], "product": speeds["product"]}


def portion(rung: Rung, case: Case, clock=time.perf_counter) -> Case:
    """The case, or its first rows, as many as take about LONGEST seconds."""
    prepared = rung.prepare(case.top(1))
    prepared.call()  # it may compile
    before = clock()
    prepared.call()
    rows = math.floor(LONGEST / max(clock() - before, 1e-9))
    return case if rows >= len(case.x) else case.top(max(1, rows))


def sum_length(case: Case | QuantizedCase) -> int:
    """The products per sum, added up over its layers; 0 for integers, whose sums are exact."""
    return 0 if isinstance(case, QuantizedCase) else sum(conv.weight[0].size + 2 for conv in case.convs)
