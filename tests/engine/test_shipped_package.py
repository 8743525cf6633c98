"""A package that ships compiled code, as `warmup` writes it: it starts without Numba, and gives the same bits."""
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from fresh import PYTHON, ROOT, environment
from imagenet import needs_imagenet
from targets_here import FITTING, HERE, fitting

from npefficient.engine import compiled, shipping
from npefficient.model.model import PRECISIONS

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
    made = [(name, precision) for name in names for precision in PRECISIONS]
    assert {line.split(": ")[0] for line in done.stdout.splitlines()} == set(map(", ".join, made)), done.stderr
    assert {path.name for path in objects.iterdir()} == {"hashes.json", *(f"{'-'.join(one)}.code" for one in made)}
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
from npefficient.kernels.layout import layout_of
from npefficient.network import architecture
from npefficient.network.parameters import random_weights
from npefficient.network.quantization import quantize
x = np.random.default_rng(0).uniform(-1, 1, (2, 45, 38, 3)).astype(np.float32)
weights = random_weights(architecture.build("lite0", 10))
logits = Engine(quantize(weights) if precision == "int8" else weights, 1)(x)
"""


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("target", FITTING, ids=lambda target: target.name)
def test_every_targets_code_computes_the_same_bits(tree, target, precision):
    """A processor with this target's features and no others uses its code."""
    here = {"precision": precision}
    exec(BITS, here)
    script = (f"precision = {precision!r}{BITS}import sys\nassert 'numba' not in sys.modules\n"
              "print(compiled.found(layout_of(precision)), logits.tobytes().hex())")
    done = run(tree, "-c", script, **target.settings())
    assert done.returncode == 0, done.stderr
    path, bits = done.stdout.split()
    assert path.endswith(f"{target.name}-{precision}.code") and bits == here["logits"].tobytes().hex()


@fitting
@pytest.mark.parametrize("precision", PRECISIONS)
def test_warmup_finds_the_code_of_the_package(tree, precision):
    done = without_numba(tree, "warmup", "--precision", precision, **FITTING[0].settings())
    assert done.returncode == 0, done.stderr
    expected = rf"found compiled code in \d\.\d s: .*objects/{FITTING[0].name}-{precision}\.code\n"
    assert re.fullmatch(expected, done.stdout)


def test_processor_without_the_features_is_told_which(tree):
    done = without_numba(tree, "warmup", NUMBA_CPU_NAME="generic", NUMBA_CPU_FEATURES="")
    assert done.returncode == 1
    assert "Numba, which compiles it, is not installed" in done.stderr
    assert all(f"{target.name} needs " in done.stderr for target in HERE)


@pytest.mark.parametrize("arguments, problem", [
    (["--for", "x86-64-v3"], "--for and --into go together"),
    (["--into", "somewhere"], "--for and --into go together"),
    (["--for", "x86-64-v9", "--into", "somewhere"], "no target is called 'x86-64-v9'"),
    (["--for", "x86-64-v3", "--into", "somewhere", "--precision", "int8"], "both precisions: omit --precision"),
])
def test_wrong_command_line_is_refused(tmp_path, arguments, problem):
    done = subprocess.run([*PYTHON, "-m", "npefficient", "warmup", *arguments], cwd=tmp_path, text=True,
                          env=environment(PYTHONPATH=str(ROOT)), capture_output=True)
    assert done.returncode == 2 and problem in done.stderr and not list(tmp_path.iterdir())


def test_failure_of_a_compilation_is_named_and_leaves_no_list(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    with pytest.raises(compiled.NpefficientError, match=f"compiling float32 for {HERE[0].name} failed: exit code 1"):
        shipping.ship(HERE[:1], tmp_path, print)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("arguments, said", [
    (["bench", "peak"], "bench needs Numba, which is not installed: python -m pip install numba"),
    (["bench", "kernels", "--op", "pool"], "bench needs Numba"), (["profile", "--seconds", "0.1"], "needs Numba"),
    (["warmup", "--for", HERE[0].name, "--into", "somewhere"], "Numba compiles the code, and is not installed"),
], ids=["peak", "kernels", "profile", "warmup"])
def test_what_needs_numba_says_so(tmp_path, arguments, said):
    script = WITHOUT_NUMBA.format(blocked=("numba", "llvmlite"), arguments=arguments)
    done = subprocess.run([*PYTHON, "-c", script], cwd=tmp_path, text=True, capture_output=True,
                          env=environment(PYTHONPATH=str(ROOT)))
    assert done.returncode == 1 and said in done.stderr.splitlines()[-1] and not list(tmp_path.iterdir())


WITH_A_CHILD = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; print('here', flush=True); time.sleep(300)"])
child.wait()
"""


def test_an_interrupt_ends_what_is_running(tmp_path):
    """The child has the output, too: without its end, nobody would return from `run`."""
    with pytest.raises(KeyboardInterrupt), ThreadPoolExecutor(2) as pool, shipping.Processes() as processes:
        quick = pool.submit(processes.run, [sys.executable, "-c", "print('done')"])
        endless = pool.submit(processes.run, [sys.executable, "-c", WITH_A_CHILD])
        assert (quick.result().returncode, quick.result().stdout) == (0, "done\n")
        raise KeyboardInterrupt
    assert endless.result(timeout=60).returncode != 0
    with pytest.raises(compiled.NpefficientError, match="it was interrupted"):
        processes.run([sys.executable, "-c", ""])
