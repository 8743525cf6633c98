"""Small training runs: 36 photos of three classes, pictures of 32 x 32, batches of eight.

As a program, a run that ends its own process as kill -9 would, amid an update:

    python tests/helpers/training_runs.py FOLDER THREADS UPDATES
"""
import os
import sys
from pathlib import Path

import numpy as np
from class_photos import save_classes
from small import small_weights

import npefficient
from npefficient.training import run
from npefficient.training.learner import Learner

# Everything that has a state or draws at random.
OPTIONS = dict(epochs=3, batch_size=8, grad_accum_steps=2, opt="rmsproptf", opt_eps=1e-3, lr=1e-3, warmup_epochs=1,
               model_ema=True, model_ema_decay=0.7, mixup=0.2, cutmix=0.5, drop=0.2, drop_path=0.2, clip_grad=5.0,
               aa="rand-m5-n1", reprob=0.2, val_split=0.25)
BATCHES = 3  # of an epoch: 27 photos to train on


def photos(folder: Path) -> Path:
    return save_classes(folder / "photos", red=12, green=12, blue=12)


def train(folder: Path, name: str = "m.h5", **changes):
    """Train on the photos in `folder`, with OPTIONS."""
    return npefficient.train(folder / "photos", folder / name, **{
        "weights": small_weights(), "recipe": npefficient.training.recipes.Recipe(), "num_threads": 1, **OPTIONS,
        **changes})


def same(one, other) -> bool:
    """Whether two results have the same weights, and tables that differ only in the speed."""
    tables = [[[value for name, value in vars(epoch).items() if name != "images_per_second"] for epoch in result.epochs]
              for result in (one, other)]
    last = [npefficient.load_weights(result.files[1]).parameters for result in (one, other)]
    return tables[0] == tables[1] and all(
        equal(a, b) for a, b in ((one.weights.parameters, other.weights.parameters), last))


def equal(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


def stopping(after: int, stop):
    """`Learner.compute` that calls `stop` in the place of update number `after`, counted from 0 in this process."""
    compute, done = Learner.compute, []

    def counting(*arguments):
        if len(done) == after:
            stop()
        done.append(1)
        return compute(*arguments)

    return counting


if __name__ == "__main__":
    run.SAVE = 0.0  # after each update
    Learner.compute = stopping(int(sys.argv[3]), lambda: os._exit(9))
    train(Path(sys.argv[1]), num_threads=int(sys.argv[2]))
