"""What is no plain tensor: ignored beside the weights, refused among them; and files that are no checkpoints."""
import io
import os
import pathlib
import socket
import struct
import zipfile
import zlib

import checkpoints as by_hand
import numpy as np
import pytest
from checkpoints import (
    MAGIC_NUMBER,
    call,
    dictionary,
    legacy_file,
    name,
    number,
    numbers,
    program,
    refused,
    storage,
    tensor,
    text,
    zip_file,
)

from npefficient.errors import WeightsError
from weights_convert import convert, read_checkpoint

PLAIN = tensor(storage(), (4,))
NO_HOOKS = call("collections", "OrderedDict")


def rebuilt(function: str, *more: bytes, kind="FloatStorage", numel=4) -> bytes:
    return call("torch._utils", function, storage("0", numel, kind), number(0), numbers([numel]), numbers([1]), b"\x89",
                NO_HOOKS, *more)


# What a training script may store beside the weights -> the error if it is among them.
BESIDE = {
    "complex64": (rebuilt("_rebuild_tensor_v2", kind="ComplexFloatStorage", numel=2), "the tensor 'x' is complex64"),
    "complex128": (rebuilt("_rebuild_tensor_v2", kind="ComplexDoubleStorage", numel=1), "'x' is complex128: only"),
    "conjugate": (rebuilt("_rebuild_tensor_v2", dictionary({"conj": b"\x88"}), kind="ComplexFloatStorage", numel=2),
                  "'x' is complex64"),
    "negative": (rebuilt("_rebuild_tensor_v2", dictionary({"neg": b"\x88"})), "'x' is stored as a lazy negative"),
    "float8": (call("torch._utils", "_rebuild_tensor_v3", storage("0", 16, "UntypedStorage"), number(0), numbers([16]),
                    numbers([1]), b"\x89", NO_HOOKS, name("torch", "float8_e4m3fn")),
               r"'x' is float8_e4m3fn: .*convert it to float32 \(.float\(\)\)"),
    "quantised": (call("torch._utils", "_rebuild_qtensor", storage("0", 16, "QInt8Storage"), number(0), numbers([16]),
                       numbers([1]), b"(" + name("torch", "per_tensor_affine") + b"G?\xf0\0\0\0\0\0\0K\x00t", b"\x89",
                       NO_HOOKS), "other things than named tensors: 'x'"),
    "sparse": (call("torch._utils", "_rebuild_sparse_tensor", call("torch.serialization", "_get_layout",
                                                                   text("torch.sparse_coo")), b"(" + PLAIN + b"t"),
               "other things than named tensors: 'x'"),
}


@pytest.mark.parametrize("case", BESIDE)
def test_beside_the_weights_it_is_left_alone(tmp_path, case):
    state = dictionary({"state_dict": dictionary({"w": PLAIN.replace(b"\x01\x00\x00\x000", b"\x01\x00\x00\x001")}),
                        "extra": dictionary({"x": BESIDE[case][0]})})
    raw = np.arange(4, dtype="<f4").tobytes()
    (tmp_path / "x.pth").write_bytes(zip_file(program(state), {"0": bytes(16), "1": raw}))
    assert read_checkpoint(tmp_path / "x.pth").tensors["w"].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("case", BESIDE)
def test_among_the_weights_it_is_named(tmp_path, case):
    refused(tmp_path, zip_file(program(dictionary({"x": BESIDE[case][0]}))), BESIDE[case][1])


@pytest.mark.parametrize("dtype", ["F8_E4M3", "C64"])
def test_safetensors_of_other_kinds(tmp_path, dtype):
    header = {"x": {"dtype": dtype, "shape": [2], "data_offsets": [0, 16]}}
    refused(tmp_path, by_hand.safetensors_file(header, bytes(16)), f"'x' has the dtype '{dtype}': .*to float32")


@pytest.mark.parametrize("shape, expected", [((2, 2), [[False, True], [True, True]]), ((), False)])
def test_bool_is_true_for_every_byte_but_0(tmp_path, shape, expected):
    pickle = program(dictionary({"x": tensor(storage("0", 4, "BoolStorage"), shape)}))
    (tmp_path / "x.pth").write_bytes(zip_file(pickle, {"0": b"\x00\x01\x02\xff"}))
    got = read_checkpoint(tmp_path / "x.pth").tensors["x"]
    assert type(got) is np.ndarray and got.dtype == bool and got.tolist() == expected


# --- checksums and packing -------------------------------------------------------------------------------------------

def without_crc(data: bytes, names=None) -> bytes:
    """A zip file with the CRC 0 for all entries, in the directory and in their own headers."""
    made = bytearray(data)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        infos, at = archive.infolist(), archive.start_dir
    for info in infos:
        if names is None or info.filename in names:
            made[at + 16 : at + 20] = made[info.header_offset + 14 : info.header_offset + 18] = bytes(4)
        at += 46 + len(info.filename) + len(info.extra) + len(info.comment)
    return bytes(made)


def test_zip_without_checksums_is_read_with_a_warning(tmp_path):
    source = tmp_path / "tf_efficientnet_lite0.pth"
    arrays = by_hand.network()
    source.write_bytes(without_crc(by_hand.save(arrays, "zip")))
    done = convert(source)
    assert [word in done.warnings[0] for word in ("no checksums", "set_crc32_options(False)")] == [True, True]
    assert all(np.array_equal(done.weights.parameters[key], array) for key, array in arrays.items())
    source.write_bytes(by_hand.save(arrays, "zip"))
    assert convert(source, force=True).warnings == ()


def test_zip_with_some_checksums_is_damaged(tmp_path):
    data = zip_file(program(dictionary({"x": PLAIN})), {"0": b"\x3f" * 16})
    refused(tmp_path, without_crc(data, ["archive/data/0"]), "'archive/data/0' does not match its CRC")


def test_an_empty_entry_has_0_as_its_checksum(tmp_path):
    """A file is not taken for one without CRCs if its only CRC of 0 belongs to an empty entry."""
    assert zlib.crc32(b"") == 0
    (tmp_path / "x.pth").write_bytes(zip_file(program(dictionary({"x": tensor(storage("0", 0), (0,))})), {"0": b""}))
    assert read_checkpoint(tmp_path / "x.pth").warnings == ()


def test_deflated_zip_has_a_remedy(tmp_path):
    data = zip_file(program(dictionary({"x": PLAIN})), compression=zipfile.ZIP_DEFLATED)
    refused(tmp_path, data, "compressed .*unpack the file and pack it again with 'zip -0 -r', or load it in torch")


def test_legacy_stream_that_goes_on(tmp_path):
    """torch.load reads only the first object of a stream; the next call reads the rest."""
    first = legacy_file(program(dictionary({"x": tensor(storage("0", 4, "FloatStorage", b"N"), (4,))})),
                        [("0", 4, struct.pack("<4f", 1, 2, 3, 4))])
    for behind in (first, b"\n", bytes(512)):
        (tmp_path / "x.pth").write_bytes(first + behind)
        checkpoint = read_checkpoint(tmp_path / "x.pth")
        assert checkpoint.tensors["x"].tolist() == [1, 2, 3, 4]
        (warning,) = checkpoint.warnings
        assert warning == f"{len(behind)} bytes follow the last storage: they are ignored, as in torch.load"


# --- old protocols ---------------------------------------------------------------------------------------------------

def test_protocol_1(tmp_path):
    """No PROTO opcode, long integers and truth values as digits."""
    magic, truth = b"L%dL\n." % MAGIC_NUMBER, b"I01\n"
    held = tensor(storage("0", 4, "FloatStorage", b"N"), (4,)).replace(b"\x89", b"I00\n").replace(number(4), b"K\x04")
    data = magic + b"M\xe9\x03." + dictionary({"little_endian": truth}) + b"." + dictionary({"x": held}) + b"." \
        + b"](" + text("0") + b"e." + struct.pack("<q4f", 4, 1, 2, 3, 4)
    (tmp_path / "x.pth").write_bytes(data)
    assert read_checkpoint(tmp_path / "x.pth").tensors["x"].tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize("digits, value", [(b"L-5L", -5), (b"L%dL" % (10**76), 10**76), (b"I7", 7), (b"I00", False),
                                           (b"I01", True)])
def test_numbers_in_digits(tmp_path, digits, value):
    shown = str(value) if len(str(value)) < 80 else str(value)[:80]
    refused(tmp_path, zip_file(program(digits + b"\n")), f"it contains {shown}")


@pytest.mark.parametrize("digits", [b"L1" + b"0" * 77 + b"L", b"L", b"I0x10", b"I1_0", b"I\xc2\xb2", b"L 1L", b"I+1"])
def test_numbers_in_digits_that_are_none(tmp_path, digits):
    refused(tmp_path, zip_file(program(digits + b"\n")), "at byte .* must have at most 77 digits")


@pytest.mark.parametrize("opcode", [b"(d", b"(l", b"Vx\n", b"F1.0\n", b"Np0\n", b"Ng0\n", b"P('storage',)\n"])
def test_protocol_0_says_what_to_do(tmp_path, opcode):
    refused(tmp_path, zip_file(b"(" + opcode + b"."), "to protocol 0, from which torch itself can't load tensors; save")


# --- irregular files -------------------------------------------------------------------------------------------------

def test_what_is_no_file_says_what_it_is(tmp_path):
    os.mkfifo(tmp_path / "pipe.pth")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        for path, what in ((tmp_path / "pipe.pth", "a pipe"), ("/dev/null", "a device"), (tmp_path / "s", "a socket")):
            with pytest.raises(WeightsError, match=f"it is {what}: name a checkpoint file"):
                read_checkpoint(path)


def test_pipe_that_took_the_place_of_a_file(tmp_path, monkeypatch):
    """It appears between the check and the opening: the reader neither waits for a writer nor reads from it."""
    os.mkfifo(tmp_path / "x.pth")
    regular = os.stat(__file__)
    monkeypatch.setattr(pathlib.Path, "stat", lambda path, **how: regular)
    with pytest.raises(WeightsError, match="it is a pipe"):
        read_checkpoint(tmp_path / "x.pth")


def test_link_to_a_checkpoint_is_followed(tmp_path):
    """The Hugging Face hub's cache consists of links."""
    (tmp_path / "blob").write_bytes(zip_file(program(dictionary({"x": PLAIN}))))
    (tmp_path / "x.pth").symlink_to("blob")
    assert list(read_checkpoint(tmp_path / "x.pth").tensors) == ["x"]
