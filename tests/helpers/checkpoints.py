"""Checkpoints written by hand, byte by byte: honest ones where torch is not installed, and hostile ones.

A pickle is assembled from opcodes, since no pickler writes what an attacker would.
"""
import io
import json
import os
import struct
import tempfile
import time
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from npefficient.errors import WeightsError
from npefficient.network import architecture
from npefficient.network.parameters import random_weights
from weights_convert import read_checkpoint

CLASSES = {"f8": "DoubleStorage", "f4": "FloatStorage", "f2": "HalfStorage", "i8": "LongStorage", "i4": "IntStorage",
           "i2": "ShortStorage", "i1": "CharStorage", "u1": "ByteStorage", "b1": "BoolStorage"}
MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
SENTINEL = Path(tempfile.gettempdir()) / f"npefficient-code-ran-{os.getpid()}"  # hostile files try to make it


def network(num_classes: int = 2, in_chans: int = 3, name: str = "lite0", seed: int = 0) -> dict[str, np.ndarray]:
    """A state_dict that converts."""
    return dict(random_weights(architecture.build(name, num_classes, in_chans), seed).parameters)


# --- pieces of a pickle ----------------------------------------------------------------------------------------------

def text(value: str) -> bytes:
    raw = value.encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<I", len(raw)) + raw


def number(value: int) -> bytes:
    """An int of any size."""
    raw = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(raw)]) + raw


def tuple_of(*pieces: bytes) -> bytes:
    return b"(" + b"".join(pieces) + b"t"


def numbers(values) -> bytes:
    return tuple_of(*(number(value) for value in values))


def name(module: str, attribute: str) -> bytes:
    return b"c" + module.encode() + b"\n" + attribute.encode() + b"\n"


def call(module: str, attribute: str, *args: bytes) -> bytes:
    return name(module, attribute) + tuple_of(*args) + b"R"


def dictionary(entries: dict[str, bytes]) -> bytes:
    return b"}(" + b"".join(text(key) + value for key, value in entries.items()) + b"u"


def program(*pieces: bytes) -> bytes:
    return b"\x80\x02" + b"".join(pieces) + b"."


def storage(key="0", numel=4, kind="FloatStorage", *more: bytes) -> bytes:
    """A persistent id; `more` is the sixth field of a legacy file."""
    return tuple_of(text("storage"), name("torch", kind), text(key), text("cpu"), number(numel), *more) + b"Q"


def tensor(held: bytes, shape, strides=None, offset=0) -> bytes:
    return call("torch._utils", "_rebuild_tensor_v2", held, number(offset), numbers(shape),
                numbers(strides if strides is not None else row_major(shape)), b"\x89",
                call("collections", "OrderedDict"))


def row_major(shape) -> tuple[int, ...]:
    return tuple(int(np.prod(shape[i + 1:], dtype=int)) for i in range(len(shape)))


# --- whole files -----------------------------------------------------------------------------------------------------

def zip_file(pickle: bytes, storages: dict[str, bytes] | None = None, *, root="archive", byteorder=b"little", more=(),
             compression=zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        archive.writestr(f"{root}/data.pkl", pickle)
        if byteorder is not None:
            archive.writestr(f"{root}/byteorder", byteorder)
        for key, raw in (storages or {"0": bytes(16)}).items():
            archive.writestr(f"{root}/data/{key}", raw)
        archive.writestr(f"{root}/version", b"3\n")
        for entry, raw in more:
            archive.writestr(entry, raw)
    return file.getvalue()


def legacy_file(pickle: bytes, storages=(("0", 4, bytes(16)),), *, keys: bytes | None = None, magic=MAGIC_NUMBER,
                version=1001, little=True, size_order="<") -> bytes:
    """`storages`: (key, numel, raw bytes) in the order of the file."""
    listed = b"](" + b"".join(text(key) for key, _, _ in storages) + b"e" if keys is None else keys
    facts = dictionary({"protocol_version": number(1001), "little_endian": b"\x88" if little else b"\x89"})
    tail = b"".join(struct.pack(size_order + "q", numel) + raw for _, numel, raw in storages)
    return program(number(magic)) + program(number(version)) + program(facts) + pickle + program(listed) + tail


def safetensors_file(header, data: bytes = b"") -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(raw).to_bytes(8, "little") + raw + data


def _entry(array: np.ndarray) -> dict:
    return {"dtype": {"f4": "F32", "f2": "F16", "i8": "I64", "f8": "F64"}[array.dtype.str[1:]],
            "shape": list(array.shape)}


def save(arrays: dict[str, np.ndarray], form: str, *, order="<", wrapper="", prefix="", beside=None) -> bytes:
    """A whole checkpoint of the arrays: form "zip", "legacy" or "safetensors"; `beside`: other entries of the dict."""
    raws = [array.astype(array.dtype.newbyteorder(order)).tobytes() for array in arrays.values()]
    if form == "safetensors":
        header, at = {}, 0
        for (key, array), raw in zip(arrays.items(), raws):
            header[prefix + key] = {**_entry(array), "data_offsets": [at, at + len(raw)]}
            at += len(raw)
        return safetensors_file(header, b"".join(raws))
    more = (b"N",) if form == "legacy" else ()
    state = dictionary({
        prefix + key: tensor(storage(str(i), array.size, CLASSES[array.dtype.str[1:]], *more), array.shape)
        for i, (key, array) in enumerate(arrays.items())
    })
    pickle = program(dictionary({**(beside or {}), wrapper: state}) if wrapper else state)
    if form == "zip":
        raw_of = {str(i): raw for i, raw in enumerate(raws)}
        return zip_file(pickle, raw_of, byteorder=b"little" if order == "<" else b"big")
    storages = sorted((str(i), array.size, raw) for i, (array, raw) in enumerate(zip(arrays.values(), raws)))
    return legacy_file(pickle, storages)


# --- what a hostile file must not do ---------------------------------------------------------------------------------

def refused(tmp_path, data: bytes, message: str, *, seconds: float | None = None, file="model.pth"):
    """Assert that reading `data` is a WeightsError with `message` that ran no code and took little memory and time."""
    path = tmp_path / file
    path.write_bytes(data)
    if seconds is not None:  # timed apart: tracemalloc slows it down
        start = time.process_time()
        with pytest.raises(WeightsError, match=message):
            read_checkpoint(path)
        took = time.process_time() - start
        assert took < seconds, f"refused after {took:.1f} s of CPU time, allowed {seconds}"
    tracemalloc.start()
    try:
        with pytest.raises(WeightsError, match=message) as caught:
            read_checkpoint(path)
        assert tracemalloc.get_traced_memory()[1] < (40 << 20) + 2 * len(data)
    finally:
        tracemalloc.stop()
    assert len(str(caught.value)) < 1500 and file in str(caught.value)
    assert not SENTINEL.exists()
