"""The official ImageNet weights, where the packages of the extra `imagenet` are installed: ours, and in timm's network.

    python tests/helpers/imagenet.py

writes tests/data/golden_imagenet.npz: timm's logits in float64 for the photographs that come with npefficient, and a
hash of its pixels, so that the tests hold both without torch too.
"""
import functools
import hashlib
import importlib.util
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import npefficient
from npefficient import demo
from npefficient.hub import packaged
from npefficient.network.variants import VARIANTS

GOLDEN = Path(__file__).parents[1] / "data" / "golden_imagenet.npz"
PHOTOS = demo.photographs()

PACKAGES = {variant.short_name: variant.package for variant in VARIANTS.values() if variant.package}
INSTALLED = all(importlib.util.find_spec(package.module) for package in PACKAGES.values())
needs_imagenet = pytest.mark.skipif(not INSTALLED, reason="real weights: needs the packages of the extra imagenet")


def checkpoint(short):
    """The path of a package's checkpoint."""
    return packaged.find(PACKAGES[short])


@functools.cache
def official(short, num_threads=2):
    """The model with the official weights, read from the package and not from the cache."""
    return npefficient.create_model(short, checkpoint_path=checkpoint(short), num_threads=num_threads)


@functools.cache
def timm_official(short):
    """timm's network with the package's weights, mapped by torch and by order alone: both list the same modules."""
    from live import timm, torch

    model = timm.create_model(f"tf_efficientnet_{short}").eval()
    tensors = torch.load(checkpoint(short), weights_only=True)
    model.load_state_dict(dict(zip(model.state_dict(), tensors.values(), strict=True)), strict=True)
    return model


def timm_pixels(short, photo):
    """(1, H, W, 3) float32: timm's evaluation transform."""
    from live import timm

    model = timm_official(short)
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
    return np.ascontiguousarray(transform(Image.open(photo).convert("RGB")).permute(1, 2, 0).numpy()[None])


def fingerprint(x):
    return hashlib.sha256(np.ascontiguousarray(x).tobytes()).hexdigest()


def main():
    import copy

    from live import logits

    found = {}
    for short in PACKAGES:
        x = np.concatenate([timm_pixels(short, photo) for photo in PHOTOS])
        double = copy.deepcopy(timm_official(short)).double()
        found[f"{short}_logits"] = logits(double, x.astype(np.float64))
        found[f"{short}_pixels"] = np.array([fingerprint(one) for one in x])
    np.savez_compressed(GOLDEN, **found)


if __name__ == "__main__":
    main()
