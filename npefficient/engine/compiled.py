"""The compiled driver: from the user's cache, or compiled once with Numba.

A start that finds cached code needs llvmlite's bindings at most; it neither imports Numba nor compiles. The code's key
is a hash of everything it depends on: after an edit of a kernel, on a different processor or with a different version
of Python or Numba, stale code never runs.
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
from . import machine_code, object_cache

ARGUMENTS = 2  # of run.work, both int64

_lock = threading.RLock()
_drivers: dict = {}  # by layout
_compiling = False


def driver(layout: Layout = FLOAT32, report=None):
    """Return the compiled driver for a layout (`run.make_work`); `report(text)` is told about slow steps.

    Safe to call from several threads. If code can't be cached, it is compiled in memory, with one warning. Raises
    NpefficientError if a signal handler needs it while the same thread is compiling it.
    """
    found = _drivers.get(layout)
    if found is not None:  # without the lock: at process exit the thread that holds it may be gone
        return found
    with _lock:
        if layout not in _drivers:
            _drivers[layout] = _load(layout, report or (lambda text: None))
        return _drivers[layout]


def code_path(layout: Layout = FLOAT32) -> Path:
    """The cache file for the compiled code of these sources on this processor."""
    return object_cache.path_of(_directory(), _key(layout))


def is_cached(layout: Layout = FLOAT32) -> bool:
    """True if a start finds compiled code that it can use."""
    try:
        return object_cache.read(_directory(), _key(layout)) is not None
    except (OSError, ArgumentError):  # no usable cache directory
        return False


def _directory() -> Path:
    return cache_directory() / "compiled"


def _key(layout: Layout) -> bytes:
    """A hash of everything the code depends on: sources, processor, versions and Numba's settings."""
    package = Path(__file__).parent.parent
    parts = [(str(source.relative_to(package)), source.read_bytes())
             for source in sorted([*package.glob("kernels/*.py"), *package.glob("engine/*.py")])]
    parts += [astuple(layout), identity(), sys.implementation.name, sys.version, _numba_settings()]
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


def _load(layout, report):
    directory, key, code, problem = None, _key(layout), None, None
    try:
        directory = _directory()
        code = object_cache.read(directory, key)
    except OSError as error:
        problem = f"in {str(directory)!r} ({error.strerror})"
    except ArgumentError:
        problem = "since this user's home directory is not known"
    if problem:
        _warn(f"compiled code can't be kept {problem}", "set NPEFFICIENT_CACHE to a directory of your own")
        directory = None
    if code is not None:
        return machine_code.load(code, ARGUMENTS)
    start = time.perf_counter()
    compiled = _compile(layout, report)
    code, foreign = machine_code.emit(compiled.inspect_llvm(), compiled.native_name)
    if foreign:
        _warn(f"compiled code can't be kept, it needs what Numba alone provides ({', '.join(sorted(foreign))})",
              "please report it, with the version of Numba")
        function = machine_code.prototype(ARGUMENTS)(compiled.address)
        function.owner = compiled
        return function
    if directory:
        try:
            object_cache.write(directory, key, code)
        except OSError as error:
            _warn(f"compiled code can't be kept in {str(directory)!r} ({error.strerror})",
                  "set NPEFFICIENT_CACHE to a directory with room that you can write")
    report(f"  done in {time.perf_counter() - start:.1f} s")
    return machine_code.load(code, ARGUMENTS)


def _warn(problem: str, remedy: str) -> None:
    warnings.warn(f"{problem}: every process compiles anew, for some seconds; {remedy}", RuntimeWarning, stacklevel=4)


def _compile(layout, report):
    """Compile the driver and all kernels with Numba."""
    global _compiling
    if _compiling:  # in this thread, for others wait for the lock
        raise NpefficientError("a model is called, by a signal handler, while its kernels are being compiled: call it "
                               "once before that, or run 'npefficient warmup'")
    from numba import cfunc, config, types

    if config.DISABLE_JIT:
        raise ArgumentError("NUMBA_DISABLE_JIT is set: without compiling there is no engine; unset it, or make the "
                            "model in Python with backend='reference'")
    report("compiling the kernels, once for this release on this machine")
    from .run import make_work

    try:
        _compiling = True
        # Inlined into its C wrapper: LLVM then removes the wrapper's error handling, as nothing in `work` can raise.
        signature = types.int64(*[types.int64] * ARGUMENTS)
        compiled = cfunc(signature, error_model="numpy", forceinline=True)(make_work(layout))
    finally:
        _compiling = False
    return compiled
