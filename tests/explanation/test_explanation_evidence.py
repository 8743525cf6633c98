"""Class activation maps, computed from timm's features and its classifier's weights."""
import dataclasses

import numpy as np
import pytest
from explanations import digit, digits, digits_in_int8, noise
from live import calibrated, needs_timm, torch
from tolerance import LOGITS, assert_close, tolerance

import npefficient
from npefficient.errors import ArgumentError
from npefficient.explanation.evidence import find_class
from npefficient.images.image import normalise
from npefficient.network.quantization import quantize
from npefficient.network.quantized_reference import QuantizedNetwork

LABELS = dict(enumerate(["tench, Tinca tinca", "crane", "crane", "Goldfish, carp", "3", "'x'"]))


def timm_maps(explanation):
    """Maps (classes, h, w), their logits, and the error that the features' own allows: timm's network, by a hook."""
    model, seen = calibrated(explanation.network.variant.short_name, explanation.network.num_classes), []
    hook = model.bn2.register_forward_hook(lambda module, inputs, output: seen.append(output))
    x = normalise(explanation.cropped, explanation.preprocessing)[None]
    with torch.no_grad():
        logits = model(torch.from_numpy(x).permute(0, 3, 1, 2))[0].numpy()
    hook.remove()
    chosen = [one.index for one in explanation.classes]
    weight = model.classifier.weight.detach().numpy()[chosen]
    # An error e of each feature makes one of e |weight| of their weighted sum, as roundings err in any direction.
    allowed = tolerance(np.float32, LOGITS, 6.0) * np.linalg.norm(weight, axis=1).max()
    return np.einsum("kc,chw->khw", weight, seen[0][0].numpy()), logits[chosen], allowed


@needs_timm
@pytest.mark.parametrize("variant, size", [("lite0", (300, 200)), ("lite1", (50, 90))], ids=["lite0", "lite1"])
def test_maps_are_timms_features_times_its_weights(variant, size, tmp_path):
    path = tmp_path / f"tf_efficientnet_{variant}.pth"
    torch.save(calibrated(variant, 10).state_dict(), path)
    model = npefficient.create_model(variant, checkpoint_path=path, num_threads=1)
    got = npefficient.explain(noise(*size, 3), model, topk=3, classes=[7], measure=False, occlusion=False)
    expected, logits, allowed = timm_maps(got)
    maps = np.stack([one.map for one in got.classes])
    assert maps.shape == expected.shape and allowed < 1e-4 * np.ptp(expected)
    np.testing.assert_allclose(maps, expected, rtol=0, atol=allowed)
    assert_close(np.array([one.logit for one in got.classes], np.float32), logits, LOGITS)
    assert got.classes[0].logit == max(one.logit for one in got.classes)


@pytest.mark.parametrize("precision", ["float32", "int8"])
@pytest.mark.parametrize("name", ["three", "seven"])
def test_mean_of_the_map_and_bias_are_the_logit(name, precision):
    for one in digit(name, precision).classes:
        assert one.map.dtype == np.float32 and one.map.shape == (2, 2)
        assert_close(np.float32([one.map.mean() + one.bias]), np.float32([one.logit]), LOGITS)


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_mean_of_a_difference_and_its_bias_are_the_difference_of_the_logits(precision):
    """Of every pair, with the logits of the model itself."""
    classes, model = digit("three", precision).classes, digits() if precision == "float32" else digits_in_int8()
    logits = model(model.transform(digit("three").photo)[None])[0].astype(np.float64)
    for one in classes:
        for other in classes:
            got = one.minus(other)
            expected = logits[one.index] - logits[other.index]
            assert got.logit == expected and got.label == f"{one.label} minus {other.label}"
            assert abs(got.map.mean(dtype=np.float64) + got.bias - expected) < 1e-4 * np.abs(logits).max()
            np.testing.assert_array_equal(got.map, one.map - other.map)
            np.testing.assert_array_equal(got.occlusion, one.occlusion - other.occlusion)
            np.testing.assert_allclose(got.odds, one.probability / other.probability, rtol=1e-4)


def test_difference_is_the_map_of_the_difference_of_the_weights():
    """The classifier is linear: its row for one class less that for the other, times the features."""
    explanation, model = digit(), digits()
    features = model.forward_features(normalise(explanation.cropped, explanation.preprocessing)[None])[0]
    weight = model.weights().parameters["classifier.weight"].astype(np.float64)
    got = explanation.view("three", "zero")
    expected = features.astype(np.float64) @ (weight[3] - weight[0])
    np.testing.assert_allclose(got.map, expected, atol=1e-5 * explanation.scale)
    assert repr(got) == "Difference('three' minus 'zero', map (2, 2))"


def test_view_refuses_a_class_minus_itself():
    assert digit().view() is digit().classes[0] and digit().view("zero").label == "zero"
    assert digit().view(None, "zero").one is digit().classes[0]
    with pytest.raises(ArgumentError, match="class 'three' minus itself is nothing: subtract another one"):
        digit().view(None, 3)
    with pytest.raises(ArgumentError, match="class 'nine': none of the 5 classes"):
        digit().heat_map("three", "nine")


def test_difference_beyond_float64_is_said():
    one = digit().classes[0]
    assert dataclasses.replace(one, logit=1e4).minus(one).odds == np.inf


def test_heat_map_of_a_difference_has_a_scale_of_its_own():
    explanation = digit()
    view = explanation.view("three", "zero")
    picture = explanation.heat_map("three", "zero").astype(int)
    colour = np.ptp(picture, axis=2).reshape(2, 32, 2, 32).mean((1, 3))
    assert colour.argmax() == np.abs(view.map).argmax()
    assert (picture != explanation.heat_map("three")).any()


def test_one_position_at_a_time_gives_the_same_map():
    """The classifier on a feature map of one position, less its bias, is the map's value there."""
    explanation, model = digit(), digits()
    features = model.forward_features(normalise(explanation.cropped, explanation.preprocessing)[None])
    for one in explanation.classes:
        for i, j in np.ndindex(one.map.shape):
            alone = model.forward_head(np.ascontiguousarray(features[:, i : i + 1, j : j + 1]))[0, one.index]
            assert_close(np.float32([one.map[i, j] + one.bias]), np.float32([alone]), LOGITS)


def test_map_in_int8_has_the_weights_of_the_network():
    """Feature by feature, from the definition: the classifier's integers, times what it reads of the pooled features.
    """
    weights = quantize(digits().weights())
    explanation, layer, plain = digit("three", "int8"), weights.layers["classifier"], QuantizedNetwork(weights)
    x = normalise(explanation.cropped, explanation.preprocessing)[None]
    made = plain.outputs(x, ["conv_head", "global_pool", "classifier"])
    features, pooled = made["conv_head"][0].astype(np.float64), made["global_pool"][0].astype(np.float64)
    read = np.rint(pooled * 127 / pooled.max()) * pooled.max() / 127
    share = np.where(pooled > 0, read / np.maximum(pooled, 1e-9), 0)
    for one in explanation.classes:
        weight = layer.weight[one.index, :, 0, 0] * layer.scale[one.index].astype(np.float64)
        np.testing.assert_allclose(one.map, features @ (share * weight), atol=1e-4)
        assert one.logit == made["classifier"][0, one.index]


def test_maps_in_int8_are_close_to_those_in_float32():
    exact = {one.index: one.map for one in digit("three").classes}
    off = [np.abs(one.map - exact[one.index]).max() for one in digit("three", "int8").classes if one.index in exact]
    assert len(off) >= 4 and 0 < max(off) < 0.1 * digit("three").scale


@pytest.mark.parametrize("changes, message", [
    ({"num_classes": 0}, "tf_efficientnet_lite0 without a classifier has no classes to explain"),
    ({"num_classes": 4, "global_pool": "max"}, "global_pool 'max': class activation maps are exact for the average"),
    ({"num_classes": 4, "global_pool": "catavgmax"}, "global_pool 'catavgmax'"),
], ids=["no_classifier", "max", "catavgmax"])
def test_refuses_what_no_map_explains(changes, message):
    with pytest.raises(ArgumentError, match=message):
        npefficient.explain(noise(8, 8, 3), npefficient.create_model("lite0", **changes), measure=False)


@pytest.mark.parametrize("wish, expected", [
    ("tench, Tinca tinca", 0), ("TINCA tinca ", 0), ("goldfish", 3), (3, 4), ("3", 4), (2, 2), ("'x'", 5), (" 1", 1),
], ids=["whole", "part", "capitals", "label_before_number", "text", "number", "quotes", "spaces"])
def test_find_class(wish, expected):
    assert find_class(LABELS, wish) == expected


@pytest.mark.parametrize("wish, message", [
    ("crane", "class 'crane': the classes 1, 2 have this name; give a number"),
    ("goldfisch", "class 'goldfisch': none of the 6 classes has this name or number .did you mean 'goldfish'"),
    (6, "class '6': none of the 6 classes"),
    (-1, "class '-1': none of the 6 classes"),
    ("", "class '': none of the 6 classes"),
    ("y" * 10_000, r"class 'y{80}'... \(10000 long\): none"),
], ids=["two", "misspelt", "beyond", "negative", "empty", "long"])
def test_find_class_refuses(wish, message):
    with pytest.raises(ArgumentError, match=message):
        find_class(LABELS, wish)
