"""Run one function in its own Python process: `python -m npefficient.bench.process MODULE FUNCTION OUT < kwargs`.

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

ROOT = Path(__file__).parents[2]  # the directory that this package is imported from
TIMEOUT = 3600  # seconds


class ProcessFailed(NpefficientError):
    """The function failed for a reason other than a wrong result, such as a missing compiler or a library's error."""


def isolated(module: str, function: str, environment: dict | None = None, **kwargs) -> dict:
    """Run `function(**kwargs)` of a module in a new process and return its result; both must be JSON-serialisable.

    Raises NpefficientError with the same text if the function did (a wrong result), its subclass ProcessFailed for
    any other failure.
    """
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    with tempfile.TemporaryDirectory() as directory:
        out = Path(directory) / "result.json"
        try:
            done = subprocess.run([sys.executable, "-m", __name__, module, function, str(out)],
                                  input=json.dumps(kwargs), text=True, capture_output=True, timeout=TIMEOUT,
                                  env={**os.environ, "PYTHONPATH": path, **(environment or {})})
        except subprocess.TimeoutExpired:
            raise ProcessFailed(f"no result within {TIMEOUT:,} s") from None
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
    except Exception as error:  # a third-party library may raise anything
        answer = {"failed": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}
    Path(out).write_text(json.dumps(answer))


if __name__ == "__main__":
    main(*sys.argv[1:])
