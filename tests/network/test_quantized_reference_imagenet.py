"""The real network in 8 bits on real photographs: the same classes as in float, and logits close to timm's."""
import functools

import numpy as np
import pytest
from imagenet import GOLDEN, PACKAGES, PHOTOS, needs_imagenet, official

from npefficient.network import quantization
from npefficient.network.quantized_reference import QuantizedNetwork

pytestmark = needs_imagenet


@functools.cache
def expected(short):
    """timm's logits in float64."""
    return np.load(GOLDEN)[f"{short}_logits"]


def logits(short, photos):
    """Of the network in 8 bits."""
    model = official(short)
    return QuantizedNetwork(quantization.quantize(model.weights()))(np.stack([model.transform(p) for p in photos]))


def error(got, expected):
    """The root of the mean square, as a share of the logits' deviation."""
    return float(np.sqrt(np.mean((got - expected) ** 2)) / expected.std())


@pytest.mark.parametrize("short", PACKAGES)
def test_logits_and_classes_of_the_photographs(short):
    got = logits(short, PHOTOS)
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got.argmax(1), expected(short).argmax(1))
    assert error(got, expected(short)) < 0.045
    assert max(error(one, right) for one, right in zip(got, expected(short))) < 0.06


def test_without_corrected_biases_the_error_is_larger(monkeypatch):
    """The means of the batch norms almost halve it: with a scale for each row of a map, from 6.6 to 3.5 %."""
    corrected = error(logits("lite0", PHOTOS[:1]), expected("lite0")[:1])
    mean_output = quantization.mean_output
    monkeypatch.setattr(quantization, "mean_output", lambda *arguments: 0 * mean_output(*arguments))
    assert error(logits("lite0", PHOTOS[:1]), expected("lite0")[:1]) > 1.8 * corrected
