"""A model with a small input and five classes, and small photos for it."""
import dataclasses
import functools

import numpy as np
from PIL import Image

from npefficient.model.model import Model
from npefficient.network import architecture
from npefficient.network.parameters import random_weights
from npefficient.network.preprocessing import Preprocessing


@functools.cache
def small_weights(num_classes: int = 5, seed: int = 0):
    """Random weights of a Lite0 for pictures of 32 x 32."""
    weights = random_weights(architecture.build("lite0", num_classes), seed)
    return dataclasses.replace(weights, preprocessing=Preprocessing((32, 32)))


@functools.cache
def small_model():
    return Model(small_weights(), num_threads=1)


def save_photos(folder, count: int, suffix: str = ".png") -> list:
    """Write `count` different photos of 20 x 20; returns their paths in order."""
    rng = np.random.default_rng(count)
    paths = [folder / f"{i:05}{suffix}" for i in range(count)]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (20, 20, 3), np.uint8)).save(path)
    return paths
