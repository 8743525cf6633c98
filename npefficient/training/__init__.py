"""Training: the loss and its gradients, and what a run changes weights with."""
from .gradients import loss_and_gradients

__all__ = ["loss_and_gradients"]
