"""The network that is trained, with its optimizer and its moving average: one update at a time.

    batches ── mixup ── forward ── loss ── backward ── accumulate, clip ──► Update ── optimizer, statistics, EMA

`compute` changes nothing, so that a run can stop at any moment of it and be resumed; `apply` takes a few milliseconds.
What is drawn at random depends only on the seed, the epoch and the number of the batch.
"""
import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ..engine.training import TrainingEngine
from ..errors import ArgumentError, WeightsError
from ..network.backward import label_targets
from ..network.parameters import Weights
from ..network.training_network import random_masks
from .accumulation import accumulate
from .clipping import clip_gradients, global_norm
from .ema import ModelEma
from .freeze import trained
from .loader import Batch
from .losses import cross_entropy
from .mixup import Mixup
from .optimizers import create_optimizer
from .recipes import Recipe
from .seeds import DROP, MIX, generator
from .states import copies, restore

WEIGHTS, OPTIMIZER, EMA = "weights.", "optimizer.", "ema."  # how the names of a state's arrays start


class DivergedError(WeightsError):
    """A loss, a gradient or a weight is not finite."""


@dataclass(frozen=True)
class Update:
    """What one update changes."""

    loss: float  # the sum over its batches of their mean losses
    gradients: dict[str, np.ndarray]
    running: dict[str, np.ndarray]  # batch norm's statistics after these batches


class Learner:
    """One network in training.

    weights: float32, which are copied
    recipe: of what concerns updates: the optimizer, mixup, smoothing, dropout, clipping, EMA and what is frozen
    num_threads: of the compiled kernels

    Raises ArgumentError where a batch has one value only for each channel, for a batch norm that is not frozen, and
    where there is not enough memory.
    """

    def __init__(self, weights: Weights, recipe: Recipe, num_threads: int):
        network, (height, width) = weights.architecture, weights.preprocessing.input_size
        self.network, self.recipe = network, recipe
        self.parameters = copies(weights.parameters)
        part = trained(network, recipe.freeze, recipe.freeze_bn)
        self.frozen_norms = frozenset(part.frozen_norms)
        sizes = {layer.name: (layer.out_height, layer.out_width) for layer in network.layers(height, width)}
        of_norms = [sizes[conv.name] for conv in network.convs if conv.bn not in self.frozen_norms]
        if recipe.batch_size == 1 and (1, 1) in of_norms:
            raise ArgumentError(f"batch-size 1 for pictures of {height} x {width} pixels: the last feature map is 1 x "
                                "1, and one value has no variance for a batch norm; use a batch-size of 2 or more")
        self.optimizer = create_optimizer(
            recipe.opt, {name: self.parameters[name] for name in part.parameters}, weight_decay=recipe.weight_decay,
            momentum=recipe.momentum, opt_eps=recipe.opt_eps)
        self.ema = ModelEma(self.parameters, recipe.model_ema_decay, recipe.model_ema_warmup) if (
            recipe.model_ema) else None
        self.mixup = Mixup(recipe.mixup, recipe.cutmix, network.num_classes, recipe.smoothing) if (
            recipe.mixup or recipe.cutmix) else None
        try:
            self.engine = TrainingEngine(network, (recipe.batch_size, height, width, network.in_chans), num_threads)
        except MemoryError as problem:
            raise ArgumentError(f"batch-size {recipe.batch_size} for pictures of {height} x {width} pixels: there is "
                                "not enough memory; use a smaller batch-size, with grad-accum-steps, or img-size"
                                ) from problem
        self.updates = 0

    @property
    def best_parameters(self) -> dict[str, np.ndarray]:
        """Those to validate and to keep: the moving average, if there is one."""
        return self.ema.arrays if self.ema else self.parameters

    def compute(self, epoch: int, batches: Iterable[tuple[int, Batch]], parts: int) -> Update:
        """The gradients of the next update, from `parts` batches of an epoch and their numbers in it.

        Raises DivergedError, which names what is not finite.
        """
        recipe, gradients, running, total = self.recipe, {}, {}, 0.0
        for number, batch in batches:
            x, targets = self._mixed(batch, generator(recipe.seed, MIX, epoch, number))
            masks = random_masks(self.network, generator(recipe.seed, DROP, epoch, number), len(x), recipe.drop_path,
                                 recipe.drop)
            with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is found below
                logits = self.engine.forward(self.parameters | running, x, masks, frozen_norms=self.frozen_norms)
                if not np.isfinite(logits).all():
                    raise DivergedError("the loss is not finite")
                loss, dlogits = cross_entropy(logits, targets)
                every = self.engine.backward(dlogits, self.optimizer.parameters)
            accumulate(gradients, {name: every[name] for name in self.optimizer.parameters}, parts)
            running, total = dict(self.engine.running), total + loss
        with np.errstate(over="ignore", invalid="ignore"):
            finite = math.isfinite(total) and math.isfinite(global_norm(gradients))
        if not finite:
            raise DivergedError("the gradient is not finite")
        if recipe.clip_grad is not None:
            clip_gradients(gradients, self.parameters, recipe.clip_grad, recipe.clip_mode)
        return Update(total, gradients, running)

    def _mixed(self, batch: Batch, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Pictures (N, H, W, C) and their targets (N, classes)."""
        if self.mixup:
            return self.mixup(batch.x, batch.labels, rng)
        return batch.x, label_targets(batch.labels, self.network.num_classes, self.recipe.smoothing)

    def apply(self, update: Update, lr: float) -> None:
        """Change the network."""
        with np.errstate(over="ignore", invalid="ignore"):  # the next loss, or `check`, shows it
            self.optimizer.step(update.gradients, lr)
            for name, array in update.running.items():
                self.parameters[name][...] = array
            self.updates += 1
            if self.ema:
                self.ema.update(self.parameters, self.updates)

    def check(self) -> None:
        """Raise DivergedError for an array that is not finite."""
        for name, array in self.state().items():
            if not np.isfinite(array).all():
                raise DivergedError(f"{name!r} is not finite")

    def state(self) -> dict[str, np.ndarray]:
        """All that later updates depend on except `updates`, by name: not copies."""
        parts = {WEIGHTS: self.parameters, OPTIMIZER: self.optimizer.state, EMA: self.ema.arrays if self.ema else {}}
        return {start + name: array for start, arrays in parts.items() for name, array in arrays.items()}

    def load_state(self, arrays: dict[str, np.ndarray]) -> None:
        """Go on from a saved state; raises WeightsError, and changes nothing, for that of another run."""
        restore(self.state(), arrays, "state of the run")
