"""Networks that compiled kernels can't compute are refused, with the layer; those built as lite0 are not."""
import dataclasses

import numpy as np
import pytest
from tolerance import LOGITS, assert_close

from npefficient.engine.engine import Engine
from npefficient.engine.training import TrainingEngine
from npefficient.errors import ArgumentError
from npefficient.network import reference
from npefficient.network.architecture import Block, Conv, build
from npefficient.network.parameters import random_weights

FIRST = Block("blocks.0.0", "ds", 3, 1, 1, 32, 16)
SECOND = Block("blocks.1.0", "ir", 5, 2, 4, 16, 24)


def network(first=FIRST, second=SECOND, **changes):
    """A small network of two blocks and a head of 40 channels."""
    head = Conv("conv_head", "bn2", "pointwise", 1, 1, second.out_channels, 40, True)
    return dataclasses.replace(build("lite0", 7, 1), stages=((first,), (second,)), **{"head": head} | changes)


def first(**changes):
    return network(dataclasses.replace(FIRST, **changes), dataclasses.replace(
        SECOND, in_channels=changes.get("out_channels", 16)))


def second(**changes):
    return network(second=dataclasses.replace(SECOND, **changes))


def stem(**changes):
    made = network()
    return dataclasses.replace(made, stem=dataclasses.replace(made.stem, **changes))


REFUSED = [
    (first(kernel=7), r"blocks\.0\.0\.conv_dw is 7x7 with stride 1: .* \(3, 5\) and a stride in \(1, 2\)"),
    (second(kernel=4), r"blocks\.1\.0\.conv_dw is 4x4"),
    (first(kernel=1), r"blocks\.0\.0\.conv_dw is 1x1"),
    (second(stride=3), r"blocks\.1\.0\.conv_dw is 5x5 with stride 3"),
    (second(stride=4), r"blocks\.1\.0\.conv_dw is 5x5 with stride 4"),
    (first(out_channels=13), r"blocks\.0\.0\.conv_pw has 13 output channels: .* a multiple of 8"),
    (second(expansion=1, in_channels=16, out_channels=20), r"blocks\.1\.0\.conv_pwl has 20 output channels"),
    (second(in_channels=24), r"blocks\.1\.0\.conv_pw has 24 input channels: it must have 16"),
    (first(expansion=2), r"blocks\.0\.0\.conv_dw has 64 input channels: it must have 32"),
    (first(out_channels=32), r"blocks of the kinds \['ds', 'ir'\]: .* without a shortcut"),
    (network(dataclasses.replace(FIRST, kind="ir")), r"blocks of the kinds \['ir', 'ir'\]"),
    (second(kind="ds", expansion=1), r"blocks of the kinds \['ds', 'ds'\]"),
    (dataclasses.replace(network(), stages=()), r"blocks of the kinds \[\]"),
    (stem(kernel=5), r"conv_stem is 5x5 with stride 2: for a stem convolution"),
    (stem(stride=1), r"conv_stem is 3x3 with stride 1"),
    (stem(out_channels=48), r"conv_stem has 48 output channels: compiled kernels need 32"),
    (network(head=Conv("conv_head", "bn2", "pointwise", 1, 1, 24, 42, True)), "conv_head has 42 output channels"),
]


@pytest.mark.parametrize("made, message", REFUSED, ids=[message.replace("\\", "")[:24] for _, message in REFUSED])
def test_other_networks_are_refused(made, message):
    with pytest.raises(ArgumentError, match=message):
        Engine(dataclasses.replace(random_weights(network()), architecture=made), 1)
    with pytest.raises(ArgumentError, match=message):
        TrainingEngine(made, (2, 32, 32, 1), 1)


def test_a_small_network_is_computed():
    weights = random_weights(network())
    x = np.random.default_rng(0).uniform(-1, 1, (2, 32, 32, 1)).astype(np.float32)
    expected = reference.Network(weights.architecture, weights.parameters)(x)
    assert_close(Engine(weights, 1)(x), expected, LOGITS)
    training = TrainingEngine(weights.architecture, x.shape, 1)
    assert_close(training.forward(weights.parameters, x, train_batch_norm=False), expected, LOGITS)
