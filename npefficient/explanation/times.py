"""How long each layer takes on one core, and what share of the core's peak it reaches."""
import time
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

SECONDS = 0.4  # duration of the measurement
FEWEST = 9  # passes at least, even if they take longer
PEAK_SECONDS = 0.05  # for each vector width


@dataclass(frozen=True)
class StepTime:
    """One step of the engine: a layer, or a depthwise convolution fused with its producer."""

    name: str  # "blocks.1.0.conv_pw + conv_dw" for two
    layers: tuple[str, ...]
    macs: int
    flops: int
    seconds: float  # the median


@dataclass(frozen=True)
class Times:
    """The steps of one pass on one core."""

    steps: tuple[StepTime, ...]
    peak: float  # FLOP/s of the core with nothing but fused multiply-adds, measured right after the passes
    passes: int

    @property
    def seconds(self) -> float:
        """The time of all steps together."""
        return sum(step.seconds for step in self.steps)

    def share(self, steps: Collection[StepTime]) -> float:
        """The share of the peak that these steps reach together."""
        return sum(step.flops for step in steps) / sum(step.seconds for step in steps) / self.peak


def measure_times(weights, x: np.ndarray, logits: np.ndarray) -> Times:
    """Time the steps of one picture's pass; x (1, H, W, C), logits (1, num_classes).

    Raises NpefficientError if the timed passes give different logits.
    """
    from ..bench.peak import core_peak
    from ..bench.steps import Steps
    from ..bench.verify import LOGITS, verify

    steps = Steps(weights, x)
    steps.in_place()  # warm-up
    verify("the timed pass", steps.logits(), logits, LOGITS)
    taken, end = [], time.perf_counter() + SECONDS
    while len(taken) < FEWEST or time.perf_counter() < end:
        taken.append(steps.in_place()[1:])  # the first is the preparation
    seconds = np.median(taken, axis=0)
    timed = tuple(
        StepTime(step.name, tuple(layer.name for layer in step.layers), step.macs, step.flops(), float(median))
        for step, median in zip(steps.steps, seconds, strict=True))
    return Times(timed, core_peak(PEAK_SECONDS), len(taken))
