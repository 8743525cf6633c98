"""From LLVM's text to machine code, and from machine code to a function.

LLVM writes an object file, which names what it expects to find in the process that loads it. Ours may expect nothing
but the few functions below, which LLVM calls on its own account and every process has: what Numba provides is not there
in a process without Numba. Where it expects nothing at all, on x86 under Linux, it is made into an image that only has
to be copied into memory: then a start needs no LLVM, which takes 40 MB and as many milliseconds to load. Else llvmlite
loads the object file.
"""
import ctypes
import mmap
import struct
import sys

from ..kernels.processor import target

ENTRY = "npefficient_run"
EVERYWHERE = {"_GLOBAL_OFFSET_TABLE_", "memcpy", "memmove", "memset", "fmaf"}
IMAGE = b"image of x86-64 code\n"  # then the entry's offset (int64) and the image
ELF64 = b"\x7fELF\2\1"  # 64 bits, little-endian


def emit(text: str, function: str) -> tuple[bytes, set[str]]:
    """Compile LLVM's text for this processor, `function` under the name ENTRY.

    Returns the code, and what it expects to find that not every process has.
    """
    import llvmlite.binding as llvm

    module = llvm.parse_assembly(text)
    module.get_function(function).name = ENTRY
    code = _machine(llvm).emit_object(module)
    foreign = (undefined(code) if code.startswith(ELF64) else _declared(module)) - EVERYWHERE
    return (image(code) if code.startswith(ELF64) else None) or code, foreign


def _machine(llvm):
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    name, features = target()
    return llvm.Target.from_triple(llvm.get_process_triple()).create_target_machine(
        cpu=name, features=features, opt=3, reloc="pic", codemodel="small", jit=True)


def _sections(code: bytes) -> list[tuple]:
    """(name, type, flags, address, offset, size, link, info, alignment, size of an entry) of each section (ELF)."""
    start, = struct.unpack_from("<Q", code, 40)
    size, count = struct.unpack_from("<HH", code, 58)
    return [struct.unpack_from("<IIQQQQIIQQ", code, start + i * size) for i in range(count)]


def _symbols(code: bytes, sections) -> list[tuple[str, int, int]]:
    """(name, section, offset in the section) of each symbol; section 0 stands for undefined ones."""
    symbols = []
    for _, kind, _, _, offset, length, link, _, _, entry in sections:
        if kind != 2:  # not a table of symbols
            continue
        text = sections[link][4]  # where the names lie that the table refers to
        for at in range(offset, offset + length, entry):
            name, _, _, section, value = struct.unpack_from("<IBBHQ", code, at)
            symbols.append((code[text + name : code.index(b"\0", text + name)].decode(), section, value))
    return symbols


def undefined(code: bytes) -> set[str]:
    """The names that an object file uses and does not define."""
    return {name for name, section, _ in _symbols(code, _sections(code)) if name and section == 0}


def _declared(module) -> set[str]:
    """The names that a module uses and does not define: the same, before LLVM adds calls on its own account."""
    return {value.name for value in (*module.functions, *module.global_variables)
            if value.is_declaration and not value.name.startswith("llvm.")}


def image(code: bytes) -> bytes | None:
    """An object file as one piece that runs wherever it lies; None where it is not for x86-64 under Linux, or refers to
    anything outside of itself or by its place in memory."""
    if sys.platform != "linux" or struct.unpack_from("<H", code, 18)[0] != 62:  # the machine
        return None
    sections = _sections(code)
    symbols = _symbols(code, sections)
    content, starts = bytearray(), {}
    for i, (_, kind, flags, _, offset, size, _, _, alignment, _) in enumerate(sections):
        if kind == 1 and flags & 2 and size:  # content that is part of the running program
            content.extend(bytes(-len(content) % max(1, alignment)))
            starts[i] = len(content)
            content.extend(code[offset : offset + size])
    for _, kind, _, _, offset, length, _, changed, _, entry in sections:
        if kind != 4 or changed not in starts:  # not a table of relocations, or of a part that is left out
            continue
        for at in range(offset, offset + length, entry):
            place, what, addend = struct.unpack_from("<QQq", code, at)
            _, section, value = symbols[what >> 32]
            if what & 0xFFFFFFFF not in (2, 4) or section not in starts:  # distances of 32 bits: R_X86_64_PC32, _PLT32
                return None
            place += starts[changed]
            struct.pack_into("<i", content, place, starts[section] + value + addend - place)
    entry, = (starts[section] + value for name, section, value in symbols if name == ENTRY)
    return IMAGE + struct.pack("<q", entry) + content


def load(code: bytes, arguments: int):
    """The function ENTRY of what `emit` returned, from `arguments` int64 to int64; a call lets other threads run."""
    if code.startswith(IMAGE):
        return _load_image(code[len(IMAGE) :], arguments)
    import llvmlite.binding as llvm

    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), _machine(llvm))
    engine.add_object_file(llvm.object_file.ObjectFileRef.from_data(code))
    engine.finalize_object()
    function = prototype(arguments)(engine.get_function_address(ENTRY))
    function.owner = engine  # the code lives as long as it can be called
    return function


def _load_image(code: bytes, arguments: int):
    """Copy an image into memory of its own, which can be run and not be written from then on. Raises OSError."""
    entry, = struct.unpack_from("<q", code)
    memory = mmap.mmap(-1, len(code) - 8, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, mmap.PROT_READ | mmap.PROT_WRITE)
    memory[:] = code[8:]
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    mprotect = ctypes.CDLL(None, use_errno=True).mprotect
    if mprotect(ctypes.c_void_p(start), ctypes.c_size_t(len(memory)), mmap.PROT_READ | mmap.PROT_EXEC):
        raise OSError(ctypes.get_errno(), "memory can't be made executable")
    function = prototype(arguments)(start + entry)
    function.owner = memory
    return function


def prototype(arguments: int):
    """The ctypes type of a function from `arguments` int64 to int64."""
    return ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * arguments)
