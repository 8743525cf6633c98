"""What `.ci/run` relies on: skips are listed, tests keep their names, the oldest versions are those of setup.cfg."""
import configparser
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SKIPS = """
import pytest

def test_runs():
    pass

@pytest.mark.skip(reason="needs a gadget: buy one")
def test_skips():
    pass
"""


CHANGING_NAMES = """
import pytest

@pytest.mark.parametrize("word", [len, lambda: 3], ids=str)
def test_word(word):
    pass
"""


def run_pytest(place, source, *options):
    """pytest on this source with the conftest.py of all tests."""
    shutil.copy(ROOT / "tests" / "conftest.py", place)
    (place / "test_it.py").write_text(source)
    return subprocess.run([sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *options, "test_it.py"], cwd=place,
                          env={**os.environ, "PYTEST_ADDOPTS": ""}, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("options, code", [
    ([], 0), (["--no-skips"], 1), (["--no-skips", "--may-skip", "needs a gadget"], 0),
    (["--no-skips", "--may-skip", "a widget", "--may-skip", "a gadget"], 0),
    (["--no-skips", "--may-skip", "needs a widget"], 1)],
    ids=["usually", "none_may", "this_may", "this_may_too", "another_may"])
def test_skipped_tests_are_named_and_may_be_failures(tmp_path, options, code):
    done = run_pytest(tmp_path, SKIPS, *options)
    assert done.returncode == code, done.stdout + done.stderr
    assert "1 NOT CHECKED" in done.stdout and "test_skips: Skipped: needs a gadget: buy one" in done.stdout
    assert ("makes that a failure" in done.stdout) == bool(code)


def test_names_of_tests_that_change_from_process_to_process_are_refused(tmp_path):
    """With them, no two processes can share the tests: `python -m pytest -n 2 --dist loadfile` of pytest-xdist."""
    done = run_pytest(tmp_path, CHANGING_NAMES)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert re.search(r"test_word\[<function <lambda> at 0x.* has another name in each process", done.stderr)


@pytest.mark.parametrize("demanded", [False, True], ids=["by_hand", "in_CI"])
def test_a_missing_oldest_python_is_said_and_fails_in_ci(tmp_path, demanded):
    for tool in ("bash", "dirname", "sed"):
        (tmp_path / tool).symlink_to(shutil.which(tool))
    environment = {"PATH": str(tmp_path), "PYENV_ROOT": str(tmp_path)} | ({"CI": "true"} if demanded else {})
    done = subprocess.run(["bash", ROOT / ".ci" / "oldest"], env=environment, capture_output=True, text=True,
                          timeout=60)
    assert done.returncode == (1 if demanded else 0)
    assert done.stderr.startswith("NOT CHECKED") and "Python 3.10" in done.stderr and done.stdout == ""


def test_no_two_test_files_share_a_name():
    """pytest imports each as a module of its own, and can't collect two of one name together."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert len(names) > 100 and len(set(names)) == len(names)


def test_the_oldest_versions_are_all_those_of_setup_cfg():
    """Each requirement has a ">=" that `.ci/oldest` understands, and the classifiers begin with the oldest Python."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    requirements = config["options"]["install_requires"].split()
    expression = re.search(r"pins=\$\(sed -n '(.*)' setup.cfg\)", (ROOT / ".ci" / "oldest").read_text()).group(1)
    pins = subprocess.check_output(["sed", "-n", expression, ROOT / "setup.cfg"], text=True)
    assert pins.split() == [requirement.replace(">=", "==") for requirement in requirements] and len(requirements) == 4
    versions = re.findall(r"Python :: (3\.\d+)\n", config["metadata"]["classifiers"] + "\n")
    assert config["options"]["python_requires"] == f">={versions[0]}"
    readme = (ROOT / "README.md").read_text()
    assert f"Python {versions[0]} to {versions[-1]} " in readme
    assert [pin for pin in pins.split() if pin.replace("==", " ") not in readme] == []
