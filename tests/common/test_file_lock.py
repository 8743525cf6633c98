"""A lock on a file: one process at a time, by the calls that the system has."""
import errno
import os
import sys

import pytest

from npefficient.common.file_lock import FAR, lock, unlock


@pytest.fixture
def files(tmp_path):
    """Two handles of one file, as two processes have them."""
    with open(tmp_path / "file", "ab") as first, open(tmp_path / "file", "ab") as second:
        yield first, second


class Msvcrt:
    """Stands for Windows' `msvcrt`: a byte of a file can be locked by one handle, and is free once that is closed."""

    LK_NBLCK = 2

    def __init__(self):
        self.holders = {}

    def locking(self, handle, mode, count):
        assert (mode, count) == (self.LK_NBLCK, 1)
        byte = os.fstat(handle).st_ino, os.lseek(handle, 0, os.SEEK_CUR)
        if self.holders.setdefault(byte, handle) != handle:
            raise PermissionError(errno.EACCES, "Permission denied")


@pytest.fixture
def msvcrt(monkeypatch):
    monkeypatch.setitem(sys.modules, "fcntl", None)
    monkeypatch.setitem(sys.modules, "msvcrt", Msvcrt())
    return sys.modules["msvcrt"]


def test_second_is_kept_out_until_the_first_unlocks(files):
    pytest.importorskip("fcntl")
    first, second = files
    assert lock(first) and not lock(second)
    unlock(first)
    assert lock(second)


def test_windows_locks_one_byte_past_the_end(files, msvcrt):
    """A locked byte can't be read by anybody else, and rows may be read while they are written."""
    first, second = files
    assert lock(first) and not lock(second)
    assert [at for _, at in msvcrt.holders] == [FAR]
    unlock(first)  # closing will do it


def test_windows_appends_at_the_end_all_the_same(files, msvcrt):
    first, _ = files
    assert lock(first)
    first.write(b"row\n")
    first.flush()
    assert os.fstat(first.fileno()).st_size == 4


def test_system_without_locks_keeps_nobody_out(files, monkeypatch):
    for name in ("fcntl", "msvcrt"):
        monkeypatch.setitem(sys.modules, name, None)
    assert all(map(lock, files))
    unlock(files[0])


def test_file_system_without_locks_keeps_nobody_out(files, monkeypatch):
    fcntl = pytest.importorskip("fcntl")

    def refuse(*arguments):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    assert all(map(lock, files))
    unlock(files[0])
