"""From a checkpoint to a weight file: how the network is recognised, what is refused, what is written."""
import hashlib
import os
import re

import checkpoints as by_hand
import numpy as np
import pytest
from checkpoints import name, text

from npefficient.errors import ArgumentError, WeightsError
from npefficient.network.architecture import build
from npefficient.network.parameters import Source, random_weights
from npefficient.network.preprocessing import Preprocessing
from npefficient.network.variants import VARIANTS
from npefficient.weights.weight_file import read_weights
from weights_convert import Checkpoint, convert
from weights_convert.names import identify

NETWORK = by_hand.network()
NAME = "tf_efficientnet_lite0.pth"


def checkpoint(tensors, file=NAME, digest="ab" * 32, metadata=None) -> Checkpoint:
    return Checkpoint(dict(tensors), Source(file, digest, "torch-zip"), metadata or {}, "", 0)


def identified(tensors, variant=None, **how):
    made = checkpoint(tensors, **how)
    return identify(made, path=made.source.name, variant=variant)


@pytest.fixture(scope="session")
def zip_bytes():
    return by_hand.save(NETWORK, "zip")


@pytest.fixture
def model(tmp_path, zip_bytes):
    path = tmp_path / NAME
    path.write_bytes(zip_bytes)
    return path


# --- which network ---------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("variant", VARIANTS)
def test_variant_is_deduced(variant):
    network = build(variant, 3, 1)
    tensors = {key: np.zeros(shape, np.int64 if not shape else np.float32) for key,
               shape in network.parameters().items()}
    found = identified(dict(reversed(tensors.items())), file=f"{variant}.pth")
    assert found.architecture == network
    assert list(found.parameters) == list(network.parameters())
    assert found.warnings == ()


@pytest.mark.parametrize("form", ["zip", "legacy", "safetensors"])
def test_convert_keeps_every_number(tmp_path, form):
    source = tmp_path / f"tf_efficientnet_lite0.{form}"
    source.write_bytes(by_hand.save(NETWORK, form))
    done = convert(source)
    assert done.target == tmp_path / "tf_efficientnet_lite0.h5"
    assert (done.target_size, done.source_size) == (done.target.stat().st_size, source.stat().st_size)
    got = read_weights(done.target)
    assert list(got.parameters) == list(NETWORK)
    assert all(got.parameters[key].tobytes() == array.tobytes() for key, array in NETWORK.items())
    assert got.architecture == build("lite0", 2, 3)
    assert got.preprocessing == VARIANTS["tf_efficientnet_lite0"].preprocessing
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    assert got.source == Source(source.name, digest, {"zip": "torch-zip", "legacy": "torch-legacy"}.get(form, form))


def spoilt(**changes) -> dict:
    """NETWORK with entries replaced (dots are written as __) or, with None, removed."""
    made = dict(NETWORK)
    for key, array in changes.items():
        made.pop(key.replace("__", "."), None)
        if array is not None:
            made[key.replace("__", ".")] = array
    return made


def with_value(key: str, value: float) -> dict:
    array = NETWORK[key].copy()
    array.flat[1] = value
    return {**NETWORK, key: array}


@pytest.mark.parametrize("tensors, message", [
    (spoilt(bn1__bias=None, bn9__bias=np.zeros(3, "f4"), bn1__weight=np.zeros(31, "f4")),
     r"'bn1.weight' is \(31,\) instead of \(32,\).*missing 'bn1.bias'.*unexpected 'bn9.bias'"),
    (spoilt(bn1__bias=np.zeros(32, "i4")), "'bn1.bias' is int32"),
    (spoilt(bn1__num_batches_tracked=np.zeros(2, "i8")), r"'bn1.num_batches_tracked' is \(2,\) instead of \(\)"),
    (spoilt(classifier__weight=None), "missing 'classifier.weight'"),
    (spoilt(classifier__weight=np.zeros((0, 1280), "f4")), r"'classifier.weight' is \(0, 1280\)"),
    (spoilt(classifier__weight=np.array(1.0, "f4")), r"'classifier.weight' is \(\)"),
    (spoilt(conv_stem__weight=np.zeros((32, 0, 3, 3), "f4")), r"'conv_stem.weight' is \(32, 0, 3, 3\)"),
    (with_value("bn1.weight", np.nan), "'bn1.weight' holds nan"),
    (with_value("conv_head.weight", -np.inf), "'conv_head.weight' holds -inf"),
    (with_value("blocks.3.1.bn2.running_var", -0.5), "'blocks.3.1.bn2.running_var' holds -0.5"),
    (spoilt(bn1__bias=np.full(32, 1e300)), r"'bn1.bias' holds 1e\+300: it is too large for float32"),
    ({"layer1.0.conv1.weight": np.zeros((64, 3, 7, 7), "f4"), "fc.bias": np.zeros(10, "f4")},
     "not the weights of an EfficientNet-Lite: its 2 tensors are named 'layer1.0.conv1.weight', 'fc.bias'"),
], ids=["three_at_once", "integers", "two_counts_in_one", "no_classifier", "no_classes",
        "classifier_0_dim", "no_channels", "nan", "infinity", "variance", "float64_overflow", "resnet"])
def test_what_does_not_fit_is_refused(tensors, message):
    with pytest.raises(WeightsError, match=message):
        identified(tensors)


def test_variant_overrides_the_shapes():
    assert identified(NETWORK, variant="lite0", file="mine.pth").warnings == ()
    with pytest.raises(WeightsError, match="not the parameters of tf_efficientnet_lite3"):
        identified(NETWORK, variant="lite3")
    with pytest.raises(ArgumentError, match="'lite9'.*did you mean 'lite"):
        identified(NETWORK, variant="lite9")


# --- the look-alike --------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("how, message", [
    ({"file": "efficientnet_lite0_ra-37913777.pth"}, "its file name says 'efficientnet_lite0_ra-37913777.pth'"),
    ({"file": "my-EfficientNet_Lite2-best.pth"}, "'my-EfficientNet_Lite2-best.pth'"),
    ({"file": "model.pth", "digest": "37913777" + "0" * 56}, "sha256 begins with '37913777'"),
    ({"file": NAME, "metadata": {"arch": "efficientnet_lite0"}}, "its metadata 'arch' says 'efficientnet_lite0'"),
    ({"file": NAME, "metadata": {"args.model": "efficientnet_lite0.ra_in1k"}}, "'efficientnet_lite0.ra_in1k'"),
], ids=["official_name", "own_name", "hash", "arch", "arguments"])
def test_look_alike_is_refused(how, message):
    with pytest.raises(WeightsError, match=message + ".*use tf_efficientnet_lite0"):
        identified(NETWORK, **how)
    with pytest.raises(WeightsError, match=message):
        identified(NETWORK, variant="lite0", **how)


@pytest.mark.parametrize("how", [
    {"digest": "0aa007d2" + "0" * 56},
    {"digest": "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"},
    {"metadata": {"arch": "tf_efficientnet_lite0"}},
], ids=["digits_of_timms_file", "digits_of_the_packages_file", "metadata"])
def test_name_of_the_look_alike_does_not_outweigh_what_is_certain(how):
    assert identified(NETWORK, file="efficientnet_lite0-57934424.pth", **how).warnings == ()


def test_eight_digits_of_the_packages_file_do_not_vouch_for_it():
    with pytest.raises(WeightsError, match="its file name says 'efficientnet_lite0-57934424.pth'"):
        identified(NETWORK, file="efficientnet_lite0-57934424.pth", digest="57934424" + "0" * 56)


def test_look_alikes_digits_outweigh_any_name_and_metadata():
    with pytest.raises(WeightsError, match="its sha256 begins with '37913777'"):
        identified(NETWORK, digest="37913777" + "0" * 56, metadata={"arch": "tf_efficientnet_lite0"})


@pytest.mark.parametrize("name", ["blocks.0.0.se.conv_reduce.weight", "_blocks.0._se_reduce.weight"])
def test_network_with_squeeze_and_excitation_is_named(name):
    with pytest.raises(WeightsError, match=f"squeeze-and-excitation layers \\('{name}'\\): "
                       "these are the weights of an EfficientNet"):
        identified(spoilt() | {name: np.zeros((8, 32, 1, 1), "f4")})


def test_look_alike_in_the_hubs_cache(tmp_path):
    for model, genuine in (("efficientnet_lite0.ra_in1k", False), ("tf_efficientnet_lite0.in1k", True)):
        path = tmp_path / f"models--timm--{model}" / "snapshots" / "0" / "model.safetensors"
        if genuine:
            assert identify(checkpoint(NETWORK, "model.safetensors"), path=path).warnings == ()
        else:
            with pytest.raises(WeightsError, match="its directory says 'models--timm--efficientnet_lite0.ra_in1k'"):
                identify(checkpoint(NETWORK, "model.safetensors"), path=path)


@pytest.mark.parametrize("how, told", [
    ({"file": "model.pth"}, False), ({"file": "lite0.pth"}, False), ({"file": NAME}, True),
    ({"file": "model.pth", "metadata": {"arch": "tf_efficientnet_lite0"}}, True),
    ({"file": "model.pth", "digest": "0aa007d2" + "0" * 56}, True),
], ids=["nothing", "short", "name", "metadata", "official_hash"])
def test_warned_where_nothing_tells(how, told):
    warnings = identified(NETWORK, **how).warnings
    assert (warnings == ()) is told
    assert told or "look-alike efficientnet_lite0" in warnings[0]


def test_look_alike_of_a_training_checkpoint(tmp_path):
    arguments = name("argparse",
                     "Namespace") + b")\x81" + by_hand.dictionary({"model": text("efficientnet_lite0")}) + b"b"
    source = tmp_path / NAME
    source.write_bytes(by_hand.save(NETWORK, "zip", wrapper="state_dict", beside={"args": arguments}))
    with pytest.raises(WeightsError, match=f"{NAME}.*'args.model' says 'efficientnet_lite0'"):
        convert(source)
    assert not (tmp_path / "tf_efficientnet_lite0.h5").exists()


# --- networks of little use for photos -------------------------------------------------------------------------------

@pytest.mark.parametrize("classes, channels, warning", [
    (1, 3, "the model has one class: every photo gets 100 %"),
    (0, 3, "the file has no classifier: the model returns pooled features and can't name classes"),
    (2, 4, "the model takes 4 channels: it can't take photos, only arrays .N, H, W, 4."),
    (2, 2, "the model takes 2 channels: "), (2, 1, None), (2, 3, None),
], ids=["one_class", "no_class", "four_channels", "two_channels", "grey", "colour"])
def test_what_a_network_is_good_for_is_said(classes, channels, warning):
    got = identified(by_hand.network(classes, channels)).warnings
    assert len(got) == (warning is not None)
    assert warning is None or re.match(warning, got[0])


# --- options ---------------------------------------------------------------------------------------------------------

def test_labels_and_preprocessing(model, tmp_path):
    (tmp_path / "names.txt").write_bytes("\ufeffcat\r\nZürich\r\n\r\n".encode())
    done = convert(model, tmp_path / "out.h5", labels=tmp_path / "names.txt",
                   preprocessing={"input_size": (64, 48), "mean": [0.1, 0.2, 0.3]})
    got = read_weights(done.target)
    assert got.labels == ("cat", "Zürich")
    assert (got.preprocessing.input_size, got.preprocessing.mean,
            got.preprocessing.crop_pct) == ((64, 48), (0.1, 0.2, 0.3), 0.875)
    whole = Preprocessing((32, 32), 1.0, "bilinear")
    assert read_weights(convert(model, preprocessing=whole).target).preprocessing == whole


@pytest.mark.parametrize("raw, error, message", [
    (b"cat\n", ArgumentError, "names.txt': 1 label for 2 classes"),
    (b"label\ncat\ndog\n", ArgumentError, "3 labels for 2 classes; .* is the first line, 'label', a heading"),
    (b"\ncat\n", WeightsError, "label 0 is ''"),
    (b"cat\n\xff\n", ArgumentError, "names.txt': it can't be read as text in UTF-8"),
    (b"a" * (1 << 22) + b"\n", ArgumentError, "more than 4,194,304 bytes"),
    (None, ArgumentError, "names.txt': it can't be read .No such file"),
], ids=["too_few", "heading", "empty_line", "not_utf8", "huge", "missing"])
def test_labels_that_break_a_rule(model, tmp_path, raw, error, message):
    if raw is not None:
        (tmp_path / "names.txt").write_bytes(raw)
    with pytest.raises(error, match=message):
        convert(model, labels=tmp_path / "names.txt")
    assert not model.with_suffix(".h5").exists()


@pytest.mark.parametrize("given, message", [
    ({"size": 64}, "preprocessing has no 'size'"), ({"crop_pct": -1.0}, "crop_pct=-1.0"),
    ({"interpolation": "cubic"}, "interpolation='cubic'"), ({"input_size": (0, 9)}, "input_size=.0, 9."),
])
def test_preprocessing_that_breaks_a_rule(model, given, message):
    with pytest.raises(ArgumentError, match=message):
        convert(model, preprocessing=given)


def test_existing_target_needs_force(model, tmp_path):
    target = tmp_path / "out.h5"
    target.write_bytes(b"old")
    with pytest.raises(ArgumentError, match="out.h5' exists already.*--force"):
        convert(model, target)
    assert target.read_bytes() == b"old"
    assert convert(model, target, force=True).target_size == target.stat().st_size > 3


def test_target_is_never_the_source(model, zip_bytes, tmp_path):
    os.link(model, tmp_path / "link.h5")
    for target, why in ((model, "its name must end in .h5"), (tmp_path / "link.h5", "is the checkpoint itself")):
        with pytest.raises(ArgumentError, match=why):
            convert(model, target, force=True)
    assert model.read_bytes() == zip_bytes


def test_shapes_far_beyond_any_network(tmp_path):
    arrays = NETWORK | {"conv_stem.weight": np.zeros((32, 4097, 3, 3), np.float32)}
    (tmp_path / "model.pth").write_bytes(by_hand.save(arrays, "zip"))
    with pytest.raises(WeightsError, match="model.pth': its shapes mean 4,097 input channels: the limit is 4,096"):
        convert(tmp_path / "model.pth")


@pytest.mark.parametrize("source, error, text", [
    (".", WeightsError, "it is a directory"), ("/", WeightsError, "it is a directory"),
    ("", ArgumentError, "checkpoint '': it is empty; give the path of a file")])
def test_source_without_a_name(source, error, text):
    with pytest.raises(error, match=text):
        convert(source)


def test_same_input_same_bytes(model, tmp_path):
    """Also in another directory, at another time, and when it replaces another file."""
    first = convert(model, tmp_path / "a.h5").target.read_bytes()
    (tmp_path / "b.h5").write_bytes(b"old")
    os.utime(model, (1, 1))
    assert convert(model, tmp_path / "b.h5", force=True).target.read_bytes() == first
    assert hashlib.sha256(first).digest() != hashlib.sha256(b"old").digest()


def test_random_weights_of_the_tests_are_those_of_the_package():
    expected = random_weights(build("lite0", 2, 3)).parameters
    assert all(np.array_equal(NETWORK[key], array) for key, array in expected.items())
