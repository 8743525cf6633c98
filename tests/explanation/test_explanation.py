"""`explain`: what it takes, what it returns, what it refuses."""
import io
from pathlib import Path

import numpy as np
import pytest
from explanations import digit, digits, digits_in_int8, noise
from fresh import run
from PIL import Image

import npefficient
from npefficient import demo
from npefficient.errors import ArgumentError, ImageError
from npefficient.explanation.result import THUMBNAIL
from npefficient.network.quantization import quantize
from npefficient.weights.quantized_file import write_quantized


def explain(image, **options):
    return npefficient.explain(image, digits(), measure=False, **{"occlusion": False} | options)


def test_explanation_is_the_models_answer():
    path = demo.DATA / "digits" / "three.png"
    got = digit("three")
    assert [(one.label, one.probability) for one in got.classes] == digits().classify(path, topk=5)
    assert got.photo == str(path) and got.photo_size == (64, 64) and got.box == (0, 0, 64, 64)
    np.testing.assert_array_equal(got.given, np.asarray(npefficient.open_image(path)))
    assert repr(got).endswith("three.png', tf_efficientnet_lite0: 'three' 92.79%, 5 classes, 20 blocks)")


def test_reference_backend_gives_the_same():
    model = npefficient.create_model(checkpoint_path=demo.weights_path(), backend="reference")
    got = npefficient.explain(demo.DATA / "digits" / "three.png", model, measure=False, patch=32)
    assert got.patch == 32
    for one, expected in zip(got.classes, digit("three").classes, strict=True):
        assert one.label == expected.label and one.occlusion.shape == (2, 2)
        np.testing.assert_allclose(one.map, expected.map, atol=1e-4)
    for one, expected in zip(got.sums, digit("three").sums, strict=True):
        np.testing.assert_allclose(one.out, expected.out, atol=1e-4)


def test_explanation_in_int8_is_the_answer_of_that_model():
    path = demo.DATA / "digits" / "three.png"
    got = digit("three", "int8")
    assert got.precision == "int8" and repr(got).endswith(" 5 classes, 20 blocks, int8)")
    assert digit("three").precision == "float32"
    assert [(one.label, one.probability) for one in got.classes] == digits_in_int8().classify(path, topk=5)
    x = digits_in_int8().transform(path)[None]
    for block, other in zip(got.blocks[1:-2], digit("three").blocks[1:-2], strict=True):
        name = "bn2" if block.name == "conv_head" else block.name
        features = digits_in_int8().activations(x, [name])[name][0]
        np.testing.assert_array_equal(block.maps, features[..., block.channels].transpose(2, 0, 1))
        assert not np.array_equal(block.means, other.means)


def test_explanation_of_a_file_of_int8_weights(tmp_path):
    write_quantized(tmp_path / "int8.h5", quantize(digits().weights()))
    model = npefficient.create_model(checkpoint_path=tmp_path / "int8.h5", num_threads=1)
    got = npefficient.explain(demo.DATA / "digits" / "three.png", model, measure=False)
    for one, expected in zip(got.classes, digit("three", "int8").classes, strict=True):
        np.testing.assert_array_equal(one.map, expected.map)


def test_classes_asked_for_come_after_the_most_probable():
    got = explain(noise(70, 50, 3), topk=2, classes=["seven", 7, "two"])
    assert len(got.classes) in (3, 4) and {"seven", "two"} <= {one.label for one in got.classes}
    assert got.classes[0].probability >= got.classes[1].probability
    assert got.position() == 0 and got.classes[got.position("seven")].index == 7 == got.classes[got.position(7)].index
    with pytest.raises(ArgumentError, match="class 'twelve'"):
        explain(noise(4, 4, 3), classes=["twelve"])
    with pytest.raises(ArgumentError, match="class 'nine': none of the 5 classes has this name or number"):
        digit("three").heat_map("nine")


@pytest.mark.parametrize("photo", [
    Image.fromarray(noise(40, 30, 3)).convert("P"), Image.fromarray(noise(1, 1, 3)), Image.fromarray(noise(2, 3000, 3)),
    Image.fromarray(noise(50, 40)), Image.fromarray(noise(50, 40, 4)), noise(900, 20, 3), noise(9, 9, 3) / 255,
], ids=["palette", "1x1", "very_wide", "grey", "alpha", "tall_array", "float_array"])
def test_any_photo(photo):
    got = explain(photo)
    expected = digits()(digits().transform(photo)[None])[0]
    assert got.classes[0].logit == expected.max()
    assert max(got.given.shape[:2]) <= THUMBNAIL and got.cropped.shape == (64, 64, 3)
    assert got.photo == "" and got.times is None
    assert got.heat_map().shape == (64, 64, 3)


@pytest.mark.parametrize("given", [str, Path, Path.read_bytes, lambda path: io.BytesIO(path.read_bytes())],
                         ids=["text", "path", "bytes", "file"])
def test_a_file_in_every_form_that_transform_takes(tmp_path, given):
    exif, path = Image.Exif(), tmp_path / "turned.jpg"
    exif[0x0112] = 6
    Image.fromarray(noise(20, 40, 3)).save(path, exif=exif)
    assert explain(given(path)).photo_size == (20, 40)
    assert explain(given(path), exif=True).photo_size == (40, 20)
    with pytest.raises(ImageError, match="40 x 20 pixels, and at most 799 are allowed"):
        explain(given(path), max_pixels=799)


def test_heat_map_has_colour_where_the_map_is_strong():
    got = digit("three")
    one, picture = got.classes[0], got.heat_map().astype(int)
    colour = np.ptp(picture, axis=2).reshape(2, 32, 2, 32).mean((1, 3))
    assert colour.argmax() == np.abs(one.map).argmax()
    np.testing.assert_array_equal(got.heat_map("three"), got.heat_map())
    assert got.scale == max(np.abs(other.map).max() for other in got.classes)


@pytest.mark.parametrize("model, message", [(3, "model of type int: it must be a Model"),
                                            (None, "model of type NoneType: it must be a Model")])
def test_refuses_a_model(model, message):
    with pytest.raises(ArgumentError, match=message):
        npefficient.explain(noise(4, 4, 3), model)


def test_takes_what_the_model_takes(tmp_path):
    file = tmp_path / "noise.png"
    Image.fromarray(noise(9, 12, 3)).save(file)
    expected = explain(file)
    assert expected.photo == str(file)
    for photo in (file.read_bytes(), io.BytesIO(file.read_bytes()), Image.open(file)):
        got = explain(photo)
        assert got.photo == "" and got.classes[0].probability == expected.classes[0].probability
    with pytest.raises(ArgumentError, match="photo Model.*: it must be a path or a binary file object"):
        npefficient.explain(digits(), str(file))


def test_refuses_what_is_no_photo(tmp_path):
    with pytest.raises(ImageError, match="none.png"):
        npefficient.explain(tmp_path / "none.png", "lite0")  # said before any weights are fetched
    with pytest.raises(ArgumentError, match="k 0: it must be a whole number of at least 1"):
        explain(noise(4, 4, 3), topk=0)
    with pytest.raises(ArgumentError, match="patch 65: it must be a whole number of at most 64"):
        explain(noise(4, 4, 3), occlusion=True, patch=65)
    with pytest.raises(ArgumentError, match="patch 1: an input of 64 x 64 pixels has 4,096 patches of this size"):
        explain(noise(4, 4, 3), occlusion=True, patch=1)
    with pytest.raises(ArgumentError, match="a network with 4 input channels can't take photos"):
        model = npefficient.create_model("lite0", num_classes=3, in_chans=4)
        model.preprocessing = digits().preprocessing
        npefficient.explain(noise(4, 4, 3), model, measure=False)


def test_weights_that_have_changed_are_no_explanation(tmp_path):
    path = tmp_path / "digits.h5"
    path.write_bytes(demo.weights_path().read_bytes())
    model = npefficient.create_model(checkpoint_path=path, num_threads=1)
    from npefficient.network.parameters import random_weights
    from npefficient.weights.weight_file import write_weights

    path.unlink()
    write_weights(path, random_weights(npefficient.network.architecture.build("lite0", 10)))
    with pytest.raises(npefficient.WeightsError, match="the weights of '.*digits.h5' have changed since"):
        npefficient.explain(noise(4, 4, 3), model, measure=False)


def test_pictures_of_blocks_are_the_activations():
    got, model = digit("three"), digits()
    x = model.transform(demo.DATA / "digits" / "three.png")[None]
    for name, expected in model.activations(x, ["blocks.1.1", "blocks.6.0"]).items():
        (block,) = (block for block in got.blocks if block.name == name)
        means = expected[0].mean((0, 1))
        assert block.channels[0] == means.argmax() and len(block.channels) == 6
        np.testing.assert_array_equal(block.maps[0], expected[0, ..., means.argmax()])


def test_import_waits_for_the_first_use():
    script = """
import sys
import npefficient
before = "npefficient.explanation" in sys.modules
npefficient.explain
print(before, "npefficient.explanation" in sys.modules, "npefficient.bench" in sys.modules, "jinja2" in sys.modules)
"""
    assert run(script).strip() == "False True False False"
    with pytest.raises(AttributeError, match="module 'npefficient' has no attribute 'explains'"):
        npefficient.explains
