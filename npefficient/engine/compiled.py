"""Compile the driver once and keep it on disk.

Numba stamps a cached function with the file that holds it alone, so an edit in a file it calls into would go unnoticed:
the cache lies in a directory named after a hash of all sources and of the settings that change the code.
"""
import contextlib
import hashlib
import os
import threading
import time
import warnings
from pathlib import Path

from ..paths import cache_directory

_lock = threading.Lock()
_driver = None


def code_directory() -> Path:
    """Where the compiled code of these very sources is kept."""
    import llvmlite
    import numba
    import numpy

    digest = hashlib.sha256()
    package = Path(__file__).parent.parent
    for source in sorted([*package.glob("kernels/*.py"), *package.glob("engine/*.py")]):
        digest.update(source.read_bytes())
    settings = sorted((k, v) for k, v in os.environ.items() if k.startswith("NUMBA_") and k != "NUMBA_CACHE_DIR")
    digest.update(repr((numba.__version__, llvmlite.__version__, numpy.__version__, settings)).encode())
    return cache_directory() / "compiled" / digest.hexdigest()[:16]


def is_cached() -> bool:
    """True where a start finds compiled code on disk."""
    return any(code_directory().rglob("*.nbi"))


def driver(report=None):
    """Return the compiled driver, from disk where it is there; `report(text)` is told what takes time.

    Safe to call from several threads. Where no place is writable, the code is compiled in memory, with one warning.
    """
    global _driver
    with _lock:
        if _driver is None:
            _driver = _compile(report or (lambda text: None))
        return _driver


def _compile(report):
    directory = code_directory()
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if not is_cached():
            _compile_parts(report)
        return _compile_driver(directory)
    except OSError as error:
        warnings.warn(f"compiled code can't be kept in {str(directory)!r} ({error.strerror}): every process compiles "
                      "anew, for some seconds; set NPEFFICIENT_CACHE to a directory that can be written", RuntimeWarning)
        return _compile_driver(None)


def _compile_driver(directory: Path | None):
    from numba import from_dtype, njit, types

    from .plan import STEP
    from .run import run

    with _numba_cache(directory):
        dispatcher = njit(nogil=True, cache=directory is not None)(run)
    dispatcher.compile(types.int64(types.Array(from_dtype(STEP), 1, "C"), *[types.int64] * 7))
    return dispatcher


def _compile_parts(report) -> None:
    """Compile the kernels one by one, only to be able to say how far it is; the driver takes them over."""
    from numba import types

    from ..kernels.depthwise import depthwise_row
    from ..kernels.pointwise import pointwise
    from ..kernels.stem import stem_row

    report("compiling the kernels, once for this release on this machine")
    for part in (stem_row, depthwise_row, pointwise):
        start = time.perf_counter()
        part.compile((types.int64,) * part.py_func.__code__.co_argcount)
        report(f"  {part.__name__}: {time.perf_counter() - start:.1f} s")


@contextlib.contextmanager
def _numba_cache(directory: Path | None):
    """Numba takes the place of a function's cache from its global setting, once, when the function is decorated."""
    from numba import config

    before = config.CACHE_DIR
    config.CACHE_DIR = str(directory or before)
    try:
        yield
    finally:
        config.CACHE_DIR = before
