"""The official ImageNet weights, where the packages of the extra `imagenet` are installed."""
import functools
import importlib.util

import pytest

import npefficient
from npefficient import packaged
from npefficient.variants import VARIANTS

PACKAGES = {variant.short_name: variant.package for variant in VARIANTS.values() if variant.package}
INSTALLED = all(importlib.util.find_spec(package.module) for package in PACKAGES.values())
needs_imagenet = pytest.mark.skipif(not INSTALLED, reason="real weights: needs the packages of the extra imagenet")


def checkpoint(short):
    """The path of a package's checkpoint."""
    return packaged.find(PACKAGES[short])


@functools.cache
def official(short, num_threads=2):
    """The model with the official weights, from the package, past any cache."""
    return npefficient.create_model(short, checkpoint_path=checkpoint(short), num_threads=num_threads)
