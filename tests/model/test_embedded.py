"""The embedded model is small, right on digits that it never saw, and equal to timm."""
import numpy as np
import pytest
from live import logits, needs_timm, timm, torch
from PIL import Image
from programs import program
from tolerance import LOGITS, assert_close

import npefficient
from npefficient import demo
from npefficient.weights.weight_file import read_weights

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@pytest.fixture(scope="module")
def training():
    """notebooks/train_digits.py: the split and the pictures."""
    return program("train_digits")


@pytest.fixture(scope="module")
def model():
    return npefficient.create_model(checkpoint_path=demo.weights_path())


@pytest.fixture(scope="module")
def held_out(training, model):
    """All held-out digits as the network's input (450, 64, 64, 3), and their classes."""
    images, labels = training.held_out()
    return np.stack([model.transform(training.enlarge(image)) for image in images]), labels


def test_embedded_file_is_a_small_float16_lite0(model):
    weights = read_weights(demo.weights_path())
    for name, array in weights.parameters.items():
        if not name.endswith("tracked"):  # a variance may be too large for float16
            assert array.dtype == (np.float32 if ".running_" in name else np.float16), name
    assert demo.weights_path().stat().st_size <= 8e6
    assert model.architecture.name == "tf_efficientnet_lite0" and model.labels == NAMES
    assert model.preprocessing.input_size == (64, 64)


def test_embedded_accuracy_on_the_whole_held_out_set(training, model, held_out):
    x, labels = held_out
    got = np.concatenate([model(part) for part in np.array_split(x, 9)]).argmax(axis=1)
    assert len(labels) == 450
    assert (got == labels).mean() >= training.REQUIRED


@needs_timm
def test_embedded_logits_are_timms(model, held_out):
    network = timm.create_model("tf_efficientnet_lite0", num_classes=10).eval()
    parameters = read_weights(demo.weights_path()).parameters
    state = {name: torch.from_numpy(np.asarray(array, None if array.ndim == 0 else np.float32))
             for name, array in parameters.items()}
    network.load_state_dict(state, strict=True)
    x = held_out[0][:100]
    assert_close(model(x), logits(network, x), LOGITS)


def test_demo_photos_are_the_first_held_out_digit_of_each_class(training):
    images, labels = training.held_out()
    for digit, photo in enumerate(demo.digits()):
        expected = np.asarray(training.enlarge(images[np.argmax(labels == digit)]))
        np.testing.assert_array_equal(np.asarray(Image.open(photo)), expected)


def test_demo_photos_are_recognised(model):
    assert [model.classify(photo, topk=1)[0][0] for photo in demo.digits()] == list(NAMES)
