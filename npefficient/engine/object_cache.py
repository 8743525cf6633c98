"""Compiled code on disk, in a directory that only this user can write.

    <directory>/<key>.code      MAGIC, sha256 of what follows (32 bytes), key (32 bytes), code

What lies there is run as it is, so a file counts only when this user owns it and no other may write it, and the same
holds for the directory. The checksum is against accidents: cut short, altered or of another key, a file is as good as
absent, and its place is taken by code compiled anew.
"""
import contextlib
import errno
import hashlib
import os
import stat
from pathlib import Path

from ..paths import replacing

MAGIC = b"npefficient code 1\n"
KEPT = 4  # files: some versions or environments side by side, but not everything there ever was


def path_of(directory: Path, key: bytes) -> Path:
    """Where the code of a key (32 bytes) lies, if it is there."""
    return directory / f"{key.hex()[:32]}.code"


def read(directory: Path, key: bytes) -> bytes | None:
    """The code kept for a key; None where there is none that can be used.

    Raises OSError where the directory can't be made or read, or where others can write into it.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not _is_private(directory.stat()):
        raise PermissionError(errno.EPERM, "others can write there, or own it", str(directory))
    try:
        flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
        handle = os.open(path_of(directory, key), flags)
    except OSError:
        return None
    with open(handle, "rb") as file:
        content = file.read() if _is_private(os.fstat(handle)) else b""  # of the open file: it can't be exchanged now
    start = len(MAGIC) + 32
    if content[:start] != MAGIC + hashlib.sha256(content[start:]).digest() or content[start : start + 32] != key:
        return None
    return content[start + 32 :]


def write(directory: Path, key: bytes, code: bytes) -> None:
    """Keep the code for a key, and remove the files that have not been written for longest. Raises OSError."""
    content = key + code
    with replacing(path_of(directory, key), force=True, mode=0o600) as part:
        part.write_bytes(MAGIC + hashlib.sha256(content).digest() + content)
    for old in sorted(directory.glob("*.code"), key=_age)[KEPT:]:
        with contextlib.suppress(OSError):  # another process was quicker
            old.unlink()


def _age(path: Path) -> float:
    """Sorts the newest first."""
    try:
        return -path.stat().st_mtime
    except OSError:
        return 0.0


def _is_private(status: os.stat_result) -> bool:
    """True where this user is the owner and the only one who may write; Windows keeps no such record."""
    if not hasattr(os, "geteuid"):
        return True
    return status.st_uid == os.geteuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
