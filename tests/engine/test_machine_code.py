"""From LLVM's text to a function: a position-independent image or llvmlite's own loading, with the same results."""
import ctypes
import platform
import re
import struct
import sys
from pathlib import Path

import llvmlite.binding as llvm
import numpy as np
import pytest
from object_files import undefined_coff, undefined_macho

from npefficient.engine import compiler, elf, machine_code
from npefficient.engine import engine as engine_module
from npefficient.engine.engine import Engine
from npefficient.kernels.layout import FLOAT32
from npefficient.network import architecture
from npefficient.network.parameters import random_weights

images = pytest.mark.skipif(sys.platform != "linux" or platform.machine() != "x86_64", reason="images: Linux on x86")

SUM = "define i64 @sum(i64 %a, i64 %b) {\n %c = add i64 %a, %b\n ret i64 %c\n}"
CALL = """
declare i64 @{callee}(i64)
define i64 @sum(i64 %a, i64 %b) {{
  %c = call i64 @{callee}(i64 %b)
  %d = add i64 %a, %c
  ret i64 %d
}}
"""
FMA = """
declare float @llvm.fma.f32(float, float, float)
define float @fma(float %a, float %b) {
  %c = call float @llvm.fma.f32(float %a, float %b, float %a)
  ret float %c
}
"""
# A table of constants, a jump table, a float constant and a call within.
MANY = """
@table = internal constant [4 x i64] [i64 3, i64 1, i64 4, i64 1], align 64
define internal i64 @inner(i64 %x) noinline {
  switch i64 %x, label %other [i64 0, label %a
    i64 1, label %b
    i64 2, label %c
    i64 3, label %d
    i64 4, label %e]
a: ret i64 100
b: ret i64 -7
c: %q = mul i64 %x, %x
  ret i64 %q
d: %r = sitofp i64 %x to double
  %s = fmul double %r, 2.5
  %t = fptosi double %s to i64
  ret i64 %t
e: ret i64 5
other: ret i64 %x
}
define i64 @many(i64 %a, i64 %b) {
  %i = and i64 %a, 3
  %p = getelementptr [4 x i64], ptr @table, i64 0, i64 %i
  %v = load i64, ptr %p
  %w = call i64 @inner(i64 %b)
  %y = mul i64 %v, 1000
  %z = add i64 %y, %w
  ret i64 %z
}
"""
ABSOLUTE = """
define internal i64 @one(i64 %x) { ret i64 1 }
define internal i64 @two(i64 %x) { ret i64 2 }
@functions = internal global [2 x ptr] [ptr @one, ptr @two]
define i64 @pick(i64 %a, i64 %b) {
  %p = getelementptr [2 x ptr], ptr @functions, i64 0, i64 %a
  %f = load volatile ptr, ptr %p
  %r = call i64 %f(i64 %b)
  ret i64 %r
}
"""


@pytest.mark.parametrize("callee", ["numba_gil_ensure", "NRT_MemInfo_call_dtor"])
def test_emit_finds_what_numba_alone_provides(callee):
    code, foreign = machine_code.emit(CALL.format(callee=callee), "sum")
    assert foreign == {callee} and not code.startswith(machine_code.IMAGE)
    assert machine_code._declared(llvm.parse_assembly(CALL.format(callee=callee))) == {callee}


@images
def test_image_and_object_file_compute_the_same(monkeypatch):
    """Constants, jump tables and calls are found wherever the image is loaded."""
    code, foreign = machine_code.emit(MANY, "many")
    assert foreign == set() and code.startswith(machine_code.IMAGE)
    with monkeypatch.context() as patch:
        patch.setattr(elf, "image", lambda code, entry: None)
        object_file, _ = machine_code.emit(MANY, "many")
    assert object_file.startswith(elf.ELF64)
    functions = [machine_code.load(code, 2), machine_code.load(object_file, 2), machine_code.load(code, 2)]
    assert len({ctypes.cast(function, ctypes.c_void_p).value for function in functions}) == 3
    table, inner = [3, 1, 4, 1], {0: 100, 1: -7, 2: 4, 3: 7, 4: 5}
    for a in range(-2, 6):
        for b in range(-1, 7):
            expected = table[a % 4] * 1000 + inner.get(b, b)
            assert [function(a, b) for function in functions] == [expected] * 3, (a, b)


def test_emit_and_load():
    code, foreign = machine_code.emit(SUM, "sum")
    assert foreign == set() and machine_code.load(code, 2)(2**40, -3) == 2**40 - 3


@pytest.mark.parametrize("text, name, expected", [
    pytest.param(ABSOLUTE, "pick", [1, 2], id="a_place_in_memory"),
    pytest.param(CALL.format(callee="labs"), "sum", [7, 8], id="a_function_outside"),
])
def test_what_no_image_can_hold_is_loaded_by_llvmlite(text, name, expected):
    code, _ = machine_code.emit(text, name)
    assert not code.startswith(machine_code.IMAGE)
    function = machine_code.load(code, 2)
    assert [function(0, -7), function(1, -7)] == expected


@images
def test_image_is_for_x86_only():
    machine = machine_code.target_machine(llvm)
    module = llvm.parse_assembly(SUM)
    module.get_function("sum").name = machine_code.ENTRY
    code = machine.emit_object(module)
    assert elf.image(code, machine_code.ENTRY) is not None
    assert elf.image(code[:18] + struct.pack("<H", 183) + code[20:], machine_code.ENTRY) is None  # ARM64


@pytest.mark.parametrize("system", ["freebsd14", "sunos5", "darwin", "win32"])
def test_image_is_for_linux_only(monkeypatch, system):
    """Other systems have their own rules for executable memory."""
    monkeypatch.setattr(sys, "platform", system)
    code, _ = machine_code.emit(SUM, "sum")
    assert not code.startswith(machine_code.IMAGE) and machine_code.load(code, 2)(3, 4) == 7


@images
def test_image_can_be_run_and_not_written():
    """Memory that is executable must not be writable, or other code could be put there."""
    function = machine_code.load(machine_code.emit(SUM, "sum")[0], 2)
    address = ctypes.cast(function, ctypes.c_void_p).value
    for line in Path("/proc/self/maps").read_text().splitlines():
        start, end, rights = re.match(r"(\w+)-(\w+) (\S+)", line).groups()
        if int(start, 16) <= address < int(end, 16):
            assert rights == "r-xp"
            return
    pytest.fail("the function lies nowhere")


@images
def test_a_system_that_forbids_code_in_memory_is_named(monkeypatch):
    class Forbidding:
        @staticmethod
        def mprotect(*arguments):
            ctypes.set_errno(13)
            return -1

    code, _ = machine_code.emit(SUM, "sum")
    monkeypatch.setattr(machine_code.ctypes, "CDLL", lambda *arguments, **options: Forbidding)
    with pytest.raises(OSError, match=r"\[Errno 13\] memory can't be made executable"):
        machine_code.load(code, 2)


def test_undefined_leaves_out_what_is_defined():
    code, _ = machine_code.emit(CALL.format(callee="labs"), "sum")
    found = elf.undefined(code)
    assert "labs" in found and machine_code.ENTRY not in found


@pytest.fixture(scope="module")
def cfunc():
    return compiler.compile_driver(FLOAT32)


def test_driver_needs_nothing_of_numba(cfunc):
    """Otherwise a function was added without @routine, or one that allocates; the name that is missing tells which."""
    code, foreign = machine_code.emit(cfunc.inspect_llvm(), cfunc.native_name)
    assert foreign == set()
    assert code.startswith(machine_code.IMAGE) or sys.platform != "linux" or platform.machine() != "x86_64"


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="the driver is traced for this architecture")
@pytest.mark.parametrize("triple, undefined, needed", [
    ("x86_64-pc-windows-msvc", undefined_coff, {"_fltused"}), ("x86_64-apple-macosx", undefined_macho, set())])
def test_driver_needs_nothing_of_numba_on_other_systems(cfunc, triple, undefined, needed):
    """Compiled for them, not run. LLVM's loader itself provides the name by which Windows marks floating point."""
    assert undefined(emit_for(triple, "+avx2,+fma", cfunc.inspect_llvm())) == needed


@pytest.mark.parametrize("triple, undefined, without_fma", [
    ("x86_64-pc-windows-msvc", undefined_coff, {"fmaf", "_fltused"}),
    ("aarch64-pc-windows-msvc", undefined_coff, set()),
    ("x86_64-apple-macosx", undefined_macho, {"fmaf"}),
    ("arm64-apple-macosx", undefined_macho, set())])
def test_names_that_other_systems_formats_need_are_found(triple, undefined, without_fma):
    """Else the test above could find none in any file."""
    for callee in ("numba_gil_ensure", "labs"):
        assert undefined(emit_for(triple, "", CALL.format(callee=callee))) == {callee}
    assert undefined(emit_for(triple, "", SUM)) == set()
    assert undefined(emit_for(triple, "", FMA)) == without_fma


def emit_for(triple, features, text):
    """Compile LLVM IR for another system, as `machine_code.emit` does on it."""
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    module = llvm.parse_assembly(re.sub("target (triple|datalayout) = .*", "", text))
    machine = llvm.Target.from_triple(triple).create_target_machine(features=features, opt=3, reloc="pic",
                                                                    codemodel="small", jit=True)
    module.triple, module.data_layout = triple, str(machine.target_data)
    return machine.emit_object(module)


@images
def test_driver_gives_the_same_bits_as_image_and_as_object_file(cfunc, monkeypatch):
    weights = random_weights(architecture.build("lite0", 10))
    x = np.random.default_rng(0).uniform(-1, 1, (2, 45, 38, 3)).astype(np.float32)
    expected = Engine(weights, 1)(x)
    monkeypatch.setattr(elf, "image", lambda code, entry: None)
    code, _ = machine_code.emit(cfunc.inspect_llvm(), cfunc.native_name)
    work = machine_code.load(code, compiler.ARGUMENTS)
    monkeypatch.setattr(engine_module, "driver", lambda layout: work)
    assert Engine(weights, 1)(x).tobytes() == expected.tobytes()
