"""Compile for the processors of `targets.py`, and write the files that come with the package (`shipped.py`)."""
import hashlib
import json
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

from ..common.paths import replacing
from ..errors import NpefficientError
from ..kernels.layout import FLOAT32
from .compiler import compile_code
from .cpus import available_threads
from .processes import own_process, sources
from .shipped import HASHES
from .targets import Target


def ship(targets: list[Target], directory: Path, report) -> None:
    """Compile for each target, in a process of its own, and write the files into `directory`, which is made.

    Other targets' files that are there are no longer listed. `report(text)` is told of each file. Raises OSError.
    """
    directory = directory.resolve()
    directory.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(available_threads()) as pool:
        entries = list(pool.map(lambda target: _compiled_for(target, directory, report), targets))
    content = {"sources": sources(), "targets": {target.name: entry for target, entry in zip(targets, entries)}}
    with replacing(directory / HASHES, force=True) as part:
        part.write_text(json.dumps(content, indent=2) + "\n")


def _compiled_for(target: Target, directory: Path, report) -> dict:
    """Compile for one target; returns its entry in the list."""
    path = directory / f"{target.name}.code"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("NUMBA_")}
    with replacing(path, force=True) as part:
        done = subprocess.run(own_process(__name__, "write_own", str(part)), env={**environment, **target.settings()},
                              cwd=directory, text=True, capture_output=True)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
            raise NpefficientError(f"compiling for {target.name} failed: {last}")
        code = part.read_bytes()
    report(f"{target.name}: {str(path)}, {len(code):,} bytes")
    return {"sha256": hashlib.sha256(code).hexdigest(), "layout": json.loads(done.stdout)}


def write_own(path: str) -> None:
    """Compile for the processor that the environment names, write the code, and print the layout it is for."""
    code, foreign = compile_code(FLOAT32)
    if foreign:
        raise NpefficientError(f"the code needs what Numba alone provides: {', '.join(sorted(foreign))}")
    Path(path).write_bytes(code)
    print(json.dumps(asdict(FLOAT32)))
