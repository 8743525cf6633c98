"""Run one function in a Python process of its own: `python -m npefficient.bench.process MODULE FUNCTION OUT < kwargs`.

Engines in one process disturb each other (spinning thread pools, memory, loaded libraries), so each is timed alone.
"""
import importlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from ..errors import NpefficientError

ROOT = Path(__file__).parents[2]  # where this very package is imported from
TIMEOUT = 3600  # seconds


class ProcessFailed(NpefficientError):
    """The function raised something that is no verdict on a result: a missing compiler, a library's own error."""


def isolated(module: str, function: str, environment: dict | None = None, **kwargs) -> dict:
    """Return what `function(**kwargs)` of a module returns, both as JSON can hold them, run in a new process.

    Raises NpefficientError with the same text where the function did (a wrong result), its subclass ProcessFailed for
    anything else.
    """
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    with tempfile.TemporaryDirectory() as directory:
        out = Path(directory) / "result.json"
        done = subprocess.run([sys.executable, "-m", __name__, module, function, str(out)], input=json.dumps(kwargs),
                              env={**os.environ, "PYTHONPATH": path, **(environment or {})}, text=True,
                              capture_output=True, timeout=TIMEOUT)
        answer = json.loads(out.read_text()) if out.exists() else {"failed": _last_line(done)}
    if "wrong" in answer:
        raise NpefficientError(answer["wrong"])
    if "failed" in answer:
        raise ProcessFailed(answer["failed"])
    return answer["result"]


def _last_line(done) -> str:
    lines = done.stderr.strip().splitlines()
    return f"exit code {done.returncode}" + (f": {lines[-1]}" if lines else "")


def main(module: str, function: str, out: str) -> None:
    try:
        answer = {"result": getattr(importlib.import_module(module), function)(**json.load(sys.stdin))}
    except NpefficientError as error:
        answer = {"wrong": str(error)}
    except Exception as error:  # whatever a foreign library comes up with
        answer = {"failed": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}
    Path(out).write_text(json.dumps(answer))


if __name__ == "__main__":
    main(*sys.argv[1:])
