"""The exponential moving average (EMA) of a network's weights, which is more accurate than the weights of any one step.

    e = e + (1 - decay) (x - e)

for each float array x of the network, batch norm statistics included; whole numbers (`num_batches_tracked`) are copied.
Source: timm's `ModelEmaV3` as `train.py` uses it (`--model-ema --model-ema-decay`, `--model-ema-warmup`).
"""
import numpy as np

from .states import copies


class ModelEma:
    """Average of a network's arrays.

    arrays: timm's name -> array of any shape, float32 or int64: the whole network; they are copied
    decay: share of the average that stays in each update, 0 to 1
    warmup: let the decay grow with the updates, up to `decay`
    """

    def __init__(self, arrays: dict[str, np.ndarray], decay: float, warmup: bool = False):
        self.arrays = copies(arrays)  # of the average
        self.decay, self.warmup = float(decay), warmup

    def decay_at(self, step: int) -> float:
        """The decay of update number `step`, from 1: 0 at first, so that the average starts after the first update."""
        if step <= 1:
            return 0.0
        return min(1.0 - step ** (-2.0 / 3.0), self.decay) if self.warmup else self.decay

    def update(self, arrays: dict[str, np.ndarray], step: int) -> None:
        """Take in the arrays of the network after update number `step` of the run, from 1."""
        weight = 1.0 - self.decay_at(step)
        for name, average in self.arrays.items():
            if average.dtype.kind == "f":
                _lerp(average, arrays[name], weight)
            else:
                average[...] = arrays[name]


def _lerp(start: np.ndarray, end: np.ndarray, weight: float) -> None:
    """start + weight (end - start), in place; from the nearer end as `torch.lerp`, so that a weight of 1 gives `end`.
    """
    difference = end - start
    start[...] = start + weight * difference if weight < 0.5 else end - (1.0 - weight) * difference
