"""Code that comes with the package: what is used, what is refused and why, and that it needs no Numba."""
import hashlib
import json
import platform
import re
import shutil
import subprocess
import sys

import pytest
from fresh import PYTHON, ROOT, environment
from imagenet import needs_imagenet

from npefficient.engine import compiled, shipped, shipping, targets
from npefficient.errors import ArgumentError
from npefficient.kernels.layout import FLOAT32

CODE = b"the code" * 100
HERE = [target for target in targets.TARGETS if platform.machine().lower() in target.machines]
FITTING = [target for target in HERE if not target.missing()]
fitting = pytest.mark.skipif(not FITTING, reason="this processor has the features of no target")


# --- the list --------------------------------------------------------------------------------------------------------


@pytest.fixture
def listed(monkeypatch, tmp_path):
    """listed(name, ..): these targets' code comes with the package, and is for this processor's layout."""
    monkeypatch.setattr(shipped, "OBJECTS", tmp_path)

    def write(*names, **changes):
        entries = {}
        for name in names:
            code = name.encode() + CODE
            (tmp_path / f"{name}.code").write_bytes(code)
            layout = {**shipped.asdict(FLOAT32), **changes}
            entries[name] = {"sha256": hashlib.sha256(code).hexdigest(), "layout": layout}
        (tmp_path / "hashes.json").write_text(json.dumps({"sources": shipped.sources(), "targets": entries}))

    return write


@pytest.fixture
def having(monkeypatch):
    """having(machine, *features): the processor has these, by Linux's names or LLVM's."""
    def set_to(machine, *names):
        monkeypatch.setattr("platform.machine", lambda: machine)
        monkeypatch.setattr(targets, "features", lambda: set(names))

    return set_to


def find():
    """(name of the file that is found, what is refused and why)."""
    refused = []
    path, code = shipped.find(FLOAT32, lambda path, problem: refused.append((path.name, problem))) or (None, None)
    assert path is None or code == path.stem.encode() + CODE
    return path and path.name, refused


def test_a_checkout_ships_nothing(monkeypatch, tmp_path):
    monkeypatch.setattr(shipped, "OBJECTS", tmp_path / "none")
    assert find() == (None, []) and shipped.misfits(FLOAT32) == []


V3, V4 = (sorted(names.values()) for names in (targets.V3, targets.V4))
BOTH = ("x86-64-v3", "x86-64-v4")


@pytest.mark.parametrize("names, machine, features, expected", [
    pytest.param(BOTH, "x86_64", V4, "x86-64-v4.code", id="the_best"),
    pytest.param(BOTH, "AMD64", targets.V4, "x86-64-v4.code", id="names_of_llvm_on_windows"),
    pytest.param(BOTH, "x86_64", V3, "x86-64-v3.code", id="the_best_that_fits"),
    pytest.param(BOTH, "x86_64", [name for name in V4 if name != "avx512vl"], "x86-64-v3.code", id="without_avx512vl"),
    pytest.param(BOTH, "x86_64", [name for name in V4 if name != "fma"], None, id="without_fma"),
    pytest.param(BOTH[1:], "x86_64", V3, None, id="none_that_fits"),
    pytest.param(BOTH, "aarch64", ["asimd", "atomics"], None, id="another_architecture"),
    pytest.param(("neoverse-n1",), "aarch64", ["asimd", "atomics"], "neoverse-n1.code", id="arm64_by_linux"),
    pytest.param(("neoverse-n1",), "arm64", ["neon", "lse"], "neoverse-n1.code", id="arm64_by_llvm"),
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
    listed("x86-64-v3", lanes=FLOAT32.lanes * 2)
    having("x86_64", *V4)
    assert find() == (None, []) and shipped.misfits(FLOAT32) == ["x86-64-v3 is for vectors of another width"]


@pytest.mark.parametrize("change, problem", [
    pytest.param(lambda path: path.write_bytes(path.read_bytes()[:-1] + b"?"), "its sha256 is not the one in",
                 id="altered"),
    pytest.param(lambda path: path.write_bytes(path.read_bytes()[:-1]), "its sha256 is not the one in", id="truncated"),
    pytest.param(lambda path: path.unlink(), "can't be read .No such file", id="missing"),
    pytest.param(lambda path: shutil.copy(path.with_name("x86-64-v4.code"), path), "its sha256 is not the one in",
                 id="that_of_another_target"),
])
def test_file_that_was_not_built_is_refused(listed, having, tmp_path, change, problem):
    listed(*BOTH)
    having("x86_64", *V3)
    change(tmp_path / "x86-64-v3.code")
    found, ((name, said),) = find()
    assert found is None and name == "x86-64-v3.code" and re.search(problem, said)


def test_code_of_other_sources_is_refused(listed, having, monkeypatch):
    listed(*BOTH)
    having("x86_64", *V4)
    monkeypatch.setattr(shipped, "sources", lambda: "0" * 64)
    assert find() == (None, [("x86-64-v4.code", "the sources beside it are not those that it was compiled from")])


@pytest.mark.parametrize("names, problem", [
    (["x86-64-v9"], "no target is called 'x86-64-v9': the targets are x86-64-v4, x86-64-v3, neoverse-n1"),
    ([], "no target is named: the targets are x86-64-v4"),
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
    assert start() == name.encode() + CODE and compiled.found() == tmp_path / f"{name}.code"
    assert not compiled.code_path().exists()


@fitting
def test_altered_code_is_named_and_compiled_anew(listed, start, tmp_path):
    listed(FITTING[0].name)
    path = tmp_path / f"{FITTING[0].name}.code"
    path.write_bytes(path.read_bytes() + b"?")
    with pytest.warns(RuntimeWarning, match=f"{path.name}', code that came .* not used: its sha256 .*install"):
        assert start() == b"compiled"


@fitting
def test_nothing_is_said_of_a_cache_that_is_not_needed(listed, start, monkeypatch, tmp_path):
    """Every warning is an error here."""
    (tmp_path / "cache").write_text("a file, no directory")
    listed(FITTING[0].name)
    assert start() == FITTING[0].name.encode() + CODE


def test_without_code_and_without_numba_the_error_says_what_is_missing(listed, having, start, monkeypatch):
    monkeypatch.setitem(sys.modules, "numba", None)
    listed("x86-64-v4")
    having("x86_64", *V3)
    with pytest.raises(compiled.NpefficientError, match="Numba, which compiles it, is not installed: python -m pip "
                                                        "install numba; .* x86-64-v4 needs avx512f, avx512bw"):
        start()


# --- a package that ships its code -----------------------------------------------------------------------------------

WITHOUT_NUMBA = """
import sys
sys.modules.update(dict.fromkeys({blocked}))
from npefficient.commands import main
code = main({arguments})
assert not [name for name in sys.modules if name.startswith("numba") and sys.modules[name]]
sys.exit(code)
"""


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A copy of the package with the code of every target of this architecture, as `warmup` writes it."""
    tree = tmp_path_factory.mktemp("shipped")
    ignored = shutil.ignore_patterns("__pycache__", "objects")
    for package in ("npefficient", "weights_convert"):
        shutil.copytree(ROOT / package, tree / package, ignore=ignored)
    objects, names = tree / "npefficient" / "engine" / "objects", [target.name for target in HERE]
    done = run(tree, "-m", "npefficient", "warmup", "--for", ",".join(names), "--into", objects)
    assert {line.split(": ")[0] for line in done.stdout.splitlines()} == set(names), done.stderr
    assert {path.name for path in objects.iterdir()} == {"hashes.json", *(f"{name}.code" for name in names)}
    return tree


def run(tree, *arguments, **changes):
    """Run Python with the package in `tree`, from elsewhere, with no home and no cache that can be written."""
    unwritable = {"HOME": None, "NPEFFICIENT_CACHE": str(tree / "npefficient" / "py.typed" / "cache")}
    return subprocess.run([*PYTHON[:1], *map(str, arguments)], cwd=tree.parent, text=True, capture_output=True,
                          env=environment(PYTHONPATH=str(tree), **{**unwritable, **changes}), timeout=600)


def without_numba(tree, *arguments, blocked=("numba",), **changes):
    return run(tree, "-c", WITHOUT_NUMBA.format(blocked=blocked, arguments=arguments), **changes)


@fitting
@needs_imagenet
def test_demo_runs_without_numba_and_without_a_cache(tree):
    """What the README shows, in a container that can't be written."""
    command, expected = re.search(r"^```console\n\$ npefficient (classify --demo)\n(.*?)^```$",
                                  (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE).groups()
    # An object file, which is what ARM64 has, is loaded by llvmlite.
    blocked = ("numba",) if "neoverse-n1" in [target.name for target in HERE] else ("numba", "llvmlite")
    done = without_numba(tree, *command.split(), blocked=blocked)
    assert done.returncode == 0 and done.stdout == expected, done.stderr
    assert "compile" not in done.stderr


BITS = """
import numpy as np
from npefficient.engine import compiled
from npefficient.engine.engine import Engine
from npefficient.kernels.layout import FLOAT32
from npefficient.network import architecture
from npefficient.network.parameters import random_weights
x = np.random.default_rng(0).uniform(-1, 1, (2, 45, 38, 3)).astype(np.float32)
logits = Engine(random_weights(architecture.build("lite0", 10)), 1)(x)
"""


@pytest.mark.parametrize("target", FITTING, ids=lambda target: target.name)
def test_every_targets_code_computes_the_same_bits(tree, target):
    """A processor with this target's features and no others uses its code."""
    here = {}
    exec(BITS, here)
    script = BITS + "import sys\nassert 'numba' not in sys.modules\nprint(compiled.found(), logits.tobytes().hex())"
    done = run(tree, "-c", script, **target.settings())
    assert done.returncode == 0, done.stderr
    path, bits = done.stdout.split()
    assert path.endswith(f"{target.name}.code") and bits == here["logits"].tobytes().hex()


@fitting
def test_warmup_finds_the_code_of_the_package(tree):
    done = without_numba(tree, "warmup")
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(rf"found compiled code in 0\.\d s: .*objects/{FITTING[0].name}\.code\n", done.stdout)


def test_processor_without_the_features_is_told_which(tree):
    done = without_numba(tree, "warmup", NUMBA_CPU_NAME="generic", NUMBA_CPU_FEATURES="")
    assert done.returncode == 1
    assert "Numba, which compiles it, is not installed" in done.stderr
    assert all(f"{target.name} needs " in done.stderr for target in HERE)


@pytest.mark.parametrize("arguments, problem", [
    (["--for", "x86-64-v3"], "--for and --into go together"),
    (["--into", "somewhere"], "--for and --into go together"),
    (["--for", "x86-64-v9", "--into", "somewhere"], "no target is called 'x86-64-v9'"),
])
def test_wrong_command_line_is_refused(tmp_path, arguments, problem):
    done = subprocess.run([*PYTHON, "-m", "npefficient", "warmup", *arguments], cwd=tmp_path, text=True,
                          env=environment(PYTHONPATH=str(ROOT)), capture_output=True)
    assert done.returncode == 2 and problem in done.stderr and not list(tmp_path.iterdir())


def test_failure_of_a_compilation_is_named_and_leaves_no_list(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    with pytest.raises(compiled.NpefficientError, match=f"compiling for {HERE[0].name} failed: exit code 1"):
        shipping.ship(HERE[:1], tmp_path, print)
    assert not list(tmp_path.iterdir())
