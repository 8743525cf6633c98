"""Compiling in two processes: what they hand over, that their parts fit, and what is done where that is impossible."""
import ctypes
import json
import platform
import subprocess
import sys

import pytest
from fresh import run

from npefficient.engine import compiler, elf, machine_code, processes
from npefficient.errors import ArgumentError
from npefficient.kernels import lanes
from npefficient.kernels.layout import FLOAT32

images = pytest.mark.skipif(sys.platform != "linux" or platform.machine() != "x86_64", reason="images: Linux on x86")

DRIVER = """
declare void @npefficient_store(i64, i64)
declare void @npefficient_add(i64, i64)
define i64 @work(i64 %a, i64 %b) {
  call void @npefficient_store(i64 %a, i64 %b)
  call void @npefficient_add(i64 %a, i64 40)
  ret i64 7
}
"""
KERNELS = """
define void @npefficient_add(i64 %address, i64 %x) {
  %p = inttoptr i64 %address to ptr
  %v = load i64, ptr %p
  %w = add i64 %v, %x
  store i64 %w, ptr %p
  ret void
}
define void @npefficient_store(i64 %address, i64 %x) {
  %p = inttoptr i64 %address to ptr
  store i64 %x, ptr %p
  ret void
}
"""


@images
def test_kernels_become_names_of_places_in_a_constant():
    import llvmlite.binding as llvm

    code = machine_code.target_machine(llvm).emit_object(llvm.parse_assembly(KERNELS))
    places = {}
    for name in ("npefficient_store", "npefficient_add"):
        piece, places[name] = elf.image(code, name)
    assert places["npefficient_store"] > places["npefficient_add"] >= 0
    code, foreign = machine_code.emit(compiler._joined(DRIVER, piece.hex(), places), "work")
    assert foreign == set() and code.startswith(machine_code.IMAGE)
    word = ctypes.c_int64(-1)
    assert machine_code.load(code, 2)(ctypes.addressof(word), 2) == 7 and word.value == 42


@images
def test_both_parts_are_compiled_in_other_processes():
    """This one then needs neither Numba nor its memory. What a part reports, and that it is an image, is seen too."""
    script = """
import sys
from npefficient.engine import compiler, machine_code
from npefficient.kernels.layout import FLOAT32
said = []
code, foreign = compiler.compile_code(FLOAT32, said.append)
print(code.startswith(machine_code.IMAGE), len(foreign), "numba" in sys.modules, *said)
"""
    assert run(script).startswith("True 0 False   1 of 2 parts done, ")


@images
@pytest.mark.parametrize("late, result", [(0, "ok"), (1, None)], ids=["before", "after"])
def test_what_else_a_process_prints_is_no_result(monkeypatch, tmp_path, late, result):
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(compiler, "own_process", lambda *_: [sys.executable, "-c", "print('\"ok\"')"])
    (tmp_path / "sitecustomize.py").write_text(
        f"import atexit\nprint('hello')\nif {late}: atexit.register(print, 'bye')\n")
    with compiler._Process("driver_part", FLOAT32) as part:
        assert part.result() == result


@images
@pytest.mark.parametrize("layout", ["FLOAT32", "TRAINING"])
def test_kernels_part_has_every_kernel_that_the_driver_declares(layout):
    part = run(f"""
import json
from dataclasses import asdict
from npefficient.engine import compiler
from npefficient.kernels.layout import {layout}
compiler.print_part("kernels_part", json.dumps(asdict({layout})))
""")
    places = json.loads(part)["places"]
    assert len(set(places.values())) == len(places) >= 7
    declared = run(f"""
import re
from npefficient.engine import compiler
from npefficient.kernels.layout import {layout}
print(*re.findall(r"^declare void @(npefficient_[^(]+)", compiler.driver_part({layout})["text"], re.MULTILINE))
""").split()
    assert sorted(declared) == sorted(places)


@images
def test_kernels_that_need_a_loader_are_not_handed_over(monkeypatch):
    monkeypatch.setattr(elf, "image", lambda code, name: None)
    monkeypatch.setattr(lanes, "module_of", lambda layout: KERNELS)
    assert compiler.kernels_part(FLOAT32) is None


@pytest.mark.parametrize("executable, frozen", [
    ("false", False), ("no such program", False), ("", False), (None, False), (sys.executable, True)])
def test_where_no_process_can_be_started_all_is_compiled_here(monkeypatch, executable, frozen):
    class Compiled:
        native_name = "sum"

        @staticmethod
        def inspect_llvm():
            return "define i64 @sum(i64 %a, i64 %b) {\n %c = add i64 %a, %b\n ret i64 %c\n}"

    monkeypatch.setattr(sys, "executable", executable)
    monkeypatch.setattr(sys, "frozen", frozen, raising=False)
    if frozen:
        monkeypatch.setattr(compiler, "_compile_in_processes", None)
    monkeypatch.setattr(compiler, "compile_driver", lambda layout: Compiled)
    code, foreign = compiler.compile_code(FLOAT32)
    assert foreign == set() and machine_code.load(code, 2)(3, 4) == 7


def test_process_has_the_same_sources_or_fails(monkeypatch):
    def call():
        command = processes.own_process("builtins", "print", "it", "runs")
        return subprocess.run(command, capture_output=True, text=True)

    assert call().stdout == "it runs\n"
    monkeypatch.setattr(processes, "sources", lambda: "0" * 64)
    assert call().returncode == 1 and "is another version of npefficient" in call().stderr


def test_process_imports_nothing_from_the_working_directory(monkeypatch, tmp_path):
    (tmp_path / "json.py").write_text("raise SystemExit('the wrong json')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", ".", *sys.path])
    done = subprocess.run(processes.own_process("builtins", "print", "it runs"), capture_output=True, text=True)
    assert done.stdout == "it runs\n", done.stderr


def test_processes_end_with_the_block(monkeypatch):
    """Ctrl-C comes while they are at work."""
    with pytest.raises(KeyboardInterrupt):
        with compiler._Process("driver_part", FLOAT32) as part:
            assert part.process.poll() is None
            raise KeyboardInterrupt
    assert part.process.poll() not in (None, 0)


def test_numba_that_may_not_compile_is_an_error(monkeypatch):
    from numba import config

    monkeypatch.setattr(config, "DISABLE_JIT", 1)
    with pytest.raises(ArgumentError, match="NUMBA_DISABLE_JIT is set: .* backend='reference'"):
        compiler.compile_driver(FLOAT32)


def test_numba_that_can_not_read_its_settings_is_an_error(monkeypatch):
    class Broken:
        def __getattr__(self, name):
            raise ValueError("while parsing\n  a flow mapping")

    monkeypatch.setitem(sys.modules, "numba", Broken())
    with pytest.raises(ArgumentError, match="imported .while parsing a flow mapping.: check .* '.numba_config.yaml'"):
        compiler.compile_driver(FLOAT32)


def test_module_has_the_kernels_of_one_layout(monkeypatch):
    monkeypatch.setattr(lanes, "_made", [])

    def touch(t, x):
        t.store(t.load(x), x)

    narrow = lanes.Layout(2, 16)
    lanes.kernel(touch, FLOAT32)
    lanes.kernel(touch, narrow)
    assert [write.__name__ for write in lanes.writers(narrow)] == ["npefficient_touch_x2"]
    (function,) = lanes.module_of(narrow).functions
    assert function.name == "npefficient_touch_x2" and function.linkage == "external"
