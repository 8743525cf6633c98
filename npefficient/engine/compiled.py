"""The compiled driver: from the user's cache, from the package, or compiled once with Numba.

A start that finds compiled code needs llvmlite's bindings at most; it neither imports Numba nor compiles. The cache's
key is a hash of everything the code depends on: after an edit of a kernel, on a different processor or with a different
version of Python or Numba, stale code never runs. Code compiled for exactly this processor is preferred to code that
came with the package (`shipped.py`).
"""
import hashlib
import os
import sys
import threading
import time
import warnings
from dataclasses import astuple
from importlib.util import find_spec
from pathlib import Path

from ..common.paths import cache_directory
from ..errors import ArgumentError, NpefficientError
from ..kernels.layout import FLOAT32, Layout
from ..kernels.processor import identity
from . import machine_code, object_cache, shipped
from .processes import sources
from .records import ARGUMENTS

_lock = threading.RLock()
_drivers: dict = {}  # by layout
_compiling = False


def driver(layout: Layout = FLOAT32, report=None):
    """Return the compiled driver for a layout (`run.make_work`); `report(text)` is told about slow steps.

    Safe to call from several threads. If code can't be cached, it is compiled in memory, with one warning. Raises
    NpefficientError if a signal handler needs it while the same thread is compiling it, or if code has to be compiled
    and Numba is not installed.
    """
    ready = _drivers.get(layout)
    if ready is not None:  # without the lock: at process exit the thread that holds it may be gone
        return ready
    with _lock:
        if layout not in _drivers:
            code = _code(layout, report or (lambda text: None))
            _drivers[layout] = machine_code.load(code, ARGUMENTS)
        return _drivers[layout]


def code_path(layout: Layout = FLOAT32) -> Path:
    """The cache file for the compiled code of these sources on this processor."""
    return object_cache.path_of(_directory(), _key(layout))


def found(layout: Layout = FLOAT32) -> Path | None:
    """The file whose compiled code a start would use; None if it would have to compile."""
    if _cached(_key(layout))[0] is not None:
        return code_path(layout)
    path, _ = shipped.find(layout) or (None, None)
    return path


def _directory() -> Path:
    return cache_directory() / "compiled"


def _key(layout: Layout) -> bytes:
    """A hash of everything the code depends on: sources, layout, processor, versions and Numba's settings."""
    parts = [sources(), astuple(layout), identity(), sys.implementation.name, sys.version, _numba_settings()]
    parts += [_version(package) for package in ("llvmlite", "numba")]
    return hashlib.sha256(repr(parts).encode()).digest()


def _version(package: str) -> bytes:
    """The version of Numba or llvmlite, from the file that defines it: importing them or reading their metadata takes
    longer."""
    spec = find_spec(package)
    return Path(spec.origin).with_name("_version.py").read_bytes() if spec else b"none"


def _numba_settings() -> list:
    """Numba's settings, from both places it reads; not its cache directory, which does not change the code."""
    settings = sorted((k, v) for k, v in os.environ.items() if k.startswith("NUMBA_") and k != "NUMBA_CACHE_DIR")
    file = Path(".numba_config.yaml")
    return [*settings, file.read_bytes() if file.is_file() else None]


def _cached(key: bytes) -> tuple[bytes | None, str | None]:
    """(code in the cache, why no code can be kept there); None for either."""
    try:
        directory = _directory()
    except ArgumentError:
        return None, "since this user's home directory is not known"
    try:
        return object_cache.read(directory, key), None
    except OSError as error:
        return None, f"in {str(directory)!r} ({error.strerror})"


def _code(layout: Layout, report) -> bytes:
    key = _key(layout)
    code, problem = _cached(key)
    if code is None:
        _, code = shipped.find(layout, _refuse) or (None, None)
    if code is not None:
        return code
    misfits = "".join(f"; the code that came with npefficient for {misfit}" for misfit in shipped.misfits(layout))
    if find_spec("numba") is None:
        raise NpefficientError("this processor's code is not compiled yet, and Numba, which compiles it, is not "
                               f"installed: python -m pip install numba{misfits}")
    if problem:
        _warn(f"compiled code can't be kept {problem}", "set NPEFFICIENT_CACHE to a directory of your own")
    start = time.perf_counter()
    code, foreign = _compile(layout, report, misfits)
    if foreign:
        _warn(f"compiled code can't be kept, it needs what Numba alone provides ({', '.join(sorted(foreign))})",
              "please report it, with the version of Numba")
    elif not problem:
        _keep(key, code)
    report(f"  done in {time.perf_counter() - start:.1f} s")
    return code


def _keep(key: bytes, code: bytes) -> None:
    directory = _directory()
    try:
        object_cache.write(directory, key, code)
    except OSError as error:
        _warn(f"compiled code can't be kept in {str(directory)!r} ({error.strerror})",
              "set NPEFFICIENT_CACHE to a directory with room that you can write")


def _refuse(path: Path, problem: str) -> None:
    warnings.warn(f"{str(path)!r}, code that came with npefficient, is not used: {problem}; install npefficient again",
                  RuntimeWarning, stacklevel=6)


def _warn(problem: str, remedy: str) -> None:
    warnings.warn(f"{problem}: every process compiles anew, for some seconds; {remedy}", RuntimeWarning, stacklevel=4)


def _compile(layout: Layout, report, misfits: str = "") -> tuple[bytes, set[str]]:
    """(code, symbols it needs from Numba) of the driver and all kernels."""
    global _compiling
    if _compiling:  # in this thread, for others wait for the lock
        raise NpefficientError("a model is called, by a signal handler, while its kernels are being compiled: call it "
                               "once before that, or run 'npefficient warmup'")
    from .compiler import compile_code

    what = "kernels of training" if layout.training else "kernels"
    report(f"compiling the {what}, once for this release on this machine{misfits}")
    try:
        _compiling = True
        return compile_code(layout, report)
    finally:
        _compiling = False
