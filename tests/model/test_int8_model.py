"""Models with precision "int8": the same interface, and the same answers as the plain integer network."""
import pickle
from pathlib import Path

import numpy as np
import pytest
from engines import assert_same_bits, pixels, weights
from imagenet import PHOTOS, needs_imagenet, official

import npefficient
from npefficient.errors import ArgumentError
from npefficient.jobs.stream import stream
from npefficient.model.features import FeatureModel
from npefficient.model.model import Model
from npefficient.network.layers import named_layers
from npefficient.network.quantization import quantize
from npefficient.network.quantized_reference import QuantizedNetwork, real

CLASSES = 7
X = pixels(2, 40, 33, 3)


def model(**options):
    return Model(weights("lite0", CLASSES), precision="int8", **{"num_threads": 2, **options})


def test_logits_are_those_of_the_plain_network():
    expected = QuantizedNetwork(quantize(weights("lite0", CLASSES)))(X)
    for backend in ("engine", "reference"):
        assert_same_bits(model(backend=backend, num_threads=1)(X), expected)
    floats = Model(weights("lite0", CLASSES), num_threads=1)(X)
    assert 0 < np.abs(floats - expected).max() < 0.3 * floats.std()


def test_create_model_takes_the_precision():
    made = npefficient.create_model("lite0", num_classes=CLASSES, precision="int8", num_threads=1)
    assert made.precision == "int8" and repr(made).endswith(", engine, int8)")
    again = npefficient.create_model("lite0", num_classes=CLASSES, precision="int8", backend="reference")
    assert_same_bits(made(X), again(X))
    with pytest.raises(ArgumentError, match="precision 'int4': .*float32.*int8"):
        npefficient.create_model("lite0", precision="int4")


@pytest.mark.parametrize("backend", ["engine", "reference"])
def test_head_features_and_layers(backend):
    made = model(backend=backend)
    plain = {name: real(y) for name, y in QuantizedNetwork(quantize(weights("lite0", CLASSES))).layers(X)}
    features = made.forward_features(X)
    assert_same_bits(features, plain["conv_head"])
    assert_same_bits(made.forward_head(features), made(X))
    assert_same_bits(made.forward_head(features, pre_logits=True), plain["global_pool"])
    layers = {"bn1": "conv_stem", "blocks.0": "blocks.0.0.conv_pw", "blocks.2.0.bn2": "blocks.2.0.conv_dw",
              "classifier": "classifier"}
    for name, output in made.activations(X, layers).items():
        assert_same_bits(output, plain[layers[name]])
    lasts = [stage[-1].convs[-1].name for stage in made.architecture.stages]
    maps = FeatureModel(made)(X)
    assert [m.shape[-1] for m in maps] == [16, 24, 40, 112, 320]
    for features, name in zip(maps, (lasts[i] for i in (0, 1, 2, 4, 6)), strict=True):
        assert_same_bits(features, plain[name])
    last, maps = made.forward_intermediates(X, extra_blocks=True)
    for features, name in zip([last, *maps], ["conv_head", "conv_stem", *lasts], strict=True):
        assert_same_bits(features, plain[name])


@pytest.mark.parametrize("backend", ["engine", "reference"])
@pytest.mark.parametrize("variant", ["lite0", "lite1"])
def test_every_layer_is_that_of_the_plain_network(variant, backend):
    """Each asked for alone, as it is in a whole call, and fused with nothing."""
    made = Model(weights(variant, CLASSES), precision="int8", backend=backend, num_threads=2)
    network, plain = made.architecture, dict(QuantizedNetwork(quantize(weights(variant, CLASSES))).layers(X))
    names = {name: layer.source for name, layer in named_layers(network).items() if layer.finish is None}
    assert set(names.values()) == set(plain)
    together = made.activations(X, names)
    for name, source in names.items():
        assert_same_bits(together[name], real(plain[source]))
    for name in ("bn1", "blocks.1.0.bn1", "blocks.1.0.bn2", "blocks.1.1", "blocks.3.0.bn1", "bn2"):
        assert_same_bits(made.activations(X, [name])[name], together[name])
    steps = together["blocks.1.0.bn1"] / np.float32(6 / 255)
    np.testing.assert_allclose(steps, np.rint(steps), atol=1e-4)


@pytest.mark.parametrize("backend", ["engine", "reference"])
def test_output_without_the_shortcut(backend):
    """One float32 addition leads from it to the block's output."""
    made = model(backend=backend)
    blocks = made.architecture.blocks
    pairs = [(before.name, block.name) for before, block in zip(blocks, blocks[1:]) if block.skip]
    names = {name for before, block in pairs for name in (before, block, f"{block}.bn3")}
    got = made.activations(X, names)
    assert len(pairs) == 9
    for before, block in pairs:
        assert_same_bits(got[f"{block}.bn3"] + got[before], got[block])


@pytest.mark.parametrize("backend", ["engine", "reference"])
def test_layer_that_is_part_of_another_is_an_error(backend):
    with pytest.raises(ArgumentError, match="'blocks.2.0.conv_dw' of a network in int8: convolution and batch norm are "
                                            "one layer there; ask for 'blocks.2.0.bn2', or"):
        model(backend=backend).activations(X, ["blocks.2.0.conv_dw"])


@pytest.mark.parametrize("backend", ["engine", "reference"])
def test_copies_have_the_same_bits(backend):
    made = npefficient.create_model("lite0", num_classes=CLASSES, precision="int8", backend=backend)
    copy = pickle.loads(pickle.dumps(made))
    assert copy.precision == "int8"
    assert_same_bits(copy(X), made(X))


def test_weights_are_the_floats_that_it_was_made_from():
    made, expected = model(), weights("lite0", CLASSES).parameters
    for name, array in made.state_dict().items():
        np.testing.assert_array_equal(array, expected[name])


def test_other_classifier():
    made = model()
    made.set_classifier(np.eye(3, 1280, dtype=np.float32), np.zeros(3, np.float32))
    assert made.precision == "int8" and made(X).shape == (2, 3)
    pooled = made.forward_head(made.forward_features(X), pre_logits=True)
    np.testing.assert_allclose(made(X), pooled[:, :3], atol=0.01 * pooled.max())


def test_streams_have_the_logits_of_single_calls(tmp_path):
    from PIL import Image

    for i in range(3):
        noise = np.random.default_rng(i).integers(0, 256, (50, 40, 3), np.uint8)
        Image.fromarray(noise).save(tmp_path / f"{i}.png")
    made = model(num_threads=1)
    photos = sorted(map(str, Path(tmp_path).glob("*.png")))
    for outcome, photo in zip(stream(made, photos, workers=2), photos, strict=True):
        assert_same_bits(outcome.outputs["classifier"], made(made.transform(photo)[None])[0])


@needs_imagenet
def test_photographs_keep_their_classes():
    made = Model(official("lite0").weights(), precision="int8", num_threads=1)
    for photo in PHOTOS:
        x = made.transform(photo)[None]
        assert made(x).argmax() == official("lite0")(x).argmax()
