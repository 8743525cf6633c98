"""Python processes with this package: its sources, by their hash, and the command that calls one of its functions."""
import hashlib
import os
import sys
from pathlib import Path

from ..errors import NpefficientError

PACKAGE = Path(__file__).parent.parent
COMPILED = ("kernels/*.py", "engine/*.py", "network/architecture.py")  # of the last, the eps of batch norm


def sources() -> str:
    """A hash of all sources that compiled code depends on, in hexadecimal."""
    parts = [(source.relative_to(PACKAGE).as_posix(), source.read_bytes())
             for source in sorted(source for pattern in COMPILED for source in PACKAGE.glob(pattern))]
    return hashlib.sha256(repr(parts).encode()).hexdigest()


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
