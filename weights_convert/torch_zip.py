"""The zip form of a torch checkpoint (torch >= 1.6).

    <root>/data.pkl      the object; a tensor's storage is a persistent id ('storage', class, key, location, numel)
    <root>/byteorder     "little" or "big"; little where it is absent
    <root>/data/<key>    the bytes of one storage
    <root>/version ...   and other small entries

Entries are stored, not compressed. `torch.load` ignores the CRC of an entry; here every entry's CRC is compared, its
local header must agree with the directory, and no two entries may share bytes. `zipfile` reads the directory only.
Source: torch/serialization.py `_load`, PKWARE's APPNOTE.
"""
import io
import struct
import zipfile
import zlib

from npefficient.errors import WeightsError
from npefficient.text import quoted

from .pickle_machine import PickleMachine
from .pickle_opcodes import run
from .pickle_values import Budget
from .tensors import Storage
from .torch_globals import TorchGlobals, storage_class

MAX_ENTRIES = 50_000
_LOCAL = struct.Struct("<4s22xHH")  # signature, length of the name, length of the extra field
_ENCRYPTED = 0x1


def read_zip(data: bytes):
    """Read a torch zip file; returns (object, byte order "<" or ">", function from a Storage to its bytes)."""
    infos, directory = _directory(data)
    root = _root([info.orig_filename for info in infos])
    entries = _entries(data, infos, directory)
    order = bytes(entries.get(f"{root}byteorder", b"little"))
    if order not in (b"little", b"big"):
        raise WeightsError(f"its entry 'byteorder' says {quoted(order)}: it must be 'little' or 'big'")

    def read(storage: Storage) -> memoryview:
        return entries[f"{root}data/{storage.key}"]

    def persistent_load(saved_id) -> Storage:
        storage = storage_of(saved_id, 5)
        name = f"{root}data/{storage.key}"
        if name not in entries:
            raise WeightsError(f"the data of storage {quoted(storage.key)} are missing: the file has no entry "
                               f"{quoted(name)}")
        if len(entries[name]) != storage.nbytes:
            raise WeightsError(f"storage {quoted(storage.key)} should have {storage.numel} {storage.element} elements, "
                               f"{storage.nbytes} bytes, but entry {quoted(name)} has {len(entries[name])}")
        return storage

    budget = Budget.for_file(len(data))
    pickle = bytes(entries[f"{root}data.pkl"])
    machine = PickleMachine(pickle, 0, budget, TorchGlobals(budget).find, persistent_load)
    value = run(machine)
    if machine.at != len(pickle):
        raise WeightsError(f"{len(pickle) - machine.at} bytes follow the end of its pickle")
    return value, "<" if order == b"little" else ">", read


def storage_of(saved_id, length: int) -> Storage:
    """The Storage of a persistent id, of which the first five fields are the same in both torch formats."""
    if type(saved_id) is not tuple or len(saved_id) != length or saved_id[0] != "storage":
        shown = quoted(saved_id[0]) if type(saved_id) is tuple and saved_id else quoted(saved_id)
        raise WeightsError(f"a persistent id {shown} in its pickle: only 'storage' with {length} fields is known")
    _, cls, key, _, numel = saved_id[:5]
    if type(key) is not str or type(numel) is not int or numel < 0:
        raise WeightsError(f"storage {quoted(key)} has {quoted(numel)} elements: the key must be text, the size a "
                           "whole number from 0 up")
    return Storage(key, storage_class(cls), numel)


def _directory(data: bytes) -> tuple[list[zipfile.ZipInfo], int]:
    """The entries as the directory at the end describes them, and where it begins."""
    if data.count(b"PK\x01\x02") > MAX_ENTRIES:
        raise WeightsError(f"its zip directory has more than {MAX_ENTRIES} entries: no checkpoint of this network has")
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
        return archive.infolist(), archive.start_dir
    except (zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, struct.error, ValueError, OSError) as error:
        raise WeightsError(f"it begins as a zip file but its directory can't be read ({error}): it is cut off or "
                           "damaged; fetch it again") from None


def _entries(data: bytes, infos: list[zipfile.ZipInfo], directory: int) -> dict[str, memoryview]:
    """Name -> bytes of every entry, all of them verified."""
    entries, end_of_last = {}, 0
    for info in sorted(infos, key=lambda info: info.header_offset):
        name = info.orig_filename
        if name in entries:
            raise WeightsError(f"zip entry {quoted(name)} is there twice")
        start = _data_start(data, info)
        if info.header_offset < end_of_last or start + info.file_size > directory:
            raise WeightsError(f"zip entry {quoted(name)} lies over another part of the file, or beyond its end")
        end_of_last = start + info.file_size
        entries[name] = memoryview(data)[start:end_of_last]
        if zlib.crc32(entries[name]) != info.CRC:
            raise WeightsError(f"zip entry {quoted(name)} does not match its CRC: the file is damaged; fetch it again")
    return entries


def _data_start(data: bytes, info: zipfile.ZipInfo) -> int:
    """Where an entry's data begin, after its local header was held against the directory."""
    name = quoted(info.orig_filename)
    if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
        raise WeightsError(f"zip entry {name} is compressed ({info.compress_size} to {info.file_size} bytes): torch "
                           "stores its entries, and nothing is unpacked here")
    if info.flag_bits & _ENCRYPTED:
        raise WeightsError(f"zip entry {name} is encrypted: torch does not write that")
    if not 0 <= info.header_offset <= len(data) - _LOCAL.size:
        raise WeightsError(f"zip entry {name} claims to begin at byte {info.header_offset} of {len(data)}")
    signature, name_length, extra_length = _LOCAL.unpack_from(data, info.header_offset)
    start = info.header_offset + _LOCAL.size
    if signature != b"PK\x03\x04" or _decoded(data[start : start + name_length], info) != info.orig_filename:
        raise WeightsError(f"zip entry {name} has another name in its own header than in the directory")
    return start + name_length + extra_length


def _decoded(raw: bytes, info: zipfile.ZipInfo) -> str:
    return raw.decode("utf-8" if info.flag_bits & 0x800 else "cp437", "replace")


def _root(names: list[str]) -> str:
    """The directory of data.pkl, with its slash; says what other kinds of zip file are."""
    roots = [name.removesuffix("data.pkl") for name in names if name == "data.pkl" or name.endswith("/data.pkl")]
    root = roots[0] if roots else ""
    if roots and any(name == f"{root}constants.pkl" or name.startswith(f"{root}code/") for name in names):
        raise WeightsError("it is a TorchScript program (torch.jit.save), not a checkpoint: load it in torch and save "
                           "the weights alone, torch.save(model.state_dict(), 'model.pth')")
    if len(set(roots)) == 1:  # one that is there twice is refused with the other entries
        return root
    if roots:
        raise WeightsError(f"it has {len(roots)} entries 'data.pkl': a checkpoint has one")
    if names and all(name.endswith(".npy") for name in names):
        raise WeightsError("it is a NumPy archive (.npz), not a checkpoint of torch: save the weights with torch.save")
    shown = quoted(next(iter(names), ""))
    raise WeightsError(f"it is a zip file without 'data.pkl' (it begins with entry {shown}): not a checkpoint; if a "
                       "checkpoint was packed in it, unpack it first")
