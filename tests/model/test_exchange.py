"""Putting other weights and classifiers into a model, and saving them in files."""
import fresh
import numpy as np
import pytest
from live import needs_timm, timm, torch

import npefficient
from npefficient.errors import ArgumentError, WeightsError
from npefficient.network.architecture import build
from npefficient.network.parameters import Source, Weights, random_weights
from npefficient.weights.weight_file import read_weights, write_weights

X = np.random.default_rng(0).uniform(-1, 1, (2, 17, 23, 3)).astype(np.float32)
LABELS = ("ape", "bee", "cat")
RNG = np.random.default_rng(1)
WEIGHT, BIAS = RNG.normal(0, 0.1, (3, 1280)), RNG.normal(0, 0.1, 3)  # float64


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """Weights of four classes that stand in for trained ones."""
    path, made = tmp_path_factory.mktemp("exchange") / "four.h5", random_weights(build("lite0", 4), 3)
    source = Source("model.pth", "ab" * 32, "torch-zip")
    write_weights(path, Weights(made.architecture, made.parameters, made.preprocessing, tuple("wxyz"), source))
    return path


@pytest.fixture(params=["engine", "reference"])
def model(file, request):
    return npefficient.create_model(checkpoint_path=file, num_threads=1, backend=request.param)


def same(arrays, expected):
    assert list(arrays) == list(expected)
    for name, array in expected.items():
        assert arrays[name].dtype == array.dtype, name
        np.testing.assert_array_equal(arrays[name], array, err_msg=name)


# --- a custom classifier ---------------------------------------------------------------------------------------------


def test_set_classifier(model):
    """The logits are those of the arrays, computed from the same features as before."""
    pooled = model.forward_head(model.forward_features(X), pre_logits=True)
    assert model.set_classifier(WEIGHT, BIAS, LABELS) is None
    np.testing.assert_allclose(model(X), pooled @ WEIGHT.T + BIAS, rtol=0, atol=1e-5)
    assert model.num_classes == 3 and model.labels == LABELS
    assert repr(model).count("weights from model.pth, custom classifier,") == 1
    assert model.source == Source("model.pth, custom classifier", "", "memory")
    assert model.pretrained_cfg["num_classes"] == 3 and model.pretrained_cfg["url"] is None
    layer = model.classifier
    np.testing.assert_array_equal(layer.weight, WEIGHT.astype(np.float32))
    np.testing.assert_array_equal(model.get_classifier().bias, BIAS.astype(np.float32))
    assert (layer.in_features, layer.out_features) == (1280, 3)


def test_set_classifier_without_labels(model):
    model.set_classifier(WEIGHT.astype(np.float32), np.zeros(3, np.int64))
    assert model.labels == ("class 0", "class 1", "class 2")


def test_set_classifier_keeps_no_hand_on_the_arrays(model):
    weight, bias = WEIGHT.astype(np.float32), BIAS.astype(np.float32)
    model.set_classifier(weight, bias)
    before = model(X)
    weight[:], bias[:] = 9, 9
    model.classifier.weight[:] = 9
    model.state_dict()["classifier.bias"][:] = 9
    np.testing.assert_array_equal(model(X), before)
    np.testing.assert_array_equal(model.classifier.weight, WEIGHT.astype(np.float32))


def test_a_model_without_a_classifier_gets_one(file):
    model = npefficient.create_model(checkpoint_path=file, num_classes=0, global_pool="catavgmax", num_threads=1)
    assert model.classifier is model.get_classifier() is None
    pooled, weight = model(X), np.concatenate([WEIGHT, -WEIGHT], axis=1)
    model.set_classifier(weight, BIAS, LABELS)
    np.testing.assert_allclose(model(X), pooled @ weight.T + BIAS, rtol=0, atol=1e-4)
    model.reset_classifier(0)
    np.testing.assert_array_equal(model(X), pooled)
    assert model.classifier is None and model.labels == ()


def test_the_classifier_of_the_model_itself_changes_nothing(model):
    """That is how a model gets other labels."""
    before = model(X)
    model.set_classifier(model.classifier.weight, model.classifier.bias, labels=["a", "b", "c", "d"])
    np.testing.assert_array_equal(model(X), before)
    assert model.labels == tuple("abcd")


@pytest.mark.parametrize("weight, bias, labels, message", [
    (WEIGHT[:, :5], BIAS, None, r"weight of shape \(3, 5\): it must be \(classes, 1280\), for the pooled features"),
    (WEIGHT[0], BIAS, None, r"weight of shape \(1280,\): it must be \(classes, 1280\)"),
    (WEIGHT[:0], BIAS[:0], None, r"weight of shape \(0, 1280\)"),
    (WEIGHT.T, BIAS, None, r"weight of shape \(1280, 3\)"),
    (WEIGHT, BIAS[:2], None, r"bias of shape \(2,\): it must be \(3,\), one for each class"),
    (WEIGHT, 0.0, None, "bias of type float: it must be a NumPy array"),
    (WEIGHT.tolist(), BIAS, None, "weight of type list: it must be a NumPy array"),
    (WEIGHT > 0, BIAS, None, "weight of dtype bool: it must be an array of real numbers"),
    (WEIGHT * 1j, BIAS, None, "weight of dtype complex128: it must be an array of real numbers"),
    (WEIGHT, BIAS + np.nan, None, "bias with nan: every value must be finite"),
    (WEIGHT * 1e300, BIAS, None, "weight with .*e.2.*: every value must be finite, in float32"),
    (WEIGHT, BIAS, LABELS[:2], "2 labels for 3 classes: give one label a class"),
    (WEIGHT, BIAS, ("a", "", "c"), "label 1 is '': a label is one line of text"),
    (WEIGHT, BIAS, "abc", "labels 'abc': give a list of names"),
    (WEIGHT, BIAS, 3, "labels 3: give a list of names"),
], ids=["features", "one_axis", "no_classes", "transposed", "bias", "scalar", "list", "bool", "complex", "nan",
        "too_large", "few_labels", "empty_label", "text", "number"])
def test_set_classifier_refuses(model, weight, bias, labels, message):
    before = model(X)
    with pytest.raises(ArgumentError, match=message):
        model.set_classifier(weight, bias, labels)
    np.testing.assert_array_equal(model(X), before)
    assert model.labels == tuple("wxyz")


def test_set_classifier_refuses_what_can_exceed_float32(model, tmp_path):
    """`save` would refuse it too."""
    before = model(X)
    with pytest.raises(WeightsError, match="layer 'classifier': its weights can give .*, which float32 can't hold"):
        model.set_classifier(np.full((3, 1280), 3e38), BIAS)
    np.testing.assert_array_equal(model(X), before)


def test_a_model_of_weights_at_hand_checks_them():
    made = random_weights(build("lite0", 4))
    made.parameters["classifier.bias"][0] = np.nan
    with pytest.raises(WeightsError, match="'classifier.bias' holds nan"):
        npefficient.Model(made)


def test_set_classifier_needs_a_pool(file):
    model = npefficient.create_model(checkpoint_path=file, num_classes=0, global_pool="", num_threads=1)
    with pytest.raises(ArgumentError, match=r"weight of shape \(3, 1280\): it must be one of a model with a pool"):
        model.set_classifier(WEIGHT, BIAS)


# --- all weights -----------------------------------------------------------------------------------------------------


def test_state_dict_is_the_weights_under_timms_names(model, file):
    same(model.state_dict(), read_weights(file).parameters)


@pytest.mark.parametrize("give", [dict, lambda arrays: dict(reversed(arrays.items())),
                                  lambda arrays: {k: v.copy(order="F") for k, v in arrays.items()},
                                  lambda arrays: {k: v.astype(v.dtype.newbyteorder()) for k, v in arrays.items()}],
                         ids=["as_it_is", "other_order", "fortran", "other_byte_order"])
def test_load_state_dict(model, give):
    other = random_weights(build("lite0", 4), 9)
    right = npefficient.Model(other, num_threads=1, backend=model.backend)(X)
    assert model.load_state_dict(give(other.parameters)) is None
    np.testing.assert_array_equal(model(X), right)
    same(model.state_dict(), other.parameters)
    assert model.labels == tuple("wxyz") and model.source == Source("state_dict", "", "memory")
    assert "weights from state_dict," in repr(model)


def test_load_state_dict_copies(model):
    arrays = {name: array.copy() for name, array in random_weights(build("lite0", 4), 9).parameters.items()}
    model.load_state_dict(arrays)
    before = model.state_dict()
    for array in arrays.values():
        array[...] = 0
    same(model.state_dict(), before)


def test_load_state_dict_of_a_random_model_makes_it_a_trained_one(file):
    model = npefficient.create_model("lite0", num_classes=4, num_threads=1)
    assert "RANDOM" in repr(model)
    model.load_state_dict(read_weights(file).parameters)
    assert "RANDOM" not in repr(model)
    np.testing.assert_array_equal(model(X), npefficient.create_model(checkpoint_path=file, num_threads=2)(X))


@needs_timm
def test_load_state_dict_takes_what_timm_gives():
    """CPU tensors are accepted as arrays; those with gradients must be detached first."""
    torch.manual_seed(0)
    theirs = timm.create_model("tf_efficientnet_lite0", num_classes=5).eval()
    model = npefficient.create_model("lite0", num_classes=5, num_threads=1)
    model.load_state_dict(theirs.state_dict())
    same(model.state_dict(), {name: tensor.numpy() for name, tensor in theirs.state_dict().items()})
    assert theirs.load_state_dict({k: torch.from_numpy(v) for k, v in model.state_dict().items()}).missing_keys == []
    with pytest.raises(ArgumentError, match=r"state_dict\['conv_stem.weight'\] of type Parameter is not an array"):
        model.load_state_dict({"conv_stem.weight": theirs.conv_stem.weight})


def changed(change) -> dict:
    arrays = dict(random_weights(build("lite0", 4), 9).parameters)
    change(arrays)
    return arrays


@pytest.mark.parametrize("given, error, message", [
    (lambda: changed(lambda d: d.pop("bn1.weight")), WeightsError, "missing 'bn1.weight'"),
    (lambda: changed(lambda d: d.update(more=np.zeros(3))), WeightsError, "unexpected 'more'"),
    (lambda: changed(lambda d: d.update({"bn1.bias": np.zeros(3)})), WeightsError, "'bn1.bias' is .3,. instead of .32"),
    (lambda: changed(lambda d: d.update({"bn1.bias": np.full(32, np.nan)})), WeightsError, "'bn1.bias' holds nan"),
    (lambda: random_weights(build("lite0", 5)).parameters, WeightsError, "5 classes and 3 input channels, but the "
                                                                        "model has 4 and 3: create it with"),
    (lambda: random_weights(build("lite1", 4)).parameters, WeightsError, "unexpected 'blocks"),
    (lambda: changed(lambda d: d.update({"bn1.bias": "abc"})), ArgumentError, r"state_dict\['bn1.bias'\] of dtype <U3"),
    (lambda: changed(lambda d: d.update({"bn1.bias": [[1], 2]})), ArgumentError, r"\['bn1.bias'\] of type list is no"),
    (lambda: changed(lambda d: d.update({7: np.zeros(3)})), ArgumentError, "state_dict of type dict: it must be"),
    (lambda: "model.pth", ArgumentError, "state_dict of type str: it must be a dictionary, timm's name -> array"),
], ids=["missing", "unexpected", "shape", "nan", "classes", "variant", "text", "ragged", "number", "path"])
@pytest.mark.parametrize("strict", [True, False])
def test_load_state_dict_refuses(file, given, error, message, strict):
    model = npefficient.create_model(checkpoint_path=file, num_threads=1)
    before = model(X)
    with pytest.raises(error, match=message):
        model.load_state_dict(given(), strict=strict)
    np.testing.assert_array_equal(model(X), before)


# --- files -----------------------------------------------------------------------------------------------------------


def test_save_and_read_again(model, tmp_path):
    model.set_classifier(WEIGHT, BIAS, LABELS)
    model.save(tmp_path / "mine.h5")
    back = npefficient.create_model(checkpoint_path=tmp_path / "mine.h5", num_threads=1, backend=model.backend)
    np.testing.assert_array_equal(back(X), model(X))
    same(back.state_dict(), model.state_dict())
    assert (back.labels, back.source, back.preprocessing) == (model.labels, model.source, model.preprocessing)
    with pytest.raises(ArgumentError, match="mine.h5' exists already: .*force=True"):
        model.save(tmp_path / "mine.h5")
    model.save(str(tmp_path / "mine.h5"), force=True)
    with pytest.raises(ArgumentError, match="mine.pth': its name must end in .h5 or .hdf5, as .* do; npeff.*export"):
        model.save(tmp_path / "mine.pth")
    assert not (tmp_path / "mine.pth").exists()


@pytest.mark.parametrize("change", [
    lambda m: None, lambda m: m.reset_classifier(3), lambda m: m.set_classifier(WEIGHT, BIAS),
    lambda m: m.load_state_dict(random_weights(build("lite0", 4), 9).parameters),
], ids=["nothing", "reset", "set", "state_dict"])
def test_save_over_the_file_that_a_model_is_of(file, tmp_path, change):
    """Afterwards the model still has the weights of that file."""
    path = tmp_path / "own.h5"
    path.write_bytes(file.read_bytes())
    model = npefficient.create_model(checkpoint_path=path, num_threads=1)
    change(model)
    before = model(X), model.state_dict()
    model.save(path, force=True)
    same(model.state_dict(), before[1])
    np.testing.assert_array_equal(npefficient.create_model(checkpoint_path=path)(X), before[0])


def test_save_keeps_settings_of_the_overlay(file, tmp_path):
    model = npefficient.create_model(checkpoint_path=file, pretrained_cfg_overlay={"input_size": (3, 40, 48)})
    model.save(tmp_path / "small.h5")
    assert npefficient.create_model(checkpoint_path=tmp_path / "small.h5").preprocessing.input_size == (40, 48)


def test_a_model_goes_to_timms_file_and_back(file, tmp_path):
    """All of it in Python."""
    model = npefficient.create_model(checkpoint_path=file, num_threads=1)
    model.set_classifier(WEIGHT, BIAS)
    model.save(tmp_path / "mine.h5")
    npefficient.export(tmp_path / "mine.h5", tmp_path / "mine.safetensors")
    npefficient.convert(tmp_path / "mine.safetensors", tmp_path / "back.h5", variant="lite0")
    same(npefficient.load_weights(tmp_path / "back.h5").parameters, model.state_dict())


def test_public_names_are_imported_when_they_are_asked_for():
    script = """
import sys, npefficient
heavy = {"weights_convert", "npefficient.jobs.distributed", "npefficient.jobs", "h5py", "PIL", "numba"}
print(sorted(heavy & set(sys.modules)))
print(npefficient.Classifier.__name__, npefficient.convert.__name__, npefficient.export.__name__)
"""
    first, second = fresh.run(script).splitlines()
    assert first == "[]" and second == "Classifier convert export"
