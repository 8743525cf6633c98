"""A whole run of a linear classifier: our parts in the order of timm's train.py, against timm's and torch's."""
import numpy as np
import pytest
from live import needs_timm, torch
from timm_numbers import TimmsNumbers
from timm_training import timms_parts

from npefficient.training.accumulation import accumulate, parts_of_updates
from npefficient.training.clipping import clip_gradients
from npefficient.training.ema import ModelEma
from npefficient.training.losses import cross_entropy
from npefficient.training.mixup import Mixup
from npefficient.training.optimizers import create_optimizer
from npefficient.training.recipes import Recipe

CLASSES, BATCHES, SHAPE = 3, 5, (4, 2, 3, 2)  # (N, H, W, C)
RUNS = [
    Recipe(epochs=4, batch_size=4, opt="rmsproptf", opt_eps=1e-3, lr=0.02, sched="step", decay_epochs=1.2,
           decay_rate=0.5, warmup_epochs=1, weight_decay=0.1, mixup=0.4, cutmix=1.0, clip_grad=0.5, model_ema=True,
           model_ema_decay=0.8),
    Recipe(epochs=4, batch_size=4, grad_accum_steps=2, opt="adamw", warmup_epochs=0, lr=0.01, weight_decay=0.1,
           mixup=0.3, clip_grad=0.3, model_ema=True, model_ema_decay=0.6),
    Recipe(epochs=3, batch_size=4, grad_accum_steps=3, warmup_epochs=2, cutmix=0.7, smoothing=0.0, model_ema=True,
           model_ema_decay=0.7),
]


def photos():
    rng = np.random.default_rng(9)
    return (rng.normal(size=(BATCHES, *SHAPE)).astype(np.float32),
            rng.integers(CLASSES, size=(BATCHES, SHAPE[0])))


def start():
    rng = np.random.default_rng(10)
    weight = rng.normal(size=(CLASSES, int(np.prod(SHAPE[1:])))).astype(np.float32)
    return {"weight": weight, "bias": np.zeros(CLASSES, np.float32)}


def our_run(recipe):
    """(weights, their average) after the run."""
    weights, numbers, updates = start(), TimmsNumbers(recipe.seed), 0
    optimizer = create_optimizer(recipe.opt, weights, weight_decay=recipe.weight_decay, momentum=recipe.momentum,
                                 opt_eps=recipe.opt_eps)
    ema = ModelEma(weights, recipe.model_ema_decay)
    mix = Mixup(recipe.mixup, recipe.cutmix, CLASSES, recipe.smoothing)
    for epoch in range(recipe.epochs):
        batches = zip(*photos())
        for parts in parts_of_updates(BATCHES, recipe.grad_accum_steps):
            gradients = {}
            for _ in range(parts):
                pictures, targets = mix(*next(batches), numbers)
                x = pictures.reshape(len(pictures), -1)
                _, dz = cross_entropy(x @ weights["weight"].T + weights["bias"], targets)
                accumulate(gradients, {"weight": dz.T @ x, "bias": dz.sum(axis=0)}, parts)
            if recipe.clip_grad is not None:
                clip_gradients(gradients, weights, recipe.clip_grad, recipe.clip_mode)
            optimizer.step(gradients, recipe.schedule(epoch))
            updates += 1
            ema.update(weights, updates)
    return weights, ema.arrays


def timms_run(recipe):
    """The same by timm and torch, as timm's train.py calls them."""
    from timm.data import Mixup as TimmsMixup
    from timm.loss import SoftTargetCrossEntropy
    from timm.utils import dispatch_clip_grad

    layer, updates = torch.nn.Linear(int(np.prod(SHAPE[1:])), CLASSES), 0
    layer.load_state_dict({name: torch.from_numpy(array) for name, array in start().items()})
    optimizer, scheduler, ema = timms_parts(layer, recipe)
    mix = TimmsMixup(recipe.mixup, recipe.cutmix, label_smoothing=recipe.smoothing, num_classes=CLASSES)
    np.random.seed(recipe.seed)
    for epoch in range(recipe.epochs):
        whole = BATCHES // recipe.grad_accum_steps * recipe.grad_accum_steps
        for i, (pictures, classes) in enumerate(zip(*photos())):
            x, targets = mix(torch.from_numpy(pictures.transpose(0, 3, 1, 2).copy()), torch.from_numpy(classes))
            steps = recipe.grad_accum_steps if i < whole else BATCHES - whole
            loss = SoftTargetCrossEntropy()(layer(x.permute(0, 2, 3, 1).flatten(1)), targets)
            (loss / steps).backward()
            if i + 1 == BATCHES or (i + 1) % recipe.grad_accum_steps == 0:
                if recipe.clip_grad is not None:
                    dispatch_clip_grad(layer.parameters(), recipe.clip_grad, recipe.clip_mode)
                optimizer.step()
                optimizer.zero_grad()
                updates += 1
                ema.update(layer, step=updates)
                scheduler.step_update(updates)
        scheduler.step(epoch + 1)
    return ({name: tensor.numpy() for name, tensor in module.state_dict().items()} for module in (layer, ema.module))


@needs_timm
@pytest.mark.parametrize("recipe", RUNS, ids=["step", "accumulated", "sgd"])
def test_a_run_ends_with_timms_weights_and_average(recipe):
    for got, expected, first in zip(our_run(recipe), timms_run(recipe), (start(), start())):
        for name, array in expected.items():
            np.testing.assert_allclose(got[name], array, rtol=1e-5, atol=1e-5, err_msg=name)
            assert np.abs(array - first[name]).max() > 1e-3  # far more than the tolerance


def test_a_run_repeats_its_bits():
    for one, other in zip(our_run(RUNS[0]), our_run(RUNS[0])):
        assert all(one[name].tobytes() == other[name].tobytes() for name in one)
