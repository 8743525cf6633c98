"""From LLVM's text to an object file, and from an object file to a function, by llvmlite alone.

An object file names what it expects to find in the process that loads it. Ours may expect nothing but the few functions
below, which LLVM calls on its own account and every process has: what Numba provides is not there in a process without
Numba, and LLVM ends a process in which a name can't be found.
"""
import ctypes
import os
import struct

import llvmlite.binding as llvm

ENTRY = "npefficient_run"
EVERYWHERE = {"_GLOBAL_OFFSET_TABLE_", "memcpy", "memmove", "memset", "fmaf"}


def processor() -> tuple[str, str]:
    """LLVM's name for this processor, and its features as "+avx2,-avx512f,..".

    As in Numba, the environment's NUMBA_CPU_NAME and NUMBA_CPU_FEATURES go before.
    """
    name = os.environ.get("NUMBA_CPU_NAME") or llvm.get_host_cpu_name()
    features = os.environ.get("NUMBA_CPU_FEATURES")
    if features is None:
        features = "" if name == "generic" else _host_features()
    return name, features


def _host_features() -> str:
    try:
        return llvm.get_host_cpu_features().flatten()
    except RuntimeError:  # LLVM can't tell on this platform: the name alone decides
        return ""


def emit(text: str, function: str) -> tuple[bytes, set[str]]:
    """Compile LLVM's text for this processor, `function` under the name ENTRY.

    Returns the object file, and what it expects to find that not every process has.
    """
    machine = _machine(*processor())
    module = llvm.parse_assembly(text)
    module.get_function(function).name = ENTRY
    code = machine.emit_object(module)
    return code, (undefined(code) if code.startswith(b"\x7fELF\2\1") else _declared(module)) - EVERYWHERE


def _machine(name: str, features: str):
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    target = llvm.Target.from_triple(llvm.get_process_triple())
    return target.create_target_machine(cpu=name, features=features, opt=3, reloc="pic", jit=True)


def undefined(code: bytes) -> set[str]:
    """The names that an object file (ELF, 64 bits, little-endian) uses and does not define."""
    start, = struct.unpack_from("<Q", code, 40)
    size, count = struct.unpack_from("<HH", code, 58)
    sections = [struct.unpack_from("<IIQQQQIIQQ", code, start + i * size) for i in range(count)]
    names = set()
    for _, kind, _, _, offset, length, link, _, _, entry in sections:
        if kind != 2:  # not a table of symbols
            continue
        text = sections[link][4]  # where the names lie that the table refers to
        for symbol in range(offset, offset + length, entry):
            name, _, _, section = struct.unpack_from("<IBBH", code, symbol)
            if name and section == 0:
                names.add(code[text + name : code.index(b"\0", text + name)].decode())
    return names


def _declared(module) -> set[str]:
    """The names that a module uses and does not define: the same, before LLVM adds calls on its own account."""
    return {value.name for value in (*module.functions, *module.global_variables)
            if value.is_declaration and not value.name.startswith("llvm.")}


def load(code: bytes, arguments: int):
    """The function ENTRY of an object file, from `arguments` int64 to int64; a call lets other Python threads run."""
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), _machine(*processor()))
    engine.add_object_file(llvm.object_file.ObjectFileRef.from_data(code))
    engine.finalize_object()
    function = prototype(arguments)(engine.get_function_address(ENTRY))
    function.owner = engine  # the code lives as long as it can be called
    return function


def prototype(arguments: int):
    """The ctypes type of a function from `arguments` int64 to int64."""
    return ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * arguments)
