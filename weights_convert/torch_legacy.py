"""The stream form of a torch checkpoint (torch < 1.6, or `_use_new_zipfile_serialization=False`).

Five pickles in a row: a magic number, the protocol 1001, facts on the writing machine, the object, the list of storage
keys. Then for every key, in that order: the number of elements (int64) and the raw elements. There is no checksum.
A storage is a persistent id ('storage', class, key, location, numel, view); `view` is None or (key, offset, size).

Byte order: torch writes and reads this form as little-endian on every machine (storage `_write_file`) and ignores the
`little_endian` of the machine's facts. A writer that took it literally is told by the element counts, which must
agree with the pickle. Source: torch/serialization.py `_legacy_load`.
"""
import struct

from npefficient.errors import WeightsError
from npefficient.text import listed, quoted

from .pickle_machine import PickleMachine
from .pickle_opcodes import run
from .pickle_values import Budget
from .tensors import Storage, check_numbers
from .torch_globals import TorchGlobals
from .torch_zip import storage_of

MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
PROTOCOL_VERSION = 1001


def read_legacy(data: bytes):
    """Read a legacy stream; returns (object, byte order "<" or ">", function from a Storage to its bytes)."""
    budget = Budget.for_file(len(data))
    storages: dict[str, Storage] = {}  # the whole storage under each key

    def persistent_load(saved_id) -> Storage:
        whole = storage_of(saved_id, 6)
        if storages.setdefault(whole.key, whole) != whole:
            known = storages[whole.key]
            raise WeightsError(f"storage {quoted(whole.key)} is once {known.numel} {known.element}, once {whole.numel} "
                               f"{whole.element} elements")
        return _view_of(whole, saved_id[5])

    machine = PickleMachine(data, 0, budget, TorchGlobals(budget).find)
    _expect(run(machine), MAGIC_NUMBER, "magic number")
    _expect(run(machine), PROTOCOL_VERSION, "protocol version")
    facts = run(machine)
    machine.memo, machine.persistent_load = [], persistent_load
    value = run(machine)
    machine.memo, machine.persistent_load = [], None
    keys = run(machine)
    _check_keys(keys, storages)
    literal_big = isinstance(facts, dict) and facts.get("little_endian") is False
    order = _byte_order(data, machine.at, keys, storages) if literal_big else "<"
    places = _places(data, machine.at, keys, storages, order)
    return value, order, lambda storage: places[storage.key]


def _expect(value, expected: int, what: str):
    if type(value) is not int or value != expected:
        raise WeightsError(f"it is a pickle whose {what} is {quoted(value)} instead of {expected}: not written by "
                           "torch.save; load it with the program that wrote it and save the state_dict with torch.save")


def _view_of(whole: Storage, view) -> Storage:
    if view is None:
        return whole
    if type(view) is not tuple or len(view) != 3:
        raise WeightsError(f"storage {quoted(whole.key)} has the view {quoted(view)}: it must be (key, offset, size)")
    offset, size = check_numbers("view of a storage", view[1:])
    if offset + size > whole.numel:
        raise WeightsError(f"a view of {size} elements from {offset} on leaves storage "
                           f"{quoted(whole.key)}, which has {whole.numel}")
    return Storage(whole.key, whole.element, whole.numel, (offset, size))


def _check_keys(keys, storages: dict[str, Storage]):
    if type(keys) is not list or not all(type(key) is str for key in keys) or sorted(keys) != sorted(storages):
        shown = listed(keys) if type(keys) is list else quoted(keys)
        raise WeightsError(f"its list of storages ({shown}) is not the list of those its tensors use "
                           f"({listed(sorted(storages))})")


def _byte_order(data: bytes, at: int, keys, storages: dict[str, Storage]) -> str:
    """The order in which the first storage that is not empty has its element count."""
    for key in keys:
        if storages[key].numel:
            return ">" if data[at : at + 8] == struct.pack(">q", storages[key].numel) else "<"
        at += 8
    return "<"


def _places(data: bytes, at: int, keys, storages: dict[str, Storage], order: str) -> dict[str, memoryview]:
    """Each storage's bytes behind the pickles, from byte `at` on."""
    places = {}
    for key in keys:
        storage, head = storages[key], data[at : at + 8]
        if len(head) < 8:
            raise WeightsError(f"it is cut off before storage {quoted(key)}: {len(head)} of 8 bytes; fetch it again")
        (numel,) = struct.unpack(order + "q", head)
        if numel != storage.numel:
            raise WeightsError(f"storage {quoted(key)} has {numel} elements in the data, but {storage.numel} in "
                               "the pickle")
        at += 8
        places[key] = memoryview(data)[at : at + storage.nbytes]
        if len(places[key]) < storage.nbytes:
            raise WeightsError(f"it is cut off within storage {quoted(key)}: {len(places[key])} of {storage.nbytes} "
                               "bytes; fetch it again")
        at += storage.nbytes
    if at != len(data):
        raise WeightsError(f"{len(data) - at} bytes follow the last storage: the file is damaged, or two were joined")
    return places
