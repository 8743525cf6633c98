"""What a source distribution and a wheel contain: all that users and packagers need, and nothing else."""
import configparser
import shlex
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from npefficient.common.extras import BRINGS

ROOT = Path(__file__).parents[2]
LEFT_OUT = shutil.ignore_patterns(".git", "__pycache__", "*.egg-info", "build", "dist", ".*cache", ".hypothesis",
                                  ".venv", ".ipynb_checkpoints")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """(files of the tree, files of the sdist, files of the wheel that is built from the sdist)."""
    place = tmp_path_factory.mktemp("distribution")
    tree = shutil.copytree(ROOT, place / "tree", ignore=LEFT_OUT)
    expected = {path.relative_to(tree).as_posix() for path in tree.rglob("*") if path.is_file()}
    build(tree, place, "sdist")
    (archive,) = place.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        opened.extractall(place, filter="data")
        files = [name.split("/", 1) for name in opened.getnames()]
    source = next(path for path in place.iterdir() if path.is_dir() and (path / "PKG-INFO").is_file())
    build(source, place, "wheel")
    (wheel,) = place.glob("*.whl")
    sdist = {name[1] for name in files if (source / name[-1]).is_file()}
    return expected, sdist, set(zipfile.ZipFile(wheel).namelist())


def build(tree, target, kind):
    code = f"from setuptools import build_meta; build_meta.build_{kind}({str(target)!r})"
    done = subprocess.run([sys.executable, "-c", code], cwd=tree, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]


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


def test_what_is_said_to_install_is_what_the_extras_bring():
    options = configparser.ConfigParser()
    options.read(Path(__file__).parents[2] / "setup.cfg")
    extras = options["options.extras_require"]
    for extra, said in BRINGS.items():
        assert shlex.split(said) == extras[extra].split(), extra
