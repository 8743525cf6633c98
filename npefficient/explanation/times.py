"""How long each layer takes on one core, and what share of the core's peak it reaches."""
import time
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

SECONDS = 0.4  # duration of the measurement
FEWEST = 9  # passes at least, even if they take longer
PEAK_SECONDS = 0.05  # for each vector width
QUANTISES = "input of "  # how `bench.steps` begins the name of what quantises a layer's input


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


@dataclass(frozen=True)
class Times:
    """The steps of one pass on one core."""

    steps: tuple[StepTime, ...]
    peak: float  # of the core, measured right after the passes: FLOP/s with nothing but fused multiply-adds, or, for a
    # network in int8, operations per second with nothing but dot products of integers
    passes: int

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
    from ..bench.peak import core_peak
    from ..bench.steps import Steps

    steps = Steps(weights, x)
    steps.in_place()  # warm-up
    steps.check_logits("the timed pass", logits)
    taken, end = [], time.perf_counter() + SECONDS
    while len(taken) < FEWEST or time.perf_counter() < end:
        taken.append(steps.in_place()[1:])  # the first is the preparation
    seconds = np.median(taken, axis=0)
    timed = tuple(
        StepTime(step.name, tuple(layer.name.removeprefix(QUANTISES) for layer in step.layers), step.macs,
                 step.flops(), float(median)) for step, median in zip(steps.steps, seconds, strict=True))
    return Times(timed, core_peak(PEAK_SECONDS, steps.precision), len(taken))
