"""The legacy stream format of torch checkpoints (torch < 1.6, or `_use_new_zipfile_serialization=False`).

Five pickles in a row: a magic number, the protocol 1001, information about the writing machine, the object, and the
list of storage keys. Then for every key, in that order: the number of elements (int64) and the raw elements. There is
no checksum. A storage is a persistent id ('storage', class, key, location, numel, view); `view` is None or (key,
offset, size), in elements of the class, whatever the element type of the tensor in it. torch.load ignores anything
after the last storage: more objects may follow in the stream.

Byte order: torch writes and reads this format as little-endian on every machine (storage `_write_file`) and ignores the
`little_endian` entry about the machine. A file from a writer that obeyed it is recognised by its element counts, which
must match the pickle. Source: torch/serialization.py `_legacy_load`.
"""
import struct

from npefficient.common.text import listed, quoted
from npefficient.errors import WeightsError

from .pickle_machine import PickleMachine
from .pickle_opcodes import run
from .pickle_values import Budget
from .tensors import Materialiser, Storage, check_numbers
from .torch_globals import TorchGlobals
from .torch_zip import MAX_KEY, Storages, storage_of

MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
PROTOCOL_VERSION = 1001


def read_legacy(data: bytes):
    """Read a legacy stream; returns (object, Materialiser for its tensors, warnings for the user)."""
    budget = Budget.for_file(len(data))
    storages, views = Storages(), {}

    def persistent_load(saved_id) -> Storage:
        whole, view = storages.add(storage_of(saved_id, 6)), saved_id[5]
        return whole if view is None else _view_of(whole, view, views)

    machine = PickleMachine(data, 0, len(data), budget, TorchGlobals(budget).find)
    _expect(run(machine), MAGIC_NUMBER, "magic number")
    _expect(run(machine), PROTOCOL_VERSION, "protocol version")
    facts = run(machine)
    machine.memo, machine.persistent_load = [], persistent_load
    value = run(machine)
    machine.memo, machine.persistent_load = [], None
    keys = run(machine)
    _check_keys(keys, storages, views)
    literal_big = isinstance(facts, dict) and facts.get("little_endian") is False
    order = _byte_order(data, machine.at, keys, storages) if literal_big else "<"
    places, end = _places(data, machine.at, keys, storages, order)
    warnings = (f"{len(data) - end} bytes follow the last storage: they are ignored, as in torch.load",)
    materialise = Materialiser.for_file(lambda storage: places[storage.key], order, len(data))
    return value, materialise, warnings if end < len(data) else ()


def _expect(value, expected: int, what: str):
    if type(value) is not int or value != expected:
        raise WeightsError(f"it is a pickle with the {what} {quoted(value)} instead of {expected}: torch.save did not "
                           "write it; load it with the program that did, and save the state_dict with torch.save")


def _view_of(whole: Storage, view, views: dict[str, Storage]) -> Storage:
    if type(view) is not tuple or len(view) != 3 or type(view[0]) is not str or len(view[0]) > MAX_KEY:
        raise WeightsError(f"storage {quoted(whole.key)} has the view {quoted(view)}: it must be (key, offset, size), "
                           f"and the key a string of at most {MAX_KEY} characters")
    offset, size = check_numbers("view of a storage", view[1:])
    if offset + size > whole.numel:
        raise WeightsError(f"a view of {size} elements from element {offset} exceeds storage {quoted(whole.key)}, "
                           f"which has {whole.numel}")
    made = Storage(whole.key, whole.element, whole.numel, (offset, size))
    known = views.setdefault(view[0], made)
    if known != made:
        raise WeightsError(f"the view {quoted(view[0])} is defined twice: as {known.view} of storage "
                           f"{quoted(known.key)} and as {made.view} of {quoted(made.key)}")
    return made


def _check_keys(keys, storages: dict[str, Storage], views: dict[str, Storage]):
    if type(keys) is not list or not all(type(key) is str for key in keys) or len(keys) != len(storages) \
            or set(keys) != storages.keys():
        shown = listed(keys) if type(keys) is list else quoted(keys)
        raise WeightsError(f"its list of storages ({shown}) does not match those that its tensors use "
                           f"({listed(storages)})")
    both = views.keys() & storages.keys()
    if both:
        raise WeightsError(f"{listed(both)} names both a storage and a view of one: their keys must differ")


def _byte_order(data: bytes, at: int, keys, storages: dict[str, Storage]) -> str:
    """The byte order in which the element count of the first nonempty storage is right."""
    for key in keys:
        if storages[key].numel:
            return ">" if data[at : at + 8] == struct.pack(">q", storages[key].numel) else "<"
        at += 8
    return "<"


def _places(data: bytes, at: int, keys, storages: dict[str, Storage], order: str) -> tuple[dict[str, memoryview], int]:
    """The bytes of each storage after the pickles, from byte `at` on, and the end of the last one."""
    places = {}
    for key in keys:
        storage, head = storages[key], data[at : at + 8]
        if len(head) < 8:
            raise WeightsError(f"it is truncated before storage {quoted(key)}: {len(head)} of 8 bytes; download it "
                               "again")
        (numel,) = struct.unpack(order + "q", head)
        if numel != storage.numel:
            raise WeightsError(f"storage {quoted(key)} has {numel} elements in the data, but {storage.numel} in "
                               "the pickle")
        at += 8
        places[key] = memoryview(data)[at : at + storage.nbytes]
        if len(places[key]) < storage.nbytes:
            raise WeightsError(f"it is truncated within storage {quoted(key)}: {len(places[key])} of {storage.nbytes} "
                               "bytes; download it again")
        at += storage.nbytes
    return places, at
