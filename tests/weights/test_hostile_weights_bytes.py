"""Weight files with damaged HDF5 structures or flipped bits, and files that are not weight files.

Headers are changed byte by byte and HDF5's own checksums corrected; no file may take memory, hang, or be read as other
numbers. Flips are read in this process: HDF5's checksums catch them before the flipped bits can mislead its code.
"""
import copy
import os
import resource
import shutil
import struct
import subprocess
import sys
from dataclasses import replace

import h5py
import numpy as np
import pytest
from hostile_edits import STRUCTURE
from hypothesis import given, settings
from hypothesis import strategies as st
from quantized_files import small_quantized
from weight_files import (
    DATASPACE,
    DATATYPE,
    LABELS,
    LAYOUT,
    data_spans,
    difference,
    edited,
    flip,
    overwrite,
    patch_message,
    patch_superblock,
    refused,
)

from npefficient.errors import WeightsError
from npefficient.weights.quantized_file import read_stored, write_quantized

# --- below HDF5's library: its own checksums are put right -----------------------------------------------------------


def place(name):
    def find(path):
        with h5py.File(path) as file:
            return file[name].id.get_offset()
    return find


def layout(offset, raw, name="classifier.bias"):
    """Bytes of the layout message: version and class, then address (at 2) and size (at 10)."""
    return lambda path: patch_message(path, name, LAYOUT, offset, raw if isinstance(raw, bytes) else number(raw(path)))


def number(value):
    return struct.pack("<Q", value)


def header(**fields):
    return lambda path: patch_superblock(path, **fields)


def dense_layout(path):
    """Two datasets that share half of their bytes."""
    start = place("bn2.bias")(path)
    patch_message(path, "bn2.weight", LAYOUT, 2, number(start + 1280))


RAW = {
    "address_of_another": (layout(2, place("bn1.bias")), "datasets must not overlap"),
    "address_half_over_another": (dense_layout, "'bn2.weight' begins at byte .*, inside 'bn2.bias'"),
    "address_past_the_end": (layout(2, number(2**40)),
                             "'classifier.bias' should have 20 bytes, .* at byte 1099511627776|invalid dataset size"),
    "address_overflows": (layout(2, number(2**64 - 16)), "classifier.bias|address"),
    "address_undefined": (layout(2, number(2**64 - 1)), "'classifier.bias' is stored nowhere"),
    "size_4_TiB": (layout(10, number(2**42)), "'classifier.bias'|damaged"),
    "size_0": (layout(10, number(0)), "'classifier.bias'|damaged"),
    "size_19": (layout(10, number(19)), "'classifier.bias'|damaged"),
    "extent_4_TiB": (lambda path: patch_message(path, "classifier.bias", DATASPACE, 4, number(2**42)),
                     r"\(4398046511104,\): it must be float32 or float16 \(10,\)|damaged"),
    "extent_0": (lambda path: patch_message(path, "classifier.bias", DATASPACE, 4, number(0)), r"\(0,\)|damaged"),
    "type_of_3_bytes": (lambda path: patch_message(path, "classifier.bias", DATATYPE, 4, struct.pack("<I", 3)),
                        "'classifier.bias'|damaged"),
    "exponent_bias": (lambda path: patch_message(path, "classifier.bias", DATATYPE, 16, struct.pack("<I", 16)),
                      "'classifier.bias' is .*: it must be float32 or float16"),
    "layout_version_9": (layout(0, b"\x09"), "damaged"),
    "user_block": (lambda path: path.write_bytes(bytes(512) + path.read_bytes()), "is not an HDF5 file"),
    "user_block_of_magic": (lambda path: path.write_bytes(path.read_bytes()[:512] + path.read_bytes()),
                            "its header says"),
    "superblock_0": (lambda path: overwrite(path, 8, b"\0"), "old layout without checksums .*version 00"),
    "superblock_1": (lambda path: overwrite(path, 8, b"\1"), "old layout without checksums .*version 01"),
    "superblock_9": (lambda path: overwrite(path, 8, b"\x09"), "superblock version 09"),
    "superblock_checksum": (lambda path: overwrite(path, 44, b"0000"), "damaged"),
    "superblock_offsets": (header(offsets=4), "offsets of 4"),
    "superblock_lengths": (header(lengths=2), "lengths of 2"),
    "never_closed": (header(flags=1), "flags 0x1"),
    "base_address": (header(base=512), "base 0x200"),
    "superblock_extension": (header(extension=48), "extension 0x30"),
    "end_beyond": (header(end=2**42), "its header says 4398046511104"),
    "end_before": (header(end=48), "its header says 48"),
    "root_beyond": (header(root=2**42), "damaged"),
    "root_is_data": (lambda path: patch_superblock(path, root=place("bn2.bias")(path)), "damaged"),
    "root_is_dataset": (lambda path: patch_superblock(path, root=header_of(path)), "damaged|no attribute 'format'"),
    "bytes_behind": (lambda path: overwrite(path, path.stat().st_size, b"!"), "bytes, but its header says"),
    "cut_by_one": (lambda path: os.truncate(path, path.stat().st_size - 1), "bytes, but its header says"),
    "cut_in_half": (lambda path: os.truncate(path, path.stat().st_size // 2), "bytes, but its header says"),
    "cut_after_48": (lambda path: os.truncate(path, 48), "has 48 bytes, but its header says"),
    "cut_after_47": (lambda path: os.truncate(path, 47), "is truncated after 47 bytes"),
    "cut_after_8": (lambda path: os.truncate(path, 8), "superblock version missing"),
    "cut_after_7": (lambda path: os.truncate(path, 7), "is not an HDF5 file"),
    "empty": (lambda path: os.truncate(path, 0), "is empty"),
    "zeros": (lambda path: overwrite(path, 48, bytes(path.stat().st_size - 48)), "damaged"),
}


def header_of(path):
    with h5py.File(path) as file:
        return h5py.h5o.get_info(file["bn2.bias"].id).addr


@pytest.mark.parametrize("name", RAW)
def test_hostile_bytes(victim, name):
    RAW[name][0](victim)
    refused(victim, RAW[name][1])


# --- not one of ours at all ------------------------------------------------------------------------------------------


def old_hdf5(path):
    with h5py.File(path, "w", libver="earliest") as file:
        file["x"] = 1.0


def keras(path):
    with h5py.File(path, "w", libver="latest") as file:
        file.attrs["keras_version"] = "2.9.0"
        file.create_group("model_weights")


FOREIGN = {
    "pth": (lambda path: path.write_bytes(b"PK\x03\x04" + bytes(100)), r"starts with b'PK.*npefficient convert"),
    "html": (lambda path: path.write_text("<!DOCTYPE html><title>404</title>"), "starts with b'<!DOCTYP'"),
    "lfs_pointer": (lambda path: path.write_text("version https://git-lfs.github.com/spec/v1"),
                    "starts with b'version '"),
    "one_byte": (lambda path: path.write_bytes(b"\x89"), "is not an HDF5 file"),
    "empty": (lambda path: path.write_bytes(b""), "is empty"),
    "directory": (lambda path: path.mkdir(), "is a directory"),
    "missing": (lambda path: None, "there is no such file: check the name"),
    "name_too_long": (lambda path: None, "File name too long"),
    "name_with_nul": (lambda path: None, "embedded null"),
    "link_to_nothing": (lambda path: path.symlink_to("nowhere"), "there is no such file: check the name"),
    "link_to_itself": (lambda path: path.symlink_to(path), "symbolic links"),
    "pipe": (lambda path: os.mkfifo(path), "is a pipe or a device"),
    "device": (lambda path: path.symlink_to("/dev/zero"), "is a pipe or a device"),
    "old_hdf5": (old_hdf5, "old layout without checksums"),
    "keras": (keras, "no attribute 'format'"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_hostile_foreign_file(tmp_path, name):
    path = tmp_path / {"name_too_long": "x" * 300 + ".h5", "name_with_nul": "a\0b.h5"}.get(name, "model.h5")
    FOREIGN[name][0](path)
    refused(path, FOREIGN[name][1])


def test_hostile_file_that_may_not_be_read(victim, monkeypatch):
    """The system's own refusal, simulated since root may read everything."""
    def forbid(self, *args, **kwargs):
        raise PermissionError(13, "Permission denied", str(self))
    monkeypatch.setattr(type(victim), "open", forbid)
    refused(victim, "can't read .* Permission denied")


# --- memory: nothing large, inside HDF5's library neither ------------------------------------------------------------

PROGRAM = """
import json, resource, sys
from npefficient.errors import WeightsError
from npefficient.weights.weight_file import read_weights
read_weights(sys.argv[1])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in sys.argv[2:]:
    try:
        read_weights(path)
        sys.exit("was read: " + path)
    except WeightsError as error:
        pass
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
LYING = {"never_allocated_4_TiB": STRUCTURE, "size_4_TiB": RAW, "extent_4_TiB": RAW, "end_beyond": RAW,
         "address_past_the_end": RAW}


def test_hostile_lies_take_no_memory(stored, tmp_path):
    """Peak memory over the lying files, above that of one plain reading (kB, from the system)."""
    paths = []
    for name, table in LYING.items():
        paths.append(shutil.copy(stored, tmp_path / f"{name}.h5"))
        if table is RAW:
            RAW[name][0](paths[-1])
        else:
            edited(paths[-1], table[name][0], signed=True)
    ran = subprocess.run([sys.executable, "-c", PROGRAM, stored, *paths], capture_output=True, text=True, timeout=100,
                         preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, (60, 60)))
    assert ran.returncode == 0, ran.stderr
    assert int(ran.stdout) < 4096


# --- bits flipped and files cut anywhere -----------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["float32", "int8"])
def scratch(request, stored, tmp_path_factory):
    """A file in which one bit at a time is flipped and put back, what it holds, and where its datasets lie."""
    path = tmp_path_factory.mktemp("fuzz") / "scratch.h5"
    if request.param == "int8":
        write_quantized(path, small_quantized())
    else:
        shutil.copy(stored, path)
    spans = data_spans(path)
    ours = np.ones(path.stat().st_size, bool)
    for start, end in spans:
        ours[start:end] = end - start == len("\n".join(LABELS).encode())  # the labels are treated as structure
    return path, read_stored(path), np.flatnonzero(ours)


def flipped_reads(scratch, position, bit) -> str:
    """"refused", or "same" if the flipped bit is in an unused byte."""
    path, expected, _ = scratch
    flip(path, position, bit)
    try:
        got = read_stored(path)
    except WeightsError as error:
        assert str(path) in str(error)
        return "refused"
    finally:
        flip(path, position, bit)
    assert difference(got, expected) == "", f"bit {bit} of byte {position}"
    return "same"


fuzz = settings(max_examples=250, deadline=20_000, derandomize=True)


@fuzz
@given(where=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_hostile_flip_in_the_structures(scratch, where, bit):
    flipped_reads(scratch, int(scratch[2][int(where * len(scratch[2]))]), bit)


@settings(fuzz, max_examples=60)
@given(where=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_hostile_flip_in_the_weights(scratch, where, bit):
    path = scratch[0]
    spans = data_spans(path)
    sizes = np.cumsum([b - a for a, b in spans])
    at = int(where * sizes[-1])
    which = int(np.searchsorted(sizes, at, side="right"))
    assert flipped_reads(scratch, int(spans[which][1] - (sizes[which] - at)), bit) == "refused"


@pytest.mark.parametrize("position", range(48))
def test_hostile_flip_in_the_superblock(scratch, position):
    assert flipped_reads(scratch, position, position % 8) == "refused"


@settings(fuzz, max_examples=60)
@given(where=st.floats(0, 1, exclude_max=True))
def test_hostile_truncation(scratch, where):
    path = scratch[0].with_name("cut.h5")
    shutil.copy(scratch[0], path)
    os.truncate(path, int(where * path.stat().st_size))
    refused(path, "has .* bytes, but its header|is truncated|is empty|is not an HDF5|superblock version",
            read=read_stored)


def test_hostile_flip_check_can_fail(scratch):
    """The comparison used for the flips detects one changed bit."""
    path, expected, _ = scratch
    changed, name = copy.deepcopy(expected), list(expected.parameters)[-1]
    changed.parameters[name].view(np.uint8).flat[0] ^= 1
    assert difference(expected, changed) == name
    unused = next(at for at in scratch[2][::7] if flipped_reads(scratch, int(at), 0) == "same")
    with pytest.raises(AssertionError, match=f"bit 0 of byte {unused}"):
        flipped_reads((path, replace(expected, labels=None), None), int(unused), 0)


def test_hostile_flip_finds_the_structures(scratch):
    """There are HDF5's own bytes to flip: headers of 149 or 248 datasets, the links and the attributes."""
    assert 20_000 < len(scratch[2]) < 200_000
