"""Training: the loss and its gradients, and what a run needs besides: data, augmentation, optimizers and schedules."""
from .gradients import loss_and_gradients

__all__ = ["loss_and_gradients"]
