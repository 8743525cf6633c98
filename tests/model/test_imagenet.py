"""The real network on real photographs: timm's pixels, logits, features and classes, with the official weights."""
import functools
import json

import numpy as np
import pytest
from imagenet import (
    GOLDEN,
    PACKAGES,
    PHOTOS,
    checkpoint,
    fingerprint,
    needs_imagenet,
    official,
    timm_official,
    timm_pixels,
)
from live import logits, needs_timm, torch
from maps import assert_map
from PIL import Image
from surface import hooked
from tolerance import LOGITS, assert_close, tolerance

import npefficient
from npefficient.weights.weight_file import read_weights
from weights_convert import convert

pytestmark = needs_imagenet
# Synonyms follow in each label, as in ImageNet's list.
TOP = {"coffee": "espresso", "chelsea": "tiger cat", "rocket": "missile", "astronaut": "football helmet"}


def softmax64(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


@pytest.mark.parametrize("short", PACKAGES)
def test_golden_logits_and_pixels_of_the_photographs(short):
    golden, model = np.load(GOLDEN), official(short)
    x = np.stack([model.transform(photo) for photo in PHOTOS])
    assert [fingerprint(one) for one in x] == golden[f"{short}_pixels"].tolist()
    expected = golden[f"{short}_logits"]
    got = model(x)
    assert_close(got, expected.astype(np.float32), LOGITS)
    np.testing.assert_allclose(npefficient.softmax(got), softmax64(expected), rtol=0, atol=1e-5)


@needs_timm
@pytest.mark.parametrize("short", PACKAGES)
def test_golden_file_is_what_timm_says(short):
    golden = np.load(GOLDEN)
    for photo, pixels, expected in zip(PHOTOS, golden[f"{short}_pixels"], golden[f"{short}_logits"]):
        x = timm_pixels(short, photo)
        assert fingerprint(x[0]) == pixels
        assert expected.dtype == np.float64
        assert_close(logits(timm_official(short), x)[0], expected.astype(np.float32), LOGITS)


@needs_timm
@pytest.mark.parametrize("short", PACKAGES)
@pytest.mark.parametrize("size", [None, (97, 64), (33, 47), (225, 131)], ids=str)
def test_photograph_live_at_native_and_odd_sizes(short, size):
    """Pixels bit for bit, probabilities within 1e-5, the same five classes in the same order."""
    model = official(short)
    for photo in PHOTOS:
        x = timm_pixels(short, photo)
        if size is None:
            np.testing.assert_array_equal(model.transform(photo)[None], x)
        else:
            smaller = Image.open(photo).convert("RGB").resize(size[::-1], Image.Resampling.BICUBIC)
            x = (np.asarray(smaller, np.float32)[None] / 255 - np.float32(0.5)) / np.float32(0.5)
        expected, got = logits(timm_official(short), x), model(x)
        assert_close(got, expected, LOGITS)
        probabilities = npefficient.softmax(got)
        np.testing.assert_allclose(probabilities, softmax64(expected.astype(np.float64)), rtol=0, atol=1e-5)
        np.testing.assert_array_equal(np.argsort(-probabilities[0])[:5], np.argsort(-expected[0])[:5])


@needs_timm
@pytest.mark.parametrize("short", PACKAGES)
def test_features_of_a_photograph_are_timms(short):
    model, names = official(short), ["blocks.1", "blocks.4", "blocks.6", "bn2"]
    x = timm_pixels(short, PHOTOS[1])
    expected, got = hooked(timm_official(short), x, names), model.activations(x, names)
    for name in names:
        assert_map(got[name], expected[name], model.architecture, name)
    np.testing.assert_array_equal(model.forward_features(x), got["bn2"])


@needs_timm
def test_maps_of_an_explained_photograph_are_timms_features_times_its_classifier():
    got = npefficient.explain(PHOTOS[1], official("lite0"), topk=3, measure=False)
    network, x = timm_official("lite0"), timm_pixels("lite0", PHOTOS[1])
    features = hooked(network, x, ["bn2"])["bn2"][0].astype(np.float64)
    weight = network.classifier.weight.detach().numpy().astype(np.float64)
    for one in got.classes:
        expected = features @ weight[one.index]
        allowed = tolerance(np.float32, LOGITS, 6.0) * np.linalg.norm(weight[one.index])
        assert allowed < 1e-3 * np.ptp(expected)
        np.testing.assert_allclose(one.map, expected, rtol=0, atol=allowed)
    assert [one.label for one in got.classes] == ["tiger cat", "Egyptian cat", "tabby, tabby cat"]


def demo_rows(command):
    code, out, err = command("classify", "--demo", "--json", "--topk", 5)
    assert code == 0 and err == ""
    return [json.loads(line) for line in out.splitlines()]


def test_demo_names_what_is_on_the_photographs(command):
    rows = demo_rows(command)
    assert [row["photo"] for row in rows] == [photo.name for photo in PHOTOS]
    assert {row["photo"].removesuffix(".jpg"): row["classes"][0]["label"] for row in rows} == TOP


@needs_timm
def test_demo_says_what_timm_says(command):
    names = npefficient.imagenet_labels()
    for row, photo in zip(demo_rows(command), PHOTOS, strict=True):
        expected = softmax64(logits(timm_official("lite0"), timm_pixels("lite0", photo)).astype(np.float64))[0]
        order = np.argsort(-expected)[:5]
        assert [one["label"] for one in row["classes"]] == [names[i] for i in order]
        np.testing.assert_allclose([one["probability"] for one in row["classes"]], expected[order], rtol=0, atol=1e-5)


# --- the converter ---------------------------------------------------------------------------------------------------


@functools.cache
def converted(short, folder):
    return read_weights(convert(checkpoint(short), folder / f"{short}.h5").target)


def resave(state, form, path):
    """The checkpoint as torch, safetensors and training scripts save it."""
    from safetensors.torch import save_file

    if form == "safetensors":
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)
    elif form == "wrapper":
        torch.save({"state_dict": state, "epoch": 350}, path)
    elif form == "data_parallel":
        torch.save({f"module.{name}": tensor for name, tensor in state.items()}, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=form == "zip")


@needs_timm
@pytest.mark.parametrize("short", PACKAGES)
@pytest.mark.parametrize("form", ["zip", "legacy", "safetensors", "wrapper", "data_parallel"])
def test_resaved_checkpoint_has_the_same_content(short, form, tmp_path, tmp_path_factory):
    state = torch.load(checkpoint(short), weights_only=True)
    path = tmp_path / f"efficientnet-{short}.{form}"
    resave(state, form, path)
    done = convert(path)
    assert done.naming == "EfficientNet-PyTorch" and done.warnings == ()
    got, expected = read_weights(done.target), converted(short, tmp_path_factory.getbasetemp())
    assert list(got.parameters) == list(expected.parameters)
    for name, array in expected.parameters.items():
        assert got.parameters[name].dtype == array.dtype and got.parameters[name].tobytes() == array.tobytes(), name
    assert (got.architecture, got.preprocessing, got.labels) == (
        expected.architecture, expected.preprocessing, expected.labels)


@needs_timm
@pytest.mark.parametrize("short", PACKAGES)
def test_checkpoint_as_it_comes_keeps_every_number(short, tmp_path_factory):
    """Compared with torch's own reading of the file, in timm's network."""
    got = converted(short, tmp_path_factory.getbasetemp()).parameters
    expected = timm_official(short).state_dict()
    assert list(got) == list(expected)
    assert all(got[name].tobytes() == tensor.numpy().tobytes() for name, tensor in expected.items())
