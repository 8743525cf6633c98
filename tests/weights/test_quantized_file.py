"""The file of int8 weights: what is written is read back, as the same bytes, and no file is ever half-written."""
import errno
import hashlib
import os
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from quantized_files import FLOATS, array_names, small_quantized
from weight_files import LABELS, content, difference, digest

from npefficient.errors import ArgumentError, WeightsError
from npefficient.network import architecture
from npefficient.network.parameters import Source, random_weights
from npefficient.network.preprocessing import Preprocessing
from npefficient.network.quantization import FloatLayer, QuantizedLayer, QuantizedWeights, quantize
from npefficient.weights import network_file
from npefficient.weights import quantized_file as module
from npefficient.weights.quantized_file import read_stored, write_quantized
from npefficient.weights.weight_file import read_weights, write_weights

# --- in and out ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("network", [("lite0", 3, 2), ("lite1", 0), ("lite4", 3), ("lite0", 2, 3, "catavgmax"),
                                     ("lite0", 0, 3, "")], ids=str)
def test_quantized_round_trip(tmp_path, network):
    expected = quantize(random_weights(architecture.build(*network), seed=1))
    write_quantized(tmp_path / "a.h5", expected)
    got = read_stored(tmp_path / "a.h5")
    assert difference(got, expected) == ""
    assert (list(got.float_layers), list(got.layers)) == (list(expected.float_layers), list(expected.layers))
    assert all(array.flags.writeable and array.ctypes.data % 16 == 0 for array in got.parameters.values())


def test_quantized_round_trip_of_everything_else(tmp_path):
    expected = replace(
        small_quantized(), source=Source("mödel (1).pth", "0123456789abcdef" * 4, "finetuned", bytes(range(24))),
        preprocessing=Preprocessing((64, 80), 1.0, "lanczos", (0.1, 0.2, 1 / 3), (0.25, 1e-3, 7.0), "border"))
    write_quantized(tmp_path / "a.h5", expected)
    assert difference(read_stored(tmp_path / "a.h5"), expected) == ""
    write_quantized(tmp_path / "a.h5", replace(expected, labels=None), force=True)
    assert read_stored(tmp_path / "a.h5").labels is None


def test_quantized_file_has_a_quarter_of_the_size(tmp_path):
    weights = random_weights(architecture.build("lite0"))
    write_weights(tmp_path / "a.h5", weights)
    write_quantized(tmp_path / "b.h5", quantize(weights))
    sizes = [(tmp_path / name).stat().st_size for name in ("a.h5", "b.h5")]
    assert 0.25 < sizes[1] / sizes[0] < 0.27


def test_both_kinds_are_told_apart(tmp_path, stored, small):
    write_quantized(tmp_path / "a.h5", small_quantized())
    assert difference(read_stored(stored), small) == ""
    with pytest.raises(WeightsError, match="weight file '.*a.h5': it holds int8 weights, from which those in float32 "
                                           "can't be recovered: name the float32 file that it was made from$"):
        read_weights(tmp_path / "a.h5")


@pytest.mark.parametrize("field, value, error, message", [
    ("labels", ["a"] * 9, WeightsError, "9 labels for 10 classes"),
    ("source", Source("a", "ABC", "b"), WeightsError, "source sha256 'ABC'"),
    ("preprocessing", Preprocessing(crop_pct=0.0), ArgumentError, r"crop_pct=0\.0"),
    ("architecture", architecture.build("lite1", 10), WeightsError, "not the quantised layers of .*_lite1"),
    ("architecture", architecture.build("lite0", 11), WeightsError, "layer 'classifier': its weight is int8"),
])
def test_quantized_unfit_are_not_written(tmp_path, field, value, error, message):
    with pytest.raises(error, match=message):
        write_quantized(tmp_path / "a.h5", replace(small_quantized(), **{field: value}))
    with pytest.raises(ArgumentError, match="'.*a.bin': its name must end in .h5"):
        write_quantized(tmp_path / "a.bin", small_quantized())
    assert content(tmp_path) == {}


# --- the format, read with h5py alone --------------------------------------------------------------------------------


def test_quantized_file_is_as_specified(tmp_path):
    weights = small_quantized()
    write_quantized(tmp_path / "a.h5", weights)
    names = array_names(weights.architecture)
    with h5py.File(tmp_path / "a.h5") as file:
        assert set(file) == {*names, "labels"}
        for name, row in zip(names, file.attrs["checksums"], strict=True):
            layer, _, leaf = name.rpartition(".")
            assert file[name].chunks is None
            assert file[name].dtype == ("i1" if leaf == "weight" and layer not in FLOATS else "<f4"), name
            assert bytes(row) == hashlib.sha256(file[name][()].tobytes()).digest(), name
            np.testing.assert_array_equal(file[name][()], weights.parameters[name])
        assert bytes(file["labels"][()]).decode() == "\n".join(LABELS)
        assert file.attrs["sha256"].decode() == digest(file)
        got = {k: v.tolist() if isinstance(v, (np.ndarray, np.generic)) else v for k, v in file.attrs.items()}
    assert got.pop("checksums") and got.pop("sha256")
    assert got == {
        "format": b"npefficient int8 weights", "format_version": 1, "variant": b"tf_efficientnet_lite0",
        "num_classes": 10, "in_chans": 3, "padding": b"same", "input_size": [224, 224], "crop_pct": 0.875,
        "interpolation": b"bicubic", "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "crop_mode": b"center",
        "source_name": b"seed 0", "source_sha256": b"", "source_kind": b"random"}


def arithmetic_weights() -> QuantizedWeights:
    """Weights made without random numbers, and without quantisation."""
    network = architecture.build("lite0", 1)
    shapes = {conv.name: conv.weight_shape for conv in network.convs} | {"classifier": (1, 1280, 1, 1)}
    floats, layers = {}, {}
    for i, (name, shape) in enumerate(shapes.items(), 1):
        numbers = [np.full(shape[:1], value, np.float32) for value in (i / 4096, i / 128)]
        if name in FLOATS:
            floats[name] = FloatLayer(np.full(shape, i / 256, np.float32), numbers[1])
        else:
            layers[name] = QuantizedLayer(np.full(shape, i, np.int8), *numbers)
    return QuantizedWeights(network, floats, layers, network.variant.preprocessing, ("één",),
                            Source("a.pth", "0" * 64, "torch-zip"))


def test_quantized_bytes_are_pinned(tmp_path):
    """A change of these bytes is a change of the format."""
    write_quantized(tmp_path / "a.h5", arithmetic_weights())
    data = (tmp_path / "a.h5").read_bytes()
    assert (len(data), hashlib.sha256(data).hexdigest()) == PINNED


PINNED = (3558496, "89562d9c7b34945501790507e2d7c98101a862e28d1725a2b931c740045b6e4a")

# --- where it can't be written ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("old", [None, b"old"])
@pytest.mark.parametrize("place", ["create", "data", "read_back", "rename"])
def test_quantized_failure_leaves_the_old_file(tmp_path, monkeypatch, place, old):
    def fail(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    if old:
        (tmp_path / "a.h5").write_bytes(old)
    where = {"create": (network_file, "file_image"), "data": (Path, "write_bytes"),
             "read_back": (module, "read_stored"), "rename": (os, "replace")}
    with monkeypatch.context() as patch:
        patch.setattr(*where[place], fail)
        with pytest.raises(OSError, match="No space left"):
            write_quantized(tmp_path / "a.h5", small_quantized(), force=True)
    assert content(tmp_path) == ({"a.h5": b"old"} if old else {})


def test_quantized_existing_file_is_kept_without_force(tmp_path):
    (tmp_path / "a.h5").write_bytes(b"old")
    with pytest.raises(ArgumentError, match="a.h5' exists already"):
        write_quantized(tmp_path / "a.h5", small_quantized())
    assert content(tmp_path) == {"a.h5": b"old"}


def test_quantized_read_back_is_compared(tmp_path, monkeypatch):
    weights = small_quantized()
    other = replace(weights.layers["classifier"], bias=weights.layers["classifier"].bias + 1)
    for back, message in ((replace(weights, layers={**weights.layers, "classifier": other}),
                           "'classifier.bias' read back from"), (replace(weights, labels=None), "labels read back")):
        monkeypatch.setattr(module, "read_stored", lambda path, back=back: back)
        with pytest.raises(WeightsError, match=message):
            write_quantized(tmp_path / "a.h5", weights)
    assert content(tmp_path) == {}
