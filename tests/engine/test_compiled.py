"""The compiled driver: when it is taken from disk, when it is compiled anew, and what is said if it can't be kept."""
import importlib
import os
import re
import shutil
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from npefficient.engine import compiled, compiler, object_cache, processes
from npefficient.engine.engine import Engine
from npefficient.errors import NpefficientError
from npefficient.kernels import processor
from npefficient.kernels.layout import FLOAT32, INT8, TRAINING
from npefficient.network import architecture
from npefficient.network.parameters import random_weights

owners = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="Windows keeps no owner and no mode")


# --- the key ---------------------------------------------------------------------------------------------------------


def test_key_is_the_same_as_long_as_nothing_changes():
    assert compiled._key(FLOAT32) == compiled._key(FLOAT32) and len(compiled._key(FLOAT32)) == 32


def test_each_layout_has_a_key_of_its_own():
    assert len({compiled._key(layout) for layout in (FLOAT32, TRAINING, INT8)}) == 3


@pytest.mark.parametrize("change", [
    pytest.param(lambda patch: patch.setattr(processor, "CPUINFO", Path("no such file")), id="processor"),
    pytest.param(lambda patch: patch.setenv("NUMBA_CPU_NAME", "generic"), id="numba_cpu_name"),
    pytest.param(lambda patch: patch.setenv("NUMBA_CPU_FEATURES", ""), id="numba_cpu_features"),
    pytest.param(lambda patch: patch.setenv("NUMBA_OPT", "1"), id="numba_setting"),
    pytest.param(lambda patch: patch.setattr(sys, "version", "4.0"), id="python"),
    pytest.param(lambda patch: patch.setattr(compiled, "_version", lambda package: b"99"), id="numba_and_llvmlite"),
    pytest.param(lambda patch: patch.setattr("platform.machine", lambda: "riscv64"), id="platform"),
])
def test_key_changes_with(monkeypatch, change):
    before = compiled._key(FLOAT32)
    change(monkeypatch)
    assert compiled._key(FLOAT32) != before


def test_key_changes_with_a_settings_file_of_numba(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    before = compiled._key(FLOAT32)
    (tmp_path / ".numba_config.yaml").write_text("opt: 1\n")
    assert compiled._key(FLOAT32) != before


@pytest.mark.parametrize("source", ["kernels/pool.py", "kernels/layout.py", "engine/atomics.py", "engine/plan.py",
                                    "network/architecture.py"])
def test_key_changes_with_an_edit(monkeypatch, tmp_path, source):
    """The hash is over every file of the first two rooms, and one of the third; here over copies of them."""
    for room in ("kernels", "engine", "network"):
        shutil.copytree(processes.PACKAGE / room, tmp_path / room)
    monkeypatch.setattr(processes, "PACKAGE", tmp_path)
    before = compiled._key(FLOAT32)
    (tmp_path / source).write_text((tmp_path / source).read_text() + "\n")
    assert compiled._key(FLOAT32) != before


def test_compiled_code_takes_nothing_from_a_file_that_is_not_in_the_key():
    hashed = {source for pattern in processes.COMPILED for source in processes.PACKAGE.glob(pattern)}
    for source in hashed:
        text = source.read_text(encoding="utf-8")
        if re.search(r"^ *@(arithmetic|routine|intrinsic)$", text, re.MULTILINE):
            others = [processes.PACKAGE / f"{name.replace('.', '/')}.py"
                      for name in re.findall(r"^from \.\.([\w.]+) import", text, re.MULTILINE)]
            assert hashed.issuperset(others), source


@pytest.mark.parametrize("package", ["numba", "llvmlite"])
def test_version_is_in_its_file(package):
    assert importlib.import_module(package).__version__.encode() in compiled._version(package)
    assert compiled._version("no_such_package") == b"none"


# --- the driver ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def code():
    """The driver, compiled once for all tests of this file, and what it needs of Numba: nothing."""
    return compiler.compile_code(FLOAT32)


@pytest.fixture
def fresh(monkeypatch, tmp_path, code):
    """fresh() computes as a process does that starts with the cache in tmp_path, and compares the logits.

    It returns how often the driver was compiled, and the warnings.
    """
    weights = random_weights(architecture.build("lite0", 10))
    x = np.random.default_rng(0).uniform(-1, 1, (1, 33, 20, 3)).astype(np.float32)
    expected, calls = Engine(weights, 1)(x), []
    monkeypatch.setenv("NPEFFICIENT_CACHE", str(tmp_path))
    monkeypatch.setattr(compiled, "_compile", lambda *arguments: calls.append(arguments) or code)

    def start():
        monkeypatch.setattr(compiled, "_drivers", {})
        calls.clear()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            np.testing.assert_array_equal(Engine(weights, 1)(x), expected)
        return len(calls), [str(warning.message) for warning in caught]

    return start


def files(tmp_path):
    return sorted((tmp_path / "compiled").glob("*"))


def test_driver_is_compiled_once(fresh, tmp_path):
    assert [fresh() for _ in range(3)] == [(1, []), (0, []), (0, [])]
    assert files(tmp_path) == [compiled.code_path()]


@pytest.mark.parametrize("damage", [
    pytest.param(lambda content: content[: len(content) // 2], id="truncated"),
    pytest.param(lambda content: b"", id="empty"),
    pytest.param(lambda content: content[:2000] + bytes([content[2000] ^ 255]) + content[2001:], id="altered"),
    pytest.param(lambda content: content.replace(object_cache.MAGIC, b"npefficient code 0\n"), id="older_format"),
])
def test_damaged_file_is_compiled_anew(fresh, tmp_path, damage):
    fresh()
    path, = files(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    assert fresh() == (1, [])
    assert path.read_bytes()[:19] == object_cache.MAGIC and fresh() == (0, [])


def test_another_processor_gets_code_of_its_own(fresh, tmp_path, monkeypatch):
    fresh()
    identity = processor.identity()
    monkeypatch.setattr(compiled, "identity", lambda: (*identity, "a newer one"))
    assert fresh() == (1, []) and fresh() == (0, [])
    assert len(files(tmp_path)) == 2
    monkeypatch.setattr(compiled, "identity", lambda: identity)
    assert fresh() == (0, [])


def test_another_version_gets_code_of_its_own(fresh, tmp_path, monkeypatch):
    fresh()
    monkeypatch.setattr(compiled, "_version", lambda package: b"99")
    assert fresh() == (1, []) and len(files(tmp_path)) == 2


@owners
def test_directory_of_others_compiles_in_memory_with_one_warning(fresh, tmp_path):
    fresh()
    (tmp_path / "compiled").chmod(0o777)
    count, (said,) = fresh()
    assert count == 1 and said.count(repr(str(tmp_path / "compiled"))) == 2 and "others can write" in said
    assert "set NPEFFICIENT_CACHE" in said


def test_user_without_a_home_compiles_in_memory_with_one_warning(fresh, monkeypatch):
    """No HOME and no entry among the users, as in a container with a user of its own."""
    monkeypatch.delenv("NPEFFICIENT_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # what it does for such a user
    count, (said,) = fresh()
    assert count == 1 and "can't be kept since this user's home directory is not known: every process" in said
    assert said.endswith("set NPEFFICIENT_CACHE to a directory of your own") and compiled.found() is None


def test_full_disk_compiles_in_memory_with_one_warning(fresh, tmp_path, monkeypatch):
    def full(directory, key, code):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(object_cache, "write", full)
    count, (said,) = fresh()
    assert count == 1 and "No space left on device" in said and files(tmp_path) == []


def test_code_that_needs_numba_is_not_kept_with_one_warning(fresh, tmp_path, monkeypatch, code):
    monkeypatch.setattr(compiled, "_compile", lambda *arguments: (code[0], {"numba_gil_ensure"}))
    _, (said,) = fresh()
    assert "numba_gil_ensure" in said and files(tmp_path) == []


# --- a signal handler that calls a model -----------------------------------------------------------------------------


def test_handler_that_comes_while_kernels_are_compiled_is_told(monkeypatch, tmp_path, code):
    """It would wait for ever for the thread that it has interrupted, which is its own; the compilation goes on."""
    monkeypatch.setenv("NPEFFICIENT_CACHE", str(tmp_path))
    monkeypatch.setattr(compiled, "_drivers", {})

    def interrupted(layout, report):
        with pytest.raises(NpefficientError, match="called, by a signal handler, .* being compiled: .*warmup"):
            compiled.driver()
        return code

    monkeypatch.setattr(compiler, "compile_code", interrupted)
    assert compiled.driver() is compiled.driver() and files(tmp_path) == [compiled.code_path()]
