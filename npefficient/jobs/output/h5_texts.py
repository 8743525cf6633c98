"""The texts of an HDF5 file, read by Python.

HDF5 keeps texts of variable length in heaps, which have no checksums. In a damaged one its library 2.0 loops for ever
(measured), and a heap of a few bytes can claim gigabytes of rows. Here the length of each text is bounded, and each
step comes nearer to the end of its heap.

Source: HDF5 File Format Specification 3.0, III.E "Global Heap"; VIII.B for what a row has (length, address, index).
"""
import functools
import struct
from collections.abc import Iterator

import numpy as np

from .taken_back import LONGEST

LARGEST = 1 << 20  # bytes of a chunk
AGAIN = 64  # how often the heaps may be scanned on average: the library fills up to sixteen at a time
_ROW = np.dtype([("length", "<u4"), ("address", "<u8"), ("index", "<u4")])
_HEAP, _OBJECT = struct.Struct("<4sB3xQ"), struct.Struct("<HH4xQ")


def texts(dataset, file, count: int) -> Iterator[str]:
    """Yield the first `count` rows of a chunked dataset of texts; raises ValueError, or KeyError, for damaged ones.

    file: the HDF5 file, opened to read bytes
    """
    heaps, (rows,) = _Heaps(file), dataset.chunks
    if rows * _ROW.itemsize > LARGEST:
        raise ValueError(f"{dataset.name!r} has chunks of {rows} rows")
    for start in range(0, count, rows):
        _, chunk = dataset.id.read_direct_chunk((start,))
        for row in np.frombuffer(chunk, _ROW)[: count - start].tolist():
            yield heaps.text(*row)


class _Heaps:
    """The heaps of a file: each has a header, and objects one after the other."""

    def __init__(self, file):
        self._file, self._size = file, file.seek(0, 2)
        self._left = AGAIN * self._size  # bytes that may still be scanned
        self._objects = functools.lru_cache(32)(self._look_through)

    def text(self, length: int, address: int, index: int) -> str:
        if not length:
            return ""
        start, size = self._objects(address)[index]
        if length != size or length > LONGEST:
            raise ValueError(f"a text of {length} bytes in {size}")
        return self._read(start, length).decode()

    def _look_through(self, address: int) -> dict[int, tuple[int, int]]:
        """Index -> (place in the file, bytes) of each object of the heap at an address."""
        magic, version, size = _HEAP.unpack(self._read(address, _HEAP.size))
        self._left -= size
        if (magic, version) != (b"GCOL", 1) or address + size > self._size or self._left < 0:
            raise ValueError(f"no heap of texts at byte {address}")
        heap, objects, place = self._read(address, size), {}, _HEAP.size
        while place + _OBJECT.size <= size:
            index, _, length = _OBJECT.unpack_from(heap, place)
            if not index:  # free space up to the end
                break
            objects[index] = address + place + _OBJECT.size, length
            place += _OBJECT.size + -(-length // 8) * 8
        return objects

    def _read(self, start: int, size: int) -> bytes:
        self._file.seek(start)
        data = self._file.read(size)
        if len(data) != size:
            raise ValueError(f"the file has no {size} bytes at byte {start}")
        return data
