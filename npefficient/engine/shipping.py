"""Compile for the processors of `targets.py`, and write the files that come with the package (`shipped.py`)."""
import contextlib
import hashlib
import json
import os
import signal
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

from ..common.paths import replacing
from ..errors import NpefficientError
from ..kernels.layout import layout_of
from .compiler import compile_code
from .cpus import available_threads
from .processes import own_process, sources
from .shipped import HASHES
from .targets import Target


class Processes:
    """Processes that threads wait for; those that still run when the block ends are ended, with their own."""

    def __init__(self):
        self._running: set[subprocess.Popen] = set()
        self._over, self._lock = False, threading.Lock()

    def run(self, command: list[str], **how) -> subprocess.CompletedProcess:
        """Run a command and wait for its end; what it says is text. Raises NpefficientError after the block's end."""
        with self._lock:
            if self._over:
                raise NpefficientError("it was interrupted")
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                       stderr=subprocess.PIPE, text=True, start_new_session=True, **how)
            self._running.add(process)
        said, complaint = process.communicate()
        with self._lock:
            self._running.remove(process)
        return subprocess.CompletedProcess(command, process.returncode, said, complaint)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        with self._lock:
            self._over = True
            for process in self._running:
                if process.returncode is not None:  # its thread is about to take it off
                    continue
                if hasattr(os, "killpg"):
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(process.pid, signal.SIGKILL)
                else:
                    process.kill()


def ship(targets: list[Target], directory: Path, report) -> None:
    """Compile for each target, in processes of its own, and write the files into `directory`, which is made.

    Other targets' files that are there are no longer listed. `report(text)` is told of each file. Raises OSError, and
    NpefficientError where Numba is missing or fails. An interrupt ends the processes.
    """
    if find_spec("numba") is None:
        raise NpefficientError("Numba compiles the code, and is not installed: python -m pip install numba")
    directory = directory.resolve()
    directory.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(available_threads()) as pool, Processes() as processes:
        files = list(pool.map(lambda target: _compiled_for(target, directory, report, processes), targets))
    content = {"sources": sources(), "targets": {target.name: entries for target, entries in zip(targets, files)}}
    with replacing(directory / HASHES, force=True) as part:
        part.write_text(json.dumps(content, indent=2) + "\n")


def _compiled_for(target: Target, directory: Path, report, processes: Processes) -> dict:
    """Compile both precisions for one target; returns the entries of its files in the list."""
    paths = {precision: directory / f"{target.name}-{precision}.code" for precision in ("float32", "int8")}
    return {path.name: _compiled(target, precision, path, report, processes) for precision, path in paths.items()}


def _compiled(target: Target, precision: str, path: Path, report, processes: Processes) -> dict:
    """Compile one precision for one target; returns the file's entry in the list."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("NUMBA_")}
    with replacing(path, force=True) as part:
        done = processes.run(own_process(__name__, "write_own", str(part), precision), cwd=path.parent,
                             env={**environment, **target.settings()})
        if done.returncode:
            last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
            raise NpefficientError(f"compiling {precision} for {target.name} failed: {last}")
        code = part.read_bytes()
    report(f"{target.name}, {precision}: {str(path)}, {len(code):,} bytes")
    return {"sha256": hashlib.sha256(code).hexdigest(), "layout": json.loads(done.stdout)}


def write_own(path: str, precision: str) -> None:
    """Compile for the processor that the environment names, write the code, and print the layout it is for."""
    layout = layout_of(precision)
    code, foreign = compile_code(layout)
    if foreign:
        raise NpefficientError(f"the code needs what Numba alone provides: {', '.join(sorted(foreign))}")
    Path(path).write_bytes(code)
    print(json.dumps(asdict(layout)))
