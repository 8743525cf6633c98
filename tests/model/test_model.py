"""create_model and Model: what users call, and the errors they get."""
import dataclasses
import re

import numpy as np
import pytest
from PIL import Image

import npefficient
from npefficient import labels
from npefficient.engine.cpus import available_threads
from npefficient.errors import ArgumentError, ImageError, WeightsError
from npefficient.model.loading import load_weights
from npefficient.model.model import Model
from npefficient.network import architecture, parameters, reference
from npefficient.network.parameters import random_weights
from npefficient.weights.weight_file import write_weights


@pytest.fixture(scope="module")
def model():
    return npefficient.create_model("lite0", num_classes=10, num_threads=1)


@pytest.fixture(scope="module")
def weight_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "ten.h5"
    weights = random_weights(architecture.build("lite0", 10))
    write_weights(path, npefficient.network.parameters.Weights(
        weights.architecture, weights.parameters, weights.preprocessing, tuple("abcdefghij"), weights.source))
    return path


def test_all_lists_what_is_public():
    for name in npefficient.__all__:
        assert getattr(npefficient, name) is not None
    ours = ("npefficient", "weights_convert")
    public = {name for name, value in vars(npefficient).items()
              if not name.startswith("_") and getattr(value, "__module__", "").startswith(ours)}
    assert public == set(npefficient.__all__)
    assert npefficient.__all__ == sorted(npefficient.__all__)


@pytest.mark.parametrize("name", ["lite1", "tf_efficientnet_lite1", "tf_efficientnet_lite1.in1k"])
def test_create_by_any_name(name):
    assert npefficient.create_model(name).architecture.name == "tf_efficientnet_lite1"


def test_random_weights_are_seeded_and_said(model):
    again = npefficient.create_model("lite0", num_classes=10)
    x = np.ones((1, 32, 32, 3), np.float32)
    np.testing.assert_array_equal(model(x), again(x))
    assert repr(model) == "Model(tf_efficientnet_lite0, 10 classes, 224x224x3, RANDOM weights (seed 0), engine)"


@pytest.mark.parametrize("backend", ["engine", "reference"])
def test_a_weight_file_brings_its_own_shape_and_labels(weight_file, backend):
    model = npefficient.create_model(checkpoint_path=weight_file, backend=backend)
    assert model.architecture.num_classes == 10 and model.labels == tuple("abcdefghij")
    assert model(np.zeros((2, 20, 20, 3), np.float32)).shape == (2, 10)


def test_labels_default_to_imagenet_for_1000_classes_and_numbers_else(model):
    assert npefficient.create_model("lite0").labels == labels.imagenet_labels()
    assert model.labels[3] == "class 3" and len(model.labels) == 10


@pytest.mark.parametrize("arguments, message", [
    ({"model_name": "lite9"}, "unknown model 'lite9': known are lite0 to lite4 .did you mean 'lite[0-4]'"),
    ({"model_name": "efficientnet_lite0"}, "'efficientnet_lite0' is timm's own training.*use 'tf_efficientnet_lite0'"),
    ({}, "no model_name and no checkpoint_path"),
    ({"model_name": "lite0", "backend": "gpu"}, "backend 'gpu': it must be 'engine' or 'reference'"),
    ({"model_name": "lite0", "pretrained": True, "checkpoint_path": "a.h5"},
     "pretrained=True and checkpoint_path='a.h5'"),
    ({"pretrained": True}, "no model_name and no checkpoint_path"),
    ({"model_name": "lite0", "num_threads": 0}, "num_threads 0: it must be a whole number of at least 1"),
    ({"model_name": "lite0", "num_classes": -1}, "num_classes -1: it must be a whole number of at least 0"),
    ({"model_name": "lite0", "in_chans": 0}, "in_chans 0: it must be a whole number of at least 1"),
    ({"model_name": "lite0", "in_chans": 2.5}, "in_chans 2.5: it must be a whole number of at least 1"),
], ids=lambda value: None if isinstance(value, str) else "-".join(value) or "nothing")
def test_create_refuses(arguments, message):
    with pytest.raises(ArgumentError, match=message):
        npefficient.create_model(**arguments)


@pytest.mark.parametrize("wish, message", [
    ({"model_name": "lite1"}, "name 'tf_efficientnet_lite1': these weights have 'tf_efficientnet_lite0'"),
    ({"num_classes": 1000}, "num_classes 1000: these weights have 10"),
    ({"in_chans": 1}, "in_chans 1: these weights have 3"),
], ids=["variant", "classes", "channels"])
def test_create_refuses_weights_of_another_shape(weight_file, wish, message):
    with pytest.raises(ArgumentError, match=message):
        npefficient.create_model(checkpoint_path=weight_file, **wish)


def test_checkpoint_that_is_not_there(tmp_path):
    for name in ("none.h5", "none.pth", "none.safetensors"):
        with pytest.raises(WeightsError, match=name):
            load_weights(tmp_path / name)


X = np.zeros((1, 8, 8, 3), np.float32)


@pytest.mark.parametrize("x, message", [
    ([[0.0]], "input of type list: it must be a NumPy array (N, H, W, 3)"),
    (X[0], "input of shape (8, 8, 3): it must be (N, H, W, 3); add the batch axis with x[None]"),
    (X.transpose(0, 3, 1, 2), "input of shape (1, 3, 8, 8): it must be (N, H, W, 3); channels come last (NHWC)"),
    (X[..., :2], "input of shape (1, 8, 8, 2)"),
    (X[:, :0], "input of shape (1, 0, 8, 3): it has no pixels; H and W must be at least 1"),
    (X.astype(np.float64), "input of dtype float64: it must be float32"),
    (X.astype(np.uint8), "input of dtype uint8: it must be float32, normalised; model.transform makes it"),
    (X + np.float32(np.nan), "input with nan: every value must be finite"),
    (X - np.float32(np.inf), "input with -inf: every value must be finite"),
], ids=["list", "no_batch", "nchw", "2_channels", "no_rows", "float64", "uint8", "nan", "inf"])
def test_call_refuses(model, x, message):
    with pytest.raises(ArgumentError, match=re.escape(message)):
        model(x)


def test_call_takes_any_strides(model):
    big = np.random.default_rng(0).uniform(-1, 1, (2, 40, 42, 6)).astype(np.float32)
    view = big[:, ::2, ::-2, ::2]
    np.testing.assert_array_equal(model(view), model(view.copy()))
    frozen = view.copy()
    frozen.flags.writeable = False
    np.testing.assert_array_equal(model(frozen), model(view))


def test_classify_is_the_explicit_path(model, tmp_path):
    photo = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8)).save(photo)
    x = model.transform(npefficient.open_image(photo))
    values, classes = npefficient.top_k(npefficient.softmax(model(x[None]))[0], 3)
    expected = [(model.labels[c], float(v)) for c, v in zip(classes, values)]
    for given in (photo, str(photo), Image.open(photo), np.asarray(Image.open(photo))):
        assert model.classify(given, topk=3) == expected
    assert len(model.classify(photo, topk=99)) == 10


def test_classify_names_the_bad_photo(model, tmp_path):
    with pytest.raises(ImageError, match="none.jpg"):
        model.classify(tmp_path / "none.jpg")


def test_model_takes_weights_directly():
    weights = random_weights(architecture.build("lite0", 5))
    assert Model(weights, num_threads=1)(X).shape == (1, 5)


def test_more_threads_than_processors_are_said(recwarn):
    available = available_threads()
    with pytest.warns(UserWarning, match=f"{available + 1} threads: this process may use {available} processor.*take "
                      f"turns, which is slower; use {available}") as warned:
        assert npefficient.create_model("lite0", num_classes=10, num_threads=available + 1).num_threads == available + 1
    assert [warning.filename for warning in warned] == [__file__]
    npefficient.create_model("lite0", num_classes=10, num_threads=available)
    npefficient.create_model("lite0", num_classes=10)
    assert not recwarn.list


# --- values that are not finite --------------------------------------------------------------------------------------


def with_value(name, value):
    weights = random_weights(architecture.build("lite0", 10))
    array = weights.parameters[name].copy()
    array.flat[3] = value
    return dataclasses.replace(weights, parameters={**weights.parameters, name: array})


@pytest.mark.parametrize("backend", ["engine", "reference"])
def test_logits_that_are_no_numbers_are_an_error(backend):
    model = Model(with_value("classifier.weight", 1e30), backend=backend)
    assert np.isfinite(model(X)).all()
    with pytest.raises(WeightsError, match="'classifier' returned (inf|nan): these weights were not trained on"):
        with np.errstate(all="ignore"):  # the plain network's sums
            model.forward_head(np.full((1, 1, 1, 1280), 3e38, np.float32))


def test_features_that_are_no_numbers_are_an_error(monkeypatch):
    model = Model(with_value("classifier.weight", 1), backend="reference")
    for name, ask in (("classifier", lambda: model(X)), ("global_pool", lambda: model.activations(X, ["global_pool"]))):
        monkeypatch.setattr(reference.Network, "layers", lambda self, x: [(name, np.full((1, 5), np.nan, np.float32))])
        with pytest.raises(WeightsError, match=f"'{name}' returned nan"):
            ask()


@pytest.mark.parametrize("how", [["--json"], [], ["--output", "rows.jsonl"], ["--output", "rows.csv"]], ids=" ".join)
def test_nothing_is_written_of_weights_that_leave_float32(tmp_path, monkeypatch, command, how):
    monkeypatch.chdir(tmp_path)
    with monkeypatch.context() as trusting:
        trusting.setattr(parameters, "check_overflow", lambda values, network: None)
        write_weights("large.h5", with_value("bn1.weight", 3e38))
    Image.new("RGB", (20, 20)).save("a.png")
    code, out, err = command("classify", "a.png", "--weights", "large.h5", *how)
    assert (code, out) == (1, "") and err.startswith("npefficient: error: weight file") and "layer 'conv_stem'" in err
    assert not list(tmp_path.glob("rows*"))
