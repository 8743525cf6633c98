"""The weight file: what is written is read back, always as the same bytes, and no file is ever half-written."""
import hashlib
import os
from dataclasses import replace

import h5py
import numpy as np
import pytest
from weight_files import LABELS, content, difference, digest, in_a_process, small_weights

from npefficient.errors import ArgumentError, WeightsError
from npefficient.network import architecture
from npefficient.network.parameters import Source, Weights, random_weights
from npefficient.network.preprocessing import Preprocessing
from npefficient.weights.weight_file import is_hdf5, read_weights, write_weights

# --- in and out ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", ["lite0", "lite1", "lite2", "lite3", "lite4"])
def test_weights_round_trip(tmp_path, variant):
    expected = random_weights(architecture.build(variant, 3, 2), seed=1)
    write_weights(tmp_path / "a.h5", expected)
    assert difference(read_weights(tmp_path / "a.h5"), expected) == ""


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_weights_round_trip_every_bit(tmp_path, dtype):
    """Denormals, signed zeros and the largest allowed values survive in each type; types may be mixed."""
    weights = small_weights(dtype, labels=None)
    edge = np.finfo(dtype)
    weights.parameters["classifier.bias"][:8] = [0.0, -0.0, edge.max / 2, edge.min / 2, edge.tiny,
                                                 edge.smallest_subnormal, -edge.smallest_subnormal, edge.eps]
    weights.parameters["bn1.bias"] = np.linspace(-1, 1, 32, dtype=np.float32)
    write_weights(tmp_path / "a.h5", weights)
    got = read_weights(tmp_path / "a.h5")
    assert difference(got, weights) == "" and np.signbit(got.parameters["classifier.bias"][1])


def test_weights_round_trip_of_everything_else(tmp_path, small):
    expected = replace(
        small, labels=None, source=Source("mödel (1).pth", "0123456789abcdef" * 4, "torch-legacy"),
        preprocessing=Preprocessing((64, 80), 1.0, "lanczos", (0.1, 0.2, 1 / 3), (0.25, 1e-3, 7.0), "border"),
        parameters={**small.parameters, "bn1.num_batches_tracked": np.array(2**62 + 1)})
    write_weights(tmp_path / "a.h5", expected)
    assert difference(read_weights(tmp_path / "a.h5"), expected) == ""


def test_weights_read_are_ours(stored):
    """The arrays are independent copies that may be changed, not views of a file."""
    weights = read_weights(stored)
    for name, array in weights.parameters.items():
        assert array.flags.writeable and array.flags.c_contiguous and (array.ndim == 0 or array.ctypes.data % 16 == 0)
        array[...] = len(name)
    assert all((array == len(name)).all() for name, array in weights.parameters.items())
    assert not (read_weights(stored).parameters["bn1.bias"] == 8).all()


def test_weights_any_memory_layout(tmp_path, small):
    """Transposed, strided and read-only arrays are written by their values."""
    parameters = {k: np.asfortranarray(v) if v.ndim else v for k, v in small.parameters.items()}
    parameters["bn1.bias"] = np.repeat(small.parameters["bn1.bias"], 2)[::2]
    parameters["bn1.weight"].flags.writeable = False
    write_weights(tmp_path / "a.h5", replace(small, parameters=parameters))
    assert difference(read_weights(tmp_path / "a.h5"), small) == ""


def test_weights_numbers_of_other_types(tmp_path, small):
    """1 for 1.0, lists for tuples, and NumPy scalars are stored by their values."""
    loose = Preprocessing([64, np.int64(64)], 1, "bicubic", [0, 0, np.float32(0.5)], [1, 1, 1])
    write_weights(tmp_path / "a.h5", replace(small, preprocessing=loose, labels=list(LABELS)))
    got = read_weights(tmp_path / "a.h5")
    assert got.preprocessing == Preprocessing((64, 64), 1.0, "bicubic", (0.0, 0.0, 0.5), (1.0, 1.0, 1.0))
    assert got.labels == LABELS and type(got.preprocessing.crop_pct) is float


@pytest.mark.parametrize("name, expected", [
    ("a\nb\x1b[2J.pth", "a\\nb\\x1b[2J.pth"), ("mod\udce8le.pth", "mod\\udce8le.pth"), ("", ""), ("🐶.pth", "🐶.pth")])
def test_weights_odd_source_name(tmp_path, small, name, expected):
    """A file name may contain escape sequences or bytes that are no UTF-8; it is stored as readable text."""
    write_weights(tmp_path / "a.h5", replace(small, source=Source(name, "", "torch-zip")))
    assert read_weights(tmp_path / "a.h5").source.name == expected


@pytest.mark.parametrize("field, value, error, message", [
    ("labels", ["a"] * 9, WeightsError, "9 labels for 10 classes"),
    ("labels", ["a"] * 11, WeightsError, "11 labels for 10 classes"),
    ("labels", ["a"] * 9 + ["b\nc"], WeightsError, r"label 9 is 'b\\nc'"),
    ("labels", ["a"] * 9 + [""], WeightsError, "label 9 is ''"),
    ("labels", ["a"] * 9 + ["\ud800"], WeightsError, r"label 9 is '\\ud800'"),
    ("source", Source("a", "ABC", "b"), WeightsError, "source sha256 'ABC'"),
    ("source", Source("a", "", "b\0"), WeightsError, r"source kind 'b\\x00'"),
    ("source", Source("a", "", "b", b"1234567"), WeightsError, "source photos of 7 bytes: it must be 8 for each photo"),
    ("preprocessing", Preprocessing(crop_pct=0.0), ArgumentError, r"crop_pct=0\.0"),
    ("preprocessing", Preprocessing((0, 224)), ArgumentError, r"input_size=\(0, 224\)"),
    ("architecture", architecture.build("lite1", 10), WeightsError, "not the parameters of tf_efficientnet_lite1"),
])
def test_weights_unfit_are_not_written(tmp_path, small, field, value, error, message):
    with pytest.raises(error, match=message):
        write_weights(tmp_path / "a.h5", replace(small, **{field: value}))
    assert content(tmp_path) == {}


def test_weights_keep_the_photos_they_were_fitted_to(tmp_path, small):
    fitted = Source("a", "", "finetuned", photos=bytes(range(24)), classifier_photos=bytes(range(8)))
    write_weights(tmp_path / "a.h5", replace(small, source=fitted))
    assert read_weights(tmp_path / "a.h5").source == fitted and "photos" not in repr(fitted)
    with h5py.File(tmp_path / "a.h5") as file:
        assert all(bytes(file[name][()]) == getattr(fitted, name) for name in ("photos", "classifier_photos"))
        assert file.attrs["sha256"].decode() == digest(file)
    write_weights(tmp_path / "a.h5", replace(small, labels=None, source=fitted), force=True)
    assert read_weights(tmp_path / "a.h5").source == fitted
    new = fitted.with_classifier(random=False)
    assert (new.photos, new.classifier_photos) == (fitted.photos, b"")


# --- the format, read with h5py alone --------------------------------------------------------------------------------


def test_weights_file_is_as_specified(stored, small):
    names = [name for name in small.architecture.parameters() if "tracked" not in name]
    with h5py.File(stored) as file:
        assert set(file) == {*names, "labels"}
        assert all(file[name].chunks is None and file[name].dtype == np.dtype("<f2") for name in names)
        assert bytes(file["labels"][()]).decode() == "\n".join(LABELS)
        got = {k: v.tolist() if isinstance(v, (np.ndarray, np.generic)) else v for k, v in file.attrs.items()}
        for name, row in zip(names, got.pop("checksums")):
            assert bytes(row) == hashlib.sha256(file[name][()].tobytes()).digest(), name
        assert h5py.check_string_dtype(file.attrs.get_id("source_name").dtype) == ("utf-8", 6)
    assert len(got.pop("sha256")) == 64
    assert got == {
        "format": b"npefficient weights", "format_version": 1, "variant": b"tf_efficientnet_lite0", "num_classes": 10,
        "in_chans": 3, "bn_eps": 0.001, "padding": b"same", "input_size": [224, 224], "crop_pct": 0.875,
        "interpolation": b"bicubic", "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "crop_mode": b"center",
        "source_name": b"seed 0", "source_sha256": b"", "source_kind": b"random", "num_batches_tracked": [0] * 49}


def arithmetic_weights() -> Weights:
    """Weights made without random numbers."""
    network = architecture.build("lite0", 1)
    parameters = {name: np.full(shape, i / 256, np.int64 if "tracked" in name else np.float16)
                  for i, (name, shape) in enumerate(network.parameters().items())}
    return Weights(network, parameters, network.variant.preprocessing, ("één",), Source("a.pth", "0" * 64, "torch-zip"))


def test_weights_bytes_are_pinned(tmp_path):
    """Equal under h5py 3.9 (HDF5 1.12), 3.12 (1.14) and 3.16 (2.0): the structures are HDF5 1.8's. A change of these
    bytes is a change of the format."""
    write_weights(tmp_path / "a.h5", arithmetic_weights())
    data = (tmp_path / "a.h5").read_bytes()
    assert (len(data), hashlib.sha256(data).hexdigest()) == PINNED


PINNED = (6921332, "eab66508b0ea8c1cad62ca983061a8484a02da3e87999480c125a8608985580c")

PROGRAM = """
import sys
from weight_files import small_weights
from npefficient.weights.weight_file import read_weights, write_weights
assert "torch" not in sys.modules
write_weights(sys.argv[1], small_weights())
"""


def test_weights_same_bytes_in_every_writing(tmp_path, stored, small, monkeypatch):
    """In this process, in a second one some seconds later (HDF5 stores times in seconds), and under a new name."""
    write_weights(tmp_path / "again.h5", small)
    process = in_a_process(PROGRAM, tmp_path / "a much longer name than before.h5")
    assert process.wait(100) == 0, process.stderr.read()
    process.stdout.close(), process.stderr.close()
    assert set(content(tmp_path).values()) == {stored.read_bytes()} and len(content(tmp_path)) == 2
    assert abs((tmp_path / "a much longer name than before.h5").stat().st_mtime - stored.stat().st_mtime) > 1.0


@pytest.mark.parametrize("name, content_, expected", [
    ("a.h5", b"", True), ("a.HDF5", b"PK", True), ("a.pth", b"\x89HDF\r\n\x1a\n...", True),
    ("a", b"\x89HDF\r\n\x1a\n", True),
    ("a.pth", b"PK\x03\x04", False), ("a", b"", False), ("a", b"\x89HDF", False), ("a.h5.pth", b"PK", False)])
def test_is_hdf5(tmp_path, name, content_, expected):
    (tmp_path / name).write_bytes(content_)
    assert is_hdf5(tmp_path / name) is expected and is_hdf5(str(tmp_path / name)) is expected


def test_is_hdf5_of_what_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    names = ("pipe", "missing", ".", "a\0b", "missing.h5")
    assert [is_hdf5(tmp_path / name) for name in names] == [False, False, False, False, True]
