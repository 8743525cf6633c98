"""Weight files for tests and tools to damage them, written after the format's specification, not after our code."""
import hashlib
import json
import os
import struct
import subprocess
import sys
import tempfile
import time
import tracemalloc
from pathlib import Path

import h5py
import numpy as np
import pytest

from npefficient.errors import WeightsError
from npefficient.network import architecture
from npefficient.network.parameters import Weights, random_weights
from npefficient.weights.weight_file import read_weights

SHARE = 2 * 2**20  # bytes that a refusal may allocate, for a file of 7 MB; the attributes are 20 kB

LABELS = ("null", "één", "二", "🐶 dog", "four\tfour", "fünf", "six ", "sept", "otto", "девять")


def small_weights(dtype=np.float16, labels=LABELS, **changes) -> Weights:
    """lite0 with 10 classes; float16 makes a file of 7 MB."""
    weights = random_weights(architecture.build("lite0", 10))
    parameters = {k: v if v.dtype == np.int64 else v.astype(dtype) for k, v in weights.parameters.items()}
    values = {"preprocessing": weights.preprocessing, "source": weights.source, **changes}
    return Weights(weights.architecture, parameters, labels=labels, **values)


def content(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def difference(got: Weights, expected: Weights) -> str:
    """Name of the first field or tensor in which two Weights differ, or "" if they are equal to the last bit."""
    for field in ("architecture", "preprocessing", "labels", "source"):
        if getattr(got, field) != getattr(expected, field):
            return field
    if list(got.parameters) != list(expected.parameters):
        return "names"
    for name, array in expected.parameters.items():
        back = got.parameters[name]
        if (back.dtype, back.shape, back.tobytes()) != (array.dtype, array.shape, array.tobytes()):
            return name
    return ""


def refused(path, message: str, allocated: int | None = SHARE, read=read_weights) -> None:
    """Reading raises one WeightsError that names the file and matches `message`, quickly and in little memory."""
    tracemalloc.start()
    begin = time.monotonic()
    try:
        with pytest.raises(WeightsError, match=message) as caught:
            read(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert repr(str(path)) in str(caught.value) and "\n" not in str(caught.value) and len(str(caught.value)) < 2500
    assert time.monotonic() - begin < 10
    assert allocated is None or peak < allocated


def edited(path, edit, signed: bool = False):
    with h5py.File(path, "r+") as file:
        edit(file)
        if signed:
            sign(file)
    return path


def digest(file: h5py.File) -> str:
    """The root attribute `sha256` as the specification defines it."""
    values = {}
    for name in set(file.attrs) - {"sha256"}:
        value = file.attrs[name]
        values[name] = value.decode() if isinstance(value, bytes) else value.tolist()
    labels = bytes(file["labels"][()]).decode().split("\n") if "labels" in file else None
    guarded = {"attributes": values, "labels": labels}
    for name in {"photos", "classifier_photos"} & set(file):
        guarded[name] = bytes(file[name][()]).hex()
    return hashlib.sha256(json.dumps(guarded, sort_keys=True).encode()).hexdigest()


def sign(file: h5py.File) -> None:
    """Put the right `sha256` into a file that was edited."""
    set_attribute(file, "sha256", np.bytes_(digest(file)))


def set_attribute(file: h5py.File, name: str, value, **how) -> None:
    if name in file.attrs:
        del file.attrs[name]
    file.attrs.create(name, value, **how)


def checksum_row(file: h5py.File, name: str) -> None:
    """Put the right row into `checksums` for a dataset that was edited."""
    order = [n for n in architecture.build("lite0", 10).parameters() if "tracked" not in n]
    rows = file.attrs["checksums"].copy()
    rows[order.index(name)] = np.frombuffer(hashlib.sha256(file[name][()].tobytes()).digest(), np.uint8)
    set_attribute(file, "checksums", rows)


# --- the file below HDF5's library: HDF5 File Format Specification 3.0 -----------------------------------------------


def lookup3(data: bytes) -> int:
    """Bob Jenkins's hashlittle (public domain), the checksum of HDF5's structures."""
    mask, n = 0xFFFFFFFF, len(data)

    def rotate(x, k):
        return (x << k | x >> (32 - k)) & mask

    a = b = c = (0xDEADBEEF + n) & mask
    words = struct.unpack(f"<{-(-n // 12) * 3}I", data.ljust(-(-n // 12) * 12, b"\0"))
    for i in range(0, len(words) - 3, 3):
        a, b, c = (a + words[i]) & mask, (b + words[i + 1]) & mask, (c + words[i + 2]) & mask
        for k in (4, 6, 8, 16, 19, 4):
            a = ((a - c) & mask) ^ rotate(c, k)
            c = (c + b) & mask
            a, b, c = b, c, a
    if n:
        a, b, c = (a + words[-3]) & mask, (b + words[-2]) & mask, (c + words[-1]) & mask
        for k in (14, 11, 25, 16, 4, 14, 24):
            c = ((c ^ b) - rotate(b, k)) & mask
            a, b, c = b, c, a
        a, b, c = c, a, b  # seven turns of three names
    return c


def patch_superblock(path: Path, **fields) -> None:
    """Change fields of the superblock and put its checksum right."""
    places = {"offsets": (9, "B"), "lengths": (10, "B"), "flags": (11, "B"), "base": (12, "Q"), "extension": (20, "Q"),
              "end": (28, "Q"), "root": (36, "Q")}
    block = bytearray(path.read_bytes()[:48])
    for name, value in fields.items():
        struct.pack_into("<" + places[name][1], block, places[name][0], value)
    struct.pack_into("<I", block, 44, lookup3(bytes(block[:44])))
    overwrite(path, 0, block)


def messages(header: bytes) -> dict[int, tuple[int, int]]:
    """Type -> (start, size) of the messages in the first chunk of a version 2 object header."""
    assert header[:5] == b"OHDR\x02"
    flags, found = header[5], {}
    at = 6 + (16 if flags & 32 else 0) + (4 if flags & 16 else 0)
    width = 1 << (flags & 3)
    end = at + width + int.from_bytes(header[at : at + width], "little")
    at += width
    while at + 4 <= end:
        kind, size = header[at], int.from_bytes(header[at + 1 : at + 3], "little")
        at += 6 if flags & 4 else 4
        found.setdefault(kind, (at, size))
        at += size
    return found | {-1: (end, 4)}  # -1: the checksum


DATASPACE, DATATYPE, LAYOUT = 1, 3, 8


def patch_message(path: Path, name: str, kind: int, offset: int, raw: bytes) -> None:
    """Change bytes of one header message of a dataset and put the header's checksum right."""
    with h5py.File(path, "r") as file:
        at = h5py.h5o.get_info(file[name].id).addr
    data = path.read_bytes()
    header = bytearray(data[at : at + 1024])
    start, size = messages(bytes(header))[kind]
    assert offset + len(raw) <= size
    header[start + offset : start + offset + len(raw)] = raw
    end = messages(bytes(header))[-1][0]
    struct.pack_into("<I", header, end, lookup3(bytes(header[:end])))
    overwrite(path, at, header)


def overwrite(path: Path, at: int, raw: bytes) -> None:
    with open(path, "r+b") as file:
        file.seek(at)
        file.write(raw)


def flip(path: Path, position: int, bit: int) -> None:
    with open(path, "r+b") as file:
        file.seek(position)
        byte = file.read(1)[0]
        file.seek(position)
        file.write(bytes([byte ^ 1 << bit]))


def data_spans(path: Path) -> list[tuple[int, int]]:
    """The (start, end) of each dataset, in the order of the file; all other bytes are HDF5's own."""
    with h5py.File(path, "r") as file:
        return sorted((d.id.get_offset(), d.id.get_offset() + d.id.get_storage_size()) for d in file.values())


def world_readable_directory():
    """A directory that other users may enter (pytest's own may not)."""
    directory = tempfile.TemporaryDirectory()
    Path(directory.name).chmod(0o755)
    return directory


def in_a_process(program, *args, **how):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(["tests/helpers", "."]), "PYTHONHASHSEED": "7"}
    return subprocess.Popen([sys.executable, "-c", program, *map(str, args)], cwd=Path(__file__).parents[2],
                            env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **how)
