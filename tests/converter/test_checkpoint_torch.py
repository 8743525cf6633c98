"""Readers of checkpoints against torch itself: files from torch.save give the same bits as with torch.load."""
import argparse
import datetime
import pathlib
from collections import Counter, OrderedDict, defaultdict

import numpy as np
import pytest
from live import needs_timm, timm, torch

from npefficient.errors import WeightsError
from weights_convert import read_checkpoint

pytestmark = needs_timm
FORMS = {"zip": True, "legacy": False}


def save(obj, path, form, **how):
    torch.save(obj, path, _use_new_zipfile_serialization=FORMS[form], **how)
    return path


def assert_as_torch(got: dict, expected: dict):
    """Bits, shapes and dtypes equal torch's; bfloat16 is compared as float32."""
    assert list(got) == list(expected)
    for name, tensor in expected.items():
        if tensor.dtype == torch.bfloat16:
            tensor = tensor.float()
        array = tensor.detach().contiguous().numpy()
        assert got[name].dtype == array.dtype and got[name].shape == array.shape, name
        assert got[name].tobytes() == array.tobytes(), name


def test_assert_as_torch_can_fail():
    with pytest.raises(AssertionError, match="x"):
        assert_as_torch({"x": np.zeros(2, "f4")}, {"x": torch.tensor([0.0, -0.0])})


def tensors() -> dict:
    generator = torch.Generator().manual_seed(5)
    base = torch.randn(4, 6, 5, 3, generator=generator)
    return {
        "plain": base.clone(),
        "channels_last": base.clone().to(memory_format=torch.channels_last),
        "transposed": base[0, 0].clone().t(),
        "slice": base[1:3, ::2],
        "slice_of_the_same": base[2:, 1:5:3, 2],
        "expanded": torch.arange(3.0)[:, None].expand(3, 4),
        "scalar": torch.tensor(7),
        "empty": torch.zeros(0, 3),
        "half": base[0].half(),
        "bfloat16": base[0].bfloat16(),
        "double": base[0].double() * 1e-300,
        "int32": torch.arange(-3, 3, dtype=torch.int32), "int16": torch.arange(-3, 3, dtype=torch.int16),
        "int8": torch.arange(-3, 3, dtype=torch.int8), "uint8": torch.arange(250, 256, dtype=torch.uint8),
        "parameter": torch.nn.Parameter(base[3, 3].clone()),
        "special": torch.tensor([float("inf"), float("nan"), -0.0, 1e-45]),
    }


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("protocol", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("form", FORMS)
def test_every_kind_of_tensor(tmp_path, form, protocol):
    path = save(tensors(), tmp_path / "x.pth", form, pickle_protocol=protocol)
    assert_as_torch(read_checkpoint(path).tensors, torch.load(path, weights_only=False))


@pytest.mark.parametrize("form", FORMS)
def test_tensor_with_attributes(tmp_path, form):
    tensor = torch.arange(3.0)
    tensor.note = "mine"
    path = save({"x": tensor}, tmp_path / "x.pth", form)
    assert read_checkpoint(path).tensors["x"].tolist() == [0, 1, 2]


def test_uint16_is_rebuilt_by_v3(tmp_path):
    path = save({"x": torch.ones(3).to(torch.uint16)}, tmp_path / "x.pth", "zip")
    got = read_checkpoint(path).tensors["x"]
    assert got.dtype == np.uint16 and got.tolist() == [1, 1, 1]


@pytest.mark.parametrize("form", FORMS)
def test_negative_bit_is_not_lost(tmp_path, form):
    lazy = torch._neg_view(torch.arange(3.0))
    with pytest.raises(WeightsError, match="lazy negative"):
        read_checkpoint(save({"x": lazy}, tmp_path / "x.pth", form))


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("form", FORMS)
def test_protocol_0_is_refused_by_torch_too(tmp_path, form):
    path = save({"x": torch.arange(3.0)}, tmp_path / "x.pth", form, pickle_protocol=0)
    with pytest.raises(WeightsError, match="to protocol 0, from which torch itself can't load tensors"):
        read_checkpoint(path)
    with pytest.raises(AssertionError, match="saved_id must be a tuple"):
        torch.load(path, weights_only=False)


@pytest.mark.filterwarnings("ignore:.*quantized tensor creation")
@pytest.mark.parametrize("form", FORMS)
def test_kinds_that_are_not_read(tmp_path, form):
    """Beside the weights each is ignored; among them it is refused by name."""
    other = {"complex": torch.ones(2, dtype=torch.complex64), "conjugate": torch.ones(2, dtype=torch.complex64).conj(),
             "sparse": torch.eye(3).to_sparse(), "meta": torch.ones(2, device="meta"),
             "quantised": torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)}
    if form == "zip":  # torch.load itself can't read them from the legacy format
        other.update(float8=torch.ones(3).to(torch.float8_e4m3fn), scale=torch.ones(3).to(torch.float8_e8m0fnu))
    weights = {"x": torch.arange(3.0)}
    assert_as_torch(read_checkpoint(save({"model": weights, **other}, tmp_path / "x.pth", form)).tensors, weights)
    for name, tensor in other.items():
        with pytest.raises(WeightsError, match=f"'{name}' is .*before saving|named tensors: '{name}'"):
            read_checkpoint(save({**weights, name: tensor}, tmp_path / "x.pth", form))


def test_checksums_that_torch_did_not_compute(tmp_path):
    torch.serialization.set_crc32_options(False)
    try:
        path = save(tensors(), tmp_path / "x.pth", "zip")
    finally:
        torch.serialization.set_crc32_options(True)
    checkpoint = read_checkpoint(path)
    assert_as_torch(checkpoint.tensors, tensors())
    assert "no checksums" in checkpoint.warnings[0]
    assert read_checkpoint(save(tensors(), path, "zip")).warnings == ()


def test_legacy_stream_that_goes_on(tmp_path):
    path = tmp_path / "x.pth"
    with path.open("wb") as file:
        for value in (1.0, 2.0):
            torch.save({"x": torch.full((3,), value)}, file, _use_new_zipfile_serialization=False)
    checkpoint = read_checkpoint(path)
    assert_as_torch(checkpoint.tensors, torch.load(path))
    assert checkpoint.tensors["x"].tolist() == [1, 1, 1] and "bytes follow" in checkpoint.warnings[0]


@pytest.mark.parametrize("form", FORMS)
def test_training_checkpoint_of_timm(tmp_path, form):
    """A state_dict, its average, an optimizer with state, arguments, and other values that scripts store."""
    from timm.optim import create_optimizer_v2
    model = timm.create_model("tf_efficientnet_lite0", num_classes=2)
    optimizer = create_optimizer_v2(model, "rmsproptf", lr=0.1)
    model(torch.randn(2, 3, 32, 32)).sum().backward()
    optimizer.step()
    average = OrderedDict((name, tensor * 0.5 if tensor.is_floating_point() else tensor)
                          for name, tensor in model.state_dict().items())
    path = save({
        "epoch": 3, "arch": "tf_efficientnet_lite0", "state_dict": model.state_dict(), "state_dict_ema": average,
        "optimizer": optimizer.state_dict(), "version": 2, "amp_scaler": {"scale": 65536.0, "_growth_tracker": 7},
        "args": argparse.Namespace(model="tf_efficientnet_lite0", lr=0.1, data_dir=pathlib.PurePosixPath("/data"),
                                   mean=None),
        "metric": np.float64(74.8), "count": np.int64(7), "history": np.arange(3.0),
                 "when": datetime.datetime(2024, 5, 1),
        "milestones": Counter([30, 60]), "lists": defaultdict(list), "seen": {1, 2}, "device": torch.device("cpu"),
        "dtype": torch.float32, "rng": torch.get_rng_state(), "size": torch.Size([1, 2]), "slice": slice(1, 2), "z": 1j,
    }, tmp_path / "x.pth", form)
    checkpoint = read_checkpoint(path)
    assert_as_torch(checkpoint.tensors, average)
    assert checkpoint.wrapper == "state_dict_ema"
    assert checkpoint.metadata == {"arch": "tf_efficientnet_lite0", "args.model": "tf_efficientnet_lite0"}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("form", FORMS)
def test_pickled_module_is_refused(tmp_path, form):
    with pytest.raises(WeightsError, match="'timm.models.efficientnet.EfficientNet': a whole model object"):
        read_checkpoint(save(timm.create_model("tf_efficientnet_lite0"), tmp_path / "x.pth", form))


@pytest.mark.filterwarnings("ignore")
def test_torchscript_is_refused(tmp_path):
    torch.jit.script(torch.nn.Linear(2, 2)).save(tmp_path / "x.pth")
    with pytest.raises(WeightsError, match="a TorchScript program"):
        read_checkpoint(tmp_path / "x.pth")


def test_files_written_by_hand_are_those_of_torch(tmp_path):
    """torch reads what tests/helpers/checkpoints.py writes, big-endian zip files and strides included."""
    import checkpoints as by_hand
    arrays = {"x": np.arange(6, dtype="f4").reshape(2, 3), "n": np.array(7, np.int64), "h": np.ones(3, np.float16)}
    for data in (by_hand.save(arrays, "zip"), by_hand.save(arrays, "legacy"), by_hand.save(arrays, "zip", order=">")):
        (tmp_path / "x.pth").write_bytes(data)
        assert_as_torch(arrays, torch.load(tmp_path / "x.pth"))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64", "int64"])
def test_safetensors_of_its_own_library(tmp_path, dtype):
    import safetensors.torch
    expected = {"b": torch.arange(6).reshape(2, 3).to(getattr(torch, dtype)), "a": torch.tensor(7)}
    safetensors.torch.save_file(expected, tmp_path / "x.safetensors", metadata={"format": "pt"})
    checkpoint = read_checkpoint(tmp_path / "x.safetensors")
    assert_as_torch(dict(sorted(checkpoint.tensors.items())), dict(sorted(expected.items())))
    assert checkpoint.metadata == {"format": "pt"}
