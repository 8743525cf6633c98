"""Code that comes with the package: what is used, what is refused and why, and that it needs no Numba."""
import hashlib
import json
import platform
import re
import shutil
import sys
from dataclasses import asdict, replace

import pytest
from targets_here import FITTING, HERE, fitting

from npefficient.engine import compiled, shipped, targets
from npefficient.errors import ArgumentError
from npefficient.kernels.layout import FLOAT32, INT8, TRAINING, Layout
from npefficient.model.model import PRECISIONS

CODE = b"the code" * 100


# --- the list --------------------------------------------------------------------------------------------------------


@pytest.fixture
def listed(monkeypatch, tmp_path):
    """listed(name, ..): these targets' code comes with the package, and is for this processor's layouts, or those that
    `layouts(name)` returns, of float32 and of int8."""
    monkeypatch.setattr(shipped, "OBJECTS", tmp_path)

    def write(*names, layouts=lambda name: (FLOAT32, INT8)):
        entries = {name: {} for name in names}
        for name in names:
            for precision, layout in zip(PRECISIONS, layouts(name), strict=True):
                file = f"{name}-{precision}.code"
                code = file.encode() + CODE
                (tmp_path / file).write_bytes(code)
                entries[name][file] = {"sha256": hashlib.sha256(code).hexdigest(), "layout": asdict(layout)}
        (tmp_path / "hashes.json").write_text(json.dumps({"sources": shipped.sources(), "targets": entries}))

    return write


@pytest.fixture
def having(monkeypatch):
    """having(machine, *features): the processor has these, by Linux's names or LLVM's."""
    def set_to(machine, *names):
        monkeypatch.setattr("platform.machine", lambda: machine)
        monkeypatch.setattr(targets, "features", lambda: set(names))

    return set_to


def find(layout=FLOAT32):
    """(name of the file that is found, what is refused and why)."""
    refused = []
    path, code = shipped.find(layout, lambda path, problem: refused.append((path.name, problem))) or (None, None)
    assert path is None or code == path.name.encode() + CODE
    return path and path.name, refused


def test_a_checkout_ships_nothing(monkeypatch, tmp_path):
    monkeypatch.setattr(shipped, "OBJECTS", tmp_path / "none")
    assert find() == (None, []) and shipped.misfits(FLOAT32) == []


V3, V4, VNNI = (sorted(names.values()) for names in (targets.V3, targets.V4, targets.VNNI))
BOTH = ("x86-64-v3", "x86-64-v4")


@pytest.mark.parametrize("names, machine, features, expected", [
    pytest.param(BOTH, "x86_64", V4, "x86-64-v4-float32.code", id="the_best"),
    pytest.param(BOTH, "AMD64", targets.V4, "x86-64-v4-float32.code", id="names_of_llvm_on_windows"),
    pytest.param(BOTH, "x86_64", V3, "x86-64-v3-float32.code", id="the_best_that_fits"),
    pytest.param(BOTH, "x86_64", [name for name in V4 if name != "avx512vl"], "x86-64-v3-float32.code",
                 id="without_avx512vl"),
    pytest.param(BOTH, "x86_64", [name for name in V4 if name != "fma"], None, id="without_fma"),
    pytest.param(BOTH[1:], "x86_64", V3, None, id="none_that_fits"),
    pytest.param(BOTH, "aarch64", ["asimd", "atomics"], None, id="another_architecture"),
    pytest.param(("neoverse-n1",), "aarch64", ["asimd", "atomics"], "neoverse-n1-float32.code", id="arm64_by_linux"),
    pytest.param(("neoverse-n1",), "arm64", ["neon", "lse"], "neoverse-n1-float32.code", id="arm64_by_llvm"),
    pytest.param(("neoverse-n1",), "aarch64", ["asimd"], None, id="arm64_without_its_atomics"),
])
def test_the_best_that_the_processor_can_run_is_found(listed, having, names, machine, features, expected):
    listed(*names)
    having(machine, *features)
    assert find() == (expected, [])


def test_misfits_name_the_missing_features(listed, having):
    listed(*BOTH)
    having("x86_64", *[name for name in V4 if name not in ("avx512cd", "fma")])
    assert shipped.misfits(FLOAT32) == ["x86-64-v4 needs fma, avx512cd", "x86-64-v3 needs fma"]
    having("aarch64")
    assert shipped.misfits(FLOAT32) == ["x86-64-v4 needs x86_64", "x86-64-v3 needs x86_64"]


def test_code_for_another_layout_is_not_used(listed, having):
    """An AVX-512 processor packs its weights for 16 lanes, also where only code for AVX2 came with the package."""
    listed("x86-64-v3", layouts=lambda name: (replace(FLOAT32, lanes=FLOAT32.lanes * 2), INT8))
    having("x86_64", *V4)
    assert find() == (None, []) and shipped.misfits(FLOAT32) == ["x86-64-v3 is for vectors of another width"]


@fitting
def test_training_has_no_code(listed):
    listed(FITTING[0].name)
    assert find(TRAINING) == (None, []) and shipped.misfits(TRAINING) == [f"{FITTING[0].name} is not for training"]


INTEGERS = {"x86-64-v3": Layout(8, 16, 2), "x86-64-v4": Layout(16, 32, 2), "x86-64-v4-vnni": Layout(16, 32, 1)}


@pytest.mark.parametrize("names, features, layout, expected", [
    pytest.param(INTEGERS, VNNI, "x86-64-v4-vnni", "x86-64-v4-vnni-int8.code", id="products_of_bytes"),
    pytest.param(INTEGERS, targets.VNNI, "x86-64-v4-vnni", "x86-64-v4-vnni-int8.code", id="names_of_llvm"),
    pytest.param(INTEGERS, V4, "x86-64-v4", "x86-64-v4-int8.code", id="avx512_without_vnni"),
    pytest.param(INTEGERS, V3, "x86-64-v3", "x86-64-v3-int8.code", id="avx2"),
    pytest.param(BOTH, VNNI, "x86-64-v4-vnni", None, id="only_16_bits_for_a_processor_with_vnni"),
    pytest.param(INTEGERS, [*V3, "avx_vnni"], Layout(8, 16, 1), None, id="vnni_without_avx512"),
])
def test_int8_is_found_for_the_integers_of_the_processor(listed, having, names, features, layout, expected):
    listed(*names, layouts=lambda name: (replace(INTEGERS[name], item=4), INTEGERS[name]))
    having("x86_64", *features)
    layout = INTEGERS.get(layout, layout)
    assert find(layout) == (expected, [])
    assert expected or "x86-64-v3 is for vectors or integers of another width" in shipped.misfits(layout)


def test_vnni_has_code_for_float32_too(listed, having):
    listed("x86-64-v4-vnni")
    having("x86_64", *VNNI)
    assert find() == ("x86-64-v4-vnni-float32.code", []) and find(INT8) == ("x86-64-v4-vnni-int8.code", [])
    having("x86_64", *V4)
    assert find() == (None, []) and shipped.misfits(FLOAT32) == ["x86-64-v4-vnni needs avx512vnni"]


@pytest.mark.parametrize("change, problem", [
    pytest.param(lambda path: path.write_bytes(path.read_bytes()[:-1] + b"?"), "its sha256 is not the one in",
                 id="altered"),
    pytest.param(lambda path: path.write_bytes(path.read_bytes()[:-1]), "its sha256 is not the one in", id="truncated"),
    pytest.param(lambda path: path.unlink(), "can't be read .No such file", id="missing"),
    pytest.param(lambda path: shutil.copy(path.with_name("x86-64-v4-float32.code"), path),
                 "its sha256 is not the one in", id="that_of_another_target"),
])
def test_file_that_was_not_built_is_refused(listed, having, tmp_path, change, problem):
    listed(*BOTH)
    having("x86_64", *V3)
    change(tmp_path / "x86-64-v3-float32.code")
    found, ((name, said),) = find()
    assert found is None and name == "x86-64-v3-float32.code" and re.search(problem, said)


@pytest.mark.parametrize("keep", [0, 50], ids=["empty", "truncated"])
def test_damaged_list_is_refused(listed, having, tmp_path, keep):
    listed(*BOTH)
    having("x86_64", *V3)
    path = tmp_path / "hashes.json"
    path.write_bytes(path.read_bytes()[:keep])
    found, ((name, said),) = find()
    assert found is None and name == "hashes.json" and said.startswith("it is damaged (")
    assert shipped.misfits(FLOAT32) == []


def test_code_of_other_sources_is_refused(listed, having, monkeypatch):
    listed(*BOTH)
    having("x86_64", *V4)
    monkeypatch.setattr(shipped, "sources", lambda: "0" * 64)
    problem = "the sources beside it are not those that it was compiled from"
    assert find() == (None, [("x86-64-v4-float32.code", problem)])


@pytest.mark.parametrize("names, problem", [
    (["x86-64-v9"], "no target is called 'x86-64-v9': the targets are x86-64-v4-vnni, x86-64-v4, x86-64-v3, "
                     "neoverse-n1"),
    ([], "no target is named: the targets are x86-64-v4-vnni"),
    ([next(target.name for target in targets.TARGETS if target not in HERE)],
     f"can't be compiled on {platform.machine()}: Numba compiles for the architecture that it runs on; run this on "),
])
def test_target_that_can_not_be_compiled_is_named(names, problem):
    with pytest.raises(ArgumentError, match=problem):
        targets.targets_named(names)


# --- which code a start uses -----------------------------------------------------------------------------------------


@pytest.fixture
def start(listed, monkeypatch, tmp_path):
    """start() -> the code that a start uses; a compilation gives b"compiled"."""
    monkeypatch.setenv("NPEFFICIENT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(compiled, "_compile", lambda layout, report, misfits: (b"compiled", set()))
    return lambda: compiled._code(FLOAT32, lambda text: None)


@fitting
def test_the_cache_comes_first_then_the_package_then_the_compiler(listed, start, tmp_path):
    name = FITTING[0].name
    assert compiled.found() is None
    assert start() == b"compiled" and compiled.found() == compiled.code_path()
    listed(name)
    assert start() == b"compiled", "made for this very processor"
    compiled.code_path().unlink()
    file = tmp_path / f"{name}-float32.code"
    assert start() == file.name.encode() + CODE and compiled.found() == file
    assert not compiled.code_path().exists()


@fitting
def test_altered_code_is_named_and_compiled_anew(listed, start, tmp_path):
    listed(FITTING[0].name)
    path = tmp_path / f"{FITTING[0].name}-float32.code"
    path.write_bytes(path.read_bytes() + b"?")
    with pytest.warns(RuntimeWarning, match=f"{path.name}', code that came .* not used: its sha256 .*install"):
        assert start() == b"compiled"


@fitting
def test_nothing_is_said_of_a_cache_that_is_not_needed(listed, start, monkeypatch, tmp_path):
    """Every warning is an error here."""
    (tmp_path / "cache").write_text("a file, no directory")
    listed(FITTING[0].name)
    assert start() == f"{FITTING[0].name}-float32.code".encode() + CODE


def test_without_code_and_without_numba_the_error_says_what_is_missing(listed, having, start, monkeypatch):
    monkeypatch.setitem(sys.modules, "numba", None)
    listed("x86-64-v4")
    having("x86_64", *V3)
    with pytest.raises(compiled.NpefficientError, match="Numba, which compiles it, is not installed: python -m pip "
                                                        "install numba; .* x86-64-v4 needs avx512f, avx512bw"):
        start()
