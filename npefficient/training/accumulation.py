"""Gradient accumulation: one update from several batches, for more pictures than fit in memory at once.

The gradient of an update is the mean of those of its parts. Batch norm's statistics are those of each part. Source:
timm's `train.py`, `--grad-accum-steps`.
"""
import numpy as np


def parts_of_updates(batches: int, grad_accum_steps: int) -> list[int]:
    """How many of an epoch's batches each update takes; the last one takes what is left."""
    whole, rest = divmod(batches, grad_accum_steps)
    return [grad_accum_steps] * whole + [rest] * (rest > 0)


def accumulate(total: dict[str, np.ndarray], gradients: dict[str, np.ndarray], parts: int) -> None:
    """Add one of `parts` parts to the gradient of an update, in place; `total` is empty before the first.

    Both map names to float32 arrays of any shape. The parts are added in the order of the calls.
    """
    share = np.float32(1.0 / parts)
    for name, gradient in gradients.items():
        if name in total:
            total[name] += gradient * share
        else:
            total[name] = gradient * share
