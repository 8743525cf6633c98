"""Write HDF5 reproducibly, and check it before reading.

HDF5 can contain much that a weight file does not need: links to other files, external data, filters that expand to any
size, shapes without data. The readers here accept only arrays of a given type and shape that are stored contiguously in
the file itself, and check type, shape, size and position before they read. They use h5py's low-level calls, which take
a fraction of the time of its high-level objects.

They have no control over what HDF5's C library does when it opens a hostile file: see SECURITY.md.
"""
import io
import itertools
import math
import os
import stat
import struct
from pathlib import Path

import h5py
import numpy as np

from ..errors import WeightsError

MAGIC = b"\x89HDF\r\n\x1a\n"
ATTRIBUTE_LIMIT = 65536  # bytes
_ALIGNED = 64  # bytes, a cache line

# Superblock versions 2 and 3 (HDF5 File Format Specification, II.A): magic, version, sizes of offsets and lengths,
# consistency flags, base address, address of the extension, end of the file, root group, checksum.
_SUPERBLOCK = struct.Struct("<8s4B4QI")
_NOWHERE = 2**64 - 1

# The types that a weight file may contain; they must match exactly (nothing is converted).
_TYPES = {"int": h5py.h5t.STD_I64LE, "float": h5py.h5t.IEEE_F64LE, "bytes": h5py.h5t.STD_U8LE,
          "float32": h5py.h5t.IEEE_F32LE, "float16": h5py.h5t.IEEE_F16LE, "int8": h5py.h5t.STD_I8LE}
_DTYPES = {kind: stored.dtype for kind, stored in _TYPES.items()}


def file_image(fill) -> memoryview:
    """The bytes of the HDF5 file that `fill(file)` makes; the same calls give the same bytes.

    The file is made in memory, because HDF5 2.0 kills the process if the disk is full. It has the structures of HDF5
    1.8, which include checksums; every later release reads them, and writes them identically. It stores no timestamps.
    """
    creation, access = h5py.h5p.create(h5py.h5p.FILE_CREATE), h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    creation.set_obj_track_times(False)
    image = io.BytesIO()
    access.set_fileobj_driver(h5py.h5fd.fileobj_driver, image)
    access.set_libver_bounds(h5py.h5f.LIBVER_V18, h5py.h5f.LIBVER_V18)
    with h5py.File(h5py.h5f.create(b"in memory", h5py.h5f.ACC_TRUNC, creation, access)) as file:
        fill(file)
    return image.getbuffer()


def check_superblock(path: Path) -> int:
    """Return the size of the file; raises WeightsError unless it is HDF5 with checksums, complete and closed.

    Reads 48 bytes, and opens only a regular file (opening a pipe could wait forever).
    """
    try:
        mode = path.stat().st_mode
        start, size = _start(path) if stat.S_ISREG(mode) else (b"", 0)
    except FileNotFoundError:
        raise WeightsError(f"weight file {str(path)!r}: there is no such file: check the name") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise WeightsError(f"can't read {str(path)!r}: {getattr(error, 'strerror', error)}") from error
    if not stat.S_ISREG(mode):
        kind = "directory" if stat.S_ISDIR(mode) else "pipe or a device"
        raise WeightsError(f"{str(path)!r} is a {kind}: name a weight file (.h5)")
    if not start:
        raise WeightsError(f"{str(path)!r} is empty: it should be a weight file (.h5)")
    if not start.startswith(MAGIC):
        raise WeightsError(f"{str(path)!r} is not an HDF5 file (it starts with {start[:8]!r}): convert a checkpoint "
                           f"(.pth, .safetensors) with 'npefficient convert {path}'")
    if start[8:9] not in (b"\x02", b"\x03"):
        raise WeightsError(f"{str(path)!r} is an HDF5 file of an old layout without checksums (superblock version "
                           f"{start[8:9].hex() or 'missing'}): weight files are written by 'npefficient convert'")
    if len(start) < _SUPERBLOCK.size:
        raise WeightsError(f"{str(path)!r} is truncated after {size} bytes: download it again")
    _, _, offsets, lengths, flags, base, extension, end, _, _ = _SUPERBLOCK.unpack(start)
    if end != size:
        raise WeightsError(f"{str(path)!r} has {size} bytes, but its header says {end}: download it again")
    if (offsets, lengths, flags, base, extension) != (8, 8, 0, 0, _NOWHERE):
        raise WeightsError(f"{str(path)!r} has an unusual header (offsets of {offsets} and lengths of {lengths} bytes, "
                           f"flags {flags:#x}, base {base:#x}, extension {extension:#x}): it is damaged, was never "
                           "closed, or is not a weight file")
    return size


def _start(path: Path) -> tuple[bytes, int]:
    """The first bytes of a file, and its size."""
    with path.open("rb") as file:
        return file.read(_SUPERBLOCK.size), file.seek(0, os.SEEK_END)


# --- attributes ------------------------------------------------------------------------------------------------------


def has_attribute(file_id, name: str) -> bool:
    return h5py.h5a.exists(file_id, name.encode())


def check_attributes(file_id, expected) -> None:
    """Raise WeightsError unless the root has exactly the attributes `expected`."""
    _check_names("attributes", expected, h5py.h5a.get_num_attrs(file_id), lambda name: has_attribute(file_id, name))


def read_attribute(file_id, name: str, kind: str, shape: tuple):
    """Read one attribute of the root, after checking its type and extent.

    `kind` is "text" (fixed length, UTF-8; returns str), "int" (int64), "float" (float64) or "bytes" (uint8); scalars
    (shape ()) are returned as int or float, the others as arrays. None in `shape` allows any length.
    """
    attribute = h5py.h5a.open(file_id, name.encode())
    stored, got = attribute.get_type(), attribute.shape  # None for a null attribute
    size = 0 if got is None else attribute.get_storage_size()
    fits = got is not None and len(got) == len(shape) and all(want in (None, g) for g, want in zip(got, shape))
    if not (fits and _is_kind(stored, kind) and size <= ATTRIBUTE_LIMIT):
        raise WeightsError(f"attribute {name!r} is {_described(stored)} {got} of {size} bytes: it must be {kind} "
                           f"{shape} of at most {ATTRIBUTE_LIMIT}")
    value = np.empty(got, f"S{stored.get_size()}" if kind == "text" else _DTYPES[kind])
    attribute.read(value, mtype=stored)
    if kind == "text":
        return value.item().decode()
    return value if shape else value.item()


def _is_kind(stored, kind: str) -> bool:
    if kind == "text":
        return isinstance(stored, h5py.h5t.TypeStringID) and not stored.is_variable_str()
    return stored.equal(_TYPES[kind])


# --- datasets --------------------------------------------------------------------------------------------------------


def has_dataset(file_id, name: str) -> bool:
    return file_id.links.exists(name.encode())


def check_datasets(file_id, expected) -> None:
    """Raise WeightsError unless the root contains exactly the names `expected`."""
    _check_names("datasets", expected, file_id.get_num_objs(), lambda name: has_dataset(file_id, name))


def check_link(file_id, name: str) -> None:
    """Raise WeightsError if a name is not a hard link, and KeyError if it does not exist."""
    kind = file_id.links.get_info(name.encode()).type
    if kind != h5py.h5l.TYPE_HARD:
        known = {h5py.h5l.TYPE_SOFT: "a soft link", h5py.h5l.TYPE_EXTERNAL: "an external link"}
        raise WeightsError(f"{name!r} is {known.get(kind, 'a link of unknown type')}: the file must not contain "
                           "links")


class StoredArray:
    """One dataset whose type, shape, size and position have been checked; `read` reads it.

    `kinds` names the types allowed ("bytes", "int8", "float16", "float32"); None in `shape` allows any length up to
    `limit`.
    """

    def __init__(self, file_id, name: str, kinds: tuple[str, ...], shape: tuple, *, file_size: int, limit: int = 0):
        check_link(file_id, name)
        self.name, self._id = name, h5py.h5o.open(file_id, name.encode())
        if not isinstance(self._id, h5py.h5d.DatasetID):
            kind = type(self._id).__name__.removesuffix("ID").lower()
            raise WeightsError(f"{name!r} is a {kind}: it must be a dataset")
        # Check the position first: asking a virtual dataset for its shape opens the files it refers to.
        start = self._id.get_offset()
        if start is None:
            raise WeightsError(f"{name!r} is {_layout(self._id)}: it must be stored contiguously in the file")
        if h5py.h5a.get_num_attrs(self._id):
            raise WeightsError(f"{name!r} has attributes: a weight file has them only at its root")
        self._type, got = self._id.get_type(), self._id.shape
        kind = next((kind for kind in kinds if self._type.equal(_TYPES[kind])), None)
        fits = got is not None and len(got) == len(shape) and all(
            g == want or want is None and g <= limit for g, want in zip(got, shape))
        if kind is None or not fits:
            raise WeightsError(f"{name!r} is {_described(self._type)} {got}: it must be {' or '.join(kinds)} {shape}"
                               + (f" of at most {limit}" if limit else ""))
        self._shape, self._dtype = got, _DTYPES[kind]
        expected, stored = math.prod(got) * self._dtype.itemsize, self._id.get_storage_size()
        self.start, self.end = start, start + stored
        if stored != expected or self.end > file_size:
            raise WeightsError(f"{name!r} should have {expected} bytes, but {stored} are stored, at byte {start} of a "
                               f"file of {file_size}")

    @property
    def size(self) -> int:
        """Bytes in the file."""
        return self.end - self.start

    def read(self, memory: np.ndarray) -> np.ndarray:
        """Read into `memory`, uint8 (size,), and return it with the right type and shape."""
        array = memory.view(self._dtype).reshape(self._shape)
        self._id.read(h5py.h5s.ALL, h5py.h5s.ALL, array, mtype=self._type)
        return array


def read_arrays(arrays):
    """Yield the content of each StoredArray, all in one block of memory.

    NumPy asks for huge pages from 4 MB on: the first read of lite0 in a process takes 12 ms instead of 18 ms with
    hundreds of blocks (measured).
    """
    ends = list(itertools.accumulate(-(-array.size // _ALIGNED) * _ALIGNED for array in arrays))
    memory = np.empty(ends[-1], np.uint8)
    for array, start in zip(arrays, [0, *ends]):
        yield array.read(memory[start : start + array.size])


def _layout(dataset_id) -> str:
    """Why a dataset is not stored contiguously in the file."""
    creation = dataset_id.get_create_plist()
    known = {h5py.h5d.CHUNKED: "chunked", h5py.h5d.COMPACT: "compact", h5py.h5d.VIRTUAL: "virtual"}
    return known.get(creation.get_layout()) or ("external" if creation.get_external_count() else "stored nowhere")


def check_apart(arrays) -> None:
    """Raise WeightsError if two StoredArrays share a byte of the file."""
    ordered = sorted(arrays, key=lambda array: (array.start, array.end))
    for before, after in zip(ordered, ordered[1:]):
        if after.start < before.end:
            raise WeightsError(f"{after.name!r} begins at byte {after.start}, inside {before.name!r}, which ends at "
                               f"byte {before.end}: datasets must not overlap")


def _check_names(what: str, expected, count: int, has) -> None:
    """Raise WeightsError unless there are exactly the names `expected`, which are looked up one by one.

    The file's names are never listed, so the message can't name unexpected ones: on a file with a flipped bit, listing
    crashes HDF5 before 2.0 (measured).
    """
    missing = [name for name in expected if not has(name)]
    others = count - len(expected) + len(missing)
    if missing or others:
        shown = ", ".join(map(repr, missing[:20])) + (f" and {len(missing) - 20} more" if len(missing) > 20 else "")
        raise WeightsError(f"{what} missing: {shown or 'none'}; unexpected: {others or 'none'}")


def _described(stored) -> str:
    """An HDF5 type by NumPy's name, or its class if NumPy has no such type."""
    try:
        return str(stored.dtype)
    except TypeError:
        return f"HDF5 class {stored.get_class()}"
