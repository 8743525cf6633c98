"""Readers of checkpoints against files written by hand: no torch needed."""
import gzip
import io
import os
import struct

import checkpoints as by_hand
import numpy as np
import pytest
from checkpoints import call, dictionary, name, number, program, storage, tensor, text, tuple_of

from npefficient.errors import WeightsError
from weights_convert import read_checkpoint

ARRAYS = {
    "a.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "a.half": np.linspace(-2, 2, 5).astype(np.float16),
    "a.double": np.array([[1e-300, -3.5]]),
    "a.count": np.array(7, np.int64),
    "a.empty": np.zeros((0, 3), np.float32),
}


def read(tmp_path, data: bytes, file="model.pth"):
    path = tmp_path / file
    path.write_bytes(data)
    return read_checkpoint(path)


def read_one(tmp_path, pickle: bytes, storages=None, **how) -> np.ndarray:
    return read(tmp_path, by_hand.zip_file(program(dictionary({"x": pickle})), storages, **how)).tensors["x"]


def assert_same(got: dict, expected: dict):
    assert list(got) == list(expected)
    for key, array in expected.items():
        assert got[key].dtype == array.dtype and got[key].shape == array.shape, key
        assert got[key].tobytes() == array.tobytes(), key


@pytest.mark.parametrize("form, kind",
                         [("zip", "torch-zip"), ("legacy", "torch-legacy"), ("safetensors", "safetensors")])
def test_read_checkpoint_every_form(tmp_path, form, kind):
    checkpoint = read(tmp_path, by_hand.save(ARRAYS, form))
    assert_same(checkpoint.tensors, ARRAYS)
    assert (checkpoint.source.kind, checkpoint.source.name, checkpoint.wrapper) == (kind, "model.pth", "")


def test_assert_same_can_fail():
    with pytest.raises(AssertionError, match="a.count"):
        assert_same({**ARRAYS, "a.count": np.array(8, np.int64)}, ARRAYS)


def test_arrays_are_owned_contiguous_and_writable(tmp_path):
    for form in ("zip", "legacy", "safetensors"):
        for array in read(tmp_path, by_hand.save(ARRAYS, form)).tensors.values():
            assert array.flags.c_contiguous and array.flags.writeable and array.flags.aligned and array.dtype.isnative


def test_big_endian_zip(tmp_path):
    assert_same(read(tmp_path, by_hand.save(ARRAYS, "zip", order=">")).tensors, ARRAYS)


def test_byteorder_absent_is_little(tmp_path):
    got = read_one(tmp_path, tensor(storage(numel=2), (2,)), {"0": struct.pack("<2f", 1.5, -2)}, byteorder=None)
    assert got.tolist() == [1.5, -2]


@pytest.mark.parametrize("order", "<>")
def test_legacy_of_a_big_endian_machine(tmp_path, order):
    """torch writes little-endian data even there; a file of another writer is recognised by its element counts."""
    pickle = program(dictionary({"x": tensor(storage("1", 2, "FloatStorage", b"N"), (2,)),
                                 "none": tensor(storage("0", 0, "FloatStorage", b"N"), (0,))}))
    raw = struct.pack(order + "2f", 1.5, -2)
    data = by_hand.legacy_file(pickle, [("0", 0, b""), ("1", 2, raw)], little=False, size_order=order)
    assert read(tmp_path, data).tensors["x"].tolist() == [1.5, -2]


def test_strides_channels_last(tmp_path):
    held = np.arange(2 * 27, dtype=np.float32)
    got = read_one(tmp_path, tensor(storage(numel=54), (2, 3, 3, 3), (27, 1, 9, 3)), {"0": held.tobytes()})
    assert np.array_equal(got, held.reshape(2, 3, 3, 3).transpose(0, 3, 1, 2))


def test_strides_transposed_with_offset(tmp_path):
    held = np.arange(10, dtype=np.float32)
    got = read_one(tmp_path, tensor(storage(numel=10), (3, 2), (1, 3), 4), {"0": held.tobytes()})
    assert got.tolist() == [[4, 7], [5, 8], [6, 9]]


def test_stride_zero_expands(tmp_path):
    got = read_one(tmp_path, tensor(storage(numel=2), (3, 2), (0, 1)), {"0": struct.pack("<2f", 1, 2)})
    assert got.tolist() == [[1, 2]] * 3


def test_shared_storage_gives_separate_arrays(tmp_path):
    pickle = program(dictionary({"x": tensor(storage(), (4,)), "y": tensor(storage(), (2,), offset=2)}))
    got = read(tmp_path, by_hand.zip_file(pickle, {"0": struct.pack("<4f", 1, 2, 3, 4)})).tensors
    got["x"][:] = 0
    assert got["y"].tolist() == [3, 4]


def test_legacy_view_of_a_storage(tmp_path):
    view = tuple_of(text("v"), number(1), number(3))
    pickle = program(dictionary({"x": tensor(storage("0", 4, "FloatStorage", view), (2,), offset=1)}))
    got = read(tmp_path, by_hand.legacy_file(pickle, [("0", 4, struct.pack("<4f", 1, 2, 3, 4))])).tensors["x"]
    assert got.tolist() == [3, 4]


@pytest.mark.parametrize("bits, value",
                         [(0x3F80, 1.0), (0xC020, -2.5), (0x0001, 2.0**-133), (0x7F80, np.inf), (0x8000, -0.0)])
def test_bfloat16_becomes_float32(tmp_path, bits, value):
    got = read_one(tmp_path, tensor(storage(numel=1, kind="BFloat16Storage"), (1,)), {"0": struct.pack("<H", bits)})
    assert got.dtype == np.float32 and got.tobytes() == np.float32(value).tobytes()
    header = {"x": {"dtype": "BF16", "shape": [1], "data_offsets": [0, 2]}}
    got = read(tmp_path, by_hand.safetensors_file(header, struct.pack("<H", bits))).tensors["x"]
    assert got.dtype == np.float32 and got.tobytes() == np.float32(value).tobytes()


def test_tensor_v1_v3_and_parameter(tmp_path):
    held = {"0": struct.pack("<4f", 1, 2, 3, 4)}
    old = call("torch._utils", "_rebuild_tensor", storage(), number(0), by_hand.numbers([4]), by_hand.numbers([1]))
    new = call("torch._utils", "_rebuild_tensor_v3", storage("0", 16, "UntypedStorage"), number(1),
               by_hand.numbers([2]),
               by_hand.numbers([1]), b"\x89", b"N", name("torch", "float32"))
    parameter = call("torch._utils", "_rebuild_parameter", old, b"\x88", call("collections", "OrderedDict"))
    assert read_one(tmp_path, old, held).tolist() == [1, 2, 3, 4]
    assert read_one(tmp_path, new, held).tolist() == [2, 3]
    assert read_one(tmp_path, parameter, held).tolist() == [1, 2, 3, 4]


def test_ordered_dict_with_metadata_and_memo(tmp_path):
    """As torch writes it: an OrderedDict is memoized, filled, and given its `_metadata` by BUILD."""
    entry = text("x") + tensor(storage(), (4,)) + b"q\x01" + text("y") + b"h\x01"
    state = dictionary({"_metadata": dictionary({"": dictionary({"version": number(1)})})})
    pickle = program(call("collections", "OrderedDict"), b"q\x00", b"(", entry, b"u", state, b"b")
    assert list(read(tmp_path, by_hand.zip_file(pickle)).tensors) == ["x", "y"]


def test_python2_ordered_dict_and_text(tmp_path):
    pairs = b"](](U\x01x" + tensor(storage(), (4,)) + b"ee"
    assert list(read(tmp_path, by_hand.zip_file(program(call("collections", "OrderedDict", pairs)))).tensors) == ["x"]


def test_training_checkpoint_holds_objects_as_data(tmp_path):
    """Checkpoints as written by timm's training script and PyTorch tutorials."""
    scalar = call("numpy.core.multiarray", "scalar", call("numpy", "dtype", text("f8"), b"\x89", b"\x88"),
                  call("_codecs", "encode", text("\x00\x00\xf0?"), text("latin1")))
    arguments = name("argparse", "Namespace") + b")\x81" + dictionary({"model": text("tf_efficientnet_lite0")}) + b"b"
    beside = {
        "epoch": number(3), "metric": scalar, "args": arguments, "arch": text("efficientnet"),
              "lr": b"G?\xf0\0\0\0\0\0\0",
        "optimizer": dictionary({"state": b"}" + number(0) + dictionary({"step": tensor(storage(), (4,))}) + b"s"}),
        "when": call("datetime", "date", b"C\x04\x07\xe9\x01\x01"),
              "seen": call("__builtin__", "set", b"](K\x01K\x02e"),
        "path": call("pathlib", "PosixPath", text("/tmp")), "steps": b"\x8f(K\x01K\x02\x90",
        "milestones": call("collections", "Counter", b"}"),
              "state": call("collections", "defaultdict", name("builtins", "dict")),
    }
    checkpoint = read(tmp_path, by_hand.save({"x": np.zeros(4, "f4")}, "zip", wrapper="state_dict", beside=beside))
    assert list(checkpoint.tensors) == ["x"]
    assert checkpoint.metadata == {"arch": "efficientnet", "args.model": "tf_efficientnet_lite0"}


@pytest.mark.parametrize("length", [0x80, 0x280, 0x8B1F, 0x6842, 0x4B50], ids=hex)
def test_safetensors_whose_length_looks_like_another_magic(tmp_path, length):
    """A header of 0x80 bytes begins like a pickle, one of 0x8B1F like gzip."""
    header = b'{"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    data = by_hand.safetensors_file(header.ljust(length), struct.pack("<f", 1.5))
    assert read(tmp_path, data, "x.safetensors").tensors["x"].tolist() == [1.5]


def npz() -> bytes:
    file = io.BytesIO()
    np.savez(file, weight=np.zeros(3))
    return file.getvalue()


@pytest.mark.parametrize("data, message", [
    (b"", "the file is empty"),
    (b"<!DOCTYPE html><html>404</html>", "an HTML page.*<!DOCTYPE html"),
    (b"\n <html><head>", "an HTML page"),
    (b"<?xml version='1.0'?>", "an HTML page"),
    (b"version https://git-lfs.github.com/spec/v1\noid sha256:0aa0\nsize 18820223\n", "git-LFS pointer.*git lfs pull"),
    (gzip.compress(b"x", mtime=0), "compressed with gzip: unpack"),
    (b"BZh91AY", "compressed with bzip2"),
    (b"\xfd7zXZ\x00", "compressed with xz"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd"),
    (b"7z\xbc\xaf\x27\x1c", "7-Zip"),
    (bytes(257) + b"ustar", "a tar archive"),
    (b"\x89HDF\r\n\x1a\n\x02", "an HDF5 file, not a checkpoint.*needs no conversion"),
    (b"PK\x05\x06" + bytes(18), "an empty zip"),
    (npz(), r"a NumPy archive \(.npz\)"),
    (b"\x93NUMPY\x01\x00", r"a NumPy array \(.npy\)"),
    (b"\x1c\0\0\0TFL3", "TensorFlow Lite"),
    (b"GGUF\x03", "GGUF"),
    (b"\x08\x07\x12\x07pytorch", "an ONNX model"),
    (b"\xff\xd8\xff\xe0", "a JPEG photo.*classify"),
    (b"\x89PNG\r\n\x1a\n", "a PNG picture"),
    (b"%PDF-1.7", "a PDF"),
    (b"Not Found", "a text file .*'Not Found'|a text file .*b'Not Found'"),
    (b"\x00\x01\x02\x03\xfe\xff", r"not a checkpoint of a known format \(it begins with b'\\x00"),
    (by_hand.program(number(3)), "a pickle with the magic number 3"),
    (by_hand.program(call("timm.models.efficientnet", "EfficientNet")),
     "'timm.models.efficientnet.EfficientNet'.*state_dict"),
    (by_hand.zip_file(program(name("timm.models.efficientnet", "EfficientNet"), b")\x81}b")),
     "'timm.models.efficientnet.EfficientNet': a whole model object"),
    (by_hand.zip_file(program(b"}"), more=[("archive/constants.pkl", b"")]), "a TorchScript program"),
    (by_hand.zip_file(program(b"}"), more=[("archive/code/__torch__.py", b"")]), "a TorchScript program"),
], ids=lambda value: None if isinstance(value, bytes) else value[:20].replace(" ", "_"))
def test_not_a_checkpoint_says_what_it_is(tmp_path, data, message):
    with pytest.raises(WeightsError, match="model.pth.*" + message):
        read(tmp_path, data)


def test_not_a_file(tmp_path):
    with pytest.raises(WeightsError, match="nowhere.pth.*there is no such file"):
        read_checkpoint(tmp_path / "nowhere.pth")
    with pytest.raises(WeightsError, match="it is a directory"):
        read_checkpoint(tmp_path)
    for path in ("a\0b", "a\ud800b"):
        with pytest.raises(WeightsError, match="not a valid file name"):
            read_checkpoint(path)
    os.mkfifo(tmp_path / "pipe.pth")
    with pytest.raises(WeightsError, match="pipe.pth.*it is a pipe: name a checkpoint file"):
        read_checkpoint(tmp_path / "pipe.pth")


def test_file_of_terabytes_is_not_read(tmp_path):
    with open(tmp_path / "sparse.pth", "wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(WeightsError, match="1099511627776 bytes"):
        read_checkpoint(tmp_path / "sparse.pth")


def test_official_name_is_held_against_the_hash(tmp_path):
    with pytest.raises(WeightsError, match="sha256 begins with '[0-9a-f]{8}', but its name says '0aa007d2'"):
        read(tmp_path, by_hand.save(ARRAYS, "zip"), "tf_efficientnet_lite0-0aa007d2.pth")
    digest = read(tmp_path, by_hand.save(ARRAYS, "zip")).source.sha256[:8]
    assert read(tmp_path, by_hand.save(ARRAYS, "zip"),
                f"tf_efficientnet_lite0-{digest}.pth").source.sha256[:8] == digest
