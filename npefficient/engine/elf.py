"""ELF object files: the symbols they refer to, and linking one into an image that only has to be copied.

The format is specified in the System V ABI, chapter 4, and for x86-64 in its processor supplement (the relocations).
`man 5 elf` summarises it, with the names used here.
"""
import struct
import sys

ELF64 = b"\x7fELF\2\1"  # 64 bits, little-endian
X86_64 = 62  # e_machine: EM_X86_64
PROGBITS, SYMTAB, RELA = 1, 2, 4  # sh_type: SHT_*
ALLOC = 2  # sh_flags: SHF_ALLOC, part of the running program
DISTANCES = 2, 4  # r_type: R_X86_64_PC32 and _PLT32, 32 bits relative to the place itself: position-independent


def _sections(code: bytes) -> list[tuple]:
    """(name, type, flags, address, offset, size, link, info, alignment, size of an entry) of each section."""
    start, = struct.unpack_from("<Q", code, 40)
    size, count = struct.unpack_from("<HH", code, 58)
    return [struct.unpack_from("<IIQQQQIIQQ", code, start + i * size) for i in range(count)]


def _symbols(code: bytes, sections) -> list[tuple[str, int, int]]:
    """(name, section, offset in the section) of each symbol; section 0 means undefined."""
    symbols = []
    for _, kind, _, _, offset, length, link, _, _, entry in sections:
        if kind != SYMTAB:
            continue
        text = sections[link][4]  # the string table with the names
        for at in range(offset, offset + length, entry):
            name, _, _, section, value = struct.unpack_from("<IBBHQ", code, at)
            symbols.append((code[text + name : code.index(b"\0", text + name)].decode(), section, value))
    return symbols


def undefined(code: bytes) -> set[str]:
    """The names that an object file uses and does not define."""
    return {name for name, section, _ in _symbols(code, _sections(code)) if name and section == 0}


def image(code: bytes, entry: str) -> tuple[bytes, int] | None:
    """Link an object file into one position-independent piece; returns it and the offset of the function `entry`.

    None if it is not for x86-64 under Linux, or if it has external or absolute references.
    """
    if sys.platform != "linux" or struct.unpack_from("<H", code, 18)[0] != X86_64:
        return None
    sections = _sections(code)
    symbols = _symbols(code, sections)
    content, starts = bytearray(), {}
    for i, (_, kind, flags, _, offset, size, _, _, alignment, _) in enumerate(sections):
        if kind == PROGBITS and flags & ALLOC and size:
            content.extend(bytes(-len(content) % max(1, alignment)))
            starts[i] = len(content)
            content.extend(code[offset : offset + size])
    for _, kind, _, _, offset, length, _, changed, _, size in sections:
        if kind != RELA or changed not in starts:  # or for a section that is left out, such as debug info
            continue
        for at in range(offset, offset + length, size):
            place, what, addend = struct.unpack_from("<QQq", code, at)
            _, section, value = symbols[what >> 32]
            if what & 0xFFFFFFFF not in DISTANCES or section not in starts:
                return None
            place += starts[changed]
            struct.pack_into("<i", content, place, starts[section] + value + addend - place)
    start, = (starts[section] + value for name, section, value in symbols if name == entry)
    return bytes(content), start
