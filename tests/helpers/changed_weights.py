"""Weights that differ in one tensor."""
from dataclasses import replace

import numpy as np

from npefficient.network.architecture import build
from npefficient.network.parameters import Weights, random_weights

CHANGED = "blocks.2.0.conv_dw.weight"


def five_classes() -> Weights:
    """Random weights of a Lite0 for pictures of 32 x 32, with the labels a to e."""
    made = random_weights(build("lite0", 5))
    return replace(made, preprocessing=replace(made.preprocessing, input_size=(32, 32)), labels=tuple("abcde"))


def changed(weights: Weights, name: str, value) -> Weights:
    """The same weights but for one tensor: value(array) of it."""
    return replace(weights, parameters={**weights.parameters, name: value(weights.parameters[name].copy())})


def one_ulp(array):
    array[3, 0, 1, 1] = np.nextafter(array[3, 0, 1, 1], np.float32(np.inf))
    return array
