"""The learning rate of each epoch: cosine or steps, with a warm-up.

    epoch t < warmup_epochs     lr(t) = warmup_lr + t (lr - warmup_lr) / warmup_epochs
    "cosine", t < epochs        lr(t) = min_lr + (lr - min_lr) (1 + cos(pi t / epochs)) / 2
              later             lr(t) = min_lr
    "step"                      lr(t) = lr decay_rate^floor(t / decay_epochs)

The warm-up takes the place of the schedule's first epochs, which are not put off. Source: timm's `create_scheduler_v2`
with the defaults of its `train.py`: one cycle, no noise, the rate constant within an epoch. Cosine: Loshchilov & Hutter
2017 (arXiv:1608.03983).

`cos` and `pow` are the C library's, and may differ in the last bit of float64 between systems. Optimizers round to
float32, where that almost never shows.
"""
import math
from dataclasses import dataclass

SCHEDULES = ("cosine", "step")


@dataclass(frozen=True)
class Schedule:
    """lr(t) as above; call it with the epoch t, from 0."""

    sched: str  # one of SCHEDULES
    lr: float  # after the warm-up
    epochs: int
    warmup_epochs: int = 0
    warmup_lr: float = 1e-5  # at the start of the warm-up
    decay_epochs: float = 90.0  # from one step to the next; not for "cosine"
    decay_rate: float = 0.1  # of each step; not for "cosine"
    min_lr: float = 0.0  # at the end; not for "step"

    def __call__(self, epoch: int) -> float:
        """The learning rate of an epoch."""
        if epoch < self.warmup_epochs:
            return self.warmup_lr + epoch * ((self.lr - self.warmup_lr) / self.warmup_epochs)
        if self.sched == "step":
            return float(self.lr * self.decay_rate ** (epoch // self.decay_epochs))
        if epoch >= self.epochs:
            return self.min_lr
        return self.min_lr + 0.5 * (self.lr - self.min_lr) * (1.0 + math.cos(math.pi * epoch / self.epochs))
