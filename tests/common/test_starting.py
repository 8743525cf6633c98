"""Ctrl-C while the command `npefficient` imports its modules and after its end; other programs stay as they are."""
import os
import signal
import subprocess
import sys

import pytest
from fresh import ROOT, environment

# Python runs this at its start: the first import of a module of this name interrupts the process, or its exit.
CUSTOMIZE = """
import atexit, os, signal, sys

class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == os.environ["INTERRUPTED_AT"]:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupting())
if os.environ["INTERRUPTED_AT"] == "exit":
    atexit.register(os.kill, os.getpid(), signal.SIGINT)
"""
SCRIPT = "import sys\nfrom npefficient.commands import main\nif __name__ == '__main__':\n    sys.exit(main())\n"
PROGRAM = "import npefficient\n"
posix = pytest.mark.skipif(os.name != "posix", reason="Windows has no os.kill for Ctrl-C")


def run(place, *arguments, at="numpy", **options):
    """A Python process that is interrupted where it imports the module `at`."""
    (place / "sitecustomize.py").write_text(CUSTOMIZE)
    path = os.pathsep.join([str(place), str(ROOT)])
    return subprocess.run([sys.executable, *map(str, arguments)], env=environment(PYTHONPATH=path, INTERRUPTED_AT=at),
                          capture_output=True, text=True, timeout=120, **options)


@posix
@pytest.mark.parametrize("at", ["numpy", "npefficient.images.image", "argparse"])
@pytest.mark.parametrize("way", ["script", "module"])
def test_a_command_ends_quietly(tmp_path, way, at):
    (tmp_path / "npefficient").write_text(SCRIPT)  # as pip writes it
    done = run(tmp_path, *([tmp_path / "npefficient"] if way == "script" else ["-m", "npefficient"]), "list", at=at)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


@posix
def test_once_it_runs_a_command_says_that_it_was_interrupted(tmp_path):
    done = run(tmp_path, "-m", "npefficient", "list", at="npefficient.commands.list")
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "npefficient: interrupted\n")


@posix
@pytest.mark.parametrize("way", ["script", "module"])
def test_after_its_end_a_command_is_quiet_too(tmp_path, way):
    (tmp_path / "npefficient").write_text(SCRIPT)
    done = run(tmp_path, *([tmp_path / "npefficient"] if way == "script" else ["-m", "npefficient"]), "--version",
               at="exit")
    assert (done.returncode, done.stderr) == (130, "") and done.stdout.startswith("npefficient ")


@posix
def test_an_ignored_interrupt_stays_ignored(tmp_path):
    """As for what a shell starts in the background, or after `nohup`."""
    done = run(tmp_path, "-m", "npefficient", "--version",
               preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN))
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.startswith("npefficient ")


@posix
def test_another_program_gets_its_exception(tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    done = run(tmp_path, tmp_path / "program.py")
    assert done.returncode == -signal.SIGINT and done.stderr.rstrip().endswith("KeyboardInterrupt")
