"""The zip format of torch checkpoints (torch >= 1.6).

    <root>/data.pkl      the object; a tensor's storage is a persistent id ('storage', class, key, location, numel)
    <root>/byteorder     "little" or "big"; little if it is absent
    <root>/data/<key>    the bytes of one storage
    <root>/version ...   and other small entries

Entries are stored, not compressed. `torch.load` ignores the CRCs; here every entry's CRC is checked, its local header
must match the directory, and no two entries may overlap. `zipfile` only reads the directory. torch writes 0 for all
CRCs if `torch.serialization.set_crc32_options(False)` turned them off. Source: torch/serialization.py `_load`, PKWARE's
APPNOTE.
"""
import io
import struct
import zipfile
import zlib

from npefficient.common.text import quoted
from npefficient.errors import WeightsError

from .pickle_machine import PickleMachine
from .pickle_opcodes import run
from .pickle_values import Budget
from .tensors import LIMIT, Materialiser, Storage
from .torch_globals import TorchGlobals, storage_class

MAX_ENTRIES = 50_000
MAX_NAMES = 16 << 20  # bytes of all names, extra fields and comments; lite4's training checkpoint has 100,000
MAX_KEY = 256  # characters of a storage's key; torch's keys have up to 20
_RECORD, _LENGTHS = b"PK\x01\x02", struct.Struct("<28x3H")  # a directory record: its signature, and its three lengths
_LOCAL = struct.Struct("<4s22xHH")  # a local header: signature, length of the name, length of the extra field
_ENCRYPTED = 0x1
_ORDERS = {b"little": "<", b"big": ">"}
_NO_CHECKSUMS = ("the file has no checksums (torch.serialization.set_crc32_options(False)): damaged weights can't be "
                 "detected")


def read_zip(data: bytes):
    """Read a torch zip file; returns (object, Materialiser for its tensors, warnings for the user)."""
    infos, directory = _directory(data)
    root = _root([info.orig_filename for info in infos])
    entries, checked = _entries(data, infos, directory)
    _, said = entries.get(f"{root}byteorder", (0, b"little"))
    order = _ORDERS.get(bytes(said[:8]))
    if order is None:
        raise WeightsError(f"its entry 'byteorder' is {quoted(bytes(said[:8]))}: it must be 'little' or 'big'")

    folder = f"{root}data/"
    held = {name[len(folder):]: raw for name, (_, raw) in entries.items() if name.startswith(folder)}
    storages = Storages()

    def persistent_load(saved_id) -> Storage:
        storage = storages.add(storage_of(saved_id, 5))
        raw = held.get(storage.key)
        if raw is None:
            raise WeightsError(f"the data of storage {quoted(storage.key)} is missing: the file has no entry "
                               f"{quoted(folder + storage.key)}")
        if len(raw) != storage.nbytes:
            raise WeightsError(f"storage {quoted(storage.key)} should have {storage.numel} {storage.element} elements, "
                               f"{storage.nbytes} bytes, but its entry has {len(raw)}")
        return storage

    start, raw = entries[f"{root}data.pkl"]
    budget = Budget.for_file(len(data))
    machine = PickleMachine(data, start, start + len(raw), budget, TorchGlobals(budget).find, persistent_load)
    value = run(machine)
    if machine.at != machine.end:
        raise WeightsError(f"{machine.end - machine.at} bytes follow the end of its pickle")
    materialise = Materialiser.for_file(lambda storage: held[storage.key], order, len(data))
    return value, materialise, () if checked else (_NO_CHECKSUMS,)


class Storages(dict):
    """Key -> whole storage; a file must describe each storage consistently."""

    def add(self, storage: Storage) -> Storage:
        """Return the storage; torch uses the first description of a key for all others (unless it is empty)."""
        known = self.setdefault(storage.key, storage)
        if known != storage and (known.numel or storage.numel):
            raise WeightsError(f"storage {quoted(storage.key)} is described twice: as {known.numel} {known.element} "
                               f"elements and as {storage.numel} {storage.element} elements")
        return storage


def storage_of(saved_id, length: int) -> Storage:
    """The Storage of a persistent id, whose first five fields are the same in both torch formats."""
    if type(saved_id) is not tuple or len(saved_id) != length or saved_id[0] != "storage":
        shown = quoted(saved_id[0]) if type(saved_id) is tuple and saved_id else quoted(saved_id)
        raise WeightsError(f"a persistent id {shown} in its pickle: it must be 'storage' with {length} fields")
    _, cls, key, _, numel = saved_id[:5]
    if type(key) is not str or len(key) > MAX_KEY or type(numel) is not int or not 0 <= numel < LIMIT:
        raise WeightsError(f"storage {quoted(key)} has {quoted(numel)} elements: the key must be a string of at most "
                           f"{MAX_KEY} characters, the size a whole number of at least 0 and below 2**60")
    return Storage(key, storage_class(cls), numel)


def _directory(data: bytes) -> tuple[list[zipfile.ZipInfo], int]:
    """The entries listed in the directory at the end of the file, and where the directory begins."""
    _check_directory_size(data)
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
        return archive.infolist(), archive.start_dir
    except (zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, struct.error, ValueError, OverflowError,
            OSError) as error:
        raise WeightsError(f"it begins like a zip file, but its directory can't be read ({error}): it is truncated or "
                           "damaged; download it again") from None


def _check_directory_size(data: bytes):
    """Bound what `zipfile` will parse; a signature that occurs in a tensor by chance adds little."""
    count = lengths = 0
    at = data.find(_RECORD)
    while 0 <= at <= len(data) - 46:
        count, lengths = count + 1, lengths + sum(_LENGTHS.unpack_from(data, at))
        if count > MAX_ENTRIES or lengths > MAX_NAMES:
            raise WeightsError(f"its zip directory has more than {MAX_ENTRIES} entries, or names of more than "
                               f"{MAX_NAMES} bytes: no checkpoint of this network needs that")
        at = data.find(_RECORD, at + len(_RECORD))


def _entries(data: bytes, infos: list[zipfile.ZipInfo], directory: int) -> tuple[dict, bool]:
    """Verify every entry; returns (name -> (start, bytes), whether the file has CRCs)."""
    entries, end_of_last = {}, 0
    checked = any(info.CRC for info in infos)
    for info in sorted(infos, key=lambda info: info.header_offset):
        name = info.orig_filename
        if name in entries:
            raise WeightsError(f"zip entry {quoted(name)} appears twice")
        start = _data_start(data, info)
        if info.header_offset < end_of_last or start + info.file_size > directory:
            raise WeightsError(f"zip entry {quoted(name)} overlaps a different part of the file, or exceeds its end")
        end_of_last = start + info.file_size
        raw = memoryview(data)[start:end_of_last]
        entries[name] = start, raw
        if checked and zlib.crc32(raw) != info.CRC:
            raise WeightsError(f"zip entry {quoted(name)} does not match its CRC: the file is damaged; download it "
                               "again")
    return entries, checked


def _data_start(data: bytes, info: zipfile.ZipInfo) -> int:
    """Where an entry's data begins; checks its local header against the directory."""
    name = quoted(info.orig_filename)
    if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
        raise WeightsError(f"zip entry {name} is compressed ({info.compress_size} to {info.file_size} bytes): torch "
                           "stores its entries uncompressed, and only such entries are read; unpack the file and pack "
                           "it again with 'zip -0 -r', or load it in torch and save it again")
    if info.flag_bits & _ENCRYPTED:
        raise WeightsError(f"zip entry {name} is encrypted: torch does not encrypt")
    if not 0 <= info.header_offset <= len(data) - _LOCAL.size:
        raise WeightsError(f"zip entry {name} claims to begin at byte {info.header_offset} of {len(data)}")
    signature, name_length, extra_length = _LOCAL.unpack_from(data, info.header_offset)
    start = info.header_offset + _LOCAL.size
    if signature != b"PK\x03\x04" or _decoded(data[start : start + name_length], info) != info.orig_filename:
        raise WeightsError(f"zip entry {name} has a different name in its own header than in the directory")
    return start + name_length + extra_length


def _decoded(raw: bytes, info: zipfile.ZipInfo) -> str:
    return raw.decode("utf-8" if info.flag_bits & 0x800 else "cp437", "replace")


def _root(names: list[str]) -> str:
    """The directory of data.pkl, with its slash; raises WeightsError, with its kind, for any other zip file."""
    roots = [name.removesuffix("data.pkl") for name in names if name == "data.pkl" or name.endswith("/data.pkl")]
    root = roots[0] if roots else ""
    constants, code = f"{root}constants.pkl", f"{root}code/"
    if roots and any(name == constants or name.startswith(code) for name in names):
        raise WeightsError("it is a TorchScript program (torch.jit.save), not a checkpoint: load it in torch and save "
                           "only the weights, torch.save(model.state_dict(), 'model.pth')")
    if len(set(roots)) == 1:  # `_entries` refuses duplicates
        return root
    if roots:
        raise WeightsError(f"it has {len(roots)} entries 'data.pkl': a checkpoint has one")
    if names and all(name.endswith(".npy") for name in names):
        raise WeightsError("it is a NumPy archive (.npz), not a torch checkpoint: save the weights with torch.save")
    shown = quoted(next(iter(names), ""))
    raise WeightsError(f"it is a zip file without 'data.pkl' (its first entry is {shown}): not a checkpoint; if it "
                       "contains a packed checkpoint, unpack it first")
