"""Reader and writer of the safetensors format.

    8 bytes                     size of the header, little-endian
    header                      JSON: {"__metadata__": {text: text}, name: {"dtype", "shape", "data_offsets"}, ...},
                                padded with spaces to a multiple of 8
    data                        the tensors, little-endian, C order; data_offsets count from here

The tensors must tile the data without gaps or overlaps, and names must be unique. Source: the format's specification
in huggingface/safetensors README.md.
"""
import json
import math

import numpy as np

from npefficient.common.text import quoted
from npefficient.errors import WeightsError

from .json_text import read_json
from .tensors import ELEMENTS, check_numbers, check_shape, item_size, native

MAX_HEADER = 1 << 20  # bytes; lite4's has 50,000
_ELEMENT_OF = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64", "I32": "int32",
    "I16": "int16", "I8": "int8", "U64": "uint64", "U32": "uint32", "U16": "uint16", "U8": "uint8", "BOOL": "bool",
}
_CODE_OF = {"float32": "F32", "float16": "F16", "int64": "I64"}


def read_safetensors(data: bytes) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Read a whole file; returns (name -> array, metadata). bfloat16 becomes float32.

    Raises WeightsError for any header that breaks the specification.
    """
    header, start = _header(data)
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise WeightsError("its '__metadata__' must be a dictionary of strings")
    entries = {name: _entry(name, entry, len(data) - start) for name, entry in header.items()}
    _check_tiling(entries, len(data) - start)
    return {name: _array(data, start, *entry) for name, entry in entries.items()}, metadata


def _header(data: bytes) -> tuple[dict, int]:
    """Return the parsed header and the position of the data."""
    size = int.from_bytes(data[:8], "little")
    if len(data) < 8 or size > len(data) - 8:
        raise WeightsError(f"its header should have {size} bytes, but the file has {max(len(data) - 8, 0)} after the "
                           "first 8: it is truncated or not a safetensors file")
    if size > MAX_HEADER:
        raise WeightsError(f"its header has {size} bytes: the limit is {MAX_HEADER}")
    header = read_json(data[8 : 8 + size], "its header")
    if not isinstance(header, dict):
        raise WeightsError(f"its header is {quoted(header)}: it must be a dictionary")
    return header, 8 + size


def _entry(name: str, entry, room: int) -> tuple[str, tuple[int, ...], int, int]:
    """Check one tensor's entry; returns (element, shape, begin, end)."""
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise WeightsError(f"the entry of tensor {quoted(name)} in its header must have 'dtype', 'shape' and "
                           "'data_offsets', and nothing else")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _ELEMENT_OF:
        raise WeightsError(f"tensor {quoted(name)} has the dtype {quoted(dtype)}: it must be one of "
                           f"{', '.join(_ELEMENT_OF)}; convert it to float32 (.float()) before saving")
    shape = check_shape(f"shape of tensor {quoted(name)}", shape)
    offsets = check_numbers(f"data_offsets of tensor {quoted(name)}", offsets)
    if len(offsets) != 2 or not offsets[0] <= offsets[1] <= room:
        raise WeightsError(f"tensor {quoted(name)} has the offsets {list(offsets)}: they must be [begin, end] within "
                           f"the {room} bytes of data; the file is truncated or damaged")
    element, (begin, end) = _ELEMENT_OF[dtype], offsets
    needed = math.prod(shape) * item_size(element)
    if needed != end - begin:
        raise WeightsError(f"tensor {quoted(name)}, {dtype} {list(shape)}, needs {needed} "
                           f"bytes, but its offsets span {end - begin}")
    return element, shape, begin, end


def _check_tiling(entries: dict, room: int):
    at = 0
    for name, (_, _, begin, end) in sorted(entries.items(), key=lambda item: item[1][2:]):
        if begin != at:
            raise WeightsError(f"tensor {quoted(name)} begins at byte {begin} of the data, but the previous one ends "
                               f"at {at}: there must be no gap and no overlap")
        at = end
    if at != room:
        raise WeightsError(f"its tensors end at byte {at} of {room} bytes of data: nothing may follow them")


def _array(data: bytes, start: int, element: str, shape: tuple[int, ...], begin: int, end: int) -> np.ndarray:
    dtype = np.dtype("<" + ELEMENTS[element])
    return native(np.frombuffer(data, dtype, math.prod(shape), start + begin).reshape(shape), element)


def safetensors_bytes(tensors: dict[str, np.ndarray], metadata: dict[str, str]) -> bytes:
    """Serialise float32, float16 and int64 arrays; the same arrays give the same bytes.

    Tensors with wide elements come first, so that each starts at a multiple of its element size. Raises WeightsError
    if the header would be too large for the reader.
    """
    ordered = sorted(tensors.items(), key=lambda item: -item[1].dtype.itemsize)
    header, at = {"__metadata__": metadata}, 0
    for name, array in ordered:
        header[name] = {"dtype": _CODE_OF[array.dtype.name], "shape": list(array.shape),
                        "data_offsets": [at, at + array.nbytes]}
        at += array.nbytes
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > MAX_HEADER:
        raise WeightsError(f"names and metadata take {len(text):,} bytes: the limit for the header of a safetensors "
                           f"file is {MAX_HEADER:,}; shorten the class names")
    little = (array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes() for _, array in ordered)
    return b"".join((len(text).to_bytes(8, "little"), text, *little))
