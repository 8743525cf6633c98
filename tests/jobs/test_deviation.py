"""How far a network is off from another: errors of whole passes, and what each layer adds."""
import numpy as np
import pytest
from changed_weights import CHANGED, changed
from imagenet import PHOTOS, needs_imagenet, official
from PIL import Image
from small import small_weights

from npefficient.errors import ArgumentError
from npefficient.jobs.deviation import LayerDeviation, deviation
from npefficient.model.model import Model
from npefficient.network.architecture import build
from npefficient.network.parameters import random_weights
from npefficient.network.quantization import quantize
from npefficient.network.quantized_reference import QuantizedNetwork, real


@pytest.fixture(scope="module")
def images():
    return [np.random.default_rng(seed).integers(0, 256, (40, 36, 3), np.uint8) for seed in range(3)]


@pytest.fixture(scope="module")
def int8(images):
    return deviation(small_weights(), small_weights(), images, every_layer=True)


def test_errors_are_those_of_whole_passes(images, int8):
    floats, plain = Model(small_weights(), num_threads=1), QuantizedNetwork(quantize(small_weights()))
    x = np.stack([floats.transform(image) for image in images])
    outputs = {name: real(y).astype(np.float64) for name, y in plain.layers(x)}
    assert [layer.name for layer in int8.layers] == list(outputs)
    blocks = {block.convs[-1].name: block.name for block in floats.architecture.blocks}
    bns = {conv.name: conv.bn for conv in floats.architecture.convs}
    for layer in int8.layers:
        name = blocks.get(layer.name) or bns.get(layer.name) or layer.name
        a = floats.activations(x, [name])[name].astype(np.float64)
        off = outputs[layer.name] - a
        assert layer.spread == pytest.approx(a.std()) and layer.largest == pytest.approx(np.abs(off).max())
        assert layer.error == pytest.approx(np.sqrt((off**2).mean())) and layer.share == layer.error / layer.spread
    assert 0.001 < int8.layers[-1].share < 0.3


def test_blocks_have_the_errors_of_their_last_layers(images, int8):
    network = small_weights().architecture
    blocks = deviation(small_weights(), small_weights(), images)
    assert [layer.name for layer in blocks.layers] == [
        "conv_stem", *(block.name for block in network.blocks), "conv_head", "global_pool", "classifier"]
    errors = {layer.name: layer for layer in int8.layers}
    for block, layer in zip(network.blocks, blocks.layers[1:]):
        last = errors[block.convs[-1].name]
        assert (layer.error, layer.largest, layer.spread) == (last.error, last.largest, last.spread)
        assert layer.own > 0.9 * last.own  # it has more layers that add to it
    assert blocks.answers == int8.answers and len(blocks.answers) == 3


def test_own_errors_are_those_of_a_layer_on_exact_input(images, int8):
    """The stem's, from the picture, and the head's and the classifier's, from the engine's activations in float32."""
    floats, plain = Model(small_weights(), num_threads=1), QuantizedNetwork(quantize(small_weights()))
    x = np.stack([floats.transform(image) for image in images])
    made = floats.activations(x, ["bn1", "blocks.6", "bn2", "global_pool", "classifier"])
    own = {layer.name: layer.own for layer in int8.layers}
    for name, output, expected in (("conv_stem", plain.conv(x, plain.architecture.stem), "bn1"),
                                   ("conv_head", real(plain.conv(made["blocks.6"], plain.architecture.head)), "bn2"),
                                   ("classifier", plain.logits(made["global_pool"]), "classifier")):
        assert own[name] == pytest.approx(np.sqrt(((output - made[expected]) ** 2).mean()), rel=1e-5)


@pytest.mark.parametrize("name", [CHANGED, "blocks.3.1.conv_pwl.weight", "classifier.weight"])
@pytest.mark.parametrize("every", [False, True], ids=["blocks", "layers"])
def test_only_the_layer_that_was_changed_adds_something(images, name, every):
    """In float32: all layers after it are off, but for the input of the other network they are right."""
    other = changed(small_weights(), name, lambda array: 1.1 * array)
    found = deviation(small_weights(), other, images, precision="float32", every_layer=every)
    layer = name.rpartition(".")[0]
    changed_one = layer if every or layer == "classifier" else layer.rpartition(".")[0]
    names = [layer.name for layer in found.layers]
    assert [layer.name for layer in found.layers if layer.own_share > 1e-5] == [changed_one]
    assert [layer.error == 0 for layer in found.layers] == [i < names.index(changed_one) for i in range(len(names))]


def test_same_network_is_within_any_tolerance(images, int8):
    found = deviation(small_weights(), small_weights(), images, precision="float32")
    assert found.within(0) and found.kept == 3 and all(a == b for a, b in found.answers)
    worst = max(layer.share for layer in int8.layers)
    assert int8.within(worst) and not int8.within(0.99 * worst)


def test_share_by_hand():
    assert LayerDeviation("a", 2.0, 0.5, 0.25, 1.0).share == 0.25
    assert LayerDeviation("a", 2.0, 0.5, 0.25, 1.0).own_share == 0.125
    assert LayerDeviation("a", 0.0, 0.0, 0.0, 0.0).share == 0.0
    assert LayerDeviation("a", 0.0, 1.0, 0.0, 1.0).share == np.inf


def test_network_without_a_classifier(images):
    from npefficient.weights.adapt import adapt

    features = adapt(small_weights(), num_classes=0)
    found = deviation(features, features, images)
    assert found.layers[-1].name == "global_pool" and found.answers == () and found.kept == 0


@needs_imagenet
def test_no_block_of_lite0_adds_more_than_two_per_cent():
    """As the README says; the logits are off by less than 4.5 %."""
    weights = official("lite0").weights()
    found = deviation(weights, weights, [Image.open(photo) for photo in PHOTOS])
    assert max(layer.own_share for layer in found.layers) < 0.02
    assert 0.03 < found.layers[-1].share < 0.045 and found.kept == len(PHOTOS) == 4


def test_what_can_not_be_compared(images):
    with pytest.raises(ArgumentError, match="two of the same architecture and preprocessing"):
        deviation(small_weights(), random_weights(build("lite1", 5)), images)
    with pytest.raises(ArgumentError, match="no images"):
        deviation(small_weights(), small_weights(), [])
