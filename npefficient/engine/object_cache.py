"""Compiled code on disk, in a directory that only this user can write.

    <directory>/<key>.code      MAGIC, sha256 of what follows (32 bytes), key (32 bytes), code

These files are executed without further checks. So a file is used only if nobody else could have written it or
replaced the directory or one above it (`private_directory.py`). The checksum guards against accidents: a file that is
truncated, altered or has a different key counts as absent, and freshly compiled code replaces it.
"""
import contextlib
import hashlib
import os
from pathlib import Path

from ..common.paths import replacing
from ..common.private_directory import is_private, private_directory

MAGIC = b"npefficient code 1\n"
KEPT = 4  # files: enough for a few versions or environments side by side, without growing forever


def path_of(directory: Path, key: bytes) -> Path:
    """The file for the code of a key (32 bytes); it need not exist."""
    return directory / f"{key.hex()[:32]}.code"


def read(directory: Path, key: bytes) -> bytes | None:
    """The code kept for a key; None if there is none that can be used.

    Raises OSError if the directory can't be made or read, or if others could change its contents.
    """
    path = path_of(private_directory(directory), key)
    try:
        flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
        handle = os.open(path, flags)
    except OSError:
        return None
    with open(handle, "rb") as file:
        content = file.read() if is_private(os.fstat(handle)) else b""  # of the open file: it can't be replaced now
    start = len(MAGIC) + 32
    if content[:start] != MAGIC + hashlib.sha256(content[start:]).digest() or content[start : start + 32] != key:
        return None
    return content[start + 32 :]


def write(directory: Path, key: bytes, code: bytes) -> None:
    """Keep the code for a key, and remove all but the KEPT newest files. Raises OSError."""
    directory, content = private_directory(directory), key + code
    with replacing(path_of(directory, key), force=True, mode=0o600) as part:
        part.write_bytes(MAGIC + hashlib.sha256(content).digest() + content)
    for old in sorted(directory.glob("*.code"), key=_age)[KEPT:]:
        with contextlib.suppress(OSError):  # another process was quicker
            old.unlink()


def _age(path: Path) -> float:
    """Sort key, the newest first."""
    try:
        return -path.stat().st_mtime
    except OSError:
        return 0.0

