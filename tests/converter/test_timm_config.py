"""timm's config.json beside a checkpoint is read as timm reads it."""
import json
import os
import warnings

import numpy as np
import pytest
from hub_folders import EXPECTED, FULL, config
from live import needs_timm, timm, torch

from npefficient.commands import main
from npefficient.errors import WeightsError
from npefficient.model.loading import load_weights
from npefficient.model.model import create_model
from npefficient.network.architecture import build
from npefficient.network.parameters import random_weights
from npefficient.network.preprocessing import Preprocessing
from weights_convert import convert, load, read_checkpoint
from weights_convert.timm_config import parse_config

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


def parsed(*args, **changes):
    return parse_config(json.dumps(config(*args, **changes)).encode(), "config.json")


# --- what is taken ---------------------------------------------------------------------------------------------------

def test_settings_and_names_are_taken(folder):
    done = convert(folder(config()))
    assert done.weights.preprocessing == EXPECTED and done.weights.labels == ("cat", "dog")
    assert done.config == "config.json" and done.warnings == ()  # it identifies the network, too
    assert done.source.name == "model.safetensors" and done.target.name == "model.h5"


@pytest.mark.parametrize("source", ["{}", "{}/", "local-dir:{}", "{}/model.safetensors"])
def test_folder_and_file_are_the_same(folder, source):
    source = source.format(folder(config()))
    assert load(source)[0].preprocessing == EXPECTED
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_weights(source).labels == ("cat", "dog")
        model = create_model(checkpoint_path=source, backend="reference")
    assert model.labels == ("cat", "dog") and model.weights().preprocessing == EXPECTED  # read once more


def test_links_as_in_the_hubs_cache(folder, tmp_path):
    real, snapshot = folder(config()), tmp_path / "models--me--mine" / "snapshots" / "0"
    snapshot.mkdir(parents=True)
    for name in ("config.json", "model.safetensors"):
        os.symlink(real / name, snapshot / name)
    assert load(snapshot)[0].preprocessing == load(snapshot / "model.safetensors")[0].preprocessing == EXPECTED


def test_arguments_count_before_it(folder, tmp_path):
    (tmp_path / "names.txt").write_text("one\ntwo\n")
    weights, _, _ = load(folder(config(global_pool="max")), labels=tmp_path / "names.txt", global_pool="avgmax",
                         preprocessing={"crop_pct": 1.0, "input_size": (64, 64)})
    assert weights.preprocessing == Preprocessing((64, 64), 1.0, "bilinear", (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), "squash")
    assert weights.labels == ("one", "two") and weights.architecture.global_pool == "avgmax"


def test_command_says_where_settings_came_from(folder, capsys):
    path = folder(config())
    assert main(["convert", str(path)]) == 0
    out = capsys.readouterr().out
    assert ("\ninput    160 x 128, crop_pct 0.9, bilinear, mean 0.1 0.2 0.3, std 0.4 0.5 0.6, from config.json\n"
            "labels   'cat', 'dog', from config.json\n") in out and f"read     {path}/model.safetensors (" in out
    assert main(["convert", str(path), "--crop-pct", "1", "--force"]) == 0
    assert "from config.json and the options\n" in capsys.readouterr().out
    (path / "config.json").unlink()
    assert main(["convert", str(path), "--force"]) == 0
    assert "\nlabels   no class names in the file\n" in capsys.readouterr().out


@pytest.mark.parametrize("changes, pool", [
    ({}, "avg"), ({"global_pool": "max"}, "max"), ({"global_pool": "", "num_classes": 0}, ""),
    ({"global_pool": None, "model_args": {"global_pool": "avgmax"}}, "avgmax"),
    ({"global_pool": "avg", "model_args": {"global_pool": "max"}}, "avg"), ({"global_pool": None}, None),
])
def test_pool_is_that_of_the_saved_model(changes, pool):
    """timm stores the pool at the time of saving, and the arguments that the model was created with."""
    assert parsed(**changes).global_pool == pool


@pytest.mark.parametrize("changes, labels", [
    ({"label_names": None}, None), ({"label_names": {"1": "dog", "0": "cat"}}, ("cat", "dog")),
    ({"label_descriptions": {"cat": "a small cat", "fish": "a fish"}}, ("a small cat", "dog")),
    ({"label_names": None, "pretrained": {"label_names": ["a", "b"], "label_descriptions": {"a": "A"}}}, ("A", "b")),
], ids=["none", "numbered", "descriptions", "in_pretrained_cfg"])
def test_labels_are_what_timm_shows(changes, labels):
    changes = dict(changes)
    assert parsed(changes.pop("pretrained", None), **changes).labels == labels


def test_flat_form_of_old_hubs():
    flat = {"architecture": "tf_efficientnet_lite0", "num_features": 1280, "labels": ["cat", "dog"]} | FULL
    got = parse_config(json.dumps(flat).encode(), "config.json")
    assert (got.preprocessing, got.labels, got.num_classes) == (EXPECTED, ("cat", "dog"), 2)


@pytest.mark.parametrize("channels, mean, expected", [
    (1, [0.25], (0.25,) * 3), (4, [0.25] * 4, (0.25,) * 3), (3, [0.25], (0.25,) * 3), (1, 0.25, (0.25,) * 3),
], ids=["one_channel", "four", "one_for_three", "number"])
def test_mean_of_other_channels(channels, mean, expected):
    got = parsed({"input_size": [channels, 160, 128], "mean": mean})
    assert (got.in_chans, got.preprocessing.mean) == (channels, expected)


@pytest.mark.parametrize("channels, values", [(3, [0.1, 0.2]), (3, [0.1] * 5), (4, [0.1, 0.2, 0.3, 0.4]),
                                              (1, [0.5] * 2), (4, [0.1] * 5)], ids=str)
@pytest.mark.parametrize("name", ["mean", "std"])
def test_mean_of_another_number_of_channels_is_refused(name, channels, values):
    with pytest.raises(WeightsError, match=f"'{name}' has {len(values)} values for {channels} input channels?: it must "
                                           "be one value, three, or the same value for every channel"):
        parsed({"input_size": [channels, 160, 128], name: values})


def test_channels_of_the_arguments_count_before_the_size():
    assert parsed(model_args={"in_chans": 1}).in_chans == 1


def test_what_is_left_out_has_timms_defaults(folder):
    weights, _, found = load(folder(config(pretrained_cfg={"crop_pct": 0.9})))
    assert weights.preprocessing == Preprocessing((224, 224), 0.9, "bicubic", **IMAGENET)
    assert found == ("config.json does not set crop_mode, input_size, interpolation, mean, std: timm's defaults are "
                     "used, as in timm itself",)


# --- which file of a folder ------------------------------------------------------------------------------------------

@pytest.mark.parametrize("names, chosen", [
    (("model.safetensors", "pytorch_model.bin", "a.pth"), "model.safetensors"), (("pytorch_model.bin", "x.pth"),
                                                                                 "pytorch_model.bin"),
    (("best.pth", "config.json", "README.md"), "best.pth"), (("last.pth.tar",), "last.pth.tar"),
])
def test_file_of_a_folder(tmp_path, names, chosen):
    for name in names:
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(WeightsError, match=f"{chosen}': the file is empty"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize("names, message", [
    (("a.pth", "b.pth"), "it has 2 checkpoints, 'a.pth', 'b.pth': name the checkpoint file itself"),
    (("a.h5", "b.txt"), "it is a directory, and none of its files ends in .safetensors, .pth"),
], ids=["several", "none"])
def test_folder_that_leaves_it_open(tmp_path, names, message):
    for name in names:
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(WeightsError, match=f"folder '{tmp_path}': {message}"):
        convert(tmp_path)


# --- timm's own files ------------------------------------------------------------------------------------------------

@needs_timm
@pytest.mark.parametrize("how, data, labels", [
    ({"num_classes": 3}, {"input_size": (3, 160, 160), "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225),
                          "crop_pct": 0.95}, ["cat", "dog", "eel"]),
    ({"num_classes": 2, "in_chans": 1, "global_pool": "max"}, {}, None),
    ({"num_classes": 0, "global_pool": ""}, {"crop_mode": "border"}, None),
    ({"num_classes": 4, "global_pool": "catavgmax"}, {}, {i: f"class {i}" for i in range(4)}),
], ids=["photos", "one_channel", "no_head", "numbered_labels"])
@pytest.mark.parametrize("safe", [True, False], ids=["safetensors", "bin"])
def test_folder_that_timm_saved(tmp_path, how, data, labels, safe):
    """save_for_hf -> convert: the same settings as when timm loads the folder."""
    from timm.models import save_for_hf

    model = timm.create_model("tf_efficientnet_lite0", **how)
    save_for_hf(model, tmp_path, safe_serialization=safe, data_config=data,
                model_config={"label_names": labels} if labels else None)
    again = timm.create_model(f"local-dir:{tmp_path}", pretrained=True)
    expected = timm.data.resolve_model_data_config(again)
    weights = convert(tmp_path).weights
    got, network = weights.preprocessing, weights.architecture
    assert (network.in_chans, *got.input_size) == expected["input_size"]
    assert (got.interpolation, got.crop_pct, got.crop_mode) == tuple(expected[key] for key in (
        "interpolation", "crop_pct", "crop_mode"))
    assert (got.mean[:network.in_chans], got.std[:network.in_chans]) == (
        tuple(expected["mean"]), tuple(expected["std"]))
    assert (network.num_classes, network.in_chans, network.global_pool) == (
        how["num_classes"], how.get("in_chans", 3), how.get("global_pool", "avg"))
    assert weights.labels == (tuple(labels.values() if isinstance(labels, dict) else labels) if labels else None)
    assert all(np.array_equal(weights.parameters[name], value) for name, value in again.state_dict().items())


@needs_timm
def test_left_out_settings_are_timms(tmp_path):
    """A config without a mean: timm uses ImageNet's, not the network's."""
    weights = random_weights(build("lite0", 2))
    state = {name: torch.from_numpy(np.array(array)) for name, array in weights.parameters.items()}
    torch.save(state, tmp_path / "pytorch_model.bin")
    pretrained = {"num_classes": 2, "classifier": "classifier"}
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "tf_efficientnet_lite0", "num_classes": 2,
                                                      "pretrained_cfg": pretrained}))
    expected = timm.data.resolve_model_data_config(timm.create_model(f"local-dir:{tmp_path}", pretrained=True))
    got = load(tmp_path)[0].preprocessing
    assert {"input_size": (3, *got.input_size), "interpolation": got.interpolation, "mean": got.mean, "std": got.std,
            "crop_pct": got.crop_pct, "crop_mode": got.crop_mode} == expected
