"""Exports to timm: all values, timm's names, and loading with strict=True."""
import contextlib
import dataclasses
import json
import os

import checkpoints as by_hand
import numpy as np
import pytest
from live import logits, needs_timm, timm, torch
from tolerance import LOGITS, assert_close
from weight_files import difference

from npefficient.common import paths
from npefficient.errors import ArgumentError, WeightsError
from npefficient.model.model import Model
from npefficient.network.architecture import build
from npefficient.network.parameters import Source, random_weights
from npefficient.network.preprocessing import Preprocessing
from npefficient.weights.weight_file import write_weights
from weights_convert import convert, export, read_checkpoint
from weights_convert.safetensors import read_safetensors, safetensors_bytes

OFFICIAL = Source("efficientnet-lite0-57934424.pth", "57934424" + "0" * 56, "torch-legacy")


@pytest.fixture
def weights_file(tmp_path):
    write_weights(tmp_path / "lite0.h5", random_weights(build("lite0", 2, 3)))
    return tmp_path / "lite0.h5"


def test_safetensors_bytes_are_those_of_the_specification():
    """A whole file by hand: wide elements first, header padded to 8 bytes."""
    header = (b'{"__metadata__":{"format":"pt"},"n":{"dtype":"I64","shape":[],"data_offsets":[0,8]},'
              b'"w":{"dtype":"F32","shape":[2],"data_offsets":[8,16]},'
              b'"h":{"dtype":"F16","shape":[1],"data_offsets":[16,18]}}')
    header += b" " * (-len(header) % 8)
    expected = len(header).to_bytes(8, "little") + header + bytes([7] + [0] * 7) + b"\0\0\x80\x3f\0\0\0\xc0" + b"\0\x3c"
    arrays = {"w": np.array([1, -2], "f4"), "h": np.array([1], np.float16), "n": np.array(7, np.int64)}
    assert safetensors_bytes(arrays, {"format": "pt"}) == expected


def test_export_holds_every_number(weights_file, tmp_path):
    out = tmp_path / "out.safetensors"
    done = export(weights_file, out)
    expected = random_weights(build("lite0", 2, 3)).parameters
    got, metadata = read_safetensors(out.read_bytes())
    assert set(got) == set(expected) and done.target_size == out.stat().st_size
    assert all(got[key].tobytes() == array.tobytes() and got[key].dtype == array.dtype for key,
               array in expected.items())
    assert metadata["format"] == "pt" and metadata.keys() == {"format", "timm_config", "source_name", "source_sha256"}
    size = int.from_bytes(out.read_bytes()[:8], "little")
    header = json.loads(out.read_bytes()[8 : 8 + size])
    assert size % 8 == 0
    assert all((8 + size + header[key]["data_offsets"][0]) % array.itemsize == 0 for key, array in expected.items())


def test_export_and_convert_back_is_the_same(weights_file, tmp_path):
    first = export(weights_file, tmp_path / "first.safetensors")
    back = convert(first.target, tmp_path / "back.h5")
    assert back.warnings == ()  # its metadata name the variant
    again = read_checkpoint(export(back.target, tmp_path / "second.safetensors").target).tensors
    assert all(np.array_equal(array, again[key]) for key, array in read_checkpoint(first.target).tensors.items())


@pytest.mark.parametrize("pool", ["avg", "max", "avgmax", "catavgmax"])
def test_export_and_convert_back_keep_the_pool(tmp_path, pool):
    """Three pools have the same shapes: the metadata tell which it is, unless an argument does."""
    write_weights(tmp_path / "first.h5", random_weights(build("lite0", 2, 3, pool)))
    exported = export(tmp_path / "first.h5", tmp_path / "first.safetensors").target
    assert convert(exported, tmp_path / "back.h5").weights.architecture.global_pool == pool
    if pool != "catavgmax":
        other = convert(exported, tmp_path / "other.h5", global_pool="max").weights.architecture
        assert other.global_pool == "max"


def weights_with(num_classes=3, in_chans=3, pool="avg", **changes):
    """Random weights with everything that a weight file can store beside them."""
    made = random_weights(build("lite0", num_classes, in_chans, pool))
    how = Preprocessing((160, 96), 0.95, "bilinear", (0.485, 0.456, 0.406), (0.1, 0.2, 0.3), "border")
    return dataclasses.replace(made, **{"preprocessing": how, **changes})


@pytest.mark.parametrize("weights", [
    weights_with(labels=("Zürich", "猫 \"cat\"", "tab\tand \\ slash")), weights_with(1, labels=("one",)),
    weights_with(2, 1, "max"), weights_with(4, 4, preprocessing=Preprocessing((64, 64))), weights_with(0, 3, ""),
    weights_with(5, 3, "catavgmax", labels=("same",) * 5), weights_with(2, 3, "avgmax", source=OFFICIAL),
], ids=["names", "one_class", "one_channel", "four_channels", "no_head", "catavgmax", "named_like_the_look_alike"])
@pytest.mark.parametrize("form", ["file", "folder"])
def test_the_way_there_and_back_gives_the_same_weight_file(tmp_path, weights, form):
    """All is the same but the source, which is the exported file."""
    write_weights(tmp_path / "first.h5", weights)
    target = tmp_path / "x.safetensors" if form == "file" else f"{tmp_path}/hub/"
    done = export(tmp_path / "first.h5", target)
    got = convert(done.target if form == "file" else target, tmp_path / "back.h5").weights
    assert difference(dataclasses.replace(got, source=weights.source), weights) == ""
    write_weights(tmp_path / "again.h5", dataclasses.replace(got, source=weights.source))
    assert (tmp_path / "again.h5").read_bytes() == (tmp_path / "first.h5").read_bytes()


def test_metadata_are_those_documented(tmp_path):
    write_weights(tmp_path / "x.h5", weights_with(3, labels=("a", "b", "c"), pool="max"))
    _, metadata = read_safetensors(export(tmp_path / "x.h5", tmp_path / "x.safetensors").target.read_bytes())
    config = json.loads(metadata.pop("timm_config"))
    assert metadata == {"format": "pt", "source_name": "seed 0", "source_sha256": ""}
    assert config == {
        "architecture": "tf_efficientnet_lite0", "num_classes": 3, "num_features": 1280, "global_pool": "max",
        "label_names": ["a", "b", "c"], "model_args": {"global_pool": "max"},
        "pretrained_cfg": {"num_classes": 3, "input_size": [3, 160, 96], "interpolation": "bilinear", "crop_pct": 0.95,
                           "crop_mode": "border", "mean": [0.485, 0.456, 0.406], "std": [0.1, 0.2, 0.3],
                           "pool_size": [5, 3], "first_conv": "conv_stem", "classifier": "classifier"}}


def test_class_names_without_end_are_refused(tmp_path):
    write_weights(tmp_path / "x.h5", weights_with(2, labels=("a" * 600_000, "b" * 600_000)))
    with pytest.raises(WeightsError, match="take 1,2.*bytes: the limit .* is 1,048,576; shorten the class names"):
        export(tmp_path / "x.h5", tmp_path / "x.safetensors")
    with pytest.raises(WeightsError, match="shorten the class names"):
        export(tmp_path / "x.h5", f"{tmp_path}/hub/")
    assert [path.name for path in tmp_path.iterdir()] == ["x.h5"]


def test_folder_needs_force_for_either_file(weights_file, tmp_path):
    hub = tmp_path / "hub"
    hub.mkdir()
    for name in ("config.json", "model.safetensors"):
        (hub / name).write_bytes(b"old")
        with pytest.raises(ArgumentError, match=f"{name}' exists already"):
            export(weights_file, hub)
        assert [(path.name, path.read_bytes()) for path in hub.iterdir()] == [(name, b"old")]
        (hub / name).unlink()
    (hub / "config.json").write_bytes(b"old")
    done = export(weights_file, hub, force=True)
    assert json.loads(done.config.read_bytes())["architecture"] == "tf_efficientnet_lite0"


@pytest.mark.parametrize("renamed", [0, 1, 2])
def test_a_kill_between_the_files_of_a_folder_leaves_the_class_names_of_its_weights(tmp_path, monkeypatch, renamed):
    done = []

    def killed_later(part, target):
        if len(done) == renamed:
            raise KeyboardInterrupt
        done.append(os.replace(part, target))

    old, new = (weights_with(2, labels=labels) for labels in (("cat", "dog"), ("tree", "house")))
    new.parameters["classifier.bias"][:] = 1
    for name, weights in (("old", old), ("new", new)):
        write_weights(tmp_path / f"{name}.h5", weights)
    export(tmp_path / "old.h5", f"{tmp_path}/hub/")
    with monkeypatch.context() as patched:
        patched.setattr(paths, "_put_in_place", killed_later)
        with pytest.raises(KeyboardInterrupt) if renamed < 2 else contextlib.nullcontext():
            export(tmp_path / "new.h5", f"{tmp_path}/hub/", force=True)
    expected, got = new if renamed else old, convert(tmp_path / "hub", tmp_path / "back.h5").weights
    assert difference(dataclasses.replace(got, source=expected.source), expected) == ""
    assert (tmp_path / "hub" / "config.json").exists() == (renamed == 2)


def test_export_refuses(weights_file, tmp_path):
    (tmp_path / "old.safetensors").write_bytes(b"old")
    with pytest.raises(ArgumentError, match="old.safetensors' exists already"):
        export(weights_file, tmp_path / "old.safetensors")
    with pytest.raises(ArgumentError, match="lite0.h5': its name must end in .safetensors, .*'.*/' makes a folder"):
        export(weights_file, weights_file, force=True)
    (tmp_path / "model.pth").write_bytes(by_hand.zip_file(b""))
    with pytest.raises(WeightsError, match="model.pth' is not an HDF5 file"):
        export(tmp_path / "model.pth", tmp_path / "old.safetensors", force=True)
    assert (tmp_path / "old.safetensors").read_bytes() == b"old"


def test_export_notices_a_disk_that_changes_bits(weights_file, tmp_path, monkeypatch):
    """The file is read back and compared: after one wrong bit the old file stays."""
    from pathlib import Path
    target, honest = tmp_path / "old.safetensors", Path.read_bytes
    target.write_bytes(b"old")
    monkeypatch.setattr(Path, "read_bytes", lambda path: (data := honest(path))[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(WeightsError, match="read back from .*old.safetensors' differs"):
        export(weights_file, target, force=True)
    monkeypatch.undo()
    assert target.read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 2


@needs_timm
@pytest.mark.parametrize("variant, classes, channels", [("lite0", 1000, 3), ("lite2", 10, 1), ("lite4", 7, 3)])
def test_export_loads_in_timm_with_strict(tmp_path, variant, classes, channels):
    """timm -> .pth -> .h5 -> .safetensors -> timm: the state_dict is the same to the bit."""
    import safetensors.torch
    torch.manual_seed(3)
    model = timm.create_model(f"tf_efficientnet_{variant}", num_classes=classes, in_chans=channels)
    torch.save(model.state_dict(), tmp_path / "model.pth", _use_new_zipfile_serialization=variant != "lite2")
    convert(tmp_path / "model.pth", tmp_path / "model.h5")
    export(tmp_path / "model.h5", tmp_path / "model.safetensors")
    loaded = timm.create_model(f"tf_efficientnet_{variant}", num_classes=classes, in_chans=channels)
    loaded.load_state_dict(safetensors.torch.load_file(tmp_path / "model.safetensors"), strict=True)
    expected = model.state_dict()
    for key, tensor in loaded.state_dict().items():
        assert torch.equal(tensor, expected[key]), key


@needs_timm
def test_folder_scores_in_timm_as_here(tmp_path):
    """create_model("local-dir:..") with its own preprocessing: the same pixels, logits and class names."""
    from PIL import Image

    weights = weights_with(5, labels=tuple("abcde"), pool="avgmax")
    write_weights(tmp_path / "x.h5", weights)
    hub = export(tmp_path / "x.h5", f"{tmp_path}/hub/").config.parent
    theirs = timm.create_model(f"local-dir:{hub}", pretrained=True).eval()
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(theirs))
    ours = Model(weights, backend="reference")
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (150, 200, 3), np.uint8))
    x = ours.transform(photo)
    assert np.array_equal(transform(photo).permute(1, 2, 0).numpy(), x)
    assert_close(ours(x[None]), logits(theirs, x[None]), LOGITS)
    assert theirs.pretrained_cfg["label_names"] == ["a", "b", "c", "d", "e"]
    assert theirs.global_pool.pool_type == "avgmax"


@needs_timm
@pytest.mark.parametrize("classes, channels, pool", [(2, 1, "max"), (0, 3, ""), (0, 3, "avg"), (3, 4, "catavgmax")])
def test_folder_of_any_network_loads_in_timm(tmp_path, classes, channels, pool):
    weights = weights_with(classes, channels, pool, preprocessing=Preprocessing())
    write_weights(tmp_path / "x.h5", weights)
    export(tmp_path / "x.h5", f"{tmp_path}/hub/")
    model = timm.create_model(f"local-dir:{tmp_path}/hub", pretrained=True)
    assert tuple(timm.data.resolve_model_data_config(model)["input_size"]) == (channels, 224, 224)
    state = model.state_dict()
    assert all(np.array_equal(state[name].numpy(), array) for name, array in weights.parameters.items())
    assert len(state) == len(weights.parameters)
