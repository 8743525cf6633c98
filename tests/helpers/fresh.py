"""Scripts for a fresh interpreter, to see what only a whole process can show."""
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

MODEL = """
import sys, threading, time, warnings
import numpy as np
import npefficient
x = np.random.default_rng(0).uniform(-1, 1, (1, 40, 40, 3)).astype(np.float32)
model = npefficient.create_model("lite0", num_classes=10, num_threads=2)
"""


# Every warning is an error but those about more threads than processors, since tests run on any machine, and about
# random weights, which most models here have.
PYTHON = (sys.executable, "-W", "error", *(f"-Wignore:{count} threads" for count in range(2, 9)),
          "-Wignore:Model(")


def environment(**changes):
    """This process's environment with changes; None takes a variable away."""
    return {k: v for k, v in {**os.environ, **changes}.items() if v is not None}


def run(script, timeout=240, cwd=ROOT, **changes):
    """Run a script in a fresh interpreter, which has to end without an error; returns its output."""
    done = subprocess.run([*PYTHON, "-c", script], cwd=cwd, env=environment(**changes), capture_output=True, text=True,
                          timeout=timeout)
    assert done.returncode == 0, f"exit code {done.returncode}: {done.stdout}{done.stderr}"
    return done.stdout + done.stderr
