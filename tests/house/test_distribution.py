"""What a source distribution and a wheel contain: all that users and packagers need, and nothing else."""
import configparser
import os
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

from npefficient.common.extras import BRINGS
from npefficient.engine.targets import TARGETS

ROOT = Path(__file__).parents[2]
LEFT_OUT = shutil.ignore_patterns(".git", "__pycache__", "*.egg-info", "build", "dist", "objects", ".*cache",
                                  ".hypothesis", ".venv", ".ipynb_checkpoints")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """(files of the tree, files of the sdist, files of the wheel that is built from the sdist)."""
    place = tmp_path_factory.mktemp("distribution")
    tree = shutil.copytree(ROOT, place / "tree", ignore=LEFT_OUT)
    expected = {path.relative_to(tree).as_posix() for path in tree.rglob("*") if path.is_file()}
    build(tree, place, "sdist")
    (archive,) = place.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        opened.extraction_filter = getattr(tarfile, "data_filter", None)  # Python has it since 3.10.12 and 3.11.4
        opened.extractall(place)
        files = [name.split("/", 1) for name in opened.getnames()]
    source = next(path for path in place.iterdir() if path.is_dir() and (path / "PKG-INFO").is_file())
    wheel = build(source, place, "wheel")
    assert wheel.name.endswith("-py3-none-any.whl")
    sdist = {name[1] for name in files if (source / name[-1]).is_file()}
    return expected, sdist, set(zipfile.ZipFile(wheel).namelist())


def build(tree, target, kind, **environment):
    code = f"from setuptools import build_meta; print(build_meta.build_{kind}({str(target)!r}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=tree, capture_output=True, text=True, timeout=300,
                          env={**os.environ, **environment})
    assert done.returncode == 0, done.stderr[-3000:]
    return target / done.stdout.splitlines()[-1]


def test_sdist_is_the_tree(built):
    expected, sdist, _ = built
    made = {name for name in sdist if name == "PKG-INFO" or ".egg-info/" in name}
    assert expected - sdist == {".gitignore"}
    assert sdist - expected == made


def test_wheel_has_both_packages_and_their_data(built):
    expected, _, wheel = built
    packages = {name for name in expected if name.startswith(("npefficient/", "weights_convert/"))}
    assert {name for name in wheel if ".dist-info/" not in name} == packages
    assert {"npefficient/data/photos/coffee.jpg", "npefficient/data/photos/LICENSES", "npefficient/data/digits.h5",
            "npefficient/py.typed", "weights_convert/py.typed"} <= wheel


@pytest.fixture
def tree(tmp_path):
    return shutil.copytree(ROOT, tmp_path / "tree", ignore=LEFT_OUT)


def test_wheel_brings_compiled_code_on_request(tree, tmp_path):
    """It is for this platform and any Python, and starts without Numba. A later build without the request has none."""
    target = next(target for target in TARGETS if platform.machine().lower() in target.machines)
    wheel = build(tree, tmp_path, "wheel", NPEFFICIENT_SHIP=target.name)
    system = sysconfig.get_platform().replace("-", "_").replace(".", "_")
    assert wheel.name.endswith(f"-py3-none-{system}.whl")
    zipfile.ZipFile(wheel).extractall(tmp_path / "installed")
    objects = tmp_path / "installed" / "npefficient" / "engine" / "objects"
    files = [f"{target.name}-{precision}.code" for precision in ("float32", "int8")]
    assert {path.name for path in objects.iterdir()} == {"hashes.json", *files}
    script = ("import sys; sys.modules['numba'] = None; from npefficient.engine import compiled, shipped; "
              "from npefficient.kernels.layout import FLOAT32, INT8; ")
    done = subprocess.run(
        [sys.executable, "-c", script + "print(shipped.find(FLOAT32)[0], shipped.find(INT8)[0]); "
         "compiled.driver(); compiled.driver(INT8)"],
        cwd=tmp_path / "installed", capture_output=True, text=True,
        env={**os.environ, **target.settings(), "NPEFFICIENT_CACHE": str(tmp_path / "cache")})
    assert [Path(found) for found in done.stdout.split()] == [objects / file for file in files], done.stderr
    again = build(tree, tmp_path, "wheel")
    assert again.name.endswith("-py3-none-any.whl")
    assert not [name for name in zipfile.ZipFile(again).namelist() if "objects/" in name]


def test_only_a_wheel_with_compiled_code_takes_numba_to_build(tree):
    code = "from setuptools import build_meta; print(build_meta.get_requires_for_build_wheel())"
    for targets, expected in ((None, False), ("x86-64-v4", True)):
        environment = {**os.environ, **({"NPEFFICIENT_SHIP": targets} if targets else {})}
        done = subprocess.run([sys.executable, "-c", code], cwd=tree, capture_output=True, text=True, env=environment)
        assert ("numba>=" in done.stdout.splitlines()[-1]) == expected, done.stderr


def test_editable_installation_compiles_nothing(tree, tmp_path):
    wheel = build(tree, tmp_path, "editable", NPEFFICIENT_SHIP="no such target")
    assert not [name for name in zipfile.ZipFile(wheel).namelist() if "objects" in name]
    assert not list(tree.rglob("objects"))


def test_what_is_said_to_install_is_what_the_extras_bring():
    options = configparser.ConfigParser()
    options.read(Path(__file__).parents[2] / "setup.cfg")
    extras = options["options.extras_require"]
    for extra, said in BRINGS.items():
        assert shlex.split(said) == extras[extra].split(), extra
