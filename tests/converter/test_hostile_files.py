"""Lying containers: zip directories, legacy streams and safetensors headers, each refused with a specific message."""
import struct
import zipfile

import pytest
from checkpoints import (
    MAGIC_NUMBER,
    dictionary,
    legacy_file,
    number,
    program,
    refused,
    safetensors_file,
    storage,
    tensor,
    text,
    tuple_of,
    zip_file,
)

from weights_convert import read_checkpoint

STATE = program(dictionary({"x": tensor(storage(), (4,))}))
GOOD = zip_file(STATE, {"0": b"\x3f" * 16})
LEGACY_STATE = program(dictionary({"x": tensor(storage("0", 4, "FloatStorage", b"N"), (4,))}))
GOOD_LEGACY = legacy_file(LEGACY_STATE)


def directory_entry(data: bytes, name: str) -> int:
    """Where the zip directory's record of an entry begins."""
    return data.rindex(name.encode()) - 46


def patched(data: bytes, at: int, raw: bytes) -> bytes:
    assert data[at : at + len(raw)] != raw
    return data[:at] + raw + data[at + len(raw):]


def in_directory(name: str, offset: int, raw: bytes, data: bytes = GOOD) -> bytes:
    """GOOD with bytes of one directory record replaced; the offsets are those of APPNOTE 4.3.12."""
    return patched(data, directory_entry(data, name) + offset, raw)


def flipped_at(data: bytes, position: int) -> bytes:
    return patched(data, position, bytes([data[position] ^ 0x10]))


def two_entries(name: str) -> bytes:
    return zip_file(STATE, more=[(name, b"")])


def bomb() -> bytes:
    """A zip file that unpacks to a thousand times its size."""
    return zip_file(STATE, {"0": bytes(1 << 24)}, compression=zipfile.ZIP_DEFLATED)


DATA = "archive/data/0"
ZIPS = {
    "flipped_tensor": (lambda: flipped_at(GOOD, GOOD.index(b"\x3f" * 16) + 3),
                       "'archive/data/0' does not match its CRC"),
    "flipped_pickle": (lambda: flipped_at(GOOD, GOOD.index(b"_rebuild")), "'archive/data.pkl' does not match its CRC"),
    "flipped_byteorder": (lambda: GOOD.replace(b"little", b"bittle"), "'archive/byteorder' does not match its CRC"),
    "byteorder_middle": (lambda: zip_file(STATE, byteorder=b"middle"), "'byteorder' is b'middle'"),
    "deflate_bomb": (bomb, r"'archive/data.pkl' is compressed"),
    "bomb_that_says_stored": (lambda: in_directory(DATA, 24, struct.pack("<I", 1 << 31)),
                              "'archive/data/0' is compressed|overlaps a different part"),
    "size_beyond_the_end": (lambda: in_directory(DATA, 20, struct.pack("<II", 1 << 31, 1 << 31)),
                            "'archive/data/0' overlaps a different part"),
    "size_over_the_next": (lambda: in_directory(DATA, 20, struct.pack("<II", 40, 40)),
                           "'archive/data/0' does not match its CRC"),
    "two_entries_one_place": (lambda: in_directory("archive/byteorder", 42, struct.pack("<I", 0)),
                              "a different name in its own header|overlaps a different part"),
    "entry_in_the_directory": (lambda: in_directory(DATA, 42, struct.pack("<I", GOOD.index(b"PK\x01\x02"))),
                               "a different name in its own header"),
    "offset_beyond_the_end": (lambda: in_directory(DATA, 42, struct.pack("<I", 1 << 30)),
                              "claims to begin at byte 1073741824"),
    "encrypted": (lambda: in_directory(DATA, 8, b"\x01\x00"), "'archive/data/0' is encrypted"),
    "name_differs": (lambda: in_directory(DATA, 46, b"brchive"), "'brchive/data/0' has a different name"),
    "data_twice": (lambda: two_entries(DATA), "'archive/data/0' appears twice"),
    "pickle_twice": (lambda: two_entries("archive/data.pkl"), "'archive/data.pkl' appears twice"),
    "two_roots": (lambda: zip_file(STATE, more=[("other/data.pkl", STATE)]), "2 entries 'data.pkl'"),
    "no_pickle": (lambda: zip_file(b"").replace(b"data.pkl", b"data.pki"),
                  "zip file without 'data.pkl'.*'archive/data.pki'"),
    "pickle_empty": (lambda: zip_file(b""), "needs 1 bytes at byte 46, but only 0 are left"),
    "pickle_followed": (lambda: zip_file(STATE + b"junk"), "4 bytes follow the end of its pickle"),
    "no_directory": (lambda: GOOD[: GOOD.index(b"PK\x01\x02")], "directory can't be read"),
    "cut_in_the_directory": (lambda: GOOD[:-30], "directory can't be read"),
    "only_a_signature": (lambda: b"PK\x03\x04", "directory can't be read"),
    "text_behind": (lambda: GOOD + b"x" * 70_000, "directory can't be read"),
    "names_of_megabytes": (lambda: zip_file(STATE, more=[("n" * 65_000 + str(i), b"") for i in range(259)]),
                           "names of more than 16777216 bytes"),
    "directory_of_millions": (lambda: GOOD[:-22] + b"PK\x01\x02" * 60_000 + GOOD[-22:], "more than 50000 entries"),
}

LEGACY = {
    "magic_number_wrong": (legacy_file(LEGACY_STATE, magic=77),
                           "magic number 77 instead of 119547037146038801333356"),
    "protocol_1002": (legacy_file(LEGACY_STATE, version=1002), "protocol version 1002 instead of 1001"),
    "tensor_among_the_facts": (program(number(MAGIC_NUMBER)) + program(number(1001))
                               + program(storage("0", 4, "FloatStorage", b"N")), "tensor data at byte"),
    "memo_of_an_earlier_pickle": (legacy_file(program(b"h\x00")), "memo index 0 .* only 0"),
    "keys_missing": (legacy_file(LEGACY_STATE, (), keys=b"]"), r"list of storages \(\) does not match .* \('0'\)"),
    "keys_too_many": (legacy_file(LEGACY_STATE, keys=b"](" + text("0") + text("spare") + b"e"), "'0', 'spare'"),
    "keys_twice": (legacy_file(LEGACY_STATE, keys=b"](" + text("0") + text("0") + b"e"), "'0', '0'"),
    "keys_are_numbers": (legacy_file(LEGACY_STATE, keys=b"](" + number(77) + b"e"), "list of storages .77."),
    "keys_are_a_dictionary": (legacy_file(LEGACY_STATE, keys=b"}"), r"list of storages \(a dict\)"),
    "count_too_large": (legacy_file(LEGACY_STATE, [("0", 5, bytes(20))]),
                        "has 5 elements in the data, but 4 in the pickle"),
    "count_negative": (legacy_file(LEGACY_STATE, [("0", -4, bytes(16))]), "has -4 elements"),
    "count_of_2_to_62": (legacy_file(LEGACY_STATE, [("0", 1 << 62, b"")]), "has 4611686018427387904 elements"),
    "storage_larger_than_the_file": (legacy_file(program(dictionary({"x": tensor(storage("0", 1 << 40, "FloatStorage",
                                                                                         b"N"), (4,))})),
                                                 [("0", 1 << 40, bytes(16))]), "16 of 4398046511104 bytes"),
    "cut_before_the_count": (GOOD_LEGACY[:-24], "truncated before storage '0': 0 of 8"),
    "cut_in_the_count": (GOOD_LEGACY[:-20], "truncated before storage '0': 4 of 8"),
    "cut_in_the_data": (GOOD_LEGACY[:-3], "truncated within storage '0': 13 of 16"),
    "cut_in_the_pickle": (GOOD_LEGACY[:120], "needs .* bytes|is longer than"),
    "fields_too_few": (legacy_file(STATE), "must be 'storage' with 6 fields"),
    "view_beyond": (legacy_file(program(dictionary({"x": tensor(storage(
        "0", 4, "FloatStorage", tuple_of(text("v"), number(3), number(2))), (2,))}))),
                    "view of 2 elements from element 3 exceeds storage '0'"),
    "view_negative": (legacy_file(program(dictionary({"x": tensor(storage(
        "0", 4, "FloatStorage", tuple_of(text("v"), number(-2), number(2))), (2,))}))), "-2 in the view of a storage"),
    "view_is_number": (legacy_file(program(dictionary({"x": tensor(storage("0", 4, "FloatStorage", number(77)),
                                                                   (2,))}))), "the view 77"),
    "tensor_leaves_its_view": (legacy_file(program(dictionary({"x": tensor(storage(
        "0", 4, "FloatStorage", tuple_of(text("v"), number(1), number(2))), (3,))}))),
                               "ends at element 3 of storage '0', which has 2"),
    "one_key_two_sizes": (legacy_file(program(dictionary({
        "x": tensor(storage("0", 4, "FloatStorage", b"N"), (4,)),
                                                          "y": tensor(storage("0", 5, "FloatStorage", b"N"), (5,))}))),
        "'0' is described twice: as 4 float32 elements and as 5 float32"),
    "one_key_two_kinds": (legacy_file(program(dictionary({
        "x": tensor(storage("0", 4, "FloatStorage", b"N"), (4,)),
                                                          "y": tensor(storage("0", 4, "HalfStorage", b"N"), (4,))}))),
        "as 4 float32 elements and as 4 float16"),
}


def entry(dtype="F32", shape=(4,), offsets=(0, 16), **more) -> dict:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets), **more}


ZERO = bytes(16)
SAFETENSORS = {
    "header_larger_than_the_file": (struct.pack("<Q", 1 << 62) + b"{}", "should have 4611686018427387904 bytes"),
    "header_of_megabytes": (safetensors_file(b'{"x":"' + b" " * (1 << 20) + b'"}'), "header has 1048584 bytes"),
    "header_cut": (safetensors_file({"x": entry()}, ZERO)[:40], "is truncated|should have"),
    "header_not_json": (safetensors_file(b"{'x':1}"), "not valid JSON"),
    "header_not_utf8": (safetensors_file(b'{"\xff":1}'), "not valid JSON"),
    "header_followed_by_text": (safetensors_file(b"{} {}"), "not valid JSON"),
    "header_nested": (safetensors_file(b'{"x":' + b"[" * 200_000 + b"]" * 200_000 + b"}"),
                      "not valid JSON|must have 'dtype'"),
    "header_of_digits": (safetensors_file(b'{"x":' + b"9" * 100_000 + b"}"), "not valid JSON"),
    "header_nan": (safetensors_file(b'{"x":NaN}'), "contains 'NaN'"),
    "name_twice": (safetensors_file(b'{"bn1.bias":1,"bn1.bias":2}'), "'bn1.bias' appears twice"),
    "name_twice_after_thousands": (
        safetensors_file(b"{" + b"".join(b'"%d":1,' % i for i in range(90_000)) + b'"89999":1}'),
        "'89999' appears twice"),
    "field_twice": (safetensors_file(b'{"x":{"dtype":"F32","dtype":"F64"}}'), "'dtype' appears twice"),
    "metadata_not_text": (safetensors_file({"__metadata__": {"epoch": 77}}), "'__metadata__' must be"),
    "metadata_is_list": (safetensors_file({"__metadata__": []}), "'__metadata__' must be"),
    "no_tensors": (safetensors_file({"__metadata__": {"format": "pt"}}), "contains no tensors"),
    "entry_is_number": (safetensors_file({"bn1.bias": 3}), "entry of tensor 'bn1.bias'"),
    "entry_without_shape": (safetensors_file({"x": {"dtype": "F32", "data_offsets": [0, 16]}}, ZERO),
                            "entry of tensor 'x'"),
    "entry_with_more": (safetensors_file({"x": entry(strides=[1])}, ZERO), "and nothing else"),
    "dtype_unknown": (safetensors_file({"x": entry("F8_E4M3", (16,))}, ZERO), "the dtype 'F8_E4M3'"),
    "dtype_is_number": (safetensors_file({"x": entry(77)}, ZERO), "the dtype 77"),
    "shape_negative": (safetensors_file({"x": entry(shape=(-2, -2))}, ZERO), "-2 in the shape of tensor 'x'"),
    "shape_of_floats": (safetensors_file({"x": entry(shape=(4.0,))}, ZERO), "4.0 in the shape of tensor 'x'"),
    "shape_true": (safetensors_file({"x": entry(shape=(True, 4))}, ZERO), "True in the shape of tensor 'x'"),
    "shape_of_nine": (safetensors_file({"x": entry(shape=(1,) * 8 + (4,))}, ZERO), "shape of tensor 'x' has 9 entries"),
    "shape_overflows_64_bits": (safetensors_file({"x": entry(shape=(1 << 33, 1 << 33))}, ZERO),
                                "product of its nonzero extents must be below"),
    "shape_too_large": (safetensors_file({"x": entry(shape=(5,))}, ZERO),
                        r"F32 \[5\], needs 20 bytes, but its offsets span 16"),
    "offsets_reversed": (safetensors_file({"x": entry(offsets=(16, 0))}, ZERO), r"the offsets \[16, 0\]"),
    "offsets_negative": (safetensors_file({"x": entry(offsets=(-16, 0))}, ZERO),
                         "-16 in the data_offsets of tensor 'x'"),
    "offsets_beyond": (safetensors_file({"x": entry(offsets=(0, 16))}, ZERO[:15]),
                       r"the offsets \[0, 16\]: .* 15 bytes"),
    "offsets_of_three": (safetensors_file({"x": entry(offsets=(0, 16, 16))}, ZERO), r"the offsets \[0, 16, 16\]"),
    "overlap": (safetensors_file({"x": entry(), "y": entry(shape=(2,), offsets=(8, 16))}, ZERO),
                "'y' begins at byte 8 .* ends at 16"),
    "gap": (safetensors_file({"x": entry(shape=(2,), offsets=(8, 16))}, ZERO), "'x' begins at byte 8 .* ends at 0"),
    "bytes_behind": (safetensors_file({"x": entry()}, ZERO + b"!"), "end at byte 16 of 17"),
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("case", ZIPS)
def test_zip_container_refuses(case, tmp_path):
    build, message = ZIPS[case]
    refused(tmp_path, build(), message, seconds=3)


@pytest.mark.parametrize("case", LEGACY)
def test_legacy_container_refuses(case, tmp_path):
    refused(tmp_path, *LEGACY[case], seconds=3)


@pytest.mark.parametrize("case", SAFETENSORS)
def test_safetensors_refuses(case, tmp_path):
    refused(tmp_path, *SAFETENSORS[case], seconds=3)


def test_the_files_that_were_spoilt_are_good(tmp_path):
    """Each case above is a valid file with one fault."""
    for data in (GOOD, GOOD_LEGACY, safetensors_file({"x": entry()}, ZERO)):
        (tmp_path / "good.pth").write_bytes(data)
        assert read_checkpoint(tmp_path / "good.pth").tensors["x"].shape == (4,)


def test_refused_can_fail(tmp_path):
    """`refused` fails for a file that is read, for another message, and for too much memory."""
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        refused(tmp_path, GOOD, "x")
    with pytest.raises(AssertionError, match="did not match"):
        refused(tmp_path, b"", "no such text")
    with pytest.raises(AssertionError, match="allowed -1.0"):
        refused(tmp_path, b"", "empty", seconds=-1.0)
