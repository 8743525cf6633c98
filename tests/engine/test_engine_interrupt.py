"""After Ctrl-C a call returns soon, and the model works as before."""
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import npefficient

PROGRAM = Path(__file__).parents[1] / "helpers" / "interrupts.py"

pytestmark = pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="signals to a thread: needs POSIX")


def run(how):
    root = Path(npefficient.__file__).parent.parent
    return subprocess.run([sys.executable, PROGRAM, how], capture_output=True, text=True, timeout=600,
                          env={**os.environ, "PYTHONPATH": str(root)})


def test_interrupt_ends_a_long_batch():
    """Within a second of the signal, with and without workers; then the answers are right, and the process ends."""
    done = run("signal")
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [line.split() for line in done.stdout.splitlines()]
    assert [(threads, answers) for threads, _, answers in lines] == [(t, "right") for t in "112233"]
    assert max(float(taken) for _, taken, _ in lines) < 1.0, done.stdout


@pytest.mark.parametrize("what", ["anywhere", "training"])
def test_interrupt_at_any_line_loses_nothing(what):
    """At whatever line the interrupt comes, the next answers are right, and no worker is lost."""
    done = run(what)
    assert re.search(r"\n?\d{3,} interrupts, 0 wrong answers\n$", done.stdout), done.stdout + done.stderr[-2000:]
    assert "lost" not in done.stdout, done.stdout
    assert done.returncode == 0


def test_signal_handler_at_any_line_may_call_the_models():
    """Whatever the interrupted call has locked, neither call waits for the other, and both are right."""
    done = run("handler")
    assert re.fullmatch(r"\d{3,} calls in a handler, 0 wrong answers\n", done.stdout), done.stdout + done.stderr[-2000:]
