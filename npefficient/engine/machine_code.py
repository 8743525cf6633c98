"""From LLVM IR to machine code, and from machine code to a function.

LLVM writes an object file, which names the symbols that it needs from the process that loads it. Ours may need only the
few functions below: LLVM itself inserts calls to them, and every process has them. It must not need Numba's helper
functions, which a process without Numba does not have. On x86-64 under Linux, an object file that needs nothing at all
is linked into an image that only has to be copied into memory (`elf.py`): then a start does not load LLVM, which takes
40 MB and 40 ms. Otherwise llvmlite loads the object file, as it does for Numba: it knows the formats of macOS (Mach-O)
and Windows (COFF), and how these systems let memory be executed.
"""
import ctypes
import mmap
import struct

from ..kernels.processor import target
from . import elf

ENTRY = "npefficient_run"
EVERYWHERE = {"_GLOBAL_OFFSET_TABLE_", "memcpy", "memmove", "memset", "fmaf"}
IMAGE = b"image of x86-64 code\n"  # then the entry's offset (int64) and the image


def emit(text: str, function: str) -> tuple[bytes, set[str]]:
    """Compile LLVM IR for this processor, with `function` renamed to ENTRY.

    Returns the code, and the symbols it needs that not every process has.
    """
    import llvmlite.binding as llvm

    module = llvm.parse_assembly(text)
    module.get_function(function).name = ENTRY
    code = target_machine(llvm).emit_object(module)
    if not code.startswith(elf.ELF64):  # macOS and Windows have other formats
        return code, _declared(module) - EVERYWHERE
    foreign, image = elf.undefined(code) - EVERYWHERE, elf.image(code, ENTRY)
    if image:
        content, entry = image
        code = IMAGE + struct.pack("<q", entry) + content
    return code, foreign


def optimised(text: str) -> str:
    """LLVM IR after LLVM's optimisation passes for this processor; what is to be inlined is."""
    import llvmlite.binding as llvm

    module = llvm.parse_assembly(text)
    passes = llvm.create_pass_builder(target_machine(llvm), llvm.create_pipeline_tuning_options(speed_level=3))
    passes.getModulePassManager().run(module, passes)
    return str(module)


def target_machine(llvm):
    """What LLVM compiles with for the processor of `processor.target`: position-independent code."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    name, features = target()
    return llvm.Target.from_triple(llvm.get_process_triple()).create_target_machine(
        cpu=name, features=features, opt=3, reloc="pic", codemodel="small", jit=True)


def _declared(module) -> set[str]:
    """The names that a module uses and does not define, before LLVM inserts calls of its own."""
    return {value.name for value in (*module.functions, *module.global_variables)
            if value.is_declaration and not value.name.startswith("llvm.")}


def load(code: bytes, arguments: int):
    """The function ENTRY of what `emit` returned, from `arguments` int64 to int64; a call releases Python's lock."""
    if code.startswith(IMAGE):
        return _load_image(code[len(IMAGE) :], arguments)
    import llvmlite.binding as llvm

    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), target_machine(llvm))
    engine.add_object_file(llvm.object_file.ObjectFileRef.from_data(code))
    engine.finalize_object()
    function = prototype(arguments)(engine.get_function_address(ENTRY))
    function.owner = engine  # the code lives as long as it can be called
    return function


def _load_image(code: bytes, arguments: int):
    """Copy an image into new memory, which is then executable and read-only (Linux alone). Raises OSError."""
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
