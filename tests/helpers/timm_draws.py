"""timm's random training transform with its sources of random numbers replaced by a NumPy generator.

timm draws from Python's `random`, from NumPy's global generator and from torch's. With `drawing_from`, each of these
draws takes the same distribution from `rng` instead, so that a transform that draws the same things in the same order
from an equal generator has the same parameters.
"""
import contextlib
from types import SimpleNamespace
from unittest import mock

import numpy as np
from live import timm, torch
from PIL import ImageOps


class Random:
    """The functions of the module `random` that timm calls."""

    def __init__(self, rng):
        self.rng = rng
        self.random, self.uniform, self.gauss = rng.random, rng.uniform, rng.normal

    def randint(self, low, high):
        return int(self.rng.integers(low, high, endpoint=True))

    def choice(self, values):
        return values[self.rng.integers(len(values))]


@contextlib.contextmanager
def drawing_from(rng):
    from timm.data import auto_augment, random_erasing, transforms
    from torchvision.transforms import ColorJitter

    def choose(operations, count, replace, p):
        return [operations[i] for i in rng.choice(len(operations), count, replace=replace, p=p)]

    def jitter(*ranges):
        order = rng.permutation(4)
        return order, *(None if limits is None else rng.uniform(*limits) for limits in ranges)

    def pixels(per_pixel, rand_color, size, dtype, device):
        channels, rows, columns = size
        shape = (rows, columns, channels) if per_pixel else (1, 1, channels)
        values = rng.standard_normal(shape, np.float32) if per_pixel or rand_color else np.zeros(shape, np.float32)
        return torch.from_numpy(values).permute(2, 0, 1)

    with contextlib.ExitStack() as stack:
        for module in (auto_augment, random_erasing, transforms):
            stack.enter_context(mock.patch.object(module, "random", Random(rng)))
        chooser = SimpleNamespace(random=SimpleNamespace(choice=choose))
        stack.enter_context(mock.patch.object(auto_augment, "np", chooser))
        stack.enter_context(mock.patch.object(ImageOps, "posterize", posterize))
        stack.enter_context(mock.patch.object(torch, "rand", lambda n: torch.tensor([rng.random()] * n)))
        stack.enter_context(mock.patch.object(ColorJitter, "get_params", staticmethod(jitter)))
        stack.enter_context(mock.patch.object(random_erasing, "_get_pixels", pixels))
        yield


def posterize(image, bits):
    """Pillow's before its version 13, which refuses 0 bits and less: then timm fails at the largest magnitudes."""
    return image.point([i & ~(2 ** (8 - bits) - 1) for i in range(256)] * len(image.getbands()))


def timm_transform(augmentation, preprocessing, in_chans=3):
    """timm's own transform for our settings; with one channel it is given one mean and one std."""
    mean, std = preprocessing.mean, preprocessing.std
    if in_chans == 1:
        mean, std = ((np.mean(values).item(),) for values in (mean, std))
    return timm.data.create_transform((in_chans, *preprocessing.input_size), is_training=True, mean=mean, std=std,
                                      **vars(augmentation))
