"""The names that an object file needs from elsewhere, for the two formats that the package itself does not read.

COFF (Windows): Microsoft's "PE Format", "COFF Symbol Table". Mach-O (macOS): <mach-o/loader.h> and <mach-o/nlist.h>. In
both, a symbol without a section and with a size is a common one: the loader makes room for it.
"""
import struct

MACHO64, LC_SYMTAB, N_TYPE = 0xFEEDFACF, 2, 0x0E


def undefined_coff(code: bytes) -> set[str]:
    start, count = struct.unpack_from("<II", code, 8)
    strings, found, number = start + 18 * count, set(), 0
    while number < count:
        name, value, section, _, _, more = struct.unpack_from("<8sIhHBB", code, start + 18 * number)
        if section == value == 0:
            found.add(_text(code, strings + struct.unpack("<4xI", name)[0]) if name[:4] == bytes(4) else
                      name.rstrip(b"\0").decode())
        number += 1 + more
    return found


def undefined_macho(code: bytes) -> set[str]:
    """Without the underscore that every name of C begins with there."""
    magic, commands, at, found = *struct.unpack_from("<I12xI", code), 32, set()
    assert magic == MACHO64
    for _ in range(commands):
        kind, size, start, count, strings = struct.unpack_from("<IIIII", code, at)
        if kind == LC_SYMTAB:
            for place in range(start, start + 16 * count, 16):
                name, kind, _, _, value = struct.unpack_from("<IBBHQ", code, place)
                if kind & N_TYPE == value == 0:
                    found.add(_text(code, strings + name).removeprefix("_"))
        at += size
    return found


def _text(code: bytes, at: int) -> str:
    return code[at : code.index(b"\0", at)].decode()
