"""How long each layer takes on one core, what share of the core's peak it reaches, and what share it could reach.

A layer that does little with each byte waits for memory however well it is programmed. The roofline is the share of the
peak that is left when its bytes are read as fast as the core can read. Source: Williams et al. 2009
(doi 10.1145/1498765.1498785). Inputs and outputs are read from the smallest level of memory that holds them, for the
layer before has just written them. Weights are read from the smallest level that holds those of the whole network: all
others have been read since they were last used.
"""
import time
from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np

SECONDS = 0.4  # duration of the measurement
FEWEST = 9  # passes at least, even if they take longer
PEAK_SECONDS = 0.05  # for each vector width
READ_SECONDS = 0.08  # for each level of memory


@dataclass(frozen=True)
class StepTime:
    """One step of the engine: a layer, or a depthwise convolution fused with its producer.

    In int8 also the step that quantises a layer's input, which counts as this layer's.
    """

    name: str  # "blocks.1.0.conv_pw + conv_dw" for two, "input of blocks.1.0.conv_pw" for what quantises
    layers: tuple[str, ...]
    macs: int
    flops: int
    seconds: float  # the median
    bytes: int = 0  # the least to read and write: input, weights, output
    limit: float = 1.0  # the roofline as a share of the peak


@dataclass(frozen=True)
class Times:
    """The steps of one pass on one core."""

    steps: tuple[StepTime, ...]
    peak: float  # of the core, measured right after the passes: FLOP/s with nothing but fused multiply-adds, or, for a
    # network in int8, operations per second with nothing but dot products of integers
    passes: int
    bandwidths: dict[str, float] = field(default_factory=dict)  # "L1" ..: bytes per second that the core reads from it

    @property
    def seconds(self) -> float:
        """The time of all steps together."""
        return sum(step.seconds for step in self.steps)

    def share(self, steps: Collection[StepTime]) -> float:
        """The share of the peak that these steps reach together."""
        return sum(step.flops for step in steps) / sum(step.seconds for step in steps) / self.peak


def measure_times(weights, x: np.ndarray, logits: np.ndarray) -> Times:
    """Time the steps of one picture's pass; x (1, H, W, C), logits (1, num_classes), weights in their precision.

    Raises NpefficientError if the timed passes give different logits.
    """
    from ..bench.peak import bandwidths, core_peak, level_of
    from ..bench.steps import QUANTISES, Steps

    steps = Steps(weights, x)
    steps.in_place()  # warm-up
    steps.check_logits("the timed pass", logits)
    taken, end = [], time.perf_counter() + SECONDS
    while len(taken) < FEWEST or time.perf_counter() < end:
        taken.append(steps.in_place()[1:])  # the first is the preparation
    seconds = np.median(taken, axis=0)
    peak = core_peak(PEAK_SECONDS, steps.precision)
    weights_read = sum(step.constants for step in steps.steps)
    # The best of the reads, as the peak is the best of the sums: a limit is what nothing disturbs.
    rates = bandwidths(READ_SECONDS, max(weights_read, *(step.bytes() for step in steps.steps)), best=True)
    level = level_of(weights_read, rates)
    # On a busy machine, a layer may have been quicker to read its weights than the measurement after it.
    rates[level] = max(rates[level], *(step.constants / median for step, median in zip(steps.steps, seconds)))
    timed = tuple(
        StepTime(step.name, tuple(layer.name.removeprefix(QUANTISES) for layer in step.layers), step.macs,
                 step.flops(), float(median), step.bytes(), _limit(step, weights_read, peak, rates))
        for step, median in zip(steps.steps, seconds, strict=True))
    return Times(timed, peak, len(taken), rates)


def _limit(step, weights_read: int, peak: float, rates: dict[str, float]) -> float:
    """The roofline of one step; weights_read: bytes of the whole network's weights."""
    from ..bench.peak import level_of

    others = step.bytes() - step.constants
    seconds = step.constants / rates[level_of(weights_read, rates)] + others / rates[level_of(others, rates)]
    return min(1.0, step.flops() / seconds / peak)
