"""The commands on a system without what only POSIX or only Linux has: the same results, from its own ways or without.

A stand-in for Windows and macOS that this machine can run. The tests of each module replace the answers one by one.
"""
import ast
import os
import subprocess
from pathlib import Path

import pytest
from fresh import PYTHON, environment
from job_rows import read
from small import save_photos, small_weights

import npefficient
from npefficient.weights.weight_file import write_weights

ROOT = Path(__file__).parents[2]

# Modules of the standard library that some system lacks, and the one or two files that may use each.
PLACES = {"fcntl": {"file_lock.py"}, "msvcrt": {"file_lock.py"}, "grp": {"private_directory.py"},
          "pwd": {"private_directory.py"}, "resource": {"machine.py"}, "mmap": {"machine_code.py"}}
ELSEWHERE = {"termios", "tty", "pty", "syslog", "posix", "nt", "winreg", "_winapi"}

# Takes away the modules and functions that Windows lacks, as far as Python itself can do without them here. There,
# a child process is killed as it is terminated.
TAKEN = """
import os, signal, subprocess, sys
subprocess.Popen.kill = subprocess.Popen.terminate
for name in ("fcntl", "grp", "pwd", "resource", "termios"):
    sys.modules[name] = None
for name in ("O_CLOEXEC", "O_DIRECTORY", "O_NOFOLLOW", "O_NONBLOCK", "fchmod", "fchown", "fork", "getegid", "geteuid",
             "getgid", "getloadavg", "getuid", "mkfifo", "pread", "register_at_fork", "sched_getaffinity",
             "sched_setaffinity", "sched_yield", "sysconf"):
    vars(os).pop(name, None)
for name in ("SIGHUP", "SIGKILL", "SIGPIPE", "SIGUSR1", "pthread_kill", "pthread_sigmask"):
    vars(signal).pop(name, None)
"""
COMMANDS = """
import shlex, sys
from npefficient.commands import main
for line in sys.argv[1:]:
    code = main(shlex.split(line))
    assert code == 0, f"{line}: exit code {code}"
"""
IMPORTS = """
import importlib, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
"""


@pytest.fixture
def place(tmp_path):
    """A folder with a checkpoint of a small network, and seven photos."""
    write_weights(tmp_path / "small.h5", small_weights())
    npefficient.export(tmp_path / "small.h5", tmp_path / "small.safetensors")
    (tmp_path / "photos").mkdir()
    save_photos(tmp_path / "photos", 7)
    return tmp_path


def python(place, script, *arguments) -> str:
    """Run a script in a fresh interpreter, to the end and without a traceback; returns what it prints."""
    done = subprocess.run([*PYTHON, "-c", script, *arguments], cwd=place, env=environment(PYTHONPATH=str(ROOT)),
                          capture_output=True, text=True, timeout=240)
    assert done.returncode == 0 and "Traceback" not in done.stderr, f"{done.stdout}{done.stderr}"
    return done.stdout


def imported(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module


def test_what_a_system_may_lack_is_used_in_few_places():
    found = {}
    for path in (*ROOT.glob("npefficient/**/*.py"), *ROOT.glob("weights_convert/*.py")):
        for name in set(imported(path)) & (PLACES.keys() | ELSEWHERE):
            found.setdefault(name, set()).add(path.name)
    assert found == PLACES


def test_every_module_can_be_imported(place):
    paths = [*ROOT.glob("npefficient/**/*.py"), *ROOT.glob("weights_convert/*.py")]
    names = (".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in sorted(paths))
    python(place, TAKEN + IMPORTS, *(name for name in names if not name.endswith("__main__")))


def test_demo(place):
    assert python(place, TAKEN + COMMANDS, "classify --demo") == python(place, COMMANDS, "classify --demo")


def test_convert(place):
    python(place, TAKEN + COMMANDS, "convert small.safetensors here.h5")
    python(place, COMMANDS, "convert small.safetensors there.h5")
    assert (place / "here.h5").read_bytes() == (place / "there.h5").read_bytes()


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".h5"])
def test_job_goes_on(place, suffix):
    job = "--weights small.h5 --output"
    python(place, TAKEN + COMMANDS, f"classify photos/*[0-2].png {job} here{suffix}",
           f"classify photos {job} here{suffix} --resume")
    python(place, COMMANDS, f"classify photos {job} there{suffix}")
    assert len(read(place / f"here{suffix}")) == 7
    assert read(place / f"here{suffix}") == read(place / f"there{suffix}")
    assert not [name for name in os.listdir(place) if name.endswith(".part")]
