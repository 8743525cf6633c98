"""Batches for the compiled passes of training, and a check of each layer against NumPy in float64."""
import functools

import numpy as np
from engines import assert_same_bits
from make_golden import golden_parameters
from tolerance import assert_close

from npefficient.engine import training_steps as steps
from npefficient.engine.training import TrainingEngine
from npefficient.network.architecture import build
from npefficient.network.backward import (
    batch_norm_backward,
    dense_conv_backward,
    depthwise_conv_backward,
    frozen_batch_norm_backward,
    new_running_statistics,
    pointwise_conv_backward,
)
from npefficient.network.reference import dense_conv, depthwise_conv, pointwise_conv
from npefficient.network.training_network import random_masks

F, D = np.float32, np.float64


@functools.cache
def network(short="lite0", num_classes=7, **others):
    """(architecture, golden parameters)."""
    made = build(short, num_classes, **others)
    return made, golden_parameters(made.parameters())


def pictures(*shape):
    return np.random.default_rng(shape).uniform(-1, 1, shape).astype(F)


def dlogits_for(pictures, classes):
    return np.random.default_rng(classes).standard_normal((pictures, classes)).astype(F)


def some_masks(architecture, batch):
    masks = random_masks(architecture, np.random.default_rng(1), batch, 0.8, 0.5)
    dropped = sum(int((mask == 0).sum()) for name, mask in masks.items() if name != "classifier")
    assert 0 < dropped < batch * (len(masks) - 1), "some blocks are dropped and some are not"
    return masks


def before_relu6(layer):
    """What ReLU6 clamps, in float64: (N, H, W, C)."""
    scale, shift = (layer.norm[row, : layer.maps.channels].astype(D) for row in (steps.SCALE, steps.SHIFT))
    return layer.maps.read(layer.z) * scale + shift


def inside_relu6(layer):
    """Where it clamps nothing. The engine rounds once before it compares."""
    u = before_relu6(layer).astype(F)
    return (u > 0) & (u < 6)


def assert_sum_close(got, terms):
    """Compare with the sum of terms (.., C) over pixels. What counts is the largest sum on the way."""
    sums = terms.reshape(-1, terms.shape[-1]).cumsum(0)
    largest = F(max(1, np.abs(sums).max()))
    assert_close(got / largest, (sums[-1] / largest).astype(F), len(sums))


def assert_same(got, expected):
    """The same names and bits, all in float32 but the counts."""
    assert got.keys() == expected.keys()
    for name, array in expected.items():
        if name.endswith("num_batches_tracked"):
            assert got[name] == array
        else:
            assert got[name].dtype == F
            assert_same_bits(got[name], array)


class Watched(TrainingEngine):
    """Each layer of it is compared with the plain functions, given what the layers before it and after it made."""

    def _input(self, layer):
        """What the layer's convolution reads, float64."""
        if layer.source is None:
            return self.x.astype(D)
        u = before_relu6(layer.source)
        if layer.source.conv.relu6:
            return np.clip(u, 0, 6)
        u *= layer.source.factors[:, None, None, None]
        return u if layer.shortcut is None else u + layer.source.maps.read(layer.shortcut)

    def _forward(self, layer):
        super()._forward(layer)
        conv, x = layer.conv, self._input(layer)
        weight = self.parameters[f"{conv.name}.weight"].astype(D)
        expected = (dense_conv(x, weight, conv.stride) if conv.op == "stem" else
                    depthwise_conv(x, weight, conv.stride) if conv.op == "depthwise" else pointwise_conv(x, weight))
        z = layer.maps.read(layer.z)
        assert_close(z, expected.astype(F), weight[0].size + 3)
        if layer.y is not None:
            assert_close(layer.source.maps.read(layer.y), x.astype(F), 3)
        self._check_norm(layer, z.astype(D).reshape(-1, conv.out_channels))

    def _check_norm(self, layer, z):
        gamma, beta, mean, variance = (self.parameters[f"{layer.conv.bn}.{leaf}"].astype(D) for leaf in (
            "weight", "bias", "running_mean", "running_var"))
        names = [f"{layer.conv.bn}.{leaf}" for leaf in ("running_mean", "running_var", "num_batches_tracked")]
        if layer.by_batch:
            new = new_running_statistics(mean, variance, z.mean(0), z.var(0), len(z))
            for name, expected in zip(names, new):
                assert_close(self.running[name], expected.astype(F), len(z))
            assert self.running[names[2]] == self.parameters[names[2]] + 1
            mean, variance = z.mean(0), z.var(0)
        else:
            assert self.running.keys().isdisjoint(names)
        scale = gamma / np.sqrt(variance + 1e-3)
        for row, expected in ((steps.SCALE, scale), (steps.SHIFT, beta - mean * scale), (steps.MEAN, mean)):
            assert_close(layer.norm[row, : len(scale)], expected.astype(F), len(z))

    def _backward(self, layer, gradients, weights_alone):
        dy, z = layer.maps.read(layer.dy), layer.maps.read(layer.z)
        skip = layer.block_end.maps.read(layer.block_end.dy) if layer.block_end else 0
        super()._backward(layer, gradients, weights_alone)
        conv, x, mean = layer.conv, self._input(layer), layer.norm[steps.MEAN, : layer.maps.channels].astype(D)
        norm_backward = batch_norm_backward if layer.by_batch else frozen_batch_norm_backward
        dy = dy * layer.factors[:, None, None, None].astype(D)
        deviation = layer.exact[steps.DEVIATION, : layer.maps.channels]
        normalised = (z - mean) / deviation
        dz, *_ = norm_backward(dy, normalised, 1 / deviation, self.parameters[f"{conv.bn}.weight"].astype(D))
        pixels = dz[..., 0].size
        assert_sum_close(gradients[f"{conv.bn}.weight"], dy * normalised)
        assert_sum_close(gradients[f"{conv.bn}.bias"], dy)
        weight = self.parameters[f"{conv.name}.weight"].astype(D)
        dx, dweight = (dense_conv_backward(dz, x, weight, conv.stride) if conv.op == "stem" else
                       depthwise_conv_backward(dz, x, weight, conv.stride) if conv.op == "depthwise" else
                       pointwise_conv_backward(dz, x, weight))
        assert_close(gradients[f"{conv.name}.weight"], dweight.astype(F), pixels)
        if layer.source is not None and not weights_alone:
            dx = (dx + skip) * inside_relu6(layer.source) if layer.source.conv.relu6 else dx + skip
            assert_close(layer.source.maps.read(layer.source.dy), dx.astype(F), weight[:, 0].size + 5)
