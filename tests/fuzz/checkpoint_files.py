"""Checkpoint files by a grammar: well-formed zip, legacy and safetensors files, whose numbers may be anything.

Random bytes and flipped bits rarely come past a checksum or a parser. These files are put together field by field as
their formats ask, and then some of the fields, none in many files, hold an extreme or a neighbouring value. The same
seed gives the same file.
"""
import json
import math
import random
import struct
import zlib

import checkpoints as by_hand

STORAGES = {"FloatStorage": 4, "DoubleStorage": 8, "HalfStorage": 2, "BFloat16Storage": 2, "LongStorage": 8,
            "IntStorage": 4, "ShortStorage": 2, "CharStorage": 1, "ByteStorage": 1, "BoolStorage": 1,
            "UntypedStorage": 1, "ComplexFloatStorage": 8, "QInt8Storage": 1}
DTYPES = {"float32": 4, "float64": 8, "float16": 2, "bfloat16": 2, "int64": 8, "int32": 4, "int16": 2, "int8": 1,
          "uint8": 1, "bool": 1, "uint16": 2, "uint32": 4, "uint64": 8, "complex64": 8, "float8_e4m3fn": 1}
CODES = {"F32": 4, "F64": 8, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "U16": 2, "U32": 4,
         "U64": 8, "BOOL": 1, "F8_E4M3": 1, "C64": 8}
EDGES = [power + step for bits in (7, 8, 15, 16, 31, 32, 52, 58, 59, 60, 61, 62, 63, 64, 80) for power in (1 << bits,)
         for step in (-1, 0, 1)]
FORMS = ("zip", "legacy", "safetensors")


class Grammar:
    """Makes one file; `wild` is the share of its fields that hold what they should not."""

    def __init__(self, seed):
        self.rng = random.Random(f"checkpoint {seed}")
        self.wild = self.rng.choice((0.0, 0.0, 0.01, 0.02, 0.05, 0.2))
        self.form = self.rng.choice(FORMS)
        self.kinds, self.raws = {}, {}  # storage key -> (class, elements), bytes

    def file(self) -> bytes:
        return {"zip": self.zip_file, "legacy": self.legacy_file, "safetensors": self.safetensors_file}[self.form]()

    # --- choices -----------------------------------------------------------------------------------------------------

    def chance(self, share: float) -> bool:
        return self.rng.random() < share

    def number(self, honest: int, bits: int | None = None) -> int:
        """The honest number, or an extreme or neighbouring one; `bits` is the width of an unsigned field."""
        if not self.chance(self.wild):
            return honest
        made = self.rng.choice((honest - 1, honest + 1, 2 * honest, honest // 2, -honest, 0, 1, 3,
                                self.rng.choice(EDGES), -self.rng.choice(EDGES)))
        return made if bits is None else made % (1 << bits)

    def one_of(self, honest, *others):
        return self.rng.choice(others) if self.chance(self.wild) else honest

    def bytes_near(self, raw: bytes) -> bytes:
        return self.one_of(raw, raw[:-1], raw + b"\0", raw[: len(raw) // 2], b"", raw + bytes(64))

    def repeated(self, items: list) -> list:
        """The items, or the same with one left out, doubled or moved."""
        items = list(items)
        if items and self.chance(self.wild):
            at = self.rng.randrange(len(items))
            items = self.rng.choice((items[:at] + items[at + 1:], items + [items[at]], items[at:] + items[:at]))
        return items

    # --- pickles -----------------------------------------------------------------------------------------------------

    def pickled(self, value: int) -> bytes:
        """A whole number by any opcode that holds it; sometimes something else."""
        if self.chance(self.wild / 4):
            return self.rng.choice((b"N", b"\x88", b")", b"]", by_hand.text("4"), b"G@\x10" + bytes(6), b"(K\x01t"))
        ways = [by_hand.number(value), by_hand.number(value), b"L%dL\n" % value]
        ways += [b"K" + bytes([value])] if 0 <= value < 1 << 8 else []
        ways += [b"M" + struct.pack("<H", value)] if 0 <= value < 1 << 16 else []
        ways += [b"J" + struct.pack("<i", value)] if -(1 << 31) <= value < 1 << 31 else []
        return self.rng.choice(ways)

    def numbers(self, values) -> bytes:
        values = [self.pickled(self.number(value)) for value in self.repeated(values)]
        opening, closing = self.one_of((b"(", b"t"), (b"](", b"e"))
        return opening + b"".join(values) + closing

    def shape(self) -> list[int]:
        extents = (0, 1, 2, 3, 5) if self.chance(0.2) else (1, 2, 3)
        return self.rng.choices(extents, k=self.rng.randrange(5))

    def tensor(self) -> bytes:
        """One tensor with a storage of its own, or in one that is there already."""
        shape, offset = self.shape(), self.rng.choice((0, 0, 0, 1, 3))
        order = self.rng.choice(("row", "row", "column", "expanded"))
        strides = [0 if order == "expanded" else math.prod(shape[i + 1:] if order == "row" else shape[:i])
                   for i in range(len(shape))]
        dtype = self.rng.choice(list(DTYPES)) if self.chance(0.3) else None
        ends = offset + 1 + sum((n - 1) * s for n, s in zip(shape, strides)) if all(shape) else offset
        held = self.storage(ends, DTYPES.get(dtype))
        fields = [held, self.pickled(self.number(offset)), self.numbers(shape), self.numbers(strides)]
        if dtype is None and self.chance(0.1):
            return by_hand.call("torch._utils", "_rebuild_tensor", *fields)
        fields += [b"\x89", by_hand.call("collections", "OrderedDict")]
        fields += [by_hand.name("torch", self.one_of(dtype, *DTYPES, "FloatStorage"))] if dtype else []
        fields += [self.one_of(b"N", b"}", by_hand.dictionary({"neg": b"\x88"}))] if self.chance(0.1) else []
        made = by_hand.call("torch._utils", "_rebuild_tensor_v3" if dtype else "_rebuild_tensor_v2", *fields)
        if self.chance(0.1):
            made = by_hand.call("torch._utils", "_rebuild_parameter", made, b"\x89",
                                by_hand.call("collections", "OrderedDict"))
        return made

    def storage(self, ends: int, width: int | None) -> bytes:
        """The persistent id of a storage that holds `ends` elements of `width` bytes (its own where None)."""
        kinds = list(STORAGES)[: 11 if self.chance(0.9) else None]
        kind = self.rng.choice(kinds) if width is None or self.chance(0.5) else "UntypedStorage"
        size = -(-ends * (width or STORAGES[kind]) // STORAGES[kind]) + self.rng.choice((0, 0, 0, 2))
        before = self.rng.randrange(4) if self.form == "legacy" and self.chance(0.3) else None
        key, numel = str(len(self.kinds)), size + (before or 0)
        known = [k for k, (other, held) in self.kinds.items() if other == kind and held >= numel]
        if known and self.chance(0.3):
            key = self.rng.choice(known)
        kind, numel = self.kinds.setdefault(key, (kind, numel))
        self.raws.setdefault(key, self.rng.randbytes(numel * STORAGES[kind]))
        view = b"N" if before is None else by_hand.tuple_of(
            by_hand.text(self.one_of(f"view of {key} {before} {size}", "v", key)), self.pickled(self.number(before)),
            self.pickled(self.number(size)))
        return by_hand.tuple_of(
            by_hand.text(self.one_of("storage", "module")), by_hand.name("torch", self.one_of(kind, *STORAGES)),
            by_hand.text(self.one_of(key, *self.kinds, "99", "../" + key, "k" * 300)), by_hand.text("cpu"),
            self.pickled(self.number(numel)), *((view,) if self.form == "legacy" else ())) + b"Q"

    def object(self) -> bytes:
        """The state_dict, bare or under a key, with tensors that come again through the memo."""
        prefix = "module." if self.chance(0.1) else ""
        entries = []
        for i in range(self.rng.randrange(1, 4)):
            entries.append((f"{prefix}t{i}", self.tensor() + b"q" + bytes([i])))
            if self.chance(0.2):
                entries.append((f"{prefix}again{i}", b"h" + bytes([self.number(i, 8)])))
        state = b"}(" + b"".join(by_hand.text(key) + value for key, value in self.repeated(entries)) + b"u"
        if self.chance(0.2):
            state = by_hand.dictionary({"state_dict": state, "epoch": self.pickled(self.number(3))})
        return by_hand.program(state)

    # --- the zip form ------------------------------------------------------------------------------------------------

    def zip_file(self) -> bytes:
        pickle, root = self.object(), self.rng.choice(("archive", "model"))
        order = self.one_of(self.rng.choice((b"little", b"little", b"little", b"big")), b"middle", b"")
        entries = [("data.pkl", pickle)] + ([("byteorder", order)] if self.chance(0.8) else [])
        entries += [(f"data/{key}", self.bytes_near(raw)) for key, raw in self.raws.items()] + [("version", b"3\n")]
        return self.zipped([(f"{root}/{name}".encode(), raw) for name, raw in self.repeated(entries)])

    def zipped(self, entries: list[tuple[bytes, bytes]]) -> bytes:
        """PKWARE's APPNOTE 4.3.7, 4.3.12 to 4.3.16; with the 64-bit fields of 4.5.3 in some files."""
        made, directory, no_crc, wide = bytearray(), bytearray(), self.chance(0.1), self.chance(0.2)
        for name, raw in entries:
            at, extra = len(made), bytes(self.rng.choice((0, 0, 8)))
            crc, size = 0 if no_crc else zlib.crc32(raw), len(raw)
            made += struct.pack("<4s5H3I2H", b"PK\3\4", 20, self.number(0, 16), self.number(0, 16), 0, 33,
                                self.number(crc, 32), self.number(size, 32), self.number(size, 32),
                                self.number(len(name), 16), self.number(len(extra), 16)) + name + extra + raw
            sizes, place, more = [size, size], at, b""
            if wide:
                more = struct.pack("<2H3Q", self.number(1, 16), self.number(24, 16), self.number(size, 64),
                                   self.number(size, 64), self.number(at, 64))
                sizes, place = [0xFFFFFFFF] * 2, 0xFFFFFFFF
            directory += struct.pack("<4s6H3I5H2I", b"PK\1\2", 20, self.number(20, 16), self.number(0, 16),
                                     self.number(0, 16), 0, 33, self.number(crc, 32), self.number(sizes[0], 32),
                                     self.number(sizes[1], 32), self.number(len(name), 16), self.number(len(more), 16),
                                     self.number(0, 16), 0, 0, 0, self.number(place, 32)) + name + more
        at, count = len(made), len(entries)
        made += directory
        if wide:
            made += struct.pack("<4sQ2H2I4Q", b"PK\6\6", self.number(44, 64), 45, 45, 0, 0, self.number(count, 64),
                                self.number(count, 64), self.number(len(directory), 64), self.number(at, 64))
            made += struct.pack("<4sIQI", b"PK\6\7", self.number(0, 32), self.number(at + len(directory), 64),
                                self.number(1, 32))
        return bytes(made) + struct.pack("<4s4H2IH", b"PK\5\6", self.number(0, 16), 0, self.number(count, 16),
                                         self.number(count, 16), self.number(len(directory), 32), self.number(at, 32),
                                         self.number(0, 16))

    # --- the other forms ---------------------------------------------------------------------------------------------

    def legacy_file(self) -> bytes:
        pickle, little = self.object(), self.chance(0.8)
        size_order = "<" if little or self.chance(0.3) else ">"
        tail = b"".join(struct.pack(size_order + "Q", self.number(self.kinds[key][1], 64)) + self.bytes_near(raw)
                        for key, raw in self.raws.items())
        keys = b"](" + b"".join(by_hand.text(key) for key in self.repeated(list(self.raws))) + b"e"
        head = by_hand.legacy_file(pickle, (), keys=keys, magic=self.number(by_hand.MAGIC_NUMBER),
                                   version=self.number(1001), little=little)
        return head + tail + (bytes(self.rng.randrange(20)) if self.chance(0.1) else b"")

    def safetensors_file(self) -> bytes:
        entries, at = [], 0
        for i in range(self.rng.randrange(1, 4)):
            shape, code = self.shape(), self.rng.choice(list(CODES)[: 13 if self.chance(0.95) else None])
            size = math.prod(shape) * CODES[code]
            entry = {"dtype": self.one_of(code, *CODES), "shape": [self.number(n) for n in self.repeated(shape)],
                     "data_offsets": [self.number(at), self.number(at + size)]}
            entries.append((f"t{i}", self.one_of(entry, 3, None, [], {**entry, "strides": [1]})))
            at += size
        if self.chance(0.3):
            entries.append(("__metadata__", self.one_of({"format": "pt"}, 3, {"epoch": 3}, [])))
        text = "{" + ",".join(f"{json.dumps(name)}:{json.dumps(entry)}" for name, entry in self.repeated(entries)) + "}"
        raw = text.encode() + b" " * self.rng.choice((0, -len(text) % 8))
        return struct.pack("<Q", self.number(len(raw), 64)) + raw + self.bytes_near(self.rng.randbytes(at))
