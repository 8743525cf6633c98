"""Compiled code that comes with the package, for the processors of `targets.py`: no first start has to compile.

    objects/<target>.code       the code
    objects/hashes.json         {"sources": "..", "targets": {"<target>": {"sha256": "..", "layout": {..}}}}

A build puts the directory there (`NPEFFICIENT_SHIP` in setup.py); a checkout has none. The list is as trustworthy as
the package's own sources, which lie beside it. Code is used if its sha256 is in the list, the list's hash of the
sources is that of the sources installed, and the processor has the features.
"""
import hashlib
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

from ..common.paths import replacing
from ..errors import NpefficientError
from ..kernels.layout import FLOAT32, Layout
from .cpus import available_threads
from .targets import TARGETS, Target

PACKAGE = Path(__file__).parent.parent
OBJECTS = PACKAGE / "engine" / "objects"
HASHES = "hashes.json"


def sources() -> str:
    """A hash of all sources that compiled code depends on, in hexadecimal."""
    parts = [(source.relative_to(PACKAGE).as_posix(), source.read_bytes())
             for source in sorted([*PACKAGE.glob("kernels/*.py"), *PACKAGE.glob("engine/*.py")])]
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def find(layout: Layout, refuse=lambda path, problem: None) -> tuple[Path, bytes] | None:
    """(file, code) of the best shipped target that this processor can run; None if there is none.

    `refuse(path, problem)` is told if that file is not what was built: altered, or beside other sources.
    """
    content = _listed()
    for target in TARGETS:
        if target.name in content["targets"] and not _misfit(target, layout, content):
            return _read(OBJECTS / f"{target.name}.code", content["targets"][target.name], content["sources"], refuse)
    return None


def misfits(layout: Layout) -> list[str]:
    """Why this processor can't run the shipped code, for each target of it that does not fit."""
    content = _listed()
    reasons = {target.name: _misfit(target, layout, content) for target in TARGETS if target.name in content["targets"]}
    return [f"{name} {reason}" for name, reason in reasons.items() if reason]


def _listed() -> dict:
    listed = OBJECTS / HASHES
    return json.loads(listed.read_bytes()) if listed.is_file() else {"sources": "", "targets": {}}


def _misfit(target: Target, layout: Layout, content: dict) -> str | None:
    missing = target.missing()
    if missing:
        return f"needs {', '.join(missing)}"
    # Plans and packed weights are made for FLOAT32. An AVX-512 processor without shipped code of its own could run
    # that for AVX2, but at half the speed of what it compiles.
    return None if content["targets"][target.name]["layout"] == asdict(layout) else "is for vectors of another width"


def _read(path: Path, entry: dict, made_from: str, refuse) -> tuple[Path, bytes] | None:
    if made_from != sources():
        return refuse(path, "the sources beside it are not those that it was compiled from")
    try:
        code = path.read_bytes()
    except OSError as error:
        return refuse(path, f"it can't be read ({error.strerror})")
    if hashlib.sha256(code).hexdigest() != entry["sha256"]:
        return refuse(path, f"its sha256 is not the one in {HASHES}")
    return path, code


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
    from .compiler import compile_code

    code, foreign = compile_code(FLOAT32)
    if foreign:
        raise NpefficientError(f"the code needs what Numba alone provides: {', '.join(sorted(foreign))}")
    Path(path).write_bytes(code)
    print(json.dumps(asdict(FLOAT32)))


# --- processes -------------------------------------------------------------------------------------------------------


def own_process(module: str, function: str, *arguments: str) -> list[str]:
    """The command that calls a function of this package in a Python process of its own.

    It finds modules where this process does, except by relative paths: what lies in a working directory, which may have
    changed, must not take the place of a module that it imports. It fails if it finds another version of the package.
    """
    places = [place for place in sys.path if os.path.isabs(place)] + [str(PACKAGE.parent)]
    return [sys.executable, "-c", f"import sys; sys.path[:] = {places!r}; from {__name__} import check_sources; "
            f"check_sources({sources()!r}); from {module} import {function}; {function}(*{arguments!r})"]


def check_sources(expected: str) -> None:
    """Raise NpefficientError unless this process has the sources with this hash."""
    if sources() != expected:
        raise NpefficientError(f"{str(PACKAGE)!r} is another version of npefficient than the one that called it")
