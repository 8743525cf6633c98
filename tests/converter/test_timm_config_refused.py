"""timm's config.json beside a checkpoint: contradictions of the tensors, and hostile files."""
import json
import os
import pathlib

import pytest
from hub_folders import EXPECTED, config

from npefficient.errors import WeightsError
from npefficient.network.variants import VARIANTS
from weights_convert import convert, load
from weights_convert.timm_config import config_beside

# --- contradictions --------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("changes, message", [
    ({"architecture": "efficientnet_lite0"}, "config.json says 'efficientnet_lite0': .*use tf_efficientnet_lite0"),
    ({"architecture": "efficientnet_lite0.ra_in1k"}, "config.json says 'efficientnet_lite0.ra_in1k'"),
    ({"architecture": "resnet50"}, "says architecture 'resnet50': only tf_efficientnet_lite0, .* are supported"),
    ({"architecture": "tf_efficientnet_lite2"}, "says architecture 'tf_efficientnet_lite2', but the tensors have "
                                                "'tf_efficientnet_lite0'.*move it away"),
    ({"num_classes": 3}, "config.json says num_classes 3, but the tensors have 2"),
    ({"pretrained": {"input_size": [1, 64, 64]}}, "config.json says input channels 1, but the tensors have 3"),
    ({"label_names": ["cat"]}, "1 label for 2 classes"), ({"label_names": ["cat", ""]}, "label 1 is ''"),
    ({"global_pool": "catavgmax"}, r"'classifier.weight' is \(2, 1280\) instead of \(2, 2560\)"),
], ids=["look_alike", "look_alikes_tag", "other_network", "other_variant", "classes", "channels", "too_few_labels",
        "empty_label", "pool"])
def test_contradictions_are_refused(folder, changes, message):
    changes = dict(changes)
    path = folder(config(changes.pop("pretrained", None), **changes))
    with pytest.raises(WeightsError, match=f"checkpoint '{path}/model.safetensors': .*{message}"):
        convert(path)
    assert not (path / "model.h5").exists()


def test_variant_overrides_the_architecture_but_not_for_the_look_alike(folder):
    assert load(folder(config(architecture="tf_efficientnet_lite2")), variant="lite0")[0].preprocessing == EXPECTED
    with pytest.raises(WeightsError, match="config.json says 'efficientnet_lite0'"):
        load(folder(config(architecture="efficientnet_lite0")), variant="lite0")


def test_config_of_something_else_is_left_alone(folder):
    weights, _, warnings = load(folder({"architectures": ["ViTModel"], "model_type": "vit"}))
    assert weights.preprocessing == VARIANTS["tf_efficientnet_lite0"].preprocessing
    assert warnings[0] == "config.json beside it is not timm's (it has no 'architecture'), and is ignored"
    assert "it is unclear whether" in warnings[1]


# --- hostile ---------------------------------------------------------------------------------------------------------

def beside(tmp_path, what):
    (tmp_path / "config.json").write_bytes(what if isinstance(what, bytes) else json.dumps(what).encode())
    return config_beside(tmp_path / "model.pth")


@pytest.mark.parametrize("raw_config, message", [
    (b"", "config.json is not valid JSON"), (b"{", "is not valid JSON"), (b"\xff\xfe{}", "is not valid JSON"),
    (b"[" * 200_000, "is not valid JSON"), (b'{"a":' * 100_000, "is not valid JSON"),
    (b"1" * 10_000, "is not valid JSON"), (b'{"architecture": NaN}', "contains 'NaN', which is not valid JSON"),
    (b'{"a": 1, "a": 2}', "the name 'a' appears twice"),
    (b" " * ((1 << 22) + 1), "has more than 4194304 bytes"),
], ids=["empty", "cut_off", "utf16", "deep", "deep_names", "long_number", "nan", "twice", "large"])
def test_what_is_no_json_is_refused(tmp_path, raw_config, message):
    with pytest.raises(WeightsError, match=f"{message}.*fix config.json, or move it away") as caught:
        beside(tmp_path, raw_config)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("changes, message", [
    ({"pretrained_cfg": []}, "'pretrained_cfg' is a list: it must be a dictionary"),
    ({"pretrained_cfg": "x" * 10_000}, "'pretrained_cfg' is 'xxx.* long.: it must be a dictionary"),
    ({"model_args": [1]}, "'model_args' is a list"), ({"num_classes": "2"}, "'num_classes' is '2': it must be a whole"),
    ({"num_classes": True}, "'num_classes' is True"), ({"global_pool": 3}, "'global_pool' is 3: it must be a string"),
    ({"global_pool": "fast"}, "'global_pool' is 'fast': it must be one of 'avg', "),
    ({"label_names": "cat"}, "'label_names' must be a list of strings"),
    ({"label_names": [1, 2]}, "'label_names' must"), ({"label_names": {"0": "a", "2": "b"}}, "'label_names' must"),
    ({"label_descriptions": []}, "'label_descriptions'"),
], ids=lambda value: None if isinstance(value, str) else "_".join(value))
def test_values_of_a_wrong_type(tmp_path, changes, message):
    with pytest.raises(WeightsError, match=f"config.json: {message}.*move it away") as caught:
        beside(tmp_path, config(**changes))
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("name, value", [
    ("input_size", [3, 224]), ("input_size", 224), ("input_size", "abc"), ("input_size", [3, 0, 5]), ("input_size", {}),
    ("input_size", [3, 1 << 20, 1 << 20]), ("input_size", [3, 64.0, 64]), ("input_size", ["3", 64, 64]),
    ("input_size", [0, 64, 64]), ("crop_pct", "1"), ("crop_pct", 0), ("crop_pct", -1), ("crop_pct", [1]),
    ("mean", []), ("mean", "abc"), ("mean", [1, 2, "x"]), ("mean", {"0": 1}), ("mean", [None] * 3), ("mean", True),
    ("std", [0, 1, 1]), ("std", [1e300] * 3), ("interpolation", "random"), ("interpolation", 3),
    ("interpolation", ["bicubic"]), ("crop_mode", "x" * 100_000), ("crop_mode", {"a": 1}),
], ids=str)
def test_settings_that_can_not_be(tmp_path, name, value):
    with pytest.raises(WeightsError, match=f"config.json: .*{name}.*it must be") as caught:
        beside(tmp_path, config({name: value}))
    assert len(str(caught.value)) < 600


def test_number_beyond_float_is_no_setting(tmp_path):
    with pytest.raises(WeightsError, match="crop_pct=inf: it must be"):
        beside(tmp_path, json.dumps(config()).replace("0.9", "1e999").encode())


@pytest.mark.parametrize("label", ["a\nb", "\x1b[2J", "\ud800"], ids=["two_lines", "escape", "surrogate"])
def test_labels_that_a_terminal_would_obey(folder, label):
    with pytest.raises(WeightsError, match="label 1 is .*one line of text"):
        load(folder(config(label_names=["cat", label])))


@pytest.mark.parametrize("make, why", [
    (os.mkdir, "Is a directory"), (os.mkfifo, "it is a pipe, no file"),
    (lambda path: os.symlink("/dev/null", path), "it is a device, no file"),
    (lambda path: os.symlink("nowhere", path), "No such file or directory")],
    ids=["directory", "pipe", "device", "broken_link"])
def test_config_that_is_no_file(tmp_path, make, why):
    make(tmp_path / "config.json")
    with pytest.raises(WeightsError, match=rf"config.json beside it can't be read \({why}\).*move it away"):
        config_beside(tmp_path / "model.pth")


def test_pipe_that_took_the_place_of_a_config(tmp_path, monkeypatch):
    """It appears just before the opening, which does not wait for a writer."""
    os.mkfifo(tmp_path / "config.json")
    regular = os.stat(__file__)
    monkeypatch.setattr(pathlib.Path, "stat", lambda path, **how: regular)
    with pytest.raises(WeightsError, match="it is a pipe"):
        config_beside(tmp_path / "model.pth")
