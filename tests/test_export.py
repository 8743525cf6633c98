"""Weight files back to timm: every number, timm's names, and loading with strict=True."""
import json

import numpy as np
import pytest

import checkpoints as by_hand
from live import needs_timm, timm, torch
from npefficient.architecture import build
from npefficient.errors import ArgumentError, WeightsError
from npefficient.parameters import random_weights
from npefficient.weights import write_weights
from weights_convert import convert, export, read_checkpoint
from weights_convert.safetensors import read_safetensors, safetensors_bytes


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
    assert (metadata["format"], metadata["variant"], metadata["num_classes"]) == ("pt", "tf_efficientnet_lite0", "2")
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
    """Which of three shapes alike it is, the metadata say; an argument says it over them."""
    write_weights(tmp_path / "first.h5", random_weights(build("lite0", 2, 3, pool)))
    exported = export(tmp_path / "first.h5", tmp_path / "first.safetensors").target
    assert convert(exported, tmp_path / "back.h5").weights.architecture.global_pool == pool
    if pool != "catavgmax":
        other = convert(exported, tmp_path / "other.h5", global_pool="max").weights.architecture
        assert other.global_pool == "max"


def test_export_refuses(weights_file, tmp_path):
    (tmp_path / "old.safetensors").write_bytes(b"old")
    with pytest.raises(ArgumentError, match="old.safetensors' exists already"):
        export(weights_file, tmp_path / "old.safetensors")
    with pytest.raises(ArgumentError, match="lite0.h5' is the weight file itself"):
        export(weights_file, weights_file, force=True)
    (tmp_path / "model.pth").write_bytes(by_hand.zip_file(b""))
    with pytest.raises(WeightsError, match="model.pth' is no HDF5 file"):
        export(tmp_path / "model.pth", tmp_path / "old.safetensors", force=True)
    assert (tmp_path / "old.safetensors").read_bytes() == b"old"


def test_export_notices_a_disk_that_changes_bits(weights_file, tmp_path, monkeypatch):
    """What is read back is compared: one wrong bit and the old file stays."""
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
